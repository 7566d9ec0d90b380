"""What a cluster starts from, and the configurations that say who votes.

The genesis is made once, at bootstrap, and stored with every member. Its hash stands in every
envelope, so that messages of another cluster, or of an earlier cluster of the same name, are
refused before any role sees them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from ray_paxos.core.quorum import majority

GENESIS_FORMAT = 1
SYSTEM_GROUP = 0
GENESIS_CONFIG_ID = 0


class MemberSpec(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A member: the name an operator knows, and its random id. Neither is ever given again."""

    name: str
    member_id: int


class Voter(msgspec.Struct, frozen=True, order=True, array_like=True, forbid_unknown_fields=True):
    """A member's identity in one group, as a voter or as a follower.

    Attributes:
        member_id: The member.
        replica_id: Given by the entry that made it what it is; never reused within the group.
    """

    member_id: int
    replica_id: int


class Configuration(msgspec.Struct, frozen=True, array_like=True):
    """Who has one group from one instance on, and who votes in it.

    Attributes:
        config_id: The instance of the membership entry that made it; 0 for the genesis. It
            governs the instances above `config_id`, never at or below.
        voters: In ascending order of member_id; at most one a member.
        followers: Who learns and serves reads without voting; in the same order.
        replicas_given: The highest replica_id that was ever given in the group, where that is
            higher than those of `voters` and `followers`.
        joined: Names of those of them that the genesis does not name, as the entries that added
            them say, ascending by member_id.
    """

    config_id: int
    voters: tuple[Voter, ...]
    followers: tuple[Voter, ...] = ()
    replicas_given: int = 0
    joined: tuple[MemberSpec, ...] = ()

    @property
    def majority(self) -> int:
        """How many voters make a quorum."""
        return majority(len(self.voters))

    @property
    def member_ids(self) -> tuple[int, ...]:
        """All members that have the group, ascending."""
        return tuple(sorted(each.member_id for each in (*self.voters, *self.followers)))

    @property
    def next_replica_id(self) -> int:
        """For the next one that joins, or becomes something else."""
        given = (each.replica_id for each in (*self.voters, *self.followers))
        return max(self.replicas_given, *given, 0) + 1

    def voter(self, member_id: int) -> Voter | None:
        """The voter that `member_id` is, or None where it does not vote."""
        return _find(self.voters, member_id)

    def follower(self, member_id: int) -> Voter | None:
        """The follower that `member_id` is, or None where it is none."""
        return _find(self.followers, member_id)


def _find(among: tuple[Voter, ...], member_id: int) -> Voter | None:
    for each in among:
        if each.member_id == member_id:
            return each
    return None


class MachineSpec(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A state machine of a group: its name there, its kind (the class) and the kind's version."""

    name: str
    kind: str
    version: int


class GroupSpec(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a group starts from: one of the genesis, or one that is made later.

    Attributes:
        group: Its number.
        voters: The first ones.
        machines: Mounted by the first master, where they are not yet.
        begins_after: Everything through this instance was decided before there was the cluster,
            and is in the checkpoint that its members are made with: nobody votes there, whatever
            he has. 0 for a new group.
        followers: The first ones.
        joined: Names of those of both that are not of the cluster's genesis, where the group was
            made later.
    """

    group: int
    voters: tuple[Voter, ...]
    machines: tuple[MachineSpec, ...]
    begins_after: int = 0
    followers: tuple[Voter, ...] = ()
    joined: tuple[MemberSpec, ...] = ()

    @property
    def configuration(self) -> Configuration:
        """The group's first configuration."""
        return Configuration(GENESIS_CONFIG_ID, self.voters, self.followers, joined=self.joined)


class Genesis(msgspec.Struct, frozen=True, array_like=True):
    """What a cluster starts from.

    Attributes:
        format: Version of this record.
        cluster: The cluster's name.
        cluster_id: Random, 32 hexadecimal digits.
        members: In the configuration's order.
        groups: Ascending by number; group 0 is the system's.
    """

    format: int
    cluster: str
    cluster_id: str
    members: tuple[MemberSpec, ...]
    groups: tuple[GroupSpec, ...]

    def encoded(self) -> bytes:
        """The binary form whose hash names this genesis."""
        return msgspec.msgpack.encode(self)

    def hash(self) -> bytes:
        """16 bytes that stand for this genesis in every envelope."""
        return hashlib.blake2b(self.encoded(), digest_size=16).digest()

    def member(self, member_id: int) -> MemberSpec:
        """The member of that id.

        Raises:
            KeyError: No such member in the genesis.
        """
        for member in self.members:
            if member.member_id == member_id:
                return member
        raise KeyError(member_id)


_decoder = msgspec.msgpack.Decoder(Genesis)


def group_spec(genesis: Genesis, group: int) -> GroupSpec:
    """A group of the genesis.

    Raises:
        KeyError: No such group in it.
    """
    for spec in genesis.groups:
        if spec.group == group:
            return spec
    raise KeyError(group)


def first_voters(members: Iterable[MemberSpec]) -> tuple[Voter, ...]:
    """The voters of a group that begins with all these members.

    Every voter has a replica_id of its own: votes are counted by it.
    """
    ids = sorted(member.member_id for member in members)
    return tuple(Voter(member_id, number) for number, member_id in enumerate(ids, start=1))


def decode_genesis(data: bytes) -> Genesis:
    """Read a genesis back.

    Raises:
        msgspec.DecodeError: Not a genesis.
    """
    return _decoder.decode(data)
