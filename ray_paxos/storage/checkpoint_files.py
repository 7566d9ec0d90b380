"""What every change of a checkpoint's folder is made of, in the order that a crash may break off.

A folder is a checkpoint from the moment it has `manifest.json` on. So that name is given last, to a
manifest that is durable beside files that are durable, and is taken away first, durably.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from ray_paxos.core.checkpoint import MANIFEST, UNFINISHED_MANIFEST, Manifest, encode_manifest
from ray_paxos.errors import PaxosError
from ray_paxos.storage.checkpoints import tree
from ray_paxos.storage.disk import Disk


def sync_tree(disk: Disk, folder: str, files: Sequence[str], folders: Sequence[str]) -> None:
    """Make files and folders below a folder durable, and their names."""
    for path in files:
        file = disk.open(f"{folder}/{path}")
        try:
            file.sync()
        finally:
            file.close()
    for path in reversed(folders):
        disk.sync_folder(f"{folder}/{path}")
    disk.sync_folder(folder)


def write_manifest(disk: Disk, folder: str, manifest: Manifest) -> None:
    """Write the manifest under the name of an unfinished one, durably.

    Raises:
        DamageError: It lists what no checkpoint can hold.
        OSError: The disk refuses.
    """
    data = encode_manifest(manifest)
    file = disk.create(f"{folder}/{UNFINISHED_MANIFEST}")
    try:
        file.write(data)
        file.sync()
    finally:
        file.close()
    disk.sync_folder(folder)


def publish_manifest(disk: Disk, folder: str) -> None:
    """Make a checkpoint of a folder in which all is durable; durable on return."""
    disk.rename(f"{folder}/{UNFINISHED_MANIFEST}", f"{folder}/{MANIFEST}")
    disk.sync_folder(folder)


def remove_tree(disk: Disk, folder: str) -> None:
    """Remove a folder with all in it, durably; does nothing where there is none."""
    if not disk.is_folder(folder):
        return
    for name in (MANIFEST, UNFINISHED_MANIFEST):
        if disk.exists(f"{folder}/{name}"):
            disk.unlink(f"{folder}/{name}")
    disk.sync_folder(folder)
    files, folders = tree(disk, folder)
    for path in files:
        disk.unlink(f"{folder}/{path}")
    for path in reversed(folders):
        disk.remove_folder(f"{folder}/{path}")
    disk.remove_folder(folder)
    disk.sync_folder(folder.rpartition("/")[0])


def move_tree(disk: Disk, source: str, target: str) -> None:
    """Move a folder's files to a new folder, the manifest first, and remove it."""
    files, folders = tree(disk, source)
    for path in ("", *folders):
        disk.make_folder(f"{target}/{path}".rstrip("/"))
    for path in sorted(files, key=lambda path: path != MANIFEST):
        disk.rename(f"{source}/{path}", f"{target}/{path}")
        if path == MANIFEST:
            disk.sync_folder(source)
    remove_tree(disk, source)


@contextlib.contextmanager
def all_or_nothing(disk: Disk, folder: str) -> Iterator[None]:
    """Remove a folder, as far as the disk lets, where the block fails to fill it."""
    try:
        yield
    except (OSError, PaxosError):
        with contextlib.suppress(OSError):
            remove_tree(disk, folder)
        raise
