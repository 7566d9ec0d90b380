"""Where a group's past is read from: archives, and folders of members.

A source only lists and gives; nothing that it gives is used before it was verified. It changes
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ray_paxos.core.checkpoint import MANIFEST, MANIFEST_BYTES_MAX, decode_manifest, machine_folder
from ray_paxos.core.genesis import Genesis
from ray_paxos.errors import DamageError, StorageError
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.storage.archive_files import ArchiveFiles
from ray_paxos.storage.archive_layout import ArchivedGroup, GroupListing, list_group, list_members
from ray_paxos.storage.checkpoints import (
    CheckpointPlace,
    LoadedCheckpoint,
    load_checkpoint,
    published,
)
from ray_paxos.storage.disk import LocalDisk, storage_errors
from ray_paxos.storage.identity import Identity
from ray_paxos.storage.member_files import (
    FileFormats,
    checkpoint_place,
    list_segments,
    segment_place,
)
from ray_paxos.storage.restore_plan import LogFile, SavedState

ScratchFolder = Callable[[], AbstractContextManager[Path]]
"""Gives a new empty folder, which goes again."""


class Source(Protocol):
    """What is there of one group."""

    @property
    def segments(self) -> list[LogFile]:
        """All segments, by name."""

    @property
    def saved(self) -> list[SavedState]:
        """All checkpoints, by name."""

    def where(self, file: LogFile | SavedState) -> str:
        """A file's path or a checkpoint's folder, for a person."""

    def read(self, file: LogFile) -> bytes:
        """The bytes of a segment, not verified.

        Raises:
            DamageError: It is missing.
            StorageError: The source refuses.
        """

    def load(self, state: SavedState, registry: MachineRegistry) -> LoadedCheckpoint:
        """A checkpoint, verified.

        Raises:
            CheckpointError: A machine fails, or is not registered.
            DamageError: It is damaged, or of another cluster.
            StorageError: The source refuses.
        """


@dataclass(slots=True)
class ArchiveSurvey:
    """What the names in a cluster's archive say.

    Attributes:
        genesis: Of the cluster.
        groups: Listings of all members, by group.
        unknown: Paths that are nothing of an archive.
    """

    genesis: Genesis
    groups: dict[int, list[GroupListing]] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def survey_archive(files: ArchiveFiles, genesis: Genesis, suffix: str) -> ArchiveSurvey:
    """List a cluster's archive; raises StorageError."""
    survey = ArchiveSurvey(genesis)
    places, survey.unknown = list_members(files, genesis, suffix)
    for place in places:
        listing = list_group(files, place)
        survey.groups.setdefault(place.group, []).append(listing)
        survey.unknown += listing.unknown
    return survey


class ArchiveSource:
    """One group in the archive of all members."""

    def __init__(
        self,
        files: ArchiveFiles,
        genesis: Genesis,
        formats: FileFormats,
        listings: list[GroupListing],
        scratch: ScratchFolder,
    ) -> None:
        """Read from an archive; a checkpoint is brought to a scratch folder to be loaded."""
        self._files = files
        self._genesis = genesis.hash()
        self._formats = formats
        self._listings = {listing.place.member: listing for listing in listings}
        self._scratch = scratch

    @property
    def segments(self) -> list[LogFile]:
        """Of all members."""
        return [
            LogFile(first, last, member)
            for member, listing in self._listings.items()
            for first, last in listing.segments
        ]

    @property
    def saved(self) -> list[SavedState]:
        """Of all members."""
        return [
            SavedState(instance_id, member)
            for member, listing in self._listings.items()
            for instance_id in listing.checkpoints
        ]

    def where(self, file: LogFile | SavedState) -> str:
        """In the archive."""
        return self._files.where(self._path(file))

    def read(self, file: LogFile) -> bytes:
        """All of it; a segment fits into memory."""
        return b"".join(self._files.chunks(self._path(file)))

    def load(self, state: SavedState, registry: MachineRegistry) -> LoadedCheckpoint:
        """Bring it here, verify it, and load it."""
        place = self._place(state)
        folder = place.checkpoint(state.instance_id)
        where = self._files.where(f"{folder}/{MANIFEST}")
        data = b""
        for chunk in self._files.chunks(f"{folder}/{MANIFEST}"):
            data += chunk
            if len(data) > MANIFEST_BYTES_MAX:
                raise DamageError(f"{where} is too long")
        manifest = decode_manifest(data, where, genesis=self._genesis, group=place.group)
        if manifest.cut.instance_id != state.instance_id:
            raise DamageError(f"{where} is of instance {manifest.cut.instance_id}")
        with self._scratch() as root:
            disk = LocalDisk(root)
            here = CheckpointPlace(
                disk, self._formats.tables, self._genesis, place.group, "checkpoints"
            )
            target = here.path(state.instance_id)
            for path in (*(file.path for file in manifest.files), MANIFEST):
                self._bring(f"{folder}/{path}", root / target / path)
            # A machine's folder is there though it has no files.
            for position in range(len(manifest.machines)):
                (root / target / machine_folder(position)).mkdir(exist_ok=True)
            try:
                return load_checkpoint(here, state.instance_id, registry)
            except DamageError as error:
                text = str(error).replace(disk.where(target), self._files.where(folder))
                raise DamageError(text) from error

    def _bring(self, path: str, target: Path) -> None:
        with storage_errors(f"cannot write {target}"):
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                for chunk in self._files.chunks(path):
                    file.write(chunk)

    def _place(self, file: LogFile | SavedState) -> ArchivedGroup:
        return self._listings[file.member].place

    def _path(self, file: LogFile | SavedState) -> str:
        place = self._place(file)
        if isinstance(file, LogFile):
            return place.segment(file.first, file.last)
        return place.checkpoint(file.instance_id)


class FolderSource:
    """One group in the folders of members that do not run."""

    def __init__(
        self, members: dict[str, tuple[LocalDisk, Identity]], formats: FileFormats, group: int
    ) -> None:
        """Read from folders, by the members' names."""
        self._disks = {name: disk for name, (disk, _) in members.items()}
        self._logs = {
            name: segment_place(disk, formats, identity, group)
            for name, (disk, identity) in members.items()
        }
        self._saved = {
            name: checkpoint_place(disk, formats, identity, group)
            for name, (disk, identity) in members.items()
        }

    @property
    def segments(self) -> list[LogFile]:
        """Of all these members."""
        found = []
        for name, place in self._logs.items():
            for path in list_segments(place):
                first, last = place.parse(path.rpartition("/")[2])
                found.append(LogFile(first, last, name))
        return found

    @property
    def saved(self) -> list[SavedState]:
        """Of all these members."""
        found = []
        for name, place in self._saved.items():
            if place.disk.exists(place.folder):
                found += [SavedState(instance_id, name) for instance_id in published(place)]
        return found

    def where(self, file: LogFile | SavedState) -> str:
        """In the member's folder."""
        return self._disks[file.member].where(self._path(file))

    def read(self, file: LogFile) -> bytes:
        """All of it."""
        where = self.where(file)
        try:
            with storage_errors(f"cannot read {where}"):
                return self._disks[file.member].read(self._path(file))
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise DamageError(f"{where} is missing") from error
            raise

    def load(self, state: SavedState, registry: MachineRegistry) -> LoadedCheckpoint:
        """Where it lies."""
        return load_checkpoint(self._saved[state.member], state.instance_id, registry)

    def _path(self, file: LogFile | SavedState) -> str:
        if isinstance(file, LogFile):
            return self._logs[file.member].published(file.first, file.last)
        return self._saved[file.member].path(file.instance_id)
