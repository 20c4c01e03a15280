"""What watchers are told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from perdure.storage import Hint, HintKind, SignalKind, Suspend
from perdure.testing.conformance.stage import LEASE, ORDER, SECOND
from perdure.testing.conformance.subject import Conformance

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.testing.conformance.stage import Stage

PATIENCE = 5.0
"""Seconds (of this machine) after which a hint counts as lost."""


class _Watch:
    def __init__(self) -> None:
        self.hints: list[Hint] = []
        self._came = asyncio.Event()

    def __call__(self, hint: Hint) -> None:
        self.hints.append(hint)
        self._came.set()

    async def until(self, fits: Callable[[Hint], bool]) -> Hint:
        async with asyncio.timeout(PATIENCE):
            while True:
                for hint in self.hints:
                    if fits(hint):
                        return hint
                self._came.clear()
                await self._came.wait()


class TestHints(Conformance):
    """
    `watch`, as far as a store tells anything within its own process.

    Hints may get lost; the kit asks that in the quiet of a test the ones below come.
    """

    async def test_due(self, stage: Stage) -> None:
        """What becomes due now is told, with its function: on creation, delivery, resume and reaping."""
        watch = _Watch()
        end = stage.store.watch(watch)

        async def told() -> None:
            hint = await watch.until(lambda hint: hint.kind is HintKind.DUE)
            assert hint.function in (None, ORDER.name)
            assert hint.shard in (None, *range(stage.store.shards))
            watch.hints.clear()

        await stage.create()
        await told()
        holding, await_id = await stage.waiting()
        await holding.write(then=Suspend())
        await stage.deliver(await_id)
        await told()
        await stage.signal(holding.id, SignalKind.PAUSE)
        watch.hints.clear()
        await stage.signal(holding.id, SignalKind.RESUME)
        await told()
        await (await stage.owner()).claim()
        await stage.advance(LEASE)
        await stage.reap()
        await told()
        end()

    async def test_suspended_with_unseen_rows(self, stage: Stage) -> None:
        """So is what becomes due by its owner's own commit."""
        holding = await stage.held()
        await stage.signal(holding.id, SignalKind.PAUSE)
        await stage.signal(holding.id, SignalKind.RESUME)
        watch = _Watch()
        stage.store.watch(watch)
        await holding.write(then=Suspend())
        await watch.until(lambda hint: hint.kind is HintKind.DUE)

    async def test_grew(self, stage: Stage) -> None:
        """That an owned journal grew from outside is told, with its id."""
        holding, await_id = await stage.waiting()
        watch = _Watch()
        stage.store.watch(watch)
        await stage.deliver(await_id)
        await watch.until(lambda hint: hint.kind is HintKind.GREW and hint.id == holding.id)

    async def test_ended(self, stage: Stage) -> None:
        """Every end is told, with its id."""
        watch = _Watch()
        stage.store.watch(watch)
        ended = await stage.ended()
        await watch.until(lambda hint: hint.kind is HintKind.ENDED and hint.id == ended.id)
        stopped = await stage.create()
        await stage.signal(stopped.id, SignalKind.STOP)
        await watch.until(lambda hint: hint.kind is HintKind.ENDED and hint.id == stopped.id)
        late = await stage.create(timeout=SECOND)
        await stage.advance(SECOND)
        await stage.expire()
        await watch.until(lambda hint: hint.kind is HintKind.ENDED and hint.id == late.id)

    async def test_end_of_watching(self, stage: Stage) -> None:
        """Who has stopped watching is told nothing more; others still are."""
        former, watch = _Watch(), _Watch()
        end = stage.store.watch(former)
        stage.store.watch(watch)
        end()
        end()
        await stage.create()
        await watch.until(lambda hint: hint.kind is HintKind.DUE)
        assert former.hints == []
