"""A part of the chosen log as one Parquet file: the columns of the segments, for other programs.

An export is no segment: it carries none of the metadata by which members know theirs.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import BinaryIO

import pyarrow.parquet as pq

from ray_paxos.core.records import SealedInstance
from ray_paxos.storage.parquet import SCHEMA, to_table
from ray_paxos.storage.parquet_rows import take_apart

_BATCH_INSTANCES = 500


def write_parquet(instances: Iterable[SealedInstance], file: BinaryIO) -> int:
    """Write a row group for every few hundred instances; returns how many rows."""
    count = 0
    source = iter(instances)
    with pq.ParquetWriter(file, SCHEMA, compression="zstd", write_page_checksum=True) as writer:
        while batch := list(islice(source, _BATCH_INSTANCES)):
            table = to_table(take_apart(batch))
            writer.write_table(table)
            count += table.num_rows
    return count
