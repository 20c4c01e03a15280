"""Workflows of child contexts and blocks that are retried, for both SDKs; see `sides`."""

from __future__ import annotations

import random

from tests.aws.outside import told
from tests.aws.sides import BrokenError, Catalogue

CHILDREN = Catalogue()
LARGE = 262_144


@CHILDREN.add()
def children(kit):
    """Nested, named, virtual, decorated, with a sub type, with suspensions inside."""

    @kit.durable_with_child_context
    def decorated(context, value):
        kit.wait(context, 1)
        return kit.step(context, "in decorated", value)

    def nested(context):
        kit.step(context, "before")
        inner = context.run_in_child_context(decorated(1))
        kit.wait(context, 2)
        return (inner, kit.step(context, "after", 2))

    def workflow(event, context):
        virtual = kit.ChildConfig(is_virtual=True)
        return [
            context.run_in_child_context(nested, "nested"),
            context.run_in_child_context(nested, "virtual", virtual),
            context.run_in_child_context(decorated(3), config=kit.ChildConfig(sub_type="Mine")),
            context.run_in_child_context(lambda c: c.run_in_child_context(nested, config=virtual), config=virtual),
            context.run_in_child_context(lambda c: None),
            kit.step(context, "last"),
        ]

    return workflow


@CHILDREN.add()
def children_fail(kit):
    """A body's own error, a step's, a child's; recorded or virtual; caught inside or outside."""

    def own(context):
        kit.wait(context, 1)
        raise BrokenError("own")

    def of_step(context):
        context.step(kit.raises("f", ValueError("bad")), "f", kit.StepConfig(kit.RetryPresets.none()))

    def of_child(context):
        context.run_in_child_context(of_step, "inner")

    def handled(context):
        return kit.caught(lambda: context.run_in_child_context(own, "inner"))

    def workflow(event, context):
        found = []
        for virtual in (False, True):
            for body in (own, of_step, of_child, handled):
                config = kit.ChildConfig(is_virtual=virtual)
                found.append(kit.caught(lambda b=body, c=config: context.run_in_child_context(b, "child", c)))
                kit.wait(context, 1)
        return found

    return workflow


@CHILDREN.add()
def large_children(kit):
    """At the limit and above it, with and without a summary; replay gives the value, not the summary."""

    def body(size):
        def run(context):
            kit.wait(context, 1)
            return kit.step(context, f"s{size}", "x") * size

        return run

    def failing(context):
        raise ValueError("x" * 300_000)

    def workflow(event, context):
        summary = kit.ChildConfig(summary_generator=lambda value: f"{len(value)} long")
        sizes = [
            len(context.run_in_child_context(body(LARGE - 2), "at the limit")),
            len(context.run_in_child_context(body(LARGE - 1), "above")),
            len(context.run_in_child_context(body(400_000), "summed up", summary)),
            len(context.run_in_child_context(lambda c: "ü" * 200_000, "wide")),
            len(kit.caught(lambda: context.run_in_child_context(failing, "failing"))[2]),
        ]
        kit.wait(context, 1)
        return sizes

    return workflow


@CHILDREN.add()
def with_retry(kit):
    """The whole block again, wrapped or not, named or not, until it succeeds or is given up."""
    strategy = kit.create_retry_strategy(
        kit.RetryStrategyConfig(max_attempts=3, jitter_strategy=kit.JitterStrategy.NONE)
    )

    def block(fails):
        def run(context, attempt):
            kit.step(context, f"block {attempt}", attempt)
            if attempt <= fails:
                context.step(
                    kit.raises(f"f {attempt}", ValueError(f"attempt {attempt}")),
                    "f",
                    kit.StepConfig(kit.RetryPresets.none()),
                )
            return attempt

        return run

    def workflow(event, context):
        found = []
        for wrapped in (True, False):
            for name in ("named", None):
                config = kit.WithRetryConfig(strategy, wrapped)
                found.append(kit.with_retry(context, block(2), config, name))
                found.append(kit.caught(lambda c=config, n=name: kit.with_retry(context, block(9), c, n)))
        return found

    return workflow


