"""A worker's process: how it ends, what keeps it from ending, and what becomes of its work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Self

import pytest

from perdure.client import Client
from tests.e2e.processes import wait_until

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import logging, os, sys, threading, time
from perdure.adapters.worker import Worker
from perdure.client import Client
from perdure.durable import CompletionConfig, Duration, ParallelConfig, durable_execution

url, marks, how = sys.argv[1:]

def mark(line):
    with open(marks, "a") as file:
        file.write(line + "\\n")

@durable_execution
def slow(event, context):
    def body(_):
        mark("body")
        while not os.path.exists(event.get("until", "/")):
            time.sleep(0.01)
        time.sleep(event.get("seconds", 0))
        return "slept"
    first = context.step(body, name="slow")
    mark("behind")
    return first, context.step(lambda _: "next", name="next")

@durable_execution
def orphaning(event, context):
    def endless(child):
        return child.step(lambda _: time.sleep(1000))
    config = ParallelConfig(completion_config=CompletionConfig.first_successful())
    context.parallel([endless, lambda child: 1], config=config)
    return "ended"

@durable_execution
def waits(event, context):
    context.wait(Duration.from_hours(1))

logging.basicConfig(level=logging.INFO)
worker = Worker(url, [slow, orphaning, waits], drain_timeout=float(os.environ.get("DRAIN", "20")))
if how == "run":
    worker.run()
elif how == "thread":
    runner = threading.Thread(target=worker.run)
    runner.start()
    while not os.path.exists(marks):
        time.sleep(0.01)
    worker.stop()
    mark("stopped")
    runner.join()
elif how == "leave":
    worker.start()
    client = Client(url)
    assert client.start(orphaning).result(timeout=30) == "ended"
    client.start(slow, {"seconds": 1000})
    client.start(waits)
    while not os.path.exists(marks):
        time.sleep(0.01)
elif how == "orphan":
    with worker, Client(url) as client:
        assert client.start(orphaning).result(timeout=30) == "ended"
mark("over")
"""

pytestmark = pytest.mark.filterwarnings("ignore::perdure.errors.UnregisteredFunctionWarning")


class Program:
    def __init__(self, url: str, folder: Path, how: str, drain: float = 20) -> None:
        self.url, self.marks, self.log = url, folder / "marks", folder / "log"
        environment = {**os.environ, "DRAIN": str(drain)}
        with self.log.open("wb") as log:
            command = [sys.executable, "-c", PROGRAM, self.url, str(self.marks), how]
            self.process = subprocess.Popen(command, stderr=log, env=environment)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def lines(self) -> list[str]:
        return self.marks.read_text().split() if self.marks.exists() else []

    def ended(self, seconds: float = 20) -> int:
        return self.process.wait(seconds)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(tmp_path, url, number):
    """The running body ends and is recorded, the next one is left to the next owner; the process ends well."""
    with Program(url, tmp_path, "run") as program, Client(program.url) as client:
        until = tmp_path / "until"
        handle = client.start("slow", {"until": str(until), "seconds": 0.5})
        wait_until(lambda: "body" in program.lines(), "the body runs")
        program.process.send_signal(number)
        wait_until(lambda: "draining" in program.log.read_text(), "it drains")
        until.touch()
        assert program.ended() == 0
        assert program.lines() == ["body", "behind", "over"]
        description = handle.describe()
        assert (description.owner, description.crashes) == (None, 0)
        assert [operation.result for operation in handle.operations()][1:] == ['"slept"']


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_draining(tmp_path, url, second):
    """At once, and well: the execution is free for its next owner as soon as the process is gone."""
    with Program(url, tmp_path, "run") as program, Client(program.url) as client:
        handle = client.start("slow", {"seconds": 1000})
        wait_until(lambda: "body" in program.lines(), "the body runs")
        program.process.send_signal(signal.SIGINT)
        wait_until(lambda: "draining" in program.log.read_text(), "it drains")
        assert program.process.poll() is None
        program.process.send_signal(second)
        assert program.ended() == 0
        assert program.lines() == ["body", "over"]
        assert "left to their next owner" in program.log.read_text()
        assert handle.describe().status.value == "RUNNING"


def test_a_worker_may_run_in_any_thread(tmp_path, url):
    """Signals are the main thread's; `stop` from another one ends it, and both wait until it has drained."""
    with Program(url, tmp_path, "thread") as program, Client(program.url) as client:
        client.start("slow", {"seconds": 0.5})
        assert program.ended() == 0
        assert program.lines() == ["body", "behind", "stopped", "over"]


def test_a_process_that_stops_nothing_ends_all_the_same(tmp_path, url):
    """Neither running bodies nor orphans nor open clients keep the interpreter from ending."""
    with Program(url, tmp_path, "leave") as program:
        assert program.ended() == 0
        assert program.lines()[-1] == "over"


def test_an_orphan_keeps_a_stopped_worker_only_for_its_drain_timeout(tmp_path, url):
    """A body that outlives its invocation is waited for, and then left; the process ends."""
    with Program(url, tmp_path, "orphan", drain=0.3) as program:
        began = time.monotonic()
        assert program.ended() == 0
        assert time.monotonic() - began < 15
        assert program.lines() == ["over"]


FORKING = """
import os, sys, threading, warnings
warnings.simplefilter("ignore")
from perdure.adapters.worker import Worker
from perdure.client import Client
from perdure.durable import durable_execution

@durable_execution
def whoami(event, context):
    return context.step(lambda _: os.getpid())

worker = Worker(sys.argv[1], [whoami])
with worker, Client(sys.argv[1]) as client:
    assert client.start(whoami).result(timeout=20) == os.getpid()
    child = os.fork()
    if not child:
        worker.stop()
        worker.start()
        with Client(sys.argv[1]) as own:
            own.start(whoami).result(timeout=20)
        worker.stop()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert client.start(whoami).result(timeout=20) == os.getpid()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_works_for_itself(url):
    """It has none of its parent's threads: the worker is started anew there, and the parent's goes on."""
    command = [sys.executable, "-c", FORKING, url]
    subprocess.run(command, check=True, timeout=60)
