"""Parquet files joined page by page: any reader finds the rows of all of them."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_paxos.storage.parquet_footers import FooterError, join_files

METADATA = {"what": "joined", "ü": ""}


def table(first: int, count: int, name: str = "number") -> pa.Table:
    return pa.table(
        {
            name: pa.array(range(first, first + count), pa.int64()),
            "text": pa.array([f"text {n % 3}" for n in range(count)]),
            "maybe": pa.array([None if n % 2 else bytes([n % 256]) * 9 for n in range(count)]),
            "is_even": pa.array([n % 2 == 0 for n in range(count)]),
        }
    )


def file_of(rows: pa.Table, row_group_size: int = 10, **options: object) -> bytes:
    sink = pa.BufferOutputStream()
    options = {"compression": "zstd", "write_page_checksum": True, **options}
    pq.write_table(rows, sink, row_group_size=row_group_size, **options)  # type: ignore[arg-type]
    return sink.getvalue().to_pybytes()


def opened(data: bytes) -> pq.ParquetFile:
    return pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)


@pytest.mark.parametrize("row_group_size", [1, 7, 100])
def test_the_rows_of_all_files_are_there_in_order(row_group_size):
    parts = [table(0, 25), table(25, 1), table(26, 40)]
    files = [file_of(part, row_group_size) for part in parts]
    joined = opened(join_files(files, METADATA))
    assert joined.read().equals(pa.concat_tables(parts))
    groups = [opened(data).num_row_groups for data in files]
    assert joined.num_row_groups == sum(groups)
    assert joined.metadata.num_rows == 66
    assert joined.read_row_group(groups[0]).equals(parts[1])
    assert joined.metadata.metadata == {b"what": b"joined", "ü".encode(): b""}


def test_a_joined_file_can_be_joined_again():
    parts = [table(0, 25), table(25, 30), table(55, 1)]
    first, second, third = (file_of(part) for part in parts)
    again = join_files([join_files([first, second], METADATA), third], METADATA)
    assert again == join_files([first, second, third], METADATA)
    assert opened(again).read().equals(pa.concat_tables(parts))


def test_statistics_stay_with_their_row_groups():
    joined = opened(join_files([file_of(table(0, 20)), file_of(table(20, 20))], METADATA))
    found = [joined.metadata.row_group(n).column(0).statistics for n in range(4)]
    assert [each.min for each in found if each is not None] == [0, 10, 20, 30]


def test_files_that_were_not_written_alike_are_refused():
    one = file_of(table(0, 5))
    for other in (file_of(table(5, 5, name="count")), file_of(table(5, 5).drop_columns(["text"]))):
        with pytest.raises(FooterError, match="not written alike"):
            join_files([one, other], METADATA)


def test_a_file_with_more_than_pages_is_refused():
    indexed = file_of(table(0, 5), write_page_index=True)
    with pytest.raises(FooterError, match="more in the file"):
        join_files([indexed, indexed], METADATA)


def test_what_is_no_whole_file_is_refused():
    data = file_of(table(0, 5))
    footer_bytes = int.from_bytes(data[-8:-4], "little")
    length = footer_bytes.to_bytes(4, "little")
    for broken in (
        b"",
        b"PAR1",
        data[:-1],
        b"X" + data[1:],
        data[:-8] + b"\xff\xff\xff\x7f" + data[-4:],
        data[:-8] + bytes(4) + data[-4:],
        data[:-8] + b"\0" + length + data[-4:],
        data[: -8 - footer_bytes // 2] + (footer_bytes // 2).to_bytes(4, "little") + data[-4:],
    ):
        with pytest.raises(FooterError):
            join_files([data, broken], METADATA)
