"""Tables of state machines as Parquet files: a checkpoint that any reader of Parquet can read.

One row group a batch of rows, so that neither side holds more than a batch beside the machine.
The manifest of the checkpoint has a checksum over the whole file; pages have their own, too, which
every reading verifies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ray_paxos.errors import DamageError
from ray_paxos.machines.table import Column, ColumnKind, Row
from ray_paxos.storage.table_format import batches

_TYPES: dict[ColumnKind, pa.DataType] = {
    "string": pa.string(),
    "bytes": pa.binary(),
    "int": pa.int64(),
    "bool": pa.bool_(),
}


class ParquetTables:
    """Tables as Parquet files."""

    suffix = ".parquet"

    def write(self, path: Path, columns: Sequence[Column], rows: Iterable[Row]) -> None:
        """Write a new file, a row group a batch."""
        schema = _schema(columns)
        with (
            path.open("xb") as file,
            pq.ParquetWriter(
                file,
                schema,
                compression="zstd",
                # Keys and values of a map hardly repeat, and bytes of users do not belong into a
                # footer.
                use_dictionary=False,
                write_statistics=False,
                write_page_checksum=True,
                store_schema=False,
            ) as writer,
        ):
            for batch in batches(columns, rows):
                arrays = [
                    pa.array(items, field.type)
                    for field, items in zip(schema, zip(*batch, strict=True), strict=True)
                ]
                table = pa.Table.from_arrays(arrays, schema=schema)
                writer.write_table(table, row_group_size=len(batch))

    def read(self, path: Path, columns: Sequence[Column], where: str) -> Iterator[Row]:
        """The rows, a row group at a time."""
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                if not file.schema_arrow.equals(_schema(columns)):
                    raise DamageError(f"{where}: its columns are not {_names(columns)}")
                for index in range(file.num_row_groups):
                    table = file.read_row_group(index, use_threads=False)
                    yield from zip(*(column.to_pylist() for column in table.columns), strict=True)
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise DamageError(f"{where}: not a Parquet file ({error})") from error


def _schema(columns: Sequence[Column]) -> pa.Schema:
    fields: list[pa.Field[Any]] = [
        pa.field(column.name, _TYPES[column.kind], nullable=column.is_nullable)
        for column in columns
    ]
    return pa.schema(fields)


def _names(columns: Sequence[Column]) -> str:
    return ", ".join(f"{column.name} ({column.kind})" for column in columns)
