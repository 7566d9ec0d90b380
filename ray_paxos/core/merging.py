"""Which segments of a group's log are merged into one, and when.

A log under steady load grows by small segments, and each costs a file, a footer and an open. So
adjoining segments of like size are merged, again and again: no segment of a run may outweigh the
others together, so that the count of segments grows with the logarithm of the log's size, and so
does the number of times that a byte is rewritten. Where a merge fails, the parts stay.
"""

from __future__ import annotations

from collections.abc import Sequence

from ray_paxos.core.learner_messages import SegmentSealed
from ray_paxos.core.settings import MILLISECOND_NS, CheckpointerSettings
from ray_paxos.core.tasks import MergeSegments

MERGE_AGAIN_NS = 60_000 * MILLISECOND_NS
"""After one that failed: what is damaged may be mended by then."""


class Merging:
    """The segments of one group as its checkpointer knows them.

    Invariants: `segments` adjoin each other in ascending order, from `_floor` on; one merge at a
    time.

    Attributes:
        segments: As the learner told.
        problem: Why the last merge failed; empty where it did not.
    """

    def __init__(self, group: int, settings: CheckpointerSettings) -> None:
        """Know of none."""
        self.segments: list[SegmentSealed] = []
        self._group = group
        self._settings = settings
        self.problem = ""
        self._floor = 1
        self._merging: SegmentSealed | None = None
        self._not_before_ns: int | None = None

    @property
    def through(self) -> int:
        """The end of the last segment; where there is none, of what lies below the log."""
        return self.segments[-1].last if self.segments else self._floor - 1

    def add(self, sealed: SegmentSealed) -> bool:
        """Note a segment, as the learner told of it.

        Returns:
            False where something before it is missing.
        """
        if sealed.first > self.through + 1:
            return False
        if sealed.first == self.through + 1:
            self.segments.append(sealed)
        return True

    def replace(self, floor: int, segments: Sequence[SegmentSealed]) -> None:
        """Note all segments anew, as the learner told of them."""
        self._floor = floor
        self.segments = list(segments)

    def cut(self, floor: int) -> None:
        """Segments below are gone."""
        self._floor = max(self._floor, floor)
        self.segments = [segment for segment in self.segments if segment.last >= floor]

    def take_due(self, now_ns: int) -> MergeSegments | None:
        """The order for the next merge, if there is one to make now."""
        if self._merging is not None:
            return None
        if self._not_before_ns is not None and now_ns < self._not_before_ns:
            return None
        count = self._settings.merge_count
        for start in range(len(self.segments) - count + 1):
            run = self.segments[start : start + count]
            total = sum(segment.byte_count for segment in run)
            largest = max(segment.byte_count for segment in run)
            if total <= self._settings.merge_bytes_max and largest <= total - largest:
                self._merging = SegmentSealed(run[0].first, run[-1].last, total)
                return MergeSegments(self._group, run[0].first, run[-1].last)
        return None

    def merged(self, task: MergeSegments) -> SegmentSealed:
        """A merged segment is written, synced and read back."""
        merged, self._merging = self._merging, None
        assert merged is not None and merged.first == task.first, "one merge at a time"
        self.problem = ""
        before = [s for s in self.segments if s.last < merged.first]
        parts = [s for s in self.segments if merged.first <= s.first and s.last <= merged.last]
        after = [s for s in self.segments if s.first > merged.last]
        # A learner that is telling of its segments anew has not come to all parts yet: then they
        # will be known as they are told. So they will if some of them are cleaned away by now.
        if parts and (parts[0].first, parts[-1].last) == (merged.first, merged.last):
            self.segments = [*before, merged, *after]
        return merged

    def failed(self, why: str, now_ns: int) -> None:
        """The parts stay as they are."""
        self._merging = None
        self.problem = why
        self._not_before_ns = now_ns + MERGE_AGAIN_NS
