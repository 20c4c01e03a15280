"""What `perdure demo` has found out, and how it tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from rich.console import Group
from rich.table import Table
from rich.text import Text

from perdure.adapters.cli import document, picture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from perdure.adapters.cli.shop import Note
    from perdure.client import ExecutionDescription
    from perdure.model import Event


@attrs.frozen
class StepRuns:
    """How often the body of one step really ran, and in which workers (1 and 2)."""

    name: str
    begun: int
    finished: int
    workers: tuple[int, ...]

    @property
    def once(self) -> bool:
        """It ran a single time, from its beginning to its end."""
        return self.begun == self.finished == 1

    @property
    def replayed(self) -> bool:
        """The second worker got the result of the first, without running anything."""
        return self.once and self.workers == (1,)


@attrs.frozen(kw_only=True)
class Report:
    """
    The demo's outcome.

    Attributes:
        execution: As described after its end.
        events: Its history.
        steps: By when they were first begun.
        cut_off: The step that the killed worker was in.
        seconds: From the start of the execution to its end, both workers' starts included.
    """

    execution: ExecutionDescription
    events: Sequence[Event]
    steps: Sequence[StepRuns]
    cut_off: str
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether it went as promised: done, every step once, but the one that was cut off begun a second time."""
        return self.execution.result is not None and all(
            step.once or (step.name == self.cut_off and (step.begun, step.finished) == (2, 1)) for step in self.steps
        )

    @property
    def invocations(self) -> list[Event]:
        """The invocations of the workflow's function."""
        return [event for event in self.events if event.event_type == "InvocationCompleted"]

    def document(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return document.description(self.execution) | {
            "Steps": [
                {
                    "Name": step.name,
                    "Begun": step.begun,
                    "Finished": step.finished,
                    "Workers": list(step.workers),
                    "Replayed": step.replayed,
                }
                for step in self.steps
            ],
            "CutOff": self.cut_off,
            "Invocations": len(self.invocations),
            "CrashedInvocations": sum("Error" in event.details for event in self.invocations),
            "Events": len(self.events),
            "Seconds": round(self.seconds, 3),
            "Holds": self.holds,
        }

    def picture(self) -> RenderableType:
        """As people see it."""
        once = sum(step.once for step in self.steps)
        replayed = sum(step.replayed for step in self.steps)
        verdict = (
            f"{once} of {len(self.steps)} steps ran exactly once, {replayed} of them in the worker that was killed:\n"
            f"the other one read their results from the journal. {self.cut_off!r} was cut off in the midst\n"
            "of its body, so it ran again; its result was recorded once."
            if self.holds
            else "This is not what was promised; please report it."
        )
        return Group(
            Text(),
            Text.assemble(
                "The order ended as ",
                picture.status(self.execution.status.value),
                f" after {self.seconds:.1f} s, two workers, one SIGKILL, {len(self.invocations)} invocations and "
                f"{len(self.events)} events.",
            ),
            Text(),
            self._table(),
            Text(),
            Text(verdict, style="bold green" if self.holds else "bold red"),
            Text(f"result: {self.execution.result}"),
        )

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("STEP", no_wrap=True)
        table.add_column("BODY BEGUN", justify="right")
        table.add_column("FINISHED", justify="right")
        table.add_column("WHERE", no_wrap=True)
        for step in self.steps:
            table.add_row(step.name, str(step.begun), str(step.finished), _where(step))
        return table


def runs(ledger: Sequence[Note], workers: dict[int, int]) -> list[StepRuns]:
    """
    Count a ledger.

    Args:
        ledger: What the shop noted.
        workers: Number of each worker, by its process id.
    """
    steps = []
    for name in dict.fromkeys(note.what for note in ledger):
        notes = [note for note in ledger if note.what == name]
        begun = [workers[note.pid] for note in notes if note.moment == "begun"]
        steps.append(StepRuns(name, len(begun), len(notes) - len(begun), tuple(begun)))
    return steps


def _where(step: StepRuns) -> str:
    if step.replayed:
        return "worker 1, replayed by worker 2"
    return ", then ".join(f"worker {worker}" for worker in step.workers)
