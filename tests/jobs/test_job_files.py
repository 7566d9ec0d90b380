"""Output files: whole or untouched; and the dump of a state that takes several pages."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from job_files import OutputError, write_json, write_lines
from ray_paxos.machines import kv
from ray_paxos.machines.base import ApplyContext
from ray_paxos.machines.kv_machine import KeyValueMachine
from state_dump import dump_lines
from tests.jobs.fakes import FakeClient


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write_lines(str(path), ["größe", "b"])
    assert path.read_text(encoding="utf-8") == "größe\nb\n"
    write_json(str(path), {"a": [1]})
    assert json.loads(path.read_text()) == {"a": [1]}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_keeps_its_content_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("before")

    def cut_short() -> Iterator[str]:
        yield "after"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_lines(str(path), cut_short())
    assert path.read_text() == "before"


def test_a_pipe_is_written_in_place(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    received: list[str] = []
    reader = threading.Thread(target=lambda: received.append(path.read_text()), daemon=True)
    reader.start()
    write_lines(str(path), ["one", "two"])
    reader.join(10)
    assert received == ["one\ntwo\n"]
    assert path.is_fifo()


def test_a_file_that_cannot_be_written_is_named() -> None:
    with pytest.raises(OutputError, match=r"^/dev/full: cannot be written: No space left"):
        write_lines("/dev/full", ["x"])


def test_a_state_of_several_pages_is_dumped_whole() -> None:
    machine = KeyValueMachine()
    for number in range(kv.PAGE_KEYS_MAX + 5):
        machine.apply(kv.encode_put(f"{number:06}", b"x"), ApplyContext())
    machine.apply(kv.encode_delete("000003"), ApplyContext())
    with FakeClient({"kv": machine}) as client:
        found = [json.loads(line) for line in dump_lines(client, "kv")]
    keys = [f"{number:06}" for number in range(kv.PAGE_KEYS_MAX + 5) if number != 3]
    assert [entry["key"] for entry in found] == keys
    assert found[0] == {"key": "000000", "value": "x", "version": 1}
