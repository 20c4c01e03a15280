"""What a process still knows of an execution that it claims again."""

from __future__ import annotations

import attrs
import pytest

from perdure.journal.entry import FORMAT
from perdure.journal.fold import Execution
from perdure.model import OperationStatus
from perdure.service import folds, reading
from perdure.service.folds import Folds
from perdure.storage import EMPTY, Claimed, FunctionVersion, Tip
from perdure.testing.memory import MemoryStore
from tests.unit.service.stage import PENDING, Stage, callback, run, started_step, succeeded_step, wait


class ReadStore(MemoryStore):
    """Tells from where on journals were read."""

    def __init__(self, *given):
        super().__init__(*given)
        self.reads = []

    async def entries(self, id, after, max_bytes):
        self.reads.append(after)
        return await super().entries(id, after, max_bytes)


async def suspended(update):
    """A stage with an execution that this process let go of."""
    stage = await Stage(store_type=ReadStore).open()
    header = await stage.start()
    owner = await stage.begun()
    await owner.checkpoint(owner.token, [started_step(), succeeded_step(), update])
    await owner.finish(PENDING)
    stage.store.reads.clear()
    return stage, header.id, owner


async def reclaimed(stage, alter=lambda header: header):
    answer = await stage.store.claim("w1", 99, "token", [FunctionVersion("f", "1")], 1, FORMAT)
    assert isinstance(answer, Claimed)
    stage.service.clock.read(answer.now)
    return stage.service.own(alter(answer.headers[0]))


def shown(execution):
    return {name: value for name, value in vars(execution).items() if name != "timers"}


def test_what_is_known_is_not_read():
    """A wait that ends in the process that began it costs no look at the journal, and all is as if it had."""

    async def scene():
        stage, id, _ = await suspended(wait(seconds=10))
        stage.advance(10)
        owner = await reclaimed(stage)
        given = await owner.begin()
        assert stage.store.reads == []
        assert shown(owner.execution) == shown(await reading.load(stage.store, id))
        assert given.updated_operation_ids == ("w",)

    run(scene())


def test_only_what_has_come_since_is_read():
    """A callback's outcome is read, and what lies before it is not."""

    async def scene():
        stage, id, owner = await suspended(callback())
        callback_id = owner.execution.operations["c"].callback_details.callback_id
        await stage.service.succeed_callback(callback_id, "1")
        heir = await reclaimed(stage)
        await heir.begin()
        # From the last row that is known, which tells that it is the same journal.
        assert stage.store.reads == [owner.execution.length - 2]
        assert heir.execution.operations["c"].status is OperationStatus.SUCCEEDED
        assert shown(heir.execution) == shown(await reading.load(stage.store, id))

    run(scene())


@pytest.mark.parametrize("is_longer", [False, True])
def test_another_journal_is_read_in_full(is_longer):
    """A store that has lost the last rows, and got others since, is believed."""

    async def scene():
        stage, _, owner = await suspended(wait(seconds=10))
        length = owner.execution.length
        owner.execution.tip = Tip(owner.execution.tip.at, "another")
        if is_longer:
            owner.execution.length -= 1
        stage.advance(10)
        heir = await reclaimed(stage)
        await heir.begin()
        assert stage.store.reads[-1] == 0
        assert heir.execution is not owner.execution
        assert heir.execution.length == length + 1

    run(scene())


def header_of(execution, **members):
    run_header = attrs.make_class("Header", ["id", "length", "tip"])
    return run_header(**{"id": execution.id, "length": execution.length, "tip": execution.tip} | members)


def test_a_fold_is_given_once():
    """Whoever took it carries it on, so that the next one has to read."""
    kept, execution = Folds(MemoryStore()), Execution("x")
    kept.keep(execution)
    assert kept.take(header_of(execution)) is execution
    assert kept.take(header_of(execution)) is None


def test_a_journal_that_has_become_shorter_is_another_one():
    """A fold of rows that are no more is dropped."""
    kept, execution = Folds(MemoryStore()), Execution("x")
    execution.length = 2
    kept.keep(execution)
    assert kept.take(header_of(execution, length=1, tip=EMPTY)) is None


def test_few_rows_are_kept():
    """Long journals make room for each other."""
    kept, executions = Folds(MemoryStore()), [Execution(str(n)) for n in range(8)]
    for execution in executions:
        execution.length = folds.MOST_ROWS // 5
        kept.keep(execution)
    # Once more: the rows of one that was kept already are counted once.
    kept.keep(executions[-1])
    assert [kept.take(header_of(each)) is each for each in executions] == [*[False] * 3, *[True] * 5]
    assert kept._rows == 0


def test_few_are_kept():
    """The oldest go, and very long journals are not kept at all."""
    kept, executions = Folds(MemoryStore()), [Execution(str(n)) for n in range(folds.MOST + 2)]
    for execution in executions:
        kept.keep(execution)
    long = Execution("long")
    long.length = folds.LONGEST + 1
    kept.keep(long)
    assert [kept.take(header_of(each)) is each for each in executions] == [False, False, *[True] * folds.MOST]
    assert kept.take(header_of(long)) is None
