"""Operations one by one: outcomes are fed, commands are asserted."""

from __future__ import annotations

from datetime import timedelta

import pytest

from perdure.config import (
    CallbackConfig,
    ChildConfig,
    CompletionConfig,
    InvokeConfig,
    MapConfig,
    NestingType,
    ParallelConfig,
    StepConfig,
    StepSemantics,
    WaitForCallbackConfig,
)
from perdure.duration import Duration
from perdure.engine.commands import Blocked, Call, Checkpoint, Raised, Returned, Spawn, WaitAny
from perdure.engine.ids import Identity, operation_id
from perdure.engine.operations.batch import MAP, PARALLEL, Branch, batch
from perdure.engine.operations.callback import callback_result, create_callback
from perdure.engine.operations.child import child
from perdure.engine.operations.condition import wait_for_condition
from perdure.engine.operations.invoke import invoke
from perdure.engine.operations.step import step
from perdure.engine.operations.wait import wait
from perdure.engine.operations.wait_for_callback import wait_for_callback
from perdure.engine.replay import Run
from perdure.errors import (
    CallbackExternalError,
    CallbackSubmitterError,
    CallbackTimeoutError,
    ChildContextError,
    ContextMisuseError,
    DurableOperationError,
    ExecutionError,
    InvokeError,
    NonDeterministicExecutionError,
    RetryableSerDesError,
    SerDesError,
    StepError,
    StepInterruptedError,
    WaitForConditionError,
)
from perdure.model import (
    CallbackOptions,
    ChainedInvokeOptions,
    ContextOptions,
    ErrorObject,
    OperationAction,
    OperationStatus,
    OperationSubType,
    OperationType,
    StepOptions,
    WaitOptions,
)
from perdure.retries import RetryDecision, RetryPresets
from perdure.serdes import SerDes
from perdure.waits import WaitForConditionConfig, WaitForConditionDecision
from tests.replay.by_hand import NOW, Hand, returned

START = OperationAction.START
VALUE_ERROR = ErrorObject("no", "ValueError")


def body(_):
    raise AssertionError("only the driver calls bodies")


def one_retry(delay=7):
    return lambda _, attempt: RetryDecision.retry(Duration(delay)) if attempt == 1 else RetryDecision.no_retry()


class Broken(SerDes):
    """Fails at what it is told to."""

    def __init__(self, at, error):
        self.at, self.error = at, error

    def serialize(self, value, _):
        if self.at == "serialize":
            raise self.error
        return repr(value)

    def deserialize(self, data, _):
        if self.at == "deserialize":
            raise self.error
        return eval(data)


# ------------------------------------------------------------------------------------------------------------ ids


def test_ids_are_those_of_the_python_scheme():
    """The check values of protocol.md §11."""
    first = operation_id(None, 1)
    assert first == "1ced8f5be2db23a6513eba4d819c73806424748a7bc6fa0d792cc1c7d1775a97"
    assert operation_id(first, 1) == "974bfc6321e227b0ff101342eaf19b336f002dc6cc99c18f0941a7755cc20fc4"


# ----------------------------------------------------------------------------------------------------------- step


