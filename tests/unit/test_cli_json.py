"""What commands that change something tell programs, and what a person sees on a terminal."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result

from ray_paxos.actors.memberships import GroupMembers
from ray_paxos.cli import groups, running_cluster, tables
from ray_paxos.cli import status as status_module
from ray_paxos.cli.main import main
from ray_paxos.observability.status import (
    ClusterStatus,
    GroupStatus,
    MemberPosition,
    MemberStatus,
    RoleStatus,
)
from ray_paxos.storage.log_rows import rows_of
from tests.storage.member_support import flip, make_log, make_member, segment_path
from tests.unit.watched_roles import PlayedCluster

LOG = make_log(20)


def run(*arguments: object, status: int = 0, answer: str | None = None) -> Result:
    result = CliRunner().invoke(main, list(map(str, arguments)), input=answer)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result


def document(*arguments: object, status: int = 0, answer: str | None = None) -> Any:
    """What is on standard output: one document, and nothing else."""
    return json.loads(run(*arguments, "--json", status=status, answer=answer).stdout)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_member(tmp_path / "demo" / "amber", LOG, checkpoints=(10,)).root


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "again.yaml"
    path.write_text(f"cluster: again\nmembers: [one, two]\ndata_dir: {tmp_path / 'data'}\n")
    return path


def test_adopt(root: Path, tmp_path: Path) -> None:
    assert document("log", "adopt", root) == {"member": "amber", "moved": "", "accepted": False}
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    refused = run("log", "adopt", copy, "--yes", "--json", status=2)
    assert (refused.stdout, "this is a copy" in refused.stderr) == ("", True)
    shutil.rmtree(root)
    assert document("log", "adopt", copy, status=1)["accepted"] is False
    assert document("log", "adopt", copy, "--yes")["accepted"] is True
    assert document("log", "adopt", copy)["moved"] == ""


def test_repair(root: Path) -> None:
    whole = document("log", "repair", root)
    assert (whole["was_whole"], whole["moves"], whole["kept"]) == (True, [], None)
    flip(segment_path(root, 11, 20))
    said = document("log", "repair", root, status=1)
    assert said["was_whole"] is False
    assert said["kept"] is None
    assert said["fetches_from"] == {"1": 11}
    done = document("log", "repair", root, "--yes")
    assert done["moves"] == said["moves"]
    assert Path(done["kept"]).is_dir()


def test_export(root: Path, tmp_path: Path) -> None:
    output = tmp_path / "part.csv"
    words = ("--group", 1, "--format", "csv", "--output", output, "--from", 3, "--to", 5)
    told = document("log", "export", root, *words)
    rows = len(list(rows_of(LOG[2:5])))
    assert told == {"file": str(output), "rows": rows, "first": 3, "last": 5}


def test_what_is_made_anew_is_told_as_one_document(
    root: Path, config: Path, tmp_path: Path
) -> None:
    shutil.copytree(root.parent, tmp_path / "kept")
    result = run("unsafe-recover", root, "--config", config, "--json", answer="y\n")
    told = json.loads(result.stdout)
    assert told["cluster"] == "again"
    assert [Path(path).name for path in told["made"]] == ["one", "two"]
    assert [each["instance_id"] for each in told["groups"] if each["group"] == 1] == [20]
    assert "make it?" in result.stderr, "a person is still asked"
    assert "given are amber" in result.stderr


class RunningPlayed:
    """What `groups` and `status` ask."""

    class operations:
        """Which do nothing."""

        @staticmethod
        def drop_group(group: int, *, timeout_s: float) -> None:
            assert group == 9

        @staticmethod
        def spread(*, timeout_s: float) -> int:
            return 4

    def status(self) -> ClusterStatus:
        position = MemberPosition(
            learned_through=40,
            applied_through=40,
            durable_through=12_345,
            log_floor=1,
            checkpoint=4,
            lag=7,
            stopped="",
        )
        roles = {"acceptor": RoleStatus("serving"), "learner": RoleStatus("stopped", "why")}
        return ClusterStatus(
            "demo",
            "abc",
            (MemberStatus("m1", 1, roles),),
            (GroupStatus(1, None, {"m1": position}),),
            ("m1: learner stopped: why",),
        )

    def group(self, number: int) -> Any:
        members = GroupMembers(12, ("m1", "m2"), ("m3",))
        return SimpleNamespace(number=number, members=lambda: members)


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (groups, running_cluster):
        monkeypatch.setattr(module, "connect_to", lambda name, address: cast(Any, RunningPlayed()))
    monkeypatch.setattr(
        running_cluster, "open_to_watch", lambda name, address: cast(Any, RunningPlayed())
    )
    monkeypatch.setattr(running_cluster, "view_of", lambda cluster, **_: PlayedCluster().look())


@pytest.mark.usefixtures("running")
def test_groups_that_change() -> None:
    assert document("groups", "drop", "demo", 9) == {"group": 9, "dropped": True}
    assert document("groups", "spread", "demo") == {"cluster": "demo", "changes": 4}
    assert run("groups", "drop", "demo", 9).stdout == "group 9: dropped\n"
    assert run("groups", "spread", "demo").stdout == "spread, by 4 changes\n"


@pytest.mark.usefixtures("running")
def test_what_runs_is_lines_for_programs_and_tables_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert run("groups", "list", "demo").stdout == (
        "group 1, master none: voters m1, m2; followers m3, since instance 12\n"
    )
    assert "  ! m1: learner stopped: why\n" in run("status", "demo").stdout
    for module in (tables, status_module):
        monkeypatch.setattr(module, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    listed = table_words(run("groups", "list", "demo").stdout)
    assert ["group", "master", "voters", "followers", "since", "instance"] in listed
    assert ["1", "none", "m1,", "m2", "m3", "12"] in listed
    shown = table_words(run("status", "demo").stdout)
    assert ["!", "m1:", "learner", "stopped:", "why"] in shown
    assert ["member", "acceptor", "learner"] in shown
    assert ["m1", "serving", "stopped"] in shown
    assert ["1", "none", "m1", "40", "7", "12,345", "1", "4"] in shown


def table_words(text: str) -> list[list[str]]:
    """Of each line, without colours."""
    return [re.sub(r"\x1b\[[0-9;]*m", "", line).split() for line in text.splitlines()]
