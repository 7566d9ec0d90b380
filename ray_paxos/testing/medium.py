"""What lies on a simulated disk: the bytes, the names, and what of both is durable.

`SimulatedDisk` is a process's view of a `Medium`; what a loss of power may take is decided here.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias

from ray_paxos.storage.disk import SECTOR_BYTES

Change: TypeAlias = tuple[int, bytes | None]
"""A write (offset and bytes), or a new length of the file (and None)."""


class CrashedError(Exception):
    """The process is dead: it was killed, lost its power, or met `crash_at`.

    No error of the disk: code under test must not handle it.
    """


@dataclass(slots=True)
class FileStatistics:
    """What was done to the files of one path."""

    writes: int = 0
    written_bytes: int = 0
    syncs: int = 0


@dataclass(slots=True)
class Content:
    """One file's bytes: as processes see them, as they are durable, and the changes between."""

    cache: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list)

    def change(self, change: Change) -> None:
        """Change what processes see."""
        _apply(self.cache, change)
        self.pending.append(change)

    def flush(self) -> None:
        """Make all changes durable."""
        for change in self.pending:
            _apply(self.durable, change)
        self.pending.clear()

    def lose_power(self, random: Random) -> None:
        """Keep what a loss of power may leave of the pending changes."""
        if self.pending:
            count = random.randint(0, len(self.pending))
            for change in self.pending[:count]:
                _apply(self.durable, change)
            if count < len(self.pending):
                _tear(self.durable, self.pending[count:], random)
        self.cache = bytearray(self.durable)
        self.pending = []


@dataclass(slots=True)
class NameChange:
    """A name made (`old` None), removed (`new` None) or changed."""

    old: str | None
    new: str | None
    content: int

    def folders(self) -> set[str]:
        """The folders in which it happens."""
        return {parent(path) for path in self.paths()}

    def paths(self) -> set[str]:
        """The names that it touches."""
        return {path for path in (self.old, self.new) if path is not None}


@dataclass(slots=True)
class Medium:
    """What the processes of one disk share."""

    capacity: int | None
    contents: dict[int, Content] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)
    durable_names: dict[str, int] = field(default_factory=dict)
    changes: list[NameChange] = field(default_factory=list)
    folders: set[str] = field(default_factory=lambda: {""})
    next_content: int = 1
    operations: int = 0
    crash_at: int | None = None
    failing_syncs: list[str] = field(default_factory=list)
    failing_writes: list[str] = field(default_factory=list)
    statistics: dict[str, FileStatistics] = field(default_factory=dict)

    def operate(self) -> None:
        """Count an operation, and crash before it if it is the one asked for."""
        number = self.operations
        self.operations += 1
        if self.crash_at is not None and number >= self.crash_at:
            raise CrashedError(f"at operation {number}")

    def content(self, path: str) -> Content:
        """The bytes of a file."""
        number = self.names.get(path)
        if number is None:
            raise os_error(errno.ENOENT, path)
        return self.contents[number]

    def need_folder(self, path: str) -> None:
        """Raise unless there is such a folder."""
        if path not in self.folders:
            raise os_error(errno.ENOENT, path)

    def need_room(self, path: str, growth: int) -> None:
        """Raise unless there is room for so many more bytes."""
        if growth > 0 and self.capacity is not None:
            used = sum(len(self.contents[number].cache) for number in self.names.values())
            if used + growth > self.capacity:
                raise os_error(errno.ENOSPC, path)

    def rename(self, old: str | None, new: str | None, number: int) -> None:
        """Change names, as processes see them."""
        if old is not None:
            del self.names[old]
        if new is not None:
            self.names[new] = number
        self.changes.append(NameChange(old, new, number))

    def sync_folder(self, path: str) -> None:
        """Make the names in a folder durable, and with them the other end of each rename.

        So is what happened inside folders that were removed from it.
        """
        places = [change.folders() for change in self.changes]
        removed = {place for place in set().union(*places) if self._is_removed(place, path)}
        self._settle(dict.fromkeys((path, *removed), len(self.changes)), places)

    def _is_removed(self, folder: str, above: str) -> bool:
        """Whether a folder lies in one that was removed from `above`."""
        prefix = above + "/" if above else ""
        if not folder.startswith(prefix) or folder == above:
            return False
        return prefix + folder[len(prefix) :].partition("/")[0] not in self.folders

    def lose_power(self, random: Random) -> None:
        """Keep a part of the changes of names, and of each file's bytes."""
        # Most file systems keep the order of changes within a folder; POSIX promises it for no
        # more than one name.
        is_ordered = random.random() < 0.75
        places = [c.folders() if is_ordered else c.paths() for c in self.changes]
        end = len(self.changes)
        counts = {}
        for place in sorted(set().union(*places)):
            is_all_or_none = not is_ordered or random.random() < 0.25
            counts[place] = random.choice((0, end)) if is_all_or_none else random.randint(0, end)
        self._settle(counts, places)
        self.changes = []
        self.names = dict(self.durable_names)
        for path in self.names:
            while (path := parent(path)) not in self.folders:
                self.folders.add(path)
        self._forget_contents()
        for number in sorted(self.contents):
            self.contents[number].lose_power(random)
        self.failing_syncs.clear()
        self.failing_writes.clear()

    def _settle(self, counts: dict[str, int], places: list[set[str]]) -> None:
        """Make durable each place's changes before its position in the list.

        Args:
            counts: Position by place: a folder, or a single name.
            places: Where each change happens; all of them keep it, or none.
        """
        counts = _on_one_side(counts, places)
        left: list[NameChange] = []
        for position, change in enumerate(self.changes):
            if all(position < counts.get(place, 0) for place in places[position]):
                if change.old is not None:
                    self.durable_names.pop(change.old, None)
                if change.new is not None:
                    self.durable_names[change.new] = change.content
            else:
                left.append(change)
        self.changes = left
        self._forget_contents()

    def _forget_contents(self) -> None:
        """Drop files without a name."""
        named = {*self.names.values(), *self.durable_names.values()}
        named.update(change.content for change in self.changes)
        self.contents = {n: content for n, content in self.contents.items() if n in named}


