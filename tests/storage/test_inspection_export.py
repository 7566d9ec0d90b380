"""An export says what the log says, in every format, and is whole or not there."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_paxos.core.records import SealedInstance
from ray_paxos.errors import ConfigurationError
from ray_paxos.storage.log_export import COLUMNS, FORMATS, write_csv, write_jsonl
from ray_paxos.storage.log_rows import rows_of
from ray_paxos.storage.output_files import writing_whole
from ray_paxos.storage.parquet import SCHEMA
from ray_paxos.storage.parquet_export import write_parquet
from tests.storage.member_support import make_log

LOG = make_log(600, commands=2)
ROWS = list(rows_of(LOG))


def test_the_columns_are_those_of_the_segments() -> None:
    assert list(COLUMNS) == SCHEMA.names
    assert sorted(FORMATS) == ["csv", "jsonl", "parquet"]


def test_parquet_has_the_rows_of_the_segments() -> None:
    file = io.BytesIO()
    assert write_parquet(LOG, file) == len(ROWS)
    table = pq.read_table(pa.BufferReader(file.getvalue()))
    assert table.schema.equals(SCHEMA)
    expected = [{name: getattr(row, name) for name in COLUMNS} for row in ROWS]
    assert table.to_pylist() == expected


def test_json_lines_have_the_same_with_bytes_as_base64() -> None:
    file = io.BytesIO()
    assert write_jsonl(LOG, file) == len(ROWS)
    lines = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [tuple(line) for line in lines] == [COLUMNS] * len(ROWS)
    assert [(line["instance_id"], line["index"]) for line in lines] == [
        (row.instance_id, row.index) for row in ROWS
    ]
    for line, row in zip(lines, ROWS, strict=True):
        found = line["command"]
        assert (None if found is None else base64.b64decode(found)) == row.command
        assert base64.b64decode(line["chain"]) == row.chain


def test_csv_has_a_line_of_names_and_nothing_for_none() -> None:
    file = io.BytesIO()
    assert write_csv(LOG[:50], file) == len(list(rows_of(LOG[:50])))
    assert not file.closed
    names, *lines = csv.reader(io.StringIO(file.getvalue().decode(), newline=""))
    assert tuple(names) == COLUMNS
    assert len(lines) == len(list(rows_of(LOG[:50])))
    noop = dict(zip(names, lines[[line[2] for line in lines].index("noop")], strict=True))
    assert (noop["machine"], noop["session"], noop["command"]) == ("", "", "")


def half_a_log() -> Iterator[SealedInstance]:
    yield from LOG[:550]
    raise TypeError


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with (
        pytest.raises(TypeError),
        writing_whole(path, replaces=False) as file,
    ):
        write_jsonl(half_a_log(), file)
    assert list(tmp_path.iterdir()) == []
    with writing_whole(path, replaces=False) as file:
        file.write(b"whole")
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_there_stays_unless_it_is_to_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_bytes(b"old")
    with pytest.raises(ConfigurationError, match="exists"), writing_whole(path, replaces=False):
        pytest.fail("nothing may be written")
    assert path.read_bytes() == b"old"
    with writing_whole(path, replaces=True) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("name", ["", "inside/x.csv", "inside/../inside/deep/x.csv", "no/x.csv"])
def test_a_file_is_not_written_where_it_must_not_be(name: str, tmp_path: Path) -> None:
    (tmp_path / "inside" / "deep").mkdir(parents=True)
    path = tmp_path / name
    with (
        pytest.raises(ConfigurationError),
        writing_whole(path, replaces=True, outside=tmp_path / "inside"),
    ):
        pytest.fail("nothing may be written")
