"""Workflows of what happens inside the branches of a batch, and to its result, for both SDKs; see `sides`."""

from __future__ import annotations

from tests.aws.batches import each_nesting, failing, items, waiting
from tests.aws.outside import LATE, REFUSED, told
from tests.aws.sides import BrokenError, Catalogue

BRANCHES = Catalogue("batch_")


# ------------------------------------------------------------------------------------------------- inside of branches


@BRANCHES.add(
    outside=told(
        cb="there", i='"back"', w_create_callback_id="come", no_create_callback_id=REFUSED, late=LATE, bad=REFUSED
    )
)
def of_everything(kit):
    """Every operation side by side, at an end or failing, and the errors that the items have."""
    seconds = kit.Duration.from_seconds

    def until(state, attempt):
        wait = kit.WaitForConditionDecision.continue_waiting(seconds(2))
        return wait if state < 3 else kit.WaitForConditionDecision.stop_polling()

    def own(context, *_):
        raise BrokenError("own")

    def late(context, *_):
        return context.create_callback("late", kit.CallbackConfig(seconds(1))).result()

    def poll(check):
        return lambda c, *_: c.wait_for_condition(check, kit.WaitForConditionConfig(until, 0), "poll")

    good = {
        "step": lambda c, *_: kit.step(c, "s", {"x": (1, None)}),
        "wait": lambda c, *_: kit.wait(c, 3),
        "callback": lambda c, *_: c.create_callback("cb").result(),
        "invoke": lambda c, *_: c.invoke("f:1", {"a": 1}, "i"),
        "wait_for_callback": lambda c, *_: c.wait_for_callback(kit.gives("send"), "w"),
        "condition": poll(lambda state, _: state + 1),
        "child": lambda c, *_: c.run_in_child_context(waiting(kit, "child", 4, 1), "child"),
        "map": lambda c, *_: c.map([1, 2], lambda d, item, *_: kit.step(d, "m", item), "m").get_results(),
        "nothing": lambda c, *_: None,
    }
    bad = {
        "own": own,
        "step": failing(kit, "f"),
        "callback": lambda c, *_: c.create_callback("bad").result(),
        "late": late,
        "invoke": lambda c, *_: c.invoke("f:1", {"a": 1}, "bad"),
        "wait_for_callback": lambda c, *_: c.wait_for_callback(kit.gives("send"), "no"),
        "condition": poll(own),
        "child": lambda c, *_: c.run_in_child_context(own, "child"),
        "map": lambda c, *_: c.map([1], own, "m").throw_if_error(),
    }

    def workflow(event, context):
        found = []
        for nesting in each_nesting(kit):
            for of in (good, bad):
                config = kit.ParallelConfig(
                    1, kit.CompletionConfig.all_completed(), nesting_type=nesting, item_serdes=None
                )
                branches = [kit.ParallelBranch(branch, name) for name, branch in of.items()]
                found.append(items(context.parallel(branches, "p", config)))
        kit.wait(context, 1)
        return found

    return workflow


@BRANCHES.add(outside=told(cb="there"), races=True)
def failing_while_others_wait(kit):
    """A branch fails while others are suspended: the batch ends, or goes on, and the code after it, too."""

    def late_failure(context, *_):
        kit.wait(context, 2)
        kit.step(context, "about to fail")
        raise BrokenError("late")

    def workflow(event, context):
        found = []
        for nesting in each_nesting(kit):
            for completion in (kit.CompletionConfig(), kit.CompletionConfig.all_completed()):
                branches = [
                    waiting(kit, "slow", 9, 1),
                    late_failure,
                    lambda c: c.create_callback("cb").result(),
                    waiting(kit, "quick", 1, 2),
                ]
                config = kit.ParallelConfig(completion_config=completion, nesting_type=nesting)
                found.append(items(context.parallel(branches, "p", config)))
                found.append(kit.step(context, "behind", len(found)))
                kit.wait(context, 20)
        return found

    return workflow


