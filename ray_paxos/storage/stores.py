"""What a shell does a role's writing and reading with: one store for each role.

A shell executes the driver's actions: `Write` is `write` and then `sync`, after which the driver
is told; `Run` is `run`, and its outcome is told. Several writes may share one sync. After a write
or sync that failed the store refuses everything (R3), with one exception: a learner's `write` that
raises `StorageFullError` wrote nothing, nobody was told anything, and the same write may be tried
again. A task that fails is its own matter alone.

Writes, syncs and tasks are called by one thread; the tasks in `SLOW_TASKS` may be called by a
second one, one at a time: they share nothing with the rest that changes but which groups there are,
which `FollowParts` alone changes, by whole entries.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, get_args

from ray_paxos.core.parts import PartLeft, PartTaken
from ray_paxos.core.records import (
    JournalRecord,
    Record,
    SealSegment,
)
from ray_paxos.core.tasks import (
    BeginTransfer,
    ChainRead,
    CheckpointLoaded,
    CheckpointMade,
    ChunkRead,
    CutLog,
    DropCheckpoint,
    DropSaved,
    FollowParts,
    LoadCheckpoint,
    LogCut,
    MakeCheckpoint,
    ManifestRead,
    MergeSegments,
    Outcome,
    PublishMerged,
    PublishTransfer,
    ReadChain,
    ReadChunk,
    ReadManifest,
    ReadSegments,
    ReplaceSegment,
    SaveState,
    Scrub,
    SegmentsRead,
    SetAsideCheckpoint,
    TakeSaved,
    Task,
    TaskDone,
    TaskFailed,
    TransferBegun,
    WriteChunk,
)
from ray_paxos.errors import DamageError, PaxosError, StorageError, StorageFullError
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.storage.checkpoint_folders import CheckpointFolder
from ray_paxos.storage.checkpoint_maker import CheckpointMaker
from ray_paxos.storage.checkpoints import CheckpointPlace, newest_whole, published, settle
from ray_paxos.storage.disk import Disk, storage_errors
from ray_paxos.storage.identity import RoleFolder
from ray_paxos.storage.journal import Journal
from ray_paxos.storage.parts import OpenParts, PartsFile
from ray_paxos.storage.saved_state import drop_all, drop_saved, take_saved
from ray_paxos.storage.scrubber import Scrubber
from ray_paxos.storage.segment_folders import SegmentFolder
from ray_paxos.storage.segment_merging import MergeFolder

JOURNAL_RECORDS = get_args(JournalRecord)
SLOW_TASKS = (
    LoadCheckpoint,
    MakeCheckpoint,
    TakeSaved,
    DropCheckpoint,
    SetAsideCheckpoint,
    BeginTransfer,
    WriteChunk,
    PublishTransfer,
    Scrub,
    FollowParts,
)
"""Done beside the others: each may take as long as all of a group's state does."""
INLINE_TASKS = (SaveState, DropSaved)
"""Done by whoever drives the role, before anything else."""


