"""Opens files of histories, whatever form they have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ray_paxos.testing.history import History, HistoryFormatError, merge_histories
from ray_paxos.testing.history_formats.jepsen import (
    is_edn,
    is_jepsen_log,
    parse_edn,
    parse_jepsen_log,
)
from ray_paxos.testing.history_formats.jsonl import is_jsonl, parse_jsonl


def read_history(path: Path) -> History:
    """Read a file of our own form, a Jepsen log, or Jepsen's operations as EDN maps.

    Which it is shows in the text; the file's name does not matter.

    Raises:
        HistoryFormatError: It cannot be read, or is none of these.
    """
    text = _text(path)
    if is_jsonl(text):
        return parse_jsonl(text, str(path))
    return _parse_jepsen(text, str(path))


def read_histories(paths: Sequence[Path]) -> History:
    """Read one file, or the files that several processes wrote of one run.

    Args:
        paths: One of any form, or several of our own form, whose times are of one clock.

    Raises:
        HistoryFormatError: One of them cannot be read, or has no times to merge by.
    """
    if len(paths) == 1:
        return read_history(paths[0])
    return merge_histories([parse_jsonl(_text(path), str(path)) for path in paths])


def _parse_jepsen(text: str, name: str) -> History:
    # A string in a map may look like a line of a log, but no log starts with a map.
    if not text.lstrip().startswith("{") and is_jepsen_log(text):
        return parse_jepsen_log(text, name)
    if is_edn(text):
        return parse_edn(text, name)
    raise HistoryFormatError(
        f"{name}: no history; known are JSON lines with our header, Jepsen logs and EDN maps"
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise HistoryFormatError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise HistoryFormatError(f"{path}: byte {error.start} is not UTF-8") from error
