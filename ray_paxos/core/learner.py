"""The learner of one group at one member: the chosen log, and the machines that follow it.

```
 messages ─▶ Learner ─┬─ LearnerState         log, machines, seals: what the others share
                      ├─ LearnerCatchUp       what was missed, here and elsewhere
                      ├─ LearnerCheckpoints   fetched, installed, saved
                      ├─ LearnerSegments      sealed, merged, mended, cut off
                      ├─ LearnerAnswers       reads, at once or once there is an answer
                      ├─ VoteFloor            of the own acceptor
                      └─ VotingPart           what the own acceptor votes as
```

Rules:

1. It learns an instance only from a message that says it is chosen, with the value (R4): the
   proposer that counted the votes, or another member's log. What its own acceptor voted for says
   nothing about what was chosen.
2. It applies instances in order, once each (R6), and tells its own member's proposer the results.
3. It alone publishes segments of the chosen log; what it reports durable is in sealed segments.
4. It raises its acceptor's vote floor only over what is contiguous, durable here, and by the
   master's word durable at a majority. What that one votes as, and under which configuration, it
   tells it as the log has it (`voting_part`).
5. It answers reads, as fresh as they ask for, from what it has applied, and holds those that wait
   for something (`learner_answers`).
6. A machine that fails, or chains that differ from the master's, stop *applying*, with an alarm;
   learning and sealing go on (R12).
7. While too much waits to be sealed (the disk is full) it takes nothing more in, and asks for
   nothing; it is the same as if the messages were lost (R10).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

from ray_paxos.core.checkpoint import Cut
from ray_paxos.core.checkpoint_messages import (
    ChainReply,
    ChainRequest,
    CheckpointReady,
    CheckpointsKept,
    SavedTaken,
    SaveWanted,
    SegmentDamaged,
)
from ray_paxos.core.client_messages import Flush, Query, QueryMany
from ray_paxos.core.effects import Effects
from ray_paxos.core.events import MessageRefused
from ray_paxos.core.genesis import Configuration
from ray_paxos.core.learner_answers import OUT_OF_TOUCH_NS, LearnerAnswers
from ray_paxos.core.learner_catch_up import LearnerCatchUp
from ray_paxos.core.learner_checkpoints import LearnerCheckpoints
from ray_paxos.core.learner_messages import (
    CatchUp,
    Chosen,
    LearnerStatus,
    LearnReply,
    LearnRequest,
    SegmentMerged,
    SegmentsWanted,
    VoteFloorRaised,
)
from ray_paxos.core.learner_segments import LearnerSegments
from ray_paxos.core.learner_state import LearnerState
from ray_paxos.core.membership_messages import ConfigurationFollowed
from ray_paxos.core.messages import (
    Address,
    Envelope,
    Heartbeat,
    LeaseNotice,
    OrderDone,
    RevokeLease,
    RoleName,
)
from ray_paxos.core.records import Record, SealedInstance, SealSegment
from ray_paxos.core.settings import MILLISECOND_NS, LearnerSettings
from ray_paxos.core.tasks import (
    CutLog,
    DropSaved,
    LoadCheckpoint,
    LogCut,
    Outcome,
    PublishMerged,
    ReplaceSegment,
    SaveState,
    Task,
)
from ray_paxos.core.vote_floor import VoteFloor
from ray_paxos.core.voting_part import VotingPart
from ray_paxos.machines.host import MachineHost

LOOK_AROUND_NS = 1_000 * MILLISECOND_NS
"""At least so long between two questions of one that hears of no master."""


class Learner:
    """Learns, applies and seals for one group.

    Invariants: those of its parts. Whatever a message, an outcome or a deadline changed, everything
    that is due after it is done before the call returns.
    """

    def __init__(
        self,
        *,
        group: int,
        member_id: int,
        configuration: Configuration,
        ordered: Configuration | None = None,
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
            configuration: Who has the group, and who votes, at the genesis.
            ordered: The configuration by which this member was given the group; None for the first.
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
        self._state = LearnerState(
            group=group,
            member_id=member_id,
            configuration=configuration,
            ordered=ordered or configuration,
            host=host,
            base=base,
            settings=settings,
            now_ns=now_ns,
            incarnation=incarnation,
        )
        self._group = group
        self._proposer = self._state.proposer
        self._checkpoints = LearnerCheckpoints(self._state)
        self._segments = LearnerSegments(self._state, self._checkpoints)
        self._catch_up = LearnerCatchUp(self._state, self._checkpoints, random)
        self._vote_floor = VoteFloor(settings)
        self._voting_part = VotingPart(member_id, settings)
        self._answers = LearnerAnswers(self._state)
        self._heard_ns = self._look_ns = now_ns
        self._looked = 0
        self._alarms = self._state.replay(sealed)
        self._state.sealing.replayed(segments())
        self.problems = tuple(problems())

    # The role's interface.

    @property
    def host(self) -> MachineHost:
        """The group's machines here."""
        return self._state.host

    @property
    def configuration(self) -> Configuration:
        """Who has the group and who votes, as of `learned_through`."""
        return self._state.configuration

    @property
    def has_left(self) -> bool:
        """Whether the log names this member no more, and its acceptor votes no more."""
        state = self._state
        return (
            state.is_own
            and state.member_id not in state.configuration.member_ids
            and self._voting_part.is_in_step(state.configuration)
        )

    @property
    def applied_through(self) -> int:
        """The last instance applied."""
        return self._state.applying.applied_through

    @property
    def stopped(self) -> str:
        """Why applying has stopped; empty while it goes on."""
        return self._state.applying.stopped

    @property
    def durable_through(self) -> int:
        """The end of what is in the own checkpoint and the sealed, durable segments after it."""
        return self._state.sealing.durable_through

    @property
    def log_floor(self) -> int:
        """The lowest instance in the log."""
        return self._state.log_floor

    @property
    def single_source_chunks(self) -> int:
        """How many chunks were learned that no second member has confirmed so far."""
        return self._catch_up.single_source_chunks

    @property
    def overdue_chunks(self) -> int:
        """How many of them nobody could confirm for so long that a person should know."""
        return self._catch_up.overdue_chunks

    @property
    def alarms(self) -> tuple[str, ...]:
        """What a person should know of this group here, the gravest first."""
        told = (
            self.stopped,
            self._segments.problem,
            self._checkpoints.problem,
            *self.problems,
            *self._catch_up.differences,
        )
        return tuple(text for text in told if text)

    @property
    def learned_through(self) -> int:
        """The end of the contiguous learned prefix."""
        return self._state.log.learned_through

    @property
    def known_through(self) -> int:
        """Somebody is known to have learned everything up to this instance."""
        return self._catch_up.known_through

    @property
    def segment_count(self) -> int:
        """How many segments the log has."""
        return len(self._state.sealing.segments)

    @property
    def is_full(self) -> bool:
        """Whether it takes nothing more in until something is sealed."""
        return self._state.sealing.is_full

    def lease_point(self, now_ns: int) -> int | None:
        """From which instance on it may answer by its own member's lease now; None: not at all."""
        lease, ballot = self._state.reads.lease, self._state.ballot
        return lease.read_point(now_ns, self._state.lease_config_id, ballot)

    def stamp(self, group: int) -> tuple[int, int]:
        """(replica_id, config_id) it follows."""
        return self._state.replica_id, self.configuration.config_id

    @property
    def deadline_ns(self) -> int | None:
        """When a seal, a question or a vote floor is due next."""
        due = (
            None if self._checkpoints.bars_sealing else self._state.sealing.due_ns,
            self._catch_up.due_ns,
            self._checkpoints.due_ns,
            self._segments.due_ns,
            self._vote_floor.due_ns,
            self._voting_part.due_ns,
            self._answers.due_ns,
        )
        return min((each for each in due if each is not None), default=None)

    def on_deadline(self, now_ns: int) -> Effects:
        """Seal what is old enough, ask again what was not answered."""
        effects = Effects()
        self._catch_up.on_deadline(now_ns, effects)
        self._go_on(now_ns, effects)
        return effects

    def handle(self, envelope: Envelope, now_ns: int) -> Effects:
        """Take one message in."""
        effects = Effects()
        message, sender = envelope.message, envelope.sender
        self._state.now_ns = now_ns
        if sender == self._proposer:
            self._state.reads.lease.heard(envelope.incarnation)
            self._state.proposer_config_id = envelope.config_id
        match message:
            case Chosen():
                self._on_chosen(envelope, message, now_ns, effects)
            case Heartbeat():
                self._on_heartbeat(envelope, message, now_ns, effects)
            case Query() | QueryMany():
                self._answers.on_query(sender, message, now_ns, effects)
            case LeaseNotice():
                self._on_lease_notice(envelope, message, effects)
            case RevokeLease(ballot=ballot) if sender == self._proposer:
                self._state.reads.lease.revoke(ballot)
                self._state.tell_proposer(effects)
            case CatchUp():
                self._on_catch_up(sender, message, now_ns, effects)
            case LearnRequest():
                self._catch_up.on_learn_request(sender, message, now_ns, effects)
            case LearnReply():
                self._on_learn_reply(sender, message, now_ns, effects)
            case ChainRequest():
                self._catch_up.on_chain_request(sender, message, effects)
            case ChainReply():
                self._catch_up.on_chain_reply(sender, message, now_ns, effects)
                self._go_on(now_ns, effects)
            case (
                CheckpointsKept()
                | CheckpointReady()
                | SegmentDamaged()
                | SaveWanted()
                | SavedTaken()
            ):
                self._on_own_checkpointer(sender, message, now_ns, effects)
            case ConfigurationFollowed() | OrderDone() | LearnerStatus():
                self._on_voting_part(envelope, message)
                self._go_on(now_ns, effects)
            case VoteFloorRaised(floor=floor):
                self._vote_floor.raised(floor)
            case SegmentMerged():
                self._segments.on_merged(sender, message, effects)
            case SegmentsWanted():
                self._segments.tell_anew()
                self._go_on(now_ns, effects)
            case Flush():
                self._state.sealing.flush()
                self._go_on(now_ns, effects)
                self._tell_status(sender, effects)
            case _:
                self._refuse(f"{type(message).__name__} to a learner", effects)
        return effects

    def status(self) -> LearnerStatus:
        """How far it is, as of the latest message that it handled."""
        return self._state.status()

    def _tell_status(self, to: Address, effects: Effects) -> None:
        self._state.tell_status(to, effects)

    def _refuse(self, what: str, effects: Effects) -> None:
        effects.events.append(MessageRefused(self._group, what))

    # Messages.

    def _on_chosen(
        self, envelope: Envelope, message: Chosen, now_ns: int, effects: Effects
    ) -> None:
        sender = envelope.sender
        if sender.role is not RoleName.PROPOSER:
            self._refuse("chosen, from no proposer", effects)
            return
        self._heard_ns = now_ns
        already_applied = self.applied_through
        self._state.learn(message.values, now_ns, effects)
        self._note_majority_durable(envelope, message)
        self._catch_up.aim(message.chosen_through, (sender.member_id,))
        self._go_on(now_ns, effects)
        if sender == self._proposer:
            self._state.give_results_again(message.values, already_applied, effects)
        self._tell_status(sender, effects)

    def _on_catch_up(
        self, sender: Address, message: CatchUp, now_ns: int, effects: Effects
    ) -> None:
        through, sources = message.through, message.sources
        if through > self.learned_through:
            # Whoever is named may be the only one that has the group: to be asked until it answers.
            self._state.peers.name(each for each in sources if each != self._state.member_id)
        self._catch_up.wait_for(through, sources)
        is_own = sender == self._proposer
        if is_own and self._state.member_id in sources:
            # Its acceptor has refused it, by a configuration that it follows itself; or has a vote
            # floor there, which it says when it is asked.
            self._voting_part.note_ahead(through)
        self._go_on(now_ns, effects)
        if sender.role is not RoleName.LEARNER or not through:
            # Another learner tells who knows more, and has not asked.
            self._tell_status(sender, effects)
        if is_own:
            self._look_around(now_ns, effects)

    def _on_heartbeat(
        self, envelope: Envelope, message: Heartbeat, now_ns: int, effects: Effects
    ) -> None:
        if envelope.sender.role is not RoleName.PROPOSER:
            self._refuse("a heartbeat, from no proposer", effects)
            return
        self._heard_ns = now_ns
        self._note_majority_durable(envelope, message)
        self._catch_up.aim(message.chosen_through, (envelope.sender.member_id,))
        self._state.applying.compare(message.point, effects)
        self._go_on(now_ns, effects)
        if self._counts(envelope):
            self._state.reads.on_heartbeat(message, self.applied_through)
        self._tell_status(envelope.sender, effects)

    def _counts(self, envelope: Envelope) -> bool:
        """Whether its sender's majorities are still majorities; what is chosen stays chosen."""
        return envelope.config_id >= self.configuration.config_id

    def _note_majority_durable(self, envelope: Envelope, message: Chosen | Heartbeat) -> None:
        if self._counts(envelope):
            self._vote_floor.note_majority_durable(message.majority_durable)

    def _on_learn_reply(
        self, sender: Address, message: LearnReply, now_ns: int, effects: Effects
    ) -> None:
        if sender.role not in (RoleName.LEARNER, RoleName.CHECKPOINTER):
            self._refuse("a log, from no learner", effects)
            return
        if self._segments.is_answer(sender, message):
            self._segments.on_answer(sender, message, now_ns, effects)
        else:
            self._catch_up.on_learn_reply(sender, message, now_ns, effects)
        self._go_on(now_ns, effects)

    def _on_own_checkpointer(
        self,
        sender: Address,
        message: CheckpointsKept | CheckpointReady | SegmentDamaged | SaveWanted | SavedTaken,
        now_ns: int,
        effects: Effects,
    ) -> None:
        if sender != self._state.checkpointer:
            self._refuse(f"{type(message).__name__} of another member's", effects)
            return
        match message:
            case CheckpointsKept(oldest=oldest, newest=newest):
                self._segments.covered(oldest, newest)
                self._checkpoints.kept(newest)
            case CheckpointReady():
                self._checkpoints.ready(message, now_ns, effects)
            case SegmentDamaged(first=first, last=last, why=why):
                self._segments.on_damaged(first, last, why, effects)
            case SaveWanted():
                self._checkpoints.save(effects)
            case SavedTaken():
                effects.tasks.append(DropSaved(self._group))
        self._go_on(now_ns, effects)

    def _on_voting_part(
        self, envelope: Envelope, message: ConfigurationFollowed | OrderDone | LearnerStatus
    ) -> None:
        match message:
            case ConfigurationFollowed():
                self._voting_part.on_followed(envelope.sender, message, self.configuration)
                self._catch_up.aim(self._voting_part.ahead_through, ())
            case OrderDone():
                self._voting_part.on_order_done(envelope.sender, message, self.configuration)
            case LearnerStatus() if envelope.sender.role is RoleName.LEARNER:
                self._voting_part.on_status(envelope, message, self.configuration)
                self._catch_up.aim(message.learned_through, (envelope.sender.member_id,))

    def _look_around(self, now_ns: int, effects: Effects) -> None:
        """The own proposer stands, or would if it voted: ask a member how far it is.

        Whoever was removed while it was away is told nothing any more, and would stay for ever. One
        that has left, too, says who has the group instead. A voter asks for votes first.
        """
        if self._state.replica_id and now_ns < self._heard_ns + OUT_OF_TOUCH_NS:
            return
        peers = self._state.peers
        if peers and now_ns >= self._look_ns:
            self._look_ns = now_ns + LOOK_AROUND_NS
            self._looked += 1
            peer = Address(peers[self._looked % len(peers)], RoleName.LEARNER)
            self._state.send(peer, CatchUp(0, ()), effects)

    # Reads.

    def _on_lease_notice(self, envelope: Envelope, message: LeaseNotice, effects: Effects) -> None:
        is_own = envelope.sender == self._proposer
        if is_own and message.ballot.member_id == self._state.member_id:
            self._state.reads.on_notice(envelope, message)
        else:
            self._refuse("a notice of another's lease", effects)

    # What is due.

    def _go_on(self, now_ns: int, effects: Effects) -> None:
        """Whatever is due after a change: sealing, the vote floor, catching up."""
        effects.events += self._alarms
        self._alarms = []
        cut = self._checkpoints.switch_if_loaded(effects)
        if cut is not None:
            self._answers.state_replaced()
            self._catch_up.drop_chunk()
            self._segments.left_behind(cut.instance_id + 1)
        self._checkpoints.go_on(now_ns, effects)
        self._catch_up.go_on(now_ns, effects)
        self._segments.mend(now_ns, effects)
        self._segments.seal_if_due(now_ns, effects)
        if self._state.is_own:
            for to, order in self._voting_part.take_due(
                self.configuration, self.durable_through, now_ns
            ):
                self._state.send(to, order, effects)
        self._raise_floor(now_ns, effects)
        self._segments.clean_if_due(now_ns, effects)
        self._segments.tell(effects)
        self._answers.go_on(now_ns, effects)

    def _raise_floor(self, now_ns: int, effects: Effects) -> None:
        if not self._state.replica_id:
            self._vote_floor.rest()
            return
        order = self._vote_floor.take_due(self.durable_through, now_ns)
        if order is not None:
            acceptor = Address(self._state.member_id, RoleName.ACCEPTOR)
            self._state.send(acceptor, order, effects)

    # What records and tasks come to.

    def on_durable(self, records: Sequence[Record], now_ns: int) -> Effects:
        """Segments are sealed."""
        effects = Effects()
        for record in records:
            if isinstance(record, SealSegment):
                self._segments.sealed(record, effects)
                self._state.tell_of_configuration(record, effects)
        self._go_on(now_ns, effects)
        return effects

    def on_outcome(self, task: Task, outcome: Outcome, now_ns: int) -> Effects:
        """A task is done, or was given up."""
        effects = Effects()
        self._state.now_ns = now_ns
        match task:
            case CutLog():
                self._on_cut(task, outcome, now_ns, effects)
            case PublishMerged():
                self._segments.on_published(task, outcome)
            case LoadCheckpoint():
                self._checkpoints.on_loaded(outcome, now_ns)
            case SaveState():
                self._checkpoints.on_saved(task, outcome, effects)
            case DropSaved():
                pass
            case ReplaceSegment():
                self._segments.on_replaced(task, outcome, now_ns, effects)
            case _:
                raise AssertionError(f"{type(task).__name__} is no task of a learner")
        self._go_on(now_ns, effects)
        return effects

    def _on_cut(self, task: CutLog, outcome: Outcome, now_ns: int, effects: Effects) -> None:
        if task.base is not None:
            self._checkpoints.on_cut(outcome, now_ns)
        else:
            self._segments.on_cleaned(outcome, now_ns)
        if isinstance(outcome, LogCut):
            self._segments.cut_off(outcome.floor, effects)
