"""What an application does within a transaction of its own database: it happens if, and when, that is committed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from perdure.errors import ExecutionConflictError
from perdure.journal.entry import Entry, Outcome
from perdure.nonce import nonce
from perdure.portal import store_portal
from perdure.service.callback_id import CallbackId
from perdure.service.request import failure, success
from perdure.service.service import check_delivery, draft_of
from perdure.storage import Created, Exists

if TYPE_CHECKING:
    from perdure.model import ErrorObject
    from perdure.service.service import Plan, Service, Start
    from perdure.transaction import Within


@attrs.frozen
class Participation:
    """
    The service within one transaction.

    Its methods are awaited by whoever has the connection, and not on the store's loop. Nothing is repeated: what the
    database says is said to the caller, whose transaction may be good for nothing more.
    """

    service: Service
    within: Within

    async def start(self, plan: Plan) -> Start:
        """
        Begin an execution, or find the one of that name that was begun with the same input.

        Raises:
            ExecutionAlreadyStartedError: The name is taken by one with another input.
            ExecutionConflictError: It is taken by one that is waiting to be removed.
        """
        answer = await self.within.create(plan.new)
        if isinstance(answer, Created):
            # Too early if the caller takes its time, and for nothing if it rolls back: a look costs little.
            store_portal().post(self.service.agenda.expect_end, answer.header)
        if isinstance(answer, (Created, Exists)):
            return plan.begun(answer)
        raise ExecutionConflictError(
            f"the name {plan.new.name!r} belongs to an execution of {plan.new.function!r} whose retention is over, and "
            "which cannot be removed within another transaction; call purge() first, or choose another name"
        )

    async def succeed_callback(self, callback_id: str, result: str | None) -> None:
        """As `Service.succeed_callback`."""
        await self._complete(callback_id, success(result))

    async def fail_callback(self, callback_id: str, error: ErrorObject | None) -> None:
        """As `Service.fail_callback`."""
        await self._complete(callback_id, failure(error))

    async def _complete(self, callback_id: str, outcome: Outcome) -> None:
        callback = CallbackId.parse(callback_id)
        draft, key = draft_of(Entry(outcome=outcome)), nonce()
        check_delivery(callback, await self.within.deliver(callback.await_id, callback.secret, draft, key))
