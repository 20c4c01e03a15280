"""The end of an invocation: no step begins too late, and nothing of it runs on (protocol.md §10.1)."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from perdure.config import CompletionConfig, ParallelConfig
from perdure.durable import Duration, durable_execution
from perdure.errors import InvocationError, OutOfTimeError
from tests.official.web import Reply
from tests.unit.lambda_handler.service import LambdaContext


def slow(colour, ran, lambda_context, seconds, **options):
    """A function of four steps that take so long, by the clock of `lambda_context`."""

    def body(i):
        ran.append(i)
        lambda_context.deadline -= seconds

    @durable_execution(**options)
    def blocking(event, context):
        for i in range(4):
            context.step(lambda _, i=i: body(i))

    @durable_execution(**options)
    async def awaiting(event, context):
        for i in range(4):
            await context.step(lambda _, i=i: body(i))

    return {"blocking": blocking, "awaiting": awaiting}[colour]


class TestReserve:
    def test_no_step_begins_when_too_little_is_left(self, colour, service):
        """The invocation raises, saying what was left; the next ones finish the execution, no step runs twice."""
        ran, lambda_context = [], LambdaContext(800)
        function = slow(colour, ran, lambda_context, 300, time_reserve=Duration.from_seconds(300))
        with pytest.raises(OutOfTimeError, match="ms of the invocation are left and 300000 ms are reserved") as raised:
            function(service.event(), lambda_context)
        assert isinstance(raised.value, InvocationError)
        assert raised.value.is_retryable()
        assert ran == [0, 1]
        recorded = [each["Status"] for each in service.operations.values() if each["Type"] == "STEP"]
        assert recorded == ["SUCCEEDED"] * 2
        assert function(service.event(), LambdaContext(1000))["Status"] == "SUCCEEDED"
        assert ran == [0, 1, 2, 3]

    def test_the_first_step_always_begins(self, colour, service):
        """An execution whose invocations all begin with too little time goes on, step by step."""
        ran = []
        function = slow(colour, ran, LambdaContext(), 0, time_reserve=Duration.from_seconds(100))
        for done in range(1, 4):
            with pytest.raises(OutOfTimeError):
                function(service.event(), LambdaContext(50))
            assert ran == list(range(done))
        assert function(service.event(), LambdaContext(50))["Status"] == "SUCCEEDED"

    @pytest.mark.parametrize(("had", "reserved"), [(5_000, 500), (19_000, 1900), (600_000, 2000)])
    def test_a_tenth_of_the_time_is_reserved_and_at_most_two_seconds(self, had, reserved, service):
        """Unless said otherwise."""
        lambda_context = LambdaContext()
        lambda_context.get_remaining_time_in_millis = lambda: had if not ran else reserved
        ran = []

        @durable_execution
        def function(event, context):
            context.step(lambda _: ran.append(1))
            context.step(lambda _: ran.append(2))

        expected = f"{reserved} ms of the invocation are left and {reserved} ms are reserved"
        with pytest.raises(OutOfTimeError, match=expected):
            function(service.event(), lambda_context)
        assert ran == [1]

    def test_nothing_may_be_reserved(self, colour, service):
        """Zero seconds: steps begin until the end."""
        ran, lambda_context = [], LambdaContext(250)
        function = slow(colour, ran, lambda_context, 100, time_reserve=Duration.from_seconds(0))
        with pytest.raises(OutOfTimeError, match="0 ms of the invocation are left and 0 ms are reserved"):
            function(service.event(), lambda_context)
        assert len(ran) == 3

    def test_a_wait_is_begun_at_any_time(self, colour, service):
        """Only bodies take time."""

        @durable_execution(time_reserve=Duration.from_seconds(100))
        def blocking(event, context):
            context.step(lambda _: 1)
            context.wait(Duration.from_days(1))

        @durable_execution(time_reserve=Duration.from_seconds(100))
        async def awaiting(event, context):
            await context.step(lambda _: 1)
            await context.wait(Duration.from_days(1))

        function = {"blocking": blocking, "awaiting": awaiting}[colour]
        assert function(service.event(), LambdaContext(50)) == {"Status": "PENDING"}


FIRST = ParallelConfig(completion_config=CompletionConfig(min_successful=1))


class TestWhatIsLeftRunning:
    @pytest.fixture(autouse=True)
    def _events(self):
        self.go_on = threading.Event()
        self.ended: list[str] = []

    def late(self, _):
        """A step that ends when the test says so."""
        assert self.go_on.wait(20)
        self.ended.append("late")
        return "late"

    def function(self, colour):
        """One branch ends and with it the parallel and the function, while the step of the other still runs."""

        @durable_execution
        def blocking(event, context):
            branches = [lambda inner: inner.step(lambda _: 1), lambda inner: inner.step(self.late)]
            context.parallel(branches, config=FIRST)
            threading.Timer(0.2, self.go_on.set).start()
            return "over"

        @durable_execution
        async def awaiting(event, context):
            async def quick(inner):
                return await inner.step(lambda _: 1)

            async def slow(inner):
                return await inner.step(self.late)

            await context.parallel([quick, slow], config=FIRST)
            threading.Timer(0.2, self.go_on.set).start()
            return "over"

        return {"blocking": blocking, "awaiting": awaiting}[colour]

    def test_the_handler_waits_for_bodies_of_branches(self, colour, service):
        """They have ended when it answers, and record nothing."""
        output = self.function(colour)(service.event(), LambdaContext())
        assert output == {"Status": "SUCCEEDED", "Result": '"over"'}
        assert self.ended == ["late"]
        sent = len(service.requests)
        time.sleep(0.2)
        assert len(service.requests) == sent
        assert not [update for update in service.updates if update.get("Payload") == '"late"']

    def test_the_handler_waits_before_it_raises(self, colour, service):
        """Also when the service is in trouble."""

        def trouble(request, serve):
            # The first request with an end in it, and its repetition.
            if any(update["Action"] == "SUCCEED" for update in request.json()["Updates"]):
                threading.Timer(0.2, self.go_on.set).start()
                return Reply.error(500, "ServiceException", "internal")
            return serve()

        service.misdeeds.extend([trouble] * 20)
        with pytest.raises(InvocationError, match="internal"):
            self.function(colour)(service.event(), LambdaContext())
        assert self.ended == ["late"]

    def test_no_longer_than_there_is_time(self, colour, service, caplog):
        """A body that does not end: the answer is not lost for it, and the log tells. The reserve has no part in it."""
        lambda_context, over = LambdaContext(), []

        def end():
            over.append(time.monotonic())
            lambda_context.deadline = over[0] + 2.5
            return "over"

        @durable_execution(time_reserve=Duration.from_seconds(50))
        def blocking(event, context):
            branches = [lambda inner: inner.step(lambda _: 1), lambda inner: inner.step(self.late)]
            context.parallel(branches, config=FIRST)
            return end()

        @durable_execution(time_reserve=Duration.from_seconds(50))
        async def awaiting(event, context):
            async def quick(inner):
                return await inner.step(lambda _: 1)

            async def slow(inner):
                return await inner.step(self.late)

            await context.parallel([quick, slow], config=FIRST)
            return end()

        output = {"blocking": blocking, "awaiting": awaiting}[colour](service.event(), lambda_context)
        assert time.monotonic() - over[0] > 0.4
        assert output["Status"] == "SUCCEEDED"
        assert self.ended == []
        assert "outlive their invocation" in caplog.text
        sent = len(service.requests)
        self.go_on.set()
        while not self.ended:
            time.sleep(0.01)
        time.sleep(0.1)
        assert len(service.requests) == sent

    def test_tasks_are_cancelled(self, service):
        """Bodies that are coroutines do not keep an invocation waiting."""

        @durable_execution
        async def function(event, context):
            async def forever(_):
                try:
                    await asyncio.sleep(1000)
                finally:
                    self.ended.append("cancelled")

            async def quick(inner):
                return await inner.step(lambda _: 1)

            async def slow(inner):
                return await inner.step(forever)

            await context.parallel([slow, quick], config=FIRST)
            return "over"

        assert function(service.event(), LambdaContext())["Status"] == "SUCCEEDED"
        assert self.ended == ["cancelled"]
