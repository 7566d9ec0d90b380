"""Receiving checkpoints: in chunks, resumable, never outside the folder, verified as a whole."""

from __future__ import annotations

import msgspec
import pytest

from ray_paxos.core.checkpoint import (
    MANIFEST,
    UNFINISHED_MANIFEST,
    CheckpointFile,
    Manifest,
    decode_manifest,
)
from ray_paxos.errors import DamageError, StorageError, StorageFullError
from ray_paxos.storage.checkpoint_folders import CheckpointFolder
from ray_paxos.storage.checkpoints import published, verify_checkpoint
from ray_paxos.storage.disk import LocalDisk
from ray_paxos.testing.disk import SimulatedDisk
from tests.storage.checkpoint_support import (
    DIGESTS,
    FOLDER,
    GENESIS,
    GROUP,
    REGISTRY,
    empty_place,
    make_cut,
    make_host,
    place_on,
    save,
)

HOST = "host.msgpack"


@pytest.fixture
def sender() -> CheckpointFolder:
    return save(empty_place()[1], 9, 11)


@pytest.fixture
def receiving() -> tuple[SimulatedDisk, CheckpointFolder]:
    disk, place = empty_place()
    return disk, CheckpointFolder.open(place)


def manifest_from(sender: CheckpointFolder, instance_id: int = 11) -> Manifest:
    data = sender.manifest_bytes(instance_id)
    assert data is not None
    return decode_manifest(data, "the sender", genesis=GENESIS, group=GROUP)


def send(sender: CheckpointFolder, folder: CheckpointFolder, *paths: str, chunk: int = 50) -> int:
    """Send what is missing of these files, or of all; returns how many bytes."""
    manifest = manifest_from(sender)
    sent = 0
    for path, present in folder.begin(manifest).items():
        file = manifest.file(path)
        assert file is not None
        while (not paths or path in paths) and present < file.size:
            data = sender.read_chunk(11, path, present, chunk)
            assert data
            present = folder.write_chunk(11, path, present, data)
            sent += len(data)
    return sent


def test_a_received_checkpoint_is_the_one_that_was_sent(sender, receiving, tmp_path):
    disk, folder = receiving
    local = LocalDisk(tmp_path)
    local.make_folder(FOLDER)
    for each in (folder, CheckpointFolder.open(place_on(local))):
        assert send(sender, each) == sender.verify(11).byte_count
        assert published(each.place) == ()
        assert each.publish(11) == sender.verify(11)
        assert each.instances == published(each.place) == (11,)
        assert each.transfer is None
        loaded = each.load(11, REGISTRY)
        assert loaded.cut == make_cut(11)
        assert loaded.host.digest() == DIGESTS[11]
        assert each.manifest_bytes(11) == sender.manifest_bytes(11)
    assert disk.exists(f"{FOLDER}/0000000000000011/machine-0004")


def test_chunks_that_come_twice_late_or_early_change_nothing(sender, receiving):
    disk, folder = receiving
    assert folder.write_chunk(11, HOST, 0, b"early") == 0
    assert folder.staged(sender.verify(11)) == {}
    folder.begin(manifest_from(sender))
    data = sender.read_chunk(11, HOST, 0, 60)
    assert data is not None
    assert folder.write_chunk(11, HOST, 40, data[40:]) == 0
    assert folder.write_chunk(11, HOST, 0, data[:40]) == 40
    assert folder.write_chunk(11, HOST, 0, data[:40]) == 40
    assert folder.write_chunk(11, HOST, 30, data[30:]) == 40
    assert folder.write_chunk(9, HOST, 40, data[40:]) == 0
    assert folder.write_chunk(11, HOST, 40, data[40:]) == 60
    send(sender, folder)
    folder.publish(11)
    before = disk.files()
    assert folder.write_chunk(11, HOST, 0, b"late") == 0
    assert folder.publish(11) == sender.verify(11)
    assert folder.begin(manifest_from(sender)) == {f.path: f.size for f in sender.verify(11).files}
    assert disk.files() == before


def test_bytes_that_no_manifest_lists_are_refused(sender, receiving):
    disk, folder = receiving
    folder.begin(manifest_from(sender))
    before = disk.files()
    for path in (MANIFEST, UNFINISHED_MANIFEST, "../x", "/x", "machine-0000", "", "other"):
        with pytest.raises(DamageError, match="is not in the manifest"):
            folder.write_chunk(11, path, 0, b"x")
    file = sender.verify(11).file(HOST)
    assert file is not None
    with pytest.raises(DamageError, match="beyond the end"):
        folder.write_chunk(11, HOST, 0, bytes(file.size + 1))
    assert disk.files() == before


def test_damage_on_the_way_is_found_and_only_that_is_fetched_again(sender, receiving):
    disk, folder = receiving
    send(sender, folder)
    wrong = ("machine-0000/table.plain", "sessions.msgpack")
    for path in wrong:
        disk.flip_bit(f"{FOLDER}/0000000000000011/{path}", 77)
    with pytest.raises(DamageError, match=r"table\.plain: wrong checksum"):
        folder.publish(11)
    assert published(folder.place) == ()
    sizes = {file.path: file.size for file in sender.verify(11).files}
    assert send(sender, folder) == sum(sizes[path] for path in wrong)
    folder.publish(11)
    assert folder.load(11, REGISTRY).host.digest() == DIGESTS[11]


