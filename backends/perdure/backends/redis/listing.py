"""Lists, merged over the shards."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import attrs

from perdure.backends.redis import record
from perdure.storage import Status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from perdure.storage import Header, Query

    Ask = Callable[[int, Sequence[str | int]], Awaitable[Any]]

LEAST_LOOKS, MOST_LOOKS = 100, 1000
"""Executions that one script looks at."""


@attrs.define
class _Stream:
    """What one shard answers to a query, page by page."""

    ask: Ask
    shard: int
    query: Query
    cursor: tuple[int, str] | None
    headers: list[Header] = attrs.field(factory=list)
    is_over: bool = False

    async def fill(self) -> None:
        """Have a header at hand, unless there is none left."""
        while not self.headers and not self.is_over:
            flat, at, id = await self.ask(self.shard, _arguments(self.query, self.cursor))
            self.headers = [record.header(item) for item in flat]
            self.is_over = at == b""
            if not self.is_over:
                self.cursor = at, id.decode()


async def list_executions(ask: Ask, shards: int, query: Query) -> list[Header]:
    """The first `limit` executions of a query, whichever shards they are in."""
    streams = [_Stream(ask, shard, query, query.cursor) for shard in range(shards)]
    found: list[Header] = []
    while len(found) < query.limit:
        await asyncio.gather(*(stream.fill() for stream in streams if not stream.headers and not stream.is_over))
        streams = [stream for stream in streams if stream.headers]
        if not streams:
            break
        choose = min if query.oldest_first else max
        stream = choose(streams, key=lambda stream: (stream.headers[0].created, stream.headers[0].id))
        found.append(stream.headers.pop(0))
    return found


def answers(header: Header, query: Query) -> bool:
    """Whether an execution that was found by its name is one that a query asks for."""
    key = header.created, header.id
    return (
        query.version in (None, header.version)
        and (not query.statuses or header.status in query.statuses)
        and (query.created_after is None or header.created > query.created_after)
        and (query.created_before is None or header.created < query.created_before)
        and (query.cursor is None or (key > query.cursor if query.oldest_first else key < query.cursor))
    )


def _arguments(query: Query, cursor: tuple[int, str] | None) -> list[str | int]:
    statuses = [status.value for status in query.statuses or Status]
    return [
        "oldest" if query.oldest_first else "newest",
        "-inf" if query.created_after is None else f"({query.created_after}",
        "+inf" if query.created_before is None else f"({query.created_before}",
        *(("", "") if cursor is None else cursor),
        query.limit,
        min(max(query.limit, LEAST_LOOKS), MOST_LOOKS),
        *_filter(query.version),
        *_filter(query.name),
        len(statuses),
        *statuses,
        *(() if query.function is None else (query.function,)),
    ]


def _filter(value: str | None) -> tuple[str, str]:
    return ("", "") if value is None else ("1", value)
