"""URLs of `lambda://`: what they name, and what is refused."""

from __future__ import annotations

import os

import pytest

from perdure.adapters.worker import Worker
from perdure.backends import aws_lambda
from perdure.backends.aws_lambda.location import Location
from perdure.client import Client
from perdure.durable import durable_execution
from perdure.errors import BackendUrlError, InvalidStateError
from perdure.storage import open_backend

FUNCTION_ARN = "arn:aws:lambda:eu-west-1:123456789012:function:checkout"


@pytest.mark.parametrize(
    ("url", "function", "options"),
    [
        ("lambda://checkout", "checkout", {}),
        ("lambda://checkout:live?region=eu-west-1", "checkout:live", {"region": "eu-west-1"}),
        ("lambda://checkout:$LATEST", "checkout:$LATEST", {}),
        ("lambda://checkout:%24LATEST/", "checkout:$LATEST", {}),
        ("lambda://checkout:17?profile=shop", "checkout:17", {"profile": "shop"}),
        ("lambda://123456789012:function:checkout:live", "123456789012:function:checkout:live", {}),
        (f"lambda://{FUNCTION_ARN}:live", f"{FUNCTION_ARN}:live", {"region": "eu-west-1"}),
        (f"lambda://{FUNCTION_ARN}?region=eu-west-1", FUNCTION_ARN, {"region": "eu-west-1"}),
        ("lambda://?region=eu-west-1", None, {"region": "eu-west-1"}),
        ("lambda://", None, {}),
        (
            "lambda://x?endpoint_url=http://127.0.0.1:5000&region=r",
            "x",
            {"endpoint_url": "http://127.0.0.1:5000", "region": "r"},
        ),
    ],
)
def test_urls(url, function, options):
    """Every form of a function identifier, and the options."""
    location = Location.parse(url)
    assert (None if location.function is None else str(location.function)) == function
    found = {"region": location.region, "profile": location.profile, "endpoint_url": location.endpoint_url}
    assert {name: value for name, value in found.items() if value is not None} == options


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("lambda://checkout:", "single quotes around a"),
        ("lambda://check out", "names no function of AWS Lambda"),
        ("lambda://a:b:c", "names no function"),
        ("lambda://me:hunter2@checkout", r"'lambda://me:\*\*\*@checkout' names no function"),
        (f"lambda://{'x' * 300}", "names no function"),
        ("lambda://x?retries=3", "no option 'retries'; it has region, profile, endpoint_url"),
        ("lambda://x?region=", "option region is empty"),
        ("lambda://x?endpoint_url=127.0.0.1:5000", "expected http:// or https://"),
        ("lambda://x?endpoint_url=http://host:port", "expected http:// or https://"),
        ("lambda://x?endpoint_url=http://me:hunter2@host", "without a user or password"),
        (f"lambda://{FUNCTION_ARN}?region=us-east-1", "in region 'eu-west-1' and the option region is 'us-east-1'"),
    ],
)
def test_urls_that_cannot_be(url, message):
    """The text says what is wrong and what is right, and shows no password."""
    with pytest.raises(BackendUrlError, match=message) as refused:
        open_backend(url)
    assert "hunter2" not in str(refused.value)


def test_without_boto3(monkeypatch):
    """The extra that brings it is named."""
    monkeypatch.setattr(aws_lambda, "find_spec", lambda name: None)
    with pytest.raises(BackendUrlError, match=r"pip install 'perdure\[lambda\]'"):
        open_backend("lambda://checkout")


def test_without_a_region():
    """AWS's own configuration counts; where it has none, both remedies are named."""
    with pytest.raises(BackendUrlError, match=r"add \?region= to the URL, or set AWS_DEFAULT_REGION"):
        Client("lambda://checkout")


def test_a_region_of_the_environment(monkeypatch):
    """As for every program that uses boto3."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
    with Client("lambda://checkout") as client:
        assert client._desk._api._client.meta.region_name == "eu-north-1"


def test_an_unknown_profile():
    """It is told by name."""
    with pytest.raises(BackendUrlError, match="nobody"):
        Client("lambda://checkout?region=eu-west-1&profile=nobody")


def test_a_worker_needs_a_store():
    """AWS runs what is deployed there."""

    @durable_execution
    def flow(event, context):
        return None

    with pytest.raises(BackendUrlError, match="which a worker needs"):
        Worker("lambda://checkout?region=eu-west-1", [flow])


def test_a_backend_brings_its_own_client():
    """Each client has connections of its own, that are closed with it."""
    backend = open_backend("lambda://checkout?region=eu-west-1")
    assert backend.store is None
    assert backend.url == "lambda://checkout?region=***"
    with Client(backend) as first, Client(backend) as second:
        assert first._desk is not second._desk
    with pytest.raises(InvalidStateError, match="open a new client"):
        first.describe("a/b")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_needs_a_client_of_its_own():
    """It says so instead of waiting for threads that exist in its parent only."""
    with Client("lambda://checkout?region=eu-west-1") as client:
        if (child := os.fork()) == 0:
            try:
                client.describe("a/b")
            except InvalidStateError as error:
                os._exit(7 if "forked" in str(error) else 8)
            finally:
                os._exit(9)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
