"""How verbs of one kind share round trips."""

import asyncio

import pytest

from perdure.backends.postgres.fault import UnstorableError
from perdure.backends.postgres.lane import GROUP, Lane
from perdure.errors import StoreError, StoreUnavailableError


class Server:
    """Answers batches when it is told to, with the doubles of their numbers."""

    def __init__(self, locked=(), bad=()):
        self.batches = []
        self.locked, self.bad = set(locked), set(bad)
        self.is_open = asyncio.Event()
        self.is_open.set()

    async def __call__(self, batch, *, waits):
        self.batches.append((list(batch), waits))
        await self.is_open.wait()
        if self.bad.intersection(batch):
            raise UnstorableError("bad")
        return [None if item in self.locked and not waits else 2 * item for item in batch]


def run(scene):
    return asyncio.run(scene())


def test_what_waits_goes_together():
    """What comes while a batch is on its way makes up the next one."""

    async def scene():
        server = Server()
        lane = Lane(server)
        assert await asyncio.gather(*(lane.submit(number) for number in range(5))) == [0, 2, 4, 6, 8]
        server.is_open.clear()
        first = asyncio.create_task(lane.submit(10))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        others = [asyncio.create_task(lane.submit(number)) for number in (11, 12)]
        await asyncio.sleep(0)
        server.is_open.set()
        assert await asyncio.gather(first, *others) == [20, 22, 24]
        assert [batch for batch, _ in server.batches] == [[0, 1, 2, 3, 4], [10], [11, 12]]

    run(scene)


def test_batches_are_bounded():
    """Neither number nor size of a batch grows without bound."""

    async def scene():
        server = Server()
        lane = Lane(server, size=lambda number: (number == 0) * (1 << 20))
        await asyncio.gather(*(lane.submit(number) for number in range(GROUP + 5)))
        assert [len(batch) for batch, _ in server.batches] == [1, GROUP, 4]

    run(scene)


def test_one_of_a_key():
    """Of the same key there is one in a batch; the others keep their order."""

    async def scene():
        server = Server()
        lane = Lane(server, key=lambda number: number % 3)
        await asyncio.gather(*(lane.submit(number) for number in range(7)))
        assert [batch for batch, _ in server.batches] == [[0, 1, 2], [3, 4, 5], [6]]

    run(scene)


def test_locked_ones_wait_alone():
    """What is locked is asked again alone, and holds up nobody."""

    async def scene():
        server = Server(locked=[1])
        lane = Lane(server)
        assert await asyncio.gather(*(lane.submit(number) for number in range(3))) == [0, 2, 4]
        assert server.batches == [([0, 1, 2], False), ([1], True)]

    run(scene)


def test_offenders_are_found():
    """Data that cannot be kept is the error of its own caller only."""

    async def scene():
        server = Server(bad=[5])
        lane = Lane(server)
        answers = await asyncio.gather(*(lane.submit(number) for number in range(8)), return_exceptions=True)
        assert [isinstance(answer, UnstorableError) for answer in answers] == [number == 5 for number in range(8)]

    run(scene)


def test_errors_reach_everybody():
    """When the server fails, every caller of the batch learns of it, and the next one may succeed."""

    async def scene():
        failing = True

        async def send(batch, *, waits):
            if failing:
                raise StoreUnavailableError("gone")
            return batch

        lane = Lane(send)
        answers = await asyncio.gather(lane.submit(1), lane.submit(2), return_exceptions=True)
        assert [type(answer) for answer in answers] == [StoreUnavailableError] * 2
        failing = False
        assert await lane.submit(3) == 3

    run(scene)


def test_closing():
    """Whoever waits when the lane is closed is told, whether it was sent or not."""

    async def scene():
        server = Server()
        server.is_open.clear()
        lane = Lane(server)
        tasks = [asyncio.create_task(lane.submit(1))]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(lane.submit(2)))
        await asyncio.sleep(0)
        await lane.close()
        for task in tasks:
            with pytest.raises(StoreError, match="closed"):
                await task

    run(scene)


def test_cancelled_callers():
    """A caller that has gone is not sent, and the others are answered."""

    async def scene():
        server = Server()
        server.is_open.clear()
        lane = Lane(server)
        first = asyncio.create_task(lane.submit(1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        second, third = (asyncio.create_task(lane.submit(number)) for number in (2, 3))
        await asyncio.sleep(0)
        for task in (first, second):
            task.cancel()
        await asyncio.sleep(0)
        server.is_open.set()
        assert await third == 6
        assert [batch for batch, _ in server.batches] == [[1], [3]]

    run(scene)
