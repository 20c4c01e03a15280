"""Owners in trouble: replies lost, pauses and stops that arrive between two commits, data nobody can keep."""

from __future__ import annotations

import attrs
import pytest

from perdure.errors import InvalidParameterValueError, StaleTokenError, StoreError
from perdure.journal import history
from perdure.journal.entry import FORMAT, Entry, Paused, Resumed, encode
from perdure.model import ErrorObject, ExecutionStatus, OperationStatus
from perdure.service import reading
from perdure.service.crash_policy import CrashPolicy
from perdure.storage import Claim, Draft, OpenAwait, Rejected, SignalKind, Status
from perdure.testing.memory import MemoryStore
from tests.unit.service.stage import (
    PENDING,
    Stage,
    callback,
    done,
    outcome_update,
    run,
    started_step,
    succeeded_step,
    wait,
)


async def signal(stage, id, kind):
    entry = Entry(paused=Paused()) if kind is SignalKind.PAUSE else Entry(resumed=Resumed())
    await stage.store.signal(id, kind, Draft(encode(entry), kind.value, FORMAT), kind.value)


class Forgetful(MemoryStore):
    """Does what it is told, and then fails without an answer, as often as a test says."""

    lost = 0
    refuses = b"\xff"

    async def commit(self, batch):
        if any(self.refuses in (commit.draft.body if commit.draft else b"") for commit in batch):
            return [Rejected("cannot keep this")] * len(batch)
        answers = await super().commit(batch)
        if self.lost:
            self.lost -= 1
            raise StoreError("the answer got lost")
        return answers


async def forgetful_stage():
    stage = Stage(store_type=Forgetful)
    return await stage.open()


def test_after_a_lost_reply_an_owner_writes_nothing_more():
    """Another write would have the number of the lost one, and be taken for its repetition."""

    async def scene():
        stage = await forgetful_stage()
        header = await stage.start()
        owner = await stage.begun()
        stage.store.lost = 1
        with pytest.raises(StoreError, match="got lost"):
            await owner.checkpoint(owner.token, [started_step()])
        for attempt in (
            owner.checkpoint(owner.token, [succeeded_step()]),
            owner.finish(done()),
            owner.crash(ErrorObject("x")),
        ):
            with pytest.raises(StaleTokenError):
                await attempt
        found = await stage.store.describe(header.id)
        assert (found.length, found.status) == (2, Status.RUNNING)

    run(scene())


def test_what_a_lost_reply_was_about_is_known_to_the_next_owner():
    """The end that was recorded stands, and is not recorded again."""

    async def scene():
        stage = await forgetful_stage()
        header = await stage.start()
        owner = await stage.begun()
        stage.store.lost = 1
        with pytest.raises(StoreError):
            await owner.finish(done("7"))
        assert await stage.claim() is None
        assert (await stage.service.load(header.id)).result == "7"

    run(scene())


def test_data_that_the_store_refuses_is_told_and_the_owner_goes_on():
    """Nothing was recorded; the token stays good, and the next write has the number of the refused one."""

    async def scene():
        stage = await forgetful_stage()
        stage.store.refuses = b"unspeakable"
        header = await stage.start()
        owner = await stage.begun()
        with pytest.raises(InvalidParameterValueError, match="cannot keep this"):
            await owner.checkpoint(owner.token, [started_step(), succeeded_step(payload="unspeakable")])
        await owner.checkpoint(owner.token, [started_step(), succeeded_step()])
        await owner.finish(done())
        assert (await stage.store.describe(header.id)).status is Status.SUCCEEDED

    run(scene())


@pytest.mark.parametrize("payload", ["\ud800", "a\x00b", "\U0001f600", "\udc80" * 3])
def test_any_text_is_kept(payload):
    """Lone surrogates and NUL come back as they were, in payloads and in errors."""

    async def scene():
        stage = await Stage().open()
        header = await stage.start()
        owner = await stage.begun()
        await owner.checkpoint(owner.token, [succeeded_step(payload=payload)])
        await owner.finish(done(payload))
        execution = await stage.service.load(header.id)
        assert (execution.operations["s"].result, execution.result) == (payload, payload)

    run(scene())


async def polled(owner):
    await owner.checkpoint(owner.token, [])


async def recorded(owner):
    await owner.checkpoint(owner.token, [succeeded_step()])


async def outcome_recorded(owner):
    await owner.checkpoint(owner.token, [outcome_update("7")])


@pytest.mark.parametrize("commits", [polled, recorded, outcome_recorded], ids=lambda commits: commits.__name__)
def test_a_pause_before_any_checkpoint_keeps_what_that_records(commits):
    """And resume goes on with everything that was recorded before."""

    async def scene():
        stage = await Stage().open()
        header = await stage.start()
        owner = await stage.begun()
        await owner.checkpoint(owner.token, [callback()])
        await signal(stage, header.id, SignalKind.PAUSE)
        await commits(owner)
        assert owner.execution.paused
        await owner.finish(PENDING)
        assert await stage.claim() is None
        await signal(stage, header.id, SignalKind.RESUME)
        heir = await stage.owned()
        given = await heir.begin()
        if commits is outcome_recorded:
            assert given is None
            assert (await stage.service.load(header.id)).result == "7"
        else:
            assert given is not None
            assert "c" in heir.execution.operations

    run(scene())


