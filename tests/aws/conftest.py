"""AWS's SDK for comparison."""

from __future__ import annotations

import aws_durable_execution_sdk_python.state as aws_state
import pytest


@pytest.fixture(autouse=True)
def _unhurried(unhurried):
    """Requests are compared and counted."""


@pytest.fixture(autouse=True)
def _prompt(monkeypatch):
    """It polls for the end of an invocation; the default of 0.1 s would be most of these tests."""
    monkeypatch.setattr(aws_state, "_STOP_SIGNAL_POLL_SECONDS", 0.01)
