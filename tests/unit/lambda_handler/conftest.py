"""What tests of the handler share: a service to talk to, and functions of either colour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import botocore.session
import pytest

from perdure.adapters.lambda_handler import client
from tests.unit.lambda_handler.service import ENVIRONMENT, Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def models() -> Any:
    """What botocore knows of AWS's services; to read it takes longer than most tests."""
    return botocore.session.get_session().get_component("data_loader")


@pytest.fixture(autouse=True)
def _own_client(monkeypatch: pytest.MonkeyPatch, models: Any) -> Iterator[None]:
    """The process's client is made anew, from the environment that the test sets."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    make = botocore.session.get_session

    def session() -> Any:
        made = make()
        made.register_component("data_loader", models)
        return made

    monkeypatch.setattr(botocore.session, "get_session", session)
    client._forget()
    yield
    if client._client is not None:
        client._client.close()
    client._forget()


@pytest.fixture
def reach(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets where the process's client asks."""
    return lambda url: monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", url)


@pytest.fixture
def service(reach: Callable[[str], None]) -> Iterator[Service]:
    """A service that the process's client asks."""
    with Service({"name": "World"}) as one:
        reach(one.url)
        yield one


@pytest.fixture(params=["blocking", "awaiting"])
def colour(request: pytest.FixtureRequest) -> Any:
    """`def` and `async def`."""
    return request.param
