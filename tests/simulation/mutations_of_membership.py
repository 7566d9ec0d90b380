"""Seeded bugs of changes of who has a group and who votes in it; see `mutations`."""

from __future__ import annotations

import dataclasses

import msgspec

from ray_paxos.core import acceptor as acceptor_module
from ray_paxos.core import membership, membership_change, reign
from ray_paxos.core.acceptor import Acceptor
from ray_paxos.core.acceptor_state import AcceptorState
from ray_paxos.core.companions import Companions
from ray_paxos.core.genesis import Configuration, Voter
from ray_paxos.core.learner import Learner
from ray_paxos.core.learner_messages import CatchUp, LearnerStatus
from ray_paxos.core.learner_state import LearnerState
from ray_paxos.core.member_roles import PartsKeeper
from ray_paxos.core.membership_change import MembershipChange
from ray_paxos.core.messages import NackReason, RemoveGroup, RoleName
from ray_paxos.core.parts import PartLeft, Parts
from ray_paxos.core.peers import Peers
from ray_paxos.core.phase_one import PhaseOne
from ray_paxos.core.proposer import Proposer
from ray_paxos.core.records import GroupCreated, GroupRemoved
from ray_paxos.core.vote_floor import VoteFloor
from ray_paxos.core.voting_part import VotingPart
from ray_paxos.storage import parts as storage_parts

# The proposer.


def skip_the_prepare_after_a_change(patch):
    """Who leads goes on at its ballot, under the new configuration (the parent's S4)."""
    lead_on = Proposer._lead_on

    def lead_on_unprepared(self, now_ns, effects):
        reign, status = self._led, self._status
        if not self._replica_id:
            lead_on(self, now_ns, effects)
            return
        self._redirect_all(reign.end(self._configuration, effects), effects)
        learned = status.learned_through
        phase_one = PhaseOne(reign.seat.ballot, learned + 1, self._configuration)
        self._lead(phase_one, status, learned, now_ns, effects)

    patch.setattr(Proposer, "_lead_on", lead_on_unprepared)


def count_by_the_old_voters(patch):
    """Under a new configuration a majority is still one of those that voted at the beginning."""
    take = Proposer._take_configuration

    def take_the_number(self, status, now_ns, effects):
        if status.configuration is not None:
            voters = self._spec.voters
            known = msgspec.structs.replace(status.configuration, voters=voters)
            status = msgspec.structs.replace(status, configuration=known)
        return take(self, status, now_ns, effects)

    patch.setattr(Proposer, "_take_configuration", take_the_number)


def promote_whoever_answers(patch):
    """A follower may vote before its log has come to where it was added."""
    note = Companions.note

    def note_all_arrived(self, *told, **how):
        note(self, *told, **{**how, "has_arrived": True})

    patch.setattr(Companions, "note", note_all_arrived)


def promote_what_is_not_durable(patch):
    """A follower may vote before that is durable in its log."""
    note_status = reign.Reign.note_status

    def note_learned(self, own, status, now_ns):
        learned = status.learned_through
        note_status(self, own, msgspec.structs.replace(status, durable_through=learned), now_ns)

    patch.setattr(reign.Reign, "note_status", note_learned)


def propose_above_an_adopted_entry(patch):
    """A new master goes on above a membership entry that it has found, at the same ballot."""
    patch.setattr(reign, "membership_entry", lambda value: None)


def propose_beside_an_entry(patch):
    """Requests are proposed while a change is on its way, above its entry, too."""
    patch.setattr(MembershipChange, "bars_requests", property(lambda self: False))


def take_a_configuration_from_a_nack(patch):
    """Who is told that it is late takes the configuration from there, not from its learner."""
    told: dict[int, Configuration] = {}
    nack, on_nack = Acceptor._nack, Proposer._on_nack

    def nack_telling(self, envelope, ballot, instance_id, reason, votes, effects, wait_ns=0):
        told[votes.configuration.config_id] = votes.configuration
        nack(self, envelope, ballot, instance_id, reason, votes, effects, wait_ns)

    def on_nack_taking(self, envelope, message, now_ns, effects):
        on_nack(self, envelope, message, now_ns, effects)
        if self._reign is None and message.config_id > self._configuration.config_id:
            self._configuration, self._candidacy = told[message.config_id], None

    patch.setattr(Acceptor, "_nack", nack_telling)
    patch.setattr(Proposer, "_on_nack", on_nack_taking)


