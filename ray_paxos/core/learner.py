"""The learner of one group at one member: the chosen log, and the machines that follow it.

Rules:

1. It learns an instance only from a message that says it is chosen, with the value (R4): the
   proposer that counted the votes, or another member's log. What its own acceptor voted for says
   nothing about what was chosen.
2. It applies instances in order, once each (R6), and tells its own member's proposer the results.
3. It alone publishes segments of the chosen log; what it reports durable is in sealed segments.
4. It raises its acceptor's vote floor only over what is contiguous, durable here, and by the
   master's word durable at a majority.
5. It answers reads, as fresh as they ask for, from what it has applied (`learner_reads`).
6. A machine that fails, or chains that differ from the master's, stop *applying*, with an alarm;
   learning and sealing go on (R12).
7. While too much waits to be sealed (the disk is full) it takes nothing more in, and asks for
   nothing; it is the same as if the messages were lost (R10).
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Iterable, Sequence

import msgspec

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.catch_up import CatchUpPlan
from ray_paxos.core.chosen_log import ChosenLog
from ray_paxos.core.client_messages import Flush, Query, QueryFailed, QueryProblem, QueryResult
from ray_paxos.core.effects import Effects, Send
from ray_paxos.core.events import (
    ApplyingStopped,
    CaughtUp,
    CommandRefused,
    InstanceApplied,
    InvariantBroken,
    MessageRefused,
    SegmentsSealed,
)
from ray_paxos.core.genesis import Configuration
from ray_paxos.core.learner_reads import LearnerReads
from ray_paxos.core.lease import Notice
from ray_paxos.core.messages import (
    Address,
    Applied,
    CatchUp,
    ChainPoint,
    Chosen,
    ChosenValue,
    Envelope,
    Heartbeat,
    LearnerStatus,
    LearnReply,
    LearnRequest,
    LeaseNotice,
    Message,
    RaiseVoteFloor,
    RevokeLease,
    RoleName,
    SegmentMerged,
    SegmentsWanted,
    VoteFloorRaised,
)
from ray_paxos.core.records import (
    PublishMerged,
    ReadSegments,
    Record,
    SealedInstance,
    SealSegment,
)
from ray_paxos.core.results import EntryResult, NoteCode, encode_results
from ray_paxos.core.sealing import Sealing
from ray_paxos.core.settings import LearnerSettings
from ray_paxos.core.values import EMPTY_CHAIN, decode_value, extend_chain
from ray_paxos.errors import ApplyStoppedError, QueryError
from ray_paxos.machines.host import MachineHost

POINTS_MAX = 4096
REFUSALS = (
    NoteCode.GAP,
    NoteCode.CLOSED,
    NoteCode.SESSION_EXPIRED,
    NoteCode.SESSION_UNKNOWN,
    NoteCode.OVERLOADED,
)


class Learner:
    """Learns, applies and seals for one group.

    Invariants: applied_through <= learned_through; durable_through <= learned_through; the host
    has applied exactly the instances up to `applied_through`.
    """

    def __init__(
        self,
        *,
        group: int,
        member_id: int,
        replica_id: int,
        configuration: Configuration,
        members: tuple[int, ...],
        host: MachineHost,
        settings: LearnerSettings,
        random: random.Random,
        now_ns: int,
        incarnation: int,
        sealed: Iterable[SealedInstance],
        segments: Sequence[tuple[int, int, int]],
    ) -> None:
        """Go on from what is sealed.

        Args:
            group: Whose log.
            member_id: Of this member.
            replica_id: As a voter; 0 where it does not vote.
            configuration: Who votes.
            members: All members that have the group.
            host: The group's machines here, with nothing applied.
            settings: Limits and times.
            random: Chooses whom to ask; not shared.
            now_ns: This process's clock.
            incarnation: Of the learner's folder.
            sealed: All sealed instances, from 1, in order; applied here and now.
            segments: (first, last, bytes) of the segments they came from.
        """
        self.host = host
        self.stopped = ""
        self.applied_through = 0
        self._group = group
        self._member_id = member_id
        self._replica_id = replica_id
        self._configuration = configuration
        self._settings = settings
        self._log = ChosenLog(settings.pending_bytes_max)
        self._catch_up = CatchUpPlan(
            member_id=member_id, members=members, settings=settings, random=random
        )
        self._acceptor = Address(member_id, RoleName.ACCEPTOR)
        self._proposer = Address(member_id, RoleName.PROPOSER)
        self._checkpointer = Address(member_id, RoleName.CHECKPOINTER)
        self._ballot: Ballot | None = None
        self._reads = LearnerReads(incarnation)
        self._now_ns = now_ns
        self._result_chain = EMPTY_CHAIN
        self._result_chains: dict[int, bytes] = {}
        self._results: OrderedDict[int, tuple[EntryResult, ...]] = OrderedDict()
        self._points: OrderedDict[int, ChainPoint] = OrderedDict()
        self._majority_durable = 0
        self._floor_confirmed = 1
        self._awaited_through = 0
        self._floor_asked_ns: int | None = None
        self._sealing = Sealing(group, settings, self._log, segments)
        self._segments_told = False
        self._alarms: list[ApplyingStopped] = []
        self._replay(sealed)

    def _replay(self, sealed: Iterable[SealedInstance]) -> None:
        for instance in sealed:
            # Of each instance anew: together they would hold the whole log in memory.
            effects = Effects()
            added = self._log.add(instance.chosen)
            assert added and self._log.learned_through == instance.chosen.instance_id
            self._note_ballot(instance.chosen)
            self._apply_learned(effects)
            self._sealing.note_replayed()
            self._results.clear()
            self._result_chains.clear()
            self._alarms += [e for e in effects.events if isinstance(e, ApplyingStopped)]

    # The role's interface.

    @property
    def durable_through(self) -> int:
        """The end of what is in sealed, durable segments."""
        return self._sealing.durable_through

    @property
    def learned_through(self) -> int:
        """The end of the contiguous learned prefix."""
        return self._log.learned_through

    @property
    def is_full(self) -> bool:
        """Whether it takes nothing more in until something is sealed."""
        return self._sealing.is_full

    def lease_point(self, now_ns: int) -> int | None:
        """From which instance on it may answer by its own member's lease now; None: not at all."""
        return self._reads.lease.read_point(now_ns, self._configuration.config_id, self._ballot)

    def stamp(self, group: int) -> tuple[int, int]:
        """(replica_id, config_id) it follows."""
        return self._replica_id, self._configuration.config_id

    @property
    def deadline_ns(self) -> int | None:
        """When a seal, a question or a vote floor is due next."""
        deadlines = []
        if self._sealing.due_ns is not None:
            deadlines.append(self._sealing.due_ns)
        if self._catch_up.retry_ns is not None:
            deadlines.append(self._catch_up.retry_ns)
        if self._floor_asked_ns is not None:
            deadlines.append(self._floor_asked_ns + self._settings.catch_up_retry_ns)
        return min(deadlines, default=None)

    def on_deadline(self, now_ns: int) -> Effects:
        """Seal what is old enough, ask again what was not answered."""
        effects = Effects()
        self._go_on(now_ns, effects)
        return effects

    def handle(self, envelope: Envelope, now_ns: int) -> Effects:
        """Take one message in."""
        effects = Effects()
        message = envelope.message
        self._now_ns = now_ns
        if envelope.sender == self._proposer:
            self._reads.lease.heard(envelope.incarnation)
        match message:
            case Chosen():
                self._on_chosen(envelope, message, now_ns, effects)
            case Heartbeat():
                self._on_heartbeat(envelope, message, now_ns, effects)
            case Query():
                self._on_query(envelope, message, now_ns, effects)
            case LeaseNotice():
                self._on_lease_notice(envelope, message, effects)
            case RevokeLease(ballot=ballot) if envelope.sender == self._proposer:
                self._reads.lease.revoke(ballot)
                self._send(self._proposer, self.status(), effects)
            case CatchUp(through=through, sources=sources):
                self._catch_up.aim(through, sources)
                self._awaited_through = max(self._awaited_through, through)
                self._go_on(now_ns, effects)
                self._send(envelope.sender, self.status(), effects)
            case LearnRequest():
                self._on_learn_request(envelope, message, effects)
            case LearnReply():
                self._on_learn_reply(envelope, message, now_ns, effects)
            case VoteFloorRaised(floor=floor):
                self._floor_confirmed = max(self._floor_confirmed, floor)
                self._floor_asked_ns = None
            case SegmentMerged():
                self._on_segment_merged(envelope, message, effects)
            case SegmentsWanted():
                self._segments_told = False
                self._go_on(now_ns, effects)
            case Flush():
                self._sealing.flush()
                self._go_on(now_ns, effects)
                self._send(envelope.sender, self.status(), effects)
            case _:
                refused = MessageRefused(self._group, f"{type(message).__name__} to a learner")
                effects.events.append(refused)
        return effects

    def status(self) -> LearnerStatus:
        """How far it is, as of the latest message that it handled."""
        at = self.applied_through
        if self.stopped:
            point = ChainPoint(self._log.learned_through, self._log.end_chain, None)
        else:
            # While it applies several, more is learned than is applied.
            is_end = at == self._log.learned_through
            chain = self._log.end_chain if is_end else self._log.chain(at)
            point = ChainPoint(at, chain, self._result_chain)
        return LearnerStatus(
            self._log.learned_through,
            at,
            self.durable_through,
            1,
            point,
            self.host.log_time_ns,
            self._ballot,
            self.host.mounted,
            self.stopped,
            self._now_ns,
            self.host.master.ballot.member_id if self.host.master is not None else 0,
            self.host.master_version,
            self._reads.lease.proposer_incarnation,
            self._reads.lease.revoked,
        )

    # Learning.

    def _on_chosen(
        self, envelope: Envelope, message: Chosen, now_ns: int, effects: Effects
    ) -> None:
        sender = envelope.sender
        if sender.role is not RoleName.PROPOSER:
            effects.events.append(MessageRefused(self._group, "chosen, from no proposer"))
            return
        already_applied = self.applied_through
        self._learn(message.values, now_ns, effects)
        self._note_majority_durable(envelope, message)
        self._catch_up.aim(message.chosen_through, (sender.member_id,))
        self._go_on(now_ns, effects)
        if sender == self._proposer:
            for chosen in message.values:
                # The proposer asks again for what it has no results of: they are kept till sealed.
                results = self._results.get(chosen.instance_id)
                if (
                    results is not None
                    and chosen.instance_id <= already_applied
                    and self._log.value(chosen.instance_id).value == chosen.value
                ):
                    applied = Applied(chosen.instance_id, chosen.ballot, results)
                    self._send(self._proposer, applied, effects)
        self._send(sender, self.status(), effects)

    def _on_heartbeat(
        self, envelope: Envelope, message: Heartbeat, now_ns: int, effects: Effects
    ) -> None:
        if envelope.sender.role is not RoleName.PROPOSER:
            effects.events.append(MessageRefused(self._group, "a heartbeat, from no proposer"))
            return
        self._note_majority_durable(envelope, message)
        self._catch_up.aim(message.chosen_through, (envelope.sender.member_id,))
        self._compare(message.point, effects)
        self._go_on(now_ns, effects)
        if self._counts(envelope):
            self._reads.on_heartbeat(message, self.applied_through)
        self._send(envelope.sender, self.status(), effects)

    def _counts(self, envelope: Envelope) -> bool:
        """Whether its sender's majorities are still majorities; what is chosen stays chosen."""
        return envelope.config_id >= self._configuration.config_id

    def _note_majority_durable(self, envelope: Envelope, message: Chosen | Heartbeat) -> None:
        if self._counts(envelope):
            self._majority_durable = max(self._majority_durable, message.majority_durable)

    def _on_learn_reply(
        self, envelope: Envelope, message: LearnReply, now_ns: int, effects: Effects
    ) -> None:
        if envelope.sender.role not in (RoleName.LEARNER, RoleName.CHECKPOINTER):
            effects.events.append(MessageRefused(self._group, "a log, from no learner"))
            return
        before = self._log.learned_through
        self._learn(message.values, now_ns, effects)
        learned = self._log.learned_through - before
        if learned:
            source = envelope.sender.member_id
            effects.events.append(CaughtUp(self._group, source, learned))
        if not self._sealing.is_full:
            question = self._catch_up.answered(
                envelope.sender, message, self._log.learned_through, now_ns
            )
            if question is not None:
                self._send(question[0], question[1], effects)
        self._go_on(now_ns, effects)
        if learned and before < self._awaited_through:
            # The own proposer has been promised, and waits for this.
            self._send(self._proposer, self.status(), effects)

    def _on_learn_request(
        self, envelope: Envelope, message: LearnRequest, effects: Effects
    ) -> None:
        values = self._log.read(message.from_instance, message.bytes_max)
        reply = LearnReply(
            message.from_instance,
            tuple(values),
            self._log.learned_through,
            self._log.memory_floor,
        )
        self._send(envelope.sender, reply, effects)

    def _learn(self, values: Sequence[ChosenValue], now_ns: int, effects: Effects) -> None:
        for chosen in values:
            if self._sealing.is_full and chosen.instance_id > self._log.learned_through:
                # It is chosen, so somebody gives it again.
                continue
            if not self._log.add(chosen):
                what = f"two values chosen at instance {chosen.instance_id}"
                effects.events.append(InvariantBroken(self._group, what))
                self._stop_applying(what, effects)
                continue
            self._note_ballot(chosen)
            self._sealing.note_learned(now_ns)
            self._apply_learned(effects)

    def _note_ballot(self, chosen: ChosenValue) -> None:
        if self._ballot is None or chosen.ballot > self._ballot:
            self._ballot = chosen.ballot

    def _go_on(self, now_ns: int, effects: Effects) -> None:
        """Whatever is due after a change: sealing, the vote floor, catching up."""
        effects.events += self._alarms
        self._alarms = []
        if self._sealing.is_full:
            self._catch_up.rest()
        else:
            question = self._catch_up.ask(self._log.learned_through, now_ns)
            if question is not None:
                self._send(question[0], question[1], effects)
        self._seal_if_due(now_ns, effects)
        self._raise_floor(now_ns, effects)
        if not self._segments_told:
            self._segments_told = True
            for segment in self._sealing.segments:
                self._send(self._checkpointer, segment, effects)

    # Applying.

    def _apply_learned(self, effects: Effects) -> None:
        while not self.stopped and self.applied_through < self._log.learned_through:
            chosen = self._log.value(self.applied_through + 1)
            try:
                results = self.host.apply(chosen.instance_id, decode_value(chosen.value))
            except (ApplyStoppedError, msgspec.DecodeError) as error:
                self._stop_applying(f"instance {chosen.instance_id}: {error}", effects)
                return
            self._note_applied(chosen, results, effects)

    def _note_applied(
        self, chosen: ChosenValue, results: tuple[EntryResult, ...], effects: Effects
    ) -> None:
        instance_id = chosen.instance_id
        self.applied_through = instance_id
        encoded = encode_results(results)
        self._sealing.note_applied(instance_id, len(encoded))
        self._result_chain = extend_chain(self._result_chain, encoded)
        self._result_chains[instance_id] = self._result_chain
        self._results[instance_id] = results
        chain = self._log.chain(instance_id)
        self._points[instance_id] = ChainPoint(instance_id, chain, self._result_chain)
        if len(self._points) > POINTS_MAX:
            self._points.popitem(last=False)
        applied = InstanceApplied(self._group, instance_id, chosen.value, self._result_chain)
        effects.events.append(applied)
        for entry in results:
            for note in entry.notes.values():
                if note.code in REFUSALS:
                    refused = CommandRefused(self._group, instance_id, int(note.code))
                    effects.events.append(refused)
        if self.host.master_version == instance_id:
            # For those who watch who leads, at whatever member.
            self._send(self._proposer, self.status(), effects)
        if chosen.ballot.member_id == self._member_id:
            self._send(self._proposer, Applied(instance_id, chosen.ballot, results), effects)

    def _stop_applying(self, why: str, effects: Effects) -> None:
        if not self.stopped:
            self.stopped = why
            effects.events.append(ApplyingStopped(self._group, why))

    def _compare(self, point: ChainPoint, effects: Effects) -> None:
        """Compare the master's chains with ours at the same instance (R12)."""
        own = self._points.get(point.instance_id)
        if own is None or self.stopped:
            return
        if own.chain != point.chain:
            self._stop_applying(f"values differ at or before {point.instance_id}", effects)
        elif point.result_chain is not None and own.result_chain != point.result_chain:
            self._stop_applying(f"results differ at or before {point.instance_id}", effects)

    # Reads.

    def _on_lease_notice(self, envelope: Envelope, message: LeaseNotice, effects: Effects) -> None:
        if envelope.sender != self._proposer or message.ballot.member_id != self._member_id:
            effects.events.append(MessageRefused(self._group, "a notice of another's lease"))
            return
        notice = Notice(
            message.ballot, envelope.config_id, message.until_ns, message.chosen_through
        )
        self._reads.lease.noticed(notice, envelope.incarnation, message.learner_incarnation)

    def _on_query(self, envelope: Envelope, query: Query, now_ns: int, effects: Effects) -> None:
        refusal = None
        if self.stopped:
            refusal = QueryProblem.STOPPED, self.stopped
        else:
            refusal = self._reads.refusal(
                query,
                applied_through=self.applied_through,
                now_ns=now_ns,
                config_id=self._configuration.config_id,
                learned=self._ballot,
            )
        if refusal is None:
            self._answer_query(envelope, query, effects)
            return
        problem, why = refusal
        master = self.host.master.ballot.member_id if self.host.master is not None else 0
        failed = QueryFailed(query.request_id, self.applied_through, why, problem, master)
        self._send(envelope.sender, failed, effects)

    def _answer_query(self, envelope: Envelope, query: Query, effects: Effects) -> None:
        request_id, applied_through = query.request_id, self.applied_through
        reply: Message
        try:
            result = self.host.query(query.machine, query.request)
            reply = QueryResult(request_id, applied_through, result, self._ballot)
        except QueryError as error:
            refused = QueryProblem.REFUSED
            reply = QueryFailed(request_id, applied_through, str(error), refused)
        self._send(envelope.sender, reply, effects)

    # Sealing.

    def _seal_if_due(self, now_ns: int, effects: Effects) -> None:
        # While applying is stopped, what is learned is sealed without results.
        limit = self._log.learned_through if self.stopped else self.applied_through
        order = self._sealing.take_due(limit, self._result_chains, now_ns)
        if order is not None:
            effects.records.append(order)

    def on_durable(self, records: Sequence[Record], now_ns: int) -> Effects:
        """Segments are sealed, or a merged one took the place of its parts."""
        effects = Effects()
        for record in records:
            if isinstance(record, SealSegment):
                self._on_sealed(record, effects)
            elif isinstance(record, PublishMerged):
                self._sealing.published(record)
        self._go_on(now_ns, effects)
        return effects

    def _on_sealed(self, record: SealSegment, effects: Effects) -> None:
        segment = self._sealing.sealed(record)
        for instance_id in range(segment.first, segment.last + 1):
            self._result_chains.pop(instance_id, None)
            self._results.pop(instance_id, None)
        effects.events.append(SegmentsSealed(self._group, segment.first, segment.last))
        if self._segments_told:
            self._send(self._checkpointer, segment, effects)

    def _on_segment_merged(
        self, envelope: Envelope, message: SegmentMerged, effects: Effects
    ) -> None:
        is_own = envelope.sender == self._checkpointer
        order = self._sealing.merge(message) if is_own else None
        if order is None:
            effects.events.append(MessageRefused(self._group, "a merge that is not ours"))
        else:
            effects.records.append(order)

    def on_read(
        self, read: ReadSegments, reader: Address, values: Sequence[ChosenValue], now_ns: int
    ) -> Effects:
        """The learner's own reads come from memory; its checkpointer reads segments."""
        return Effects()

    def _raise_floor(self, now_ns: int, effects: Effects) -> None:
        """Ask for a higher vote floor where both this member and a majority are durable."""
        floor = min(self.durable_through, self._majority_durable) + 1
        if floor <= self._floor_confirmed or self._replica_id == 0:
            return
        asked_ns = self._floor_asked_ns
        if asked_ns is not None and now_ns < asked_ns + self._settings.catch_up_retry_ns:
            return
        self._floor_asked_ns = now_ns
        self._send(self._acceptor, RaiseVoteFloor(floor), effects)

    # Parts.

    def _send(self, to: Address, message: Message, effects: Effects) -> None:
        effects.sends_now.append(Send(to, self._group, message))
