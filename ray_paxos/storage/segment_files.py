"""Single steps on the files of segments that both who seals and who merges take."""

from __future__ import annotations

import contextlib

from ray_paxos.storage.disk import Disk, DiskFile


def write_file(disk: Disk, path: str, data: bytes) -> DiskFile:
    """Write a new file, not yet durable.

    Raises:
        OSError: The disk refuses; nothing of the file is left.
    """
    file = disk.create(path)
    try:
        file.write(data)
    except OSError:
        file.close()
        with contextlib.suppress(OSError):
            disk.unlink(path)
        raise
    return file


def unlink_if_there(disk: Disk, path: str) -> None:
    """Remove a file, or find that it is gone."""
    # The learner takes merged files away by renaming them.
    with contextlib.suppress(FileNotFoundError):
        disk.unlink(path)
