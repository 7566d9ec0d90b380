"""The last slow commands of a cluster as a person or a program gets them; see `slow_report`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class SlowVote:
    """A vote that made an instance chosen.

    Attributes:
        member: Whose.
        vote_ms: How long after the instance was opened it came.
        fsync_ms: How long that member's disk took to write it; None where it was not slow.
        meanwhile_ms: How long another slow write there took meanwhile; None for none.
    """

    member: str
    vote_ms: float
    fsync_ms: float | None
    meanwhile_ms: float | None


@dataclass(frozen=True, slots=True)
class SlowCommand:
    """An instance in which a command took long; times in milliseconds.

    Attributes:
        at_ms: When it was answered, in milliseconds since 1970, by the master's wall clock.
        master: Which member led.
        group: Whose.
        instance_id: Which.
        machine: That the slow command is for; empty where a session was opened.
        commands: How many the instance holds.
        byte_count: Of its value.
        total_ms: From when the slowest request was taken in until it was answered.
        queue_ms: Of that, until the instance was opened.
        accept_ms: Of that, until a majority had accepted it.
        chosen_ms: Of that, until the results were back.
        votes: Those that made it chosen, in the order in which they came.
        not_waited_for: Voters whose vote came later, or never.
        apply_ms: By member, how long its learner took to apply it; where that was slow.
        culprit: What most probably held it up: one sentence for a person.
    """

    at_ms: int
    master: str
    group: int
    instance_id: int
    machine: str
    commands: int
    byte_count: int
    total_ms: float
    queue_ms: float
    accept_ms: float
    chosen_ms: float
    votes: tuple[SlowVote, ...]
    not_waited_for: tuple[str, ...]
    apply_ms: dict[str, float]
    culprit: str


@dataclass(frozen=True, slots=True)
class LooseStep:
    """A slow write or apply that belongs to no remembered command.

    Attributes:
        at_ms: When it was done, in milliseconds since 1970, by the wall clock there.
        member: Where.
        what: `fsync` or `apply`.
        duration_ms: How long it took.
        instances: (group, instance_id) of what it was for; the first few.
    """

    at_ms: int
    member: str
    what: str
    duration_ms: float
    instances: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class SlowReport:
    """What is remembered.

    Attributes:
        commands: The last that were asked for, the newest first.
        steps: Likewise, the last few that belong to no remembered command.
        silent: By `member/role`, why it told nothing.
        is_silent: Whether nobody told anything.
    """

    commands: tuple[SlowCommand, ...]
    steps: tuple[LooseStep, ...]
    silent: dict[str, str]
    is_silent: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain data, fit for JSON."""
        return asdict(self)
