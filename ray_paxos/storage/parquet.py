"""Segments as Parquet files: a group's history as a table that any reader of Parquet can read.

Rules:

1. One row a command, one a value without commands (see `parquet_rows`); a row group holds a block.
2. Any flipped bit is detected. Pages have checksums of their own, which every reading verifies;
   footers of Parquet have none. So the footer's metadata carries, under `ray_paxos.crc32c`, a
   CRC32C of the whole file: eight digits, which count as zeros while it is computed. They are put
   in last, in place; a reader of Parquet sees one more metadata entry.
3. The header, under `ray_paxos.segment`, has a checksum of its own: it is read, and trusted, from
   the end of the file alone.

Cost (CPython 3.11, one core, commands of 120 bytes, blocks of 4 MB): a command takes 0.17 us to be
made a row of, where repeating columns are repeated by Arrow (0.31 us with an object for each item),
0.14 us for the other columns and their pages, and its own compression: by zstd at level 1 0.09 us
where values repeat, 0.3 us for JSON, and 0.3 to 0.5 us for random bytes, which it does not make
smaller. At level -5 these take 0.1 us; JSON would be left twice as large. So a sample decides.

This module and `parquet_tables` are the only ones of the package that import pyarrow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any

import google_crc32c
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.records import SealedInstance
from ray_paxos.errors import DamageError
from ray_paxos.storage.checked_files import Fields, decode_fields, encode_fields
from ray_paxos.storage.parquet_footers import MAGIC, FooterError, join_files
from ray_paxos.storage.parquet_rows import Runs, put_together, take_apart
from ray_paxos.storage.segment_format import (
    BLOCK_BYTES,
    SEGMENT_FORMAT,
    Block,
    ReadTail,
    SegmentContent,
    SegmentHeader,
    split_blocks,
)

HEADER_KEY = "ray_paxos.segment"
CHECKSUM_KEY = "ray_paxos.crc32c"

_COLUMNS: list[pa.Field[Any]] = [
    pa.field("instance_id", pa.int64(), nullable=False),
    pa.field("index", pa.int32(), nullable=False),
    pa.field("kind", pa.string(), nullable=False),
    pa.field("ballot_round", pa.int64(), nullable=False),
    pa.field("ballot_member", pa.int64(), nullable=False),
    pa.field("ballot_incarnation", pa.int64(), nullable=False),
    pa.field("machine", pa.string()),
    pa.field("session", pa.string()),
    pa.field("number", pa.int64()),
    pa.field("command", pa.binary()),
    pa.field("log_time", pa.int64()),
    pa.field("chain", pa.binary(16), nullable=False),
    pa.field("result_chain", pa.binary(16)),
    pa.field("entry", pa.int32(), nullable=False),
    pa.field("lowest_open", pa.int64()),
]
SCHEMA = pa.schema(_COLUMNS)

# These repeat from row to row; the others count up, but for the commands.
_DICTIONARIES = [name for name in SCHEMA.names if name not in ("index", "number", "command")]
_COUNTERS = ("index", "number")
_TEXTS = ["kind", "machine", "session"]
_ENCODINGS = {"index": "DELTA_BINARY_PACKED", "number": "DELTA_BINARY_PACKED"}
# Bytes of users do not belong into a footer.
_STATISTICS = ["instance_id", "index", "number", "log_time"]
# In the footer a key is followed by the length of its value; this one's is always eight.
_CHECKSUM_MARK = CHECKSUM_KEY.encode() + b"\x18\x08"
_NO_CHECKSUM = b"0" * 8
_TAIL_BYTES = 16_384
LEVEL = 1
FAST_LEVEL = -5
INCOMPRESSIBLE = 0.85
"""A file whose first values keep more than this part of their size is compressed fast."""
_SAMPLE_BYTES = 65_536
_sampler = pa.Codec("zstd", compression_level=LEVEL)
_COPY_BYTES = 1 << 20


class ParquetCodec:
    """Segments as Parquet files."""

    suffix = ".parquet"

    def __init__(self, block_bytes: int = BLOCK_BYTES) -> None:
        """Cut row groups of about `block_bytes` bytes of values."""
        self.block_bytes = block_bytes

    def encode(self, header: SegmentHeader, instances: Iterable[SealedInstance]) -> bytes:
        """A whole file."""
        sink = pa.BufferOutputStream()
        blocks: list[Block] = []
        parts = split_blocks(instances, header.chain_before, self.block_bytes)
        first = next(parts)
        with pq.ParquetWriter(
            sink,
            SCHEMA,
            compression="zstd",
            compression_level=_compression_level(first[1]),
            # A list of columns is what pyarrow documents; its stubs know only bool.
            use_dictionary=_DICTIONARIES,  # type: ignore[arg-type]
            column_encoding=_ENCODINGS,
            write_statistics=_STATISTICS,
            write_page_checksum=True,
            store_schema=False,
        ) as writer:
            for block, part in chain((first,), parts):
                blocks.append(block)
                table = to_table(take_apart(part))
                writer.write_table(table, row_group_size=max(1, table.num_rows))
            writer.add_key_value_metadata(_metadata(header, blocks))
        return _with_checksum(sink.getvalue().to_pybytes())

    def join(self, header: SegmentHeader, parts: Sequence[SegmentContent]) -> bytes | None:
        """A whole file with the row groups of several, page by page as they are."""
        blocks = [block for part in parts for block in part.blocks]
        try:
            data = join_files([part.data for part in parts], _metadata(header, blocks))
        except FooterError:
            # Written by another release of pyarrow: its rows can be read and written anew.
            return None
        return _with_checksum(data)

    def read_header(self, tail: ReadTail, where: str) -> SegmentHeader:
        """What the footer says, under its own checksum."""
        return _read_header(tail, where)[0]

    def open(self, data: bytes, where: str) -> _ParquetContent:
        """Compare a whole file with its checksum."""
        at = _checksum_at(data)
        if at is None or data[at : at + 8] != _checksum(data, at):
            raise DamageError(f"{where}: wrong checksum")
        header, blocks = _read_header(lambda size: data[-size:], where)
        try:
            file = pq.ParquetFile(
                pa.BufferReader(data),
                page_checksum_verification=True,
                # Repeated texts are read as what they are in the file.
                read_dictionary=_TEXTS,
            )
        except (pa.ArrowException, OSError) as error:
            raise DamageError(f"{where}: not a Parquet file ({error})") from error
        if file.num_row_groups != len(blocks):
            raise DamageError(f"{where}: {file.num_row_groups} row groups, {len(blocks)} blocks")
        return _ParquetContent(header, blocks, file, data, where)


@dataclass(frozen=True, slots=True)
class _ParquetContent:
    header: SegmentHeader
    blocks: Sequence[Block]
    file: pq.ParquetFile
    data: bytes
    where: str

    def read(self, index: int) -> list[SealedInstance]:
        """The instances of one row group."""
        try:
            table = self.file.read_row_group(index, use_threads=False)
            return put_together(_to_runs(table))
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise DamageError(f"{self.where}: row group {index}: {error}") from error


def _compression_level(instances: Sequence[SealedInstance]) -> int:
    """Zstd's level for a file: by its first values, whether they compress at all."""
    sample = bytearray()
    for instance in instances:
        sample += instance.chosen.value[: _SAMPLE_BYTES - len(sample)]
        if len(sample) >= _SAMPLE_BYTES:
            break
    compressed = _sampler.compress(bytes(sample), asbytes=True)
    return LEVEL if len(compressed) < len(sample) * INCOMPRESSIBLE else FAST_LEVEL


