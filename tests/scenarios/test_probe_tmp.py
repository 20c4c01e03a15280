import pytest, threading, asyncio, time
from perdure.config import *
from perdure.errors import *
from perdure.model import ErrorObject
from perdure.retries import *
from perdure.waits import *
from tests.scenarios.colour import Colour, retried

def show(outcome):
    print("\nRESULT", repr(outcome.result)[:300], "|", str(outcome.error)[:400])
    print(outcome.history[:2500])

def test_swallow_many(stage):
    if stage.colour == "def": pytest.skip()
    async def workflow(event, context):
        while True:
            try:
                await context.wait(Duration(5), name="w")
                return 1
            except BaseException:
                if stage.ran("swallowed") > 20000: raise
    o = stage.run(workflow); show(o); print(stage.runs)

def test_crash_in_branch(stage):
    async def workflow(event, context):
        async def branch(b, item, i, items):
            await b.step(stage.body(f"first-{item}"), name="first")
            if item == 1 and stage.ran("crash") == 1:
                raise SystemExit(4)
            return await b.step(stage.body(f"second-{item}", item), name="second")
        r = await context.map([0,1,2], branch, name="m")
        return r.get_results()
    o = stage.run(workflow); show(o); print(stage.runs)
    assert o.result == [0,1,2]

def test_crash_in_body_of_branch(stage):
    async def workflow(event, context):
        async def branch(b, item, i, items):
            def body(_):
                if stage.ran(f"b{item}") == 1 and item == 1:
                    raise KeyboardInterrupt
                return item
            return await b.step(body, name="b")
        r = await context.map([0,1,2], branch, name="m")
        return r.get_results()
    o = stage.run(workflow); show(o); print(stage.runs)
    assert o.result == [0,1,2]

@pytest.mark.parametrize("nesting", list(NestingType))
def test_mix_restart(stage, nesting):
    """retry steps, waits, callbacks, conditions in branches over several restarts"""
    async def workflow(event, context):
        cfg = StepConfig(retry_strategy=lambda e, n: RetryDecision.retry(Duration(3)) if n < 3 else RetryDecision.no_retry())
        async def a(b):
            return await b.step(stage.body("flaky", ValueError(1), ValueError(2), "ok"), name="flaky", config=cfg)
        async def w(b):
            await b.wait(Duration(7), name="w7")
            return await b.wait_for_callback(stage.body("submit"), name="cb")
        async def c(b):
            conf = WaitForConditionConfig(lambda s, n: WaitForConditionDecision.stop_polling() if s >= 3 else WaitForConditionDecision.continue_waiting(Duration(4)), 0)
            return await b.wait_for_condition(lambda s, _: stage.ran("check") and s + 1, conf, name="cond")
        async def r(b):
            async def block(x, attempt):
                await x.step(stage.body(f"block{attempt}"), name="blk")
                if attempt < 2: raise KeyError("k")
                return attempt
            return await retried(b, block, WithRetryConfig(retry_strategy=lambda e, n: RetryDecision.retry(Duration(2))), name="wr")
        async def v(b):
            async def inner(i):
                await i.wait(Duration(9), name="w9")
                return await i.step(stage.body("virtual", "v"))
            return await b.run_in_child_context(inner, config=ChildConfig(is_virtual=True))
        res = await context.parallel([a, w, c, r, v], name="mix", config=ParallelConfig(nesting_type=nesting, completion_config=CompletionConfig.all_completed()))
        return [res.get_results(), [str(e) for e in res.get_errors()]]
    h = stage.start(workflow)
    for _ in range(3):
        stage.suspended(h)
        stage.restart()
        stage.suspended(h)
        stage.skip_idle_time()
        time.sleep(0.05)
    stage.suspended(h, "cb create callback id", skipping=True)
    stage.client.send_callback_success(stage.callback_id(h, "cb create callback id"), "called")
    o = stage.end(h); print(o.by_operation); print(stage.runs)
    assert o.result == [["ok", "called", 3, 2, "v"], []], o.result
    assert stage.runs == {"flaky": 3, "submit": 1, "check": 3, "block1": 1, "block2": 1, "virtual": 1}

