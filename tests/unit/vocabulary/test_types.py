"""What user functions are given, and what the vocabulary costs to import."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.errors import StepError
from perdure.model import ErrorObject
from perdure.types import DurableExecutionArn, StepContext, WaitForCallbackContext, WaitForConditionCheckContext

LOG = logging.getLogger(__name__)
PART = st.text(st.characters(exclude_characters=":/", exclude_categories=["Cs"]), min_size=1, max_size=6)


def test_an_arn_of_an_own_store_is_made_from_its_parts():
    """Partition, region and account are fixed there."""
    arn = DurableExecutionArn("order", "$LATEST", "o-17", "5f0c")
    text = "arn:perdure:lambda:local:000000000000:function:order:$LATEST/durable-execution/o-17/5f0c"
    assert str(arn) == arn.arn == text
    assert DurableExecutionArn.from_arn(text) == arn
    assert arn.invocation_id == arn.execution_id == "5f0c"


@given(PART, PART, PART, PART, st.sampled_from([[], ["aws", "eu-west-1", "123456789012"], ["", "", ""]]))
def test_arns_can_be_taken_apart_and_put_together(function, version, name, execution_id, place):
    """Whatever the parts, on AWS too, the text has them all."""
    arn = DurableExecutionArn(function, version, name, execution_id, *place)
    assert DurableExecutionArn.from_arn(str(arn)) == arn


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5f0c",
        "arn:aws:lambda:r:1:function:f:1",
        "arn:aws:lambda:r:1:function:f/durable-execution/n/i",
        "arn:aws:states:r:1:function:f:1/durable-execution/n/i",
        "arn:aws:lambda:r:1:function:f:1/durable-execution/n/i/more",
    ],
)
def test_another_text_is_no_arn(text):
    """A function's ARN, a name or an id is None."""
    assert DurableExecutionArn.from_arn(text) is None


def test_contexts_of_bodies_are_values():
    """Made as AWS makes them, with ours at the end; frozen."""
    step = StepContext(LOG, 2)
    assert (step.logger, step.attempt, step.idempotency_key) == (LOG, 2, "")
    assert StepContext(logger=LOG, attempt=2, idempotency_key="k").idempotency_key == "k"
    assert WaitForConditionCheckContext(LOG, 3).attempt == 3
    assert WaitForCallbackContext(LOG).logger is LOG
    with pytest.raises(AttributeError):
        step.attempt = 3


def test_the_vocabulary_loads_nothing_heavy():
    """A cold start on Lambda pays for every import: no event loop, no converter, no AWS."""
    modules = ["duration", "config", "retries", "waits", "serdes", "batch", "logger", "types"]
    code = "import sys, {}; print({{'asyncio', 'cattrs', 'boto3', 'botocore'}} & set(sys.modules) or None)"
    imports = ", ".join(f"perdure.{module}" for module in modules)
    run = subprocess.run([sys.executable, "-c", code.format(imports)], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "None"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("caf\udce9 ü"), "caf\\udce9 ü"),
        (StepError("\ud800"), "\\ud800"),
        (StepError(None), None),
        (StepError(5), "5"),
        (StepError(StepError), str(StepError)),
    ],
    ids=["any", "operation", "none", "number", "class"],
)
def test_messages_of_recorded_errors_are_utf8(error, message):
    """A surrogate, from the name of a file for example, is in none: no service, log or store would take it."""
    assert ErrorObject.from_exception(error).message == message


def test_all_fields_of_a_recorded_error_are_texts():
    """An author may hand in anything else."""
    error = ErrorObject.from_exception(StepError("m", data={"code": 7}, stack_trace=[ValueError("x"), "line"]))
    assert (error.message, error.data, error.stack_trace) == ("m", "{'code': 7}", ["x", "line"])
