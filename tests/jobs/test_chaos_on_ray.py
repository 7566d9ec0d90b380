"""The job on Ray clusters of its own, with real kills and stops: short by day, long by night."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.ray.subprocesses import ROOT, sandbox

ON_NODES = """
import os, subprocess, sys
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

home = Path(os.environ["RAY_PAXOS_HOME"])
nodes = Cluster()
for name in ("head", "n1", "n2", "n3"):
    nodes.add_node(
        num_cpus=1,
        env_vars={"RAY_PAXOS_HOME": str(home / name)},
        object_store_memory=100_000_000,
        include_dashboard=False,
    )
nodes.wait_for_nodes()
job = [sys.executable, "jobs/chaos.py", "--address", nodes.address, *sys.argv[1:]]
done = subprocess.run(job, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True)
print(done.stdout)
nodes.shutdown()
sys.exit(done.returncode)
"""
CONFIGURATION = "cluster: chaos\nmembers: 3\nlogging: {level: WARNING}\n"


def run_chaos(
    folder: Path, *arguments: str, program: tuple[str, ...] = ("jobs/chaos.py",), limit_s: float
) -> dict[str, Any]:
    """Run the job, which has to find everything in order and to leave nothing running."""
    config, document = folder / "chaos.yaml", folder / "out.json"
    config.write_text(CONFIGURATION)
    with sandbox() as box:
        done = subprocess.run(
            [
                *(sys.executable, *program, "--config", str(config), "--json", str(document)),
                *("--history", str(folder / "history.jsonl"), *arguments),
            ],
            # Decided here, not by what lies in ~/.ray.
            env={**box.environment, "RAY_AUTH_MODE": "disabled"},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=limit_s,
            check=False,
        )
        left = box.ended()
    assert done.returncode == 0, done.stdout
    assert left == {}
    told: dict[str, Any] = json.loads(document.read_text())
    assert told["held"] is True
    assert all(told["checks"].values())
    return told


def test_a_short_run_with_kills_pauses_and_transfers_holds(tmp_path: Path) -> None:
    kinds = "kill-role,drop-master,pause-member"
    told = run_chaos(
        tmp_path,
        *("--seconds", "9", "--clients", "4", "--faults", kinds, "--fault-interval-s", "1.5"),
        # By night it is the default, 6 s; by day the machine may be several times slower.
        *("--gap-limit-s", "30"),
        limit_s=200,
    )
    assert set(told["faults"]) | set(told["refused"]) == set(kinds.split(","))
    assert told["acknowledged"] > 100
    assert told["linearizability"]["verdict"] == "true"
    check = ["-m", "ray_paxos.testing.check", str(tmp_path / "history.jsonl"), "--model", "kv"]
    again = subprocess.run(
        [sys.executable, *check], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert again.stdout == "linearizable: true\n", again.stderr


@pytest.mark.nightly
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_two_minutes_of_all_faults_hold(tmp_path: Path, seed: int) -> None:
    """Gaps under 6 s, and under 12 s where everything is restarted: the defaults."""
    told = run_chaos(
        tmp_path, "--seconds", "120", "--clients", "8", "--seed", str(seed), limit_s=500
    )
    assert set(told["faults"]) == {
        *("kill-role", "kill-member", "pause-member", "drop-master", "restart-all")
    }


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_members_on_other_nodes_are_hit_there(tmp_path: Path) -> None:
    """Four raylets with a data directory each: several hosts, but for the process ids."""
    told = run_chaos(
        tmp_path,
        *("--seconds", "60", "--clients", "4", "--gap-limit-s", "12"),
        *("--restart-gap-limit-s", "24"),
        program=("-c", ON_NODES),
        limit_s=500,
    )
    assert set(told["faults"]) >= {"kill-role", "kill-member", "restart-all"}
