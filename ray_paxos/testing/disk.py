"""A disk in memory that loses exactly what a real one may lose.

One `SimulatedDisk` is one process's view of a medium that several processes share:

```
disk = SimulatedDisk()              # the medium, and a first view of it
learner = disk.process()            # another process on the same medium
learner.kill()                      # its files and locks are gone, what it wrote can be read
disk.power_loss(random)             # every process is gone, and what was not synced may be
```

What a power loss leaves (the promises of `storage.disk`, and not more):

1. Of the writes to a file since its last `sync`, some part: none, all, a prefix cut at any byte
   (the file ends there), a prefix cut at a sector with zeros for the rest, or any choice of
   sectors. Inside room that was reserved, sectors come or stay as they were; they never mix.
2. Of the names made, changed and removed in a folder since its last `sync_folder`, mostly a
   prefix, as a file system with a journal keeps them; one time in four a prefix for each name
   only. A rename happens at both ends or at neither. Syncing a file says nothing about its name.
3. A failed `sync` drops what it was to write: the writes stay readable until the power goes, and
   a later `sync` succeeds without having written them (as Linux marks such pages clean).

4. A folder is durable once made. One that was removed comes back with those of its files whose
   removal was not durable, unless the folder above it was synced.

All choices come from the `random.Random` that is handed in.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from ray_paxos.errors import FolderHeldError
from ray_paxos.testing.medium import (
    Content,
    CrashedError,
    FileStatistics,
    Medium,
    fails,
    os_error,
    parent,
)

__all__ = ["CrashedError", "FileStatistics", "SimulatedDisk", "SimulatedFile", "SimulatedLock"]


class SimulatedDisk:
    """One process's view of a simulated disk; implements `storage.disk.Disk`.

    Invariants: the choices of a power loss depend on the given `Random` and on what was done
    before, on nothing else.
    """

    def __init__(self, *, capacity: int | None = None) -> None:
        """An empty disk.

        Args:
            capacity: Bytes that all files may have together; None for no limit.
        """
        self._medium = Medium(capacity)
        self._locks: set[str] = set()
        self._siblings: list[SimulatedDisk] = [self]
        self._life = 0

    # What tests do to it.

    def process(self) -> SimulatedDisk:
        """The view of another process on the same medium, with files and locks of its own."""
        view = SimulatedDisk()
        view._medium = self._medium
        view._siblings = self._siblings
        self._siblings.append(view)
        return view

    def kill(self) -> None:
        """End this view's process: its files and locks go, what it wrote stays readable.

        The view then serves the process's next life.
        """
        self._locks.clear()
        self._life += 1

    def power_loss(self, random: Random) -> None:
        """Turn the power off and on: every process ends, and un-synced work may be lost."""
        self._medium.lose_power(random)
        for view in self._siblings:
            view.kill()

    def fail_next_sync(self, contains: str = "") -> None:
        """Make the next sync of a file or folder with `contains` in its path fail with EIO."""
        self._medium.failing_syncs.append(contains)

    def fail_next_write(self, contains: str = "") -> None:
        """Make the next write to a file with `contains` in its path fail with EIO."""
        self._medium.failing_writes.append(contains)

    def set_capacity(self, capacity: int | None) -> None:
        """Limit the bytes of all files together; None for no limit."""
        self._medium.capacity = capacity

    def crash_at(self, operation: int | None) -> None:
        """Raise `CrashedError` in place of the operation with this number, and of all after it.

        Args:
            operation: As counted by `operations`; None for none.
        """
        self._medium.crash_at = operation

    def flip_bit(self, path: str, bit: int) -> None:
        """Flip one bit of a file, on the medium and in the cache; bit 0 is byte 0's lowest."""
        content = self._medium.content(path)
        for data in (content.cache, content.durable):
            if bit // 8 < len(data):
                data[bit // 8] ^= 1 << (bit % 8)

    def overwrite(self, path: str, data: bytes) -> None:
        """Give a file other bytes, durably: damage as no crash leaves it."""
        content = self._medium.content(path)
        content.cache[:] = data
        content.durable[:] = data
        content.pending.clear()

    def remove(self, path: str) -> None:
        """Lose a file, or a folder with all in it, durably."""
        medium, below = self._medium, path + "/"

        def is_lost(name: str | None) -> bool:
            return name is not None and (name == path or name.startswith(below))

        for names in (medium.names, medium.durable_names):
            for name in [name for name in names if is_lost(name)]:
                del names[name]
        medium.changes = [
            change
            for change in medium.changes
            if not is_lost(change.old) and not is_lost(change.new)
        ]
        medium.folders = {folder for folder in medium.folders if not is_lost(folder)}

    def snapshot(self) -> SimulatedDisk:
        """An independent copy of the medium, without processes: to try several futures."""
        copied = SimulatedDisk()
        copied._medium = copy.deepcopy(self._medium)
        copied._medium.crash_at = None
        return copied

    @property
    def operations(self) -> int:
        """How many operations that change the medium were done or tried."""
        return self._medium.operations

    @property
    def unsynced_bytes(self) -> int:
        """Bytes written and not synced, over all files."""
        contents = self._medium.contents.values()
        pending = (data for content in contents for _, data in content.pending)
        return sum(len(data) for data in pending if data is not None)

    @property
    def unsynced_names(self) -> int:
        """Changes of names that no sync of their folder covers."""
        return len(self._medium.changes)

    @property
    def statistics(self) -> dict[str, FileStatistics]:
        """By path, what was done there since the beginning."""
        return self._medium.statistics

    def paths(self) -> list[str]:
        """Every file as a process sees it."""
        return sorted(self._medium.names)

    def content_number(self, path: str) -> int:
        """Tells a file from every other that had, has or will have its name."""
        return self._medium.names[path]

    def is_durable(self, path: str) -> bool:
        """Whether a loss of power now leaves a file under its name, as it is."""
        number = self._medium.names.get(path)
        is_named = number is not None and self._medium.durable_names.get(path) == number
        return is_named and not self._medium.content(path).pending

    @property
    def used_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(len(self._medium.contents[n].cache) for n in self._medium.names.values())

    def files(self) -> dict[str, bytes]:
        """Every file as a process sees it, by path."""
        names = sorted(self._medium.names.items())
        return {path: bytes(self._medium.contents[number].cache) for path, number in names}

    # The protocol `Disk`.

    def where(self, path: str) -> str:
        """The path itself."""
        return path or "."

    def read(self, path: str, offset: int = 0, size: int | None = None) -> bytes:
        """Bytes of a file, from the cache."""
        cache = self._medium.content(path).cache
        return bytes(cache[offset:] if size is None else cache[offset : offset + size])

    def create(self, path: str) -> SimulatedFile:
        """A new empty file."""
        medium = self._medium
        medium.operate()
        medium.need_folder(parent(path))
        if path in medium.names:
            raise os_error(errno.EEXIST, path)
        number = medium.next_content
        medium.next_content += 1
        medium.contents[number] = Content()
        medium.rename(None, path, number)
        return SimulatedFile(self, path, medium.contents[number])

    def open(self, path: str) -> SimulatedFile:
        """An existing file, at its end."""
        return SimulatedFile(self, path, self._medium.content(path))

    def exists(self, path: str) -> bool:
        """Whether something of that name is there."""
        return path in self._medium.names or path in self._medium.folders

    def is_folder(self, path: str) -> bool:
        """Whether a folder is there."""
        return path in self._medium.folders

    def list(self, path: str) -> Sequence[str]:
        """Names in a folder."""
        self._medium.need_folder(path)
        prefix = path + "/" if path else ""
        everything = (*self._medium.names, *self._medium.folders)
        below = (name[len(prefix) :] for name in everything if name.startswith(prefix))
        return sorted(name for name in below if name and "/" not in name)

    def size(self, path: str) -> int:
        """Length of a file."""
        return len(self._medium.content(path).cache)

    def make_folder(self, path: str) -> None:
        """Make a folder and those above it; durable at once."""
        self._medium.operate()
        parts = path.split("/") if path else []
        for end in range(1, len(parts) + 1):
            self._medium.folders.add("/".join(parts[:end]))

    def remove_folder(self, path: str) -> None:
        """Remove an empty folder."""
        self._medium.operate()
        if self.list(path):
            raise os_error(errno.ENOTEMPTY, path)
        self._medium.folders.discard(path)

    @contextlib.contextmanager
    def staging(self, path: str) -> Iterator[Path]:
        """A temporary directory; its files are then written one operation after the other."""
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)
            self.make_folder(path)
            for source in sorted(Path(name).rglob("*")):
                target = f"{path}/{source.relative_to(name)}"
                if source.is_dir():
                    self.make_folder(target)
                else:
                    self.create(target).write(source.read_bytes())

    @contextlib.contextmanager
    def checkout(self, path: str) -> Iterator[Path]:
        """A copy in a temporary directory."""
        with tempfile.TemporaryDirectory() as name:
            self._copy_out(path, Path(name))
            yield Path(name)

    def _copy_out(self, path: str, target: Path) -> None:
        for name in self.list(path):
            source = f"{path}/{name}"
            if self.is_folder(source):
                (target / name).mkdir()
                self._copy_out(source, target / name)
            else:
                (target / name).write_bytes(self.read(source))

    def rename(self, old: str, new: str) -> None:
        """Rename, replacing."""
        self._medium.operate()
        self._medium.content(old)
        self._medium.need_folder(parent(new))
        self._medium.rename(old, new, self._medium.names[old])

    def unlink(self, path: str) -> None:
        """Remove a file."""
        self._medium.operate()
        self._medium.content(path)
        self._medium.rename(path, None, self._medium.names[path])

    def sync_folder(self, path: str) -> None:
        """Make the folder's names durable."""
        self._medium.operate()
        self._medium.need_folder(path)
        if fails(self._medium.failing_syncs, path):
            raise os_error(errno.EIO, path)
        self._medium.sync_folder(path)

    def number(self, path: str) -> int:
        """A simulated folder is never copied but as a whole medium: one number will do."""
        return 1 if path == "" or self.exists(path) else 0

    def host(self) -> str:
        """One machine."""
        return "simulated"

    def lock(self, path: str) -> SimulatedLock:
        """Lock a file among the views of this medium."""
        self._medium.content(path)
        if any(path in view._locks for view in self._siblings):
            raise FolderHeldError(f"{path} is held by another process; stop that one first")
        self._locks.add(path)
        return SimulatedLock(self, path)


