"""What a learner puts into segments of its chosen log, and which segments there are.

```
 learned ─▶ unsealed ── big or old enough, or a flush ─▶ one seal at a time ─▶ durable
                                                          merged segments take their parts' place
```

Only applied instances are sealed, with their results; while applying is stopped, learned ones
without. While there is no room on the disk a seal stays on its way, and what is learned meanwhile
piles up: once it is `unsealed_bytes_max`, the learner takes no more in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ray_paxos.core.chosen_log import ChosenLog
from ray_paxos.core.learner_messages import (
    SegmentMerged,
    SegmentSealed,
)
from ray_paxos.core.records import SealedInstance, SealSegment
from ray_paxos.core.settings import LearnerSettings
from ray_paxos.core.tasks import PublishMerged

INSTANCE_OVERHEAD_BYTES = 500
"""What an unsealed instance takes in memory beyond its value and its results."""


class Sealing:
    """The segments of one group at one member, and what is on its way into them.

    Invariants: segments are contiguous and end at `durable_through`; one seal is on its way at
    most.

    Attributes:
        durable_through: Every instance up to it is in a segment, or in a checkpoint.
        segments: All of them, ascending.
    """

    def __init__(
        self,
        group: int,
        settings: LearnerSettings,
        log: ChosenLog,
    ) -> None:
        """Go on from where the log begins.

        Args:
            group: Whose log.
            settings: Sizes and ages.
            log: What is learned; trimmed here of what is durable.
        """
        self.durable_through = log.learned_through
        self.segments: list[SegmentSealed] = []
        self._group = group
        self._settings = settings
        self._log = log
        self._unsealed_bytes = 0
        # By unsealed instance, what it holds in memory; and of all of them.
        self._held: dict[int, int] = {}
        self._held_bytes = 0
        self._unsealed_since_ns: int | None = None
        self._sealing_through: int | None = None
        self._flush_through = 0
        self._noted_through = log.learned_through
        self._publishing: set[tuple[int, int]] = set()

    def note_replayed(self) -> None:
        """What is learned was read from the segments."""
        self._noted_through = self._log.learned_through
        self._trim(self._log.learned_through)

    def replayed(self, segments: Sequence[tuple[int, int, int]]) -> None:
        """All that is on the disk was read; it is in these segments (first, last, bytes)."""
        self.segments = [SegmentSealed(*segment) for segment in segments]

    def rebase(self) -> None:
        """The log goes on after a checkpoint beyond its end."""
        assert not self.is_busy, "nothing is on its way into segments that are left behind"
        self.segments = []
        self._held.clear()
        self._held_bytes = self._unsealed_bytes = 0
        self._unsealed_since_ns = None
        self._noted_through = self.durable_through = self._log.memory_floor - 1

    def cut(self, floor: int) -> None:
        """Segments below are gone."""
        self.segments = [segment for segment in self.segments if segment.last >= floor]

    @property
    def floor(self) -> int:
        """The lowest instance in a segment; the next one where there is none."""
        return self.segments[0].first if self.segments else self.durable_through + 1

    @property
    def is_busy(self) -> bool:
        """Whether a seal or a merged segment is on its way to the disk."""
        return self._sealing_through is not None or bool(self._publishing)

    def note_learned(self, now_ns: int) -> None:
        """Further instances were learned, perhaps."""
        for instance_id in range(self._noted_through + 1, self._log.learned_through + 1):
            byte_count = len(self._log.value(instance_id).value)
            self._unsealed_bytes += byte_count
            self._hold(instance_id, byte_count + INSTANCE_OVERHEAD_BYTES)
            if self._unsealed_since_ns is None:
                self._unsealed_since_ns = now_ns
        self._noted_through = self._log.learned_through

    def note_applied(self, instance_id: int, result_bytes: int) -> None:
        """The results of an instance are kept until it is sealed."""
        if instance_id <= self._noted_through:
            self._hold(instance_id, result_bytes)

    def _hold(self, instance_id: int, byte_count: int) -> None:
        self._held[instance_id] = self._held.get(instance_id, 0) + byte_count
        self._held_bytes += byte_count

    @property
    def is_full(self) -> bool:
        """Whether so much waits to be sealed that nothing more may be learned."""
        return self._held_bytes >= self._settings.unsealed_bytes_max

    def flush(self) -> None:
        """Seal all that is learned by now, without waiting for size or age."""
        self._flush_through = max(self._flush_through, self._log.learned_through)

    @property
    def due_ns(self) -> int | None:
        """When the next seal is due for its age; None with nothing to seal, or one on its way."""
        if self._unsealed_since_ns is None or self._sealing_through is not None:
            return None
        return self._unsealed_since_ns + self._settings.seal_age_ns

    def take_due(
        self, limit: int, result_chains: Mapping[int, bytes], now_ns: int
    ) -> SealSegment | None:
        """The order for the next segment, if it is time for one.

        Args:
            limit: Seal no further than this.
            result_chains: After each applied instance.
            now_ns: The clock.
        """
        due_ns = self.due_ns
        if due_ns is None or limit <= self.durable_through:
            return None
        if not (
            self._unsealed_bytes >= self._settings.seal_bytes
            or now_ns >= due_ns
            or self.is_full
            or self._flush_through > self.durable_through
        ):
            return None
        instances: list[SealedInstance] = []
        byte_count = 0
        for instance_id in range(self.durable_through + 1, limit + 1):
            chosen = self._log.value(instance_id)
            byte_count += len(chosen.value)
            if instances and byte_count > 2 * self._settings.seal_bytes:
                break
            result_chain = result_chains.get(instance_id)
            instances.append(SealedInstance(chosen, self._log.chain(instance_id), result_chain))
        self._sealing_through = instances[-1].chosen.instance_id
        if self._sealing_through == self._log.learned_through:
            # What is learned from here on has an age of its own.
            self._unsealed_since_ns = None
        return SealSegment(self._group, tuple(instances))

    def sealed(self, record: SealSegment) -> SegmentSealed:
        """A segment is durable; what it holds may leave memory."""
        first = record.instances[0].chosen.instance_id
        last = record.instances[-1].chosen.instance_id
        assert first == self.durable_through + 1, "segments follow each other"
        byte_count = sum(len(instance.chosen.value) for instance in record.instances)
        self._sealing_through = None
        self._unsealed_bytes -= byte_count
        for instance_id in range(first, last + 1):
            self._held_bytes -= self._held.pop(instance_id)
        self._trim(last)
        segment = SegmentSealed(first, last, byte_count)
        self.segments.append(segment)
        return segment

    def _trim(self, durable_through: int) -> None:
        self.durable_through = durable_through
        self._log.trim(durable_through, self._settings.memory_bytes)

    def merge(self, message: SegmentMerged) -> PublishMerged | None:
        """The order to publish a merged segment; None for one that is not of our segments.

        Such as one that is merged already, or larger: told again, or late.
        """
        first, last = message.first, message.last
        parts = [s for s in self.segments if first <= s.first and s.last <= last]
        if (
            len(parts) < 2
            or (parts[0].first, parts[-1].last) != (first, last)
            or (first, last) in self._publishing
        ):
            return None
        self._publishing.add((first, last))
        return PublishMerged(self._group, first, last)

    def published(self, task: PublishMerged) -> None:
        """A merged segment has taken the place of its parts."""
        self._publishing.discard((task.first, task.last))
        before = [s for s in self.segments if s.last < task.first]
        parts = [s for s in self.segments if task.first <= s.first and s.last <= task.last]
        after = [s for s in self.segments if s.first > task.last]
        byte_count = sum(part.byte_count for part in parts)
        merged = SegmentSealed(task.first, task.last, byte_count)
        self.segments = [*before, merged, *after]

    def publish_failed(self, task: PublishMerged) -> None:
        """Its parts stay."""
        self._publishing.discard((task.first, task.last))
