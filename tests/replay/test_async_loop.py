"""The private event loop and its futures, without a driver."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import inspect
import threading
import types

import pytest

from perdure.engine import loop as loop_module
from perdure.engine.future import DurableFuture
from perdure.engine.loop import DurableLoop
from perdure.errors import NotDurableError
from tests.replay.private_loop import ENDED, Host


def last(n):
    return n - 1


async def through_gather(host):
    return await asyncio.gather(host.operation(1), host.operation(2), host.operation(3))


async def through_gather_of_errors(host):
    values = await asyncio.gather(host.operation(1), host.operation(error=ValueError("x")), return_exceptions=True)
    return [str(value) for value in values]


async def through_shield(host):
    return await asyncio.shield(host.operation(1))


async def through_task_group(host):
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(host.operation(n)) for n in range(3)]
    return [task.result() for task in tasks]


async def through_wait(host):
    futures = {host.operation(n) for n in range(3)}
    done, pending = await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
    first = [future.result() for future in done]
    done, _ = await asyncio.wait(pending)
    return first + sorted(future.result() for future in done)


async def through_as_completed(host):
    return [await each for each in asyncio.as_completed([host.operation(n) for n in range(3)])]


async def through_queue(host):
    queue = asyncio.Queue(maxsize=1)

    async def put(future):
        await queue.put(await future)

    tasks = [asyncio.create_task(put(host.operation(n))) for n in range(3)]
    values = [await queue.get() for _ in tasks]
    await asyncio.gather(*tasks)
    return values


async def through_semaphore_lock_event_condition(host):
    semaphore, lock, event, condition, log = (
        asyncio.Semaphore(1),
        asyncio.Lock(),
        asyncio.Event(),
        asyncio.Condition(),
        [],
    )

    async def one(future):
        async with semaphore, lock:
            log.append(await future)
        event.set()

    async def two():
        await event.wait()
        async with condition:
            log.append("event")
            condition.notify_all()

    async with asyncio.TaskGroup() as group:
        group.create_task(one(host.operation(1)))
        group.create_task(one(host.operation(2)))
        group.create_task(two())
    return log


async def through_timeouts_without_time(host):
    async with asyncio.timeout(None):
        await asyncio.sleep(0)
        return await asyncio.wait_for(host.operation(7), None)


async def through_ensure_future(host):
    return await asyncio.ensure_future(host.operation(3))


async def through_cancelled_await(host):
    future = host.operation(5)
    task = asyncio.create_task(future)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return await future, await future


async def through_async_generator(host):
    async def numbers():
        for n in range(3):
            yield await host.operation(n)

    return [number async for number in numbers()]


async def through_done_callbacks(host):
    future, calls = host.operation(1), []
    future.add_done_callback(calls.append)
    removed = calls.remove
    future.add_done_callback(removed)
    assert future.remove_done_callback(removed) == 1
    await future
    future.add_done_callback(calls.append)
    await asyncio.sleep(0)
    return calls == [future, future]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (through_gather, [1, 2, 3]),
        (through_gather_of_errors, ["1", "x"]),
        (through_shield, 1),
        (through_task_group, [0, 1, 2]),
        (through_queue, [2, 1, 0]),
        (through_wait, [2, 0, 1]),
        (through_as_completed, [2, 1, 0]),
        (through_timeouts_without_time, 7),
        (through_ensure_future, 3),
        (through_cancelled_await, (5, 5)),
        (through_async_generator, [0, 1, 2]),
        (through_done_callbacks, True),
    ],
)
def test_asyncio_on_durable_futures(function, expected):
    """What asyncio builds on tasks and futures works on durable futures, in the order of their completion."""
    assert Host().result(function, last) == expected


def test_synchronisation_primitives():
    """Semaphore, lock, event and condition serve tasks that await futures."""
    assert Host().result(through_semaphore_lock_event_condition) == [1, "event", 2]


def test_task_group_cancels_awaits_not_operations():
    """A failing member cancels the awaits of its group; the other operations go on and can be awaited."""

    async def workflow(host):
        bad, good = host.operation(error=ValueError("x")), host.operation(4)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(bad)
                group.create_task(good)
        except* ValueError:
            pass
        return await good

    assert Host().result(workflow) == 4


def test_task_group_that_is_over_refuses_a_future():
    """A group that is shutting down refuses an operation with asyncio's own error, on every version."""

    async def workflow(host):
        async with asyncio.TaskGroup() as group:
            pass
        with pytest.raises(RuntimeError, match="finished"):
            group.create_task(host.operation(1))

    Host().result(workflow)


