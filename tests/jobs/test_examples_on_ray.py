"""The examples from end to end, at small sizes, all in one Ray session (`play_examples.py`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.play_examples import PLAYED
from tests.ray.subprocesses import ROOT, TIMEOUT_S, sandbox

# Half a minute alone; beside other tests that start Ray PhxKV's checkpoints took too long once.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What became of each."""
    path = tmp_path_factory.mktemp("examples") / "out.json"
    with sandbox() as box:
        # As where they are started by their path: their neighbours are found beside them.
        search = [str(ROOT), str(ROOT / "jobs"), os.environ.get("PYTHONPATH", "")]
        done = subprocess.run(
            [sys.executable, "tests/jobs/play_examples.py", str(path)],
            env={
                **box.environment,
                "PYTHONPATH": os.pathsep.join(filter(None, search)),
                "RAY_AUTH_MODE": "disabled",
            },
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        left = box.ended()
    assert done.returncode == 0, done.stdout
    assert left == {}
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def told(played: dict[str, Any], name: str) -> dict[str, Any]:
    """The document of an example, which has held."""
    if name not in played:
        pytest.skip("Ray Data is not installed")
    found = played[name]
    assert found["status"] == 0, found
    document: dict[str, Any] = found["document"]
    assert document["promises"], "it has promised something"
    assert all(document["promises"].values())
    return document


@pytest.mark.parametrize("name", PLAYED)
def test_it_holds_what_it_promises(played: dict[str, Any], name: str) -> None:
    document = told(played, name)
    assert document["cluster"] == ("phx-kv" if name == "phx_kv" else "examples")


def test_a_sharded_counter_is_in_more_than_one_group(played: dict[str, Any]) -> None:
    facts = told(played, "example_sharded_counter")["facts"]
    assert facts["sum"] == facts["expected"] > 60
    assert len(facts["groups"]) > 1


def test_flags_were_changed_while_nobody_watched(played: dict[str, Any]) -> None:
    facts = told(played, "example_feature_flags")["facts"]
    assert facts["changes"] == 15
    assert 0 < facts["reaction_median_ms"] <= facts["reaction_max_ms"]


def test_a_scheduler_that_stood_still_is_refused(played: dict[str, Any]) -> None:
    facts = told(played, "example_scheduler")["facts"]
    assert len(facts["epochs"]) >= 3
    assert facts["epochs"] == sorted(facts["epochs"])
    assert facts["refused"] >= 1
    assert facts["ticks"] >= 9


def test_a_rerun_of_a_pipeline_does_what_is_missing(played: dict[str, Any]) -> None:
    facts = told(played, "example_job_ledger")["facts"]
    assert facts["worked_on_in_second_run"] < facts["blocks"]
    assert facts["executions"] >= facts["blocks"] + 2, "one that failed, and one that was killed"
    assert facts["total"] == sum(range(60))


def test_the_master_is_printed_and_changes(played: dict[str, Any]) -> None:
    facts = told(played, "phx_election")["facts"]
    assert len(facts["masters"]) >= 2
    printed = played["phx_election"]["stdout"].splitlines()
    versions = [int(line.split()[1]) for line in printed]
    assert versions == sorted(versions)
    assert len(set(versions)) >= 2


def test_lines_are_echoed_with_their_instances(played: dict[str, Any]) -> None:
    assert told(played, "phx_echo")["facts"]["members"] == ["m1", "m2", "m3"]
    lines = [line.split() for line in played["phx_echo"]["stdout"].splitlines()]
    assert [(machine, value) for machine, _, value in lines] == [
        ("echo", "hello"),
        ("echo", "paxos"),
        ("echo", "\u00fcber"),
    ]


def test_a_checkpoint_of_its_own_machine_is_handed_over(played: dict[str, Any]) -> None:
    facts = told(played, "phx_kv")["facts"]
    assert facts["received_bytes"] > 0
    assert facts["log_floor"] > 1


def test_all_of_them_are_played() -> None:
    jobs = {path.stem for path in Path(ROOT, "jobs").glob("*.py")}
    shown = {name for name in jobs if name.startswith(("example_", "phx_"))}
    helpers = {"example_job", "phx_echo_machine", "phx_kv_machine", "phx_kv_client", "phx_kv_tour"}
    assert shown - helpers == set(PLAYED)
