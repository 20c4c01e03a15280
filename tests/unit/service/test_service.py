"""Starting, children, callbacks and stops, over the memory store."""

from __future__ import annotations

import asyncio

import pytest

from perdure.errors import (
    CallbackClosedError,
    CallbackNotFoundError,
    ExecutionAlreadyStartedError,
    ExecutionNotFoundError,
    InvalidParameterValueError,
    ValidationError,
)
from perdure.model import ErrorObject, ExecutionStatus, InvocationOutput, InvocationStatus, OperationStatus
from perdure.service.callback_id import CallbackId
from perdure.service.request import StartRequest
from perdure.service.target import FunctionIdentifier
from perdure.service.upkeep import Upkeep
from perdure.storage import Function, Status
from tests.unit.service.stage import DAY, PENDING, Stage, callback, done, ending, invoke, run


async def settled(stage):
    await stage.service.carrier.close()


def test_a_name_is_taken_once_per_function():
    """The same input finds the execution, another input is refused, another function has names of its own."""

    async def scene():
        stage = await Stage().open()
        first = await stage.start(name="n", input='{"a": 1, "b": 2}')
        again = await stage.start(name="n", input='{"b":2,"a":1}')
        assert again.id == first.id
        with pytest.raises(ExecutionAlreadyStartedError, match="another input"):
            await stage.start(name="n", input='{"a":2}')
        assert (await stage.start("parent", name="n", input='{"a":2}')).id != first.id
        await (await stage.begun()).finish(done())
        assert (await stage.start(name="n", input='{"a":1,"b":2}')).status is Status.SUCCEEDED

    run(scene())


def test_a_name_is_free_again_after_retention():
    """Retention over: a new id, the old one is gone."""

    async def scene():
        stage = await Stage().open()
        first = await stage.start(name="n")
        await (await stage.begun()).finish(done())
        stage.advance(DAY // 1_000_000 + 1)
        second = await stage.start(name="n", input='{"other":1}')
        assert second.id != first.id
        with pytest.raises(ExecutionNotFoundError):
            await stage.service.describe(first.id)

    run(scene())


def test_an_unregistered_function_waits():
    """Accepted, due and visible, and told."""

    async def scene():
        stage = await Stage().open()
        started = await stage.service.start(StartRequest(function="later"))
        assert not started.is_registered
        assert (started.header.status, started.header.version) == (Status.RUNNING, "$LATEST")

    run(scene())


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "a b"},
        {"name": ""},
        {"execution_timeout": 0},
        {"retention_days": 91},
        {"input": '"' + "x" * 6_291_456 + '"'},
    ],
)
def test_a_start_outside_the_protocol_is_refused(fields):
    """Protocol.md §2."""
    with pytest.raises(ValidationError):
        StartRequest(function="f", **fields)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("f", FunctionIdentifier("f")),
        ("f:2", FunctionIdentifier("f", "2")),
        ("f:$LATEST", FunctionIdentifier("f", "$LATEST")),
        ("000000000000:function:f", FunctionIdentifier("f")),
        ("arn:perdure:lambda:local:000000000000:function:f:1", FunctionIdentifier("f", "1")),
    ],
)
def test_function_identifiers(text, expected):
    """Protocol.md §2."""
    assert FunctionIdentifier.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Invalid function ARN"),
        ("a b", "Invalid function ARN"),
        ("x" * 257, "Invalid function ARN"),
        ("123456789012:function:f", "in another account"),
        ("arn:aws:lambda:eu-west-1:000000000000:function:f", "in another region"),
    ],
)
def test_foreign_function_identifiers_are_refused(text, message):
    """Protocol.md §8."""
    with pytest.raises(InvalidParameterValueError, match=message):
        FunctionIdentifier.parse(text)


