"""What the controller does next, so that what is there becomes what is wanted; pure.

It keeps nothing from one round to the next: each round looks at what is wanted (group 0), who
answers, and what the groups' own logs say, and takes steps from there. So it may die between any
two steps and be started again, or run twice at once: every step is either done by compare-and-set
(a group's members, what is wanted), or is the same the second time (a folder that is staged, an
actor that is made).

Rules:

1. One voter of a group at a time: a new one follows, catches up, votes; then the old one leaves.
2. A member that is only *missing* keeps what it has, but in a group that has a voter too many.
   After `replace_after_ms` without an answer it is *lost*: others take its place where there are
   any. Where there are none, its votes stay, unless an operator has ordered it to go: without it a
   group would survive less, not more.
3. With more than `missing_max` members missing nothing is replaced: that is an outage, or it is
   this process that is cut off.
4. Group 0 is not touched while another one of its voters than the one to be replaced is missing.
5. Where each node has a member (`grows`), one that is lost leaves once others have all its groups:
   its node is taken for gone, and must not count as missing when the next one goes. One whose node
   is gone before it is made is given up.
6. A member that is to leave ends only once no group names it, and it is recorded that there is no
   way back before anything of it is touched.
7. A member *goes* while its node is about to be ended: it answers and votes, and its groups are
   given to others while it can still teach them. It is given no more, and what nobody else can take
   it keeps (rule 2), but for one vote of an even number. Nothing of that is recorded: where its
   node stays after all, it gets its share again. Only where each node has a member it leaves as
   soon as others have all its groups: nodes that go together must not count as missing together,
   and Ray ends a node that is being drained once nothing lives on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from ray_paxos.core.genesis import SYSTEM_GROUP
from ray_paxos.core.quorum import majority
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
        free_nodes: Ray's ids of live nodes that have no member, and are not about to be ended.
        going: Names of members that answer, on nodes that are about to be ended.
        nodes: Ray's ids of all live nodes that are not about to be ended.
    """

    places: Mapping[str, Place]
    lost: frozenset[str] = frozenset()
    groups: Mapping[int, GroupSeen] = field(default_factory=dict)
    ended: frozenset[str] = frozenset()
    reachable: frozenset[str] = frozenset()
    free_nodes: tuple[str, ...] = ()
    going: frozenset[str] = frozenset()
    nodes: frozenset[str] = frozenset()


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
class RetireMember:
    """Record that a member is to leave which is lost, or goes, and which no group names.

    Or that one that joins is given up: its node is gone.
    """

    member: str


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
    AddMember
    | RetireMember
    | MakeMember
    | LaunchMember
    | EndMember
    | ChangeGroup
    | GiveGroup
    | TakeGroupAway
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
    if policy.grows and not _silent_members(wanted, seen) - seen.lost:
        taken = {member.node_id for member in wanted.members.values()}
        steps += [AddMember(node_id) for node_id in seen.free_nodes if node_id not in taken]
    for name, member in sorted(wanted.members.items()):
        if member.state is MemberState.JOINING:
            # No node has the id of another one; and who is not made has no group.
            is_hopeless = policy.grows and member.node_id not in seen.nodes
            steps.append(RetireMember(name) if is_hopeless else MakeMember(name))
        elif member.state is MemberState.ENDING:
            steps.append(EndMember(name))
        elif member.state is not MemberState.GONE and name in seen.reachable:
            steps.append(LaunchMember(name))
        elif policy.grows and _may_retire(wanted, seen, policy, name):
            steps.append(RetireMember(name))
        elif (
            member.state is MemberState.LEAVING
            and name in seen.ended
            and is_let_go(wanted, seen, name)
        ):
            steps.append(EndMember(name))
    for number, group in sorted(wanted.groups.items()):
        if group.state is GroupState.MAKING:
            steps.append(GiveGroup(number))
        elif group.state is GroupState.DROPPING or (
            # Who was slow to give it has given it again since.
            group.state is GroupState.GONE and number in seen.groups
        ):
            steps.append(TakeGroupAway(number))
    return [*steps, *_group_changes(wanted, seen, policy)]


def missing_members(wanted: Wanted, seen: Seen) -> frozenset[str]:
    """Members that are to be there and do not answer."""
    return frozenset(
        name
        for name, member in wanted.members.items()
        if member.state is MemberState.PRESENT and name not in seen.places
    )


def _silent_members(wanted: Wanted, seen: Seen) -> frozenset[str]:
    """Members that have been made and do not answer: nobody knows on which nodes they are."""
    made = (MemberState.PRESENT, MemberState.LEAVING, MemberState.DRAINED)
    return frozenset(
        name
        for name, member in wanted.members.items()
        if member.state in made and name not in seen.places
    )


def _may_replace(wanted: Wanted, seen: Seen, policy: Policy) -> bool:
    """Rule 3."""
    return len(missing_members(wanted, seen)) <= policy.missing_max


def _may_retire(wanted: Wanted, seen: Seen, policy: Policy, name: str) -> bool:
    """Whether a member leaves by itself where each node has one (rules 5 and 7)."""
    return (
        wanted.members[name].state is MemberState.PRESENT
        and name in seen.lost | seen.going
        and _may_replace(wanted, seen, policy)
        and is_let_go(wanted, seen, name)
        # Where an operator wants a group it is waited for.
        and not any(name in wanted.groups[number].placed for number in _standing(wanted))
    )