def teach_nobody(patch):
    """A proposer whose configuration an acceptor does not know waits until it does."""
    patch.setattr(Proposer, "_teach", lambda self, member_id, nack, effects: None)


def propose_the_own_removal(patch):
    """A master that is to vote no more does not hand over first."""

    def change_membership(self, client, message, now_ns, effects):
        self.change.ask(client, message, self._pipeline.chosen_through, now_ns)
        return self._go_on_with_orders(now_ns, effects)

    patch.setattr(reign.Reign, "change_membership", change_membership)


# What an entry does.


def let_the_last_voter_go(patch):
    """A group may be left without a voter."""
    refused = membership.change_refused

    def refused_but_for_the_last(configuration, entry):
        why = refused(configuration, entry)
        return "" if why.endswith("the last voter") else why

    for module in (membership, membership_change, reign):
        patch.setattr(module, "change_refused", refused_but_for_the_last)


def change_what_is_there(patch):
    """An entry changes whatever configuration it meets, not the one that it was meant for."""
    refused = membership.change_refused

    def refused_by_the_rest(configuration, entry):
        entry = msgspec.structs.replace(entry, expected_config_id=configuration.config_id)
        return refused(configuration, entry)

    for module in (membership, membership_change, reign):
        patch.setattr(module, "change_refused", refused_by_the_rest)


def reuse_a_replica_id(patch):
    """The next replica is numbered after those that are there, not after all there ever were."""

    def next_replica_id(self):
        return max(each.replica_id for each in (*self.voters, *self.followers)) + 1

    patch.setattr(Configuration, "next_replica_id", property(next_replica_id))


# The acceptor.


def take_a_configuration_before_it_is_sealed(patch):
    """An acceptor is told of a configuration whose entry is learned, and not durable."""
    take_due = VotingPart.take_due

    def take_due_at_once(self, configuration, durable_through, now_ns):
        return take_due(self, configuration, configuration.config_id, now_ns)

    patch.setattr(VotingPart, "take_due", take_due_at_once)


def begin_with_the_first_instance(patch):
    """A new voter's vote floor is 1: it says that it has no vote at or below its entry."""

    def created(group, replica_id, configuration, floor):
        return GroupCreated(group, replica_id, configuration, 1)

    patch.setattr(acceptor_module, "GroupCreated", created)


def answer_who_is_late(patch):
    """An acceptor answers senders of older configurations."""
    _refuse_less(patch, NackReason.CONFIGURATION_OLD)


def never_go_back(patch):
    """An acceptor whose own log was cut short refuses all that stand where the log ends."""
    patch.setattr(Acceptor, "_goes_back", lambda self, envelope, configuration: False)


def say_nothing_of_the_genesis(patch):
    """A learner whose log was cut back to the genesis tells its acceptor nothing."""
    patch.setattr(VotingPart, "note_ahead", lambda self, config_id: None)


def stamp_what_it_follows(patch):
    """An acceptor that goes back says that its answer counts where it is itself."""
    patch.setattr(acceptor_module, "COUNTED", ())


def answer_who_is_ahead(patch):
    """An acceptor answers senders of newer configurations, which it does not know."""
    _refuse_less(patch, NackReason.CONFIGURATION_NEW)


def answer_below_the_entry(patch):
    """An acceptor answers for instances that its configuration does not govern."""
    _refuse_less(patch, NackReason.BEFORE_CONFIGURATION)


def _refuse_less(patch, spared):
    refusal = Acceptor._refusal

    def lenient(self, envelope, ballot, instance_id, votes):
        reason = refusal(self, envelope, ballot, instance_id, votes)
        return None if reason is spared else reason

    patch.setattr(Acceptor, "_refusal", lenient)


