"""The SQL of this package: files of statements, each under a line `-- name: …`, written for the schema `perdure`."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Self

import attrs
from psycopg.sql import Identifier

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_SCHEMA = re.compile(r"\bperdure\.")
_PART = re.compile(r"\{(\w+)\}")
_PLACEHOLDER = re.compile(r"%\((\w+)\)s")

_SECTIONS = ("await", "commit", "create", "execution", "lease", "lifecycle", "part")
_PATIENCE = {
    "batch": {"skip": "skip locked", "guard": "pg_try_advisory_xact_lock(i.guard)"},
    "alone": {"skip": "", "guard": "pg_advisory_xact_lock(i.guard)::text is not null"},
}
"""What becomes of a `batch` of executions: it waits for none that others have locked, or, `alone`, for the one."""


@attrs.frozen
class Statement:
    """
    A statement as the server takes it.

    The driver's own reading of placeholders is done anew for every long statement, and these are long.

    Attributes:
        text: With numbered placeholders.
        names: What they stand for, in their order.
    """

    text: str
    names: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Self:
        """The statement of a text with placeholders like `%(name)s`."""
        names = tuple(dict.fromkeys(_PLACEHOLDER.findall(text)))
        numbers = {name: f"${number}" for number, name in enumerate(names, 1)}
        return cls(_PLACEHOLDER.sub(lambda match: numbers[match[1]], text), names)

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """The values in the order of the placeholders."""
        return [values[name] for name in self.names]


class Library:
    """
    The statements, by section and name, for one schema: `library["lease", "renew"]`.

    Tables and functions are named with their schema, as behind a pooler no session can be set to one.
    """

    def __init__(self, schema: str) -> None:
        self.schema = schema
        self.header = _read()["part", "header"]
        self._statements = {key: Statement.of(qualify(text, schema)) for key, text in _read().items()}

    def __getitem__(self, key: tuple[str, str]) -> Statement:
        return self._statements[key]


def qualify(text: str, schema: str) -> str:
    """A text written for the schema `perdure`, for another one."""
    return _SCHEMA.sub(f"{Identifier(schema).as_string(None)}.", text)


@cache
def _read() -> dict[tuple[str, str], str]:
    parts = _split("part")
    texts = {}
    for section in _SECTIONS:
        for name, text in _split(section).items():
            if name == "batch":
                for variant, words in _PATIENCE.items():
                    texts[section, variant] = _fill(text, parts | words)
            else:
                texts[section, name] = _fill(text, parts)
    return texts


def _fill(text: str, parts: dict[str, str]) -> str:
    return _PART.sub(lambda part: parts[part[1]], text)


def _split(section: str) -> dict[str, str]:
    text = files(__package__).joinpath("sql", f"{section}.sql").read_text("utf-8")
    _, *pieces = _NAME.split(text)
    return {name: sql.strip() for name, sql in zip(pieces[::2], pieces[1::2], strict=True)}


def read_migrations() -> list[tuple[str, str]]:
    """Names and scripts of `migrations/` in order; the n-th one leads to schema version n."""
    folder = files(__package__).joinpath("migrations")
    scripts = [file for file in folder.iterdir() if file.name.endswith(".sql")]
    ordered = sorted(scripts, key=lambda script: script.name)
    return [(script.name.removesuffix(".sql"), script.read_text("utf-8")) for script in ordered]
