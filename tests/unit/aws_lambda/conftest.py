from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from botocore.stub import Stubber

from perdure.client import Client
from tests.official.cloud import Cloud
from tests.official.function import Function
from tests.official.names import REGION

if TYPE_CHECKING:
    from collections.abc import Iterator

FLOWS = ("buy", "buy_async", "ask", "fail", "large", "many", "medley")
PATIENCE = 30.0
ARN = "arn:aws:lambda:eu-west-1:123456789012:function:buy:3/durable-execution/o-1/e-1"


@pytest.fixture(autouse=True, scope="module")
def _configuration(tmp_path_factory) -> Iterator[None]:
    """Nothing of this machine's configuration of AWS."""
    nowhere = tmp_path_factory.mktemp("configuration")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_LAMBDA"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_ACCESS_KEY_ID", "local")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "local-secret")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", str(nowhere / "no-config"))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(nowhere / "no-credentials"))
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        yield


@pytest.fixture(scope="session")
def cloud(tmp_path_factory) -> Iterator[Cloud]:
    """AWS's emulator, with the functions of `flows.py` deployed."""
    code = Path(__file__).parents[3]
    functions = [Function(name, f"tests.unit.aws_lambda.flows.{name}", code=code) for name in FLOWS]
    functions.append(Function("plain", "json.dumps", code=code, durable=False))
    with Cloud(functions, tmp_path_factory.mktemp("cloud")) as cloud:
        yield cloud


@pytest.fixture(scope="session")
def url(cloud) -> str:
    """The emulator, no function named."""
    return f"lambda://?region={REGION}&endpoint_url={cloud.url}"


@pytest.fixture(scope="module")
def client(url) -> Iterator[Client]:
    with Client(url) as client:
        yield client


@pytest.fixture(scope="module")
def _of_buy() -> Iterator[Client]:
    # Making a client takes boto3 a good part of a second.
    with Client("lambda://buy:live?region=eu-west-1") as client:
        yield client


@pytest.fixture
def stubbed(_of_buy) -> Iterator[tuple[Client, Stubber]]:
    """A client whose answers a test gives; AWS's own model checks what is asked and answered."""
    with Stubber(_of_buy._desk._api._client) as stubber:
        yield _of_buy, stubber
        stubber.assert_no_pending_responses()


def until(condition):
    """What a condition gives, once it is true."""
    limit = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < limit
        time.sleep(0.02)
    return found


def open_callback(handle):
    """The id of the callback that an execution waits for, once it does."""

    def callbacks():
        found = [one.callback_details for one in handle.operations() if not one.is_terminal]
        return [details.callback_id for details in found if details and details.callback_id]

    return until(callbacks)[0]
