"""What may still begin in an invocation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.engine.commands import Checkpoint


class Admission:
    """
    Lets bodies begin, until the invocation is interrupted.

    The host is asked before the START of a body is recorded, if that has to be: a body that at most once begins, and
    whose START is recorded, would be taken for interrupted if it were refused then.

    Attributes:
        interruption: Why no further operation is begun, or None; the first reason stays.
    """

    def __init__(self, refusal: Callable[[], Exception | None] | None) -> None:
        """
        Args:
            refusal: See `Settings`.
        """
        self.interruption: BaseException | None = None
        self._refusal = refusal
        self._is_first = True

    def interrupt(self, reason: BaseException) -> None:
        """Let nothing begin any more."""
        self.interruption = self.interruption or reason

    def admits(self) -> bool:
        """Whether the next body may begin; a refusal interrupts the invocation."""
        if self._refusal is not None and self.interruption is None:
            if not self._is_first and (reason := self._refusal()) is not None:
                self.interrupt(reason)
            self._is_first = False
        return self.interruption is None

    def allows(self, command: Checkpoint) -> bool:
        """Whether what begins no body may be recorded; it may, unless an operation begins with it."""
        return self.interruption is None or not command.begins

    def keeps(self) -> bool:
        """
        Whether a body that has been admitted, and whose START may be recorded by now, is to begin all the same.

        It is not if somebody else may have the execution by now, or the process has been told to end.
        """
        reason = self.interruption
        return reason is None or (isinstance(reason, Exception) and not isinstance(reason, CheckpointError))
