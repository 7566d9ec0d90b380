"""Brings an archive up to date with what lies in a member's folder.

```
sealed, merged ─▶ read, verified ─▶ "_<range>" put ─▶ read back ─▶ its name ─▶ parts inside it go
checkpoint     ─▶ its files put, each read back ─▶ its manifest, likewise ─▶ older ones go
```

It only reads the member's folder, as the checkpointer reads its learner's: a file that goes
meanwhile is in a merged one, or was cleaned away, and the next round sees what there is. It may be
cut short anywhere: the next life lists what is there, and goes on. What is damaged here is not
archived.

Memory: one segment, or a part of a checkpoint's file, at a time; and the names of what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import google_crc32c

from ray_paxos.core.checkpoint import MANIFEST, CheckpointFile, Manifest, encode_manifest
from ray_paxos.errors import DamageError, ForeignFolderError, StorageError
from ray_paxos.storage.archive_files import (
    CHUNK_BYTES,
    ArchiveFiles,
    checksum_of,
    put_whole,
)
from ray_paxos.storage.archive_layout import (
    GENESIS,
    GroupListing,
    cluster_folder,
    encode_archived_genesis,
    is_covered,
    kept_checkpoints,
    list_group,
    member_group,
    read_archived_genesis,
    runs_of,
)
from ray_paxos.storage.checkpoints import CheckpointPlace, published, read_manifest
from ray_paxos.storage.disk import Disk, storage_errors
from ray_paxos.storage.identity import Identity
from ray_paxos.storage.member_files import FileFormats, checkpoint_place, segment_place
from ray_paxos.storage.parts import held_groups
from ray_paxos.storage.segments import Segment, SegmentPlace, SegmentReader


@dataclass(slots=True)
class ArchiveProgress:
    """How far one group's archive is.

    Attributes:
        sealed_through: The last instance in the member's log when it was last looked at.
        archived_through: All of that log through this instance is in the archive.
        checkpoint: The newest one in the archive; 0 for none.
        files: How many files were put there in this life.
        problems: What could not be archived because it is damaged here.
    """

    sealed_through: int = 0
    archived_through: int = 0
    checkpoint: int = 0
    files: int = 0
    problems: tuple[str, ...] = ()

    @property
    def lag(self) -> int:
        """How many sealed instances are not in the archive."""
        return max(0, self.sealed_through - self.archived_through)


@dataclass(slots=True)
class _Group:
    segments: SegmentPlace
    reader: SegmentReader
    checkpoints: CheckpointPlace
    listing: GroupListing | None = None
    problems: list[str] = field(default_factory=list)


class Archiver:
    """Archives one member; used by one thread.

    Attributes:
        progress: By group; replaced as a whole, so that another thread may look.
    """

    def __init__(
        self,
        files: ArchiveFiles,
        disk: Disk,
        formats: FileFormats,
        identity: Identity,
        *,
        checkpoints_kept: int = 1,
    ) -> None:
        """Touch nothing yet.

        Args:
            files: The archive.
            disk: The member's folder; only read.
            formats: The file formats there.
            identity: Whose folder it is.
            checkpoints_kept: So many of the newest checkpoints stay in the archive.
        """
        self._files = files
        self._disk = disk
        self._identity = identity
        self._kept = checkpoints_kept
        self._is_announced = False
        self._is_over: Callable[[], bool] = lambda: False
        self._formats = formats
        self._groups: dict[int, _Group] = {}
        self.progress: dict[int, ArchiveProgress] = {}
        self._see_groups()

    def update(self, is_over: Callable[[], bool] = lambda: False) -> None:
        """Archive what is there and not archived, of all groups.

        Args:
            is_over: Asked before each file; once it says so, no other one is begun.

        Raises:
            StorageError: The archive is away, is full, refuses, or is another cluster's; or the
                own disk fails. What was archived before that stays, and calling it again goes on.
        """
        self._is_over = is_over
        self._files.check()
        self._announce()
        self._see_groups()
        for group in self._groups:
            self.update_group(group)

    def _see_groups(self) -> None:
        """Archive those that the member has now; what it had before stays in the archive."""
        disk, formats, identity = self._disk, self._formats, self._identity
        with storage_errors(f"cannot read {disk.where('')}"):
            held = held_groups(disk, identity)
        for group in [group for group in self._groups if group not in held]:
            del self._groups[group], self.progress[group]
        for group in held:
            if group not in self._groups:
                place = segment_place(disk, formats, identity, group)
                checkpoints = checkpoint_place(disk, formats, identity, group)
                self._groups[group] = _Group(place, SegmentReader(place), checkpoints)
                self.progress[group] = ArchiveProgress()

    def update_group(self, group: int) -> None:
        """As `update`, of one group."""
        state = self._groups[group]
        state.problems.clear()
        try:
            self._update_group(group, state)
        except StorageError:
            # What it knew of the archive may not be so any more.
            state.listing = None
            raise
        finally:
            self._note_progress(group, state)

    def _announce(self) -> None:
        """Say whose archive this is, or find that it is said."""
        if self._is_announced:
            return
        genesis, files = self._identity.genesis, self._files
        folder = cluster_folder(genesis)
        if files.list(folder).get(GENESIS) is None:
            name = self._identity.name
            data = encode_archived_genesis(genesis)
            put_whole(files, f"{folder}/{GENESIS}", data, writer=f"{name}-")
        elif read_archived_genesis(files, folder) != genesis:
            where = files.where(f"{folder}/{GENESIS}")
            raise ForeignFolderError(f"{where} is of another cluster of this name and id")
        self._is_announced = True

    def _update_group(self, group: int, state: _Group) -> None:
        if state.listing is None:
            state.listing = self._list(group, state)
        try:
            state.reader.refresh()
        except DamageError as error:
            state.problems.append(str(error))
        else:
            for segment in state.reader.segments:
                if self._is_over():
                    return
                self._archive_segment(state, state.listing, segment)
        state.reader.forget_content()
        self._archive_checkpoints(state, state.listing)

    def _list(self, group: int, state: _Group) -> GroupListing:
        """List what is there, and remove what an earlier life left unfinished."""
        name = self._identity.name
        suffix = state.segments.codec.suffix
        place = member_group(self._identity.genesis, name, group, suffix)
        listing = list_group(self._files, place)
        going_on = {place.checkpoint(i) for i in published(state.checkpoints)}
        for path in listing.unfinished:
            if path.startswith(f"{place.log}/"):
                self._files.delete(path)
            elif path not in going_on:
                self._files.delete_folder(path)
        self._drop_parts(listing)
        return listing

    # Segments.

    def _archive_segment(self, state: _Group, listing: GroupListing, segment: Segment) -> None:
        wanted = (segment.first, segment.last)
        if is_covered(listing.segments, wanted):
            return
        try:
            data = self._read_segment(state.segments, segment)
        except FileNotFoundError:
            # Merged or cleaned away: the next round sees what there is.
            return
        except DamageError as error:
            state.problems.append(str(error))
            return
        put_whole(self._files, listing.place.segment(*wanted), data)
        listing.segments[wanted] = len(data)
        self._count_file(listing.place.group)
        self._drop_parts(listing, wanted)

    def _read_segment(self, place: SegmentPlace, segment: Segment) -> bytes:
        """A segment's bytes, which were compared with their checksum."""
        where = self._disk.where(segment.path)
        try:
            with storage_errors(f"cannot read {where}"):
                data = self._disk.read(segment.path)
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise FileNotFoundError(where) from error
            raise
        if place.codec.open(data, where).header != segment.header:
            raise DamageError(f"{where} is not the file that was listed")
        return data

    def _drop_parts(self, listing: GroupListing, whole: tuple[int, int] | None = None) -> None:
        """Remove what lies inside a segment that is archived; of all where none is named."""
        widest = 0
        for first, last in sorted(listing.segments, key=lambda r: (r[0], -r[1])):
            is_part = last <= widest
            widest = max(widest, last)
            if not is_part or (whole is not None and not whole[0] <= first <= last <= whole[1]):
                continue
            self._files.delete(listing.place.segment(first, last))
            del listing.segments[first, last]

    # Checkpoints.

    def _archive_checkpoints(self, state: _Group, listing: GroupListing) -> None:
        own = published(state.checkpoints)
        for instance_id in self._wanted(own, listing):
            try:
                self._archive_checkpoint(state.checkpoints, listing, instance_id)
            except DamageError as error:
                if instance_id in published(state.checkpoints):
                    state.problems.append(str(error))
                else:
                    # Dropped meanwhile for a newer one.
                    self._files.delete_folder(listing.place.checkpoint(instance_id))
        kept = kept_checkpoints(runs_of(listing.segments), listing.checkpoints, self._kept)
        for instance_id in [i for i in listing.checkpoints if i not in kept]:
            self._drop_checkpoint(listing, instance_id)

    def _wanted(self, own: tuple[int, ...], listing: GroupListing) -> Iterator[int]:
        """The newest, where it is not there; before it one that a part of the log goes on from."""
        there = set(listing.checkpoints)
        needed = kept_checkpoints(runs_of(listing.segments), sorted({*there, *own}), 1)
        for instance_id in own:
            if instance_id in needed and instance_id not in there:
                yield instance_id

    def _archive_checkpoint(
        self, place: CheckpointPlace, listing: GroupListing, instance_id: int
    ) -> None:
        """Put all files of a checkpoint that are not there whole, and then its manifest.

        Raises:
            DamageError: It is damaged here, or was dropped.
            StorageError: As `update`.
        """
        manifest = read_manifest(place, instance_id)
        target = listing.place.checkpoint(instance_id)
        there = _files_below(self._files, target)
        for file in manifest.files:
            path = f"{target}/{file.path}"
            wanted = (file.size, file.crc32c)
            # What an earlier life has put may not have been read back.
            is_there = there.get(file.path) == file.size
            if is_there and checksum_of(self._files.chunks(path)) == wanted:
                continue
            if self._is_over():
                return
            self._files.put(path, self._source(place, manifest, file))
            if checksum_of(self._files.chunks(path)) != wanted:
                self._files.delete(path)
                raise StorageError(
                    f"{self._files.where(path)} does not read back as it was written"
                )
            self._count_file(listing.place.group)
        put_whole(self._files, f"{target}/{MANIFEST}", encode_manifest(manifest))
        listing.checkpoints = sorted({*listing.checkpoints, instance_id})

    def _source(
        self, place: CheckpointPlace, manifest: Manifest, file: CheckpointFile
    ) -> Iterator[bytes]:
        """The bytes of a checkpoint's file; where they are not those, it raises at the end."""
        path = f"{place.path(manifest.cut.instance_id)}/{file.path}"
        where = self._disk.where(path)
        crc = offset = 0
        while offset < file.size:
            try:
                with storage_errors(f"cannot read {where}"):
                    data = self._disk.read(path, offset, CHUNK_BYTES)
            except StorageError as error:
                if isinstance(error.__cause__, FileNotFoundError):
                    raise DamageError(f"{where} is missing") from error
                raise
            if not data:
                break
            crc = google_crc32c.extend(crc, data)
            offset += len(data)
            yield data
        if (offset, crc) != (file.size, file.crc32c):
            raise DamageError(f"{where}: wrong checksum")

    def _drop_checkpoint(self, listing: GroupListing, instance_id: int) -> None:
        folder = listing.place.checkpoint(instance_id)
        self._files.delete(f"{folder}/{MANIFEST}")
        listing.checkpoints.remove(instance_id)
        self._files.delete_folder(folder)

    # What is told.

    def _count_file(self, group: int) -> None:
        self.progress[group].files += 1

    def _note_progress(self, group: int, state: _Group) -> None:
        files = self.progress[group].files
        sealed = state.reader.last
        through = checkpoint = 0
        if state.listing is not None:
            runs = runs_of(state.listing.segments)
            floor = state.reader.floor
            through = max((last for first, last in runs if first <= max(floor, 1)), default=0)
            checkpoint = max(state.listing.checkpoints, default=0)
        else:
            through = self.progress[group].archived_through
            checkpoint = self.progress[group].checkpoint
        self.progress[group] = ArchiveProgress(
            sealed, min(through, sealed), checkpoint, files, tuple(state.problems)
        )


def _files_below(files: ArchiveFiles, folder: str) -> dict[str, int]:
    """Sizes of all files below a folder, by path."""
    found: dict[str, int] = {}
    waiting = [""]
    while waiting:
        above = waiting.pop()
        for name, size in files.list(f"{folder}/{above}".rstrip("/")).items():
            path = f"{above}/{name}".lstrip("/")
            if size is None:
                waiting.append(path)
            else:
                found[path] = size
    return found
