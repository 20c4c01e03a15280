"""Random `def` workflows: programs of nested operations, made of a seed, for any SDK with these names."""

from __future__ import annotations

import attrs

LEAVES = ("step", "once", "flaky", "poll", "wait", "callback", "approval", "invoke")
BLOCKS = ("child", "virtual", "retry", "parallel", "map")
DEEPEST = 3


@attrs.frozen
class Node:
    """An operation: its kind, its value, the blocks in it, and how many branches may run at a time, and how."""

    kind: str
    number: int
    parts: list[list[Node]]
    slots: int | None
    nesting: str


def program(chance, depth=0):
    """A block of operations, the smaller the deeper it is."""
    kinds = LEAVES if depth >= DEEPEST else LEAVES + BLOCKS * (DEEPEST - depth)
    nodes = []
    for _ in range(chance.randint(1, 5 - depth)):
        kind = chance.choice(kinds)
        count = chance.randint(0, 3) if kind == "parallel" else int(kind in BLOCKS)
        parts = [program(chance, depth + 1) for _ in range(count)]
        slots, nesting = chance.choice([None, 1, 2]), chance.choice(["NESTED", "FLAT"])
        nodes.append(Node(kind, chance.randrange(1000), parts, slots, nesting))
    return nodes


def expected(nodes):
    """What a block returns."""
    return [_expected(node, [expected(part) for part in node.parts]) for node in nodes]


def _expected(node, parts):
    values = {
        "wait": None,
        "callback": "told",
        "approval": "told",
        "invoke": {"told": True},
        "child": parts[0] if parts else None,
        "virtual": parts[0] if parts else None,
        "retry": [2, *parts],
        "parallel": parts,
        "map": parts * (node.number % 3),
    }
    return values.get(node.kind, node.number)


class Program:
    """
    A program at work.

    Attributes:
        repeated: Bodies that ran although their outcome was recorded.
        limits: Options of every batch that not each SDK has.
    """

    def __init__(self, nodes, plane, sdk):
        self.nodes = nodes
        self.plane = plane
        self.sdk = sdk
        self.repeated = []
        self.limits = {}
        again = self._again
        self.retry = sdk.StepConfig(again)
        self.retry_once = sdk.StepConfig(again, sdk.StepSemantics.AT_MOST_ONCE_PER_RETRY)

    def workflow(self, event, context):
        return self.block(context, self.nodes, ())

    def _again(self, _, attempt):
        return self.sdk.RetryDecision.retry(self.sdk.Duration(attempt))

    def block(self, context, nodes, path):
        return [self.node(context, node, (*path, index)) for index, node in enumerate(nodes)]

    def node(self, context, node, path):
        return getattr(self, f"_{node.kind}")(context, node, path, ".".join(map(str, path)))

    def body(self, name, number):
        """A leaf's body, which looks whether it should run."""

        def run(*_):
            if any(each.name == name and each.is_terminal for each in self.plane.operations()):
                self.repeated.append(name)
            return number

        return run

    # ------------------------------------------------------------------------------------------------------- leaves

    def _step(self, context, node, path, name):
        return context.step(self.body(name, node.number), name, self.retry)

    def _once(self, context, node, path, name):
        return context.step(self.body(name, node.number), name, self.retry_once)

    def _flaky(self, context, node, path, name):
        body = self.body(name, node.number)
        return context.step(lambda step: body() if step.attempt > 1 + node.number % 2 else 1 / 0, name, self.retry)

    def _poll(self, context, node, path, name):
        body = self.body(name, 1)

        def strategy(state, _):
            return self.sdk.WaitForConditionDecision(state < node.number, self.sdk.Duration(1))

        config = self.sdk.WaitForConditionConfig(strategy, node.number - 2)
        return context.wait_for_condition(lambda state, _: state + body(), config, name)

    def _wait(self, context, node, path, name):
        return context.wait(self.sdk.Duration(1 + node.number % 5))

    def _callback(self, context, node, path, name):
        return context.create_callback(name).result()

    def _approval(self, context, node, path, name):
        return context.wait_for_callback(self.body(f"{name} submitter", None), name)

    def _invoke(self, context, node, path, name):
        return context.invoke("f", node.number, name)

    # ------------------------------------------------------------------------------------------------------- blocks

    def _child(self, context, node, path, name, config=None):
        return context.run_in_child_context(lambda inner: self.block(inner, node.parts[0], path), config=config)

    def _virtual(self, context, node, path, name):
        return self._child(context, node, path, name, self.sdk.ChildConfig(is_virtual=True))

    def _retry(self, context, node, path, name):
        def block(inner, attempt):
            result = self.block(inner, node.parts[0], (*path, f"try {attempt}"))
            return [attempt, result] if attempt > 1 else 1 / 0

        config = self.sdk.WithRetryConfig(self._again, wrap_with_run_in_child_context=node.slots == 1)
        return self.sdk.with_retry(context, block, config)

    def _parallel(self, context, node, path, name):
        branches = [
            lambda inner, i=i, part=part: self.block(inner, part, (*path, i)) for i, part in enumerate(node.parts)
        ]
        config = self.sdk.ParallelConfig(node.slots, nesting_type=self.sdk.NestingType[node.nesting], **self.limits)
        return context.parallel(branches, config=config).get_results()

    def _map(self, context, node, path, name):
        def branch(inner, part, index, _):
            return self.block(inner, part, (*path, index))

        config = self.sdk.MapConfig(
            node.slots,
            completion_config=self.sdk.CompletionConfig.all_completed(),
            nesting_type=self.sdk.NestingType[node.nesting],
            **self.limits,
        )
        return context.map(node.parts * (node.number % 3), branch, config=config).get_results()


def completing(plane, chance):
    """Completes each open callback and invoke with the given chance."""

    def complete(share=1.0):
        for operation in plane.execution.open_awaits():
            if chance.random() < share:
                told = '{"told": true}' if operation.callback_details is None else "told"
                plane.complete(operation.name, told)

    return complete
