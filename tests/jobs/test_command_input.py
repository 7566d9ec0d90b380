"""Files of commands: what is read, what is refused, and how much is held."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from command_formats import FORMATS
from command_input import CommandFile, InputLine
from ray_paxos.errors import InputError
from ray_paxos.machines import kv

GET = b'{"op":"get","key":"a"}'
KV, LINES = FORMATS["kv-jsonl"], FORMATS["lines"]


def written(folder: Path, content: bytes) -> str:
    path = folder / "commands"
    path.write_bytes(content)
    return str(path)


def read(path: str, **options: object) -> list[InputLine]:
    repeat = options.pop("repeat", 1)
    assert isinstance(repeat, int)
    arguments = {"encode": KV, "command_bytes_max": 1_000} | options
    return list(CommandFile(path, repeat=repeat).read(**arguments))  # type: ignore[arg-type]


def test_every_line_comes_with_its_number_and_bytes(tmp_path: Path) -> None:
    path = written(tmp_path, GET + b"\n\n  " + GET + b"\r\n" + GET)
    command = kv.encode_get("a")
    assert read(path) == [
        InputLine(1, 23, command),
        InputLine(3, 26, command),
        InputLine(4, 22, command),
    ]


def test_an_empty_file_has_no_commands(tmp_path: Path) -> None:
    assert read(written(tmp_path, b"")) == []


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    path = written(tmp_path, b"\xef\xbb\xbf" + GET + b"\n")
    assert [line.command for line in read(path)] == [kv.encode_get("a")]
    assert read(path, encode=LINES)[0].command.startswith(b"\xef\xbb\xbf")


def test_plain_lines_are_kept_byte_by_byte(tmp_path: Path) -> None:
    path = written(tmp_path, b"one\n\n\xff\x00two\r\nthree")
    assert [line.command for line in read(path, encode=LINES)] == [
        b"one",
        b"",
        b"\xff\x00two\r",
        b"three",
    ]


def test_a_bad_line_ends_the_reading_after_those_before_it(tmp_path: Path) -> None:
    path = written(tmp_path, GET + b"\nbad\n" + GET + b"\n")
    lines = CommandFile(path).read(KV, command_bytes_max=1_000)
    assert next(lines).number == 1
    with pytest.raises(InputError) as caught:
        next(lines)
    assert str(caught.value).startswith(f"{path}, line 2: not valid JSON: ")


def test_bad_lines_can_be_passed_over(tmp_path: Path) -> None:
    path = written(tmp_path, b"bad\n" + GET + b"\n[]\n" + GET)
    refusals: list[InputError] = []
    assert [line.number for line in read(path, on_bad_line=refusals.append)] == [2, 4]
    assert [str(refusal).split(":")[0] for refusal in refusals] == [
        f"{path}, line 1",
        f"{path}, line 3",
    ]


def test_a_command_over_the_limit_is_a_bad_line(tmp_path: Path) -> None:
    path = written(tmp_path, GET + b'\n{"op":"put","key":"a","value":"' + b"x" * 1_000 + b'"}\n')
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value) == (
        f"{path}, line 2: the command takes 1,010 bytes; allowed: 1,000 "
        "(proposer.command_bytes_max)"
    )


@pytest.mark.parametrize("end", [b"\n" + GET + b"\n", b"\n", b""])
def test_a_line_of_any_length_is_told_and_not_held(tmp_path: Path, end: bytes) -> None:
    path = written(tmp_path, GET + b"\n" + b"x" * 3_000_000 + end)
    refusals: list[InputError] = []
    lines = read(path, on_bad_line=refusals.append)
    assert [line.number for line in lines] == ([1, 3] if end.endswith(GET + b"\n") else [1])
    assert [str(refusal) for refusal in refusals] == [f"{path}, line 2: longer than 10,096 bytes"]


def test_text_written_with_escapes_only_still_fits(tmp_path: Path) -> None:
    value = b"\\u0041" * 980
    path = written(tmp_path, b'{"op":"put","key":"a","value":"' + value + b'"}\n')
    assert read(path)[0].command == kv.encode_put("a", b"A" * 980)


def test_a_file_is_read_as_often_as_asked(tmp_path: Path) -> None:
    path = written(tmp_path, GET + b"\n" + GET)
    assert [line.number for line in read(path, repeat=3)] == [1, 2, 1, 2, 1, 2]
    assert CommandFile(path, repeat=3).byte_count == 3 * 45


def test_what_cannot_be_opened_is_refused_at_once(tmp_path: Path) -> None:
    cases = {tmp_path / "missing": "No such file or directory", tmp_path: "Is a directory"}
    for path, reason in cases.items():
        with pytest.raises(InputError) as caught:
            CommandFile(str(path))
        assert str(caught.value) == f"{path}: cannot be read: {reason}"


def test_standard_input_is_read_once_or_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for repeat, numbers in ((1, [1, 2]), (2, [1, 2, 1, 2])):
        reader, writer = os.pipe()
        with os.fdopen(writer, "wb") as file:
            file.write(GET + b"\n" + GET + b"\n")
        with io.TextIOWrapper(os.fdopen(reader, "rb")) as pipe:
            monkeypatch.setattr(sys, "stdin", pipe)
            commands = CommandFile("-", repeat=repeat)
            assert commands.name == "standard input"
            assert commands.byte_count is None
            lines = list(commands.read(KV, command_bytes_max=1_000))
            assert [line.number for line in lines] == numbers


ENDS_WHILE_IT_READS = """
import threading
from command_formats import FORMATS
from command_input import CommandFile

lines = CommandFile("-").read(FORMATS["lines"], command_bytes_max=100)
is_reading = threading.Event()

def read():
    print(next(lines).command.decode())
    is_reading.set()
    next(lines)

threading.Thread(target=read, daemon=True).start()
is_reading.wait()
"""


def test_a_process_can_end_while_standard_input_is_read(repository: Path) -> None:
    paths = os.pathsep.join((str(repository), str(repository / "jobs")))
    with subprocess.Popen(
        [sys.executable, "-c", ENDS_WHILE_IT_READS],
        env={**os.environ, "PYTHONPATH": paths},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"one\n")
        process.stdin.flush()
        # Open until the process has ended by itself: Python waits in it for more.
        said = process.stdout.read()
        assert process.wait() == 0, said.decode()
        assert said == b"one\n"


def test_a_named_pipe_can_be_read_several_times(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(GET + b"\n",))
    writer.start()
    assert [line.number for line in read(str(path), repeat=3)] == [1, 1, 1]
    writer.join()


def test_real_input_is_read_whole(hdfs_commands: Path) -> None:
    lines = read(str(hdfs_commands))
    assert len(lines) == 2_469
    assert lines[-1].number == 2_469