async def uses_sleep(_):
    await asyncio.sleep(1)


async def uses_timeout(_):
    async with asyncio.timeout(5):
        await asyncio.sleep(0)


async def uses_wait_for(host):
    await asyncio.wait_for(host.operation(1), 5)


async def uses_wait_timeout(host):
    await asyncio.wait({host.operation(1)}, timeout=5)


async def uses_thread(_):
    await asyncio.to_thread(int)


async def uses_socket(_):
    await asyncio.open_connection("localhost", 1)


async def uses_subprocess(_):
    await asyncio.create_subprocess_exec("true")


async def uses_name_lookup(_):
    await asyncio.get_running_loop().getaddrinfo("localhost", 1)


async def uses_time(_):
    asyncio.get_running_loop().time()


async def uses_threadsafe(_):
    asyncio.get_running_loop().call_soon_threadsafe(print)


async def uses_signal(_):
    asyncio.get_running_loop().add_signal_handler(1, print)


async def uses_reader(_):
    asyncio.get_running_loop().add_reader(0, print)


async def uses_factory(_):
    asyncio.get_running_loop().set_task_factory(None)


async def uses_stop(_):
    asyncio.get_running_loop().stop()


@pytest.mark.parametrize(
    ("function", "way"),
    [
        (uses_sleep, r"context\.wait"),
        (uses_timeout, r"context\.wait"),
        (uses_wait_for, r"context\.wait"),
        (uses_wait_timeout, r"context\.wait"),
        (uses_time, r"context\.now"),
        (uses_thread, r"context\.step"),
        (uses_threadsafe, r"context\.step"),
        (uses_socket, r"context\.step"),
        (uses_subprocess, r"context\.step"),
        (uses_name_lookup, r"context\.step"),
        (uses_signal, r"context\.step"),
        (uses_reader, r"context\.step"),
        (uses_factory, "ordered"),
        (uses_stop, "await instead"),
    ],
)
def test_refusals(function, way):
    """What replay cannot repeat is refused with an error that names the durable way."""
    with pytest.raises(NotDurableError, match=way):
        Host().result(function)


def test_every_method_of_event_loops_is_decided():
    """No method of asyncio's abstract loop is left to raise NotImplementedError, on whatever version."""
    for name, member in vars(asyncio.AbstractEventLoop).items():
        if inspect.isfunction(member) and not name.startswith("__"):
            assert getattr(DurableLoop, name) is not member, name


def test_sets_of_tasks_and_futures_iterate_alike():
    """Sets of what the loop makes have one order, wherever the objects lie in memory."""

    async def workflow(host):
        ballast.append([object() for _ in range(len(ballast) * 37)])
        futures = {host.operation(n) for n in range(40)}
        tasks = {asyncio.create_task(future, name=str(n)) for n, future in enumerate(futures)}
        await asyncio.wait(tasks)
        return [task.get_name() for task in tasks], [future.name for future in futures]

    ballast = []
    assert len({str(Host().result(workflow)) for _ in range(10)}) == 1


def test_task_names_are_repeated():
    """Tasks without a name are numbered by their own loop."""

    async def workflow(_):
        return asyncio.create_task(asyncio.sleep(0)).get_name(), asyncio.current_task().get_name()

    assert Host().result(workflow) == Host().result(workflow) == ("task-2", "task-1")


def test_eager_start_is_accepted_and_lazy():
    """`eager_start` of newer versions is accepted; the task starts later all the same."""

    async def workflow(_):
        log = []

        async def child():
            log.append("child")

        task = asyncio.get_running_loop().create_task(child(), eager_start=True)
        log.append("parent")
        await task
        return log

    assert Host().result(workflow) == ["parent", "child"]


