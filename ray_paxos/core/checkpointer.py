"""The checkpointer of one group at one member: works on sealed segments, apart from the learner.

It gives sealed instances to learners of other members that are far behind, and merges small
adjoining segments: it writes the merged one, syncs it and reads it back, in its own folder; only
the learner puts it into the log and removes the parts.
"""

from __future__ import annotations

from collections.abc import Sequence

from ray_paxos.core.effects import Effects, Send
from ray_paxos.core.events import MessageRefused
from ray_paxos.core.messages import (
    Address,
    ChosenValue,
    Envelope,
    LearnReply,
    LearnRequest,
    Message,
    RoleName,
    SegmentMerged,
    SegmentSealed,
    SegmentsWanted,
)
from ray_paxos.core.records import MergeSegments, ReadSegments, Record
from ray_paxos.core.settings import MILLISECOND_NS, CheckpointerSettings

WANTED_INTERVAL_NS = 1_000 * MILLISECOND_NS


class Checkpointer:
    """Serves and merges sealed segments of one group.

    Invariants: `_segments` adjoin each other in ascending order; one merge at a time.
    """

    def __init__(self, *, group: int, member_id: int, settings: CheckpointerSettings) -> None:
        """Start knowing no segments: the learner tells of them.

        Args:
            group: Whose log.
            member_id: Of this member.
            settings: When to merge.
        """
        self._group = group
        self._settings = settings
        self._learner = Address(member_id, RoleName.LEARNER)
        self._segments: list[SegmentSealed] = []
        self._merging: SegmentSealed | None = None
        self._wanted_ns: int | None = None

    @property
    def deadline_ns(self) -> int | None:
        """A checkpointer waits for nothing."""
        return None

    def on_deadline(self, now_ns: int) -> Effects:
        """Nothing to do."""
        return Effects()

    def stamp(self, group: int) -> tuple[int, int]:
        """A checkpointer has no part in votes."""
        return 0, 0

    def handle(self, envelope: Envelope, now_ns: int) -> Effects:
        """Take one message in."""
        effects = Effects()
        match envelope.message:
            case SegmentSealed() as sealed if envelope.sender == self._learner:
                self._on_segment_sealed(sealed, now_ns, effects)
            case LearnRequest(from_instance=from_instance, bytes_max=bytes_max):
                read = ReadSegments(self._group, from_instance, bytes_max)
                effects.reads.append((read, envelope.sender))
            case other:
                what = f"{type(other).__name__} to a checkpointer"
                effects.events.append(MessageRefused(self._group, what))
        return effects

    def on_read(
        self, read: ReadSegments, reader: Address, values: Sequence[ChosenValue], now_ns: int
    ) -> Effects:
        """Send what the segments hold to the learner that asked."""
        effects = Effects()
        last = values[-1].instance_id if values else 0
        learned_through = max(last, self._segments[-1].last if self._segments else 0)
        reply = LearnReply(read.from_instance, tuple(values), learned_through, 0)
        self._send(reader, reply, effects)
        return effects

    def _on_segment_sealed(self, sealed: SegmentSealed, now_ns: int, effects: Effects) -> None:
        if sealed.first == 1:
            # The learner tells of all its segments anew.
            self._segments = []
        expected = self._segments[-1].last + 1 if self._segments else 1
        if sealed.first > expected:
            # The learner answers with all its segments: asked once a message, a lost one of many
            # would make more messages than it cost.
            if self._wanted_ns is None or now_ns >= self._wanted_ns + WANTED_INTERVAL_NS:
                self._wanted_ns = now_ns
                self._send(self._learner, SegmentsWanted(), effects)
        elif sealed.first == expected:
            self._segments.append(sealed)
            self._merge_if_due(effects)

    def _merge_if_due(self, effects: Effects) -> None:
        """Merge adjoining segments of like size, so that no byte is rewritten often.

        No segment of the run may outweigh the others together: with that, the count of segments
        grows with the logarithm of the log's size, and so does the number of times a byte is
        rewritten.
        """
        if self._merging is not None:
            return
        count = self._settings.merge_count
        for start in range(len(self._segments) - count + 1):
            run = self._segments[start : start + count]
            total = sum(segment.byte_count for segment in run)
            largest = max(segment.byte_count for segment in run)
            if total <= self._settings.merge_bytes_max and largest <= total - largest:
                self._merging = SegmentSealed(run[0].first, run[-1].last, total)
                merge = MergeSegments(self._group, run[0].first, run[-1].last)
                effects.records.append(merge)
                return

    def on_durable(self, records: Sequence[Record], now_ns: int) -> Effects:
        """A merged segment is written, synced and read back: the learner may publish it."""
        effects = Effects()
        for record in records:
            if not isinstance(record, MergeSegments):
                continue
            merged, self._merging = self._merging, None
            assert merged is not None and merged.first == record.first, "one merge at a time"
            before = [s for s in self._segments if s.last < merged.first]
            parts = [s for s in self._segments if merged.first <= s.first <= merged.last]
            after = [s for s in self._segments if s.first > merged.last]
            # A learner that is telling of its segments anew has not come to all parts yet: then
            # they will be known as they are told.
            if parts and parts[0].first == merged.first and parts[-1].last == merged.last:
                self._segments = [*before, merged, *after]
            message = SegmentMerged(merged.first, merged.last, merged.byte_count)
            self._send(self._learner, message, effects)
            self._merge_if_due(effects)
        return effects

    def _send(self, to: Address, message: Message, effects: Effects) -> None:
        effects.sends_now.append(Send(to, self._group, message))
