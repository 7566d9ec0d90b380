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
from collections.abc import Callable, Iterable, Sequence

from ray_paxos.core.applying import Applying
from ray_paxos.core.catch_up import CatchUpPlan
from ray_paxos.core.checkpoint import Cut
from ray_paxos.core.checkpoint_install import CheckpointInstall
from ray_paxos.core.checkpoint_messages import (
    ChainReply,
    ChainRequest,
    CheckpointReady,
    CheckpointsKept,
    FetchCheckpoint,
    LogCleaned,
    SavedTaken,
    SaveWanted,
    SegmentDamaged,
    StateSaved,
)
from ray_paxos.core.checkpoint_messages import CheckpointInstalled as ProposerTold
from ray_paxos.core.chosen_log import ChosenLog
from ray_paxos.core.chunk_check import Chunk, ChunkCheck, Difference
from ray_paxos.core.client_messages import Flush, Query, QueryFailed, QueryProblem, QueryResult
from ray_paxos.core.effects import Effects, Send
from ray_paxos.core.events import (
    ApplyingStopped,
    CaughtUp,
    CheckpointInstalled,
    ChunkDiffered,
    InvariantBroken,
    LogCutOff,
    MessageRefused,
    SegmentDamageFound,
    SegmentRepaired,
    SegmentsSealed,
)
from ray_paxos.core.genesis import Configuration
from ray_paxos.core.learner_reads import LearnerReads
from ray_paxos.core.lease import Notice
from ray_paxos.core.log_cleaning import LogCleaning
from ray_paxos.core.messages import (
    Address,
    Applied,
    CatchUp,
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
    SegmentsListed,
    SegmentsWanted,
    VoteFloorRaised,
)
from ray_paxos.core.pace import Pace
from ray_paxos.core.records import Record, SealedInstance, SealSegment
from ray_paxos.core.sealing import Sealing
from ray_paxos.core.segment_repair import SegmentRepair
from ray_paxos.core.settings import LearnerSettings
from ray_paxos.core.tasks import (
    CheckpointLoaded,
    CutLog,
    DropSaved,
    LoadCheckpoint,
    LogCut,
    Outcome,
    PublishMerged,
    ReplaceSegment,
    SaveState,
    Task,
    TaskFailed,
)
from ray_paxos.errors import QueryError
from ray_paxos.machines.host import MachineHost


