"""Where a store is kept, and how: `sqlite:///relative.db?synchronous=full`."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

import attrs

from perdure.errors import BackendUrlError
from perdure.storage import mask

if TYPE_CHECKING:
    from collections.abc import Callable

BUSY_TIMEOUT = 30.0
"""Seconds for which other processes may keep the file locked before the store counts as unavailable."""

SYNCHRONOUS = ("full", "normal")
"""`full`: what was answered survives a power loss; `normal`: the last commits may be lost, none is torn."""

_FORM = "sqlite:///relative.db or sqlite:////absolute/path.db"


@attrs.frozen(kw_only=True)
class Location:
    """
    A database file and its options.

    Attributes:
        path: Absolute.
        synchronous: One of `SYNCHRONOUS`.
        busy_timeout: Seconds.
    """

    path: Path
    synchronous: str = "full"
    busy_timeout: float = BUSY_TIMEOUT

    @classmethod
    def parse(cls, url: str) -> Location:
        """
        Read a URL.

        Raises:
            BackendUrlError: It has another scheme, no path, or an option that does not exist.
        """
        scheme, separator, rest = url.partition("://")
        if scheme != "sqlite" or not separator:
            raise BackendUrlError(f"{mask(url)!r} is no URL of a SQLite store, which looks like {_FORM}")
        place, _, query = rest.partition("?")
        if not place.startswith("/"):
            raise BackendUrlError(f"{mask(url)!r} has a host, which SQLite has not; write three slashes: {_FORM}")
        options = {name: _read_option(name, value) for name, value in parse_qsl(query, keep_blank_values=True)}
        return cls.of(unquote(place[1:]), **options)

    @classmethod
    def of(cls, path: str | os.PathLike[str], **options: str | float) -> Location:
        """
        Check a path and its options.

        Raises:
            BackendUrlError: The path names no file, or an option does not exist.
        """
        text = os.fspath(path)
        if text in ("", ":memory:"):
            raise BackendUrlError(
                f"the path {text!r} names no file, and a SQLite store is shared through one; name it as in {_FORM}, "
                "or use memory:// for a store that is gone with its process"
            )
        chosen = {name: _check_option(name, value) for name, value in options.items()}
        return cls(path=Path(os.path.abspath(text)), **chosen)  # type: ignore[arg-type]  # noqa: PTH100 - no symlinks resolved

    @property
    def file(self) -> Path:
        """The database file itself, which every link leads to; SQLite keeps its other files beside it too."""
        return Path(os.path.realpath(self.path))

    @property
    def owners(self) -> Path:
        """The directory of the lock files beside the database."""
        return self.file.with_name(f"{self.file.name}-owners")

    def check(self) -> None:
        """
        Look at the place before SQLite does, whose own messages name no remedy.

        Raises:
            BackendUrlError: The file cannot be used.
        """
        directory = self.file.parent
        if not directory.is_dir():
            raise BackendUrlError(
                f"the directory {str(directory)!r} of the SQLite store does not exist; create it, or correct the URL"
            )
        if self.path.is_dir():
            raise BackendUrlError(f"{str(self.path)!r} is a directory, expected a SQLite file; add a file name")
        # The database file itself is never opened here: closing it would drop SQLite's own locks on it.
        if self.path.exists() and not os.access(self.path, os.R_OK | os.W_OK):
            raise BackendUrlError(f"{str(self.path)!r} cannot be read and written; correct its permissions or the URL")
        if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
            raise BackendUrlError(
                f"the directory {str(directory)!r} is not writable, and SQLite keeps its journal beside the file; "
                "correct its permissions, or move the store"
            )


def _check_option(name: str, value: str | float) -> str | float:
    if name == "synchronous":
        if value not in SYNCHRONOUS:
            raise BackendUrlError(f"option synchronous is {value!r}, expected one of {', '.join(SYNCHRONOUS)}")
        return value
    if name == "busy_timeout":
        if not isinstance(value, int | float) or not (math.isfinite(value) and value >= 0):
            raise BackendUrlError(f"option busy_timeout is {value!r}, expected a number of seconds")
        return value
    raise BackendUrlError(f"a SQLite store has no option {name!r}; it has {', '.join(_OPTIONS)}")


def _read_option(name: str, value: str) -> str | float:
    read = _OPTIONS.get(name)
    if read is None:
        return value
    try:
        return read(value)
    except ValueError:
        return value


_OPTIONS: dict[str, Callable[[str], str | float]] = {"synchronous": str.lower, "busy_timeout": float}
