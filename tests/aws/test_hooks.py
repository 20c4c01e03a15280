"""
What plugins are told of an execution is the same with both SDKs, hook by hook and field by field.

Deliberately different:

- AWS's SDK calls the work of a parallel, a map and a wait_for_callback a user function; we do so only for functions
  that the author has given.
- Inside a virtual context AWS's SDK takes nothing for replayed, so that plugins are not told there of operations that
  go on, nor of those that ended while no invocation ran. We tell.
- What ended while no invocation ran, and nobody looks at any more, is never told of by AWS's SDK. We tell, at the end.
"""

from __future__ import annotations

import pytest

from tests.aws.hooks import OF_FUNCTIONS, Record, WatchedAws, WatchedPerdure
from tests.aws.operations import BRANCHED, OPERATIONS, WORKFLOWS
from tests.aws.sides import PERDURE, Catalogue, Run
from tests.aws.wording import alike
from tests.replay.plane import Plane

CONTAINERS = {"Parallel", "Map", "WaitForCallback"}

UNSENT = {"passing_trouble", "batch_callback_in_a_branch"}
"""What they begin may be recorded or not when an invocation ends: AWS's SDK sends it sooner or later."""
TOLD_MORE = {"children", "children_fail", "batch_large"} | {
    "broken_serializers",
    "callbacks_left_open",
    "child_options",
    "children_deep",
    "invoke_results",
    "large_child_options",
    "serializer_contexts",
    "stored_as_nothing",
    "wait_for_callback_inside",
    "with_retry_by_default",
}
"""See above."""
SIDE_BY_SIDE = tuple(f"_{nesting}_{slots}" for nesting in ("nested", "flat") for slots in ("all", "2"))
"""When a batch ends early, how many branches that are still blocked were run once more is a matter of luck."""
COMPARED = [
    name
    for name, each in WORKFLOWS.items()
    if not each.races and name not in UNSENT and not name.endswith(SIDE_BY_SIDE)
]
ATTEMPTS = 3
IN_ORDER = [name for name in COMPARED if name in OPERATIONS and name not in TOLD_MORE | BRANCHED]


def told(workflow, kind):
    """What plugins are told of a whole execution."""
    record = Record()
    Run(workflow).finish(kind(record))
    record.told = [each for each in record.told if not is_of_container(*each)]
    record.told = [(hook, _alike(info)) for hook, info in record.told]
    for _, info in record.told:
        if info.get("error") == [None] * 4:
            info["error"] = None
    return record


def _alike(value):
    """In words that both use; an empty name is none, as AWS's SDK tells it at an operation's end."""
    if isinstance(value, dict):
        return {name: _alike(each) if name != "name" else each or None for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_alike(each) for each in value)
    return alike(value) if isinstance(value, str) else value


def is_of_container(hook, info):
    return hook in OF_FUNCTIONS and info["sub_type"] in CONTAINERS


def is_within(few, many):
    """Whether the few are among the many, in the same order."""
    left = iter(many)
    return all(any(each == other for other in left) for each in few)


def differences(theirs, ours, more):
    """Where two sides tell other things; `more`: ours may tell more of an operation."""
    expected, found = theirs.of_operations(), ours.of_operations()
    same = is_within if more else lambda few, many: few == many
    return {
        "invocations": ours.of_invocations() != theirs.of_invocations(),
        "changes": ours.changes() != theirs.changes(),
        "operations": sorted(expected.keys() ^ found.keys()),
        "hooks": [id for id in expected if id in found and not same(expected[id], found[id])],
    }


@pytest.mark.parametrize("name", COMPARED)
def test_the_same_is_told(name):
    """Of each operation, of each invocation, and of what changed."""
    # The branches of AWS's SDK are threads, whose turns a busy machine may change.
    for _ in range(ATTEMPTS if name not in OPERATIONS or name in BRANCHED else 1):
        found = differences(told(WORKFLOWS[name], WatchedAws), told(WORKFLOWS[name], WatchedPerdure), name in TOLD_MORE)
        if not any(found.values()):
            break
    assert not any(found.values()), found


@pytest.mark.parametrize("name", IN_ORDER)
def test_in_the_same_order(name):
    """Where nothing happens side by side, all hooks come in one order."""
    assert told(WORKFLOWS[name], WatchedPerdure).sequence() == told(WORKFLOWS[name], WatchedAws).sequence()


@pytest.mark.parametrize("name", WORKFLOWS)
def test_what_holds_of_any_order(name):
    """Each operation ends once and after it began; functions begin and end in turn, between the two."""
    for id, hooks in told(WORKFLOWS[name], WatchedPerdure).of_operations().items():
        kinds = [hook.removeprefix("on_") for hook, _ in hooks]
        ends = [info for hook, info in hooks if hook == "on_operation_end"]
        recorded = [info for info in ends if info["start_time"] not in {None, "now"}]
        assert len(recorded) <= 1, id
        functions = [kind for kind in kinds if kind.startswith("user_function")]
        assert functions == ["user_function_start", "user_function_end"] * (len(functions) // 2), id
        if recorded and "operation_start" in kinds:
            assert kinds.index("operation_start") < kinds.index("operation_end"), id


# ---------------------------------------------------------------------------------------------------------- invokes

INVOKES = Catalogue()


@INVOKES.add(outside=lambda plane: plane.complete("call", '"done"'))
def traced(kit):
    """A chained invoke that carries what a plugin gives it."""

    def workflow(event, context):
        return [context.invoke("f", {"a": 1}, name="call"), kit.step(context, "after")]

    return workflow


@pytest.mark.parametrize("trace_id", [None, "  ", "Root=1-5759e988-bd862e3fe1be46a994272793"])
def test_propagation(trace_id):
    """Plugins are asked once for each invoke, before its START, which then carries what they said."""
    sent, asked = [], []
    for kind in (WatchedAws, WatchedPerdure):
        record = Record()
        record.trace_id = trace_id
        run = Run(INVOKES["traced"]).finish(kind(record))
        sent.append(
            [each.chained_invoke_options for request in run.plane.requests for each in request if each.name == "call"]
        )
        asked.append([info for hook, info in record.told if hook == "provide_propagation_metadata"])
    assert sent[0] == sent[1]
    assert asked[0] == asked[1]
    assert len(asked[1]) == 1
    assert sent[1][0].x_amzn_trace_id == (trace_id.strip() or None if trace_id else None)


def test_nothing_of_it_without_plugins():
    """Plugins change nothing of what is recorded."""
    plain, watched = Run(WORKFLOWS["wait_for_callback"]), Run(WORKFLOWS["wait_for_callback"])
    assert plain.finish(PERDURE).story() == watched.finish(WatchedPerdure(Record())).story()
    assert isinstance(watched.plane, Plane)
