"""Code that changed under a running execution."""

from __future__ import annotations

import contextlib

import pytest

from perdure.durable import (
    ChildConfig,
    CompletionConfig,
    Duration,
    InvokeConfig,
    NestingType,
    ParallelConfig,
    StepConfig,
    durable_execution,
)
from perdure.model import InvocationStatus
from tests.replay.plane import Plane, invoke


@pytest.fixture
def plane():
    return Plane()


def suspended(plane, before):
    """An execution that did `before` and waits."""

    @durable_execution
    def workflow(_, context):
        before(context)
        context.wait(Duration(5), name="pause")

    assert invoke(workflow, plane).status is InvocationStatus.PENDING


def nothing(_):
    return None


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            lambda c: c.step(nothing, name="pay"),
            lambda c: c.step(nothing, name="charge"),
            "replayed step 'charge' at position 1, where its journal has step 'pay'",
        ),
        (
            lambda c: c.step(nothing, name="pay"),
            lambda c: c.wait(Duration(5), name="pay"),
            "replayed wait 'pay' at position 1, where its journal has step 'pay'",
        ),
        (
            lambda c: c.step(nothing, name="pay"),
            lambda c: c.step(nothing, name="pay", config=StepConfig(sub_type="Custom")),
            "replayed step of sub type 'Custom' 'pay' at position 1, where its journal has step 'pay'",
        ),
        (
            lambda c: c.run_in_child_context(nothing, name="part"),
            lambda c: c.parallel([nothing], name="part"),
            "replayed parallel 'part' at position 1, where its journal has child context 'part'",
        ),
        (
            nothing,
            lambda c: c.step(nothing),
            "replayed step without a name at position 1, where its journal has wait 'pause'",
        ),
        (
            lambda c: c.create_callback("one"),
            lambda c: c.create_callback("two"),
            "replayed callback 'two' at position 1, where its journal has callback 'one'",
        ),
        (
            lambda c: c.create_callback("one"),
            lambda c: c.invoke("f", None, name="one", config=InvokeConfig()),
            "replayed invoke 'one' at position 1, where its journal has callback 'one'",
        ),
        (
            lambda c: c.run_in_child_context(nothing, name="part"),
            lambda c: c.run_in_child_context(nothing, name="part", config=ChildConfig(is_virtual=True)),
            "where its journal has one with",
        ),
    ],
)
def test_both_are_named(plane, before, after, message):
    """The execution fails for good, and the error names what is asked for and what is recorded."""
    suspended(plane, before)
    output = invoke(durable_execution(lambda _, context: after(context)), plane)
    assert output.status is InvocationStatus.FAILED
    assert output.error.type == "aws_durable_execution_sdk_python.exceptions.NonDeterministicExecutionError"
    assert message in output.error.message
    assert "deploy changed code as a new version" in output.error.message


def test_it_cannot_be_swallowed(plane):
    """Non-determinism sticks, whatever the code catches."""
    suspended(plane, lambda context: context.step(nothing, name="pay"))
    ran = []

    @durable_execution
    def workflow(_, context):
        for _ in range(3):
            with contextlib.suppress(BaseException):
                context.step(ran.append, name="charge")
        return "lied"

    output = invoke(workflow, plane)
    assert (output.status, ran) == (InvocationStatus.FAILED, [])


def test_a_body_does_not_run_before_the_check(plane):
    """What is recorded is compared before anything is done."""
    suspended(plane, lambda context: context.step(nothing, name="pay"))
    ran = []
    output = invoke(durable_execution(lambda _, context: context.step(ran.append)), plane)
    assert (output.status, ran) == (InvocationStatus.FAILED, [])


def test_inside_a_branch(plane):
    """It is no failure of the branch: it fails the execution past every tolerance."""

    def workflow(name):
        @durable_execution
        def function(_, context):
            def branch(inner):
                inner.step(nothing, name=name)
                inner.wait(Duration(5))

            config = ParallelConfig(completion_config=CompletionConfig.all_completed())
            context.parallel([branch], name="both", config=config)

        return function

    invoke(workflow("pay"), plane)
    output = invoke(workflow("charge"), plane)
    assert (output.status, "'charge'" in output.error.message) == (InvocationStatus.FAILED, True)
    assert plane.operation("both").status.value == "STARTED"


@pytest.mark.parametrize("change", [(NestingType.NESTED, NestingType.FLAT), (NestingType.FLAT, NestingType.NESTED)])
def test_nesting_changed(plane, change):
    """Branches with records where there should be none, and the other way round once the batch has ended."""

    def workflow(nesting):
        @durable_execution
        def function(_, context):
            config = ParallelConfig(nesting_type=nesting)
            context.parallel([lambda inner: inner.step(lambda _: "x" * 40)], name="both", config=config)
            context.wait(Duration(5))

        return function

    invoke(workflow(change[0]), plane, replay_children_threshold=20)
    output = invoke(workflow(change[1]), plane, replay_children_threshold=20)
    assert (output.status, "NESTED" in output.error.message) == (InvocationStatus.FAILED, True)


def test_a_new_operation_in_an_ended_context(plane):
    """A body that is run again for its large result may not do anything new."""
    large = ChildConfig(summary_generator=lambda _: "large")

    def workflow(more):
        @durable_execution
        def function(_, context):
            def child(inner):
                value = inner.step(lambda _: "x" * 40)
                if more:
                    inner.wait(Duration(5), name="new")
                return value

            context.run_in_child_context(child, name="part", config=large)
            context.wait(Duration(5))

        return function

    invoke(workflow(more=False), plane, replay_children_threshold=20)
    output = invoke(workflow(more=True), plane, replay_children_threshold=20)
    assert (output.status, "does not have" in output.error.message) == (InvocationStatus.FAILED, True)
    assert "new" not in plane.statuses()


def test_operations_left_out_are_not_noticed(plane):
    """Only what is asked for is compared: fewer operations at the end are legal."""
    suspended(plane, lambda context: context.step(nothing, name="pay"))
    output = invoke(durable_execution(lambda _, context: context.step(nothing, name="pay")), plane)
    assert output.status is InvocationStatus.SUCCEEDED
