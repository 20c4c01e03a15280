"""Where the demo shows how it goes: a live picture on a terminal, lines elsewhere, nothing beside JSON."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

import attrs
from rich.console import Console, Group
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

from perdure.adapters.cli import picture
from perdure.adapters.cli.option import console
from perdure.model import OperationType

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from rich.console import ConsoleOptions, RenderableType, RenderResult

    from perdure.model import Operation


class Stage:
    """Shows nothing; the others are made of it. A context manager."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def tell(self, text: str) -> None:
        """Something that happened around the execution."""

    def follow(self, operations: Sequence[Operation]) -> None:
        """The execution's operations as they are now."""

    def _timed(self, text: str, style: str = "") -> Text:
        return Text.assemble((f"{time.monotonic() - self._begun:5.1f} s  ", "dim"), (text, style))


class LineStage(Stage):
    """One line for whatever happens, and for each operation that ends."""

    def __init__(self, out: Console) -> None:
        super().__init__()
        self._out = out
        self._known: set[str] = set()

    def tell(self, text: str) -> None:
        """Print it."""
        self._out.print(self._timed(text))

    def follow(self, operations: Sequence[Operation]) -> None:
        """Print those that have ended since the last time."""
        ended = [operation for operation in operations if operation.is_terminal]
        for operation in sorted(ended, key=lambda operation: operation.position or 0):
            if operation.operation_type is OperationType.EXECUTION or operation.operation_id in self._known:
                continue
            self._known.add(operation.operation_id)
            kind = operation.sub_type or operation.operation_type.value
            self._out.print(self._timed(f"  {picture.MARKS[operation.status]} {operation.name or kind} ({kind})"))


class LiveStage(Stage):
    """The tree of operations, redrawn as it grows, below what has happened."""

    def __init__(self, out: Console) -> None:
        super().__init__()
        self._told: list[Text] = []
        self._operations: Sequence[Operation] = ()
        self._is_over = False
        self._live = Live(console=out, get_renderable=self._picture, refresh_per_second=10)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_over = True
        self._live.stop()

    def tell(self, text: str) -> None:
        """Add it to the lines above."""
        self._told.append(self._timed(text))

    def follow(self, operations: Sequence[Operation]) -> None:
        """Draw these from now on."""
        self._operations = operations

    def _picture(self) -> RenderableType:
        whole = Group(*self._told, Text(), picture.tree("order", self._operations))
        return whole if self._is_over else _Tail(whole)


@attrs.frozen
class _Tail:
    """As much of the end of a picture as a terminal has lines: what happens now is at the bottom."""

    whole: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in console.render_lines(self.whole, options, pad=False)[1 - console.height :]:
            yield from line
            yield Segment.line()


def stage(silent: bool) -> Stage:
    """The one that suits standard output."""
    if silent:
        return Stage()
    return LiveStage(console()) if sys.stdout.isatty() else LineStage(console())
