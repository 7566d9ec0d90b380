"""Disks of a run's own: that they are slow and full as they say, and are well again afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import chaos_disks
from chaos_disks import LoopDisk, check_disks, make_disk
from ray_paxos.errors import ClusterError, ConfigurationError


def sync_s(folder: Path) -> float:
    """How long a small write takes until it is durable."""
    started_s = time.monotonic()
    with (folder / "written").open("ab") as file:
        file.write(bytes(100))
        file.flush()
        os.fdatasync(file.fileno())
    return time.monotonic() - started_s


def write_much(path: Path) -> None:
    with path.open("wb") as file:
        for _ in range(100):
            file.write(os.urandom(100_000))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LoopDisk]:
    try:
        check_disks()
        made = make_disk(tmp_path / "image", tmp_path / "disk")
    except (ConfigurationError, ClusterError) as error:
        pytest.skip(f"no disks of its own here: {error}")
    yield made
    made.close()
    assert not os.path.ismount(made.folder)


def test_a_full_disk_takes_nothing_and_then_takes_it_again(disk: LoopDisk) -> None:
    before = shutil.disk_usage(disk.folder).free
    disk.fill(60.0)
    with pytest.raises(OSError, match="No space left"):
        write_much(disk.folder / "more")
    (disk.folder / "more").unlink()
    disk.heal()
    sync_s(disk.folder)
    assert shutil.disk_usage(disk.folder).free > 0.9 * before


def test_a_full_disk_has_room_again_after_its_time(disk: LoopDisk) -> None:
    before = shutil.disk_usage(disk.folder).free
    disk.fill(0.2)
    deadline = time.monotonic() + 30
    while shutil.disk_usage(disk.folder).free < 0.9 * before:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_disk_that_is_filled_twice_is_full_until_the_later_one_ends(disk: LoopDisk) -> None:
    disk.fill(60.0)
    disk.fill(0.1)
    deadline = time.monotonic() + 30
    while len(list(disk.folder.glob("filler-*"))) > 1:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with pytest.raises(OSError, match="No space left"):
        write_much(disk.folder / "more")
    disk.heal()
    sync_s(disk.folder)


def test_a_slow_disk_makes_whoever_writes_wait(disk: LoopDisk) -> None:
    disk.slow(0.4, 30.0)
    deadline = time.monotonic() + 20
    waits = 0
    # On another disk a write may be that slow once in a while, but not every time.
    while waits < 3:
        waits += sync_s(disk.folder) > 0.2
        assert time.monotonic() < deadline
    disk.heal()
    # Not frozen for ever.
    sync_s(disk.folder)


def test_a_slow_disk_is_well_after_its_time(disk: LoopDisk) -> None:
    disk.slow(0.1, 0.3)
    deadline = time.monotonic() + 30
    while any(thread.is_alive() for thread in disk._slowing):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    sync_s(disk.folder)


def test_a_disk_is_thawed_even_if_the_run_is_killed(disk: LoopDisk, repository: Path) -> None:
    program = (
        "import os, pathlib, signal, sys, time, chaos_disks\n"
        "chaos_disks.LATE_S = 3.0\n"
        "disk = chaos_disks.LoopDisk(pathlib.Path(sys.argv[1]))\n"
        "disk.slow(60.0, 0.5)\n"
        "time.sleep(0.3)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(disk.folder)],
        env=os.environ | {"PYTHONPATH": f"{repository}{os.pathsep}{repository / 'jobs'}"},
        check=False,
    )
    assert done.returncode == -9
    # Frozen until the shell thaws it, 3.5 s after it was begun.
    assert sync_s(disk.folder) > 0.5


def test_a_disk_that_cannot_be_made_is_told(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"is missing: .*the program mkfs\.ext4"):
        check_disks()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigurationError, match="the rights of root"):
        check_disks()
    monkeypatch.setattr(chaos_disks, "_run", _refuse)
    with pytest.raises(ClusterError, match="not permitted"):
        make_disk(tmp_path / "image", tmp_path / "disk")


def _refuse(*command: str) -> None:
    raise ClusterError(f"{command[0]}: not permitted")


def test_mounts_end_with_the_run_even_if_it_is_killed(
    disk: LoopDisk, tmp_path: Path, repository: Path
) -> None:
    program = (
        "import os, pathlib, signal, sys, chaos_disks\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "chaos_disks.hide_mounts()\n"
        "made = chaos_disks.make_disk(folder / 'image2', folder / 'disk2')\n"
        "print(os.path.ismount(made.folder), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": f"{repository}{os.pathsep}{repository / 'jobs'}"},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (-9, "True\n")
    assert not os.path.ismount(tmp_path / "disk2")
    deadline = time.monotonic() + 30
    while "image2" in subprocess.check_output(["losetup", "-a"], text=True):
        assert time.monotonic() < deadline
        time.sleep(0.05)
