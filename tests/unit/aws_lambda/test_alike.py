"""One program on an own store and on AWS's emulator: it does not see where its executions are."""

from __future__ import annotations

import pytest

from perdure.adapters.worker import Worker
from perdure.client import Client
from perdure.errors import ExecutionAlreadyStartedError, ExecutionFailedError, ResultTimeoutError
from perdure.model import ErrorObject
from perdure.nonce import nonce
from tests.scenarios.history import told
from tests.unit.aws_lambda import flows
from tests.unit.aws_lambda.conftest import PATIENCE, open_callback, until

FUNCTIONS = [flows.buy, flows.ask, flows.fail, flows.medley]


def program(client, name):
    """What an application does, and what it gets to see: all but ids, instants and generated names."""
    seen = []

    def note(*what):
        seen.append(what)

    def expect(error, call):
        with pytest.raises(error) as raised:
            call()
        note(error.__name__, getattr(raised.value, "status", None), getattr(raised.value, "error_type", None))

    order = flows.Order("pen", 2)
    handle = client.start(flows.buy, order, name=name)
    note(client.start(flows.buy, order, name=name).arn == handle.arn)
    expect(ExecutionAlreadyStartedError, lambda: client.start(flows.buy, flows.Order("ink"), name=name))
    note(handle.result(timeout=PATIENCE), told(handle.history()), handle.name == name)
    expect(ExecutionFailedError, lambda: client.start(flows.fail, {"why": "because"}).result(timeout=PATIENCE))

    asking = client.start(flows.ask, {}, name=name)
    callback = open_callback(asking)
    expect(ResultTimeoutError, lambda: asking.result(timeout=0))
    client.send_callback_heartbeat(callback)
    client.send_callback_failure(callback, ErrorObject("no", "Refusal"))
    expect(ExecutionFailedError, lambda: asking.result(timeout=PATIENCE))
    note(told(asking.history()))

    medley = client.start(flows.medley, {})
    until(lambda: any(one.name == "open" for one in medley.operations()))
    client.send_callback_success(open_callback(medley), "last")
    note(medley.result(timeout=PATIENCE), told(medley.history()))
    note([(one.name, one.operation_type, one.status, one.result, one.attempt) for one in medley.operations()[1:]])

    stopped = client.start(flows.ask, {})
    open_callback(stopped)
    stopped.stop()
    described = stopped.describe()
    note(described.status, described.function, described.version, described.input)
    expect(ExecutionFailedError, lambda: stopped.result(timeout=PATIENCE))
    found = client.list("ask", name=name).items
    note(
        [(one.name, one.function, one.version, one.status) for one in found], client.handle(name, "ask").id == asking.id
    )
    return seen


def test_the_same_program(client, tmp_path):
    """Results, errors, histories and operations are the same."""
    url, name = f"sqlite:///{tmp_path / 'alike.db'}", f"same-{nonce()}"
    with Worker(url, FUNCTIONS), Client(url) as own:
        here = program(own, name)
    assert program(client, name) == here
