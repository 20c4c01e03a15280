"""with_retry: a block of operations repeated as a whole."""

from __future__ import annotations

from perdure.config import ChildConfig, Duration, JitterStrategy, StepConfig
from perdure.errors import ChildContextError, StepError
from perdure.retries import RetryPresets, RetryStrategyConfig, WithRetryConfig, create_retry_strategy
from tests.scenarios.colour import retried
from tests.scenarios.stage import lines

ONCE = StepConfig(retry_strategy=RetryPresets.none())


def attempts(count, **options):
    strategy = create_retry_strategy(
        RetryStrategyConfig(
            max_attempts=count,
            initial_delay=Duration(4),
            max_delay=Duration(4),
            jitter_strategy=JitterStrategy.NONE,
        )
    )
    return WithRetryConfig(retry_strategy=strategy, **options)


def test_a_block_that_succeeds_at_last(stage):
    """All of the block runs again after a back-off wait; each attempt has operations of its own."""

    async def workflow(event, context):
        async def block(block_context, attempt):
            await block_context.step(stage.body(f"reserve-{attempt}"), name="reserve")
            body = stage.body(f"charge-{attempt}", *([ValueError("declined")] if attempt < 2 else ["paid"]))
            return await block_context.step(body, name="charge", config=ONCE)

        return await retried(context, block, attempts(3), name="pay")

    outcome = stage.run(workflow)
    assert outcome.result == "paid"
    assert stage.runs == {"reserve-1": 1, "charge-1": 1, "reserve-2": 1, "charge-2": 1}
    assert outcome.history == lines(
        """
        ExecutionStarted
        ContextStarted pay [RunInChildContext]
        StepStarted pay/reserve
        StepSucceeded pay/reserve #1 = null
        StepStarted pay/charge
        StepFailed pay/charge #1 ! ValueError: declined
        WaitStarted pay/pay-backoff-1 for 4 s
        InvocationCompleted
        WaitSucceeded pay/pay-backoff-1 for 4 s
        StepStarted pay/reserve
        StepSucceeded pay/reserve #1 = null
        StepStarted pay/charge
        StepSucceeded pay/charge #1 = "paid"
        ContextSucceeded pay = "paid"
        InvocationCompleted
        ExecutionSucceeded = "paid"
        """
    )


def test_a_block_that_fails_for_good(stage):
    """In a child context the last failure is that context's; its cause is what escaped the block."""

    async def workflow(event, context):
        async def block(block_context, attempt):
            await block_context.step(stage.body("charge", ValueError("declined")), name="charge", config=ONCE)

        try:
            await retried(context, block, attempts(2), name="pay")
        except ChildContextError as error:
            return [error.message, type(error.__cause__).__name__]

    outcome = stage.run(workflow)
    assert outcome.result == ["declined", "StepError"]
    assert stage.runs == {"charge": 2}


def test_a_block_without_a_context(stage):
    """Unwrapped, its operations are the caller's, and its failure is raised unchanged."""

    async def workflow(event, context):
        async def block(block_context, attempt):
            await block_context.step(stage.body("charge", ValueError("declined")), name="charge", config=ONCE)

        try:
            await retried(context, block, attempts(2, wrap_with_run_in_child_context=False), name="pay")
        except StepError as error:
            return error.message

    outcome = stage.run(workflow)
    assert outcome.result == "declined"
    assert outcome.history == lines(
        """
        ExecutionStarted
        StepStarted charge
        StepFailed charge #1 ! ValueError: declined
        WaitStarted pay-backoff-1 for 4 s
        InvocationCompleted
        WaitSucceeded pay-backoff-1 for 4 s
        StepStarted charge
        StepFailed charge #1 ! ValueError: declined
        InvocationCompleted
        ExecutionSucceeded = "declined"
        """
    )


def test_plain_errors_are_retried_too(stage):
    """The block's own code may fail; without a name the waits have none."""

    async def workflow(event, context):
        async def block(block_context, attempt):
            if attempt == 1:
                raise KeyError("missing")
            return await block_context.step(stage.body("step", attempt), name="step")

        config = attempts(2, child_context_config=ChildConfig(sub_type="Retried"))
        return await retried(context, block, config)

    outcome = stage.run(workflow)
    assert outcome.result == 2
    assert "ContextStarted (Retried) [Retried]\n" in outcome.history
    assert "WaitStarted (Retried)/(Wait) for 4 s" in outcome.history


def test_a_suspension_is_no_failure(stage):
    """A wait inside the block does not count as an attempt."""

    async def workflow(event, context):
        async def block(block_context, attempt):
            await block_context.wait(Duration(10), name="pause")
            return attempt

        return await retried(context, block, attempts(3), name="block")

    assert stage.run(workflow).result == 1
