"""`ray-paxos up`, `down`, `members restart` and `upgrade`, each a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from ray_paxos.core.releases import NEWEST
from tests.ray.subprocesses import ROOT, TIMEOUT_S, Sandbox, sandbox

TEXT = "cluster: shelf\nmembers: 3\nroles: fused\nlogging: {level: WARNING}\n"


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with sandbox() as made:
        yield made


SEVERAL = """
import json, sys
from click.testing import CliRunner
from ray_paxos.cli.main import main

for line in sys.stdin:
    done = CliRunner().invoke(main, json.loads(line))
    print(json.dumps([done.exit_code, done.stdout, done.stderr]), flush=True)
"""
"""Commands one after the other in one process: most of a command's time is importing Ray."""


class Commands:
    """A process that executes commands."""

    def __init__(self, box: Sandbox) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SEVERAL],
            env={**box.environment, "RAY_AUTH_MODE": "disabled"},
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """One command: its exit status, and what it writes."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(arguments)}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self._process.communicate(timeout=TIMEOUT_S)[1]
        status, output, errors = json.loads(line)
        return status, output, errors

    def told(self, *arguments: str) -> Any:
        """What one that succeeds says with `--json`."""
        status, output, errors = self.run(*arguments, "--json")
        assert status == 0, errors
        return json.loads(output)

    def __enter__(self) -> Commands:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=TIMEOUT_S)


@pytest.mark.ray
def test_a_cluster_goes_up_and_down_by_command(box: Sandbox) -> None:
    configuration = box.folder / "shelf.yaml"
    names = ["m1", "m2", "m3"]
    with Commands(box) as first:
        status, _, errors = first.run("up", str(configuration))
        assert status == 2
        assert str(configuration) in errors
        configuration.write_text(TEXT)
        assert first.told("up", str(configuration)) == {
            "cluster": "shelf",
            "was_running": False,
            "members": names,
        }
    # It goes on without the process that has started it.
    with Commands(box) as later:
        status, output, _ = later.run("up", str(configuration))
        assert (status, output) == (0, "cluster shelf runs already: m1, m2, m3\n")
        status, _, errors = later.run("members", "restart", "shelf", "m9")
        assert status == 1
        assert "member m9 is unknown" in errors
        upgraded = later.told("upgrade", "shelf")
        assert upgraded == {"restarted": names, "cluster_version": NEWEST}
        # The data stays, whatever the file says now.
        assert later.told("down", "shelf") == {"cluster": "shelf", "data_deleted": False}
    with Commands(box) as last:
        assert last.run("status", "shelf")[0] == 1
        configuration.write_text(TEXT.replace("members: 3", "members: 5"))
        assert last.told("up", str(configuration))["members"] == names
        assert last.told("members", "restart", "shelf", "m2") == {"restarted": ["m2"]}
        assert last.run("down", "shelf", "--delete-data")[0] == 1
        assert last.told("down", "shelf", "--delete-data", "--yes")["data_deleted"] is True
        assert not list(box.data.glob("*"))
    assert not box.ended()
