"""What passed through the endpoint, by execution: invocations of the handler and the requests it made."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.official.runtime_api import Outcome

Update = dict[str, Any]


@attrs.frozen
class Checkpoint:
    """A checkpoint request and the status of its reply."""

    updates: tuple[Update, ...]
    client_token: str | None
    status: int
    instant: float

    @property
    def accepted(self) -> bool:
        return self.status < 400


@attrs.define
class Trail:
    """What was seen of one execution so far."""

    outcomes: list[Outcome] = attrs.field(factory=list)
    """The invocations of its handler that have ended."""
    checkpoints: list[Checkpoint] = attrs.field(factory=list)
    pages: int = 0
    """Requests for pages of its state."""

    def updates(self) -> dict[str, list[Update]]:
        """What the service took, by operation; a request that was repeated counts once."""
        found: dict[str, list[Update]] = defaultdict(list)
        for update, _ in self.taken():
            found[update["Id"]].append(update)
        return found

    def taken(self) -> Iterator[tuple[Update, float]]:
        """The same in order, each with when the service said so."""
        seen: set[str] = set()
        for one in self.checkpoints:
            if one.accepted and one.client_token not in seen:
                seen.update({one.client_token} if one.client_token else ())
                yield from ((update, one.instant) for update in one.updates)


class Trails:
    """The trails of all executions; what is asked for is a copy."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._trails: dict[str, Trail] = defaultdict(Trail)

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            return iter(list(self._trails))

    def __getitem__(self, execution_arn: str) -> Trail:
        with self._lock:
            trail = self._trails[execution_arn]
            return Trail(list(trail.outcomes), list(trail.checkpoints), trail.pages)

    def saw_outcome(self, execution_arn: str, outcome: Outcome) -> None:
        with self._lock:
            self._trails[execution_arn].outcomes.append(outcome)

    def saw_checkpoint(self, execution_arn: str, checkpoint: Checkpoint) -> None:
        with self._lock:
            self._trails[execution_arn].checkpoints.append(checkpoint)

    def saw_page(self, execution_arn: str) -> None:
        with self._lock:
            self._trails[execution_arn].pages += 1
