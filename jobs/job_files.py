"""Files that jobs write: complete or not at all, and checked before the work starts."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ray_paxos.errors import ConfigurationError, PaxosError

STANDARD_OUTPUT = "-"


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
    if not os.access(folder, os.W_OK):
        raise ConfigurationError(f"{option} {path}: the folder {folder} is not writable")


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
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error


def write_json(path: str, document: dict[str, Any]) -> None:
    """Write one JSON document.

    Raises:
        OutputError: The file cannot be written.
    """
    write_lines(path, [json.dumps(document, indent=2, ensure_ascii=False)])
