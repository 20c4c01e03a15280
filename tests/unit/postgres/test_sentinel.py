"""How a process that is killed is noticed at once, and one that is not is let be."""

import asyncio

import pytest

from perdure.backends.postgres import sentinel
from perdure.backends.postgres.sentinel import neighbour
from perdure.storage import Answer, Claim, HintKind
from perdure.testing.conformance.hinting import _Watch as Watch
from tests.unit.postgres.conftest import until

OWNER = """
import asyncio, sys
from perdure.backends.postgres import PostgresStore

async def main():
    store = PostgresStore(sys.argv[1])
    await store.open()
    assert (await store.register(sys.argv[2], [], 3_600_000_000)).value == "ok"
    print("there", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("own", "others", "expected"),
    [
        ("b", "acd", "c"),
        ("d", "abc", "a"),
        ("bc", "ad", "d"),
        ("cd", "ab", "a"),
        ("a", "", None),
        ("", "ab", None),
    ],
)
def test_neighbour(own, others, expected):
    """Everybody watches the next owner of another process, the last one the first."""
    ring = [(owner, 1) for owner in own + others]
    found = neighbour(ring, dict.fromkeys(own, 1), set())
    assert found == (None if expected is None else (expected, 1))


def test_mourned():
    """Who was found dead a moment ago is not watched."""
    ring = [(owner, 1) for owner in "abc"]
    assert neighbour(ring, {"a": 1}, {"b"}) == ("c", 1)
    assert neighbour(ring, {"a": 1}, {"b", "c"}) is None


def test_everybody_is_watched():
    """However many there are, each one has somebody who watches it."""
    names = [f"o{number}" for number in range(7)]
    ring = [(name, 1) for name in names]
    watched = {neighbour(ring, {name: 1}, set())[0] for name in names}
    assert watched == set(names)


async def hold_for(stage, owner):
    """An execution that an owner of another process holds."""
    return await stage.create(Claim(owner, stage.token()))


def test_killed_process(play, start_process):
    """What a killed process held is free long before its lease runs out; its neighbour is told at once."""

    async def scene(stage):
        watch = Watch()
        stage.store.watch(watch)
        await stage.owner("m")
        processes = [await asyncio.to_thread(start, start_process, name) for name in ("z", "a")]
        headers = [await hold_for(stage, name) for name in ("z", "a")]
        assert await stage.reap() == 0
        for process, header, former in zip(processes, headers, ("z", "a"), strict=True):
            process.kill()
            await watch.until(lambda hint: hint.kind is HintKind.DIED)
            watch.hints.clear()
            freed = 0
            async with asyncio.timeout(5):
                while not freed:
                    freed = await stage.reap()
            assert freed == 1
            assert (await stage.header(header.id)).owner is None
            assert await stage.store.renew(former) is Answer.LEASE_LOST

    def start(start_process, name):
        process = start_process(OWNER, name)
        assert process.stdout.readline() == "there\n"
        return process

    play(scene)


def test_two_deaths_at_once(play, start_process):
    """When neighbours die together all of them are found."""

    async def scene(stage):
        watch = Watch()
        stage.store.watch(watch)
        await stage.owner("m")
        processes = []
        for name in ("n", "o", "p"):
            process = start_process(OWNER, name)
            assert await asyncio.to_thread(process.stdout.readline) == "there\n"
            processes.append(process)
            await hold_for(stage, name)
        for process in processes:
            process.kill()
        await watch.until(lambda hint: hint.kind is HintKind.DIED)
        freed = 0
        async with asyncio.timeout(5):
            while freed < 3:
                freed += await stage.reap()

    play(scene)


def test_closed_store(play):
    """A store that is closed counts as dead."""

    async def scene(stage):
        other = await stage.another()
        owner = await stage.owner(store=other)
        header = await hold_for(stage, owner.id)
        assert await stage.reap() == 0
        await other.close()
        freed = 0
        async with asyncio.timeout(5):
            while not freed:
                freed = await stage.reap()
        assert (await stage.header(header.id)).owner is None

    play(scene)


def test_lost_connection_is_no_death(play, database):
    """An owner whose listening connection breaks has its lock again before anybody takes it for dead."""

    async def scene(stage):
        other = await stage.another()
        mine, theirs = await stage.owner(), await stage.owner(store=other)
        headers = [await hold_for(stage, owner.id) for owner in (mine, theirs)]
        listeners = [store._opened.listener for store in (stage.store, other)]
        for _ in range(5):
            for listener in listeners:
                pid = listener._connection.info.backend_pid
                assert await asyncio.to_thread(database, "select pg_terminate_backend(%s)", pid) == [(True,)]
            for _ in range(20):
                await asyncio.sleep(0.01)
                await stage.reap()
            await until(lambda: all(listener._connection is not None for listener in listeners))
        for header in headers:
            assert (await stage.header(header.id)).owner == header.owner

    play(scene)


def test_a_connection_that_comes_back(play, database):
    """A free lock is no death if somebody has it again within the time of grace."""

    async def scene(stage):
        owner = await stage.owner()
        header = await hold_for(stage, owner.id)
        await asyncio.to_thread(database, "update perdure.lease set lock = 42")
        reaping = await suspecting(stage)
        assert await asyncio.to_thread(database, "select pg_try_advisory_lock(42)") == [(True,)]
        assert await reaping() == 0
        assert (await stage.header(header.id)).owner == header.owner
        await asyncio.to_thread(database, "select pg_advisory_unlock(42)")
        assert await stage.reap() == 1

    play(scene)


def test_a_network_that_fails_for_all(play, database):
    """Who has lost its own connection since it saw a free lock does not trust in that."""

    async def scene(stage):
        owner = await stage.owner()
        header = await hold_for(stage, owner.id)
        await asyncio.to_thread(database, "update perdure.lease set lock = 42")
        listener = stage.store._opened.listener
        reaping = await suspecting(stage)
        pid = listener._connection.info.backend_pid
        assert await asyncio.to_thread(database, "select pg_terminate_backend(%s)", pid) == [(True,)]
        await until(lambda: listener.witness is None)
        assert await reaping() == 0
        assert (await stage.header(header.id)).owner == header.owner

    play(scene)


async def suspecting(stage):
    """A round of reaping that has looked once; what it answers when it is called looks again."""
    looked, go_on, look = asyncio.Event(), asyncio.Event(), stage.store._reap

    async def watched(*arguments):
        if looked.is_set():
            await go_on.wait()
        found = await look(*arguments)
        looked.set()
        return found

    stage.store._reap = watched
    reaping = asyncio.create_task(stage.reap())
    await looked.wait()

    def again():
        go_on.set()
        return reaping

    return again


def test_restarted_server(play, database):
    """Locks that were taken before the server was started anew are no evidence."""

    async def scene(stage):
        owner = await stage.owner()
        header = await hold_for(stage, owner.id)
        await asyncio.to_thread(database, "update perdure.lease set boot = boot - 1, lock = 42")
        assert await stage.reap() == 0
        await asyncio.to_thread(database, "update perdure.lease set boot = boot + 1")
        assert await stage.reap() == 1
        assert (await stage.header(header.id)).owner is None

    play(scene)


def test_pooled(play, database):
    """Behind a pooler no session is anybody's, and no lock is taken or asked for."""

    async def scene(stage):
        owner = await stage.owner()
        await hold_for(stage, owner.id)
        assert await asyncio.to_thread(database, "select lock, boot from perdure.lease") == [(None, None)]
        await asyncio.to_thread(database, "update perdure.lease set boot = 1, lock = 42")
        assert await stage.reap() == 0

    play(scene, pooler="transaction")


def test_no_long_snapshot(play, database, monkeypatch):
    """Whoever watches holds up the removal of dead rows for a round only, and still notices a death."""
    monkeypatch.setattr(sentinel, "ROUND", 0.05)
    oldest = (
        "select coalesce(min(backend_xmin::text::bigint), %s::bigint) from pg_stat_activity "
        "where pid = %s and state = 'active'"
    )

    async def scene(stage):
        watch = Watch()
        stage.store.watch(watch)
        await stage.owner("a")
        other = await stage.another()
        await stage.owner("b", store=other)
        watcher = stage.store._opened.sentinel
        await until(lambda: watcher.watched == "b")
        session = watcher._connection.info.backend_pid
        ((number,),) = await asyncio.to_thread(database, "select pg_current_xact_id()::text::bigint")
        async with asyncio.timeout(30):
            while (await asyncio.to_thread(database, oldest, number + 1, session))[0][0] <= number:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.005)
        assert watcher._connection.info.backend_pid == session
        await other.close()
        await watch.until(lambda hint: hint.kind is HintKind.DIED)

    play(scene)
