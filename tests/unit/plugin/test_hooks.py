"""When and where plugins are told what, in both colours; `tests/aws` compares with AWS's SDK."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from contextvars import ContextVar
from types import SimpleNamespace

import attrs
import pytest

from perdure.adapters.worker import Worker
from perdure.client import Client
from perdure.durable import (
    ChildConfig,
    CompletionConfig,
    Duration,
    ParallelConfig,
    RetryDecision,
    RetryPresets,
    StepConfig,
    durable_execution,
)
from perdure.engine.invocation import Invocation
from perdure.errors import StaleTokenError
from perdure.model import InvocationStatus
from perdure.plugin import DurableInstrumentationPlugin, PropagationMetadata
from perdure.storage import Backend
from perdure.testing.memory import MemoryStore
from tests.replay import async_host
from tests.replay.plane import AsyncPlane, Plane, invoke, settings, wait_until

pytestmark = pytest.mark.filterwarnings("ignore::perdure.errors.UnregisteredFunctionWarning")

SECOND = Duration.from_seconds(1)
SPAN = ContextVar("span", default=None)
HOOKS = [name for name in vars(DurableInstrumentationPlugin) if name.startswith("on_")]


class Recording(DurableInstrumentationPlugin):
    """Notes all it is told, and does something else then."""

    def __init__(self, told, react):
        self.told = told
        self.react = react

    def _note(self, hook, info):
        self.told.append((hook.removeprefix("on_"), info))
        self.react(hook.removeprefix("on_"), info)


for _hook in HOOKS:
    setattr(Recording, _hook, lambda self, info, hook=_hook: self._note(hook, info))


class Factory:
    """
    Makes recording plugins.

    Attributes:
        told: Hooks without `on_`, and infos, of all invocations.
    """

    def __init__(self, react=lambda hook, info: None):
        self.told = []
        self.react = react

    def create_plugin(self, info):
        return Recording(self.told, self.react)

    @property
    def hooks(self):
        """The hooks with the names of their operations, without changes."""
        return [
            f"{hook} {info.name}" if hasattr(info, "name") else hook
            for hook, info in self.told
            if hook != "operation_change"
        ]

    def infos(self, hook, name=None):
        return [info for each, info in self.told if each == hook and (name is None or info.name == name)]


@pytest.fixture
def plane():
    return Plane()


@pytest.fixture(params=["def", "async def"])
def run(request, plane):
    """Runs the workflow of the test's colour, given both, for one invocation."""

    def run(blocking, awaited, *plugins, **options):
        if request.param == "def":
            return invoke(durable_execution(blocking, plugins=plugins), plane, **options)
        return async_host.invoke_once(durable_execution(awaited, plugins=plugins), plane, **options)

    run.colour = request.param
    return run


def one_step(body=lambda _: 1, config=None):
    """A workflow with a step `a`, in both colours."""

    def blocking(_, context):
        return context.step(body, "a", config)

    async def awaited(_, context):
        return await context.step(body, "a", config)

    return blocking, awaited


STEP = ["operation_start a", "user_function_start a", "user_function_end a", "operation_end a"]


def test_a_step(run):
    """All hooks of an invocation with a step, in order."""
    factory = Factory()
    assert run(*one_step(), factory).result == "1"
    assert factory.hooks == ["invocation_start", *STEP, "invocation_end"]
    (ended,) = factory.infos("operation_end")
    assert (ended.status.value, ended.result, ended.attempt, ended.is_replayed) == ("SUCCEEDED", "1", 1, False)
    (start,), (end,) = factory.infos("invocation_start"), factory.infos("invocation_end")
    assert (start.is_first_invocation, start.execution_input, list(start.operations)) == (True, {}, ["e-1"])
    assert (end.status.value, end.execution_result, len(end.operations)) == ("SUCCEEDED", "1", 2)


