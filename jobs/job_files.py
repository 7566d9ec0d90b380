"""Files that jobs write: complete or not at all, and checked before the work starts."""

from __future__ import annotations

import errno
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ray_paxos.errors import ConfigurationError, PaxosError

STANDARD_OUTPUT = "-"
ROOM_BYTES = 1_000_000
"""So much has to be free where a file is to be written."""


class OutputError(PaxosError):
    """A file could not be written; the work before it was done."""


def check_output(path: str | None, option: str) -> None:
    """Find out early whether a file can be written.

    Args:
        path: Of the file, `-` for standard output, or None where none is wanted.
        option: What messages call it.

    Raises:
        ConfigurationError: It cannot.
    """
    if path is None or path == STANDARD_OUTPUT:
        return
    folder = Path(path).parent
    if Path(path).is_dir():
        raise ConfigurationError(f"{option} {path}: is a directory; allowed: a file")
    if not folder.is_dir():
        raise ConfigurationError(f"{option} {path}: there is no folder {folder}")
    _check_place(folder, path, option)


def check_folder(path: str | None, option: str) -> None:
    """Find out early whether files can be written to a folder, which need not be there yet.

    Args:
        path: Of the folder; None where none is wanted.
        option: What messages call it.

    Raises:
        ConfigurationError: They cannot.
    """
    if path is None:
        return
    place = Path(path) if Path(path).exists() else Path(path).parent
    if not place.is_dir():
        raise ConfigurationError(f"{option} {path}: {place} is no folder")
    _check_place(place, path, option)


def _check_place(folder: Path, path: str, option: str) -> None:
    """Whether a folder takes files, and has room for one."""
    if not os.access(folder, os.W_OK):
        raise ConfigurationError(f"{option} {path}: the folder {folder} is not writable")
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, ROOM_BYTES)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            # It cannot be asked there; it shows when the file is written.
            return
        raise ConfigurationError(
            f"{option} {path}: the folder {folder} takes no file: {error.strerror}"
        ) from error


def write_lines(path: str, lines: Iterable[str]) -> None:
    """Write lines to a file, which is either the whole of it or what it was before.

    Args:
        path: Of the file, or `-` for standard output.
        lines: Without newlines.

    Raises:
        OutputError: The file cannot be written.
    """
    if path == STANDARD_OUTPUT:
        sys.stdout.writelines(line + "\n" for line in lines)
        sys.stdout.flush()
        return
    # A device or a pipe is written in place: renaming a file over it would take it away.
    in_place = os.path.exists(path) and not os.path.isfile(path)
    target = path if in_place else f"{path}.unfinished"
    try:
        with open(target, "w", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in lines)
        if not in_place:
            os.replace(target, path)
    except OSError as error:
        if not in_place:
            # The beginning of a file is of no use, and takes what little room there is.
            with suppress(OSError):
                os.unlink(target)
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error


def write_each(writers: Sequence[Callable[[], object]]) -> None:
    """Write several files; one that cannot be written does not keep the next from it.

    Raises:
        OutputError: Some could not be written: which, and why.
    """
    problems: list[str] = []
    for write in writers:
        try:
            write()
        except OutputError as error:
            problems.append(str(error))
    if problems:
        raise OutputError("; ".join(problems))


def write_json(path: str, document: dict[str, Any]) -> None:
    """Write one JSON document.

    Raises:
        OutputError: The file cannot be written.
    """
    write_lines(path, [json.dumps(document, indent=2, ensure_ascii=False)])
