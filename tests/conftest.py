"""What holds after every test: workers and clients leave nothing behind."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from perdure.portal import store_portal
from perdure.service import connection

if TYPE_CHECKING:
    from collections.abc import Iterator

OURS = ("perdure-sqlite",)
"""Names of the threads that belong to an open store; those of pools end by themselves."""
PATIENCE = 5.0


async def _tasks() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


def _left_open() -> set[object]:
    """Open connections, threads of open stores, and what is under way on the store's loop."""
    threads = {thread for thread in threading.enumerate() if thread.name.startswith(OURS)}
    portal = store_portal()
    return {*connection._shared, *threads, *(portal.call(_tasks()) if portal._loop else ())}


@pytest.fixture(autouse=True)
def _nothing_is_left_open() -> Iterator[None]:
    """Fails a test that leaves a connection, a store's thread or a task on the store's loop behind."""
    before = _left_open()
    yield
    deadline = time.monotonic() + PATIENCE
    while left := _left_open() - before:
        assert time.monotonic() < deadline, f"left open: {left}"
        time.sleep(0.01)
