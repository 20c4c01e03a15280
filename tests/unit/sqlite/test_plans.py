"""Verbs that run again and again find their rows by an index, however many executions there are."""

from contextlib import closing

import pytest

from perdure.backends.sqlite.leasing import LEASE
from perdure.backends.sqlite.lifecycle import LIFECYCLE
from perdure.backends.sqlite.location import Location
from perdure.backends.sqlite.record import COLUMNS
from perdure.backends.sqlite.schema import connect
from perdure.backends.sqlite.transaction import AWAIT, EXECUTION, JOURNAL

ROWS = 10_000


@pytest.fixture(scope="module", params=["new", "analyzed"])
def crowd(tmp_path_factory, request):
    """A store with many executions, suspended and ended, with journals and awaits, without statistics or with."""
    path = tmp_path_factory.mktemp("crowd") / "store.db"
    with closing(connect(Location.of(path, synchronous="normal"), writes=True)) as connection:
        connection.execute("BEGIN")
        for number in range(1, ROWS + 1):
            insert(connection, number)
        connection.execute("COMMIT")
        if request.param == "analyzed":
            connection.execute("ANALYZE")
        yield connection


def insert(connection, number):
    is_ended = number % 2 == 0
    values = dict.fromkeys(COLUMNS, 0) | {
        "number": number,
        "id": f"x{number}",
        "function": "order",
        "version": "1",
        "name": f"n{number}",
        "digest": "",
        "parent": None,
        "status": "SUCCEEDED" if is_ended else "RUNNING",
        "created": number,
        "wake": None if is_ended else 10**15,
        "deadline": None if is_ended else 10**15,
        "ended": number if is_ended else None,
        "removal": 10**15 if is_ended else None,
        "effect_due": None,
        "owner": f"w{number % 10}" if number % 100 == 1 else None,
        "tip_tag": "",
    }
    places = ", ".join("?" * len(values))
    connection.execute(f"INSERT INTO execution ({', '.join(values)}) VALUES ({places})", tuple(values.values()))
    connection.execute(JOURNAL["append"], (number, 1, 1, "t", None, None, None, None, b"{}"))
    connection.execute(AWAIT["open"], (f"x{number}/op", "", 10**15, None, None, 10**15))


def plan_of(connection, sql):
    for place, width in (("{heads}", 9), ("{rows}", 5)):
        sql = sql.replace(place, ", ".join([f"({', '.join('?' * width)})"] * 2))
    sql = sql.replace("{ids}", "?, ?")
    values = (0,) * (
        max((int(part[0]) for part in sql.split("?")[1:] if part[:1].isdigit()), default=0) or sql.count("?")
    )
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]


@pytest.mark.parametrize(
    ("statements", "name"),
    [
        *((EXECUTION, name) for name in EXECUTION if name != "insert"),
        *((JOURNAL, name) for name in JOURNAL if name not in ("append", "last_position")),
        *((AWAIT, name) for name in AWAIT if name != "open"),
        # These read all live leases: as many as there are processes.
        *((LEASE, name) for name in LEASE if name not in ("register", "locked", "living")),
        *((LIFECYCLE, name) for name in LIFECYCLE if name not in ("bury", "remember_signal")),
    ],
)
def test_no_statement_scans(crowd, statements, name):
    """No statement reads a table of executions, rows or awaits from end to end, with statistics or without."""
    plan = plan_of(crowd, statements[name])
    assert plan
    scans = [step for step in plan if step.startswith("SCAN") and step.split()[1] not in ("holder", "news")]
    assert [step for step in scans if "CONSTANT ROW" not in step] == []


@pytest.mark.parametrize("name", ["due", "overdue", "first_deadline", "unsettled", "first_effect", "removable"])
def test_no_due_index_is_sorted(crowd, name):
    """What is due comes out of the index in order, so that a limit bounds the work."""
    assert not any("TEMP B-TREE" in step for step in plan_of(crowd, EXECUTION[name]))


def test_overdue_awaits_are_not_sorted(crowd):
    """Open awaits come out of their index in the order they are due."""
    assert not any("TEMP B-TREE" in step for step in plan_of(crowd, AWAIT["overdue"]))


@pytest.mark.parametrize("name", ["by_id", "due", "overdue", "unsettled", "removable", "orphans", "held_briefly"])
def test_little_is_read(crowd, name):
    """A verb that finds nothing among ten thousand executions takes few steps of SQLite's machine."""
    steps = 0

    def count():
        nonlocal steps
        steps += 1

    sql = EXECUTION[name]
    values = {"due": ("order", "1", 1, 1), "by_id": ("x5",), "held_briefly": ("w2",)}.get(name, (0,) * sql.count("?"))
    crowd.set_progress_handler(count, 100)
    try:
        crowd.execute(sql, values).fetchall()
    finally:
        crowd.set_progress_handler(None, 0)
    assert steps < 20