@BRANCHES.add()
def raised_inside_children(kit):
    """A batch's error raised inside a child, caught there, or outside, and raised again by a branch of another."""

    def batch(context, *_):
        return context.map([1, 2, 3], failing(kit, "f"), "m", kit.MapConfig(1))

    def raising(context, *_):
        batch(context).throw_if_error()

    def handled(context, *_):
        return kit.attempt(batch(context).throw_if_error)

    def workflow(event, context):
        done = kit.CompletionConfig.all_completed()
        whole = context.parallel([raising, handled], "p", kit.ParallelConfig(1, done))
        found = [
            kit.attempt(lambda: context.run_in_child_context(raising, "raising")),
            context.run_in_child_context(handled, "handled"),
            items(whole),
            kit.attempt(whole.throw_if_error),
        ]
        kit.wait(context, 1)
        return found

    return workflow


@BRANCHES.add()
def retries_side_by_side(kit):
    """Steps of several branches are tried again at times of their own, blocks as well."""

    def flaky(name, fails, seconds):
        def strategy(error, attempt):
            return kit.RetryDecision(attempt < 4, kit.Duration(seconds))

        return lambda c, *_: c.step(kit.raises(name, OSError(name), fails, name), name, kit.StepConfig(strategy))

    def block(context, *_):
        def run(inner, attempt):
            kit.step(inner, f"block {attempt}")
            if attempt < 3:
                raise ValueError(f"attempt {attempt}")
            return attempt

        return kit.with_retry(context, run, kit.WithRetryConfig(kit.RetryPresets.linear()), "retry")

    def workflow(event, context):
        found = []
        for nesting in each_nesting(kit):
            branches = [flaky("a", 1, 7), flaky("b", 3, 3), flaky("c", 9, 2), block]
            config = kit.ParallelConfig(completion_config=kit.CompletionConfig.all_completed(), nesting_type=nesting)
            found.append(items(context.parallel(branches, "p", config)))
        return found

    return workflow


# ---------------------------------------------------------------------------------------------------------- its result


@BRANCHES.add()
def methods(kit):
    """Everything a result can be asked, the first time and read back, and its form as a dictionary."""

    def told_by(batch):
        return [
            items(batch),
            [[item.index for item in some()] for some in (batch.succeeded, batch.failed, batch.started)],
            [batch.has_failure, batch.get_results(), [error.to_dict() for error in batch.get_errors()]],
            kit.attempt(batch.throw_if_error),
            batch.to_dict(),
            items(kit.BatchResult.from_dict(batch.to_dict())),
            [item.to_dict() for item in batch.all],
        ]

    def workflow(event, context):
        branches = [lambda _: {"a": 1}, failing(kit, "f"), lambda _: None, failing(kit, "g")]
        found = []
        for completion in (
            kit.CompletionConfig(),
            kit.CompletionConfig.all_completed(),
            kit.CompletionConfig(min_successful=2, tolerated_failure_count=3),
        ):
            batch = context.parallel(branches, "p", kit.ParallelConfig(1, completion))
            found.append(told_by(batch))
            kit.wait(context, 1)
        found.append(told_by(context.map([], lambda *_: None)))
        return found

    return workflow


@BRANCHES.add()
def inputs(kit):
    """Of any kind of sequence, with what no serializer takes; names by a function; what a function of each is given."""

    def workflow(event, context):
        def each(context, item, index, whole):
            return [repr(item), index, len(whole), type(whole).__name__]

        def mapped(inputs, name=None, **config):
            return context.map(inputs, each, name, kit.MapConfig(**config)).get_results()

        @kit.durable_step
        def named(_):
            return 1

        return [
            mapped((1, "two", None)),
            mapped("ab", "text"),
            mapped(range(3), "", item_namer=lambda *_: "same"),
            mapped([{1, 2}, KeyError], "objects", item_namer=lambda item, index: f"{index}"),
            mapped([{"id": 7}], "dictionaries", item_namer=lambda item, _: f"order-{item['id']}"),
            mapped([1], item_namer=lambda *_: ""),
            context.map([1], lambda c, *_: c.step(named())).get_results(),
            context.parallel((lambda _: 1, kit.ParallelBranch(lambda _: 2, "")), "").get_results(),
        ]

    return workflow


