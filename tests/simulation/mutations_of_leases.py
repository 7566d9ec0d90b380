"""Seeded bugs of leases, and of prepares with floors, for the exhaustive walk; see `mutations`."""

from __future__ import annotations

import msgspec

from ray_paxos.core import acceptor as acceptor_module
from ray_paxos.core.acceptor import Acceptor
from ray_paxos.core.heartbeat import HeartbeatRounds
from ray_paxos.core.lease import LeaseGrants, LeaseView
from ray_paxos.core.messages import Promise
from ray_paxos.core.phase_one import PhaseOne
from ray_paxos.testing.exhaustive import roles


def say_no_vote_below_the_floor(patch):
    """An acceptor whose votes are gone promises as if there had never been any."""
    reply = Acceptor._reply

    def reply_without_floor(self, envelope, message, effects):
        if isinstance(message, Promise):
            message = msgspec.structs.replace(message, floor=1)
        reply(self, envelope, message, effects)

    patch.setattr(Acceptor, "_reply", reply_without_floor)


def propose_without_learning(patch):
    """A new master does not learn up to the highest floor before it proposes."""
    patch.setattr(PhaseOne, "floor", property(lambda self: 1))


def promise_below_the_promise(patch):
    """An acceptor promises whoever asks, also below what it has promised."""
    refusal = Acceptor._refusal

    def refusal_without_promise(self, envelope, ballot, instance_id, votes):
        promise, votes.promise = votes.promise, None
        reason = refusal(self, envelope, ballot, instance_id, votes)
        votes.promise = promise
        return reason

    patch.setattr(Acceptor, "_refusal", refusal_without_promise)


def raise_no_incarnation(patch):
    """A proposer's incarnation is not raised over a restart."""
    patch.setattr(roles, "next_incarnation", lambda incarnation: incarnation)


def count_the_lease_from_the_reply(patch):
    """A lease runs from when the last round was sent, whichever round the reply confirms."""
    count = HeartbeatRounds.count

    def count_from_the_latest(self, sequence, replica_id):
        latest = self._sent_ns.get(self.sequence)
        further = count(self, sequence, replica_id)
        if further and latest is not None:
            self.confirmed_ns = latest
        return further

    patch.setattr(HeartbeatRounds, "count", count_from_the_latest)


def forget_the_drift(patch):
    """A granter keeps its word for no longer than it was asked to, by its own clock."""
    patch.setattr(acceptor_module, "held_ms", lambda lease_ms, drift_ppm: lease_ms)


def forget_grants_over_a_restart(patch):
    """An acceptor that starts again promises at once whatever it is asked."""
    patch.setattr(LeaseGrants, "opened", lambda self, now_ns, longest_ms: None)


def grant_without_barring(patch):
    """A grant keeps nobody else from being promised."""
    patch.setattr(LeaseGrants, "bars_promise_ns", lambda self, member_id, now_ns: 0)


def release_whatever_is_granted(patch):
    """A release frees the acceptor of a later grant of that member, too."""

    def release(self, ballot):
        if self._grant is not None and self._grant.ballot.member_id == ballot.member_id:
            self._grant = None

    patch.setattr(LeaseGrants, "release", release)


def forget_revocations(patch):
    """A learner drops the notice that is revoked, and believes the next late one."""

    def revoke(self, ballot):
        self.revoked = ballot
        if self._notice is not None and self._notice.ballot <= ballot:
            self._notice = None

    def noticed(self, notice, proposer_incarnation, learner_incarnation):
        self._notice = notice

    patch.setattr(LeaseView, "revoke", revoke)
    patch.setattr(LeaseView, "noticed", noticed)
