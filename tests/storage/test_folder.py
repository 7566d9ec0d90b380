"""Staging, activating, locks and incarnations: a member comes into being once (R9, 12, 26)."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from ray_paxos.core.messages import RoleName
from ray_paxos.errors import (
    DamageError,
    FolderHeldError,
    ForeignFolderError,
    NotActivatedError,
    StorageError,
    StorageFullError,
)
from ray_paxos.storage.checked_files import replace_fields
from ray_paxos.storage.disk import LocalDisk
from ray_paxos.storage.folder import activate_member, find_members, stage_member
from ray_paxos.storage.identity import (
    IDENTITY,
    ROLE_FOLDERS,
    check_member,
    identity_fields,
    open_role_folder,
    read_identity,
)
from ray_paxos.storage.journal import open_journal
from ray_paxos.testing.disk import SimulatedDisk
from tests.storage.crashing import aftermaths, crashes
from tests.storage.support import GENESIS, MEMBER_ID, make_genesis, member_disk
from tests.storage.support import (
    IDENTITY as OWN,
)

ROLES = list(ROLE_FOLDERS)


def test_a_member_takes_part_only_once_it_is_activated():
    disk = SimulatedDisk()
    stage_member(disk, GENESIS, MEMBER_ID)
    with pytest.raises(NotActivatedError, match="staged and not activated"):
        check_member(disk, GENESIS, MEMBER_ID)
    activate_member(disk)
    assert check_member(disk, GENESIS, MEMBER_ID) == OWN
    _, state = open_journal(disk, "acceptor", owner=OWN.owner)
    assert sorted(state.groups) == [0, 1]
    assert state.groups[1].promise is None
    assert state.groups[1].floor == 1


def test_staging_and_activating_again_change_nothing():
    disk = member_disk()
    before = disk.files()
    stage_member(disk, GENESIS, MEMBER_ID)
    activate_member(disk)
    assert disk.files() == before


def test_a_crash_at_each_operation_of_staging_can_be_finished():
    def scenario(disk: SimulatedDisk) -> None:
        stage_member(disk, GENESIS, MEMBER_ID)

    for operation, crashed in crashes(SimulatedDisk(), scenario):
        for what, disk in aftermaths(crashed, range(2)):
            with pytest.raises((DamageError, NotActivatedError)):
                check_member(disk, GENESIS, MEMBER_ID)
            stage_member(disk, GENESIS, MEMBER_ID)
            for seed in range(2):
                dark = disk.snapshot()
                dark.power_loss(Random(seed))
                activate_member(dark)
            activate_member(disk)
            disk.power_loss(Random(operation))
            check_member(disk, GENESIS, MEMBER_ID)
            _, state = open_journal(disk, "acceptor", owner=OWN.owner)
            assert sorted(state.groups) == [0, 1], f"operation {operation}, {what}"


def test_a_crash_at_each_operation_of_activating_can_be_finished():
    start = SimulatedDisk()
    stage_member(start, GENESIS, MEMBER_ID)
    for operation, crashed in crashes(start, activate_member):
        for what, disk in aftermaths(crashed, range(6)):
            activate_member(disk)
            for seed in range(6):
                dark = disk.snapshot()
                dark.power_loss(Random(seed))
                assert check_member(dark, GENESIS, MEMBER_ID) == OWN, f"{operation}, {what}"


def test_activating_an_unstaged_folder_makes_nothing():
    disk = SimulatedDisk()
    with pytest.raises(DamageError, match="missing"):
        activate_member(disk)
    assert disk.files() == {}


@pytest.mark.parametrize("lost", ["acceptor/journal", "acceptor/current", "acceptor/incarnation"])
@pytest.mark.parametrize("is_activated", [True, False])
def test_neither_staging_nor_activating_replaces_what_was_lost(lost, is_activated):
    disk = SimulatedDisk()
    stage_member(disk, GENESIS, MEMBER_ID)
    if is_activated:
        activate_member(disk)
    disk.remove(lost)
    with pytest.raises(DamageError, match="missing"):
        stage_member(disk, GENESIS, MEMBER_ID)
    if not is_activated:
        with pytest.raises(DamageError, match="missing"):
            activate_member(disk)
    else:
        activate_member(disk)
    assert not disk.exists(lost)


@pytest.mark.parametrize(
    "trace",
    [
        "journal",
        "incarnation",
        "marker",
        "segment",
    ],
)
def test_a_folder_without_identity_is_not_staged_over_what_a_member_left(trace):
    disk = SimulatedDisk()
    stage_member(disk, GENESIS, MEMBER_ID)
    if trace == "journal":
        open_journal(disk, "acceptor", owner=OWN.owner)
    elif trace == "incarnation":
        open_role_folder(disk, OWN, RoleName.PROPOSER)
    elif trace == "marker":
        activate_member(disk)
    else:
        disk.create("learner/log/group=1/segment")
    disk.remove(IDENTITY)
    with pytest.raises(ForeignFolderError, match="a member lived here"):
        stage_member(disk, GENESIS, MEMBER_ID)
    assert not disk.exists(IDENTITY)


def test_a_folder_of_another_cluster_or_member_is_refused():
    disk = member_disk()
    other = make_genesis("other")
    with pytest.raises(ForeignFolderError, match=r"belongs to cluster demo .* not to other"):
        check_member(disk, other, MEMBER_ID)
    with pytest.raises(ForeignFolderError, match="belongs to member amber"):
        check_member(disk, GENESIS, 12)
    for genesis, member_id in ((other, MEMBER_ID), (GENESIS, 12)):
        with pytest.raises(ForeignFolderError):
            stage_member(disk, genesis, member_id)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", ["lock", "incarnation"])
def test_a_role_folder_that_was_swapped_copied_or_lost_is_refused(role, name):
    path = f"{ROLE_FOLDERS[role]}/{name}"
    disk = member_disk()
    other = ROLE_FOLDERS[ROLES[ROLES.index(role) - 1]]
    disk.overwrite(path, disk.read(f"{other}/{name}"))
    with pytest.raises(ForeignFolderError):
        open_role_folder(disk, OWN, role)
    disk.remove(path)
    with pytest.raises(DamageError, match="missing"):
        open_role_folder(disk, OWN, role)
    assert not disk.exists(path), "never made by an opening"


def test_each_opening_has_its_own_incarnation_also_after_any_crash():
    disk = member_disk()
    assert [open_role_folder(disk.process(), OWN, role).incarnation for role in ROLES] == [1] * 4

    def scenario(disk: SimulatedDisk) -> None:
        open_role_folder(disk, OWN, RoleName.PROPOSER)

    start = member_disk()
    given = 0
    for seed in range(40):
        opened = open_role_folder(start, OWN, RoleName.PROPOSER)
        assert opened.incarnation > given, "two lives of one proposer must not share a number"
        given = opened.incarnation
        start.power_loss(Random(seed))
    for operation, crashed in crashes(start, scenario):
        for what, disk in aftermaths(crashed, range(6)):
            opened = open_role_folder(disk, OWN, RoleName.PROPOSER)
            assert opened.incarnation > given, f"operation {operation}, {what}"


def test_roles_count_their_incarnations_apart():
    disk = member_disk()
    for _ in range(3):
        open_role_folder(disk, OWN, RoleName.PROPOSER).release()
    assert open_role_folder(disk, OWN, RoleName.ACCEPTOR).incarnation == 1
    assert open_role_folder(disk, OWN, RoleName.PROPOSER).incarnation == 4


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80])
def test_a_flip_in_any_byte_of_the_small_files_is_refused(flip):
    checks: dict[str, Callable[[SimulatedDisk], object]] = {
        IDENTITY: read_identity,
        "activated.json": lambda disk: check_member(disk, GENESIS, MEMBER_ID),
        "proposer/lock": lambda disk: open_role_folder(disk, OWN, RoleName.PROPOSER),
        "proposer/incarnation": lambda disk: open_role_folder(disk, OWN, RoleName.PROPOSER),
    }
    for path, check in checks.items():
        whole = member_disk().read(path)
        disk = member_disk()
        for at in range(len(whole)):
            flipped = bytearray(whole)
            flipped[at] ^= flip
            disk.overwrite(path, bytes(flipped))
            with pytest.raises(StorageError):
                check(disk)
        disk.overwrite(path, whole)
        check(disk)


def test_a_held_folder_is_refused_until_its_holder_is_gone():
    disk = member_disk()
    other = disk.process()
    opened = open_role_folder(disk, OWN, RoleName.LEARNER)
    with pytest.raises(FolderHeldError):
        open_role_folder(other, OWN, RoleName.LEARNER)
    open_role_folder(other, OWN, RoleName.ACCEPTOR)
    disk.kill()
    again = open_role_folder(other, OWN, RoleName.LEARNER)
    assert again.incarnation == opened.incarnation + 1
    again.release()
    open_role_folder(disk, OWN, RoleName.LEARNER)


def test_an_opening_that_fails_lets_go_of_the_folder():
    disk = member_disk()
    whole = disk.read("learner/incarnation")
    disk.overwrite("learner/incarnation", b"{}")
    with pytest.raises(DamageError):
        open_role_folder(disk, OWN, RoleName.LEARNER)
    disk.overwrite("learner/incarnation", whole)
    disk.fail_next_sync("learner")
    with pytest.raises(StorageError, match="cannot open"):
        open_role_folder(disk, OWN, RoleName.LEARNER)
    open_role_folder(disk.process(), OWN, RoleName.LEARNER)


def test_a_full_disk_is_told_when_staging():
    with pytest.raises(StorageFullError, match="make room"):
        stage_member(SimulatedDisk(capacity=1_500), GENESIS, MEMBER_ID)


def test_an_identity_whose_parts_contradict_each_other_is_damage():
    disk = member_disk()
    for name, value in (
        ("cluster", "other"),
        ("name", "birch"),
        ("member_id", 12),
        ("genesis", ""),
    ):
        replace_fields(disk, IDENTITY, {**identity_fields(OWN), name: value})
        with pytest.raises(DamageError):
            read_identity(disk)
    replace_fields(disk, IDENTITY, identity_fields(OWN))
    assert read_identity(disk) == OWN


def test_an_identity_of_a_later_format_is_not_called_damaged():
    disk = member_disk()
    replace_fields(disk, IDENTITY, {"format": 2})
    with pytest.raises(StorageError, match="format 2") as caught:
        read_identity(disk)
    assert not isinstance(caught.value, DamageError)


def test_members_are_found_with_their_state(tmp_path):
    root = tmp_path / "demo"
    assert find_members(root) == []
    for name, member_id in (("amber", 11), ("birch", 12), ("coral", 13)):
        stage_member(LocalDisk(root / name), GENESIS, member_id)
    activate_member(LocalDisk(root / "birch"))
    (root / "coral" / IDENTITY).write_bytes(b"{}")
    (root / "empty").mkdir()
    (root / "lost").mkdir()
    stage_member(LocalDisk(root / "lost"), GENESIS, 13)
    activate_member(LocalDisk(root / "lost"))
    (root / "lost" / IDENTITY).unlink()
    (root / "file").write_text("not a member")
    found = {member.path.name: member for member in find_members(root)}
    assert {name: member.state for name, member in found.items()} == {
        "amber": "staged",
        "birch": "activated",
        "coral": "damaged",
        "empty": "unfinished",
        "lost": "damaged",
    }
    assert found["birch"].identity is not None
    assert found["birch"].identity.member_id == 12
    assert found["birch"].identity.genesis == GENESIS
    assert "identity.json" in found["coral"].problem
