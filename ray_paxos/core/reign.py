"""One reign: what a proposer does from the promises of a majority until it stops leading.

```
 adopted values, no-ops, master record ──▶ accepts ──▶ votes of a majority = chosen
 clients' requests (once serving) ───────▶   │               │ at once       │ coalesced
                                             │               ▼               ▼
                                     re-sent until voted   own learner    other learners
                                                             │ results
                                       clients ◀─────────────┘
```

What entitles it to answer is in `authority`: rounds of heartbeats, the lease, reads. How it hands
over is in `succession`, how it changes who votes in `membership_change`.

The methods return why the reign has to end, or an empty string; the proposer ends it.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ray_paxos.core.authority import Authority, Position
from ray_paxos.core.client_messages import (
    MasterTransferred,
    Redirected,
    Submitted,
    TransferMaster,
)
from ray_paxos.core.effects import Effects
from ray_paxos.core.events import (
    AcceptResent,
    CommandsAnswered,
    HoleFilled,
    InstanceChosen,
    MasterStarted,
    RequestRefused,
    ValueAdopted,
)
from ray_paxos.core.genesis import GENESIS_CONFIG_ID, Configuration, Voter
from ray_paxos.core.intake import Intake, Request
from ray_paxos.core.learner_messages import (
    Applied,
    Chosen,
    ChosenValue,
    LearnerStatus,
    who_has,
)
from ray_paxos.core.membership import change_refused
from ray_paxos.core.membership_change import MembershipChange, Unfit, refuse_change
from ray_paxos.core.membership_messages import ChangeMembership
from ray_paxos.core.messages import (
    Accept,
    Accepted,
    Address,
    BelowFloor,
    HeartbeatConfirmed,
    RoleName,
)
from ray_paxos.core.parts import Part
from ray_paxos.core.parts_messages import TakePart
from ray_paxos.core.phase_one import PhaseOne
from ray_paxos.core.pipeline import OpenInstance, Pipeline, Proposal
from ray_paxos.core.quorum import majority_value
from ray_paxos.core.read_rounds import ReadRounds
from ray_paxos.core.results import EntryResult
from ray_paxos.core.seat import Seat
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.core.succession import Succession
from ray_paxos.core.ticks import Ticks
from ray_paxos.core.values import (
    Entry,
    MachineMount,
    MasterRecord,
    MembershipKind,
    Value,
    decode_value,
    encode_value,
    membership_entry,
)

APPLY_LAG_WINDOWS = 4


class Reign:
    """Leads one group at one ballot.

    Invariants: `is_serving` only once the own learner has applied this reign's master record;
    every heartbeat leaves behind the chosen values it speaks of.

    Attributes:
        seat: Who leads what.
        is_serving: See above.
        has_gap: It ended since the own learner misses what nobody gives it.
        is_stuck: It ended since the own learner has no room.
        authority: What entitles it to answer.
        succession: Who leads after it.
        change: Of who has the group.
    """

    def __init__(
        self,
        seat: Seat,
        *,
        priorities: Mapping[int, int],
        intake: Intake,
        reads: ReadRounds,
        status: LearnerStatus,
        learned_through: int,
        now_ns: int,
    ) -> None:
        """Begin, with a majority's promises for the seat's ballot.

        Args:
            seat: Who leads what.
            priorities: Of the members that have another one than 1.
            intake: The proposer's, with requests that waited for this.
            reads: The proposer's, with none waiting.
            status: The own learner's latest.
            learned_through: Everything up to it is learned here; the reign proposes above it.
            now_ns: The clock.
        """
        self.seat = seat
        self.is_serving = False
        self.has_gap = False
        self.is_stuck = False
        self.authority = Authority(seat, reads, self._position, now_ns)
        self.succession = Succession(seat, priorities)
        self.change = MembershipChange(seat, self.succession.companions)
        self._settings = seat.settings
        self._intake = intake
        self._status = status
        self._status_ns = now_ns
        self._pipeline = Pipeline(seat.ballot, seat.configuration, learned_through)
        self._ticks = Ticks()
        self._started_ns = now_ns
        self._first_log_time_ns = status.log_time_ns
        self._durable: dict[int, int] = {}
        self._unsent: list[ChosenValue] = []
        self._unsent_bytes = 0
        self._flush_ns: int | None = None
        self._gap_since_ns: int | None = None
        self._given_through: int | None = None
        self._fed_ns = now_ns
        self._help_ns = now_ns + seat.settings.retransmit_ns

    def begin(
        self,
        phase_one: PhaseOne,
        learned_through: int,
        now_ns: int,
        effects: Effects,
    ) -> None:
        """Propose again what the promises carry, then the master record (R5).

        The record also mounts those machines of the genesis that nobody has mounted yet. Where a
        membership entry is among what the promises carry, nothing goes above it: what voters of
        this configuration have there is asked again, of those that the entry leaves.
        """
        backlog = self._pipeline.backlog
        self._beat(now_ns, effects)
        for offset, vote in enumerate(phase_one.to_propose(learned_through)):
            instance_id = learned_through + 1 + offset
            if vote is None:
                effects.events.append(HoleFilled(self.seat.group, instance_id))
                backlog.append(Proposal(encode_value(Value(self._log_time_ns(now_ns), ()))))
                continue
            effects.events.append(ValueAdopted(self.seat.group, instance_id, vote.ballot))
            self._take_log_time(vote.value)
            backlog.append(Proposal(vote.value))
            if membership_entry(vote.value) is not None:
                self.change.instance_id = instance_id
                self.pump(now_ns, effects)
                return
        mounted = {machine.name for machine in self._status.mounted}
        entries: tuple[Entry, ...] = (
            MasterRecord(self.seat.ballot),
            *(
                MachineMount(machine.name, machine.kind, machine.version)
                for machine in self.seat.spec.machines
                if machine.name not in mounted
            ),
        )
        record = encode_value(Value(self._log_time_ns(now_ns), entries))
        backlog.append(Proposal(record, is_master_record=True))
        self.pump(now_ns, effects)

    @property
    def open_instances(self) -> int:
        """How many instances are proposed and not chosen yet."""
        return len(self._pipeline.open)

    @property
    def is_over(self) -> bool:
        """Whether it has done the last thing it may: a membership entry of its own is learned."""
        last = self.change.instance_id
        return last is not None and self._status.learned_through >= last

    def end(self, configuration: Configuration, effects: Effects) -> list[Request]:
        """Leave off; tells who asked for a change what came of it.

        Args:
            configuration: That the own learner has come to.
            effects: Takes the answers.

        Returns:
            All requests that are not answered yet, in order, for the proposer to redirect.
        """
        self.change.end(configuration, effects)
        return self._pipeline.take_requests()

    def _log_time_ns(self, now_ns: int) -> int:
        return self._first_log_time_ns + now_ns - self._started_ns

    def _take_log_time(self, value: bytes) -> None:
        # What is adopted was given its time by an earlier master; ours goes on from there (R6).
        try:
            adopted = decode_value(value)
        except msgspec.DecodeError:
            return
        self._first_log_time_ns = max(self._first_log_time_ns, adopted.log_time_ns)

    # Time.

    @property
    def deadline_ns(self) -> int:
        """When `on_deadline` is due next."""
        deadline = min(self.authority.deadline_ns, self._help_ns)
        for due_ns in (
            self.succession.due_ns(self.authority.noticed_until_ns),
            self.change.draining_until_ns,
            self._pipeline.resend_due_ns(self._settings.retransmit_ns),
            self._flush_ns,
            self._tick_due_ns,
        ):
            if due_ns is not None:
                deadline = min(deadline, due_ns)
        return deadline

    def on_deadline(self, now_ns: int, effects: Effects) -> str:
        """Beat, re-send, help the own learner; returns why to stop leading, if it has to."""
        reason = self.authority.missing(now_ns)
        if reason:
            return reason
        if now_ns - self._status_ns > 2 * self._settings.election_timeout_ns:
            return "the own learner does not answer"
        if self._flush_ns is not None and now_ns >= self._flush_ns:
            self._flush_chosen(effects)
        if self.authority.is_beat_due(now_ns):
            self._beat(now_ns, effects)
        self.authority.on_deadline(now_ns, effects)
        for instance in self._pipeline.resend_due(now_ns - self._settings.retransmit_ns):
            self._pipeline.note_sent(instance, now_ns)
            effects.events.append(AcceptResent(self.seat.group, instance.instance_id))
            self._send_accept(instance, effects)
        if now_ns >= self._help_ns:
            self._help_ns = now_ns + self._settings.retransmit_ns
            self._order_parts(now_ns, effects)
            reason = self._help_own_learner(now_ns, effects)
            if reason:
                return reason
        if self._is_tick_due(now_ns):
            self.pump(now_ns, effects)
        return self._go_on_with_orders(now_ns, effects)

    @property
    def _tick_due_ns(self) -> int | None:
        """When a tick is to be proposed; None where none is to be, or may be now."""
        due_ns = self._ticks.due_ns(self._started_ns - self._first_log_time_ns)
        if due_ns is None or not self.is_serving or not self._may_propose():
            return None
        # Once there is room in the window it is looked at again.
        return due_ns if len(self._pipeline.open) < self._settings.window_max else None

    def _is_tick_due(self, now_ns: int) -> bool:
        due_ns = self._tick_due_ns
        return due_ns is not None and now_ns >= due_ns

    def _beat(self, now_ns: int, effects: Effects) -> None:
        self._flush_chosen(effects)
        self.authority.beat(now_ns, effects)
        if self.is_serving and not self.change.bars_requests:
            self.succession.prefer(now_ns)

    def _order_parts(self, now_ns: int, effects: Effects) -> None:
        """Order followers that tell nothing to take part: they may not have the group yet."""
        seat, companions = self.seat, self.succession.companions
        for follower in seat.configuration.followers:
            if not companions.is_heard(follower.member_id, now_ns, self.succession.silence_ns):
                part = Part(follower.replica_id, seat.spec, seat.configuration)
                seat.send(Address(follower.member_id, RoleName.LEARNER), TakePart(part), effects)
        if seat.configuration.config_id != GENESIS_CONFIG_ID:
            self._tell_late(effects)

    def _tell_late(self, effects: Effects) -> None:
        """Who has not come to the configuration hears that this member has the group.

        Those that it knows of may have left, and what it misses may be in a checkpoint that nobody
        else has.
        """
        seat = self.seat
        configuration, own_id = seat.configuration, seat.member_id
        has_it = who_has(configuration, (own_id,))
        for member_id in configuration.member_ids:
            if member_id != own_id and member_id not in self.succession.companions.arrived:
                seat.send(Address(member_id, RoleName.LEARNER), has_it, effects)

    def _position(self) -> Position:
        pipeline, index = self._pipeline, None
        if self.is_serving:
            assert pipeline.master_record_instance is not None
            index = max(pipeline.chosen_through, pipeline.master_record_instance)
        durable, point = self._majority_durable(), self._status.point
        return Position(index, pipeline.chosen_through, durable, point)

    def on_heartbeat_confirmed(
        self, voter: Voter, message: HeartbeatConfirmed, now_ns: int, effects: Effects
    ) -> None:
        """A voter confirmed a round of this reign."""
        if message.ballot == self.seat.ballot:
            self.authority.count(voter, message.sequence, now_ns, effects)

    # Handing over.

    def hand_over(
        self, client: Address, message: TransferMaster, now_ns: int, effects: Effects
    ) -> str:
        """A client wants another member to lead; returns why the reign ends, as all methods."""
        record = self._pipeline.master_record_instance
        if message.version and message.version != record:
            self._answer_for_another_reign(client, message, record, effects)
            return ""
        if self.change.bars_requests:
            self._ask_again(client, message.request_id, effects)
            return ""
        self.succession.ask(
            client,
            message.request_id,
            message.target,
            is_serving=self.is_serving,
            chosen_through=self._pipeline.chosen_through,
            now_ns=now_ns,
            effects=effects,
        )
        return self._go_on_with_orders(now_ns, effects)

    def _answer_for_another_reign(
        self, client: Address, message: TransferMaster, record: int | None, effects: Effects
    ) -> None:
        """The reign that is to end is not this one: it is over, or has deposed this one.

        A record that is not proposed yet comes after every one that anybody has applied.
        """
        answer: MasterTransferred | Redirected
        if record is None or message.version < record:
            answer = MasterTransferred(message.request_id, self.seat.member_id)
        else:
            retry_after_ms = self._settings.heartbeat_interval_ns // MILLISECOND_NS
            answer = Redirected(message.request_id, None, retry_after_ms)
        self.seat.send(client, answer, effects)

    def change_membership(
        self, client: Address, message: ChangeMembership, now_ns: int, effects: Effects
    ) -> str:
        """A client wants another to have the group, or not to; returns as all methods.

        A master that is not to vote any more hands over first; the next one is asked then.
        """
        entry, seat = message.entry, self.seat
        is_ready = self.is_serving and self.succession.handover is None
        ends_own_vote = entry.member_id == seat.member_id and entry.kind in (
            MembershipKind.REMOVE,
            MembershipKind.DEMOTE,
        )
        if is_ready and ends_own_vote and not change_refused(seat.configuration, entry):
            is_ready = False
            if not self.succession.leave(now_ns):
                why = "the master is to vote no more, and no other voter is fit to lead"
                refuse_change(seat, client, message, Unfit(why, is_passing=True), effects)
                return ""
        if not is_ready:
            self._ask_again(client, message.request_id, effects)
            return self._go_on_with_orders(now_ns, effects)
        unfit = self.change.ask(client, message, self._pipeline.chosen_through, now_ns)
        if unfit is not None:
            refuse_change(seat, client, message, unfit, effects)
        return self._go_on_with_orders(now_ns, effects)

    def _ask_again(self, client: Address, request_id: int, effects: Effects) -> None:
        """Something else is on its way that ends this reign, or it has hardly begun."""
        retry_after_ms = self._settings.heartbeat_interval_ns // MILLISECOND_NS
        self.seat.send(client, Redirected(request_id, None, retry_after_ms), effects)

    def _go_on_with_orders(self, now_ns: int, effects: Effects) -> str:
        """Whatever of a handover or a change may be done by now; returns why the reign ends."""
        succession, pipeline = self.succession, self._pipeline
        is_drained = not (pipeline.open or pipeline.backlog or pipeline.awaiting)
        draining_until_ns = self.change.draining_until_ns
        if draining_until_ns is not None:
            self._change_on(is_drained, draining_until_ns, now_ns, effects)
        if succession.handover is None:
            return ""
        if is_drained and not self.authority.is_ending:
            self.authority.is_ending = True
            self._flush_chosen(effects)
        revoked = self._status.revoked
        reason = succession.go_on(
            is_drained=is_drained,
            is_revoked=revoked is not None and revoked >= self.seat.ballot,
            noticed_until_ns=self.authority.noticed_until_ns,
            now_ns=now_ns,
            effects=effects,
        )
        if succession.handover is None:
            self.pump(now_ns, effects)
        return reason

    def _change_on(
        self, is_drained: bool, draining_until_ns: int, now_ns: int, effects: Effects
    ) -> None:
        entry = self.change.take_entry(self._pipeline.next_instance) if is_drained else None
        if entry is not None:
            self._send_accept(self._start((entry,), (), now_ns), effects)
        elif now_ns >= draining_until_ns:
            why = "what was proposed could not be finished in time; the master goes on"
            self.change.give_up(why, effects)
            self.pump(now_ns, effects)

    # Votes.

    def pump(self, now_ns: int, effects: Effects) -> None:
        """Open instances while the window, the learner's lag and memory allow it."""
        pipeline = self._pipeline
        while len(pipeline.open) < self._settings.window_max:
            if pipeline.backlog:
                proposal = pipeline.backlog.popleft()
                if proposal.is_master_record:
                    pipeline.master_record_instance = pipeline.next_instance
                instance = pipeline.start(proposal.value, (), now_ns)
            elif self.is_serving and self._intake and self._may_propose():
                requests = tuple(self._intake.take(now_ns))
                for client, refused in self._intake.take_refused():
                    effects.events.append(RequestRefused(self.seat.group, refused.code))
                    self.seat.send(client, refused, effects)
                if not requests:
                    continue
                entries = tuple(entry for request in requests for entry in request.entries)
                instance = self._start(entries, requests, now_ns)
            elif self._is_tick_due(now_ns):
                instance = self._start((), (), now_ns)
                self._ticks.note_tick(now_ns)
            else:
                return
            self._send_accept(instance, effects)

    def _start(
        self, entries: tuple[Entry, ...], requests: tuple[Request, ...], now_ns: int
    ) -> OpenInstance:
        """Open an instance for these entries, at the log time of now."""
        log_time_ns = self._log_time_ns(now_ns)
        value = encode_value(Value(log_time_ns, entries))
        instance = self._pipeline.start(value, requests, now_ns)
        self._ticks.note_proposed(instance.instance_id, log_time_ns)
        return instance

    def _may_propose(self) -> bool:
        if self.succession.handover is not None or self.change.bars_requests:
            return False
        unapplied = self._pipeline.next_instance - 1 - self._status.applied_through
        return (
            unapplied < APPLY_LAG_WINDOWS * self._settings.window_max
            and self._pipeline.retained_bytes < self._settings.retained_bytes_max
        )

    def _send_accept(self, instance: OpenInstance, effects: Effects) -> None:
        accept = Accept(
            self.seat.ballot,
            instance.instance_id,
            instance.value,
            self.authority.sequence,
            self.authority.lease_ms,
            instance.trace,
        )
        for voter in self.seat.configuration.voters:
            if voter.replica_id not in instance.votes:
                self.seat.send(Address(voter.member_id, RoleName.ACCEPTOR), accept, effects)

    def on_accepted(self, voter: Voter, accepted: Accepted, now_ns: int, effects: Effects) -> None:
        """Count a vote; the majority's last makes its instance chosen."""
        if accepted.ballot != self.seat.ballot:
            return
        if accepted.sequence:
            self.authority.count(voter, accepted.sequence, now_ns, effects)
        chosen = self._pipeline.count(accepted.instance_id, voter.replica_id, now_ns)
        if chosen is None:
            return
        effects.events.append(
            InstanceChosen(self.seat.group, chosen.instance_id, chosen.ballot, chosen.value)
        )
        trace = self._pipeline.awaited_trace(chosen.instance_id)
        self.seat.send(self.seat.own_learner, self._chosen_message((chosen,), trace), effects)
        self._unsent.append(chosen)
        self._unsent_bytes += len(chosen.value)
        if self._flush_ns is None:
            self._flush_ns = now_ns + self._settings.chosen_delay_ns
        is_last = chosen.instance_id == self.change.instance_id
        if is_last or self._unsent_bytes >= self._settings.batch_bytes_max:
            self._flush_chosen(effects)
        self.pump(now_ns, effects)

    def on_below_floor(self, below: BelowFloor) -> str:
        """An accept lies below a vote floor; returns why to stop leading, if it has to."""
        if below.ballot == self.seat.ballot and below.instance_id in self._pipeline.open:
            # Chosen and durable at a majority, without us: someone led after we were promised.
            return "an open instance lies below a vote floor"
        return ""

    # Learners.

    def _chosen_message(self, values: tuple[ChosenValue, ...], trace: str = "") -> Chosen:
        return Chosen(values, self._pipeline.chosen_through, self._majority_durable(), trace)

    def _flush_chosen(self, effects: Effects) -> None:
        """Tell the other learners what was chosen since the last time, in one message each."""
        self._flush_ns = None
        if not self._unsent:
            return
        message = self._chosen_message(tuple(self._unsent))
        self._unsent = []
        self._unsent_bytes = 0
        for member_id in self.seat.members:
            if member_id != self.seat.member_id:
                self.seat.send(Address(member_id, RoleName.LEARNER), message, effects)

    def _majority_durable(self) -> int:
        reported = [self._durable.get(v.member_id, 0) for v in self.seat.configuration.voters]
        return majority_value(reported, len(reported))

    def note_status(self, own: Voter, status: LearnerStatus, now_ns: int) -> None:
        """The learner of a member that has the group reported how far it is.

        Args:
            own: Who, and as which voter; replica_id 0 for a follower's.
            status: What it said.
            now_ns: The clock.
        """
        member_id = own.member_id
        if own in self.seat.configuration.voters:
            self._durable[member_id] = max(self._durable.get(member_id, 0), status.durable_through)
        elif own.replica_id or self.seat.configuration.follower(member_id) is None:
            # What counts is the voter's own log, not that of an earlier or later replica there.
            return
        if status.stopped:
            self.succession.companions.forget(member_id)
            return
        self.succession.companions.note(
            member_id,
            status.learned_through,
            has_arrived=status.durable_through >= self.seat.configuration.config_id,
            wanted=self._pipeline.chosen_through - 2 * self._settings.window_max,
            now_ns=now_ns,
            silence_ns=self.succession.silence_ns,
        )

    def on_own_status(
        self, status: LearnerStatus, incarnation: int, now_ns: int, effects: Effects
    ) -> str:
        """The own learner's progress; returns why to stop leading, if it has to."""
        if not self.authority.note_own_learner(incarnation):
            return ""
        learned_before = self._status.learned_through
        self._status = status
        self._status_ns = now_ns
        self._ticks.note_status(status)
        if status.ballot is not None and status.ballot > self.seat.ballot:
            return "the own learner learned from a higher ballot"
        pipeline = self._pipeline
        pipeline.release_durable(status.durable_through)
        record = pipeline.master_record_instance
        if (
            not self.is_serving
            and record is not None
            and record <= pipeline.chosen_through
            and record <= status.applied_through
        ):
            self.is_serving = True
            effects.events.append(MasterStarted(self.seat.group, self.seat.ballot, record))
        self.authority.tell_lease(now_ns, effects)
        if not learned_before >= status.learned_through < pipeline.chosen_through:
            self._fed_ns = now_ns
        if status.learned_through + 1 >= pipeline.first_kept():
            self._gap_since_ns = None
        elif self._gap_since_ns is None or status.learned_through > learned_before:
            # While it comes on, somebody is giving it what it misses.
            self._gap_since_ns = now_ns
        self._give_back_more(status, effects)
        self.pump(now_ns, effects)
        return self._go_on_with_orders(now_ns, effects)

    def _help_own_learner(self, now_ns: int, effects: Effects) -> str:
        """Give the own learner again what it lost; returns why to stop, where that is gone."""
        pipeline, status = self._pipeline, self._status
        since_ns = self._gap_since_ns
        if since_ns is not None and now_ns - since_ns > self._settings.learner_gap_ns:
            self.has_gap = True
            return "the own learner misses what nobody gives it"
        if now_ns - self._fed_ns > self._settings.disk_stall_ns:
            self.is_stuck = True
            return "the own learner takes nothing in; its disk may be full"
        for instance_id in [i for i in pipeline.awaiting if i <= status.durable_through]:
            # Applied and sealed, but the results were lost on their way: the session has kept
            # them, and gives them to the client when it asks again.
            pipeline.unanswered.extend(pipeline.awaiting.pop(instance_id).requests)
        self.succession.revoke(effects)
        if status.learned_through < pipeline.chosen_through or pipeline.awaiting:
            first = min(status.learned_through + 1, *pipeline.awaiting, pipeline.next_instance)
            self._give_back(first, effects)
        return ""

    def _give_back(self, first: int, effects: Effects) -> None:
        """Send the own learner a batch of what it lost, from an instance on."""
        values = self._pipeline.retained_from(first, self._settings.batch_bytes_max)
        self._given_through = values[-1].instance_id if values else None
        self.seat.send(self.seat.own_learner, self._chosen_message(tuple(values)), effects)

    def _give_back_more(self, status: LearnerStatus, effects: Effects) -> None:
        """The learner took the last batch in: the next one at once, not a retransmission later."""
        given_through = self._given_through
        if given_through is None or status.learned_through < given_through:
            return
        self._given_through = None
        if status.learned_through < self._pipeline.chosen_through:
            self._give_back(status.learned_through + 1, effects)

    def take_unanswered(self) -> list[Request]:
        """Requests whose results were lost, for the proposer to redirect."""
        unanswered = self._pipeline.unanswered
        self._pipeline.unanswered = []
        return unanswered

    def on_applied(self, applied: Applied, now_ns: int, effects: Effects) -> str:
        """Answer the requests of an instance that the own learner applied."""
        if applied.ballot != self.seat.ballot:
            return ""
        instance = self._pipeline.awaiting.pop(applied.instance_id, None)
        if instance is not None:
            self._answer(instance, applied, now_ns, effects)
        return self._go_on_with_orders(now_ns, effects)

    def _answer(
        self, instance: OpenInstance, applied: Applied, now_ns: int, effects: Effects
    ) -> None:
        start = 0
        for request in instance.requests:
            end = start + len(request.entries)
            own: tuple[EntryResult, ...] = applied.results[start:end]
            assert len(own) == len(request.entries), "a result for every entry"
            start = end
            self._intake.release(request)
            self.seat.send(request.client, Submitted(request.request_id, own), effects)
        replicas = {voter.replica_id: voter.member_id for voter in self.seat.configuration.voters}
        answered = CommandsAnswered(
            group=self.seat.group,
            instance_id=instance.instance_id,
            requests=instance.requests,
            byte_count=len(instance.value),
            opened_ns=instance.opened_ns,
            votes=tuple((replicas.get(r, 0), at_ns) for r, at_ns in instance.votes.items()),
            chosen_ns=instance.chosen_ns,
            answered_ns=now_ns,
        )
        effects.events.append(answered)
