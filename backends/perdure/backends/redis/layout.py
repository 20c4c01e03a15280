"""How a store is divided, as it is kept with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.backends.redis.keyspace import Keyspace, layout_key
from perdure.backends.redis.wire import Call
from perdure.errors import BackendUrlError, SchemaVersionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.backends.redis.location import Location
    from perdure.backends.redis.wire import Wire

LAYOUT = 1
PRODUCT = "perdure"


def describe(shards: int) -> str:
    """The text of every permanent key."""
    return f"{PRODUCT} {LAYOUT} {shards}"


def read(text: bytes, location: Location) -> int:
    """
    How many shards a store has, from one of its permanent keys.

    Raises:
        SchemaVersionError: Another version of Perdure wrote it.
        BackendUrlError: It is no store, or has another number of shards than the URL says.
    """
    product, _, rest = text.decode("utf-8", "replace").partition(" ")
    layout, _, shards = rest.partition(" ")
    key = layout_key(location.namespace, 0)
    if product != PRODUCT or not layout.isdecimal() or not shards.isdecimal():
        raise BackendUrlError(
            f"key {key!r} at {location.place} is not Perdure's; set the option namespace to another one"
        )
    if int(layout) != LAYOUT:
        raise SchemaVersionError(
            f"the Redis store {location.namespace!r} at {location.place} has layout {layout}, expected {LAYOUT}; "
            "use the version of Perdure that wrote it"
        )
    if location.shards not in (None, int(shards)):
        raise BackendUrlError(
            f"the Redis store {location.namespace!r} at {location.place} has {shards} shards, the option shards says "
            f"{location.shards}; leave it out, or set the option namespace to begin another store"
        )
    return int(shards)


async def settle(wire_over: Callable[[Keyspace], Wire], location: Location) -> Keyspace:
    """
    The keyspace of the store; made now if there is none yet.

    Raises:
        StoreError: There is none that can be used.
    """
    first = Keyspace(location.namespace, 1)
    wire = wire_over(first)
    shards = location.default_shards
    await wire.run(_setting(first, 0, shards), is_checked=False)
    text = await wire.run(Call(0, None, ("GET", first.layout_keys[0])), is_checked=False)
    return Keyspace(location.namespace, read(text, location))


async def lay(wire: Wire, keyspace: Keyspace) -> list[bool]:
    """Make the permanent keys that are missing; which ones were."""
    settings = [_setting(keyspace, shard, keyspace.shards) for shard in range(keyspace.shards)]
    await wire.run_all(settings, is_checked=False)
    return [setting.reply is not None for setting in settings]


def _setting(keyspace: Keyspace, shard: int, shards: int) -> Call:
    return Call(shard, None, ("SET", keyspace.layout_keys[shard], describe(shards), "NX"))
