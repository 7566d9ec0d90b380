"""Reading a journal without opening it: for tools, which write nothing."""

from __future__ import annotations

from dataclasses import dataclass

from ray_paxos.core.acceptor_state import AcceptorState
from ray_paxos.storage.disk import Disk
from ray_paxos.storage.journal import recover
from ray_paxos.storage.journal_files import (
    file_path,
    list_files,
    read_named,
)
from ray_paxos.storage.journal_frames import first_link, scan


@dataclass(frozen=True, slots=True)
class JournalFileReading:
    """One live file.

    Attributes:
        number: Of the file.
        path: Below the member's folder.
        byte_count: Its length, room that was taken in advance included.
        frames: How many whole ones it holds; one an append, and those of opening and end.
        end: Where the last one ends, in bytes.
        is_ended: Whether it was closed with an end mark.
        torn: Whether a part of an unfinished frame follows, as a crash leaves it.
    """

    number: int
    path: str
    byte_count: int
    frames: int
    end: int
    is_ended: bool
    torn: bool


@dataclass(frozen=True, slots=True)
class JournalReading:
    """What a journal holds.

    Attributes:
        state: The fold of its records: what the acceptor would start from.
        files: The live ones, ascending.
        others: Paths of files that are not live: the next opening removes them.
    """

    state: AcceptorState
    files: tuple[JournalFileReading, ...]
    others: tuple[str, ...]

    @property
    def is_ended(self) -> bool:
        """Whether the acceptor was stopped cleanly."""
        return self.files[-1].is_ended


def read_journal(disk: Disk, folder: str, *, owner: bytes) -> JournalReading:
    """Read all live files, every byte.

    Args:
        disk: The member's disk.
        folder: The acceptor's folder.
        owner: As given to `create_journal`.

    Raises:
        DamageError: A file is missing or damaged.
        StorageError: Another release wrote it.
        OSError: The disk refuses.
    """
    named = read_named(disk, folder)
    state = recover(disk, folder, named, owner)
    numbers = list_files(disk, folder)
    live = range(named.first, named.current + 1)
    files = tuple(_read(disk, folder, number, owner) for number in live)
    others = tuple(file_path(folder, number) for number in numbers if number not in live)
    return JournalReading(state, files, others)


def _read(disk: Disk, folder: str, number: int, owner: bytes) -> JournalFileReading:
    path = file_path(folder, number)
    data = disk.read(path)
    scanned = scan(data, link=first_link(owner, number), where=disk.where(path))
    return JournalFileReading(
        number,
        path,
        len(data),
        len(scanned.frames),
        scanned.end,
        scanned.is_ended,
        scanned.torn,
    )
