"""How a private event loop ends: nothing runs on, nothing complains, nothing is kept."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import weakref

from perdure.engine import loop as loop_module
from tests.replay.private_loop import ENDED, Host


def test_closing_runs_finally_blocks_in_their_context():
    """Closing unwinds what is left, each task in its own context, and leaves no warning behind."""
    variable, log = contextvars.ContextVar("variable", default="outer"), []

    async def helper():
        token = variable.set("inner")
        try:
            await asyncio.Event().wait()
        finally:
            log.append(variable.get())
            variable.reset(token)
            await asyncio.sleep(0)
            log.append("unreachable")

    async def workflow(_):
        tasks = [asyncio.create_task(helper()) for _ in range(2)]
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(helper()))
        await asyncio.gather(*tasks)

    host = Host()
    host.run(workflow)
    host.loop.abandon(ENDED)
    assert log == ["inner"] * 3
    assert host.loop.is_closed()
    gc.collect()


def test_closing_ends_a_task_that_never_started():
    """A coroutine that never ran is closed, not complained of."""
    host = Host()

    async def never():
        raise AssertionError

    def make():
        tasks.append(host.loop.create_task(never()))
        host.loop._ready.clear()

    tasks = []
    host.enter(make)
    host.loop.abandon(ENDED)
    tasks.clear()
    gc.collect()


def test_tasks_made_while_closing_are_ended_too():
    """A `finally` block that makes tasks leaves none behind."""
    made = []

    async def cleaning():
        raise AssertionError

    async def workflow(_):
        try:
            await asyncio.Event().wait()
        finally:
            made.append(asyncio.create_task(cleaning()))

    host = Host()
    host.run(workflow)
    host.loop.abandon(ENDED)
    assert not made.pop().done()
    gc.collect()


def test_closed_loops_are_collected():
    """A closed loop, its tasks and the frames in them are not kept by anything."""

    class Payload:
        pass

    async def workflow(_):
        payload = Payload()
        references.append(weakref.ref(payload))
        await asyncio.gather(asyncio.Event().wait(), asyncio.Event().wait())
        return payload

    references = []
    for _ in range(3):
        host = Host()
        host.run(workflow)
        host.loop.abandon(ENDED)
        del host
    gc.collect()
    assert [reference() for reference in references] == [None, None, None]


def test_generators_are_ended_when_the_loop_is():
    """A generator left in the middle runs its `finally` at the end of the run, not when it happens to be collected."""
    log = []

    async def numbers():
        try:
            yield 1
            yield 2
        finally:
            log.append("finally")

    async def workflow(_):
        async for _number in numbers():
            break
        gc.collect()
        log.append("after")

    Host().result(workflow)
    assert log == ["after", "finally"]


def test_generator_left_by_a_signal_is_ended():
    """A generator that awaits while the loop is closed is unwound with its task."""
    log = []

    async def numbers():
        try:
            await asyncio.Event().wait()
            yield 1
        finally:
            log.append("finally")

    async def workflow(_):
        return [number async for number in numbers()]

    host = Host()
    host.run(workflow)
    host.loop.abandon(ENDED)
    assert log == ["finally"]


def test_coroutine_that_swallows_everything_is_given_up(caplog, monkeypatch):
    """Code that catches whatever it is sent does not keep the loop from closing."""
    monkeypatch.setattr(loop_module, "_buried", buried := [])

    async def workflow(_):
        while alive:
            with contextlib.suppress(BaseException):
                await asyncio.Event().wait()

    alive = [True]
    host = Host()
    host.run(workflow)
    host.loop.abandon(ENDED)
    assert "given up" in caplog.text
    alive.clear()
    buried.clear()
