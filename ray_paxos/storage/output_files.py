"""Files that tools write for a person: whole under their name, or not there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ray_paxos.errors import ConfigurationError

_UNFINISHED = ".unfinished"


@contextlib.contextmanager
def writing_whole(path: Path, *, replaces: bool, outside: Path | None = None) -> Iterator[BinaryIO]:
    """Give a file to write to; it has its name once the block ended without an error.

    Args:
        path: Of the file.
        replaces: Whether it may take the place of one that is there.
        outside: A folder in which it must not be.

    Raises:
        ConfigurationError: It is there already, its folder is not, or it lies where it must not.
        OSError: The disk refuses; nothing of the file is left.
    """
    if outside is not None and path.resolve().is_relative_to(outside.resolve()):
        raise ConfigurationError(f"{path} lies in the member's folder {outside}: write elsewhere")
    if not path.absolute().parent.is_dir():
        raise ConfigurationError(f"{path}: its folder does not exist")
    if path.is_dir():
        raise ConfigurationError(f"{path} is a folder")
    if path.exists() and not replaces:
        raise ConfigurationError(f"{path} exists; --force replaces it")
    unfinished = path.with_name(f"{path.name}{_UNFINISHED}")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
