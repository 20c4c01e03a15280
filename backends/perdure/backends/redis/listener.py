"""Hearing what other processes have rung."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

from perdure.backends.redis.fault import translate
from perdure.backends.redis.peal import rung
from perdure.errors import StoreError
from perdure.storage import Hint, HintKind

if TYPE_CHECKING:
    from perdure.backends.redis.fleet import Fleet
    from perdure.backends.redis.keyspace import Keyspace
    from perdure.backends.redis.node import Node
    from perdure.bell import Bell

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 5.0


class Listener:
    """
    Listens to one channel per shard, at the servers that keep them.

    Hints may get lost at any time; whenever listening begins, there is a bare one that says so.
    """

    def __init__(self, fleet: Fleet, keyspace: Keyspace, bell: Bell, caller: str, connect_timeout: float) -> None:
        self._fleet = fleet
        self._bell = bell
        self._caller = caller.encode()
        self._connect_timeout = connect_timeout
        self._shards = {f"{key}:bell": shard for shard, key in enumerate(keyspace.layout_keys)}
        self._keys = dict(zip(self._shards, keyspace.layout_keys, strict=True))
        self._task: asyncio.Task[None] | None = None
        self.connections = 0

    def begin(self) -> None:
        """Listen, if nobody does yet."""
        if self._task is None:
            self._task = asyncio.create_task(self._listen_always())

    async def close(self) -> None:
        """Listen no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    async def _listen_always(self) -> None:
        pause = FIRST_PAUSE
        while True:
            heard = self.connections
            try:
                await self._listen()
            except (StoreError, ResponseError) as error:
                logger.info("hints are not heard: %s", error)
            except Exception:
                logger.exception("hints are not heard")
            pause = FIRST_PAUSE if self.connections > heard else min(2 * pause, LONGEST_PAUSE)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads processes, no secret

    async def _listen(self) -> None:
        """Listen at all servers until something is wrong with one of them."""
        await self._fleet.settle()
        places: dict[Node, list[str]] = {}
        for channel, key in self._keys.items():
            places.setdefault(self._fleet.keeper(key), []).append(channel)
        tasks = [asyncio.create_task(self._listen_at(node, channels)) for node, channels in places.items()]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def _listen_at(self, node: Node, channels: list[str]) -> None:
        connection = node.connection()
        try:
            async with asyncio.timeout(self._connect_timeout):
                await connection.connect()  # type: ignore[no-untyped-call]
                for channel in channels:
                    await connection.send_command("SSUBSCRIBE", channel, check_health=False)
                confirmed = 0
                while confirmed < len(channels):
                    message = await connection.read_response(disable_decoding=True)
                    confirmed += message[0] == b"ssubscribe"
                    self._hear(message)
            self.connections += 1
            for channel in channels:
                self._bell.ring([Hint(HintKind.DUE, shard=self._shards[channel])])
            while True:
                message = await connection.read_response(disable_decoding=True)
                if not self._hear(message):
                    return
        except Exception as error:
            raise translate(error, node.place) from error
        finally:
            with suppress(Exception):
                await connection.disconnect(nowait=True)

    def _hear(self, message: list[bytes]) -> bool:
        """Pass a message on; whether there may be more."""
        kind, channel, *rest = message
        if kind == b"sunsubscribe":
            # The slot is at another server now.
            self._fleet.doubt()
            return False
        if kind != b"smessage":
            return True
        caller, _, text = rest[0].partition(b"\n")
        if caller != self._caller:
            self._bell.ring(rung(text, self._shards[channel.decode()]))
        return True
