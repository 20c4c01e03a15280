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
