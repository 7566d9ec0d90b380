"""The file that says which groups a member has."""

from __future__ import annotations

import threading

import pytest
from msgspec.structs import replace as replace_struct

from ray_paxos.core.genesis import Configuration, GroupSpec, MachineSpec, MemberSpec, Voter
from ray_paxos.core.parts import MembersMet, Part, PartLeft, Parts, PartTaken
from ray_paxos.core.role import Role
from ray_paxos.errors import DamageError
from ray_paxos.storage.checked_files import read_fields, replace_fields
from ray_paxos.storage.identity import Identity
from ray_paxos.storage.parts import (
    PARTS,
    OpenParts,
    PartsFile,
    held_groups,
    read_parts,
    write_parts,
)
from ray_paxos.testing.disk import SimulatedDisk
from tests.storage.support import GENESIS

MEMBER = GENESIS.members[0].member_id
OTHER = GENESIS.members[1].member_id
IDENTITY = Identity(GENESIS, MEMBER)
SPEC = GroupSpec(7, (Voter(OTHER, 1),), (MachineSpec("kv", "kv", 1),), begins_after=3)
OTHER_SPEC = GroupSpec(8, SPEC.voters, SPEC.machines)
PART = Part(2, SPEC, Configuration(9, SPEC.voters, (Voter(MEMBER, 2),), 2))


def disk() -> SimulatedDisk:
    made = SimulatedDisk()
    made.make_folder("learner")
    return made


def test_what_is_written_is_read() -> None:
    place = disk()
    left = Configuration(40, (Voter(OTHER, 3),), joined=(MemberSpec("m9", 90),))
    parts = Parts(4, {7: PART}, {8: 5, 9: 1}, {90: "m9"}, {8: left})
    write_parts(place, IDENTITY, parts)
    assert read_parts(place, IDENTITY) == parts
    assert held_groups(place, IDENTITY) == (7,)


def test_a_file_of_an_earlier_release_says_nothing_of_who_has_what_was_left() -> None:
    place = disk()
    parts = Parts(4, {7: PART}, {8: 5})
    write_parts(place, IDENTITY, parts)
    fields = {name: value for name, value in read_fields(place, PARTS).items() if name != "left"}
    replace_fields(place, PARTS, fields)
    assert read_parts(place, IDENTITY) == parts


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


def test_members_that_were_met_are_kept_and_introduced() -> None:
    place = disk()
    write_parts(place, IDENTITY, Parts())
    told: list[tuple[MemberSpec, ...]] = []
    file = PartsFile(place, IDENTITY, lambda members: told.append(tuple(members)))
    file.apply(MembersMet(0, (MemberSpec("m9", 90),)))
    joined = replace_struct(PART.configuration, joined=(MemberSpec("m8", 80),))
    file.apply(PartTaken(7, replace_struct(PART, configuration=joined)))
    file.apply(PartLeft(7, 2))
    assert read_parts(place, IDENTITY).joined == {80: "m8", 90: "m9"}
    both = (MemberSpec("m8", 80), MemberSpec("m9", 90))
    assert told == [(), (MemberSpec("m9", 90),), both, both]
    # Another role of the member, which reads what the learner has written.
    PartsFile(place, IDENTITY, lambda members: told.append(tuple(members))).read()
    assert told[-2:] == [both, both]


class HeldDisk(SimulatedDisk):
    """Holds one reader of the file where it has read it, until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.is_holding = False
        self.has_read, self.goes_on = threading.Event(), threading.Event()

    def read(self, path: str, offset: int = 0, size: int | None = None) -> bytes:
        data = super().read(path, offset, size)
        if path == PARTS and self.is_holding:
            self.is_holding = False
            self.has_read.set()
            assert self.goes_on.wait(30)
        return data


def test_what_is_written_while_another_thread_reads_is_not_undone() -> None:
    """One thread of the learner follows, as another one writes that a group was left."""
    place = HeldDisk()
    place.make_folder("learner")
    write_parts(place, IDENTITY, Parts())
    file = PartsFile(place, IDENTITY)
    place.is_holding = True
    reader = threading.Thread(target=file.read)
    reader.start()
    assert place.has_read.wait(30)
    writer = threading.Thread(target=file.apply, args=(PartLeft(7, 2),))
    writer.start()
    # It may be done by now, or wait: in either case the reader goes on afterwards.
    writer.join(0.2)
    place.goes_on.set()
    reader.join(30)
    writer.join(30)
    file.apply(PartLeft(8, 1))
    assert read_parts(place, IDENTITY).tombstones == {7: 2, 8: 1}


def test_groups_come_and_go_while_a_thread_goes_through_them() -> None:
    place = disk()
    write_parts(place, IDENTITY, Parts(1, {7: PART}))
    opened: OpenParts[str] = OpenParts(
        PartsFile(place, IDENTITY), lambda part: (f"{part.group}", _no_role), lambda group: None
    )
    opened.follow()
    for _ in opened.groups.values():
        write_parts(place, IDENTITY, Parts(2, {7: PART, 8: replace_struct(PART, spec=OTHER_SPEC)}))
        opened.follow()
    assert set(opened.groups) == {7, 8}
    for _ in opened.groups.values():
        write_parts(place, IDENTITY, Parts(3, {}))
        opened.follow()
    assert not opened.groups


def _no_role(now_ns: int) -> Role:
    raise AssertionError("no role is made here")
