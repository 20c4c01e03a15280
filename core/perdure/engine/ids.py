"""
Operation ids, and what a recorded operation must agree with.

An id depends only on the position in the code: the context and the order of calls in it (protocol.md §11, Python).
Names, time and threads have no part in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import attrs

from perdure.errors import NonDeterministicExecutionError, ValidationError
from perdure.model import OperationSubType, OperationType, OperationUpdate
from perdure.value import Value

if TYPE_CHECKING:
    from perdure.model import Operation, OperationAction


def operation_id(prefix: str | None, position: int | str) -> str:
    """
    The id of the operation at `position` of a context.

    Args:
        prefix: The context's own (hashed) id; None at top level.
        position: Counted from 1 in a context; the index, from 0, of a branch; a word for what a batch keeps itself.
    """
    import hashlib  # noqa: PLC0415 - it loads OpenSSL, which an author's import need not wait for

    raw = f"{prefix}-{position}" if prefix else str(position)
    return hashlib.blake2b(raw.encode()).hexdigest()[:64]


@attrs.frozen(eq=False, repr=False)
class Identity(Value):
    """
    Which operation the code asks for; replay compares it with the record at that id (protocol.md §10.4).

    Attributes:
        operation_id: Derived from the position.
        type, sub_type: What kind of operation.
        name: As given by the author; None and empty are the same.
        parent_id: The recorded context it stands in, None at top level.
        position: Its place among the operations of its context, or the index of a branch; for messages only.
    """

    operation_id: str
    type: OperationType
    sub_type: str
    name: str | None = None
    parent_id: str | None = None
    position: int | str = 0

    def __str__(self) -> str:
        return description(self.type, self.sub_type, self.name)

    def matches(self, record: Operation) -> bool:
        """Whether `record` is this operation's."""
        return (
            record.operation_type is self.type
            and record.sub_type == self.sub_type
            and (record.name or None) == (self.name or None)
            and (record.parent_id or None) == self.parent_id
        )

    def update(self, action: OperationAction, **members: Any) -> OperationUpdate:
        """An update of this operation; `members` are those of `OperationUpdate` that the action needs."""
        return OperationUpdate(
            operation_id=self.operation_id,
            operation_type=self.type,
            action=action,
            parent_id=self.parent_id,
            name=self.name or None,
            sub_type=self.sub_type,
            **members,
        )

    def refuse(self, record: Operation, execution: str) -> NoReturn:
        """
        Say whose record it is that does not match.

        Raises:
            NonDeterministicExecutionError: Naming what the code asked for and what the journal has.
        """
        asked = str(self)
        recorded = description(record.operation_type, record.sub_type, record.name)
        if asked == recorded:
            asked += f" in context {self.parent_id!r}"
            recorded += f" in context {record.parent_id!r}"
        message = (
            f"execution {execution!r} replayed {asked} at position {self.position}, "
            f"where its journal has {recorded}; deploy changed code as a new version"
        )
        raise NonDeterministicExecutionError(message, step_id=self.operation_id)


_WORDS = {
    OperationSubType.RUN_IN_CHILD_CONTEXT: "child context",
    OperationSubType.MAP_ITERATION: "map item",
    OperationSubType.PARALLEL_BRANCH: "parallel branch",
    OperationSubType.WAIT_FOR_CALLBACK: "wait_for_callback",
    OperationSubType.WAIT_FOR_CONDITION: "wait_for_condition",
    OperationSubType.CHAINED_INVOKE: "invoke",
}
_PLAIN = {str(each): _WORDS.get(each, each.value.lower()) for each in OperationSubType}


def description(operation_type: OperationType, sub_type: str | None, name: str | None) -> str:
    """An operation in an author's words: `step 'pay'`, `wait without a name`."""
    word = _PLAIN.get(sub_type or "") or f"{operation_type.value.lower()} of sub type {sub_type!r}"
    return named(word, name)


def named(word: str, name: str | None) -> str:
    """The same in the author's own word for it."""
    return f"{word} {name!r}" if name else f"{word} without a name"


def check_name(name: object) -> None:
    """Refuse what no operation can be called."""
    if name is not None and not isinstance(name, str):
        raise ValidationError(
            f"an operation's name is a text, not {name!r}; pass arguments by keyword, as in name=… and config=…"
        )


def operation_name(name: str | None, function: object) -> str | None:
    """The name of an operation: the one given, else that of a function made by `durable_step` and its like."""
    return name or getattr(function, "_original_name", None)
