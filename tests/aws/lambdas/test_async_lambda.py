"""What only `async def` workflows can do, on AWS's emulator through the Lambda handler."""

from __future__ import annotations

import asyncio
import random
import socketserver
import threading
from contextlib import contextmanager

import pytest

from perdure.config import Duration, StepConfig
from perdure.durable import durable_execution
from perdure.retries import RetryPresets
from tests.aws.lambdas.lives import Lives
from tests.aws.lambdas.runs import Run

MANY = 50
SECOND = Duration(1)
PATIENCE = 30


def requests(run):
    """How many updates each checkpoint had; there were never two checkpoints at a time."""
    assert all(call.alone for call in run.calls())
    return [len(call.updates) for call in run.calls()]


# ------------------------------------------------------------------------------------------------------------ requests


@pytest.mark.parametrize("pause", [0, 0.02])
def test_gathered_steps_share_requests(emulator, pause):
    """Fifty steps at once cost a few requests, whether their bodies take time or none."""

    @durable_execution
    async def workflow(event, context):
        async def body(number):
            await asyncio.sleep(pause)
            return number

        return await asyncio.gather(*[context.step(lambda _, n=n: body(n)) for n in range(MANY)])

    run = Run(emulator, workflow).finish()
    assert run.result == list(range(MANY))
    assert run.bodies.ran.total() == MANY
    updates = requests(run)
    assert sum(updates) == 2 * MANY
    assert len(updates) <= 5


def test_branches_share_requests(emulator):
    """So do fifty branches with two steps each."""

    @durable_execution
    async def workflow(event, context):
        async def branch(inner, number, index, numbers):
            first = await inner.step(lambda _: number)
            return await inner.step(lambda _: first + 1)

        result = await context.map(range(MANY), branch)
        return result.get_results()

    run = Run(emulator, workflow).finish()
    assert run.result == list(range(1, MANY + 1))
    updates = requests(run)
    assert sum(updates) == 2 + MANY * 6
    assert len(updates) <= 15


def test_many_waits_are_one_request(emulator):
    """What is begun together is recorded together, and the invocation ends."""

    @durable_execution
    async def workflow(event, context):
        await asyncio.gather(*[context.wait(Duration(60), f"wait-{n}") for n in range(MANY)])
        return context.is_replaying()

    run = Run(emulator, workflow)
    assert run.invoke()["Status"] == "PENDING"
    assert requests(run) == [MANY]
    run.finish()
    assert requests(run) == [MANY]


# ------------------------------------------------------------------------------------- what is bound to an event loop


class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)
            self.wfile.flush()


@contextmanager
def echoing():
    """A server that sends back what it is sent."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address
        server.shutdown()
        thread.join()


class Wire:
    """
    A connection that a process opens when it first needs one, as clients of databases do.

    Attributes:
        opened: How often it was.
    """

    def __init__(self, address):
        self.opened = 0
        self._address = address
        self._lock = asyncio.Lock()
        self._streams = None

    async def ask(self, text):
        async with self._lock:
            if self._streams is None:
                self.opened += 1
                self._streams = await asyncio.open_connection(*self._address)
            reader, writer = self._streams
            writer.write(f"{text}\n".encode())
            await writer.drain()
            # Whoever was cancelled before it had its answer has left that behind.
            while (answer := (await reader.readline()).decode().strip()) != text:
                pass
            return answer

    async def close(self, _):
        _, writer = self._streams
        writer.close()
        await writer.wait_closed()


def test_a_connection_lives_on(emulator):
    """A lock and a connection of the process are good in all its invocations, and after some that broke off."""

    async def workflow(event, context):
        answers = []
        for turn in range(4):
            steps = [context.step(lambda _, n=n, turn=turn: wire.ask(f"{turn}.{n}")) for n in range(5)]
            answers += await asyncio.gather(*steps)
            await context.wait(SECOND)
        await context.step(wire.close)
        return answers

    with echoing() as address:
        wire = Wire(address)
        lives = Lives(workflow, random.Random(17), share=0.2)
        run = Run(emulator, lives).finish()
    assert run.result == [f"{turn}.{n}" for turn in range(4) for n in range(5)]
    assert wire.opened == 1
    assert lives.deaths > 2
    assert len(run.outputs) > 6


# ---------------------------------------------------------------------------------------------------- unfinished bodies


class Endless:
    """
    A body that goes on until it is cancelled.

    Attributes:
        told: What became of it, and what it did last.
    """

    def __init__(self):
        self.begun = asyncio.Event()
        self.told = []

    async def __call__(self, _):
        self.begun.set()
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            self.told.append("cancelled")
            raise
        finally:
            await asyncio.sleep(0.02)
            self.told.append("cleaned up")

    async def has_begun(self, _):
        await self.begun.wait()


def test_unfinished_bodies_end_with_the_execution(emulator, caplog):
    """They are cancelled, have cleaned up when the handler answers, and record nothing."""
    body = Endless()

    async def workflow(event, context):
        context.step(body, "endless")
        await context.step(body.has_begun)
        return "done"

    lives = Lives(workflow, random.Random(0), most=0)
    run = Run(emulator, lives)
    assert run.invoke()["Status"] == "SUCCEEDED"
    assert body.told == ["cancelled", "cleaned up"]
    assert lives.lived[0].late == 0
    assert "endless" in caplog.text


def test_unfinished_bodies_end_with_a_race(emulator):
    """The loser of a race keeps neither the invocation nor the execution waiting."""
    body = Endless()

    @durable_execution
    async def workflow(event, context):
        async def slow(inner):
            await inner.step(body, "slow")

        async def quick(inner):
            return await inner.step(body.has_begun, "quick")

        loser, winner = context.run_in_child_context(slow), context.run_in_child_context(quick)
        await context.promise.race([loser, winner])
        await context.step(lambda _: None, "after")
        return "done"

    run = Run(emulator, workflow).finish()
    assert run.result == "done"
    assert body.told == ["cancelled", "cleaned up"]


def test_unfinished_bodies_end_with_a_failed_invocation(emulator):
    """An invocation that breaks off cancels them; the next one runs them again, from their beginning."""
    body = Endless()
    again = []

    async def once(step):
        if body.told:
            again.append(step.attempt)
            return "second time"
        return await body(step)

    async def workflow(event, context):
        config = StepConfig(retry_strategy=RetryPresets.none())
        slow = context.step(once, "slow", config)
        await context.step(body.has_begun, "quick", config)
        return await slow

    lives = Lives(workflow, random.Random(0), share=1, most=1)
    run = Run(emulator, lives).finish()
    assert isinstance(run.outputs[0], Exception)
    assert body.told == ["cancelled", "cleaned up"]
    assert run.result == "second time"
    assert again == [1]
