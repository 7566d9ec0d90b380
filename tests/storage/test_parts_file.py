"""The file that says which groups a member has."""

from __future__ import annotations

import pytest

from ray_paxos.core.genesis import Configuration, GroupSpec, MachineSpec, Voter
from ray_paxos.core.parts import Part, PartLeft, Parts, PartTaken
from ray_paxos.errors import DamageError
from ray_paxos.storage.identity import Identity
from ray_paxos.storage.parts import PARTS, PartsFile, held_groups, read_parts, write_parts
from ray_paxos.testing.disk import SimulatedDisk
from tests.storage.support import GENESIS

MEMBER = GENESIS.members[0].member_id
OTHER = GENESIS.members[1].member_id
IDENTITY = Identity(GENESIS, MEMBER)
SPEC = GroupSpec(7, (Voter(OTHER, 1),), (MachineSpec("kv", "kv", 1),), begins_after=3)
PART = Part(2, SPEC, Configuration(9, SPEC.voters, (Voter(MEMBER, 2),), 2))


def disk() -> SimulatedDisk:
    made = SimulatedDisk()
    made.make_folder("learner")
    return made


def test_what_is_written_is_read() -> None:
    place = disk()
    parts = Parts(4, {7: PART}, {8: 5, 9: 1})
    write_parts(place, IDENTITY, parts)
    assert read_parts(place, IDENTITY) == parts
    assert held_groups(place, IDENTITY) == (7,)


def test_a_record_is_written_as_a_whole() -> None:
    place = disk()
    write_parts(place, IDENTITY, Parts())
    file = PartsFile(place, IDENTITY)
    file.apply(PartTaken(7, PART))
    assert read_parts(place, IDENTITY).parts == {7: PART}
    file.apply(PartLeft(7, 2))
    found = read_parts(place, IDENTITY)
    assert (found.version, found.parts, found.tombstones) == (2, {}, {7: 2})


def test_each_flipped_byte_is_damage() -> None:
    place = disk()
    write_parts(place, IDENTITY, Parts(1, {7: PART}, {}))
    data = place.read(PARTS)
    for offset in range(len(data)):
        flipped = bytearray(data)
        flipped[offset] ^= 1
        place.unlink(PARTS)
        file = place.create(PARTS)
        file.write(bytes(flipped))
        file.close()
        with pytest.raises(DamageError):
            read_parts(place, IDENTITY)


def test_it_is_never_made_by_reading() -> None:
    with pytest.raises(DamageError, match="is missing"):
        read_parts(disk(), IDENTITY)


def test_another_members_file_is_refused() -> None:
    place = disk()
    write_parts(place, Identity(GENESIS, OTHER), Parts())
    with pytest.raises(DamageError, match="another member"):
        read_parts(place, IDENTITY)


def test_who_looks_into_a_damaged_folder_sees_the_groups_of_the_genesis() -> None:
    assert held_groups(disk(), IDENTITY) == IDENTITY.groups
