"""On which servers a store is kept, and on which it is not."""

import asyncio
import logging

import pytest
import redis

from perdure.adapters.ephemeral import RedisServer
from perdure.backends.redis import Location
from perdure.backends.redis.server import Server
from perdure.errors import BackendUrlError, SchemaVersionError, StoreError, StoreUnavailableError
from tests.servers import with_options
from tests.unit.redis.conftest import new, opened

INFO = {
    "redis_version": "7.2.4",
    "redis_mode": "standalone",
    "role": "master",
    "master_replid": "abc",
    "maxmemory_policy": "noeviction",
    "aof_enabled": "1",
}
HERE = Location.parse("redis://host")


def described(config=(b"appendfsync", b"everysec"), **changes):
    lines = [f"{name}:{value}" for name, value in (INFO | changes).items() if value is not None]
    return Server.read("\r\n".join(["# Server", *lines]).encode(), list(config))


@pytest.mark.parametrize(
    "changes",
    [
        {"redis_version": "7.0.0"},
        {"redis_version": "8.2.1"},
        {"server_name": "valkey", "valkey_version": "7.2.0"},
        {"server_name": "valkey", "valkey_version": "9.1.2", "redis_version": "7.2.4"},
    ],
)
def test_versions(changes):
    """Redis from 7.0 and Valkey from 7.2 on."""
    described(**changes).check(HERE, "here")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"redis_version": "6.2.14"}, "Redis at here is version 6.2.14, expected 7.0 or newer"),
        ({"server_name": "valkey", "valkey_version": "7.1.9"}, "Valkey at here is version 7.1.9, expected 7.2"),
        ({"redis_mode": "sentinel"}, "is a sentinel"),
        ({"redis_mode": "cluster"}, r"write redis\+cluster://"),
        ({"maxmemory_policy": "allkeys-lru"}, "'allkeys-lru', which throws executions away"),
        ({"maxmemory_policy": "volatile-ttl"}, "set it to 'noeviction'"),
    ],
)
def test_refused(changes, reason):
    """Old versions, sentinels, and servers that evict are refused with the remedy."""
    with pytest.raises(StoreError, match=reason) as caught:
        described(**changes).check(HERE, "here")
    assert not caught.value.retryable


def test_replica_is_refused_for_now():
    """A replica may be promoted: asking again may succeed."""
    with pytest.raises(StoreUnavailableError, match="is a replica"):
        described(role="slave").check(HERE, "here")


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        (described(aof_enabled="0"), "set appendonly to yes"),
        (described(), "needs appendfsync always, and here has 'everysec'"),
        (described(config=(), redis_version="7.0.9"), "hides its configuration"),
        (described((b"appendfsync", b"always", b"no-appendfsync-on-rewrite", b"yes")), "on-rewrite no, and here has"),
    ],
)
def test_fsync_is_not_pretended(server, reason):
    """A server that does not sync its file is refused where that was asked for."""
    with pytest.raises(StoreError, match=reason):
        server.check(Location.parse("redis://host?durability=fsync"), "here")


def play(scene):
    asyncio.run(scene())


def test_eviction_is_refused_also_later(server):
    """A server that is told to evict while it is used is refused as soon as it is connected to again."""

    async def scene():
        async with opened(server.url) as store:
            await store.create(new(store), None)
            with redis.Redis.from_url(server.url) as admin:
                admin.config_set("maxmemory-policy", "allkeys-random")
                admin.client_kill_filter(_type="normal", skipme=True)
            await asyncio.sleep(0.05)
            with pytest.raises(StoreError, match="allkeys-random"):
                await store.describe("x")
            with redis.Redis.from_url(server.url) as admin:
                admin.config_set("maxmemory-policy", "noeviction")
            assert await store.describe("x") is None

    play(scene)


def test_without_a_file(caplog):
    """A server without an append-only file is warned of, once."""
    with RedisServer(settings={"appendonly": "no"}) as server:

        async def scene():
            async with opened(server.url):
                pass

        play(scene)
    told = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 1
    assert "appendonly is off" in told[0]


def test_hidden_configuration(caplog):
    """Where CONFIG is forbidden, the store goes on; `fsync` waits for the disk by itself, and says so."""
    with RedisServer(durable=True) as server, redis.Redis.from_url(server.url) as admin:
        admin.execute_command("ACL SETUSER app on >pw ~* &* +@all -config")

        async def scene():
            async with opened(server.url, username="app", password="pw") as store:
                await store.create(new(store), None)
            assert caplog.records == []
            async with opened(server.url, username="app", password="pw", durability="fsync") as store:
                await store.create(new(store), None)
            assert "hides its configuration" in caplog.text

        play(scene)


def test_forbidden_and_wrong_users(server):
    """A user without the needed rights, or a wrong password, is told so, and not asked to try again."""
    with redis.Redis.from_url(server.url) as admin:
        admin.execute_command("ACL SETUSER weak on >pw ~* &* +@all -@scripting")

    async def scene():
        for user, password, reason in [("weak", "pw", "widen its ACL"), ("weak", "no", "correct user and password")]:
            with pytest.raises(StoreError, match=reason) as caught:
                async with opened(server.url, username=user, password=password):
                    pass
            assert not caught.value.retryable

    play(scene)


def test_nobody_there():
    """A server that does not run is unavailable; the message says which."""

    async def scene():
        with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1:1 does not answer"):
            async with opened("redis://127.0.0.1:1"):
                pass

    play(scene)


def test_shards_are_kept(redis_url):
    """A store keeps its number of shards; another one in the URL is refused with the remedy."""

    async def scene():
        async with opened(redis_url, shards=3) as store:
            assert store.shards == 3
        async with opened(redis_url) as store:
            assert store.shards == 3
        with pytest.raises(BackendUrlError, match="has 3 shards, the option shards says 5; leave it out"):
            async with opened(redis_url, shards=5):
                pass

    play(scene)


@pytest.mark.parametrize(
    ("text", "error"), [("perdure 2 1", SchemaVersionError), ("something", BackendUrlError), ("", BackendUrlError)]
)
def test_place_is_taken(redis_url, redis_server, text, error):
    """A store of another layout, or a key of somebody else, is left alone."""
    namespace = Location.parse(redis_url).namespace
    key = f"{{{namespace}:0}}"
    with redis.Redis.from_url(redis_server.server.url) as admin:
        admin.set(key, text)

        async def scene():
            with pytest.raises(error):
                async with opened(redis_url):
                    pass

        play(scene)
        assert admin.get(key) == text.encode()


def test_no_cluster(redis_url):
    """A single server is no cluster, and says what to write."""
    place = redis_url.replace("unix://", "")
    if not redis_url.startswith("unix://"):
        pytest.skip("the server of the run is elsewhere")
    assert place

    async def scene():
        with RedisServer(port=0) as single, pytest.raises(StoreError, match="is no cluster; write redis://"):
            async with opened(with_options(single.url.replace("redis:", "redis+cluster:"))):
                pass

    play(scene)
