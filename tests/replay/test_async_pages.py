"""The state of an execution that is read in pages, while things end between one page and the next."""

from __future__ import annotations

import asyncio
import json

import attrs
import pytest

from perdure.durable import Duration
from perdure.model import InvocationStatus, StatePage
from tests.replay.async_host import invoke_once
from tests.replay.plane import Plane

SECOND = Duration.from_seconds(1)


class Torn(Plane):
    """
    A service as AWS's emulator: each page of the state shows what is at its time, and ends have milliseconds only.

    Attributes:
        between: What happens after the first page of an invocation's state.
    """

    def __init__(self, **options):
        super().__init__(**options)
        self.between = lambda: None

    def begin(self):
        self.advance(0.001)
        input = super().begin()
        self.advance(0.001)
        self.between()
        return input

    def checkpoint(self, token, updates):
        self.advance(0.001)
        return super().checkpoint(token, updates)

    def state(self, token, marker):
        page = super().state(token, marker)
        live = tuple(self.execution.operations[each.operation_id] for each in page.operations)
        return StatePage(tuple(attrs.evolve(each, position=None) for each in live), page.next_marker)

    def _page(self, operations):
        page, marker = super()._page(operations)
        return tuple(attrs.evolve(each, position=None) for each in page), marker


class Race:
    """
    A workflow in which the order of two callbacks decides what comes next.

    Attributes:
        orders: What came first and what second, as far as each run got.
    """

    def __init__(self):
        self.orders = []

    async def __call__(self, _, context):
        order = []
        self.orders.append(order)
        callbacks = [await context.create_callback(name) for name in "ab"]
        await context.wait(SECOND)
        for ended in asyncio.as_completed([each.result() for each in callbacks]):
            order.append(value := await ended)
            await context.step(lambda _: None, name=f"after {value}")
        await context.wait(SECOND)
        return order


def begun(page_size):
    """A race whose callbacks are open, and a page of whose state has the first."""
    race, plane = Race(), Torn(page_size=page_size)
    assert invoke_once(race, plane).status is InvocationStatus.PENDING
    plane.advance_to_next()
    return race, plane


def test_ends_between_two_pages():
    """What a later page shows as ended is not delivered before what an earlier one showed as open, and ended first."""
    race, plane = begun(2)

    def between():
        for name in "ab":
            plane.complete(name, f'"{name}"')
            plane.advance(0.001)

    plane.between = between
    assert invoke_once(race, plane).status is InvocationStatus.PENDING
    plane.between = lambda: None
    plane.advance_to_next()
    output = invoke_once(race, plane)
    assert output.status is InvocationStatus.SUCCEEDED, output.error
    assert json.loads(output.result) == ['"a"', '"b"']
    assert race.orders == [[], ['"a"', '"b"'], ['"a"', '"b"']]


@pytest.mark.parametrize(("page_size", "ended", "asked"), [(None, "", 0), (2, "ab", 0), (2, "a", 1), (2, "", 1)])
def test_the_service_is_asked_once_more_only_if_pages_may_differ(page_size, ended, asked):
    """A state of one page, and one in which nothing is open any more, are taken as they are."""
    race, plane = begun(page_size)
    for name in ended:
        plane.complete(name, f'"{name}"')
        plane.advance(0.001)
    sent = len(plane.requests)
    assert invoke_once(race, plane).status is InvocationStatus.PENDING
    assert plane.requests[sent:].count([]) == asked