@pytest.mark.parametrize("end", ["pending", "drain", "crash", "release"])
def test_a_pause_that_nobody_saw_holds_after_every_way_to_let_go(end):
    """Paused and resumed, the execution goes on; no way of letting go forgets the resume."""

    async def scene():
        stage = await Stage().open()
        header = await stage.start()
        owner = await stage.begun()
        await owner.checkpoint(owner.token, [callback()])
        await signal(stage, header.id, SignalKind.PAUSE)
        match end:
            case "pending":
                await owner.finish(PENDING)
            case "drain":
                await owner.drain()
            case "crash":
                await owner.crash(ErrorObject("x"))
            case _:
                await owner.release()
        assert await stage.claim() is None
        await signal(stage, header.id, SignalKind.RESUME)
        assert (await stage.begun()).execution.paused is None

    run(scene())


def test_a_pause_between_claim_and_begin_lets_go_without_a_row():
    """No invocation begins while paused; timers that are due wait for the resume."""

    async def scene():
        stage = await Stage().open()
        header = await stage.start()
        owner = await stage.begun()
        await owner.checkpoint(owner.token, [wait(seconds=10)])
        await owner.finish(PENDING)
        stage.advance(10)
        heir = await stage.owned()
        await signal(stage, header.id, SignalKind.PAUSE)
        length = (await stage.store.describe(header.id)).length
        assert await heir.begin() is None
        found = await stage.store.describe(header.id)
        assert (found.length, found.owner, found.crashes) == (length, None, 0)
        await signal(stage, header.id, SignalKind.RESUME)
        assert (await stage.begun()).execution.operations["w"].status is OperationStatus.SUCCEEDED

    run(scene())


def test_a_crash_found_while_paused_fires_no_timer():
    """The crash is recorded, the wait completes at resume."""

    async def scene():
        stage = await Stage().open()
        header = await stage.start()
        owner = await stage.begun()
        await owner.checkpoint(owner.token, [wait(seconds=10)])
        stage.advance(3601)
        await stage.store.reap(10)
        await stage.store.register("w3", [], 10**10)
        heir = await stage.owned("w3")
        await signal(stage, header.id, SignalKind.PAUSE)
        assert await heir.begin() is None
        execution = await stage.service.load(header.id)
        assert (execution.operations["w"].status, execution.crashes) == (OperationStatus.STARTED, 1)
        await signal(stage, header.id, SignalKind.RESUME)
        assert (await stage.begun("w3")).execution.operations["w"].status is OperationStatus.SUCCEEDED

    run(scene())


def test_a_recorded_outcome_outlives_the_process_that_recorded_it():
    """Whoever claims it next ends the execution with it, and runs nothing."""

    async def scene():
        stage = await Stage().open()
        header = await stage.start()
        owner = await stage.begun()
        await owner.checkpoint(owner.token, [outcome_update("7")])
        stage.advance(3601)
        await stage.store.reap(10)
        await stage.store.register("w3", [], 10**10)
        assert await (await stage.owned("w3")).begin() is None
        execution = await stage.service.load(header.id)
        assert (execution.status, execution.result) == (ExecutionStatus.SUCCEEDED, "7")
        events = history.events(header.id, await reading.rows(stage.store, header.id))
        assert [event.event_type for event in events][-2:] == ["InvocationCompleted", "ExecutionSucceeded"]

    run(scene())


def test_a_quarantined_execution_goes_on_when_resumed():
    """With its count at zero, and with what arrived meanwhile."""

    async def scene():
        stage = await Stage(CrashPolicy(limit=1)).open()
        header = await stage.start()
        owner = await stage.begun()
        answer = await owner.checkpoint(owner.token, [callback()])
        await owner.crash(ErrorObject("boom"))
        await stage.service.succeed_callback(answer.operations[0].callback_details.callback_id, "yes")
        stage.advance(10_000)
        assert await stage.claim() is None
        await signal(stage, header.id, SignalKind.RESUME)
        heir = await stage.begun()
        assert (heir.execution.operations["c"].result, heir.header.crashes) == ("yes", 0)

    run(scene())


def test_a_crash_before_the_journal_was_read_is_recorded():
    """Whatever is wrong with a journal: it is counted, until the execution is left alone."""

    async def scene():
        stage = await Stage(CrashPolicy(limit=2, first_pause=0)).open()
        header = await stage.start()
        for _ in range(2):
            await (await stage.owned()).crash(ErrorObject("unreadable"))
        assert (await stage.store.describe(header.id)).quarantined

    run(scene())


def test_no_secret_shows_in_a_repr():
    """Whoever logs what passes through here gives no token and no callback's secret away."""

    async def scene():
        stage = await Stage().open()
        header = await stage.start()
        owner = await stage.owned()
        shown = [owner.header, await owner.begin()]
        answer = await owner.checkpoint(owner.token, [callback()])
        held = await stage.store.renew("w1")
        text = repr([*shown, *held, OpenAwait(operation="c", secret="hidden"), Claim("w1", "hidden")])
        assert header.id in text
        assert "hidden" not in text
        assert owner.header.token not in text
        assert owner.token not in repr(attrs.evolve(answer, operations=()))

    run(scene())
