"""What holds of every journal, shown on random ones: legal, illegal and absurd."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from perdure.errors import InvalidParameterValueError, StaleTokenError
from perdure.journal.entry import Ended, Entry, InvocationEnd, Outcome, Paused, Resumed, Started, Target, decode, encode
from perdure.journal.fold import Execution, fold
from perdure.journal.history import events
from perdure.journal.transitions import validate
from perdure.model import (
    ENDED_STATUSES,
    CallbackOptions,
    ChainedInvokeOptions,
    ContextOptions,
    ErrorObject,
    ExecutionStatus,
    OperationAction,
    OperationStatus,
    OperationType,
    OperationUpdate,
    StepOptions,
    WaitOptions,
)
from perdure.storage import OpenInvocation, Row

T0 = 1_790_000_000_000_000
ID = "exec-1"
IDS = st.sampled_from(["a", "b", "c", "d", ID])

STATES = {
    "EXECUTION": {"STARTED", "SUCCEEDED", "FAILED", "TIMED_OUT", "STOPPED"},
    "STEP": {"STARTED", "PENDING", "READY", "SUCCEEDED", "FAILED"},
    "WAIT": {"STARTED", "SUCCEEDED", "CANCELLED"},
    "CALLBACK": {"STARTED", "SUCCEEDED", "FAILED", "TIMED_OUT"},
    "CHAINED_INVOKE": {"STARTED", "SUCCEEDED", "FAILED", "TIMED_OUT", "STOPPED"},
    "CONTEXT": {"STARTED", "SUCCEEDED", "FAILED"},
}
"""The states of protocol.md §7, written down a second time on purpose."""

texts = st.none() | st.sampled_from(["", "1", "ü\ud800"])
errors = st.none() | st.builds(ErrorObject, texts, texts, texts, st.none() | st.just(["line"]))
seconds = st.integers(0, 3) | st.integers()
updates = st.builds(
    OperationUpdate,
    operation_id=IDS,
    operation_type=st.sampled_from(OperationType),
    action=st.sampled_from(OperationAction),
    parent_id=st.none() | IDS,
    name=st.none() | st.just("n"),
    sub_type=st.none() | st.just("Sub"),
    payload=texts,
    error=errors,
    context_options=st.none() | st.builds(ContextOptions, st.booleans()),
    step_options=st.none() | st.builds(StepOptions, seconds),
    wait_options=st.none() | st.builds(WaitOptions, seconds),
    callback_options=st.none() | st.builds(CallbackOptions, seconds, seconds),
    chained_invoke_options=st.none() | st.builds(ChainedInvokeOptions, st.sampled_from(["f", "f:1"]), texts),
)
invocation_ends = st.builds(
    InvocationEnd,
    request_id=st.just("r"),
    start_timestamp=st.just(datetime(2026, 11, 21, tzinfo=UTC)),
    error=errors,
    cut_short=st.booleans(),
)
starts = st.builds(
    Started,
    name=st.just("n"),
    function=st.just("f"),
    version=st.just("1"),
    input=st.just("{}"),
    parent=st.none() | st.just("p/op"),
    execution_timeout=st.none() | st.integers(1, 5),
)
targets = st.builds(Target, version=texts, durable_execution_arn=texts, error=errors)


def entries(*, may_end: bool = True) -> st.SearchStrategy[Entry]:
    """Well-typed entries, whatever they say."""
    ended = st.none()
    if may_end:
        ended |= st.builds(Ended, status=st.sampled_from(ExecutionStatus), result=texts, error=errors)
    return st.builds(
        Entry,
        started=st.none() | starts,
        crashed=st.none() | invocation_ends,
        updates=st.lists(updates, max_size=4).map(tuple),
        callbacks=st.dictionaries(IDS, st.just("cb"), max_size=2),
        targets=st.dictionaries(IDS, targets, max_size=2),
        fired=st.lists(IDS, max_size=3).map(tuple),
        outcome=st.none() | st.builds(Outcome, status=st.sampled_from(OperationStatus), result=texts, error=errors),
        paused=st.none() | st.builds(Paused, reason=texts, execution_timeout_paused=st.booleans()),
        resumed=st.none() | st.builds(Resumed, reason=texts),
        invocation=st.none() | invocation_ends,
        ended=ended,
    )


@st.composite
def journals(draw: st.DrawFn) -> list[Row]:
    """Journals of any entries; the start is often where it belongs."""
    rows: list[Row] = []
    at = T0
    drawn = draw(st.lists(entries(), min_size=1, max_size=8))
    if draw(st.integers(0, 9)):
        drawn[0] = Entry(started=draw(starts))
    for index, entry in enumerate(drawn, 1):
        at += draw(st.sampled_from([0, 1, 1_000_000, 5_000_000]))
        row = Row(
            index=index,
            at=at,
            tag=str(index),
            seen=draw(st.none() | st.integers(0, index - 1)),
            operation=draw(st.none() | IDS),
            invocation=draw(st.none() | st.just(OpenInvocation("r", T0))),
            body=encode(entry),
        )
        rows.append(row)
    return rows


def snapshot(execution: Execution) -> dict[str, Any]:
    """All that a fold knows."""
    return vars(execution) | {"timers": sorted(execution.timers.armed().items())}


lenient = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


@lenient
@given(entries())
def test_entries_survive_their_encoding(entry):
    """What is written is read again."""
    assert decode(encode(entry)) == entry


@lenient
@given(journals())
def test_one_fold(rows):
    """Row by row, at once, from decoded entries, with questions asked between: always the same."""
    stepwise = Execution(ID)
    for row in rows:
        stepwise.apply(row, decode(row.body))
        stepwise.next_due()
        stepwise.apply(row)
    assert snapshot(stepwise) == snapshot(fold(ID, rows))


@lenient
@given(journals())
def test_the_history_of_a_prefix_is_a_prefix_of_the_history(rows):
    """Later rows never change what was told, and ids count from 1 without gaps."""
    whole = events(ID, rows)
    assert [event.event_id for event in whole] == list(range(1, len(whole) + 1))
    for length in range(len(rows)):
        prefix = events(ID, rows[:length])
        assert whole[: len(prefix)] == prefix


@lenient
@given(journals())
def test_the_books_balance(rows):
    """Whatever a journal holds, the fold's counters and indexes agree with its operations."""
    execution = Execution(ID)
    for row in rows:
        before = dict(execution.operations)
        was = execution.status
        changed = execution.apply(row)
        after = execution.operations
        assert {id for id in after if after[id] is not before.get(id)} == changed
        assert list(after)[: len(before)] == list(before)
        if was in ENDED_STATUSES:
            assert not changed
        check(execution, row.at)


