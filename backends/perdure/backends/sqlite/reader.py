"""The thread that reads: never behind a commit that waits for the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.backends.sqlite.anchor import Anchor
from perdure.backends.sqlite.fault import translate
from perdure.backends.sqlite.lane import Job, Lane
from perdure.backends.sqlite.schema import connect
from perdure.backends.sqlite.transaction import Transaction

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from perdure.backends.sqlite.location import Location


class Reader(Lane):
    """Answers a group of questions from one snapshot, which is younger than all of them."""

    _connection: sqlite3.Connection
    _anchor: Anchor

    def __init__(self, location: Location, clock: Callable[[], int]) -> None:
        super().__init__("reader", location)
        self._clock = clock

    def connect(self) -> None:
        """Make the connection."""
        self._connection = connect(self.location, writes=False)
        self._anchor = Anchor.of(self.location)

    def disconnect(self) -> None:
        """Close the connection."""
        self._connection.close()

    def execute(self, jobs: list[Job[Any]]) -> None:
        """Answer every job."""
        self._anchor.check()
        self._connection.execute("BEGIN")
        try:
            for job in jobs:
                self._do(job)
        finally:
            if self._connection.in_transaction:
                self._connection.execute("COMMIT")

    def _do(self, job: Job[Any]) -> None:
        try:
            job.answer = job.work(Transaction(self._connection, self._clock()))
        except Exception as error:  # noqa: BLE001 - the caller raises it
            job.error = translate(error, self.location.path)
