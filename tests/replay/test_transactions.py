"""Transactional steps: by hand, in the checkpointer's queue, and driven in both colours."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from perdure.config import CompletionConfig, ParallelConfig, StepConfig, StepSemantics
from perdure.durable import durable_execution
from perdure.duration import Duration
from perdure.engine.checkpointer import MAX_BYTES, MAX_UPDATES, Checkpointer
from perdure.engine.commands import Blocked, Checkpoint, Raised, Returned, Transact
from perdure.engine.operations.transaction import transaction
from perdure.engine.replay import Orphaned, Records
from perdure.errors import (
    DurableExecutionsError,
    SerDesError,
    StepError,
    StoreUnavailableError,
    TransactionsUnsupportedError,
)
from perdure.model import (
    CheckpointAnswer,
    InvocationStatus,
    OperationAction,
    OperationStatus,
    OperationType,
    OperationUpdate,
)
from perdure.retries import RetryDecision
from tests.replay import async_host
from tests.replay.by_hand import Hand, returned
from tests.replay.plane import AsyncPlane, Plane, execute, invoke, wait_until
from tests.scenarios.colour import Colour, durable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

NEVER = StepConfig(retry_strategy=lambda _error, _attempt: RetryDecision.no_retry())
SOON = StepConfig(retry_strategy=lambda _error, _attempt: RetryDecision(True, Duration.from_seconds(3)))
AT_MOST_ONCE = attrs.evolve(NEVER, step_semantics=StepSemantics.AT_MOST_ONCE_PER_RETRY)
START, SUCCEED, FAIL, RETRY = (OperationAction[name] for name in ("START", "SUCCEED", "FAIL", "RETRY"))


# ------------------------------------------------------------------------------------------------------------ by hand


def body(step, connection):
    raise AssertionError("the driver calls it")


@pytest.fixture
def hand():
    return Hand()


def begin(hand, config=NEVER, check=lambda: None):
    identity = hand.draw(OperationType.STEP)
    return identity, transaction(hand.scope, identity, body, config, check)


def refuse():
    raise TransactionsUnsupportedError("none here")


def test_start_then_one_command(hand):
    """START rides along, and the end is recorded by the very command that runs the body."""
    identity, procedure = begin(hand)
    assert next(procedure) == Checkpoint((identity.update(START),), durable=False)
    command = procedure.send(None)
    assert isinstance(command, Transact)
    assert command.body is body
    assert command.args[0].attempt == 1
    outcome, update = command.conclude("paid")
    assert outcome == Returned("paid")
    assert update == identity.update(SUCCEED, payload='"paid"')
    assert returned(procedure, outcome) == "paid"


def test_what_cannot_be_serialized_is_not_concluded(hand):
    """There is no update then, so nothing can be committed."""
    _, procedure = begin(hand)
    next(procedure)
    outcome, update = procedure.send(None).conclude(object())
    assert isinstance(outcome, Raised)
    assert isinstance(outcome.error, SerDesError)
    assert update is None


def test_a_failed_body_is_recorded_by_an_ordinary_checkpoint(hand):
    """RETRY while the strategy says so, FAIL when it does not."""
    identity, procedure = begin(hand, SOON)
    next(procedure)
    procedure.send(None)
    command = procedure.send(Raised(ValueError("no")))
    assert [each.action for each in command.updates] == [RETRY]
    hand.record(identity, OperationStatus.PENDING, attempt=1)
    assert isinstance(procedure.send(None), Blocked)

    identity, procedure = begin(hand)
    next(procedure)
    procedure.send(None)
    command = procedure.send(Raised(ValueError("no")))
    assert [each.action for each in command.updates] == [FAIL]
    with pytest.raises(StepError, match="no"):
        procedure.send(None)


def test_a_backend_without_transactions(hand):
    """Nothing is recorded; but what another backend has recorded is replayed."""
    _, procedure = begin(hand, check=refuse)
    with pytest.raises(TransactionsUnsupportedError):
        next(procedure)
    identity, procedure = begin(hand, check=refuse)
    hand.record(identity, OperationStatus.SUCCEEDED, attempt=1, result="7", position=3)
    assert returned(procedure) == 7


def test_at_most_once(hand):
    """START is durable before the body, and an attempt that did not live to record its end has failed."""
    identity, procedure = begin(hand, AT_MOST_ONCE)
    assert next(procedure).durable
    identity, procedure = begin(hand, AT_MOST_ONCE)
    hand.record(identity, OperationStatus.STARTED, attempt=0)
    assert [each.action for each in next(procedure).updates] == [FAIL]


def test_begun_by_an_earlier_invocation(hand):
    """The body runs again, without another START: what the earlier one wrote was rolled back."""
    identity, procedure = begin(hand)
    hand.record(identity, OperationStatus.STARTED, attempt=0)
    assert isinstance(next(procedure), Transact)


# ------------------------------------------------------------------------------------------------------- the queue


def update(name, action=START, parent=None, kind=OperationType.STEP, **members):
    return OperationUpdate(operation_id=name, operation_type=kind, action=action, parent_id=parent, **members)


def names(request):
    return [each.operation_id for each in request.updates]


@pytest.fixture
def checkpointer():
    return Checkpointer("t1", Records(), time.monotonic)


def answer(checkpointer):
    return checkpointer.answered(CheckpointAnswer("t"))


def test_one_transaction_in_a_request(checkpointer):
    """What is queued around the first one travels with it; the second waits for the next request."""
    checkpointer.offer([update("a")], durable=False)
    first = checkpointer.attach(update("b"), "B", None)
    checkpointer.offer([update("c")])
    second = checkpointer.attach(update("d"), "D", None)
    checkpointer.offer([update("e")])
    request = checkpointer.take()
    assert (names(request), request.transaction) == (["a", "b", "c"], "B")
    assert first in answer(checkpointer)
    request = checkpointer.take()
    assert (names(request), request.transaction) == (["d", "e"], "D")
    assert second in answer(checkpointer)
    checkpointer.offer([update("f")])
    assert checkpointer.take().transaction is None


def test_the_context_above_has_ended(checkpointer):
    """Then nothing in it is recorded, in a transaction or not."""
    checkpointer.offer([update("x", kind=OperationType.CONTEXT)])
    checkpointer.offer([update("x", SUCCEED, kind=OperationType.CONTEXT)])
    with pytest.raises(Orphaned):
        checkpointer.attach(update("a", parent="x"), "A", None)


def test_nothing_is_sent_beside_an_exclusive_transaction(checkpointer):
    """It is granted when nothing is in flight; its end goes before all that was queued since."""
    checkpointer.offer([update("a")])
    checkpointer.take()
    hold = checkpointer.hold()
    assert not checkpointer.grant(hold)
    checkpointer.offer([update("b")], durable=False)
    answer(checkpointer)
    assert checkpointer.grant(hold)
    waiting = checkpointer.offer([update("c")])
    assert checkpointer.held
    assert checkpointer.take() is None
    assert checkpointer.take(unwaited=True) is None
    assert checkpointer.unsent_for() == 0
    ticket = checkpointer.attach(update("d"), "D", hold)
    request = checkpointer.take()
    assert (names(request), request.transaction) == (["b", "d", "c"], "D")
    assert answer(checkpointer) == [ticket, waiting]
    assert not checkpointer.held
    assert not checkpointer.release(hold)


def test_an_exclusive_transaction_that_is_rolled_back(checkpointer):
    """Others go on when its hold is released, in the order in which they came."""
    first, second = checkpointer.hold(), checkpointer.hold()
    assert not checkpointer.grant(second)
    assert checkpointer.grant(first)
    checkpointer.offer([update("a")])
    assert checkpointer.take() is None
    assert checkpointer.release(first)
    assert checkpointer.take() is None, "the second one is next"
    assert checkpointer.grant(second)
    assert checkpointer.release(second)
    assert names(checkpointer.take()) == ["a"]


def test_an_exclusive_transaction_is_never_left_to_a_later_request(checkpointer):
    """Else its own execution would wait for what can only be written once it is over."""
    for n in range(MAX_UPDATES):
        checkpointer.offer([update(str(n))], durable=False)
    hold = checkpointer.hold()
    assert not checkpointer.grant(hold), "so much has to be sent before"
    assert len(checkpointer.take(unwaited=True).updates) == MAX_UPDATES
    answer(checkpointer)
    checkpointer.offer([update("ahead", payload="x" * (MAX_BYTES // 2))], durable=False)
    assert checkpointer.grant(hold)
    checkpointer.attach(update("own", SUCCEED, payload="y" * MAX_BYTES), "T", hold)
    checkpointer.offer([update("behind")])
    request = checkpointer.take()
    assert (names(request), request.transaction) == (["ahead", "own"], "T")


def test_detached(checkpointer):
    """What nobody stands for any more is not sent."""
    ticket = checkpointer.attach(update("a"), "A", None)
    checkpointer.offer([update("b")])
    checkpointer.detach(ticket)
    request = checkpointer.take()
    assert (names(request), request.transaction) == (["b"], None)


# ---------------------------------------------------------------------------------------------------------- driven


@attrs.define(eq=False)
class FakeTransaction:
    """
    A transaction on a list.

    Attributes:
        connection: What the body appends to.
    """

    connection: list[Any] = attrs.field(factory=list)
    is_committed: bool = False
    fault: Exception | None = None

    def seal(self) -> Any:
        if self.fault is not None:
            raise self.fault
        return asyncio.sleep(0) if isinstance(self.connection, AsyncList) else None


class AsyncList(list[Any]):
    """What a coroutine function is given."""


class Ledger:
    """
    The transactions of a plane, and the table they write to.

    Attributes:
        rows: What was committed.
        open: How many transactions have been opened and not left.
        pending: How many of them are not committed.
        exclusive: As `Transactions.exclusive`; then only one can be.
        fault: Raised by the next `seal`.
    """

    def __init__(self, exclusive: bool) -> None:
        self.exclusive = exclusive
        self.rows: list[Any] = []
        self.open = self.opened = self.pending = 0
        self.fault: Exception | None = None
        self._lock = threading.Lock()

    @contextmanager
    def transaction(self) -> Iterator[FakeTransaction]:
        with self._open([]) as made:
            yield made

    @asynccontextmanager
    async def async_transaction(self) -> AsyncIterator[FakeTransaction]:
        await asyncio.sleep(0)
        with self._open(AsyncList()) as made:
            yield made
            await asyncio.sleep(0)

    @contextmanager
    def _open(self, connection: list[Any]) -> Iterator[FakeTransaction]:
        with self._lock:
            self.open += 1
            self.opened += 1
            self.pending += 1
            assert not (self.exclusive and self.pending > 1), "two at a time"
            fault, self.fault = self.fault, None
        made = FakeTransaction(connection, fault=fault)
        try:
            yield made
        finally:
            with self._lock:
                self.open -= 1
                self.pending -= not made.is_committed

    def commit(self, transaction: FakeTransaction) -> None:
        assert not transaction.is_committed
        with self._lock:
            transaction.is_committed = True
            self.pending -= 1
            self.rows += transaction.connection


class LedgerPlane(Plane):
    """A plane with transactions; an exclusive one answers nobody else while one is open."""

    def __init__(self, exclusive: bool) -> None:
        super().__init__()
        self.transactions = Ledger(exclusive)
        self.commits: list[list[str]] = []
        self.lose: set[str] = set()

    def checkpoint(
        self, token: str, updates: Sequence[OperationUpdate], transaction: FakeTransaction | None = None
    ) -> CheckpointAnswer:
        ledger = self.transactions
        if transaction is None:
            assert not (ledger.exclusive and ledger.pending), "this would wait for a body, or for ever"
            return super().checkpoint(token, updates)
        if "before" in self.lose:
            self.lose.clear()
            raise StoreUnavailableError("nobody knows")
        given = super().checkpoint(token, updates)
        ledger.commit(transaction)
        self.commits.append([f"{each.action.value} {each.name}" for each in updates])
        if "after" in self.lose:
            self.lose.clear()
            raise StoreUnavailableError("nobody knows")
        return given


class AsyncLedgerPlane(AsyncPlane):
    """The same, awaited."""

    @property
    def transactions(self) -> Ledger:
        return self.plane.transactions

    async def checkpoint(self, *arguments: Any) -> CheckpointAnswer:
        await asyncio.sleep(0)
        answer = self.plane.checkpoint(*arguments)
        await asyncio.sleep(0)
        return answer


@pytest.fixture(params=[False, True], ids=["shared", "exclusive"])
def plane(request):
    return LedgerPlane(request.param)


@pytest.fixture(params=["def", "async"])
def run(request, monkeypatch, plane):
    """Runs a workflow, written as `async def` over functions that return awaitables, to its end."""
    if request.param == "async":
        monkeypatch.setattr(async_host, "SlowPlane", lambda plane, _: AsyncLedgerPlane(plane))
        return lambda workflow: async_host.execute(durable_execution(workflow), plane)
    return lambda workflow: execute(durable(Colour.DEF, workflow), plane)


def writes(text, *outcomes):
    turns = []

    def body(step, connection):
        connection.append(text)
        turns.append(step.attempt)
        outcome = outcomes[min(len(turns), len(outcomes)) - 1] if outcomes else text
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    body.turns = turns
    return body


def awaits(text, *outcomes):
    inner = writes(text, *outcomes)

    async def body(step, connection):
        assert isinstance(connection, AsyncList)
        await asyncio.sleep(0)
        return inner(step, connection)

    body.turns = inner.turns
    return body


KINDS = pytest.mark.parametrize("kind", [writes, awaits], ids=["plain", "coroutine"])


@KINDS
def test_driven(plane, run, kind):
    """START and SUCCEED are one request in sequential code, and replay opens nothing."""
    first, second = kind("a"), kind("b")

    async def workflow(event, context):
        values = [await context.transaction(first, name="a"), await context.transaction(second, name="b")]
        await context.wait(Duration.from_seconds(1))
        return values

    output = run(workflow)
    assert output.result == '["a", "b"]'
    assert plane.commits == [["START a", "SUCCEED a"], ["START b", "SUCCEED b"]]
    assert plane.transactions.rows == ["a", "b"]
    assert plane.transactions.opened == 2
    assert plane.invocations == 2


@KINDS
def test_retried(plane, run, kind):
    """Each attempt has its own transaction, and only the last one is committed."""
    body = kind("a", ValueError(1), ValueError(2), "done")

    async def workflow(event, context):
        return await context.transaction(body, config=SOON)

    assert run(workflow).result == '"done"'
    assert plane.transactions.rows == ["a"]
    assert body.turns == [1, 2, 3]
    wait_until(lambda: not plane.transactions.open, "all bodies have left their transactions")


@KINDS
def test_what_stands_in_the_way_of_a_commit(plane, run, kind):
    """Is the body's own failure, told before anything is sent."""
    plane.transactions.fault = ValueError("a constraint is violated")

    async def workflow(event, context):
        return await context.transaction(kind("a"), config=SOON)

    assert run(workflow).result == '"a"'
    assert plane.transactions.rows == ["a"]
    assert plane.transactions.opened == 2


