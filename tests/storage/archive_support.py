"""What the tests of archives share: members with a past, and archives of them."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from ray_paxos.core.records import SealedInstance, SealSegment
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.storage.archive_address import parse_address
from ray_paxos.storage.archive_files import ArchiveFiles, FolderArchive
from ray_paxos.storage.archive_layout import ArchivedGroup, cluster_folder, list_group, member_group
from ray_paxos.storage.archiver import Archiver
from ray_paxos.storage.checkpoint_folders import CheckpointFolder
from ray_paxos.storage.checkpoints import published
from ray_paxos.storage.disk import Disk, LocalDisk
from ray_paxos.storage.folder import activate_member, stage_member
from ray_paxos.storage.identity import Identity
from ray_paxos.storage.member_files import FileFormats, checkpoint_place, segment_place
from ray_paxos.storage.restore_sources import ArchiveSource, survey_archive
from ray_paxos.storage.restore_state import StateRestorer
from ray_paxos.storage.segment_folders import SegmentFolder
from ray_paxos.storage.segment_merging import MergeFolder
from ray_paxos.testing.codec import PlainCodec, PlainTables
from ray_paxos.testing.disk import SimulatedDisk
from tests.storage.member_support import cut_at, host_at, make_log
from tests.storage.support import GENESIS, MEMBERS

LOG = make_log(40)
PLAIN = FileFormats(PlainCodec(block_bytes=600), PlainTables())


def identity_of(name: str) -> Identity:
    return Identity(GENESIS, dict(MEMBERS)[name])


def make_disk(name: str = "amber") -> SimulatedDisk:
    disk = SimulatedDisk()
    stage_member(disk, GENESIS, identity_of(name).member_id)
    activate_member(disk)
    return disk


def seal(
    disk: Disk,
    first: int,
    last: int,
    *,
    length: int = 10,
    formats: FileFormats = PLAIN,
    log: Sequence[SealedInstance] = LOG,
) -> None:
    """Seal instances, which follow what is there, in segments of that length."""
    folder = _log(disk, formats, log)
    for start in range(first - 1, last, length):
        folder.seal(SealSegment(1, tuple(log[start : min(start + length, last)])))
        folder.sync()


def merge(disk: Disk, first: int, last: int, formats: FileFormats = PLAIN) -> None:
    place = segment_place(disk, formats, identity_of("amber"), 1)
    MergeFolder.open(place).merge(first, last)
    folder = _log(disk, formats, LOG)
    folder.publish(first, last)


def clean(disk: Disk, floor: int, formats: FileFormats = PLAIN) -> None:
    _log(disk, formats, LOG).cut(floor, None)


def _log(disk: Disk, formats: FileFormats, log: Sequence[SealedInstance]) -> SegmentFolder:
    """Opened on the newest checkpoint, as a learner opens it."""
    instances = published(checkpoint_place(disk, formats, identity_of("amber"), 1))
    base = cut_at(log, instances[-1]) if instances else None
    return SegmentFolder.open(segment_place(disk, formats, identity_of("amber"), 1), base)


def checkpoint(
    disk: Disk,
    *instances: int,
    formats: FileFormats = PLAIN,
    log: Sequence[SealedInstance] = LOG,
) -> None:
    place = checkpoint_place(disk, formats, identity_of("amber"), 1)
    folder = CheckpointFolder.open(place)
    for instance_id in instances:
        folder.save(host_at(log, instance_id), cut_at(log, instance_id))


def drop_checkpoint(disk: Disk, instance_id: int) -> None:
    CheckpointFolder.open(checkpoint_place(disk, PLAIN, identity_of("amber"), 1)).drop(instance_id)


def archive_folder() -> SimulatedDisk:
    disk = SimulatedDisk()
    disk.make_folder("")
    return disk


def archiver(
    files: ArchiveFiles,
    disk: Disk,
    name: str = "amber",
    formats: FileFormats = PLAIN,
    kept: int = 1,
) -> Archiver:
    return Archiver(files, disk, formats, identity_of(name), checkpoints_kept=kept)


def place_of(name: str = "amber", formats: FileFormats = PLAIN) -> ArchivedGroup:
    return member_group(GENESIS, name, 1, formats.segments.suffix)


def archived(
    files: ArchiveFiles, name: str = "amber", formats: FileFormats = PLAIN
) -> tuple[list[tuple[int, int]], list[int]]:
    """Ranges and checkpoints of group 1 in an archive; nothing else may lie there."""
    listing = list_group(files, place_of(name, formats))
    assert (listing.unfinished, listing.unknown) == ([], [])
    return sorted(listing.segments), listing.checkpoints


def restorer(files: ArchiveFiles, scratch: Path, formats: FileFormats = PLAIN) -> StateRestorer:
    survey = survey_archive(files, GENESIS, formats.segments.suffix)
    source = ArchiveSource(
        files, GENESIS, formats, survey.groups.get(1, []), lambda: _scratch(scratch)
    )
    return StateRestorer(
        source, formats.segments, MachineRegistry(), genesis=GENESIS, spec=GENESIS.groups[1]
    )


@contextlib.contextmanager
def _scratch(root: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=root) as name:
        yield Path(name)


def local_archive(root: Path) -> FolderArchive:
    root.mkdir(exist_ok=True)
    address = parse_address(f"file://{root}")
    return FolderArchive(LocalDisk(address.root))


def cluster_path(root: Path) -> Path:
    return root / cluster_folder(GENESIS)