@pytest.mark.parametrize("kind", ["def", "async def", "def that returns an awaitable"])
def test_around_a_body(run, kind):
    """Function hooks run in the body's thread or task; what they set there is seen by the body, and by nobody else."""
    where = []

    def react(hook, info):
        if hook == "user_function_start":
            SPAN.set(info.operation_id)
            where.append(threading.get_ident())
        elif hook == "user_function_end":
            where.append((threading.get_ident(), SPAN.get()))

    def body(_):
        where.append((threading.get_ident(), SPAN.get()))

    async def asynchronous(_):
        await asyncio.sleep(0)
        where.append((where[0], SPAN.get()))

    factory = Factory(react)

    def awaitable(step):
        return asynchronous(step)

    run(*one_step({"def": body, "async def": asynchronous}.get(kind, awaitable)), factory)
    (info,) = factory.infos("user_function_start")
    seen = [each[1] for each in where[1:]]
    assert seen == [info.operation_id] * 2
    assert SPAN.get() is None
    if kind == "def":
        assert where[1][0] == where[2][0] == where[0]


def test_variables_of_an_invocation(run):
    """What the first hook sets is seen by all of the workflow, and by the last hook."""
    seen = []

    def react(hook, info):
        if hook == "invocation_start":
            SPAN.set("set")
        seen.append(SPAN.get())

    assert run(*one_step(lambda _: SPAN.get()), Factory(react)).result == '"set"'
    assert set(seen) == {"set"}
    assert run(*one_step(lambda _: SPAN.get())).result == '"set"'  # replayed
    assert SPAN.get() is None


def test_retries(run, plane):
    """Each attempt begins and ends; the end of the operation is told of once, by the invocation that is told of it."""
    factory = Factory()

    def body(step):
        if step.attempt < 2:
            raise ValueError("not yet")
        return step.attempt

    workflows = one_step(body, StepConfig(lambda _, attempt: RetryDecision(attempt < 3, SECOND)))
    assert run(*workflows, factory).status is InvocationStatus.PENDING
    plane.advance_to_next()
    assert run(*workflows, factory).result == "2"
    assert factory.hooks == [
        *("invocation_start", *STEP[:3], "invocation_end"),
        *("invocation_start", *STEP, "invocation_end"),
    ]
    ends = factory.infos("user_function_end")
    assert [(end.attempt, end.outcome.value) for end in ends] == [(1, "FAILED"), (2, "SUCCEEDED")]
    assert ends[0].error.message == "not yet"
    assert [each.is_replayed for each in factory.infos("operation_start")] == [False, True]


def test_ended_while_no_invocation_ran(run, plane):
    """The end of a wait and of a callback is told when replay comes to them, and not again."""
    factory = Factory()

    def blocking(_, context):
        callback = context.create_callback("cb")
        context.wait(SECOND, "w")
        context.wait(SECOND, "w2")
        return callback.result()

    async def awaited(_, context):
        callback = await context.create_callback("cb")
        await context.wait(SECOND, "w")
        await context.wait(SECOND, "w2")
        return await callback.result()

    updated = [(), ("w", "cb"), ("w2",)]
    for names in updated:
        factory.told.clear()
        begin = plane.begin
        ids = tuple(each.operation_id for each in plane.operations() if each.name in names)
        plane.begin = lambda begin=begin, ids=ids: _told(begin(), ids)
        run(blocking, awaited, factory)
        plane.begin = begin
        plane.advance_to_next()
        if names == ():
            plane.complete("cb", "yes")
            assert factory.hooks[1:-1] == ["operation_start cb", "operation_start w"]
        elif "w" in names:
            assert factory.hooks[1:-1] == ["operation_end cb", "operation_end w", "operation_start w2"]
            assert set(factory.infos("invocation_start")[0].updated_operations) == set(ids)
        else:
            assert factory.hooks[1:-1] == ["operation_end w2"]


def _told(given, ids):
    return attrs.evolve(given, updated_operation_ids=ids)


