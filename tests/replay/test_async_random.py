"""
Random async programs under random latencies and crashes: every replay sees what the first run saw.

What a program does next depends on the order in which its operations ended: that order is part of the names of the
operations it calls. A replay that orders anything otherwise fails as non-deterministic.
"""

from __future__ import annotations

import asyncio
import json
import random
import selectors
import zlib
from collections import defaultdict

import attrs
import pytest

from perdure.durable import (
    CompletionConfig,
    Duration,
    MapConfig,
    NestingType,
    ParallelConfig,
    RetryDecision,
    StepConfig,
    StepSemantics,
    durable_execution,
)
from perdure.engine.invocation import Invocation
from perdure.errors import ControlSignal, DurableOperationError, StaleTokenError
from perdure.model import InvocationStatus, OperationStatus, OperationType
from tests.replay.async_host import invoke
from tests.replay.plane import AsyncPlane, Plane, settings

PROGRAMS = 300
LATENCIES = (0, 0, 0, 0.001, 0.002, 0.003)


class SkippingSelector(selectors.DefaultSelector):
    """Lets the loop's clock jump to the next timer instead of waiting for it."""

    def __init__(self):
        super().__init__()
        self.skipped = 0.0

    def select(self, timeout=None):
        found = super().select(0 if timeout is not None else None)
        if not found and timeout:
            self.skipped += timeout
        return found


class SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time takes no time, so that a seed decides everything."""

    def __init__(self):
        self._skipping = SkippingSelector()
        super().__init__(self._skipping)

    def time(self):
        return self._skipping.skipped


def run(main):
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        return runner.run(main)


class World:
    """The outside of one program: latencies, callbacks, time, crashes, and the notes that are compared."""

    def __init__(self, seed, plane):
        self.seed = seed
        self.plane = plane
        self.random = random.Random(f"outside {seed}")
        self.logs = defaultdict(list)
        self.bodies = defaultdict(int)
        self.invocations = []
        self.crashes = 0

    async def pause(self):
        if delay := self.random.choice(LATENCIES):
            await asyncio.sleep(delay)

    def happen(self):
        """Something that the workflow has no part in."""
        chance = self.random.random()
        if chance < 0.3:
            self.answer()
        elif chance < 0.5:
            self.plane.advance(self.random.choice((0.4, 1.1)))
        elif chance < 0.6 and self.invocations:
            self.invocations[-1].nudge()

    def answer(self):
        waiting = [
            each
            for each in self.plane.operations()
            if each.operation_type is OperationType.CALLBACK and each.status is OperationStatus.STARTED
        ]
        if waiting:
            self.plane.complete(self.random.choice(waiting).name, f"answer {len(self.plane.operations())}")

    def crash(self, _):
        if self.crashes < 6 and self.random.random() < 0.05:
            self.crashes += 1
            raise StaleTokenError

    def body(self, key, fails):
        async def body(context):
            assert key not in self.recorded(), f"{key} ran after its end was recorded"
            self.bodies[key] += 1
            await self.pause()
            self.happen()
            if fails and context.attempt < fails:
                raise ValueError(key)
            return key

        return body

    def recorded(self):
        return {each.name for each in self.plane.operations() if each.is_terminal}


def told(outcomes):
    """As texts. Code that is told it has been stopped stops: what it would make of that counts for nothing."""
    for each in outcomes:
        if isinstance(each, ControlSignal):
            raise each
    return [str(each) for each in outcomes]


class Program:
    """A random program; `plan` draws decide what it does, never the outside."""

    def __init__(self, world):
        self.world = world
        self.random = random.Random(f"plan {world.seed}")
        self.plan = self.block(0)

    def block(self, depth):
        kinds = ["steps", "steps", "flow", "flow", "wait", "callback", "race", "queue", "gather"]
        if depth < 2:
            kinds += ["child", "batch", "batch", "children"]
        return [self.statement(self.random.choice(kinds), depth) for _ in range(self.random.randint(1, 3))]

    def statement(self, kind, depth):
        draw = self.random
        match kind:
            case "child":
                return kind, self.block(depth + 1)
            case "children":
                return kind, [self.block(depth + 1) for _ in range(2)]
            case "batch":
                config = {
                    "max_concurrency": draw.choice((None, 1, 2)),
                    "nesting_type": draw.choice(list(NestingType)),
                    "completion_config": draw.choice(
                        (CompletionConfig.all_completed(), CompletionConfig.first_successful())
                    ),
                    "timeout": draw.choice((None, None, Duration(1), Duration(4))),
                }
                return kind, ([self.block(depth + 1) for _ in range(draw.randint(1, 3))], config, draw.random() < 0.5)
            case _:
                return kind, draw.randint(1, 4)

    async def workflow(self, _, context):
        return await self.body(context, self.plan, "root")

    async def body(self, context, plan, path):
        log = []
        self.world.logs[path].append(log)
        for number, (kind, detail) in enumerate(plan):
            await getattr(self, f"do_{kind}")(context, detail, f"{path}.{number}", log)
        return log

    # -------------------------------------------------------------------------------------------------- statements

    def name(self, place, log):
        return f"{place} {zlib.crc32(json.dumps(log).encode()):x}"

    def step(self, context, place, log):
        name = self.name(place, log)
        choice = random.Random(f"{self.world.seed} {name}")
        config = StepConfig(
            retry_strategy=lambda _, attempt: (
                RetryDecision.retry(Duration.from_seconds(1)) if attempt < 3 else RetryDecision.no_retry()
            ),
            step_semantics=choice.choice(list(StepSemantics)),
        )
        return context.step(self.world.body(name, choice.choice((0, 0, 0, 2, 9))), name=name, config=config)

    async def do_steps(self, context, count, place, log):
        for n in range(count):
            try:
                log.append(await self.step(context, f"{place}.{n}", log))
            except DurableOperationError as error:
                log.append(error.error_type)

    async def do_wait(self, context, count, place, log):
        await context.wait(Duration.from_seconds(count), name=self.name(place, log))
        log.append(str(context.now()))

    async def do_gather(self, context, count, place, log):
        futures = [self.step(context, f"{place}.{n}", log) for n in range(count)]
        futures.append(context.wait(Duration.from_seconds(1)))
        log.append(told(await asyncio.gather(*futures, return_exceptions=True)))

    async def do_flow(self, context, count, place, log):
        """Whatever ends first decides what is begun next."""

        async def noted(label, future):
            try:
                value = await future
            except DurableOperationError as error:
                value = error.error_type
            log.append([label, str(getattr(value, "callback_id", value)), str(context.now())])
            return label

        def begin(n):
            kind = n % 4
            if kind == 0:
                operation = context.wait(Duration.from_seconds(1), name=self.name(f"{place}.{n}", log))
            elif kind == 1:
                operation = context.create_callback(name=self.name(f"{place}.{n}", log))
            else:
                operation = self.step(context, f"{place}.{n}", log)
            tasks.add(asyncio.ensure_future(noted(n, operation)))

        tasks = set()
        for n in range(count):
            begin(n)
        begun = count
        while tasks:
            done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
                if begun < count * 3:
                    begin(begun)
                    begun += 1

    async def do_callback(self, context, count, place, log):
        step = self.step(context, f"{place}.before", log)
        callbacks = [await context.create_callback(name=self.name(f"{place}.{n}", log)) for n in range(count)]
        outcomes = [callback.result() for callback in callbacks]
        for future in asyncio.as_completed([*outcomes, outcomes[0]]):
            log.append(await future)
        log.append(told(await asyncio.gather(step, return_exceptions=True)))

    async def do_race(self, context, count, place, log):
        futures = [self.step(context, f"{place}.{n}", log) for n in range(count)]
        futures.append(context.wait(Duration.from_seconds(1)))
        first, winner = context.promise.race(futures), context.promise.any(futures)
        log.append(told(await asyncio.gather(first, winner, return_exceptions=True)))
        settled = await context.promise.all_settled(futures)
        told([each.reason for each in settled])
        log.append([each.status for each in settled])

    async def do_queue(self, context, count, place, log):
        queue = asyncio.Queue(1)
        lock = asyncio.Lock()

        async def put(n, future):
            try:
                value = await future
            except DurableOperationError:
                value = None
            async with lock:
                await queue.put([n, value])

        futures = [self.step(context, f"{place}.{n}", log) for n in range(count)]
        async with asyncio.TaskGroup() as group:
            for n, future in enumerate(futures):
                group.create_task(put(n, future))
            for n in range(count):
                log.append(await queue.get())
                await context.step(self.world.body(name := self.name(f"{place}.then.{n}", log), 0), name=name)

    async def do_child(self, context, plan, place, log):
        name = self.name(place, log)
        log.append(await context.run_in_child_context(lambda inner: self.body(inner, plan, place), name=name))

    async def do_children(self, context, plans, place, log):
        children = [
            context.run_in_child_context(lambda inner, n=n, plan=plan: self.body(inner, plan, f"{place}.{n}"))
            for n, plan in enumerate(plans)
        ]
        step = self.step(context, place, log)
        log.append(told(await asyncio.gather(*children, step, return_exceptions=True)))

    async def do_batch(self, context, detail, place, log):
        plans, config, beside = detail
        aside = self.step(context, f"{place}.aside", log) if beside else None

        async def branch(inner, plan, index, _):
            return await self.body(inner, plan, f"{place}.{index}")

        name = self.name(place, log)
        if len(plans) > 1:
            functions = [
                lambda inner, index=index, plan=plan: branch(inner, plan, index, None)
                for index, plan in enumerate(plans)
            ]
            batch = await context.parallel(functions, name, ParallelConfig(**config))
        else:
            batch = await context.map(plans, branch, name, MapConfig(**config))
        log.append([batch.completion_reason.value, [item.status.value for item in batch.all]])
        if aside is not None:
            log.append(told(await asyncio.gather(aside, return_exceptions=True)))


class Silent(AsyncPlane):
    """A service that must not be asked for anything."""

    async def checkpoint(self, token, updates):
        raise AssertionError(f"a replay of an ended execution recorded {updates!r}")


async def live(world, function):
    """Invocations until the end, crashes among them."""
    plane = world.plane
    for _ in range(400):
        try:
            output = await invoke(function, plane, pause=world.pause, begun=world.invocations.append)
        except StaleTokenError:
            continue
        if output.status is not InvocationStatus.PENDING:
            return output
        world.happen()
        if not plane.execution.has_news and not plane.advance_to_next():
            world.answer()
    raise AssertionError(f"no end: {plane.statuses()}")


async def replay(world, function):
    """The ended execution once more."""
    invocation = Invocation(durable_execution(function), world.plane.begin(), settings=settings(world.plane))
    return await invocation.run_async(Silent(world.plane))


def assert_same(runs):
    longest = max(runs, key=len)
    for log in runs:
        assert log == longest[: len(log)]


@pytest.mark.parametrize("block", range(10))
def test_random_programs(block):
    """However bodies, answers, outside events and crashes fall, every run of a body is a beginning of the longest."""
    for seed in range(block, PROGRAMS, 10):
        check(seed)


def check(seed, service=Plane):
    world = World(seed, service(name=f"random-{seed}"))
    program = Program(world)
    world.plane.before = world.plane.after = world.crash
    output = run(live(world, program.workflow))
    assert output.status is InvocationStatus.SUCCEEDED, (seed, output.error)
    ran = dict(world.bodies)
    again = run(replay(world, program.workflow))
    assert again == output, seed
    assert dict(world.bodies) == ran, seed
    for path, runs in world.logs.items():
        try:
            assert_same(runs)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, context {path}") from error


def test_programs_are_not_trivial():
    """The random programs crash, suspend, use every kind of operation, and have batches that end in time or not."""
    crashes = invocations = 0
    kinds, timers = set(), set()
    for seed in range(40):
        world = World(seed, Plane())
        program = Program(world)
        world.plane.before = world.plane.after = world.crash
        run(live(world, program.workflow))
        crashes += world.crashes
        invocations += world.plane.invocations
        kinds |= {operation.sub_type for operation in world.plane.operations()}
        timers |= {each.status.value for each in world.plane.operations() if (each.name or "").endswith("-timeout")}
    assert crashes > 10
    assert invocations > 60
    assert timers >= {"SUCCEEDED", "CANCELLED"}
    batches = {"Parallel", "ParallelBranch", "Map", "MapIteration"}
    assert {str(kind) for kind in kinds} == {"Step", "Wait", "Callback", "RunInChildContext"} | batches


# -------------------------------------------------------------------------------------------------- ordered by time


class ByTime(Plane):
    """
    A service as AWS's, which orders ends by their milliseconds alone.

    Two requests are never in the same millisecond, for the driver sees to that. What happens outside may be: here it
    always is in that of the request before, or of the beginning of the invocation.
    """

    def __init__(self, **options):
        super().__init__(**options)
        self.random = random.Random(options["name"])

    def begin(self):
        self.advance(0.001)
        return super().begin()

    def checkpoint(self, token, updates):
        self.advance(0.001)
        answer = super().checkpoint(token, updates)
        waiting = [each for each in self.execution.open_awaits() if each.operation_id not in self._told]
        if waiting and self.random.random() < 0.5:
            self.complete(self.random.choice(waiting).name, '"at once"')
        return answer

    def _page(self, operations):
        page, marker = super()._page(operations)
        return tuple(attrs.evolve(each, position=None) for each in page), marker


@pytest.mark.parametrize("block", range(10))
def test_random_programs_ordered_by_time(block):
    """The same where the service does not tell in which order operations have ended."""
    for seed in range(block, PROGRAMS, 10):
        check(seed, ByTime)


def test_ends_of_one_millisecond():
    """A callback that is completed within the millisecond of a step's end, but told of later, comes after it always."""
    plane, orders = ByTime(name="one millisecond"), []

    # No thread: while one works, the loop's time would skip to the end of everybody's patience.
    async def body(_):
        return "a"

    plane.random.random = lambda: 0.0 if plane.statuses().get("a") == "SUCCEEDED" else 1.0

    async def workflow(_, context):
        callback = await context.create_callback("cb")
        orders.append([])
        for ended in asyncio.as_completed([callback.result(), context.step(body, name="a")]):
            orders[-1].append(value := await ended)
            await context.step(body, name=f"after {value}")
        await context.wait(Duration.from_seconds(1))
        return orders[-1]

    world = World(0, plane)
    assert json.loads(run(live(world, workflow)).result) == ["a", '"at once"']
    ends = {each.name: each.end_timestamp for each in plane.operations()}
    assert ends["a"] == ends["cb"]
    assert orders == [["a", '"at once"']] * 2
