"""Reading the checkpoints of a group: which there are, whether they are whole, what they hold.

```
checkpointer/group=<g>/<instance_id>/     one cut; a checkpoint once it has `manifest.json`
    manifest.json                           (files: see core/checkpoint.py)
    _manifest.json                          while it is being saved or received
    host.msgpack, sessions.msgpack, machine-0000/...
checkpointer/group=<g>/damaged-<instance_id>/   set aside; nothing is ever served from it
```

Rules:

1. `manifest.json` comes last: every file, every folder and the manifest itself are durable before
   it gets that name. It goes first: a folder that is being removed is a checkpoint no more.
2. A published checkpoint is immutable. The Checkpointer alone writes and removes
   (`checkpoint_folders`); its Learner reads, and may find that a checkpoint goes while it reads.
3. Nothing is given out before every byte of every file agreed with the manifest. A file that is
   not in the manifest is damage, too: a machine that lists its folder would load it.
4. Damage names the file. That a machine's kind is not registered here, or that it fails to load,
   is no damage (`CheckpointError`): the checkpoint is as it was saved.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import google_crc32c

from ray_paxos.core.checkpoint import (
    MANIFEST,
    MANIFEST_BYTES_MAX,
    UNFINISHED_MANIFEST,
    CheckpointFile,
    Cut,
    Manifest,
    decode_manifest,
)
from ray_paxos.errors import CheckpointError, DamageError, StorageError
from ray_paxos.machines.host import MachineHost
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.storage.checkpoint_state import read_state
from ray_paxos.storage.disk import Disk, storage_errors
from ray_paxos.storage.table_format import TableCodec

_DIGITS = 16
_LISTINGS_MAX = 5
_READ_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class CheckpointPlace:
    """Where one group's checkpoints lie, and how they are read.

    Attributes:
        disk: The member's disk.
        tables: The format of tables.
        genesis: Hash of the cluster's genesis.
        group: Whose checkpoints.
        folder: The checkpointer's folder of the group.
    """

    disk: Disk
    tables: TableCodec
    genesis: bytes
    group: int
    folder: str

    def path(self, instance_id: int) -> str:
        """The folder of the checkpoint of an instance."""
        return f"{self.folder}/{instance_id:0{_DIGITS}}"

    def parse(self, name: str) -> int | None:
        """The instance that a folder's name gives; None where it is no checkpoint's name."""
        if name.isdecimal() and name == f"{int(name):0{_DIGITS}}":
            return int(name)
        return None


@dataclass(frozen=True, slots=True)
class LoadedCheckpoint:
    """A checkpoint's content: where it was taken, and a host that applied through there."""

    cut: Cut
    host: MachineHost


@dataclass(frozen=True, slots=True)
class NewestCheckpoint:
    """The newest checkpoint that could be loaded.

    Attributes:
        checkpoint: None where there is none.
        problems: What is damaged of newer ones, for a person, newest first.
    """

    checkpoint: LoadedCheckpoint | None
    problems: tuple[str, ...]


def published(place: CheckpointPlace) -> tuple[int, ...]:
    """The instances of which there are checkpoints, ascending; not verified.

    Raises:
        DamageError: The folder is missing.
        StorageError: The disk refuses.
    """
    found = []
    for name in list_folder(place):
        instance_id = place.parse(name)
        if instance_id is not None and place.disk.exists(f"{place.folder}/{name}/{MANIFEST}"):
            found.append(instance_id)
    return tuple(sorted(found))


def verify_checkpoint(place: CheckpointPlace, instance_id: int) -> Manifest:
    """Compare every byte of every file with the manifest.

    Raises:
        DamageError: Something of it is damaged, missing or too much; names the file.
        StorageError: The disk refuses.
    """
    manifest = read_manifest(place, instance_id)
    verify_files(place, manifest)
    return manifest


def load_checkpoint(
    place: CheckpointPlace, instance_id: int, registry: MachineRegistry
) -> LoadedCheckpoint:
    """Verify a checkpoint and make a host of it.

    Args:
        place: Where.
        instance_id: A published one.
        registry: The classes of the machines.

    Raises:
        CheckpointError: A machine failed to load, or is not registered here.
        DamageError: As `verify_checkpoint`.
        StorageError: The disk refuses.
    """
    manifest = verify_checkpoint(place, instance_id)
    folder = place.path(instance_id)
    with storage_errors(f"cannot load {place.disk.where(folder)}"):
        host = read_state(place.disk, place.tables, folder, manifest, registry)
    return LoadedCheckpoint(manifest.cut, host)


def settle(place: CheckpointPlace, instance_id: int) -> None:
    """Make a checkpoint's name durable, before anybody but its checkpointer relies on it.

    What can be read may be in the page cache only: its checkpointer may be about to sync it, or
    have been killed before. All else of it was durable before it got its name.

    Raises:
        StorageError: The disk refuses.
    """
    folder = place.path(instance_id)
    what = f"cannot sync {place.disk.where(folder)}"
    # One that was dropped meanwhile has made room for a newer one, which is durable.
    with storage_errors(what), contextlib.suppress(FileNotFoundError):
        place.disk.sync_folder(folder)