def _standing(wanted: Wanted) -> set[int]:
    """Groups that are there, or are being made."""
    states = (GroupState.PRESENT, GroupState.MAKING)
    return {number for number, group in wanted.groups.items() if group.state in states}


def is_let_go(wanted: Wanted, seen: Seen, name: str) -> bool:
    """Whether somebody has told of every group, and no group names the member."""
    standing = _standing(wanted)
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
    may_replace = _may_replace(wanted, seen, policy)
    going = seen.going if may_replace else frozenset()
    to_be_there = {n for n, m in wanted.members.items() if m.state is MemberState.PRESENT}
    # One that is missing for a moment only is counted as there: what it has stays.
    places = {
        name: seen.places.get(name, Place())
        for name in sorted(to_be_there - going)
        if not (name in seen.lost and may_replace)
    }
    free = {number: group for number, group in present.items() if not group.placed}
    # One that is lost for good must not keep the others from having equally many for ever.
    is_calm = policy.is_evening and may_replace and missing <= seen.lost
    # Nor is time spent on evenness while a node may be ended at any moment.
    is_calm = is_calm and not any(going.intersection(seen.groups[n].voters) for n in free)
    planned = moves(
        # What an operator has placed counts as being where it is to be.
        {n: group.placed or seen.groups[n].voters for n, group in present.items()},
        {number: group.voters for number, group in present.items()},
        places,
        full=missing | seen.going,
        silent=wanted.members.keys() - seen.places.keys(),
        followers={number: seen.groups[number].followers for number in free},
        fixed=set(present) - set(free) if is_calm else present.keys(),
        going=going & to_be_there,
    )
    placed = (_placed_move(group, seen) for group in present.values() if group.placed)
    found: dict[int, ChangeGroup] = {}
    # One that is to leave by itself (rule 5) has to be named by no group first.
    over = going | seen.lost if policy.grows and may_replace else going
    for number in present:
        step = _left_follower(wanted, seen.groups[number], number, over)
        if step is not None:
            found[number] = step
    for move in (*placed, *(each for each in planned if each.group in free)):
        if move is None or move.group in found or not _is_allowed(move, seen):
            continue
        step = _next_step(move, wanted, seen)
        if step is not None:
            found[move.group] = step
    return [
        replace(step, version=seen.groups[number].version) for number, step in sorted(found.items())
    ]


def _next_step(move: VoterMove, wanted: Wanted, seen: Seen) -> ChangeGroup | None:
    """The next step of one voter's move; None where it has to wait (rule 2)."""
    group, has = move.group, seen.groups[move.group]
    if not move.target:
        voters_wanted = wanted.groups[group].voters
        source = wanted.members.get(move.source)
        if source is not None and source.state is MemberState.PRESENT:
            live = [n for n in has.voters if n in seen.places and n != move.source]
            # The vote of one that goes may be gone at any moment: better without it. Of four voters
            # that is so even where nobody takes its place: three survive as many losses.
            is_going = move.source in seen.going
            is_spare = is_going and len(has.voters) % 2 == 0 and len(has.voters) > 2
            if len(has.voters) <= voters_wanted and not is_spare:
                return None
            live_min = majority(len(has.voters) - 1) if is_going else voters_wanted
            if move.source in seen.places and len(live) < live_min:
                return None
        return ChangeGroup(group, MembershipKind.REMOVE, move.source)
    if move.target in has.followers:
        return ChangeGroup(group, MembershipKind.PROMOTE, move.target)
    return ChangeGroup(group, MembershipKind.ADD, move.target)


def _placed_move(group: WantedGroup, seen: Seen) -> VoterMove | None:
    """What is to move next in a group that an operator has placed."""
    number, has = group.spec.group, seen.groups[group.spec.group]
    leaving = [name for name in has.voters if name not in group.placed]
    leaving.sort(key=lambda name: (name in seen.places, name))
    joining = [name for name in group.placed if name not in has.voters]
    answering = [name for name in joining if name in seen.places and name not in seen.going]
    answering.sort(key=lambda name: (name not in has.followers, name))
    if leaving and (not joining or len(has.voters) > len(group.placed)):
        return VoterMove(number, leaving[0], "")
    if answering:
        return VoterMove(number, leaving[0] if leaving else "", answering[0])
    return None


def _left_follower(
    wanted: Wanted, has: GroupSeen, number: int, over: frozenset[str]
) -> ChangeGroup | None:
    """A follower that is to have no group is taken out."""
    placed = wanted.groups[number].placed
    for name in has.followers:
        member = wanted.members.get(name)
        is_there = member is not None and member.state in (MemberState.JOINING, MemberState.PRESENT)
        if not is_there or (name in over and name not in placed):
            return ChangeGroup(number, MembershipKind.REMOVE, name)
    return None


def _is_allowed(move: VoterMove, seen: Seen) -> bool:
    """Rule 4."""
    if move.group != SYSTEM_GROUP:
        return True
    silent = {name for name in seen.groups[SYSTEM_GROUP].voters if name not in seen.places}
    return silent <= {move.source}
