"""Tokens that are stale, withheld or lost on the way, and invocations that happen twice at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from aws_durable_execution_sdk_python_testing.worker.checkpoint_tasks import CallableTask

from perdure.config import Duration
from tests.aws.lambdas.emulator import Fault, Lose, Refuse, error
from tests.aws.lambdas.process import hosted
from tests.aws.lambdas.runs import Run
from tests.scenarios.colour import Colour, durable

COLOURS = pytest.mark.parametrize("colour", Colour)
NAMED = {"x-amzn-ErrorType": "InvalidParameterValueException"}
STALE = "Invalid checkpoint token"


def three_steps(colour, between=lambda: None):
    """A workflow of three steps; `between` is called in the body of the second."""

    async def workflow(event, context):
        a = await context.step(lambda _: 1, name="a")

        def second(_):
            between()
            return a + 1

        b = await context.step(second, name="b")
        return await context.step(lambda _: a + b, name="c")

    return durable(colour, workflow)


# --------------------------------------------------------------------------------------------------------------- stale


@COLOURS
@pytest.mark.parametrize("headers", [{}, NAMED], ids=["unnamed", "named"])
def test_a_stale_token(emulator, colour, headers):
    """The invocation raises, and the next one, with a token of its own, goes on; the result that was lost is redone."""
    run = Run(emulator, three_steps(colour))
    with emulator.broken(Refuse(error(400, STALE, **headers), after=1)) as fault:
        output = run.invoke()
    assert isinstance(output, Exception)
    assert STALE in str(output)
    assert fault.refused[0].token not in str(output)
    run.finish()
    assert run.result == 3
    assert run.bodies.ran.total() == run.ends_of_bodies() + 1
    assert len(run.outputs) == 2


@COLOURS
@pytest.mark.parametrize("headers", [{}, NAMED], ids=["unnamed", "named"])
def test_another_refusal(emulator, colour, headers):
    """What the service will never accept fails the execution, with what it said."""
    with emulator.broken(Refuse(error(400, "Invalid parent operation id.", **headers), times=1000)):
        run = Run(emulator, three_steps(colour)).finish()
    assert len(run.outputs) == 1
    assert run.status == "FAILED"
    assert "Invalid parent operation id." in run.error.message
    assert run.bodies.ran.total() == 1


@COLOURS
def test_each_token_is_used_once(emulator, colour):
    """Every checkpoint comes with the token of the answer before, and one at a time."""
    calls = Run(emulator, three_steps(colour)).finish().calls()
    assert [each.token for each in calls[1:]] == [each.next_token for each in calls[:-1]]
    assert len({each.token for each in calls}) == len(calls) == 3
    assert all(each.alone for each in calls)


# ------------------------------------------------------------------------------------------------------------ withheld


def paused(emulator, run):
    """Pause the execution while an invocation of it runs."""
    executor = emulator.executor
    executor._registry.submit(run.arn, CallableTask(lambda: executor._set_paused(run.arn))).result()


@COLOURS
def test_a_withheld_token(emulator, colour):
    """The step whose end was recorded is not run again; what follows waits for the service to go on."""
    run = Run(emulator, three_steps(colour, lambda: paused(emulator, run)))
    assert run.invoke() == {"Status": "PENDING"}
    assert run.calls()[-1].next_token is None
    assert run.statuses() == {"a": "SUCCEEDED", "b": "SUCCEEDED"}
    emulator.executor.resume_execution(run.arn)
    run.finish()
    assert run.result == 3
    assert run.bodies.ran.total() == 3
    assert len(run.outputs) == 2


@COLOURS
def test_a_token_withheld_at_the_end(emulator, colour):
    """What the workflow returned after the token was withheld is not reported; it returns it again."""
    paused_once = [True]

    async def workflow(event, context):
        def body(_):
            if paused_once:
                paused_once.pop()
                paused(emulator, run)
            return 1

        return await context.step(body)

    run = Run(emulator, durable(colour, workflow))
    assert run.invoke() == {"Status": "PENDING"}
    assert not run.is_over
    emulator.executor.resume_execution(run.arn)
    assert run.finish().result == 1
    assert run.bodies.ran.total() == 1


# ---------------------------------------------------------------------------------------------------------------- lost


@COLOURS
@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_lost_answer(emulator, colour, after):
    """boto3 asks again with the same ClientToken, and the service answers again: it is recorded once."""
    with emulator.broken(Lose("checkpoint", after=after, times=1)) as fault:
        run = Run(emulator, three_steps(colour)).finish()
    assert run.result == 3
    assert run.bodies.ran.total() == run.ends_of_bodies() == 3
    assert len(run.outputs) == 1
    calls = run.calls()
    assert len(calls) == 4
    lost, repeated = calls[after], calls[after + 1]
    assert fault.lost == [lost]
    assert (lost.client_token, lost.token, lost.updates) == (repeated.client_token, repeated.token, repeated.updates)
    assert len({each.client_token for each in calls}) == 3


@COLOURS
def test_a_service_that_never_answers(emulator, colour):
    """The invocation raises once boto3 has given up; what the service recorded meanwhile is not done again."""
    with emulator.broken(Lose("checkpoint", after=1)):
        run = Run(emulator, three_steps(colour))
        assert isinstance(run.invoke(), Exception)
    assert run.statuses() == {"a": "SUCCEEDED", "b": "SUCCEEDED"}
    run.finish()
    assert run.result == 3
    assert run.bodies.ran.total() == 3


@COLOURS
@pytest.mark.parametrize(
    ("status", "headers"), [(429, {"Retry-After": "0"}), (500, {}), (503, {})], ids=["throttled", "fault", "away"]
)
def test_trouble_that_passes(emulator, colour, status, headers):
    """boto3 asks again; if it is refused for good, the invocation raises and the execution goes on in another one."""
    with emulator.broken(Refuse(error(status, "not now", **headers), times=2)) as fault:
        run = Run(emulator, three_steps(colour)).finish()
    assert len(fault.refused) == 2
    assert len(run.outputs) == 1
    with emulator.broken(Refuse(error(status, "not now", **headers), times=1000)):
        run = Run(emulator, three_steps(colour))
        assert isinstance(run.invoke(), Exception)
    assert run.finish().result == 3


# -------------------------------------------------------------------------------------------------------------- twice


class Together:
    """Runs a handler twice at once for each event, with both starting at the same moment."""

    def __init__(self, handler):
        self._handler = handler
        self.outcomes = []

    def __call__(self, event, context):
        barrier = threading.Barrier(2)

        def once(_):
            barrier.wait()
            try:
                return self._handler(event, context)
            except Exception as failure:  # noqa: BLE001 - what becomes of it is looked at
                return failure

        with ThreadPoolExecutor(2) as pool:
            outcomes = list(pool.map(once, range(2)))
        self.outcomes.append(outcomes)
        clean = [each for each in outcomes if not isinstance(each, Exception)]
        if not clean:
            raise outcomes[0]
        return clean[0]


@COLOURS
def test_the_same_invocation_twice(emulator, colour):
    """One of the two is fenced at its first checkpoint and raises; what the other records stays."""
    drawn = iter(range(1000))

    async def workflow(event, context):
        first = await context.step(lambda _: next(drawn), name="first")
        await context.wait(Duration(60), "meanwhile")
        second = await context.step(lambda _: next(drawn), name="second")
        return [first, second]

    twins = Together(durable(colour, workflow))
    run = Run(emulator, twins).finish()
    assert run.status == "SUCCEEDED"
    for outcomes in twins.outcomes:
        fenced = [each for each in outcomes if isinstance(each, Exception)]
        assert len(fenced) == 1, outcomes
        assert STALE in str(fenced[0])
    assert len(run.calls()) == run.bodies.ran.total() + 1  # a wait
    recorded = [each.step_details.result for each in run.execution.operations if each.step_details]
    assert [str(each) for each in run.result] == recorded
    # Each update is recorded once.
    sequence = run.sequence()
    assert len(sequence) == len(set(sequence)) == 5


@pytest.mark.parametrize("side", ["def", "awaited"])
def test_the_same_invocation_in_two_processes(emulator, side):
    """The same for processes, as Lambda has them: step_then_wait of the official suite."""
    twins = Together(hosted(side, "1-8"))
    run = Run(emulator, twins).finish()
    assert run.status == "SUCCEEDED"
    assert len(twins.outcomes) == 2
    fenced = [each for each in twins.outcomes[0] if isinstance(each, Exception)]
    assert len(fenced) == 1
    assert STALE in str(fenced[0])
    # The second invocation records nothing, so that neither of the two notices the other.
    assert twins.outcomes[1][0] == twins.outcomes[1][1] == run.outputs[1]
    sequence = run.sequence()
    assert len(sequence) == len(set(sequence)) == 3


@COLOURS
def test_a_late_twin(emulator, colour):
    """An invocation that begins after its twin has recorded something is fenced at its first checkpoint."""
    events = []
    handler = three_steps(colour)

    class Early(Fault):
        """The twin begins between two requests of the first."""

        def __init__(self):
            self.outcomes = []

        def before(self, call):
            if len(run.calls()) == 2 and not self.outcomes:
                self.outcomes.append(None)
                self.outcomes[0] = twin(*events[0])

    def twin(event, context):
        try:
            return handler(event, context)
        except Exception as failure:  # noqa: BLE001 - what becomes of it is looked at
            return failure

    def noting(event, context):
        events.append((event, context))
        return handler(event, context)

    run = Run(emulator, noting)
    with emulator.broken(Early()) as fault:
        run.finish()
    assert run.result == 3
    assert STALE in str(fault.outcomes[0])
    late = twin(*events[0])
    assert STALE in str(late)
    assert len(run.sequence()) == 6
