"""How what is wanted of a cluster changes: the commands of group 0; pure.

```
 JoinMember ─▶ JOINING ── its folder is staged, once, on the one node that is named
                  │ MemberJoined: from here on its folder is never made again
                  ▼
               PRESENT ── may be given groups
                  │ DrainMember, LeaveMember; StayMember goes back
                  ▼
          DRAINED, LEAVING ── its groups are given to others; of one that leaves the actors end then
                  │ MemberLeft
                  │ MemberEnding, once no group names it: there is no way back
                  ▼
               ENDING ── its actors end, and its folder goes
                  │ MemberLeft
                  ▼
                GONE    for ever: neither its name nor its id is used again
```

`MemberJoined` comes before the first group is given to the member. So as long as its folder may be
made (again), it has never voted, and a folder that is lost later is never made anew: one that has
forgotten its votes must not vote (the same rule as in `core.bootstrap`, for one member).

A change with a field too many is none: what is not understood is not skipped, since how deep it may
be nested for that is not the same on all members.

Changes are small and name what they expect, so that one that comes late, or twice, is refused and
changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import msgspec

from ray_paxos.core.genesis import Genesis
from ray_paxos.core.releases import OLDEST
from ray_paxos.core.wanted import GroupState, MemberState, Wanted, WantedGroup, WantedMember
from ray_paxos.core.wanted_spaces import check_is_in_no_space, drop_space, make_space
from ray_paxos.errors import CommandError

MEMBERS_KNOWN_MAX = 10_000
"""So many members may ever be known, those that are gone included."""
GROUPS_KNOWN_MAX = 100_000


class _Change(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A command."""


class _MemberChange(_Change, frozen=True):
    """Of the member of a name."""

    name: str


class _GroupChange(_Change, frozen=True):
    """Of the group of a number."""

    group: int


class Begin(_Change, frozen=True, tag="begin"):
    """The members and groups of the genesis; does nothing where it was begun."""

    members: tuple[WantedMember, ...]
    groups: tuple[WantedGroup, ...]
    cluster_version: int = OLDEST


class JoinMember(_Change, frozen=True, tag="join"):
    """A new member is to be made."""

    member: WantedMember


class MemberJoined(_MemberChange, frozen=True, tag="joined"):
    """Its folder is durable and activated, and will never be made again."""


class LeaveMember(_MemberChange, frozen=True, tag="leave"):
    """A member is to have no group any more, and to end."""


class DrainMember(_MemberChange, frozen=True, tag="drain"):
    """A member is to have no group until it is told to stay: its node is worked on, say."""


class StayMember(_MemberChange, frozen=True, tag="stay"):
    """One that was leaving, or drained, is to stay, and may be given groups."""


class MemberEnding(_MemberChange, frozen=True, tag="ending"):
    """No group names it, and its folder is to go: it can stay no more.

    Attributes:
        version: Of what was wanted when that was seen: under any other one it may have stayed, and
            have been given groups since.
    """

    version: int


class MemberLeft(_MemberChange, frozen=True, tag="left"):
    """No group names it any more, and its actors have ended; or it never came to have any."""


class MakeGroup(_Change, frozen=True, tag="make_group"):
    """A new group is to be made, at the first voters that its spec names."""

    group: WantedGroup


class GroupMade(_GroupChange, frozen=True, tag="group_made"):
    """All of a new group's first voters have it."""


class PlaceGroup(_GroupChange, frozen=True, tag="place_group"):
    """These members are to vote in a group, and stay so; none: the controller is to choose."""

    members: tuple[str, ...]


class DropGroup(_GroupChange, frozen=True, tag="drop_group"):
    """A group is to be taken from all members, with its data."""


class GroupDropped(_GroupChange, frozen=True, tag="group_dropped"):
    """No member has it any more."""


class RaiseVersion(_Change, frozen=True, tag="raise_version"):
    """The cluster goes by another version: all members have said that they know it.

    Attributes:
        cluster_version: The later one.
        version: Of what was wanted when they were asked: under any other one there may be others.
    """

    cluster_version: int
    version: int


class MakeSpace(_Change, frozen=True, tag="make_space"):
    """Keys are to be spread over these groups, ascending, for as long as the space is there."""

    name: str
    groups: tuple[int, ...]


class DropSpace(_Change, frozen=True, tag="drop_space"):
    """A space is not used any more; its groups may then be dropped, and its keys with them."""

    name: str


Change: TypeAlias = (
    Begin
    | JoinMember
    | MemberJoined
    | LeaveMember
    | DrainMember
    | StayMember
    | MemberEnding
    | MemberLeft
    | MakeGroup
    | GroupMade
    | PlaceGroup
    | DropGroup
    | GroupDropped
    | RaiseVersion
    | MakeSpace
    | DropSpace
)


