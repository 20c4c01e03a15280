"""A process's connection to a backend, shared by all who name the same one."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import attrs

from perdure.errors import BackendUrlError, InvalidStateError, ValidationError
from perdure.service.service import Service
from perdure.storage import Backend, open_backend

if TYPE_CHECKING:
    from perdure.storage import Store


@attrs.define(eq=False)
class _Shared:
    store: Store
    service: Service
    opening: asyncio.Task[None]
    pid: int = attrs.field(factory=os.getpid)
    users: int = 0

    @property
    def is_inherited(self) -> bool:
        """Whether a parent process opened it, whose threads do not exist here."""
        return self.pid != os.getpid()


_shared: dict[object, _Shared] = {}


class Connection:
    """
    Opens a backend's store, or joins what is open in this process: by URL, or by being the same store.

    Sharing lets a client's starts and a worker's waits meet without a round trip. `memory://` is private to each
    opening. All methods run on the store's loop.

    Args:
        backend: A URL, or what `open_backend` returned, or a store.
        found: What `open_backend` has made of the URL already.
    """

    def __init__(self, backend: str | Backend | Store, found: Backend | None = None) -> None:
        self._url = backend if isinstance(backend, str) else None
        self._offered = _store_of(found or backend)
        self._is_private = self._url is None or self._url.startswith("memory:")
        self._open: _Shared | None = None

    @property
    def store(self) -> Store:
        """The open store."""
        return self._entered.store

    @property
    def service(self) -> Service:
        """The service over it."""
        return self._entered.service

    @property
    def is_open(self) -> bool:
        """Whether it was opened, and not closed."""
        return self._open is not None

    @property
    def _entered(self) -> _Shared:
        if self._open is None:
            raise InvalidStateError("the connection to the backend is not open, or closed; open a new client or worker")
        if self._open.is_inherited:
            raise InvalidStateError("the connection was opened before this process was forked; open a new one here")
        return self._open

    @property
    def _key(self) -> object:
        return id(self._offered) if self._is_private else self._url

    async def open(self) -> None:
        """Connect. Raises `StoreError`."""
        if self._open is not None and self._open.is_inherited:
            self._open = None
            if self._url is not None:
                self._offered = _store_of(self._url)
        if self._open is None:
            self._open = _shared.get(self._key) or self._begin()
            self._open.users += 1
        try:
            await asyncio.shield(self._open.opening)
        except BaseException:
            await self.close()
            raise

    def _begin(self) -> _Shared:
        opening = asyncio.create_task(self._offered.open())
        shared = _shared[self._key] = _Shared(self._offered, Service(self._offered), opening)
        return shared

    async def close(self) -> None:
        """Let go; the last one closes the store."""
        shared, self._open = self._open, None
        if shared is None or shared.is_inherited:
            return
        shared.users -= 1
        if shared.users:
            return
        for key in [key for key, known in _shared.items() if known is shared]:
            del _shared[key]
        await asyncio.wait({shared.opening})
        if not shared.opening.cancelled() and shared.opening.exception() is None:
            await shared.service.close()
            await shared.store.close()


def _store_of(backend: str | Backend | Store) -> Store:
    found = open_backend(backend) if isinstance(backend, str) else backend
    if isinstance(found, Backend):
        if found.store is None:
            raise BackendUrlError(
                f"{found.url!r} has no store of its own, which a worker needs; what is deployed there runs there"
            )
        return found.store
    if not hasattr(found, "shards"):
        raise ValidationError(f"a backend is a URL, what open_backend returned, or a store, not {found!r}")
    return found


def _forget() -> None:
    # What the parent process opened works only there.
    _shared.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
