"""What can go wrong with servers of one's own."""

from __future__ import annotations

from perdure.errors import StoreError


class ServerError(StoreError):
    """A server did not start, or ended by itself."""


class ServerNotInstalledError(ServerError):
    """The wheel that a server's programs come from is missing; the extra `servers` has them."""