class TestStep:
    @pytest.fixture
    def hand(self):
        return Hand()

    @pytest.fixture
    def identity(self, hand):
        return hand.draw(OperationType.STEP, name="pay")

    def test_first_run(self, hand, identity):
        """START without waiting, the body, SUCCEED and only then the result."""
        procedure = step(hand.scope, identity, body, StepConfig())
        assert procedure.send(None) == Checkpoint((identity.update(START),), durable=False)
        call = procedure.send(None)
        assert (call.body, call.context) == (body, None)
        assert call.args[0].attempt == 1
        succeed = identity.update(OperationAction.SUCCEED, payload='"paid"')
        assert procedure.send(Returned("paid")) == Checkpoint((succeed,), durable=True)
        assert returned(procedure) == "paid"

    def test_at_most_once_starts_durably(self, hand, identity):
        """The body must not run before its START is recorded."""
        config = StepConfig(step_semantics=StepSemantics.AT_MOST_ONCE_PER_RETRY)
        procedure = step(hand.scope, identity, body, config)
        assert procedure.send(None) == Checkpoint((identity.update(START),), durable=True)
        assert isinstance(procedure.send(None), Call)

    def test_recorded_success(self, hand, identity):
        """A recorded result is returned without any command."""
        hand.record(identity, OperationStatus.SUCCEEDED, result="[1,2]", attempt=1)
        assert returned(step(hand.scope, identity, body, StepConfig())) == [1, 2]

    def test_success_without_payload(self, hand, identity):
        """What a serializer stored nothing for is None on replay."""
        hand.record(identity, OperationStatus.SUCCEEDED, attempt=1)
        assert returned(step(hand.scope, identity, body, StepConfig())) is None

    def test_recorded_failure(self, hand, identity):
        """A recorded error is raised with the fields of the error that escaped."""
        hand.record(identity, OperationStatus.FAILED, error=VALUE_ERROR, attempt=3)
        with pytest.raises(StepError) as caught:
            returned(step(hand.scope, identity, body, StepConfig()))
        assert (caught.value.message, caught.value.error_type) == ("no", "ValueError")

    def test_pending_blocks_until_the_next_attempt(self, hand, identity):
        """A retry that is not due blocks until its time, then a READY step starts again as the next attempt."""
        due = NOW + timedelta(seconds=30)
        record = hand.record(identity, OperationStatus.PENDING, attempt=1, next_attempt_timestamp=due)
        procedure = step(hand.scope, identity, body, StepConfig())
        blocked = procedure.send(None)
        assert blocked == Blocked(record)
        assert blocked.until == due
        hand.record(identity, OperationStatus.READY, attempt=1)
        assert procedure.send(None) == Checkpoint((identity.update(START),), durable=False)
        assert procedure.send(None).args[0].attempt == 2

    def test_started_runs_again_without_start(self, hand, identity):
        """An interrupted at-least-once attempt runs again; START is not repeated."""
        hand.record(identity, OperationStatus.STARTED, attempt=1)
        call = step(hand.scope, identity, body, StepConfig()).send(None)
        assert isinstance(call, Call)
        assert call.args[0].attempt == 2

    def test_started_at_most_once_is_a_failure(self, hand, identity):
        """An interrupted at-most-once attempt does not run again: the strategy is asked about the interruption."""
        asked = []

        def strategy(error, attempt):
            asked.append((type(error), attempt))
            return RetryDecision.retry(Duration(9))

        hand.record(identity, OperationStatus.STARTED, attempt=1)
        config = StepConfig(strategy, StepSemantics.AT_MOST_ONCE_PER_RETRY)
        update = step(hand.scope, identity, body, config).send(None).updates[0]
        assert asked == [(StepInterruptedError, 2)]
        assert (update.action, update.step_options) == (OperationAction.RETRY, StepOptions(9))
        assert update.error.type == "aws_durable_execution_sdk_python.exceptions.StepInterruptedError"

    def test_retry_is_recorded_then_blocks(self, hand, identity):
        """A failed attempt is recorded with its delay, and the step blocks on it."""
        procedure = step(hand.scope, identity, body, StepConfig(one_retry()))
        procedure.send(None)
        procedure.send(None)
        retry = identity.update(OperationAction.RETRY, error=VALUE_ERROR, step_options=StepOptions(7))
        assert procedure.send(Raised(ValueError("no"))) == Checkpoint((retry,), durable=True)
        record = hand.record(identity, OperationStatus.PENDING, attempt=1)
        assert procedure.send(None) == Blocked(record)

    def test_a_retry_waits_a_second_at_least(self, hand, identity):
        """The service takes no shorter delay."""
        procedure = step(hand.scope, identity, body, StepConfig(one_retry(delay=0)))
        procedure.send(None)
        procedure.send(None)
        assert procedure.send(Raised(ValueError("no"))).updates[0].step_options == StepOptions(1)

    def test_default_strategy(self, hand, identity):
        """Without a strategy RetryPresets.default() decides."""
        procedure = step(hand.scope, identity, body, StepConfig())
        procedure.send(None)
        procedure.send(None)
        expected = RetryPresets.default()(ValueError("no"), 1).should_retry
        action = procedure.send(Raised(ValueError("no"))).updates[0].action
        assert (action is OperationAction.RETRY) is expected is True

    def test_failure_is_the_same_as_on_replay(self, hand, identity):
        """FAIL records the raw error; what is raised is rebuilt from that."""
        procedure = step(hand.scope, identity, body, StepConfig(RetryPresets.none()))
        procedure.send(None)
        procedure.send(None)
        fail = identity.update(OperationAction.FAIL, error=VALUE_ERROR)
        assert procedure.send(Raised(ValueError("no"))) == Checkpoint((fail,), durable=True)
        with pytest.raises(StepError) as live:
            procedure.send(None)
        hand.record(identity, OperationStatus.FAILED, error=VALUE_ERROR, attempt=1)
        with pytest.raises(StepError) as again:
            returned(step(hand.scope, identity, body, StepConfig()))
        assert vars(live.value) == vars(again.value)

    @pytest.mark.parametrize("error", [ContextMisuseError("x"), SerDesError("x")])
    def test_errors_that_no_strategy_sees(self, hand, identity, error):
        """Misuse of a context and serializer failures are final."""

        def strategy(*_):
            raise AssertionError("asked")

        procedure = step(hand.scope, identity, body, StepConfig(strategy))
        procedure.send(None)
        procedure.send(None)
        assert procedure.send(Raised(error)).updates[0].action is OperationAction.FAIL

    def test_a_broken_strategy_fails_the_step(self, hand, identity):
        """What the strategy raises is recorded as the step's failure."""

        def strategy(*_):
            raise KeyError("oops")

        procedure = step(hand.scope, identity, body, StepConfig(strategy))
        procedure.send(None)
        procedure.send(None)
        update = procedure.send(Raised(ValueError("no"))).updates[0]
        assert (update.action, update.error.type) == (OperationAction.FAIL, "KeyError")

    @pytest.mark.parametrize("error", [ExecutionError("x"), RetryableSerDesError("x")])
    def test_errors_that_are_not_recorded(self, hand, identity, error):
        """What ends the execution or the invocation is raised, and the step stays STARTED."""
        procedure = step(hand.scope, identity, body, StepConfig())
        procedure.send(None)
        procedure.send(None)
        with pytest.raises(type(error)):
            procedure.send(Raised(error))

    @pytest.mark.parametrize("at", ["serialize", "deserialize"])
    def test_a_result_that_does_not_survive_is_a_failure(self, hand, identity, at):
        """The round trip is made before SUCCEED, so what is SUCCEEDED can be read."""
        procedure = step(hand.scope, identity, body, StepConfig(serdes=Broken(at, TypeError("bad"))))
        procedure.send(None)
        procedure.send(None)
        update = procedure.send(Returned("x")).updates[0]
        assert update.action is OperationAction.FAIL
        assert update.error.type == "aws_durable_execution_sdk_python.exceptions.SerDesError"
        with pytest.raises(SerDesError):
            procedure.send(None)

    def test_the_result_is_what_replay_reads(self, hand, identity):
        """First run and replay return the same: a round trip through the serializer."""
        procedure = step(hand.scope, identity, body, StepConfig())
        procedure.send(None)
        procedure.send(None)
        procedure.send(Returned({1: (2, 3)}))
        assert returned(procedure) == {"1": (2, 3)}

    def test_payload_limit_counts_bytes_after_serdes(self, identity):
        """A payload above the limit is FAIL and never retried; the limit is in bytes of UTF-8 and can be raised."""
        big = StepConfig(serdes=Broken(None, None))
        for limit, action in ((9, OperationAction.FAIL), (10, OperationAction.SUCCEED)):
            procedure = step(Hand(payload_limit=limit).scope, identity, body, big)
            procedure.send(None)
            procedure.send(None)
            update = procedure.send(Returned("ääää")).updates[0]
            assert update.action is action
        with pytest.raises(StopIteration):
            procedure.send(None)

    def test_idempotency_key(self, hand, identity):
        """The same for every attempt, another for every step."""
        keys = set()
        for status in (OperationStatus.READY, OperationStatus.STARTED):
            hand.record(identity, status, attempt=1)
            procedure = step(hand.scope, identity, body, StepConfig())
            command = procedure.send(None)
            call = command if isinstance(command, Call) else procedure.send(None)
            keys.add(call.args[0].idempotency_key)
        other = hand.draw(OperationType.STEP)
        procedure = step(hand.scope, other, body, StepConfig())
        procedure.send(None)
        assert len(keys) == 1
        assert procedure.send(None).args[0].idempotency_key not in keys


