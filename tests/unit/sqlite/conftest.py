"""A SQLite file for a test, and what acts on it."""

import asyncio
import subprocess
import sys

import pytest

from perdure.backends.sqlite import SqliteStore
from perdure.testing.clock import VirtualClock
from perdure.testing.conformance.stage import Stage


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def play(path, clock):
    """Run a coroutine function over a stage whose stores are openings of one file."""

    def run(scene, **options):
        options = {"clock": clock, "synchronous": "normal"} | options

        async def over_stage():
            async with Stage(lambda: SqliteStore(path, **options), clock.advance) as stage:
                return await scene(stage)

        return asyncio.run(over_stage())

    return run


async def together(store, *verbs):
    """The answers of verbs that find the writer at work, and so make up one group."""
    writer = store._opened.writer
    with writer._at_work:
        asked = asyncio.gather(*verbs, return_exceptions=True)
        # It waits for its turn with the first of them, unless it has not yet woken up.
        while len(verbs) - (not writer._is_idle) > writer._queue.qsize():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.001)
    return await asked


@pytest.fixture
def start_process(path):
    """Start a program with the file's path as its first argument; killed at the latest when the test ends."""
    started = []

    def start(program, *arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(path), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
