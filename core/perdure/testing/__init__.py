"""
What tests need: a runner of workflows in virtual time, crash exploration, a store in memory, the store conformance kit.

    from perdure.testing import DurableTestRunner, explore_crashes

The conformance kit, `perdure.testing.conformance`, and the fixtures for pytest need `pip install 'perdure[testing]'`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perdure.testing.callback import PendingCallback
    from perdure.testing.exploration import CrashPoint, Exploration, Fault, FaultKind, explore_crashes
    from perdure.testing.result import TestOperation, TestResult
    from perdure.testing.runner import BlockedExecutionError, DurableTestRunner, TestRun

__all__ = [
    "BlockedExecutionError",
    "CrashPoint",
    "DurableTestRunner",
    "Exploration",
    "Fault",
    "FaultKind",
    "PendingCallback",
    "TestOperation",
    "TestResult",
    "TestRun",
    "explore_crashes",
]

_HOMES = {
    "callback": ["PendingCallback"],
    "exploration": ["CrashPoint", "Exploration", "Fault", "FaultKind", "explore_crashes"],
    "result": ["TestOperation", "TestResult"],
    "runner": ["BlockedExecutionError", "DurableTestRunner", "TestRun"],
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Loaded when asked for: every run of pytest, and every user of a store in memory, imports this package."""
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