def forget_at_once(patch):
    """A removed voter forgets as soon as its own log says so."""

    def take_due(self, configuration, durable_through, now_ns):
        asked = due(self, configuration, durable_through, now_ns)
        return (
            [(self._acceptor, RemoveGroup(self._outlived))] if asked and self._outlived else asked
        )

    due = VotingPart.take_due
    patch.setattr(VotingPart, "take_due", take_due)


def create_a_group_on_a_message(patch):
    """An acceptor that hears of a group that it has not makes one, as it was at the genesis."""
    handle = Acceptor.handle

    def handle_creating(self, envelope, now_ns):
        is_asked = envelope.sender.role is RoleName.PROPOSER
        if is_asked and envelope.group not in self.state.groups:
            first = Configuration(0, (Voter(1, 1), Voter(2, 2), Voter(3, 3)))
            created = GroupCreated(envelope.group, self._member_id, first, 1)
            self.state.apply(created)
            effects = handle(self, envelope, now_ns)
            effects.records.insert(0, created)
            return effects
        return handle(self, envelope, now_ns)

    patch.setattr(Acceptor, "handle", handle_creating)


def forget_the_tombstone_of_a_vote(patch):
    """An acceptor does not note which replica it has been."""
    apply = AcceptorState.apply

    def apply_forgetful(self, record):
        apply(self, record)
        if isinstance(record, GroupRemoved):
            self.tombstones.pop(record.group)

    patch.setattr(AcceptorState, "apply", apply_forgetful)


def forget_the_tombstone_of_a_part(patch):
    """A learner does not note which parts its member has had."""
    apply = Parts.apply

    def apply_forgetful(self, record):
        apply(self, record)
        if isinstance(record, PartLeft):
            self.tombstones.pop(record.group)

    patch.setattr(Parts, "apply", apply_forgetful)


def remove_whatever_is_there(patch):
    """An old order to forget ends the vote of a later replica."""
    on_remove = Acceptor._on_remove_group

    def on_remove_any(self, envelope, order, effects):
        votes = self.state.groups.get(envelope.group)
        if votes is not None:
            order = RemoveGroup(votes.replica_id, votes.configuration.config_id)
        on_remove(self, envelope, order, effects)

    patch.setattr(Acceptor, "_on_remove_group", on_remove_any)


def follow_as_whoever_it_was(patch):
    """An acceptor that the log names another replica goes on voting as the one that it was."""

    def on_follow(self, envelope, message, effects):
        votes = self.state.groups.get(envelope.group)
        voter = message.configuration.voter(self._member_id)
        if votes is not None and voter is not None and votes.replica_id != voter.replica_id:
            votes.replica_id = voter.replica_id
        follow(self, envelope, message, effects)

    follow = Acceptor._on_follow_configuration
    patch.setattr(Acceptor, "_on_follow_configuration", on_follow)


# The learner, and what it tells its member's other roles.


def take_a_late_answer(patch):
    """What an acceptor said once, of whatever configuration, is what it is."""
    on_followed = VotingPart.on_followed

    def on_followed_late(self, sender, message, configuration):
        message = msgspec.structs.replace(message, asked_id=configuration.config_id)
        on_followed(self, sender, message, configuration)

    patch.setattr(VotingPart, "on_followed", on_followed_late)


def remove_by_a_log_that_is_behind(patch):
    """A log that damage has cut short ends a vote that it does not know of yet.

    Either defence would do alone: the learner orders nothing, and the acceptor refuses.
    """
    on_followed, on_remove = VotingPart.on_followed, Acceptor._on_remove_group

    def on_followed_behind(self, sender, message, configuration):
        message = msgspec.structs.replace(message, config_id=configuration.config_id)
        on_followed(self, sender, message, configuration)

    def on_remove_behind(self, envelope, order, effects):
        votes = self.state.groups.get(envelope.group)
        if votes is not None:
            order = RemoveGroup(order.replica_id, votes.configuration.config_id)
        on_remove(self, envelope, order, effects)

    patch.setattr(VotingPart, "on_followed", on_followed_behind)
    patch.setattr(Acceptor, "_on_remove_group", on_remove_behind)


