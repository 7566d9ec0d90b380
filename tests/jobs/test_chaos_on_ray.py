"""The job on Ray clusters of its own, with real kills and stops: short by day, long by night."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chaos_disks import check_disks
from hosts import missing_for_hosts
from ray_paxos.errors import ConfigurationError
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
FIVE = "cluster: chaos\nmembers: 5\ngroups: 4\nroles: fused\nlogging: {level: WARNING}\n"
FOUR = "cluster: chaos\nmembers: 4\ngroups: 2\nroles: fused\nlogging: {level: WARNING}\n"


def run_chaos(
    folder: Path,
    *arguments: str,
    program: tuple[str, ...] = ("jobs/chaos.py",),
    configuration: str = CONFIGURATION,
    has_history: bool = True,
    limit_s: float,
) -> dict[str, Any]:
    """Run the job, which has to find everything in order and to leave nothing running."""
    config, document = folder / "chaos.yaml", folder / "out.json"
    config.write_text(configuration)
    with sandbox() as box:
        done = subprocess.run(
            [
                *(sys.executable, *program, "--config", str(config), "--json", str(document)),
                *(("--history", str(folder / "history.jsonl")) if has_history else ()),
                *arguments,
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


@pytest.mark.slow
def test_a_short_run_over_groups_that_change_their_members_holds(tmp_path: Path) -> None:
    kinds = "move-group,rolling-restart"
    told = run_chaos(
        tmp_path,
        *("--groups", "--seconds", "12", "--clients", "4", "--faults", kinds),
        *("--fault-interval-s", "1", "--gap-limit-s", "12", "--seed", "7"),
        *("--report", str(tmp_path / "run.html")),
        configuration=FOUR,
        limit_s=250,
    )
    # On a slow machine there may be no time for the second kind.
    assert told["faults"]["move-group"] >= 1
    assert [group["group"] for group in told["groups"]] == [1, 2]
    assert all(group["acknowledged"] > 50 for group in told["groups"])
    assert "Everything held." in (tmp_path / "run.html").read_text()


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "workload",
    [
        *("lock", "rw-lock", "semaphore", "election", "queue", "ledger", "counter", "barrier"),
        *("kv-txn", "watch", "object"),
    ],
)
def test_recipes_hold_while_roles_members_and_masters_are_killed(
    tmp_path: Path, workload: str
) -> None:
    told = run_chaos(
        tmp_path,
        *("--workload", workload, "--faults", "kill-role,kill-member,drop-master"),
        *("--seconds", "60"),
        has_history=False,
        limit_s=400,
    )
    assert told["workload"] == workload
    assert sum(told["faults"].values()) >= 8
    assert told["acknowledged"] > 200


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "kinds",
    [
        "add-member,remove-member,move-group",
        "wipe-member,kill-role",
        "kill-node",
        "kill-gcs",
        "slow-disk,full-disk",
        "kill-node,kill-gcs,kill-member,pause-member,drop-master,restart-all,rolling-restart,"
        "add-member,remove-member,move-group",
    ],
)
def test_nodes_groups_and_disks_are_hit(tmp_path: Path, kinds: str) -> None:
    """Five raylets of the job's own, and four groups."""
    needs = () if kinds.startswith(("add", "wipe")) else ("--nodes", "5")
    if "disk" in kinds:
        try:
            check_disks()
        except ConfigurationError as error:
            pytest.skip(str(error))
    told = run_chaos(
        tmp_path,
        *("--groups", "--seconds", "60", "--clients", "4", "--faults", kinds, *needs),
        *("--gap-limit-s", "12", "--restart-gap-limit-s", "24"),
        configuration=FIVE,
        limit_s=800,
    )
    assert set(told["faults"]) | set(told["refused"]) <= set(kinds.split(","))
    assert told["faults"]


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "kinds",
    [
        "partition,one-way,partial",
        "replace-member,kill-controller",
        "partition,one-way,partial,kill-node,kill-gcs,kill-member,move-group,replace-member,"
        "kill-controller",
    ],
)
def test_links_are_cut_and_members_replaced(tmp_path: Path, kinds: str) -> None:
    """Five hosts of the job's own, and one for the GCS and the clients."""
    needs = ("--hosts",) if "partition" in kinds else ()
    reason = missing_for_hosts() if needs else ""
    if reason:
        pytest.skip(f"hosts cannot be made here: {reason}")
    told = run_chaos(
        tmp_path,
        *("--groups", "--seconds", "60", "--clients", "4", "--faults", kinds, *needs),
        *("--gap-limit-s", "15"),
        configuration=FIVE,
        limit_s=800,
    )
    assert set(told["faults"]) <= set(kinds.split(","))
    assert told["faults"]
    replaced = [each for each in told["injected"] if each["kind"] == "replace-member"]
    came = {each["what"].split(" by ")[1] for each in replaced}
    left = {each["what"].split(" ")[0] for each in replaced}
    assert set(told["members"]) == ({"m1", "m2", "m3", "m4", "m5"} | came) - left


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
