"""Archiving a member: what goes there, in which order, and what never goes again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from ray_paxos.core.checkpoint import MANIFEST
from ray_paxos.errors import ConfigurationError, DamageError, ForeignFolderError, StorageError
from ray_paxos.storage.archive_address import parse_address
from ray_paxos.storage.archive_files import FolderArchive
from ray_paxos.storage.archive_layout import (
    cluster_folder,
    kept_checkpoints,
    list_group,
    read_archived_genesis,
    runs_of,
)
from ray_paxos.storage.checked_files import encode_fields
from ray_paxos.testing.disk import CrashedError, SimulatedDisk
from tests.storage.archive_support import (
    LOG,
    archive_folder,
    archived,
    archiver,
    checkpoint,
    clean,
    drop_checkpoint,
    make_disk,
    merge,
    place_of,
    restorer,
    seal,
)
from tests.storage.crashing import aftermaths
from tests.storage.member_support import host_at
from tests.storage.support import GENESIS


def test_segments_go_to_the_archive_with_the_genesis() -> None:
    disk, target = make_disk(), archive_folder()
    seal(disk, 1, 25)
    files = FolderArchive(target)
    own = archiver(files, disk)
    own.update()
    assert archived(files) == ([(1, 10), (11, 20), (21, 25)], [])
    assert read_archived_genesis(files, cluster_folder(GENESIS)) == GENESIS
    progress = own.progress[1]
    assert (progress.sealed_through, progress.archived_through, progress.lag) == (25, 25, 0)
    path = place_of().segment(11, 20)
    assert target.read(path) == disk.read(f"learner/log/group=1/{path.rpartition('/')[2]}")


def test_a_second_round_and_a_second_life_put_nothing_again() -> None:
    disk, target = make_disk(), archive_folder()
    seal(disk, 1, 20)
    checkpoint(disk, 15)
    own = archiver(FolderArchive(target), disk)
    own.update()
    before = target.operations
    own.update()
    archiver(FolderArchive(target), disk).update()
    assert target.operations == before
    seal(disk, 21, 30)
    own.update()
    assert archived(FolderArchive(target)) == ([(1, 10), (11, 20), (21, 30)], [15])


def test_a_merged_segment_takes_the_place_of_its_parts() -> None:
    disk, target = make_disk(), archive_folder()
    seal(disk, 1, 30)
    files = FolderArchive(target)
    own = archiver(files, disk)
    own.update()
    merge(disk, 1, 20)
    own.update()
    assert archived(files) == ([(1, 20), (21, 30)], [])


def test_parts_stay_until_the_merged_one_was_read_back() -> None:
    disk, target = make_disk(), archive_folder()
    seal(disk, 1, 20)
    archiver(FolderArchive(target), disk).update()
    merge(disk, 1, 20)
    files = Lying(target)
    with pytest.raises(StorageError, match="does not read back"):
        archiver(files, disk).update()
    assert archived(FolderArchive(target)) == ([(1, 10), (11, 20)], [])


class Lying(FolderArchive):
    """Loses a bit of whatever is put there under such a name."""

    def __init__(self, disk: SimulatedDisk, name: str = "") -> None:
        super().__init__(disk)
        self._name = name

    def put(self, path: str, chunks: Iterable[bytes]) -> None:
        data = bytearray(b"".join(chunks))
        if self._name in path:
            data[len(data) // 2] ^= 1
        super().put(path, [bytes(data)])


@pytest.mark.parametrize("name", ["host.msgpack", "table.plain", "manifest.json"])
def test_a_checkpoint_that_does_not_read_back_has_no_manifest(name: str) -> None:
    disk, target = make_disk(), archive_folder()
    seal(disk, 1, 10)
    archiver(FolderArchive(target), disk).update()
    checkpoint(disk, 10)
    with pytest.raises(StorageError, match="does not read back"):
        archiver(Lying(target, name), disk).update()
    assert not target.exists(f"{place_of().checkpoint(10)}/{MANIFEST}")


def test_cleaning_the_log_takes_nothing_from_the_archive() -> None:
    disk, target = make_disk(), archive_folder()
    seal(disk, 1, 30)
    checkpoint(disk, 25)
    files = FolderArchive(target)
    own = archiver(files, disk)
    own.update()
    clean(disk, 21)
    seal(disk, 31, 40)
    own.update()
    archiver(files, disk).update()
    assert archived(files) == ([(1, 10), (11, 20), (21, 30), (31, 40)], [25])


def test_the_newest_checkpoints_stay() -> None:
    disk, target = make_disk(), archive_folder()
    seal(disk, 1, 40)
    files = FolderArchive(target)
    own = archiver(files, disk, kept=2)
    for instance_id in (10, 20, 30, 40):
        checkpoint(disk, instance_id)
        own.update()
        if instance_id > 10:
            drop_checkpoint(disk, instance_id - 10)
    assert archived(files)[1] == [30, 40]


def test_the_checkpoint_from_which_the_archived_log_goes_on_stays() -> None:
    disk, target = make_disk(), archive_folder()
    seal(disk, 1, 30)
    checkpoint(disk, 15, 25)
    clean(disk, 11)
    files = FolderArchive(target)
    own = archiver(files, disk)
    own.update()
    assert archived(files) == ([(11, 20), (21, 30)], [15, 25])
    seal(disk, 31, 40)
    checkpoint(disk, 35)
    drop_checkpoint(disk, 15)
    own.update()
    assert archived(files)[1] == [15, 35]


@pytest.mark.parametrize(
    ("runs", "instances", "kept"),
    [
        ([(1, 50)], [10, 20, 30], {30}),
        ([(1, 50)], [], set()),
        ([(11, 50)], [5, 10, 20, 30], {10, 30}),
        ([(11, 50)], [5, 30], {30}),
        ([(1, 10), (21, 50)], [5, 25, 30, 45], {25, 45}),
        ([], [7, 9], {9}),
    ],
)
def test_which_checkpoints_are_kept(
    runs: list[tuple[int, int]], instances: list[int], kept: set[int]
) -> None:
    assert kept_checkpoints(runs, instances, 1) == kept


def test_runs() -> None:
    assert runs_of([(5, 9), (1, 4), (8, 12), (20, 21)]) == [(1, 12), (20, 21)]


# Damage here.


def test_a_damaged_segment_is_not_archived_and_the_others_are() -> None:
    disk, target = make_disk(), archive_folder()
    seal(disk, 1, 30)
    path = f"learner/log/group=1/{place_of().segment(11, 20).rpartition('/')[2]}"
    disk.flip_bit(path, 400)
    files = FolderArchive(target)
    own = archiver(files, disk)
    own.update()
    assert archived(files) == ([(1, 10), (21, 30)], [])
    assert "wrong checksum" in own.progress[1].problems[0]
    assert (own.progress[1].archived_through, own.progress[1].lag) == (10, 20)
    disk.flip_bit(path, 400)
    own.update()
    assert archived(files)[0] == [(1, 10), (11, 20), (21, 30)]
    assert own.progress[1].problems == ()


def test_a_damaged_checkpoint_is_not_archived() -> None:
    disk, target = make_disk(), archive_folder()
    seal(disk, 1, 20)
    checkpoint(disk, 20)
    disk.flip_bit("checkpointer/group=1/0000000000000020/host.msgpack", 5)
    files = FolderArchive(target)
    own = archiver(files, disk)
    own.update()
    assert "wrong checksum" in own.progress[1].problems[0]
    assert not target.exists(f"{place_of().checkpoint(20)}/{MANIFEST}")


# The archive refuses.


def test_a_folder_that_is_not_there_is_not_made() -> None:
    disk = make_disk()
    seal(disk, 1, 10)

    class Unmounted(SimulatedDisk):
        def is_folder(self, path: str) -> bool:
            return False

    target = Unmounted()
    with pytest.raises(StorageError, match="make or mount it"):
        archiver(FolderArchive(target), disk).update()
    assert list(target.files()) == []


def test_a_full_archive_is_tried_again_and_then_complete() -> None:
    disk, target = make_disk(), archive_folder()
    seal(disk, 1, 30)
    checkpoint(disk, 30)
    target.set_capacity(6_000)
    own = archiver(FolderArchive(target), disk)
    for _ in range(3):
        with pytest.raises(StorageError, match="No space left"):
            own.update()
    assert own.progress[1].lag > 0
    target.set_capacity(None)
    own.update()
    assert own.progress[1].lag == 0
    assert archived(FolderArchive(target)) == ([(1, 10), (11, 20), (21, 30)], [30])


def test_an_archive_of_another_genesis_is_refused() -> None:
    disk, target = make_disk(), archive_folder()
    files = FolderArchive(target)
    archiver(files, disk).update()
    path = f"{cluster_folder(GENESIS)}/genesis.json"
    data = target.read(path)
    target.overwrite(path, data[:-20] + b"x" * 20)
    with pytest.raises(DamageError, match=r"genesis\.json"):
        archiver(files, disk).update()
    target.overwrite(path, encode_fields({"format": 9}))
    with pytest.raises(DamageError, match="format 9"):
        archiver(files, disk).update()


def test_a_genesis_in_another_clusters_folder_is_refused() -> None:
    disk, target = make_disk(), archive_folder()
    archiver(FolderArchive(target), disk).update()
    path = f"{cluster_folder(GENESIS)}/genesis.json"
    data = target.read(path)
    target.make_folder("demo/other")
    file = target.create("demo/other/genesis.json")
    file.write(data)
    file.close()
    with pytest.raises(ForeignFolderError, match="mislaid"):
        read_archived_genesis(FolderArchive(target), "demo/other")


# A crash at every operation on the archive.


def story(target: SimulatedDisk, disk: SimulatedDisk, steps: int) -> None:
    """What a member archives over a part of its life, in several lives of the archiver."""
    seal(disk, 1, 30)
    archiver(FolderArchive(target), disk).update()
    if steps > 1:
        merge(disk, 1, 20)
        checkpoint(disk, 15, 25)
        archiver(FolderArchive(target), disk).update()
    if steps > 2:
        clean(disk, 21)
        seal(disk, 31, 40)
        checkpoint(disk, 40)
        archiver(FolderArchive(target), disk).update()


def test_a_crash_at_every_operation_loses_nothing_and_the_next_life_goes_on(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Whatever has its name is whole; and the next life completes it."""
    scratch = tmp_path_factory.mktemp("scratch")
    operation = 0
    ends = 0
    while True:
        disk, target = make_disk(), archive_folder()
        target.crash_at(target.operations + operation)
        try:
            story(target, disk, 3)
        except CrashedError:
            target.crash_at(None)
        else:
            break
        for _, after in aftermaths(target, (operation,)):
            files = FolderArchive(after)
            check_whole(files, scratch, operation)
            archiver(files, disk).update()
            own = archiver(files, disk)
            own.update()
            assert own.progress[1].lag == 0
            check_whole(files, scratch, operation)
            ends += 1
        operation += 1
    assert operation > 100
    assert ends > operation