# ----------------------------------------------------------------------------------------------------------- wait


class TestWait:
    def test_life(self):
        """START durably, blocked until the service says so, then nothing."""
        hand = Hand()
        identity = hand.draw(OperationType.WAIT, OperationSubType.WAIT, "cool-off")
        procedure = wait(hand.scope, identity, 60)
        start = identity.update(START, wait_options=WaitOptions(60))
        assert procedure.send(None) == Checkpoint((start,), durable=True)
        end = NOW + timedelta(seconds=60)
        record = hand.record(identity, OperationStatus.STARTED, scheduled_end_timestamp=end)
        blocked = procedure.send(None)
        assert (blocked, blocked.until) == (Blocked(record), end)
        hand.record(identity, OperationStatus.SUCCEEDED)
        assert returned(procedure) is None

    def test_started_is_not_started_again(self):
        """A recorded wait is only waited for."""
        hand = Hand()
        identity = hand.draw(OperationType.WAIT, OperationSubType.WAIT)
        record = hand.record(identity, OperationStatus.STARTED)
        assert wait(hand.scope, identity, 60).send(None) == Blocked(record)


# ------------------------------------------------------------------------------------------------------- callback


class TestCallback:
    @pytest.fixture
    def hand(self):
        return Hand()

    @pytest.fixture
    def identity(self, hand):
        return hand.draw(OperationType.CALLBACK, OperationSubType.CALLBACK, "approval")

    def test_created_durably(self, hand, identity):
        """The id is the one in the answer."""
        procedure = create_callback(hand.scope, identity, CallbackConfig(Duration(30), Duration(5)))
        start = identity.update(START, callback_options=CallbackOptions(30, 5))
        assert procedure.send(None) == Checkpoint((start,), durable=True)
        hand.record(identity, OperationStatus.STARTED, callback_id="cb")
        assert returned(procedure) == "cb"

    @pytest.mark.parametrize("status", [OperationStatus.FAILED, OperationStatus.TIMED_OUT])
    def test_failure_shows_only_in_the_result(self, hand, identity, status):
        """The id is returned whatever has become of the callback."""
        hand.record(identity, status, callback_id="cb")
        assert returned(create_callback(hand.scope, identity, CallbackConfig())) == "cb"

    def test_result_is_text(self, hand, identity):
        """The payload is not parsed."""
        hand.record(identity, OperationStatus.SUCCEEDED, callback_id="cb", result='{"a": 1}')
        assert returned(callback_result(hand.scope, identity, None)) == '{"a": 1}'

    def test_result_blocks(self, hand, identity):
        """A callback that is open blocks without an end."""
        record = hand.record(identity, OperationStatus.STARTED, callback_id="cb")
        blocked = callback_result(hand.scope, identity, None).send(None)
        assert (blocked, blocked.until) == (Blocked(record), None)

    @pytest.mark.parametrize(
        ("status", "error", "raised", "message"),
        [
            (OperationStatus.FAILED, ErrorObject("rejected", "Manager"), CallbackExternalError, "rejected"),
            (OperationStatus.FAILED, None, CallbackExternalError, "Callback failed"),
            (OperationStatus.TIMED_OUT, None, CallbackTimeoutError, "Callback timed out"),
            (OperationStatus.STOPPED, None, CallbackExternalError, "Callback failed"),
        ],
    )
    def test_failures(self, hand, identity, status, error, raised, message):
        """Each way to fail has its error class."""
        hand.record(identity, status, callback_id="cb", error=error)
        with pytest.raises(raised, match=message):
            returned(callback_result(hand.scope, identity, None))


