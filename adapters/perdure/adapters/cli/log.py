"""What a worker process logs, and how."""

from __future__ import annotations

import logging

from perdure.types import DurableExecutionArn

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(place)s%(message)s"


def to_standard_error(*, verbose: bool) -> None:
    """
    Log from INFO on.

    Args:
        verbose: Perdure's own loggers too; else they tell warnings, and how the process ends.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(PlaceFormatter(FORMAT))
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    if not verbose:
        logging.getLogger("perdure").setLevel(logging.WARNING)
        logging.getLogger("perdure.adapters.worker").setLevel(logging.INFO)


class PlaceFormatter(logging.Formatter):
    """Tells where the record of a context's logger comes from, by the fields of protocol.md §10.10."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        record.place = _place(record)
        return super().format(record)


def _place(record: logging.LogRecord) -> str:
    arn = getattr(record, "executionArn", None)
    if not isinstance(arn, str):
        return ""
    execution = DurableExecutionArn.from_arn(arn)
    words = [f"{execution.function_name} {execution.execution_name}" if execution else arn]
    if operation := getattr(record, "operationName", None):
        words.append(f"{operation!r}")
    if attempt := getattr(record, "attempt", None):
        words.append(f"attempt {attempt}")
    return ", ".join(words) + ": "
