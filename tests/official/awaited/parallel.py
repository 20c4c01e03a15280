"""Suite `parallel`: branches side by side, here mostly one after the other so that their order is known."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from perdure.durable import (
    CompletionConfig,
    Duration,
    NestingType,
    ParallelBranch,
    ParallelConfig,
    durable_execution,
)
from perdure.serdes import SerDes

if TYPE_CHECKING:
    from perdure.durable import AsyncDurableContext, BatchResult
    from perdure.serdes import SerDesContext

ONE_AT_A_TIME = ParallelConfig(max_concurrency=1)


class WrappingSerDes(SerDes[Any]):
    """Stores a value in an envelope."""

    def serialize(self, value: Any, _: SerDesContext) -> str:
        return json.dumps({"wrapped": value})

    def deserialize(self, data: str, _: SerDesContext) -> Any:
        return json.loads(data)["wrapped"]


async def succeed(_: AsyncDurableContext) -> str:
    return "ok"


async def fail(_: AsyncDurableContext) -> str:
    raise RuntimeError("the branch failed")


def completing(**criteria: Any) -> ParallelConfig:
    """One branch at a time, until this holds."""
    return ParallelConfig(max_concurrency=1, completion_config=CompletionConfig(**criteria))


def told(result: BatchResult[Any], *fields: str) -> dict[str, Any]:
    """What became of a batch, as far as asked for."""
    all_fields = {
        "completionReason": result.completion_reason.value,
        "status": result.status.value,
        "successCount": result.success_count,
        "failureCount": result.failure_count,
        "totalCount": result.total_count,
    }
    return {field: all_fields[field] for field in fields or all_fields}


# ------------------------------------------------------------------------------------------------------------- results


@durable_execution
async def basic(_: None, context: AsyncDurableContext) -> list[str]:
    """Two branches with a step each."""

    async def first(branch: AsyncDurableContext) -> str:
        return await branch.step(lambda _: "task-1")

    async def second(branch: AsyncDurableContext) -> str:
        return await branch.step(lambda _: "task-2")

    result = await context.parallel([first, second], name="parallel", config=ONE_AT_A_TIME)
    return result.get_results()


@durable_execution
async def unnamed(_: None, context: AsyncDurableContext) -> list[str]:
    """Branches and no name."""
    result = await context.parallel([lambda _: "alpha", lambda _: "beta"], config=ONE_AT_A_TIME)
    return result.get_results()


@durable_execution
async def named_branches(_: None, context: AsyncDurableContext) -> list[str]:
    """Branches with names."""
    branches = [ParallelBranch(lambda _: "one", name="first"), ParallelBranch(lambda _: "two", name="second")]
    result = await context.parallel(branches, name="named", config=ONE_AT_A_TIME)
    return result.get_results()


@durable_execution
async def mixed_types(_: None, context: AsyncDurableContext) -> list[Any]:
    """Branches that return a text, a number and an object."""
    branches = [lambda _: "hello", lambda _: 42, lambda _: {"k": "v"}]
    result = await context.parallel(branches, name="hetero", config=ONE_AT_A_TIME)
    return result.get_results()


@durable_execution
async def no_branches(_: None, context: AsyncDurableContext) -> list[Any]:
    """No branches."""
    result = await context.parallel([], name="empty")
    return result.get_results()


@durable_execution
async def concurrent(_: None, context: AsyncDurableContext) -> list[str]:
    """Two branches at a time, their results in the order of the branches."""
    branches = [lambda _: "r0", lambda _: "r1", lambda _: "r2"]
    result = await context.parallel(branches, name="concurrent", config=ParallelConfig(max_concurrency=2))
    return result.get_results()


@durable_execution
async def flat(_: None, context: AsyncDurableContext) -> list[str]:
    """Branches without contexts of their own in the record."""

    async def first(branch: AsyncDurableContext) -> str:
        return await branch.step(lambda _: "fa")

    async def second(branch: AsyncDurableContext) -> str:
        return await branch.step(lambda _: "fb")

    config = ParallelConfig(max_concurrency=1, nesting_type=NestingType.FLAT)
    result = await context.parallel([first, second], name="flat", config=config)
    return result.get_results()


@durable_execution
async def suspended(_: None, context: AsyncDurableContext) -> list[str]:
    """A branch that waits, after one that has ended."""

    async def step(branch: AsyncDurableContext) -> str:
        return await branch.step(lambda _: "b0")

    async def wait(branch: AsyncDurableContext) -> str:
        await branch.wait(Duration.from_seconds(2))
        return "b1"

    result = await context.parallel([step, wait], name="replay", config=ONE_AT_A_TIME)
    return result.get_results()


@durable_execution
async def own_serdes(_: None, context: AsyncDurableContext) -> list[str]:
    """Branches whose results are stored by a serializer of their own."""
    config = ParallelConfig(max_concurrency=1, item_serdes=WrappingSerDes())
    result = await context.parallel([lambda _: "x", lambda _: "y"], name="serde", config=config)
    return result.get_results()


@durable_execution
async def within_another(_: None, context: AsyncDurableContext) -> list[list[str]]:
    """A parallel within a parallel."""

    async def first(branch: AsyncDurableContext) -> str:
        return await branch.step(lambda _: "i1")

    async def second(branch: AsyncDurableContext) -> str:
        return await branch.step(lambda _: "i2")

    async def outer(branch: AsyncDurableContext) -> list[str]:
        inner = await branch.parallel([first, second], name="inner", config=ONE_AT_A_TIME)
        return inner.get_results()

    result = await context.parallel([outer], name="outer", config=ONE_AT_A_TIME)
    return result.get_results()


# ---------------------------------------------------------------------------------------------------------- completion


@durable_execution
async def fail_fast(_: None, context: AsyncDurableContext) -> dict[str, Any]:
    """The first failure ends it."""
    config = completing(tolerated_failure_count=0)
    return told(await context.parallel([succeed, fail, succeed], name="failfast", config=config))


@durable_execution
async def thrown(_: None, context: AsyncDurableContext) -> list[str]:
    """The failure of a branch is raised when the result is asked to."""
    config = completing(tolerated_failure_count=0)
    result = await context.parallel([fail, succeed], name="throwing", config=config)
    result.throw_if_error()
    return result.get_results()


@durable_execution
async def enough_successes(_: None, context: AsyncDurableContext) -> dict[str, Any]:
    """Two successes of four end it."""
    config = completing(min_successful=2)
    result = await context.parallel([succeed] * 4, name="min-successful", config=config)
    return told(result, "completionReason", "successCount", "totalCount")


@durable_execution
async def tolerated(_: None, context: AsyncDurableContext) -> dict[str, Any]:
    """A failure that is tolerated ends nothing."""
    config = completing(tolerated_failure_count=1)
    return told(await context.parallel([succeed, fail, succeed], name="tolerated", config=config))


@durable_execution
async def tolerance_exceeded(_: None, context: AsyncDurableContext) -> dict[str, Any]:
    """One failure more than is tolerated ends it."""
    config = completing(tolerated_failure_count=1)
    result = await context.parallel([fail, fail, succeed], name="tolerated-exceeded", config=config)
    return told(result, "completionReason", "successCount", "failureCount", "totalCount")


@durable_execution
async def percentage_exceeded(_: None, context: AsyncDurableContext) -> dict[str, Any]:
    """A larger part of failures than is tolerated ends it."""
    config = completing(tolerated_failure_percentage=25)
    result = await context.parallel([fail, fail, succeed, succeed], name="tolerated-pct", config=config)
    return told(result, "completionReason", "successCount", "failureCount", "totalCount")


@durable_execution
async def percentage_reached(_: None, context: AsyncDurableContext) -> dict[str, Any]:
    """Just the part of failures that is tolerated ends nothing."""
    config = completing(tolerated_failure_percentage=25)
    return told(await context.parallel([fail, succeed, succeed, succeed], name="pct-boundary", config=config))


@durable_execution
async def all_failed(_: None, context: AsyncDurableContext) -> dict[str, Any]:
    """Failures only, all of them tolerated."""
    config = completing(tolerated_failure_count=3)
    return told(await context.parallel([fail] * 3, name="all-fail", config=config))


@durable_execution
async def too_few_successes(_: None, context: AsyncDurableContext) -> dict[str, Any]:
    """More successes are asked for than there are: it ends with the last branch."""
    config = completing(min_successful=3)
    return told(await context.parallel([succeed, fail, succeed], name="min-not-reached", config=config))


@durable_execution
async def combined(_: None, context: AsyncDurableContext) -> dict[str, Any]:
    """Of two criteria the one that is met first ends it."""
    config = completing(min_successful=3, tolerated_failure_count=1)
    result = await context.parallel([fail, fail, succeed, succeed], name="combined", config=config)
    return told(result, "completionReason", "successCount", "failureCount", "totalCount")


@durable_execution
async def bad_concurrency(_: None, context: AsyncDurableContext) -> list[str]:
    """No branch at a time is no configuration."""
    config = ParallelConfig(max_concurrency=0)
    result = await context.parallel([succeed, succeed], name="bad-concurrency", config=config)
    return result.get_results()


@durable_execution
async def accessors(_: None, context: AsyncDurableContext) -> dict[str, Any]:
    """What a result can be asked."""
    config = completing(tolerated_failure_count=1)
    result = await context.parallel([succeed, fail, succeed], name="accessors", config=config)
    return {
        "hasFailure": result.has_failure,
        "successCount": len(result.succeeded()),
        "failureCount": len(result.failed()),
        "errorCount": len(result.get_errors()),
    }


REQUIREMENTS = {
    "8-1": basic,
    "8-2": unnamed,
    "8-3": named_branches,
    "8-4": mixed_types,
    "8-5": no_branches,
    "8-6": fail_fast,
    "8-7": thrown,
    "8-8": enough_successes,
    "8-9": tolerated,
    "8-10": tolerance_exceeded,
    "8-11": concurrent,
    "8-12": flat,
    "8-13": percentage_exceeded,
    "8-14": suspended,
    "8-15": own_serdes,
    "8-16": all_failed,
    "8-17": too_few_successes,
    "8-18": combined,
    "8-19": bad_concurrency,
    "8-20": accessors,
    "8-21": within_another,
    "8-22": percentage_reached,
}
