"""Whether the files that were opened are still those that the path leads to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

import attrs

from perdure.errors import StoreError

if TYPE_CHECKING:
    from perdure.backends.sqlite.location import Location

_Identity = tuple[int, int] | None


@attrs.frozen
class Anchor:
    """
    The identities of a database file and its log, taken while a connection has both open.

    SQLite goes on writing to a file that was removed or replaced, and nobody would ever find what it wrote.
    """

    path: str
    log: str
    identities: tuple[_Identity, _Identity]

    @classmethod
    def of(cls, location: Location) -> Self:
        """The files as they are now."""
        path, log = str(location.path), f"{location.file}-wal"
        return cls(path, log, (_identity(path), _identity(log)))

    def check(self) -> None:
        """
        Look at the files.

        Raises:
            StoreError: They are others now, or gone.
        """
        if (_identity(self.path), _identity(self.log)) != self.identities:
            raise StoreError(
                f"the SQLite file {self.path!r} or its log was removed or replaced while it was open here, so that "
                "nothing written here would last; start this process again, and let nobody have a store open whose "
                "files are moved, removed or restored"
            )


def _identity(path: str) -> _Identity:
    try:
        status = os.stat(path)  # noqa: PTH116 - done for every group of verbs
    except OSError:
        return None
    return status.st_dev, status.st_ino
