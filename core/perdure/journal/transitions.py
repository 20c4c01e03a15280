"""
What may become of an operation: one table for those who refuse updates and for the fold that applies them.

The state machines are those of protocol.md §7, the rules and their messages those of §8.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs

from perdure.duration import LONGEST_SECONDS
from perdure.errors import InvalidParameterValueError, StaleTokenError
from perdure.model import ENDED_STATUSES, OperationAction, OperationStatus, OperationType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perdure.journal.fold import Execution
    from perdure.model import ErrorObject, Operation, OperationUpdate

PAYLOAD_LIMIT = 1_048_576
"""UTF-8 bytes of one operation's payload."""
CHILD_LIMIT = 1_048_576
"""UTF-8 bytes of what a chained invoke passes to its target, and of what that gives back."""
RESULT_LIMIT = 6 * 1024 * 1024
"""UTF-8 bytes of the result of an execution that no other one waits for."""
ERROR_LIMIT = 1_048_576
"""UTF-8 bytes of an error, all fields together."""
LONGEST_CALLBACK = 99_999_999
"""Seconds of a callback's timeouts."""

_STARTED, _PENDING, _READY = OperationStatus.STARTED, OperationStatus.PENDING, OperationStatus.READY
_SUCCEEDED, _FAILED, _CANCELLED = OperationStatus.SUCCEEDED, OperationStatus.FAILED, OperationStatus.CANCELLED
_TIMED_OUT, _STOPPED = OperationStatus.TIMED_OUT, OperationStatus.STOPPED
_START, _SUCCEED, _FAIL = OperationAction.START, OperationAction.SUCCEED, OperationAction.FAIL


@attrs.frozen
class Transition:
    """
    What an action does to operations of one type.

    Attributes:
        before: Statuses it is legal in; None among them: the operation need not exist.
        after: The status it leads to.
        refusal: What the service says where it is illegal.
        needs: The attribute of an update without which the action means nothing; "" for none.
    """

    before: frozenset[OperationStatus | None]
    after: OperationStatus
    refusal: str
    needs: str = ""


_NEW = frozenset({None})
_OPEN_STEP = frozenset({None, _STARTED, _READY})
_OPEN_CONTEXT = frozenset({None, _STARTED})
_STEP_START = "Invalid current STEP state to start."
_STEP_CLOSE = "Invalid current STEP state to close."
_STEP_RETRY = "Invalid current STEP state to re-attempt."
_CONTEXT_START = "Cannot start a CONTEXT that already exist."
_CONTEXT_CLOSE = "Invalid current CONTEXT state to close."
_WAIT_START = "Cannot start a WAIT that already exist."
_WAIT_CANCEL = "Cannot cancel a WAIT that does not exist or has already completed."
_CALLBACK_START = "Cannot start a CALLBACK that already exist."
_INVOKE_START = "Cannot start a CHAINED_INVOKE operation that already exists."

BY_UPDATE: dict[OperationType, dict[OperationAction, Transition]] = {
    OperationType.CONTEXT: {
        _START: Transition(_NEW, _STARTED, _CONTEXT_START),
        _SUCCEED: Transition(_OPEN_CONTEXT, _SUCCEEDED, _CONTEXT_CLOSE),
        _FAIL: Transition(_OPEN_CONTEXT, _FAILED, _CONTEXT_CLOSE),
    },
    OperationType.STEP: {
        _START: Transition(frozenset({None, _READY}), _STARTED, _STEP_START),
        _SUCCEED: Transition(_OPEN_STEP, _SUCCEEDED, _STEP_CLOSE),
        _FAIL: Transition(_OPEN_STEP, _FAILED, _STEP_CLOSE),
        OperationAction.RETRY: Transition(_OPEN_STEP, _PENDING, _STEP_RETRY, "step_options"),
    },
    OperationType.WAIT: {
        _START: Transition(_NEW, _STARTED, _WAIT_START, "wait_options"),
        OperationAction.CANCEL: Transition(frozenset({_STARTED}), _CANCELLED, _WAIT_CANCEL),
    },
    OperationType.CALLBACK: {_START: Transition(_NEW, _STARTED, _CALLBACK_START)},
    OperationType.CHAINED_INVOKE: {_START: Transition(_NEW, _STARTED, _INVOKE_START, "chained_invoke_options")},
    OperationType.EXECUTION: {},
}
"""What updates do to operations; an EXECUTION update changes none."""

_LACKING = {
    "step_options": "Invalid StepOptions for the given action.",
    "wait_options": "Invalid WaitOptions for the given action.",
    "chained_invoke_options": "Update for CHAINED_INVOKE operation requires ChainedInvokeOptions.",
}

