"""Crashes and failures of the disk at every operation on checkpoints (F1, F3, F5, F13)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from random import Random

import pytest

from ray_paxos.errors import DamageError, StorageError, StorageFullError
from ray_paxos.storage.checkpoint_folders import DAMAGED, CheckpointFolder
from ray_paxos.storage.checkpoints import newest_whole, published
from ray_paxos.testing.disk import SimulatedDisk
from ray_paxos.testing.medium import Medium, os_error
from tests.storage.checkpoint_support import (
    DIGESTS,
    FOLDER,
    REGISTRY,
    empty_place,
    make_cut,
    make_host,
    place_on,
    save,
)
from tests.storage.crashing import aftermaths, crashes

SEEDS = range(3)
CHUNK_BYTES = 250


def send_all(source: SimulatedDisk, instance_id: int, folder: CheckpointFolder) -> None:
    """What a member does that receives a checkpoint, from wherever it stands."""
    sender = CheckpointFolder.open(place_on(source.snapshot()))
    manifest = sender.verify(instance_id)
    for _ in range(3):
        present = folder.begin(manifest)
        for file in manifest.files:
            offset = present[file.path]
            while offset < file.size:
                data = sender.read_chunk(instance_id, file.path, offset, CHUNK_BYTES)
                assert data
                offset = folder.write_chunk(instance_id, file.path, offset, data)
        try:
            folder.publish(instance_id)
        except DamageError:
            continue
        return
    raise AssertionError("a transfer that never becomes whole")


def check_whole(disk: SimulatedDisk, allowed: set[tuple[int, ...]], what: str) -> CheckpointFolder:
    """Open as after a crash: one of these sets of checkpoints, each whole, and nothing else."""
    # A learner may look before the checkpointer has cleaned up.
    found = newest_whole(place_on(disk), REGISTRY)
    assert found.problems == (), what
    folder = CheckpointFolder.open(place_on(disk))
    assert folder.instances in allowed, what
    for instance_id in folder.instances:
        folder.verify(instance_id)
    if folder.instances:
        assert found.checkpoint is not None, what
        newest = folder.instances[-1]
        assert found.checkpoint.cut == make_cut(newest), what
        assert found.checkpoint.host.digest() == DIGESTS[newest], what
    else:
        assert found.checkpoint is None, what
    kept = len(folder.instances) + (folder.transfer is not None)
    names = [name for name in disk.list(FOLDER) if not name.startswith(DAMAGED)]
    assert len(names) == kept, what
    return folder


def every_crash(
    start: SimulatedDisk,
    scenario: Callable[[SimulatedDisk], None],
    allowed: set[tuple[int, ...]],
    finally_there: tuple[int, ...],
) -> int:
    """Crash a scenario everywhere; then do it again, and lose the power once more.

    Returns:
        How many operations it has.
    """
    operations = 0
    for operation, crashed in crashes(start, scenario):
        operations = operation
        for what, disk in aftermaths(crashed, SEEDS):
            told = f"operation {operation}, {what}"
            folder = check_whole(disk, allowed, told)
            if what == "killed":
                # What an opening has vouched for, no loss of power takes.
                vouched = folder.instances
                disk.power_loss(Random(operation))
                check_whole(disk, {vouched}, told)
                continue
            scenario(disk)
            assert published(place_on(disk)) == finally_there, told
            if what.startswith("killed"):
                disk.power_loss(Random(operation))
                check_whole(disk, {finally_there}, told)
    return operations


def test_a_crash_at_each_operation_of_a_save_leaves_the_checkpoint_whole_or_not_at_all():
    disk, place = empty_place()
    save(place, 4)

    def scenario(disk: SimulatedDisk) -> None:
        save(place_on(disk), 11)

    assert every_crash(disk, scenario, {(4,), (4, 11)}, (4, 11)) > 25


def test_a_crash_at_each_operation_of_a_drop_leaves_the_checkpoint_whole_or_not_at_all():
    disk, place = empty_place()
    save(place, 4, 11)

    def scenario(disk: SimulatedDisk) -> None:
        CheckpointFolder.open(place_on(disk)).drop(4)

    assert every_crash(disk, scenario, {(4, 11), (11,)}, (11,)) > 15


def test_a_crash_at_each_operation_of_setting_aside_leaves_the_checkpoint_whole_or_not_at_all():
    disk, place = empty_place()
    folder = save(place, 4, 7, 11)
    folder.set_aside(4)

    def scenario(disk: SimulatedDisk) -> None:
        CheckpointFolder.open(place_on(disk)).set_aside(7)

    assert every_crash(disk, scenario, {(7, 11), (11,)}, (11,)) > 20
    for _, crashed in crashes(disk, scenario):
        for what, after in aftermaths(crashed, SEEDS):
            CheckpointFolder.open(place_on(after))
            assert len([n for n in after.list(FOLDER) if n.startswith(DAMAGED)]) <= 1, what


def test_a_crash_at_each_operation_of_a_transfer_leaves_what_can_be_gone_on_with():
    source, place = empty_place()
    save(place, 11)
    disk, place = empty_place()
    save(place, 4)

    def scenario(disk: SimulatedDisk) -> None:
        send_all(source, 11, CheckpointFolder.open(place_on(disk)))

    assert every_crash(disk, scenario, {(4,), (4, 11)}, (4, 11)) > 40


def test_a_crash_at_each_operation_of_another_transfer_leaves_one_at_most():
    source, place = empty_place()
    save(place, 9, 11)
    disk, place = empty_place()
    folder = CheckpointFolder.open(place)
    sender = CheckpointFolder.open(place_on(source))
    folder.begin(sender.verify(11))
    folder.write_chunk(11, "host.msgpack", 0, b"x")

    def scenario(disk: SimulatedDisk) -> None:
        folder = CheckpointFolder.open(place_on(disk))
        send_all(source, 9, folder)
        folder.abandon()

    every_crash(disk, scenario, {(), (9,)}, (9,))


def test_killed_transfers_go_on_where_they_were():
    source, place = empty_place()
    sender = save(place, 11)
    manifest = sender.verify(11)
    disk, place = empty_place()
    folder = CheckpointFolder.open(place)
    folder.begin(manifest)
    data = source.read(f"{FOLDER}/0000000000000011/sessions.msgpack")
    assert folder.write_chunk(11, "sessions.msgpack", 0, data[:100]) == 100
    disk.kill()
    folder = CheckpointFolder.open(place)
    assert folder.transfer == manifest
    assert folder.begin(manifest) == folder.staged(manifest)
    assert folder.staged(manifest) == {
        file.path: 100 if file.path == "sessions.msgpack" else 0 for file in manifest.files
    }
    assert folder.write_chunk(11, "sessions.msgpack", 100, data[100:]) == len(data)


# Failures that the process survives.


class Failing:
    """Makes the operation fail that comes after so many others, and no other."""

    def __init__(self, after: int, error: int, patch: pytest.MonkeyPatch) -> None:
        self.has_failed = False
        operate = Medium.operate

        def failing(medium: Medium) -> None:
            nonlocal after
            operate(medium)
            after -= 1
            if after < 0 and not self.has_failed:
                self.has_failed = True
                raise os_error(error, "the disk")

        patch.setattr(Medium, "operate", failing)


def do(what: str, folder: CheckpointFolder, source: SimulatedDisk) -> None:
    if what == "save":
        folder.save(make_host(11), make_cut(11))
    else:
        send_all(source, 11, folder)


def failure(what: str, folder: CheckpointFolder, source: SimulatedDisk) -> StorageError | None:
    try:
        do(what, folder, source)
    except StorageError as error:
        return error
    return None


def two_disks() -> tuple[SimulatedDisk, SimulatedDisk]:
    """One with a checkpoint of 11 to be sent, one with a checkpoint of 4."""
    source, place = empty_place()
    save(place, 11)
    start, place = empty_place()
    save(place, 4)
    return source, start


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("what", ["save", "transfer"])
def test_a_failure_at_each_operation_is_told_and_leaves_nothing_half(what, error, monkeypatch):
    source, start = two_disks()
    for after in range(1_000):
        disk = start.snapshot()
        folder = CheckpointFolder.open(place_on(disk))
        with monkeypatch.context() as patch:
            failing = Failing(after, error, patch)
            told = failure(what, folder, source)
        if not failing.has_failed:
            break
        assert type(told) is (StorageFullError if error == errno.ENOSPC else StorageError)
        if what == "save":
            assert folder.instances == (4,)
            assert disk.list(FOLDER) == ["0000000000000004"]
        do(what, folder, source)
        disk.power_loss(Random(after))
        check_whole(disk, {(4, 11)}, f"operation {after}")
    assert after > 20


@pytest.mark.parametrize("what", ["save", "transfer"])
def test_what_a_failed_sync_has_dropped_is_never_published(what):
    source, start = two_disks()
    names = [*(file.path for file in save(place_on(source)).verify(11).files), "_manifest.json"]
    for name in names:
        disk = start.snapshot()
        folder = CheckpointFolder.open(place_on(disk))
        disk.fail_next_sync(f"0000000000000011/{name}")
        told = failure(what, folder, source)
        assert told is not None, name
        assert folder.transfer is None
        assert disk.list(FOLDER) == ["0000000000000004"]
        # As the store does: it ends here. Its next life finds a disk that works.
        disk.kill()
        do(what, CheckpointFolder.open(place_on(disk)), source)
        disk.power_loss(Random(1))
        check_whole(disk, {(4, 11)}, name)


@pytest.mark.parametrize("what", ["save", "transfer"])
def test_a_disk_that_is_full_at_any_byte_is_told_and_nothing_half_is_left(what):
    source, start = two_disks()
    used = sum(map(len, start.files().values()))
    size = sum(map(len, source.files().values()))
    for room in range(0, size, 37):
        disk = start.snapshot()
        disk.set_capacity(used + room)
        folder = CheckpointFolder.open(place_on(disk))
        told = failure(what, folder, source)
        assert isinstance(told, StorageFullError)
        assert "make room" in str(told)
        if what == "transfer" and room % 2:
            # The caller may give it up, for the room it takes.
            folder.abandon()
        if what == "save" or room % 2:
            assert disk.list(FOLDER) == ["0000000000000004"]
        disk.set_capacity(None)
        do(what, folder, source)
        if room % 5 == 0:
            check_whole(disk, {(4, 11)}, f"room {room}")