# --------------------------------------------------------------------------------------------------------- invoke


class TestInvoke:
    @pytest.fixture
    def hand(self):
        return Hand()

    @pytest.fixture
    def identity(self, hand):
        return hand.draw(OperationType.CHAINED_INVOKE, OperationSubType.CHAINED_INVOKE, "child")

    def test_life(self, hand, identity):
        """START durably with the payload, blocked, then the result as JSON."""
        procedure = invoke(hand.scope, identity, "other:1", {"a": 1}, InvokeConfig(tenant_id="t"))
        options = ChainedInvokeOptions("other:1", "t")
        start = identity.update(START, payload='{"a": 1}', chained_invoke_options=options)
        assert procedure.send(None) == Checkpoint((start,), durable=True)
        record = hand.record(identity, OperationStatus.STARTED)
        assert procedure.send(None) == Blocked(record)
        hand.record(identity, OperationStatus.SUCCEEDED, result='{"b": 2}')
        assert returned(procedure) == {"b": 2}

    @pytest.mark.parametrize("status", ["FAILED", "TIMED_OUT", "STOPPED"])
    def test_failures(self, hand, identity, status):
        """Whatever ended it otherwise is an InvokeError with the target's error."""
        hand.record(identity, OperationStatus[status], error=ErrorObject("bad", "Target"))
        with pytest.raises(InvokeError, match="bad") as caught:
            returned(invoke(hand.scope, identity, "other", None, InvokeConfig()))
        assert caught.value.error_type == "Target"

    def test_a_failure_that_tells_nothing(self, hand, identity):
        """An error without members is none: the message says so, as there is no other."""
        hand.record(identity, OperationStatus.FAILED, error=ErrorObject())
        with pytest.raises(InvokeError, match="invoke 'child' is FAILED, and no error is recorded"):
            returned(invoke(hand.scope, identity, "other", None, InvokeConfig()))

    def test_unserializable_payload(self, hand, identity):
        """Nothing is recorded for a payload that cannot be sent."""
        with pytest.raises(SerDesError):
            invoke(hand.scope, identity, "other", object(), InvokeConfig()).send(None)


# ------------------------------------------------------------------------------------------------------ condition


def until(goal, delay=3):
    return lambda state, _: (
        WaitForConditionDecision.stop_polling()
        if state >= goal
        else WaitForConditionDecision.continue_waiting(Duration(delay))
    )


class TestCondition:
    @pytest.fixture
    def hand(self):
        return Hand()

    @pytest.fixture
    def identity(self, hand):
        return hand.draw(OperationType.STEP, OperationSubType.WAIT_FOR_CONDITION, "poll")

    def test_polls_until_content(self, hand, identity):
        """A check that is not content is a RETRY with the state; the next one gets that state."""
        procedure = wait_for_condition(hand.scope, identity, body, WaitForConditionConfig(until(2), 0))
        assert procedure.send(None) == Checkpoint((identity.update(START),), durable=False)
        call = procedure.send(None)
        assert (call.args[0], call.args[1].attempt) == (0, 1)
        retry = identity.update(OperationAction.RETRY, payload="1", step_options=StepOptions(3))
        assert procedure.send(Returned(1)) == Checkpoint((retry,), durable=True)
        record = hand.record(identity, OperationStatus.PENDING, attempt=1, result="1")
        assert procedure.send(None) == Blocked(record)
        hand.record(identity, OperationStatus.READY, attempt=1, result="1")
        assert procedure.send(None) == Checkpoint((identity.update(START),), durable=False)
        call = procedure.send(None)
        assert (call.args[0], call.args[1].attempt) == (1, 2)
        succeed = identity.update(OperationAction.SUCCEED, payload="2")
        assert procedure.send(Returned(2)) == Checkpoint((succeed,), durable=True)
        assert returned(procedure) == 2

    def test_interrupted_check_is_repeated_with_its_state(self, hand, identity):
        """A STARTED poll reads its state again and sends no START."""
        hand.record(identity, OperationStatus.STARTED, attempt=1, result="5")
        procedure = wait_for_condition(hand.scope, identity, body, WaitForConditionConfig(until(2), 0))
        assert procedure.send(None).args[0] == 5

    @pytest.mark.parametrize("outcome", [Raised(ValueError("no")), Returned("not a number")])
    def test_failures(self, hand, identity, outcome):
        """An error of the check, or of the strategy, is recorded and raised."""
        procedure = wait_for_condition(hand.scope, identity, body, WaitForConditionConfig(until(2), 0))
        procedure.send(None)
        procedure.send(None)
        assert procedure.send(outcome).updates[0].action is OperationAction.FAIL
        with pytest.raises(WaitForConditionError):
            procedure.send(None)

    def test_recorded(self, hand, identity):
        """What has ended returns or raises without a command."""
        config = WaitForConditionConfig(until(2), 0)
        hand.record(identity, OperationStatus.SUCCEEDED, result="7")
        assert returned(wait_for_condition(hand.scope, identity, body, config)) == 7
        hand.record(identity, OperationStatus.FAILED, error=VALUE_ERROR)
        with pytest.raises(WaitForConditionError, match="no"):
            returned(wait_for_condition(hand.scope, identity, body, config))

    def test_unserializable_first_state(self, hand, identity):
        """It fails as the check would."""
        config = WaitForConditionConfig(until(2), 0, Broken("serialize", TypeError("bad")))
        procedure = wait_for_condition(hand.scope, identity, body, config)
        procedure.send(None)
        assert procedure.send(None).updates[0].action is OperationAction.FAIL


