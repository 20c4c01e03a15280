"""Waiting for executions to end."""

import asyncio

import pytest

from perdure.errors import ExecutionNotFoundError
from perdure.service.ending import Endings
from perdure.testing.memory import MemoryStore


def test_who_comes_while_others_are_told_of_an_error():
    """Whoever begins to wait while others hear that an execution cannot be found is told so as well."""

    async def scene():
        store = MemoryStore()
        await store.open()
        endings = Endings(store)
        first, second = endings.wait("nobody"), endings.wait("nobody")
        third = asyncio.get_running_loop().create_future()
        first.add_done_callback(lambda _: third.set_result(endings.wait("nobody")))
        for waiter in (first, second, await third):
            with pytest.raises(ExecutionNotFoundError):
                await asyncio.wait_for(waiter, 10)
        await store.close()

    asyncio.run(scene())
