"""What the handlers of the official suite are given, and runs of them."""

from __future__ import annotations

import functools
import json
from http import HTTPStatus

import attrs
from aws_durable_execution_sdk_python.lambda_service import ErrorObject

from tests.aws.lambdas.handlers import side
from tests.aws.lambdas.process import hosted
from tests.aws.lambdas.runs import Run, fails, succeeds

EVENTS = {
    "1-1": "Wörld",
    "1-2": "World",
    "1-4": {"name": "Ada", "tags": ["admin", "ünicode"]},
    "1-6": "hello world",
    "3-2": {"name": "child-name", "value": "value"},
    "3-14": "hello child",
    "5-2": {"name": "the-invoke", "payload": "payload"},
    "5-3": {"nested": {"key": "value", "items": [1, 2, 3]}, "source": "test"},
    "5-8": {"tenantId": "tenant-1", "payload": "payload"},
    "5-15": {"data": "hello"},
    "6-1": 3,
    "6-2": 5,
    "6-3": 2,
    "6-4": 8,
    "6-5": 3,
    "6-6": 0,
    "6-12": 2,
    "9-1": ["World", "Ada"],
    "9-2": [1, 2],
    "9-3": [10, 20, 30],
    "9-4": [],
    "9-13": [1, 2],
    **{each: ["first", "second"] for each in ("4-17", "4-18", "4-19")},
}
"""Inputs; others get a text, which those that take none ignore."""

REJECTED = ErrorObject("not approved", "RejectedError", None, None)


def _later_first(run, operation):
    """The second callback succeeds before the first."""
    delay = {"first": 4, "second": 1}[operation.name]
    succeeds(operation.name.encode(), delay)(run, operation)


MESSAGE = json.dumps({"id": "7", "message": "hello", "timestamp": "2026-01-01T00:00:00.000+00:00"})

OUTSIDE = {
    **dict.fromkeys(["4-3", "4-4", "4-8", "4-11", "4-14", "7-5", "7-7", "7-12", "7-14"], None),
    **dict.fromkeys(["4-6", "4-7", "4-10", "4-13", "7-4", "7-6"], fails(REJECTED)),
    # Without the heartbeats they would time out.
    **dict.fromkeys(["4-5", "7-13"], succeeds(b"alive", 24, beats=(8, 16))),
    "4-15": succeeds(MESSAGE.encode()),
    "4-16": succeeds(b"42"),
    "4-18": _later_first,
    "4-19": _later_first,
    "7-11": succeeds(b'{"status": "approved"}'),
    "7-15": succeeds(b""),
}
"""What happens to callbacks; others succeed after a second. None: nobody does anything, and they time out."""

DIE = {"1-17", "1-18", "3-12"}
"""Those whose first invocation ends its process; it has one of its own."""


def run(emulator, requirement, *sides, **options):
    """An execution of a handler by some sides, invocation by invocation the next; the last does the rest."""
    handlers = [side(each).handlers[requirement] for each in sides]
    if requirement in DIE:
        handlers = [hosted(sides[0], requirement), *(handlers[1:] or handlers)]
    return Run(
        emulator,
        *handlers,
        event=EVENTS.get(requirement, "text"),
        outside=OUTSIDE.get(requirement, succeeds(b'"payload"')),
        targets=side(sides[0]).targets,
        **options,
    )


# ------------------------------------------------------------------------------------------------------------- outcomes

OWN_WORDS = {
    "1-17": "what is said of an interrupted step",
    "1-18": "what is said of an interrupted step",
    "6-6": "what is said of a condition that took too many attempts",
    "8-19": "what is said of an impossible max_concurrency",
}
"""Where the SDKs word an error of their own differently, so that messages are not compared."""


@attrs.frozen
class Told:
    """
    What came of a handler, run by one side alone.

    Attributes:
        story: As `Run.story`, without messages that are in an SDK's own words.
        order: All updates as they were recorded.
        requests: Checkpoints.
        pages: Requests for state.
        ran: Bodies that ran in this process.
        ends: Ends of bodies in the journal.
    """

    story: dict
    order: list
    requests: int
    pages: int
    ran: int
    ends: int


def story(emulator, requirement, *sides):
    """That of a run."""
    return _comparable(requirement, run(emulator, requirement, *sides).finish())


@functools.cache
def told(emulator, requirement, side):
    """Once in a process."""
    ended = run(emulator, requirement, side).finish()
    calls = ended.calls()
    assert all(each.status == HTTPStatus.OK and each.alone for each in calls)
    return Told(
        _comparable(requirement, ended),
        order=ended.sequence(),
        requests=len(calls),
        pages=len(ended.calls("state")),
        ran=ended.bodies.ran.total(),
        ends=ended.ends_of_bodies(),
    )


def _comparable(requirement, ended):
    found = ended.story()
    return _without_messages(found) if requirement in OWN_WORDS else found


def _without_messages(value):
    if isinstance(value, dict):
        return {name: _without_messages(each) for name, each in value.items() if name != "ErrorMessage"}
    return [_without_messages(each) for each in value] if isinstance(value, list) else value
