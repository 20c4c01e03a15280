"""What people see: executions as a table, operations as a tree, events as a list."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from perdure.adapters.cli.outcome import plain
from perdure.model import OperationStatus, OperationType

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import RenderableType

    from perdure.client import ExecutionDescription, ExecutionSummary, PauseDescription, WorkerDescription
    from perdure.model import ErrorObject, Event, Operation

STYLES = {
    "SUCCEEDED": "green",
    "FAILED": "red",
    "TIMED_OUT": "red",
    "STOPPED": "magenta",
    "CANCELLED": "magenta",
    "RUNNING": "cyan",
    "STARTED": "cyan",
    "READY": "cyan",
    "PENDING": "yellow",
    "PAUSING": "yellow",
    "PAUSED": "yellow",
    "DELETING": "dim",
}
MARKS = {
    OperationStatus.SUCCEEDED: "✓",
    OperationStatus.FAILED: "✗",
    OperationStatus.TIMED_OUT: "✗",
    OperationStatus.STOPPED: "■",
    OperationStatus.CANCELLED: "■",
    OperationStatus.PENDING: "…",
    OperationStatus.READY: "…",
    OperationStatus.STARTED: "▸",
}
LONGEST_TEXT = 100
LONGEST_ERROR = 300
MILLISECOND = timedelta(milliseconds=1)
SPANS = (
    (timedelta(days=1), "d", timedelta(hours=1), "h"),
    (timedelta(hours=1), "h", timedelta(minutes=1), "min"),
    (timedelta(minutes=1), "min", timedelta(seconds=1), "s"),
)


def executions(found: Sequence[ExecutionSummary]) -> RenderableType:
    """A table of executions, one a line."""
    if not found:
        return Text("no executions", style="dim")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("NAME", "FUNCTION", "STATUS", "STARTED", "DURATION", "ID"):
        table.add_column(column, no_wrap=True)
    for execution in found:
        table.add_row(
            escape(execution.name),
            escape(_function(execution)),
            _standing(execution),
            moment(execution.started),
            elapsed(execution.started, execution.ended),
            execution.id,
        )
    return table


def execution(found: ExecutionDescription, operations: Sequence[Operation]) -> RenderableType:
    """All that is known of one execution, with its operations."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for label, fact in _facts(found):
        facts.add_row(label, fact)
    return Group(facts, Text(), tree(found.name, operations))


def tree(name: str, operations: Iterable[Operation]) -> Tree:
    """Operations below the contexts they belong to, in the order in which they started."""
    children: defaultdict[str | None, list[Operation]] = defaultdict(list)
    known: set[str | None] = {None}
    for operation in operations:
        if operation.operation_type is not OperationType.EXECUTION:
            known.add(operation.operation_id)
            children[operation.parent_id if operation.parent_id in known else None].append(operation)
    root = Tree(Text(name, style="bold"), guide_style="dim")
    _grow(root, None, children)
    return root


def open_callbacks(operations: Iterable[Operation]) -> Iterator[str]:
    """A line for each callback that is waited for, to be copied: not for the tree, whose lines may be folded."""
    for operation in operations:
        callback = operation.callback_details
        if callback is not None and callback.callback_id is not None and not operation.is_terminal:
            yield f"waits for: perdure callback success {callback.callback_id}"


def events(found: Iterable[Event]) -> RenderableType:
    """The history of an execution, one event a line."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("#", justify="right", no_wrap=True)
    for column in ("TIME", "EVENT", "NAME"):
        table.add_column(column, no_wrap=True)
    table.add_column("DETAILS", overflow="fold")
    for event in found:
        table.add_row(
            str(event.event_id),
            moment(event.event_timestamp),
            event.event_type,
            escape(event.name or ""),
            escape(_details(event)),
        )
    return table


def workers(found: Sequence[WorkerDescription]) -> RenderableType:
    """Workers, one a line, above the ids of the executions they hold."""
    if not found:
        return Text("no workers", style="dim")
    trees = [Tree(_worker(worker), guide_style="dim") for worker in found]
    for tree, worker in zip(trees, found, strict=True):
        for id in worker.held:
            tree.add(Text(id))
    return Group(*trees)


def status(name: str) -> Text:
    """A status in its colour."""
    return Text(name, style=STYLES.get(name, ""))


def _standing(execution: ExecutionSummary) -> Text:
    text = status(execution.status.value)
    return text.append(", quarantined", style="bold red") if execution.quarantined else text


def moment(at: datetime) -> str:
    """An instant, to the millisecond, in UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3] + "Z"


def elapsed(start: datetime | None, end: datetime | None) -> str:
    """How long something took, or has taken by now."""
    if start is None:
        return ""
    return span((end or datetime.now(UTC)) - start)