@KINDS
@pytest.mark.parametrize(("lose", "opened"), [("before", 2), ("after", 1)])
def test_an_outcome_that_nobody_knows(plane, run, kind, lose, opened):
    """Ends the invocation; the next one sees what happened."""
    plane.lose = {lose}

    async def workflow(event, context):
        return await context.transaction(kind("a"), name="a")

    with pytest.raises(StoreUnavailableError):
        run(workflow)
    wait_until(lambda: not plane.transactions.open, "the body has left its transaction")
    assert run(workflow).result == '"a"'
    assert plane.transactions.rows == ["a"]
    assert plane.transactions.opened == opened


@KINDS
def test_beside_each_other(plane, run, kind):
    """Branches with transactions and steps; none waits for another for ever, and all are recorded."""

    async def branch(context, item, index, items):
        await context.step(lambda _: item)
        value = await context.transaction(kind(item), name=str(item))
        await context.step(lambda _: item)
        return value

    async def workflow(event, context):
        return (await context.map(range(8), branch)).get_results()

    assert run(workflow).result == "[0, 1, 2, 3, 4, 5, 6, 7]"
    assert sorted(plane.transactions.rows) == list(range(8))


@pytest.mark.parametrize("colour", list(Colour), ids=str)
def test_no_transactions(colour):
    """Nothing is recorded of it."""
    plane = Plane()

    async def workflow(event, context):
        await context.step(lambda _: 1, name="before")
        return await context.transaction(writes("a"), name="a")

    executed = execute if colour is Colour.DEF else async_host.execute
    output = executed(durable(colour, workflow), plane)
    assert output.status is InvocationStatus.FAILED
    assert output.error.type.endswith("TransactionsUnsupportedError")
    assert plane.statuses() == {"before": "SUCCEEDED"}


