"""What a client does, whatever the backend: `Desk`, its implementation over stores, and the values of both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.desk.port import Desk
from perdure.desk.store import StoreDesk
from perdure.storage import Backend, open_backend

if TYPE_CHECKING:
    from perdure.storage import Store

__all__ = ["Desk", "desk_of"]


def desk_of(backend: str | Backend | Store) -> Desk:
    """
    The desk of a new client: one that the backend brings, else one over its store.

    Args:
        backend: A URL, or what `open_backend` returned, or a store.

    Raises:
        BackendUrlError: The URL is wrong.
    """
    found = open_backend(backend) if isinstance(backend, str) else backend
    if not isinstance(found, Backend):
        return StoreDesk(found)
    if found.client is None:
        return StoreDesk(backend, found)
    desk: Desk = found.client()
    return desk
