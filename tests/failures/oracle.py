"""What holds of a store once all is over: every journal is whole, and nobody is left waiting for anything."""

from __future__ import annotations

import secrets
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

from perdure.journal import history
from perdure.journal.entry import FORMAT, decode
from perdure.journal.fold import fold
from perdure.model import ENDED_STATUSES, TERMINAL_STATUSES
from perdure.portal import store_portal
from perdure.service import reading
from perdure.service.patience import patiently
from perdure.service.upkeep import TIMEOUTS
from perdure.storage import Answer, Claimed, FunctionVersion, Query

if TYPE_CHECKING:
    from perdure.client import Client
    from perdure.storage import Header, Row, Store

ENDS = {"StepSucceeded", "ContextSucceeded", "CallbackSucceeded", "ChainedInvokeSucceeded", "WaitSucceeded"}
PAGE = 500


def check(client: Client, count: int | None = None) -> int:
    """
    Every execution has ended with a whole journal, and nothing is left: no lease that holds anything, no await, no
    effect, nothing due. Those who held leases must have ended, or been killed.

    Args:
        client: Whose store is looked at.
        count: How many executions there have to be, if that is known.

    Returns:
        How many there are.
    """
    store = client._desk.connection.store
    found = store_portal().call(_checked(store))
    assert count is None or found == count, f"{found} executions instead of {count}"
    return found


def crashes(client: Client) -> int:
    """How many invocations did not end by themselves, as the journals have it."""
    return store_portal().call(_crashes(client._desk.connection.store))


def all_settled(client: Client) -> bool:
    """Whether no execution has anything left to be done to others; who died over it has it done by others, later."""
    headers = store_portal().call(_all(client._desk.connection.store))
    return all(header.is_settled for header in headers)


async def _crashes(store: Store) -> int:
    journals = [await reading.rows(store, header.id) for header in await _all(store)]
    return sum(decode(row.body).crashed is not None for rows in journals for row in rows)


async def _checked(store: Store) -> int:
    headers = await _all(store)
    for header in headers:
        _check_journal(header, await reading.rows(store, header.id))
    functions = [FunctionVersion(*pair) for pair in sorted({(header.function, header.version) for header in headers})]
    for shard in range(store.shards):
        await _check_shard(store, shard, functions)
    return len(headers)


async def _all(store: Store) -> list[Header]:
    headers: list[Header] = []
    cursor = None
    while page := await patiently(lambda after=cursor: store.list(Query(oldest_first=True, cursor=after, limit=PAGE))):
        headers += page
        cursor = page[-1].created, page[-1].id
    ids = Counter(header.id for header in headers)
    assert max(ids.values(), default=1) == 1, f"listed twice: {ids.most_common(3)}"
    names = Counter((header.function, header.name) for header in headers)
    assert max(names.values(), default=1) == 1, f"two of one name: {names.most_common(3)}"
    return headers


def _check_journal(header: Header, rows: list[Row]) -> None:
    assert [row.index for row in rows] == list(range(1, len(rows) + 1)), f"gap in {header}"
    assert header.length == len(rows), header
    assert len({row.tag for row in rows}) == len(rows), f"a row twice in {header}"
    assert all(row.at >= before.at for before, row in pairwise(rows)), f"time went back in {header}"
    for row in rows:
        # Who owned it knew of all that owners had written before.
        unseen = rows[row.seen : row.index - 1] if row.seen is not None else []
        assert all(each.seen is None for each in unseen), f"{row} of {header} was written by two owners at once"
    execution = fold(header.id, rows)
    assert execution.status in ENDED_STATUSES, header
    assert execution.status.value == header.status.value, (execution.status, header)
    assert execution.tip == header.tip, header
    left = (header.owner, header.wake, header.deadline, header.effect_due, header.invocation)
    assert left == (None,) * 5, f"left: {header}"
    assert header.is_settled, f"an effect is left: {header}"
    open_ones = [each for each in execution.operations.values() if each.status not in TERMINAL_STATUSES]
    assert not open_ones, f"{header.id} ended before {open_ones}"
    _check_events(header, rows)


def _check_events(header: Header, rows: list[Row]) -> None:
    events = history.events(header.id, rows)
    assert [event.event_id for event in events] == list(range(1, len(events) + 1))
    ends = Counter(event.operation_id for event in events if event.event_type in ENDS)
    assert max(ends.values(), default=1) == 1, f"an operation of {header.id} ended twice: {ends.most_common(3)}"
    invocations = Counter(e.details["RequestId"] for e in events if e.event_type == "InvocationCompleted")
    assert max(invocations.values(), default=1) == 1, f"an invocation of {header.id} ended twice"


async def _check_shard(store: Store, shard: int, functions: list[FunctionVersion]) -> None:
    leases = await store.leases(shard)
    assert not (held := [lease for lease in leases.leases if lease.held]), f"held for ever: {held}"
    assert (await store.reap(PAGE, shard)).count == 0
    expired = await store.expire(PAGE, TIMEOUTS, shard)
    assert (expired.count, expired.next) == (0, None), f"a deadline is left: {expired}"
    unsettled = await store.unsettled(PAGE, shard)
    assert (unsettled.headers, unsettled.next) == ((), None), f"effects are left: {unsettled}"
    owner = secrets.token_hex(8)
    assert await store.register(owner, [], 1_000_000) is Answer.OK
    claimed = await store.claim(owner, 1, secrets.token_hex(16), functions, 10, FORMAT, shard)
    assert isinstance(claimed, Claimed), claimed
    assert (claimed.headers, claimed.next_wake) == ((), None), f"due for ever: {claimed}"