def test_contexts(run, plane):
    """A child that is suspended is incomplete; one without a record of its own ends on every replay."""
    factory = Factory()

    def inner(context):
        return context.wait(SECOND, "w")

    def blocking(_, context):
        context.run_in_child_context(lambda _: 1, "virtual", ChildConfig(is_virtual=True))
        context.run_in_child_context(inner, "child")

    async def awaited(_, context):
        async def nothing(_):
            return 1

        await context.run_in_child_context(nothing, "virtual", ChildConfig(is_virtual=True))
        await context.run_in_child_context(inner, "child")

    virtual = ["user_function_start virtual", "user_function_end virtual", "operation_end virtual"]
    run(blocking, awaited, factory)
    assert factory.hooks[1:-1] == [
        *virtual,
        *("operation_start child", "user_function_start child", "operation_start w", "user_function_end child"),
    ]
    assert factory.infos("user_function_end", "child")[0].outcome.value == "INCOMPLETE"
    factory.told.clear()
    plane.advance_to_next()
    run(blocking, awaited, factory)
    assert factory.hooks[1:4] == virtual
    assert factory.hooks[-4:-1] == ["user_function_start child", "user_function_end child", "operation_end child"]


def test_large_results(run, plane):
    """A context that is run again for its result tells so."""
    factory = Factory()

    def blocking(_, context):
        context.run_in_child_context(lambda _: "x" * 300_000, "large")
        context.wait(SECOND)

    async def awaited(_, context):
        async def large(_):
            return "x" * 300_000

        await context.run_in_child_context(large, "large")
        await context.wait(SECOND)

    run(blocking, awaited, factory)
    plane.advance_to_next()
    run(blocking, awaited, factory)
    assert [info.is_replay_children for info in factory.infos("user_function_start")] == [False, True]
    assert [info.is_replayed for info in factory.infos("operation_end", "large")] == [False, True]


def test_side_by_side(run):
    """Branches tell each for itself; the end of a child is told before that of its parent, each once."""
    factory = Factory()

    def blocking(_, context):
        context.map([1, 2, 3], lambda inner, item, *_: inner.step(lambda _: item, f"s{item}"), "m")

    async def awaited(_, context):
        async def branch(inner, item, *_):
            return await inner.step(lambda _: item, f"s{item}")

        await context.map([1, 2, 3], branch, "m")

    run(blocking, awaited, factory)
    hooks = factory.hooks
    ends = [each for each in hooks if each.startswith("operation_end")]
    assert max(Counter(ends).values()) == 1
    assert ends[-1] == "operation_end m"
    for index in range(3):
        branch, step = f"map-item-{index}", f"s{index + 1}"
        places = [
            hooks.index(f"operation_{each}")
            for each in (f"start {branch}", f"start {step}", f"end {step}", f"end {branch}")
        ]
        assert places == sorted(places)


def test_nobody_looks_at_it(run, plane):
    """An end that nobody waits for is told at the latest at the end of the invocation."""
    factory = Factory()

    def blocking(_, context):
        context.create_callback("cb")
        context.step(lambda _: plane.complete("cb", "1"), "a")

    async def awaited(_, context):
        await context.create_callback("cb")
        await context.step(lambda _: plane.complete("cb", "1"), "a")

    run(blocking, awaited, factory)
    assert factory.hooks[-2:] == ["operation_end cb", "invocation_end"]


def test_changes(run):
    """What answers tell of is told, the latest of each operation, with all there is."""
    factory = Factory()
    run(*one_step(), factory)
    (change,) = factory.infos("operation_change")
    assert [each.status.value for each in change.updated_operations.values()] == ["SUCCEEDED"]
    assert set(change.operations) == {"e-1", *change.updated_operations}
    assert factory.told[-1][0] == "invocation_end"


