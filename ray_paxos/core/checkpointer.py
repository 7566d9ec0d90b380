"""The checkpointer of one group at one member: checkpoints, merging, and what others miss.

```
 own learner ── SegmentsListed, SegmentSealed ─▶ what is sealed
                                                  ├▶ MakeCheckpoint, when due ─▶ CheckpointsKept
                                                  ├▶ MergeSegments ─▶ SegmentMerged
                                                  └▶ Scrub ─▶ SegmentDamaged
 others ── LearnRequest, ChainRequest, CheckpointRequest, ChunkRequest ─▶ read from disk ─▶ answered
 own learner ── FetchCheckpoint ─▶ another member's checkpointer ─▶ CheckpointReady
```

Rules:

1. A checkpoint is made from sealed segments, on machines of its own: it pauses no learner. Each
   result is compared with what the learner sealed; where they differ, none is published (R12).
   Where a machine is too big for a second copy, the learner saves the group's state instead; so it
   does where the copy cannot go on over damage that nobody has mended meanwhile: what the learner
   has applied does not depend on its files, and may be in no other member's.
2. The learner alone removes segments. It is told which checkpoints there are, and removes none
   that the oldest of them does not cover.
3. What it gives to others is verified as it is read; what it gets is verified before it counts.
"""

from __future__ import annotations

from collections.abc import Sequence

from ray_paxos.core.checkpoint_fetch import CheckpointFetch
from ray_paxos.core.checkpoint_messages import (
    ChainReply,
    ChainRequest,
    CheckpointDue,
    CheckpointOffer,
    CheckpointReady,
    CheckpointRequest,
    CheckpointsKept,
    Chunk,
    ChunkRequest,
    FetchCheckpoint,
    LogCleaned,
    SavedTaken,
    SaveWanted,
    SegmentDamaged,
    StateSaved,
    TakeCheckpoint,
)
from ray_paxos.core.checkpoint_schedule import CheckpointSchedule
from ray_paxos.core.effects import Effects, Send
from ray_paxos.core.events import (
    CheckpointDamaged,
    CheckpointFailed,
    CheckpointPublished,
    MessageRefused,
)
from ray_paxos.core.learner_messages import (
    ChosenValue,
    LearnReply,
    LearnRequest,
    SegmentMerged,
    SegmentSealed,
    SegmentsListed,
    SegmentsWanted,
)
from ray_paxos.core.merging import Merging
from ray_paxos.core.messages import (
    Address,
    Envelope,
    Message,
    RoleName,
)
from ray_paxos.core.pace import MILLISECOND_NS, Pace
from ray_paxos.core.records import Record
from ray_paxos.core.scrubbing import Scrubbing
from ray_paxos.core.settings import CheckpointerSettings
from ray_paxos.core.tasks import (
    BeginTransfer,
    ChainRead,
    CheckpointMade,
    ChunkRead,
    DropCheckpoint,
    MakeCheckpoint,
    ManifestRead,
    MergeSegments,
    Outcome,
    PublishTransfer,
    ReadChain,
    ReadChunk,
    ReadManifest,
    ReadSegments,
    SavedByLearner,
    Scrub,
    Scrubbed,
    SegmentsRead,
    SetAsideCheckpoint,
    TakeSaved,
    Task,
    TaskFailed,
    WriteChunk,
)

WANTED_INTERVAL_NS = 1_000 * MILLISECOND_NS
ATTEMPTS_MAX = 2
"""With so many checkpoints in a row that failed for damage, the learner is to save its state."""
SAVE_NS = 60_000 * MILLISECOND_NS
"""After so long a learner that was to save its state has been restarted meanwhile."""