def test_a_branch_that_nobody_waits_for(plane):
    """A body whose batch has ended meanwhile is rolled back."""
    over, left = threading.Event(), threading.Event()

    def slow(step, connection):
        connection.append("slow")
        over.wait(10)

    def lingering(context):
        try:
            return context.transaction(slow, name="slow")
        finally:
            left.set()

    config = ParallelConfig(completion_config=CompletionConfig(min_successful=1))

    @durable_execution
    def workflow(event, context):
        result = context.parallel([lingering, lambda inner: inner.is_replaying()], config=config)
        return result.success_count

    if plane.transactions.exclusive:
        threading.Timer(0.2, over.set).start()
    output = invoke(workflow, plane)
    over.set()
    assert left.wait(10)
    wait_until(lambda: not plane.transactions.open, "the body has left its transaction")
    recorded = plane.statuses().get("slow") == "SUCCEEDED"
    assert plane.transactions.rows == (["slow"] if recorded else [])
    assert output.status is InvocationStatus.SUCCEEDED


class Exit(SystemExit):
    """An exit of user code."""


def test_an_exit_rolls_back(plane, run):
    """The step stays STARTED, the invocation ends uncleanly, the next one runs the body again."""
    body = writes("a", Exit("bye"), "done")

    async def workflow(event, context):
        return await context.transaction(body, name="a")

    with pytest.raises(Exit):
        run(workflow)
    assert plane.transactions.rows == []
    assert run(workflow).result == '"done"'
    assert plane.transactions.rows == ["a"]