BY_TIME: dict[OperationType, OperationStatus] = {OperationType.WAIT: _SUCCEEDED, OperationType.STEP: _READY}
"""What time makes of a WAIT in STARTED and of a STEP in PENDING."""

BY_OUTCOME: dict[OperationType, frozenset[OperationStatus]] = {
    OperationType.CALLBACK: frozenset({_SUCCEEDED, _FAILED, _TIMED_OUT}),
    OperationType.CHAINED_INVOKE: frozenset({_SUCCEEDED, _FAILED, _TIMED_OUT, _STOPPED}),
}
"""How operations in STARTED are completed from outside."""


# ----------------------------------------------------------------------------------------------------- one update


def transition(operation: Operation | None, update: OperationUpdate) -> Transition | None:
    """The row of the table that an update goes by, or None where it is illegal in this state of its operation."""
    row = BY_UPDATE[update.operation_type].get(update.action)
    if row is None or (row.needs and getattr(update, row.needs) is None):
        return None
    if operation is None:
        return row if None in row.before else None
    return row if operation.operation_type is update.operation_type and operation.status in row.before else None


# ------------------------------------------------------------------------------------------------------- a request


def validate(execution: Execution, updates: Sequence[OperationUpdate], *, payload_limit: int = PAYLOAD_LIMIT) -> None:
    """
    Refuse a batch that is not legal as a whole (protocol.md §8).

    What an update's function name means is not looked at here: only the service knows its account and its functions.

    Args:
        execution: The state that the first of the updates meets; not changed.
        updates: In the order of the request.
        payload_limit: UTF-8 bytes allowed for one operation's payload.

    Raises:
        InvalidParameterValueError: With the service's text.
        StaleTokenError: The execution has ended.
    """
    if execution.status in ENDED_STATUSES:
        raise StaleTokenError
    refusal = _Request(execution, payload_limit).refusal(updates)
    if refusal is not None:
        raise InvalidParameterValueError(refusal)


class _Request:
    """One batch being checked: the state it meets, and what its earlier updates make of that."""

    def __init__(self, execution: Execution, payload_limit: int) -> None:
        self._execution = execution
        self._payload_limit = payload_limit
        self._standing: dict[str, _Standing] = {}

    def refusal(self, updates: Sequence[OperationUpdate]) -> str | None:
        """The first complaint, those about the batch as a whole before those about one update."""
        return self._about_batch(updates) or next(filter(None, map(self._about_update, updates)), None)

    def _about_batch(self, updates: Sequence[OperationUpdate]) -> str | None:
        outcomes = sum(update.operation_type is OperationType.EXECUTION for update in updates)
        if self._execution.outcome is not None:
            outcomes += 1
        if outcomes > 1:
            return "Cannot checkpoint multiple EXECUTION updates."
        if outcomes and updates and updates[-1].operation_type is not OperationType.EXECUTION:
            return "EXECUTION checkpoint must be the last update."
        earlier: dict[str, OperationUpdate] = {}
        for update in updates:
            before = earlier.get(update.operation_id)
            if before is not None and not _may_follow(before, update):
                return "Cannot checkpoint multiple operations with the same ID."
            if update.parent_id is not None and not self._is_context(update.parent_id, earlier):
                return "Invalid parent operation id."
            earlier[update.operation_id] = update
        return None

    def _is_context(self, id: str, earlier: Mapping[str, OperationUpdate]) -> bool:
        named = earlier.get(id) or self._execution.operations.get(id)
        return named is not None and named.operation_type is OperationType.CONTEXT

    def _about_update(self, update: OperationUpdate) -> str | None:
        standing = self._standing.get(update.operation_id)
        if standing is None:
            operation = self._execution.operations.get(update.operation_id)
            standing = None if operation is None else _Standing(operation, operation.status)
        refusal = (
            malformed(update)
            or (standing and _inconsistent(standing.identity, update))
            or self._too_large(update)
            or _illegal(standing.status if standing else None, update)
        )
        if refusal is None and update.operation_type is not OperationType.EXECUTION:
            after = BY_UPDATE[update.operation_type][update.action].after
            self._standing[update.operation_id] = _Standing(standing.identity if standing else update, after)
        return refusal

    def _too_large(self, update: OperationUpdate) -> str | None:
        if update.error is not None and _error_exceeds(update.error, ERROR_LIMIT):
            return f"Error object size must be less than {ERROR_LIMIT} bytes."
        if update.payload is None:
            return None
        what, limit = f"{update.operation_type.value} output", self._payload_limit
        if update.operation_type is OperationType.CHAINED_INVOKE:
            what, limit = "CHAINED_INVOKE input", CHILD_LIMIT
        elif update.operation_type is OperationType.EXECUTION:
            what, limit = "Execution output", CHILD_LIMIT if self._execution.parent else RESULT_LIMIT
        if _exceeds(update.payload, limit):
            return f"{what} payload size must be less than or equal to {limit} bytes."
        return None


