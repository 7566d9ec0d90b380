"""The simulated disk loses what a real one may lose, and nothing that was synced (F4)."""

from __future__ import annotations

from random import Random

import pytest

from ray_paxos.errors import FolderHeldError
from ray_paxos.testing.disk import CrashedError, SimulatedDisk

SEEDS = range(120)


def outcomes(disk: SimulatedDisk) -> list[dict[str, bytes]]:
    """What is on the disk after losses of power, each from the same moment."""
    found = []
    for seed in SEEDS:
        dark = disk.snapshot()
        dark.power_loss(Random(seed))
        found.append(dark.files())
    return found


def synced_file(disk: SimulatedDisk, path: str, data: bytes):
    file = disk.create(path)
    file.write(data)
    file.sync()
    disk.sync_folder(path.rpartition("/")[0])
    return file


def test_what_was_synced_survives_and_what_was_not_may_be_cut_anywhere():
    disk = SimulatedDisk()
    file = synced_file(disk, "f", b"synced")
    file.write(b"0123456789")
    found = {files["f"] for files in outcomes(disk)}
    assert all(data.startswith(b"synced") for data in found)
    assert b"synced" in found
    assert b"synced0123456789" in found
    assert any(b"synced" < data < b"synced0123456789" for data in found)
    assert any(data.endswith(b"\0") for data in found), "zeros behind what was written"


def test_a_kill_keeps_what_was_written_and_ends_the_process():
    disk = SimulatedDisk()
    file = disk.create("f")
    file.write(b"written")
    disk.kill()
    assert disk.read("f") == b"written"
    with pytest.raises(CrashedError):
        file.write(b"more")
    assert disk.open("f").position == 7


def test_in_reserved_room_sectors_come_or_stay_whole_and_in_any_order():
    disk = SimulatedDisk()
    file = disk.create("f")
    file.reserve(2_048)
    file.sync()
    disk.sync_folder("")
    file.write(b"a" * 512 + b"b" * 512 + b"c" * 500)
    found = {files["f"] for files in outcomes(disk)}
    assert all(len(data) == 2_048 for data in found)
    for data in found:
        assert data[:512] in (b"a" * 512, bytes(512))
        assert data[512:1_024] in (b"b" * 512, bytes(512))
        assert data[1_024:1_536] in (b"c" * 500 + bytes(12), bytes(512))
    assert any(data[:512] == bytes(512) and data[512] for data in found)


def test_names_that_were_not_synced_may_be_lost_mostly_from_the_end():
    disk = SimulatedDisk()
    synced_file(disk, "old", b"old")
    for name in ("a", "b"):
        disk.create(name).sync()
    file = disk.create("new")
    file.write(b"new")
    file.sync()
    disk.rename("new", "old")
    disk.unlink("a")
    in_order = {
        ("old",): b"old",
        ("a", "old"): b"old",
        ("a", "b", "old"): b"old",
        ("a", "b", "new", "old"): b"old",
    }
    found = outcomes(disk)
    assert {files.get("old") for files in found} == {b"old", b"new"}
    assert {tuple(sorted(files)) for files in found} >= {*in_order, ("b", "old")}
    disordered = [files for files in found if "b" not in files and files["old"] == b"new"]
    assert 0 < len(disordered) < len(found) // 3, "order within a folder is kept mostly"
    for files in found:
        assert not ("new" in files and files["old"] == b"new"), "both ends of a rename, or none"


def test_a_rename_without_a_sync_of_the_data_may_leave_an_empty_file():
    disk = SimulatedDisk()
    disk.create("tmp").write(b"content")
    disk.rename("tmp", "name")
    disk.sync_folder("")
    assert {files["name"] for files in outcomes(disk)} >= {b"", b"content"}


def test_a_rename_between_folders_happens_in_both_or_in_neither():
    disk = SimulatedDisk()
    for folder in ("x", "y"):
        disk.make_folder(folder)
    synced_file(disk, "x/f", b"f")
    disk.create("x/other").sync()
    disk.rename("x/f", "y/f")
    disk.create("y/more").sync()
    for files in outcomes(disk):
        assert ("x/f" in files) != ("y/f" in files)
    disk.sync_folder("y")
    assert all("y/f" in files and "x/f" not in files for files in outcomes(disk))


def test_a_failed_sync_loses_the_writes_for_good_though_they_can_be_read():
    disk = SimulatedDisk()
    file = synced_file(disk, "f", b"1")
    file.write(b"2")
    disk.fail_next_sync("f")
    with pytest.raises(OSError, match="Input/output"):
        file.sync()
    file.sync()
    assert disk.read("f") == b"12"
    assert {files["f"] for files in outcomes(disk)} == {b"1"}
    file.write(b"3")
    file.sync()
    assert {files["f"] for files in outcomes(disk)} == {b"1\x003"}