@CHILDREN.add()
def child_options(kit):
    """Types, empty ones, too; a summary that is not needed; values of any kind; names of any kind."""

    def workflow(event, context):
        def summary(_):
            kit.note("summary")
            return "summary"

        def child(value, name=None, **config):
            return repr(context.run_in_child_context(lambda _: value, name, kit.ChildConfig(**config)))

        found = [
            child(None),
            child((1, b"2"), "tuple", sub_type=None),
            child({"a": None}, "", sub_type=""),
            child("x" * 1000, "short", summary_generator=summary),
            child([1], "typed", sub_type="A-b_9" * 6),
            child([2], "json", serdes=kit.JsonSerDes()),
            child((3,), "virtual json", serdes=kit.JsonSerDes(), is_virtual=True),
            child("as is", "passed", serdes=kit.PassThroughSerDes(), sub_type="Mine", is_virtual=True),
        ]
        kit.wait(context, 1)
        return found

    return workflow


@CHILDREN.add()
def large_child_options(kit):
    """Summaries that fail, are empty, or large; serializers; virtual ones; and children that are run again within."""

    class Spread(kit.SerDes):
        def serialize(self, value, _):
            return value * 1000

        def deserialize(self, data, _):
            return data[: len(data) // 1000]

    def broken(_):
        raise LookupError("no summary")

    def big(name):
        def body(context):
            kit.note(name)
            text = kit.step(context, f"in {name}", "x")
            context.run_in_child_context(lambda c: kit.step(c, f"deep in {name}", 1), "inner")
            return text * 300_000

        return body

    def nested(context):
        return len(context.run_in_child_context(big("inner"), "inner large"))

    def workflow(event, context):
        def child(name, body=None, **config):
            call = lambda: len(context.run_in_child_context(body or big(name), name, kit.ChildConfig(**config)))  # noqa: E731
            return kit.attempt(call)

        found = [
            child("broken", summary_generator=broken),
            child("empty", summary_generator=lambda _: ""),
            child("long", summary_generator=lambda text: text[:200_000]),
            child("virtual", is_virtual=True, summary_generator=broken),
            child("spread", lambda c: kit.step(c, "short", "ab") * 200, serdes=Spread()),
            context.run_in_child_context(nested, "outer"),
        ]
        kit.wait(context, 1)
        return found

    return workflow


@CHILDREN.add()
def children_deep(kit):
    """Seven levels, recorded and virtual in turn, the same names on each, suspended at the bottom, or failing there."""

    def level(depth, error):
        def body(context):
            kit.step(context, "before", depth)
            config = kit.ChildConfig(is_virtual=depth % 3 == 0)
            if depth:
                found = [depth, context.run_in_child_context(level(depth - 1, error), "level", config)]
            else:
                kit.wait(context, 1)
                if error:
                    raise error
                found = ["bottom"]
            kit.step(context, "after", depth)
            return found

        return body

    def workflow(event, context):
        found = [
            context.run_in_child_context(level(6, None), "level"),
            kit.attempt(lambda: context.run_in_child_context(level(6, BrokenError("deep")), "level")),
        ]
        kit.wait(context, 1)
        return found

    return workflow


def raising_again(kit):
    """Blocks that catch an error and raise it, or another."""

    def fail(context):
        context.step(kit.raises("f", BrokenError("inner")), "f", kit.StepConfig(kit.RetryPresets.none()))

    def handling(handle, kind):
        def body(context):
            try:
                fail(context)
            except getattr(kit, kind) as error:
                handle(context, error)

        return body

    def as_it_is(context, error):
        kit.step(context, "noted")
        raise error

    def as_another(_, error):
        raise ValueError(f"because of {error.error_type}") from error

    def its_cause(_, error):
        raise error.__cause__ from None

    def in_a_group(_, error):
        raise ExceptionGroup("several", [error, ValueError("other")]) from None

    def later(context, error):
        kit.wait(context, 1)
        raise error

    return {
        "as it is": handling(as_it_is, "StepError"),
        "as another": handling(as_another, "StepError"),
        "its cause": handling(its_cause, "StepError"),
        "in a group": handling(in_a_group, "DurableExecutionsError"),
        "later": handling(later, "DurableOperationError"),
    }


@CHILDREN.add()
def caught_and_raised(kit):
    """An error that a block catches and raises: as it is, as another, as the cause of one, out of a group, or later."""

    def out_of_finally(context):
        try:
            context.step(kit.raises("f", BrokenError("inner")), "f", kit.StepConfig(kit.RetryPresets.none()))
        finally:
            kit.step(context, "finally")
            raise KeyError("finally")

    def workflow(event, context):
        found = []
        for name, body in {**raising_again(kit), "out of finally": out_of_finally}.items():
            found.append(kit.attempt(lambda n=name, b=body: context.run_in_child_context(b, n)))
            found.append(kit.attempt(lambda b=body: b(context)))
        kit.wait(context, 1)
        return found

    return workflow


@CHILDREN.add(outside=told(cb="there", i='"back"', w_create_callback_id="come"))
def with_retry_of_everything(kit):
    """A block of waits, callbacks, invokes and batches, again and again, its child with options of its own."""
    none = kit.StepConfig(kit.RetryPresets.none())
    seconds = kit.Duration.from_seconds

    def strategy(error, attempt):
        kit.note(f"strategy {type(error).__name__} {error} {attempt}")
        return kit.RetryDecision(attempt < 3, seconds(attempt))

    def block(context, attempt):
        kit.wait(context, attempt)
        found = [context.create_callback("cb").result(), context.invoke("f:1", attempt, "i")]
        found.append(context.wait_for_callback(kit.gives("send"), "w"))
        found.append(context.map([1, 2], lambda c, item, *_: kit.step(c, "m", item * attempt)).get_results())
        if attempt == 1:
            raise BrokenError("own")
        context.step(kit.raises(f"f {attempt}", ValueError(f"bad {attempt}")), "f", none)
        return found

    def good(context, attempt):
        found = kit.attempt(lambda: block(context, attempt))
        if attempt == 1:
            raise LookupError(found[0])
        return [found, "x" * 300_000][attempt == 2 :]

    def workflow(event, context):
        child = kit.ChildConfig(sub_type="Retried", summary_generator=lambda value: f"{len(value)} parts")
        wrapped = kit.WithRetryConfig(strategy, child_context_config=child)
        found = [
            kit.attempt(lambda: kit.with_retry(context, block, wrapped, "wrapped")),
            kit.attempt(lambda: kit.with_retry(context, block, kit.WithRetryConfig(strategy, False), "bare")),
            len(kit.with_retry(context, good, wrapped, "good")[0]),
            kit.attempt(
                lambda: context.run_in_child_context(
                    lambda c: kit.with_retry(c, block, kit.WithRetryConfig(strategy, False)), "around"
                )
            ),
        ]
        kit.wait(context, 1)
        return found

    return workflow


@CHILDREN.add()
def with_retry_by_default(kit):
    """The default strategy, a linear one, one that fails itself, and one that gives up at once."""

    def block(name):
        def run(context, attempt):
            random.seed(attempt)
            kit.note(f"{name} {attempt}")
            if attempt < 3:
                raise OSError(f"{name} {attempt}")
            return attempt

        return run

    def broken(*_):
        raise LookupError("strategy")

    def workflow(event, context):
        configs = {
            "default": kit.WithRetryConfig(),
            "linear": kit.WithRetryConfig(kit.RetryPresets.linear(), wrap_with_run_in_child_context=False),
            "none": kit.WithRetryConfig(kit.RetryPresets.none()),
            "never": kit.WithRetryConfig(kit.RetryPresets.none(), False),
            "broken": kit.WithRetryConfig(broken),
            "broken bare": kit.WithRetryConfig(broken, False),
            "virtual": kit.WithRetryConfig(
                kit.RetryPresets.fixed(), child_context_config=kit.ChildConfig(is_virtual=True)
            ),
        }
        found = [
            kit.attempt(lambda n=name, c=config: kit.with_retry(context, block(n), c, n))
            for name, config in configs.items()
        ]
        kit.wait(context, 1)
        return found

    return workflow
