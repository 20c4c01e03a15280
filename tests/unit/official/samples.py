"""Functions to host: plain ones that end in every way, and durable ones."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from pathlib import Path

from perdure.config import Duration
from perdure.durable import durable_execution


def say(line):
    sys.stdout.write(f"{line}\n")


def echo(event, context):
    """What it knows of itself, and the event."""
    return {
        "event": event,
        "pid": os.getpid(),
        "request": context.aws_request_id,
        "arn": context.invoked_function_arn,
        "tenant": context.tenant_id,
        "name": context.function_name,
        "seconds": context.get_remaining_time_in_millis() / 1000,
    }


def fail(event, _):
    raise ValueError(event["message"])


def die(event, _):
    say("last words")
    os._exit(event["code"])


def kill_itself(_, __):
    os.kill(os.getpid(), 9)


def hang(_, __):
    say("begun")
    time.sleep(60)


def talk(event, _):
    logging.getLogger().info("hello", extra={"executionArn": event["arn"]})
    say(json.dumps({"durableExecutionArn": event["arn"], "message": "hello too"}))
    say("plain")


@durable_execution
def twice(event, context):
    """Two steps with a wait between them."""
    first = context.step(lambda _: event["number"], name="first")
    context.wait(Duration.from_seconds(1), name="pause")
    return context.step(lambda _: 2 * first, name="second")


@durable_execution
def nap(event, context):
    """A wait as long as asked for."""
    context.wait(Duration.from_seconds(event["seconds"]))
    return "rested"


@durable_execution
def many(event, context):
    """As many steps as asked for, and a wait."""
    numbers = [context.step(lambda _, n=n: n, name=f"s{n}") for n in range(event["steps"])]
    context.wait(Duration.from_seconds(1))
    return sum(numbers)


@durable_execution
def crash_once(event, context):
    """Dies in its step if it has not died before."""

    def once(_):
        flag = Path(event["flag"])
        if not flag.exists():
            flag.touch()
            os._exit(3)
        return "survived"

    return context.step(once, name="once")


@durable_execution
def wrong(event, context):
    """Does something, but not what a requirement asks for."""
    context.wait(Duration.from_seconds(1), name="uncalled-for")
    return f"not what {event} asks for"


REQUIREMENTS = {"1-1": wrong, "2-1": wrong, "4-1": wrong}
