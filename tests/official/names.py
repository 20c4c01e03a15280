"""What handlers, harness and tests of the official suite agree on: where functions are and what they are called."""

from __future__ import annotations

REGION = "us-west-2"
ACCOUNT = "123456789012"
QUALIFIER = "$LATEST"

SCRATCH = "PERDURE_OFFICIAL_SCRATCH"
"""The environment variable with the directory in which handlers may keep what outlives their process."""


def function_arn(name: str) -> str:
    """A function's qualified ARN, the form that chained invocations use."""
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}:{QUALIFIER}"


ECHO = function_arn("TargetEcho")
ECHO_TENANT = function_arn("TargetEchoTenant")
FAILS = function_arn("TargetFails")

HANDLERS = "PERDURE_OFFICIAL_HANDLERS"
"""The environment variable with the package whose handlers a process runs."""


def function_name(requirement: str) -> str:
    """The name of the function for a requirement."""
    return f"R{requirement}"
