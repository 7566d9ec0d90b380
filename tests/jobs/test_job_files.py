"""Output files: whole or untouched; and the dump of a state that takes several pages."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from job_files import (
    OutputError,
    check_folder,
    check_output,
    write_each,
    write_json,
    write_lines,
)
from ray_paxos.errors import ConfigurationError
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


def test_what_cannot_be_written_is_found_before_the_work_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_file").touch()
    check_folder(None, "--figures")
    check_folder(str(tmp_path), "--figures")
    check_folder(str(tmp_path / "new"), "--figures")
    check_output(str(tmp_path / "new.html"), "--report")
    for path, told in (("a_file", "a_file is no folder"), ("no/such", "no is no folder")):
        with pytest.raises(ConfigurationError, match=f"^--figures .*{told}$"):
            check_folder(str(tmp_path / path), "--figures")
    # Root may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    for check in (check_folder, check_output):
        with pytest.raises(ConfigurationError, match=r"the folder .* is not writable$"):
            check(str(tmp_path / "new"), "--report")
    assert [path.name for path in tmp_path.iterdir()] == ["a_file"]


@pytest.mark.parametrize("check", [check_folder, check_output])
def test_a_disk_that_is_full_is_found_before_the_work_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: Callable[[str, str], None]
) -> None:
    def fail(number: int) -> Callable[..., None]:
        def allocate(*_arguments: object) -> None:
            raise OSError(number, os.strerror(number))

        return allocate

    path = str(tmp_path / "new")
    monkeypatch.setattr(os, "posix_fallocate", fail(errno.ENOSPC))
    with pytest.raises(ConfigurationError, match=r"takes no file: No space left on device$"):
        check(path, "--report")
    # A file system that cannot be asked is no full one.
    monkeypatch.setattr(os, "posix_fallocate", fail(errno.EOPNOTSUPP))
    check(path, "--report")
    assert list(tmp_path.iterdir()) == []


def test_the_beginning_of_a_file_is_removed_where_the_rest_has_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out"
    path.write_text("before")

    def run_out() -> Iterator[str]:
        yield "after"
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OutputError, match="No space left"):
        write_lines(str(path), run_out())
    assert path.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_one_file_that_cannot_be_written_keeps_no_other_from_it(tmp_path: Path) -> None:
    path = tmp_path / "out"
    writers = [
        lambda: write_lines("/dev/full", ["x"]),
        lambda: write_lines(str(path), ["x"]),
        lambda: write_lines(str(tmp_path / "no" / "such"), ["x"]),
    ]
    with pytest.raises(OutputError, match=r"^/dev/full: .*; .*no/such: cannot be written"):
        write_each(writers)
    assert path.read_text() == "x\n"


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
