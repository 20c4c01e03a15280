"""Checkpoints that are committed by a transaction, as their owner sees it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from perdure.errors import (
    InvalidParameterValueError,
    StaleTokenError,
    StoreUnavailableError,
    TransactionsUnsupportedError,
)
from perdure.journal.entry import FORMAT, Ended, Entry, encode
from perdure.model import ExecutionStatus, OperationStatus
from perdure.service.agenda import Concern
from perdure.service.ownership import AFTER_DOUBT
from perdure.storage import MICROSECONDS, Answer, Draft, Rejected, SignalKind
from perdure.transaction import require_transactions
from tests.unit.service.stage import Stage, callback, done, run, started_step, succeeded_step

if TYPE_CHECKING:
    from perdure.storage import Commit, CommitAnswer

STOP = Draft(encode(Entry(ended=Ended(status=ExecutionStatus.STOPPED))), "stop", FORMAT)


@attrs.define
class Direct:
    """A transaction that commits to a store, and then answers, or fails, as it is told to."""

    store: Any
    answer: CommitAnswer | None = None
    error: Exception | None = None
    is_lost: bool = False
    commits: int = 0

    async def commit(self, commit: Commit) -> CommitAnswer:
        self.commits += 1
        if self.answer is not None:
            return self.answer
        if not self.is_lost:
            (given,) = await self.store.commit([commit])
        if self.error is not None:
            raise self.error
        return given


async def begun():
    stage = await Stage().open()
    header = await stage.start()
    return stage, header, await stage.begun()


def test_it_commits_instead_of_the_committer():
    """The entry, the numbers and what is told are as ever; other checkpoints go on behind it."""

    async def scene():
        stage, header, ownership = await begun()
        transaction = Direct(stage.store)
        told = await ownership.checkpoint(ownership.token, [started_step(), succeeded_step()], transaction)
        assert [operation.status for operation in told.operations] == [OperationStatus.SUCCEEDED]
        assert (transaction.commits, stage.service.committer.commits) == (1, 0)
        await ownership.checkpoint(ownership.token, [started_step("t")])
        await ownership.finish(done())
        assert (await stage.store.describe(header.id)).length == 4

    run(scene())


def test_what_is_illegal_is_not_committed():
    """It is found before the transaction is asked for anything."""

    async def scene():
        stage, _, ownership = await begun()
        transaction = Direct(stage.store)
        with pytest.raises(InvalidParameterValueError):
            await ownership.checkpoint(ownership.token, [succeeded_step(), succeeded_step()], transaction)
        assert transaction.commits == 0
        assert not ownership.is_in_doubt

    run(scene())


@pytest.mark.parametrize(
    ("answer", "error"), [(Answer.FENCED, StaleTokenError), (Rejected("too long"), InvalidParameterValueError)]
)
def test_other_answers(answer, error):
    """Mean what they mean of any commit, and leave no doubt."""

    async def scene():
        stage, _, ownership = await begun()
        with pytest.raises(error):
            await ownership.checkpoint(ownership.token, [started_step()], Direct(stage.store, answer))
        assert not ownership.is_in_doubt

    run(scene())


@pytest.mark.parametrize("is_lost", [True, False], ids=["before", "after"])
def test_an_outcome_that_nobody_knows(is_lost):
    """Nothing more is written; the execution is let go, due soon, and no crash is counted."""

    async def scene():
        stage, header, ownership = await begun()
        transaction = Direct(stage.store, error=StoreUnavailableError("lost"), is_lost=is_lost)
        with pytest.raises(StoreUnavailableError):
            await ownership.checkpoint(ownership.token, [started_step(), succeeded_step()], transaction)
        assert ownership.is_in_doubt
        with pytest.raises(StaleTokenError):
            await ownership.finish(done())
        await ownership.relinquish()
        left = await stage.store.describe(header.id)
        assert (left.owner, left.crashes, left.invocation) == (None, 0, None)
        assert left.wake - stage.clock() == AFTER_DOUBT
        stage.advance(AFTER_DOUBT / MICROSECONDS)
        following = await stage.begun("w2")
        assert ("s" in following.execution.operations) is not is_lost

    run(scene())


def test_letting_go_of_what_belongs_to_others():
    """Changes nothing; nor does letting go without a doubt."""

    async def scene():
        stage, header, ownership = await begun()
        await ownership.relinquish()
        assert (await stage.store.describe(header.id)).owner == "w1"
        transaction = Direct(stage.store, error=StoreUnavailableError("lost"), is_lost=True)
        with suppress(StoreUnavailableError):
            await ownership.checkpoint(ownership.token, [started_step()], transaction)
        await stage.store.signal(header.id, SignalKind.STOP, STOP, "key")
        before = await stage.store.describe(header.id)
        await ownership.relinquish()
        assert await stage.store.describe(header.id) == before

    run(scene())


def test_a_write_that_becomes_durable_only_when_it_is_let_go():
    """Takes the number of the first try, which is then taken for it; the second one lets go."""

    async def scene():
        stage, header, ownership = await begun()
        late = []

        class Late(Direct):
            async def commit(self, commit):
                late.append(commit)
                raise StoreUnavailableError("lost")

        with suppress(StoreUnavailableError):
            await ownership.checkpoint(ownership.token, [started_step(), succeeded_step()], Late(stage.store))
        describe = stage.store.describe

        async def describe_late(id):
            found = await describe(id)
            if late:
                await stage.store.commit([late.pop()])
            return found

        stage.store.describe = describe_late
        await ownership.relinquish()
        left = await describe(header.id)
        assert left.owner is None
        stage.advance(1)
        assert "s" in (await stage.begun("w2")).execution.operations

    run(scene())


def test_deadlines_that_travel_with_it():
    """Are learned of, like those of any commit."""

    async def scene():
        stage, _, ownership = await begun()
        (alarm,) = stage.service.agenda.open(Concern.DEADLINE)
        updates = [callback(timeout=60), started_step(), succeeded_step()]
        await ownership.checkpoint(ownership.token, updates, Direct(stage.store))
        assert alarm._at == stage.clock() + 60 * MICROSECONDS

    run(scene())


def test_a_store_without_transactions():
    """Is named, with what to use instead."""

    async def scene():
        stage, _, ownership = await begun()
        with pytest.raises(TransactionsUnsupportedError, match=r"MemoryStore here.*idempotency_key"):
            _ = ownership.transactions
        with pytest.raises(TransactionsUnsupportedError, match=r"^connection= needs.*leave it out$"):
            require_transactions(stage.store, "connection=", "leave it out")

    run(scene())