# ---------------------------------------------------------------------------------------------------------- child


class TestChild:
    @pytest.fixture
    def hand(self):
        return Hand(replay_children_threshold=10)

    @pytest.fixture
    def identity(self, hand):
        return hand.draw(OperationType.CONTEXT, OperationSubType.RUN_IN_CHILD_CONTEXT, "part")

    def test_first_run(self, hand, identity):
        """START rides along, the body gets a context below, SUCCEED is waited for."""
        procedure = child(hand.scope, identity, body, ChildConfig(), args=(1, 2))
        assert procedure.send(None) == Checkpoint((identity.update(START),), durable=False)
        call = procedure.send(None)
        assert (call.body, call.args) == (body, (1, 2))
        assert call.context.prefix == call.context.parent_id == identity.operation_id
        options = ContextOptions(replay_children=False)
        succeed = identity.update(OperationAction.SUCCEED, payload="5", context_options=options)
        assert procedure.send(Returned(5)) == Checkpoint((succeed,), durable=True)
        assert returned(procedure) == 5

    def test_failure(self, hand, identity):
        """The raw error is recorded, a ChildContextError raised."""
        procedure = child(hand.scope, identity, body, ChildConfig())
        procedure.send(None)
        procedure.send(None)
        fail = identity.update(OperationAction.FAIL, error=VALUE_ERROR)
        assert procedure.send(Raised(ValueError("no"))) == Checkpoint((fail,), durable=True)
        with pytest.raises(ChildContextError) as caught:
            procedure.send(None)
        assert caught.value.error_type == "ValueError"

    def test_started_runs_its_body_without_start(self, hand, identity):
        """A context that was begun is gone through again."""
        hand.record(identity, OperationStatus.STARTED)
        call = child(hand.scope, identity, body, ChildConfig()).send(None)
        assert call.context.replaying

    def test_recorded(self, hand, identity):
        """The body of an ended context does not run."""
        hand.record(identity, OperationStatus.SUCCEEDED, result="5")
        assert returned(child(hand.scope, identity, body, ChildConfig())) == 5
        hand.record(identity, OperationStatus.FAILED, error=VALUE_ERROR)
        with pytest.raises(ChildContextError):
            returned(child(hand.scope, identity, body, ChildConfig()))

    @pytest.mark.parametrize(("summary", "payload"), [(None, ""), (lambda _: "sum", "sum")])
    def test_large_result(self, hand, identity, summary, payload):
        """A large result is replaced by its summary, and rebuilt by running the body over its records."""
        config = ChildConfig(summary_generator=summary)
        procedure = child(hand.scope, identity, body, config)
        procedure.send(None)
        procedure.send(None)
        update = procedure.send(Returned("x" * 20)).updates[0]
        assert (update.payload, update.context_options) == (payload, ContextOptions(replay_children=True))
        assert returned(procedure) == "x" * 20
        hand.record(identity, OperationStatus.SUCCEEDED, result=payload, replay_children=True)
        procedure = child(hand.scope, identity, body, config)
        assert isinstance(procedure.send(None), Call)
        assert returned(procedure, Returned("x" * 20)) == "x" * 20

    def test_an_error_where_a_large_result_was(self, hand, identity):
        """A body that now fails is non-deterministic; nothing is recorded over the result."""
        hand.record(identity, OperationStatus.SUCCEEDED, result="", replay_children=True)
        procedure = child(hand.scope, identity, body, ChildConfig())
        procedure.send(None)
        with pytest.raises(NonDeterministicExecutionError, match="'part'"):
            procedure.send(Raised(ValueError("no")))

    def test_a_broken_summary_fails_the_context(self, hand, identity):
        """The error of a summary generator is recorded as the context's."""
        config = ChildConfig(summary_generator=lambda _: 1 / 0)
        procedure = child(hand.scope, identity, body, config)
        procedure.send(None)
        procedure.send(None)
        assert procedure.send(Returned("x" * 20)).updates[0].error.type == "ZeroDivisionError"

    def test_virtual(self, hand, identity):
        """A virtual context records nothing; operations in it belong to the context around it."""
        procedure = child(hand.scope, identity, body, ChildConfig(is_virtual=True))
        call = procedure.send(None)
        assert (call.context.prefix, call.context.parent_id) == (identity.operation_id, None)
        assert returned(procedure, Returned({"a": 1})) == {"a": 1}

    def test_virtual_with_a_value_without_a_form(self, hand, identity):
        """The error is made from what would be recorded, as that of a context with a record is."""
        procedure = child(hand.scope, identity, body, ChildConfig(is_virtual=True))
        procedure.send(None)
        with pytest.raises(SerDesError) as caught:
            procedure.send(Returned(object()))
        assert type(caught.value.__cause__) is DurableOperationError

    def test_virtual_over_a_record(self, hand, identity):
        """A record at the id of a virtual context is of changed code."""
        hand.record(identity, OperationStatus.SUCCEEDED, result="5")
        with pytest.raises(NonDeterministicExecutionError):
            child(hand.scope, identity, body, ChildConfig(is_virtual=True)).send(None)

    def test_execution_error_is_not_recorded(self, hand, identity):
        """What fails the execution passes through."""
        procedure = child(hand.scope, identity, body, ChildConfig())
        procedure.send(None)
        procedure.send(None)
        with pytest.raises(ExecutionError, match="stop"):
            procedure.send(Raised(ExecutionError("stop")))


