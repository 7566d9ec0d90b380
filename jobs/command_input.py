"""Reads files of commands, line by line, in bounded memory.

A bad line ends the reading with `InputError`, which names file, line and reason, after everything
before it was handed over; or it is reported and passed over where the caller wants so. A line that
is too long is a bad one, and is never held in memory. A byte-order mark at the start of `kv-jsonl`
is passed over.
"""

from __future__ import annotations

import codecs
import errno
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from command_formats import BadLineError, EncodeLine, encode_kv_line
from ray_paxos.errors import InputError

STANDARD_INPUT = "-"
LINE_OVERHEAD_BYTES = 4_096
"""Room for a line's names and punctuation, beyond the text of its key and value."""
SKIP_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class InputLine:
    """A command, where it stood, and how many bytes of the file it took."""

    number: int
    byte_count: int
    command: bytes


class CommandFile:
    """A file of commands that is read once, or several times over.

    What cannot be read twice (a pipe) is copied to a temporary file where it is needed twice.
    """

    def __init__(self, path: str, *, repeat: int = 1) -> None:
        """Look at the file, so that one that cannot be read is told before anything starts.

        Args:
            path: Of the file, or `-` for standard input.
            repeat: How often it is read.

        Raises:
            InputError: It cannot be read.
        """
        self.name = "standard input" if path == STANDARD_INPUT else path
        self._path = path
        self._repeat = repeat
        try:
            status = _standard_input_status() if path == STANDARD_INPUT else os.stat(path)
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if path != STANDARD_INPUT and not os.access(path, os.R_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise InputError(f"{self.name}: cannot be read: {error.strerror}") from error
        self._byte_count = status.st_size if stat.S_ISREG(status.st_mode) else None

    @property
    def byte_count(self) -> int | None:
        """Bytes of all reads together; None where they are not known beforehand."""
        return self._byte_count * self._repeat if self._byte_count is not None else None

    def read(
        self,
        encode: EncodeLine,
        *,
        command_bytes_max: int,
        on_bad_line: Callable[[InputError], None] | None = None,
    ) -> Generator[InputLine]:
        """Yield the commands, in order, as often as `repeat` says.

        Args:
            encode: One of `FORMATS`.
            command_bytes_max: A longer command makes its line a bad one.
            on_bad_line: Is told of each bad line, which is then passed over; without it the first
                bad line ends the reading.

        Raises:
            InputError: A bad line, or the file cannot be read on.
        """
        try:
            with self._opened() as file:
                for round_number in range(self._repeat):
                    if round_number:
                        file.seek(0)
                    yield from self._read_once(file, encode, command_bytes_max, on_bad_line)
        except OSError as error:
            raise InputError(f"{self.name}: cannot be read: {error.strerror}") from error

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        with ExitStack() as stack:
            # Standard input by a descriptor and a buffer of our own: Python closes its own at exit,
            # and aborts where a thread is still waiting in it for more.
            source = os.dup(sys.stdin.fileno()) if self._path == STANDARD_INPUT else self._path
            file: BinaryIO = stack.enter_context(open(source, "rb"))
            if self._repeat > 1 and self._byte_count is None:
                copy = stack.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(file, copy)
                copy.seek(0)
                file = copy
            yield file

    def _read_once(
        self,
        file: BinaryIO,
        encode: EncodeLine,
        command_bytes_max: int,
        on_bad_line: Callable[[InputError], None] | None,
    ) -> Iterator[InputLine]:
        # In JSON a byte can be written with six (\u0041), and a longer line cannot be a command.
        line_bytes_max = 6 * command_bytes_max + LINE_OVERHEAD_BYTES
        for number, line, byte_count in _lines(file, line_bytes_max):
            try:
                if line is None:
                    raise BadLineError(f"longer than {line_bytes_max:,} bytes")
                if number == 1 and encode is encode_kv_line:
                    line = line.removeprefix(codecs.BOM_UTF8)
                command = encode(line)
                if command is None:
                    continue
                if len(command) > command_bytes_max:
                    raise BadLineError(
                        f"the command takes {len(command):,} bytes; allowed: "
                        f"{command_bytes_max:,} (proposer.command_bytes_max)"
                    )
            except BadLineError as error:
                refusal = InputError(f"{self.name}, line {number:,}: {error}")
                if on_bad_line is None:
                    raise refusal from error
                on_bad_line(refusal)
                continue
            yield InputLine(number, byte_count, command)


def _standard_input_status() -> os.stat_result:
    # A process can be started without a standard input.
    return os.fstat(sys.stdin.fileno() if sys.stdin is not None else -1)


def _lines(file: BinaryIO, line_bytes_max: int) -> Iterator[tuple[int, bytes | None, int]]:
    """Number, text without newline (None if over the limit), and bytes of each line."""
    number = 0
    while line := file.readline(line_bytes_max + 1):
        number += 1
        byte_count = len(line)
        if line.endswith(b"\n"):
            yield number, line[:-1], byte_count
        elif byte_count <= line_bytes_max:
            yield number, line, byte_count  # the last line, without a newline
        else:
            while rest := file.readline(SKIP_BYTES):
                byte_count += len(rest)
                if rest.endswith(b"\n"):
                    break
            yield number, None, byte_count
