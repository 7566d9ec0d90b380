"""A role's events as JSON lines in its folder, for whoever checks them afterwards.

Rules:

1. A line is written at once, in one call, and not made durable: it outlives its process, but maybe
   not its node. The protocol needs none of it.
2. What an earlier life, or a disk without room, left of a line that was not written whole is cut
   off before the next one is written.
3. The file is begun anew where it would come over its size; the one before it is kept, beside it,
   with `.1` behind its name. Together they are never over twice the size, and one line.
4. A disk that fails costs events, never the role: it is told once, and for a while nothing is
   tried. Numbers of events follow each other within one life, so that a reader sees what is
   missing.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path

import msgspec

from ray_paxos.errors import DamageError, StorageError
from ray_paxos.observability.event_record import EventRecord, decode_record, encode_record

PAUSE_NS = 10_000_000_000
"""After a failure nothing is tried for so long."""
BLOCK_BYTES = 65_536
LINE_END = b"\n"


class EventFile:
    """Takes the events of one role, from any of its threads."""

    def __init__(
        self,
        path: Path,
        bytes_max: int,
        on_failure: Callable[[str], None] | None = None,
        *,
        pause_ns: int = PAUSE_NS,
    ) -> None:
        """Touch nothing yet.

        Args:
            path: Of the newer file, in a folder that nobody else writes to.
            bytes_max: At this size it is begun anew.
            on_failure: Is told what failed, once until writing has succeeded again; it is called
                by the thread that wrote.
            pause_ns: After a failure nothing is tried for so long.
        """
        self._path = path
        self._bytes_max = bytes_max
        self._on_failure = on_failure
        self._pause_ns = pause_ns
        self._lock = threading.Lock()
        self._file: FileIO | None = None
        self._size = 0
        self._retry_ns: int | None = None
        self._is_told = False

    def write(self, record: EventRecord, now_ns: int) -> None:
        """Append an event; raises nothing where the disk fails.

        Args:
            record: The event.
            now_ns: On a clock that never falls: for the pause after a failure.
        """
        encoded = encode_record(record) + LINE_END
        problem = ""
        with self._lock:
            if self._retry_ns is not None and now_ns < self._retry_ns:
                return
            try:
                self._append(encoded)
                self._retry_ns, self._is_told = None, False
            except OSError as error:
                self._let_go()
                self._retry_ns = now_ns + self._pause_ns
                if not self._is_told:
                    self._is_told = True
                    problem = f"events are not written to {self._path} for now: {error}"
        if problem and self._on_failure is not None:
            self._on_failure(problem)

    def close(self) -> None:
        """Hold the file no more; another write opens it again."""
        with self._lock:
            self._let_go()

    def _append(self, encoded: bytes) -> None:
        if self._file is None:
            self._open()
        if self._size and self._size + len(encoded) > self._bytes_max:
            self._let_go()
            self._path.replace(older_path(self._path))
            self._open()
        assert self._file is not None
        written = self._file.write(encoded)
        if written != len(encoded):
            # What there was room for is cut off when the file is opened again.
            raise OSError(f"only {written} of {len(encoded)} bytes were written")
        self._size += written

    def _open(self) -> None:
        file = self._file = self._path.open("a+b", buffering=0)
        self._size = _whole_bytes(file)
        file.truncate(self._size)

    def _let_go(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()


def older_path(path: Path) -> Path:
    """Where the file is kept that was begun before this one."""
    return path.with_name(path.name + ".1")


def read_events(path: Path) -> Iterator[EventRecord]:
    """The events of a role, as far as they are kept, in the order in which they were written.

    The role may go on writing meanwhile: what it does is seen up to some point.

    Args:
        path: Of the newer file. Where there is none there are no events.

    Yields:
        Those of the older file, then those of the newer one.

    Raises:
        DamageError: A line is no event, and not the torn end of its file; names file and line.
        StorageError: A file cannot be read; names it.
    """
    with contextlib.ExitStack() as stack:
        # The newer one first: if it becomes the older one meanwhile, nothing between is missed.
        newer = _opened(path, stack)
        older = _opened(older_path(path), stack)
        if older is not None and newer is not None and _is_same(older, newer):
            older = None
        if older is not None:
            yield from _events_of(older, older_path(path))
        if newer is not None:
            yield from _events_of(newer, path)


def _opened(path: Path, stack: contextlib.ExitStack) -> FileIO | None:
    try:
        return stack.enter_context(path.open("rb", buffering=0))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error}") from error


def _is_same(one: FileIO, other: FileIO) -> bool:
    return os.path.samestat(os.fstat(one.fileno()), os.fstat(other.fileno()))


def _events_of(file: FileIO, path: Path) -> Iterator[EventRecord]:
    for number, line in enumerate(_whole_lines(file, path), 1):
        try:
            record = decode_record(line)
        except msgspec.DecodeError as error:
            raise DamageError(f"{path}, line {number}: no event: {error}") from error
        yield record


def _whole_lines(file: FileIO, path: Path) -> Iterator[bytes]:
    """Its lines without their ends; what stands behind the last end is no line."""
    rest = b""
    while True:
        try:
            block = file.read(BLOCK_BYTES)
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error}") from error
        if not block:
            return
        *lines, rest = (rest + block).split(LINE_END)
        yield from lines


def _whole_bytes(file: FileIO) -> int:
    """How many bytes of a file are whole lines."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - BLOCK_BYTES)
        file.seek(start)
        at = file.read(end - start).rfind(LINE_END)
        if at >= 0:
            return start + at + 1
        end = start
    return 0
