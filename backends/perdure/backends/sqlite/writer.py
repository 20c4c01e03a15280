"""The thread that writes: everything queued goes into one transaction, made durable by one sync of the disk."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING, Any

import attrs

from perdure.backends.sqlite.anchor import Anchor
from perdure.backends.sqlite.fault import UnstorableError, is_data_error, translate
from perdure.backends.sqlite.journaling import commit
from perdure.backends.sqlite.lane import Job, Lane
from perdure.backends.sqlite.schema import connect, persist
from perdure.backends.sqlite.transaction import JOURNAL, Transaction
from perdure.errors import StoreError
from perdure.storage import Hint, HintKind, Rejected

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.backends.sqlite.lane import Post
    from perdure.backends.sqlite.leasing import Leasing
    from perdure.backends.sqlite.location import Location
    from perdure.bell import Bell
    from perdure.portal import Waiter
    from perdure.storage import Commit, CommitAnswer

POLL = 0.025
"""Seconds between two looks at what other processes have written; only while somebody watches."""

DEATH_POLL = 0.1
"""Seconds between two looks at the locks of other processes' owners."""

DEATH_REPEAT = 1.0
"""Seconds after which a death is told of again, if nobody has reaped it."""

NEWS = 200
"""At most how many rows of other processes are told of one by one."""


@attrs.define(eq=False)
class Posted(Job["CommitAnswer"]):
    """A commit that somebody waits for who may be on no loop, and is told by the writer itself."""

    waiter: Waiter[CommitAnswer]

    @classmethod
    def of(cls, posted: Commit, waiter: Waiter[CommitAnswer]) -> Posted:
        """That commit as a job."""
        return cls(lambda work: commit(work, [posted])[0], waiter)

    def report(self, post: Post) -> None:  # noqa: ARG002 - as inherited
        """As inherited."""
        if self.waiter.done():
            return
        if isinstance(self.error, UnstorableError):
            self.waiter.set_result(Rejected(str(self.error)))
        elif self.error is not None:
            self.waiter.set_exception(self.error)
        elif self.answer is not None:
            self.waiter.set_result(self.answer)


class Writer(Lane):
    """
    Executes a group of verbs in one transaction, each under a savepoint of its own.

    It is also the one who notices what other processes do: its connection's data version changes with their
    transactions only, and the journal's last position tells their rows from its own.

    Attributes:
        transactions: How many were committed.
        verbs: How many they held.
    """

    _connection: sqlite3.Connection
    _anchor: Anchor

    def __init__(self, location: Location, clock: Callable[[], int], bell: Bell, leasing: Leasing) -> None:
        super().__init__("writer", location)
        self._clock = clock
        self._bell = bell
        self._leasing = leasing
        self._hints: list[Hint] = []
        self._version: int | None = None
        self._position = 0
        self._next_poll = self._next_death_poll = 0.0
        self._told_dead: dict[str, float] = {}
        self.transactions = 0
        self.verbs = 0

    def connect(self) -> None:
        """Make the connection, bring the schema to this version, and remove what dead owners left."""
        self._connection = connect(self.location, writes=True)
        try:
            persist(self._sweep, self.location.busy_timeout)
        except BaseException:
            self._connection.close()
            raise
        self._position = self._last_position()
        self._anchor = Anchor.of(self.location)

    def _sweep(self) -> None:
        self._leasing.bury(self._leasing.sweep(self._reading()))

    def disconnect(self) -> None:
        """Close the connection."""
        self._connection.close()

    def check(self) -> None:
        """Raise `StoreError` if the files were removed or replaced since they were opened; from any thread."""
        self._anchor.check()

    # ------------------------------------------------------------------------------------------------------ verbs

    def execute(self, jobs: list[Job[Any]]) -> None:
        """Do all jobs in one transaction."""
        try:
            persist(self._begin, self.location.busy_timeout, lambda: self.closing)
            if self._bell:
                self._notice_rows()
            for job in jobs:
                self._do(job, is_alone=len(jobs) == 1)
            self._position = self._last_position()
            self._anchor.check()
            if self._connection.in_transaction:
                self._connection.execute("COMMIT")
        except (sqlite3.Error, StoreError) as error:
            self._fail(jobs, error)
            return
        self.transactions += 1
        self.verbs += len(jobs)
        self._bell.ring(self._hints, self.post.add)
        self._hints.clear()

    def _begin(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def _do(self, job: Job[Any], *, is_alone: bool) -> None:
        # A verb that is alone needs no savepoint: if it fails, nothing of the transaction stays.
        if not is_alone:
            self._connection.execute("SAVEPOINT verb")
        work = Transaction(self._connection, self._clock())
        try:
            job.answer = job.work(work)
        except Exception as error:
            if isinstance(error, sqlite3.Error) and not is_data_error(error):
                raise
            self._connection.execute("ROLLBACK" if is_alone else "ROLLBACK TO verb")
            job.error = translate(error, self.location.path)
        else:
            self._hints += work.hints
        if not is_alone:
            self._connection.execute("RELEASE verb")

    def _fail(self, jobs: list[Job[Any]], error: Exception) -> None:
        self._hints.clear()
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        for job in jobs:
            job.error = translate(error, self.location.path)

    # -------------------------------------------------------------------------------------------- other processes

    def pause(self) -> float | None:
        """While somebody watches, other processes are looked at now and then."""
        return POLL if self._bell else None

    def idle(self) -> None:
        """Look at other processes, if it is time."""
        if not self._bell:
            self._version = None
            return
        now = time.monotonic()
        if now < self._next_poll:
            return
        self._next_poll = now + POLL
        try:
            self._notice_transactions()
            if now >= self._next_death_poll:
                self._next_death_poll = now + DEATH_POLL
                self._notice_deaths(now)
        except sqlite3.Error:
            # Only hints are lost, and the next verb tells its caller what is wrong.
            self._version = None
        self._bell.ring(self._hints, self.post.add)
        self._hints.clear()

    def _notice_transactions(self) -> None:
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            self._notice_rows()
        if self._version is not None and version != self._version:
            self._hints.append(Hint(HintKind.DUE, shard=0))
        self._version = version

    def _notice_rows(self) -> None:
        last = self._last_position()
        if last > self._position and self._version is None:
            # Somebody has just begun to watch, and may have looked before this was written.
            self._hints.append(Hint(HintKind.DUE, shard=0))
        elif last > self._position:
            for id, function, status in self._connection.execute(JOURNAL["grown"], (self._position, NEWS)):
                kind = HintKind.GREW if status == "RUNNING" else HintKind.ENDED
                self._hints.append(Hint(kind, id, function, 0))
        self._position = last

    def _notice_deaths(self, now: float) -> None:
        dead = self._leasing.dead_peers(self._reading())
        self._told_dead = {owner: at for owner, at in self._told_dead.items() if owner in dead}
        for owner in dead:
            if now >= self._told_dead.get(owner, 0.0) + DEATH_REPEAT:
                self._told_dead[owner] = now
                self._hints.append(Hint(HintKind.DIED, shard=0))

    def _last_position(self) -> int:
        (position,) = self._connection.execute(JOURNAL["last_position"]).fetchone()
        return position or 0

    def _reading(self) -> Transaction:
        return Transaction(self._connection, self._clock())
