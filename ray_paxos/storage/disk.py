"""The disk as the storage layer sees it: what it may ask for, and what it is promised.

All of storage is written against `Disk`, so that the simulator runs the very code that production
runs, on a disk that loses what a real one may lose. The promises are those of POSIX and no more:

- What `write` wrote is durable only after `sync` of that file returned; until then any part of it
  may be lost when the power goes, and all of it can be read by the next process after a kill.
- A name made, changed or removed in a folder is durable only after `sync_folder` of that folder.
- A failed `sync` may have thrown away what it was to write; calling it again proves nothing.
- A sector of `SECTOR_BYTES` is written whole or not at all.

Errors are `OSError`, as the operating system names them; `storage_errors` turns them into the
typed errors that the rest of the package knows.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from ray_paxos.errors import FolderHeldError, StorageError, StorageFullError

SECTOR_BYTES = 512
MACHINE_ID_PATHS = ("/etc/machine-id", "/var/lib/dbus/machine-id")


class DiskFile(Protocol):
    """One open file; writes go to `position` and move it.

    Attributes:
        size: Length of the file in bytes, reserved room included.
        position: Where the next write lands.
    """

    @property
    def size(self) -> int:
        """Length of the file in bytes."""

    @property
    def position(self) -> int:
        """Where the next write lands, in bytes from the start."""

    def write(self, data: bytes) -> None:
        """Write all of `data` at `position`; not durable before `sync`."""

    def sync(self) -> None:
        """Make everything written durable, with the length (fdatasync)."""

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes; `position` moves back to it if it was behind."""

    def reserve(self, size: int) -> None:
        """Make the file at least `size` bytes long with room on the disk, reading as zeros.

        Raises:
            OSError: ENOSPC where there is no room; nothing is lost by it.
        """

    def close(self) -> None:
        """Close; makes nothing durable. Calling it again does nothing."""


class DiskLock(Protocol):
    """A lock on one file, held until released or until the process ends."""

    def release(self) -> None:
        """Let others lock; calling it again does nothing."""


class Disk(Protocol):
    """A folder on a disk; paths are relative to it, with `/` between the parts."""

    def where(self, path: str) -> str:
        """The path as a person finds it; for messages."""

    def read(self, path: str, offset: int = 0, size: int | None = None) -> bytes:
        """The bytes of a file from `offset` on, at most `size` of them.

        Raises:
            FileNotFoundError: No such file.
        """

    def create(self, path: str) -> DiskFile:
        """A new empty file.

        Raises:
            FileExistsError: There is one already; it is untouched.
        """

    def open(self, path: str) -> DiskFile:
        """An existing file, to go on writing at its end.

        Raises:
            FileNotFoundError: No such file.
        """

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder."""

    def is_folder(self, path: str) -> bool:
        """Whether there is a folder; a link to one is none."""

    def list(self, path: str) -> Sequence[str]:
        """Names in a folder, ascending.

        Raises:
            FileNotFoundError: No such folder.
        """

    def size(self, path: str) -> int:
        """Length of a file in bytes."""

    def make_folder(self, path: str) -> None:
        """Make a folder and those above it, durably; does nothing where it is durably there."""

    def remove_folder(self, path: str) -> None:
        """Remove an empty folder; durable once the folder above is synced.

        Until then a loss of power may bring it back, with files whose removal was not synced.

        Raises:
            OSError: ENOTEMPTY where something is in it; FileNotFoundError where it is not there.
        """

    def staging(self, path: str) -> AbstractContextManager[Path]:
        """A new folder in which code that knows only the operating system's files may write.

        Args:
            path: Of the folder; what is above it is there, it is not.

        Returns:
            A context manager that gives the real path of an empty directory. After a block that
            raised nothing its regular files are below `path`, not yet durable; after one that
            raised, some of them may be.
        """

    def checkout(self, path: str) -> AbstractContextManager[Path]:
        """A folder's files for code that knows only the operating system's; to be read only.

        Returns:
            A context manager that gives the real path of a directory with the same content.
        """

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, in the place of what had it."""

    def unlink(self, path: str) -> None:
        """Remove a file.

        Raises:
            FileNotFoundError: No such file.
        """

    def sync_folder(self, path: str) -> None:
        """Make the folder's names durable."""

    def lock(self, path: str) -> DiskLock:
        """Lock an existing file for this process alone.

        Raises:
            FolderHeldError: Another holds it.
            FileNotFoundError: No such file.
        """

    def number(self, path: str) -> int:
        """The file system's own number of a file or folder; 0 where there is none.

        It stays through renames, and a copy has another one.
        """

    def host(self) -> str:
        """Stands for the machine, the same after a boot; empty where it has no identity."""


@contextlib.contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Turn the system's errors into ours.

    Args:
        what: What was being done, with the file, for the message.

    Raises:
        StorageFullError: The disk or the quota has no room.
        StorageError: Any other error of the system.
    """
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        if is_full(error):
            raise StorageFullError(f"{what}: {reason}; make room on that disk") from error
        raise StorageError(f"{what}: {reason}") from error


def is_full(error: OSError) -> bool:
    """Whether an error says that there is no room."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


_ZEROS = memoryview(bytes(1 << 20))