# ---------------------------------------------------------------------------------------------- wait_for_callback


class TestWaitForCallback:
    @pytest.fixture
    def hand(self):
        return Hand()

    @pytest.fixture
    def identity(self, hand):
        return hand.draw(OperationType.CONTEXT, OperationSubType.WAIT_FOR_CALLBACK, "X")

    def pieces(self, hand, identity):
        inner = hand.scope.child(hand.scope.run, identity, replaying=False)
        callback = inner.draw(OperationType.CALLBACK, OperationSubType.CALLBACK, "X create callback id")
        return callback, inner.draw(OperationType.STEP, OperationSubType.STEP, "X submitter")

    def test_life(self, hand, identity):
        """Context, callback and submitter are named as protocol.md §10.3 says; then the result is waited for."""
        callback, submitter = self.pieces(hand, identity)
        procedure = wait_for_callback(hand.scope, identity, body)
        assert procedure.send(None) == Checkpoint((identity.update(START),), durable=False)
        opened = callback.update(START, callback_options=CallbackOptions())
        assert procedure.send(None) == Checkpoint((opened,), durable=True)
        record = hand.record(callback, OperationStatus.STARTED, callback_id="cb")
        assert procedure.send(None) == Checkpoint((submitter.update(START),), durable=False)
        call = procedure.send(None)
        assert (call.body, call.args[0]) == (body, "cb")
        assert procedure.send(Returned(None)).updates[0].action is OperationAction.SUCCEED
        assert procedure.send(None) == Blocked(record)
        hand.record(callback, OperationStatus.SUCCEEDED, callback_id="cb", result="yes")
        assert procedure.send(None).updates[0].payload == '"yes"'
        assert returned(procedure) == "yes"

    def test_submitter_fails(self, hand, identity):
        """A submitter that fails for good is a CallbackSubmitterError, live and on replay."""
        callback, _ = self.pieces(hand, identity)
        config = WaitForCallbackConfig(retry_strategy=RetryPresets.none())
        procedure = wait_for_callback(hand.scope, identity, body, config)
        procedure.send(None)
        procedure.send(None)
        hand.record(callback, OperationStatus.STARTED, callback_id="cb")
        procedure.send(None)
        procedure.send(None)
        assert procedure.send(Raised(ValueError("no"))).updates[0].action is OperationAction.FAIL
        failed = procedure.send(None).updates[0]
        assert failed.error.type == "aws_durable_execution_sdk_python.exceptions.StepError"
        with pytest.raises(CallbackSubmitterError, match="no"):
            procedure.send(None)
        hand.record(identity, OperationStatus.FAILED, error=failed.error)
        with pytest.raises(CallbackSubmitterError, match="no"):
            returned(wait_for_callback(hand.scope, identity, body, config))

    def test_external_failure_on_replay(self, hand, identity):
        """The callback's own error is raised, not the context's."""
        error = ErrorObject("late", "aws_durable_execution_sdk_python.exceptions.CallbackTimeoutError")
        hand.record(identity, OperationStatus.FAILED, error=error)
        with pytest.raises(CallbackTimeoutError, match="late"):
            returned(wait_for_callback(hand.scope, identity, body))


# ---------------------------------------------------------------------------------------------------------- batch


