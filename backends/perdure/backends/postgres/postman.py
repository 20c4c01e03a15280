"""Emptying the inbox, where callbacks wait that were completed within an application's own transaction."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, TypeVar

from perdure.backends.postgres import awaiting
from perdure.errors import StoreError
from perdure.storage import Answer

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from perdure.backends.postgres.awaiting import Delivery
    from perdure.backends.postgres.lane import Lane
    from perdure.backends.postgres.record import Call
    from perdure.backends.postgres.statement import Library

Result = TypeVar("Result")

POST = 100
"""Deliveries that are taken out of the inbox at once."""


class Ask(Protocol):
    """What sends a statement."""

    def __call__(self, call: Call[Result]) -> Awaitable[Result]:
        """Its answer."""


class Postman:
    """Takes what is in the inbox to the executions; several processes' may at once, as each delivery has its nonce."""

    def __init__(self, library: Library, ask: Ask, deliveries: Lane[Delivery, Answer]) -> None:
        self._library = library
        self._ask = ask
        self._deliveries = deliveries
        self._turn = asyncio.Lock()
        self.rounds: set[asyncio.Task[None]] = set()

    def send(self) -> None:
        """Somebody has told of the inbox: have it emptied soon."""
        # A round that still waits for its turn will see what is told of now.
        if len(self.rounds) < 2:  # noqa: PLR2004 - one at work, one that waits
            task = asyncio.create_task(self._round())
            self.rounds.add(task)
            task.add_done_callback(self.rounds.discard)

    async def close(self) -> None:
        """End all rounds."""
        for task in self.rounds:
            task.cancel()
        await asyncio.gather(*self.rounds, return_exceptions=True)

    async def _round(self) -> None:
        # Nobody waits for this: what is left there, the next `expire` delivers.
        with suppress(StoreError):
            async with self._turn:
                await self.empty()

    async def empty(self) -> None:
        """Deliver all there is."""
        after = 0
        while posted := await self._ask(awaiting.posted(self._library, after, POST)):
            submit = self._deliveries.submit
            answers = await asyncio.gather(*(submit(delivery) for _, delivery in posted), return_exceptions=True)
            # What is locked by others stays there, and holds up neither the rest nor deadlines.
            done = [place for (place, _), answer in zip(posted, answers, strict=True) if isinstance(answer, Answer)]
            await self._ask(awaiting.discard(self._library, done))
            after = posted[-1][0]
            for answer in answers:
                if isinstance(answer, BaseException) and not isinstance(answer, StoreError):
                    raise answer
            if len(posted) < POST:
                return