def test_a_child_runs_once_and_completes_its_parent():
    """Started through an effect, its result delivered through another, both settled; repeating changes nothing."""

    async def scene():
        stage = await Stage().open()
        parent = await stage.start("parent")
        owner = await stage.begun(function="parent")
        answer = await owner.checkpoint(owner.token, [invoke("f:1", payload='{"x":1}')])
        assert answer.operations[0].status is OperationStatus.STARTED
        await owner.finish(PENDING)
        await settled(stage)
        child = await stage.begun()
        assert (child.execution.input, child.header.parent) == ('{"x":1}', f"{parent.id}/i")
        await child.finish(done('"result"'))
        await settled(stage)
        owner = await stage.begun(function="parent")
        assert owner.execution.operations["i"].result == '"result"'
        await owner.finish(done())
        for header in (await stage.store.describe(parent.id), await stage.store.describe(child.id)):
            assert header.is_settled
            assert header.effect_due is None
        assert await stage.claim() is None

    run(scene())


@pytest.mark.parametrize("end", ["fail", "stop", "timeout"])
def test_a_childs_other_ends_reach_the_parent(end):
    """FAILED, STOPPED and TIMED_OUT, each with its error."""

    async def scene():
        stage = await Stage().open()
        await stage.start("parent")
        owner = await stage.begun(function="parent")
        await owner.checkpoint(owner.token, [invoke("brief")])
        await owner.finish(PENDING)
        await settled(stage)
        child = await stage.begun(function="brief")
        if end == "fail":
            error = ErrorObject("no", "ValueError")
            await child.finish(InvocationOutput(status=InvocationStatus.FAILED, error=error))
        elif end == "stop":
            await stage.service.stop(child.id, ErrorObject("enough", "Operator"))
        else:
            stage.advance(61)
            upkeep = Upkeep(stage.service)
            await upkeep.run()
            stage.advance(3)
            await upkeep.run()
        await settled(stage)
        operation = (await stage.begun(function="parent")).execution.operations["i"]
        assert (operation.status, operation.error.type) == {
            "fail": (OperationStatus.FAILED, "ValueError"),
            "stop": (OperationStatus.STOPPED, "Operator"),
            "timeout": (OperationStatus.TIMED_OUT, "ChainedInvoke.Timeout"),
        }[end]

    run(scene())


def test_effects_of_a_dead_owner_are_carried_out_by_anybody():
    """After the grace, whoever does the upkeep starts the child."""

    async def scene():
        stage = await Stage().open()
        await stage.start("parent")
        owner = await stage.begun(function="parent")
        stage.service.carrier.carry_soon = lambda *_: None  # the owner dies right after its commit
        await owner.checkpoint(owner.token, [invoke("f")])
        upkeep = Upkeep(stage.service)
        await upkeep.run()
        assert await stage.claim() is None
        stage.advance(3)
        await upkeep.run()
        assert await stage.claim() is not None

    run(scene())


def test_callbacks_are_completed_once_and_only_by_who_has_the_id():
    """A second completion is closed, a wrong secret unknown, nonsense no callback id."""

    async def scene():
        stage = await Stage().open()
        await stage.start()
        owner = await stage.begun()
        answer = await owner.checkpoint(owner.token, [callback()])
        callback_id = answer.operations[0].callback_details.callback_id
        real = CallbackId.parse(callback_id)
        guessed = str(CallbackId(real.await_id, "0" * 32))
        for bad in (guessed, "nonsense", "", callback_id[:-4], str(CallbackId(real.await_id, ""))):
            with pytest.raises(CallbackNotFoundError):
                await stage.service.succeed_callback(bad, "x")
        await stage.service.fail_callback(callback_id, ErrorObject("no", "Denied"))
        with pytest.raises(CallbackClosedError):
            await stage.service.succeed_callback(callback_id, "x")
        assert real.secret not in repr(real)

    run(scene())


