"""What can go wrong between a handler and the service, for tests to bring about."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from urllib.parse import quote

import attrs

from tests.official.front import Call
from tests.official.web import ConnectionDropped, Reply, Request

if TYPE_CHECKING:
    from collections.abc import Callable

    Forward = Callable[[Call], Reply]
    Act = Callable[[Call, Forward], Reply]


@attrs.frozen
class Fault:
    """
    Something that happens to some calls.

    Attributes:
        operation: The API that it happens to, or `RunHandler`.
        act: What happens: it has the call and the way to the service.
        after: How many calls are let through first.
        times: How many calls it happens to then; `None` is all.
    """

    operation: str
    act: Act
    after: int = 0
    times: int | None = 1

    def hits(self, number: int) -> bool:
        """Whether it happens to this one of its calls, counted from 0."""
        return number >= self.after and (self.times is None or number < self.after + self.times)


class Faults:
    """Faults for an endpoint: `front.around = Faults(…)`. A call that several want is the first one's."""

    def __init__(self, *faults: Fault) -> None:
        self._lock = threading.Lock()
        self._faults = faults
        self._numbers = dict.fromkeys(range(len(faults)), 0)

    def __call__(self, call: Call, forward: Forward) -> Reply:
        hit = self._counted(call)
        return forward(call) if hit is None else hit.act(call, forward)

    def _counted(self, call: Call) -> Fault | None:
        hits = []
        with self._lock:
            for place, fault in enumerate(self._faults):
                if fault.operation == call.operation:
                    hits += [fault] if fault.hits(self._numbers[place]) else []
                    self._numbers[place] += 1
        return hits[0] if hits else None


def unheard(call: Call, forward: Forward) -> Reply:
    """The request does not arrive."""
    raise ConnectionDropped


def reply_lost(call: Call, forward: Forward) -> Reply:
    """The request is carried out, and its reply does not arrive."""
    forward(call)
    raise ConnectionDropped


def refused(status: int, code: str, message: str = "refused by the test", **headers: str) -> Act:
    """The service answers with an error; `Retry_After="1"` is a header."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda call, forward: Reply.error(status, code, message, named)


def paged(items: int) -> Act:
    """State comes in pages of so many operations, from `GetDurableExecutionState` and in the event of `RunHandler`."""

    def act(call: Call, forward: Forward) -> Reply:
        if call.operation != "RunHandler":
            return forward(_with_items(call, items))
        event = call.request.json()
        path = f"/2025-12-01/durable-executions/{quote(event['DurableExecutionArn'], safe='')}/state"
        first = Call.of(Request("GET", path, {"CheckpointToken": [event["CheckpointToken"]]}))
        page = forward(_with_items(first, items)).json()
        state = {"Operations": page["Operations"], "NextMarker": page.get("NextMarker") or ""}
        body = Reply.of(200, {**event, "InitialExecutionState": state}).body
        return forward(attrs.evolve(call, request=attrs.evolve(call.request, body=body)))

    return act


def _with_items(call: Call, items: int) -> Call:
    query = {**call.request.query, "MaxItems": [str(items)]}
    return attrs.evolve(call, request=attrs.evolve(call.request, query=query))
