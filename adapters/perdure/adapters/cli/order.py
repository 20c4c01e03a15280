"""
The workflow that `perdure demo` runs, to be read as an example: an order, from its payment to its parcels.

It is an ordinary function. Whatever touches the world stands in a step; between two steps, and in the midst of one, its
process may die. Run it on workers with `perdure worker perdure.adapters.cli.order`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.adapters.cli import shop
from perdure.durable import DurableContext, Duration, MapConfig, ParallelBranch, durable_execution

if TYPE_CHECKING:
    from collections.abc import Sequence

WAREHOUSES = ("hill", "harbour", "station")


@durable_execution(name="perdure-demo-order")
def order(event: dict[str, Any], context: DurableContext) -> dict[str, Any]:
    """Reserve, charge, ask all warehouses at once, cool off, pack line by line, have it approved, ship."""
    context.step(lambda _: shop.reserve(event["order"]), name="reserve")
    payment = context.step(lambda _: shop.charge(event["card"], event["amount"]), name="charge")

    stock = context.parallel([asking(warehouse) for warehouse in WAREHOUSES], name="ask warehouses")
    stock.throw_if_error()

    context.wait(Duration.from_seconds(1), name="cool off")

    packed = context.map(event["lines"], pack, name="pack", config=MapConfig(item_namer=line_name))
    packed.throw_if_error()

    answer = context.wait_for_callback(lambda callback_id, _: shop.write_to_manager(callback_id), name="approval")
    shipment = context.step(lambda _: shop.ship(packed.get_results()), name="ship")
    return {"order": event["order"], "payment": payment, "approval": answer, "shipment": shipment}


def asking(warehouse: str) -> ParallelBranch[bool]:
    """A branch of the parallel: ask one warehouse."""

    def ask(branch: DurableContext) -> bool:
        return branch.step(lambda _: shop.in_stock(warehouse), name=f"ask {warehouse}")

    return ParallelBranch(ask, name=f"warehouse {warehouse}")


def line_name(article: str, index: int) -> str:
    """What an item of the map is called in the history."""
    return f"line {index + 1}: {article}"


def pack(branch: DurableContext, article: str, _: int, __: Sequence[str]) -> str:
    """An item of the map: pack one line of the order."""
    return branch.step(lambda _: shop.pack(article), name=f"pack {article}")
