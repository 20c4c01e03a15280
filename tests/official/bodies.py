"""
How often the bodies of steps, submitters and checks ran, and how often they should have.

The suite compares histories: it does not notice an SDK that runs again what it has the result of. So the processes of
functions note each beginning of a body, where a handler hands it over and no SDK has a say, and that is compared with
what they checkpointed.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from perdure.engine.async_context import AsyncDurableContext
from perdure.engine.context import DurableContext
from tests.official.names import SCRATCH, function_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.official.cloud import Cloud
    from tests.official.trail import Trail

FILE = "bodies.jsonl"
PARAMETERS = {"step": "func", "wait_for_callback": "submitter", "wait_for_condition": "check"}
"""The methods of contexts that take a body, with what they call it."""
DYING = {function_name("3-12")}
"""Functions whose process dies in a body that may run again: its attempt is run twice and recorded once."""
ENDS = {"SUCCEED", "FAIL", "RETRY"}
"""What is checkpointed when an attempt has ended; after a RETRY there is another one."""


@attrs.frozen
class Run:
    """The beginning of a body."""

    function: str
    execution: str
    operation: str
    attempt: int
    instant: float


# ---------------------------------------------------------------------------------------------- in a function's process


def watch() -> None:
    """Have bodies noted in this process, in a file in the scratch folder."""
    file = os.open(Path(os.environ[SCRATCH], FILE), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for context in (DurableContext, AsyncDurableContext):
        for name, parameter in PARAMETERS.items():
            setattr(context, name, _watching(getattr(context, name), parameter, file))


def _watching(method: Callable[..., Any], parameter: str, file: int) -> Callable[..., Any]:
    signature = inspect.signature(method)

    @functools.wraps(method)
    def watching(context: Any, *args: Any, **kwargs: Any) -> Any:
        given = signature.bind(context, *args, **kwargs)
        given.arguments[parameter] = _noted(given.arguments[parameter], context.lambda_context.function_name, file)
        return method(*given.args, **given.kwargs)

    return watching


def _noted(body: Callable[..., Any], function: str, file: int) -> Callable[..., Any]:
    def note(context: Any) -> None:
        # What a body's logger tells of its place is the only way to learn that.
        place = context.logger._default_extra
        run = Run(function, place["executionArn"], place["operationId"], place["attempt"], time.time())
        os.write(file, f"{json.dumps(attrs.asdict(run))}\n".encode())

    if inspect.iscoroutinefunction(body):

        async def noted(*args: Any) -> Any:
            note(args[-1])
            return await body(*args)
    else:

        def noted(*args: Any) -> Any:
            note(args[-1])
            return body(*args)

    return functools.wraps(body)(noted)


# ---------------------------------------------------------------------------------------------------------- afterwards


class Bodies:
    """
    The bodies that ran in a cloud.

    Attributes:
        runs: All of them, by execution and operation.
    """

    def __init__(self, cloud: Cloud) -> None:
        self._trails = cloud.front.trails
        self.runs: dict[tuple[str, str], list[Run]] = defaultdict(list)
        for folder in {function.environment[SCRATCH] for function in cloud.host.functions.values()}:
            file = Path(folder, FILE)
            for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
                run = Run(**json.loads(line))
                self.runs[run.execution, run.operation].append(run)

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(map(len, self.runs.values()))

    def faults(self) -> Iterator[str]:
        """Where bodies ran otherwise than recorded: each attempt once, and nothing after the end of the last one."""
        ends = {(arn, one): at for arn in self._trails for one, at in ends_of_attempts(self._trails[arn]).items()}
        for place in sorted({*self.runs, *ends}):
            runs, ended = self.runs.get(place, []), ends.get(place, [])
            dying = bool(runs) and runs[0].function in DYING
            ran = Counter(run.attempt for run in runs)
            recorded = Counter(range(1, len(ended) + 1)) + Counter([1] if dying else [])
            told = f"operation {place[1]} of {runs[0].function if runs else place[0]}"
            if ran != recorded:
                yield f"{told}: ran {_times(ran)}, recorded {_times(recorded)}"
            if ended and any(run.instant > ended[-1] for run in runs):
                yield f"{told}: ran after its end was acknowledged"


def ends_of_attempts(trail: Trail) -> dict[str, list[float]]:
    """When the ends of attempts were acknowledged, by step."""
    found: dict[str, list[float]] = defaultdict(list)
    for update, instant in trail.taken():
        if update["Type"] == "STEP" and update["Action"] in ENDS:
            found[update["Id"]].append(instant)
    return found


def _times(attempts: Counter[int]) -> str:
    return ", ".join(f"attempt {one} {times}x" for one, times in sorted(attempts.items())) or "never"
