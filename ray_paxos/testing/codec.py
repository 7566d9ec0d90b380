"""Plain file formats for segments and tables, for the simulator: no Parquet, the same promises."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import msgspec

from ray_paxos.core.records import SealedInstance
from ray_paxos.errors import DamageError
from ray_paxos.machines.table import Column, Row
from ray_paxos.storage.segment_format import (
    BLOCK_BYTES,
    Block,
    ReadTail,
    SegmentContent,
    SegmentHeader,
    split_blocks,
)
from ray_paxos.storage.table_format import batches

_CRC_BYTES = 4
_LENGTH_BYTES = 4


class _Footer(msgspec.Struct, frozen=True, array_like=True):
    header: SegmentHeader
    blocks: tuple[Block, ...]
    ends: tuple[int, ...]


_encoder = msgspec.msgpack.Encoder()
_footer_decoder = msgspec.msgpack.Decoder(_Footer)
_block_decoder = msgspec.msgpack.Decoder(list[SealedInstance])
_columns_decoder = msgspec.msgpack.Decoder(tuple[Column, ...])
_rows_decoder = msgspec.msgpack.Decoder(list[Row])
_TYPES = {"string": str, "bytes": bytes, "int": int, "bool": bool}


@dataclass(frozen=True, slots=True)
class _PlainContent:
    header: SegmentHeader
    blocks: Sequence[Block]
    parts: Sequence[bytes]
    data: bytes

    def read(self, index: int) -> list[SealedInstance]:
        return _block_decoder.decode(self.parts[index])


class PlainCodec:
    """Blocks, then a footer; a checksum over the footer, and one over the whole file.

    ```
    block ... block | footer | length of footer | CRC of footer and length | CRC of all before
    ```
    """

    suffix = ".plain"

    def __init__(self, block_bytes: int = BLOCK_BYTES) -> None:
        """Cut blocks of about `block_bytes` bytes of values."""
        self.block_bytes = block_bytes

    def encode(self, header: SegmentHeader, instances: Iterable[SealedInstance]) -> bytes:
        """A whole file."""
        blocks: list[Block] = []
        ends: list[int] = []
        body = bytearray()
        for block, part in split_blocks(instances, header.chain_before, self.block_bytes):
            body += _encoder.encode(part)
            blocks.append(block)
            ends.append(len(body))
        return _with_footer(bytes(body), _Footer(header, tuple(blocks), tuple(ends)))

    def join(self, header: SegmentHeader, parts: Sequence[SegmentContent]) -> bytes | None:
        """A whole file with the blocks of several, as they are."""
        blocks: list[Block] = []
        ends: list[int] = []
        body = bytearray()
        for part in parts:
            assert isinstance(part, _PlainContent), "opened by this codec"
            blocks += part.blocks
            for encoded in part.parts:
                body += encoded
                ends.append(len(body))
        return _with_footer(bytes(body), _Footer(header, tuple(blocks), tuple(ends)))

    def read_header(self, tail: ReadTail, where: str) -> SegmentHeader:
        """The footer's header."""
        return _read_footer(tail, where).header

    def open(self, data: bytes, where: str) -> _PlainContent:
        """Compare the whole file with its checksums."""
        if _crc(data[:-_CRC_BYTES]) != data[-_CRC_BYTES:]:
            raise DamageError(f"{where}: wrong checksum")
        footer = _read_footer(lambda size: data[-size:], where)
        starts = (0, *footer.ends)
        parts = [data[start:end] for start, end in zip(starts, footer.ends, strict=False)]
        return _PlainContent(footer.header, footer.blocks, parts, data)


def _with_footer(body: bytes, footer: _Footer) -> bytes:
    encoded = _encoder.encode(footer)
    encoded += len(encoded).to_bytes(_LENGTH_BYTES, "big")
    data = body + encoded + _crc(encoded)
    return data + _crc(data)


def _read_footer(tail: ReadTail, where: str) -> _Footer:
    trailer = 2 * _CRC_BYTES + _LENGTH_BYTES
    end = tail(trailer)
    length = int.from_bytes(end[:_LENGTH_BYTES], "big")
    data = tail(length + trailer)
    footer = data[: length + _LENGTH_BYTES]
    crc = data[length + _LENGTH_BYTES : length + _LENGTH_BYTES + _CRC_BYTES]
    if len(data) != length + trailer or _crc(footer) != crc:
        raise DamageError(f"{where}: wrong checksum of the footer")
    try:
        return _footer_decoder.decode(footer[:length])
    except msgspec.DecodeError as error:
        raise DamageError(f"{where}: not a segment ({error})") from error


def _crc(data: bytes) -> bytes:
    return int(google_crc32c.value(data)).to_bytes(_CRC_BYTES, "big")


class PlainTables:
    """The columns, then batches of rows, each part after its length."""

    suffix = ".plain"

    def write(self, path: Path, columns: Sequence[Column], rows: Iterable[Row]) -> None:
        """Write a new file."""
        with path.open("xb") as file:
            file.write(_framed(_encoder.encode(tuple(columns))))
            for batch in batches(columns, rows):
                for row in batch:
                    _check_row(columns, row)
                file.write(_framed(_encoder.encode(batch)))

    def read(self, path: Path, columns: Sequence[Column], where: str) -> Iterator[Row]:
        """The rows, a batch at a time."""
        with path.open("rb") as file:
            try:
                parts = iter(
                    lambda: file.read(int.from_bytes(file.read(_LENGTH_BYTES), "big")), b""
                )
                if _columns_decoder.decode(next(parts, b"")) != tuple(columns):
                    raise DamageError(f"{where}: it has other columns")
                for part in parts:
                    yield from _rows_decoder.decode(part)
            except msgspec.DecodeError as error:
                raise DamageError(f"{where}: not a table ({error})") from error


def _next_part(file: BinaryIO) -> bytes:
    """The next part; none of them is empty."""
    return file.read(int.from_bytes(file.read(_LENGTH_BYTES), "big"))


def _framed(part: bytes) -> bytes:
    return len(part).to_bytes(_LENGTH_BYTES, "big") + part


def _check_row(columns: Sequence[Column], row: Row) -> None:
    for column, item in zip(columns, row, strict=True):
        if item is None and column.is_nullable:
            continue
        if type(item) is not _TYPES[column.kind]:
            raise TypeError(f"{column.name} is {type(item).__name__}, not {column.kind}")
        if type(item) is int and not -(1 << 63) <= item < 1 << 63:
            raise OverflowError(f"{column.name} does not fit 64 bits")
