"""The checkpointer of member 2: its segments, its tasks and its time are in the test's hands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from ray_paxos.core.checkpointer import Checkpointer
from ray_paxos.core.effects import Effects
from ray_paxos.core.learner_messages import (
    SegmentSealed,
    SegmentsListed,
)
from ray_paxos.core.messages import (
    Address,
    Message,
)
from ray_paxos.core.settings import CheckpointerSettings
from ray_paxos.core.tasks import Outcome, Task
from tests.unit.core_helpers import GENESIS, GROUP, MS, envelope, learner_of

ME = 2
SECOND = 1_000 * MS

AnyTask = TypeVar("AnyTask")


class CheckpointerBench:
    """Nothing is due by itself, unless the test's settings say so."""

    def __init__(self, *, checkpoints: Sequence[int] = (), now_ns: int = 0, **other: Any) -> None:
        quiet = {
            "merge_count": 1_000,
            "checkpoint_instances": 10**9,
            "checkpoint_bytes": 10**12,
            "checkpoint_age_ns": 10**6 * SECOND,
            "scrub_bytes_per_s": 0,
            "scrub_interval_ns": 0,
        }
        self.settings = CheckpointerSettings(**{**quiet, **other})
        self.now_ns = now_ns
        self.tasks: list[Task] = []
        self.role = Checkpointer(
            group=GROUP,
            member_id=ME,
            genesis=GENESIS,
            settings=self.settings,
            checkpoints=checkpoints,
            now_ns=now_ns,
        )

    def _note(self, effects: Effects) -> Effects:
        assert effects.records == []
        assert effects.sends_after_sync == [], "a checkpointer vouches for no record"
        self.tasks += effects.tasks
        return effects

    def ask(self, message: Message, sender: Address | None = None) -> Effects:
        """By its own learner, unless told otherwise."""
        return self._note(
            self.role.handle(envelope(sender or learner_of(ME), message), self.now_ns)
        )

    def seals(self, first: int, last: int, byte_count: int = 10) -> Effects:
        return self.ask(SegmentSealed(first, last, byte_count))

    def lists(self, *ranges: tuple[int, int], byte_count: int = 10) -> Effects:
        """The learner tells of all its segments anew."""
        segments = tuple(SegmentSealed(first, last, byte_count) for first, last in ranges)
        return self.ask(SegmentsListed(ranges[0][0], segments))

    def tick(self, milliseconds: float = 0) -> Effects:
        self.now_ns += int(milliseconds * MS)
        effects = self._note(self.role.on_deadline(self.now_ns))
        deadline_ns = self.role.deadline_ns
        assert deadline_ns is None or deadline_ns > self.now_ns, "called in a circle"
        return effects

    def comes_to(self, outcome: Outcome, task: Task | None = None) -> Effects:
        """A task (the oldest one) has come to this."""
        if task is None:
            task = self.tasks.pop(0)
        else:
            self.tasks.remove(task)
        return self._note(self.role.on_outcome(task, outcome, self.now_ns))


def tasks_of(effects: Effects, kind: type[AnyTask]) -> list[AnyTask]:
    """Tasks of one class."""
    return [task for task in effects.tasks if isinstance(task, kind)]
