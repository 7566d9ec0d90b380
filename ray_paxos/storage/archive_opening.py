"""Makes of an archive's address the archive."""

from __future__ import annotations

from ray_paxos.storage.archive_address import ArchiveAddress
from ray_paxos.storage.archive_files import ArchiveFiles, FolderArchive
from ray_paxos.storage.disk import LocalDisk


def open_archive(address: ArchiveAddress) -> ArchiveFiles:
    """The archive at an address; for a folder, looks at nothing.

    Raises:
        StorageError: The store cannot be reached.
    """
    if address.scheme == "file":
        return FolderArchive(LocalDisk(address.root))
    # pyarrow's client takes time and memory that archives in folders do not need.
    from ray_paxos.storage.archive_s3 import S3Archive

    return S3Archive(address)
