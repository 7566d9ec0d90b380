"""What a chaos run sees of a cluster, and does to it; `chaos_members` has it on Ray."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    import pyarrow as pa

Place: TypeAlias = tuple[str, str]
"""A member's name and a role's."""


@dataclass(frozen=True, slots=True)
class Life:
    """One life of a role's process.

    Attributes:
        pid: Its process id on its node.
        started: When that process started there.
        node_id: Which node.
    """

    pid: int
    started: int
    node_id: str


@dataclass(frozen=True)
class Sight:
    """What could be seen of a cluster at about one moment.

    Attributes:
        lives: The roles that serve.
        master: The member that leads; None where none says so.
        stopped: Roles, and groups of roles, that have stopped for good, and why.
    """

    lives: Mapping[Place, Life] = field(default_factory=dict)
    master: str | None = None
    stopped: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MemberLog:
    """A member's chosen log.

    Attributes:
        rows: In order, with the columns of `chaos_node.COLUMNS`; None where it cannot be read.
        problem: What is wrong with it by itself; empty for nothing.
    """

    rows: pa.Table | None
    problem: str = ""


class Members(Protocol):
    """What a chaos run does to a cluster beside using it."""

    def look(self, without: Iterable[Place]) -> Sight:
        """See who serves; `without` those that could not answer anyway."""

    def kill(self, lives: Sequence[Life]) -> int:
        """SIGKILL; gives how many there were."""

    def pause(self, lives: Sequence[Life], pause_s: float) -> int:
        """SIGSTOP, and SIGCONT after a time; gives how many there were."""

    def resume(self) -> None:
        """SIGCONT to all that are stopped."""

    def read_logs(self, first: int) -> dict[str, MemberLog]:
        """Every member's log from an instance on."""

    def close(self) -> None:
        """Leave nothing stopped, and nothing of a run on the nodes."""
