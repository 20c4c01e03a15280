"""Workflows of serializers and of what asks for another invocation, for both SDKs; see `sides`."""

from __future__ import annotations

import json

from tests.aws.outside import told
from tests.aws.sides import Catalogue

SERIALIZERS = Catalogue()


class Upper:
    """A serializer that stores upper case, and nothing for an empty text."""

    def serialize(self, value, _):
        return value.upper() or None

    def deserialize(self, data, _):
        return f"<{data}>"


@SERIALIZERS.add()
def serializers(kit):
    """Whatever a serializer makes of a value is what the author gets; nothing stored is None."""

    class Own(Upper, kit.SerDes):
        pass

    def workflow(event, context):
        own = Own()
        return [
            context.step(kit.gives("a", "text"), "a", kit.StepConfig(serdes=own)),
            context.step(kit.gives("b", ""), "b", kit.StepConfig(serdes=own)),
            context.run_in_child_context(kit.gives("c", "child"), "c", kit.ChildConfig(serdes=own)),
            context.run_in_child_context(kit.gives("d", ""), "d", kit.ChildConfig(serdes=own)),
            context.step(kit.gives("e", {"x": [1]}), "e", kit.StepConfig(serdes=kit.JsonSerDes())),
            context.step(kit.gives("f", "as is"), "f", kit.StepConfig(serdes=kit.PassThroughSerDes())),
            kit.wait(context, 1),
        ]

    return workflow


@SERIALIZERS.add()
def serializer_fails(kit):
    """A value without a form fails its step, or its child, for good; it is raised as what it is."""

    class Reading(kit.SerDes):
        def serialize(self, value, _):
            return str(value)

        def deserialize(self, data, _):
            raise kit.SerDesError("unreadable")

    def raised(call):
        try:
            return call()
        except kit.SerDesError as error:
            return [type(error).__name__, isinstance(error, kit.DurableOperationError)]

    def workflow(event, context):
        found = [
            raised(lambda: context.step(kit.gives("a", object()), "a")),
            raised(lambda: context.step(kit.gives("b", 1), "b", kit.StepConfig(serdes=Reading()))),
            raised(lambda: context.run_in_child_context(kit.gives("c", object()), "c")),
            raised(lambda: context.run_in_child_context(kit.gives("d", 1), "d", kit.ChildConfig(serdes=Reading()))),
        ]
        kit.wait(context, 1)
        return found

    return workflow


@SERIALIZERS.add()
def passing_trouble(kit):
    """What asks for another invocation gets one, past every strategy; only a step's own body is retried by its."""

    class Flaky(kit.SerDes):
        def serialize(self, value, context):
            kit.note(f"serialize {value}")
            if kit.ran[f"serialize {value}"] == 1:
                raise kit.RetryableSerDesError("not now")
            return value

        def deserialize(self, data, _):
            return data

    def strategy(_, attempt):
        return kit.RetryDecision.retry(kit.Duration.from_seconds(3)) if attempt < 3 else kit.RetryDecision.no_retry()

    def own(name):
        def body(context):
            kit.note(name)
            if kit.ran[name] == 1:
                raise kit.InvocationError("once more")
            return name

        return body

    def check(state, _):
        return own("check")(None)

    def workflow(event, context):
        once = kit.StepSemantics.AT_MOST_ONCE_PER_RETRY
        poll = kit.WaitForConditionConfig(lambda *_: kit.WaitForConditionDecision.stop_polling(), "")
        return [
            context.step(kit.gives("a", "a"), "a", kit.StepConfig(strategy, serdes=Flaky())),
            context.step(kit.gives("b", "b"), "b", kit.StepConfig(strategy, once, serdes=Flaky())),
            context.run_in_child_context(lambda _: "c", "c", kit.ChildConfig(serdes=Flaky())),
            context.run_in_child_context(own("own"), "d"),
            context.step(own("step"), "e", kit.StepConfig(strategy)),
            context.wait_for_condition(check, poll, "f"),
            context.parallel([lambda _: "g"], "g", kit.ParallelConfig(item_serdes=Flaky())).get_results(),
        ]

    return workflow


class Marked:
    """A serializer that stores a value together with the operation it is told of."""

    def serialize(self, value, context):
        return json.dumps([context.operation_id[:6], bool(context.durable_execution_arn), value])

    def deserialize(self, data, context):
        return ["read for", context.operation_id[:6], data]


