"""Workflows of parallel and map, for both SDKs; see `sides`."""

from __future__ import annotations

import json

from tests.aws.outside import told
from tests.aws.sides import Catalogue

BATCHES = Catalogue("batch_")
NESTINGS = ("NESTED", "FLAT")


def items(batch):
    """Everything a batch's result tells."""
    return [
        batch.completion_reason.value,
        batch.status.value,
        [batch.total_count, batch.success_count, batch.failure_count, batch.started_count],
        [
            [
                item.index,
                item.status.value,
                item.result,
                item.error and [item.error.type, item.error.message, item.error.data],
            ]
            for item in batch.all
        ],
    ]


def failing(kit, name, error=None):
    """A branch whose step fails for good."""

    def branch(context, *_):
        config = kit.StepConfig(kit.RetryPresets.none())
        return context.step(kit.raises(name, error or ValueError(name)), name, config)

    return branch


def waiting(kit, name, seconds, value=None):
    """A branch that waits between two steps."""

    def branch(context, *_):
        kit.step(context, f"{name} before")
        kit.wait(context, seconds)
        return kit.step(context, f"{name} after", value)

    return branch


def each_nesting(kit):
    """Every nesting type."""
    return [getattr(kit.NestingType, each) for each in NESTINGS]


# ------------------------------------------------------------------------------------------------------------ shapes


@BATCHES.add()
def plain(kit):
    """Branches of steps, unnamed and named, NESTED and FLAT, parallel and map, empty too."""

    def step(name):
        return lambda context, *_: kit.step(context, name, [name])

    @kit.durable_parallel_branch(name="bound")
    def bound(context, value):
        return kit.step(context, "in bound", value)

    def workflow(event, context):
        found = []
        for nesting in each_nesting(kit):
            config = kit.ParallelConfig(nesting_type=nesting)
            branches = [step("a"), kit.ParallelBranch(step("b"), "named"), bound(3), lambda _: None]
            found.append(items(context.parallel(branches, "batch", config)))
            mapping = kit.MapConfig(nesting_type=nesting, item_namer=lambda item, index: f"{item}-{index}")
            found.append(items(context.map(["x", "y"], lambda c, item, *_: kit.step(c, item, item), "m", mapping)))
            found.append(items(context.map((1, 2), lambda c, item, index, whole: [item, index, len(whole)])))
            found.append(items(context.parallel([], config=config)))
            found.append(items(context.map([], step("never"))))
        return found

    return workflow


@BATCHES.add(outside=told(cb="there"))
def suspended(kit):
    """Branches wait for time, retries and callbacks; they are resumed together, also with few slots."""

    def flaky(context, *_):
        strategy = kit.create_retry_strategy(kit.RetryStrategyConfig(jitter_strategy=kit.JitterStrategy.NONE))
        return context.step(kit.raises("flaky", OSError("x"), 1, "got"), "flaky", kit.StepConfig(strategy))

    def workflow(event, context):
        found = []
        for nesting in each_nesting(kit):
            for slots in (None, 1, 2):
                branches = [
                    waiting(kit, "one", 1, 1),
                    flaky,
                    waiting(kit, "three", 3, 3),
                    lambda c: c.create_callback("cb").result(),
                ]
                found.append(items(context.parallel(branches, "p", kit.ParallelConfig(slots, nesting_type=nesting))))
        return found

    return workflow


@BATCHES.add(outside=told(cb="x"))
def callback_in_a_branch(kit):
    """A callback of the context above is asked for inside a branch and a child."""

    def workflow(event, context):
        callback = context.create_callback("cb")
        return [
            context.run_in_child_context(lambda _: callback.result(), "child"),
            context.parallel([lambda _: callback.result(), lambda c: kit.step(c, "s", 1)], "both").get_results(),
        ]

    return workflow


@BATCHES.add()
def nested(kit):
    """Maps in parallels in children, with suspensions at the bottom."""

    def leaf(context, item, *_):
        kit.wait(context, item)
        return kit.step(context, f"leaf {item}", item)

    def workflow(event, context):
        found = []
        for outer in each_nesting(kit):
            for inner in each_nesting(kit):

                def branch(context, *_, inner=inner):
                    config = kit.MapConfig(nesting_type=inner)
                    child = context.run_in_child_context(
                        lambda c: c.map([1, 2], leaf, "m", config).get_results(), "child"
                    )
                    return [child, context.map([1], leaf).get_results()]

                config = kit.ParallelConfig(nesting_type=outer)
                found.append(items(context.parallel([branch, branch], "p", config)))
        return found

    return workflow


@BATCHES.add()
def serializers(kit):
    """A batch has one of its own, its items another."""

    class Tagged(kit.SerDes):
        def __init__(self, tag):
            self.tag = tag

        def serialize(self, value, _):
            return json.dumps([self.tag, value])

        def deserialize(self, data, _):
            return f"{self.tag} {data}"

    class Whole(kit.SerDes):
        def serialize(self, value, _):
            return json.dumps(items(value))

        def deserialize(self, data, _):
            return data

    def workflow(event, context):
        found = []
        for nesting in each_nesting(kit):
            options = {"nesting_type": nesting, "serdes": Whole(), "item_serdes": Tagged("item")}
            found.append(context.parallel([lambda _: 1, lambda _: 2], "p", kit.ParallelConfig(**options)))
            found.append(context.map([1, 2], lambda c, item, *_: item, "m", kit.MapConfig(**options)))
        kit.wait(context, 1)
        return found

    return workflow


