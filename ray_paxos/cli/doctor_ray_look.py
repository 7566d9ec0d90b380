"""Looks at a Ray cluster for `ray-paxos doctor`, in a process of its own, and starts none.

A process that connects to Ray may wait for minutes, or be ended by Ray; so another one connects,
for a bounded time, and says in one JSON document what it saw:

    python -m ray_paxos.cli.doctor_ray_look HOST:PORT|auto RECORD_FOLDER
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray_paxos.cli.doctor_facts import NodeFacts, RayFacts

LOOK_TIMEOUT_S = 30.0
RAY_PREFIX = "RAY_"
TOKEN_VARIABLES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
TOKEN_FILE = "~/.ray/auth_token"


def look_at_ray(
    configured: str | None,
    record_folder: Path,
    environment: Mapping[str, str],
    *,
    timeout_s: float = LOOK_TIMEOUT_S,
) -> RayFacts:
    """What can be seen of the Ray cluster from here.

    Args:
        configured: `ray.address` of the configuration.
        record_folder: Where a Ray that `ray-paxos up` started is written down.
        environment: Of this process.
        timeout_s: How long to wait for the cluster.

    Guarantee: no Ray cluster is started, and the answer is there soon after `timeout_s`.
    """
    if configured:
        wanted, source = configured, "ray.address"
    elif environment.get("RAY_ADDRESS"):
        wanted, source = environment["RAY_ADDRESS"], "$RAY_ADDRESS"
    else:
        wanted, source = "auto", "no address is given"
    own = {name: value for name, value in environment.items() if name.startswith(RAY_PREFIX)}
    has_token = any(own.get(name) for name in TOKEN_VARIABLES) or _is_there(TOKEN_FILE)
    # A token itself is nobody's business, and no part of a report.
    own = {name: value for name, value in own.items() if name not in TOKEN_VARIABLES}
    if wanted == "local":
        return RayFacts(wanted, source, own=own, has_token=has_token)
    answer = _ask(wanted, record_folder, timeout_s)
    address = str(answer.get("address", ""))
    nodes = None
    if "nodes" in answer:
        nodes = tuple(
            NodeFacts(node["name"], node["labels"], frozenset(node["resources"]))
            for node in answer["nodes"]
        )
    return RayFacts(
        wanted,
        source,
        address,
        str(answer.get("error", "")),
        nodes,
        raylets_of(address) if address else None,
        own,
        has_token,
    )


def raylets_of(address: str, processes: Path = Path("/proc")) -> dict[int, dict[str, str]]:
    """What this user's raylets of a cluster have in their environment, of Ray's, by process id.

    Args:
        address: Of the cluster's GCS.
        processes: Where the kernel shows processes.
    """
    found: dict[int, dict[str, str]] = {}
    for folder in sorted(processes.iterdir()):
        if not folder.name.isdigit():
            continue
        try:
            if (folder / "comm").read_text().strip() != "raylet":
                continue
            arguments = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            entries = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            # It has ended meanwhile, or is somebody else's.
            continue
        if address not in (argument.rpartition("=")[2] for argument in arguments):
            continue
        pairs = (entry.partition("=")[::2] for entry in entries)
        found[int(folder.name)] = {
            name: value
            for name, value in pairs
            if name.startswith(RAY_PREFIX) and name not in TOKEN_VARIABLES
        }
    return found


def _is_there(path: str) -> bool:
    try:
        return Path(path).expanduser().is_file()
    except (OSError, RuntimeError):
        return False


def _ask(wanted: str, record_folder: Path, timeout_s: float) -> Mapping[str, Any]:
    command = [sys.executable, "-m", __name__, wanted, str(record_folder)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {timeout_s:g} s"}
    except OSError as error:
        return {"error": str(error)}
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    try:
        answer = json.loads(lines[-1])
        return answer if isinstance(answer, dict) else {"error": "no answer"}
    except (IndexError, ValueError):
        said = done.stderr.decode(errors="replace").strip().splitlines()
        return {"error": said[-1] if said else f"looking ended with status {done.returncode}"}


def main(arguments: Sequence[str]) -> None:
    """Connect to a cluster that runs, and print what is to be seen of it."""
    from ray_paxos.actors.folders import live_nodes
    from ray_paxos.actors.ray_connection import connect_running_ray
    from ray_paxos.errors import ClusterError

    wanted, record_folder = arguments
    answer: dict[str, Any] = {}
    try:
        if wanted == "local":
            raise ClusterError("local is a new cluster, and none is started to look at it")
        answer["address"] = connect_running_ray(wanted, Path(record_folder)).address
        answer["nodes"] = [
            {"name": node.name, "labels": dict(node.labels), "resources": sorted(node.resources)}
            for node in live_nodes()
        ]
    except ClusterError as error:
        answer["error"] = str(error)
    print(json.dumps(answer), flush=True)
    # Ray's own farewell may take long, and has nothing to say.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