def check_whole(files: FolderArchive, scratch: Path, operation: int) -> None:
    """Every file that has its name can be used, so what names say is there can be restored."""
    if not files.list(f"{cluster_folder(GENESIS)}/amber/group=1"):
        return
    host, state = restorer(files, scratch).restore(None)
    assert state.damaged == (), operation
    if state.through:
        assert host.digest() == host_at(LOG, state.through).digest()
    for instance_id in list_group(files, place_of()).checkpoints:
        _, saved = restorer(files, scratch).restore(instance_id)
        assert (saved.base, saved.damaged) == (instance_id, ()), operation
    covered = max([0, *(last for _, last in runs_of(_ranges(files)))])
    assert state.through >= covered


def _ranges(files: FolderArchive) -> Iterator[tuple[int, int]]:
    for name in files.list(place_of().log):
        found = place_of().parse_segment(name)
        if found is not None:
            yield found


def test_an_unfinished_checkpoint_goes_on_where_it_was() -> None:
    disk, target = make_disk(), archive_folder()
    seal(disk, 1, 20)
    checkpoint(disk, 20)
    puts: list[str] = []

    class Counting(FolderArchive):
        def put(self, path: str, chunks: Iterable[bytes]) -> None:
            puts.append(path.rpartition("/")[2])
            if path.endswith("_manifest.json"):
                raise StorageError("away")
            super().put(path, chunks)

    with pytest.raises(StorageError, match="away"):
        archiver(Counting(target), disk).update()
    before = len(puts)
    with pytest.raises(StorageError, match="away"):
        archiver(Counting(target), disk).update()
    assert puts[before:] == ["_manifest.json"]
    # Of the right size, and not what was put there: read back before it counts.
    target.flip_bit(f"{place_of().checkpoint(20)}/host.msgpack", 9)
    archiver(FolderArchive(target), disk).update()
    assert archived(FolderArchive(target))[1] == [20]


