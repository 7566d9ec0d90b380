"""How a learner keeps the segments of its log: sealed, merged, mended, and cut off in the end.

```
 sealed ── told to the own checkpointer ─▶ merged there ─▶ published here
        ── found damaged there ─▶ fetched from another member (`segment_repair`) ─▶ replaced here
        ── covered by a checkpoint and old ─▶ cut off (`log_cleaning`)
```

The learner alone renames and removes in its log; its checkpointer reads it, and proposes.
"""

from __future__ import annotations

from ray_paxos.core.checkpoint_messages import LogCleaned
from ray_paxos.core.effects import Effects
from ray_paxos.core.events import (
    LogCutOff,
    MessageRefused,
    SegmentDamageFound,
    SegmentRepaired,
    SegmentsSealed,
)
from ray_paxos.core.learner_checkpoints import LearnerCheckpoints
from ray_paxos.core.learner_messages import (
    LearnReply,
    SegmentMerged,
    SegmentsListed,
)
from ray_paxos.core.learner_state import LearnerState
from ray_paxos.core.log_cleaning import LogCleaning
from ray_paxos.core.messages import Address
from ray_paxos.core.records import SealSegment
from ray_paxos.core.segment_repair import SegmentRepair
from ray_paxos.core.tasks import LogCut, Outcome, PublishMerged, ReplaceSegment, TaskFailed


