"""Disks of a run's own that can be slow and full: an ext4 file system in a file for each member.

Both faults are real ones of the kernel, on that one file system; nothing between it and the roles
is replaced. They need root, loop devices and `mkfs.ext4`.

- *Full*: what room there is, is allotted to one file (`fallocate`). Every write that needs a block
  fails with ENOSPC, until the file is deleted.
- *Slow*: the file system is frozen (FIFREEZE, as for a snapshot of its disk) for a moment, thawed
  for a shorter one, and so on. While it is frozen whoever writes, syncs, renames or deletes there
  waits in the kernel, and cannot even be killed; reads go on.

Shells of their own end what was begun, so that nothing stays frozen or full when the run is gone;
and the run's mounts are its own, so that they go with it. All disks lie on one real one in the end,
and each freeze syncs: what is frozen very often slows the others, too.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import itertools
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

from ray_paxos.errors import ClusterError, ConfigurationError

DISK_BYTES = 400_000_000
THAW_S = 0.05
LATE_S = 5.0
"""So long after its time a disk is thawed in any case."""
FILLER = "filler"
TOOLS = ("mkfs.ext4", "mount", "umount", "fsfreeze")
MOUNT_S = 60.0
NEW_MOUNTS = 0x00020000
"""CLONE_NEWNS of linux/sched.h."""
FREEZE, THAW = 0xC0045877, 0xC0045878
"""FIFREEZE and FITHAW of linux/fs.h."""
THAW_SCRIPT = """sleep "$1"; fsfreeze -u "$0" """
FULL_SCRIPT = """sleep "$1"; rm -f "$0" """


def check_disks() -> None:
    """Whether this machine can have disks of a run's own.

    Raises:
        ConfigurationError: It cannot; says what is missing.
    """
    missing = [f"the program {name}" for name in TOOLS if shutil.which(name) is None]
    if os.geteuid() != 0:
        missing.insert(0, "the rights of root")
    if not Path("/dev/loop-control").exists():
        missing.append("loop devices")
    if missing:
        raise ConfigurationError(
            f"--faults: slow-disk and full-disk mount file systems of their own; here is missing: "
            f"{', '.join(missing)}"
        )


def make_disk(image: Path, folder: Path) -> LoopDisk:
    """Make a file system in a file and mount it.

    Args:
        image: The file; takes no more of the disk than is written.
        folder: Made where it is not there.

    Raises:
        ClusterError: It cannot be made or mounted; says why.
    """
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    folder.mkdir(parents=True, exist_ok=True)
    _run("mkfs.ext4", "-q", "-m", "0", str(image))
    _run("mount", "-o", "loop", str(image), str(folder))
    return LoopDisk(folder)


def hide_mounts() -> None:
    """Have what is mounted from here on seen by this thread and all that it starts, alone.

    It is unmounted by the kernel once the last of these has ended, however that came about.

    Raises:
        ClusterError: The kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_MOUNTS) != 0:
        raise ClusterError(f"no mounts of its own: {os.strerror(ctypes.get_errno())}")
    _run("mount", "--make-rprivate", "/")


class LoopDisk:
    """One file system of a run's own.

    Attributes:
        folder: Where it is mounted.
    """

    def __init__(self, folder: Path) -> None:
        """Stand for what is mounted there."""
        self.folder = folder
        self._guards: list[subprocess.Popen[bytes]] = []
        self._slowing: list[threading.Thread] = []
        self._is_healing = threading.Event()
        self._count = itertools.count(1)

    def slow(self, freeze_s: float, for_s: float) -> None:
        """Freeze it again and again for a time; returns at once.

        Args:
            freeze_s: For how long at a time.
            for_s: For how long altogether.
        """
        self._guard(THAW_SCRIPT, self.folder, for_s + LATE_S)
        thread = threading.Thread(target=self._slow, args=(freeze_s, for_s), daemon=True)
        self._slowing = [*(each for each in self._slowing if each.is_alive()), thread]
        thread.start()

    def _slow(self, freeze_s: float, for_s: float) -> None:
        end = time.monotonic() + for_s
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            while time.monotonic() < end and not self._is_healing.is_set():
                # Two that slow it at a time freeze and thaw it for each other.
                with contextlib.suppress(OSError):
                    fcntl.ioctl(folder, FREEZE, 0)
                self._is_healing.wait(freeze_s)
                with contextlib.suppress(OSError):
                    fcntl.ioctl(folder, THAW, 0)
                self._is_healing.wait(THAW_S)
        finally:
            os.close(folder)

    def fill(self, for_s: float) -> None:
        """Leave no room on it for a time; returns once it is full."""
        # Of its own, so that one that was begun earlier ends by itself.
        filler = self.folder / f"{FILLER}-{next(self._count)}"
        self._guard(FULL_SCRIPT, filler, for_s)
        with filler.open("wb") as file:
            allotted = 0
            room = os.statvfs(self.folder)
            part = room.f_bfree * room.f_frsize
            while part >= room.f_frsize:
                try:
                    os.posix_fallocate(file.fileno(), allotted, part)
                except OSError:
                    # Others write meanwhile, and a part of it is for the file system itself.
                    part //= 2
                else:
                    allotted += part

    def heal(self) -> None:
        """End what slows or fills it, now."""
        self._is_healing.set()
        for thread in self._slowing:
            thread.join()
        self._is_healing.clear()
        for guard in self._guards:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(guard.pid, signal.SIGKILL)
            guard.wait()
        self._guards, self._slowing = [], []
        for filler in self.folder.glob(f"{FILLER}-*"):
            filler.unlink(missing_ok=True)

    def close(self) -> None:
        """Heal it and unmount it; the file stays.

        Raises:
            ClusterError: It cannot be unmounted.
        """
        self.heal()
        _run("umount", str(self.folder))

    def _guard(self, script: str, path: Path, after_s: float) -> None:
        """Have a shell do something with a path after a time, whatever becomes of this process."""
        self._guards = [guard for guard in self._guards if guard.poll() is None]
        guard = subprocess.Popen(
            ["/bin/sh", "-c", script, str(path), f"{after_s:.3f}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._guards.append(guard)


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=MOUNT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ClusterError(f"{' '.join(command)}: {error}") from error
    if done.returncode != 0:
        raise ClusterError(f"{' '.join(command)}: {done.stderr.strip()}")
