"""What a store makes of connections that were gone, or that give no answer."""

import asyncio
import gc
import os
import socket

import pytest

from perdure.backends.postgres import listener, pool
from perdure.backends.postgres.notice import Notice
from perdure.errors import StoreUnavailableError
from perdure.storage import Claim, HintKind
from perdure.testing.conformance.hinting import _Watch as Watch
from tests.unit.postgres.conftest import until


def test_who_was_cut_off_does_not_call_others_dead(play, database, monkeypatch):
    """Right after it was away itself a process trusts no free lock, as others may be coming back; later it does."""

    async def scene(stage):
        other, watch = await stage.another(), Watch()
        owner = await stage.owner(store=other)
        await stage.create(Claim(owner.id, stage.token()))
        heard = stage.store._opened.listener

        async def cut_off():
            pid, before = heard._connection.info.backend_pid, heard._returned
            assert await asyncio.to_thread(database, "select pg_terminate_backend(%s)", pid) == [(True,)]
            await until(lambda: heard._returned != before)

        monkeypatch.setattr(listener, "RETURN", 3600.0)
        await cut_off()
        await other.close()
        assert await stage.reap() == 0
        monkeypatch.setattr(listener, "RETURN", 0.2)
        stage.store.watch(watch)
        await cut_off()
        await watch.until(lambda hint: hint.kind is HintKind.DIED)
        async with asyncio.timeout(5):
            while not await stage.reap():
                pass

    play(scene)


def test_no_answer(play, monkeypatch):
    """A connection that gives no answer for longer than the server would let a statement run is given up."""

    async def scene(stage):
        opened = stage.store._opened
        with monkeypatch.context() as patch:
            patch.setattr(pool, "ANSWER", 0.2)
            with pytest.raises(StoreUnavailableError, match="does not answer"):
                await opened.pool.run("select pg_sleep(2)", ())
        assert await stage.now() > 0

    play(scene)


def test_post_while_the_server_is_away(play):
    """That the inbox cannot be emptied now is no error of anybody: who looks next empties it."""

    async def scene(stage):
        told = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        stage.store._opened.pool.close()
        stage.store._hear(Notice("somebody", has_post=True))
        await until(lambda: not stage.store._opened.postman.rounds)
        gc.collect()
        assert not told

    play(scene)


def test_a_broken_connection_leaves_no_reader(play):
    """The loop forgets the file of a connection that broke: another one may get its number at once."""

    async def scene(stage):
        other = await stage.another()
        await stage.owner(store=other)
        await stage.owner()
        heard, sentinel = stage.store._opened.listener, stage.store._opened.sentinel
        # While it tells something, the driver reads.
        await until(lambda: sentinel._reader is not None and heard._teller is None)
        for each in (heard, sentinel):
            number = each._connection.fileno()
            with socket.socket(fileno=os.dup(number)) as end:
                end.shutdown(socket.SHUT_RDWR)
            each._read()
            assert each._connection is None
            assert not asyncio.get_running_loop().remove_reader(number)

    play(scene)
