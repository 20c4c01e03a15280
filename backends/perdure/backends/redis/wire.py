"""Scripts, carried to where their shard is and carried there again when it has moved."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import attrs
from redis.exceptions import AskError, ClusterDownError, MovedError, NoScriptError, ResponseError

from perdure.backends.redis.fault import is_moving, translate
from perdure.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from perdure.backends.redis.fleet import Fleet
    from perdure.backends.redis.keyspace import Keyspace
    from perdure.backends.redis.lane import Command, Lane
    from perdure.backends.redis.node import Node
    from perdure.backends.redis.script import Script

ATTEMPTS = 6
FIRST_PAUSE = 0.01
BULK = 65_536
"""Bytes from which on a command takes the lane for what is large."""


@attrs.define(eq=False)
class Call:
    """
    One run of a script, or a plain command on a key, in one shard.

    Attributes:
        script: Or None for a plain command, which `arguments` then is, whole.
        keys: The keys it touches as far as they can be named, without what all names of the shard begin with.
        is_bulk: Whether its arguments or its reply are large.
    """

    shard: int
    script: Script | None
    arguments: Sequence[str | bytes | int]
    keys: Iterable[str] = ()
    is_bulk: bool = False
    is_unknown: bool = False
    asked: Node | None = None
    reply: Any = None


class Wire:
    """
    Runs scripts.

    Args:
        settle: Awaited before a shard is used whose server is not on the history that was known.
        caller: What the scripts are told to be called by.
    """

    def __init__(
        self, fleet: Fleet, keyspace: Keyspace, settle: Callable[[int, Node], Awaitable[None] | None], caller: str
    ) -> None:
        self._fleet = fleet
        self._keyspace = keyspace
        self._settle = settle
        self._caller = caller
        self._is_cluster = fleet.is_cluster

    async def run(self, call: Call, *, is_checked: bool = True) -> Any:
        """The reply to one call. Raises `StoreError`."""
        await self.run_all((call,), is_checked=is_checked)
        return call.reply

    async def run_all(self, calls: Sequence[Call], *, is_checked: bool = True) -> None:
        """
        Carry out calls, those of each server in one round trip, and put the replies into them.

        Raises:
            StoreError: One of them failed; what became of the others is not told.
        """
        try:
            await self._run_all(calls, is_checked=is_checked)
        except Exception as error:
            raise translate(error, self._fleet.place) from error

    async def _run_all(self, calls: Sequence[Call], *, is_checked: bool) -> None:
        await self._fleet.settle()
        pause = FIRST_PAUSE
        for attempt in range(ATTEMPTS):
            calls, error, is_late = await self._attempt(calls, is_checked=is_checked)
            if not calls:
                return
            if attempt == ATTEMPTS - 1:
                raise error or StoreError("no error, yet not done")
            if is_late:
                await asyncio.sleep(pause)
                pause *= 2
                await self._fleet.refresh()

    async def _attempt(self, calls: Sequence[Call], *, is_checked: bool) -> tuple[list[Call], Exception | None, bool]:
        """Carry out calls; those to be carried out again, why, and whether that had better be a little later."""
        groups: dict[Lane, list[Call]] = {}
        for call in calls:
            node = call.asked or self._fleet.keeper(self._keyspace.layout_keys[call.shard])
            lane = node.bulk if call.is_bulk else node.main
            if not lane.is_ready:
                await lane.ready()
            if is_checked and (settling := self._settle(call.shard, node)) is not None:
                await settling
            groups.setdefault(lane, []).append(call)
        exchanges = [self._exchange(lane, some) for lane, some in groups.items()]
        failed = [await exchanges[0]] if len(exchanges) == 1 else await asyncio.gather(*exchanges)
        again: list[Call] = []
        error: Exception | None = None
        is_late = False
        for call, reply, place in (item for items in failed for item in items):
            error = translate(reply, place)
            is_late = self._prepare_again(call, reply, error) or is_late
            again.append(call)
        return again, error, is_late

    def _prepare_again(self, call: Call, reply: ResponseError, error: Exception) -> bool:
        """Make ready to try again, or raise `error`; whether to wait a little before."""
        call.asked = None
        layout_key = self._keyspace.layout_keys[call.shard]
        if isinstance(reply, NoScriptError):
            call.is_unknown = True
            return False
        if isinstance(reply, MovedError):
            self._fleet.redirect(layout_key, f"{reply.host}:{reply.port}")
            return False
        if isinstance(reply, AskError):
            call.asked = self._fleet.at(f"{reply.host}:{reply.port}")
            return False
        if is_moving(reply) or (self._is_cluster and isinstance(reply, ClusterDownError)):
            return True
        raise error

    async def _exchange(self, lane: Lane, calls: list[Call]) -> list[tuple[Call, ResponseError, str]]:
        commands: list[Command] = []
        for call in calls:
            if call.asked is not None:
                commands.append(("ASKING",))
            commands.append(self._command(call))
        replies = iter(await lane.exchange(commands))
        failed = []
        for call in calls:
            if call.asked is not None:
                next(replies)
            call.reply = reply = next(replies)
            if isinstance(reply, ResponseError):
                failed.append((call, reply, lane.place))
        return failed

    def _command(self, call: Call) -> Command:
        if call.script is None:
            return call.arguments
        first = self._keyspace.layout_keys[call.shard]
        if call.is_unknown:
            name, what = "EVAL", call.script.text
        else:
            name, what = "EVALSHA", call.script.sha
        if not self._is_cluster:
            return (name, what, 1, first, self._caller, *call.arguments)
        keys = dict.fromkeys((first, *(f"{first}:{key}" for key in call.keys)))
        return (name, what, len(keys), *keys, self._caller, *call.arguments)
