"""Workflows of conditions that are polled, for both SDKs; see `sides`."""

from __future__ import annotations

import random

from tests.aws.sides import BrokenError, Catalogue

CONDITIONS = Catalogue()


@CONDITIONS.add()
def condition(kit):
    """State goes from poll to poll, through the serializer; the strategy sees what is recorded."""

    def check(state, context):
        kit.note(f"check {context.attempt}")
        return {**state, "polls": (*state["polls"], context.attempt)}

    def strategy(state, attempt):
        state["seen"] = attempt
        if attempt < 4:
            return kit.WaitForConditionDecision.continue_waiting(kit.Duration.from_seconds(attempt - 1))
        return kit.WaitForConditionDecision.stop_polling()

    def workflow(event, context):
        config = kit.WaitForConditionConfig(strategy, {"polls": ()})
        return [
            repr(context.wait_for_condition(check, config, "poll")),
            context.wait_for_condition(
                lambda state, _: state + 1,
                kit.WaitForConditionConfig(
                    kit.create_wait_strategy(
                        kit.WaitStrategyConfig(
                            should_continue_polling=lambda state: state < 3, jitter_strategy=kit.JitterStrategy.NONE
                        )
                    ),
                    0,
                    serdes=kit.JsonSerDes(),
                ),
            ),
        ]

    return workflow


@CONDITIONS.add()
def condition_fails(kit):
    """In the check, or in the strategy."""

    def check(state, context):
        raise BrokenError(f"attempt {context.attempt}")

    def strategy(state, attempt):
        raise LookupError("strategy")

    def workflow(event, context):
        config = kit.WaitForConditionConfig(strategy, 0)
        found = [
            kit.caught(lambda: context.wait_for_condition(check, config, "poll")),
            kit.caught(lambda: context.wait_for_condition(kit.gives("check", 1), config, "poll")),
        ]
        kit.wait(context, 1)
        return found

    return workflow


@CONDITIONS.add()
def condition_given_up(kit):
    """After so many attempts it is an error."""
    strategy = kit.create_wait_strategy(
        kit.WaitStrategyConfig(lambda _: True, max_attempts=3, jitter_strategy=kit.JitterStrategy.NONE)
    )

    def workflow(event, context):
        try:
            context.wait_for_condition(lambda state, _: state + 1, kit.WaitForConditionConfig(strategy, 0), "poll")
        except kit.WaitForConditionError as error:
            return [type(error).__name__, error.error_type]

    return workflow


@CONDITIONS.add()
def condition_states(kit):
    """Of any kind: none, with types of their own, changed in place by the check or by the strategy."""
    stop, go_on = kit.WaitForConditionDecision.stop_polling, kit.WaitForConditionDecision.continue_waiting

    def twice(state, attempt):
        return stop() if attempt == 2 else go_on(kit.Duration.from_seconds(0))

    def spoiling(state, attempt):
        state.append("strategy")
        return twice(state, attempt)

    def grown(state, _):
        state.append("check")
        return state

    def replaced(state, _):
        return [repr(state), (1, b"2")]

    def workflow(event, context):
        def poll(check, strategy, state):
            return repr(context.wait_for_condition(check, kit.WaitForConditionConfig(strategy, state)))

        return [
            poll(lambda *_: None, twice, None),
            poll(lambda state, _: repr(state), twice, None),
            poll(replaced, twice, (1, {"a": b"2"})),
            poll(grown, spoiling, []),
            poll(lambda state, check: state + check.attempt, twice, 0),
            poll(lambda *_: False, lambda *_: stop(), False),
        ]

    return workflow


@CONDITIONS.add()
def condition_delays(kit):
    """Drawn alike, by the default strategy, too, and growing up to a limit."""
    seconds, none = kit.Duration.from_seconds, kit.JitterStrategy.NONE

    def check(state, context):
        kit.note(f"check {context.attempt}")
        random.seed(context.attempt)
        return state + 1

    configs = {
        "default": {},
        "half": {"jitter_strategy": kit.JitterStrategy.HALF},
        "limited": {"initial_delay": seconds(3), "max_delay": seconds(10), "backoff_rate": 2, "jitter_strategy": none},
        "none": {"initial_delay": seconds(0), "jitter_strategy": none},
        "by minutes": {"initial_delay": kit.Duration.from_minutes(2), "backoff_rate": 1, "max_attempts": 5},
    }

    def workflow(event, context):
        found = []
        for name, config in configs.items():
            strategy = kit.create_wait_strategy(kit.WaitStrategyConfig(lambda state: state < 5, **config))
            found.append(context.wait_for_condition(check, kit.WaitForConditionConfig(strategy, 0), name))
        return found

    return workflow


@CONDITIONS.add()
def condition_errors(kit):
    """In the check, at a later poll, in the strategy, in its predicate; of any class."""
    wait = kit.WaitForConditionDecision.continue_waiting(kit.Duration.from_seconds(1))

    def failing_at(attempt, error):
        def check(state, context):
            kit.note(f"check {context.attempt}")
            if context.attempt == attempt:
                raise error
            return state + 1

        return check

    def broken(_):
        raise KeyError("predicate")

    def workflow(event, context):
        def poll(check, strategy):
            config = kit.WaitForConditionConfig(strategy, 0)
            return kit.attempt(lambda: context.wait_for_condition(check, config, "poll"))

        predicate = kit.create_wait_strategy(kit.WaitStrategyConfig(broken))
        found = [
            poll(failing_at(1, BrokenError("two\nlines")), lambda *_: wait),
            poll(failing_at(3, kit.WaitForConditionError("own", "Own", "data", ["line"])), lambda *_: wait),
            poll(failing_at(2, kit.StepError("step")), lambda *_: wait),
            poll(kit.gives("check", 1), predicate),
        ]
        kit.wait(context, 1)
        return found

    return workflow


@CONDITIONS.add()
def condition_inside(kit):
    """In children and in branches, between other operations, one giving up inside a block that goes on."""
    wait = kit.WaitForConditionDecision.continue_waiting(kit.Duration.from_seconds(2))

    def until(limit, of):
        def strategy(state, attempt):
            if attempt > limit:
                raise LookupError(f"{of} gave up")
            return wait if state < of else kit.WaitForConditionDecision.stop_polling()

        return kit.WaitForConditionConfig(strategy, 0)

    def polling(limit, of):
        def body(context, *_):
            kit.step(context, "before")
            found = context.wait_for_condition(lambda state, _: state + 1, until(limit, of), f"poll {of}")
            return [found, kit.step(context, "after", of)]

        return body

    def workflow(event, context):
        done = kit.CompletionConfig.all_completed()
        batch = context.parallel(
            [polling(5, 1), polling(5, 2), polling(1, 4)], "p", kit.ParallelConfig(completion_config=done)
        )
        return [
            context.run_in_child_context(polling(5, 3), "child"),
            kit.attempt(lambda: context.run_in_child_context(polling(1, 3), "child")),
            batch.get_results(),
            [[error.type, error.message] for error in batch.get_errors()],
        ]

    return workflow
