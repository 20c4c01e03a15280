"""A private event loop without a driver."""

from __future__ import annotations

from perdure.engine.future import DurableFuture
from perdure.engine.loop import DurableLoop
from perdure.errors import SuspendExecution

ENDED = SuspendExecution("over")


class Host:
    """Runs a workflow coroutine on a private loop; `operations` are settled one by one, each at quiescence."""

    def __init__(self):
        self.loop = DurableLoop()
        self.operations = []

    def operation(self, value=None, error=None):
        future = DurableFuture(self.loop, f"op-{len(self.operations)}")
        self.operations.append((future, value, error))
        return future

    def enter(self, callback, *args):
        self.loop.enter()
        try:
            callback(*args)
            self.loop.drain()
        finally:
            self.loop.leave()

    def run(self, function, order=None):
        tasks = []
        self.enter(lambda: tasks.append(self.loop.create_task(function(self))))
        while self.operations:
            future, value, error = self.operations.pop(order(len(self.operations)) if order else 0)
            self.enter(future.settle, value, error)
        return tasks[0]

    def result(self, function, order=None):
        try:
            return self.run(function, order).result()
        finally:
            self.loop.abandon(ENDED)
