"""What Ray tells the driver of a chaos run, apart from what the job itself tells."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from typing import TextIO

EXPECTED_NOTICES = ("A worker died or was killed", "has been marked dead")
"""Of processes and nodes that this run killed."""


@contextlib.contextmanager
def told_apart() -> Iterator[None]:
    """Keep what Ray tells the driver off standard output, which is for data.

    Ray prints a paragraph there for whatever was killed, which says nothing new here;
    whatever else it prints goes to stderr.
    """
    with contextlib.redirect_stdout(_RayNotices(sys.stderr)):
        yield


class _RayNotices(io.TextIOBase):
    def __init__(self, others: TextIO) -> None:
        self._others = others
        self._is_dropping = False

    def write(self, text: str) -> int:
        if any(notice in text for notice in EXPECTED_NOTICES):
            self._is_dropping = True
        elif not self._is_dropping or text.strip():
            self._is_dropping = False
            self._others.write(text)
        return len(text)