def test_a_transfer_that_is_not_complete_is_not_published(sender, receiving):
    _, folder = receiving
    with pytest.raises(StorageError, match="no checkpoint 11 is being received"):
        folder.publish(11)
    send(sender, folder, HOST, "sessions.msgpack")
    with pytest.raises(DamageError, match="is missing"):
        folder.publish(11)
    with pytest.raises(StorageError, match="no checkpoint 9 is being received"):
        folder.publish(9)
    send(sender, folder)
    folder.publish(11)


def test_what_an_earlier_life_left_beside_the_transfer_goes(sender, receiving):
    disk, folder = receiving
    send(sender, folder)
    root = f"{FOLDER}/0000000000000011"
    disk.create(f"{root}/machine-0002/stray").write(b"x")
    file = disk.open(f"{root}/{HOST}")
    file.write(b"too long")
    disk.kill()
    folder = CheckpointFolder.open(place_on(disk))
    assert folder.begin(manifest_from(sender))[HOST] == 0
    send(sender, folder)
    folder.publish(11)
    verify_checkpoint(folder.place, 11)


def test_one_transfer_at_a_time_and_only_beyond_what_is_there(sender, receiving):
    disk, folder = receiving
    folder.begin(manifest_from(sender, 9))
    folder.begin(manifest_from(sender, 11))
    assert disk.list(FOLDER) == ["0000000000000011"]
    folder.begin(manifest_from(sender, 9))
    assert disk.list(FOLDER) == ["0000000000000009"]
    folder.save(make_host(10), make_cut(10))
    assert folder.transfer is None
    assert disk.list(FOLDER) == ["0000000000000010"]
    folder.begin(manifest_from(sender, 9))
    disk.kill()
    folder = CheckpointFolder.open(place_on(disk))
    assert folder.transfer is None
    assert disk.list(FOLDER) == ["0000000000000010"]
    folder.begin(manifest_from(sender, 11))
    folder.save(make_host(9), make_cut(9))
    assert folder.transfer == sender.verify(11)
    folder.abandon()
    folder.abandon()
    assert disk.list(FOLDER) == ["0000000000000009", "0000000000000010"]


def test_another_content_for_the_same_instance_begins_anew(sender, receiving):
    _, folder = receiving
    manifest = manifest_from(sender)
    send(sender, folder)
    files = (CheckpointFile(HOST, 3, 1), *manifest.files[1:])
    other = msgspec.structs.replace(manifest, files=files)
    assert set(folder.begin(other).values()) == {0}
    assert folder.staged(manifest) == {}
    assert folder.staged(other) == dict.fromkeys((f.path for f in files), 0)


def test_what_a_failed_removal_left_does_not_stand_in_the_way(sender, receiving):
    disk, folder = receiving
    root = f"{FOLDER}/0000000000000011"
    disk.make_folder(f"{root}/machine-0002")
    for name in (UNFINISHED_MANIFEST, HOST, "machine-0002/state.pickle"):
        disk.create(f"{root}/{name}").write(b"left")
    assert send(sender, folder) == sender.verify(11).byte_count
    folder.publish(11)


def test_a_manifest_of_another_cluster_or_group_is_not_begun(sender, receiving):
    disk, folder = receiving
    for changes in ({"genesis": bytes(16)}, {"group": 2}):
        with pytest.raises(DamageError, match="another cluster or group"):
            folder.begin(msgspec.structs.replace(manifest_from(sender), **changes))
    assert disk.list(FOLDER) == []


def test_damage_is_not_sent(sender):
    disk = sender.place.disk
    assert sender.manifest_bytes(8) is None
    assert sender.read_chunk(8, HOST, 0, 10) is None
    assert sender.read_chunk(11, "other", 0, 10) is None
    assert sender.read_chunk(11, HOST, 10_000, 10) == b""
    data = disk.read(f"{FOLDER}/0000000000000011/{HOST}")
    assert sender.read_chunk(11, HOST, 5, 10) == data[5:15]
    assert sender.read_chunk(11, HOST, len(data) - 5, 10) == data[-5:]
    disk.flip_bit(f"{FOLDER}/0000000000000011/machine-0001/lines", 3)
    with pytest.raises(DamageError, match="lines: wrong checksum"):
        sender.manifest_bytes(11)
    disk.overwrite(f"{FOLDER}/0000000000000011/{HOST}", data[:-1])
    with pytest.raises(DamageError, match=f"shorter than {len(data)} bytes"):
        sender.read_chunk(11, HOST, 0, 1_000)
    sender.drop(11)
    assert sender.read_chunk(11, HOST, 0, 10) is None


def test_a_chunk_that_finds_no_room_leaves_the_file_as_it_was(sender, receiving):
    disk, folder = receiving
    send(sender, folder, HOST)
    used = sum(map(len, disk.files().values()))
    disk.set_capacity(used + 10)
    before = disk.files()
    data = sender.read_chunk(11, "sessions.msgpack", 0, 50)
    assert data is not None
    with pytest.raises(StorageFullError, match="make room"):
        folder.write_chunk(11, "sessions.msgpack", 0, data)
    after = {path: data for path, data in disk.files().items() if data}
    assert after == before
    disk.set_capacity(None)
    send(sender, folder)
    folder.publish(11)
