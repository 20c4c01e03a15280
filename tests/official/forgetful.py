"""
The handler of processes whose Perdure is altered: on replay it runs the body of a step again that has succeeded.

The results are the recorded ones, so that histories tell nothing; `test_bodies.py` shows that the count of bodies does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.engine import calls
from perdure.engine.commands import Call
from perdure.engine.operations.step import _context
from tests.official.dispatch import handle

if TYPE_CHECKING:
    from perdure.engine.commands import Procedure

__all__ = ["handle"]

_step = calls.step


def _forgetful_step(scope: Any, identity: Any, body: Any, *rest: Any) -> Procedure[Any]:
    record = scope.replay.record(identity)
    if record is not None and record.is_terminal:
        yield Call(body, (_context(scope, identity, attempt=1),))
    return (yield from _step(scope, identity, body, *rest))


calls.step = _forgetful_step