def fails(failing: list[str], path: str) -> bool:
    """Whether an operation on this path was to fail; it then does so once."""
    for index, contains in enumerate(failing):
        if contains in path:
            del failing[index]
            return True
    return False


def parent(path: str) -> str:
    """The folder of a path."""
    return path.rpartition("/")[0]


def os_error(number: int, path: str) -> OSError:
    """An error as the operating system raises it."""
    return OSError(number, os.strerror(number), path)


def _apply(data: bytearray, change: Change) -> None:
    offset, written = change
    if written is None and offset < len(data):
        del data[offset:]
    elif offset > len(data):
        data.extend(bytes(offset - len(data)))
    if written is not None:
        data[offset : offset + len(written)] = written


def _tear(data: bytearray, pending: list[Change], random: Random) -> None:
    """Keep a part of what remains: torn at a byte, at a sector, or sectors in any order."""
    choice = random.randrange(4)
    offset, written = pending[0]
    if choice == 0 or written is None:
        return
    if choice == 1:
        # At any byte where the file grows; inside the old length sectors are whole or untouched.
        end = random.randint(0, len(written))
        if offset + end < len(data):
            end = max(0, (offset + end) // SECTOR_BYTES * SECTOR_BYTES - offset)
        _apply(data, (offset, written[:end]))
        return
    after = bytearray(data)
    for change in pending if choice == 3 else pending[:1]:
        _apply(after, change)
    if len(after) < len(data):
        return
    # The length may become durable before the bytes: what was not written reads as zeros.
    data.extend(bytes(len(after) - len(data)))
    sectors = [
        start
        for start in range(0, len(after), SECTOR_BYTES)
        if after[start : start + SECTOR_BYTES] != data[start : start + SECTOR_BYTES]
    ]
    if choice == 2:
        sectors = sectors[: random.randint(0, len(sectors))]
    for start in sectors:
        if choice == 2 or random.random() < 0.5:
            data[start : start + SECTOR_BYTES] = after[start : start + SECTOR_BYTES]


def _on_one_side(counts: dict[str, int], places: list[set[str]]) -> dict[str, int]:
    """Raise positions until every change in two places is on the same side in both."""
    closed = dict(counts)
    settled = False
    while not settled:
        settled = True
        for position, where in enumerate(places):
            if any(position < closed.get(place, 0) for place in where):
                for place in where:
                    if closed.get(place, 0) <= position:
                        closed[place] = position + 1
                        settled = False
    return closed
