"""Executions on AWS Lambda itself, reached through boto3: `lambda://function:qualifier?region=…`."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec

from perdure.backends.aws_lambda.desk import LambdaDesk
from perdure.backends.aws_lambda.location import Location
from perdure.errors import BackendUrlError
from perdure.storage import Backend, mask

__all__ = ["LambdaDesk", "backend"]


def backend(url: str) -> Backend:
    """
    The backend of `lambda://function:qualifier` or, for several functions, `lambda://`.

    Options are `region`, `profile` and `endpoint_url`; what is not given comes from the environment and the
    configuration files of AWS. It has no store: the service keeps the executions.

    Raises:
        BackendUrlError: The URL names no function, an option does not exist, or boto3 is missing.
    """
    if find_spec("boto3") is None:
        raise BackendUrlError("lambda:// needs the module 'boto3'; pip install 'perdure[lambda]'")
    return Backend(url=mask(url), client=partial(LambdaDesk, Location.parse(url)))