# Addresses.


@pytest.mark.parametrize(
    "text",
    ["file:///mnt/backup", "s3://bucket", "s3://bucket/a/b?region=eu-central-1"],
)
def test_addresses_that_are_right(text: str) -> None:
    assert parse_address(text).text == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no scheme"),
        ("/mnt/backup", "no scheme"),
        ("file:relative", "no scheme"),
        ("file://backup/x", "three slashes"),
        ("file:///", "absolute path of a folder"),
        ("file:///a/../b", "without .."),
        ("gs://bucket/x", "scheme 'gs'"),
        ("ftp://host/x", "scheme 'ftp'"),
        ("s3://", "s3://bucket/prefix"),
        ("s3:///x", "s3://bucket/prefix"),
        ("s3://bucket/../x", "parts . and .."),
        ("s3://bucket/x?regoin=a", "option 'regoin'"),
        ("s3://bucket/x?region=", "option 'region'"),
        ("s3://bucket/x?scheme=ftp", "allowed: http, https"),
        ("http://[x", "no address"),
    ],
)
def test_addresses_that_are_wrong(text: str, why: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_address(text)
    assert why in str(caught.value)


def test_credentials_in_an_address_are_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_address("s3://key:secret@bucket/x")
    assert "credentials" in str(caught.value)
    assert "secret" not in str(caught.value)
