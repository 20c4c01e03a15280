"""The SQL of this package: files of statements, each under a line `-- name: …`."""

from __future__ import annotations

import re
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def read_statements(section: str, **parts: str) -> dict[str, str]:
    """The statements of `sql/<section>.sql` by name, `{part}` replaced."""
    text = files(__package__).joinpath("sql", f"{section}.sql").read_text("utf-8")
    for name, part in parts.items():
        text = text.replace(f"{{{name}}}", part)
    _, *pieces = _NAME.split(text)
    return {name: sql.strip() for name, sql in zip(pieces[::2], pieces[1::2], strict=True)}


def read_migrations() -> dict[str, str]:
    """The scripts of `migrations/` by name, in order; the n-th one leads to schema version n."""
    folder = files(__package__).joinpath("migrations")
    scripts = [file for file in folder.iterdir() if file.name.endswith(".sql")]
    ordered = sorted(scripts, key=lambda script: script.name)
    return {script.name.removesuffix(".sql"): script.read_text("utf-8") for script in ordered}
