"""The files of a journal: how one is begun, read back, named as live, and found again.

`Journal` decides when; what each file holds and in which order things become durable is here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from ray_paxos.core.acceptor_state import AcceptorState
from ray_paxos.core.records import JournalOpening, JournalRecord, VoteCast
from ray_paxos.errors import DamageError, StorageError
from ray_paxos.storage.checked_files import Fields, prepare_fields, publish_fields, read_fields
from ray_paxos.storage.disk import Disk, DiskFile
from ray_paxos.storage.journal_frames import (
    FrameKind,
    encode_frame,
    first_link,
    frame_size,
    scan,
)

JOURNAL_FORMAT = 1
JOURNAL_FOLDER = "journal"
CURRENT = "current"
FIRST_FILE = 1
END_MARK_BYTES = frame_size(0)

_SUFFIX = ".journal"
_NUMBER_DIGITS = 16
# Votes copied to a new file go into frames of about this many bytes.
_COPY_BYTES = 1 << 20


class FileOpening(msgspec.Struct, frozen=True, array_like=True):
    """Body of a file's first frame.

    Attributes:
        format: Version of all that follows.
        opening: The acceptor's state but for the votes.
    """

    format: int
    opening: JournalOpening


_encoder = msgspec.msgpack.Encoder()
_opening_decoder = msgspec.msgpack.Decoder(FileOpening)
_records_decoder = msgspec.msgpack.Decoder(tuple[JournalRecord, ...])


@dataclass(frozen=True, slots=True)
class NamedFiles:
    """What `current` says.

    Attributes:
        first: Lowest live file.
        current: The file that takes records.
        durable: Bytes of it that were durable when it was named, or closed.
    """

    first: int
    current: int
    durable: int


def file_path(folder: str, number: int) -> str:
    """Where the journal file of that number lies."""
    return f"{folder}/{JOURNAL_FOLDER}/{number:0{_NUMBER_DIGITS}}{_SUFFIX}"


def list_files(disk: Disk, folder: str) -> list[int]:
    """Numbers of all journal files there, ascending, live or not.

    Raises:
        DamageError: The folder is missing, or something else lies in it.
    """
    path = f"{folder}/{JOURNAL_FOLDER}"
    try:
        names = disk.list(path)
    except FileNotFoundError as error:
        raise DamageError(f"{disk.where(path)} is missing; it is never made anew") from error
    numbers = []
    for name in names:
        digits = name.removesuffix(_SUFFIX)
        if not digits.isdecimal() or file_path(folder, int(digits)) != f"{path}/{name}":
            raise DamageError(f"{disk.where(f'{path}/{name}')} is no file of the journal")
        numbers.append(int(digits))
    return sorted(numbers)


def read_named(disk: Disk, folder: str) -> NamedFiles:
    """Which files are live.

    Raises:
        DamageError: The file that says so is missing or damaged.
    """
    path = f"{folder}/{CURRENT}"
    try:
        fields = read_fields(disk, path)
    except FileNotFoundError as error:
        message = f"{disk.where(path)} is missing: the journal is lost, and is never made anew"
        raise DamageError(message) from error
    first, current, durable = (fields.get(name) for name in ("first", "current", "durable"))
    if fields.get("format") != JOURNAL_FORMAT:
        found = fields.get("format")
        message = f"{disk.where(path)}: format {found}; this release knows {JOURNAL_FORMAT}"
        raise StorageError(message)
    if (
        not isinstance(first, int)
        or not isinstance(current, int)
        or not isinstance(durable, int)
        or not 1 <= first <= current
    ):
        raise DamageError(f"{disk.where(path)}: not what was written there")
    return NamedFiles(first, current, durable)


def check_journal(disk: Disk, folder: str) -> None:
    """Make sure that a journal's files are there, without reading them.

    Raises:
        DamageError: One is missing, or the name file is damaged.
    """
    named = read_named(disk, folder)
    present = list_files(disk, folder)
    for number in range(named.first, named.current + 1):
        if number not in present:
            raise DamageError(f"{disk.where(file_path(folder, number))} is missing")


def was_opened(disk: Disk, folder: str) -> bool:
    """Whether a journal was ever opened after it was made, as far as its files show.

    Raises:
        DamageError: The files are not those of a journal.
    """
    numbers = list_files(disk, folder)
    if disk.exists(f"{folder}/{CURRENT}"):
        numbers.append(read_named(disk, folder).current)
    return max(numbers, default=FIRST_FILE) > FIRST_FILE


def prepare_named(disk: Disk, folder: str, named: NamedFiles) -> None:
    """Do all of naming that needs room on the disk; `publish_named` does the rest."""
    fields: Fields = {
        "format": JOURNAL_FORMAT,
        "first": named.first,
        "current": named.current,
        "durable": named.durable,
    }
    prepare_fields(disk, f"{folder}/{CURRENT}", fields)


def publish_named(disk: Disk, folder: str) -> None:
    """Name the live files, durably, as prepared."""
    publish_fields(disk, f"{folder}/{CURRENT}")


class JournalFile:
    """One file, open for appending.

    Invariants: `durable <= position <= handle.size`; `link` is that of the next frame.
    """

    def __init__(self, number: int, handle: DiskFile, link: int) -> None:
        """Go on at the handle's position."""
        self.number = number
        self.handle = handle
        self.durable = 0
        self.start = 0
        self.highest_votes: dict[int, int] = {}
        self._link = link

    @property
    def position(self) -> int:
        """Where the next frame lands."""
        return self.handle.position

    def append(self, kind: FrameKind, body: bytes) -> None:
        """Write one frame."""
        frame, link = encode_frame(kind, body, link=self._link, durable_through=self.durable)
        self.handle.write(frame)
        self._link = link

    def sync(self) -> None:
        """Make everything appended durable."""
        position = self.handle.position
        if self.durable != position:
            self.handle.sync()
            self.durable = position

    def end(self) -> None:
        """Close with the end mark, durably.

        What room is left behind the mark goes: a file that was closed ends with it, so that a
        reader misses every byte that is cut off.
        """
        self.append(FrameKind.END, b"")
        self.handle.truncate(self.handle.position)
        self.sync()

    def note_votes(self, records: Iterable[JournalRecord]) -> None:
        """Remember the highest vote of each group: the file stays until the floors pass it."""
        for record in records:
            if type(record) is VoteCast:
                highest = self.highest_votes.get(record.group, 0)
                self.highest_votes[record.group] = max(highest, record.instance_id)

    def is_passed(self, state: AcceptorState) -> bool:
        """Whether the vote floors are above every vote in this file."""
        return all(
            group not in state.groups or state.groups[group].floor > highest
            for group, highest in self.highest_votes.items()
        )


