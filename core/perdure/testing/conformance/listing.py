"""What can be seen of executions, and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from perdure.storage import Answer, Header, Page, Query, SignalKind, Status
from perdure.testing.conformance.stage import RETENTION, SECOND
from perdure.testing.conformance.subject import Conformance

if TYPE_CHECKING:
    from perdure.testing.conformance.stage import Stage


class TestListing(Conformance):
    """`list`."""

    async def test_order(self, stage: Stage) -> None:
        """Newest first, or oldest first; at the same time by id."""
        headers = []
        for number in range(6):
            headers.append(await stage.create())
            await stage.advance(number % 2)
        ordered = sorted(headers, key=lambda header: (header.created, header.id))
        assert await stage.store.list(Query(oldest_first=True)) == ordered
        assert await stage.store.list(Query()) == ordered[::-1]

    @pytest.mark.parametrize("oldest_first", [True, False])
    async def test_pages(self, stage: Stage, oldest_first: bool) -> None:
        """Page by page, each begins behind the last of the one before; nothing is missed or told twice."""
        for number in range(7):
            await stage.create()
            await stage.advance(number % 3)
        everything = await stage.store.list(Query(oldest_first=oldest_first))
        found: list[Header] = []
        cursor = None
        while page := await stage.store.list(Query(oldest_first=oldest_first, cursor=cursor, limit=3)):
            found += page
            cursor = page[-1].created, page[-1].id
        assert found == everything
        assert len(found) == 7

    async def test_filters(self, stage: Stage) -> None:
        """Function, version, name and statuses narrow the list, each alone and together."""
        a = await stage.create(function="f", version="1", name="a")
        b = await stage.create(function="f", version="2", name="b")
        c = await stage.ended(Status.FAILED, function="g", version="2", name="a")
        d = await stage.ended(function="g", version="1", name="d")
        expected: list[tuple[dict[str, Any], set[str]]] = [
            ({}, {a.id, b.id, c.id, d.id}),
            ({"function": "f"}, {a.id, b.id}),
            ({"version": "2"}, {b.id, c.id}),
            ({"name": "a"}, {a.id, c.id}),
            ({"function": "g", "name": "a"}, {c.id}),
            ({"statuses": (Status.RUNNING,)}, {a.id, b.id}),
            ({"statuses": (Status.SUCCEEDED, Status.FAILED)}, {c.id, d.id}),
            ({"statuses": (Status.FAILED,), "function": "f"}, set()),
            ({"function": "h"}, set()),
        ]
        for filters, ids in expected:
            assert {header.id for header in await stage.store.list(Query(**filters))} == ids, filters

    async def test_time(self, stage: Stage) -> None:
        """Bounds on creation are exclusive."""
        headers = []
        for _ in range(4):
            headers.append(await stage.create())
            await stage.advance(SECOND)
        first, second, third, last = headers
        after = await stage.store.list(Query(created_after=second.created))
        assert after == [last, third]
        before = await stage.store.list(Query(created_before=second.created))
        assert before == [first]
        between = await stage.store.list(Query(created_after=first.created, created_before=last.created))
        assert between == [third, second]

    async def test_filter_and_page(self, stage: Stage) -> None:
        """A cursor goes together with filters."""
        mine = []
        for number in range(6):
            header = await stage.create(function=f"f{number % 2}")
            if number % 2:
                mine.append(header)
            await stage.advance(1)
        page = await stage.store.list(Query(function="f1", limit=2))
        assert page == [mine[2], mine[1]]
        rest = await stage.store.list(Query(function="f1", limit=2, cursor=(page[-1].created, page[-1].id)))
        assert rest == [mine[0]]

    async def test_headers_are_whole(self, stage: Stage) -> None:
        """What a list tells of an execution is what `describe` tells."""
        holding = await stage.held(timeout=9 * SECOND, parent="p/op")
        await holding.write(effects=True)
        await stage.signal(holding.id, SignalKind.PAUSE)
        assert await stage.store.list(Query()) == [await stage.header(holding.id)]


class TestPurging(Conformance):
    """`purge` (rules 10 and 12)."""

    async def test_retention(self, stage: Stage) -> None:
        """Past its retention an ended execution is removed, whole."""
        header = await stage.ended(name="n")
        await stage.advance(RETENTION - 1)
        assert await stage.store.purge(10) == 0
        await stage.advance(1)
        assert await stage.store.purge(10) == 1
        assert await stage.store.purge(10) == 0
        assert await stage.store.describe(header.id) is None
        assert await stage.store.find(header.function, "n") is None
        assert await stage.store.entries(header.id, 0, 1000) is Answer.UNKNOWN
        assert await stage.store.list(Query()) == []

    async def test_running(self, stage: Stage) -> None:
        """A running execution is never purged."""
        await stage.sleeping(retention=0)
        await stage.advance(10 * RETENTION)
        assert await stage.store.purge(10) == 0

    async def test_deleted(self, stage: Stage) -> None:
        """What is marked deleted is removed without waiting for its retention; others stay."""
        header, other = await stage.ended(), await stage.ended()
        await stage.signal(header.id, SignalKind.DELETE)
        assert await stage.store.purge(10) == 1
        assert await stage.store.list(Query()) == [other]

    async def test_deleted_but_unsettled(self, stage: Stage) -> None:
        """What is marked deleted is kept until its effects are settled."""
        header = await stage.ended(parent="p/op")
        await stage.signal(header.id, SignalKind.DELETE)
        assert await stage.store.purge(10) == 0
        await stage.store.settle(header.id, header.length, header.tip, 0)
        assert await stage.store.purge(10) == 1

    async def test_limit(self, stage: Stage) -> None:
        """At most `limit` are removed at once."""
        for _ in range(3):
            await stage.ended(retention=0)
        assert [await stage.store.purge(2), await stage.store.purge(2)] == [2, 1]

    async def test_reused_name(self, stage: Stage) -> None:
        """An execution of a freed name is another one; nothing of the former shows."""
        former = await stage.ended(name="n", retention=0)
        await stage.store.purge(10)
        header = await stage.create(name="n")
        assert header.id != former.id
        assert await stage.bodies(header.id) == [b"started"]
        assert await stage.store.find(header.function, "n") == header

    async def test_tombstones_of_others(self, stage: Stage) -> None:
        """A tombstone holds for its id only."""
        await stage.ended(retention=0)
        await stage.store.purge(10)
        await stage.create()


class TestPaging(Conformance):
    """`entries`."""

    async def test_all(self, stage: Stage) -> None:
        """All rows in order, without gaps."""
        holding = await stage.held()
        for number in range(40):
            await holding.write(str(number).encode())
        page = await stage.store.entries(holding.id, 0, 1 << 20)
        assert isinstance(page, Page)
        assert not page.more
        assert [row.index for row in page.rows] == list(range(1, 42))
        assert [row.body for row in page.rows][1:] == [str(number).encode() for number in range(40)]

    async def test_after(self, stage: Stage) -> None:
        """Only what lies behind an index; behind the last there is nothing."""
        holding = await stage.held()
        await holding.write(b"two")
        await holding.write(b"three")
        assert [row.body for row in await stage.rows(holding.id, 1)] == [b"two", b"three"]
        assert await stage.store.entries(holding.id, 3, 100) == Page((), more=False)
        assert await stage.store.entries(holding.id, 9, 100) == Page((), more=False)

    async def test_max_bytes(self, stage: Stage) -> None:
        """A page takes as many bodies as fit, and tells whether there is more."""
        holding = await stage.held(draft=stage.draft(b"a" * 10))
        await holding.write(b"b" * 10)
        await holding.write(b"c" * 10)
        for max_bytes, count in [(9, 1), (10, 1), (19, 1), (20, 2), (29, 2), (30, 3), (99, 3)]:
            page = await stage.store.entries(holding.id, 0, max_bytes)
            assert isinstance(page, Page)
            assert (len(page.rows), page.more) == (count, count < 3), max_bytes

    async def test_one_at_least(self, stage: Stage) -> None:
        """A row that is larger than a page comes alone."""
        holding = await stage.held()
        await holding.write(b"x" * 1000)
        await holding.write(b"y")
        page = await stage.store.entries(holding.id, 1, 0)
        assert isinstance(page, Page)
        assert ([row.body for row in page.rows], page.more) == ([b"x" * 1000], True)

    async def test_unknown(self, stage: Stage) -> None:
        """Without such an execution there is no journal."""
        assert await stage.store.entries(stage.store.new_id("order", "x"), 0, 1000) is Answer.UNKNOWN