NodePins: TypeAlias = Mapping[str, tuple[Mapping[str, str], str]]
"""By member, the labels and the custom resource of the node with its disk; empty for none."""


def wanted_of_genesis(genesis: Genesis, pins: NodePins, cluster_version: int = OLDEST) -> Begin:
    """What is wanted of a cluster that was just made.

    Args:
        genesis: Its members and groups.
        pins: What the operator says of their nodes.
        cluster_version: By which they go.
    """
    members = []
    for spec in genesis.members:
        labels, resource = pins.get(spec.name, ({}, ""))
        pinned = tuple(sorted(labels.items()))
        members.append(WantedMember(spec, MemberState.PRESENT, "", pinned, resource))
    groups = tuple(
        WantedGroup(spec, GroupState.PRESENT, len(spec.voters)) for spec in genesis.groups
    )
    return Begin(tuple(members), groups, cluster_version)


def changed_wanted(wanted: Wanted, change: Change) -> Wanted:
    """What is wanted after a change.

    Args:
        wanted: Before it.
        change: One.

    Returns:
        Of the next version; or `wanted` itself where everything is so already.

    Raises:
        CommandError: It does not fit.
    """
    if isinstance(change, Begin):
        return wanted if wanted.version else _begun(change)
    if not wanted.version:
        raise CommandError("nothing is wanted yet: the cluster's genesis is not recorded")
    members, groups, spaces = dict(wanted.members), dict(wanted.groups), dict(wanted.spaces)
    cluster_version = wanted.cluster_version
    match change:
        case JoinMember(member=member):
            _join(members, member)
        case MakeGroup(group=group):
            _make_group(groups, members, group)
        case _MemberChange():
            _change_member(members, groups, change, wanted.version)
        case DropGroup(group=number):
            check_is_in_no_space(spaces, number)
            _change_group(groups, members, change)
        case _GroupChange():
            _change_group(groups, members, change)
        case MakeSpace(name=name, groups=numbers):
            make_space(spaces, groups, name, numbers)
        case DropSpace(name=name):
            drop_space(spaces, name)
        case RaiseVersion():
            cluster_version = _raised(wanted, change)
    changed = Wanted(wanted.version, members, groups, spaces, cluster_version)
    if changed == wanted:
        return wanted
    return msgspec.structs.replace(changed, version=wanted.version + 1)


def _begun(begin: Begin) -> Wanted:
    members = {member.spec.name: member for member in begin.members}
    groups = {group.spec.group: group for group in begin.groups}
    return Wanted(1, members, groups, cluster_version=begin.cluster_version)


def _raised(wanted: Wanted, change: RaiseVersion) -> int:
    current = wanted.cluster_version
    if change.cluster_version == current:
        return current
    if change.cluster_version < current:
        raise CommandError(f"the cluster version is {current} already, and never falls")
    if change.version != wanted.version:
        raise CommandError(
            f"what is wanted has changed since version {change.version}: ask all members again"
        )
    return change.cluster_version


def _change_member(
    members: dict[str, WantedMember],
    groups: Mapping[int, WantedGroup],
    change: _MemberChange,
    version: int,
) -> None:
    member = members.get(change.name)
    if member is None:
        known = ", ".join(sorted(n for n, m in members.items() if m.state is not MemberState.GONE))
        raise CommandError(f"there is no member {change.name}; there are {known}")
    allowed, after = _MEMBER_STEPS[type(change)]
    if member.state is after:
        return
    if member.state not in allowed:
        raise CommandError(f"member {change.name} is {member.state.name.lower()}")
    if isinstance(change, MemberEnding) and change.version != version:
        raise CommandError(
            f"what is wanted has changed since version {change.version}: see again whether member "
            f"{change.name} may end"
        )
    if after in (MemberState.LEAVING, MemberState.DRAINED):
        if _is_last(members, member):
            raise CommandError(f"member {change.name} is the last one that is there")
        _check_not_placed(groups, change.name)
    if after is MemberState.LEAVING and member.state is MemberState.JOINING:
        # It has no group, and may have no folder: it could not be told to stay.
        after = MemberState.GONE
    members[change.name] = msgspec.structs.replace(member, state=after)


_MEMBER_STEPS: Mapping[type, tuple[tuple[MemberState, ...], MemberState]] = {
    MemberJoined: ((MemberState.JOINING,), MemberState.PRESENT),
    LeaveMember: (
        (MemberState.JOINING, MemberState.PRESENT, MemberState.DRAINED),
        MemberState.LEAVING,
    ),
    DrainMember: ((MemberState.PRESENT,), MemberState.DRAINED),
    StayMember: ((MemberState.LEAVING, MemberState.DRAINED), MemberState.PRESENT),
    MemberEnding: ((MemberState.LEAVING,), MemberState.ENDING),
    MemberLeft: ((MemberState.LEAVING, MemberState.ENDING), MemberState.GONE),
}


