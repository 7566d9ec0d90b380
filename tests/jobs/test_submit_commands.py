"""The job on a cluster of this process: reports, files, exit statuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ray_paxos.errors import CommandError, PlacementError
from ray_paxos.machines import kv
from submit_commands import command_line
from tests.jobs.fakes import FakeCluster, FakeDigest
from tests.jobs.replay import replay

SAMPLE = "jobs/sample_commands.jsonl"
DOCUMENT_FIELDS = [
    "submitted",
    "acknowledged",
    "failed",
    "elapsed_s",
    "commands_per_s",
    "cluster",
    "members",
    "digests_equal",
    "log_dir",
]


def run(cluster: FakeCluster, *arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        command_line.main(list(arguments), obj=cluster)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_the_sample_runs_without_any_option(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = FakeCluster()
    assert run(cluster) == 0
    said = capsys.readouterr()
    assert "cluster demo, members m1, m2, m3, group 1" in said.err
    assert "20 commands submitted, 20 acknowledged, 0 failed" in said.err
    assert "all members hold the same state" in said.err
    assert said.out == ""
    assert cluster.starts == [(None, False)]
    assert cluster.stopped == 1


def test_real_commands_give_the_state_of_a_plain_replay(
    hdfs_commands: Path, tmp_path: Path
) -> None:
    state, document = tmp_path / "out.jsonl", tmp_path / "out.json"
    options = ["--input", str(hdfs_commands), "--dump-state", str(state), "--json", str(document)]
    cluster = FakeCluster()
    assert run(cluster, *options) == 0
    assert [json.loads(line) for line in state.read_text().splitlines()] == replay(hdfs_commands)
    told = json.loads(document.read_text())
    assert list(told) == DOCUMENT_FIELDS
    assert told["submitted"] == told["acknowledged"] == 2_469
    assert told["failed"] == 0
    assert told["commands_per_s"] > 0
    assert told["cluster"] == "demo"
    assert told["members"]["m2"] == {"applied_instance_id": 7, "state_digest": "ab" * 16}
    assert told["digests_equal"] is True
    assert told["log_dir"] == "/data/demo/m1/learner/log"
    assert cluster.flushed == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "out.jsonl"]


def test_a_cluster_that_ran_before_or_is_kept_is_not_stopped() -> None:
    found_running = FakeCluster(was_running=True)
    assert run(found_running) == 0
    assert found_running.stopped == 0
    kept = FakeCluster()
    assert run(kept, "--keep", "--address", "auto") == 0
    assert kept.starts == [("auto", True)]
    assert kept.stopped == 0


def test_lines_go_to_the_log_machine_as_often_as_asked(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"one\n\xff\n")
    cluster = FakeCluster()
    assert run(cluster, "--input", str(path), "--format", "lines", "--repeat", "3") == 0
    assert cluster.client_made is not None
    assert cluster.client_made.commands == [b"one", b"\xff"] * 3


def test_a_value_that_is_no_text_is_dumped_in_base64(tmp_path: Path) -> None:
    class Binary(FakeCluster):
        def client(self, group: int, *, label: str):
            client = super().client(group, label=label)
            client.propose_many_async(
                [kv.encode_put("b", b"\xff")], "kv", timeout_s=1, on_progress=None
            )
            return client

    path, empty = tmp_path / "out.jsonl", tmp_path / "empty"
    empty.touch()
    assert run(Binary(), "--input", str(empty), "--dump-state", str(path)) == 0
    assert json.loads(path.read_text()) == {"key": "b", "value_base64": "/w==", "version": 1}


def test_data_can_go_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(FakeCluster(), "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["acknowledged"] == 20


# What does not hold


def test_a_bad_line_exits_2_with_everything_before_it_acknowledged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, document = tmp_path / "in.jsonl", tmp_path / "out.json"
    path.write_text('{"op":"get","key":"a"}\n{"op":"incr"}\n{"op":"get","key":"b"}\n')
    cluster = FakeCluster()
    assert run(cluster, "--input", str(path), "--json", str(document)) == 2
    reason = f'{path}, line 2: op: found "incr"; allowed: put, get, delete, cas'
    assert f"error: {reason}" in capsys.readouterr().err
    assert cluster.client_made is not None
    assert cluster.client_made.commands == [kv.encode_get("a")]
    told = json.loads(document.read_text())
    assert list(told) == [*DOCUMENT_FIELDS, "errors"]
    assert (told["submitted"], told["acknowledged"], told["errors"]) == (1, 1, [reason])
    assert cluster.stopped == 1


def test_what_is_wrong_with_the_cluster_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "out.json"
    cluster = FakeCluster(alarms=("m2: the acceptor does not vote",))
    assert run(cluster, "--json", str(document)) == 0
    assert "warning: m2: the acceptor does not vote" in capsys.readouterr().err
    assert json.loads(document.read_text())["alarms"] == ["m2: the acceptor does not vote"]


def test_bad_lines_that_are_skipped_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, document = tmp_path / "in.jsonl", tmp_path / "out.json"
    path.write_text('{"op":"get","key":"a"}\nbad\n{"op":"get","key":"b"}\n\n[]\n')
    options = ["--input", str(path), "--json", str(document), "--skip-bad-lines"]
    assert run(FakeCluster(), *options) == 0
    told = json.loads(document.read_text())
    assert list(told) == [*DOCUMENT_FIELDS, "skipped_lines"]
    assert (told["submitted"], told["skipped_lines"]) == (2, 2)
    said = capsys.readouterr().err
    assert f"warning: {path}, line 2: not valid JSON" in said
    assert "2 bad lines were passed over" in said


def test_a_refused_command_exits_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(command: bytes) -> None:
        raise CommandError("no machine of that name")

    document = tmp_path / "out.json"
    assert run(FakeCluster(on_command=refuse), "--json", str(document)) == 1
    assert "error: the command of line 1: no machine of that name" in capsys.readouterr().err
    assert json.loads(document.read_text())["failed"] > 0


def test_different_digests_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digests = {"m1": FakeDigest(7, "aa"), "m2": FakeDigest(7, "ab"), "m3": FakeDigest(7, "aa")}
    document = tmp_path / "out.json"
    assert run(FakeCluster(digests=[digests]), "--json", str(document)) == 1
    assert json.loads(document.read_text())["digests_equal"] is False
    assert "not all members are known to hold the same state" in capsys.readouterr().err


def test_a_member_that_answers_late_is_waited_for() -> None:
    some = {"m1": FakeDigest(7, "aa"), "m3": FakeDigest(7, "aa")}
    cluster = FakeCluster(digests=[some, some | {"m2": FakeDigest(7, "aa")}])
    assert run(cluster) == 0


def test_a_member_that_does_not_answer_exits_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("submit_commands.MEMBERS_WAIT_S", 0.0)
    digests = [{"m2": FakeDigest(7, "aa"), "m3": FakeDigest(7, "aa")}]
    document = tmp_path / "out.json"
    cluster = FakeCluster(digests=digests, silent=("m1",))
    assert run(cluster, "--json", str(document)) == 1
    told = json.loads(document.read_text())
    assert told["log_dir"] == "/data/demo/m2/learner/log"
    assert told["members"]["m1"] == {"applied_instance_id": None, "state_digest": None}
    assert told["digests_equal"] is False


def test_a_cluster_that_cannot_be_started_exits_3(capsys: pytest.CaptureFixture[str]) -> None:
    class Nowhere(FakeCluster):
        def __call__(self, *_arguments: object, **_options: object):
            raise PlacementError("3 nodes are needed, 1 is there")

    assert run(Nowhere()) == 3
    assert capsys.readouterr().err == "error: 3 nodes are needed, 1 is there\n"


def test_an_interrupt_stops_the_cluster_and_exits_130(capsys: pytest.CaptureFixture[str]) -> None:
    class Interrupted(FakeCluster):
        def flush(self, group: int) -> None:
            raise KeyboardInterrupt

    cluster = Interrupted()
    assert run(cluster) == 130
    assert cluster.stopped == 1
    assert "interrupted; what was acknowledged stays" in capsys.readouterr().err


# What is found before anything starts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "missing.yaml"], "missing.yaml: cannot be read: No such file or directory"),
        (["--input", "missing.jsonl"], "missing.jsonl: cannot be read: No such file or directory"),
        (["--input", "."], ".: cannot be read: Is a directory"),
        (["--group", "9"], "--group: found 9; allowed: 1"),
        (["--json", "no/out.json"], "--json no/out.json: there is no folder no"),
        (["--json", "."], "--json .: is a directory; allowed: a file"),
        (["--dump-state", "/proc/x/y"], "--dump-state /proc/x/y: there is no folder /proc/x"),
        (
            ["--config", "only_log.yaml"],
            "--format kv-jsonl needs a machine of kind kv, and group 4 has none",
        ),
        (
            ["--config", "only_log.yaml", "--format", "lines", "--dump-state", "x"],
            "--dump-state needs a machine of kind kv, and group 4 has none",
        ),
        (
            ["--config", "bad.yaml"],
            "bad.yaml:2: member: unknown field (did you mean members?)",
        ),
    ],
)
def test_bad_options_exit_2_before_anything_starts(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("only_log.yaml").write_text("cluster: x\ngroups: [{group: 4, machines: {log: log}}]")
    Path("bad.yaml").write_text("cluster: x\nmember: 3")
    cluster = FakeCluster()
    assert run(cluster, *arguments) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert cluster.starts == []


@pytest.mark.parametrize("arguments", [["--repeat", "0"], ["--format", "xml"], ["--nonsense"]])
def test_a_wrong_command_line_exits_2(arguments: list[str]) -> None:
    assert run(FakeCluster(), *arguments) == 2


def test_an_even_number_of_voters_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("cluster: x\nmembers: 4")
    assert run(FakeCluster(), "--config", str(path)) == 0
    assert f"warning: {path}: members: 4 voters survive" in capsys.readouterr().err


# As a process


def test_bad_input_is_one_message_and_loads_no_ray(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "jobs/submit_commands.py", "--input", "missing"],
        cwd=repository,
        env=os.environ | {"PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        check=False,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    said = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert done.returncode == 2
    assert said == ["error: missing: cannot be read: No such file or directory"]
    assert not imported & {"ray", "pyarrow"}


def test_a_reader_that_has_gone_ends_the_job_quietly(repository: Path, tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    complaints = tmp_path / "stdout"
    with complaints.open("wb") as stdout:
        done = subprocess.run(
            [sys.executable, "jobs/submit_commands.py", "--input", "missing"],
            cwd=repository,
            env=os.environ | {"PYTHONPATH": str(repository)},
            stdout=stdout,
            stderr=write_end,
            check=False,
        )
    os.close(write_end)
    assert done.returncode == 130
    assert complaints.read_bytes() == b""


def test_data_for_a_reader_that_has_gone_ends_the_job_quietly(repository: Path) -> None:
    program = (
        "import sys\n"
        "from job_console import JobConsole\n"
        "from job_exit import run_to_status\n"
        "from job_files import write_lines\n"
        "def job():\n"
        "    write_lines('-', ['x'])\n"
        "    return 0\n"
        "sys.exit(run_to_status(job, JobConsole()))\n"
    )
    path = f"{repository}{os.pathsep}{repository / 'jobs'}"
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [sys.executable, "-c", program],
        # Buffered, as by default: Python flushes once more at exit.
        env=os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": ""},
        stdout=write_end,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write_end)
    assert done.stderr == b""
    assert done.returncode == 130