def to_table(runs: Runs) -> pa.Table:
    """Repeat each entry's columns over its rows."""
    ballots = runs.ballot
    by_run: dict[str, Sequence[object]] = {
        "instance_id": runs.instance_id,
        "index": runs.first_index,
        "kind": runs.kind,
        "ballot_round": [ballot.round for ballot in ballots],
        "ballot_member": [ballot.member_id for ballot in ballots],
        "ballot_incarnation": [ballot.incarnation for ballot in ballots],
        "machine": runs.machine,
        "session": runs.session,
        "number": runs.first_number,
        "log_time": runs.log_time,
        "chain": runs.chain,
        "result_chain": runs.result_chain,
        "entry": runs.entry,
        "lowest_open": runs.lowest_open,
    }
    rows = _Rows(runs.lengths)
    columns = []
    for column in SCHEMA:
        if column.name == "command":
            columns.append(pa.array(runs.commands, column.type))
            continue
        by_entry = pa.array(by_run[column.name], column.type)
        is_counter = column.name in _COUNTERS
        columns.append(rows.count_up(by_entry) if is_counter else rows.repeat(by_entry))
    return pa.Table.from_arrays(columns, schema=SCHEMA)


class _Rows:
    """Makes columns of what is known by entry, without an object for each row."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self._entry: pa.Array[Any] | None = None
        if sum(lengths) == len(lengths):
            return
        ends = list(accumulate(lengths))
        entries = pa.array(range(len(ends)), pa.int32())
        encoded: pa.Array[Any] = pa.RunEndEncodedArray.from_arrays(
            pa.array(ends, pa.int32()), entries
        )
        self._entry = pc.call_function("run_end_decode", [encoded])
        row = pc.cumulative_sum(pa.repeat(pa.scalar(1, pa.int64()), ends[-1]))
        starts = pa.array([end - length + 1 for end, length in zip(ends, lengths, strict=True)])
        self._offset = pc.subtract(row, pc.take(starts, self._entry))

    def repeat(self, by_entry: pa.Array[Any]) -> pa.Array[Any]:
        """The same over all rows of an entry."""
        return by_entry if self._entry is None else pc.take(by_entry, self._entry)

    def count_up(self, by_entry: pa.Array[Any]) -> pa.Array[Any]:
        """One more from row to row of an entry; null where there is none."""
        if self._entry is None:
            return by_entry
        counted = pc.add(pc.take(by_entry, self._entry), self._offset)
        cast: pa.Array[Any] = pc.cast(counted, by_entry.type)
        return cast


def _to_runs(table: pa.Table) -> Runs:
    """Find the entries again: a new one begins where the instance or the entry changes."""
    commands = table["command"].to_pylist()
    table = table.drop_columns(["command"]).combine_chunks()
    row_count = table.num_rows
    instance_id, entry = table["instance_id"], table["entry"]
    changes = pc.or_(
        pc.not_equal(instance_id.slice(1), instance_id.slice(0, row_count - 1)),
        pc.not_equal(entry.slice(1), entry.slice(0, row_count - 1)),
    )
    # The stubs allow for nulls, which a list of positions has not.
    ends = [at + 1 for at in pc.indices_nonzero(changes).to_pylist() if at is not None]
    ends.append(row_count)
    starts = [0, *ends[:-1]]
    first = table.take(pa.array(starts, pa.int64())).to_pydict()
    lengths = [end - start for start, end in zip(starts, ends, strict=True)]
    ballots = zip(
        first["ballot_round"], first["ballot_member"], first["ballot_incarnation"], strict=True
    )
    return Runs(
        lengths=lengths,
        first_index=first["index"],
        first_number=first["number"],
        instance_id=first["instance_id"],
        kind=first["kind"],
        ballot=[Ballot(*ballot) for ballot in ballots],
        machine=first["machine"],
        session=first["session"],
        log_time=first["log_time"],
        chain=first["chain"],
        result_chain=first["result_chain"],
        entry=first["entry"],
        lowest_open=first["lowest_open"],
        commands=commands,
    )


def _metadata(header: SegmentHeader, blocks: Sequence[Block]) -> dict[str, str]:
    """What the footer says beside the rows; the checksum is put in last."""
    text = encode_fields(_header_fields(header, blocks)).decode()
    return {HEADER_KEY: text, CHECKSUM_KEY: _NO_CHECKSUM.decode()}


def _with_checksum(data: bytes) -> bytes:
    """A whole file, its checksum put in place."""
    at = _checksum_at(data)
    assert at is not None and data[at : at + 8] == _NO_CHECKSUM, "the footer's form is known"
    return b"".join((data[:at], _checksum(data, at), data[at + 8 :]))


def _checksum_at(data: bytes) -> int | None:
    """Where the checksum's digits are; None where the mark is not found."""
    at = data.rfind(_CHECKSUM_MARK)
    at += len(_CHECKSUM_MARK)
    return at if at >= len(_CHECKSUM_MARK) and at + 8 <= len(data) else None


