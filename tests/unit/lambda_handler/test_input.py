"""What the handler makes of its event and of the state it is given (protocol.md §4.1)."""

from __future__ import annotations

import pytest

from perdure.durable import durable_execution
from perdure.errors import GetExecutionStateError, ValidationError
from tests.official.web import Reply
from tests.unit.lambda_handler.service import LambdaContext, Service


@durable_execution
def order(event, context):
    return context.step(lambda _: f"Hello, {event['name']}!", name="greet")


class TestWhatIsNoInvocation:
    @pytest.mark.parametrize(
        "event",
        [
            None,
            {},
            [],
            "text",
            7,
            {"name": "World"},
            {"DurableExecutionArn": "", "CheckpointToken": ""},
            [("DurableExecutionArn", "a")],
        ],
    )
    def test_the_error_says_how_to_configure_the_function(self, event, service):
        """Somebody invoked the function as an ordinary one: the error names the remedy, and nothing is asked."""
        with pytest.raises(ValidationError) as raised:
            order(event, LambdaContext())
        for word in (
            "'order'",
            "DurableExecutionArn and CheckpointToken",
            "DurableConfig",
            "qualifier",
            "$LATEST",
            "Client",
        ):
            assert word in str(raised.value)
        assert not service.requests

    def test_only_what_is_missing_is_named(self, service):
        """An event with an ARN lacks the token alone."""
        with pytest.raises(ValidationError, match="without CheckpointToken, so"):
            order({**service.event(), "CheckpointToken": None}, LambdaContext())

    @pytest.mark.parametrize(
        ("state", "complaint"),
        [
            ({"Operations": [{"Id": "x"}]}, "member 'Type' is missing"),
            ({"Operations": 5}, "not the members of an InvocationInput"),
            ({"Operations": [{"Id": "x", "Type": "NOVEL", "Status": "STARTED"}]}, "'NOVEL' is not an OperationType"),
            ("nothing", "not the members of an InvocationInput"),
        ],
    )
    def test_a_malformed_state_is_told(self, state, complaint, service):
        """What the service sent cannot be read: the error names what is wrong with it."""
        with pytest.raises(ValidationError, match=complaint):
            order({**service.event(), "InitialExecutionState": state}, LambdaContext())
        assert not service.requests


class TestState:
    def test_the_rest_of_the_state_is_read_before_user_code_runs(self, service):
        """Pages of one operation: all of them come first, with the token of the event, and nothing runs again."""
        ran = []

        @durable_execution
        def many(event, context):
            ran.append(len(service.requests))
            return [context.step(lambda _, i=i: ran.append(i) or i) for i in range(5)]

        many(service.event(), LambdaContext())
        assert len(ran) == 6
        service.requests.clear()
        ran.clear()
        service.page = 1
        event = service.event()
        assert many(event, LambdaContext())["Result"] == "[0, 1, 2, 3, 4]"
        assert ran == [5]
        assert [request.method for request in service.requests] == ["GET"] * 5
        assert {request.query["CheckpointToken"][0] for request in service.requests} == {event["CheckpointToken"]}
        assert {request.query["MaxItems"][0] for request in service.requests} == {"1000"}

    def test_even_the_input_may_be_on_a_later_page(self, colour, service):
        """An input too large for the event: its first page is empty."""

        @durable_execution
        def blocking(event, context):
            return event["name"]

        @durable_execution
        async def awaiting(event, context):
            return event["name"]

        event = service.event()
        event["InitialExecutionState"] = {"Operations": [], "NextMarker": "0"}
        assert locals()[colour](event, LambdaContext()) == {"Status": "SUCCEEDED", "Result": '"World"'}

    def test_a_state_without_any_operation_is_an_error(self, service):
        """Not even the execution's own: that is no state to run on, and the service is to try again."""
        event = service.event()
        event["InitialExecutionState"] = {"Operations": []}
        with pytest.raises(Exception, match="has no operations"):
            order(event, LambdaContext())


class TestAnswers:
    """Answers to checkpoints come in pages too (§6.1)."""

    def function(self, colour):
        @durable_execution
        def blocking(event, context):
            return context.run_in_child_context(lambda inner: inner.step(lambda _: 1), name="block")

        @durable_execution
        async def awaiting(event, context):
            async def child(inner):
                return await inner.step(lambda _: 1)

            return await context.run_in_child_context(child, name="block")

        return {"blocking": blocking, "awaiting": awaiting}[colour]

    def test_the_rest_of_an_answer_is_read_with_the_new_token(self, colour, service):
        """Two operations change in one request, and come one by one."""
        service.page = 1
        tokens = []
        service.misdeeds.extend([lambda request, serve: tokens.append(service.token) or serve()] * 20)
        assert self.function(colour)(service.event() | self.whole(service), LambdaContext())["Result"] == "1"
        pages = [(request, token) for request, token in zip(service.requests, tokens, strict=True) if request.query]
        assert pages
        for request, token in pages:
            assert request.query["CheckpointToken"] == [token]
            assert request.query["Marker"] == ["changed.1"]

    @pytest.mark.parametrize(("status", "ends"), [(500, "raises"), (404, "fails")])
    def test_a_page_that_cannot_be_read(self, status, ends, colour, service):
        """As a checkpoint that failed: what was recorded is told to the next invocation."""
        service.page = 1
        event = service.event() | self.whole(service)
        service.misdeeds.extend([None, *[Reply.error(status, "NoSuchException", "no page")] * 2])
        if ends == "raises":
            with pytest.raises(GetExecutionStateError, match="no page"):
                self.function(colour)(event, LambdaContext())
        else:
            output = self.function(colour)(event, LambdaContext())
            assert output["Error"]["ErrorType"].endswith(".GetExecutionStateError")
        service.misdeeds.clear()
        service.page = 1000
        assert self.function(colour)(service.event(), LambdaContext())["Result"] == "1"

    def whole(self, service):
        """The state of an event on one page."""
        operation = {"Id": "5b2c", "Type": "EXECUTION", "Status": "STARTED", "StartTimestamp": 1}
        return {"InitialExecutionState": {"Operations": [operation]}}


def test_a_missing_input_is_an_empty_one():
    """§10.1: an execution that was started with nothing has `{}`."""

    @durable_execution
    def echo(event, context):
        return event

    with Service() as service:
        event = service.event()
        del event["InitialExecutionState"]["Operations"][0]["ExecutionDetails"]
        assert echo(event, LambdaContext()) == {"Status": "SUCCEEDED", "Result": "{}"}
