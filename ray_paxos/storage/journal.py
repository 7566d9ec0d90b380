"""The acceptor's journal: every promise and vote, durable before it is told to anyone (R3).

```
acceptor/current                 names the first live file and the last, durably
acceptor/journal/<number>.journal
    opening record               all of the state but the votes; tombstones, too
    records ...                  one frame an append
    end mark                     where the file was closed; the file ends with it
```

Rules:

1. One append is one frame: its records are all there after a crash or none is, and they cost one
   checksum and one write.
2. A new file is written with its whole opening record and synced with its folder; the file before
   it gets its end mark and is synced; then `current` names the new one, durably; only then does
   it take records. So of all files only the last named can end in something unfinished, and
   whatever lies above the named one is unfinished and is deleted.
3. The oldest files go when the vote floors have passed every vote in them, and only after
   `current` no longer names them. A floor that stands still pins little: when several files are
   live and their live votes are few, the votes are copied to the new file instead.
4. Opening a journal copies everything live to a new file and names it before anything of it is
   told to anyone: what a killed process wrote may be in the page cache only, and the next life
   must not vouch for what can still be lost with the power.
5. A journal is made by `create_journal`, when its member is staged, and by nothing else. One that
   is missing, or a file of it, is damage, never an empty journal.
6. Room on the disk is taken in advance: `reserve` says whether it was there, and an append into
   reserved room does not fail for want of it.
7. After a failed write or sync the journal refuses everything: what a failed sync lost, another
   sync does not bring back, though it may say so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ray_paxos.core.acceptor_state import AcceptorState
from ray_paxos.core.records import JournalOpening, JournalRecord
from ray_paxos.errors import DamageError, StorageError, StorageFullError
from ray_paxos.storage.disk import Disk, is_full, storage_errors
from ray_paxos.storage.journal_files import (
    END_MARK_BYTES,
    FIRST_FILE,
    JournalFile,
    NamedFiles,
    begin_file,
    discard_file,
    encode_records,
    file_path,
    list_files,
    prepare_named,
    publish_named,
    read_file,
    read_named,
)
from ray_paxos.storage.journal_frames import FrameKind, frame_size


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """Sizes of a journal's files.

    Attributes:
        file_bytes: A file that has reached it is closed and the next begun.
        chunk_bytes: Room on the disk is taken in steps of this many bytes.
        files_max: With more live files than this the live votes are copied, if they are few.
    """

    file_bytes: int = 64_000_000
    chunk_bytes: int = 1_000_000
    files_max: int = 4


def create_journal(disk: Disk, folder: str, opening: JournalOpening, *, owner: bytes = b"") -> None:
    """Make an acceptor's journal, once in its life: when its member is staged.

    Args:
        disk: The member's disk.
        folder: The acceptor's folder; is there, with its journal folder.
        opening: What the acceptor starts from.
        owner: Cluster and member; a file of another's journal is damage.

    Raises:
        StorageError: The disk refuses.

    Guarantee: durable on return. A journal that an earlier call left unfinished is made again.
    """
    with storage_errors(f"cannot make the journal in {disk.where(folder)}"):
        for number in list_files(disk, folder):
            disk.unlink(file_path(folder, number))
        state = AcceptorState()
        state.restore(opening)
        file = begin_file(disk, folder, FIRST_FILE, state, owner=owner, copies_votes=False, room=0)
        file.handle.close()
        prepare_named(disk, folder, NamedFiles(FIRST_FILE, FIRST_FILE, file.durable))
        publish_named(disk, folder)


def open_journal(
    disk: Disk, folder: str, *, owner: bytes = b"", settings: JournalSettings | None = None
) -> tuple[Journal, AcceptorState]:
    """Recover an acceptor's state and go on writing.

    Args:
        disk: The member's disk.
        folder: The acceptor's folder, held by this process.
        owner: As given to `create_journal`.
        settings: Sizes.

    Returns:
        The journal, and the state that its records add up to, for the acceptor to own.

    Raises:
        DamageError: A file is missing or damaged: the acceptor must not vote.
        StorageError: The disk refuses.

    Guarantee: all of the state is durable in one new file before this returns.
    """
    with storage_errors(f"cannot open the journal in {disk.where(folder)}"):
        named = read_named(disk, folder)
        state = recover(disk, folder, named, owner)
        for number in list_files(disk, folder):
            if number > named.current:
                disk.unlink(file_path(folder, number))
        number = named.current + 1
        file = begin_file(
            disk, folder, number, state, owner=owner, copies_votes=True, room=END_MARK_BYTES
        )
        try:
            prepare_named(disk, folder, NamedFiles(number, number, file.durable))
            publish_named(disk, folder)
            _drop_below(disk, folder, number)
        except OSError:
            file.handle.close()
            raise
    journal = Journal(disk, folder, owner, settings or JournalSettings(), state, file)
    return journal, _copy(state)


def recover(disk: Disk, folder: str, named: NamedFiles, owner: bytes) -> AcceptorState:
    """Fold the live files of a journal; changes nothing.

    Raises:
        DamageError: A file is missing or damaged.
    """
    state = AcceptorState()
    for number in range(named.first, named.current + 1):
        where = disk.where(file_path(folder, number))
        opening, records = read_file(disk, folder, number, named, owner)
        if number == named.first:
            state.restore(opening)
        elif state.opening() != opening:
            raise DamageError(f"{where}: does not open with what the file before it ends with")
        for record in records:
            try:
                state.apply(record)
            except KeyError as error:
                message = f"{where}: a record of group {error}, which is not there"
                raise DamageError(message) from error
    return state


class Journal:
    """The journal of one acceptor, open for appending.

    Invariants: `_state` is the fold of all records appended; the last of `_files` is the named
    one and takes the records; once `_failed` is set nothing is written any more.
    """

    def __init__(
        self,
        disk: Disk,
        folder: str,
        owner: bytes,
        settings: JournalSettings,
        state: AcceptorState,
        file: JournalFile,
    ) -> None:
        """Use `open_journal`."""
        self._disk = disk
        self._folder = folder
        self._owner = owner
        self._settings = settings
        self._state = state
        self._files = [file]
        self._failed = ""

    @property
    def files(self) -> tuple[int, ...]:
        """Numbers of the live files, ascending."""
        return tuple(file.number for file in self._files)

    @property
    def where(self) -> str:
        """The file that takes records; for messages."""
        return self._disk.where(file_path(self._folder, self._files[-1].number))

    def reserve(self, byte_count: int, *, appends: int = 1) -> bool:
        """Take room for what is to be appended, in a new file where this one is full.

        Args:
            byte_count: Encoded bytes of all the records, or more.
            appends: In how many appends at most.

        Returns:
            Whether appends that have no more cannot fail for want of room. If not, nothing has
            changed, and asking again later is right.

        Raises:
            StorageError: The disk failed otherwise; the journal refuses everything from here on.
        """
        self._check()
        # Cut into frames, the same bytes fill at most two sectors more a cut.
        needed = frame_size(byte_count) + 2 * frame_size(0) * (appends - 1)
        with self._failing("take room in"):
            file = self._files[-1]
            is_begun = file.position > file.start
            if is_begun and file.position + needed > self._settings.file_bytes:
                # Where there is no room for a new file there may still be some in this one.
                with _unless_full():
                    self._roll(needed)
            return self._extend(needed)

    def append(self, records: Sequence[JournalRecord]) -> None:
        """Write records; they are durable once `sync` has returned.

        Args:
            records: In the order in which they were emitted; not empty.

        Raises:
            StorageFullError: No room, which `reserve` would have told before.
            StorageError: The write failed. In both cases the journal refuses everything from
                here on, since the acceptor already counts on the records.
        """
        assert records, "an append without records would be a frame for nothing"
        body = encode_records(records)
        if not self.reserve(len(body)):
            self._failed = f"no room for a record in {self.where}"
            raise StorageFullError(f"{self._failed}; make room on that disk and start again")
        file = self._files[-1]
        with self._failing("write to"):
            file.append(FrameKind.RECORDS, body)
        file.note_votes(records)
        for record in records:
            self._state.apply(record)

    def sync(self) -> None:
        """Make everything appended durable.

        Raises:
            StorageError: It is not known to be, and never will be: nothing that waits for it may
                leave, and the journal refuses everything from here on.
        """
        self._check()
        with self._failing("sync"):
            self._files[-1].sync()

    def close(self) -> None:
        """Stop cleanly: sync, and say with an end mark that the file is whole.

        A journal that has failed, or is closed, is only let go of.

        Raises:
            StorageError: The disk failed; the journal is closed all the same.
        """
        try:
            if not self._failed:
                with self._failing("close"):
                    self._end()
        finally:
            self._failed = self._failed or "closed"
            self._files[-1].handle.close()

    def _end(self) -> None:
        file = self._files[-1]
        file.sync()
        with _unless_full():
            named = NamedFiles(self.files[0], file.number, file.position + END_MARK_BYTES)
            prepare_named(self._disk, self._folder, named)
            file.end()
            publish_named(self._disk, self._folder)

    def _roll(self, needed: int) -> None:
        """Go on in a new file.

        Raises:
            OSError: Where it says that there is no room, nothing has changed.
        """
        old = self._files[-1]
        copies = self._copies_votes()
        number = old.number + 1
        new = begin_file(
            self._disk,
            self._folder,
            number,
            self._state,
            owner=self._owner,
            copies_votes=copies,
            room=needed + END_MARK_BYTES,
        )
        kept = [] if copies else [f for f in self._files if not f.is_passed(self._state)]
        first = kept[0].number if kept else number
        try:
            prepare_named(self._disk, self._folder, NamedFiles(first, number, new.durable))
        except OSError:
            discard_file(self._disk, self._folder, new)
            raise
        # From here on nothing needs room. What was appended to the old file becomes durable with
        # its end mark: nothing of it may be lost behind later records.
        old.end()
        old.handle.close()
        publish_named(self._disk, self._folder)
        self._files = [*(f for f in self._files if f.number >= first), new]
        _drop_below(self._disk, self._folder, first)

    def _copies_votes(self) -> bool:
        """Whether so many files are held for so few votes that copying these is better."""
        if len(self._files) < self._settings.files_max:
            return False
        votes = [vote for group in self._state.groups.values() for vote in group.votes.values()]
        live_bytes = sum(len(vote.value) for vote in votes)
        return 2 * live_bytes < sum(file.position for file in self._files)

    def _extend(self, needed: int) -> bool:
        """Have room for a frame and the end mark behind it; say whether there was some."""
        handle = self._files[-1].handle
        size = handle.position + needed + END_MARK_BYTES
        if size <= handle.size:
            return True
        chunk = self._settings.chunk_bytes
        for wanted in (-(-size // chunk) * chunk, size):
            with _unless_full():
                handle.reserve(wanted)
                return True
        return False

    def _check(self) -> None:
        if self._failed:
            raise StorageError(f"the journal in {self._disk.where(self._folder)}: {self._failed}")

    @contextlib.contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        """Any error of the disk in here is the journal's last (rule 7)."""
        try:
            with storage_errors(f"cannot {what} {self.where}"):
                yield
        except StorageError as error:
            self._failed = str(error)
            raise


def _drop_below(disk: Disk, folder: str, first: int) -> None:
    """Delete files that are no longer named; a crash in between leaves them to the next time."""
    for number in list_files(disk, folder):
        if number < first:
            disk.unlink(file_path(folder, number))


def _copy(state: AcceptorState) -> AcceptorState:
    """A state of its own that shares the votes, which never change."""
    groups = {
        group: replace(votes, votes=dict(votes.votes)) for group, votes in state.groups.items()
    }
    return AcceptorState(groups, dict(state.tombstones))


@contextlib.contextmanager
def _unless_full() -> Iterator[None]:
    """Go on behind the block where the disk has no room."""
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
