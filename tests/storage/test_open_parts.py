"""What a role has open of its member's groups, as groups come and go, and where the disk fails."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from ray_paxos.core.genesis import Configuration, GroupSpec, Voter
from ray_paxos.core.parts import Part, PartLeft, Parts, PartTaken
from ray_paxos.core.role import Role
from ray_paxos.errors import CheckpointError, DamageError
from ray_paxos.storage import opening
from ray_paxos.storage.identity import Identity
from ray_paxos.storage.parts import PARTS, OpenParts, PartsFile, write_parts
from ray_paxos.testing.disk import SimulatedDisk
from tests.storage.support import GENESIS, MEMBER_ID

IDENTITY = Identity(GENESIS, MEMBER_ID)
OTHER = 12
FAILURES = [OSError("input/output error"), CheckpointError("unusable"), DamageError("damaged")]


def part(group: int, replica_id: int = 2) -> Part:
    spec = GroupSpec(group, (Voter(OTHER, 1),), ())
    followers = (Voter(MEMBER_ID, replica_id),)
    return Part(replica_id, spec, Configuration(9, spec.voters, followers, replica_id))


class Member:
    """One member's file, and a role that notes what it opens and removes; either may fail."""

    def __init__(self, *groups: int) -> None:
        self.disk = SimulatedDisk()
        self.disk.make_folder("learner")
        write_parts(self.disk, IDENTITY, Parts())
        self.file = PartsFile(self.disk, IDENTITY)
        self.failing: dict[int, Exception] = {}
        self.tried: list[tuple[int, int]] = []
        self.removed: list[int] = []
        self.parts = OpenParts(PartsFile(self.disk, IDENTITY), self.open, self.close)
        for group in groups:
            self.file.apply(PartTaken(group, part(group)))
        self.parts.follow()
        self.tried.clear()

    def open(self, part: Part) -> tuple[str, Callable[[int], Role]]:
        self.tried.append((part.group, part.replica_id))
        self.fail_if_told(part.group)

        def make(now_ns: int) -> Role:
            raise AssertionError("nobody makes it here")

        return f"group {part.group} as {part.replica_id}", make

    def close(self, group: int) -> None:
        self.fail_if_told(group)
        self.removed.append(group)

    def fail_if_told(self, group: int) -> None:
        if group in self.failing:
            raise self.failing[group]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda each: type(each).__name__)
def test_a_group_that_cannot_be_opened_stops_no_other_and_is_tried_again(
    failure: Exception,
) -> None:
    member = Member()
    for group in (6, 7, 8):
        member.file.apply(PartTaken(group, part(group)))
    member.failing[7] = failure
    opened = member.parts.follow()
    assert opened.groups == {6, 7, 8}
    assert sorted(opened.made) == sorted(member.parts.groups) == [6, 8]
    assert opened.failed == {7: str(failure)}
    again = member.parts.follow()
    assert (dict(again.made), again.failed) == ({}, {7: str(failure)})
    del member.failing[7]
    assert list(member.parts.follow().made) == [7]
    assert member.parts.groups[7] == "group 7 as 2"
    assert not member.parts.follow().made, "what is open is not opened again"


@pytest.mark.parametrize("failure", FAILURES, ids=lambda each: type(each).__name__)
def test_what_cannot_be_removed_stops_no_other_and_is_tried_again(failure: Exception) -> None:
    member = Member(6, 7, 8)
    for group in (6, 7, 8):
        member.file.apply(PartLeft(group, 2))
    member.file.apply(PartTaken(9, part(9)))
    member.failing[7] = failure
    opened = member.parts.follow()
    assert member.removed == [6, 8]
    assert list(opened.made) == [9]
    assert opened.groups == {9}
    assert list(opened.failed) == [7]
    assert str(failure) in opened.failed[7]
    assert member.parts.follow().failed
    del member.failing[7]
    assert not member.parts.follow().failed
    assert member.removed == [6, 8, 7]
    assert sorted(member.parts.groups) == [9]
    member.parts.follow()
    assert member.removed == [6, 8, 7], "once"


def test_a_part_that_another_one_has_replaced_is_opened_and_not_removed() -> None:
    """What lies there by then is what the new one begins with."""
    member = Member(6, 7)
    member.file.apply(PartLeft(7, 2))
    member.file.apply(PartTaken(7, part(7, 5)))
    opened = member.parts.follow()
    assert not member.removed
    assert list(opened.made) == [7]
    assert member.tried == [(7, 5)], "the other one stays as it is"
    assert member.parts.groups == {6: "group 6 as 2", 7: "group 7 as 5"}


def test_where_the_file_is_damaged_everything_stays_as_it_is() -> None:
    member = Member(6)
    member.disk.unlink(PARTS)
    with pytest.raises(DamageError, match="is missing"):
        member.parts.follow()
    assert not member.removed
    assert list(member.parts.groups) == [6]


@pytest.mark.parametrize("seed", range(40))
def test_what_was_left_does_not_come_back_with_a_loss_of_power(seed: int) -> None:
    """Seed 2329 of the simulator: the group came back, and found half of an earlier checkpoint."""
    disk = SimulatedDisk()
    kept = ("checkpointer/group=2/50/manifest.json", "checkpointer/group=2/50/machine/table")
    for path in (*kept, "learner/log/group=2/1-9.plain"):
        folder = path.rpartition("/")[0]
        disk.make_folder(folder)
        file = disk.create(path)
        file.write(b"x")
        file.sync()
        file.close()
        while folder:
            disk.sync_folder(folder)
            folder = folder.rpartition("/")[0]
    disk.sync_folder("")
    opening._remove_work(disk, 2)
    opening._remove_log(disk, 2)
    disk.power_loss(random.Random(seed))
    assert [path for path in disk.paths() if "group=2" in path] == []