class Checkpointer:
    """Checkpoints, merges, scrubs and serves for one group.

    Invariants: one checkpoint, one merge, one fetch and one scrub at a time.
    """

    def __init__(
        self,
        *,
        group: int,
        member_id: int,
        genesis: bytes,
        settings: CheckpointerSettings,
        checkpoints: Sequence[int],
        now_ns: int,
    ) -> None:
        """Start knowing no segments: the learner tells of them.

        Args:
            group: Whose log.
            member_id: Of this member.
            genesis: Hash of the cluster's genesis.
            settings: Sizes and times.
            checkpoints: Instances of those that are on this member's disk.
            now_ns: This process's clock.
        """
        self.schedule = CheckpointSchedule(settings, checkpoints, now_ns)
        self.fetch = CheckpointFetch(group, genesis, settings)
        self.scrubbing = Scrubbing(
            group, settings.scrub_bytes_per_s, settings.scrub_interval_ns, now_ns
        )
        self._group = group
        self._settings = settings
        self._learner = Address(member_id, RoleName.LEARNER)
        self._merging = Merging(group, settings)
        self._pace = Pace(settings.transfer_bytes_per_s)
        self._wanted_ns: int | None = None
        # The end of the last segment that it was ever told of: more than `sealed_through` where
        # what was told came in another order, or not at all.
        self._told_through = 0
        # Of segments, once: nothing may be sealed for long.
        self._first_question_ns: int | None = now_ns
        self._save_asked_ns: int | None = None
        self._damaged_attempts = 0
        self._superfluous_ns: int | None = None

    @property
    def sealed_through(self) -> int:
        """The end of the last segment that it knows of."""
        return self._merging.through

    @property
    def alarms(self) -> tuple[str, ...]:
        """What a person should know of this group here, the gravest first."""
        told = (self.schedule.problem, self.fetch.problem, self._merging.problem)
        return tuple(text for text in told if text)

    @property
    def deadline_ns(self) -> int | None:
        """When a checkpoint, a scrub or a question is due next."""
        due = (
            self._first_question_ns,
            self.schedule.due_ns,
            None if self._save_asked_ns is None else self._save_asked_ns + SAVE_NS,
            self.fetch.due_ns,
            self.scrubbing.due_ns,
            self._superfluous_ns,
            self._ask_again_ns,
        )
        return min((each for each in due if each is not None), default=None)

    def on_deadline(self, now_ns: int) -> Effects:
        """Do what is due."""
        effects = Effects()
        if self._first_question_ns is not None:
            self._first_question_ns = None
            self._tell_kept(effects)
            self._ask_for_segments(now_ns, effects)
        asked_ns = self._save_asked_ns
        if asked_ns is not None and now_ns >= asked_ns + SAVE_NS:
            self._save_asked_ns = None
            self._on_made(TaskFailed("the learner has not saved its state"), now_ns, effects)
        self.fetch.on_deadline(now_ns, effects)
        self._tell_given_up(effects)
        self._go_on(now_ns, effects)
        return effects

    def stamp(self, group: int) -> tuple[int, int]:
        """A checkpointer has no part in votes."""
        return 0, 0

    def handle(self, envelope: Envelope, now_ns: int) -> Effects:
        """Take one message in."""
        effects = Effects()
        sender, message = envelope.sender, envelope.message
        match message:
            case SegmentSealed() if sender == self._learner:
                self._on_segment_sealed(message, now_ns, effects)
            case SegmentsListed(floor=floor, segments=segments) if sender == self._learner:
                self._merging.replace(floor, segments)
                self._tell_kept(effects)
            case LogCleaned(floor=floor) if sender == self._learner:
                self._merging.cut(floor)
                if self._told_through < floor:
                    self._told_through = 0
            case FetchCheckpoint() if sender == self._learner:
                if not self.fetch.is_under_way and self.schedule.newest > message.above:
                    # The learner was told of one that would have done, and could not load it.
                    effects.tasks.append(Scrub(self._group, None, self.schedule.newest))
                # Perhaps it has not heard what there is.
                self._tell_kept(effects)
                self.fetch.start(message.above, message.sources, now_ns, effects)
                self._tell_given_up(effects)
            case LearnRequest():
                read = ReadSegments(self._group, sender, message.from_instance, message.bytes_max)
                effects.tasks.append(read)
            case ChainRequest(instance_id=instance_id):
                effects.tasks.append(ReadChain(self._group, sender, instance_id))
            case CheckpointRequest(above=above):
                effects.tasks.append(ReadManifest(self._group, sender, above))
            case ChunkRequest():
                self._on_chunk_request(sender, message, now_ns, effects)
            case CheckpointOffer():
                self.fetch.on_offer(sender, message, now_ns, effects)
                self._tell_given_up(effects)
            case Chunk():
                self.fetch.on_chunk(sender, message, now_ns, effects)
                self._tell_given_up(effects)
            case StateSaved() if sender == self._learner:
                self._on_state_saved(message, now_ns, effects)
            case TakeCheckpoint(through=through):
                self.schedule.want(min(through, self._merging.through))
                due = CheckpointDue(through, self.schedule.newest, self.schedule.problem)
                self._send(sender, due, effects)
            case other:
                what = f"{type(other).__name__} to a checkpointer"
                effects.events.append(MessageRefused(self._group, what))
        self._go_on(now_ns, effects)
        return effects

    def _go_on(self, now_ns: int, effects: Effects) -> None:
        """Begin whatever is due."""
        if self._ask_again_ns is not None and now_ns >= self._ask_again_ns:
            self._ask_for_segments(now_ns, effects)
        merge = self._merging.take_due(now_ns)
        if merge is not None:
            effects.tasks.append(merge)
        through = self.schedule.take_due(self._merging.segments, now_ns)
        if through is not None:
            effects.tasks.append(MakeCheckpoint(self._group, through))
        scrub = self.scrubbing.take_due(self._merging.segments, self.schedule.instances, now_ns)
        if scrub is not None:
            effects.tasks.append(scrub)
        for instance_id in self.schedule.take_superfluous(now_ns):
            effects.tasks.append(DropCheckpoint(self._group, instance_id))
        self._superfluous_ns = self.schedule.superfluous_due_ns

    # The own learner's segments.

    def _on_segment_sealed(self, sealed: SegmentSealed, now_ns: int, effects: Effects) -> None:
        self._told_through = max(self._told_through, sealed.last)
        if not self._merging.add(sealed):
            self._ask_for_segments(now_ns, effects)

    @property
    def _ask_again_ns(self) -> int | None:
        """When to ask for all segments anew; None where nothing is missing."""
        if self._wanted_ns is None or self._told_through <= self._merging.through:
            return None
        return self._wanted_ns + WANTED_INTERVAL_NS

    def _ask_for_segments(self, now_ns: int, effects: Effects) -> None:
        # Behind one that is missing every later one is, too: they are not all asked about.
        if self._wanted_ns is None or now_ns >= self._wanted_ns + WANTED_INTERVAL_NS:
            self._wanted_ns = now_ns
            self._send(self._learner, SegmentsWanted(), effects)

    def on_durable(self, records: Sequence[Record], now_ns: int) -> Effects:
        """A checkpointer has no records."""
        return Effects()

    # What others ask for.

    def _on_chunk_request(
        self, sender: Address, request: ChunkRequest, now_ns: int, effects: Effects
    ) -> None:
        self.schedule.note_used(request.instance_id, now_ns)
        size = min(request.bytes_max, self._settings.chunk_bytes)
        read = ReadChunk(
            self._group, sender, request.instance_id, request.path, request.offset, size
        )
        effects.tasks.append(read)

    # What tasks come to.

    def on_outcome(self, task: Task, outcome: Outcome, now_ns: int) -> Effects:
        """A task is done, or was given up."""
        effects = Effects()
        match task:
            case ReadSegments():
                self._on_segments_read(task, outcome, now_ns, effects)
            case ReadChain():
                chain = outcome.chain if isinstance(outcome, ChainRead) else None
                reply = ChainReply(task.instance_id, chain, self._merging.through, 0)
                self._send(task.reader, reply, effects)
            case ReadManifest():
                self._on_manifest_read(task, outcome, effects)
            case ReadChunk():
                data = outcome.data if isinstance(outcome, ChunkRead) else None
                wait_ms = self._pace.take(len(data or b""), now_ns)
                chunk = Chunk(task.instance_id, task.path, task.offset, data, wait_ms)
                self._send(task.reader, chunk, effects)
            case MergeSegments() if isinstance(outcome, TaskFailed):
                self._merging.failed(outcome.why, now_ns)
            case MergeSegments():
                merged = self._merging.merged(task)
                message = SegmentMerged(merged.first, merged.last, merged.byte_count)
                self._send(self._learner, message, effects)
            case MakeCheckpoint() if self._is_for_the_learner(outcome):
                self._save_asked_ns = now_ns
                self._send(self._learner, SaveWanted(), effects)
            case MakeCheckpoint():
                self._on_made(outcome, now_ns, effects)
            case TakeSaved():
                self._on_made(outcome, now_ns, effects)
                self._send(self._learner, SavedTaken(task.instance_id), effects)
            case DropCheckpoint() | SetAsideCheckpoint():
                self.schedule.dropped(task.instance_id)
                self._tell_kept(effects)
            case Scrub():
                self._on_scrubbed(task, outcome, now_ns, effects)
            case BeginTransfer() | WriteChunk() | PublishTransfer():
                published = self.fetch.on_outcome(task, outcome, now_ns, effects)
                if published is not None:
                    self.schedule.add(published)
                    self._tell_kept(effects)
                    self._send(self._learner, CheckpointReady(published), effects)
                self._tell_given_up(effects)
            case _:
                raise AssertionError(f"{type(task).__name__} is no task of a checkpointer")
        self._go_on(now_ns, effects)
        return effects

    def _on_segments_read(
        self, task: ReadSegments, outcome: Outcome, now_ns: int, effects: Effects
    ) -> None:
        values: tuple[ChosenValue, ...] = ()
        floor = 0
        if isinstance(outcome, SegmentsRead):
            values, floor = outcome.values, outcome.floor
        last = values[-1].instance_id if values else 0
        through = max(last, self._merging.through)
        wait_ms = self._pace.take(sum(len(v.value) for v in values), now_ns)
        reply = LearnReply(task.from_instance, values, through, 0, floor, wait_ms)
        self._send(task.reader, reply, effects)

    def _on_manifest_read(self, task: ReadManifest, outcome: Outcome, effects: Effects) -> None:
        manifest = outcome.manifest if isinstance(outcome, ManifestRead) else None
        if isinstance(outcome, ManifestRead):
            for instance_id in outcome.damaged:
                self._set_aside(instance_id, "damaged", effects)
        self._send(task.reader, CheckpointOffer(task.above, manifest), effects)

    def _is_for_the_learner(self, outcome: Outcome) -> bool:
        """Whether the learner is to save its state, since no copy of it can."""
        is_damage = isinstance(outcome, TaskFailed) and outcome.is_damage
        self._damaged_attempts = self._damaged_attempts + 1 if is_damage else 0
        return isinstance(outcome, SavedByLearner) or self._damaged_attempts >= ATTEMPTS_MAX

    def _on_made(self, outcome: Outcome, now_ns: int, effects: Effects) -> None:
        if isinstance(outcome, CheckpointMade):
            cut = outcome.cut
            self.schedule.made(cut.instance_id)
            made = CheckpointPublished(
                self._group, cut.instance_id, cut.chain, cut.result_chain, outcome.byte_count
            )
            effects.events.append(made)
            self._tell_kept(effects)
        elif isinstance(outcome, TaskFailed):
            self.schedule.failed(outcome.why, now_ns)
            effects.events.append(CheckpointFailed(self._group, outcome.why))

    def _on_state_saved(self, saved: StateSaved, now_ns: int, effects: Effects) -> None:
        if self._save_asked_ns is None:
            # Late: it was given up.
            self._send(self._learner, SavedTaken(saved.instance_id), effects)
        elif saved.problem:
            self._on_made(TaskFailed(saved.problem), now_ns, effects)
        elif saved.instance_id <= self.schedule.newest:
            # One that holds more was fetched meanwhile.
            self._on_made(TaskFailed("a later checkpoint is here by now"), now_ns, effects)
            self._send(self._learner, SavedTaken(saved.instance_id), effects)
        else:
            effects.tasks.append(TakeSaved(self._group, saved.instance_id))
        self._save_asked_ns = None

    def _on_scrubbed(self, task: Scrub, outcome: Outcome, now_ns: int, effects: Effects) -> None:
        if not isinstance(outcome, Scrubbed):
            self.scrubbing.gave_up(task, now_ns)
            return
        self.scrubbing.done(task, outcome, now_ns)
        if not outcome.damage:
            return
        if task.segment is None:
            self._set_aside(task.checkpoint, outcome.damage, effects)
        else:
            first, last = task.segment
            self._send(self._learner, SegmentDamaged(first, last, outcome.damage), effects)
            # Perhaps nobody has it any more, or yet: what covers it is needed soon.
            self.schedule.want(last)

    def _set_aside(self, instance_id: int, why: str, effects: Effects) -> None:
        """A damaged checkpoint counts no more; the next one is due as if it had never been."""
        if instance_id not in self.schedule.instances:
            return
        effects.events.append(CheckpointDamaged(self._group, instance_id, why))
        self.schedule.dropped(instance_id)
        self.schedule.want(self._merging.through)
        self._tell_kept(effects)
        effects.tasks.append(SetAsideCheckpoint(self._group, instance_id))

    # Parts.

    def _tell_kept(self, effects: Effects) -> None:
        kept = CheckpointsKept(self.schedule.oldest, self.schedule.newest)
        self._send(self._learner, kept, effects)

    def _tell_given_up(self, effects: Effects) -> None:
        """Tell the learner, where a fetch has just ended without a checkpoint."""
        problem = self.fetch.take_given_up()
        if problem:
            self._send(self._learner, CheckpointReady(0, problem), effects)

    def _send(self, to: Address, message: Message, effects: Effects) -> None:
        effects.sends_now.append(Send(to, self._group, message))
