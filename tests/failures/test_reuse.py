"""Names that are used again after their execution was removed, whoever removes it at the same time."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from perdure.portal import store_portal
from perdure.storage import Answer, Created, Draft, SignalKind, Signalled
from tests.failures import flows
from tests.failures.load import size

pytestmark = pytest.mark.filterwarnings("ignore::perdure.errors.UnregisteredFunctionWarning")


def delete(client, id):
    """Mark an ended execution for removal."""
    draft = Draft(b"", secrets.token_hex(8), 1)
    store = client._desk.connection.store
    answer = store_portal().call(store.signal(id, SignalKind.DELETE, draft, secrets.token_hex(16)))
    assert isinstance(answer, Signalled), answer


def test_a_name_used_again_begins_anew(ground):
    """Removed and started again under its name, with other input, an execution has nothing of the first one's."""
    book, ids = ground.book(), []
    with ground.client() as client, ground.fleet(book, lease=30) as fleet:
        fleet.add()
        for n in range(size(20, 0.1)):
            handle = client.start(flows.chain, {"n": n, "log": str(book.path)}, name="again")
            assert handle.result(timeout=60) == [n, n + 1, n + 2]
            ids.append(handle.id)
            delete(client, handle.id)
            # Whether it is removed before the next start, or by it, or by two at once.
            if n % 3 == 1:
                client.purge()
            elif n % 3 == 2:
                client._call(_twice(client))
        fleet.drain()
        assert len(set(ids)) == len(ids)
        assert not book.repeated()


async def _twice(client):
    await asyncio.gather(client._desk.purge(), client._desk.purge())


def test_a_removed_id_stays_removed(ground):
    """A start of the removed id that comes late, as from a parent, makes nothing: it is told that it is gone."""
    book = ground.book()
    with ground.client() as client, ground.fleet(book, lease=30) as fleet:
        fleet.add()
        parent = client.start(flows.pair, {"n": 1, "log": str(book.path)})
        assert parent.result(timeout=60) == [10, 1]
        fleet.drain()
        store = client._desk.connection.store
        (child,) = client.list("child").items
        delete(client, child.id)
        assert client.purge() == 1
        assert store_portal().call(_late(client, child.id, parent.id)) is Answer.GONE
        assert store_portal().call(store.describe(child.id)) is None
        assert book.count() == len(book.runs) == 2


async def _late(client, child, parent):
    """What the carrier of the parent's effect would do, once more."""
    service = client._desk.connection.service
    execution = await service.load(parent)
    (effect,) = execution.effects
    new = await service.carrier._child(parent, effect)
    assert new.id == child
    answer = await service.store.create(new, None)
    assert not isinstance(answer, Created)
    return answer