class Learner:
    """Learns, applies and seals for one group.

    Invariants: applied_through <= learned_through; durable_through <= learned_through.
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
        base: Cut | None,
        settings: LearnerSettings,
        random: random.Random,
        now_ns: int,
        incarnation: int,
        sealed: Iterable[SealedInstance],
        segments: Callable[[], Sequence[tuple[int, int, int]]],
        problems: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        """Go on from a checkpoint, and what is sealed after it.

        Args:
            group: Whose log.
            member_id: Of this member.
            replica_id: As a voter; 0 where it does not vote.
            configuration: Who votes.
            members: All members that have the group.
            host: The group's machines here, as of the checkpoint, or with nothing applied.
            base: The own member's checkpoint; None for none.
            settings: Limits and times.
            random: Chooses whom to ask; not shared.
            now_ns: This process's clock.
            incarnation: Of the learner's folder.
            sealed: All sealed instances after it, in order; applied here and now.
            segments: Tells, once they are read, the (first, last, bytes) of all segments.
            problems: Tells, once they are read, what was found wrong on the disk.
        """
        self._group = group
        self._member_id = member_id
        self._replica_id = replica_id
        self._configuration = configuration
        self._settings = settings
        if base is None:
            self._log = ChosenLog(settings.pending_bytes_max)
        else:
            self._log = ChosenLog(settings.pending_bytes_max, base.instance_id, base.chain)
        self._applying = Applying(group, self._log, host, base)
        others = [member for member in members if member != member_id]
        self._others = others
        self._catch_up = CatchUpPlan(
            member_id=member_id, members=members, settings=settings, random=random
        )
        self._acceptor = Address(member_id, RoleName.ACCEPTOR)
        self._proposer = Address(member_id, RoleName.PROPOSER)
        self._checkpointer = Address(member_id, RoleName.CHECKPOINTER)
        self._ballot = base.ballot if base is not None else None
        self._reads = LearnerReads(incarnation)
        self._now_ns = now_ns
        self._chunks = ChunkCheck(others, settings)
        self._pace = Pace(settings.catch_up_bytes_per_s)
        self._install = CheckpointInstall(group)
        # The newest checkpoint of those that are left does not reach to the log: the state here is
        # whole, but a restart would have less to begin from.
        self._is_uncovered = False
        self._cleaning = LogCleaning(group, settings)
        self._repair = SegmentRepair(group, others, settings)
        self._majority_durable = 0
        self._floor_confirmed = 1
        self._awaited_through = 0
        self._floor_asked_ns: int | None = None
        self._sealing = Sealing(group, settings, self._log)
        self._segments_told = False
        self._alarms: list[ApplyingStopped] = []
        self._replay(sealed)
        self._sealing.replayed(segments())
        self.problems = tuple(problems())

    def _replay(self, sealed: Iterable[SealedInstance]) -> None:
        for instance in sealed:
            # Of each instance anew: together they would hold the whole log in memory.
            effects = Effects()
            added = self._log.add(instance.chosen)
            assert added and self._log.learned_through == instance.chosen.instance_id
            self._note_ballot(instance.chosen)
            self._apply_learned(effects)
            self._sealing.note_replayed()
            self._applying.forget_all()
            self._alarms += [e for e in effects.events if isinstance(e, ApplyingStopped)]

    # The role's interface.

    @property
    def host(self) -> MachineHost:
        """The group's machines here."""
        return self._applying.host

    @property
    def applied_through(self) -> int:
        """The last instance applied."""
        return self._applying.applied_through

    @property
    def stopped(self) -> str:
        """Why applying has stopped; empty while it goes on."""
        return self._applying.stopped

    @property
    def durable_through(self) -> int:
        """The end of what is in the own checkpoint and the sealed, durable segments after it."""
        return self._sealing.durable_through

    @property
    def log_floor(self) -> int:
        """The lowest instance in the log."""
        return min(self._sealing.floor, self._log.memory_floor)

    @property
    def single_source_chunks(self) -> int:
        """How many chunks were learned that no second member could confirm."""
        return self._chunks.single_source

    @property
    def alarms(self) -> tuple[str, ...]:
        """What a person should know of this group here, the gravest first."""
        told = (self.stopped, self._repair.problem, self._install.problem, *self.problems)
        return tuple(text for text in told if text)

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
        due = (
            None if self._install.bars_sealing else self._sealing.due_ns,
            self._catch_up.retry_ns,
            self._chunks.due_ns,
            self._install.due_ns,
            self._repair.due_ns,
            None
            if self._floor_asked_ns is None
            else self._floor_asked_ns + self._settings.catch_up_retry_ns,
        )
        return min((each for each in due if each is not None), default=None)

    def on_deadline(self, now_ns: int) -> Effects:
        """Seal what is old enough, ask again what was not answered."""
        effects = Effects()
        if self._chunks.due_ns is not None and now_ns >= self._chunks.due_ns:
            self._ask_for_chain(now_ns, effects)
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
                self._on_learn_request(envelope, message, now_ns, effects)
            case LearnReply():
                self._on_learn_reply(envelope, message, now_ns, effects)
            case ChainRequest(instance_id=instance_id):
                self._on_chain_request(envelope.sender, instance_id, effects)
            case ChainReply():
                self._on_chain_reply(envelope.sender, message, now_ns, effects)
            case (
                CheckpointsKept()
                | CheckpointReady()
                | SegmentDamaged()
                | SaveWanted()
                | SavedTaken()
            ):
                self._on_own_checkpointer(envelope, message, now_ns, effects)
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
        host = self.host
        return LearnerStatus(
            self._log.learned_through,
            self.applied_through,
            self.durable_through,
            self.log_floor,
            self._applying.point,
            host.log_time_ns,
            self._ballot,
            host.mounted,
            self.stopped,
            self._now_ns,
            host.master.ballot.member_id if host.master is not None else 0,
            host.master_version,
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
                results = self._applying.results(chosen.instance_id)
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
        self._applying.compare(message.point, effects)
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
        sender = envelope.sender
        if sender.role not in (RoleName.LEARNER, RoleName.CHECKPOINTER):
            effects.events.append(MessageRefused(self._group, "a log, from no learner"))
            return
        if self._repair.is_answer(sender, message):
            self._on_repair_answer(message, now_ns, effects)
        elif not self._catch_up.is_answer(sender, message) or self._chunks.is_waiting:
            # Late: whoever was asked after it has answered, or will.
            self._catch_up.target = max(self._catch_up.target, message.learned_through)
        elif self._is_news(message):
            # Held back until a second member has said the same.
            self._chunks.hold(
                sender,
                message,
                self._log.learned_through,
                self._log.end_chain,
                self.host.master.ballot.member_id if self.host.master is not None else 0,
            )
            self._catch_up.hold()
            self._ask_for_chain(now_ns, effects)
        else:
            self._go_on_asking(sender, message, now_ns, effects)
        self._go_on(now_ns, effects)

    def _is_news(self, reply: LearnReply) -> bool:
        """Whether a reply goes on from what is learned, and holds something that is not."""
        learned, values = self._log.learned_through, reply.values
        if not values or self._sealing.is_full:
            return False
        first, last = values[0].instance_id, values[-1].instance_id
        return first <= learned + 1 <= last and last - first + 1 == len(values)

    def _ask_for_chain(self, now_ns: int, effects: Effects) -> None:
        """Ask the next member to confirm the chunk; where none is left, learn it all the same."""
        question = self._chunks.next_question(now_ns)
        if question is not None:
            self._send(question[0], question[1], effects)
        elif self._chunks.is_waiting:
            self._learn_chunk(self._chunks.take(), now_ns, effects)

    def _on_chain_reply(
        self, sender: Address, reply: ChainReply, now_ns: int, effects: Effects
    ) -> None:
        verdict = self._chunks.answered(sender, reply)
        match verdict:
            case Chunk():
                self._learn_chunk(verdict, now_ns, effects)
            case Difference(chunk=chunk):
                differed = ChunkDiffered(
                    self._group,
                    chunk.end,
                    chunk.sender.member_id,
                    chunk.chain,
                    sender.member_id,
                    verdict.chain,
                )
                effects.events.append(differed)
                self.problems = (*self.problems[-3:], _difference_text(differed))
                self._catch_up.pass_over(now_ns)
            case None if self._chunks.is_waiting and self._chunks.due_ns is None:
                self._ask_for_chain(now_ns, effects)
        self._go_on(now_ns, effects)

    def _learn_chunk(self, chunk: Chunk, now_ns: int, effects: Effects) -> None:
        before = self._log.learned_through
        self._learn(chunk.reply.values, now_ns, effects)
        learned = self._log.learned_through - before
        if learned:
            source = chunk.sender.member_id
            effects.events.append(CaughtUp(self._group, source, learned))
        self._go_on_asking(chunk.sender, chunk.reply, now_ns, effects)
        if learned and before < self._awaited_through:
            # The own proposer has been promised, and waits for this.
            self._send(self._proposer, self.status(), effects)

    def _go_on_asking(
        self, sender: Address, reply: LearnReply, now_ns: int, effects: Effects
    ) -> None:
        """Ask on after an answer that is taken in; or for a checkpoint, where only that helps."""
        if self._sealing.is_full:
            return
        learned = self._log.learned_through
        if learned < reply.log_floor - 1 and not reply.values:
            member = sender.member_id
            sources = (member, *(other for other in self._others if other != member))
            order = self._install.want(learned, sources, now_ns)
            if order is None:
                self._catch_up.pass_over(now_ns)
            else:
                self._catch_up.rest()
            self._fetch(order, effects)
            return
        question = self._catch_up.answered(sender, reply, learned, now_ns)
        if question is not None:
            self._send(question[0], question[1], effects)

    def _on_learn_request(
        self, envelope: Envelope, message: LearnRequest, now_ns: int, effects: Effects
    ) -> None:
        values = self._log.read(message.from_instance, message.bytes_max)
        reply = LearnReply(
            message.from_instance,
            tuple(values),
            self._log.learned_through,
            self._log.memory_floor,
            self.log_floor,
            self._pace.take(sum(len(chosen.value) for chosen in values), now_ns),
        )
        self._send(envelope.sender, reply, effects)

    def _on_chain_request(self, sender: Address, instance_id: int, effects: Effects) -> None:
        log = self._log
        chain = log.chain_at(instance_id)
        reply = ChainReply(instance_id, chain, log.learned_through, log.memory_floor)
        self._send(sender, reply, effects)

    def _learn(self, values: Sequence[ChosenValue], now_ns: int, effects: Effects) -> None:
        for chosen in values:
            if self._sealing.is_full and chosen.instance_id > self._log.learned_through:
                # It is chosen, so somebody gives it again.
                continue
            if not self._log.add(chosen):
                what = f"two values chosen at instance {chosen.instance_id}"
                effects.events.append(InvariantBroken(self._group, what))
                self._applying.stop(what, effects)
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
        self._switch_if_loaded(effects)
        if self._is_uncovered:
            above = self._sealing.floor - 2
            self._fetch(self._install.want(above, self._others, now_ns), effects)
        again = self._install.take_due(now_ns)
        if isinstance(again, CutLog):
            effects.tasks.append(again)
        else:
            self._fetch(again, effects)
        if self._sealing.is_full or self._install.is_wanted:
            self._catch_up.rest()
        elif not self._chunks.is_waiting:
            question = self._catch_up.ask(self._log.learned_through, now_ns)
            if question is not None:
                self._send(question[0], question[1], effects)
        if self._repair.lost_through > self._cleaning.newest_checkpoint:
            # What the others have cut off they cover with checkpoints.
            above = self._repair.lost_through - 1
            self._fetch(self._install.want(above, self._others, now_ns), effects)
        repair = self._repair.take_question(now_ns)
        if repair is not None:
            self._send(repair[0], repair[1], effects)
        self._seal_if_due(now_ns, effects)
        self._raise_floor(now_ns, effects)
        self._clean_if_due(now_ns, effects)
        if not self._segments_told:
            self._segments_told = True
            listed = SegmentsListed(self._sealing.floor, tuple(self._sealing.segments))
            if listed.segments or listed.floor > 1:
                self._send(self._checkpointer, listed, effects)

    def _fetch(self, order: FetchCheckpoint | None, effects: Effects) -> None:
        if order is not None:
            self._send(self._checkpointer, order, effects)

    # Applying.

    def _apply_learned(self, effects: Effects) -> None:
        applying = self._applying
        while (results := applying.apply_next(effects)) is not None:
            instance_id = applying.applied_through
            self._sealing.note_applied(instance_id, applying.result_bytes)
            chosen = self._log.value(instance_id)
            if self.host.master_version == instance_id:
                # For those who watch who leads, at whatever member.
                self._send(self._proposer, self.status(), effects)
            if chosen.ballot.member_id == self._member_id:
                self._send(self._proposer, Applied(instance_id, chosen.ballot, results), effects)

    # Checkpoints, cleaning and repair.

    def _on_own_checkpointer(
        self,
        envelope: Envelope,
        message: CheckpointsKept | CheckpointReady | SegmentDamaged | SaveWanted | SavedTaken,
        now_ns: int,
        effects: Effects,
    ) -> None:
        if envelope.sender != self._checkpointer:
            what = f"{type(message).__name__} of another member's"
            effects.events.append(MessageRefused(self._group, what))
            return
        match message:
            case CheckpointsKept(oldest=oldest, newest=newest):
                self._cleaning.oldest_checkpoint = oldest
                self._cleaning.newest_checkpoint = newest
                self._is_uncovered = newest < self._sealing.floor - 1
            case CheckpointReady():
                load = self._install.ready(message, self._log.learned_through, now_ns)
                if load is not None:
                    effects.tasks.append(load)
            case SegmentDamaged(first=first, last=last, why=why):
                self._on_damaged(first, last, why, effects)
            case SaveWanted():
                self._save(effects)
            case SavedTaken():
                effects.tasks.append(DropSaved(self._group))
        self._go_on(now_ns, effects)

    def _save(self, effects: Effects) -> None:
        """Save the state as it is: nothing is applied before that is done."""
        point = self._applying.point
        if self.stopped or point.result_chain is None or self._ballot is None:
            saved = StateSaved(0, self.stopped or "nothing is applied yet")
            self._send(self._checkpointer, saved, effects)
            return
        cut = Cut(
            point.instance_id, point.chain, point.result_chain, self._ballot, self._configuration
        )
        effects.tasks.append(SaveState(self._group, cut, self.host))

    def _on_damaged(self, first: int, last: int, why: str, effects: Effects) -> None:
        if not any((s.first, s.last) == (first, last) for s in self._sealing.segments):
            # Merged or cleaned away meanwhile.
            return
        effects.events.append(SegmentDamageFound(self._group, first, last, why))
        self._repair.want(first, last, why)

    def _on_repair_answer(self, reply: LearnReply, now_ns: int, effects: Effects) -> None:
        step = self._repair.answered(reply, now_ns)
        if isinstance(step, ReplaceSegment):
            effects.tasks.append(step)
        elif step is not None:
            self._send(step[0], step[1], effects)

    def _switch_if_loaded(self, effects: Effects) -> None:
        """Go on from a checkpoint that is loaded, once nothing is on its way to the disk."""
        if self._sealing.is_busy:
            return
        loaded = self._install.take_loaded(self._log.learned_through)
        if loaded is None:
            return
        cut = loaded.cut
        self._log.rebase(cut.instance_id, cut.chain)
        self._applying.install(loaded.host, cut)
        if self._ballot is None or cut.ballot > self._ballot:
            self._ballot = cut.ballot
        self._sealing.rebase()
        self._chunks.drop()
        self._repair.drop_below(cut.instance_id + 1)
        effects.tasks.append(self._install.cut(loaded))
        installed = CheckpointInstalled(self._group, cut.instance_id, cut.chain, cut.result_chain)
        effects.events.append(installed)
        self._send(self._proposer, ProposerTold(cut.instance_id), effects)
        self._sealing.note_learned(self._now_ns)
        self._apply_learned(effects)
        self._send(self._proposer, self.status(), effects)

    def _clean_if_due(self, now_ns: int, effects: Effects) -> None:
        if self._install.bars_sealing:
            return
        order = self._cleaning.take_due(
            self._sealing.segments,
            self._log.learned_through,
            now_ns,
            self._repair.lost_through,
        )
        if order is not None:
            effects.tasks.append(order)

    def on_outcome(self, task: Task, outcome: Outcome, now_ns: int) -> Effects:
        """A task is done, or was given up."""
        effects = Effects()
        self._now_ns = now_ns
        match task:
            case CutLog():
                self._on_cut(task, outcome, now_ns, effects)
            case PublishMerged() if isinstance(outcome, TaskFailed):
                self._sealing.publish_failed(task)
                # Its checkpointer takes it for published: it is told anew.
                self._segments_told = False
            case PublishMerged():
                self._sealing.published(task)
            case LoadCheckpoint() if isinstance(outcome, CheckpointLoaded):
                self._install.loaded(outcome)
            case LoadCheckpoint() if isinstance(outcome, TaskFailed):
                self._install.failed(outcome.why, now_ns)
            case SaveState():
                why = outcome.why if isinstance(outcome, TaskFailed) else ""
                saved = StateSaved(0 if why else task.cut.instance_id, why)
                self._send(self._checkpointer, saved, effects)
            case DropSaved():
                pass
            case ReplaceSegment() if isinstance(outcome, TaskFailed):
                self._repair.failed(task, outcome.why, now_ns)
            case ReplaceSegment():
                if self._repair.replaced(task):
                    first, last = task.values[0].instance_id, task.values[-1].instance_id
                    effects.events.append(SegmentRepaired(self._group, first, last))
            case _:
                raise AssertionError(f"{type(task).__name__} is no task of a learner")
        self._go_on(now_ns, effects)
        return effects

    def _on_cut(self, task: CutLog, outcome: Outcome, now_ns: int, effects: Effects) -> None:
        if not isinstance(outcome, LogCut):
            assert isinstance(outcome, TaskFailed)
            if task.base is not None:
                self._install.cut_failed(outcome.why, now_ns)
            else:
                self._cleaning.failed(now_ns)
            return
        if task.base is not None:
            self._install.cut_done()
        else:
            self._cleaning.done()
        self._sealing.cut(outcome.floor)
        self._repair.drop_below(outcome.floor)
        effects.events.append(LogCutOff(self._group, outcome.floor))
        self._send(self._checkpointer, LogCleaned(outcome.floor), effects)

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
        if self._install.bars_sealing:
            return
        # While applying is stopped, what is learned is sealed without results.
        limit = self._log.learned_through if self.stopped else self.applied_through
        order = self._sealing.take_due(limit, self._applying.result_chains, now_ns)
        if order is not None:
            effects.records.append(order)

    def on_durable(self, records: Sequence[Record], now_ns: int) -> Effects:
        """Segments are sealed."""
        effects = Effects()
        for record in records:
            if isinstance(record, SealSegment):
                self._on_sealed(record, effects)
        self._go_on(now_ns, effects)
        return effects

    def _on_sealed(self, record: SealSegment, effects: Effects) -> None:
        segment = self._sealing.sealed(record)
        self._applying.forget(segment.first, segment.last)
        effects.events.append(SegmentsSealed(self._group, segment.first, segment.last))
        if self._segments_told:
            self._send(self._checkpointer, segment, effects)

    def _on_segment_merged(
        self, envelope: Envelope, message: SegmentMerged, effects: Effects
    ) -> None:
        is_own = envelope.sender == self._checkpointer
        may_merge = is_own and not self._install.bars_sealing
        order = self._sealing.merge(message) if may_merge else None
        if order is None:
            effects.events.append(MessageRefused(self._group, "a merge that is not ours"))
        else:
            effects.tasks.append(order)

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


def _difference_text(differed: ChunkDiffered) -> str:
    return (
        f"members {differed.source} and {differed.other} have different logs at or before instance "
        f"{differed.instance_id}: the chains are {differed.source_chain.hex()} and "
        f"{differed.other_chain.hex()}"
    )
