"""What is wanted of a cluster: its members, groups and spaces, as group 0 holds it; pure.

Group 0 says who is to be there and where groups may live. Who *votes* in a group is said by that
group's own log alone (design 9): whoever carries this out asks there, and changes it there. How one
state becomes another is in `wanted_changes`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

from ray_paxos.core.genesis import GroupSpec, MemberSpec
from ray_paxos.core.releases import OLDEST


class MemberState(enum.IntEnum):
    """How far a member is."""

    JOINING = 1
    PRESENT = 2
    LEAVING = 3
    GONE = 4
    DRAINED = 5
    """It stays, and is to have no group."""
    ENDING = 6
    """Its folder may be gone: nobody gives it a group any more."""


class GroupState(enum.IntEnum):
    """How far a group is."""

    MAKING = 1
    """Its first voters are being given it."""
    PRESENT = 2
    DROPPING = 3
    """It is being taken from all members, with its data."""
    GONE = 4
    """For ever: its number is not used again."""


class SpaceState(enum.IntEnum):
    """How far a space is."""

    PRESENT = 1
    GONE = 2
    """For ever: its keys stay where they are, so its name is not used again."""


class WantedMember(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One member.

    Attributes:
        spec: Its name and id.
        state: How far it is.
        node_id: Ray's id of the node on which the folder of one that joins is staged; empty for a
            member of the genesis.
        labels: Of the Ray node that has its disk, as the operator gave them.
        resource: The custom resource of that node; empty for none.
    """

    spec: MemberSpec
    state: MemberState
    node_id: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    resource: str = ""


class WantedGroup(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One group.

    Attributes:
        spec: What it starts from.
        state: How far it is.
        voters: How many members are to vote in it.
        placed: Names of the members that are to have it; empty where that is left to the
            controller.
    """

    spec: GroupSpec
    state: GroupState
    voters: int
    placed: tuple[str, ...] = ()


class WantedSpace(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One space of keys.

    Attributes:
        name: Its name.
        groups: Numbers of the groups that hold its keys, ascending; they never change, and so no
            key ever changes its group (`core.spaces`).
        state: How far it is.
    """

    name: str
    groups: tuple[int, ...]
    state: SpaceState


class Wanted(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """All of it. Not begun, and empty, until `Begin`.

    Attributes:
        version: Counts the changes.
        members: By name.
        groups: By number; group 0 is among them.
        spaces: By name.
        cluster_version: In which forms the members speak and write (`core.releases`).
    """

    version: int = 0
    members: Mapping[str, WantedMember] = {}
    groups: Mapping[int, WantedGroup] = {}
    spaces: Mapping[str, WantedSpace] = {}
    cluster_version: int = OLDEST

    @property
    def present(self) -> tuple[WantedMember, ...]:
        """The members that may be given groups, by name."""
        return tuple(m for _, m in sorted(self.members.items()) if m.state is MemberState.PRESENT)

    def member_of(self, member_id: int) -> WantedMember | None:
        """The member of that id."""
        for member in self.members.values():
            if member.spec.member_id == member_id:
                return member
        return None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Wanted)


def encode_wanted(wanted: Wanted) -> bytes:
    """In one form, whatever the order in which things were put into it."""
    ordered = msgspec.structs.replace(
        wanted,
        members=dict(sorted(wanted.members.items())),
        groups=dict(sorted(wanted.groups.items())),
        spaces=dict(sorted(wanted.spaces.items())),
    )
    return _encoder.encode(ordered)


def decode_wanted(data: bytes) -> Wanted:
    """Read it back.

    Raises:
        msgspec.DecodeError: Not what `encode_wanted` made.
    """
    try:
        return _decoder.decode(data)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"not what is wanted: {error}") from error
