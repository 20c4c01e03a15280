"""What the callers of a store know to have happened, and what follows for its journals and headers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from perdure.storage import Tip
from perdure.testing.conformance.program import SECOND, Model

if TYPE_CHECKING:
    from perdure.storage import Header, Row
    from perdure.testing.conformance.twin import Twin


@attrs.define
class Ledger:
    """
    The callers' knowledge.

    Attributes:
        accepted: The tips of rows whose commit was answered, by execution and index.
        begun: Tokens under which handlers were invoked, by execution.
        delivered: Nonces that awaits were completed with.
        heartbeats: When an await was last kept alive, and for how long (µs).
    """

    accepted: dict[tuple[str, int], Tip] = attrs.field(factory=dict)
    begun: dict[str, list[str]] = attrs.field(factory=dict)
    delivered: dict[str, str] = attrs.field(factory=dict)
    heartbeats: dict[str, tuple[int, int]] = attrs.field(factory=dict)
    _models: dict[str, Model] = attrs.field(factory=dict)
    _first_tags: dict[str, str] = attrs.field(factory=dict)

    def model(self, id: str) -> Model:
        """The fold of a journal as of the last check."""
        return self._models[id]

    def awaits(self, await_id: str) -> bool:
        """Whether, as of the last check, an operation waits to be completed from outside."""
        id, _, operation = await_id.partition("/")
        model = self._models.get(id)
        return model is not None and operation in model.operations and not model.operations[operation].is_done

    def check(self, twin: Twin) -> None:
        """Nothing that was accepted is lost, nothing is doubled, and nobody waits for ever."""
        self._models = {id: self._models.get(id, Model()) for id in twin.headers}
        for id, header in twin.headers.items():
            model, rows = self._models[id], twin.journals[id]
            for row in rows[model.length :]:
                model.apply(row)
            assert (model.length, model.status) == (header.length, header.status), (model, header)
            assert self._first_tags.setdefault(id, rows[0].tag) == rows[0].tag, f"{id} was started twice"
            assert len({row.tag for row in rows}) == len(rows), f"{id} has a row twice"
            self._check_invocations(header, model)
            self._check_wakes(header, model, twin.now)
            self._check_awaits(header, model, rows)
            if any(effect.index > header.settled for effect in model.effects):
                assert header.effect_due is not None, f"an effect is lost: {header}"
        for (id, index), tip in self.accepted.items():
            if id in twin.journals:
                row = twin.journals[id][index - 1]
                assert Tip(row.at, row.tag) == tip, f"row {index} of {id} was accepted as {tip} and is {row}"

    def _check_invocations(self, header: Header, model: Model) -> None:
        assert len(set(model.completed)) == len(model.completed), f"an invocation ended twice: {model.completed}"
        if header.status.is_end:
            return
        current = header.invocation.id if header.invocation else None
        for token in self.begun.get(header.id, ()):
            assert token in model.completed or token == current, f"invocation {token} is lost: {header}"
        assert header.crashes == model.crashes, f"crashes are counted wrongly, expected {model.crashes}: {header}"
        if header.timeout is not None:
            assert (header.deadline is None) == (header.left is not None), f"the timeout is lost: {header}"

    def _check_wakes(self, header: Header, model: Model, now: int) -> None:
        held = header.owner is not None or header.paused or header.quarantined or header.status.is_end
        if held:
            return
        latest = max(now, header.tip.at, model.backoff_until)
        if model.news or header.invocation is not None or model.possible():
            assert header.wake is not None, f"a wake is lost: {header}"
            assert header.wake <= latest, f"a wake is late: {header}"
        due = model.next_due()
        if due is not None:
            assert header.wake is not None, f"a timer is lost: {header}"
            assert header.wake <= max(due, latest), f"a timer is late, expected {due}: {header}"

    def _check_awaits(self, header: Header, model: Model, rows: list[Row]) -> None:
        for operation in model.operations.values():
            await_id = f"{header.id}/{operation.id}"
            if nonce := self.delivered.get(await_id):
                assert (operation.status, operation.outcome) == ("SUCCEEDED", nonce), f"{await_id} was delivered"
            if operation.outcome == "Callback.Heartbeat" and await_id in self.heartbeats:
                beat, span = self.heartbeats[await_id]
                (at,) = [row.at for row in rows if row.operation == operation.id]
                assert at >= beat + span, f"{await_id} timed out {(at - beat) / SECOND} s after a heartbeat"
