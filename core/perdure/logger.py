"""
The logger of a context: silent while its context replays, and telling of which operation a record is.

Records carry `executionArn`, and where known `parentId`, `operationName`, `attempt`, `operationId` (protocol.md
§10.10).
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import attrs

from perdure.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from perdure.types import LoggerInterface

# Records shall name the caller's line: two frames, `_log` and the method, are ours.
_OWN_FRAMES = 3


@attrs.frozen(eq=False, repr=False)
class LogInfo(Value):
    """What a logger tells of the place it logs from."""

    execution_arn: str
    parent_id: str | None = None
    operation_id: str | None = None
    name: str | None = None
    attempt: int | None = None

    def with_parent_id(self, parent_id: str) -> LogInfo:
        """The same below another context."""
        return attrs.evolve(self, parent_id=parent_id)

    def extra(self) -> dict[str, object]:
        """As fields of a log record; `name` is `operationName`, for a record has a `name` already."""
        fields: dict[str, object] = {"executionArn": self.execution_arn}
        if self.parent_id:
            fields["parentId"] = self.parent_id
        if self.name:
            fields["operationName"] = self.name
        if self.attempt is not None:
            fields["attempt"] = self.attempt
        if self.operation_id:
            fields["operationId"] = self.operation_id
        return fields


def complain(logger: logging.Logger, message: str, *args: object, **options: Any) -> None:
    """
    Log a warning of the kernel's own, with `options` of `logging.Logger.warning`.

    What becomes of an execution does not depend on it: a handler that passes on what a `repr` raises, as that of AWS
    Lambda's runtime does, is told the message without what it speaks of.
    """
    try:
        logger.warning(message, *args, stacklevel=2, **options)
    except Exception as error:  # noqa: BLE001 - whatever a handler makes of it
        with suppress(Exception):
            logger.warning("a warning could not be logged (%s): %s", type(error).__qualname__, message)


def _never() -> bool:
    return False


class Logger:
    """
    A logger around another one.

    Args:
        logger: Where records go; anything with the five methods.
        default_extra: Fields every record has; a call's own `extra` wins.
        is_replaying: Whether the context this belongs to is replaying now; then nothing is logged.
        mode_aware: False: log also during replay.
    """

    __slots__ = ("_default_extra", "_is_replaying", "_logger", "_mode_aware")

    def __init__(
        self,
        logger: LoggerInterface,
        default_extra: Mapping[str, object],
        is_replaying: Callable[[], bool] = _never,
        *,
        mode_aware: bool = True,
    ) -> None:
        self._logger = logger
        self._default_extra = default_extra
        self._is_replaying = is_replaying
        self._mode_aware = mode_aware

    @classmethod
    def from_log_info(
        cls,
        logger: LoggerInterface,
        info: LogInfo,
        is_replaying: Callable[[], bool] = _never,
        *,
        mode_aware: bool = True,
    ) -> Logger:
        """One whose records tell of `info`."""
        return cls(logger, info.extra(), is_replaying, mode_aware=mode_aware)

    def with_info(self, info: LogInfo) -> Logger:
        """The same, telling of another place."""
        return Logger(self._logger, info.extra(), self._is_replaying, mode_aware=self._mode_aware)

    with_log_info = with_info

    def with_is_replaying(self, is_replaying: Callable[[], bool]) -> Logger:
        """The same for another context."""
        return Logger(self._logger, self._default_extra, is_replaying, mode_aware=self._mode_aware)

    def configured(self, custom_logger: LoggerInterface | None = None, mode_aware: bool | None = None) -> Logger:
        """The same with another target, or another treatment of replay; None leaves what is."""
        return Logger(
            self._logger if custom_logger is None else custom_logger,
            self._default_extra,
            self._is_replaying,
            mode_aware=self._mode_aware if mode_aware is None else mode_aware,
        )

    def get_logger(self) -> LoggerInterface:
        """Where records go."""
        return self._logger

    def debug(self, msg: object, *args: object, extra: Mapping[str, object] | None = None) -> None:
        """Log with level DEBUG, unless replaying."""
        self._log(self._logger.debug, msg, args, extra)

    def info(self, msg: object, *args: object, extra: Mapping[str, object] | None = None) -> None:
        """Log with level INFO, unless replaying."""
        self._log(self._logger.info, msg, args, extra)

    def warning(self, msg: object, *args: object, extra: Mapping[str, object] | None = None) -> None:
        """Log with level WARNING, unless replaying."""
        self._log(self._logger.warning, msg, args, extra)

    def error(self, msg: object, *args: object, extra: Mapping[str, object] | None = None) -> None:
        """Log with level ERROR, unless replaying."""
        self._log(self._logger.error, msg, args, extra)

    def exception(self, msg: object, *args: object, extra: Mapping[str, object] | None = None) -> None:
        """Log with level ERROR and the exception being handled, unless replaying."""
        self._log(self._logger.exception, msg, args, extra)

    def _log(
        self,
        log: Callable[..., None],
        msg: object,
        args: tuple[object, ...],
        extra: Mapping[str, object] | None,
    ) -> None:
        if self._mode_aware and self._is_replaying():
            return
        fields = {**self._default_extra, **(extra or {})}
        if isinstance(self._logger, logging.Logger):
            log(msg, *args, extra=fields, stacklevel=_OWN_FRAMES)
        else:
            log(msg, *args, extra=fields)