def test_a_heartbeat_keeps_a_callback_alive_and_silence_times_it_out():
    """A heartbeat restarts only the heartbeat timer (protocol.md §7)."""

    async def scene():
        stage = await Stage().open()
        await stage.start()
        owner = await stage.begun()
        answer = await owner.checkpoint(owner.token, [callback(timeout=100, heartbeat=10)])
        callback_id = answer.operations[0].callback_details.callback_id
        await owner.finish(PENDING)
        upkeep = Upkeep(stage.service)
        stage.advance(8)
        await stage.service.heartbeat_callback(callback_id)
        stage.advance(8)
        await upkeep.run()
        assert await stage.claim() is None
        stage.advance(3)
        with pytest.raises(CallbackClosedError):
            await stage.service.heartbeat_callback(callback_id)
        await upkeep.run()
        operation = (await stage.begun()).execution.operations["c"]
        assert (operation.status, operation.error.type) == (OperationStatus.TIMED_OUT, "Callback.Heartbeat")

    run(scene())


def test_waiting_for_an_end_is_woken_by_it():
    """A client that waits is told when the execution ends."""

    async def scene():
        stage = await Stage().open()
        header = await stage.start()
        waiting = ending(stage.service.endings, header.id)
        await asyncio.sleep(0)
        await (await stage.begun()).finish(done())
        assert (await asyncio.wait_for(waiting, 0.5)).status is ExecutionStatus.SUCCEEDED

    run(scene())


def test_who_runs_an_execution_tells_its_end_without_a_look_at_the_store():
    """The waiter is given the very fold of the owner."""

    async def scene():
        stage = await Stage().open()
        header = await stage.start()
        owner = await stage.begun()
        with owner.running():
            waiting = ending(stage.service.endings, header.id)
            stage.store.describe = stage.store.entries = None
            await owner.finish(done())
            assert await asyncio.wait_for(waiting, 0.5) is owner.execution

    run(scene())


def test_an_end_over_the_head_of_who_runs_it_is_found():
    """By its hint, if a worker passes that on; else as soon as the store says that it is another's."""

    async def scene(*, is_heard):
        stage = await Stage().open()
        header = await stage.start()
        owner = await stage.begun()
        with owner.running():
            waiting = ending(stage.service.endings, header.id)
            if is_heard:
                stage.store.watch(stage.service.endings.hear)
            await stage.service.stop(header.id)
            if not is_heard:
                owner.leave()
            assert (await asyncio.wait_for(waiting, 0.5)).status is ExecutionStatus.STOPPED

    run(scene(is_heard=True))
    run(scene(is_heard=False))


def test_who_stops_waiting_leaves_nothing_behind():
    """Neither somebody who is told, nor a look-out, nor a watch."""

    async def scene():
        stage = await Stage().open()
        header = await stage.start()
        waiting = [ending(stage.service.endings, header.id) for _ in range(2)]
        await asyncio.sleep(0)
        for each in waiting:
            each.cancel()
        await asyncio.sleep(0)
        await asyncio.wait(asyncio.all_tasks(), timeout=0.05)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert not stage.store._bell._listeners
        await (await stage.begun()).finish(done())
        assert (await ending(stage.service.endings, header.id)).status is ExecutionStatus.SUCCEEDED

    run(scene())


def test_stopping_an_ended_execution_tells_when_it_ended():
    """Protocol.md §13."""

    async def scene():
        stage = await Stage().open()
        header = await stage.start()
        await (await stage.begun()).finish(done())
        ended = (await stage.service.load(header.id)).ended
        stage.advance(5)
        assert await stage.service.stop(header.id) == ended
        with pytest.raises(ExecutionNotFoundError):
            await stage.service.stop("nobody")

    run(scene())


def test_a_version_registered_a_moment_ago_is_found():
    """What a lookup remembers is never taken for the absence of a version."""

    async def scene():
        stage = await Stage().open()
        await stage.start("f:1")
        new = Function(name="f", version="2", timeout=None, retention=DAY)
        await stage.store.register("w1", [new], 3600 * 1_000_000)
        started = await stage.service.start(StartRequest(function="f:2"))
        assert (started.is_registered, started.header.version) == (True, "2")

    run(scene())
