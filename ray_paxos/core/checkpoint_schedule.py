"""When a group's checkpointer makes the next checkpoint, and which ones it keeps.

A checkpoint is due by count, bytes or age of what was sealed after the one before; or because
somebody asked. It is made through the end of the last sealed segment. The newest ones stay: were
one found damaged, the one before it and the log after that give the same state. One that another
member is fetching stays until that member has not asked for a while.
"""

from __future__ import annotations

from collections.abc import Sequence

from ray_paxos.core.learner_messages import SegmentSealed
from ray_paxos.core.settings import MILLISECOND_NS, CheckpointerSettings

IN_USE_NS = 15_000 * MILLISECOND_NS


class CheckpointSchedule:
    """The checkpoints of one group at one member.

    Invariants: `instances` ascend; at most one is being made.

    Attributes:
        instances: Of the checkpoints there are.
        problem: Why the last one could not be made; empty where it could.
    """

    def __init__(
        self, settings: CheckpointerSettings, instances: Sequence[int], now_ns: int
    ) -> None:
        """Go on with those that there are."""
        self.instances = sorted(instances)
        self.problem = ""
        self._settings = settings
        self._making: int | None = None
        self._wanted_through = 0
        self._since_ns: int | None = None
        self._not_before_ns = now_ns
        self._used_ns: dict[int, int] = {}
        self._dropping: set[int] = set()

    @property
    def newest(self) -> int:
        """Instance of the newest one; 0 for none."""
        return self.instances[-1] if self.instances else 0

    @property
    def oldest(self) -> int:
        """Instance of the oldest one; 0 for none."""
        return self.instances[0] if self.instances else 0

    @property
    def is_making(self) -> bool:
        """Whether one is being made."""
        return self._making is not None

    @property
    def due_ns(self) -> int | None:
        """When the next one is due, wanted or for its age; None with nothing new sealed."""
        if self._since_ns is None or self._making is not None:
            return None
        is_wanted = self._wanted_through > self.newest
        age_ns = 0 if is_wanted else self._settings.checkpoint_age_ns
        return max(self._since_ns + age_ns, self._not_before_ns)

    def want(self, through: int) -> None:
        """Somebody wants one that holds everything up to an instance."""
        self._wanted_through = max(self._wanted_through, through)

    def take_due(self, segments: Sequence[SegmentSealed], now_ns: int) -> int | None:
        """Through which instance to make one now; None where none is due.

        Args:
            segments: All that are sealed, ascending.
            now_ns: The clock.
        """
        through, settings = segments[-1].last if segments else 0, self._settings
        if through <= self.newest:
            self._since_ns = None
            return None
        if self._since_ns is None:
            self._since_ns = now_ns
        if self._making is not None or now_ns < self._not_before_ns:
            return None
        new_bytes = sum(s.byte_count for s in segments if s.first > self.newest)
        due_ns = self.due_ns
        if not (
            through - self.newest >= settings.checkpoint_instances
            or new_bytes >= settings.checkpoint_bytes
            or (due_ns is not None and now_ns >= due_ns)
        ):
            return None
        self._making = through
        return through

    @property
    def superfluous_due_ns(self) -> int | None:
        """When one that another member fetches may be dropped; None with none of these."""
        due = [
            self._used_ns[instance_id] + IN_USE_NS
            for instance_id in self.instances[: -self._settings.checkpoints_kept]
            if instance_id in self._used_ns and instance_id not in self._dropping
        ]
        return min(due, default=None)

    def made(self, instance_id: int) -> None:
        """One is published."""
        self._making = None
        self.problem = ""
        self._since_ns = None
        self.add(instance_id)

    def failed(self, why: str, now_ns: int) -> None:
        """It could not be made: again, later."""
        self._making = None
        self.problem = why
        self._not_before_ns = now_ns + self._settings.checkpoint_retry_ns
        self._since_ns = now_ns

    def add(self, instance_id: int) -> None:
        """One is there, made here or fetched."""
        if instance_id not in self.instances:
            self.instances = sorted((*self.instances, instance_id))

    def note_used(self, instance_id: int, now_ns: int) -> None:
        """Another member asks for parts of it."""
        self._used_ns[instance_id] = now_ns

    def take_superfluous(self, now_ns: int) -> list[int]:
        """Those to be dropped now."""
        superfluous = [
            instance_id
            for instance_id in self.instances[: -self._settings.checkpoints_kept]
            if now_ns >= self._used_ns.get(instance_id, -IN_USE_NS) + IN_USE_NS
            and instance_id not in self._dropping
        ]
        self._dropping.update(superfluous)
        return superfluous

    def dropped(self, instance_id: int) -> None:
        """It is gone: superfluous, or damaged."""
        self.instances = [each for each in self.instances if each != instance_id]
        self._dropping.discard(instance_id)
        self._used_ns.pop(instance_id, None)