@SERIALIZERS.add(outside=told(cb="there", i='"back"', w_create_callback_id="come"))
def serializer_contexts(kit):
    """A serializer is told which operation it works for, whatever the kind of it."""

    class Own(Marked, kit.SerDes):
        pass

    def workflow(event, context):
        own = Own()
        stop = kit.WaitForConditionConfig(lambda *_: kit.WaitForConditionDecision.stop_polling(), [0], own)
        batch = {"item_serdes": own}
        found = [
            context.step(kit.gives("s", 1), "s", kit.StepConfig(serdes=own)),
            context.run_in_child_context(lambda c: kit.step(c, "in c", 2, serdes=own), "c", kit.ChildConfig(own)),
            context.run_in_child_context(lambda _: 3, "v", kit.ChildConfig(own, is_virtual=True)),
            context.create_callback("cb", kit.CallbackConfig(serdes=own)).result(),
            context.wait_for_callback(kit.gives("send"), "w", kit.WaitForCallbackConfig(serdes=own)),
            context.invoke("f:1", 4, "i", kit.InvokeConfig(own, own)),
            context.wait_for_condition(lambda state, _: [*state, 1], stop, "poll"),
        ]
        for nesting in (kit.NestingType.NESTED, kit.NestingType.FLAT):
            config = kit.MapConfig(nesting_type=nesting, **batch)
            found.append(context.map([5, 6], lambda c, item, *_: item, "m", config).get_results())
        kit.wait(context, 1)
        return found

    return workflow


def breaking(kit, on, error):
    """A serializer one of whose two ways raises an error."""

    class Breaking(kit.SerDes):
        def serialize(self, value, _):
            if on == "serialize":
                raise error
            return json.dumps(value)

        def deserialize(self, data, _):
            if on == "deserialize":
                raise error
            return json.loads(data)

    return Breaking()


@SERIALIZERS.add(outside=told(cb="1", i="2"))
def broken_serializers(kit):
    """What a serializer of the author's raises, of an operation of each kind, told with the error's own words."""

    def calls(context, own):
        stop = kit.WaitForConditionConfig(lambda *_: kit.WaitForConditionDecision.stop_polling(), 0, own)
        none = kit.RetryPresets.none()
        return {
            "step": lambda: context.step(kit.gives("s", 1), "s", kit.StepConfig(none, serdes=own)),
            "child": lambda: context.run_in_child_context(lambda _: 1, "c", kit.ChildConfig(own)),
            "virtual": lambda: context.run_in_child_context(lambda _: 1, "v", kit.ChildConfig(own, is_virtual=True)),
            "condition": lambda: context.wait_for_condition(lambda state, _: state, stop, "poll"),
            "callback": lambda: context.create_callback("cb", kit.CallbackConfig(serdes=own)).result(),
            "result": lambda: context.invoke("f:1", 1, "i", kit.InvokeConfig(serdes_result=own)),
            "payload": lambda: context.invoke("f:1", 1, "i", kit.InvokeConfig(serdes_payload=own)),
        }

    def workflow(event, context):
        found = []
        for on in ("serialize", "deserialize"):
            for error in (ValueError("odd value"), kit.SerDesError("own words", data="data")):
                for name, call in calls(context, breaking(kit, on, error)).items():
                    found.append([on, name, kit.attempt(call)])
        kit.wait(context, 1)
        return found

    return workflow


@SERIALIZERS.add()
def broken_serializers_of_batches(kit):
    """The same of the items of a batch, and of the whole."""

    def workflow(event, context):
        found = []
        for nesting in (kit.NestingType.NESTED, kit.NestingType.FLAT):
            for on in ("serialize", "deserialize"):
                for of in ("serdes", "item_serdes"):
                    own = {of: breaking(kit, on, ValueError("odd value"))}
                    config = kit.ParallelConfig(1, kit.CompletionConfig.all_completed(), nesting_type=nesting, **own)
                    call = lambda c=config: repr(context.parallel([lambda _: 1, lambda _: 2], "p", c).status)  # noqa: E731
                    found.append([on, of, kit.attempt(call)])
        kit.wait(context, 1)
        return found

    return workflow


@SERIALIZERS.add()
def stored_as_nothing(kit):
    """A serializer that stores nothing, or stores text that is none: what comes back the first time, and later."""

    class Nothing(kit.SerDes):
        def serialize(self, value, _):
            return None

        def deserialize(self, data, _):
            return ["made of", data]

    class Empty(Nothing):
        def serialize(self, value, _):
            return ""

    def workflow(event, context):
        found = []
        for own in (Nothing(), Empty()):
            stop = kit.WaitForConditionConfig(lambda *_: kit.WaitForConditionDecision.stop_polling(), "x", own)
            found += [
                context.step(kit.gives("s", 1), "s", kit.StepConfig(serdes=own)),
                context.run_in_child_context(lambda _: 1, "c", kit.ChildConfig(own)),
                context.run_in_child_context(lambda _: 1, "v", kit.ChildConfig(own, is_virtual=True)),
                context.wait_for_condition(lambda state, _: state, stop, "poll"),
                context.map([1], lambda *_: 1, "m", kit.MapConfig(item_serdes=own)).get_results(),
                context.map([1], lambda *_: 1, "m", kit.MapConfig(serdes=own, item_serdes=own)),
            ]
        kit.wait(context, 1)
        return found

    return workflow
