"""
The verdicts of AWS's conformance suite: all of them are those of the installed package.

It was made to deploy to AWS with SAM. Here it gets a client of our endpoint, and the two answers it wants from
CloudFormation and CloudWatch Logs: functions are called what they are called, and logs are what their processes wrote.
"""

from __future__ import annotations

import json
import re
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import attrs
from aws_durable_execution_conformance_tests import cloudwatch, validate
from aws_durable_execution_conformance_tests.config import TESTS_DIR
from aws_durable_execution_conformance_tests.extensions import RequirementCase, load_extensions, requirement_description
from aws_durable_execution_conformance_tests.sam import Invoker

from tests.official.names import REGION, function_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.official.cloud import Cloud
    from tests.official.log import Log

POLL_SECONDS = 1.0
"""Half of what the package takes. Much less, and callbacks come before the invocation that made them has ended."""
STACK = "local"


def requirements(suites: list[str] | None = None) -> dict[str, RequirementCase]:
    """The requirements of the installed package by id, of some suites or of all."""
    # Other installed packages could add suites of their own.
    found: dict[str, RequirementCase] = load_extensions(TESTS_DIR, entry_points=()).discover_requirements(
        suites or "all"
    )
    return found


def hasten(replace: Callable[[Any, str, Any], None] = setattr) -> None:
    """
    Shorten the waits of the package that are there because AWS is far away; the rules stay what they are.

    Args:
        replace: What sets an attribute; a test has one that sets it back.
    """
    replace(validate, "POLL_INTERVAL_SECONDS", POLL_SECONDS)
    # What an execution logs is there when it ends; the package would give it twenty seconds to arrive.
    replace(cloudwatch.CloudWatchLogRetriever, "EVENT_POLL_TIMEOUT_SECONDS", 0.0)
    sleepless = SimpleNamespace(time=time.time, monotonic=time.monotonic, sleep=lambda _: None)
    replace(cloudwatch, "time", sleepless)


@attrs.frozen
class Verdict:
    """What the package says of one requirement."""

    requirement: str
    suite: str
    description: str
    passed: bool
    optional: bool
    reasons: tuple[str, ...]
    seconds: float

    @property
    def acceptable(self) -> bool:
        """Whether it passed, or the suite does not insist."""
        return self.passed or self.optional


class Judge:
    """
    Judges functions that are deployed to a cloud.

    Args:
        cloud: Where they are.
        folder: Where histories go, a file per requirement.
    """

    def __init__(self, cloud: Cloud, folder: Path) -> None:
        self.cloud = cloud
        self._folder = folder
        self._inputs = folder / "inputs"
        self._inputs.mkdir(parents=True, exist_ok=True)
        self._client = cloud.client()
        stack = _Stack(list(cloud.host.functions))
        self._clients = {"lambda": self._client, "cloudformation": stack, "logs": _Logs(cloud.host.log)}
        self._invoker = Invoker(STACK, REGION, lambda_client=self._client, cfn_client=stack)

    def judge(self, case: RequirementCase) -> Verdict:
        """Run a requirement's function and compare what the service recorded."""
        began = time.monotonic()
        try:
            found = validate.validate_description(
                function_name(case.description_id),
                case.description_id,
                str(case.path),
                self._invoker,
                str(self._inputs),
                REGION,
                self._clients,
                output_dir=str(self._folder),
            )
        except Exception as fault:  # noqa: BLE001 - one requirement has failed, the others go on
            passed, optional, reasons = False, False, (f"{type(fault).__name__}: {fault}",)
        else:
            passed, optional, reasons = found.passed, found.optional, tuple(found.errors)
        return Verdict(
            case.description_id,
            case.suite.name,
            requirement_description(case) or "",
            passed,
            optional,
            reasons,
            time.monotonic() - began,
        )

    def close(self) -> None:
        self._client.close()


@attrs.frozen
class _Stack:
    """What is asked of CloudFormation."""

    names: list[str]

    def get_paginator(self, operation: str) -> _Stack:
        assert operation == "list_stack_resources"
        return self

    def paginate(self, **_: object) -> list[dict[str, Any]]:
        return [{"StackResourceSummaries": [_resource(name) for name in self.names]}]

    def describe_stack_resource(self, LogicalResourceId: str, **_: object) -> dict[str, Any]:  # noqa: N803
        return {"StackResourceDetail": _resource(LogicalResourceId)}


def _resource(name: str) -> dict[str, str]:
    return {"ResourceType": "AWS::Lambda::Function", "LogicalResourceId": name, "PhysicalResourceId": name}


@attrs.frozen
class _Logs:
    """What is asked of CloudWatch Logs: the lines of a function that name an execution."""

    log: Log

    def filter_log_events(self, **asked: Any) -> dict[str, Any]:
        quoted = re.search(r'= ("(?:[^"\\]|\\.)*")', asked["filterPattern"])
        assert quoted is not None, asked
        arn = json.loads(quoted[1])
        lines = [line for line in self.log.lines(asked["logGroupName"].rpartition("/")[2]) if line.belongs_to(arn)]
        events = [
            {"timestamp": line.millis, "ingestionTime": line.number, "message": line.text}
            for line in lines
            if line.millis >= asked["startTime"]
        ]
        return {"events": events}
