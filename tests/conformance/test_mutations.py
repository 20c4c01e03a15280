"""A store that lacks one rule fails the script that is about it; the kit does not leave that to chance."""

import attrs
import pytest

from perdure.storage import OpenInvocation
from perdure.testing.clock import VirtualClock
from perdure.testing.conformance import Subject, scripts
from perdure.testing.memory import MemoryStore


class WithoutToken(MemoryStore):
    """Anybody's commit counts as the owner's."""

    def _shows_token(self, header, commit):
        return True


class SeenIgnored(MemoryStore):
    """What an owner had not seen when it suspended is forgotten."""

    def _unseen(self, header, commit):
        return False


class SequenceForgotten(MemoryStore):
    """A repeated commit is one out of sequence."""

    def _is_repeat(self, header, commit):
        return False


class RepeatedAgain(MemoryStore):
    """A repeated commit is appended once more."""

    def _is_repeat(self, header, commit):
        return False

    def _may_follow(self, record, commit):
        repeated = attrs.evolve(commit, seq=record.header.seq + 1)
        return super()._may_follow(record, repeated) if commit.seq == record.header.seq else True


class SequencePerOwner(MemoryStore):
    """Each claim begins to count anew."""

    def _taken(self, header, owner, token, now):
        return super()._taken(header, owner, token, now) | {"seq": 0}


class ClaimNumberReusable(MemoryStore):
    """A claim takes whenever it arrives."""

    def _is_spent(self, lease, number):
        return False


class LeaseNotExtended(MemoryStore):
    """A claim leaves the lease as it is."""

    def _extend_lease(self, owner, now):
        lease = self._leases.get(owner)
        return None if lease is None or lease.reaped else lease


class ReapedReturns(MemoryStore):
    """A reaped owner may go on."""

    def _extend_lease(self, owner, now):
        return self._leases.get(owner)


class SettledAllAtOnce(MemoryStore):
    """Settling some effects settles all."""

    async def settle(self, id, through, tip, epoch):
        header = self._shelf.records[id].header
        return await super().settle(id, header.length, header.tip, epoch)


class EffectsNeedAnOwner(MemoryStore):
    """Only what somebody owns has effects."""

    async def unsettled(self, limit, shard=0):
        answer = await super().unsettled(limit, shard)
        return attrs.evolve(answer, headers=tuple(header for header in answer.headers if header.owner is not None))


class WithoutTombstones(MemoryStore):
    """A purged execution was never there."""

    def _bury(self, id, now):
        pass


class NonceForgotten(MemoryStore):
    """A repeated delivery is a second one."""

    def _is_delivered(self, pending, nonce):
        return False


class KeysForgotten(MemoryStore):
    """A repeated signal is a second one."""

    def _is_known(self, record, key):
        return False


class HeartbeatIgnored(MemoryStore):
    """An await times out at the deadline that its journal knows of."""

    async def heartbeat(self, await_id, secret):
        found = self._shelf.find_await(await_id, secret)
        before = attrs.evolve(found[1])
        answer = await super().heartbeat(await_id, secret)
        found[1].heartbeat_due = before.heartbeat_due
        self._shelf.save_await(*found)
        return answer


class OpenInvocationOverwritten(MemoryStore):
    """A claim forgets the invocation that somebody else left open."""

    def _taken(self, header, owner, token, now):
        return super()._taken(header, owner, token, now) | {"invocation": OpenInvocation(token, now)}


class ReleaseClosesAnyInvocation(MemoryStore):
    """A release without an entry forgets the invocation that somebody else left open."""

    def _suspended(self, header, commit, at, wake):
        return super()._suspended(header, commit, at, wake) | {"invocation": None}


class ReleaseResetsCrashes(MemoryStore):
    """A release without an entry counts as a clean end."""

    def _suspended(self, header, commit, at, wake):
        changes = super()._suspended(header, commit, at, wake)
        return changes | {"crashes": 0} if commit.then.clean else changes


class TipIgnored(MemoryStore):
    """Whoever knows the length knows the journal."""

    def _may_follow(self, record, commit):
        tip = record.tip(commit.seen)
        return tip is not None and super()._may_follow(record, attrs.evolve(commit, tip=tip))


MUTATIONS = [
    (WithoutToken, scripts.commit_of_a_former_owner),
    (SeenIgnored, scripts.delivery_before_the_suspend),
    (SequenceForgotten, scripts.lost_reply_of_a_commit),
    (RepeatedAgain, scripts.lost_reply_of_a_commit),
    (SequencePerOwner, scripts.sequence_of_the_next_owner),
    (ClaimNumberReusable, scripts.late_duplicate_of_a_claim),
    (LeaseNotExtended, scripts.claim_just_before_the_lease_ends),
    (ReapedReturns, scripts.claim_of_a_reaped_owner),
    (SettledAllAtOnce, scripts.effect_while_carrying_out),
    (EffectsNeedAnOwner, scripts.stop_of_a_child),
    (WithoutTombstones, scripts.late_duplicate_of_a_create),
    (NonceForgotten, scripts.lost_reply_of_a_delivery),
    (KeysForgotten, scripts.late_duplicate_of_a_pause),
    (HeartbeatIgnored, scripts.heartbeats_of_a_sleeping_execution),
    (OpenInvocationOverwritten, scripts.crash_before_the_first_commit),
    (ReleaseClosesAnyInvocation, scripts.crash_before_the_first_commit),
    (ReleaseResetsCrashes, scripts.release_after_a_crash),
    (TipIgnored, scripts.commit_on_another_history),
]


def play(store_type, script):
    clock = VirtualClock()
    store = store_type(clock)
    Subject(open=lambda: store, advance=clock.advance).play(script)


@pytest.mark.parametrize(("mutant", "script"), MUTATIONS, ids=lambda value: value.__name__)
def test_caught(mutant, script):
    """The script passes on the intact store, and fails an assertion on the mutant."""
    play(MemoryStore, script)
    with pytest.raises(AssertionError):
        play(mutant, script)
