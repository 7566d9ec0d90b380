"""The proposer of one group at one member: elections, and the clients' requests.

```
          no confirmed master for an election timeout, or asked to take over
 Following ──────────────────────────────▶ Standing    `Candidacy`: asks around, prepares, learns
     ▲                                        │
     │ higher promise, other master,          │ promises of a majority
     │ quorum, learner or disk lost,          ▼
     │ handed over                         Leading     `Reign`: adopted values, no-ops, its master
     └──────────────────────────────────────┘          record; serves once that is applied
```

Rules:

1. A ballot is used by one life of one proposer: (round, member, incarnation).
2. A new master prepares the whole open log, proposes again the value of the highest ballot it
   finds for each instance, fills holes with no-ops, and serves only once its own learner has
   applied its own master record (R5).
3. Replies count once a voter, only at the ballot and the config_id they were given under.
4. Accepts for many instances are open at once, `window_max` at most; a value stays here until its
   own learner reports it durable, so that a learner that loses its unsealed end gets it again.
   A learner that misses something older, which nobody gives it, makes the master prepare again
   from there at a new ballot: votes may be all that is left of it.
5. Clients are answered by what the own learner applied, or told to ask elsewhere; what becomes of
   a request that was in flight is found by sending it again under the same number.
6. A ballot whose lease was released is dead: the reign ends with the release.
7. It takes another configuration only from its own learner, which has the whole log up to the entry
   that made it. Whatever it holds above that entry, and every promise, is worth nothing from there
   on: it prepares again, at a new ballot, from the instance after the entry (R5). Who led when the
   entry was chosen does so at once, and keeps the requests that wait.

A proposer keeps nothing on disk but its incarnation, so nothing it sends waits for a sync.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Mapping, Sequence

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.candidacy import Candidacy, Lost, Step, Won
from ray_paxos.core.checkpoint_messages import LearnerInstalled
from ray_paxos.core.client_messages import (
    OpenSession,
    QueryFailed,
    QueryProblem,
    ReadIndex,
    Redirected,
    RefusalCode,
    Refused,
    Submit,
    TransferMaster,
)
from ray_paxos.core.effects import Effects, Send
from ray_paxos.core.events import (
    CandidacyEnded,
    MasterChanged,
    MasterStopped,
    MessageRefused,
    NackReceived,
    RequestRedirected,
    RequestRefused,
)
from ray_paxos.core.genesis import Configuration, GroupSpec, Voter
from ray_paxos.core.intake import Intake, Request
from ray_paxos.core.learner_messages import (
    Applied,
    CatchUp,
    LearnerStatus,
    who_has,
)
from ray_paxos.core.membership_messages import ChangeMembership
from ray_paxos.core.messages import (
    Accepted,
    Address,
    BelowFloor,
    Envelope,
    Heartbeat,
    HeartbeatConfirmed,
    Message,
    Nack,
    NackReason,
    OrderDone,
    PreVoteGranted,
    Promise,
    RoleName,
    TakeOver,
)
from ray_paxos.core.phase_one import PhaseOne
from ray_paxos.core.read_rounds import ReadRounds
from ray_paxos.core.records import Record
from ray_paxos.core.reign import Reign
from ray_paxos.core.seat import Seat
from ray_paxos.core.session_order import SessionOrder
from ray_paxos.core.settings import MILLISECOND_NS, ProposerSettings
from ray_paxos.core.tasks import Outcome, Task

STAND_BACK_TIMEOUTS = 3
"""So many election timeouts a master that was dropped, or is stuck, leaves the lead to others."""


class Phase(enum.Enum):
    """What the proposer is doing; see the pictures here and in `candidacy`."""

    FOLLOWING = "following"
    PROBING = "probing"
    PREPARING = "preparing"
    LEARNING = "learning"
    LEADING = "leading"


_PHASES = {
    Step.PROBING: Phase.PROBING,
    Step.PREPARING: Phase.PREPARING,
    Step.LEARNING: Phase.LEARNING,
}


class Proposer:
    """Proposes for one group at one member.

    Invariants: `_reign` is set exactly while leading and `_candidacy` exactly while standing;
    `_round_seen` is at least the round of every ballot used or heard of; a request that was taken
    in is answered once.

    Attributes:
        master_record: (member, version) of the latest one that the own learner has applied.
    """

    def __init__(
        self,
        *,
        spec: GroupSpec,
        member_id: int,
        incarnation: int,
        settings: ProposerSettings,
        random: random.Random,
        now_ns: int,
        priorities: Mapping[int, int] | None = None,
        configuration: Configuration | None = None,
    ) -> None:
        """Start as a follower.

        Args:
            spec: The group, and what it starts from: its first voters, and the machines that the
                first master mounts.
            member_id: Of this member.
            incarnation: Of the proposer's folder, from 1; a part of every ballot.
            settings: Limits and times.
            random: For time-outs; not shared.
            now_ns: This process's clock.
            priorities: Of the members that have another one than 1; who has the highest of all
                stands first, and is handed the lead.
            configuration: In force, where that is not the group's first one any more.
        """
        self.master_record = (0, 0)
        self._spec = spec
        self._group = spec.group
        self._member_id = member_id
        self._incarnation = incarnation
        self._configuration = configuration or spec.configuration
        self._settings = settings
        self._random = random
        self._priorities = dict(priorities or {})
        self._own_learner = Address(member_id, RoleName.LEARNER)
        self._round_seen = 0
        self._master: Ballot | None = None
        self._successor = 0
        self._status: LearnerStatus | None = None
        self._intake = Intake(settings)
        self._order = SessionOrder()
        self._reads = ReadRounds(settings)
        self._candidacy: Candidacy | None = None
        self._reign: Reign | None = None
        self._election_ns = now_ns
        self._arm_election(now_ns)
        if incarnation == 1 or not self._replica_id:
            # The first life of a new cluster: there is no master to wait for. And one that did not
            # vote at the genesis may do so by now: its learner knows.
            self._election_ns = now_ns + random.randrange(settings.election_timeout_ns // 2)

    # The role's interface.

    def stamp(self, group: int) -> tuple[int, int]:
        """(replica_id, config_id) it counts under."""
        return self._replica_id, self._configuration.config_id

    @property
    def configuration(self) -> Configuration:
        """Who has the group and who votes, as far as it has taken it from its learner."""
        return self._configuration

    @property
    def round_seen(self) -> int:
        """At least the round of every ballot that it has used or heard of."""
        return self._round_seen

    def go_on_from(self, round_seen: int) -> None:
        """Use no ballot of this round or below: another proposer of this process may have."""
        self._round_seen = max(self._round_seen, round_seen)

    @property
    def _replica_id(self) -> int:
        voter = self._configuration.voter(self._member_id)
        return voter.replica_id if voter is not None else 0

    def on_durable(self, records: Sequence[Record], now_ns: int) -> Effects:
        """A proposer emits no records."""
        return Effects()

    def on_outcome(self, task: Task, outcome: Outcome, now_ns: int) -> Effects:
        """A proposer has no tasks."""
        return Effects()

    @property
    def phase(self) -> Phase:
        """What it is doing."""
        if self._reign is not None:
            return Phase.LEADING
        return _PHASES[self._candidacy.step] if self._candidacy is not None else Phase.FOLLOWING

    @property
    def deadline_ns(self) -> int | None:
        """The next time something is due."""
        if self._candidacy is not None:
            return self._candidacy.deadline_ns
        if self._reign is None:
            return self._election_ns
        due_ns, deadline_ns = self._order.due_ns, self._reign.deadline_ns
        return deadline_ns if due_ns is None else min(deadline_ns, due_ns)

    def handle(self, envelope: Envelope, now_ns: int) -> Effects:
        """Take one message in."""
        effects = Effects()
        message = envelope.message
        match message:
            case Accepted() | HeartbeatConfirmed() | BelowFloor() | Promise() | PreVoteGranted():
                self._on_answer(envelope, message, now_ns, effects)
            case Nack():
                self._on_nack(envelope, message, now_ns, effects)
            case Submit() | OpenSession():
                self._on_request(envelope.sender, message, now_ns, effects)
            case ReadIndex(request_id=request_id):
                self._on_read_index(envelope.sender, request_id, now_ns, effects)
            case TransferMaster() | ChangeMembership():
                self._on_order(envelope.sender, message, now_ns, effects)
            case Applied():
                if self._reign is not None and envelope.sender == self._own_learner:
                    reason = self._reign.on_applied(message, now_ns, effects)
                    self._end_or_go_on(reason, now_ns, effects)
            case LearnerStatus():
                self._on_learner_status(envelope, message, now_ns, effects)
            case LearnerInstalled() if envelope.sender == self._own_learner:
                if self._candidacy is not None or self._reign is not None:
                    # What it was promised, it was promised for a log that it no longer follows.
                    self._step_down("the member goes on from a checkpoint", now_ns, effects)
            case Heartbeat(ballot=Ballot(member_id=member_id)) if envelope.sender == Address(
                member_id, RoleName.PROPOSER
            ):
                self._on_heartbeat(message, envelope.config_id, now_ns, effects)
            case TakeOver(released=Ballot(member_id=member_id)) if envelope.sender == Address(
                member_id, RoleName.PROPOSER
            ):
                self._on_take_over(message, now_ns, effects)
            case OrderDone():
                # Of a member that has its part, or had it before; its learner tells of itself.
                pass
            case _:
                refused = MessageRefused(self._group, f"{type(message).__name__} to a proposer")
                effects.events.append(refused)
        return effects

    def on_deadline(self, now_ns: int) -> Effects:
        """Do what is due."""
        effects = Effects()
        if self._reign is not None:
            for arrival in self._order.expire(now_ns):
                self._offer(arrival.client, arrival.submit, now_ns, effects)
            self._reign.pump(now_ns, effects)
            reason = self._reign.on_deadline(now_ns, effects)
            self._end_or_go_on(reason, now_ns, effects)
        elif self._candidacy is not None:
            self._go_on_standing(self._candidacy.on_deadline(now_ns, effects), now_ns, effects)
        elif now_ns >= self._election_ns:
            if self._replica_id:
                self._stand(None, now_ns, effects)
            else:
                self._ask_learner(0, (), effects)
                self._arm_election(now_ns)
        return effects

    # Clients.

    @property
    def is_serving(self) -> bool:
        """Whether it leads and has applied its own master record."""
        return self._reign is not None and self._reign.is_serving

    @property
    def master_id(self) -> int | None:
        """The member that leads, as far as this proposer knows; itself only while serving."""
        if self._reign is not None:
            return self._member_id if self.is_serving else None
        if self._master is not None:
            return self._master.member_id
        return self._successor or None

    @property
    def lease_until_ns(self) -> int:
        """Until when it holds the lease, on this host's clock; 0 for none."""
        return self._reign.authority.lease_until_ns if self._reign is not None else 0

    @property
    def read_counts(self) -> tuple[int, int]:
        """(reads answered, rounds begun for them), in this life."""
        return self._reads.answered, self._reads.rounds

    @property
    def queued(self) -> tuple[int, int]:
        """(requests, bytes) that are taken in and not answered yet."""
        return self._intake.held_requests, self._intake.held_bytes

    @property
    def open_instances(self) -> int:
        """How many instances are proposed and not chosen yet."""
        return self._reign.open_instances if self._reign is not None else 0

    @property
    def is_voter(self) -> bool:
        """Whether its member votes in the group, by the configuration that it has come to."""
        return bool(self._replica_id)

    def silent_ns(self, now_ns: int) -> dict[int, int]:
        """By member, for how long a master has heard nothing of its learner.

        Only of members that it has heard of, and that have been silent for too long to be handed
        the lead. Empty where it does not lead.
        """
        if self._reign is None:
            return {}
        succession = self._reign.succession
        return {
            member_id: now_ns - heard_ns
            for member_id, heard_ns in succession.companions.heard_ns.items()
            if now_ns - heard_ns > succession.silence_ns
        }

    @property
    def _led(self) -> Reign:
        assert self._reign is not None, "it leads"
        return self._reign

    def _on_request(
        self, client: Address, message: Submit | OpenSession, now_ns: int, effects: Effects
    ) -> None:
        if self.phase is Phase.FOLLOWING:
            self._redirect(client, message.request_id, effects, untouched=True)
            return
        if self._intake.holds(client, message.request_id):
            # One answer serves both copies. So this one must not wait for its turn beyond it: it
            # would be proposed after its client has counted it as answered.
            return
        if isinstance(message, Submit):
            for arrival in self._order.arrive(client, message, now_ns):
                self._offer(arrival.client, arrival.submit, now_ns, effects)
        else:
            self._offer(client, message, now_ns, effects)
        if self._reign is not None:
            self._reign.pump(now_ns, effects)

    def _offer(
        self, client: Address, message: Submit | OpenSession, now_ns: int, effects: Effects
    ) -> None:
        refused = self._intake.offer(client, message, now_ns)
        if refused is None:
            return
        effects.events.append(RequestRefused(self._group, refused.code))
        self._send(client, refused, effects)
        if isinstance(message, Submit):
            for arrival in self._order.refused(message):
                self._offer(arrival.client, arrival.submit, now_ns, effects)

    def _on_read_index(
        self, client: Address, request_id: int, now_ns: int, effects: Effects
    ) -> None:
        if self._reign is not None:
            self._reign.authority.on_read_index(client, request_id, now_ns, effects)
        else:
            self._refuse_read(client, request_id, effects)

    def _refuse_read(self, client: Address, request_id: int, effects: Effects) -> None:
        master = self.master_id or 0
        master = 0 if master == self._member_id else master
        why = "this member does not lead"
        failed = QueryFailed(request_id, 0, why, QueryProblem.NOT_MASTER, master)
        self._send(client, failed, effects)

    def _on_order(
        self,
        client: Address,
        message: TransferMaster | ChangeMembership,
        now_ns: int,
        effects: Effects,
    ) -> None:
        reign = self._reign
        if reign is None:
            self._redirect(client, message.request_id, effects)
            return
        if isinstance(message, TransferMaster):
            reason = reign.hand_over(client, message, now_ns, effects)
        else:
            reason = reign.change_membership(client, message, now_ns, effects)
        self._end_or_go_on(reason, now_ns, effects)

    def _redirect(
        self, client: Address, request_id: int, effects: Effects, *, untouched: bool = False
    ) -> None:
        """Send a client on; `untouched`: nothing of its request was proposed in this reign."""
        master = self.master_id
        if master == self._member_id:
            master = None
        retry_after_ms = 0
        if master is None:
            retry_after_ms = self._settings.heartbeat_interval_ns // MILLISECOND_NS
            if untouched and self._status is not None and self._status.stopped:
                code, why = RefusalCode.APPLY_STOPPED, self._status.stopped
                effects.events.append(RequestRefused(self._group, code))
                self._send(client, Refused(request_id, code, why, retry_after_ms), effects)
                return
        effects.events.append(RequestRedirected(self._group))
        redirected = Redirected(request_id, master, retry_after_ms, untouched)
        self._send(client, redirected, effects)

    # Elections.

    def _arm_election(self, now_ns: int) -> None:
        timeout_ns = self._settings.election_timeout_ns
        wait_ns = timeout_ns + self._random.randrange(timeout_ns) + self._preference_ns
        self._election_ns = now_ns + wait_ns

    @property
    def _preference_ns(self) -> int:
        """How much later it stands than a proposer of the highest priority."""
        own = self._priorities.get(self._member_id, 1)
        voters = self._configuration.voters
        highest = max((self._priorities.get(v.member_id, 1) for v in voters), default=own)
        return self._settings.preferred_delay_ns if own < highest else 0

    def _stand(
        self,
        released: Ballot | None,
        now_ns: int,
        effects: Effects,
        *,
        asks_around: bool = True,
    ) -> None:
        self._master = None
        self._successor = 0
        self._candidacy = Candidacy(
            group=self._group,
            member_id=self._member_id,
            incarnation=self._incarnation,
            replica_id=self._replica_id,
            configuration=self._configuration,
            settings=self._settings,
            round_seen=self._round_seen,
            released=released,
            asks_around=asks_around and released is None,
            now_ns=now_ns,
        )
        if self._candidacy.asks_around or released is not None or self._status is None:
            self._candidacy.begin(effects)
        else:
            self._candidacy.prepare(self._status, now_ns, effects)
            self._round_seen = self._candidacy.ballot.round

    def _go_on_standing(self, outcome: Won | Lost | None, now_ns: int, effects: Effects) -> None:
        candidacy = self._candidacy
        if candidacy is None:
            return
        if candidacy.step is not Step.PROBING:
            self._round_seen = max(self._round_seen, candidacy.ballot.round)
        if isinstance(outcome, Won):
            self._lead(outcome.phase_one, outcome.status, outcome.learned_through, now_ns, effects)
        elif isinstance(outcome, Lost):
            self._step_down(outcome.reason, now_ns, effects)
            if outcome.wait_ns:
                # Nobody can lead before: be there when it is over, but not all at once.
                spread_ns = self._random.randrange(self._settings.heartbeat_interval_ns)
                wait_ns = outcome.wait_ns + spread_ns + self._preference_ns
                self._election_ns = min(self._election_ns, now_ns + wait_ns)

    def _on_take_over(self, message: TakeOver, now_ns: int, effects: Effects) -> None:
        """The master has released its lease and wants this member to lead."""
        released = message.released
        if self._reign is not None or not self._replica_id or released.round < self._round_seen:
            return
        if self._candidacy is not None and self._candidacy.step is not Step.PROBING:
            return
        self._round_seen = released.round
        self._stand(released, now_ns, effects)

    def _lead(
        self,
        phase_one: PhaseOne,
        status: LearnerStatus,
        learned_through: int,
        now_ns: int,
        effects: Effects,
    ) -> None:
        self._candidacy = None
        self._master = phase_one.ballot
        self._reign = Reign(
            Seat(
                self._spec,
                self._member_id,
                phase_one.ballot,
                self._configuration,
                self._settings,
            ),
            priorities=self._priorities,
            intake=self._intake,
            reads=self._reads,
            status=status,
            learned_through=learned_through,
            now_ns=now_ns,
        )
        self._reign.begin(phase_one, learned_through, now_ns, effects)

    def _step_down(self, reason: str, now_ns: int, effects: Effects) -> None:
        """Stop leading or trying to; whatever was in flight is for the clients to ask again."""
        candidacy, reign = self._candidacy, self._reign
        self._candidacy = self._reign = None
        self._arm_election(now_ns)
        if self._master is not None and self._master.member_id == self._member_id:
            self._master = None
        pending: list[Request] = []
        if candidacy is not None:
            effects.events.append(CandidacyEnded(self._group, candidacy.ballot, reason))
        elif reign is not None:
            effects.events.append(MasterStopped(self._group, reign.seat.ballot, reason))
            reign.succession.give_up("the master lost the lead meanwhile", effects)
            pending = reign.end(self._configuration, effects)
            self._successor = reign.succession.successor
            if reign.succession.stands_back or reign.is_stuck:
                self._election_ns += STAND_BACK_TIMEOUTS * self._settings.election_timeout_ns
        self._redirect_all(pending, effects)
        self._redirect_all(self._intake.drain(), effects, untouched=True)
        for arrival in self._order.drain():
            self._redirect(arrival.client, arrival.submit.request_id, effects, untouched=True)
        for read in self._reads.drain():
            self._refuse_read(read.client, read.request_id, effects)

    def _redirect_all(
        self, requests: Sequence[Request], effects: Effects, *, untouched: bool = False
    ) -> None:
        for request in requests:
            self._intake.release(request)
            self._redirect(request.client, request.request_id, effects, untouched=untouched)

    def _end_or_go_on(self, reason: str, now_ns: int, effects: Effects) -> None:
        """After the reign had its say: end it for its reason, if it gave one."""
        reign = self._led
        self._redirect_all(reign.take_unanswered(), effects)
        if reason:
            self._step_down(reason, now_ns, effects)
            if reign.has_gap:
                self._stand(None, now_ns, effects)
        elif reign.is_over:
            self._lead_on(now_ns, effects)

    def _lead_on(self, now_ns: int, effects: Effects) -> None:
        """The reign's last instance is learned, and its entry taken: lead on at a new ballot.

        Nobody is asked first who would promise: the leases that this member was granted bar only
        the others. Requests that wait go on waiting.
        """
        reign, status = self._led, self._status
        assert status is not None, "its status said that it is learned"
        if not self._replica_id:
            self._step_down("this member votes no more", now_ns, effects)
            return
        self._reign = None
        effects.events.append(MasterStopped(self._group, reign.seat.ballot, "members changed"))
        self._redirect_all(reign.end(self._configuration, effects), effects)
        for read in self._reads.drain():
            self._refuse_read(read.client, read.request_id, effects)
        self._stand(None, now_ns, effects, asks_around=False)

    def _take_configuration(self, status: LearnerStatus, now_ns: int, effects: Effects) -> bool:
        """Take the configuration that the own learner's log has come to, where it is a later one.

        Returns:
            Whether that changed anything.
        """
        configuration = status.configuration
        if configuration is None or configuration.config_id <= self._configuration.config_id:
            return False
        self._configuration = configuration
        reign = self._reign
        if self._candidacy is not None:
            self._step_down("the members have changed", now_ns, effects)
            if self._replica_id:
                self._stand(None, now_ns, effects)
        elif reign is not None and configuration.config_id != reign.change.instance_id:
            self._step_down("another master has changed the members", now_ns, effects)
        return True

    def _ask_learner(self, through: int, sources: tuple[int, ...], effects: Effects) -> None:
        self._send(self._own_learner, CatchUp(through, sources), effects)

    def _on_nack(self, envelope: Envelope, nack: Nack, now_ns: int, effects: Effects) -> None:
        if nack.reason is NackReason.CONFIGURATION_NEW:
            self._teach(envelope.sender, nack, effects)
        voter = self._voter(envelope, any_configuration=True)
        if voter is None:
            return
        effects.events.append(NackReceived(self._group, voter.member_id, nack.reason))
        if nack.promised is not None:
            self._round_seen = max(self._round_seen, nack.promised.round)
        if nack.config_id > self._configuration.config_id:
            # Its member has the entry, and all before it.
            self._ask_learner(nack.config_id, (voter.member_id,), effects)
        candidacy, reign = self._candidacy, self._reign
        if candidacy is not None:
            outcome = candidacy.on_nack(voter, nack, self._round_seen, now_ns, effects)
            self._go_on_standing(outcome, now_ns, effects)
        elif reign is not None and nack.ballot == reign.seat.ballot:
            reason = ""
            if nack.reason is NackReason.LEASED and voter.member_id == self._member_id:
                reign.authority.note_own_answer(now_ns)
            if nack.reason is NackReason.PROMISED:
                reason = "an acceptor has promised a higher ballot"
            elif nack.reason in (NackReason.CONFIGURATION_OLD, NackReason.NOT_A_VOTER):
                if nack.config_id != reign.change.instance_id:
                    reason = "an acceptor counts another configuration"
            elif nack.reason is NackReason.STORAGE_FULL and voter.member_id == self._member_id:
                reason = "the own disk is full"
            self._end_or_go_on(reason, now_ns, effects)

    def _teach(self, acceptor: Address, nack: Nack, effects: Effects) -> None:
        """An acceptor's member has not learned the configuration: nobody else may tell it."""
        configuration = self._configuration
        if acceptor.role is RoleName.ACCEPTOR and nack.config_id < configuration.config_id:
            learner = Address(acceptor.member_id, RoleName.LEARNER)
            # It may never have heard of this member: nor have its other roles.
            self._send(learner, who_has(configuration, (self._member_id,)), effects)

    def _on_heartbeat(
        self, heartbeat: Heartbeat, config_id: int, now_ns: int, effects: Effects
    ) -> None:
        ballot = heartbeat.ballot
        self._round_seen = max(self._round_seen, ballot.round)
        if ballot.member_id == self._member_id or (
            self._master is not None and ballot < self._master
        ):
            return
        if self.phase is not Phase.FOLLOWING:
            if self._candidacy is not None and self._candidacy.asks_around:
                if not heartbeat.confirmed:
                    return
            elif ballot < self._own_ballot:
                return
            self._master = ballot
            self._step_down("another proposer leads", now_ns, effects)
        if ballot != self._master or config_id > self._configuration.config_id:
            # How far the own learner is, and what it knows of this reign, is told once; and what it
            # told of the configuration is not here, or it has not come to it.
            self._ask_learner(0, (), effects)
        self._master = ballot
        self._successor = 0
        if heartbeat.confirmed:
            self._arm_election(now_ns)

    @property
    def _own_ballot(self) -> Ballot:
        if self._candidacy is not None:
            return self._candidacy.ballot
        return self._led.seat.ballot

    # Acceptors and learners.

    def _on_answer(
        self,
        envelope: Envelope,
        message: Accepted | HeartbeatConfirmed | BelowFloor | Promise | PreVoteGranted,
        now_ns: int,
        effects: Effects,
    ) -> None:
        candidacy, reign = self._candidacy, self._reign
        voter = self._voter(envelope)
        if voter is None:
            return
        match message:
            case Promise() if candidacy is not None:
                outcome = candidacy.on_promise(voter, message, now_ns, effects)
                self._go_on_standing(outcome, now_ns, effects)
            case PreVoteGranted() if candidacy is not None:
                outcome = candidacy.on_pre_vote(voter, message, now_ns, effects)
                self._go_on_standing(outcome, now_ns, effects)
            case Accepted() if reign is not None:
                reign.on_accepted(voter, message, now_ns, effects)
            case HeartbeatConfirmed() if reign is not None:
                reign.on_heartbeat_confirmed(voter, message, now_ns, effects)
            case BelowFloor() if reign is not None:
                self._end_or_go_on(reign.on_below_floor(message), now_ns, effects)
            case _:
                pass

    def _on_learner_status(
        self, envelope: Envelope, status: LearnerStatus, now_ns: int, effects: Effects
    ) -> None:
        if envelope.sender.role is not RoleName.LEARNER:
            return
        reign = self._reign
        own = Voter(envelope.sender.member_id, envelope.replica_id)
        if reign is not None:
            reign.authority.note_heard(own.member_id, envelope.incarnation, status.sent_ns)
            reign.note_status(own, status, now_ns)
        if envelope.sender != self._own_learner:
            return
        if status.configuration is None and envelope.config_id > self._configuration.config_id:
            # How far it is says nothing without the configuration that it has come to, which it
            # tells once that is durable.
            return
        if status.master_version > self.master_record[1]:
            self.master_record = (status.master, status.master_version)
            effects.events.append(MasterChanged(self._group, *self.master_record))
        self._status = status
        if status.ballot is not None:
            self._round_seen = max(self._round_seen, status.ballot.round)
        is_changed = self._take_configuration(status, now_ns, effects)
        if self._candidacy is not None and not is_changed:
            outcome = self._candidacy.on_status(status, now_ns, effects)
            self._go_on_standing(outcome, now_ns, effects)
        elif self._reign is not None:
            if status.stopped:
                reason = f"the own learner stopped: {status.stopped}"
            else:
                reason = self._led.on_own_status(status, envelope.incarnation, now_ns, effects)
            if is_changed and not (reason or self._led.is_over):
                reason = "the members have changed"
            self._end_or_go_on(reason, now_ns, effects)

    # Parts.

    def _voter(self, envelope: Envelope, *, any_configuration: bool = False) -> Voter | None:
        """The voter that an acceptor's reply counts for; None where it counts for nobody."""
        if envelope.sender.role is not RoleName.ACCEPTOR:
            return None
        if not any_configuration and envelope.config_id != self._configuration.config_id:
            return None
        voter = self._configuration.voter(envelope.sender.member_id)
        if voter is None or voter.replica_id != envelope.replica_id:
            return None
        return voter

    def _send(self, to: Address, message: Message, effects: Effects) -> None:
        effects.sends_now.append(Send(to, self._group, message))