class LearnerSegments:
    """The segments of one group at one member.

    Invariants: nothing of the log goes that no checkpoint of this member covers; while the log is
    about to go on after an install, nothing is sealed, merged or cut.
    """

    def __init__(self, state: LearnerState, checkpoints: LearnerCheckpoints) -> None:
        """Begin with what was replayed.

        Args:
            state: Of the learner.
            checkpoints: Cover what is cut off.
        """
        self._state = state
        self._checkpoints = checkpoints
        self._cleaning = LogCleaning(state.group, state.settings)
        self._repair = SegmentRepair(state.group, state.peers, state.settings)
        self._is_told = False

    @property
    def problem(self) -> str:
        """What damage could not be mended so far; empty where nothing is left to be."""
        return self._repair.problem

    @property
    def due_ns(self) -> int | None:
        """When to ask for what is damaged again; None for never."""
        return self._repair.due_ns

    # Sealing, and telling of it.

    def seal_if_due(self, now_ns: int, effects: Effects) -> None:
        """Seal what is learned, once it is large or old enough."""
        if self._checkpoints.bars_sealing:
            return
        state, applying = self._state, self._state.applying
        # While applying is stopped, what is learned is sealed without results.
        limit = state.log.learned_through if applying.stopped else applying.applied_through
        order = state.sealing.take_due(limit, applying.result_chains, now_ns)
        if order is not None:
            effects.records.append(order)

    def sealed(self, record: SealSegment, effects: Effects) -> None:
        """A segment is durable."""
        state = self._state
        segment = state.sealing.sealed(record)
        state.applying.forget(segment.first, segment.last)
        effects.events.append(SegmentsSealed(state.group, segment.first, segment.last))
        if self._is_told:
            state.send(state.checkpointer, segment, effects)

    def tell_anew(self) -> None:
        """The checkpointer missed something: `tell` tells of all of them again."""
        self._is_told = False

    def tell(self, effects: Effects) -> None:
        """Tell the checkpointer of all of them at once, if that is to be done."""
        if self._is_told:
            return
        self._is_told = True
        state = self._state
        listed = SegmentsListed(state.sealing.floor, tuple(state.sealing.segments))
        if listed.segments or listed.floor > 1:
            state.send(state.checkpointer, listed, effects)

    # Merging.

    def on_merged(self, sender: Address, message: SegmentMerged, effects: Effects) -> None:
        """The checkpointer has one segment with the content of several: it takes their place."""
        state = self._state
        may_merge = sender == state.checkpointer and not self._checkpoints.bars_sealing
        order = state.sealing.merge(message) if may_merge else None
        if order is None:
            effects.events.append(MessageRefused(state.group, "a merge that is not ours"))
        else:
            effects.tasks.append(order)

    def on_published(self, task: PublishMerged, outcome: Outcome) -> None:
        """A merged segment is in its place, or could not be put there."""
        if isinstance(outcome, TaskFailed):
            self._state.sealing.publish_failed(task)
            # Its checkpointer takes it for published.
            self.tell_anew()
        else:
            self._state.sealing.published(task)

    # Mending.

    def on_damaged(self, first: int, last: int, why: str, effects: Effects) -> None:
        """The checkpointer found one that is not what was written."""
        state = self._state
        if not any((s.first, s.last) == (first, last) for s in state.sealing.segments):
            # Merged or cleaned away meanwhile.
            return
        effects.events.append(SegmentDamageFound(state.group, first, last, why))
        self._repair.want(first, last, why)

    def is_answer(self, sender: Address, reply: LearnReply) -> bool:
        """Whether it is an answer to a question of `mend`."""
        return self._repair.is_answer(sender, reply)

    def on_answer(self, sender: Address, reply: LearnReply, now_ns: int, effects: Effects) -> None:
        """Another member gave what it has of a damaged segment's instances."""
        step = self._repair.answered(sender, reply, now_ns)
        if isinstance(step, ReplaceSegment):
            effects.tasks.append(step)
        elif step is not None:
            self._state.send(step[0], step[1], effects)

    def mend(self, now_ns: int, effects: Effects) -> None:
        """Ask other members for what is damaged, if it is time to."""
        repair = self._repair
        if repair.cut_off_through > self._cleaning.newest_checkpoint:
            # What another member has cut off it covers with a checkpoint. To have that one does no
            # harm, whoever else may still have the segment.
            self._checkpoints.want(repair.cut_off_through - 1, now_ns, effects)
        question = repair.take_question(now_ns)
        if question is not None:
            self._state.send(question[0], question[1], effects)

    def on_replaced(
        self, task: ReplaceSegment, outcome: Outcome, now_ns: int, effects: Effects
    ) -> None:
        """What was fetched is in the damaged one's place, or could not be put there."""
        if isinstance(outcome, TaskFailed):
            self._repair.failed(task, outcome.why, now_ns)
        elif self._repair.replaced(task):
            first, last = task.values[0].instance_id, task.values[-1].instance_id
            effects.events.append(SegmentRepaired(self._state.group, first, last))

    # Cutting them off.

    def covered(self, oldest: int, newest: int) -> None:
        """The checkpointer told which checkpoints there are; 0 for none."""
        self._cleaning.oldest_checkpoint = oldest
        self._cleaning.newest_checkpoint = newest

    def clean_if_due(self, now_ns: int, effects: Effects) -> None:
        """Cut off what is neither needed here nor kept for others."""
        if self._checkpoints.bars_sealing:
            return
        order = self._cleaning.take_due(
            self._state.sealing.segments,
            self._state.log.learned_through,
            now_ns,
            self._repair.lost_through,
        )
        if order is not None:
            effects.tasks.append(order)

    def on_cleaned(self, outcome: Outcome, now_ns: int) -> None:
        """The log is cut where cleaning wanted it to be, or could not be."""
        if isinstance(outcome, LogCut):
            self._cleaning.done()
        else:
            self._cleaning.failed(now_ns)

    def cut_off(self, floor: int, effects: Effects) -> None:
        """Segments below are gone, durably, for whatever reason."""
        state = self._state
        state.sealing.cut(floor)
        self._repair.drop_below(floor)
        effects.events.append(LogCutOff(state.group, floor))
        state.send(state.checkpointer, LogCleaned(floor), effects)

    def left_behind(self, floor: int) -> None:
        """A checkpoint was installed: what lies below needs no repair any more."""
        self._repair.drop_below(floor)
