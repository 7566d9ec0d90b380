"""Seeded bugs of leases, handovers, elections and reads; see `mutations`."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from ray_paxos.core.acceptor import Acceptor
from ray_paxos.core.acceptor_state import AcceptorState
from ray_paxos.core.authority import Authority
from ray_paxos.core.candidacy import Candidacy
from ray_paxos.core.client_messages import ReadIndexConfirmed
from ray_paxos.core.effects import Send
from ray_paxos.core.learner_reads import LearnerReads
from ray_paxos.core.lease import LeaseGrants, LeaseView, held_ms
from ray_paxos.core.messages import Heartbeat, HeartbeatConfirmed, LeaseNotice, NackReason
from ray_paxos.core.read_rounds import PendingRead, ReadRounds
from ray_paxos.core.records import LeaseLengthened
from ray_paxos.core.reign import Reign
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.core.succession import Succession

# The holder.


def trust_the_lease_from_the_arrival(patch):
    """A lease runs from when the reply came, not from when it was asked for."""
    count = Authority.count

    def count_from_now(self, voter, sequence, now_ns, effects):
        confirmed = self._rounds.confirmed_sequence
        count(self, voter, sequence, now_ns, effects)
        if self._rounds.confirmed_sequence > confirmed:
            self._rounds.confirmed_ns = now_ns
            self.tell_lease(now_ns, effects)

    patch.setattr(Authority, "count", count_from_now)


def echo_the_last_send(patch):
    """A vote confirms the newest round, not the one that its accept named."""
    on_accepted = Reign.on_accepted

    def on_accepted_newest(self, voter, accepted, now_ns, effects):
        if accepted.sequence:
            accepted = msgspec.structs.replace(accepted, sequence=self.authority.sequence)
        on_accepted(self, voter, accepted, now_ns, effects)

    patch.setattr(Reign, "on_accepted", on_accepted_newest)


def tell_no_instance(patch):
    """A lease notice does not say what reads have to see."""

    def notice(ballot, learner_incarnation, until_ns, chosen_through):
        return LeaseNotice(ballot, learner_incarnation, until_ns, 0)

    patch.setattr("ray_paxos.core.authority.LeaseNotice", notice)


# The granters.


def forget_the_lease_over_a_restart(patch):
    """An acceptor that restarts promises at once."""
    patch.setattr(LeaseGrants, "opened", lambda self, now_ns, longest_ms: None)


def keep_the_last_length_only(patch):
    """A restart waits for the length that was granted last, not for the longest."""
    apply = AcceptorState.apply

    def apply_last(self, record):
        if isinstance(record, LeaseLengthened):
            self.groups[record.group].longest_lease_ms = record.held_ms
        else:
            apply(self, record)

    def grant_forgetful(self, group, ballot, lease_ms, votes, now_ns, effects):
        length_ms = held_ms(lease_ms, self._settings.clock_drift_ppm)
        if length_ms != votes.longest_lease_ms:
            self._emit(LeaseLengthened(group, length_ms), effects)
        self._grants(group).grant(ballot, now_ns + length_ms * MILLISECOND_NS)

    patch.setattr(AcceptorState, "apply", apply_last)
    patch.setattr(Acceptor, "_grant", grant_forgetful)


def leave_no_margin_for_drift(patch):
    """A granter keeps its word for just as long as the holder asked."""
    patch.setattr("ray_paxos.core.acceptor.held_ms", lambda lease_ms, clock_drift_ppm: lease_ms)


def grant_below_the_promise(patch):
    """A heartbeat is confirmed whatever was promised to others meanwhile."""
    refusal = Acceptor._refusal

    def lenient(self, envelope, ballot, instance_id, votes):
        reason = refusal(self, envelope, ballot, instance_id, votes)
        is_beat = isinstance(envelope.message, Heartbeat)
        return None if is_beat and reason is NackReason.PROMISED else reason

    patch.setattr(Acceptor, "_refusal", lenient)


def promise_in_spite_of_a_lease(patch):
    """A grant bars nothing."""
    patch.setattr(LeaseGrants, "bars_promise_ns", lambda self, member_id, now_ns: 0)


def release_without_a_ballot(patch):
    """A release frees whatever that member was granted, in a later reign, too."""

    def release(self, ballot):
        grant = self._grant
        if grant is not None and grant.ballot.member_id == ballot.member_id:
            self._grant = None

    patch.setattr(LeaseGrants, "release", release)


# The learner.


def trust_a_notice_for_ever(patch):
    """A learner does not look at the clock."""
    read_point = LeaseView.read_point
    patch.setattr(
        LeaseView,
        "read_point",
        lambda self, now_ns, config, ballot: read_point(self, 0, config, ballot),
    )


def take_a_notice_for_another_life(patch):
    """A notice is not bound to the learner's life."""
    noticed = LeaseView.noticed

    def noticed_any(self, notice, proposer_incarnation, learner_incarnation):
        noticed(self, notice, proposer_incarnation, self._incarnation)

    patch.setattr(LeaseView, "noticed", noticed_any)


