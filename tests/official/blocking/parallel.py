"""Suite `parallel` as `def` workflows, except for when one is over; that is in `completion`."""

from __future__ import annotations

import json

from perdure.config import Duration, NestingType, ParallelConfig
from perdure.durable import ParallelBranch, durable_execution
from perdure.serdes import SerDes

IN_TURN = ParallelConfig(max_concurrency=1)


def stepping(value):
    """A branch of one step."""
    return lambda branch: branch.step(lambda _: value)


def returning(value):
    """A branch without operations."""
    return lambda _: value


@durable_execution
def parallel_basic(_, context):
    """Two branches of one step each."""
    branches = [stepping("task-1"), stepping("task-2")]
    return context.parallel(branches, name="parallel", config=IN_TURN).get_results()


@durable_execution
def without_name(_, context):
    """No name, and branches without operations."""
    return context.parallel([returning("alpha"), returning("beta")], config=IN_TURN).get_results()


@durable_execution
def named_branches(_, context):
    """Branches with names."""
    branches = [ParallelBranch(returning("one"), name="first"), ParallelBranch(returning("two"), name="second")]
    return context.parallel(branches, name="named", config=IN_TURN).get_results()


@durable_execution
def mixed_types(_, context):
    """Branches that return values of different types."""
    branches = [returning("hello"), returning(42), returning({"k": "v"})]
    return context.parallel(branches, name="hetero", config=IN_TURN).get_results()


@durable_execution
def no_branches(_, context):
    """Nothing to do."""
    return context.parallel([], name="empty").get_results()


@durable_execution
def concurrent_branches(_, context):
    """Results come in the order of the branches, however those end."""
    branches = [returning("r0"), returning("r1"), returning("r2")]
    return context.parallel(branches, name="concurrent", config=ParallelConfig(max_concurrency=2)).get_results()


@durable_execution
def flat_branches(_, context):
    """Branches that are not recorded as contexts."""
    config = ParallelConfig(max_concurrency=1, nesting_type=NestingType.FLAT)
    return context.parallel([stepping("fa"), stepping("fb")], name="flat", config=config).get_results()


def wait_then_return(branch):
    branch.wait(Duration.from_seconds(2))
    return "b1"


@durable_execution
def suspended_branch(_, context):
    """The branch that has ended is not run again after the wait of the other."""
    return context.parallel([stepping("b0"), wait_then_return], name="replay", config=IN_TURN).get_results()


class WrappedSerDes(SerDes):
    """Stores a value in an object around it."""

    def serialize(self, value, _):
        return json.dumps({"wrapped": value})

    def deserialize(self, data, _):
        return json.loads(data)["wrapped"]


@durable_execution
def branch_serdes(_, context):
    """The result of a branch is stored as its serdes makes it."""
    config = ParallelConfig(max_concurrency=1, item_serdes=WrappedSerDes())
    return context.parallel([returning("x"), returning("y")], name="serde", config=config).get_results()


@durable_execution
def no_concurrency(_, context):
    """At least one branch must be allowed to run."""
    config = ParallelConfig(max_concurrency=0)
    return context.parallel([returning(1), returning(2)], name="bad-concurrency", config=config).get_results()


def inner(branch):
    return branch.parallel([stepping("i1"), stepping("i2")], name="inner", config=IN_TURN).get_results()


@durable_execution
def nested_parallels(_, context):
    """A branch that branches."""
    return context.parallel([inner], name="outer", config=IN_TURN).get_results()


REQUIREMENTS = {
    "8-1": parallel_basic,
    "8-2": without_name,
    "8-3": named_branches,
    "8-4": mixed_types,
    "8-5": no_branches,
    "8-11": concurrent_branches,
    "8-12": flat_branches,
    "8-14": suspended_branch,
    "8-15": branch_serdes,
    "8-19": no_concurrency,
    "8-21": nested_parallels,
}