def span(duration: timedelta) -> str:
    """A duration in its two largest units: `12 ms`, `1.5 s`, `3 min 20 s`, `2 d 4 h`."""
    for unit, name, part, part_name in SPANS:
        if duration >= unit:
            return f"{duration // unit} {name} {duration % unit // part} {part_name}"
    if duration < timedelta(seconds=1):
        return f"{max(duration // MILLISECOND, 0)} ms"
    return f"{duration.total_seconds():.1f} s"


def shortened(text: str, longest: int = LONGEST_TEXT) -> str:
    """A text's beginning, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def _worker(found: WorkerDescription) -> Text:
    place = found.owner if found.host is None else f"{found.host}, process {found.pid}"
    now = found.renewed + found.age
    return Text.assemble(
        (place, "bold"),
        f"  since {moment(found.since)}",
        f"  last sign {span(found.age)} ago",
        (f", lost in {span(found.until - now)} without another", "dim"),
        (f"  holds {len(found.held) or 'nothing'}", "cyan" if found.held else "dim"),
    )


def _function(found: ExecutionSummary) -> str:
    return found.function if found.version == "$LATEST" else f"{found.function}:{found.version}"


def _facts(found: ExecutionDescription) -> Iterable[tuple[str, Text]]:
    yield "execution", Text(found.name)
    yield "function", Text(_function(found))
    yield "status", status(found.status.value)
    yield "started", Text(f"{moment(found.started)}, {elapsed(found.started, found.ended)}")
    yield "arn", Text(found.arn)
    yield "input", Text(shortened(found.input))
    if found.result is not None:
        yield "result", Text(shortened(found.result))
    if found.error is not None:
        yield "error", Text(_error(found.error), style="red")
    if found.pause is not None:
        yield "paused", Text(_pause(found.pause), style="yellow")
    if found.deadline is not None:
        yield "times out", Text(moment(found.deadline))
    if found.ended is None and found.quarantined:
        yield (
            "quarantined",
            Text(f"{found.crashes} invocations in a row crashed; `perdure resume` lets it go on", style="red"),
        )
    elif found.ended is None and found.crashes:
        yield "crashes", Text(_crashes(found), style="yellow")


def _pause(pause: PauseDescription) -> str:
    told = f"since {moment(pause.requested)}, `perdure resume` lets it go on"
    return told if pause.reason is None else f"{told}: {pause.reason}"


def _crashes(found: ExecutionDescription) -> str:
    next_one = "runs now" if found.due is None else f"is due at {moment(found.due)}"
    return f"{found.crashes} in a row; the next invocation {next_one}"


def _grow(node: Tree, parent: str | None, children: dict[str | None, list[Operation]]) -> None:
    for operation in children.get(parent, ()):
        _grow(node.add(_line(operation)), operation.operation_id, children)


def _line(operation: Operation) -> Text:
    style = STYLES[operation.status.value]
    line = Text.assemble(
        (MARKS[operation.status], style),
        " ",
        operation.name or "(unnamed)",
        ("  " + (operation.sub_type or operation.operation_type.value), "dim"),
        ("  " + operation.status.value, style),
    )
    for remark in _remarks(operation):
        line.append("  " + remark, style="dim")
    if operation.error is not None and operation.status is not OperationStatus.SUCCEEDED:
        line.append("  " + shortened(_error(operation.error), LONGEST_ERROR), style="red")
    return line


def _remarks(operation: Operation) -> Iterable[str]:
    attempt = operation.attempt + (operation.status is OperationStatus.STARTED)
    if attempt > 1 or operation.status in {OperationStatus.PENDING, OperationStatus.READY}:
        yield f"attempt {attempt}"
    yield elapsed(operation.start_timestamp, operation.end_timestamp)
    if operation.due is not None and not operation.is_terminal:
        yield f"until {moment(operation.due)}"


def _error(error: ErrorObject) -> str:
    told = ": ".join(part for part in (plain(error.type or ""), error.message) if part)
    return " ".join(told.split()) or "no details"


def _details(event: Event) -> str:
    return ", ".join(f"{name} {_detail(value)}" for name, value in event.details.items())


def _detail(value: object) -> str:
    match value:
        case {"Payload": payload}:
            return _detail(payload)
        case {"ErrorType": str(kind), "ErrorMessage": str(message)}:
            return shortened(f"{plain(kind)}: {message}", LONGEST_ERROR)
        case {"Truncated": True}:
            return "(left out)"
        case datetime():
            return moment(value)
        case dict():
            return " ".join(f"{name} {_detail(inner)}" for name, inner in value.items()) or "-"
        case _:
            return shortened(str(value))