def take_a_notice_of_an_earlier_life(patch):
    """A notice is not bound to the proposer's life, nor void once a later ballot is learned.

    Either defence would do alone: a new life serves only once its learner has learned its record.
    """
    noticed, read_point = LeaseView.noticed, LeaseView.read_point

    def noticed_any(self, notice, proposer_incarnation, learner_incarnation):
        noticed(self, notice, self.proposer_incarnation, learner_incarnation)

    def heard(self, proposer_incarnation):
        self.proposer_incarnation = max(self.proposer_incarnation, proposer_incarnation)

    patch.setattr(LeaseView, "noticed", noticed_any)
    patch.setattr(LeaseView, "heard", heard)
    patch.setattr(
        LeaseView,
        "read_point",
        lambda self, now_ns, config_id, learned: read_point(self, now_ns, config_id, None),
    )


def keep_a_revoked_notice(patch):
    """A revocation is acknowledged, and the notice goes on to be believed."""

    def revoke(self, ballot):
        self.revoked = ballot if self.revoked is None else max(self.revoked, ballot)

    patch.setattr(LeaseView, "revoke", revoke)


def take_a_notice_after_its_revocation(patch):
    """A revocation voids the notice that is there, and not one that comes late."""
    noticed = LeaseView.noticed

    def noticed_late(self, notice, proposer_incarnation, learner_incarnation):
        revoked, self.revoked = self.revoked, None
        noticed(self, notice, proposer_incarnation, learner_incarnation)
        self.revoked = revoked

    patch.setattr(LeaseView, "noticed", noticed_late)


def take_a_notice_of_an_old_configuration(patch):
    """A notice is not bound to the configuration that its grants were counted under."""
    read_point = LeaseView.read_point

    def read_point_any(self, now_ns, config_id, learned):
        notice = self._notice
        return read_point(self, now_ns, notice.config_id if notice else config_id, learned)

    patch.setattr(LeaseView, "read_point", read_point_any)


# Handing over.


def release_before_the_learner_knows(patch):
    """A master releases its lease while its learner may still believe in it."""
    go_on = Succession.go_on

    def go_on_at_once(self, *, is_revoked, **progress):
        return go_on(self, is_revoked=True, **progress)

    patch.setattr(Succession, "go_on", go_on_at_once)


def resume_at_a_released_ballot(patch):
    """A master that has released its lease goes on at its ballot, in case nobody takes over."""
    go_on = Reign._go_on_with_orders

    def hand_over_and_resume(self, now_ns, effects):
        if go_on(self, now_ns, effects):
            self.succession.handover, self.succession.is_released = None, False
            self.authority.is_ending, self.authority.noticed_until_ns = False, 0
        return ""

    patch.setattr(Reign, "_go_on_with_orders", hand_over_and_resume)


# Reads.


def confirm_an_index_without_a_round(patch):
    """A master answers a linearizable read without asking anybody, lease or not."""
    patch.setattr(ReadRounds, "needs_round_after", lambda self, sequence: False)
    on_read_index = Authority.on_read_index

    def on_read_index_at_once(self, client, request_id, now_ns, effects):
        on_read_index(self, client, request_id, now_ns, effects)
        for read in self._reads.drain():
            confirmed = ReadIndexConfirmed(read.request_id, read.index, self._seat.ballot)
            self._seat.send(read.client, confirmed, effects)

    patch.setattr(Authority, "on_read_index", on_read_index_at_once)


