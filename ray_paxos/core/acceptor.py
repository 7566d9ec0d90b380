"""The acceptor: one member's votes, for all groups that share its journal.

Rules ("Paxos Made Simple", section 2.2, with the whole open log under one promise):

1. It answers a prepare at a ballot at or above its promise by promising that ballot for every
   instance of the group, and telling its votes from the asked instance on.
2. It votes for an accept at a ballot at or above its promise, which raises the promise to it.
3. Its promise never falls (R2), and every answer waits until its records are durable (R3): the
   state here changes at once, the driver holds the answer back.
4. Below its vote floor everything is chosen and durable at a majority, and the votes are gone.
   It answers `BelowFloor` there: never "no vote", never accepted.
5. It answers under one configuration. A sender with an older one is told so; with a newer one it
   has to wait until this member has learned that one (R5). It takes another one only from its own
   member's learner, which holds everything through the entry that made it durably. Where damage
   has cut that learner's log short since, what was chosen there may be in votes alone, and nobody
   could be taught the configuration; then it answers again under those from where the log ends
   on, and votes for instances through the entry of its own (`_goes_back`).
6. While a lease that it granted runs, it promises no other member anything; after a restart it
   promises nobody anything for as long as it ever granted (`lease`). Accepts are never barred: who
   sends them has a majority's promises. It confirms a round, and grants, only at or above its
   promise, raising the promise first: one that confirmed below it would keep a deposed master
   believing in itself (design section 6).
7. It tells any client through which instance it has accepted anything; that a client's read sees
   what was chosen is for the client to judge, by a majority (`quorum_read`).
8. Only an order makes a group, and only for a replica_id above every one held here before; a
   message for a group that is not here is dropped (design section 9).
"""

from __future__ import annotations

from collections.abc import Sequence

from ray_paxos.core.acceptor_state import AcceptorState, GroupVotes
from ray_paxos.core.ballot import Ballot
from ray_paxos.core.client_messages import QuorumRead, QuorumReadAnswer, RefusalCode, Refused
from ray_paxos.core.effects import Effects, Send
from ray_paxos.core.events import (
    AcceptRejected,
    FloorRaised,
    InvariantBroken,
    MessageRefused,
    PromiseGranted,
)
from ray_paxos.core.genesis import GENESIS_CONFIG_ID, Configuration, Voter
from ray_paxos.core.learner_messages import (
    RaiseVoteFloor,
    VoteFloorRaised,
)
from ray_paxos.core.lease import LeaseGrants, held_ms
from ray_paxos.core.membership_messages import ConfigurationFollowed, FollowConfiguration
from ray_paxos.core.messages import (
    Accept,
    Accepted,
    Address,
    BelowFloor,
    CreateGroup,
    Envelope,
    Heartbeat,
    HeartbeatConfirmed,
    LeaseRelease,
    Message,
    Nack,
    NackReason,
    OrderDone,
    Prepare,
    PreVote,
    PreVoteGranted,
    Promise,
    RemoveGroup,
    RoleName,
    Vote,
)
from ray_paxos.core.records import (
    ConfigurationSet,
    GroupCreated,
    GroupRemoved,
    JournalRecord,
    LeaseLengthened,
    PromiseMade,
    Record,
    VoteCast,
    VoteFloorSet,
)
from ray_paxos.core.settings import MILLISECOND_NS, AcceptorSettings
from ray_paxos.core.tasks import Outcome, Task

COUNTED = (Accepted, HeartbeatConfirmed, Promise, PreVoteGranted, BelowFloor)
"""Answers that a proposer counts under its configuration."""


