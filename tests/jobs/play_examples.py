"""Plays the examples one after the other in one Ray session, on one cluster; a program of its own.

    python tests/jobs/play_examples.py OUT.json

All but PhxKV attach to a cluster that is started here. That one starts its own in the same session:
it has to have a member more than its groups have voters, and to be stopped and started.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ray
from click.testing import CliRunner

import ray_paxos
from ray_paxos.config import RayConfiguration, parse_configuration

TEXT = """
cluster: examples
members: 3
roles: fused
logging: {level: WARNING}
groups: [{group: 1}, {group: 2}, {group: 3, machines: {echo: "phx_echo_machine:Echo"}}]
"""
ATTACHED = ("--cluster", "examples")
PLAYED: dict[str, tuple[str, ...]] = {
    "example_sharded_counter": ("--tasks", "2", "--additions", "30", *ATTACHED),
    "example_feature_flags": ("--watchers", "2", "--changes", "5", "--limit-ms", "5000", *ATTACHED),
    "example_scheduler": ("--ticks", "3", *ATTACHED),
    "example_job_ledger": ("--blocks", "6", "--rows", "10", *ATTACHED),
    "phx_election": ("--seconds", "1", *ATTACHED),
    "phx_echo": ("--group", "3", *ATTACHED, "hello", "paxos", "\u00fcber"),
    "phx_kv": (),
}


def play(name: str, arguments: tuple[str, ...]) -> dict[str, Any]:
    """One example, to its end."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.json"
        job = importlib.import_module(name).main
        done = CliRunner().invoke(job, ["--json", str(path), *arguments])
        document = json.loads(path.read_text()) if path.exists() else None
    return {
        "status": done.exit_code,
        "error": repr(done.exception),
        "stdout": done.stdout,
        "stderr": done.stderr,
        "document": document,
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> None:
    """All of them."""
    os.environ |= RayConfiguration().environment()
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    cluster = ray_paxos.start(parse_configuration(TEXT))
    played = PLAYED if find_spec("pandas") else PLAYED.keys() - {"example_job_ledger"}
    found = {name: play(name, PLAYED[name]) for name in PLAYED if name in played}
    cluster.stop(delete_data=True)
    ray.shutdown()
    Path(sys.argv[1]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
