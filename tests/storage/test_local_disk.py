"""The operating system's disk keeps the promises that storage is written against."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from ray_paxos.core.checkpoint import Cut
from ray_paxos.core.records import VoteCast, VoteFloorSet
from ray_paxos.core.settings import AcceptorSettings, LearnerSettings
from ray_paxos.core.values import CommandBatch, MachineMount, SessionId, SessionOpen, Value
from ray_paxos.errors import FolderHeldError, StorageError, StorageFullError
from ray_paxos.machines import kv
from ray_paxos.machines.host import MachineHost
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.storage.checkpoint_folders import CheckpointFolder
from ray_paxos.storage.checkpoints import CheckpointPlace
from ray_paxos.storage.disk import LocalDisk, storage_errors
from ray_paxos.storage.folder import activate_member, stage_member
from ray_paxos.storage.journal import JournalSettings
from ray_paxos.storage.opening import open_acceptor, open_learner
from ray_paxos.storage.parquet import ParquetCodec
from ray_paxos.storage.parquet_tables import ParquetTables
from tests.storage.support import (
    BALLOT,
    GENESIS,
    MEMBER_ID,
    acceptor_state,
    learner_of,
    make_seals,
)

HOLD = """
import sys
from ray_paxos.storage.disk import LocalDisk
lock = LocalDisk(sys.argv[1]).lock("lock")
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def disk(tmp_path) -> LocalDisk:
    disk = LocalDisk(tmp_path / "cluster" / "member")
    disk.make_folder("")
    return disk


def write(disk: LocalDisk, path: str, data: bytes) -> None:
    file = disk.create(path)
    file.write(data)
    file.sync()
    file.close()


def test_files_are_written_read_cut_and_gone_on_with(disk):
    file = disk.create("f")
    file.write(b"0123456789")
    assert (file.position, file.size) == (10, 10)
    file.truncate(4)
    assert (file.position, file.size) == (4, 4)
    file.write(b"abc")
    file.sync()
    file.close()
    file.close()
    assert disk.read("f") == b"0123abc"
    assert disk.read("f", 2) == b"23abc"
    assert disk.read("f", 2, 3) == b"23a"
    assert disk.size("f") == 7
    file = disk.open("f")
    file.write(b"!")
    file.close()
    assert disk.read("f") == b"0123abc!"


def test_reserved_room_reads_as_zeros_and_is_really_taken(disk):
    file = disk.create("f")
    file.write(b"data")
    file.reserve(1_000_000)
    file.reserve(10)
    assert (file.position, file.size) == (4, 1_000_000)
    file.write(b"more")
    file.sync()
    file.close()
    assert disk.read("f") == b"datamore" + bytes(999_992)
    path = Path(disk.where("f"))
    assert path.stat().st_blocks * 512 >= 1_000_000


def test_reserved_room_is_written_and_not_only_allocated(disk, monkeypatch):
    """An overwrite needs nothing but its own sync: no extent to be marked as written."""
    monkeypatch.setattr(os, "posix_fallocate", lambda descriptor, offset, length: None)
    file = disk.create("f")
    file.write(b"data")
    file.reserve(3_000_000)
    assert file.position == 4
    file.sync()
    file.close()
    path = Path(disk.where("f"))
    assert path.stat().st_blocks * 512 >= 3_000_000
    assert path.read_bytes() == b"data" + bytes(2_999_996)


def test_names_are_made_changed_listed_and_removed(disk):
    write(disk, "b", b"b")
    write(disk, "a", b"a")
    disk.make_folder("x/y")
    disk.make_folder("x/y")
    assert disk.list("") == ["a", "b", "x"]
    disk.rename("a", "x/y/b")
    disk.rename("b", "x/y/b")
    disk.sync_folder("x/y")
    assert disk.read("x/y/b") == b"b"
    assert disk.exists("x")
    assert not disk.exists("b")
    disk.unlink("x/y/b")
    assert disk.list("x/y") == []


def test_folders_are_staged_read_and_removed(disk):
    disk.make_folder("a")
    with disk.staging("a/b") as directory:
        (directory / "deep").mkdir()
        (directory / "deep" / "f").write_bytes(b"content")
    assert disk.read("a/b/deep/f") == b"content"
    assert [disk.is_folder(path) for path in ("a/b", "a/b/deep/f", "a/c")] == [True, False, False]
    with pytest.raises(FileExistsError), disk.staging("a/b"):
        pass
    with disk.checkout("a/b") as directory:
        assert (directory / "deep" / "f").read_bytes() == b"content"
    (Path(disk.where("a")) / "link").symlink_to("b")
    assert disk.exists("a/link")
    assert not disk.is_folder("a/link")
    with pytest.raises(OSError, match="not empty"):
        disk.remove_folder("a/b/deep")
    disk.unlink("a/b/deep/f")
    disk.remove_folder("a/b/deep")
    disk.remove_folder("a/b")
    with pytest.raises(FileNotFoundError):
        disk.remove_folder("a/b")


def test_nothing_is_overwritten_and_nothing_missing_is_made(disk):
    write(disk, "f", b"old")
    with pytest.raises(FileExistsError):
        disk.create("f")
    assert disk.read("f") == b"old"
    for call in (disk.read, disk.open, disk.size, disk.list, disk.unlink, disk.lock):
        with pytest.raises(FileNotFoundError):
            call("missing")
    with pytest.raises(AssertionError):
        disk.read("../f")


def test_a_lock_is_held_against_every_other_process_until_its_holder_ends(disk):
    write(disk, "lock", b"")
    root = Path(__file__).parents[2]
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, disk.where("")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=root,
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(FolderHeldError, match="held by another process"):
            disk.lock("lock")
    finally:
        holder.kill()
        holder.wait()
        holder.stdin.close()
        holder.stdout.close()
    lock = disk.lock("lock")
    with pytest.raises(FolderHeldError):
        disk.lock("lock")
    lock.release()
    lock.release()
    disk.lock("lock").release()


