"""`ray-paxos log`: what it prints, how it ends, and that it says no without a traceback."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from ray_paxos.cli.main import main
from ray_paxos.storage.disk import LocalDisk
from ray_paxos.storage.segment_format import header_of
from tests.storage.member_support import (
    FORMATS,
    checkpoint_path,
    files_below,
    flip,
    host_at,
    make_log,
    make_member,
    segment_path,
)

LOG = make_log(40)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("member") / "demo" / "amber"
    return make_member(root, LOG, log_floor=11, checkpoints=(10, 25)).root


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    """A member with checkpoints at 10 and 25, and instances 11 to 40 in segments of ten."""
    return Path(shutil.copytree(template, tmp_path / "demo" / "amber"))


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, ["log", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def document(*arguments: object, status: int = 0) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == status, result.output
    return json.loads(result.stdout)


# show


def test_show_says_what_a_member_holds_and_its_last_instances(root: Path) -> None:
    before = files_below(root)
    result = run("show", root, "--limit", 3)
    assert result.exit_code == 0
    for text in (
        "member amber (11), activated",
        "cluster demo",
        "learner      incarnation 1",
        "group 1: 3 segments",
        "promise 1.11.1, vote floor 1, votes 1 to 40 (40)",
        "ballots 1.11.1 to 1.11.1",
        "checkpoints: 10, 25",
        "40.0  1.11.1       command events [2.2 #",
        'line "line 40"',
        'put key="key-6" value=16 bytes',
    ):
        assert text in result.stdout
    assert "  37.0" not in result.stdout
    assert files_below(root) == before


def test_show_gives_a_range_and_says_the_same_as_json(root: Path) -> None:
    shown = document("show", root, "--group", 1, "--from", 20, "--to", 22)
    assert shown["member"] == "amber"
    assert [group["group"] for group in shown["groups"]] == [1]
    assert [(row["instance_id"], row["index"]) for row in shown["instances"]] == [
        (20, 0),
        (21, 0),
        *((22, index) for index in range(4)),
    ]
    assert [row["kind"] for row in shown["instances"]] == ["command", "noop", *["command"] * 4]
    assert shown["instances"][0]["text"] == 'line "line 20"'
    text = run("show", root, "--group", 1, "--from", 20, "--to", 22).stdout
    assert [line.split()[0] for line in text.splitlines()[-6:]] == [
        "20.0",
        "21.0",
        "22.0",
        "22.1",
        "22.2",
        "22.3",
    ]


def test_show_goes_on_where_a_segment_is_damaged_and_ends_with_1(root: Path) -> None:
    flip(segment_path(root, 21, 30), 60)
    result = run("show", root, "--from", 31)
    assert result.exit_code == 1
    assert "DAMAGED" in result.stdout
    assert f"damaged: {segment_path(root, 21, 30)}: wrong checksum" in result.stdout
    assert "31.0" in result.stdout
    shown = document("show", root, "--from", 25, status=1)
    assert "wrong checksum" in shown["faults"][0]["problem"]


def test_show_says_what_is_in_use(root: Path) -> None:
    lock = LocalDisk(root).lock("learner/lock")
    assert "learner      incarnation 1, in use" in run("show", root).stdout
    lock.release()


@pytest.mark.parametrize("as_json", [False, True])
def test_follow_prints_what_is_sealed_later_until_it_is_interrupted(
    as_json: bool, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = segment_path(root, 31, 40).rename(root.parent / "later")
    sleeps = []

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        if len(sleeps) == 2:
            moved.rename(segment_path(root, 31, 40))
        if len(sleeps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("ray_paxos.cli.log.time.sleep", sleep)
    options = ["--json"] if as_json else []
    result = run("show", root, "--follow", "--limit", 1, *options)
    assert result.exit_code == 0
    assert sleeps == [1.0] * 3
    lines = result.stdout.splitlines()
    if as_json:
        summary, *rows = map(json.loads, lines)
        assert summary["member"] == "amber"
        assert sorted({row["instance_id"] for row in rows}) == list(range(30, 41))
    else:
        assert lines[-1].startswith("        40.0")
        assert sum(line.startswith("        30.0") for line in lines) == 1


# verify


def test_verify_says_what_was_verified(root: Path) -> None:
    result = run("verify", root)
    assert result.exit_code == 0
    assert result.stdout.startswith("whole: ")
    assert "group 1: instances 11 to 40 in 3 segments; checkpoints 10, 25" in result.stdout
    found = document("verify", root)
    assert found["ok"]
    assert found["files"] == len(files_below(root))
    assert found["groups"]["1"]["instances"] == 30


def test_verify_ends_with_1_and_the_place_of_the_first_fault(root: Path) -> None:
    flip(root / "acceptor" / "journal" / "0000000000000002.journal", 700)
    flip(checkpoint_path(root, 25) / "sessions.msgpack")
    result = run("verify", root)
    assert result.exit_code == 1
    first = result.stdout.splitlines()[0]
    assert "0000000000000002.journal: wrong checksum in the frame at byte 512" in first
    found = document("verify", root, status=1)
    assert not found["ok"]
    assert len(found["faults"]) == 2
    assert found["faults"][1]["path"] == "checkpointer/group=1/0000000000000025"


def test_verify_of_a_member_whose_identity_is_gone_ends_with_1(root: Path) -> None:
    (root / "identity.json").unlink()
    result = run("verify", root)
    assert result.exit_code == 1
    assert "identity.json is missing: nobody knows whose folder this is" in result.stdout


def test_verify_reads_beside_a_running_acceptor(root: Path) -> None:
    lock = LocalDisk(root).lock("acceptor/lock")
    (root / "acceptor" / "current.unfinished").write_bytes(b"half")
    result = run("verify", root)
    assert result.exit_code == 0
    assert "left over" not in result.stdout
    lock.release()
    assert "current.unfinished is left over" in run("verify", root).stdout


# export


@pytest.mark.parametrize("format_name", ["parquet", "jsonl", "csv"])
def test_export_writes_a_range_once(format_name: str, root: Path, tmp_path: Path) -> None:
    output = tmp_path / "rows"
    command = ["export", root, "--group", 1, "--format", format_name, "--output", output]
    result = run(*command, "--from", 21, "--to", 24)
    assert result.exit_code == 0
    assert "13 rows of instances 21 to 24" in result.stdout
    if format_name == "parquet":
        instances = [row["instance_id"] for row in pq.read_table(output).to_pylist()]
    elif format_name == "jsonl":
        instances = [json.loads(line)["instance_id"] for line in output.read_text().splitlines()]
    else:
        lines = output.read_text().splitlines()[1:]
        instances = [int(line.partition(",")[0]) for line in lines]
    assert sorted(set(instances)) == [21, 22, 23, 24]
    written = output.read_bytes()
    refused = run(*command)
    assert refused.exit_code == 2
    assert "exists; --force replaces it" in refused.stderr
    assert output.read_bytes() == written
    assert run(*command, "--force").exit_code == 0
    assert output.read_bytes() != written


def test_export_of_a_damaged_log_leaves_no_file(root: Path, tmp_path: Path) -> None:
    flip(segment_path(root, 31, 40), 60)
    output = tmp_path / "rows"
    result = run("export", root, "--group", 1, "--format", "csv", "--output", output)
    assert result.exit_code == 1
    assert f"{segment_path(root, 31, 40)}: wrong checksum" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo"]


# state


def test_state_rebuilds_and_shows_what_the_machines_held(root: Path, tmp_path: Path) -> None:
    result = run("state", root, "--at", 30, "--limit", 2)
    assert result.exit_code == 0
    assert "group 1 as of instance 30, from checkpoint 25" in result.stdout
    assert f"digest {host_at(LOG, 30).digest().hex()}" in result.stdout
    assert "line='line 5'" in result.stdout
    assert "more; --json or --output give all" in result.stdout
    found = document("state", root, "--at", 30)
    assert found["checkpoint"] == 25
    assert len(found["machines"][0]["keys"]) == 48
    output = tmp_path / "state.json"
    assert run("state", root, "--at", 30, "--output", output).exit_code == 0
    assert json.loads(output.read_text()) == found
    assert run("state", root, "--at", 30, "--output", output).exit_code == 2


def test_state_tells_of_a_checkpoint_that_it_could_not_use(root: Path) -> None:
    flip(checkpoint_path(root, 25) / "host.msgpack")
    result = run("state", root, "--at", 30)
    assert result.exit_code == 0
    assert "not used: " in result.stderr
    assert "from checkpoint 10" in result.stdout


def test_state_of_where_the_log_does_not_reach_ends_with_1(root: Path) -> None:
    for instance_id in (9, 41):
        result = run("state", root, "--at", instance_id)
        assert result.exit_code == 1
        assert result.stdout == ""
        assert "the log" in result.stderr


# repair


def test_repair_does_only_with_yes_what_it_says(root: Path) -> None:
    assert run("repair", root).stdout == "nothing to repair\n"
    path = segment_path(root, 31, 40)
    flip(path, 60)
    before = files_below(root)
    said = run("repair", root)
    assert said.exit_code == 1
    assert f"set aside {path}: {path}: wrong checksum" in said.stdout
    assert "fetches instances from 31 on" in said.stdout
    assert "nothing was changed; --yes does it" in said.stdout
    assert files_below(root) == before
    done = run("repair", root, "--yes")
    assert done.exit_code == 0
    assert f"what was replaced is in {root / 'replaced' / '1'}" in done.stdout
    assert run("verify", root).exit_code == 0
    assert run("repair", root, "--yes").stdout == "nothing to repair\n"


def test_repair_of_a_damaged_journal_says_that_the_member_is_to_be_replaced(root: Path) -> None:
    flip(root / "acceptor" / "journal" / "0000000000000002.journal", 700)
    before = files_below(root)
    result = run("repair", root, "--yes")
    assert result.exit_code == 1
    assert "cannot be repaired" in result.stdout
    assert "replace it by a new member" in result.stdout
    assert files_below(root) == before


def test_repair_beside_a_running_member_is_refused(root: Path) -> None:
    flip(segment_path(root, 31, 40), 60)
    lock = LocalDisk(root).lock("learner/lock")
    result = run("repair", root, "--yes")
    assert result.exit_code == 2
    assert "held by another process" in result.stderr
    lock.release()


# Wrong use.

EXPORT = ("--format", "csv", "--output")


@pytest.mark.parametrize("command", ["show", "verify", "state", "repair", "export"])
@pytest.mark.parametrize(
    ("folder", "what"),
    [
        ("nowhere", "does not exist"),
        ("file", "is a file; give a member's folder"),
        ("empty", "is no member's folder"),
        ("demo", "it holds those of amber: give one"),
    ],
)
def test_a_folder_that_is_no_members_is_refused(
    command: str, folder: str, what: str, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    options: dict[str, tuple[object, ...]] = {
        "state": ("--at", 1),
        "export": ("--group", 1, *EXPORT, tmp_path / "x"),
    }
    result = run(command, tmp_path / folder, *options.get(command, ()))
    assert result.exit_code == 2
    assert what in result.stderr
    assert str(tmp_path / folder) in result.stderr
    assert root.exists()


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("show", "DIR", "--group", 7), "has no group 7; it has 0, 1"),
        (("show", "DIR", "--group", 1, "--from", 30, "--to", 20), "the range is empty"),
        (("show", "DIR", "--group", 1, "--from", 41), "holds instances 11 to 40"),
        (("show", "DIR", "--group", 1, "--to", 10), "holds instances 11 to 40"),
        (("show", "DIR", "--group", 0), "group 0 has no sealed instances"),
        (("show", "DIR", "--from", 0), "0 is not in the range"),
        (("show", "DIR", "--follow", "--to", 3), "--follow has no end"),
        (("export", "DIR", "--group", 1, "--format", "xml", "--output", "x"), "'xml' is not one"),
        (("export", "DIR", "--group", 7, *EXPORT, "OUT"), "has no group 7"),
        (("export", "DIR", "--group", 1, *EXPORT, "OUT", "--from", 5), "instance 5 is not in"),
        (("export", "DIR", "--group", 1, *EXPORT, "OUT", "--to", 41), "instance 41 is not in"),
        (("export", "DIR", "--group", 1, *EXPORT, "OUT", "--from", 30, "--to", 20), "is empty"),
        (("export", "DIR", "--group", 1, *EXPORT, "INSIDE"), "lies in the member's folder"),
        (("export", "DIR", "--group", 1, *EXPORT, "NOFOLDER"), "its folder does not exist"),
        (("state", "DIR"), "Missing option '--at'"),
        (("state", "DIR", "--at", 20, "--group", 7), "has no group 7"),
        (("state", "DIR", "--at", 20, "--output", "INSIDE"), "lies in the member's folder"),
    ],
)
def test_wrong_use_is_refused_with_the_reason(
    arguments: tuple[object, ...], what: str, root: Path, tmp_path: Path
) -> None:
    places = {
        "DIR": root,
        "OUT": tmp_path / "out",
        "INSIDE": root / "out",
        "NOFOLDER": tmp_path / "no" / "out",
    }
    before = files_below(tmp_path)
    result = run(*(places.get(str(argument), argument) for argument in arguments))
    assert result.exit_code == 2
    assert what in result.stderr
    assert files_below(tmp_path) == before


@pytest.mark.parametrize(
    ("command", "denied"),
    [
        (command, denied)
        for command in (["show"], ["verify"], ["repair"], ["state", "--at", "30"])
        for denied in ("identity.json", "learner/log/group=1", "acceptor/current")
        # A state is not built from the journal.
        if (command[0], denied) != ("state", "acceptor/current")
    ],
)
def test_without_permission_nothing_is_said_about_the_files(
    command: list[str], denied: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root may read everything, the system's answer is played."""
    read = LocalDisk.read

    def refuse(disk: LocalDisk, path: str, *rest: Any) -> bytes:
        if path.startswith(denied):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), disk.where(path))
        return read(disk, path, *rest)

    monkeypatch.setattr(LocalDisk, "read", refuse)
    result = run(*command, root)
    assert result.exit_code == 2
    assert "Permission denied" in result.stderr
    assert "damaged" not in result.stdout


def test_a_foreign_segment_is_named_by_every_command(root: Path, tmp_path: Path) -> None:
    header = header_of(bytes(16), 1, LOG[20:30], LOG[19].chain, LOG[19].result_chain)
    path = segment_path(root, 21, 30)
    path.write_bytes(FORMATS.segments.encode(header, LOG[20:30]))
    export = ("export", root, "--group", 1, *EXPORT, tmp_path / "out")
    for command in (("show", root), ("verify", root), ("state", root, "--at", 40), export):
        result = run(*command)
        assert result.exit_code == 1, command
        assert f"{path} is a segment of another cluster" in result.output


def test_the_module_runs_as_a_program_without_ray(root: Path, repository: Path) -> None:
    program = (
        "import sys\n"
        "from ray_paxos.cli.main import main\n"
        f"main(['log', 'verify', {str(root)!r}], standalone_mode=False)\n"
        "assert 'ray' not in sys.modules\n"
    )
    for command in (["-c", program], ["-m", "ray_paxos.cli", "log", "verify", str(root)]):
        done = subprocess.run(
            [sys.executable, *command], cwd=repository, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("whole: ")