def tell_of_what_is_not_sealed(patch):
    """A proposer is told of a configuration whose entry its learner can still lose."""

    def tell_status(self, to, effects):
        status = self.status()
        if to == self.proposer and self.proposer_config_id < self.configuration.config_id:
            status = msgspec.structs.replace(status, configuration=self.configuration)
        self.send(to, status, effects)

    patch.setattr(LearnerState, "tell_status", tell_status)


def follow_no_further(patch):
    """Who is removed waits for the voters of its removal, though others vote by now."""
    on_voting_part = Learner._on_voting_part

    def on_voting_part_only(self, envelope, message):
        if isinstance(message, LearnerStatus):
            self._voting_part.on_status(envelope, message, self.configuration)
        else:
            on_voting_part(self, envelope, message)

    patch.setattr(Learner, "_on_voting_part", on_voting_part_only)


def ask_nobody(patch):
    """A follower that hears of no master waits until it does, removed or not."""
    patch.setattr(Learner, "_look_around", lambda self, now_ns, effects: None)


def forget_who_has_what_was_left(patch):
    """Whoever has left a group knows nothing of it any more."""
    patch.setattr(PartsKeeper, "_has_left", lambda self, group: False)


def forget_who_has_what_was_left_by_a_restart(patch):
    """It is not written down."""
    write = storage_parts.write_parts

    def write_less(disk, identity, parts):
        write(disk, identity, dataclasses.replace(parts, left={}))

    patch.setattr(storage_parts, "write_parts", write_less)


def know_nobody_by_hearsay(patch):
    """Who is named by another member, and not by the own log, is not met."""
    handle = PartsKeeper.handle

    def handle_less(self, envelope, now_ns):
        message = envelope.message
        if isinstance(message, CatchUp):
            message = msgspec.structs.replace(message, joined=())
            envelope = msgspec.structs.replace(envelope, message=message)
        return handle(self, envelope, now_ns)

    patch.setattr(PartsKeeper, "handle", handle_less)


def forget_who_was_named(patch):
    """Who is named as having the group is asked once, and is no member otherwise."""
    patch.setattr(Peers, "name", lambda self, member_ids: None)


def teach_without_names(patch):
    """Whoever teaches an acceptor's member does not say how it is reached itself."""
    teach = Proposer._teach

    def teach_less(self, acceptor, nack, effects):
        before = len(effects.sends_now)
        teach(self, acceptor, nack, effects)
        effects.sends_now[before:] = [
            dataclasses.replace(each, message=msgspec.structs.replace(each.message, joined=()))
            for each in effects.sends_now[before:]
        ]

    patch.setattr(Proposer, "_teach", teach_less)


def name_voters_only(patch):
    """Whoever has left names those that voted then, and not those that followed."""
    tell = PartsKeeper._tell_who_has

    def tell_less(self, to, group, effects):
        left = self._parts.left
        whole, left[group] = left[group], msgspec.structs.replace(left[group], followers=())
        tell(self, to, group, effects)
        left[group] = whole

    patch.setattr(PartsKeeper, "_tell_who_has", tell_less)


def wait_for_a_floor_of_nobody(patch):
    """Who votes no more goes on waiting until its vote floor is raised."""
    patch.setattr(VoteFloor, "rest", lambda self: None)


def wait_for_an_older_answer(patch):
    """While an entry is not sealed, an answer about the one before is waited for."""
    take_due = VotingPart.take_due

    def take_due_waiting(self, configuration, durable_through, now_ns):
        due_ns = self.due_ns
        asked = take_due(self, configuration, durable_through, now_ns)
        if durable_through < configuration.config_id:
            self.due_ns = due_ns
        return asked

    patch.setattr(VotingPart, "take_due", take_due_waiting)
