"""All workloads: what each does, in which sizes, and which of its figures are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.cold import cold
from benchmarks.fleet import backlog, pair, snapshot
from benchmarks.recovery import recovery
from benchmarks.sleeper import sleepers
from benchmarks.workload import evenness, fan, latency, lateness, succession, throughput

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.meter import Cell, Metrics


class Figure(NamedTuple):
    """
    A figure of a workload's table.

    Attributes:
        metric: Its name in the results.
        title: Above its column.
        digits: After the point.
        aim: What Perdure on a server should reach, or None.
        is_rate: Whether more is better.
    """

    metric: str
    title: str
    digits: int = 1
    aim: float | None = None
    is_rate: bool = False


class Workload(NamedTuple):
    """
    A workload.

    Attributes:
        title: What it does.
        run: Does it; returns its metrics.
        figures: What is shown, the headline first: ratios are of that one.
        sizes: As usual; `quick`: the smallest that still is one.
        is_timed: Whether the cell starts the engine before, and stops it afterwards.
        has_worker: Whether the engine's worker is part of that.
        is_own: Whether it is for Perdure alone, and runs only when asked for.
        limit: Seconds that its process may take.
    """

    title: str
    run: Callable[[Cell], Metrics]
    figures: tuple[Figure, ...]
    sizes: Mapping[str, Any]
    quick: Mapping[str, Any]
    is_timed: bool = True
    has_worker: bool = True
    is_own: bool = False
    limit: float = 300


CPU = Figure("cpu_ms_per_workflow", "CPU ms/wf", 2)
SERVER = Figure("server_cpu_ms_per_workflow", "server CPU", 2)
WORKLOADS = {
    "w1": Workload(
        "workflows of one step, one after the other, start to result",
        latency,
        (Figure("p50_ms", "p50 ms", 2, aim=2), Figure("p95_ms", "p95 ms", 2), CPU, SERVER),
        {"n": 200, "steps": 1, "warm": 5},
        {"n": 3, "warm": 1},
    ),
    "w2": Workload(
        "workflows of three steps, a closed loop of 32 clients",
        throughput,
        (
            Figure("workflows_s", "workflows/s", 0, aim=2500, is_rate=True),
            Figure("steps_s", "steps/s", 0, is_rate=True),
            Figure("p50_ms", "p50 ms", 2),
            Figure("p95_ms", "p95 ms", 2),
            CPU,
            SERVER,
        ),
        {"n": 500, "steps": 3, "clients": 32, "warm": 5},
        {"n": 5, "clients": 2, "warm": 1},
    ),
    "w3": Workload(
        "one workflow of 1,000 steps, one after the other",
        succession,
        (Figure("steps_s", "steps/s", 0, aim=1800, is_rate=True), Figure("total_ms", "total ms", 0), CPU, SERVER),
        {"n": 3, "steps": 1000, "warm": 1},
        {"n": 1, "steps": 5},
    ),
    "w4": Workload(
        "SIGKILL after step 1,000, then a new worker",
        recovery,
        (
            Figure("recover_ms", "recover ms", 0),
            Figure("known_dead_ms", "since known dead", 0, aim=200),
            Figure("replay_ms_per_1000", "replay ms/1,000", 1, aim=10),
            Figure("detect_ms", "detect ms", 0),
        ),
        {"steps": 1000, "limit": 150},
        {"steps": 5},
        is_timed=False,
    ),
    "w5": Workload(
        "one workflow of 200 branches of one step at once",
        fan,
        (Figure("total_ms", "total ms", 1, aim=30), Figure("gather_ms", "steps alone ms", 1), CPU, SERVER),
        {"n": 5, "width": 200, "warm": 1},
        {"n": 1, "width": 5},
    ),
    "w6": Workload(
        "100 workflows that sleep 1 s at once: lateness of the first line afterwards",
        lateness,
        (
            Figure("p50_ms", "p50 ms", 1, aim=5),
            Figure("p95_ms", "p95 ms", 1, aim=20),
            Figure("most_ms", "most ms", 1),
            Figure("seen_p50_ms", "result seen p50", 1),
            CPU,
        ),
        {"n": 100, "seconds": 1, "warm": 1},
        {"n": 3},
    ),
    "w7": Workload(
        "cold import in a new interpreter",
        cold,
        (
            Figure("import_ms", "import ms", 0),
            Figure("rss_mb", "RSS MB", 1),
            Figure("thin_ms", "author's ms", 0),
            Figure("thin_rss_mb", "author's RSS", 1),
            Figure("bare_rss_mb", "bare RSS", 1),
        ),
        {"n": 7},
        {"n": 2},
        is_timed=False,
    ),
    "w8": Workload(
        "2,000 workflows asleep for an hour",
        sleepers,
        (
            Figure("kb_per_workflow", "KB/workflow", 2),
            Figure("idle_cpu_percent", "idle CPU %", 1),
            Figure("threads", "threads", 0),
            Figure("all_asleep_s", "all asleep s", 1),
            Figure("claim_ratio", "claims slower", 2, aim=1.5),
            Figure("idle_transactions_per_s", "idle tx/s", 1),
            Figure("idle_commands_per_s", "idle cmd/s", 1),
        ),
        {"n": 2000, "seconds": 3600, "warm": 5, "burst": 500, "settle": 3, "idle": 5, "limit": 120},
        {"n": 5, "burst": 5, "settle": 0.2, "idle": 0.5},
    ),
    "w9": Workload(
        "two worker processes against one, steps that wait 50 ms for something outside",
        pair,
        (
            Figure("ratio", "times as fast", 2, aim=1.6, is_rate=True),
            Figure("alone_s", "one wf/s", 0, is_rate=True),
            Figure("pair_s", "two wf/s", 0, is_rate=True),
            Figure("least_share", "least share", 2),
        ),
        {"n": 400, "steps": 3, "seconds": 0.05, "clients": 48, "concurrency": 32, "warm": 32},
        {"n": 4, "seconds": 0.01, "clients": 2, "warm": 1},
        has_worker=False,
        is_own=True,
    ),
    "w10": Workload(
        "100,000 executions due before a worker begins",
        backlog,
        (
            Figure("ratio", "claims slower", 2, aim=1.5),
            Figure("claim_early_ms", "second tenth ms", 2),
            Figure("claim_last_ms", "last tenth ms", 2),
            Figure("claim_worst_ms", "worst tenth ms", 2),
            Figure("drain_s", "drained/s", 0, is_rate=True),
            Figure("create_s", "created/s", 0, is_rate=True),
        ),
        {"n": 100_000, "steps": 1, "workers": 1, "concurrency": 32, "limit": 1800},
        {"n": 5},
        has_worker=False,
        is_own=True,
        limit=3600,
    ),
    "w11": Workload(
        "claims under load with an old snapshot held open for a minute",
        snapshot,
        (
            Figure("ratio", "claims slower", 2, aim=1.5),
            Figure("claim_ms", "claim ms", 2),
            Figure("claim_held_ms", "held ms", 2),
            Figure("claim_after_ms", "afterwards ms", 2),
            Figure("workflows_s", "workflows/s", 0, is_rate=True),
            Figure("workflows_held_s", "held wf/s", 0, is_rate=True),
        ),
        {"steps": 3, "clients": 16, "concurrency": 32, "warm": 3, "window": 10, "hold": 60},
        {"clients": 2, "warm": 0.2, "window": 0.5, "hold": 1},
        has_worker=False,
        is_own=True,
    ),
    "w12": Workload(
        "one workflow of 10,000 steps: its last steps beside its first ones",
        evenness,
        (
            Figure("ratio", "steps slower", 2, aim=1.1),
            Figure("early_us", "from step 10 µs", 0),
            Figure("late_us", "to step 10,000 µs", 0),
        ),
        {"steps": 10_000, "early": 10, "window": 1000, "warm": 1},
        {"steps": 40, "early": 2, "window": 10},
        is_own=True,
    ),
}
