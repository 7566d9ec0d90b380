"""How much of its log a learner keeps.

```
 floor ──────────────── oldest checkpoint ────────────── newest checkpoint ──── learned
   │ kept for others, as      │ kept because one checkpoint may be found damaged  │
   │ `hold_count` says        │                                                   │
```

Segments go from the lowest up, whole ones only. None goes that the member's own oldest checkpoint
does not cover; and no member waits for another, however long that is away: it gets a checkpoint
when it comes back. What is damaged, and no other member has any more, is of no use to anybody: it
goes as soon as a checkpoint covers it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ray_paxos.core.learner_messages import SegmentSealed
from ray_paxos.core.settings import MILLISECOND_NS, LearnerSettings
from ray_paxos.core.tasks import CutLog

CUT_AGAIN_NS = 1_000 * MILLISECOND_NS


class LogCleaning:
    """When the log is cut, and where; one cut at a time.

    Attributes:
        oldest_checkpoint: Its instance, as the checkpointer told; 0 for none.
        newest_checkpoint: As `oldest_checkpoint`.
    """

    def __init__(self, group: int, settings: LearnerSettings) -> None:
        """Know of no checkpoint."""
        self.oldest_checkpoint = 0
        self.newest_checkpoint = 0
        self._group = group
        self._settings = settings
        self._is_cutting = False
        self._not_before_ns: int | None = None

    def take_due(
        self,
        segments: Sequence[SegmentSealed],
        learned_through: int,
        now_ns: int,
        lost_through: int = 0,
    ) -> CutLog | None:
        """The order to cut the log, if some of it may go.

        Args:
            segments: All of them, ascending.
            learned_through: The end of what is learned.
            now_ns: The clock.
            lost_through: The end of a segment that is damaged for good; 0 for none.
        """
        if self._is_cutting or not segments or not self.oldest_checkpoint:
            return None
        if self._not_before_ns is not None and now_ns < self._not_before_ns:
            return None
        # The last one stays: the next one goes on from it.
        limit = min(self.oldest_checkpoint + 1, segments[-1].first)
        if lost_through <= self.newest_checkpoint:
            limit = max(limit, min(lost_through + 1, segments[-1].first))
        if segments[0].last >= limit:
            return None
        floor = min(limit, learned_through - self._settings.hold_count + 1)
        excess = sum(s.byte_count for s in segments) - self._settings.log_bytes_max
        for segment in segments:
            if excess <= 0 or segment.last >= limit:
                break
            excess -= segment.byte_count
            floor = max(floor, segment.last + 1)
        floor = max(floor, min(limit, lost_through + 1))
        if segments[0].last >= floor:
            return None
        self._is_cutting = True
        return CutLog(self._group, floor)

    def done(self) -> None:
        """The log is cut."""
        self._is_cutting = False

    def failed(self, now_ns: int) -> None:
        """The log could not be cut: not at once again."""
        self._is_cutting = False
        self._not_before_ns = now_ns + CUT_AGAIN_NS
