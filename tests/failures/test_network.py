"""Networks that lose replies, come late, cut connections, refuse them, or fall silent."""

from __future__ import annotations

import random
import time

import pytest

from tests.failures import oracle
from tests.failures.fleet import wait_until
from tests.failures.load import BRISK, Load, show, size
from tests.failures.proxy import FAIR, Weather

pytestmark = pytest.mark.filterwarnings("ignore::perdure.errors.UnregisteredFunctionWarning")

LEASE = 30.0
WORKERS = 2


def check_crashes(served, client, book, losses):
    """
    What a lease outlives is no crash of an invocation, and no body has to run again for it.

    On PostgreSQL a process that loses its connection may be taken for dead before it has another one: seldom.
    """
    most = losses // 10 if served.kind == "postgres" else 0
    assert oracle.crashes(client) <= most
    assert len(book.repeated()) <= most


def test_lost_replies_and_late_requests(served):
    """Whatever is lost, before or after it is carried out, and whenever it arrives: nothing is lost or doubled."""
    book = served.book()
    with served.proxy(seed=3) as (proxy, url), served.client(url) as client:
        with served.fleet(book, url=url, lease=LEASE) as fleet:
            for _ in range(WORKERS):
                fleet.add()
            load = Load(client, book)
            fleet.wait_for_all()
            proxy.weather = Weather(lose_reply=0.02, lose_request=0.01, delay=0.1)
            load.finish(600, total=size())
            proxy.weather = FAIR
            fleet.drain()
            load.check_runs()
            oracle.check(client)
            check_crashes(served, client, book, proxy.lost)
        assert proxy.lost >= 5
        show(
            f"{served.kind}: {len(load.handles)} workflows, {proxy.lost} lost, {len(book.repeated())} repeated, "
            f"{len(book.fences())} fences, {proxy.traffic}"
        )


def test_cut_connections(served):
    """All connections end again and again, in the midst of whatever they carry."""
    chance, book, next_cut, cuts = random.Random(4), served.book(), 0.0, 0
    with served.proxy() as (proxy, url), served.client(url) as client:
        with served.fleet(book, url=url, lease=LEASE) as fleet:
            for _ in range(WORKERS):
                fleet.add()
            load = Load(client, book)
            fleet.wait_for_all()

            def trouble() -> None:
                nonlocal next_cut, cuts
                if time.monotonic() >= next_cut:
                    proxy.cut()
                    cuts += 1
                    next_cut = time.monotonic() + chance.uniform(0.2, 0.8)

            load.finish(600, meanwhile=trouble, total=size())
            fleet.drain()
            load.check_runs()
            oracle.check(client)
            check_crashes(served, client, book, cuts)
        show(
            f"{served.kind}: {len(load.handles)} workflows, {cuts} cuts, {len(book.repeated())} repeated, "
            f"{len(book.fences())} fences"
        )


OUTAGE = 3.0
ATTEMPTS = 30
"""Attempts to connect per process and second that are no storm."""


def test_an_outage(served):
    """While nobody can connect, processes try again with pauses; then all goes on, and no body runs again."""
    book = served.book()
    with served.proxy() as (proxy, url), served.client() as client:
        with served.fleet(book, url=url, lease=LEASE) as fleet:
            for _ in range(WORKERS):
                fleet.add()
            load = Load(client, book, BRISK)
            load.start(size(share=0.5))
            fleet.wait_for_all()
            proxy.turn_away()
            before, until = proxy.traffic.connections, time.monotonic() + OUTAGE
            wait_until(lambda: time.monotonic() > until, "the outage is over")
            attempts = proxy.traffic.connections - before
            proxy.let_in()
            load.finish()
            fleet.drain()
            load.check_runs()
            oracle.check(client)
            assert oracle.crashes(client) == 0
        assert not book.lost_leases()
        assert not book.repeated()
        assert WORKERS <= attempts <= ATTEMPTS * WORKERS * OUTAGE
        show(f"{served.kind}: {attempts} attempts, {len(book.repeated())} repeated, {len(book.fences())} fences")


PATIENCE = {"postgres": ("--answer-within", "3"), "redis": ()}


def test_connections_that_are_dead_without_knowing_it(served):
    """A worker whose connections lead nowhere any more finds that out, and works on with new ones."""
    book = served.book()
    with served.proxy() as (proxy, url), served.client() as client:
        with served.fleet(book, *PATIENCE[served.kind], url=url, lease=LEASE) as fleet:
            for _ in range(WORKERS):
                fleet.add()
            load = Load(client, book, BRISK)
            fleet.wait_for_all()
            load.start(10)
            proxy.strand()
            began = time.monotonic()
            load.start(10)
            load.finish(60)
            fleet.drain()
            load.check_runs()
            oracle.check(client)
        show(f"{served.kind}: over after {time.monotonic() - began:.1f} s, {len(book.fences())} fences")
