"""What the statements cost: round trips, index use, updates within the page."""

import asyncio
import time

import psycopg
import pytest
from psycopg.rows import tuple_row

from perdure.adapters.ephemeral import PostgresServer
from perdure.backends.postgres import PostgresStore, migrate
from perdure.backends.postgres.location import Location
from perdure.backends.postgres.reading import list_executions
from perdure.backends.postgres.statement import Library, qualify
from perdure.errors import StoreError
from perdure.storage import Claim, End, FunctionVersion, OpenAwait, Query, Status, Suspend
from perdure.testing.conformance.stage import SECRET, Stage
from tests.unit.postgres.conftest import no_advance

ROWS = 20_000
CROWD = f"""
insert into perdure.execution (
    id, function, version, name, digest, status, created, ended, wake, deadline, retention, length, format, tip_at,
    tip_tag, owner, parent
)
select 'x' || n, 'order', '1', 'n' || n, '', case when n % 2 = 0 then 'SUCCEEDED' else 'RUNNING' end, n,
    case when n % 2 = 0 then n end, case when n % 2 = 1 then 1e15 + n end, case when n % 2 = 1 then 1e15 end,
    1000000000000000, 1, 1, 1, 't', case when n % 100 = 1 then 'w' || n % 10 end, null
from generate_series(1, {ROWS}) as n;
insert into perdure.journal (execution, ordinal, at, tag, body) select number, 1, 1, 't', '' from perdure.execution;
insert into perdure.await (id, secret, expires, due) select id || '/op', '', 1e15, 1e15 from perdure.execution;
insert into perdure.signal (execution, key) select number, 'k' from perdure.execution;
"""
# What is small: owners, functions, what was posted.
SMALL = {"lease", "lease_pkey", "lease_living", "function", "inbox", "inbox_pkey"}
# Where only the first entry of an index is asked for.
FIRST = {
    ("await", "next"): {"execution_deadline", "await_due"},
    ("lease", "reap"): {"execution_owner"},
    ("lifecycle", "unsettled"): {"execution_effect_due"},
}


@pytest.fixture(scope="module", params=["new", "analyzed"])
def crowd(postgres_server, request):
    """Many executions, as the sessions of a store see them, without statistics or with."""
    with postgres_server.schema() as url:
        asyncio.run(migrate(url))
        location = Location.parse(url)
        arguments = location.connection(sets_session=True)
        with psycopg.connect(**arguments, autocommit=True, row_factory=tuple_row) as connection:
            for table in ("execution", "journal", "await", "signal"):
                # It would make statistics of what is half written.
                quiet = f"alter table perdure.{table} set (autovacuum_enabled = off)"
                connection.execute(qualify(quiet, location.schema))
            connection.execute(qualify(CROWD, location.schema))
            if request.param == "analyzed":
                # Nobody else's: another process may be filling its own.
                for table in ("execution", "journal", "await", "signal", "lease", "function", "inbox"):
                    connection.execute(qualify(f"analyze perdure.{table}", location.schema))
            yield connection, Library(location.schema)


def nodes(plan):
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def plan_of(connection, statement):
    # The plan that a store's sessions have: made once, for whatever parameters.
    nulls = f"({', '.join(['null'] * len(statement.names))})" if statement.names else ""
    connection.execute(f"prepare looked_at as {statement.text}")
    try:
        (top,) = connection.execute(f"explain (format json) execute looked_at {nulls}").fetchone()[0]
    finally:
        connection.execute("deallocate looked_at")
    return list(nodes(top["Plan"]))


STATEMENTS = [
    *((section, name) for section in ("commit", "create") for name in ("alone", "batch")),
    *(("await", name) for name in ("alone", "batch", "heartbeat", "next", "expire", "time_out")),
    *(("execution", name) for name in ("by_id", "by_name", "entries")),
    *(("lease", name) for name in ("register", "claim", "held", "renew", "reap", "living", "ring")),
    *(
        ("lifecycle", name)
        for name in ("stop", "pause", "resume", "delete", "signalled", "unsettled", "settle", "purge")
    ),
]


@pytest.mark.parametrize("key", STATEMENTS, ids="-".join)
def test_no_statement_scans(crowd, key):
    """No statement reads a large table from end to end, with statistics or without."""
    connection, library = crowd
    found = plan_of(connection, library[key])
    scans = [node for node in found if node["Node Type"] == "Seq Scan" and node["Relation Name"] not in SMALL]
    assert scans == []
    # An index that is read from end to end is no better.
    reads = [node for node in found if node["Node Type"].startswith("Index") and "Index Cond" not in node]
    assert {node["Index Name"] for node in reads} <= SMALL | FIRST.get(key, set())