def share_a_round_already_sent(patch):
    """A read counts a round that was on its way when it came."""

    def pending_earlier(client, request_id, index, sequence):
        return PendingRead(client, request_id, index, sequence - 1)

    patch.setattr("ray_paxos.core.authority.PendingRead", pending_earlier)


def read_below_the_own_master_record(patch):
    """A new master gives an index before it has applied its own record."""
    _with_an_early_index(patch, "on_read_index")


def tell_what_was_heard_before_serving(patch):
    """A master's heartbeats vouch for a follower's freshness before it serves."""
    _with_an_early_index(patch, "beat")


def _with_an_early_index(patch, method):
    """In this method a master that does not serve yet takes what it knows for all there is."""
    usual = getattr(Authority, method)

    def early(self, *arguments):
        usual_position = self._position

        def position():
            found = usual_position()
            return replace(found, read_index=found.chosen_through)

        self._position = position
        usual(self, *arguments)
        self._position = usual_position

    patch.setattr(Authority, method, early)


def count_unconfirmed_rounds_as_fresh(patch):
    """A follower believes what a master told it, whether or not a quorum confirmed the round."""
    on_heartbeat = LearnerReads.on_heartbeat

    def on_heartbeat_trusting(self, heartbeat, applied_through):
        trusted = msgspec.structs.replace(heartbeat, confirmed_sequence=heartbeat.sequence)
        on_heartbeat(self, trusted, applied_through)

    patch.setattr(LearnerReads, "on_heartbeat", on_heartbeat_trusting)


# Elections.


def count_a_pre_vote_twice(patch):
    """A second pre-vote of one voter counts as another voter's."""
    on_pre_vote = Candidacy.on_pre_vote

    def on_pre_vote_again(self, voter, granted, now_ns, effects):
        pre_votes = self._pre_votes
        if pre_votes is not None and granted.ballot == pre_votes.ballot:
            pre_votes.granted.add(voter.replica_id + 1_000 * (1 + len(pre_votes.granted)))
        return on_pre_vote(self, voter, granted, now_ns, effects)

    patch.setattr(Candidacy, "on_pre_vote", on_pre_vote_again)


def stand_without_a_pre_vote(patch):
    """A proposer prepares without asking whether anybody wants it to."""
    begin = Candidacy.begin

    def begin_at_once(self, effects):
        self._pre_votes = None
        begin(self, effects)

    patch.setattr(Candidacy, "begin", begin_at_once)


def go_on_without_a_majority(patch):
    """A master whose rounds nobody confirms goes on."""
    patch.setattr(Authority, "missing", lambda self, now_ns: "")


def call_every_heartbeat_confirmed(patch):
    """A master tells others that it is confirmed, whether or not it is."""
    heartbeat = Authority._heartbeat

    def confident(self, sequence, confirmed, position):
        return heartbeat(self, sequence, True, position)

    patch.setattr(Authority, "_heartbeat", confident)
    patch.setattr(Authority, "missing", lambda self, now_ns: "")


def compare_logs_in_a_pre_vote(patch):
    """A pre-vote goes to nobody whose log is behind, as in Raft; here: to nobody else from those
    that have sealed more than the first few instances.
    """
    on_pre_vote = Acceptor._on_pre_vote

    def on_comparing_pre_vote(self, envelope, pre_vote, votes, now_ns, effects):
        if votes.floor > 4 and pre_vote.ballot.member_id != self._member_id:
            self._nack(envelope, pre_vote.ballot, 0, NackReason.PROMISED, votes, effects)
        else:
            on_pre_vote(self, envelope, pre_vote, votes, now_ns, effects)

    patch.setattr(Acceptor, "_on_pre_vote", on_comparing_pre_vote)


def confirm_without_the_disk(patch):
    """A heartbeat is confirmed by a thread that does not touch the disk."""

    def reply(self, envelope, message, effects):
        send = Send(envelope.sender, envelope.group, message)
        is_confirmation = isinstance(message, HeartbeatConfirmed)
        (effects.sends_now if is_confirmation else effects.sends_after_sync).append(send)

    patch.setattr(Acceptor, "_reply", reply)
