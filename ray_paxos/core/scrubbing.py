"""Reading in the background what lies on the disk, before it is needed.

A sealed segment or a checkpoint may not be read for months, and a byte of it may turn meanwhile.
So each is read and compared with its checksums in turn, the one not read for longest first, slowly
enough to disturb nobody. What is found is mended while other members still have it.

None is read again before a time is over: of a hundred groups that lie still, each with a few small
files, each member read a hundred files a second, which took 3 % of a core.
"""

from __future__ import annotations

from collections.abc import Iterable

from ray_paxos.core.learner_messages import SegmentSealed
from ray_paxos.core.pace import MILLISECOND_NS, Pace
from ray_paxos.core.tasks import Scrub, Scrubbed

REST_NS = 1_000 * MILLISECOND_NS
"""Between two files at least."""
LOOK_NS = 5_000 * MILLISECOND_NS
"""With nothing to be read it looks again so soon."""


class Scrubbing:
    """What of one group was read when.

    Attributes:
        files: Read in this life.
        found: Damaged ones among them, each counted once until it was read sound again.
        due_ns: When the next one is due; None for never.
    """

    def __init__(self, group: int, bytes_per_s: int, interval_ns: int, now_ns: int) -> None:
        """Begin with whatever there is.

        Args:
            group: Whose.
            bytes_per_s: How fast to read; 0: not at all.
            interval_ns: After which a file may be read again.
            now_ns: The clock.
        """
        self.files = 0
        self.found = 0
        self.due_ns: int | None = now_ns + REST_NS if bytes_per_s else None
        self._group = group
        self._pace = Pace(bytes_per_s) if bytes_per_s else None
        self._interval_ns = interval_ns
        # Of each file: until when it was read, and in which turn that was.
        self._read: dict[Scrub, tuple[int, int]] = {}
        self._damaged: set[Scrub] = set()
        self._round = 0

    def take_due(
        self, segments: Iterable[SegmentSealed], checkpoints: Iterable[int], now_ns: int
    ) -> Scrub | None:
        """The next file to be read, if it is time; one at a time.

        Args:
            segments: All there are.
            checkpoints: Instances of all there are.
            now_ns: The clock.
        """
        if self.due_ns is None or now_ns < self.due_ns:
            return None
        there = [Scrub(self._group, (s.first, s.last)) for s in segments]
        there += [Scrub(self._group, None, instance_id) for instance_id in checkpoints]
        self._read = {scrub: self._read.get(scrub, (0, 0)) for scrub in there}
        self._damaged.intersection_update(there)
        scrub = min(there, key=lambda each: self._read[each], default=None)
        if scrub is None or now_ns < self._read[scrub][0]:
            self.due_ns = now_ns + LOOK_NS
            return None
        self.due_ns = None
        return scrub

    def done(self, scrub: Scrub, outcome: Scrubbed, now_ns: int) -> None:
        """A file was read."""
        self.files += 1
        if not outcome.damage:
            self._damaged.discard(scrub)
        elif scrub not in self._damaged:
            self._damaged.add(scrub)
            self.found += 1
        self._round += 1
        # What is damaged is read again in its turn, until it is mended.
        enough_ns = 0 if outcome.damage else self._interval_ns
        self._read[scrub] = now_ns + enough_ns, self._round
        if self._pace is None:
            return
        wait_ns = self._pace.take(outcome.byte_count, now_ns) * MILLISECOND_NS
        self.due_ns = now_ns + max(wait_ns, REST_NS)

    def gave_up(self, scrub: Scrub, now_ns: int) -> None:
        """The file could not be read at all: others have their turn."""
        self._round += 1
        self._read[scrub] = now_ns, self._round
        if self._pace is not None:
            self.due_ns = now_ns + REST_NS
