"""AWS's emulator in this process, and handlers that reach it through boto3."""

from __future__ import annotations

import os
import random

import pytest

from tests.aws.lambdas.emulator import Emulator
from tests.aws.lambdas.surroundings import ENVIRONMENT
from tests.official.names import SCRATCH


@pytest.fixture(scope="session")
def _emulator(tmp_path_factory):
    """One for all tests of a process: both SDKs make their client once, for the endpoint of that time."""
    found = Emulator()
    with pytest.MonkeyPatch.context() as patch:
        own = {"AWS_ENDPOINT_URL_LAMBDA": found.url, SCRATCH: str(tmp_path_factory.mktemp("scratch"))}
        for name, value in {**ENVIRONMENT, **own}.items():
            patch.setenv(name, value)
        yield found
    found.close()


@pytest.fixture
def emulator(_emulator):
    """Without traces of other tests."""
    _emulator.reset()
    yield _emulator
    _emulator.reset()


@pytest.fixture(autouse=True)
def _no_jitter(monkeypatch):
    """Delays are no matter of chance; boto3 waits no time before it repeats a request."""
    monkeypatch.setattr(random, "random", lambda: 0.0)


@pytest.fixture(autouse=True)
def _alive(monkeypatch):
    """Handlers that end their process do so in one of their own."""

    def refuse(status):
        raise AssertionError(f"a handler would have ended the tests with status {status}")

    monkeypatch.setattr(os, "_exit", refuse)