class TestBatch:
    @pytest.fixture
    def hand(self):
        return Hand()

    @pytest.fixture
    def identity(self, hand):
        return hand.draw(OperationType.CONTEXT, OperationSubType.PARALLEL, "all")

    def branch(self, identity, index, name=None):
        return Identity(
            operation_id(identity.operation_id, index),
            OperationType.CONTEXT,
            OperationSubType.PARALLEL_BRANCH,
            name or f"parallel-branch-{index}",
            identity.operation_id,
            index,
        )

    def start(self, hand, identity, count, config=None, **kwargs):
        branches = [Branch(body) for _ in range(count)]
        return batch(hand.scope, identity, PARALLEL, lambda: branches, config or ParallelConfig(), **kwargs)

    def test_branches_start_in_index_order(self, hand, identity):
        """At most max_concurrency unfinished at a time; the next starts when one has ended."""
        procedure = self.start(hand, identity, 3, ParallelConfig(max_concurrency=2))
        assert procedure.send(None) == Checkpoint((identity.update(START),), durable=False)
        spawned = [procedure.send(None), procedure.send(None)]
        assert [(each.key, each.id) for each in spawned] == [
            (0, operation_id(identity.operation_id, 0)),
            (1, operation_id(identity.operation_id, 1)),
        ]
        assert procedure.send(None) == WaitAny()
        third = procedure.send([(1, Returned("b"))])
        assert isinstance(third, Spawn)
        assert third.key == 2
        assert procedure.send(None) == WaitAny()
        final = procedure.send([(0, Returned("a")), (2, Returned("c"))])
        assert final.updates[0].action is OperationAction.SUCCEED
        result = returned(procedure)
        assert result.get_results() == ["a", "b", "c"]
        assert result.completion_reason.value == "ALL_COMPLETED"

    def test_every_run_of_a_branch_is_fresh(self, hand, identity):
        """A branch has a generator and a scope of its own for each of its runs."""
        procedure = self.start(hand, identity, 1)
        procedure.send(None)
        spawn = procedure.send(None)
        runs = [Run(), Run()]
        calls = []
        for run in runs:
            made = spawn.make(run)
            made.send(None)
            calls.append(made.send(None))
        assert [call.context.run for call in calls] == runs
        assert calls[0].context is not calls[1].context

    def test_a_failed_branch_does_not_fail_the_batch(self, hand, identity):
        """One failure is too many for the default policy; the batch succeeds, its result has the failure."""
        procedure = self.start(hand, identity, 2)
        for _ in range(4):
            procedure.send(None)
        final = procedure.send([(1, Raised(ErrorObject("no", "ValueError").to_operation_error(ChildContextError)))])
        assert final.updates[0].action is OperationAction.SUCCEED
        result = returned(procedure)
        assert result.completion_reason.value == "FAILURE_TOLERANCE_EXCEEDED"
        assert [(item.index, item.status.value) for item in result.all] == [(0, "STARTED"), (1, "FAILED")]
        assert result.get_errors() == [VALUE_ERROR]

    def test_min_successful(self, hand, identity):
        """Never-started branches are left out, started ones are STARTED."""
        config = ParallelConfig(max_concurrency=2, completion_config=CompletionConfig.first_successful())
        procedure = self.start(hand, identity, 4, config)
        for _ in range(4):
            procedure.send(None)
        procedure.send([(1, Returned("b"))])
        result = returned(procedure)
        assert [(item.index, item.status.value) for item in result.all] == [(0, "STARTED"), (1, "SUCCEEDED")]
        assert result.completion_reason.value == "MIN_SUCCESSFUL_REACHED"

    def test_empty(self, hand, identity):
        """No branches, no waiting."""
        procedure = self.start(hand, identity, 0)
        procedure.send(None)
        assert procedure.send(None).updates[0].action is OperationAction.SUCCEED
        assert returned(procedure).all == []

    def test_recorded_ends_count_in_the_order_of_the_journal(self, hand, identity):
        """A decision that the recorded ends make is made before anything new starts."""
        hand.record(identity, OperationStatus.STARTED)
        hand.record(self.branch(identity, 0), OperationStatus.FAILED, position=9, error=VALUE_ERROR)
        hand.record(self.branch(identity, 1), OperationStatus.SUCCEEDED, position=4, result="1")
        hand.record(self.branch(identity, 2), OperationStatus.STARTED)
        config = ParallelConfig(completion_config=CompletionConfig.first_successful())
        procedure = self.start(hand, identity, 4, config)
        assert procedure.send(None).updates[0].action is OperationAction.SUCCEED
        result = returned(procedure)
        assert result.completion_reason.value == "MIN_SUCCESSFUL_REACHED"
        assert [item.status.value for item in result.all] == ["FAILED", "SUCCEEDED", "STARTED"]

    def test_unfinished_branches_go_on(self, hand, identity):
        """After recorded ends, begun branches are spawned and then new ones."""
        hand.record(identity, OperationStatus.STARTED)
        hand.record(self.branch(identity, 0), OperationStatus.SUCCEEDED, position=4, result="1")
        hand.record(self.branch(identity, 1), OperationStatus.STARTED)
        procedure = self.start(hand, identity, 3)
        assert [procedure.send(None).key, procedure.send(None).key] == [1, 2]
        assert procedure.send(None) == WaitAny()

    def test_recorded_branch_with_large_result_is_read_again(self, hand, identity):
        """Its end counts at once, its value is got by running it over its records."""
        hand.record(identity, OperationStatus.STARTED)
        hand.record(self.branch(identity, 0), OperationStatus.SUCCEEDED, position=4, replay_children=True)
        procedure = self.start(hand, identity, 1)
        assert procedure.send(None).key == 0
        assert procedure.send(None) == WaitAny()
        procedure.send([(0, Returned("big"))])
        assert returned(procedure).get_results() == ["big"]

    def test_recorded_result(self, hand, identity):
        """A finished batch returns its recorded result; its branches are not even made."""
        procedure = self.start(hand, identity, 1)
        for _ in range(3):
            procedure.send(None)
        payload = procedure.send([(0, Returned("a"))]).updates[0].payload
        live = returned(procedure)
        hand.record(identity, OperationStatus.SUCCEEDED, result=payload)

        def no_branches():
            raise AssertionError("made")

        assert returned(batch(hand.scope, identity, PARALLEL, no_branches, ParallelConfig())) == live

    @pytest.mark.parametrize("nesting", NestingType)
    def test_large_result(self, identity, nesting):
        """The decision is recorded in an envelope, and the result rebuilt from the branches by it."""
        hand = Hand(replay_children_threshold=10)
        config = ParallelConfig(
            max_concurrency=2, completion_config=CompletionConfig.first_successful(), nesting_type=nesting
        )
        procedure = self.start(hand, identity, 3, config)
        for _ in range(4):
            procedure.send(None)
        update = procedure.send([(1, Returned("x" * 20))]).updates[0]
        assert update.context_options == ContextOptions(replay_children=True)
        live = returned(procedure)
        hand.record(identity, OperationStatus.SUCCEEDED, result=update.payload, replay_children=True)
        procedure = self.start(hand, identity, 3, config)
        if nesting is NestingType.FLAT:
            assert procedure.send(None).key == 1
            procedure.send(None)
            again = returned(procedure, [(1, Returned("x" * 20))])
        else:
            record = {"result": '"' + "x" * 20 + '"'}
            hand.record(self.branch(identity, 1), OperationStatus.SUCCEEDED, position=4, **record)
            again = returned(procedure)
        assert again == live

    def test_nested_record_where_code_is_flat(self, hand, identity):
        """A branch with a record that should have none is of changed code."""
        hand.record(identity, OperationStatus.STARTED)
        hand.record(self.branch(identity, 0), OperationStatus.SUCCEEDED, position=4, result="1")
        procedure = self.start(hand, identity, 1, ParallelConfig(nesting_type=NestingType.FLAT))
        with pytest.raises(NonDeterministicExecutionError, match="NESTED"):
            procedure.send(None)

    def test_flat_record_where_code_is_nested(self, hand, identity):
        """A branch that had ended without a record of its own is, too."""
        summary = '{"totalCount": 1, "completionReason": "ALL_COMPLETED", "startedIndexes": []}'
        hand.record(identity, OperationStatus.SUCCEEDED, result=summary, replay_children=True)
        with pytest.raises(NonDeterministicExecutionError, match="NESTED"):
            self.start(hand, identity, 1).send(None)

    def test_map_gives_item_index_and_inputs(self, hand):
        """The body is called with the item, its index and all inputs, and named by the namer."""
        identity = hand.draw(OperationType.CONTEXT, OperationSubType.MAP, "each")
        inputs = ["a", "b"]
        branches = [Branch(body, (item, i, inputs), f"item {item}") for i, item in enumerate(inputs)]
        procedure = batch(hand.scope, identity, MAP, lambda: branches, MapConfig())
        procedure.send(None)
        made = procedure.send(None).make(Run())
        assert made.send(None).updates[0].name == "item a"
        assert made.send(None).args == ("a", 0, inputs)

    def test_a_broken_namer_fails_the_batch(self, hand, identity):
        """What fails while branches are made is the batch's failure."""
        procedure = batch(hand.scope, identity, PARALLEL, lambda: 1 / 0, ParallelConfig())
        procedure.send(None)
        assert procedure.send(None).updates[0].error.type == "ZeroDivisionError"
        with pytest.raises(ChildContextError):
            procedure.send(None)

    def test_flat_branches_share_the_container(self, hand, identity):
        """A FLAT branch derives ids from itself and reports to the container."""
        procedure = self.start(hand, identity, 1, ParallelConfig(nesting_type=NestingType.FLAT))
        procedure.send(None)
        call = procedure.send(None).make(Run()).send(None)
        assert call.context.parent_id == identity.operation_id
        assert call.context.prefix == operation_id(identity.operation_id, 0)


