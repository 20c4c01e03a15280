"""The owners that this process has registered, and the lock files that show whether an owner's process lives."""

from __future__ import annotations

import os
import time
import weakref
from contextlib import suppress
from hashlib import blake2b
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

try:
    import fcntl
except ImportError:  # no such locks on this platform: leases alone tell who lives
    fcntl = None  # type: ignore[assignment]

_LONGEST_NAME = 200
_TRIES = 10
_PAUSE = 0.002

_open_sets: weakref.WeakSet[OwnerLocks]


@attrs.define
class Owner:
    """
    What is known in memory of an owner registered here, ahead of its lease row.

    Attributes:
        number: The last claim number that was used up by a claim that found nothing.
        until: How far such claims and renewals have extended the lease.
    """

    number: int = 0
    until: int = 0


class OwnerLocks:
    """
    One locked file per owner in a directory beside the database.

    The locks are flock's: they belong to the open file, so that other files of the process being closed does not drop
    them, and a second open file of the same process finds them taken. The kernel drops them when the process dies.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[str, int] = {}
        _open_sets.add(self)

    def acquire(self, owner: str) -> bool:
        """Lock the owner's file; False where there are no such locks, or another opening of the store has it."""
        if owner in self._files:
            return True
        if fcntl is None:
            return False
        path = self._path(owner)
        # Without its file an owner still has its lease.
        with suppress(OSError):
            self._directory.mkdir(exist_ok=True)
            for _ in range(_TRIES):
                file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
                if _lock(file) and _is_at(file, path):
                    self._files[owner] = file
                    return True
                # Somebody looks whether the owner lives, or has just removed the file.
                os.close(file)
                time.sleep(_PAUSE)
        return False

    def is_held(self, owner: str) -> bool:
        """Whether it is locked by this object."""
        return owner in self._files

    def is_dead(self, owner: str) -> bool:
        """Whether the owner's file is there and nobody holds it."""
        if owner in self._files or fcntl is None:
            return False
        with suppress(OSError):
            file = os.open(self._path(owner), os.O_RDWR)
            try:
                return _lock(file)
            finally:
                os.close(file)
        return False

    def release(self, owner: str) -> None:
        """Unlock an owner's file, if it is locked here, and leave it to show that the owner is gone."""
        file = self._files.pop(owner, None)
        if file is not None:
            os.close(file)

    def remove(self, owner: str) -> None:
        """Remove the file of an owner that was reaped."""
        self.release(owner)
        if fcntl is None:
            return
        path = self._path(owner)
        with suppress(OSError):
            file = os.open(path, os.O_RDWR)
            try:
                if _lock(file) and _is_at(file, path):
                    path.unlink()
            finally:
                os.close(file)

    def leftovers(self) -> Iterator[str]:
        """Owners whose files are there."""
        with suppress(OSError):
            for path in self._directory.iterdir():
                yield unquote(path.name)

    def release_all(self) -> None:
        """Unlock everything."""
        for owner in list(self._files):
            self.release(owner)

    def _path(self, owner: str) -> Path:
        name = quote(owner, safe="").replace(".", "%2E")
        if len(name) > _LONGEST_NAME:
            name = blake2b(owner.encode(), digest_size=32).hexdigest()
        return self._directory / name


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _let_go_after_fork() -> None:
    # A child that kept these files open would keep its dead parent's locks.
    for locks in _open_sets:
        locks.release_all()


_open_sets = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_after_fork)
