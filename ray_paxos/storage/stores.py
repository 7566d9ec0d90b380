"""What a shell does a role's writing and reading with: one store for each role.

A shell executes the driver's actions: `Write` is `write` and then `sync`, after which the driver
is told; `Read` is `read`. Several writes may share one sync. After a write or sync that failed the
store refuses everything (R3), with one exception: a learner's `write` that raises
`StorageFullError` wrote nothing, nobody was told anything, and the same write may be tried again.

What can be left undone without a loss, a merge, is given up where it fails, and `problems` says
so; it stops neither the role nor other groups (R12).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, get_args

from ray_paxos.core.messages import ChosenValue
from ray_paxos.core.records import (
    JournalRecord,
    MergeSegments,
    PublishMerged,
    ReadSegments,
    Record,
    SealSegment,
)
from ray_paxos.errors import PaxosError, StorageError, StorageFullError
from ray_paxos.storage.disk import Disk, storage_errors
from ray_paxos.storage.identity import RoleFolder
from ray_paxos.storage.journal import Journal
from ray_paxos.storage.segment_folders import MergeFolder, SegmentFolder

JOURNAL_RECORDS = get_args(JournalRecord)


class RoleStore(Protocol):
    """A role's part of the disk."""

    @property
    def problems(self) -> Mapping[int, str]:
        """What was last given up, by group; to be shown in status."""

    def reserve(self, byte_count: int, *, appends: int = 1) -> bool:
        """Take room for records in advance, and say whether there was some.

        Args:
            byte_count: Encoded bytes of all the records, or more.
            appends: In how many calls of `write` at most.
        """

    def write(self, records: Sequence[Record]) -> None:
        """Write records, in order; durable after the next `sync`.

        Raises:
            StorageFullError: No room (see above).
            StorageError: The write failed, or an earlier one did.
            InvariantViolationError: The records contradict what is there.
        """

    def sync(self) -> None:
        """Make everything written durable.

        Raises:
            StorageError: It is not, and the store refuses everything from here on.
        """

    def read(self, read: ReadSegments) -> list[ChosenValue]:
        """Read sealed instances; contiguous, as many as asked for, at least one if there is one.

        Raises:
            StorageError: They cannot be read; nothing damaged is given out.
        """

    def close(self) -> None:
        """Stop cleanly and let go of the folder; calling it again does nothing.

        Raises:
            StorageError: The disk failed; the folder is let go of all the same.
        """


class _Store:
    """What all stores share: the folder, and refusing everything after a failure."""

    def __init__(self, disk: Disk, folder: RoleFolder) -> None:
        self._disk = disk
        self._folder = folder
        self._failed = ""

    @property
    def problems(self) -> Mapping[int, str]:
        """Nothing is ever given up."""
        return {}

    def reserve(self, byte_count: int, *, appends: int = 1) -> bool:
        """Whatever is written takes its room when it is."""
        return True

    def read(self, read: ReadSegments) -> list[ChosenValue]:
        """This role has no segments to read."""
        return []

    def close(self) -> None:
        """Let go of the folder."""
        self._failed = self._failed or "closed"
        self._folder.release()

    @contextlib.contextmanager
    def _using(self, what: str) -> Iterator[None]:
        """Any failure in here is the store's last (R3)."""
        where = self._disk.where(self._folder.path)
        if self._failed:
            raise StorageError(f"cannot {what} {where}: {self._failed}")
        try:
            with storage_errors(f"cannot {what} {where}"):
                yield
        except PaxosError as error:
            self._failed = str(error)
            raise


class AcceptorStore(_Store):
    """The acceptor's journal."""

    def __init__(self, disk: Disk, folder: RoleFolder, journal: Journal) -> None:
        """Write to an open journal."""
        super().__init__(disk, folder)
        self.journal = journal

    def reserve(self, byte_count: int, *, appends: int = 1) -> bool:
        """Have room in the journal; asked before the acceptor handles what may need it."""
        return self.journal.reserve(byte_count, appends=appends)

    def write(self, records: Sequence[Record]) -> None:
        """Append to the journal."""
        appended = [record for record in records if isinstance(record, JOURNAL_RECORDS)]
        assert len(appended) == len(records), "an acceptor emits journal records only"
        self.journal.append(appended)

    def sync(self) -> None:
        """Sync the journal."""
        self.journal.sync()

    def close(self) -> None:
        """End the journal with its mark."""
        try:
            self.journal.close()
        finally:
            super().close()


class LearnerStore(_Store):
    """The chosen logs of all groups of a member."""

    def __init__(self, disk: Disk, folder: RoleFolder, groups: Mapping[int, SegmentFolder]) -> None:
        """Seal and publish in these folders, by group."""
        super().__init__(disk, folder)
        self._groups = groups

    def write(self, records: Sequence[Record]) -> None:
        """Write segments, and note what is to be published."""
        try:
            with self._using("write to"):
                for record in records:
                    assert isinstance(record, SealSegment | PublishMerged), "a learner's record"
                    folder = self._groups[record.group]
                    if isinstance(record, SealSegment):
                        folder.seal(record)
                    else:
                        folder.publish(record.first, record.last)
        except StorageFullError:
            self._failed = ""
            raise

    def sync(self) -> None:
        """Sync, rename, sync the folders."""
        with self._using("sync"):
            for folder in self._groups.values():
                folder.sync()

    @property
    def problems(self) -> Mapping[int, str]:
        """Merged segments that were not what they should be."""
        return {group: folder.problem for group, folder in self._groups.items() if folder.problem}


class CheckpointerStore(_Store):
    """Merging, and reading the learner's segments."""

    def __init__(self, disk: Disk, folder: RoleFolder, groups: Mapping[int, MergeFolder]) -> None:
        """Merge in these folders, by group."""
        super().__init__(disk, folder)
        self._groups = groups

    def write(self, records: Sequence[Record]) -> None:
        """Write merged segments."""
        with self._using("write to"):
            for record in records:
                assert isinstance(record, MergeSegments), "a checkpointer's record"
                self._groups[record.group].merge(record.first, record.last)

    def sync(self) -> None:
        """Sync, read back, rename, sync the folders."""
        with self._using("sync"):
            for folder in self._groups.values():
                folder.sync()

    def read(self, read: ReadSegments) -> list[ChosenValue]:
        """Read the learner's published segments."""
        with storage_errors(f"cannot read the log of group {read.group}"):
            folder = self._groups.get(read.group)
            return folder.reader.read(read.from_instance, read.bytes_max) if folder else []

    @property
    def problems(self) -> Mapping[int, str]:
        """Merges that could not be done."""
        return {group: folder.problem for group, folder in self._groups.items() if folder.problem}


class ProposerStore(_Store):
    """A proposer writes nothing but its incarnation, when it is opened."""

    def write(self, records: Sequence[Record]) -> None:
        """There is nothing to write."""
        assert not records, "a proposer emits no records"

    def sync(self) -> None:
        """There is nothing to sync."""
