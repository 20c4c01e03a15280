"""The thread that writes: everything queued goes into one transaction, made durable by one sync of the disk."""

from __future__ import annotations

import sqlite3
import time
from contextlib import suppress
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
    from collections.abc import Callable, Sequence

    from perdure.backends.sqlite.lane import Post
    from perdure.backends.sqlite.leasing import Leasing
    from perdure.backends.sqlite.location import Location
    from perdure.bell import Bell
    from perdure.portal import Waiter
    from perdure.storage import Commit, CommitAnswer

POLL = 0.025
"""Seconds between two looks at what other processes have written; only while somebody watches."""

LAZY_POLL = 0.1
"""The same once they have written nothing for a while: each look wakes a thread, and often a processor."""

ATTENTION = 2.0
"""Seconds for which that has to be so."""

DEATH_POLL = 0.1
"""Seconds between two looks at the locks of other processes' owners."""

DEATH_REPEAT = 1.0
"""Seconds after which a death is told of again, if nobody has reaped it."""

NEWS = 200
"""At most how many rows of other processes are told of one by one."""


@attrs.define(eq=False)
class Posted(Job["CommitAnswer"]):
    """A commit that somebody waits for who may be on no loop, and is told by the thread that writes."""

    commit: Commit
    waiter: Waiter[CommitAnswer]

    @classmethod
    def of(cls, posted: Commit, waiter: Waiter[CommitAnswer]) -> Posted:
        """That commit as a job."""
        return cls(lambda work: commit(work, [posted])[0], posted, waiter)

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
        self._next_poll = self._next_death_poll = self._attentive_until = 0.0
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
            self._begin()
            done = self._do_all(jobs)
            self._anchor.check()
            self._connection.execute("COMMIT")
        except (sqlite3.Error, StoreError) as error:
            for job in jobs:
                job.error = translate(error, self.location.path)
            return
        finally:
            # Whatever ended it: the next transaction must find none, and other processes the file free.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        self.transactions += 1
        self.verbs += len(jobs)
        self._follow(done)
        self._tell()

    def _begin(self) -> None:
        def begin() -> None:
            self._connection.execute("BEGIN IMMEDIATE")

        persist(begin, self.location.busy_timeout, lambda: self.closing)

    def _do_all(self, jobs: Sequence[Job[Any]]) -> list[Transaction]:
        """One after the other; savepoints around them would cost more than to begin anew where one fails."""
        posted = [job for job in jobs if isinstance(job, Posted)]
        others = [job for job in jobs if not isinstance(job, Posted)]
        try:
            return [self._do_posted(posted), *(self._do(job) for job in others)]
        except Exception as error:
            if _concerns_all(error):
                raise
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self._begin()
        return [work for job in jobs if (work := self._do_apart(job))]

    def _do_posted(self, posted: Sequence[Posted]) -> Transaction:
        """All of these as one batch."""
        work = Transaction(self._connection, self._clock())
        answers = commit(work, [job.commit for job in posted])
        for job, answer in zip(posted, answers, strict=True):
            job.answer = answer
        return work

    def _do(self, job: Job[Any]) -> Transaction:
        work = Transaction(self._connection, self._clock())
        job.answer = job.work(work)
        return work

    def _do_apart(self, job: Job[Any]) -> Transaction | None:
        """The same, so that nothing stays of a verb that fails, and others do not suffer."""
        self._connection.execute("SAVEPOINT verb")
        work = None
        try:
            work = self._do(job)
        except Exception as error:
            if _concerns_all(error):
                raise
            self._connection.execute("ROLLBACK TO verb")
            job.error = translate(error, self.location.path)
        self._connection.execute("RELEASE verb")
        return work

    def _follow(self, done: Sequence[Transaction]) -> None:
        """Gather what is to be told of a transaction, and of what others have written before it."""
        for work in done:
            self._hints += work.hints
        appended = sum(work.appended for work in done)
        if appended:
            # What one transaction appends has positions that follow one another.
            last = max(work.position for work in done)
            with suppress(sqlite3.Error):  # only hints are lost
                self._notice_rows(last - appended)
            self._position = last

    # -------------------------------------------------------------------------------------------- other processes

    def pause(self) -> float | None:
        """While somebody watches, other processes are looked at now and then."""
        if not self._bell:
            return None
        return POLL if time.monotonic() < self._attentive_until else LAZY_POLL

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
            self._notice_transactions(now)
            if now >= self._next_death_poll:
                self._next_death_poll = now + DEATH_POLL
                self._notice_deaths(now)
        except sqlite3.Error:
            # Only hints are lost, and the next verb tells its caller what is wrong.
            self._version = None
        self._tell()

    def _tell(self) -> None:
        self._bell.ring(self._hints, self.post.add)
        self._hints.clear()

    def _notice_transactions(self, now: float) -> None:
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            self._attentive_until = now + ATTENTION
            self._notice_rows(self._last_position())
        if self._version is not None and version != self._version:
            self._hints.append(Hint(HintKind.DUE, shard=0))
        self._version = version

    def _notice_rows(self, last: int) -> None:
        """Others have written the rows between the last position known here and this one."""
        first, self._position = self._position, last
        if last <= first or not self._bell:
            return
        if self._version is None:
            # Somebody has just begun to watch, and may have looked before this was written.
            self._hints.append(Hint(HintKind.DUE, shard=0))
            return
        for id, function, status in self._connection.execute(JOURNAL["grown"], (first, last, NEWS)):
            kind = HintKind.GREW if status == "RUNNING" else HintKind.ENDED
            self._hints.append(Hint(kind, id, function, 0))

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


def _concerns_all(error: Exception) -> bool:
    return isinstance(error, sqlite3.Error) and not is_data_error(error)
