"""One request and its answer, for both colours, against a service that answers by hand."""

from __future__ import annotations

import asyncio

import pytest

from perdure.engine.checkpointer import Request
from perdure.engine.exchange import exchange, exchange_blocking
from perdure.errors import (
    CheckpointError,
    DurableApiErrorCategory,
    GetExecutionStateError,
    InvalidParameterValueError,
)
from perdure.model import (
    CheckpointAnswer,
    Operation,
    OperationAction,
    OperationStatus,
    OperationType,
    OperationUpdate,
    StatePage,
)


def update(id, action):
    kind = OperationType.WAIT if action is OperationAction.CANCEL else OperationType.CONTEXT
    return OperationUpdate(operation_id=id, operation_type=kind, action=action)


def operation(id):
    return Operation(operation_id=id, operation_type=OperationType.STEP, status=OperationStatus.SUCCEEDED)


class Service:
    """Answers what it was given, in order; an exception is raised."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def checkpoint(self, token, updates):
        return self._answer(token, [each.operation_id for each in updates])

    def state(self, token, marker):
        return self._answer(token, marker)

    def _answer(self, *question):
        self.asked.append(question)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class AsyncService(Service):
    async def checkpoint(self, token, updates):
        return super().checkpoint(token, updates)

    async def state(self, token, marker):
        return super().state(token, marker)


@pytest.fixture(params=[Service, AsyncService])
def ask(request):
    """Sends a request to a service that gives these answers; returns what came of it, and what was asked."""

    def ask(updates, *answers):
        service, sent = request.param(*answers), Request("t1", tuple(updates))
        if request.param is Service:
            return exchange_blocking(service, sent), service.asked
        return asyncio.run(exchange(service, sent)), service.asked

    return ask


BOTH = update("timer", OperationAction.CANCEL), update("batch", OperationAction.SUCCEED)
LOST = InvalidParameterValueError("Cannot cancel a WAIT that is already completed.")
LOST_ON_AWS = CheckpointError(
    "An error occurred (InvalidParameterValueException) when calling …",
    DurableApiErrorCategory.EXECUTION,
    {"Code": "InvalidParameterValueException", "Message": "Cannot cancel a WAIT that does not exist or …"},
)


def test_pages(ask):
    """All pages of an answer are read, with its token."""
    pages = StatePage((operation("b"),), "m2"), StatePage((operation("c"),))
    answer, asked = ask([], CheckpointAnswer("t2", (operation("a"),), "m1"), *pages)
    assert (answer.token, [each.operation_id for each in answer.operations]) == ("t2", ["a", "b", "c"])
    assert asked == [("t1", []), ("t2", "m1"), ("t2", "m2")]


def test_no_pages_without_a_token(ask):
    """Who may ask for nothing more does not."""
    answer, asked = ask([], CheckpointAnswer(None, (), "m1"))
    assert (answer.token, len(asked)) == (None, 1)


@pytest.mark.parametrize("lost", [LOST, LOST_ON_AWS], ids=["own store", "AWS"])
def test_a_wait_that_ended_before_its_cancel(ask, lost):
    """The rest is sent once more, with the same token."""
    answer, asked = ask(BOTH, lost, CheckpointAnswer("t2"))
    assert answer.token == "t2"
    assert asked == [("t1", ["timer", "batch"]), ("t1", ["batch"])]


@pytest.mark.parametrize(
    ("updates", "answers"),
    [
        (BOTH[1:], [LOST]),
        (BOTH, [InvalidParameterValueError("Invalid current STEP state to close.")]),
        (BOTH, [LOST, LOST]),
        ([], [CheckpointAnswer("t2", (), "m1"), GetExecutionStateError("no")]),
    ],
    ids=["nothing to cancel", "something else", "again", "no page"],
)
def test_failures(ask, updates, answers):
    """Whatever else the service refuses is raised."""
    with pytest.raises(type(answers[-1]), match=str(answers[-1])):
        ask(updates, *answers)
