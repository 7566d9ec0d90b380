"""Receiving another member's checkpoint: in chunks, resumable, verified as a whole.

`_manifest.json` is written first: with it a later life of the process knows what was being
received. How much of each file came is told by the files' lengths alone. A loss of power can make
them lie, as chunks are not synced one by one; whatever was made of them is found when all is
verified, and fetched again.

A failed sync may have dropped what can still be read (`disk`): then nothing of the transfer is used
any more.
"""

from __future__ import annotations

import contextlib

from ray_paxos.core.checkpoint import UNFINISHED_MANIFEST, Manifest, machine_folder
from ray_paxos.errors import DamageError
from ray_paxos.storage.checkpoint_files import (
    all_or_nothing,
    remove_tree,
    sync_tree,
    write_manifest,
)
from ray_paxos.storage.checkpoints import CheckpointPlace, tree, verify_file


class Transfer:
    """A checkpoint that is being received. Errors of the disk are `OSError` here.

    Attributes:
        manifest: What it will be.
        folder: Where its files go.
    """

    def __init__(self, place: CheckpointPlace, manifest: Manifest) -> None:
        """Go on with a folder that has the manifest."""
        self.manifest = manifest
        self.folder = place.path(manifest.cut.instance_id)
        self._place = place
        self._disk = place.disk
        self._files = {file.path: file for file in manifest.files}

    @classmethod
    def begin(cls, place: CheckpointPlace, manifest: Manifest) -> Transfer:
        """Make the folder, durably; what was in it goes. Nothing is left of it where this fails."""
        transfer = cls(place, manifest)
        disk, folder = place.disk, transfer.folder
        remove_tree(disk, folder)
        with all_or_nothing(disk, folder):
            disk.make_folder(folder)
            # A machine that saved no file has a folder all the same.
            folders = {machine_folder(position) for position in range(len(manifest.machines))}
            folders.update(path.rpartition("/")[0] for path in transfer._files)
            for path in sorted(folders - {""}):
                disk.make_folder(f"{folder}/{path}")
            write_manifest(disk, folder, manifest)
        return transfer

    def present(self) -> dict[str, int]:
        """Bytes that are there, by path; files that are longer than they may be begin anew."""
        found = {}
        for path, file in self._files.items():
            full = f"{self.folder}/{path}"
            size = self._disk.size(full) if self._disk.exists(full) else 0
            if size > file.size:
                self._disk.unlink(full)
                size = 0
            found[path] = size
        return found

    def write_chunk(self, path: str, offset: int, data: bytes) -> int:
        """Append to a file; see `CheckpointFolder.write_chunk`."""
        file = self._files.get(path)
        full = f"{self.folder}/{path}"
        if file is None:
            raise DamageError(f"{self.folder}: {path!r} is not in the manifest that is received")
        is_there = self._disk.exists(full)
        present = self._disk.size(full) if is_there else 0
        if offset != present:
            return present
        if present + len(data) > file.size:
            raise DamageError(f"{self.folder}: bytes beyond the end of {path!r} came")
        handle = self._disk.open(full) if is_there else self._disk.create(full)
        try:
            handle.write(data)
        finally:
            handle.close()
        return present + len(data)

    def complete(self) -> None:
        """Make everything durable, and verify it.

        Raises:
            DamageError: Some files are not whole. Those are removed.
        """
        disk, folder = self._disk, self.folder
        for path in tree(disk, folder)[0]:
            if path not in self._files and path != UNFINISHED_MANIFEST:
                disk.unlink(f"{folder}/{path}")
        for file in self.manifest.files:
            if file.size == 0 and not disk.exists(f"{folder}/{file.path}"):
                disk.create(f"{folder}/{file.path}").close()
        sync_tree(disk, folder, *tree(disk, folder))
        problem: DamageError | None = None
        for file in self.manifest.files:
            try:
                verify_file(self._place, folder, file)
            except DamageError as error:
                problem = problem or error
                with contextlib.suppress(FileNotFoundError):
                    disk.unlink(f"{folder}/{file.path}")
        if problem is not None:
            raise problem
