"""Transactional steps over a network that loses requests and replies: that of a COMMIT, too."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from perdure.adapters.worker import Worker
from perdure.config import StepConfig
from perdure.durable import AsyncDurableContext, DurableContext, Duration, durable_execution
from perdure.model import OperationStatus
from perdure.retries import RetryDecision
from tests.failures.ground import session
from tests.failures.load import show
from tests.failures.proxy import FAIR, Weather

if TYPE_CHECKING:
    import psycopg

pytestmark = pytest.mark.filterwarnings("ignore::perdure.errors.UnregisteredFunctionWarning")

EXECUTIONS = 24
STEPS = ["a", "b", "c"]
AGAIN = StepConfig(retry_strategy=lambda _, attempt: RetryDecision(attempt < 50, Duration.from_seconds(1)))


def functions(insert: str) -> list[Any]:
    def body(execution: str, step: str) -> Any:
        def write(_: Any, connection: psycopg.Connection[Any]) -> str:
            text = secrets.token_hex(8)
            connection.execute(insert, (execution, step, text))
            return text

        return write

    def body_async(execution: str, step: str) -> Any:
        async def write(_: Any, connection: psycopg.AsyncConnection[Any]) -> str:
            text = secrets.token_hex(8)
            await connection.execute(insert, (execution, step, text))
            return text

        return write

    @durable_execution
    def keep(event: Any, context: DurableContext) -> dict[str, str]:
        make, id = (body, body_async), context.execution_id
        return {
            step: context.transaction(make[n % 2](id, step), name=step, config=AGAIN) for n, step in enumerate(STEPS)
        }

    @durable_execution
    async def keep_async(event: Any, context: AsyncDurableContext) -> dict[str, str]:
        make, id = (body_async, body), context.execution_id
        futures = [context.transaction(make[n % 2](id, step), step, AGAIN) for n, step in enumerate(STEPS)]
        return dict(zip(STEPS, await asyncio.gather(*futures), strict=True))

    return [keep, keep_async]


@pytest.mark.parametrize("ground", ["postgres"], indirect=True)
def test_lost_commits(ground):
    """Whatever is lost, each step that succeeded has its one row, which its result names, and there is no other."""
    with (
        session(ground.url) as (connection, schema),
        ground.proxy(seed=7) as (proxy, url),
        ground.client() as client,
    ):
        connection.execute(f"CREATE TABLE {schema}.entry (execution text, step text, text text)")
        keep = functions(f"INSERT INTO {schema}.entry VALUES (%s, %s, %s)")
        with Worker(url, keep, lease=30):
            first = client.start(keep[0], None)
            first.result(timeout=30)
            proxy.weather = Weather(lose_reply=0.04, lose_request=0.02)
            handles = [client.start(keep[n % 2], None) for n in range(EXECUTIONS)]
            results = {handle.id: handle.result(timeout=120) for handle in [first, *handles]}
            proxy.weather = FAIR
        rows = connection.execute(f"SELECT execution, step, text FROM {schema}.entry").fetchall()
        recorded = [
            (handle.id, each.name, each.step_details.result.strip('"'))
            for handle in [first, *handles]
            for each in handle.operations()
            if each.name in STEPS and each.status is OperationStatus.SUCCEEDED
        ]
        retried = sum(event.event_type == "StepFailed" for handle in handles for event in handle.history())
    assert Counter(rows) == Counter(recorded)
    assert sorted(rows) == sorted((id, step, texts[step]) for id, texts in results.items() for step in STEPS)
    assert proxy.lost >= 5
    show(f"{len(results)} executions, {proxy.lost} lost, {retried} attempts failed")