def test_nested_large(stage):
    """large flat map within large child in branch"""
    seen = []
    async def workflow(event, context):
        async def leaf(b, item, i, items):
            x = await b.step(stage.body(f"leaf-{item}", "x"), name="leaf")
            return x * 150_000
        async def child(c):
            r = await c.map([0, 1, 2], leaf, name="inner", config=MapConfig(nesting_type=NestingType.FLAT))
            return "".join(r.get_results())
        async def branch(b):
            return await b.run_in_child_context(child, name="child")
        r = await context.parallel([branch, branch], name="outer")
        seen.append(r)
        await context.wait(Duration(1), name="pause")
        await context.wait(Duration(1), name="pause2")
        return [len(x) for x in r.get_results()]
    h = stage.start(workflow); stage.suspended(h, "pause").restart()
    o = stage.end(h)
    assert o.result == [450_000] * 2
    assert len(seen) == 3 and seen[0] == seen[1] == seen[2]
    assert stage.runs == {f"leaf-{n}": 2 for n in range(3)}

def test_large_custom(stage):
    seen = []
    async def workflow(event, context):
        async def leaf(b, item, i, items):
            x = await b.step(stage.body(f"leaf-{item}", "x"), name="leaf")
            return x * 150_000
        def pred(status):
            stage.ran("predicate")
            return complete_batch(CompletionOutcome.FAILED) if status.success_count >= 2 else continue_batch()
        r = await context.map([0, 1, 2, 3], leaf, name="inner", config=MapConfig(max_concurrency=1, completion_config=CompletionConfig(should_complete=pred)))
        seen.append(r)
        await context.wait(Duration(1), name="pause")
        return r.completion_reason.value
    h = stage.start(workflow); stage.suspended(h, "pause").restart()
    o = stage.end(h)
    assert o.result == "CUSTOM_COMPLETION_FAILED"
    assert seen[0] == seen[1]

def test_broken_summary(stage):
    async def workflow(event, context):
        async def child(c):
            return "x" * 300_000
        def s(r): raise ValueError("sum")
        try:
            await context.run_in_child_context(child, config=ChildConfig(summary_generator=s))
        except ChildContextError as e:
            return str(e)
    o = stage.run(workflow); show(o)

def test_parent_context_in_branch(stage):
    async def workflow(event, context):
        async def b(branch):
            await context.step(lambda _: 1)
        r = await context.parallel([b], config=ParallelConfig(completion_config=CompletionConfig.all_completed()))
        return [str(e.message) for e in r.get_errors()]
    o = stage.run(workflow); show(o)

def test_timeout_running(stage):
    go = threading.Event(); begun = threading.Event()
    def body(_):
        begun.set(); go.wait(10); return 1
    async def workflow(event, context):
        await context.step(body, name="long")
        await context.step(stage.body("next"), name="next")
    h = stage.start(workflow, execution_timeout=Duration(10))
    begun.wait(5); stage.skip(11)
    with pytest.raises(ExecutionFailedError): h.result(timeout=5)
    go.set()
    stage.halt()
    assert stage.runs == {}
    from tests.scenarios import history
    print(history.told(h.history()))

def test_huge_child_small_flat(stage):
    """FLAT with exactly STARTED branch w/o ops at early exit"""
    async def workflow(event, context):
        async def none(b): return "n" * 10
        async def cb(b):
            c = await b.create_callback(name="cb"); return await c.result()
        r = await context.parallel([none, cb], name="p", config=ParallelConfig(nesting_type=NestingType.FLAT, completion_config=CompletionConfig.first_successful()))
        d = [f"{i.index}{i.status.value}" for i in r.all]
        await context.wait(Duration(1), name="pause")
        return d
    h = stage.start(workflow); stage.suspended(h, "pause").restart()
    o = stage.end(h); show(o)

def test_many_branches(stage):
    async def workflow(event, context):
        async def b(c, item, i, items):
            await c.wait(Duration(1 + item % 5), name="w")
            return await c.step(lambda _: item, name="s")
        r = await context.map(list(range(200)), b, name="m", config=MapConfig(max_concurrency=50))
        return sum(r.get_results())
    t = time.time()
    o = stage.run(workflow)
    print("took", time.time() - t, o.invocations)
    assert o.result == sum(range(200))
