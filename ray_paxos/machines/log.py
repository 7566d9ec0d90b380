"""The log machine: keeps every command as one line, in order; the result is its position.

Any bytes are a line: nothing is refused, looked into or split. The position counts from 1 and is
returned as decimal digits in ASCII (`b"42"`), so that a person and any language can read it from
the chosen log or a shell. Queries and their answers are msgpack arrays that start with their name.

All lines are held in memory: the machine is meant for event logs of moderate length and as the
simplest example of a machine.

The digest is one running hash over all lines, each framed by its length. It is brought up to date
when it is asked for, with the lines that came since: nothing is paid per command, and every line
is hashed once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import ClassVar, TypeAlias

import msgspec

from ray_paxos.errors import QueryError
from ray_paxos.machines.base import DIGEST_BYTES, ApplyContext, StateMachine

PAGE_LINES_MAX = 10_000
PAGE_BYTES_MAX = 1_000_000
"""A page ends with the line that reaches this many bytes."""

_STATE_FILE = "lines"
_HEADER_BYTES = 8


class Length(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="len"):
    """Query: how many lines there are."""


class Lines(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="lines"):
    """Query: lines from a position on.

    Attributes:
        first: Position of the first line wanted, from 1.
        limit: At most so many, up to `PAGE_LINES_MAX`.
    """

    first: int
    limit: int


class LinePage(msgspec.Struct, frozen=True, array_like=True, tag="page"):
    """Answer to both queries.

    Attributes:
        length: How many lines there are in all.
        lines: Those asked for, as many as fit; the next page starts after them.
    """

    length: int
    lines: tuple[bytes, ...]


LogQuery: TypeAlias = Length | Lines

# msgspec lets the decoder's own error through where text is not UTF-8.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)
_encode = msgspec.msgpack.Encoder().encode
_decode_query: Callable[[bytes], LogQuery] = msgspec.msgpack.Decoder(LogQuery).decode
_decode_page = msgspec.msgpack.Decoder(LinePage).decode


def encode_length() -> bytes:
    """The query for the number of lines."""
    return _encode(Length())


def encode_lines(first: int = 1, limit: int = PAGE_LINES_MAX) -> bytes:
    """The query for lines from position `first` on."""
    return _encode(Lines(first, limit))


def decode_page(data: bytes) -> LinePage:
    """Read the answer to a query.

    Raises:
        msgspec.DecodeError: Not an answer of this machine.
    """
    return _decode_page(data)


def decode_position(result: bytes) -> int:
    """Read a command's result: the position of its line, from 1.

    Raises:
        ValueError: Not a result of this machine.
    """
    return int(result)


class LogMachine(StateMachine):
    """Lines in the order in which they were applied.

    Invariant: `_hash` covers the first `_hashed` lines.
    """

    kind: ClassVar[str] = "log"
    version: ClassVar[int] = 1

    def __init__(self) -> None:
        """Start empty."""
        self._lines: list[bytes] = []
        self._hash = hashlib.blake2b(digest_size=DIGEST_BYTES)
        self._hashed = 0

    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        """Append a line.

        Returns:
            Its position, from 1, in decimal digits.
        """
        self._lines.append(command)
        return b"%d" % len(self._lines)

    def query(self, request: bytes) -> bytes:
        """Answer a `Length` or a `Lines` with a `LinePage`.

        Raises:
            QueryError: Neither of them, or a position or limit below 1.
        """
        try:
            query = _decode_query(request)
        except _UNREADABLE as error:
            raise QueryError(f"not a query of the log machine: {error}") from error
        if isinstance(query, Length):
            return _encode(LinePage(len(self._lines), ()))
        if query.first < 1 or query.limit < 1:
            raise QueryError(
                f"first {query.first}, limit {query.limit}: positions and limits start at 1"
            )
        lines: list[bytes] = []
        byte_count = 0
        limit = min(query.limit, PAGE_LINES_MAX)
        for line in islice(self._lines, query.first - 1, query.first - 1 + limit):
            lines.append(line)
            byte_count += len(line)
            if byte_count >= PAGE_BYTES_MAX:
                break
        return _encode(LinePage(len(self._lines), tuple(lines)))

    def digest(self) -> bytes:
        """Over all lines in order. Costs the lines that came since it was asked for last."""
        for line in islice(self._lines, self._hashed, None):
            self._hash.update(_framed(line))
        self._hashed = len(self._lines)
        return self._hash.digest()

    def save(self, directory: Path) -> None:
        """Write all lines, each after its length."""
        with (directory / _STATE_FILE).open("wb") as file:
            for line in self._lines:
                file.write(_framed(line))

    def load(self, directory: Path) -> None:
        """Replace the whole state by a saved one."""
        self._lines = list(_read_lines(directory / _STATE_FILE))
        self._hash = hashlib.blake2b(digest_size=DIGEST_BYTES)
        self._hashed = 0


def _framed(line: bytes) -> bytes:
    return len(line).to_bytes(_HEADER_BYTES, "big") + line


def _read_lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while header := file.read(_HEADER_BYTES):
            yield file.read(int.from_bytes(header, "big"))
