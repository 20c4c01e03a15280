"""The vocabulary beside AWS's SDK, call by call: what one accepts, refuses, decides and writes, so does the other."""

from __future__ import annotations

import inspect
import itertools
import json
import random
import re
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from types import SimpleNamespace
from uuid import UUID

import attrs
import aws_durable_execution_sdk_python.concurrency.models as aws_batch
import aws_durable_execution_sdk_python.config as aws_config
import aws_durable_execution_sdk_python.exceptions as aws_errors
import aws_durable_execution_sdk_python.lambda_service as aws_model
import aws_durable_execution_sdk_python.logger as aws_logger
import aws_durable_execution_sdk_python.retries as aws_retries
import aws_durable_execution_sdk_python.serdes as aws_serdes
import aws_durable_execution_sdk_python.types as aws_types
import aws_durable_execution_sdk_python.waits as aws_waits
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure import batch, config, errors, logger, model, retries, serdes, types, waits

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:order:7/durable-execution/o-17/5f0c"


def plain(value):
    """A value without its classes' identity, so that one SDK's can be compared with the other's."""
    if isinstance(value, Enum):
        return type(value).__name__, value.value
    if isinstance(value, BaseException):
        fields = ("message", "error_type", "data", "stack_trace")
        return type(value).__name__, {name: getattr(value, name) for name in fields if hasattr(value, name)}
    if attrs.has(type(value)):
        names = [field.name for field in attrs.fields(type(value))]
    elif hasattr(value, "__dataclass_fields__"):
        names = list(value.__dataclass_fields__)
    elif isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value)
    elif isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    else:
        return value
    return type(value).__name__, {name: plain(getattr(value, name)) for name in names}


def outcome(call, *args, **kwargs):
    """What a call returned, or the kind of error it raised."""
    try:
        return "returned", plain(call(*args, **kwargs))
    except Exception as error:  # noqa: BLE001 - whatever it is, both must agree
        return "raised", type(error).__name__


def both(ours, theirs, build):
    """The outcomes of building the same with either SDK's module."""
    return outcome(build, ours), outcome(build, theirs)


# ---------------------------------------------------------------------------------------------------- names and shapes

MODULES = [
    (config, aws_config, set()),
    (retries, aws_retries, {"with_retry"}),  # of the engine; `perdure.durable` exports it
    (waits, aws_waits, set()),
    (types, aws_types, set()),
    (
        serdes,
        aws_serdes,
        {name for name in vars(aws_serdes) if name.endswith("Codec")} | {"EncodedValue", "TypeTag"},  # its insides
    ),
    (
        batch,
        aws_batch,
        {"Branch", "BranchEvent", "BranchEventKind", "BranchStatus", "Executable"},  # of its thread pool
    ),
]


def defined(module):
    """The public classes and functions that a module of AWS's SDK defines itself."""
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and getattr(value, "__module__", None) == module.__name__
        and callable(value)
        and not isinstance(value, type(st.SearchStrategy.T) if hasattr(st.SearchStrategy, "T") else ())
    }