def check(execution: Execution, now: int) -> None:
    operations = list(execution.operations.values())
    for order, operation in enumerate(operations):
        assert operation.status.value in STATES[operation.operation_type.value]
        assert operation.is_terminal == (operation.position is not None) == (operation.end_timestamp is not None)
        assert execution.start_order(operation.operation_id) == order
    positions = sorted(operation.position for operation in operations if operation.position is not None)
    assert positions == list(range(1, execution.ends + 1))
    if execution.status in ENDED_STATUSES:
        assert (execution.outstanding, execution.next_due()) == (0, None)
        return
    waiting = [operation for operation in operations if operation.status.value == "PENDING" or is_open(operation)]
    assert execution.outstanding == len(waiting)
    timed = [operation for operation in waiting if operation.due is not None]
    assert execution.next_due() == min((micros(operation.due) for operation in timed), default=None)
    assert set(execution.due(now)) == {op.operation_id for op in timed if micros(op.due) <= now}
    assert {op.operation_id for op in execution.open_awaits()} == {op.operation_id for op in waiting if not op.due}


def is_open(operation: Any) -> bool:
    return operation.status.value == "STARTED" and operation.operation_type.value in (
        "WAIT",
        "CALLBACK",
        "CHAINED_INVOKE",
    )


def micros(instant: Any) -> int:
    return round((instant - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000)


class Counter:
    """An observer that counts updates that took effect."""

    def __init__(self) -> None:
        self.updated_ids: list[str] = []

    def updated(self, at: Any, operation: Any, update: OperationUpdate, target: Any) -> None:
        self.updated_ids.append(update.operation_id)

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


@lenient
@given(st.data())
def test_what_is_accepted_takes_effect(data):
    """No update that `validate` lets pass is lost by the fold, and none that it refuses alone takes effect whole."""
    execution = Execution(ID)
    now, index, accepted_updates = T0, 1, 0
    execution.apply(Row(index=1, at=T0, tag="1", body=b""), Entry(started=data.draw(starts)))
    for _ in range(data.draw(st.integers(1, 6))):
        batch = tuple(data.draw(st.lists(sensible(execution), max_size=3)))
        index, now = index + 1, now + 1_000_000
        try:
            validate(execution, batch)
        except (InvalidParameterValueError, StaleTokenError):
            batch = ()
        row = Row(index=index, at=now, tag=str(index), seen=index - 1, body=b"")
        counter = Counter()
        execution.apply(row, Entry(updates=batch, fired=execution.due(now)), counter)
        outcomes = [update for update in batch if update.operation_type is OperationType.EXECUTION]
        assert counter.updated_ids == [update.operation_id for update in batch if update not in outcomes]
        assert not outcomes or execution.outcome is not None
        accepted_updates += len(batch)
        check(execution, now)
    assume(accepted_updates)


def sensible(execution: Execution) -> st.SearchStrategy[OperationUpdate]:
    """Updates with a fair chance of being legal: their id's type, the options that their action needs."""

    @st.composite
    def draw_one(draw: st.DrawFn) -> OperationUpdate:
        id = draw(st.sampled_from("abcdefgh"))
        known = execution.operations.get(id)
        kind = known.operation_type if known else draw(st.sampled_from(OperationType))
        action = draw(st.sampled_from(OperationAction))
        open_contexts = [op.operation_id for op in execution.operations.values() if op.context_details] or [None]
        return OperationUpdate(
            operation_id=id,
            operation_type=kind,
            action=action,
            parent_id=known.parent_id if known else draw(st.sampled_from([None, *open_contexts])),
            payload=draw(texts) if action is not OperationAction.FAIL else None,
            error=draw(errors) if action in (OperationAction.FAIL, OperationAction.CANCEL) else None,
            step_options=StepOptions(draw(st.integers(1, 3))) if action is OperationAction.RETRY else None,
            wait_options=WaitOptions(draw(st.integers(1, 3))) if kind is OperationType.WAIT else None,
            chained_invoke_options=ChainedInvokeOptions("f") if kind is OperationType.CHAINED_INVOKE else None,
        )

    return draw_one()


@lenient
@given(st.permutations(range(6)), st.data())
def test_races_have_one_winner_each(order, data):
    """Outcomes, timeouts and a stop in any order: the first of each await wins, nothing counts behind the stop."""
    awaits = (
        OperationUpdate(operation_id="c", operation_type=OperationType.CALLBACK, action=OperationAction.START),
        OperationUpdate(
            operation_id="i",
            operation_type=OperationType.CHAINED_INVOKE,
            action=OperationAction.START,
            chained_invoke_options=ChainedInvokeOptions("f"),
        ),
    )
    racers = [
        ("c", OperationStatus.SUCCEEDED),
        ("c", OperationStatus.TIMED_OUT),
        ("c", OperationStatus.FAILED),
        ("i", OperationStatus.STOPPED),
        ("i", OperationStatus.SUCCEEDED),
        (None, ExecutionStatus.STOPPED),
    ]
    execution = Execution(ID)
    execution.apply(Row(index=1, at=T0, tag="", body=b""), Entry(started=data.draw(starts)))
    execution.apply(Row(index=2, at=T0, tag="", body=b""), Entry(updates=awaits, targets={"i": Target(version="1")}))
    expected: dict[str, OperationStatus] = {}
    is_over = False
    for number in order:
        operation, status = racers[number]
        if operation is None:
            entry = Entry(ended=Ended(status=ExecutionStatus.STOPPED))
            is_over = True
        else:
            assert isinstance(status, OperationStatus)
            entry = Entry(outcome=Outcome(status=status))
            if not is_over:
                expected.setdefault(operation, status)
        row = Row(index=execution.length + 1, at=T0, tag="", operation=operation, body=b"")
        execution.apply(row, entry)
    for id in "ci":
        assert execution.operations[id].status is expected.get(id, OperationStatus.STARTED)
    assert execution.status is ExecutionStatus.STOPPED


@lenient
@given(journals(), st.data())
def test_any_batch_is_accepted_or_refused(rows, data):
    """Any batch against any state is accepted or refused, never anything else, also where it has no start."""
    execution = fold(ID, rows)
    batch = data.draw(st.lists(updates, max_size=4))
    if execution.status in ENDED_STATUSES:
        with pytest.raises(StaleTokenError):
            validate(execution, batch)
        return
    with contextlib.suppress(InvalidParameterValueError):
        validate(execution, batch)
