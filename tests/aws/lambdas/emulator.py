"""
AWS's emulator inside the test process, reached by boto3 over HTTP, with time that the test moves.

Journal, validation, tokens, timers, invocations and routes are the emulator's own. Ours is what it has seams for: the
scheduler and the clock (`Timeline`), and the invoker, which calls handlers in this process.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
from contextlib import contextmanager
from dataclasses import replace

import attrs
from aws_durable_execution_sdk_python.execution import InitialExecutionState
from aws_durable_execution_sdk_python_testing.checkpoint.processor import CheckpointProcessor
from aws_durable_execution_sdk_python_testing.child_dispatcher import (
    EndpointChildDispatcher,
    FunctionConfigs,
)
from aws_durable_execution_sdk_python_testing.execution import OperationPaginatorState
from aws_durable_execution_sdk_python_testing.executor import Executor
from aws_durable_execution_sdk_python_testing.invoker import InvokeResponse, LambdaInvoker
from aws_durable_execution_sdk_python_testing.model import StartDurableExecutionInput
from aws_durable_execution_sdk_python_testing.stores.memory import InMemoryExecutionStore
from aws_durable_execution_sdk_python_testing.web.models import HTTPResponse
from aws_durable_execution_sdk_python_testing.web.routes import (
    CheckpointDurableExecutionRoute,
    GetDurableExecutionStateRoute,
)
from aws_durable_execution_sdk_python_testing.web.server import RequestHandler, WebServer, WebServiceConfig
from aws_durable_execution_sdk_python_testing.worker.registry import ExecutionRegistry

from tests.aws.lambdas.surroundings import LambdaContext
from tests.aws.lambdas.timeline import Timeline
from tests.official.names import ACCOUNT, REGION

ROOM = 5 * 1024 * 1024
"""Bytes of operations in an invocation's input, and in a page of the state."""
SECONDS = 300
"""Execution timeout of all functions."""
LOST = HTTPResponse(status_code=0, headers={}, body={})
"""An answer that never arrives."""


@attrs.define
class Call:
    """
    A request of a handler.

    Attributes:
        kind: "checkpoint" or "state".
        arn: Of the execution.
        token: The checkpoint token it came with.
        updates: What a checkpoint is to record.
        client_token: Of a checkpoint.
        marker: Of a page of the state.
        bytes: How long its body is, as JSON.
        status: Of the answer; None if that was lost.
        next_token: In the answer, None if it has none.
        alone: Whether no other request of the execution was under way when it came.
    """

    kind: str
    arn: str
    token: str
    updates: list = attrs.field(factory=list)
    client_token: str | None = None
    marker: str | None = None
    bytes: int = 0
    status: int | None = None
    next_token: str | None = None
    alone: bool = True


class Fault:
    """Something that goes wrong with requests; replaced for a while by `Emulator.broken`."""

    def before(self, call):
        """An answer to give instead of the emulator's, which does not see the call then; or None."""

    def after(self, call, answer):
        """What becomes of the emulator's answer."""
        return answer


class Lose(Fault):
    """
    An answer is lost, after the emulator has done what was asked, and so are those to repetitions.

    Attributes:
        lost: The calls whose answers are.
    """

    def __init__(self, kind, after=0, times=1000):
        """
        Args:
            kind: Of calls.
            after: So many answers arrive before.
            times: So many are lost.
        """
        self.lost = []
        self._kind = kind
        self._after = after
        self._times = times

    def after(self, call, answer):
        if call.kind != self._kind or len(self.lost) == self._times:
            return answer
        if self._after:
            self._after -= 1
            return answer
        self.lost.append(call)
        return LOST


class Refuse(Fault):
    """
    The first so many calls for checkpoints are given an error, and do nothing.

    Attributes:
        refused: Those.
    """

    def __init__(self, answer, times=1, after=0):
        self.refused = []
        self._answer = answer
        self._times = times
        self._after = after

    def before(self, call):
        if call.kind != "checkpoint" or len(self.refused) == self._times:
            return None
        if self._after:
            self._after -= 1
            return None
        self.refused.append(call)
        return self._answer


def error(status, message, **headers):
    """An answer with an error as the emulator forms it, without a header that names it."""
    body = {"Type": "InvalidParameterValueException", "message": message}
    return HTTPResponse(status_code=status, headers={"Content-Type": "application/json", **headers}, body=body)


class _Watched:
    """A route of the emulator, with its calls noted and its answers meddled with."""

    def __init__(self, handler, kind, emulator):
        self._handler = handler
        self._kind = kind
        self._emulator = emulator
        self._under_way = set()

    def handle(self, route, request):
        call = self._call(route, request)
        emulator = self._emulator
        with emulator.lock:
            call.alone = call.arn not in self._under_way
            self._under_way.add(call.arn)
            emulator.calls.append(call)
        try:
            answer = emulator.fault.before(call)
            if answer is None:
                answer = emulator.fault.after(call, self._handler.handle(route, request))
        finally:
            with emulator.lock:
                self._under_way.discard(call.arn)
        call.status = answer.status_code or None
        call.next_token = answer.body.get("CheckpointToken")
        return answer

    def _call(self, route, request):
        if self._kind == "checkpoint":
            body = request.body
            return Call(
                self._kind,
                route.arn,
                body["CheckpointToken"],
                body.get("Updates", []),
                body.get("ClientToken"),
                bytes=int(request.headers["Content-Length"]),
            )
        query = {name: values[0] for name, values in request.query_params.items()}
        return Call(self._kind, route.arn, query["CheckpointToken"], marker=query.get("Marker"))


