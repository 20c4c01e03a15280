"""What a statement that has waited for a lock does not see: what whoever had it wrote beside the locked row."""

import asyncio

import psycopg

from perdure.backends.postgres import committing
from perdure.backends.postgres.pool import connect
from perdure.storage import OpenAwait, SignalKind, Status
from tests.unit.postgres.conftest import LOCKS_ARE_WAITED_FOR, until

BLOCKED = "select count(*) from pg_stat_activity where %s = any(pg_blocking_pids(pid))"


def test_await_opened_while_a_stop_waits(play, database):
    """An await that its owner opens while a stop waits for the lock never times out: nothing follows the end."""

    async def scene(stage):
        holding = await stage.held()
        commit = holding.next(b"waits", opens=(OpenAwait(operation="op", timeout=1),))
        call = committing.commit(stage.store._library, [commit], waits=True)
        connection = await connect(stage.store.location, is_pooled=False)
        try:
            await connection.execute("begin")
            await psycopg.AsyncRawCursor(connection).execute(call.sql, call.parameters)
            pid = connection.info.backend_pid
            stopping = asyncio.create_task(stage.signal(holding.id, SignalKind.STOP))
            async with asyncio.timeout(30):
                while await asyncio.to_thread(database, BLOCKED, pid) == [(0,)]:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.002)
            await connection.execute("commit")
        finally:
            connection.pgconn.finish()
        stopped = (await stopping).header
        assert stopped.status is Status.STOPPED
        assert await stage.expire() == 0
        assert await stage.header(holding.id) == stopped
        assert [row.index for row in await stage.rows(holding.id)] == [1, 2, 3]
        assert await stage.next_of("expire") is None

    play(scene, **LOCKS_ARE_WAITED_FOR)


def test_posts_are_fetched_by_few(play):
    """However many notifications tell of the inbox, one look is under way, and one more follows it."""

    async def scene(stage):
        store = stage.store
        before = store.round_trips
        for _ in range(50):
            store._opened.postman.send()
        await until(lambda: not store._opened.postman.rounds)
        assert 1 <= store.round_trips - before <= 2

    play(scene)