def test_an_invocation_that_is_cancelled(plane, monkeypatch):
    """On the host's loop: the body is cancelled and its transaction rolled back."""
    monkeypatch.setattr(async_host, "SlowPlane", lambda plane, _: AsyncLedgerPlane(plane))

    begun = asyncio.Event()

    async def body(step, connection):
        connection.append("a")
        begun.set()
        await asyncio.sleep(60)

    @durable_execution
    async def workflow(event, context):
        return await context.transaction(body, name="a")

    async def main():
        task = asyncio.create_task(async_host.invoke(workflow, plane))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}), return_exceptions=True)
        assert plane.transactions.open == 0

    asyncio.run(main())
    assert plane.transactions.rows == []


def test_gathered_in_any_order(plane, monkeypatch):
    """The order in which futures are done is that of the journal, live as on replay."""
    monkeypatch.setattr(async_host, "SlowPlane", lambda plane, _: AsyncLedgerPlane(plane))
    orders = []

    async def workflow(event, context):
        order = []
        orders.append(order)
        futures = []
        for n in range(12):
            kind = (writes, awaits)[n % 2]
            futures.append(context.transaction(kind(n)) if n % 3 else context.step(lambda _, n=n: n))
            futures[-1].add_done_callback(lambda done: order.append(done.result()))
        await asyncio.gather(*futures)
        await context.wait(Duration.from_seconds(1))
        return order

    output = async_host.execute(durable_execution(workflow), plane)
    assert output.status is InvocationStatus.SUCCEEDED
    assert len(orders) == 2
    assert orders[0] == orders[1]
    assert sorted(orders[0]) == list(range(12))


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["step", "transaction", "coroutine", "wait"]), st.booleans()), min_size=1, max_size=4
)