class RoleStore(Protocol):
    """A role's part of the disk."""

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

    def run(self, task: Task) -> Outcome:
        """Do a task; what it makes is durable when this returns.

        Returns:
            What it came to: `TaskFailed` where it had to be given up. Nothing damaged is given out.
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

    def reserve(self, byte_count: int, *, appends: int = 1) -> bool:
        """Whatever is written takes its room when it is."""
        return True

    def run(self, task: Task) -> Outcome:
        """Do a task, and turn what goes wrong into its outcome."""
        if self._failed:
            return TaskFailed(self._failed)
        try:
            with storage_errors(f"cannot do {type(task).__name__} in group {task.group}"):
                return self._run(task)
        except PaxosError as error:
            return TaskFailed(str(error), isinstance(error, DamageError))

    def _run(self, task: Task) -> Outcome:
        raise AssertionError(f"{type(task).__name__} is no task of this role's")

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


@dataclass(frozen=True, slots=True)
class LearnerGroup:
    """What a learner has of one group on the disk.

    Attributes:
        segments: Its log.
        checkpoints: Where its member's checkpoints are, to be read only.
        saved: Where the learner saves its own state, for the checkpointer to take over.
    """

    segments: SegmentFolder
    checkpoints: CheckpointPlace
    saved: CheckpointPlace


class LearnerStore(_Store):
    """The chosen logs of all groups of a member, and which groups those are."""

    def __init__(
        self,
        disk: Disk,
        folder: RoleFolder,
        parts: PartsFile,
        opened: OpenParts[LearnerGroup],
        registry: MachineRegistry,
    ) -> None:
        """Seal in these folders, by group.

        Args:
            disk: The member's folder.
            folder: The learner's.
            parts: Which groups the member has.
            opened: What is open of them.
            registry: For loading checkpoints.
        """
        super().__init__(disk, folder)
        self._parts = parts
        self._opened = opened
        self._groups = opened.groups
        self._registry = registry

    def write(self, records: Sequence[Record]) -> None:
        """Write segments."""
        try:
            with self._using("write to"):
                for record in records:
                    if isinstance(record, PartTaken | PartLeft):
                        self._parts.apply(record)
                    else:
                        assert isinstance(record, SealSegment), "a learner's record"
                        self._groups[record.group].segments.seal(record)
        except StorageFullError:
            self._failed = ""
            raise

    def sync(self) -> None:
        """Sync, rename, sync the folders."""
        with self._using("sync"):
            # A copy, made in one step: groups may be opened and let go of meanwhile.
            for group in list(self._groups.values()):
                group.segments.sync()

    def _run(self, task: Task) -> Outcome:
        if isinstance(task, FollowParts):
            return self._opened.follow()
        group = self._groups.get(task.group)
        if group is None:
            return TaskFailed(f"the member has left group {task.group}")
        match task:
            case PublishMerged(first=first, last=last):
                group.segments.publish(first, last)
                return TaskDone()
            case CutLog(floor=floor, base=base):
                if base is None and max(published(group.checkpoints), default=0) < floor - 1:
                    # What was told of it is old: it was found damaged since.
                    raise StorageError(f"no checkpoint covers what lies below instance {floor}")
                return LogCut(group.segments.cut(floor, base))
            case ReplaceSegment(values=values):
                group.segments.replace(values)
                return TaskDone()
            case LoadCheckpoint(above=above):
                newest = newest_whole(group.checkpoints, self._registry, above=above)
                found = newest.checkpoint
                if found is None:
                    problems = "; ".join(newest.problems) or "there is none"
                    return TaskFailed(f"no checkpoint above instance {above}: {problems}")
                settle(group.checkpoints, found.cut.instance_id)
                return CheckpointLoaded(found.cut, found.host)
            case SaveState(cut=cut, host=host):
                self._disk.make_folder(group.saved.folder)
                saved = CheckpointFolder.open(group.saved)
                drop_all(saved)
                return CheckpointMade(cut, saved.save(host, cut).byte_count)
            case DropSaved():
                drop_saved(group.saved)
                return TaskDone()
            case _:
                return super()._run(task)


@dataclass(frozen=True, slots=True)
class CheckpointerGroup:
    """What a checkpointer has of one group on the disk.

    Attributes:
        merging: Merges its learner's segments, and reads them.
        checkpoints: Its checkpoints.
        maker: Makes them.
        scrubber: Reads what lies there and compares it with its checksums.
        saved: Where its learner saves its own state.
    """

    merging: MergeFolder
    checkpoints: CheckpointFolder
    maker: CheckpointMaker
    scrubber: Scrubber
    saved: CheckpointPlace


class CheckpointerStore(_Store):
    """Merging, checkpoints, and reading for others."""

    def __init__(
        self,
        disk: Disk,
        folder: RoleFolder,
        opened: OpenParts[CheckpointerGroup],
    ) -> None:
        """Work in these folders, by group; arguments as of `LearnerStore`."""
        super().__init__(disk, folder)
        self._opened = opened
        self._groups = opened.groups

    def write(self, records: Sequence[Record]) -> None:
        """There is nothing to write."""
        assert not records, "a checkpointer emits no records"

    def sync(self) -> None:
        """There is nothing to sync."""

    def _run(self, task: Task) -> Outcome:
        if isinstance(task, FollowParts):
            return self._opened.follow()
        group = self._groups.get(task.group)
        if group is None:
            return TaskFailed(f"the member has left group {task.group}")
        checkpoints, reader = group.checkpoints, group.merging.reader
        match task:
            case ReadSegments():
                values = reader.read(task.from_instance, task.bytes_max)
                return SegmentsRead(tuple(values), reader.floor)
            case ReadChain(instance_id=instance_id):
                return ChainRead(reader.chain(instance_id))
            case ReadManifest(above=above):
                return self._read_manifest(checkpoints, above)
            case ReadChunk(instance_id=instance_id, path=path):
                data = checkpoints.read_chunk(instance_id, path, task.offset, task.bytes_max)
                return ChunkRead(data)
            case MergeSegments(first=first, last=last):
                group.merging.merge(first, last)
            case MakeCheckpoint(through=through):
                return group.maker.make(through)
            case TakeSaved(instance_id=instance_id):
                return take_saved(group.saved, checkpoints, instance_id)
            case DropCheckpoint(instance_id=instance_id):
                checkpoints.drop(instance_id)
            case SetAsideCheckpoint(instance_id=instance_id):
                checkpoints.set_aside(instance_id)
            case BeginTransfer(manifest=manifest):
                present = checkpoints.begin(manifest)
                return TransferBegun(tuple(present[file.path] for file in manifest.files))
            case WriteChunk(instance_id=instance_id, path=path):
                wanted = task.offset + len(task.data)
                if checkpoints.write_chunk(instance_id, path, task.offset, task.data) < wanted:
                    return TaskFailed("the transfer was begun anew meanwhile")
            case PublishTransfer(instance_id=instance_id):
                checkpoints.publish(instance_id)
            case Scrub():
                return group.scrubber.scrub(task)
            case _:
                return super()._run(task)
        return TaskDone()

    @staticmethod
    def _read_manifest(checkpoints: CheckpointFolder, above: int) -> ManifestRead:
        """The newest one that is whole, and those that are not."""
        damaged: list[int] = []
        for instance_id in reversed(checkpoints.instances):
            if instance_id <= above:
                break
            try:
                manifest = checkpoints.manifest_bytes(instance_id)
            except DamageError:
                damaged.append(instance_id)
                continue
            if manifest is not None:
                return ManifestRead(manifest, tuple(damaged))
        return ManifestRead(None, tuple(damaged))


class ProposerStore(_Store):
    """A proposer writes nothing but its incarnation, when it is opened."""

    def __init__(self, disk: Disk, folder: RoleFolder, opened: OpenParts[None]) -> None:
        """Keep the folder; arguments as of `LearnerStore`."""
        super().__init__(disk, folder)
        self._opened = opened

    def _run(self, task: Task) -> Outcome:
        return self._opened.follow() if isinstance(task, FollowParts) else super()._run(task)

    def write(self, records: Sequence[Record]) -> None:
        """There is nothing to write."""
        assert not records, "a proposer emits no records"

    def sync(self) -> None:
        """There is nothing to sync."""
