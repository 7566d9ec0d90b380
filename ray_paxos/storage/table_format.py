"""What storage asks of a file format for tables, in which it keeps machines that have rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from ray_paxos.machines.table import Column, Row

BATCH_BYTES = 4_000_000
BATCH_ROWS = 50_000
"""Rows are written, read and held together up to either bound, and at least one."""
_FIXED_BYTES = 8


class TableCodec(Protocol):
    """A file format for tables.

    Attributes:
        suffix: Of the files' names, with the dot.
    """

    suffix: str

    def write(self, path: Path, columns: Sequence[Column], rows: Iterable[Row]) -> None:
        """Write a new file; not durable.

        Raises:
            TypeError, ValueError, OverflowError: A row does not fit the columns.
            OSError: The disk refuses.
        """

    def read(self, path: Path, columns: Sequence[Column], where: str) -> Iterator[Row]:
        """The rows that were written, in order, read as they are asked for.

        Args:
            path: The file.
            columns: That it must have.
            where: Its name in messages.

        Raises:
            DamageError: It is no such table.
            OSError: The disk refuses.
        """


def batches(columns: Sequence[Column], rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Cut rows into lists of at most `BATCH_ROWS` rows and about `BATCH_BYTES` bytes."""
    sized = [at for at, column in enumerate(columns) if column.kind in ("string", "bytes")]
    batch: list[Row] = []
    byte_count = 0
    for row in rows:
        batch.append(row)
        byte_count += _FIXED_BYTES
        for at in sized:
            item = row[at]
            if item is not None:
                byte_count += len(item)
        if byte_count >= BATCH_BYTES or len(batch) >= BATCH_ROWS:
            yield batch
            batch = []
            byte_count = 0
    if batch:
        yield batch
