"""Waiting for executions to end."""

import asyncio
import threading

import pytest

from perdure.errors import ExecutionNotFoundError
from perdure.model import ExecutionStatus
from perdure.portal import Reply
from perdure.service import ending as ending_module
from perdure.service.ending import Endings
from perdure.storage import Hint, HintKind
from perdure.testing.memory import MemoryStore
from tests.unit.service.stage import PENDING, Stage, done, ending, run, wait


@pytest.fixture(autouse=True)
def _late_looks(monkeypatch):
    """Nobody looks without a reason while a test lasts."""
    monkeypatch.setattr(ending_module, "LONGEST_LOOK", 3600.0)


def test_who_comes_while_others_are_told_of_an_error():
    """Whoever begins to wait while others hear that an execution cannot be found is told so as well."""

    async def scene():
        store = MemoryStore()
        await store.open()
        endings = Endings(store)
        first, second = ending(endings, "nobody"), ending(endings, "nobody")
        third = asyncio.get_running_loop().create_future()
        first.add_done_callback(lambda _: third.set_result(ending(endings, "nobody")))
        for waiter in (first, second, await third):
            with pytest.raises(ExecutionNotFoundError):
                await asyncio.wait_for(waiter, 10)
        await store.close()

    asyncio.run(scene())


def test_other_threads_listen_to_what_runs_here_only():
    """They are given the very fold of its owner; of what runs elsewhere they have to ask."""

    async def scene():
        stage = await Stage().open()
        header, endings, reply = await stage.start(), stage.service.endings, Reply()
        owner = await stage.begun()
        assert not await asyncio.to_thread(endings.listen, header.id, reply)
        with owner.running():
            assert await asyncio.to_thread(endings.listen, header.id, reply)
            await owner.finish(done())
        assert await asyncio.to_thread(reply.wait, 10) is owner.execution
        assert not endings.listen(header.id, Reply())

    run(scene())


def test_who_listened_is_told_by_others_too():
    """What its owner has lost is looked for in the store."""

    async def scene():
        stage = await Stage().open()
        header, reply = await stage.start(), Reply()
        owner = await stage.begun()
        with owner.running():
            assert stage.service.endings.listen(header.id, reply)
            await stage.service.stop(header.id)
        assert (await asyncio.to_thread(reply.wait, 10)).status is ExecutionStatus.STOPPED

    run(scene())


def test_who_comes_to_listen_while_all_are_told_of_news():
    """News from other processes are for everybody who waits; another thread may begin to at that very moment."""

    async def scene():
        stage = await Stage().open()
        endings, other = stage.service.endings, Reply()
        for name in "ab":
            await stage.start(name=name)
        one, two = await stage.begun(), await stage.begun()

        class Woken(asyncio.Event):
            def set(self):
                thread = threading.Thread(target=endings.listen, args=(two.id, other))
                thread.start()
                thread.join()

        with one.running(), two.running():
            assert endings.listen(one.id, Reply())
            endings._audiences[one.id].woken = Woken()
            endings.hear(Hint(HintKind.DUE))
            await two.finish(done())
        assert other.wait(5) is two.execution

    run(scene())


def test_who_listens_as_the_owner_leaves_is_refused_or_told():
    """From four threads, again and again: nobody waits for ever."""

    async def scene():
        stage = await Stage().open()
        endings, told = stage.service.endings, []

        def listen(id, begun):
            while endings.listen(id, reply := Reply()):
                begun.set()
                told.append(reply.wait(5))

        for number in range(50):
            header = await stage.start(name=f"n{number}")
            owner = await stage.begun()
            with owner.running():
                begun = threading.Event()
                listening = [asyncio.create_task(asyncio.to_thread(listen, header.id, begun)) for _ in range(4)]
                assert await asyncio.to_thread(begun.wait, 5)
                await owner.finish(done())
            await asyncio.gather(*listening)
        assert len(told) >= 50
        assert all(execution.status is ExecutionStatus.SUCCEEDED for execution in told)

    run(scene())


def test_what_was_suspended_here_is_not_looked_at_before_there_is_a_reason():
    """The store has just said that it goes on; a hint is a reason."""

    async def scene():
        stage = await Stage().open()
        header, endings, describe, looks = await stage.start(), stage.service.endings, stage.store.describe, []

        async def counted(id):
            looks.append(id)
            return await describe(id)

        stage.store.describe = counted
        owner = await stage.begun()
        with owner.running():
            waiting = ending(endings, header.id)
            await owner.checkpoint(owner.token, [wait()])
            await owner.finish(PENDING)
        await asyncio.wait([waiting], timeout=0.05)
        assert not looks
        await stage.service.stop(header.id)
        assert (await asyncio.wait_for(waiting, 10)).status is ExecutionStatus.STOPPED

    run(scene())


def test_an_execution_is_not_looked_at_because_it_goes_on():
    """That it is due, or has grown, is no news of its end."""

    async def scene():
        stage = await Stage().open()
        header, endings, describe, looks = await stage.start(), stage.service.endings, stage.store.describe, []

        async def counted(id):
            looks.append(id)
            return await describe(id)

        stage.store.describe = counted
        waiting = ending(endings, header.id)
        for hints, expected in (((), 1), ((HintKind.DUE, HintKind.GREW), 1), ((HintKind.ENDED,), 2)):
            for kind in hints:
                endings.hear(Hint(kind, header.id, "f", 0))
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(looks) == expected
        waiting.cancel()

    run(scene())
