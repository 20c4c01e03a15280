"""The Lua of the verbs: how it gets to a server, and what it must not do."""

import asyncio
import re
from importlib.resources import files

import pytest
import redis

from perdure.backends.redis import store as store_module
from perdure.backends.redis.script import _PARTS, Library
from perdure.storage import Commit, Tip
from tests.servers import with_options
from tests.unit.redis.conftest import held, new, opened

LUA = {
    path.name.removesuffix(".lua"): path.read_text()
    for path in files("perdure.backends.redis").joinpath("lua").iterdir()
}


def test_every_file_is_used():
    """Each Lua file is a verb or a part of one."""
    assert LUA.keys() == {*_PARTS, "head", *(part for parts in _PARTS.values() for part in parts)}


def test_flags():
    """Every script is flagged, so that a demoted master refuses it before it begins."""
    for script in Library(notify=True, is_cluster=False):
        first = script.text.partition(b"\n")[0]
        assert first.startswith(b"#!lua")
        assert script.is_reading is (b"no-writes" in first)


@pytest.mark.parametrize("name", sorted(LUA))
def test_globals(name):
    """No file relies on a global that no part defines: Lua would find out when it is too late."""
    own = {"call", "P", "S", "NOTIFY", "CLUSTER", "KEYS", "ARGV", "redis", "string", "math", "table"}
    own |= {"tonumber", "ipairs", "unpack", "local", "function"}
    called = set(re.findall(r"(?<![.\w:])([a-z_]+)\(", re.sub(r"--.*|'[^']*'", "", LUA[name])))
    parts = {name, "head", *_PARTS.get(name, ())}
    if name not in _PARTS:
        parts |= {part for parts_ in _PARTS.values() for part in parts_}
    defined = {word for part in parts for word in re.findall(r"local function (\w+)", LUA[part])}
    defined |= {"if", "and", "or", "not", "for", "in", "return", "while", "elseif", "a", "b"}
    assert called <= own | defined, called - own - defined


def test_no_time_is_written_by_lua():
    """Times and counts go through `S`: 14 digits or an exponent would be written otherwise."""
    for name, text in LUA.items():
        for line in text.splitlines():
            if re.search(r"call\('(HSET|ZADD)'", line):
                assert not re.search(r"(now|\bat\b|until_)\s*[,)+]", re.sub(r"S\([^()]*\)", "", line)), (name, line)


def test_scripts_are_forgotten(server):
    """A server that forgot its scripts is told them again, one by one, within the same call."""

    async def scene():
        async with opened(server.url) as store:
            holding = await held(store)
            with redis.Redis.from_url(server.url) as admin:
                admin.script_flush()
            before = store.round_trips
            answer = await holding.write()
            assert answer.length == 2
            assert store.round_trips == before + 2
            await holding.write()
            assert store.round_trips == before + 3

    asyncio.run(scene())


def test_scripts_are_forgotten_within_a_batch(server):
    """So it is with a batch, of which nothing is written twice."""

    async def scene():
        async with opened(server.url, shards=4) as store:
            holdings = [await held(store) for _ in range(20)]
            batch = [holding.next() for holding in holdings]
            with redis.Redis.from_url(server.url) as admin:
                admin.script_flush()
            answers = await store.commit(batch)
            assert [answer.length for answer in answers] == [2] * 20
            assert [(await store.describe(holding.id)).length for holding in holdings] == [2] * 20

    asyncio.run(scene())


def test_unstorable(redis_url):
    """Data that cannot be kept is rejected for the whole batch, of which nothing is written."""

    async def scene():
        async with opened(redis_url) as store:
            first, second = await held(store), await held(store)
            wrong = Commit(id=second.id, token=second.token, seq=1, seen=1, tip=Tip(1, "\ud800"), draft=None)
            answers = await store.commit([first.next(), wrong])
            assert [type(answer).__name__ for answer in answers] == ["Rejected", "Rejected"]
            assert (await store.describe(first.id)).length == 1
            await first.write()

    asyncio.run(scene())


def test_full(server):
    """A full server takes no work and loses none; renewals, settling and purging go on."""

    async def scene():
        async with opened(server.url) as store:
            holding = await held(store)
            with redis.Redis.from_url(server.url) as admin:
                admin.config_set("maxmemory", "1mb")
                commit = holding.next()
                with pytest.raises(store_module.StoreError, match="is full, nothing was written") as caught:
                    await store.commit([commit])
                assert caught.value.retryable
                with pytest.raises(store_module.StoreError, match="is full"):
                    await store.create(new(store), None)
                assert [found.id for found in await store.renew(holding.owner)] == [holding.id]
                assert await store.purge(10) == 0
                admin.config_set("maxmemory", 0)
            (answer,) = await store.commit([commit])
            assert answer.length == 2

    asyncio.run(scene())


def test_braces_and_colons(redis_url):
    """Whatever is in the name of a function, version or execution: keys of a shard stay in their slot."""

    async def scene():
        async with opened(with_options(redis_url, shards=4)) as store:
            made = [new(store, function=f, version=v) for f in ("{a}", "a:b", "1:x\n") for v in ("{", "2:1", " ")]
            for one in made:
                await store.create(one, None)
            for one in made:
                header = await store.describe(one.id)
                assert (header.function, header.version, header.name) == (one.function, one.version, one.name)

    asyncio.run(scene())
