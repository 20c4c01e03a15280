"""pytest plugin of Perdure: fixtures to run workflows with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from perdure.testing.runner import DurableTestRunner

# What the fixtures need is imported when a test asks for one: every run of pytest loads this module.


@pytest.fixture
def durable_runner() -> type[DurableTestRunner[Any]]:
    """Makes runners of workflows: `durable_runner(order).run({"card": "4711"})`."""
    from perdure.testing.runner import DurableTestRunner  # noqa: PLC0415

    return DurableTestRunner


@pytest.fixture
def crash_explorer() -> Any:
    """Crashes workflows: `crash_explorer(order, {"card": "4711"}).assert_none()`."""
    from perdure.testing.exploration import explore_crashes  # noqa: PLC0415

    return explore_crashes
