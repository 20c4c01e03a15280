"""Suite `wait` as `def` workflows."""

from __future__ import annotations

from perdure.config import Duration
from perdure.durable import durable_execution


@durable_execution
def wait_basic(_, context):
    """Two seconds."""
    context.wait(Duration.from_seconds(2))


@durable_execution
def wait_with_name(_, context):
    """Two seconds under a name."""
    context.wait(Duration.from_seconds(2), name="custom_wait_name")


@durable_execution
def sequential_waits(_, context):
    """One wait after the other."""
    context.wait(Duration.from_seconds(2), name="wait-1")
    context.wait(Duration.from_seconds(2), name="wait-2")
    return {"completedWaits": 2}


@durable_execution
def wait_a_minute(_, context):
    """A duration in minutes."""
    context.wait(Duration.from_minutes(1))


@durable_execution
def wait_an_hour(_, context):
    """A duration in hours."""
    context.wait(Duration.from_hours(1))


REQUIREMENTS = {
    "2-1": wait_basic,
    "2-2": wait_with_name,
    "2-3": sequential_waits,
    "2-4": wait_a_minute,
    "2-5": wait_an_hour,
}
