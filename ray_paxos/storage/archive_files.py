"""What an archive can do, and archives in folders.

An archive is files under paths, and nothing else: no index, no lock. What is put there is not
trusted until it was read back; that it has its own name, and not an unfinished one, says so
(`archive_layout`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import google_crc32c

from ray_paxos.errors import DamageError, StorageError
from ray_paxos.storage.disk import Disk, storage_errors

CHUNK_BYTES = 4 << 20
UNFINISHED = "_"


class ArchiveFiles(Protocol):
    """The files of an archive; paths are relative to it, with `/` between the parts.

    Every method raises `StorageError` where the archive is away or refuses, with its own words.
    """

    def where(self, path: str) -> str:
        """The path as a person finds it."""

    def check(self) -> None:
        """Raise where the archive itself is not there; nothing makes it."""

    def list(self, folder: str) -> Mapping[str, int | None]:
        """Sizes by name in a folder, None for a folder in it; nothing where it is not there."""

    def put(self, path: str, chunks: Iterable[bytes]) -> None:
        """Write a file, in place of what has that name; durable on return.

        Where this is cut short, the file may be there with a part of it, or with another's.
        """

    def chunks(self, path: str) -> Iterator[bytes]:
        """The bytes of a file, some at a time.

        Raises:
            DamageError: There is no such file.
        """

    def move(self, old: str, new: str) -> None:
        """Give a file another name in its folder, all at once, in place of what had it."""

    def delete(self, path: str) -> None:
        """Remove a file, durably; nothing where there is none."""

    def delete_folder(self, folder: str) -> None:
        """Remove a folder with all in it; nothing where there is none."""


class FolderArchive:
    """An archive in a folder of a file system."""

    def __init__(self, disk: Disk) -> None:
        """Use a folder, which has to be there: an empty mount point is not to be filled."""
        self._disk = disk

    def where(self, path: str) -> str:
        """Its path."""
        return self._disk.where(path)

    def check(self) -> None:
        """The folder is there."""
        if not self._disk.is_folder(""):
            raise StorageError(f"{self.where('')} is no folder that is there: make or mount it")

    def list(self, folder: str) -> Mapping[str, int | None]:
        """Names and sizes."""
        disk = self._disk
        found: dict[str, int | None] = {}
        with storage_errors(f"cannot list {self.where(folder)}"):
            try:
                names = disk.list(folder)
            except FileNotFoundError:
                return found
            for name in names:
                path = f"{folder}/{name}" if folder else name
                # Another process may take a file away meanwhile.
                with contextlib.suppress(FileNotFoundError):
                    found[name] = None if disk.is_folder(path) else disk.size(path)
        return found

    def put(self, path: str, chunks: Iterable[bytes]) -> None:
        """Write, sync, and sync the folder."""
        disk = self._disk
        self.check()
        folder = path.rpartition("/")[0]
        with storage_errors(f"cannot write {self.where(path)}"):
            disk.make_folder(folder)
            if disk.exists(path):
                disk.unlink(path)
            file = disk.create(path)
            try:
                for chunk in chunks:
                    file.write(chunk)
                file.sync()
            finally:
                file.close()
            disk.sync_folder(folder)

    def chunks(self, path: str) -> Iterator[bytes]:
        """Read a part at a time."""
        offset = 0
        while data := self._read(path, offset):
            yield data
            offset += len(data)

    def _read(self, path: str, offset: int) -> bytes:
        where = self.where(path)
        with storage_errors(f"cannot read {where}"):
            try:
                return self._disk.read(path, offset, CHUNK_BYTES)
            except FileNotFoundError as error:
                raise DamageError(f"{where} is missing") from error

    def move(self, old: str, new: str) -> None:
        """Rename, and sync the folder."""
        with storage_errors(f"cannot rename {self.where(old)}"):
            self._disk.rename(old, new)
            self._disk.sync_folder(new.rpartition("/")[0])

    def delete(self, path: str) -> None:
        """Unlink, and sync the folder: a manifest has to go before what it lists."""
        with (
            storage_errors(f"cannot remove {self.where(path)}"),
            contextlib.suppress(FileNotFoundError),
        ):
            self._disk.unlink(path)
            self._disk.sync_folder(path.rpartition("/")[0])

    def delete_folder(self, folder: str) -> None:
        """Remove what is in it, then the folder."""
        for name, size in self.list(folder).items():
            if size is None:
                self.delete_folder(f"{folder}/{name}")
            else:
                self.delete(f"{folder}/{name}")
        with (
            storage_errors(f"cannot remove {self.where(folder)}"),
            contextlib.suppress(FileNotFoundError),
        ):
            self._disk.remove_folder(folder)


def checksum_of(chunks: Iterable[bytes]) -> tuple[int, int]:
    """(bytes, CRC32C) of what comes."""
    byte_count = crc = 0
    for chunk in chunks:
        byte_count += len(chunk)
        crc = google_crc32c.extend(crc, chunk)
    return byte_count, crc


def cut(data: bytes) -> Iterator[bytes]:
    """The same bytes, some at a time."""
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]


def put_whole(files: ArchiveFiles, path: str, data: bytes, *, writer: str = "") -> None:
    """Put a file that has its name only once it was read back and is what was to be put.

    Args:
        files: The archive.
        path: Of the file.
        data: All of it.
        writer: Tells its unfinished file from those of others that put the same.

    Raises:
        StorageError: The archive refuses, or does not give back what it was given.
    """
    folder, _, name = path.rpartition("/")
    unfinished = f"{folder}/{UNFINISHED}{writer}{name}"
    files.put(unfinished, cut(data))
    if checksum_of(files.chunks(unfinished)) != checksum_of(cut(data)):
        files.delete(unfinished)
        raise StorageError(f"{files.where(path)} does not read back as it was written")
    files.move(unfinished, path)
