"""Makes room for changes of groups' members: members that a group may be given to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from chaos_group_faults import ChangedGroup
from chaos_plan import VOTERS_MIN

REMOVE_S = 60.0


class GroupedCluster(Protocol):
    """What this module needs of a `ray_paxos.Cluster`."""

    @property
    def members(self) -> Sequence[str]:
        """Their names."""

    def group(self, group: int) -> ChangedGroup:
        """One group, to see and change who has it."""


def make_room(cluster: GroupedCluster, groups: Sequence[int]) -> None:
    """Have every group that all members have leave one of them, another one each time.

    A group that has room already stays as it is, and so does one that would keep too few voters.

    Args:
        cluster: Whose groups these are.
        groups: Their numbers.

    Raises:
        MembershipError: A group could not leave.
    """
    for number, group in enumerate(groups):
        changed = cluster.group(group)
        found = changed.members()
        if len(found.voters) == len(cluster.members) > VOTERS_MIN:
            leaving = cluster.members[-1 - number % len(cluster.members)]
            changed.remove(leaving, timeout_s=REMOVE_S)
