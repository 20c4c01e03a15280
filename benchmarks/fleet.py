"""W9–W11: worker processes of their own; of Perdure only, on demand."""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from benchmarks.meter import WrongResultError, expect, expect_values
from benchmarks.workman import Workman

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.meter import Cell, Metrics
    from benchmarks.watch import ClaimTime

TENTHS = 10
SAMPLE = 500
"""How many results of W10 are looked at; that each step ran once is counted."""


def pair(cell: Cell) -> Metrics:
    """W9: what a second worker process adds where steps wait for something outside."""
    alone, _ = _rate(cell, 1)
    both, share = _rate(cell, 2)
    return {"alone_s": alone, "pair_s": both, "ratio": both / alone, "least_share": share}


def backlog(cell: Cell) -> Metrics:
    """W10: many executions are due before a worker begins; do claims become slower as it drains them?"""
    sizes = cell.sizes
    number, steps = sizes["n"], sizes["steps"]
    begun = time.perf_counter()
    handles = cell.load.launch("chain", {"steps": steps}, number)
    created = time.perf_counter() - begun
    with _crew(cell, sizes["workers"]) as crew:
        begun = time.perf_counter()
        claims: list[ClaimTime] = []
        ran = 0
        while ran < number * steps:
            if time.perf_counter() - begun > sizes["limit"]:
                raise WrongResultError(f"{ran} of {number * steps} step bodies ran within {sizes['limit']} s")
            cell.load.idle(0.1)
            reports = [workman.report() for workman in crew]
            ran = sum(report.steps for report in reports)
            claims += [claim for report in reports for claim in report.claims]
        drained = time.perf_counter() - begun
        for handle in handles[:: -(-number // SAMPLE)]:
            expect(cell.load.call(cell.system.result, handle), sum(range(steps)), "a workflow's result")
        expect(sum(workman.report().steps for workman in crew), number * steps, "step bodies ran")
    return {"create_s": number / created, "drain_s": number / drained, **_tenths(claims)}


def snapshot(cell: Cell) -> Metrics:
    """W11: an old snapshot keeps dead rows alive; what do claims cost beside it, after a while of load?"""
    sizes = cell.sizes
    event, clients, window = {"steps": sizes["steps"]}, sizes["clients"], sizes["window"]

    def phase(crew: list[Workman], seconds: float) -> tuple[list[ClaimTime], int]:
        for workman in crew:
            workman.report()
        ended = cell.load.span("chain", event, seconds, clients)
        expect_values(ended, sum(range(sizes["steps"])))
        return [claim for workman in crew for claim in workman.report().claims if claim.taken], len(ended)

    with _crew(cell, 1) as crew:
        phase(crew, sizes["warm"])
        free, free_ended = phase(crew, window)
        with _old_snapshot(cell.system.place.url):
            phase(crew, sizes["hold"] - window)
            held, held_ended = phase(crew, window)
        after, _ = phase(crew, window)
    before, beside = _median_ms(free), _median_ms(held)
    return {
        "claim_ms": before,
        "claim_held_ms": beside,
        "ratio": beside / before,
        "claim_after_ms": _median_ms(after),
        "workflows_s": free_ended / window,
        "workflows_held_s": held_ended / window,
    }


def _rate(cell: Cell, workers: int) -> tuple[float, float]:
    """Workflows per second, and the least share of the steps that one of the workers had."""
    sizes = cell.sizes
    number, steps = sizes["n"] * workers, sizes["steps"]
    event: dict[str, Any] = {"steps": steps, "seconds": sizes["seconds"]}
    with _crew(cell, workers) as crew:
        warm = sizes["warm"] * workers
        cell.load.loop("pause", event, warm, warm)
        ran = [workman.report().steps for workman in crew]
        begun = time.perf_counter()
        ended = cell.load.loop("pause", event, number, sizes["clients"] * workers)
        wall = time.perf_counter() - begun
        ran = [workman.report().steps - steps for workman, steps in zip(crew, ran, strict=True)]
    expect_values(ended, sum(range(steps)))
    expect(sum(ran), number * steps, "step bodies ran")
    return number / wall, min(ran) * workers / sum(ran)


@contextmanager
def _crew(cell: Cell, size: int) -> Iterator[list[Workman]]:
    url, concurrency = cell.system.place.url, cell.sizes["concurrency"]
    with ExitStack() as stack:
        yield [stack.enter_context(Workman(url, concurrency)) for _ in range(size)]


@contextmanager
def _old_snapshot(url: str) -> Iterator[None]:
    if url.startswith("sqlite"):
        import sqlite3  # noqa: PLC0415 - one of two

        reader = sqlite3.connect(url.partition("?")[0].removeprefix("sqlite:///"), isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM sqlite_master")
        yield
        reader.close()
        return
    import psycopg  # noqa: PLC0415

    with psycopg.connect(url.partition("?")[0]) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("SELECT txid_current_if_assigned(), count(*) FROM pg_class")
        yield


def _tenths(claims: Sequence[ClaimTime]) -> Metrics:
    """Medians over tenths of the claims that got something, in their order."""
    took = [claim.seconds * 1e3 for claim in sorted(claims) if claim.taken]
    expect(bool(took), True, "claims that got something")
    size = -(-len(took) // TENTHS)
    medians = [statistics.median(took[begin : begin + size]) for begin in range(0, len(took), size)]
    early = medians[min(1, len(medians) - 1)]  # the first tenth fills caches
    return {
        "claims": len(took),
        "claim_first_ms": medians[0],
        "claim_early_ms": early,
        "claim_last_ms": medians[-1],
        "claim_worst_ms": max(medians),
        "ratio": medians[-1] / early,
    }


def _median_ms(claims: Sequence[ClaimTime]) -> float:
    expect(bool(claims), True, "claims that got something")
    return statistics.median(claim.seconds for claim in claims) * 1e3