@attrs.frozen
class _Standing:
    """An operation as the next update of a request meets it."""

    identity: Operation | OperationUpdate
    status: OperationStatus


def _may_follow(before: OperationUpdate, update: OperationUpdate) -> bool:
    return (
        before.operation_type in (OperationType.STEP, OperationType.CONTEXT)
        and before.action is OperationAction.START
        and update.action is not OperationAction.START
    )


def _inconsistent(identity: Operation | OperationUpdate, update: OperationUpdate) -> str | None:
    if update.operation_type is not identity.operation_type:
        return "Inconsistent operation type."
    if update.sub_type is not None and update.sub_type != identity.sub_type:
        return "Inconsistent operation subtype."
    if update.name is not None and update.name != identity.name:
        return "Inconsistent operation name."
    if update.parent_id is not None and update.parent_id != identity.parent_id:
        return "Inconsistent parent operation id."
    return None


def _illegal(status: OperationStatus | None, update: OperationUpdate) -> str | None:
    if update.operation_type is OperationType.EXECUTION:
        if update.action not in (_SUCCEED, _FAIL):
            return "Invalid action for the given operation type."
        return _misplaced(update)
    row = BY_UPDATE[update.operation_type].get(update.action)
    if row is None:
        return "Invalid action for the given operation type."
    if status not in row.before:
        return row.refusal
    if row.needs and getattr(update, row.needs) is None:
        return _LACKING[row.needs]
    return _misplaced(update)


def _misplaced(update: OperationUpdate) -> str | None:
    if update.action is _FAIL and update.payload is not None:
        return "Cannot provide a Payload for FAIL action."
    if update.action is _SUCCEED and update.error is not None:
        return "Cannot provide an Error for SUCCEED action."
    if update.action is OperationAction.RETRY and update.error is not None and update.payload is not None:
        return "Cannot provide both error and payload to RETRY a STEP."
    return None


# -------------------------------------------------------------------------------------- shapes and sizes (§§2, 5)

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NAME = re.compile(r"[\x20-\x7e]{1,256}")
_SUB_TYPE = re.compile(r"[A-Za-z0-9_-]{1,32}")
_TENANT_ID = re.compile(r"[A-Za-z0-9._:/=+\-@ ]{1,256}")


def malformed(update: OperationUpdate) -> str | None:
    """The complaint about an update whose members are not what protocol.md §2 allows, or None."""
    if not _ID.fullmatch(update.operation_id):
        return f"Id must be 1 to 64 characters matching [A-Za-z0-9_-]+, not {update.operation_id!r}."
    if update.parent_id is not None and not _ID.fullmatch(update.parent_id):
        return f"ParentId must be 1 to 64 characters matching [A-Za-z0-9_-]+, not {update.parent_id!r}."
    if update.name is not None and not _NAME.fullmatch(update.name):
        return f"Name must be 1 to 256 printable ASCII characters, not {update.name!r}."
    if update.sub_type is not None and not _SUB_TYPE.fullmatch(update.sub_type):
        return f"SubType must be 1 to 32 characters matching [A-Za-z0-9_-]+, not {update.sub_type!r}."
    return _out_of_range(update)


def _out_of_range(update: OperationUpdate) -> str | None:
    if update.step_options is not None:
        return _not_within(
            "NextAttemptDelaySeconds", update.step_options.next_attempt_delay_seconds, 1, LONGEST_SECONDS
        )
    if update.wait_options is not None:
        return _not_within("WaitSeconds", update.wait_options.wait_seconds, 1, LONGEST_SECONDS)
    if (callback := update.callback_options) is not None:
        return _not_within("TimeoutSeconds", callback.timeout_seconds, 0, LONGEST_CALLBACK) or _not_within(
            "HeartbeatTimeoutSeconds", callback.heartbeat_timeout_seconds, 0, LONGEST_CALLBACK
        )
    invoke = update.chained_invoke_options
    if invoke is not None and invoke.tenant_id is not None and not _TENANT_ID.fullmatch(invoke.tenant_id):
        return "TenantId must be 1 to 256 characters matching [a-zA-Z0-9._:/=+-@ ]."
    return None


def _not_within(name: str, value: int, least: int, most: int) -> str | None:
    return None if least <= value <= most else f"{name} must be between {least} and {most}, not {value}."


def _exceeds(text: str, limit: int) -> bool:
    # Most payloads are short: a character takes at most four bytes.
    return len(text) * 4 > limit and len(text.encode("utf-8", "surrogatepass")) > limit


def _error_exceeds(error: ErrorObject, limit: int) -> bool:
    fields = (error.message, error.type, error.data, *(error.stack_trace or ()))
    return _exceeds("".join(filter(None, fields)), limit)