def test_invokes(run, plane):
    """A chained invoke carries the first trace id that a plugin has."""

    def made(trace_id):
        class Traced(DurableInstrumentationPlugin):
            def provide_propagation_metadata(self, info):
                assert info.target_function_name == "f"
                return trace_id

        return SimpleNamespace(create_plugin=lambda info: Traced())

    def blocking(_, context):
        return context.invoke("f", 1, "i")

    async def awaited(_, context):
        return await context.invoke("f", 1, "i")

    given = [None, PropagationMetadata(), PropagationMetadata("one"), PropagationMetadata("two")]
    run(blocking, awaited, *map(made, given))
    assert plane.requests[0][0].chained_invoke_options.x_amzn_trace_id == "one"


# ------------------------------------------------------------------------------------------------------------ failures


@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError, ContextVar])
def test_broken_plugins(run, plane, error, caplog):
    """What a hook raises is logged; the execution, and other plugins, know nothing of it."""

    def react(hook, info):
        raise error("broken")

    broken, whole = Factory(react), Factory()
    assert run(*one_step(), broken, whole).result == "1"
    assert plane.sent == [["START a", "SUCCEED a"]]
    assert broken.hooks == whole.hooks == ["invocation_start", *STEP, "invocation_end"]
    assert len(caplog.records) == 7


def test_hooks_are_plain_functions(run, caplog):
    """A coroutine function is not awaited, and that is said."""

    class Asynchronous(DurableInstrumentationPlugin):
        async def on_invocation_start(self, info):
            raise AssertionError("awaited")

    run(*one_step(), SimpleNamespace(create_plugin=lambda info: Asynchronous()))
    assert "hooks are plain functions" in caplog.text


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("hook", ["invocation_start", "operation_start", "user_function_start", "invocation_end"])
def test_interrupts_go_their_way(run, interrupt, hook):
    """They end the invocation uncleanly; every plugin that was told of its beginning is told of its end."""
    armed = [True]

    def react(each, info):
        if each == hook and armed.pop():
            raise interrupt

    factories = Factory(react), Factory()
    with pytest.raises(interrupt):
        run(*one_step(), *factories)
    assert factories[0].hooks[-1] == "invocation_end"
    assert (factories[1].hooks or ["invocation_end"])[-1] == "invocation_end"
    if hook != "invocation_end":
        assert factories[0].infos("invocation_end")[0].status.value == "RETRY"


def test_an_unclean_end(run, plane):
    """It is told as RETRY, with its reason."""
    factory = Factory()

    def refuse(_):
        raise StaleTokenError

    plane.before = refuse
    with pytest.raises(StaleTokenError):
        run(*one_step(), factory)
    (end,) = factory.infos("invocation_end")
    assert (end.status.value, end.error.type, end.execution_result) == ("RETRY", "perdure.errors.StaleTokenError", None)


def test_a_failed_execution(run):
    """It is told as FAILED, with its error."""
    factory = Factory()

    def body(_):
        raise ValueError("no")

    run(*one_step(body, StepConfig(RetryPresets.none())), factory)
    (end,) = factory.infos("invocation_end")
    assert (end.status.value, end.error.message) == ("FAILED", "no")
    assert factory.infos("operation_end")[0].error.message == "no"


def test_infos_are_copies(run, plane):
    """A plugin cannot change what the workflow gets."""

    def react(hook, info):
        if hook == "invocation_start":
            info.execution_input["a"] = 2

    def blocking(event, context):
        return event

    async def awaited(event, context):
        return event

    plane.__init__('{"a": 1}')
    assert run(blocking, awaited, Factory(react)).result == '{"a": 1}'


# ------------------------------------------------------------------------------------------------------------- orphans


@pytest.mark.parametrize("grace", [None, 0.0])
def test_threads_that_outlive_their_batch(plane, grace):
    """With grace they end before the invocation does, for plugins; without, they are not told of any more."""
    release = threading.Event()
    factory = Factory(lambda hook, info: None if hook != "operation_end" or info.name != "p" else release.set())
    held = threading.Event()

    @durable_execution(plugins=[factory])
    def workflow(_, context):
        def slow(inner):
            inner.step(lambda _: (held if grace == 0.0 else release).wait(10), "slow")

        def fast(_):
            wait_until(lambda: "user_function_start slow" in factory.hooks, "the slow one begins")

        first = ParallelConfig(completion_config=CompletionConfig(min_successful=1))
        context.parallel([slow, fast], "p", first)

    invocation = Invocation(workflow, plane.begin(), settings=settings(plane, grace=lambda: grace))
    plane.finish(invocation.run(plane))
    told = list(factory.hooks)
    held.set()
    assert invocation.join(10)
    assert factory.hooks == told
    assert told[-1] == "invocation_end"
    assert ("user_function_end slow" in told) is (grace is None)