def begin_file(
    disk: Disk,
    folder: str,
    number: int,
    state: AcceptorState,
    *,
    owner: bytes,
    copies_votes: bool,
    room: int,
) -> JournalFile:
    """Write a new file with all that it opens with; durable, and not yet named.

    Args:
        disk: The member's disk.
        folder: The acceptor's folder.
        number: Of the file, above the named one; an unfinished file of that number goes.
        state: The acceptor's state.
        owner: Cluster and member.
        copies_votes: Whether the live votes go in, too, so that no older file is needed.
        room: Bytes to reserve behind.

    Raises:
        OSError: The disk refused; nothing of the file is left.
    """
    path = file_path(folder, number)
    if disk.exists(path):
        disk.unlink(path)
    opening = _encoder.encode(FileOpening(JOURNAL_FORMAT, state.opening()))
    copies = list(_batched(live_votes(state))) if copies_votes else []
    bodies = [_encoder.encode(batch) for batch in copies]
    file = JournalFile(number, disk.create(path), first_link(owner, number))
    try:
        file.handle.reserve(sum(frame_size(len(body)) for body in (opening, *bodies)) + room)
        file.append(FrameKind.OPENING, opening)
        for body in bodies:
            file.append(FrameKind.RECORDS, body)
        file.sync()
        disk.sync_folder(f"{folder}/{JOURNAL_FOLDER}")
    except OSError:
        discard_file(disk, folder, file)
        raise
    for batch in copies:
        file.note_votes(batch)
    file.start = file.position
    return file


def discard_file(disk: Disk, folder: str, file: JournalFile) -> None:
    """Let go of a file that was not named; left behind it would do no harm but take room."""
    file.handle.close()
    with contextlib.suppress(OSError):
        disk.unlink(file_path(folder, file.number))


def read_file(
    disk: Disk, folder: str, number: int, named: NamedFiles, owner: bytes
) -> tuple[JournalOpening, list[JournalRecord]]:
    """Read one live file.

    Returns:
        Its opening record and the records that follow. What a crash left unfinished at the end
        of the last file is not among them.

    Raises:
        DamageError: It is missing, or not what was written and durable.
    """
    path = file_path(folder, number)
    where = disk.where(path)
    try:
        data = disk.read(path)
    except FileNotFoundError as error:
        raise DamageError(f"{where} is missing") from error
    scanned = scan(data, link=first_link(owner, number), where=where)
    if number < named.current and not scanned.is_ended:
        raise DamageError(f"{where}: its end mark at byte {scanned.end} is missing")
    if number == named.current and scanned.end < named.durable:
        raise DamageError(f"{where}: {scanned.end} of {named.durable} durable bytes are there")
    if not scanned.frames or scanned.frames[0].kind is not FrameKind.OPENING:
        raise DamageError(f"{where}: its opening record is missing")
    try:
        opening = _opening_decoder.decode(scanned.frames[0].body)
        records: list[JournalRecord] = []
        for frame in scanned.frames[1:]:
            if frame.kind is FrameKind.OPENING:
                raise DamageError(f"{where}: a second opening record")
            if frame.kind is FrameKind.RECORDS:
                records += _records_decoder.decode(frame.body)
    except msgspec.DecodeError as error:
        raise DamageError(f"{where}: a frame holds something else ({error})") from error
    if opening.format != JOURNAL_FORMAT:
        message = f"{where}: format {opening.format}; this release knows {JOURNAL_FORMAT}"
        raise StorageError(message)
    return opening.opening, records


def encode_records(records: Sequence[JournalRecord]) -> bytes:
    """The body of one append."""
    return _encoder.encode(records)


def live_votes(state: AcceptorState) -> Iterator[VoteCast]:
    """Every vote an acceptor holds, as the records that would make it."""
    for group, votes in sorted(state.groups.items()):
        for instance_id, vote in sorted(votes.votes.items()):
            yield VoteCast(group, instance_id, vote.ballot, vote.value)


def _batched(records: Iterator[VoteCast]) -> Iterator[list[VoteCast]]:
    batch: list[VoteCast] = []
    batch_bytes = 0
    for record in records:
        if batch and batch_bytes + len(record.value) > _COPY_BYTES:
            yield batch
            batch, batch_bytes = [], 0
        batch.append(record)
        batch_bytes += len(record.value)
    if batch:
        yield batch
