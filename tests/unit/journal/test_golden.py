"""
Journals that were written by the first version stay readable, and mean the same, for ever.

The golden files are never edited and never written anew. A new format gets files of its own beside them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest

from perdure.codec import to_wire
from perdure.journal import entry as entries
from perdure.journal.entry import FORMAT, decode, encode
from perdure.journal.fold import fold
from perdure.journal.history import events
from perdure.model import ErrorObject, OperationUpdate
from perdure.storage import OpenInvocation, Row

if TYPE_CHECKING:
    from collections.abc import Iterator

GOLDEN = Path(__file__).parent / "golden"


def journals(format: int = 1) -> dict[str, list[Row]]:
    """All golden journals of a format, by execution."""
    found: dict[str, list[Row]] = {}
    for line in (GOLDEN / f"format-{format}.jsonl").read_text().splitlines():
        members = json.loads(line)
        invocation = members.get("Invocation")
        row = Row(
            index=members["Index"],
            at=members["At"],
            tag=members["Tag"],
            seen=members.get("Seen"),
            operation=members.get("Operation"),
            invocation=invocation and OpenInvocation(invocation["Id"], invocation["At"]),
            body=members["Body"].encode(),
        )
        found.setdefault(members["Execution"], []).append(row)
    return found


def meaning(id: str, rows: list[Row]) -> dict[str, object]:
    """Everything that follows from a journal, as JSON."""
    execution = fold(id, rows)
    folded = {
        "name": execution.name,
        "function": execution.function,
        "version": execution.version,
        "input": execution.input,
        "parent": execution.parent,
        "tenant_id": execution.tenant_id,
        "execution_timeout": execution.execution_timeout,
        "retention_days": execution.retention_days,
        "id_scheme": execution.id_scheme,
        "status": execution.status.value,
        "result": execution.result,
        "error": execution.error and to_wire(execution.error),
        "operations": [
            to_wire(operation) | {"position": operation.position} for operation in execution.operations.values()
        ],
        "news": execution.news,
        "invocations": execution.invocations,
        "crashes": execution.crashes,
        "effects": [
            [type(effect).__name__, attrs.asdict(effect, value_serializer=_plain)] for effect in execution.effects
        ],
        "events": [to_wire(event) for event in events(id, rows)],
    }
    return json.loads(json.dumps(folded))


def _plain(_: object, __: object, value: object) -> object:
    return getattr(value, "value", value)


@pytest.mark.parametrize("id", journals())
def test_a_golden_journal_means_what_it_meant(id):
    """State, effects and history of a recorded journal are those that were recorded with it."""
    expected = json.loads((GOLDEN / "format-1.expected.json").read_text())[id]
    assert meaning(id, journals()[id]) == expected


@pytest.mark.skipif(FORMAT != 1, reason="a later version writes another format")
def test_this_version_writes_the_golden_bodies():
    """What is read is written again byte for byte: the format did not change unnoticed."""
    for rows in journals().values():
        for row in rows:
            assert encode(decode(row.body)) == row.body


def parts(value: object) -> Iterator[object]:
    """An entry and every attrs value within it."""
    if attrs.has(type(value)):
        yield value
        for field in attrs.fields(type(value)):
            yield from parts(getattr(value, field.name))
    elif isinstance(value, dict | tuple):
        for member in value.values() if isinstance(value, dict) else value:
            yield from parts(member)


def test_the_golden_journals_have_everything():
    """Every attribute of every part of an entry occurs with another value than its default, every type and action."""
    found = [part for rows in journals().values() for row in rows for part in parts(decode(row.body))]
    seen = {
        (type(part).__name__, field.name)
        for part in found
        for field in attrs.fields(type(part))
        if getattr(part, field.name) not in (None, (), {}, field.default)
    }
    classes = [cls for cls in (*vars(entries).values(), ErrorObject) if isinstance(cls, type) and attrs.has(cls)]
    # The scheme that the first version named is its default.
    assert {(cls.__name__, field.name) for cls in classes for field in attrs.fields(cls)} - seen == {
        ("Started", "id_scheme")
    }
    actions = {(part.operation_type, part.action) for part in found if isinstance(part, OperationUpdate)}
    assert len(actions) == 13