class LocalFile:
    """A file of the operating system."""

    def __init__(self, descriptor: int, position: int) -> None:
        """Take over an open descriptor."""
        self._descriptor = descriptor
        self._position = position
        self._size = os.fstat(descriptor).st_size

    @property
    def size(self) -> int:
        """Length of the file in bytes."""
        return self._size

    @property
    def position(self) -> int:
        """Where the next write lands."""
        return self._position

    def write(self, data: bytes) -> None:
        """Write all of `data` at `position`."""
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self._descriptor, rest, self._position)
            self._position += written
            rest = rest[written:]
        self._size = max(self._size, self._position)

    def sync(self) -> None:
        """Make everything written durable."""
        os.fdatasync(self._descriptor)

    def truncate(self, size: int) -> None:
        """Cut the file."""
        os.ftruncate(self._descriptor, size)
        self._size = size
        self._position = min(self._position, size)

    def reserve(self, size: int) -> None:
        """Take room on the disk up to `size`, and fill it with zeros.

        Room that was only allocated has to be marked as written with each sync. With three members
        on one machine and one coming back, all journals' syncs then took up to 180 ms at the same
        moments, several times a run, while no request to the disk took over 6 ms; most likely they
        wait for ext4's one worker for such marks. Where zeros are overwritten that happens once a
        run or not at all (60 to 100 ms).
        """
        if size > self._size:
            os.posix_fallocate(self._descriptor, self._size, size - self._size)
            while self._size < size:
                zeros = _ZEROS[: size - self._size]
                self._size += os.pwrite(self._descriptor, zeros, self._size)

    def close(self) -> None:
        """Close the descriptor."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class LocalLock:
    """An flock on an open file: gone with the process, however it ends."""

    def __init__(self, descriptor: int) -> None:
        """Take over a locked descriptor."""
        self._descriptor = descriptor

    def release(self) -> None:
        """Close the file, and the lock with it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class LocalDisk:
    """A folder of the operating system."""

    def __init__(self, root: str | Path) -> None:
        """Work below `root`, which need not be there yet."""
        self.root = Path(root).absolute()

    def where(self, path: str) -> str:
        """The absolute path."""
        return str(self._full(path))

    def read(self, path: str, offset: int = 0, size: int | None = None) -> bytes:
        """Bytes of a file."""
        with self._full(path).open("rb") as file:
            file.seek(offset)
            return file.read(-1 if size is None else size)

    def create(self, path: str) -> LocalFile:
        """A new empty file."""
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
        return LocalFile(os.open(self._full(path), flags, 0o644), 0)

    def open(self, path: str) -> LocalFile:
        """An existing file, at its end."""
        descriptor = os.open(self._full(path), os.O_RDWR | os.O_CLOEXEC)
        return LocalFile(descriptor, os.fstat(descriptor).st_size)

    def exists(self, path: str) -> bool:
        """Whether something of that name is there."""
        return self._full(path).exists()

    def is_folder(self, path: str) -> bool:
        """Whether a folder is there, links not followed."""
        full = self._full(path)
        return full.is_dir() and not full.is_symlink()

    def list(self, path: str) -> Sequence[str]:
        """Names in a folder."""
        return sorted(os.listdir(self._full(path)))

    def size(self, path: str) -> int:
        """Length of a file."""
        return self._full(path).stat().st_size

    def make_folder(self, path: str) -> None:
        """Make a folder and those above it; sync the folder above each.

        Folders that are there already are synced, too, up to the root: an earlier process may
        have been killed between making one and syncing it.
        """
        folder = self._full(path)
        missing = [f for f in (folder, *folder.parents) if not f.exists()]
        for each in reversed(missing):
            each.mkdir(exist_ok=True)
        within = [f for f in (folder, *folder.parents) if f.is_relative_to(self.root)]
        for each in dict.fromkeys((*within, *missing)):
            self._sync_folder(each.parent)

    def remove_folder(self, path: str) -> None:
        """Remove an empty folder."""
        os.rmdir(self._full(path))

    @contextlib.contextmanager
    def staging(self, path: str) -> Iterator[Path]:
        """The new folder itself."""
        folder = self._full(path)
        folder.mkdir()
        yield folder

    @contextlib.contextmanager
    def checkout(self, path: str) -> Iterator[Path]:
        """The folder itself."""
        yield self._full(path)

    def rename(self, old: str, new: str) -> None:
        """Rename, replacing."""
        os.replace(self._full(old), self._full(new))

    def unlink(self, path: str) -> None:
        """Remove a file."""
        os.unlink(self._full(path))

    def sync_folder(self, path: str) -> None:
        """Make the folder's names durable."""
        self._sync_folder(self._full(path))

    def lock(self, path: str) -> LocalLock:
        """Take the flock of a file, or say that it is held."""
        descriptor = os.open(self._full(path), os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            message = f"{self.where(path)} is held by another process; stop that one first"
            raise FolderHeldError(message) from error
        except OSError:
            os.close(descriptor)
            raise
        return LocalLock(descriptor)

    def number(self, path: str) -> int:
        """The inode's."""
        try:
            return self._full(path).stat().st_ino
        except FileNotFoundError:
            return 0

    def host(self) -> str:
        """Of this machine's own id, which is not for others to see, a hash."""
        for path in MACHINE_ID_PATHS:
            with contextlib.suppress(OSError):
                machine_id = Path(path).read_text().strip()
                if machine_id:
                    return hashlib.blake2b(machine_id.encode(), digest_size=16).hexdigest()
        return ""

    def _full(self, path: str) -> Path:
        assert not path.startswith("/"), "paths are relative to the root"
        assert ".." not in path.split("/"), "paths stay below the root"
        return self.root / path

    @staticmethod
    def _sync_folder(folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
