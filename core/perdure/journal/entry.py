"""
What became durable together: the body of one journal row.

A body is compact JSON with the wire's member names, so that a journal can be read with any database shell. It starts
with its format number; the first one of a journal names the scheme its operation ids are made by.

Members that are present take effect in the order in which `Entry` declares them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping  # noqa: TC003 - cattrs resolves the annotations
from datetime import datetime  # noqa: TC003
from functools import cache
from typing import TYPE_CHECKING, Any

import attrs

from perdure import codec, model
from perdure.errors import SchemaVersionError, StoreError
from perdure.model import ErrorObject, ExecutionStatus, OperationStatus, OperationUpdate

if TYPE_CHECKING:
    from cattrs import Converter

FORMAT = 1
"""The format this version writes, and the newest it reads."""

ID_SCHEME = "blake2b-64"
"""How operation ids are derived (protocol.md §11, Python)."""

NOTHING_PENDING = ErrorObject(
    "Cannot return PENDING status with no pending operations.", "InvalidParameterValueException"
)
"""The error of an invocation that waits for nothing (protocol.md §4.2)."""


@attrs.frozen(kw_only=True)
class Started:
    """
    The execution begins.

    Attributes:
        name, function, version: What it is called and what it runs.
        input: JSON text of the start input.
        execution_timeout: Seconds, or None.
        retention_days: After the end.
        id_scheme: `ID_SCHEME` of the version that began it.
        parent: The await of another execution that this one's end completes, or None.
        tenant_id: As given by a chained invoke, or None.
    """

    name: str
    function: str
    version: str
    input: str
    execution_timeout: int | None = None
    retention_days: int = 14
    id_scheme: str = ID_SCHEME
    parent: str | None = None
    tenant_id: str | None = None


@attrs.frozen(kw_only=True)
class InvocationEnd:
    """
    An invocation is over, at the time of its row.

    Attributes:
        request_id, start_timestamp: Which one, and when it was claimed.
        error: Why it did not end well, or None.
        cut_short: It was ended (drained, crashed) with work left that needs no further event.
    """

    request_id: str
    start_timestamp: datetime
    error: ErrorObject | None = None
    cut_short: bool = False


@attrs.frozen(kw_only=True)
class Target:
    """What a CHAINED_INVOKE START resolved to: a function version and the child's ARN, or an error."""

    version: str | None = None
    durable_execution_arn: str | None = None
    error: ErrorObject | None = None


@attrs.frozen(kw_only=True)
class Outcome:
    """How the operation that the row is stamped with was completed from outside."""

    status: OperationStatus
    result: str | None = None
    error: ErrorObject | None = None


@attrs.frozen(kw_only=True)
class Paused:
    """A pause was asked for."""

    reason: str | None = None
    execution_timeout_paused: bool = True


@attrs.frozen(kw_only=True)
class Resumed:
    """A pause is over, or a quarantine."""

    reason: str | None = None


@attrs.frozen(kw_only=True)
class Ended:
    """
    The execution is over.

    With neither result nor error, what an EXECUTION update recorded before is the outcome (protocol.md §4.2).
    """

    status: ExecutionStatus
    result: str | None = None
    error: ErrorObject | None = None


@attrs.frozen(kw_only=True)
class Entry:
    """
    The content of one row.

    Attributes:
        started: First row only.
        crashed: The invocation that another owner left open, found by this one.
        updates: Of the handler, in order.
        callbacks: CallbackIds of the CALLBACK STARTs among `updates`, by operation id.
        targets: What the CHAINED_INVOKE STARTs among `updates` resolved to, by operation id.
        fired: Operations whose time has come; ignored where it had not at the row's own time.
        outcome: For the operation the row is stamped with.
        paused, resumed: Signals.
        invocation: The owner's invocation is over.
        ended: The execution is over.
    """

    started: Started | None = None
    crashed: InvocationEnd | None = None
    updates: tuple[OperationUpdate, ...] = ()
    callbacks: Mapping[str, str] = attrs.field(factory=dict)
    targets: Mapping[str, Target] = attrs.field(factory=dict)
    fired: tuple[str, ...] = ()
    outcome: Outcome | None = None
    paused: Paused | None = None
    resumed: Resumed | None = None
    invocation: InvocationEnd | None = None
    ended: Ended | None = None


# --------------------------------------------------------------------------------------------------- body of a row

_CLASSES: tuple[type[Any], ...] = (
    ErrorObject,
    model.ContextOptions,
    model.StepOptions,
    model.WaitOptions,
    model.CallbackOptions,
    model.ChainedInvokeOptions,
    OperationUpdate,
    Started,
    InvocationEnd,
    Target,
    Outcome,
    Paused,
    Resumed,
    Ended,
    Entry,
)
_RENAMED = {Entry: {"invocation": "InvocationCompleted"}}
_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


def encode(entry: Entry) -> bytes:
    """The body of a row: compact JSON in UTF-8 (lone surrogates escaped), `Format` first, defaults left out."""
    members = {"Format": FORMAT, **_converter().unstructure(entry)}
    try:
        return _to_json(members).encode()
    except UnicodeEncodeError:
        return json.dumps(members, separators=(",", ":")).encode()


def decode(body: bytes) -> Entry:
    """
    The entry of a row's body; members that this version does not know are ignored.

    Raises:
        SchemaVersionError: It is in a newer format than `FORMAT`.
        StoreError: It is no entry at all.
    """
    try:
        members = json.loads(str(body, "utf-8", "surrogatepass"))
        format = members["Format"]
        if format <= FORMAT:
            entry: Entry = _converter().structure(members, Entry)
            return entry
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise StoreError(f"a journal row is no entry of format {FORMAT}: {error!r}; it starts {body[:80]!r}") from error
    raise SchemaVersionError(
        f"a journal row has format {format!r}, and this version reads formats up to {FORMAT}; upgrade perdure"
    )


@cache
def _converter() -> Converter:
    made = codec.converter(codec.Instants.MICROSECONDS).copy()
    for cls in _CLASSES:
        # What the first row leaves out would be read with the defaults of a later version: it leaves out nothing.
        codec.register_class(made, cls, renamed=_RENAMED.get(cls), omit_defaults=cls is not Started)
    return made
