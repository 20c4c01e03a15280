"""
The driver for `async def` workflows.

The workflow runs on a loop of its own (`DurableLoop`), everything else on the host's: step bodies, requests, timers.
Only callbacks of the host enter the workflow's loop, and only while no request is in flight. When that loop is at
rest, the workflow waits for operations and for nothing else; then exactly one completion is delivered, the one that
came first in the journal, and the loop runs to rest again. So the workflow's code sees one order of events, live as
on every replay.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from inspect import isawaitable
from itertools import count
from typing import TYPE_CHECKING, Any

from perdure.engine.activity import Activity
from perdure.engine.commands import Blocked, Call, Checkpoint, Raised, Returned, Spawn, WaitAny
from perdure.engine.future import DurableFuture
from perdure.engine.leaf import Bodies
from perdure.engine.loop import DurableLoop
from perdure.engine.replay import Aborted, Orphaned, Run, Suspended
from perdure.engine.scope import ACTIVE
from perdure.errors import ContextMisuseError, ControlSignal, NotDurableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from perdure.engine.checkpointer import Checkpointer, Request
    from perdure.engine.commands import Command, Outcome, Procedure
    from perdure.engine.ids import Identity
    from perdure.engine.port import AsyncControlPlane, CheckpointAnswer
    from perdure.engine.replay import Replay
    from perdure.engine.scope import Scope
