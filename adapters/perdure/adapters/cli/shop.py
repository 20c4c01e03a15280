"""
The outside world of the demo: a card company, warehouses, a packing table, a manager, a carrier.

Each of them notes in a ledger when it begins and when it has finished something, so that afterwards it can be counted
how often the world was really touched, whatever any journal says. They share a folder, `$PERDURE_DEMO_SHOP`.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = "PERDURE_DEMO_SHOP"
PACE = 0.15
"""Seconds that anything takes."""
LONGEST_JAM = 60.0


@attrs.frozen
class Note:
    """One line of the ledger: a process (`pid`) has `begun` or `finished` something."""

    what: str
    moment: str
    pid: int


def folder() -> Path:
    """Where the shop keeps its things."""
    return Path(os.environ.get(FOLDER, tempfile.gettempdir()))


def ledger() -> list[Note]:
    """Everything that was noted, oldest first."""
    return [Note(**json.loads(line)) for line in (_read("ledger") or "").splitlines()]


def jam(what: str | None) -> None:
    """Let the table jam at the next `what` and stay jammed; None clears it."""
    if what is None:
        (folder() / "jam").unlink(missing_ok=True)
    else:
        _put("jam", what)


def letter() -> str | None:
    """The callback id that the manager was written, if there was a letter."""
    return _read("letter")


def reserve(order: str) -> str:
    """Put the order's goods aside."""
    with _noted("reserve"):
        return f"reserved for {order}"


def charge(card: str, amount: int) -> str:
    """Charge a card, in cents."""
    with _noted("charge"):
        return f"{amount} cents from card {card[-4:]}"


def in_stock(warehouse: str) -> bool:
    """Ask a warehouse whether it has the goods."""
    with _noted(f"ask {warehouse}"):
        return warehouse != "harbour"


def pack(article: str) -> str:
    """Put one article into a parcel."""
    with _noted(f"pack {article}"):
        return f"parcel with {article}"


def write_to_manager(callback_id: str) -> None:
    """Ask for approval, in a letter that says how to answer."""
    with _noted("write to manager"):
        _put("letter", callback_id)


def ship(parcels: list[str]) -> str:
    """Hand the parcels to the carrier."""
    with _noted("ship"):
        return f"{len(parcels)} parcels on their way"


@contextmanager
def _noted(what: str) -> Iterator[None]:
    _note(Note(what, "begun", os.getpid()))
    time.sleep(PACE)
    _stand_still(what)
    yield
    _note(Note(what, "finished", os.getpid()))


def _note(note: Note) -> None:
    # One write to a file opened for appending: lines of several processes do not mix.
    with (folder() / "ledger").open("a", encoding="utf-8") as ledger:
        ledger.write(json.dumps(attrs.asdict(note)) + "\n")


def _stand_still(what: str) -> None:
    limit = time.monotonic() + LONGEST_JAM
    while time.monotonic() < limit and _read("jam") == what:
        time.sleep(PACE / 10)


def _read(name: str) -> str | None:
    try:
        return (folder() / name).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _put(name: str, text: str) -> None:
    # Readers find all of it or nothing.
    fresh = folder() / f".{name}"
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(folder() / name)