def test_a_thread_that_is_given_up(plane):
    """The end of its invocation is told before anybody else knows."""
    factory = Factory()

    @durable_execution(plugins=[factory])
    def workflow(_, context):
        while True:
            with contextlib.suppress(BaseException):
                context.wait(SECOND)

    with pytest.raises(Exception, match="1000 times"):
        Invocation(workflow, plane.begin(), settings=settings(plane)).run(plane)
    assert factory.hooks[-1] == "invocation_end"


def test_cancelled(plane):
    """A host that cancels an invocation ends it for plugins, too."""
    factory, begun = Factory(), asyncio.Event()

    @durable_execution(plugins=[factory])
    async def workflow(_, context):
        async def long(_):
            begun.set()
            await asyncio.sleep(10)

        await context.step(long, "long")

    async def host():
        task = asyncio.create_task(Invocation(workflow, plane.begin()).run_async(AsyncPlane(plane)))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(host())
    assert factory.hooks[-1] == "invocation_end"


# ------------------------------------------------------------------------------------------------------ own services


@pytest.mark.parametrize("is_async", [False, True])
def test_on_a_worker(is_async):
    """Plugins are told the same by a worker as on AWS Lambda, also of what ended while no invocation ran."""
    factory = Factory()

    @durable_execution(plugins=[factory], name="f")
    def blocking(_, context):
        callback = context.create_callback("cb")
        context.step(lambda _: 1, "a")
        return callback.result()

    @durable_execution(plugins=[factory], name="f")
    async def awaited(_, context):
        callback = await context.create_callback("cb")
        await context.step(lambda _: 1, "a")
        return await callback.result()

    function = awaited if is_async else blocking
    backend = Backend(url="memory://", store=MemoryStore())
    with Worker(backend, [function]), Client(backend) as client:
        handle = client.start(function)
        wait_until(lambda: factory.hooks and factory.hooks[-1] == "invocation_end", "it waits")
        (callback,) = [each for each in factory.infos("invocation_end")[0].operations.values() if each.name == "cb"]
        assert callback.status.value == "STARTED"
        details = next(each for each in handle.operations() if each.name == "cb").callback_details
        client.send_callback_success(details.callback_id, "yes")
        assert handle.result(timeout=10) == "yes"
    first = ["invocation_start", "operation_start cb", *STEP, "invocation_end"]
    assert factory.hooks == [*first, "invocation_start", "operation_end cb", "invocation_end"]
    assert [info.is_first_invocation for info in factory.infos("invocation_start")] == [True, False]


@pytest.mark.parametrize("is_async", [False, True])
def test_transactional_steps(is_async, tmp_path):
    """They are told of as steps are; the function ends before what it wrote is committed."""
    factory = Factory()

    @durable_execution(plugins=[factory], name="f")
    def blocking(_, context):
        return context.transaction(lambda _, connection: connection.execute("SELECT 7").fetchone()[0], "a")

    @durable_execution(plugins=[factory], name="f")
    async def awaited(_, context):
        return await context.transaction(lambda _, connection: connection.execute("SELECT 7").fetchone()[0], "a")

    function, url = awaited if is_async else blocking, f"sqlite:///{tmp_path / 'store.db'}"
    with Worker(url, [function]), Client(url) as client:
        assert client.start(function).result(timeout=10) == 7
    assert factory.hooks == ["invocation_start", *STEP, "invocation_end"]
    assert factory.infos("user_function_end")[0].outcome.value == "SUCCEEDED"
