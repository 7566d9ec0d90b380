"""What the controller does next, so that what is there becomes what is wanted; pure.

It keeps nothing from one round to the next: each round looks at what is wanted (group 0), who
answers, and what the groups' own logs say, and takes steps from there. So it may die between any
two steps and be started again, or run twice at once: every step is either done by compare-and-set
(a group's members, what is wanted), or is the same the second time (a folder that is staged, an
actor that is made).

Rules:

1. One voter of a group at a time: a new one follows, catches up, votes; then the old one leaves.
2. A member that is only *missing* keeps what it has. After `replace_after_ms` without an answer it
   is *lost*: others take its place where there are any. Where there are none, its votes stay:
   without it a group would survive less, not more.
3. With more than `missing_max` members missing nothing is replaced: that is an outage, or it is
   this process that is cut off.
4. Group 0 is not touched while another one of its voters than the one to be replaced is missing.
5. A member that is to leave ends only once no group names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from ray_paxos.core.genesis import SYSTEM_GROUP
from ray_paxos.core.spreading import Place, VoterMove, moves
from ray_paxos.core.values import MembershipKind
from ray_paxos.core.wanted import GroupState, MemberState, Wanted, WantedGroup


@dataclass(frozen=True, slots=True)
class GroupSeen:
    """Who has a group, as the furthest of its members says.

    Attributes:
        version: The instance of the entry that made it so.
        voters: Names of those that vote, sorted.
        followers: Names of those that follow, sorted.
    """

    version: int
    voters: tuple[str, ...]
    followers: tuple[str, ...] = ()

    @property
    def members(self) -> tuple[str, ...]:
        """All that have it."""
        return (*self.voters, *self.followers)


@dataclass(frozen=True, slots=True)
class Seen:
    """What is there.

    Attributes:
        places: Of the members that answer, by name.
        lost: Names of members that have not answered for so long that they are to be replaced.
        groups: Who has them, of each group of which anybody that answers knows.
        ended: Names of members that are to leave and have let go of all groups, or are lost.
        reachable: Names of members that do not answer, whose folder was found on a live node.
        free_nodes: Ray's ids of live nodes that have no member.
    """

    places: Mapping[str, Place]
    lost: frozenset[str] = frozenset()
    groups: Mapping[int, GroupSeen] = field(default_factory=dict)
    ended: frozenset[str] = frozenset()
    reachable: frozenset[str] = frozenset()
    free_nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """How far the controller goes.

    Attributes:
        missing_max: With more members missing nothing is replaced.
        is_evening: Whether groups are moved only so that members have equally many.
        grows: Whether each node without a member gets one.
    """

    missing_max: int = 1
    is_evening: bool = True
    grows: bool = False


@dataclass(frozen=True, slots=True)
class AddMember:
    """Have a new member join, on a node that has none."""

    node_id: str


@dataclass(frozen=True, slots=True)
class MakeMember:
    """Stage and activate the folder of a member that joins; its actors come after that."""

    member: str


@dataclass(frozen=True, slots=True)
class LaunchMember:
    """Make the actors of a member whose folder is on a live node."""

    member: str


@dataclass(frozen=True, slots=True)
class EndMember:
    """End the actors of a member that no group names any more, and record that it has left."""

    member: str


@dataclass(frozen=True, slots=True)
class ChangeGroup:
    """Have the master of a group make one change of its members.

    Attributes:
        group: Which group.
        kind: What is to become of the member.
        member: Its name.
        version: Of the configuration that this was planned for: under another one it may be wrong.
    """

    group: int
    kind: MembershipKind
    member: str
    version: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class GiveGroup:
    """Give a new group to its first voters, and record that they have it."""

    group: int


@dataclass(frozen=True, slots=True)
class TakeGroupAway:
    """Take a group from all members, and record that nobody has it any more."""

    group: int


Step: TypeAlias = (
    AddMember | MakeMember | LaunchMember | EndMember | ChangeGroup | GiveGroup | TakeGroupAway
)


def plan(wanted: Wanted, seen: Seen, policy: Policy) -> list[Step]:
    """The steps that can be taken now, each by itself, in any order.

    Args:
        wanted: What is wanted.
        seen: What is there.
        policy: How far to go.

    Returns:
        At most one for each member and each group; none where all is as wanted, or cannot be
        brought nearer now.
    """
    steps: list[Step] = []
    if policy.grows:
        taken = {member.node_id for member in wanted.members.values()}
        steps += [AddMember(node_id) for node_id in seen.free_nodes if node_id not in taken]
    for name, member in sorted(wanted.members.items()):
        if member.state is MemberState.JOINING:
            steps.append(MakeMember(name))
        elif member.state is not MemberState.GONE and name in seen.reachable:
            steps.append(LaunchMember(name))
        elif (
            member.state is MemberState.LEAVING
            and name in seen.ended
            and _may_end(wanted, seen, name)
        ):
            steps.append(EndMember(name))
    for number, group in sorted(wanted.groups.items()):
        if group.state is GroupState.MAKING:
            steps.append(GiveGroup(number))
        elif group.state is GroupState.DROPPING:
            steps.append(TakeGroupAway(number))
    return [*steps, *_group_changes(wanted, seen, policy)]


def missing_members(wanted: Wanted, seen: Seen) -> frozenset[str]:
    """Members that are to be there and do not answer."""
    return frozenset(
        name
        for name, member in wanted.members.items()
        if member.state is MemberState.PRESENT and name not in seen.places
    )


def _may_end(wanted: Wanted, seen: Seen, name: str) -> bool:
    """Whether every group was asked, and none names the member."""
    standing = {
        number
        for number, group in wanted.groups.items()
        if group.state in (GroupState.PRESENT, GroupState.MAKING)
    }
    if not standing <= seen.groups.keys():
        return False
    return not any(name in seen.groups[number].members for number in standing)


def _group_changes(wanted: Wanted, seen: Seen, policy: Policy) -> list[ChangeGroup]:
    present = {
        number: group
        for number, group in wanted.groups.items()
        if group.state is GroupState.PRESENT and number in seen.groups
    }
    missing = missing_members(wanted, seen)
    may_replace = len(missing) <= policy.missing_max
    # One that is missing for a moment only is counted as there: what it has stays.
    places = {
        name: seen.places.get(name, Place())
        for name, member in wanted.members.items()
        if member.state is MemberState.PRESENT and not (name in seen.lost and may_replace)
    }
    found: dict[int, ChangeGroup] = {}
    for number, group in present.items():
        step = _placed_step(group, seen.groups[number]) or _left_follower(
            wanted, seen.groups[number], number
        )
        if step is not None:
            found[number] = step
    is_calm = policy.is_evening and not missing
    free = {n: g for n, g in present.items() if not g.placed and n not in found}
    planned = moves(
        {number: seen.groups[number].voters for number in present if number not in found},
        {number: group.voters for number, group in present.items()},
        places,
        full=missing,
        followers={number: seen.groups[number].followers for number in free},
        fixed=set(present) - set(free) if is_calm else present.keys(),
    )
    for move in planned:
        if move.group in found or move.group not in free:
            continue
        step = _next_step(move, seen, free[move.group].voters)
        if step is not None:
            found[move.group] = step
    return [
        replace(step, version=seen.groups[number].version)
        for number, step in sorted(found.items())
        if _is_allowed(number, step, seen)
    ]


def _next_step(move: VoterMove, seen: Seen, voters_wanted: int) -> ChangeGroup | None:
    """The next step of one voter's move; None where it has to wait (rule 2)."""
    group, has = move.group, seen.groups[move.group]
    if not move.target:
        others = [name for name in has.voters if name != move.source and name not in seen.lost]
        if move.source in seen.lost and len(others) < voters_wanted:
            return None
        return ChangeGroup(group, MembershipKind.REMOVE, move.source)
    if move.target in has.followers:
        return ChangeGroup(group, MembershipKind.PROMOTE, move.target)
    return ChangeGroup(group, MembershipKind.ADD, move.target)


