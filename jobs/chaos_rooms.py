"""Makes room for changes of groups' members: members that a group may be given to.

Where a reconciler is to run, groups are also told to keep the voters that they have.
"""

from __future__ import annotations

from collections.abc import Sequence

from chaos_changes import ChangedCluster, place
from chaos_plan import VOTERS_MIN

REMOVE_S = 60.0


def make_room(
    cluster: ChangedCluster,
    members: Sequence[str],
    groups: Sequence[int],
    *,
    is_ordered: bool = False,
) -> None:
    """Have every group that all members have leave one of them, another one each time.

    A group that has room already stays as it is, and so does one that would keep too few voters.

    Args:
        cluster: Whose groups these are.
        members: Of the cluster.
        groups: Their numbers.
        is_ordered: Whether a reconciler runs, so that changes are to be ordered of it.

    Raises:
        MembershipError: A group could not leave.
    """
    for number, group in enumerate(groups):
        changed = cluster.group(group)
        voters = changed.members().voters
        if len(voters) == len(members) > VOTERS_MIN:
            leaving = members[-1 - number % len(members)]
            if is_ordered:
                place(cluster, group, set(voters) - {leaving})
            else:
                changed.remove(leaving, timeout_s=REMOVE_S)


def keep_voters(cluster: ChangedCluster, groups: Sequence[int]) -> None:
    """Have a reconciler leave every group the voters that it has.

    Args:
        cluster: Whose groups these are.
        groups: Their numbers.

    Raises:
        PaxosError: That could not be ordered.
    """
    for group in groups:
        place(cluster, group, cluster.group(group).members().voters)
