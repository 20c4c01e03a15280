"""Random `def` workflows on few threads, with crashes and outside events at random moments."""

from __future__ import annotations

import json
import random
import sys
import threading

import pytest

from perdure.durable import (
    Duration,
    NestingType,
    ParallelConfig,
    RetryDecision,
    StepConfig,
    StepSemantics,
    durable_execution,
)
from perdure.engine.threads import Threads
from perdure.model import InvocationStatus, OperationAction, OperationType
from tests.replay.plane import Plane, execute

PROGRAMS = 60
CRASHES = 3
KINDS = ("step", "once", "flaky", "wait", "callback", "child", "parallel")
RETRY = StepConfig(lambda *_: RetryDecision.retry(Duration(1)))
ONCE = StepConfig(RETRY.retry_strategy, StepSemantics.AT_MOST_ONCE_PER_RETRY)


class Crash(BaseException):
    """The process dies."""


def program(chance, depth=0):
    """A list of nodes: (kind, number, parts, options)."""
    nodes = []
    for _ in range(chance.randint(1, 4 if depth else 5)):
        kind = chance.choice(KINDS[:5] if depth >= 3 else KINDS)
        parts = []
        if kind == "child":
            parts = [program(chance, depth + 1)]
        elif kind == "parallel":
            parts = [program(chance, depth + 1) for _ in range(chance.randint(0, 4))]
        config = ParallelConfig(chance.choice([None, 1, 2]), nesting_type=chance.choice(list(NestingType)))
        nodes.append((kind, chance.randrange(1000), parts, config))
    return nodes


def expected(nodes):
    """What a program returns."""
    return [
        number
        if kind in {"step", "once", "flaky"}
        else None
        if kind == "wait"
        else "told"
        if kind == "callback"
        else expected(parts[0])
        if kind == "child"
        else [expected(part) for part in parts]
        for kind, number, parts, _ in nodes
    ]


class Program:
    """A program at work; counts how often each body has run."""

    def __init__(self, nodes):
        self.nodes = nodes
        self.runs = {}
        self.lock = threading.Lock()

    def workflow(self):
        return durable_execution(lambda _, context: self.block(context, self.nodes, ()))

    def block(self, context, nodes, path):
        return [self.node(context, node, (*path, index)) for index, node in enumerate(nodes)]

    def node(self, context, node, path):
        kind, number, parts, config = node
        match kind:
            case "step" | "once":
                return context.step(lambda _: self.ran(path) and number, config=ONCE if kind == "once" else RETRY)
            case "flaky":
                return context.step(lambda step: number if step.attempt > 1 else 1 / 0, config=RETRY)
            case "wait":
                return context.wait(Duration(1 + number % 5))
            case "callback":
                return context.create_callback(f"callback {path}").result()
            case "child":
                return context.run_in_child_context(lambda inner: self.block(inner, parts[0], path))
        branches = [lambda inner, i=i: self.block(inner, parts[i], (*path, i)) for i in range(len(parts))]
        return context.parallel(branches, config=config).get_results()

    def ran(self, path):
        with self.lock:
            self.runs[path] = self.runs.get(path, 0) + 1
        return True


def disturb(plane, chance):
    """Crashes and completed callbacks around requests."""
    crashes = [CRASHES]

    def complete(share=0.5):
        for operation in plane.operations():
            is_open = operation.operation_type is OperationType.CALLBACK and not operation.is_terminal
            if is_open and chance.random() < share:
                plane.complete(operation.name, "told")

    def around(_):
        complete()
        if crashes[0] and chance.random() < 0.05:
            crashes[0] -= 1
            raise Crash

    plane.before = plane.after = around
    return complete


@pytest.fixture(autouse=True)
def _switch_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("seed", range(PROGRAMS))
def test_random_program(seed):
    """Whatever happens when, the result is the same, nothing hangs, and recorded bodies do not run again."""
    chance = random.Random(seed)
    made, plane = Program(program(chance)), Plane()
    complete = disturb(plane, chance)
    threads = Threads(branches=chance.choice([1, 2, 3, 64]))
    crashes = 0
    while True:
        try:
            output = execute(made.workflow(), plane, pending=lambda _: complete(1), limit=500, threads=threads)
            break
        except Crash:
            crashes += 1
    assert output.status is InvocationStatus.SUCCEEDED, output.error
    assert json.loads(output.result) == expected(made.nodes)
    assert all(count <= 1 + crashes for count in made.runs.values())
    ended = [update for request in plane.requests for update in request if update.action is OperationAction.SUCCEED]
    assert len({update.operation_id for update in ended}) == len(ended)