def member(root: Path) -> LocalDisk:
    disk = LocalDisk(root / "amber")
    stage_member(disk, GENESIS, MEMBER_ID)
    activate_member(disk)
    return disk


def open_learning(disk: LocalDisk):
    return open_learner(
        disk,
        GENESIS,
        MEMBER_ID,
        settings=LearnerSettings(),
        codec=ParquetCodec(),
        tables=ParquetTables(),
        registry=MachineRegistry(),
        random=Random(1),
        now_ns=0,
    )


def test_a_member_lives_on_a_real_disk(tmp_path):
    disk = member(tmp_path)
    settings = JournalSettings(file_bytes=20_000, chunk_bytes=8_000)
    acceptor = open_acceptor(
        disk,
        GENESIS,
        MEMBER_ID,
        settings=AcceptorSettings(),
        clock=lambda: 0,
        journal_settings=settings,
    )
    for instance_id in range(1, 60):
        acceptor.store.write([VoteCast(1, instance_id, BALLOT, b"v" * 900)])
        acceptor.store.sync()
    assert len(disk.list("acceptor/journal")) >= 3
    acceptor.store.close()
    acceptor = open_acceptor(disk, GENESIS, MEMBER_ID, settings=AcceptorSettings(), clock=lambda: 0)
    assert acceptor.incarnation == 2
    assert len(acceptor_state(acceptor).groups[1].votes) == 59
    learner = open_learning(disk)
    learner.store.write(make_seals(3, 4))
    learner.store.sync()
    learner.store.close()
    assert learner_of(open_learning(disk)).durable_through == 7


def test_errors_name_the_file_and_what_to_do(tmp_path):
    with (
        pytest.raises(StorageError, match="cannot read /f: No such file"),
        storage_errors("cannot read /f"),
    ):
        LocalDisk(tmp_path).read("f")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes in read-only folders, too")
def test_a_folder_without_permission_is_told(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o500)
    with pytest.raises(StorageError, match="Permission denied"):
        member(tmp_path / "data")


def test_a_path_through_a_file_is_told(tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(StorageError, match=r"amber.*Not a directory"):
        member(tmp_path / "data")


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A small file system of its own; skips where this user may not mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"mounting needs rights that this user has not: {error}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)


def test_a_full_disk_is_told_and_heals(tmp_path):
    with mounted(tmp_path / "small", "size=1500k"):
        disk = member(tmp_path / "small")
        settings = JournalSettings(file_bytes=300_000, chunk_bytes=100_000)
        acceptor = open_acceptor(
            disk,
            GENESIS,
            MEMBER_ID,
            settings=AcceptorSettings(),
            clock=lambda: 0,
            journal_settings=settings,
        )
        write(disk, "filler", bytes(600_000))
        written = 0
        while acceptor.store.reserve(20_100):
            written += 1
            acceptor.store.write([VoteCast(1, written, BALLOT, b"v" * 20_000)])
            acceptor.store.sync()
        assert 5 < written < 45
        write(disk, "rest", bytes(os.statvfs(disk.where("")).f_bavail * 4_096))
        with pytest.raises(StorageFullError, match="make room"):
            stage_member(LocalDisk(tmp_path / "small" / "coral"), GENESIS, 13)
        assert not acceptor.store.reserve(20_100)
        disk.unlink("filler")
        assert acceptor.store.reserve(20_100)
        acceptor.store.write([VoteFloorSet(1, written), VoteCast(1, written + 1, BALLOT, b"v")])
        acceptor.store.sync()
        acceptor.store.close()
        stage_member(LocalDisk(tmp_path / "small" / "coral"), GENESIS, 13)
        disk.unlink("rest")
        acceptor = open_acceptor(
            disk, GENESIS, MEMBER_ID, settings=AcceptorSettings(), clock=lambda: 0
        )
        assert sorted(acceptor_state(acceptor).groups[1].votes) == [written, written + 1]


def test_a_read_only_disk_is_told(tmp_path):
    with mounted(tmp_path / "disk", "size=3m"):
        disk = member(tmp_path / "disk")
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "disk")], check=True)
        with pytest.raises(StorageError, match="Read-only file system"):
            open_acceptor(disk, GENESIS, MEMBER_ID, settings=AcceptorSettings(), clock=lambda: 0)
        with pytest.raises(StorageError, match="Read-only file system"):
            stage_member(LocalDisk(tmp_path / "disk" / "birch"), GENESIS, 12)


def test_a_checkpoint_that_finds_no_room_is_told_and_leaves_nothing(tmp_path):
    host = MachineHost(MachineRegistry(), group=1)
    host.apply(1, Value(0, (MachineMount("map", "kv", 1), SessionOpen("first"))))
    puts = tuple(kv.encode_put(f"key{n}", Random(n).randbytes(1_000)) for n in range(2_000))
    host.apply(2, Value(1, (CommandBatch(SessionId(1, 1), 1, 1, "map", puts),)))
    with mounted(tmp_path / "small", "size=1500k"):
        disk = LocalDisk(tmp_path / "small")
        disk.make_folder("checkpointer")
        place = CheckpointPlace(disk, ParquetTables(), bytes(16), 1, "checkpointer")
        folder = CheckpointFolder.open(place)
        cut = Cut(2, bytes(16), bytes(16), BALLOT, GENESIS.groups[1].configuration)
        with pytest.raises(StorageFullError, match="make room"):
            folder.save(host, cut)
        assert disk.list("checkpointer") == []
        write(disk, "rest", bytes(1_400_000))
        disk.unlink("rest")