def _placed_step(group: WantedGroup, has: GroupSeen) -> ChangeGroup | None:
    """The next step for a group that an operator has placed."""
    number = group.spec.group
    if not group.placed:
        return None
    for name in group.placed:
        if name in has.followers:
            return ChangeGroup(number, MembershipKind.PROMOTE, name)
    for name in group.placed:
        if name not in has.members:
            return ChangeGroup(number, MembershipKind.ADD, name)
    for name in has.voters:
        if name not in group.placed:
            return ChangeGroup(number, MembershipKind.REMOVE, name)
    return None


def _left_follower(wanted: Wanted, has: GroupSeen, number: int) -> ChangeGroup | None:
    """A follower that is to have no group is taken out."""
    for name in has.followers:
        member = wanted.members.get(name)
        if member is None or member.state not in (MemberState.JOINING, MemberState.PRESENT):
            return ChangeGroup(number, MembershipKind.REMOVE, name)
    return None


def _is_allowed(number: int, step: ChangeGroup, seen: Seen) -> bool:
    """Rule 4."""
    if number != SYSTEM_GROUP:
        return True
    silent = [name for name in seen.groups[number].voters if name not in seen.places]
    leaving = step.member if step.kind is MembershipKind.REMOVE else ""
    return len(silent) <= 1 and (not leaving or not silent or silent == [leaving])
