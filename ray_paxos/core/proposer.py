"""The proposer of one group at one member: elections, and the clients' requests.

```
          no confirmed master for an election timeout
 Following ──────────────────────────────▶ Probing    asks its own learner how far it is
     ▲                                        │ status (and the learner applies)
     │ higher promise, other master,          ▼
     │ quorum or learner lost             Preparing   one prepare for the whole open log
     ├────────────────────────────────────────│ promises of a majority
     │                                        ▼
     │                                    Learning    up to the highest vote floor
     ├────────────────────────────────────────│
     │                                        ▼
     └──────────────────────────────────── Leading    `Reign`: adopted values, no-ops, its master
                                                      record; serves once that is applied
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

A proposer keeps nothing on disk but its incarnation, so nothing it sends waits for a sync.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Sequence

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.effects import Effects, Send
from ray_paxos.core.events import MasterStopped, MessageRefused, PrepareStarted
from ray_paxos.core.genesis import Configuration, MachineSpec, Voter
from ray_paxos.core.intake import Intake, Request
from ray_paxos.core.messages import (
    Accepted,
    Address,
    Applied,
    BelowFloor,
    CatchUp,
    ChosenValue,
    Envelope,
    Heartbeat,
    HeartbeatConfirmed,
    LearnerStatus,
    Message,
    Nack,
    NackReason,
    OpenSession,
    Prepare,
    Promise,
    Redirected,
    RoleName,
    Submit,
)
from ray_paxos.core.phase_one import PhaseOne
from ray_paxos.core.records import ReadSegments, Record
from ray_paxos.core.reign import Reign
from ray_paxos.core.session_order import SessionOrder
from ray_paxos.core.settings import MILLISECOND_NS, ProposerSettings


class Phase(enum.Enum):
    """What the proposer is doing; see the picture above."""

    FOLLOWING = "following"
    PROBING = "probing"
    PREPARING = "preparing"
    LEARNING = "learning"
    LEADING = "leading"


class Proposer:
    """Proposes for one group at one member.

    Invariants: `_reign` is set exactly while leading and `_phase_one` from preparing to learning;
    `_ballot` never returns to an earlier one; a request that was taken in is answered once.
    """

    def __init__(
        self,
        *,
        group: int,
        member_id: int,
        incarnation: int,
        replica_id: int,
        configuration: Configuration,
        members: tuple[int, ...],
        machines: tuple[MachineSpec, ...],
        settings: ProposerSettings,
        random: random.Random,
        now_ns: int,
    ) -> None:
        """Start as a follower.

        Args:
            group: Whose log.
            member_id: Of this member.
            incarnation: Of the proposer's folder, from 1; a part of every ballot.
            replica_id: This member's identity as a voter; 0 where it does not vote.
            configuration: Who votes.
            members: All members that have the group, voters and followers.
            machines: Of the group at its genesis; mounted by the first master.
            settings: Limits and times.
            random: For time-outs; not shared.
            now_ns: This process's clock.
        """
        self.phase = Phase.FOLLOWING
        self._group = group
        self._member_id = member_id
        self._incarnation = incarnation
        self._replica_id = replica_id
        self._configuration = configuration
        self._members = tuple(sorted(members))
        self._machines = machines
        self._settings = settings
        self._random = random
        self._own_learner = Address(member_id, RoleName.LEARNER)
        self._round_seen = 0
        self._ballot = Ballot(0, member_id, incarnation)
        self._master: Ballot | None = None
        self._status: LearnerStatus | None = None
        self._intake = Intake(settings)
        self._order = SessionOrder()
        self._phase_one: PhaseOne | None = None
        self._reign: Reign | None = None
        self._retry_ns = now_ns
        self._election_ns = now_ns
        self._arm_election(now_ns)
        if incarnation == 1:
            # The first life of a new cluster: there is no master to wait for.
            self._election_ns = now_ns + random.randrange(settings.election_timeout_ns // 2)

    # The role's interface.

    def stamp(self, group: int) -> tuple[int, int]:
        """(replica_id, config_id) it counts under."""
        return self._replica_id, self._configuration.config_id

    def on_durable(self, records: Sequence[Record], now_ns: int) -> Effects:
        """A proposer emits no records."""
        return Effects()

    def on_read(
        self, read: ReadSegments, reader: Address, values: Sequence[ChosenValue], now_ns: int
    ) -> Effects:
        """A proposer reads no segments."""
        return Effects()

    @property
    def deadline_ns(self) -> int | None:
        """The next time something is due."""
        if self.phase is Phase.FOLLOWING:
            return self._election_ns if self._replica_id else None
        if self._reign is not None:
            due_ns = self._order.due_ns
            deadline_ns = self._reign.deadline_ns
            return deadline_ns if due_ns is None else min(deadline_ns, due_ns)
        return min(self._retry_ns, self._election_ns)

    def handle(self, envelope: Envelope, now_ns: int) -> Effects:
        """Take one message in."""
        effects = Effects()
        message = envelope.message
        match message:
            case Accepted() | HeartbeatConfirmed() | BelowFloor():
                self._on_vote(envelope, message, now_ns, effects)
            case Submit() | OpenSession():
                self._on_request(envelope.sender, message, now_ns, effects)
            case Applied():
                if self._reign is not None and envelope.sender == self._own_learner:
                    self._reign.on_applied(message, effects)
            case LearnerStatus():
                self._on_learner_status(envelope, message, now_ns, effects)
            case Promise():
                self._on_promise(envelope, message, now_ns, effects)
            case Nack():
                self._on_nack(envelope, message, now_ns, effects)
            case Heartbeat(ballot=Ballot(member_id=member_id)) if envelope.sender == Address(
                member_id, RoleName.PROPOSER
            ):
                self._on_heartbeat(message, now_ns, effects)
            case _:
                refused = MessageRefused(self._group, f"{type(message).__name__} to a proposer")
                effects.events.append(refused)
        return effects

    def on_deadline(self, now_ns: int) -> Effects:
        """Do what is due."""
        effects = Effects()
        if self._reign is not None:
            for arrival in self._order.expire(now_ns):
                self._offer(arrival.client, arrival.submit, effects)
            self._reign.pump(now_ns, effects)
            reason = self._reign.on_deadline(now_ns, effects)
            self._end_or_go_on(reason, now_ns, effects)
        elif self.phase is Phase.FOLLOWING:
            if self._replica_id and now_ns >= self._election_ns:
                self._probe(now_ns, effects)
        elif now_ns >= self._election_ns:
            self._step_down("no majority answered in time", now_ns, effects)
        elif now_ns >= self._retry_ns:
            self._retry(now_ns, effects)
        return effects

    # Clients.

    @property
    def is_serving(self) -> bool:
        """Whether it leads and has applied its own master record."""
        return self._reign is not None and self._reign.is_serving

    @property
    def master_id(self) -> int | None:
        """The member that leads, as far as this proposer knows; itself only while serving."""
        if self.phase is Phase.LEADING:
            return self._member_id if self.is_serving else None
        return self._master.member_id if self._master is not None else None

    def _on_request(
        self, client: Address, message: Submit | OpenSession, now_ns: int, effects: Effects
    ) -> None:
        if self.phase is Phase.FOLLOWING:
            self._redirect(client, message.request_id, effects)
            return
        if isinstance(message, Submit):
            for arrival in self._order.arrive(client, message, now_ns):
                self._offer(arrival.client, arrival.submit, effects)
        else:
            self._offer(client, message, effects)
        if self._reign is not None:
            self._reign.pump(now_ns, effects)

    def _offer(self, client: Address, message: Submit | OpenSession, effects: Effects) -> None:
        refused = self._intake.offer(client, message)
        if refused is None:
            return
        self._send(client, refused, effects)
        if isinstance(message, Submit):
            for arrival in self._order.refused(message):
                self._offer(arrival.client, arrival.submit, effects)

    def _redirect(self, client: Address, request_id: int, effects: Effects) -> None:
        master = self.master_id
        if master == self._member_id:
            master = None
        retry_after_ms = 0
        if master is None:
            retry_after_ms = self._settings.heartbeat_interval_ns // MILLISECOND_NS
        self._send(client, Redirected(request_id, master, retry_after_ms), effects)

    # Elections.

    def _arm_election(self, now_ns: int) -> None:
        timeout_ns = self._settings.election_timeout_ns
        self._election_ns = now_ns + timeout_ns + self._random.randrange(timeout_ns)

    def _enter(self, phase: Phase, now_ns: int) -> None:
        self.phase = phase
        self._retry_ns = now_ns + self._settings.retransmit_ns
        self._arm_election(now_ns)

    def _probe(self, now_ns: int, effects: Effects) -> None:
        self._enter(Phase.PROBING, now_ns)
        self._master = None
        self._send(self._own_learner, CatchUp(0, ()), effects)

    def _prepare(self, status: LearnerStatus, now_ns: int, effects: Effects) -> None:
        self._enter(Phase.PREPARING, now_ns)
        self._round_seen = max(self._round_seen, self._ballot.round) + 1
        self._ballot = Ballot(self._round_seen, self._member_id, self._incarnation)
        from_instance = max(status.learned_through, self._configuration.config_id) + 1
        self._phase_one = PhaseOne(self._ballot, from_instance, self._configuration)
        effects.events.append(PrepareStarted(self._group, self._ballot, from_instance))
        for voter in self._configuration.voters:
            self._send_prepare(self._phase_one, voter, effects)

    def _send_prepare(self, phase_one: PhaseOne, voter: Voter, effects: Effects) -> None:
        page = phase_one.next_page(voter.replica_id)
        if page is not None:
            acceptor = Address(voter.member_id, RoleName.ACCEPTOR)
            self._send(acceptor, Prepare(phase_one.ballot, page), effects)

    def _retry(self, now_ns: int, effects: Effects) -> None:
        self._retry_ns = now_ns + self._settings.retransmit_ns
        phase_one = self._phase_one
        if self.phase is Phase.PROBING or phase_one is None:
            self._send(self._own_learner, CatchUp(0, ()), effects)
        elif self.phase is Phase.PREPARING:
            for voter in self._configuration.voters:
                self._send_prepare(phase_one, voter, effects)
        elif self.phase is Phase.LEARNING:
            self._send_catch_up(phase_one, effects)

    def _on_promise(
        self, envelope: Envelope, promise: Promise, now_ns: int, effects: Effects
    ) -> None:
        phase_one = self._phase_one
        voter = self._voter(envelope)
        if phase_one is None or voter is None or promise.ballot != phase_one.ballot:
            return
        if phase_one.add(voter.member_id, voter.replica_id, promise) is not None:
            self._send_prepare(phase_one, voter, effects)
        if self.phase is Phase.PREPARING and phase_one.is_promised:
            self._enter(Phase.LEARNING, now_ns)
            self._learn_or_lead(now_ns, effects)
            if self._phase_one is phase_one:
                self._send_catch_up(phase_one, effects)

    def _send_catch_up(self, phase_one: PhaseOne, effects: Effects) -> None:
        # Never in answer to a status, which is the answer to this: the learner tells by itself
        # how it comes on, and two answers to one question would double for ever.
        catch_up = CatchUp(phase_one.floor - 1, phase_one.floor_sources)
        self._send(self._own_learner, catch_up, effects)

    def _learn_or_lead(self, now_ns: int, effects: Effects) -> None:
        phase_one, status = self._phase_one, self._status
        assert phase_one is not None and status is not None
        learned_through = max(status.learned_through, self._configuration.config_id)
        if learned_through < phase_one.from_instance - 1:
            # The learner restarted behind what was asked about: the votes in between are unknown.
            self._prepare(status, now_ns, effects)
        elif learned_through >= phase_one.floor - 1:
            self._lead(phase_one, status, learned_through, now_ns, effects)

    def _lead(
        self,
        phase_one: PhaseOne,
        status: LearnerStatus,
        learned_through: int,
        now_ns: int,
        effects: Effects,
    ) -> None:
        self._phase_one = None
        self._enter(Phase.LEADING, now_ns)
        self._master = self._ballot
        self._reign = Reign(
            group=self._group,
            member_id=self._member_id,
            ballot=self._ballot,
            configuration=self._configuration,
            members=self._members,
            settings=self._settings,
            intake=self._intake,
            status=status,
            learned_through=learned_through,
            now_ns=now_ns,
        )
        self._reign.begin(phase_one, learned_through, self._machines, now_ns, effects)

    def _step_down(self, reason: str, now_ns: int, effects: Effects) -> None:
        """Stop leading or trying to; whatever was in flight is for the clients to ask again."""
        if self.phase is not Phase.FOLLOWING:
            effects.events.append(MasterStopped(self._group, self._ballot, reason))
        if self._master is not None and self._master.member_id == self._member_id:
            self._master = None
        pending = self._reign.end() if self._reign is not None else []
        pending += self._intake.drain()
        self._phase_one = None
        self._reign = None
        self._enter(Phase.FOLLOWING, now_ns)
        self._redirect_all(pending, effects)
        for arrival in self._order.drain():
            self._redirect(arrival.client, arrival.submit.request_id, effects)

    def _redirect_all(self, requests: Sequence[Request], effects: Effects) -> None:
        for request in requests:
            self._intake.release(request)
            self._redirect(request.client, request.request_id, effects)

    def _end_or_go_on(self, reason: str, now_ns: int, effects: Effects) -> None:
        """After the reign had its say: end it for its reason, if it gave one."""
        reign, status = self._reign, self._status
        assert reign is not None and status is not None
        self._redirect_all(reign.take_unanswered(), effects)
        if reason:
            self._step_down(reason, now_ns, effects)
            if reign.has_gap:
                self._prepare(status, now_ns, effects)

    def _on_nack(self, envelope: Envelope, nack: Nack, now_ns: int, effects: Effects) -> None:
        if self._voter(envelope, any_configuration=True) is None:
            return
        if nack.promised is not None:
            self._round_seen = max(self._round_seen, nack.promised.round)
        if nack.ballot != self._ballot or self.phase in (Phase.FOLLOWING, Phase.PROBING):
            return
        if nack.reason is NackReason.PROMISED:
            self._step_down("an acceptor has promised a higher ballot", now_ns, effects)
        elif nack.reason in (NackReason.CONFIGURATION_OLD, NackReason.NOT_A_VOTER):
            self._step_down("an acceptor counts another configuration", now_ns, effects)

    def _on_heartbeat(self, heartbeat: Heartbeat, now_ns: int, effects: Effects) -> None:
        ballot = heartbeat.ballot
        self._round_seen = max(self._round_seen, ballot.round)
        if ballot.member_id == self._member_id or (
            self._master is not None and ballot < self._master
        ):
            return
        if self.phase is not Phase.FOLLOWING:
            if ballot < self._ballot and self.phase is not Phase.PROBING:
                return
            if self.phase is Phase.PROBING and not heartbeat.confirmed:
                return
            self._master = ballot
            self._step_down("another proposer leads", now_ns, effects)
        self._master = ballot
        if heartbeat.confirmed:
            self._arm_election(now_ns)

    # Acceptors and learners.

    def _on_vote(
        self,
        envelope: Envelope,
        message: Accepted | HeartbeatConfirmed | BelowFloor,
        now_ns: int,
        effects: Effects,
    ) -> None:
        reign = self._reign
        voter = self._voter(envelope)
        if reign is None or voter is None:
            return
        match message:
            case Accepted():
                reign.on_accepted(voter, message, now_ns, effects)
            case HeartbeatConfirmed():
                reign.on_heartbeat_confirmed(voter, message)
            case BelowFloor():
                self._end_or_go_on(reign.on_below_floor(message), now_ns, effects)

    def _on_learner_status(
        self, envelope: Envelope, status: LearnerStatus, now_ns: int, effects: Effects
    ) -> None:
        if envelope.sender.role is not RoleName.LEARNER:
            return
        # What counts is the voter's own log, not that of an earlier or later replica there.
        own = Voter(envelope.sender.member_id, envelope.replica_id)
        if self._reign is not None and own in self._configuration.voters:
            self._reign.note_durable(own.member_id, status.durable_through)
        if envelope.sender != self._own_learner:
            return
        learned_before = self._status.learned_through if self._status is not None else 0
        self._status = status
        if status.ballot is not None:
            self._round_seen = max(self._round_seen, status.ballot.round)
        if self.phase is Phase.FOLLOWING:
            return
        if status.stopped:
            self._step_down(f"the own learner stopped: {status.stopped}", now_ns, effects)
        elif self._reign is not None:
            reason = self._reign.on_own_status(status, now_ns, effects)
            self._end_or_go_on(reason, now_ns, effects)
        elif self.phase is Phase.PROBING:
            self._prepare(status, now_ns, effects)
        elif self.phase is Phase.LEARNING:
            if learned_before < status.learned_through:
                self._arm_election(now_ns)
            self._learn_or_lead(now_ns, effects)

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
