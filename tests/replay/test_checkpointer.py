"""The queue between strands and service, without either."""

from __future__ import annotations

import pytest

from perdure.engine.checkpointer import MAX_BYTES, MAX_UPDATES, Checkpointer
from perdure.engine.replay import Aborted, Orphaned, Records, Withdrawn
from perdure.model import (
    CheckpointAnswer,
    ContextDetails,
    ErrorObject,
    Operation,
    OperationAction,
    OperationStatus,
    OperationType,
    OperationUpdate,
)

START, SUCCEED = OperationAction.START, OperationAction.SUCCEED


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def records():
    return Records()


@pytest.fixture
def checkpointer(records, clock):
    return Checkpointer("t1", records, clock)


def update(name, action=START, parent=None, kind=OperationType.STEP, **members):
    return OperationUpdate(operation_id=name, operation_type=kind, action=action, parent_id=parent, **members)


def context(name, action=START, parent=None):
    return update(name, action, parent, OperationType.CONTEXT)


def names(request):
    return [each.operation_id for each in request.updates]


def test_nothing_is_sent_that_nobody_waits_for(checkpointer):
    """An update without a waiter rides with the next request, in its place."""
    assert checkpointer.offer([update("a")], durable=False) is None
    assert checkpointer.take() is None
    checkpointer.offer([update("b")])
    assert names(checkpointer.take()) == ["a", "b"]


def test_one_request_in_flight(checkpointer):
    """What is offered meanwhile goes with the next, under the new token; tickets are settled by their own answer."""
    first = checkpointer.offer([update("a")])
    request = checkpointer.take()
    assert (request.token, checkpointer.in_flight) == ("t1", True)
    second = checkpointer.offer([update("b")])
    assert checkpointer.take() is None
    assert checkpointer.answered(CheckpointAnswer("t2")) == [first]
    assert (first.settled, second.settled) == (True, False)
    assert checkpointer.take().token == "t2"
    assert checkpointer.answered(CheckpointAnswer("t3")) == [second]


def test_empty_checkpoints_fold_into_one(checkpointer):
    """Polls make one empty request, or ride on one that is not."""
    tickets = [checkpointer.poll(), checkpointer.poll()]
    assert names(checkpointer.take()) == []
    assert checkpointer.answered(CheckpointAnswer("t2")) == tickets
    checkpointer.poll()
    checkpointer.offer([update("a")])
    assert names(checkpointer.take()) == ["a"]


def test_answers_update_the_records(checkpointer, records):
    """What an answer tells is there when its tickets are settled."""
    checkpointer.poll()
    checkpointer.take()
    told = Operation(operation_id="a", operation_type=OperationType.STEP, status=OperationStatus.STARTED)
    checkpointer.answered(CheckpointAnswer("t2", (told,)))
    assert (records["a"], records.version("a")) == (told, 1)


def test_at_most_so_many_updates(checkpointer):
    """A request has 250; the rest follows in order."""
    ticket = checkpointer.offer([update(str(n)) for n in range(MAX_UPDATES + 1)])
    assert len(checkpointer.take().updates) == MAX_UPDATES
    assert checkpointer.answered(CheckpointAnswer("t2")) == []
    assert names(checkpointer.take()) == [str(MAX_UPDATES)]
    assert checkpointer.answered(CheckpointAnswer("t3")) == [ticket]


@pytest.mark.parametrize("large", [{"payload": "ä" * (MAX_BYTES // 2)}, {"error": ErrorObject("x" * MAX_BYTES)}])
def test_at_most_so_many_bytes(checkpointer, large):
    """An update too large goes alone."""
    checkpointer.offer([update("a"), update("b", SUCCEED, **large), update("c")])
    requests = []
    while (request := checkpointer.take()) is not None:
        requests.append(names(request))
        checkpointer.answered(CheckpointAnswer("t"))
    assert requests == [["a"], ["b"], ["c"]]


def test_the_age_of_what_nobody_waits_for(checkpointer, clock):
    """Counted from the oldest, by the clock that was passed in, until it is taken."""
    assert checkpointer.unsent_for() == 0
    checkpointer.offer([update("a")], durable=False)
    clock.now += 2
    checkpointer.offer([update("b")], durable=False)
    assert checkpointer.unsent_for() == 2
    assert names(checkpointer.take(unwaited=True)) == ["a", "b"]
    assert checkpointer.unsent_for() == 0


def test_what_stays_behind_ages_anew(checkpointer, clock):
    """Updates left over from a full request are not forgotten."""
    checkpointer.offer([update(str(n)) for n in range(MAX_UPDATES + 1)], durable=False)
    checkpointer.take(unwaited=True)
    checkpointer.answered(CheckpointAnswer("t2"))
    clock.now += 1
    assert checkpointer.unsent_for() == 1


def test_failure_is_for_everybody_and_for_good(checkpointer):
    """All waiters, also those whose updates were not sent, and all later ones get the signal."""
    tickets = [checkpointer.offer([update("a")])]
    checkpointer.take()
    tickets.append(checkpointer.offer([update("b")]))
    signal = Aborted(RuntimeError("gone"))
    assert checkpointer.failed(signal) == tickets
    assert all(ticket.settled and ticket.signal is signal for ticket in tickets)
    with pytest.raises(Aborted):
        checkpointer.offer([update("c")])
    assert checkpointer.take() is None


def test_withdrawn_token(checkpointer):
    """No token, no further request; everybody is told."""
    ticket = checkpointer.offer([update("a")])
    checkpointer.take()
    checkpointer.answered(CheckpointAnswer(None))
    assert isinstance(ticket.signal, Withdrawn)
    with pytest.raises(Withdrawn):
        checkpointer.offer([update("b")], durable=False)


def test_closed(checkpointer):
    """Nothing is accepted, what is queued is dropped, its waiters are told; the first reason stays."""
    ticket = checkpointer.offer([update("a")])
    first = Aborted(RuntimeError())
    checkpointer.close(first)
    checkpointer.close(Withdrawn())
    assert (ticket.signal, checkpointer.signal, checkpointer.take()) == (first, first, None)


@pytest.mark.parametrize("parent", ["outer", "inner"])
def test_orphans(checkpointer, parent):
    """Below a context whose end has been offered nothing is accepted, at any depth."""
    checkpointer.offer([context("outer"), context("inner", parent="outer")], durable=False)
    checkpointer.offer([update("a", parent="inner")], durable=False)
    checkpointer.offer([context("outer", SUCCEED)])
    with pytest.raises(Orphaned):
        checkpointer.offer([update("b", parent=parent)], durable=False)
    assert names(checkpointer.take()) == ["outer", "inner", "a", "outer"]


def test_siblings_of_an_ended_context(checkpointer):
    """Only what is below is refused."""
    checkpointer.offer([context("outer"), context("one", parent="outer")], durable=False)
    checkpointer.offer([context("one", SUCCEED, "outer")])
    checkpointer.offer([update("a", parent="outer")])
    checkpointer.offer([context("outer", SUCCEED)])


def test_contexts_that_ended_earlier(checkpointer, records):
    """A recorded end counts as well; a context that is only recorded as begun does not."""
    for name, status, parent in (("x", "STARTED", None), ("y", "SUCCEEDED", "x"), ("z", "STARTED", "y")):
        operation = Operation(
            operation_id=name,
            operation_type=OperationType.CONTEXT,
            status=OperationStatus[status],
            parent_id=parent,
            context_details=ContextDetails(),
        )
        records.update([operation])
    assert [checkpointer.has_ended(name) for name in "xyz"] == [False, True, True]