def newest_whole(
    place: CheckpointPlace,
    registry: MachineRegistry,
    *,
    above: int = 0,
    at_most: int | None = None,
) -> NewestCheckpoint:
    """Load the newest checkpoint that can be loaded; changes nothing on disk.

    Also while the checkpointer works there: one that it drops meanwhile is no problem.

    Args:
        place: Where.
        registry: The classes of the machines.
        above: Only one of a later instance.
        at_most: Only one of this instance or an earlier one; None for any.

    Raises:
        CheckpointError: A machine of the newest whole one cannot be loaded here. An older one would
            not help, and nothing may be taken for lost.
        StorageError: The disk refuses, for another reason than damage.
    """
    problems: dict[int, str] = {}
    for _ in range(_LISTINGS_MAX):
        try:
            listed = published(place)
        except DamageError as error:
            return NewestCheckpoint(None, (str(error),))
        wanted = [i for i in listed if i > above and (at_most is None or i <= at_most)]
        was_dropped = False
        for instance_id in reversed([i for i in wanted if i not in problems]):
            try:
                loaded = load_checkpoint(place, instance_id, registry)
            except (StorageError, CheckpointError) as error:
                if not place.disk.exists(f"{place.path(instance_id)}/{MANIFEST}"):
                    # A newer one was published: that one is wanted.
                    was_dropped = True
                    break
                if not isinstance(error, DamageError):
                    raise
                problems[instance_id] = str(error)
            else:
                return NewestCheckpoint(loaded, tuple(problems.values()))
        if not was_dropped:
            break
    return NewestCheckpoint(None, tuple(problems.values()))


# What writing shares.


def list_folder(place: CheckpointPlace) -> list[str]:
    """Names in the group's folder.

    Raises:
        DamageError: It is missing.
        StorageError: The disk refuses.
    """
    where = place.disk.where(place.folder)
    try:
        with storage_errors(f"cannot list {where}"):
            return list(place.disk.list(place.folder))
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise DamageError(f"{where} is missing; it is never made anew") from error
        raise


def read_manifest(place: CheckpointPlace, instance_id: int, name: str = MANIFEST) -> Manifest:
    """The manifest of a checkpoint, or of one that is not finished.

    Raises:
        DamageError: It is missing, damaged, or of another checkpoint.
        StorageError: The disk refuses.
    """
    path = f"{place.path(instance_id)}/{name}"
    where = place.disk.where(path)
    try:
        with storage_errors(f"cannot read {where}"):
            data = place.disk.read(path, 0, MANIFEST_BYTES_MAX + 1)
    except StorageError as error:
        raise _missing(error, where) from error
    manifest = decode_manifest(data, where, genesis=place.genesis, group=place.group)
    if manifest.cut.instance_id != instance_id:
        raise DamageError(f"{where} is of the checkpoint of instance {manifest.cut.instance_id}")
    return manifest


def verify_files(place: CheckpointPlace, manifest: Manifest) -> None:
    """Compare the files in a checkpoint's folder with a manifest.

    Raises:
        DamageError, StorageError: As `verify_checkpoint`.
    """
    folder = place.path(manifest.cut.instance_id)
    disk = place.disk
    with storage_errors(f"cannot list {disk.where(folder)}"):
        present, _ = tree(disk, folder)
    known = {file.path for file in manifest.files}
    for path in present:
        if path not in known and path not in (MANIFEST, UNFINISHED_MANIFEST):
            raise DamageError(f"{disk.where(folder)}: {path!r} is not in the manifest")
    for file in manifest.files:
        verify_file(place, folder, file)


def verify_file(place: CheckpointPlace, folder: str, file: CheckpointFile) -> None:
    """Compare one file with what the manifest says of it.

    Raises:
        DamageError: It is missing, or any byte of it is another.
        StorageError: The disk refuses.
    """
    path = f"{folder}/{file.path}"
    where = place.disk.where(path)
    try:
        with storage_errors(f"cannot read {where}"):
            size = place.disk.size(path)
            crc32c = checksum(place.disk, path) if size == file.size else 0
    except StorageError as error:
        raise _missing(error, where) from error
    if size != file.size:
        raise DamageError(f"{where} has {size} bytes, not {file.size}")
    if crc32c != file.crc32c:
        raise DamageError(f"{where}: wrong checksum")


def checksum(disk: Disk, path: str) -> int:
    """CRC32C of a file, read a part at a time."""
    crc = 0
    offset = 0
    while data := disk.read(path, offset, _READ_BYTES):
        crc = google_crc32c.extend(crc, data)
        offset += len(data)
    return crc


def tree(disk: Disk, folder: str) -> tuple[list[str], list[str]]:
    """Paths of all files and of all folders below a folder, a folder after the one it is in."""
    files: list[str] = []
    folders: list[str] = []
    waiting = [""]
    for above in waiting:
        for name in disk.list(f"{folder}/{above}".rstrip("/")):
            path = f"{above}/{name}".lstrip("/")
            if disk.is_folder(f"{folder}/{path}"):
                waiting.append(path)
                folders.append(path)
            else:
                files.append(path)
    return sorted(files), folders


def _missing(error: StorageError, where: str) -> StorageError:
    if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
        return DamageError(f"{where} is missing")
    return error
