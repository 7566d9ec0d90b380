"""The benchmark on Ray clusters of its own: short runs from end to end, by night."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.ray.subprocesses import ROOT, Sandbox, sandbox

pytestmark = pytest.mark.nightly
LIMIT_S = 240.0


def start_benchmark(box: Sandbox, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "jobs/benchmark.py", *arguments],
        # Decided here, not by what lies in ~/.ray.
        env={**box.environment, "RAY_AUTH_MODE": "disabled"},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_benchmark(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """Run the job, which has to end well and to leave nothing: no process, no file."""
    path = tmp_path / "out.json"
    with sandbox() as box:
        job = start_benchmark(box, "--json", str(path), *arguments)
        output, _ = job.communicate(timeout=LIMIT_S)
        left = box.ended()
        files = left_behind(box)
    assert job.returncode == 0, output
    assert left == {}
    assert files == []
    document: dict[str, Any] = json.loads(path.read_text())
    assert document["machine"]["cores"] >= 1
    assert len(document["machine"]["load_average_at_begin"]) == 3
    return document


def left_behind(box: Sandbox) -> list[str]:
    """Folders of clusters and peers."""
    return [path.name for path in box.folder.glob("ray_paxos-*")]


def check_run(run: dict[str, Any], *, seconds: float) -> None:
    assert run["acknowledged"] > 0
    assert run["failed"] == 0, run["failure"]
    assert run["load_s"] >= seconds
    assert run["whole_s"] >= run["load_s"]
    assert 0 < run["commands_per_s"] <= run["acknowledged_per_s"]
    latency = run["latency"]
    assert 0 < latency["p50_ms"] <= latency["p99_ms"] <= latency["max_ms"]


def test_a_short_benchmark_from_end_to_end(tmp_path: Path) -> None:
    document = run_benchmark(
        tmp_path,
        *("--workload", "put", "--in-flight", "1,100", "--seconds", "2", "--repeat", "2"),
        *("--warmup-seconds", "0.5", "--floor"),
    )
    assert set(document["floor_ms"]) == {"separate", "fused", "read"}
    assert document["floor_ms"]["read"] < document["floor_ms"]["fused"]
    assert document["floor_ms"]["fused"] < document["floor_ms"]["separate"]
    for name in ("1 in flight", "100 in flight"):
        assert len(document["runs"][name]) == 2
        for run in document["runs"][name]:
            check_run(run, seconds=2.0)
            assert set(run["settled_s"]) == {"applied", "durable", "checkpointed"}
            spent = run["cpu"]["us_per_operation"]
            assert set(spent) >= {"driver", "proposer", "acceptor", "learner", "checkpointer"}
    # Nothing bare Ray cannot do, either.
    alone = document["median"]["1 in flight"]["latency"]["p50_ms"]
    assert alone > document["floor_ms"]["fused"] / 2


@pytest.mark.parametrize("workload", ["ycsb-d", "ycsb-e", "ycsb-f"])
def test_workloads_that_read_scan_and_insert(tmp_path: Path, workload: str) -> None:
    document = run_benchmark(
        tmp_path,
        *("--workload", workload, "--in-flight", "20", "--seconds", "2"),
        *("--warmup-seconds", "0.5", "--read-consistency", "follower"),
    )
    check_run(document["median"]["20 in flight"], seconds=2.0)
    assert document["reads_by"] in ("query_async", "threads")


def test_batches_over_several_groups(tmp_path: Path) -> None:
    document = run_benchmark(
        tmp_path,
        *("--batch", "500", "--in-flight", "4", "--groups", "3", "--seconds", "2"),
        *("--warmup-seconds", "0.5"),
    )
    run = document["median"]["4 in flight"]
    check_run(run, seconds=2.0)
    assert run["acknowledged"] % 500 == 0


def test_an_open_load_keeps_its_rate(tmp_path: Path) -> None:
    document = run_benchmark(
        tmp_path, *("--rate", "200", "--seconds", "3", "--warmup-seconds", "0.5")
    )
    run = document["median"]["200/s"]
    check_run(run, seconds=2.9)
    assert run["acknowledged"] == 600


@pytest.mark.parametrize("peer", ["pysyncobj", "etcd"])
def test_peers_take_the_same_load(tmp_path: Path, peer: str) -> None:
    is_here = find_spec("pysyncobj") if peer == "pysyncobj" else shutil.which("etcd")
    if not is_here:
        pytest.skip(f"{peer} is not installed")
    document = run_benchmark(
        tmp_path,
        *("--peer", peer, "--workload", "mixed", "--in-flight", "1,50", "--seconds", "2"),
        *("--warmup-seconds", "0.5"),
    )
    for run in document["median"].values():
        check_run(run, seconds=2.0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_everything(number: signal.Signals) -> None:
    with sandbox() as box:
        job = start_benchmark(box, "--in-flight", "10", "--seconds", "600")
        assert job.stdout is not None
        for line in job.stdout:
            if line.startswith("10 in flight (600"):
                break
        os.kill(job.pid, number)
        output, _ = job.communicate(timeout=LIMIT_S)
        assert job.returncode == 130, output
        assert box.ended() == {}
        assert left_behind(box) == []