def test_a_full_disk_refuses_growth_but_not_what_was_reserved():
    disk = SimulatedDisk(capacity=1_000)
    file = disk.create("f")
    file.reserve(900)
    file.write(b"x" * 900)
    with pytest.raises(OSError, match="No space left"):
        file.write(b"x" * 101)
    with pytest.raises(OSError, match="No space left"):
        file.reserve(1_001)
    disk.set_capacity(None)
    file.write(b"x" * 101)


def test_processes_share_the_bytes_but_neither_locks_nor_lives():
    disk = SimulatedDisk()
    synced_file(disk, "f", b"")
    other = disk.process()
    file = other.open("f")
    lock = disk.lock("f")
    with pytest.raises(FolderHeldError):
        other.lock("f")
    with pytest.raises(FolderHeldError):
        disk.lock("f")
    disk.kill()
    held = other.lock("f")
    lock.release()
    with pytest.raises(FolderHeldError):
        disk.lock("f")
    file.write(b"alive")
    assert disk.read("f") == b"alive"
    disk.power_loss(Random(1))
    with pytest.raises(CrashedError):
        file.write(b"dead")
    disk.lock("f")
    held.release()


def test_a_crash_is_met_at_the_operation_asked_for_and_at_all_after():
    disk = SimulatedDisk()
    disk.crash_at(disk.operations + 2)
    disk.create("a")
    disk.create("b")
    for _ in range(2):
        with pytest.raises(CrashedError):
            disk.create("c")
    assert sorted(disk.files()) == ["a", "b"]


def test_the_same_seed_loses_the_same():
    disk = SimulatedDisk()
    for name in "abcdef":
        disk.create(name).write(name.encode() * 1_000)
    assert outcomes(disk) == outcomes(disk)


# Folders.


def test_only_an_empty_folder_can_be_removed():
    disk = SimulatedDisk()
    disk.make_folder("a/b")
    synced_file(disk, "a/b/f", b"f")
    for path in ("a", "a/b"):
        with pytest.raises(OSError, match="not empty"):
            disk.remove_folder(path)
    disk.unlink("a/b/f")
    disk.remove_folder("a/b")
    assert not disk.is_folder("a/b")
    assert disk.list("a") == []
    with pytest.raises(FileNotFoundError):
        disk.remove_folder("a/b")


def test_a_removed_folder_may_come_back_until_the_one_above_is_synced():
    disk = SimulatedDisk()
    disk.make_folder("a/b/c")
    synced_file(disk, "a/b/c/f", b"f")
    disk.unlink("a/b/c/f")
    disk.remove_folder("a/b/c")
    disk.remove_folder("a/b")
    some: list[dict[str, bytes]] = [{}, {"a/b/c/f": b"f"}]
    assert all(files in outcomes(disk) for files in some)
    for seed in range(40):
        dark = disk.snapshot()
        dark.power_loss(Random(seed))
        assert dark.is_folder("a/b/c") == dark.exists("a/b/c/f")
    # Syncing another folder says nothing about it.
    disk.sync_folder("")
    assert all(files in outcomes(disk) for files in some)
    disk.sync_folder("a")
    assert not any(outcomes(disk))


def stage(disk: SimulatedDisk, path: str, *names: str) -> None:
    with disk.staging(path) as directory:
        for name in names:
            (directory / name).write_bytes(name.encode())


def test_staged_files_are_written_one_by_one_and_only_by_a_block_that_ends_well():
    disk = SimulatedDisk()
    disk.make_folder("a")
    with disk.staging("a/b") as directory:
        (directory / "deep").mkdir()
        (directory / "deep" / "f").write_bytes(b"content")
        (directory / "empty").write_bytes(b"")
        assert disk.files() == {}
    assert disk.files() == {"a/b/deep/f": b"content", "a/b/empty": b""}
    assert disk.unsynced_bytes == len(b"content")
    with disk.checkout("a/b") as directory:
        assert (directory / "deep" / "f").read_bytes() == b"content"
        assert sorted(path.name for path in directory.iterdir()) == ["deep", "empty"]
    with pytest.raises(ValueError, match="broken"), disk.staging("a/c"):
        raise ValueError("broken")
    assert not disk.exists("a/c")
    disk.crash_at(disk.operations + 3)
    with pytest.raises(CrashedError):
        stage(disk, "a/d", "f", "g")
    disk.crash_at(None)
    assert disk.list("a/d") == ["f"]