@pytest.mark.parametrize("exclusive", [False, True], ids=["shared", "exclusive"])
@pytest.mark.parametrize("colour", ["def", "async"])
@examples(max_examples=25, deadline=None)
@given(st.lists(OPERATIONS, min_size=1, max_size=5))
def test_random_programs(exclusive, colour, program):
    """Branches of steps, transactions that may fail, and waits: every success is in the table, and nothing else is."""
    plane = LedgerPlane(exclusive)

    def branch(index):
        async def run(context):
            done = []
            for number, (kind, fails) in enumerate(program[index]):
                key = f"{index}.{number}"
                outcome = ValueError("no") if fails else key
                try:
                    if kind == "wait":
                        await context.wait(Duration.from_seconds(1))
                    elif kind == "step":
                        await context.step(lambda _, key=key: key)
                    else:
                        made = (writes if kind == "transaction" else awaits)(key, outcome)
                        done.append(await context.transaction(made, name=key, config=NEVER))
                except DurableExecutionsError:
                    continue
            return done

        return run

    async def workflow(event, context):
        result = await context.parallel([branch(index) for index in range(len(program))])
        return sorted(key for keys in result.get_results() for key in keys)

    if colour == "async":
        original, async_host.SlowPlane = async_host.SlowPlane, lambda plane, _: AsyncLedgerPlane(plane)
        try:
            output = async_host.execute(durable_execution(workflow), plane)
        finally:
            async_host.SlowPlane = original
    else:
        output = execute(durable(Colour.DEF, workflow), plane)
    assert output.status is InvocationStatus.SUCCEEDED
    succeeded = sorted(
        name for name, status in plane.statuses().items() if name and "." in name and status == "SUCCEEDED"
    )
    assert sorted(plane.transactions.rows) == succeeded
    wait_until(lambda: not plane.transactions.open, "all bodies have left their transactions")
