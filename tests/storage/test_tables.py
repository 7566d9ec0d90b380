"""Tables of state machines as files: every row comes back, and nothing else is taken for one."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray_paxos.errors import DamageError
from ray_paxos.machines.table import Column, Row
from ray_paxos.storage import table_format
from ray_paxos.storage.parquet_tables import ParquetTables
from ray_paxos.storage.table_format import TableCodec, batches
from ray_paxos.testing.codec import PlainTables

COLUMNS = (
    Column("text", "string"),
    Column("count", "int"),
    Column("is_set", "bool"),
    Column("data", "bytes", is_nullable=True),
    Column("maybe", "int", is_nullable=True),
)


@pytest.fixture(params=[PlainTables(), ParquetTables()], ids=lambda tables: type(tables).__name__)
def tables(request) -> TableCodec:
    chosen: TableCodec = request.param
    return chosen


int64 = st.integers(-(1 << 63), (1 << 63) - 1)
rows_of_all_kinds = st.lists(
    st.tuples(
        st.text(max_size=20),
        int64,
        st.booleans(),
        st.none() | st.binary(max_size=20),
        st.none() | int64,
    ),
    max_size=30,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=rows_of_all_kinds)
def test_all_rows_come_back_in_order(tables, tmp_path, rows):
    path = tmp_path / "table"
    path.unlink(missing_ok=True)
    tables.write(path, COLUMNS, iter(rows))
    assert list(tables.read(path, COLUMNS, "a table")) == rows


def test_rows_are_cut_by_count_and_by_bytes(monkeypatch):
    monkeypatch.setattr(table_format, "BATCH_ROWS", 4)
    monkeypatch.setattr(table_format, "BATCH_BYTES", 1_000)
    columns = (Column("key", "string"), Column("value", "bytes", is_nullable=True))
    rows: list[Row] = [("k", b"v" * size) for size in (1, 1, 1, 1, 1, 2_000, 500, 500, 1)]
    rows.append(("k", None))
    assert [len(batch) for batch in batches(columns, rows)] == [4, 2, 2, 2]
    assert [row for batch in batches(columns, rows) for row in batch] == rows
    assert list(batches(columns, [])) == []


def test_an_existing_file_is_not_overwritten(tables, tmp_path):
    (tmp_path / "table").write_bytes(b"")
    with pytest.raises(FileExistsError):
        tables.write(tmp_path / "table", COLUMNS, [])
    with pytest.raises(FileNotFoundError):
        list(tables.read(tmp_path / "other", COLUMNS, "a table"))


def test_other_columns_and_other_files_are_damage(tables, tmp_path):
    path: Path = tmp_path / "table"
    tables.write(path, COLUMNS, [("a", 1, True, None, None)])
    for wrong in (
        COLUMNS[:-1],
        COLUMNS[::-1],
        (*COLUMNS, Column("more", "int", is_nullable=True)),
        (Column("other", "string"), *COLUMNS[1:]),
        (Column("text", "bytes"), *COLUMNS[1:]),
        (Column("text", "string", is_nullable=True), *COLUMNS[1:]),
    ):
        with pytest.raises(DamageError, match=r"a table: its columns|a table: it has other"):
            list(tables.read(path, wrong, "a table"))
    for data in (b"", b"PAR1", bytes(500), path.read_bytes()[:-20], b"\xc1" * 100):
        path.write_bytes(data)
        with pytest.raises(DamageError, match="a table"):
            list(tables.read(path, COLUMNS, "a table"))


def test_another_program_reads_the_table(tmp_path):
    path = tmp_path / "table.parquet"
    ParquetTables().write(path, COLUMNS, [("a", 1, True, b"x", None), ("b", 2, False, None, 7)])
    assert pq.read_table(path).to_pydict() == {
        "text": ["a", "b"],
        "count": [1, 2],
        "is_set": [True, False],
        "data": [b"x", None],
        "maybe": [None, 7],
    }
