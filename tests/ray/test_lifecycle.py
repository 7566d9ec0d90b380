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


def ray_paxos(box: Sandbox, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ray_paxos.cli", *arguments],
        env={**box.environment, "RAY_AUTH_MODE": "disabled"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def told(box: Sandbox, *arguments: str) -> Any:
    done = ray_paxos(box, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.ray
def test_a_cluster_goes_up_and_down_by_command(box: Sandbox) -> None:
    configuration = box.folder / "shelf.yaml"
    missing = ray_paxos(box, "up", str(configuration))
    assert missing.returncode == 2
    assert str(configuration) in missing.stderr
    configuration.write_text(TEXT)
    names = ["m1", "m2", "m3"]
    assert told(box, "up", str(configuration)) == {
        "cluster": "shelf",
        "was_running": False,
        "members": names,
    }
    again = ray_paxos(box, "up", str(configuration))
    assert (again.returncode, again.stdout) == (0, "cluster shelf runs already: m1, m2, m3\n")
    assert told(box, "members", "restart", "shelf", "m2") == {"restarted": ["m2"]}
    unknown = ray_paxos(box, "members", "restart", "shelf", "m9")
    assert unknown.returncode == 1
    assert "member m9 is unknown" in unknown.stderr
    upgraded = told(box, "upgrade", "shelf")
    assert upgraded == {"restarted": names, "cluster_version": NEWEST}
    # The data stays, whatever the file says now.
    assert told(box, "down", "shelf") == {"cluster": "shelf", "data_deleted": False}
    gone = ray_paxos(box, "status", "shelf")
    assert gone.returncode == 1
    configuration.write_text(TEXT.replace("members: 3", "members: 5"))
    assert told(box, "up", str(configuration))["members"] == names
    refused = ray_paxos(box, "down", "shelf", "--delete-data")
    assert refused.returncode == 1
    assert told(box, "down", "shelf", "--delete-data", "--yes")["data_deleted"] is True
    assert not list(box.data.glob("*"))
    assert not box.ended()
