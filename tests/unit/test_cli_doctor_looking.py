"""`ray-paxos doctor`: what looking finds here, and what the command says of it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ray_paxos.cli import doctor as doctor_command
from ray_paxos.cli import doctor_ray_look
from ray_paxos.cli.doctor import CHECKS, examine
from ray_paxos.cli.doctor_facts import (
    FolderFacts,
    RayFacts,
)
from ray_paxos.cli.doctor_looking import (
    file_system_of,
    look_at_disk,
    look_at_folders,
    look_at_machine,
    requirement,
)
from ray_paxos.cli.doctor_ray_look import look_at_ray, raylets_of
from ray_paxos.cli.main import main
from ray_paxos.core.releases import NEWEST
from ray_paxos.storage.checked_files import replace_fields
from ray_paxos.storage.cluster_version import VERSION
from ray_paxos.storage.identity import member_fields
from tests.storage.member_support import IDENTITY, make_log, make_member
from tests.unit.doctor_support import (
    DISK,
    MACHINE,
    NONE_RUNS,
)


def test_requirements_are_read_from_metadata() -> None:
    assert requirement("ray[default]>=2.60") == ("ray", "2.60")
    assert requirement("ruff<0.18,>=0.17.6") == ("ruff", "0.17.6")
    assert requirement("ruff>=0.17.6,<0.18") == ("ruff", "0.17.6")
    assert requirement("matplotlib>=3.9; extra == 'plots'") is None
    assert requirement("click") is None
    here = look_at_machine()
    assert here.python_wanted == "3.10"
    assert {"ray", "pyarrow", "rich"} <= {package.name for package in here.packages}
    assert "hypothesis" not in {package.name for package in here.packages}
    assert all(package.installed for package in here.packages)


def test_folders_are_looked_at_as_they_lie(tmp_path: Path) -> None:
    assert look_at_folders(tmp_path / "absent") == ()
    disk = make_member(tmp_path / "demo" / "amber", make_log(1))
    assert look_at_folders(tmp_path) == (
        FolderFacts(
            tmp_path / "demo" / "amber", "demo", "demo", IDENTITY.genesis.cluster_id, "amber"
        ),
    )
    replace_fields(disk, VERSION, {**member_fields(IDENTITY), "cluster_version": NEWEST + 1})
    shutil.copytree(tmp_path / "demo" / "amber", tmp_path / "demo" / "copy")
    (tmp_path / "demo" / "empty").mkdir()
    found_here = look_at_folders(tmp_path)
    assert found_here is not None
    newer, copied = found_here
    assert f"cluster version {NEWEST + 1}" in newer.release_problem
    assert copied.problem


def test_a_disk_is_tried_and_nothing_stays(tmp_path: Path) -> None:
    disk = look_at_disk(tmp_path / "not" / "there")
    assert (disk.place, disk.error) == (tmp_path, "")
    assert len(disk.sync_ms) == 20
    assert disk.lock_excludes
    assert disk.file_system
    assert disk.free_bytes
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    assert "is a file" in look_at_disk(tmp_path / "file" / "below").error


def test_the_file_system_is_that_of_the_nearest_mount(tmp_path: Path) -> None:
    mountinfo = (
        "1 0 8:1 / / rw - ext4 /dev/sda rw\n"
        f"2 1 0:5 / {tmp_path} rw shared:1 - tmpfs tmpfs rw\n"
        f"3 1 0:6 / {tmp_path}/a\\040b rw - nfs4 host:/ rw\n"
        f"4 1 0:6 / {tmp_path}/a rw - xfs /dev/sdb rw\n"
        "broken\n"
    )
    assert file_system_of(tmp_path / "x", mountinfo) == ("tmpfs", str(tmp_path))
    assert file_system_of(tmp_path / "a b" / "c", mountinfo) == ("nfs4", f"{tmp_path}/a b")
    assert file_system_of(tmp_path / "ab", mountinfo)[0] == "tmpfs", "not below a"
    assert file_system_of(Path("/elsewhere"), mountinfo) == ("ext4", "/")
    assert file_system_of(Path("/elsewhere"), "") == ("", "")


def test_raylets_are_those_of_the_cluster_and_tokens_are_not_shown(tmp_path: Path) -> None:
    def process(number: int, name: str, *arguments: str) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "comm").write_text(f"{name}\n")
        (folder / "cmdline").write_text("\0".join((name, *arguments)))
        (folder / "environ").write_text("RAY_x=1\0HOME=/\0RAY_AUTH_TOKEN=secret\0")

    process(5, "raylet", "--gcs-address=10.0.0.1:6379")
    process(6, "raylet", "--gcs-address=10.0.0.1:7777")
    process(4, "raylet", "--gcs-address=110.0.0.1:6379")
    process(7, "python", "--gcs-address=10.0.0.1:6379")
    (tmp_path / "8").mkdir()
    (tmp_path / "self").mkdir()
    assert raylets_of("10.0.0.1:6379", tmp_path) == {5: {"RAY_x": "1"}}


def test_ray_is_asked_for_a_bounded_time_and_never_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = {"RAY_AUTH_TOKEN": "secret", "RAY_ADDRESS": "local"}
    asked: list[str] = []

    def ask(wanted: str, record_folder: Path, timeout_s: float) -> Mapping[str, object]:
        asked.append(wanted)
        return {"error": NONE_RUNS}

    with monkeypatch.context() as patched:
        patched.setattr(doctor_ray_look, "_ask", ask)
        local = look_at_ray(None, tmp_path, secret)
        assert (local.wanted, local.source, local.has_token) == ("local", "$RAY_ADDRESS", True)
        assert "secret" not in str(local)
        assert asked == [], "to look at a new one would be to start it"
        assert look_at_ray("auto", tmp_path, secret).source == "ray.address"
        assert look_at_ray(None, tmp_path, {}).wanted == "auto"
        assert asked == ["auto", "auto"]
    late = look_at_ray("127.0.0.1:1", tmp_path, {}, timeout_s=0.01)
    assert late.error == "no answer within 0.01 s"
    nobody = look_at_ray("127.0.0.1:1", tmp_path, {})
    assert "no Ray cluster answers at 127.0.0.1:1" in nobody.error
    assert (nobody.address, nobody.nodes, nobody.raylets) == ("", None, None)


# the command


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """This machine, as if no Ray ran, and as if all was well with it."""
    monkeypatch.setenv("RAY_PAXOS_HOME", str(tmp_path / "data"))
    ray = RayFacts(error=NONE_RUNS, own={})
    monkeypatch.setattr(doctor_command, "look_at_ray", lambda *arguments: ray)
    monkeypatch.setattr(doctor_command, "look_at_machine", lambda: MACHINE)
    monkeypatch.setattr(doctor_command, "look_at_disk", lambda folder: replace(DISK, place=folder))
    return monkeypatch


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, ["doctor", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_doctor_shows_a_plain_table_where_no_terminal_is(
    machine: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "demo.yaml"
    config.write_text("cluster: demo\nmembers: 4\n")
    machine.setenv("FORCE_COLOR", "1")
    result = run(config)
    assert result.exit_code == 0, result.output
    assert result.output.isascii(), "no lines of boxes, no colours"
    assert "\x1b" not in result.output
    lines = result.output.splitlines()
    assert lines[0].split() == ["check", "status", "found", "what", "to", "change"]
    assert any(line.startswith("configuration") and " warning " in line for line in lines)
    assert lines[-1] == "0 problems, 1 warnings"
    assert all(len(line) < 400 for line in lines)


def test_doctor_ends_with_a_status_that_says_what_is_wrong(
    machine: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert run().exit_code == 0
    assert json.loads(run("--json").stdout)["status"] == "ok"
    machine.setattr(doctor_command, "look_at_machine", lambda: replace(MACHINE, open_files=9))
    assert run().exit_code == 1
    document = json.loads(run("--json").stdout)
    assert document["status"] == "problem"
    assert [each["check"] for each in document["findings"] if each["status"] == "problem"] == [
        "open files"
    ]
    config = tmp_path / "wrong.yaml"
    config.write_text("cluster: demo\nproposer:\n  lease: 5\n")
    result = run(config)
    assert result.exit_code == 2
    assert f"{config}:3: proposer.lease: unknown field" in result.stderr
    assert "open files" in result.stdout, "the rest is looked at all the same"


@pytest.mark.parametrize("content", [None, "cluster: [", "\x00", "- 1"])
def test_a_file_that_cannot_be_read_is_named(
    machine: pytest.MonkeyPatch, tmp_path: Path, content: str | None
) -> None:
    config = tmp_path / "demo.yaml"
    if content is not None:
        config.write_text(content)
    result = run(config)
    assert result.exit_code == 2
    assert str(config) in result.stderr
    assert "Traceback" not in result.output


def test_the_machine_of_this_test_can_be_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_PAXOS_HOME", str(tmp_path))
    monkeypatch.setenv("RAY_ADDRESS", "local")
    given = doctor_command.find_facts(None)
    assert given.machine.memory_bytes
    assert given.machine.processors <= (os.cpu_count() or 1)
    assert {name for name, _ in examine(given)} >= CHECKS.keys() - {"Ray keepalive", "Ray nodes"}