def _checksum(data: bytes, at: int) -> bytes:
    """The checksum of a file, its own digits at `at` counting as zeros."""
    crc = 0
    for start in range(0, at, _COPY_BYTES):
        crc = google_crc32c.extend(crc, data[start : min(start + _COPY_BYTES, at)])
    crc = google_crc32c.extend(crc, _NO_CHECKSUM)
    for start in range(at + 8, len(data), _COPY_BYTES):
        crc = google_crc32c.extend(crc, data[start : start + _COPY_BYTES])
    return b"%08x" % crc


def _header_fields(header: SegmentHeader, blocks: Sequence[Block]) -> Fields:
    return {
        "format": SEGMENT_FORMAT,
        "genesis_hash": header.genesis.hex(),
        "group": header.group,
        "first": header.first,
        "last": header.last,
        "value_bytes": header.value_bytes,
        "chain_before": header.chain_before.hex(),
        "chain_after": header.chain_after.hex(),
        "result_chain_before": _hex(header.result_chain_before),
        "result_chain_after": _hex(header.result_chain_after),
        "blocks": " ".join(f"{block.first}:{block.chain_before.hex()}" for block in blocks),
    }


def _read_header(tail: ReadTail, where: str) -> tuple[SegmentHeader, tuple[Block, ...]]:
    data = tail(_TAIL_BYTES)
    if data[-4:] != MAGIC:
        raise DamageError(f"{where}: not a whole Parquet file")
    footer_bytes = int.from_bytes(data[-8:-4], "little") + 8
    if footer_bytes > len(data):
        data = tail(footer_bytes)
    start = data.rfind(HEADER_KEY.encode())
    start = data.find(b"{", start) if start >= 0 else -1
    end = data.find(b"}\n", start) + 2
    if start < 0 or end < 2:
        raise DamageError(f"{where}: its header is not found")
    found = decode_fields(data[start:end], where)
    if found.get("format") != SEGMENT_FORMAT:
        raise DamageError(f"{where}: format {found.get('format')}, not {SEGMENT_FORMAT}")
    try:
        blocks = [pair.partition(":") for pair in str(found["blocks"]).split()]
        header = SegmentHeader(
            bytes.fromhex(str(found["genesis_hash"])),
            int(found["group"]),
            int(found["first"]),
            int(found["last"]),
            int(found["value_bytes"]),
            bytes.fromhex(str(found["chain_before"])),
            bytes.fromhex(str(found["chain_after"])),
            bytes.fromhex(str(found["result_chain_before"])) or None,
            bytes.fromhex(str(found["result_chain_after"])) or None,
        )
        return header, tuple(Block(int(a), bytes.fromhex(b)) for a, _, b in blocks)
    except (KeyError, ValueError) as error:
        raise DamageError(f"{where}: its header is not one ({error})") from error


def _hex(chain: bytes | None) -> str:
    return chain.hex() if chain is not None else ""
