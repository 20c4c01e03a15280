"""Waiting for executions to end: those of this process tell, others are looked at."""

from __future__ import annotations

import asyncio
import random
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import attrs

from perdure.errors import ExecutionNotFoundError
from perdure.service import reading
from perdure.service.patience import patiently
from perdure.storage import HintKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perdure.journal.fold import Execution
    from perdure.portal import Waiter
    from perdure.service.ownership import Ownership
    from perdure.storage import Hint, Store

LONGEST_LOOK = 5.0
"""Seconds after which the end of an execution is looked for without a hint."""


@attrs.define(eq=False)
class _Audience:
    """
    Those who wait for the end of one execution.

    Attributes:
        waiters: Each is given the execution.
        lookout: Looks for the end in the store, unless the execution runs here.
        woken: There may be something to see.
    """

    waiters: set[Waiter[Execution]] = attrs.field(factory=set)
    lookout: asyncio.Task[None] | None = None
    woken: asyncio.Event = attrs.field(factory=asyncio.Event)


class Endings:
    """
    Who waits for which execution to end.

    What an owner in this process ends is told without a look at the store. Any other execution is looked at when a
    hint comes, and now and then without one. On the store's loop, but for `listen`.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._here: dict[str, Ownership] = {}
        self._audiences: dict[str, _Audience] = {}
        # Held where an audience ends, or an execution leaves: who listens from another thread is of one, and told.
        self._lock = threading.Lock()
        self._lookouts = 0
        self._unwatch: Callable[[], None] = lambda: None

    @contextmanager
    def running(self, ownership: Ownership) -> Iterator[None]:
        """Meanwhile this process runs an execution: it tells the end, or leaves it to others."""
        self._here[ownership.id] = ownership
        try:
            yield
        finally:
            self.leave(ownership)

    def leave(self, ownership: Ownership) -> None:
        """Others own the execution, or it has ended over its owner's head, though code of it may still run here."""
        if self._here.get(ownership.id) is ownership:
            self._depart(ownership.id)
            if ownership.id in self._audiences:
                # What the store has just said to go on need not be looked at now.
                self._look_out(ownership.id, at_once=not ownership.has_let_go)

    def _depart(self, id: str) -> None:
        with self._lock:
            del self._here[id]

    def hear(self, hint: Hint) -> None:
        """Take a hint; a worker of this process passes on those that it gets, so that what it runs is looked at too."""
        if hint.id is None or hint.kind is HintKind.DIED:
            with self._lock:
                audiences = tuple(self._audiences.values())
            for audience in audiences:
                audience.woken.set()
            return
        owner = self._here.get(hint.id)
        if hint.kind is HintKind.ENDED and owner is not None and not owner.is_ending:
            # Somebody else ended it: its owner here will not tell, neither now nor those who come to wait later.
            self._depart(hint.id)
        if hint.kind is HintKind.ENDED and hint.id in self._audiences and hint.id not in self._here:
            self._look_out(hint.id)

    def tell(self, execution: Execution) -> None:
        """It has ended, durably."""
        with self._lock:
            audience = self._audiences.pop(execution.id, None)
        if audience is None:
            return
        if audience.lookout is not None:
            audience.lookout.cancel()
        for waiter in audience.waiters:
            if not waiter.done():
                waiter.set_result(execution)

    async def look(self, id: str) -> Execution | None:
        """
        The execution if it has ended, None if it goes on, as far as the store knows.

        Raises:
            ExecutionNotFoundError: There is none of that id.
        """
        header = await patiently(lambda: self._store.describe(id))
        if header is None:
            raise ExecutionNotFoundError(f"no execution has the id {id!r}; its retention may be over")
        return await reading.load(self._store, id) if header.status.is_end else None

    @property
    def running_here(self) -> int:
        """How many executions this process runs; from any thread."""
        return len(self._here)

    def is_here(self, id: str) -> bool:
        """Whether this process runs an execution, and will tell of its end."""
        return id in self._here

    def wait(self, id: str, waiter: Waiter[Execution], *, at_once: bool = True) -> None:
        """
        Have the execution told, once it has ended, or the error because of which that cannot be known.

        Args:
            id: The execution's.
            waiter: Is told.
            at_once: Look whether it has ended already; else the caller does, after its loop's next turn.
        """
        with self._lock:
            self._join(id, waiter)
        if id not in self._here:
            self._look_out(id, at_once=at_once)

    def listen(self, id: str, waiter: Waiter[Execution]) -> bool:
        """As `wait`, from any thread, for an execution that this process runs; False if it does not."""
        with self._lock:
            if id not in self._here:
                return False
            self._join(id, waiter)
            return True

    def _join(self, id: str, waiter: Waiter[Execution]) -> None:
        self._audiences.setdefault(id, _Audience()).waiters.add(waiter)

    def forget(self, id: str, waiter: Waiter[Execution]) -> None:
        """Who was to be told waits no more."""
        with self._lock:
            audience = self._audiences.get(id)
            if audience is None or waiter not in audience.waiters:
                return
            audience.waiters.remove(waiter)
            if audience.waiters:
                return
            del self._audiences[id]
        if audience.lookout is not None:
            audience.lookout.cancel()

    # ------------------------------------------------------------------------------------------------- looking out

    def _look_out(self, id: str, *, at_once: bool = True) -> None:
        audience = self._audiences[id]
        if at_once:
            audience.woken.set()
        if audience.lookout is None:
            audience.lookout = asyncio.create_task(self._find_end(id, audience))

    async def _find_end(self, id: str, audience: _Audience) -> None:
        if not self._lookouts:
            self._unwatch = self._store.watch(self.hear)
        self._lookouts += 1
        try:
            ended = await self._ended(id, audience.woken)
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            # Whoever comes now has to look anew.
            with self._lock:
                if self._audiences.get(id) is audience:
                    del self._audiences[id]
            for waiter in tuple(audience.waiters):
                if not waiter.done():
                    waiter.set_exception(error)
        else:
            audience.lookout = None
            self.tell(ended)
        finally:
            self._lookouts -= 1
            if not self._lookouts:
                self._unwatch()

    async def _ended(self, id: str, woken: asyncio.Event) -> Execution:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LONGEST_LOOK * random.uniform(0.8, 1.2)):  # noqa: S311 - spreads them
                    await woken.wait()
            woken.clear()
            # What has come back here meanwhile is told of, or leaves again.
            if id not in self._here and (ended := await self.look(id)) is not None:
                return ended