def _check_not_placed(groups: Mapping[int, WantedGroup], name: str) -> None:
    """What an operator has placed nobody else moves: the member would wait for ever."""
    standing = (GroupState.MAKING, GroupState.PRESENT)
    placed = [n for n, g in sorted(groups.items()) if name in g.placed and g.state in standing]
    if placed:
        raise CommandError(
            f"group {placed[0]} is placed at member {name}; place it elsewhere first"
        )


def _join(members: dict[str, WantedMember], member: WantedMember) -> None:
    name, member_id = member.spec.name, member.spec.member_id
    before = members.get(name)
    if before is not None and before.spec == member.spec:
        return
    if before is not None:
        state = before.state.name.lower()
        raise CommandError(f"member {name} exists ({state}); a name is never used again")
    if any(each.spec.member_id == member_id for each in members.values()):
        raise CommandError(f"another member has the id {member_id}")
    if len(members) >= MEMBERS_KNOWN_MAX:
        raise CommandError(f"{MEMBERS_KNOWN_MAX:,} members were made; no more are known")
    members[name] = msgspec.structs.replace(member, state=MemberState.JOINING)


def _is_last(members: Mapping[str, WantedMember], member: WantedMember) -> bool:
    others = (each for each in members.values() if each.spec.name != member.spec.name)
    is_present = member.state is MemberState.PRESENT
    return is_present and not any(each.state is MemberState.PRESENT for each in others)


def _change_group(
    groups: dict[int, WantedGroup], members: Mapping[str, WantedMember], change: _GroupChange
) -> None:
    group = groups.get(change.group)
    if group is None or group.state is GroupState.GONE:
        if isinstance(change, GroupDropped) and group is not None:
            return
        raise CommandError(f"there is no group {change.group}")
    if isinstance(change, PlaceGroup):
        _check_placed(members, change.members)
        groups[change.group] = msgspec.structs.replace(
            group, placed=change.members, voters=len(change.members) or group.voters
        )
        return
    if isinstance(change, DropGroup) and not change.group:
        raise CommandError("group 0 is the system's own")
    allowed, after = _GROUP_STEPS[type(change)]
    if group.state is after:
        return
    if group.state not in allowed:
        raise CommandError(f"group {change.group} is {group.state.name.lower()}")
    groups[change.group] = msgspec.structs.replace(group, state=after)


_GROUP_STEPS: Mapping[type, tuple[tuple[GroupState, ...], GroupState]] = {
    GroupMade: ((GroupState.MAKING,), GroupState.PRESENT),
    DropGroup: ((GroupState.MAKING, GroupState.PRESENT), GroupState.DROPPING),
    GroupDropped: ((GroupState.DROPPING,), GroupState.GONE),
}


def _make_group(
    groups: dict[int, WantedGroup], members: Mapping[str, WantedMember], group: WantedGroup
) -> None:
    number = group.spec.group
    before = groups.get(number)
    if before is not None and before.spec == group.spec:
        return
    if before is not None:
        state = before.state.name.lower()
        raise CommandError(f"group {number} exists ({state}); a number is never used again")
    if len(groups) >= GROUPS_KNOWN_MAX:
        raise CommandError(f"{GROUPS_KNOWN_MAX:,} groups were made; no more are known")
    ids = {m.spec.member_id for m in members.values() if m.state is MemberState.PRESENT}
    if not group.spec.voters or any(voter.member_id not in ids for voter in group.spec.voters):
        raise CommandError(f"group {number}: its first voters are not all present members")
    groups[number] = msgspec.structs.replace(group, state=GroupState.MAKING)


def _check_placed(members: Mapping[str, WantedMember], placed: tuple[str, ...]) -> None:
    for name in placed:
        member = members.get(name)
        if member is None or member.state is not MemberState.PRESENT:
            raise CommandError(f"{name} is no member that is present")
    if len(set(placed)) != len(placed):
        raise CommandError("a member is named twice")


_encoder = msgspec.msgpack.Encoder()
_change_decoder = msgspec.msgpack.Decoder(Change)

encode_change: Callable[[Change], bytes] = _encoder.encode
"""The command that makes a change."""


def decode_change(data: bytes) -> Change:
    """Read a change back.

    Raises:
        msgspec.DecodeError: Not a change.
    """
    try:
        return _change_decoder.decode(data)
    except UnicodeDecodeError as error:
        # msgspec lets this one through where text is not UTF-8.
        raise msgspec.DecodeError(f"not a change: {error}") from error