# ------------------------------------------------------------------------------------------------ misuse of records


@pytest.mark.parametrize(
    ("operation_type", "sub_type", "name"),
    [
        (OperationType.WAIT, OperationSubType.WAIT, "pay"),
        (OperationType.STEP, OperationSubType.STEP, "charge"),
        (OperationType.STEP, OperationSubType.WAIT_FOR_CONDITION, "pay"),
    ],
)
def test_another_operation_at_the_position(operation_type, sub_type, name):
    """A record of another type, sub type or name is refused before use, and both are named."""
    hand = Hand()
    identity = hand.draw(OperationType.STEP, name="pay")
    recorded = Identity(identity.operation_id, operation_type, sub_type, name, None, 1)
    hand.record(recorded, OperationStatus.SUCCEEDED)
    with pytest.raises(NonDeterministicExecutionError) as caught:
        step(hand.scope, identity, body, StepConfig()).send(None)
    assert str(caught.value) == (
        f"execution 'o-17' replayed step 'pay' at position 1, where its journal has {recorded}; "
        "deploy changed code as a new version"
    )
    assert caught.value.step_id == identity.operation_id


def test_empty_and_missing_names_are_equal():
    """As protocol.md §10.4 says."""
    hand = Hand()
    identity = hand.draw(OperationType.STEP, name="")
    hand.record(Identity(identity.operation_id, OperationType.STEP, "Step"), OperationStatus.SUCCEEDED, result="1")
    assert returned(step(hand.scope, identity, body, StepConfig())) == 1
