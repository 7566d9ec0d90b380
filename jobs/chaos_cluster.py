"""What a chaos run sees of a cluster, and does to it; `chaos_members` has it on Ray."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    import pyarrow as pa

    from chaos_cuts import Directions
    from ray_paxos.observability.event_record import EventRecord

Place: TypeAlias = tuple[str, str]
"""A member's name and a role's."""
CONTROLLER: Place = ("", "controller")
"""That of the cluster's controller, which is no member's."""


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
        lives: The roles that serve; the controller, once it has run a round.
        masters: The members that lead, by group; without those of which none says so.
        stopped: Roles, and groups of roles, that have stopped for good, and why.
        refusals: Why roles do not open their folders, as they say.
        full: Roles that take nothing in until their disk has room.
        learned: Through which instance a member has learned a group.
    """

    lives: Mapping[Place, Life] = field(default_factory=dict)
    masters: Mapping[int, str] = field(default_factory=dict)
    stopped: Mapping[str, str] = field(default_factory=dict)
    refusals: Mapping[Place, str] = field(default_factory=dict)
    full: frozenset[Place] = frozenset()
    learned: Mapping[tuple[str, int], int] = field(default_factory=dict)

    @property
    def serving(self) -> set[Place]:
        """The roles that take in what comes."""
        return self.lives.keys() - self.full


@dataclass(frozen=True)
class MemberLog:
    """A member's chosen log of one group.

    Attributes:
        rows: In order, with the columns of `chaos_node.COLUMNS`; None where it cannot be read.
        problem: What is wrong with it by itself; empty for nothing.
    """

    rows: pa.Table | None
    problem: str = ""


class Members(Protocol):
    """What a chaos run does to a cluster's members beside using it."""

    def watch(self, members: Sequence[str], *, has_controller: bool) -> None:
        """Look at these from here on, and at the controller where there is one."""

    def look(self, without: Iterable[Place]) -> Sight:
        """See who serves; `without` those that could not answer anyway."""

    def kill(self, lives: Sequence[Life]) -> int:
        """SIGKILL; gives how many there were."""

    def pause(self, lives: Sequence[Life], pause_s: float) -> int:
        """SIGSTOP, and SIGCONT after a time; gives how many there were."""

    def resume(self) -> None:
        """SIGCONT to all that are stopped."""

    def restart(self, member: str) -> None:
        """Close all roles of a member, and have Ray start them again."""

    def wipe(self, member: str, lives: Sequence[Life]) -> int:
        """SIGKILL, and delete the member's folder; gives how many processes there were."""

    def read_logs(self, group: int, first: int, members: Sequence[str]) -> dict[str, MemberLog]:
        """These members' logs of a group from an instance on."""

    def read_events(self, members: Sequence[str]) -> tuple[list[EventRecord], list[str]]:
        """What these members' files of events hold; and what could not be read, for a person."""

    def close(self) -> None:
        """Leave nothing stopped, and nothing of a run on the nodes."""


class Links(Protocol):
    """The links between the hosts of a run that made them."""

    def lose(self, directions: Directions) -> None:
        """Lose just what is sent in these directions; all else arrives."""


class Nodes(Protocol):
    """The Ray nodes of a run that started them itself: one for each member, and the head.

    Each is named by the member that it was started for, which may be replaced there.
    """

    @property
    def address(self) -> str:
        """Of the Ray cluster."""

    @property
    def links(self) -> Links | None:
        """Those between the nodes, where they can be cut."""

    def kill(self, member: str) -> None:
        """SIGKILL of the raylet of a member's node, and of all its workers."""

    def start(self, member: str) -> None:
        """Start the node again, on the same disk."""

    def kill_gcs(self) -> None:
        """SIGKILL of the GCS."""

    def start_gcs(self) -> None:
        """Start it again, on what it has stored."""

    def slow_disk(self, member: str, freeze_s: float, for_s: float) -> None:
        """For a time freeze the member's file system again and again, so long each time."""

    def fill_disk(self, member: str, for_s: float) -> None:
        """For a time leave no room on the member's file system."""

    def heal_disks(self) -> None:
        """End what slows or fills any disk, now."""