@BRANCHES.add()
def summaries(kit):
    """A summary is asked for when the result is too large, and only then; one that fails fails the batch."""

    def big(context, item, *_):
        return kit.step(context, f"s {item}", str(item)) * 200_000

    def noted(batch):
        kit.note(f"summary of {batch.total_count}")
        return "ü" * 10

    def broken(_):
        raise LookupError("no summary")

    def workflow(event, context):
        found = []
        for nesting in each_nesting(kit):
            for summary in (noted, broken, lambda _: None, lambda _: 7):
                config = kit.MapConfig(nesting_type=nesting, summary_generator=summary)
                found.append(kit.attempt(lambda c=config: len(context.map([1, 2], big, "m", c).get_results())))
            small = kit.ParallelConfig(nesting_type=nesting, summary_generator=broken)
            found.append(context.parallel([lambda _: 1], "p", small).get_results())
        kit.wait(context, 1)
        return found

    return workflow


@BRANCHES.add()
def predicates(kit):
    """What a predicate is shown, and when; a batch that it ends as failed without a failure, and what that raises."""

    def workflow(event, context):
        found = []
        for nesting in each_nesting(kit):
            for outcome in ("SUCCEEDED", "FAILED"):

                def decide(status, outcome=outcome):
                    states = [[item.index, item.name, item.status and item.status.value] for item in status.items]
                    kit.note(f"{states} {status.success_count} {status.failure_count} {status.total_count}")
                    if status.completed_count < 2:
                        return kit.continue_batch()
                    return kit.complete_batch(getattr(kit.CompletionOutcome, outcome))

                completion = kit.CompletionConfig(should_complete=decide)
                config = kit.ParallelConfig(1, completion, nesting_type=nesting)
                branches = [kit.ParallelBranch(lambda _: 1, "one"), lambda _: 2, lambda _: 3]
                batch = context.parallel(branches, "p", config)
                found.append([items(batch), batch.has_failure, kit.attempt(batch.throw_if_error)])
        kit.wait(context, 1)
        return found

    return workflow


@BRANCHES.add()
def early_decisions(kit):
    """A predicate that ends a batch before anything has begun, or never; percentages that are reached exactly."""

    def workflow(event, context):
        config = kit.CompletionConfig
        policies = [
            config(should_complete=lambda _: kit.complete_batch()),
            config(should_complete=lambda _: kit.complete_batch(kit.CompletionOutcome.FAILED)),
            config(should_complete=lambda _: kit.continue_batch()),
            config(tolerated_failure_percentage=25),
            config(tolerated_failure_percentage=24.9),
            config(tolerated_failure_percentage=0),
            config(tolerated_failure_count=1, tolerated_failure_percentage=100),
            config(min_successful=4),
            config(min_successful=3, tolerated_failure_percentage=0),
        ]
        found = []
        for policy in policies:
            branches = [lambda c, *_: kit.step(c, "s", 1), failing(kit, "f"), lambda _: 2, lambda _: 3]
            found.append(items(context.parallel(branches, "p", kit.ParallelConfig(1, policy))))
        kit.wait(context, 1)
        return found

    return workflow


@BRANCHES.add()
def logs(kit):
    """What a branch's logger is told, with its own replay status."""

    def branch(name, seconds):
        def body(context, *_):
            context.logger.info("%s begins", name)
            context.step(lambda inner: inner.logger.info("in step"), f"{name} step")
            kit.wait(context, seconds)
            context.logger.info("%s ends", name)

        return body

    def workflow(event, context):
        context.set_logger(kit.logger())
        context.parallel([branch("one", 1), branch("two", 2)], "p", kit.ParallelConfig(1))
        context.logger.info("between")
        context.map([1, 2], branch("map", 1), "m", kit.MapConfig(1))
        context.logger.info("end")

    return workflow


@BRANCHES.add()
def execution_error_in_a_branch(kit):
    """It fails the execution, whatever the others do."""

    def enough(context, *_):
        kit.wait(context, 1)
        raise kit.ExecutionError("enough")

    def workflow(event, context):
        done = kit.CompletionConfig.all_completed()
        return items(context.parallel([enough, waiting(kit, "other", 5)], "p", kit.ParallelConfig(1, done)))

    return workflow
