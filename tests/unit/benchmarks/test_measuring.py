"""What the benchmark counts, refuses and compares."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks.catalogue import WORKLOADS
from benchmarks.gauge import NoGauge
from benchmarks.load import load_on
from benchmarks.meter import Cell, Order, WrongResultError
from benchmarks.process import cpu_seconds, tree_cpu_seconds
from benchmarks.roster import Subject, subjects
from benchmarks.system import Place, System
from benchmarks.table import tables
from benchmarks.tally import Tally, step


class Direct(System):
    """An engine that keeps nothing: it calls the steps of a `chain`."""

    def begin(self):
        pass

    def end(self):
        pass

    def start(self, kind, event, key):
        return [step(number) for number in range(event["steps"])]

    def result(self, handle):
        return sum(handle)

    def recover(self, key):
        raise NotImplementedError


class Forgetful(Direct):
    """Answers rightly without running a step."""

    def start(self, kind, event, key):
        return range(event["steps"])


class Wrong(Direct):
    """Runs the steps and answers something else."""

    def result(self, handle):
        return -1


class Lossy(Direct):
    """Its store has recorded one step less."""

    def recorded(self, handle):
        return len(handle) - 1


def measure(kind, name="w2"):
    """The metrics of a workload in its smallest size."""
    order = Order("direct", "", name, {}, ("", "", "t"), "")
    system = kind("", Place(*order.place))
    workload = WORKLOADS[name]
    return workload.run(Cell(system, load_on(system), NoGauge(), {**workload.sizes, **workload.quick}, order))


@pytest.mark.parametrize("name", ["w1", "w2", "w3"])
def test_a_workload_measures_its_headline(name):
    """What is shown first is measured, and is more than nothing."""
    assert measure(Direct, name)[WORKLOADS[name].figures[0].metric] > 0


@pytest.mark.parametrize("name", ["w1", "w2", "w3"])
@pytest.mark.parametrize(
    ("kind", "what"),
    [(Forgetful, "step bodies ran: 0"), (Wrong, "a workflow's result: -1"), (Lossy, "steps recorded of a workflow")],
)
def test_what_was_not_done_is_not_measured(kind, what, name):
    """Steps that did not run, wrong results and records that are missing end a measurement."""
    with pytest.raises(WrongResultError, match=what):
        measure(kind, name)


def test_a_tally_misses_nothing():
    """Threads count together, and reading is not counted."""
    tally, gate = Tally(), threading.Barrier(4)

    def count(_):
        gate.wait()
        for _ in range(5000):
            tally.add()
        return tally

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))
    assert [tally.read(), tally.read()] == [20_000, 20_000]
    tally.add()
    assert tally.read() == 20_001


def test_processes_that_are_gone_have_no_time():
    """A process that ended while it was measured is no error."""
    assert (cpu_seconds(2**22 + 1), tree_cpu_seconds(2**22 + 1)) == (0, 0)


def test_systems_are_chosen_by_pattern():
    """A system's name stands for all its variants; a peer has the interpreter it was given."""
    chosen = subjects(["floor", "*:sqlite-async"], {"dbos": "/opt/dbos/python"})
    names = [subject.name for subject in chosen]
    assert names[:1] + names[-1:] == ["perdure:sqlite-async", "floor:valkey"]
    assert [subject.python for subject in chosen if subject.system == "dbos"] == ["/opt/dbos/python"]
    with pytest.raises(ValueError, match="'dobs:\\*' is no system; there are perdure:memory"):
        subjects(["dobs"], {})


def test_a_system_that_is_not_installed_says_so():
    """Why a peer is skipped: its interpreter, or what that has not."""
    assert Subject("dbos", "postgres", "/nowhere/python").missing() == "there is no interpreter /nowhere/python"
    assert Subject("perdure", "sqlite").missing() is None


def result(system, workload, **metrics):
    """As one sample on a calm machine makes it."""
    samples = {name: [value] for name, value in metrics.items()}
    calm = {"cpu_ms": 5.0, "fsync_us": 100.0, "load": 0.0}
    sizes = dict(WORKLOADS[workload].sizes)
    answer = {"system": system, "workload": workload, "sizes": sizes, "calibrations": [calm]}
    return {**answer, "metrics": metrics, "samples": samples}


def row(text, system):
    """The cells of a system's row, by the heads of its table."""
    lines = text.splitlines()
    number = next(n for n, line in enumerate(lines) if line.split()[:1] == [system])
    return lines[number].split()


def test_ratios_tell_how_many_times_as_good():
    """Of times the peer's is divided by ours, of rates ours by the peer's; above one is better."""
    text = tables(
        [
            result("perdure:postgres", "w1", p50_ms=2.0),
            result("dbos:postgres", "w1", p50_ms=3.0),
            result("dbos:postgres-queue", "w1", p50_ms=900.0),
            result("perdure:postgres", "w2", workflows_s=2000.0),
            result("dbos:postgres", "w2", workflows_s=100.0),
        ]
    )
    times, rates = text.split("\n\n")[:2]
    assert row(times, "perdure:postgres")[3] == "1.50"
    assert row(rates, "perdure:postgres")[3] == "20"


def test_ratios_are_of_the_same_store_and_colour():
    """A peer without the store is compared on postgres; its coroutines with ours, if it has any."""
    text = tables(
        [
            result("perdure:sqlite-async", "w1", p50_ms=1.0),
            result("perdure:redis", "w1", p50_ms=1.0),
            result("dbos:sqlite", "w1", p50_ms=2.0),
            result("dbos:sqlite-async", "w1", p50_ms=3.0),
            result("dbos:postgres", "w1", p50_ms=4.0),
            result("absurd:postgres", "w1", p50_ms=5.0),
        ]
    )
    assert row(text, "perdure:sqlite-async")[3:5] == ["3.00", "5.00"]
    assert row(text, "perdure:redis")[3:5] == ["4.00", "5.00"]


def test_a_table_says_what_is_not_as_its_title_tells():
    """Other sizes, skipped and failed measurements, and disturbed samples are named."""
    small = result("perdure:sqlite", "w1", p50_ms=1.0)
    small["sizes"]["n"] = 3
    slow = result("perdure:memory", "w1", p50_ms=1.0)
    slow["calibrations"][0]["cpu_ms"] = 9.0
    text = tables(
        [
            small,
            slow,
            {"system": "dbos:postgres", "workload": "w1", "calibrations": [], "skipped": "dbos not installed"},
            {"system": "floor:sqlite", "workload": "w1", "calibrations": [], "error": "OSError: no space"},
        ]
    )
    assert "perdure:sqlite: other sizes: n = 3" in text
    assert "dbos:postgres: skipped, dbos not installed" in text
    assert "floor:sqlite: FAILED, OSError: no space" in text
    assert row(text, "perdure:memory")[-4:-2] == ["9.0", "ms!"]
    assert "ms!" not in row(text, "perdure:sqlite")
