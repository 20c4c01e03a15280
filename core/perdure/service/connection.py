"""A process's connection to a backend, shared by all who name the same one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from perdure.errors import BackendUrlError, InvalidStateError
from perdure.service.service import Service
from perdure.storage import Backend, open_backend

if TYPE_CHECKING:
    from perdure.storage import Store


@attrs.define
class _Shared:
    store: Store
    service: Service
    users: int = 0


_shared: dict[object, _Shared] = {}


class Connection:
    """
    Opens a backend's store, or joins what is open in this process: by URL, or by being the same store.

    Sharing lets a client's starts and a worker's waits meet without a round trip. `memory://` is private to each
    opening. All methods run on the store's loop.
    """

    def __init__(self, backend: str | Backend | Store) -> None:
        self._url = backend if isinstance(backend, str) else None
        found = open_backend(backend) if isinstance(backend, str) else backend
        if isinstance(found, Backend):
            if found.store is None:
                raise BackendUrlError(
                    f"{found.url!r} has no store of its own; a worker or client over one cannot use it"
                )
            self._offered: Store = found.store
        else:
            self._offered = found
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
    def _entered(self) -> _Shared:
        if self._open is None:
            raise InvalidStateError("the connection is closed; open a new client or worker")
        return self._open

    @property
    def _key(self) -> object:
        return id(self._offered) if self._is_private else self._url

    async def open(self) -> None:
        """Connect. Raises `StoreError`."""
        if self._open is not None:
            return
        shared = _shared.get(self._key)
        if shared is None:
            await self._offered.open()
            # Somebody may have opened the same one meanwhile: then theirs serves.
            shared = _shared.get(self._key)
            if shared is not None:
                if shared.store is not self._offered:
                    await self._offered.close()
            else:
                shared = _shared[self._key] = _Shared(self._offered, Service(self._offered))
        shared.users += 1
        self._open = shared

    async def close(self) -> None:
        """Let go; the last one closes the store."""
        shared, self._open = self._open, None
        if shared is None:
            return
        shared.users -= 1
        if not shared.users:
            del _shared[self._key]
            await shared.service.close()
            await shared.store.close()
