"""The command line of the simulator."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from ray_paxos.testing import coverage
from ray_paxos.testing.coverage import Situation
from ray_paxos.testing.simulate import main
from tests.simulation import mutations


def test_says_what_it_ran(tmp_path, capsys):
    path = tmp_path / "run.json"
    assert main(["--seeds", "0:2", "--jobs", "1", "--json", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "2 seeds of 3 members" in printed
    assert "simulated hours" in printed
    assert "violations: 0" in printed
    document = json.loads(path.read_text())
    assert document["seeds"] == 2
    assert document["violations"] == 0
    assert document["deliveries"] >= 4_000
    assert document["commands_checked"] >= 400
    assert sum(document["faults"].values()) >= 10


def test_order_does_not_depend_on_processes(capsys):
    assert main(["--seeds", "0:2", "--jobs", "1", "-v"]) == 0
    alone = capsys.readouterr().out
    assert main(["--seeds", "0:2", "--jobs", "2", "-v"]) == 0
    assert capsys.readouterr().out == alone


def test_a_violation_names_seed_step_and_replay(monkeypatch, capsys):
    mutations.skip_sync_before_promise(monkeypatch)
    assert main(["--seeds", "5:9", "--members", "5", "--jobs", "1"]) == 1
    captured = capsys.readouterr()
    assert "violations: 1" in captured.out
    assert re.search(r"SEED=5 members=5 step=\d+", captured.err)
    assert "options: members=5" in captured.err
    assert "violation: R3" in captured.err
    command = "python -m ray_paxos.testing.simulate --seeds 5 --members 5 --trace"
    assert f"replay: {command}" in captured.err


def test_an_exception_in_the_code_is_a_violation(monkeypatch, capsys):
    mutations.apply_across_a_gap(monkeypatch)
    assert main(["--seeds", "0:3", "--jobs", "1"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_run_that_saw_too_little_fails(monkeypatch, capsys):
    situations = (Situation(coverage.ADOPTED, 0.0), Situation("a unicorn", 0.5))
    monkeypatch.setattr(coverage, "SITUATIONS", situations)
    monkeypatch.setattr(coverage, "SEEDS_MIN", 2)
    assert main(["--seeds", "0:2", "--jobs", "1"]) == 1
    assert "too rarely seen: a unicorn" in capsys.readouterr().err


def test_what_seeds_must_see_is_not_demanded_of_another_mix_of_faults(monkeypatch, capsys):
    monkeypatch.setattr(coverage, "SITUATIONS", (Situation("a unicorn", 0.5),))
    monkeypatch.setattr(coverage, "SEEDS_MIN", 1)
    assert main(["--seeds", "0:1", "--jobs", "1", "--always", "killed role"]) == 0
    assert "too rarely seen" not in capsys.readouterr().err


def test_trace_shows_everything(capsys):
    assert main(["--seeds", "1", "--trace"]) == 0
    printed = capsys.readouterr().out
    for word in ("Prepare(", "Promise(", "Accepted(", "InstanceApplied(", "fault: ", "is healed"):
        assert word in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "9:3"], "'9:3' names no seeds"),
        (["--seeds", "many"], "'many' names no seeds"),
        (["--seeds=-3:2"], "'-3:2' names no seeds"),
        (["--members", "4"], "--members"),
        (["--jobs", "0"], "'0' is no number of processes"),
        (["--seeds", "0:5", "--trace"], "--trace shows one seed"),
        (["--json", "/nowhere/at/all/run.json"], "its folder does not exist"),
        (["--sedes", "1"], "unrecognized arguments"),
    ],
)
def test_bad_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_runs_as_a_module(repository):
    command = [sys.executable, "-m", "ray_paxos.testing.simulate", "--seeds", "0:1"]
    ended = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "violations: 0" in ended.stdout
