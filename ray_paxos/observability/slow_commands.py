"""The last commands that took long, with where their time went.

```
 taken in ── queue ──▶ opened ── accept ──▶ chosen ── learned, applied ──▶ answered
                       (when each voter's accepted came in)
```

A master remembers the instances whose slowest request took `slow_ms` or longer; acceptors remember
slow writes, and learners slow applies, by instance, so that what a hop was spent on can be told.
"""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

import msgspec

FSYNC, APPLY = "fsync", "apply"
"""What a slow step was: a write of an acceptor made durable, or a step of applying of a learner."""


class SlowInstance(msgspec.Struct, frozen=True, kw_only=True):
    """An instance in which a request took long, as its master saw it; times in milliseconds.

    Attributes:
        at_ms: When it was answered, in milliseconds since 1970, by the master's wall clock.
        group: Whose.
        instance_id: Which.
        commands: How many commands it holds.
        byte_count: Of its value.
        machine: That the first slow command is for; empty for what is none.
        total_ms: From when the slowest request was taken in until it was answered.
        queue_ms: Of that, until the instance was opened.
        accept_ms: Of that, until a majority had accepted it.
        chosen_ms: Of that, until the results were back.
        votes_ms: By member_id, how long after it was opened each vote came that made it chosen.
    """

    at_ms: int
    group: int
    instance_id: int
    commands: int
    byte_count: int
    machine: str
    total_ms: float
    queue_ms: float
    accept_ms: float
    chosen_ms: float
    votes_ms: dict[int, float]


class SlowStep(msgspec.Struct, frozen=True, kw_only=True):
    """A write of an acceptor, or an apply of a learner, that took long.

    Attributes:
        at_ms: When it was done, in milliseconds since 1970, by the wall clock there.
        what: `FSYNC` or `APPLY`.
        duration_ms: How long.
        instances: (group, instance_id) of what it was for; the first few.
    """

    at_ms: int
    what: str
    duration_ms: float
    instances: tuple[tuple[int, int], ...]


Slow: TypeAlias = SlowInstance | SlowStep


class SlowCommands:
    """The last of them, of one role."""

    def __init__(self, kept: int) -> None:
        """Keep at most so many."""
        self._kept: deque[Slow] = deque(maxlen=kept)

    def add(self, slow: Slow) -> None:
        """Remember one more; the oldest is forgotten where there are too many."""
        self._kept.append(slow)

    def all(self) -> tuple[Slow, ...]:
        """Those that are remembered, the oldest first."""
        return tuple(self._kept)
