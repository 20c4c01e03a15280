"""The demo: a worker is killed in the midst of an order, another one goes on, and it is counted what ran how often."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import click

from perdure.adapters.cli import document, order, report, shop
from perdure.adapters.cli.option import as_json as with_json
from perdure.adapters.cli.option import console
from perdure.adapters.cli.outcome import ExitCode
from perdure.adapters.cli.stage import Stage, stage
from perdure.adapters.ephemeral import PostgresServer, RedisServer, ValkeyServer
from perdure.client import Client
from perdure.errors import DurableExecutionsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from perdure.adapters.ephemeral import Server
    from perdure.client import Handle
    from perdure.model import Operation

ARTICLES = ("chair", "lamp", "desk")
CUT_OFF = "pack lamp"
OWN_SERVERS: Mapping[str, type[Server]] = {"postgres": PostgresServer, "redis": RedisServer, "valkey": ValkeyServer}
PATIENCE = 60.0
GLANCE = 0.05
LEASE = "5"


class DemoError(DurableExecutionsError):
    """The demo could not be brought to its end."""


@click.command()
@click.option(
    "--backend",
    metavar="|".join([*OWN_SERVERS, "URL"]),
    help="Where to keep the execution, instead of a temporary SQLite file: a server started for the demo, or a URL.",
)
@with_json
def demo(backend: str | None, as_json: bool) -> ExitCode:
    """
    Show that an order survives the death of its worker.

    Starts an order, kills its worker half way, lets another one finish it, and reports which steps ran how often,
    counted outside of Perdure. Takes a few seconds.
    """
    if backend is not None and backend.startswith("memory:"):
        raise click.UsageError("the demo's workers are processes of their own; memory:// is private to each of them")
    with tempfile.TemporaryDirectory(prefix="perdure-demo-") as folder:
        os.environ[shop.FOLDER] = folder
        with stage(silent=as_json) as scene, _place(backend, folder, scene) as url, Client(url) as client:
            found = _Rehearsal(client, url, scene).play()
    if as_json:
        click.echo(document.text(found.document()))
    else:
        console().print(found.picture())
    return ExitCode.OK if found.holds else ExitCode.ENDED_OTHERWISE


@contextmanager
def _place(backend: str | None, folder: str, scene: Stage) -> Iterator[str]:
    """The URL of what was asked for; a server that is started for it ends with the demo."""
    if backend is None:
        yield f"sqlite:///{Path(folder).as_posix()}/perdure.db"
    elif backend in OWN_SERVERS:
        with OWN_SERVERS[backend]() as server:
            scene.tell(f"{backend} (process {server.pid}) is started for the demo")
            yield server.url
    else:
        yield backend


class _Worker:
    """A worker process, and its log."""

    def __init__(self, number: int, url: str) -> None:
        self.number = number
        self._log = shop.folder() / f"worker-{number}.log"
        command = [sys.executable, "-m", "perdure.adapters.cli", "worker", order.__name__, "--backend", url]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen([*command, "--lease", LEASE], stdout=log, stderr=log)  # noqa: S603 - ourselves

    def __str__(self) -> str:
        return f"worker {self.number} (process {self.process.pid})"

    def kill(self) -> None:
        """SIGKILL: it gets no chance to say anything."""
        self.process.kill()
        self.process.wait()

    def drain(self) -> None:
        """SIGTERM: it lets go of everything and ends."""
        self.process.terminate()
        self.process.wait(PATIENCE)

    def check(self) -> None:
        """Complain if it has ended by itself."""
        if self.process.poll() is not None:
            log = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise DemoError(f"{self} ended with {self.process.returncode}: {log[-1] if log else 'no word'}")


class _Rehearsal:
    """One performance of the demo."""

    def __init__(self, client: Client, url: str, scene: Stage) -> None:
        self._client = client
        self._url = url
        self._scene = scene
        self._workers: list[_Worker] = []

    def play(self) -> report.Report:
        """From the order to the report; leaves no process behind."""
        shop.jam(CUT_OFF)
        begun = time.monotonic()
        handle = self._start()
        try:
            self._first_worker(handle)
            self._second_worker(handle)
            seconds = time.monotonic() - begun
            self._workers[-1].drain()
        finally:
            for worker in self._workers:
                worker.kill()
        return report.Report(
            execution=handle.describe(),
            events=handle.history(),
            steps=report.runs(shop.ledger(), {worker.process.pid: worker.number for worker in self._workers}),
            cut_off=CUT_OFF,
            seconds=seconds,
        )

    def _start(self) -> Handle[Any]:
        bought = {"order": "o-17", "card": "4000-0000-0000-0002", "amount": 25_900, "lines": list(ARTICLES)}
        with warnings.catch_warnings():
            # The workers come later, which is what is warned of.
            warnings.simplefilter("ignore")
            handle = self._client.start(order.order, bought, name=f"demo-{token_hex(4)}")
        self._scene.tell(f"order o-17 is started: execution {handle.name}")
        return handle

    def _first_worker(self, handle: Handle[Any]) -> None:
        worker = self._hire()
        others = {f"pack {article}" for article in ARTICLES} - {CUT_OFF}

        def is_half_way(operations: Sequence[Operation]) -> bool:
            recorded = {operation.name for operation in operations if operation.is_terminal}
            return others <= recorded and any(note.what == CUT_OFF for note in shop.ledger())

        self._follow(handle, worker, is_half_way, f"step {CUT_OFF!r} was begun")
        worker.kill()
        self._scene.tell(f"{worker} is killed with SIGKILL, in the midst of step {CUT_OFF!r}")
        shop.jam(None)

    def _second_worker(self, handle: Handle[Any]) -> None:
        worker = self._hire()
        self._follow(handle, worker, lambda _: shop.letter() is not None, "the manager was asked")
        self._scene.tell("the manager has a letter, and approves: the callback is completed")
        self._client.send_callback_success(shop.letter() or "", "approved")
        self._follow(handle, worker, lambda _: handle.describe().ended is not None, "the order has ended")

    def _hire(self) -> _Worker:
        worker = _Worker(len(self._workers) + 1, self._url)
        self._workers.append(worker)
        self._scene.tell(f"{worker} is started")
        return worker

    def _follow(
        self, handle: Handle[Any], worker: _Worker, reached: Callable[[Sequence[Operation]], bool], what: str
    ) -> None:
        """Show the execution's progress until something is reached."""
        limit = time.monotonic() + PATIENCE
        while True:
            operations = handle.operations()
            self._scene.follow(operations)
            if reached(operations):
                return
            worker.check()
            # What was read before `reached` was asked: an end that came later is looked at the next time.
            if operations[0].is_terminal:
                raise DemoError(f"the order ended as {operations[0].status.value} before {what}: {_told(handle)}")
            if time.monotonic() > limit:
                raise DemoError(f"after {PATIENCE:.0f} s it was still not so that {what}")
            time.sleep(GLANCE)


def _told(handle: Handle[Any]) -> str:
    error = handle.describe().error
    return f"{error.type}: {error.message}" if error else "without an error"