class _Requests(RequestHandler):
    """Answers may be lost."""

    def _send_response(self, response):
        if response is LOST:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        else:
            super()._send_response(response)


class _Invoker(LambdaInvoker):
    """Calls the functions of an emulator in the thread that it was given for that."""

    def __init__(self, emulator):
        super().__init__(None)
        self._emulator = emulator

    def create_invocation_input(self, execution):
        self._max_page_bytes = self._emulator.room
        found = super().create_invocation_input(execution)
        if not self._emulator.blank:
            return found
        beginning = OperationPaginatorState.pin(execution)._encode_marker(0)
        return replace(found, initial_execution_state=InitialExecutionState(operations=[], next_marker=beginning))

    def invoke(self, function_name, input, endpoint_url=None, tenant_id=None, account_id=None, region_name=None):
        name = function_name.partition(":")[0]
        event = json.loads(json.dumps(input.to_json_dict()))
        context = LambdaContext(name, tenant_id)
        output = json.dumps(self._emulator.functions[name](event, context))
        return InvokeResponse.from_payload(output.encode(), context.aws_request_id)

    def inherit_endpoint(self, child_execution_arn, parent_execution_arn):
        pass


class _Dispatcher(EndpointChildDispatcher):
    """Targets of chained invokes are the functions of an emulator."""

    def __init__(self, emulator):
        super().__init__(FunctionConfigs({}), lambda _: None, SECONDS)
        self._emulator = emulator

    def preflight(self, target):
        self._configure()
        return super().preflight(target)

    def dispatch(self, request):
        self._configure()
        return super().dispatch(request)

    def _configure(self):
        durable = {"DurableConfig": {"ExecutionTimeout": SECONDS}}
        self._function_configs = FunctionConfigs.from_dict(dict.fromkeys(self._emulator.functions, durable))


class _Server(WebServer):
    daemon_threads = True
    request_queue_size = 128


class Emulator:
    """
    The service.

    Attributes:
        url: Its endpoint.
        timeline: Its scheduler and clock.
        functions: Handlers by name, to be called with an event and a Lambda context.
        calls: All requests for checkpoints and state, in the order in which they came.
        fault: What goes wrong with them.
        room: Bytes of operations in a page.
        blank: Whether invocations are given no operation at all to begin with, as if the input alone were too large.
    """

    def __init__(self):
        logging.getLogger("aws_durable_execution_sdk_python_testing").setLevel(logging.CRITICAL + 1)
        self.lock = threading.Lock()
        self.timeline = Timeline()
        self.functions = {}
        self.calls = []
        self.fault = Fault()
        self.room = ROOM
        self.blank = False
        store = InMemoryExecutionStore()
        self._registry = ExecutionRegistry(store, self.timeline)
        self.executor = Executor(
            store=store,
            scheduler=self.timeline,
            invoker=_Invoker(self),
            checkpoint_processor=CheckpointProcessor(store, self.timeline, clock=self.timeline),
            registry=self._registry,
            clock=self.timeline,
            child_dispatcher=_Dispatcher(self),
            region=REGION,
        )
        self._server = _Server(WebServiceConfig(host="127.0.0.1", port=0, log_level=logging.CRITICAL), self.executor)
        self._server.RequestHandlerClass = _Requests
        for route, kind in ((CheckpointDurableExecutionRoute, "checkpoint"), (GetDurableExecutionStateRoute, "state")):
            self._server.endpoint_handlers[route] = _Watched(self._server.endpoint_handlers[route], kind, self)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def close(self):
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self.executor.shutdown()
        self._registry.shutdown()
        self.timeline.close()

    def reset(self):
        """Forget what tests that are over have left behind."""
        self.timeline.forget()
        self.functions.clear()
        self.calls.clear()
        self.fault = Fault()
        self.blank = False
        self.paged(ROOM)

    def paged(self, room):
        """Give state in pages of so many bytes; 1 is one operation each."""
        self.room = self.executor._max_invocation_page_bytes = room

    @contextmanager
    def broken(self, fault):
        """Requests go wrong in this way."""
        self.fault = fault
        try:
            yield fault
        finally:
            self.fault = Fault()

    def start(self, name, event=None, tenant_id=None):
        """Start an execution of a function; its ARN. Its first invocation is scheduled."""
        start = StartDurableExecutionInput(
            account_id=ACCOUNT,
            function_name=name,
            function_qualifier="$LATEST",
            execution_name="run",
            execution_timeout_seconds=0,
            execution_retention_period_days=1,
            tenant_id=tenant_id,
            input=json.dumps(event),
        )
        return self.executor.start_execution(start).execution_arn

    def execution(self, arn):
        """The emulator's record of an execution."""
        return self.executor.get_execution(arn)