@pytest.mark.parametrize(
    "query",
    [
        Query(),
        Query(oldest_first=True, cursor=(5, "x5")),
        Query(function="order"),
        Query(statuses=(Status.RUNNING,)),
        Query(statuses=(Status.FAILED,), function="order", created_after=7),
    ],
    ids=str,
)
def test_lists_are_read_in_order(crowd, query):
    """A page of a list is read from an index in its order, and no more than the page."""
    connection, library = crowd
    found = plan_of(connection, list_executions(library, query).statement)
    assert {"Seq Scan", "Bitmap Heap Scan"}.isdisjoint(node["Node Type"] for node in found)
    assert [node for node in found if node["Node Type"] == "Sort"] == []


def test_retired_awaits_are_found_by_their_execution(crowd):
    """What an end has to look at are its own awaits, not all that are open."""
    connection, library = crowd
    for key in (("commit", "batch"), ("lifecycle", "stop"), ("await", "time_out")):
        found = plan_of(connection, library[key])
        awaits = [node for node in found if node.get("Alias") == "w" and "Index Name" in node]
        assert awaits
        assert {node["Index Name"] for node in awaits} == {"await_pkey"}


def test_steps_touch_no_index():
    """Commits that keep the ownership update their execution within its page."""

    async def scene(url):
        async with Stage(lambda: PostgresStore(url), no_advance) as stage:
            holdings = [await stage.held() for _ in range(10)]
            for _ in range(30):
                await asyncio.gather(*(holding.write(b"x" * 100) for holding in holdings))

    read = "select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables where relid = 'perdure.execution'::regclass"
    # Of its own: where somebody else keeps a transaction open, pages are not tidied up.
    with PostgresServer(durable=False) as server:
        asyncio.run(scene(server.url))
        with psycopg.connect(server.url, autocommit=True) as database:
            deadline = time.monotonic() + 30
            while (found := database.execute(read).fetchone())[0] < 300:
                assert time.monotonic() < deadline, found
                time.sleep(0.02)
    # A page that is full at the moment makes an exception.
    assert found[1] >= 0.9 * found[0], found


def test_round_trips(play):
    """Every verb is one statement where nothing is in its way."""

    async def scene(stage):
        store = stage.store
        owner = await stage.owner()

        async def trips(coroutine):
            before = store.round_trips
            answer = await coroutine
            return store.round_trips - before, answer

        assert (await trips(stage.create(Claim(owner.id, stage.token()))))[0] == 1
        due = await stage.create()
        spent, (holding,) = await trips(owner.claim())
        assert (spent, holding.id) == (1, due.id)
        assert (await trips(holding.write(opens=(OpenAwait(operation="op", secret=SECRET),))))[0] == 1
        assert (await trips(stage.deliver(f"{holding.id}/op")))[0] == 1
        assert (await trips(store.entries(holding.id, 0, 1 << 20)))[0] == 1
        assert (await trips(store.describe(due.id)))[0] == 1
        assert await trips(store.describe(store.new_id("order", "none"))) == (1, None)
        assert (await trips(store.renew(owner.id)))[0] == 1
        assert (await trips(store.reap(10)))[0] == 1
        assert (await trips(stage.expire()))[0] == 1
        assert (await trips(store.unsettled(10)))[0] == 1
        assert (await trips(holding.write(then=End(Status.SUCCEEDED))))[0] == 1
        assert (await trips(store.purge(10)))[0] == 1
        # What comes at the same time shares one; the first one goes at once.
        assert (await trips(asyncio.gather(*(stage.create() for _ in range(40)))))[0] <= 3
        batch = [holding.next() for holding in await owner.claim(40)]
        assert len(batch) == 40
        assert (await trips(store.commit(batch)))[0] == 1

    # Nobody else has anything to say.
    play(scene, notify="off")


def test_claims_with_an_old_snapshot(play, postgres_url):
    """While somebody keeps an old snapshot open, claims go on taking what is due, in order."""

    async def scene(stage):
        owner = await stage.owner()
        with psycopg.connect(**Location.parse(postgres_url).parameters) as old:
            old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            old.execute("select 1 from pg_class")
            for _ in range(10):
                ids = {header.id for header in await asyncio.gather(*(stage.create() for _ in range(20)))}
                holdings = await owner.claim(20)
                assert {holding.id for holding in holdings} == ids
                answers = await stage.store.commit([holding.next(then=Suspend()) for holding in holdings])
                assert len(answers) == 20

    play(scene)


def test_functions_share_a_claim(play):
    """A claim over many functions takes the earliest of all, and locks nothing else for longer than it lasts."""

    async def scene(stage):
        ids = [(await stage.create(function=f"f{number % 5}")).id for number in range(20)]
        functions = [FunctionVersion(f"f{number}", "1") for number in range(5)]
        owner = await stage.owner()
        claimed = [holding.id for _ in range(4) for holding in await owner.claim(5, functions=functions)]
        assert claimed == ids

    play(scene)


def test_store_is_not_open(postgres_url):
    """A store that is not open says so."""
    store = PostgresStore(postgres_url)
    with pytest.raises(StoreError, match="is not open"):
        asyncio.run(store.describe("x"))
