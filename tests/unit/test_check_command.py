"""`python -m ray_paxos.testing.check`: verdicts on real histories, what it prints, how it exits."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ray_paxos.testing.check import main
from ray_paxos.testing.history import History, HistoryRecorder
from ray_paxos.testing.history_formats.jsonl import write_history
from ray_paxos.testing.history_formats.reading import read_history
from ray_paxos.testing.linearizability.budget import Budget
from ray_paxos.testing.linearizability.history_check import check_history
from ray_paxos.testing.linearizability.models import MODELS
from ray_paxos.testing.linearizability.search import Verdict

ALL_S = 60
"""All real files together must take less; they take about half a second."""
EXIT_STATUS = {"true": 0, "false": 1, "unknown": 2}


@pytest.fixture(scope="module")
def real_verdicts(jepsen_data: Path) -> list[tuple[Path, str, str]]:
    """File, model and right verdict of 68 real histories."""
    with (jepsen_data / "verdicts.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [(jepsen_data / row["file"], row["model"], row["linearizable"]) for row in rows]


# Real histories.


def test_every_real_history_has_its_verdict_in_time(
    real_verdicts: list[tuple[Path, str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(real_verdicts) == 68
    started = time.monotonic()
    wrong = []
    for path, model, verdict in real_verdicts:
        status = main([str(path), "--model", model])
        first, *_ = capsys.readouterr().out.splitlines()
        if (first, status) != (f"linearizable: {verdict}", EXIT_STATUS[verdict]):
            wrong.append((path.name, verdict, first, status))
    assert wrong == []
    assert time.monotonic() - started < ALL_S


def test_the_prefix_of_every_real_history_is_bad_and_one_event_less_is_not(
    real_verdicts: list[tuple[Path, str, str]],
) -> None:
    def check(events: int) -> Verdict:
        prefix = History(history.events[:events])
        return check_history(prefix, MODELS[model], Budget(time.monotonic_ns, 10**10)).verdict

    for path, model, verdict in real_verdicts:
        if verdict != "false":
            continue
        history = read_history(path)
        budget = Budget(time.monotonic_ns, 10**10)
        bad = check_history(history, MODELS[model], budget).bad_prefix
        assert bad is not None
        assert bad.is_shortest
        assert (check(bad.events - 1), check(bad.events)) == (Verdict.TRUE, Verdict.FALSE)


# What it prints.


@pytest.fixture
def stale(tmp_path: Path) -> Path:
    """A Jepsen log with a stale read in line 8 of 10."""
    path = tmp_path / "stale.log"
    path.write_text(
        "INFO jepsen.util - a test begins\n"
        "INFO jepsen.util - 0 :invoke :write 1\n"
        "INFO jepsen.util - 0 :ok :write 1\n"
        "INFO jepsen.util - 1 :invoke :cas [1 2]\n"
        "INFO jepsen.util - 2 :invoke :write 3\n"
        "INFO jepsen.util - 1 :ok :cas [1 2]\n"
        "INFO jepsen.util - 3 :invoke :read nil\n"
        "INFO jepsen.util - 3 :ok :read 1\n"
        "INFO jepsen.util - 2 :info :write :timed-out\n"
        "INFO jepsen.util - a test ends\n"
    )
    return path


def test_a_bad_history_is_shown_up_to_where_it_goes_wrong(
    stale: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(stale), "--model", "cas-register"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "linearizable: false",
        "the first 7 of 8 events cannot be ordered, and no shorter prefix is like that",
        "the last of them (line 8, process 3): read -> 1",
        "before it, the state may have been: 2",
        "the key's 4 operations in it:",
        "  from to  process",
        "     2  3        0  write 1 -> ok",
        "     4  6        1  cas [1, 2] -> ok",
        "     5           2  write 3 -> unknown",
        "     7  8        3  read -> 1",
    ]


def test_a_long_prefix_is_cut_and_the_document_has_all_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = HistoryRecorder()
    for turn in range(100):
        text = "long" * 100
        recorder.ok(recorder.invoke("a", "append", "k", text, now_ns=turn), now_ns=turn)
        recorder.ok(recorder.invoke("b", "append", "other", text, now_ns=turn), now_ns=turn)
    recorder.ok(recorder.invoke("a", "get", "k", now_ns=200), "x", now_ns=201)
    path, document_path = tmp_path / "history.jsonl", tmp_path / "found.json"
    write_history(path, recorder.history())
    arguments = [str(path), "--model", "append-kv", "--json", str(document_path)]
    assert main([*arguments, "--time-limit", "7.5"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert 'the last of them (line 403, process a, key "k"): get -> "x"' in lines
    assert "the last 20 of the key's 101 operations in it (all: --json FILE):" in lines
    assert lines[3].startswith('before it, the state may have been: "longlong')
    assert len(lines) == 5 + 1 + 20
    assert max(map(len, lines)) < 200
    document = json.loads(document_path.read_text())
    prefix = document.pop("prefix")
    assert 0 <= document.pop("seconds") < 60
    assert document.pop("configurations") >= 0
    assert document == {
        "files": [str(path)],
        "linearizable": False,
        "model": "append-kv",
        "events": 402,
        "operations": 201,
        "keys": 2,
        "undecided_keys": [],
        "reason": "",
        "time_limit_s": 7.5,
    }
    assert (prefix["events"], prefix["line"], prefix["is_shortest"]) == (402, 403, True)
    assert (prefix["key"], prefix["last_operation"]) == ("k", 200)
    assert len(prefix["operations"]) == 101
    assert prefix["operations"][0] == {
        "id": 0,
        "process": "a",
        "function": "append",
        "argument": "long" * 100,
        "outcome": "ok",
        "result": None,
        "invoked_event": 1,
        "invoked_line": 2,
        "responded_event": 2,
        "responded_line": 3,
    }


def test_a_good_history_and_the_limits_in_the_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = HistoryRecorder()
    recorder.ok(recorder.invoke(1, "acquire", "k", now_ns=1), 4, now_ns=2)
    path, document_path = tmp_path / "history.jsonl", tmp_path / "found.json"
    write_history(path, recorder.history())
    arguments = [str(path), "--model", "lock", "--json", str(document_path)]
    assert main(arguments) == 0
    assert capsys.readouterr().out == "linearizable: true\n"
    document = json.loads(document_path.read_text())
    assert (document["linearizable"], document["prefix"]) == (True, None)
    assert main([*arguments, "--time-limit", "0"]) == 2
    assert capsys.readouterr().out.splitlines() == [
        "linearizable: unknown",
        'not decided: 1 key ("k"), as the time limit of 0 s passed',
    ]
    document = json.loads(document_path.read_text())
    assert (document["linearizable"], document["undecided_keys"]) == (None, ["k"])
    assert document["reason"] == "the time limit of 0 s passed"


def test_several_files_are_one_history(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = []
    for process in (1, 2):
        recorder = HistoryRecorder()
        number = recorder.invoke(process, "write", argument=process, now_ns=10 * process)
        recorder.ok(number, now_ns=10 * process + 5)
        if process == 2:
            recorder.ok(recorder.invoke(2, "read", now_ns=30), 1, now_ns=31)
        path = tmp_path / f"{process}.jsonl"
        write_history(path, recorder.history())
        paths.append(str(path))
    assert main([*paths, "--model", "cas-register"]) == 1
    assert "the last of them (event 6, process 2): read -> 1" in capsys.readouterr().out


# How it exits.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: FILE, --model"),
        (["FILE"], "the following arguments are required: --model"),
        (["FILE", "--model", "queue"], "argument --model: invalid choice: 'queue'"),
        (["FILE", "--model", "lock", "--time-limit", "-1"], "'-1' is no time"),
        (["FILE", "--model", "lock", "--time-limit", "nan"], "'nan' is no time"),
        (["FILE", "--model", "lock", "--time-limit", "inf"], "'inf' is no time"),
        (["FILE", "--model", "lock", "--time-limit", "soon"], "'soon' is no time"),
        (["FILE", "--model", "lock", "--configurations-max", "0"], "'0' is no number"),
        (["FILE", "--model", "lock", "--json", "no/such/folder"], "its folder does not exist"),
        (["FILE", "--model", "lock", "--what"], "unrecognized arguments: --what"),
    ],
)
def test_wrong_arguments_exit_with_3(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 3
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        ("", "no history"),
        ("1 :ok :read 3\n", "line 1: process 1: ok of read, but nothing was asked"),
        ("\n1 :invoke :push 3\n", "line 2: model cas-register: push by process 1: no such"),
        ("1 :invoke :cas 3\n1 :info :cas x\n", "line 1 or 2: model cas-register: cas by process"),
    ],
)
def test_a_bad_file_exits_with_3(
    content: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "history"
    if content is not None:
        path.write_text(content)
    assert main([str(path), "--model", "cas-register"]) == 3
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {path}")
    assert message in printed.err
    assert printed.out == ""


def test_a_document_that_cannot_be_written_exits_with_3(
    stale: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(stale), "--model", "cas-register", "--json", str(tmp_path)]) == 3
    printed = capsys.readouterr()
    assert "cannot be written" in printed.err
    assert printed.out.startswith("linearizable: false\n")


def test_the_module_runs(stale: Path, repository: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ray_paxos.testing.check", *arguments],
            cwd=repository,
            capture_output=True,
            text=True,
            check=False,
        )

    done = run(str(stale), "--model", "cas-register")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("linearizable: false\n")
    done = run(str(stale), "--model", "cas-register", "--time-limit", "x")
    assert (done.returncode, done.stdout) == (3, "")
    done = run("--help")
    assert done.returncode == 0
    assert "exit status: 0 linearizable, 1 not, 2 unknown" in done.stdout


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_gone_does_not_change_the_status(
    unbuffered: str, stale: Path, repository: Path
) -> None:
    command = [sys.executable, "-m", "ray_paxos.testing.check", str(stale)]
    with subprocess.Popen(
        [*command, "--model", "cas-register", "--time-limit", "0"],
        cwd=repository,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait() == 2