@BATCHES.add()
def values(kit):
    """A batch's result is a value like others: returned from a child, with errors and unfinished items in it."""

    def workflow(event, context):
        some = kit.ParallelConfig(1, kit.CompletionConfig(min_successful=1))
        all_of_it = kit.ParallelConfig(completion_config=kit.CompletionConfig.all_completed())

        def child(context):
            return {
                "some": context.parallel([lambda _: (1, b"2"), lambda _: 3], config=some),
                "all": context.parallel([failing(kit, "f"), lambda _: {"x": None}], config=all_of_it),
            }

        batches = context.run_in_child_context(child, "child")
        kit.wait(context, 1)
        return [repr(items(batches["some"])), items(batches["all"])]

    return workflow


# ---------------------------------------------------------------------------------------------------------- failures


@BATCHES.add()
def failures(kit):
    """A failed branch is an item of the result, and raised when asked for; by default it ends the batch."""

    def own(context, *_):
        kit.wait(context, 1)
        raise kit.StepError("own", error_type="Own.Type", data="data")

    def in_child(context, *_):
        context.run_in_child_context(failing(kit, "deep"), "inner")

    def workflow(event, context):
        found = []
        for nesting in each_nesting(kit):
            for branch in (own, in_child, failing(kit, "f")):
                one = {"max_concurrency": 1, "nesting_type": nesting}
                done = kit.CompletionConfig.all_completed()
                batches = [
                    context.parallel([lambda _: 1, branch, lambda _: 2], config=kit.ParallelConfig(**one)),
                    context.map([1, 2], branch, config=kit.MapConfig(**one)),
                    context.parallel([branch, lambda _: 1], "p", kit.ParallelConfig(**one, completion_config=done)),
                ]
                for batch in batches:
                    found.append(items(batch))
                    found.append(kit.caught(batch.throw_if_error))
                    found.append([[error.type, error.message, error.data] for error in batch.get_errors()])
        return found

    return workflow


@BATCHES.add()
def failing_branch_fails_the_execution(kit):
    """When its error is raised and nobody catches it."""

    def workflow(event, context):
        context.map([1], failing(kit, "f"), "m").throw_if_error()

    return workflow


@BATCHES.add()
def predicate_and_namer_fail(kit):
    """Author's code of the batch itself fails the batch."""

    def broken(*_):
        raise LookupError("broken")

    def workflow(event, context):
        predicate = kit.CompletionConfig(should_complete=broken)
        calls = [
            lambda: context.parallel([lambda _: 1], "p", kit.ParallelConfig(completion_config=predicate)),
            lambda: context.map([1], lambda *_: 1, "m", kit.MapConfig(item_namer=broken)),
        ]
        found = [kit.caught(call) for call in calls]
        kit.wait(context, 1)
        return found

    return workflow


# ------------------------------------------------------------------------------------------------------------- large


@BATCHES.add()
def large(kit):
    """A result too large to record is rebuilt from its branches, by the decision that is recorded."""
    return _large(kit, kit.NestingType.NESTED)


@BATCHES.add(races=True)
def large_flat(kit):
    """The same without contexts; then branches that end in one invocation may be counted in any order."""
    return _large(kit, kit.NestingType.FLAT)


def _large(kit, nesting):
    def branch(context, item, *_):
        kit.wait(context, item)
        if item == 3:
            raise ValueError("three")
        return kit.step(context, f"s {item}", str(item)) * 100_000

    def brief(batch):
        return [
            batch.completion_reason.value,
            [[i.index, i.status.value, i.result and len(i.result), i.error and i.error.message] for i in batch.all],
        ]

    def workflow(event, context):
        found = []
        for policy in (
            kit.CompletionConfig.all_completed(),
            kit.CompletionConfig(min_successful=3, tolerated_failure_count=5),
            kit.CompletionConfig(tolerated_failure_count=0),
        ):
            summary = None if policy.min_successful else lambda batch: f"{batch.success_count} succeeded"
            config = kit.MapConfig(completion_config=policy, nesting_type=nesting, summary_generator=summary)
            found.append(brief(context.map([1, 2, 3, 4, 5, 6], branch, "m", config)))
        kit.wait(context, 1)
        return found

    return workflow


@BATCHES.add()
def large_branches(kit):
    """Branches whose own results are too large, in a batch that is, too."""

    def branch(context, item, *_):
        text = kit.step(context, f"s {item}", str(item))
        kit.wait(context, 1)
        return text * 300_000

    def workflow(event, context):
        found = []
        for nesting in each_nesting(kit):
            config = kit.MapConfig(nesting_type=nesting)
            found.append([len(each) for each in context.map([1, 2], branch, "m", config).get_results()])
            kit.wait(context, 1)
        return found

    return workflow


@BATCHES.add()
def large_in_a_batch_that_goes_on(kit):
    """A branch with a result too large is read again while others are still at work."""

    def big(context, *_):
        return kit.step(context, "big", "x") * 300_000

    def workflow(event, context):
        found = []
        for nesting in each_nesting(kit):
            config = kit.ParallelConfig(nesting_type=nesting)
            batch = context.parallel([big, waiting(kit, "slow", 2, 1), waiting(kit, "slower", 4, 2)], "p", config)
            found.append([len(batch.get_results()[0]), batch.get_results()[1:], batch.completion_reason.value])
        return found

    return workflow
