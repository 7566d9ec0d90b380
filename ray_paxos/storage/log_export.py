"""Exports a part of the chosen log to a file that other programs read.

All three formats have the columns of the segments, in their order. In JSON lines and CSV, which
know no bytes, `command`, `chain` and `result_chain` are base64; a column that says nothing is null
or, in CSV, empty.
"""

from __future__ import annotations

import base64
import csv
import dataclasses
import io
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import BinaryIO

from ray_paxos.core.records import SealedInstance
from ray_paxos.storage.log_rows import LogRow, rows_of
from ray_paxos.storage.parquet_export import write_parquet

COLUMNS = tuple(field.name for field in dataclasses.fields(LogRow))
_BATCH_INSTANCES = 500


def write_jsonl(instances: Iterable[SealedInstance], file: BinaryIO) -> int:
    """Write one JSON object a row; returns how many."""
    count = 0
    for row in _rows(instances):
        file.write(json.dumps(plain_row(row), ensure_ascii=False).encode() + b"\n")
        count += 1
    return count


def write_csv(instances: Iterable[SealedInstance], file: BinaryIO) -> int:
    """Write a line of names, then one a row (RFC 4180, UTF-8); returns how many rows."""
    count = 0
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for row in _rows(instances):
        writer.writerow(plain_row(row).values())
        count += 1
    text.detach()
    return count


FORMATS: dict[str, Callable[[Iterable[SealedInstance], BinaryIO], int]] = {
    "parquet": write_parquet,
    "jsonl": write_jsonl,
    "csv": write_csv,
}


def plain_row(row: LogRow) -> dict[str, str | int | None]:
    """The columns of a row, bytes as base64."""
    plain: dict[str, str | int | None] = {}
    for name in COLUMNS:
        value = getattr(row, name)
        plain[name] = base64.b64encode(value).decode() if isinstance(value, bytes) else value
    return plain


def _rows(instances: Iterable[SealedInstance]) -> Iterator[LogRow]:
    source = iter(instances)
    while batch := list(islice(source, _BATCH_INSTANCES)):
        yield from rows_of(batch)