class SimulatedFile:
    """An open file of a `SimulatedDisk`."""

    def __init__(self, disk: SimulatedDisk, path: str, content: Content) -> None:
        """Open at the end."""
        self._disk = disk
        self._medium = disk._medium
        self._path = path
        self._content = content
        self._life = disk._life
        self._position = len(content.cache)

    @property
    def size(self) -> int:
        """Length of the file."""
        return len(self._content.cache)

    @property
    def position(self) -> int:
        """Where the next write lands."""
        return self._position

    def write(self, data: bytes) -> None:
        """Write into the cache."""
        self._operate()
        if fails(self._medium.failing_writes, self._path):
            raise os_error(errno.EIO, self._path)
        self._medium.need_room(self._path, self._position + len(data) - self.size)
        self._content.change((self._position, bytes(data)))
        self._position += len(data)
        statistics = self._statistics()
        statistics.writes += 1
        statistics.written_bytes += len(data)

    def sync(self) -> None:
        """Make the writes durable, or fail and drop them."""
        self._operate()
        self._statistics().syncs += 1
        if fails(self._medium.failing_syncs, self._path):
            self._content.pending.clear()
            raise os_error(errno.EIO, self._path)
        self._content.flush()

    def truncate(self, size: int) -> None:
        """Cut the file."""
        self._operate()
        self._content.change((size, None))
        self._position = min(self._position, size)

    def reserve(self, size: int) -> None:
        """Lengthen the file with zeros."""
        self._operate()
        if size > self.size:
            self._medium.need_room(self._path, size - self.size)
            self._content.change((size, None))

    def close(self) -> None:
        """Nothing to do: a simulated process has as many files as it likes."""

    def _operate(self) -> None:
        if self._life != self._disk._life:
            raise CrashedError(f"{self._path} was opened in an earlier life")
        self._medium.operate()

    def _statistics(self) -> FileStatistics:
        return self._medium.statistics.setdefault(self._path, FileStatistics())


class SimulatedLock:
    """A lock of a `SimulatedDisk`."""

    def __init__(self, disk: SimulatedDisk, path: str) -> None:
        """Held from here on."""
        self._disk = disk
        self._path = path
        self._life = disk._life

    def release(self) -> None:
        """Let others lock."""
        if self._life == self._disk._life:
            self._disk._locks.discard(self._path)