class Acceptor:
    """Votes for one member in all its groups.

    Invariants: those of `GroupVotes`; `state` equals the fold of the records emitted so far.

    Attributes:
        state: All that it knows durably.
        storage_full: The disk has no room for another record.
        quorum_reads: How many it has answered in this life, by group.
    """

    def __init__(
        self, state: AcceptorState, *, member_id: int, settings: AcceptorSettings, now_ns: int
    ) -> None:
        """Go on from a recovered state.

        Args:
            state: As the journal gave it; owned by the acceptor from here on.
            member_id: Whose acceptor this is.
            settings: Limits.
            now_ns: This process's clock.
        """
        self.state = state
        self.storage_full = False
        self.quorum_reads: dict[int, int] = {}
        self._member_id = member_id
        self._settings = settings
        self._leases: dict[int, LeaseGrants] = {}
        # The configuration that the own log has come to, in groups where damage has cut it short
        # of the one followed here.
        self._log_cut_to: dict[int, int] = {}
        self._first_promises = {group: votes.promise for group, votes in state.groups.items()}
        for group, votes in state.groups.items():
            self._grants(group).opened(now_ns, votes.longest_lease_ms)

    @property
    def deadline_ns(self) -> int | None:
        """An acceptor waits for nothing."""
        return None

    def on_deadline(self, now_ns: int) -> Effects:
        """Nothing to do."""
        return Effects()

    def on_durable(self, records: Sequence[Record], now_ns: int) -> Effects:
        """Nothing more to do: the driver lets the answers go."""
        return Effects()

    def on_outcome(self, task: Task, outcome: Outcome, now_ns: int) -> Effects:
        """An acceptor has no tasks."""
        return Effects()

    def stamp(self, group: int) -> tuple[int, int]:
        """(replica_id, config_id) it answers under."""
        votes = self.state.groups.get(group)
        return (votes.replica_id, votes.configuration.config_id) if votes is not None else (0, 0)

    def barred_ns(self, group: int, now_ns: int) -> int:
        """For how long it promises nobody anything in a group yet, after a restart."""
        return self._grants(group).barred_ns(now_ns)

    def handle(self, envelope: Envelope, now_ns: int) -> Effects:
        """Answer one message."""
        effects = Effects()
        message = envelope.message
        if isinstance(message, CreateGroup):
            self._on_create_group(envelope, message, effects)
            return effects
        if isinstance(message, RemoveGroup):
            self._on_remove_group(envelope, message, effects)
            return effects
        if isinstance(message, FollowConfiguration):
            self._on_follow_configuration(envelope, message, effects)
            return effects
        votes = self.state.groups.get(envelope.group)
        if votes is None:
            refused = MessageRefused(envelope.group, "no such group at this member")
            effects.events.append(refused)
            if isinstance(message, QuorumRead):
                why = f"group {envelope.group} is not at this member"
                unknown = Refused(message.request_id, RefusalCode.UNKNOWN_GROUP, why, 0)
                self._reply(envelope, unknown, effects)
            return effects
        match message:
            case Accept():
                self._on_accept(envelope, message, votes, now_ns, effects)
            case Prepare():
                self._on_prepare(envelope, message, votes, now_ns, effects)
            case Heartbeat():
                self._on_heartbeat(envelope, message, votes, now_ns, effects)
            case PreVote():
                self._on_pre_vote(envelope, message, votes, now_ns, effects)
            case LeaseRelease(ballot=Ballot(member_id=envelope.sender.member_id)):
                self._grants(envelope.group).release(message.ballot)
            case RaiseVoteFloor():
                self._on_raise_vote_floor(envelope, message, votes, effects)
            case QuorumRead():
                self._on_quorum_read(envelope, message, votes, effects)
            case _:
                refused = MessageRefused(envelope.group, f"{type(message).__name__} to an acceptor")
                effects.events.append(refused)
        return effects

    # Orders.

    def _on_create_group(self, envelope: Envelope, order: CreateGroup, effects: Effects) -> None:
        group = envelope.group
        votes = self.state.groups.get(group)
        if votes is not None and votes.replica_id == order.replica_id:
            refused = ""
        elif votes is not None:
            refused = f"already here as replica {votes.replica_id}"
        elif order.replica_id <= self.state.tombstones.get(group, 0):
            refused = f"replica {order.replica_id} was removed here; a new one takes a higher id"
        elif order.configuration.voter(self._member_id) != Voter(self._member_id, order.replica_id):
            refused = f"its configuration does not name this member its voter {order.replica_id}"
        elif order.floor <= order.configuration.config_id:
            # A configuration governs nothing at or below its entry (R5).
            refused = f"floor {order.floor} is not above entry {order.configuration.config_id}"
        elif self.storage_full:
            refused = "the disk is full"
        else:
            refused = ""
            record = GroupCreated(group, order.replica_id, order.configuration, order.floor)
            self._emit(record, effects)
        self._reply(envelope, OrderDone(order.replica_id, refused), effects)

    def _on_remove_group(self, envelope: Envelope, order: RemoveGroup, effects: Effects) -> None:
        group = envelope.group
        votes = self.state.groups.get(group)
        refused = ""
        if votes is not None and votes.replica_id > order.replica_id:
            refused = f"here as the later replica {votes.replica_id}"
        elif votes is not None and votes.configuration.config_id > order.config_id:
            refused = f"here under the later configuration {votes.configuration.config_id}"
        elif votes is None and self.state.tombstones.get(group, 0) >= order.replica_id:
            refused = ""
        elif self.storage_full:
            refused = "the disk is full"
        else:
            self._emit(GroupRemoved(group, order.replica_id), effects)
            self._leases.pop(group, None)
            self._log_cut_to.pop(group, None)
            self._first_promises.pop(group, None)
        self._reply(envelope, OrderDone(order.replica_id, refused), effects)

    def _on_follow_configuration(
        self, envelope: Envelope, message: FollowConfiguration, effects: Effects
    ) -> None:
        """The own log has come to this configuration: answer under it, or begin to vote.

        One that its log does not name any more goes on under what it had, until `RemoveGroup`. A
        voter of the genesis is made by an order alone (R9).
        """
        group, configuration = envelope.group, message.configuration
        if envelope.sender != Address(self._member_id, RoleName.LEARNER):
            refused = MessageRefused(group, "a configuration from another than our learner")
            effects.events.append(refused)
            return
        voter, votes = configuration.voter(self._member_id), self.state.groups.get(group)
        if voter is not None and not self.storage_full:
            replica_id, config_id = voter.replica_id, configuration.config_id
            is_made = config_id != GENESIS_CONFIG_ID
            if votes is None and is_made and replica_id > self.state.tombstones.get(group, 0):
                self._emit(GroupCreated(group, replica_id, configuration, config_id + 1), effects)
            elif (
                votes is not None
                and votes.replica_id == replica_id
                and votes.configuration.config_id < config_id
            ):
                self._emit(ConfigurationSet(group, configuration), effects)
        replica_id, config_id = self.stamp(group)
        asked_id = configuration.config_id
        if asked_id >= config_id:
            self._log_cut_to.pop(group, None)
        elif message.cut_short_of == config_id:
            self._log_cut_to[group] = asked_id
        self._reply(envelope, ConfigurationFollowed(config_id, replica_id, asked_id), effects)

    # The protocol.

    def _on_pre_vote(
        self,
        envelope: Envelope,
        pre_vote: PreVote,
        votes: GroupVotes,
        now_ns: int,
        effects: Effects,
    ) -> None:
        ballot = pre_vote.ballot
        reason = self._refusal(envelope, ballot, None, votes)
        wait_ns = self._grants(envelope.group).bars_pre_vote_ns(ballot.member_id, now_ns)
        if reason is None and wait_ns:
            reason = NackReason.LEASED
        if reason is not None:
            self._nack(envelope, ballot, 0, reason, votes, effects, wait_ns)
            return
        self._reply(envelope, PreVoteGranted(ballot), effects)

    def _on_prepare(
        self, envelope: Envelope, prepare: Prepare, votes: GroupVotes, now_ns: int, effects: Effects
    ) -> None:
        ballot = prepare.ballot
        reason = self._refusal(envelope, ballot, prepare.from_instance, votes)
        grants = self._grants(envelope.group)
        if reason is None and prepare.released is not None:
            grants.release(prepare.released)
        wait_ns = grants.bars_promise_ns(ballot.member_id, now_ns)
        if reason is None and wait_ns and votes.promise != ballot:
            reason = NackReason.LEASED
        if reason is not None:
            self._nack(envelope, ballot, 0, reason, votes, effects, wait_ns)
            return
        if votes.promise != prepare.ballot:
            self._emit(PromiseMade(envelope.group, prepare.ballot), effects)
        page, next_instance = self._page(votes, prepare.from_instance)
        promise = Promise(
            prepare.ballot, prepare.from_instance, votes.floor, tuple(page), next_instance
        )
        self._reply(envelope, promise, effects)
        effects.events.append(
            PromiseGranted(envelope.group, prepare.ballot, votes.floor, len(page))
        )

    def _on_accept(
        self, envelope: Envelope, accept: Accept, votes: GroupVotes, now_ns: int, effects: Effects
    ) -> None:
        reason = self._refusal(envelope, accept.ballot, accept.instance_id, votes)
        if reason is not None:
            self._nack(envelope, accept.ballot, accept.instance_id, reason, votes, effects)
            return
        if accept.instance_id < votes.floor:
            below = BelowFloor(accept.ballot, accept.instance_id, votes.floor)
            self._reply(envelope, below, effects)
            return
        vote = votes.votes.get(accept.instance_id)
        if vote is not None and vote.ballot == accept.ballot:
            if vote.value != accept.value:
                what = f"two values at instance {accept.instance_id}, {accept.ballot}"
                effects.events.append(InvariantBroken(envelope.group, what))
                return
        else:
            record = VoteCast(envelope.group, accept.instance_id, accept.ballot, accept.value)
            self._emit(record, effects)
        sequence = accept.sequence
        if sequence and self._bars_grant_ns(envelope.group, accept.ballot, now_ns):
            sequence = 0
        if sequence:
            lease_ms = _granted_ms(envelope, accept, votes)
            self._grant(envelope.group, accept.ballot, lease_ms, votes, now_ns, effects)
        self._reply(envelope, Accepted(accept.ballot, accept.instance_id, sequence), effects)

    def _on_heartbeat(
        self,
        envelope: Envelope,
        heartbeat: Heartbeat,
        votes: GroupVotes,
        now_ns: int,
        effects: Effects,
    ) -> None:
        ballot, grants = heartbeat.ballot, self._grants(envelope.group)
        if not grants.may_grant(ballot):
            # Late: its holder has released it, and waits for no answer.
            return
        reason = self._refusal(envelope, ballot, None, votes)
        wait_ns = self._bars_grant_ns(envelope.group, ballot, now_ns)
        if reason is None and wait_ns:
            reason = NackReason.LEASED
        if reason is not None:
            self._nack(envelope, ballot, 0, reason, votes, effects, wait_ns)
            return
        if votes.promise != ballot:
            self._emit(PromiseMade(envelope.group, ballot), effects)
        lease_ms = _granted_ms(envelope, heartbeat, votes)
        self._grant(envelope.group, ballot, lease_ms, votes, now_ns, effects)
        if heartbeat.confirmed:
            grants.heard(ballot, now_ns + self._settings.hearsay_ns)
        self._reply(envelope, HeartbeatConfirmed(ballot, heartbeat.sequence), effects)

    def _grant(
        self,
        group: int,
        ballot: Ballot,
        lease_ms: int,
        votes: GroupVotes,
        now_ns: int,
        effects: Effects,
    ) -> None:
        """Promise nobody else anything, for as long as the master asked by its own clock."""
        grants = self._grants(group)
        if not lease_ms or not grants.may_grant(ballot):
            return
        length_ms = held_ms(lease_ms, self._settings.clock_drift_ppm)
        if length_ms > votes.longest_lease_ms:
            # Durable before the answer leaves: another life keeps this one's word.
            self._emit(LeaseLengthened(group, length_ms), effects)
        grants.grant(ballot, now_ns + length_ms * MILLISECOND_NS)

    def _bars_grant_ns(self, group: int, ballot: Ballot, now_ns: int) -> int:
        first_promise = self._first_promises.get(group)
        return self._grants(group).bars_grant_ns(ballot, first_promise, now_ns)

    def _grants(self, group: int) -> LeaseGrants:
        grants = self._leases.get(group)
        if grants is None:
            grants = self._leases[group] = LeaseGrants()
        return grants

    def _on_raise_vote_floor(
        self, envelope: Envelope, message: RaiseVoteFloor, votes: GroupVotes, effects: Effects
    ) -> None:
        # Only this member's own learner knows what is durable in this member's segments.
        if envelope.sender != Address(self._member_id, RoleName.LEARNER):
            refused = MessageRefused(envelope.group, "a vote floor from another than our learner")
            effects.events.append(refused)
            return
        if message.floor > votes.floor and not self.storage_full:
            self._emit(VoteFloorSet(envelope.group, message.floor), effects)
            effects.events.append(FloorRaised(envelope.group, message.floor))
        self._reply(envelope, VoteFloorRaised(votes.floor), effects)

    def _on_quorum_read(
        self, envelope: Envelope, message: QuorumRead, votes: GroupVotes, effects: Effects
    ) -> None:
        self.quorum_reads[envelope.group] = self.quorum_reads.get(envelope.group, 0) + 1
        answer = QuorumReadAnswer(
            message.request_id, votes.accepted_through, votes.configuration.voters
        )
        self._reply(envelope, answer, effects)

    # Parts.

    def _refusal(
        self, envelope: Envelope, ballot: Ballot, instance_id: int | None, votes: GroupVotes
    ) -> NackReason | None:
        """Why this ballot is refused at this instance (None: whatever the instance), if it is."""
        configuration = votes.configuration
        is_old = envelope.config_id < configuration.config_id
        if is_old and not self._goes_back(envelope, configuration):
            return NackReason.CONFIGURATION_OLD
        if envelope.config_id > configuration.config_id:
            return NackReason.CONFIGURATION_NEW
        voter = configuration.voter(envelope.sender.member_id)
        if voter is None or voter.replica_id != envelope.replica_id:
            return NackReason.NOT_A_VOTER
        if ballot.member_id != envelope.sender.member_id:
            return NackReason.NOT_A_VOTER
        if instance_id is not None and instance_id <= envelope.config_id:
            return NackReason.BEFORE_CONFIGURATION
        if votes.promise is not None and ballot < votes.promise:
            return NackReason.PROMISED
        if self.storage_full:
            return NackReason.STORAGE_FULL
        return None

    def _goes_back(self, envelope: Envelope, configuration: Configuration) -> bool:
        """Whether it answers under the sender's older configuration.

        The own log ended after the entry of the configuration that is followed here, durably, and
        was cut short by damage. Nothing is left to be decided through that entry, but it may be
        that only votes tell what was, and who asks for votes stands under an older configuration.
        It finds there what was chosen under its own, the next entry first, as any new master; by
        that it takes the next configuration and stands anew (R5). A majority that would let it
        decide above that entry has promised those who came after it higher ballots.
        """
        cut_to = self._log_cut_to.get(envelope.group)
        if cut_to is None or envelope.config_id < cut_to:
            return False
        message = envelope.message
        return not isinstance(message, Accept) or message.instance_id <= configuration.config_id

    def _page(self, votes: GroupVotes, from_instance: int) -> tuple[list[Vote], int | None]:
        """Votes from an instance on, as many as fit, and where the next page starts."""
        page: list[Vote] = []
        page_bytes = 0
        for instance_id in sorted(i for i in votes.votes if i >= from_instance):
            vote = votes.votes[instance_id]
            page_bytes += len(vote.value)
            if page and page_bytes > self._settings.promise_bytes_max:
                return page, instance_id
            page.append(vote)
        return page, None

    def _nack(
        self,
        envelope: Envelope,
        ballot: Ballot,
        instance_id: int,
        reason: NackReason,
        votes: GroupVotes,
        effects: Effects,
        wait_ns: int = 0,
    ) -> None:
        config_id = votes.configuration.config_id
        wait_ms = -(-wait_ns // MILLISECOND_NS) if reason is NackReason.LEASED else 0
        nack = Nack(ballot, instance_id, reason, votes.promise, config_id, wait_ms)
        self._reply(envelope, nack, effects)
        effects.events.append(AcceptRejected(envelope.group, ballot, reason))

    def _emit(self, record: JournalRecord, effects: Effects) -> None:
        self.state.apply(record)
        effects.records.append(record)

    def _reply(self, envelope: Envelope, message: Message, effects: Effects) -> None:
        config_id: int | None = None
        if self._log_cut_to and isinstance(message, COUNTED):
            # Under an older configuration, where it goes back to that.
            config_id = min(envelope.config_id, self.stamp(envelope.group)[1])
        # A nack waits, too: it tells a promise that may not be durable yet.
        effects.sends_after_sync.append(Send(envelope.sender, envelope.group, message, config_id))


def _granted_ms(envelope: Envelope, message: Accept | Heartbeat, votes: GroupVotes) -> int:
    """The lease that is asked for; none under an older configuration: nobody serves there."""
    is_old = envelope.config_id < votes.configuration.config_id
    return 0 if is_old else message.lease_ms
