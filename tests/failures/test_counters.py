"""What a workflow costs on the wire, counted there, and what a worker costs that has nothing to do."""

from __future__ import annotations

import math
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest

from perdure.adapters.worker import Worker
from perdure.client import Client
from perdure.storage import Claimed, open_backend
from tests.failures import flows
from tests.failures.fleet import wait_until
from tests.failures.load import show, size

pytestmark = pytest.mark.filterwarnings("ignore::perdure.errors.UnregisteredFunctionWarning")

COMMITS = 4
"""Of a workflow of three steps: one for each, and one for the end."""
MOST = {"postgres": (6.5, 9000, 6000), "redis": (5.5, 6000, 3000)}
"""Round trips, bytes sent, bytes received, per workflow of three steps that starts where its worker is."""
FURTHER = 2.0
"""Round trips more where the worker is elsewhere: it claims, and reads what was written."""


@attrs.frozen
class Meter:
    """What went by between two looks."""

    proxy: object
    committer: object

    def __call__(self):
        return attrs.evolve(self.proxy.traffic), self.committer.commits, self.committer.batches


def run(client, function, book, count):
    for n in range(count):
        assert client.start(function, {"n": n, "log": str(book.path)}).result(timeout=30) == [n, n + 1, n + 2]


@pytest.mark.parametrize("function", [flows.chain, flows.chain_async], ids=lambda function: function.name)
@pytest.mark.usefixtures("unhurried")
def test_what_three_steps_cost(served, function):
    """Four commits, and hardly more round trips than that and the start; bytes in proportion to what is recorded."""
    book, count = served.book(), size(100, 0.5)
    with served.proxy() as (proxy, url), Client(url) as client, Worker(url, [function]):
        committer = client._desk.connection.service.committer
        run(client, function, book, 5)
        before, commits, batches = Meter(proxy, committer)()
        run(client, function, book, count)
        traffic = proxy.traffic.since(before)
        assert committer.commits - commits == COMMITS * count
        assert committer.batches - batches == COMMITS * count
        cost = traffic.round_trips / count, traffic.sent / count, traffic.received / count
        show(
            f"{served.kind} {function.name}: {cost[0]:.2f} round trips, {cost[1]:.0f} + {cost[2]:.0f} bytes a workflow"
        )
        assert all(is_ <= most for is_, most in zip(cost, MOST[served.kind], strict=True)), cost
        assert cost[0] >= COMMITS + 1


def test_what_a_worker_elsewhere_costs(served):
    """A claim and a read more, when another process runs what is started."""
    book, count = served.book(), size(100, 0.5)
    with served.client() as client, served.proxy() as (proxy, url), served.fleet(book, url=url, lease=30) as fleet:
        fleet.add()
        fleet.wait_for_all()
        run(client, flows.chain, book, 5)
        before = attrs.evolve(proxy.traffic)
        run(client, flows.chain, book, count)
        traffic = proxy.traffic.since(before)
        most, cost = MOST[served.kind], traffic.round_trips / count
        show(
            f"{served.kind}: {cost:.2f} round trips, {traffic.sent / count:.0f} + {traffic.received / count:.0f} bytes"
        )
        assert COMMITS + 1 <= cost <= most[0] + FURTHER
        assert traffic.sent / count <= most[1]
        assert traffic.received / count <= most[2]


def test_commits_of_many_share_a_round_trip(ground):
    """While one batch is on its way the next one gathers: many executions cost far fewer batches than commits."""
    book, count = ground.book(), 100
    with Client(ground.url) as client, Worker(ground.url, [flows.chain_async], concurrency=64):
        committer = client._desk.connection.service.committer

        def round_trips():
            # A store that commits are posted to gathers them itself.
            return committer._store.transactions if committer.takes_posts else committer.batches

        run(client, flows.chain_async, book, 2)
        commits, before = committer.commits, round_trips()
        with ThreadPoolExecutor(8) as threads:
            event = {"n": 0, "log": str(book.path)}
            handles = list(threads.map(lambda _: client.start(flows.chain_async, event), range(count)))
        for handle in handles:
            assert handle.result(timeout=60) == [0, 1, 2]
        made, sent = committer.commits - commits, round_trips() - before
        show(f"{ground.kind}: {made} commits in {sent} batches")
        # Where the worker was full, an execution was claimed later, which costs no commit; but where the machine is
        # busy, the START of a step that takes long is recorded before its result.
        assert COMMITS * count <= made <= 7 * count
        assert sent <= made * 0.8


class CountingStore:
    """A store as it is, that counts what claims bring."""

    def __init__(self, store):
        self._store = store
        self.claims = []
        self.calls = Counter()

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def claim(self, *arguments):
        answer = await self._store.claim(*arguments)
        assert isinstance(answer, Claimed), answer
        self.claims.append(len(answer.headers))
        return answer


def test_claims_take_many(ground):
    """What has been due for long is taken by as many at once as there are slots for."""
    book, count, slots = ground.book(), 128, 64
    store = CountingStore(open_backend(ground.url).store)
    with ground.client() as client:
        event = {"n": 0, "log": str(book.path), "pause": 0.02}
        for _ in range(count):
            client.start(flows.chain, event)
        with Worker(store, [flows.chain], concurrency=slots):
            wait_until(lambda: all(each.status.value == "SUCCEEDED" for each in client.list(limit=count).items), "all")
    takes = [taken for taken in store.claims if taken]
    show(f"{ground.kind}: {count} executions in {len(takes)} claims, at first {takes[:5]}")
    assert sum(takes) == count
    # Half of what is free, again and again: a first round takes most of the slots.
    assert takes[0] >= slots / 2
    assert count / len(takes) >= 2


FALLBACK = 4.0
"""Seconds, at least, between two looks without a sign."""
CONCERNS = 6
"""What is looked for: due executions, deadlines, effects, dead processes, what can be removed, and neighbours."""


def test_an_idle_worker(served):
    """It renews its lease, and looks for each concern every few seconds; nothing else goes over the wire."""
    book, lease, seconds = served.book(), 30.0, 6.0
    with served.proxy() as (proxy, url), served.client() as client, served.fleet(book, url=url, lease=lease) as fleet:
        fleet.add()
        fleet.wait_for_all()
        run(client, flows.chain, book, 1)
        time.sleep(1.0)
        before = attrs.evolve(proxy.traffic)
        time.sleep(seconds)
        traffic = proxy.traffic.since(before)
        fleet.drain()
        show(f"{served.kind}: {traffic.round_trips / seconds:.2f} round trips a second, {traffic}")
        assert traffic.connections == 0
        assert traffic.round_trips <= math.ceil(seconds / (lease / 3)) + CONCERNS * math.ceil(seconds / FALLBACK)
