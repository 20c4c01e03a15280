"""Deliveries that were written within somebody's transaction."""

import asyncio

from perdure.backends.postgres import awaiting, postman
from perdure.backends.postgres.pool import connect
from perdure.backends.postgres.statement import qualify
from perdure.storage import Answer, Suspend
from perdure.testing.conformance.stage import SECOND, SECRET, TIMEOUTS
from tests.unit.postgres.conftest import LOCKS_ARE_WAITED_FOR


async def post(stage, await_id, nonce, secret=SECRET, body=b"posted"):
    store = stage.store
    return await store._ask(awaiting.submit(store._library, await_id, secret, stage.draft(body), nonce))


def test_delivered_by_whoever_expires(play, database):
    """What is in the inbox is delivered before deadlines are looked at, and once."""

    async def scene(stage):
        holding, await_id = await stage.waiting()
        await holding.write(then=Suspend())
        for nonce, body in (("nonce", b"posted"), ("nonce", b"posted"), ("other", b"too late")):
            assert await post(stage, await_id, nonce, body=body) is Answer.DELIVERED
        assert await post(stage, await_id, "guess", secret="wrong") is Answer.UNKNOWN
        assert await post(stage, "nowhere/op", "x") is Answer.UNKNOWN
        await stage.expire()
        assert await post(stage, await_id, "nonce") is Answer.DELIVERED
        assert await post(stage, await_id, "again") is Answer.CLOSED
        assert await stage.bodies(holding.id) == [b"started", b"waits", b"entry", b"posted"]
        assert await stage.due() == {holding.id}
        assert await asyncio.to_thread(database, "select count(*) from perdure.inbox") == [(0,)]

    play(scene)


def test_written_in_time(play, database):
    """A delivery that was written before its await's deadline wins, though it is found after it."""

    async def scene(stage):
        holding, await_id = await stage.waiting(timeout=3600 * SECOND)
        late, late_id = await stage.waiting(timeout=3600 * SECOND)
        for id in (await_id, late_id):
            await post(stage, id, "nonce")
        back = "update perdure.await set expires = expires - 3600000000, due = due - 3600000000"
        await asyncio.to_thread(database, back)
        # Written a minute ago: then it was not yet due.
        await asyncio.to_thread(database, "update perdure.inbox set at = at - 60000000 where await = %s", await_id)
        answer = await stage.store.expire(10, TIMEOUTS)
        assert answer.count == 1
        assert (await stage.bodies(holding.id))[-1] == b"posted"
        assert (await stage.bodies(late.id))[-1] == b"callback"

    play(scene)


def test_many(play, database):
    """A full inbox is emptied by several processes at once, each delivery carried out once."""

    async def scene(stage):
        waiting = [await stage.waiting() for _ in range(30)]
        for number, (_, await_id) in enumerate(waiting):
            await post(stage, await_id, f"n{number}")
        stores = [stage.store, await stage.another(), await stage.another()]
        await asyncio.gather(*(stage.expire(store=store) for store in stores))
        for holding, _ in waiting:
            assert (await stage.bodies(holding.id)).count(b"posted") == 1
        assert await asyncio.to_thread(database, "select count(*) from perdure.inbox") == [(0,)]

    play(scene, **LOCKS_ARE_WAITED_FOR)


def test_locked_execution(play, database, monkeypatch):
    """A delivery to an execution that somebody has locked holds up neither later ones nor deadlines."""
    monkeypatch.setattr(postman, "POST", 1)

    async def scene(stage):
        locked, locked_id = await stage.waiting()
        holding, await_id = await stage.waiting()
        late, _ = await stage.waiting(timeout=1)
        for id in (locked_id, await_id):
            await post(stage, id, "nonce")
        connection = await connect(stage.store.location, is_pooled=False)
        try:
            await connection.execute("begin")
            table = qualify("perdure.execution", stage.store.location.schema)
            await connection.execute(f"select from {table} where id = '{locked.id}' for update")
            assert await stage.expire() == 1
        finally:
            connection.pgconn.finish()
        assert (await stage.bodies(holding.id))[-1] == b"posted"
        assert (await stage.bodies(late.id))[-1] == b"callback"
        assert await asyncio.to_thread(database, "select await from perdure.inbox") == [(locked_id,)]
        await stage.expire()
        assert (await stage.bodies(locked.id))[-1] == b"posted"

    play(scene)