def test_spinning_is_found():
    """A workflow that only yields to itself is stopped after 100,000 callbacks."""
    turns = 0

    async def workflow(_):
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    with pytest.raises(NotDurableError, match="spinning"):
        Host().result(workflow)
    assert turns == loop_module.SPIN_LIMIT - 1


def test_foreign_code_cannot_wake_the_workflow():
    """Setting an event from a thread, or from code of the host's loop, is refused where it happens."""
    host, errors = Host(), []

    async def workflow(_):
        host.event = asyncio.Event()
        await host.event.wait()

    host.run(workflow)

    def set_event():
        try:
            host.event.set()
        except NotDurableError as error:
            errors.append(str(error))

    thread = threading.Thread(target=set_event)
    thread.start()
    thread.join()
    assert len(errors) == 1
    assert "from outside" in errors[0]
    host.loop.abandon(ENDED)


def test_thread_pool_future_is_never_awaited_to_its_end():
    """A future of a thread pool cannot wake the workflow."""
    host, source = Host(), concurrent.futures.Future()

    async def workflow(_):
        await asyncio.wrap_future(source)

    task = host.run(workflow)
    host.loop.abandon(ENDED)
    source.set_result(1)
    assert not task.done()


def test_another_thread_cannot_cancel_an_await():
    """It is refused, and the await goes on."""
    host, tasks, errors = Host(), [], []
    operation = host.operation()
    host.enter(lambda: tasks.append(host.loop.create_task(operation)))

    def cancel():
        try:
            tasks[0].cancel()
        except NotDurableError as error:
            errors.append(str(error))

    thread = threading.Thread(target=cancel)
    thread.start()
    thread.join()
    host.enter(operation.settle, 1, None)
    assert "from outside" in errors[0]
    assert tasks[0].result() == 1
    host.loop.abandon(ENDED)


def test_a_task_is_cancelled_after_its_await_has_ended():
    """As with any future: it has not gone on yet, and never learns the outcome."""

    async def workflow(host):
        operation = host.operation(1)

        async def cancel():
            await operation
            task.cancel()

        async def wait():
            return await operation

        canceller, task = asyncio.create_task(cancel()), asyncio.create_task(wait())
        outcomes = await asyncio.gather(canceller, task, return_exceptions=True)
        return [*outcomes, await operation]

    first, second, third = Host().result(workflow)
    assert (first, type(second), third) == (None, asyncio.CancelledError, 1)


def test_an_await_that_is_taken_apart():
    """Whoever steps through an await may yield what it waits for when that has long ended."""

    @types.coroutine
    def late(future, other):
        steps = future.__await__()
        waiter = next(steps)
        yield from other.__await__()
        yield waiter
        try:
            next(steps)
        except StopIteration as end:
            return end.value

    async def workflow(host):
        return await late(host.operation(1), host.operation(2))

    assert Host().result(workflow) == 1


def test_unhandled_errors_of_tasks_are_logged(caplog):
    """A task that failed and that nobody awaited is reported as asyncio does."""

    async def fail():
        raise ValueError("lost")

    async def workflow(_):
        task = asyncio.create_task(fail())
        await asyncio.sleep(0)
        del task
        await asyncio.sleep(0)
        gc.collect()

    Host().result(workflow)
    assert "never retrieved" in caplog.text


def test_future_before_its_end():
    """A future that is not done has no outcome to ask for."""
    future = DurableFuture(DurableLoop(), "pay")
    assert not future.done()
    assert not future.cancelled()
    with pytest.raises(asyncio.InvalidStateError, match="'pay'"):
        future.result()
    with pytest.raises(asyncio.InvalidStateError):
        future.exception()
    assert "pending" in repr(future)


def test_no_awaitable_is_no_task():
    """Only awaitables become tasks."""

    async def workflow(_):
        asyncio.get_running_loop().create_task(1)

    with pytest.raises(TypeError, match="no awaitable"):
        Host().result(workflow)


def test_interrupts_leave_the_loop():
    """KeyboardInterrupt and SystemExit of workflow code reach whoever runs the loop, hooks and loop restored."""

    async def workflow(_):
        raise KeyboardInterrupt

    host = Host()
    with pytest.raises(KeyboardInterrupt):
        host.run(workflow)
    assert asyncio._get_running_loop() is None
    host.loop.abandon(ENDED)
