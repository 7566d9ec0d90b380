"""Nodes that an autoscaler starts and ends as processes of one machine, each with its own disk.

Ray's own fake provider gives all nodes one environment, so that they would share a data directory,
and ids that differ in the last digit alone. The autoscaler's process imports this module by name.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.autoscaler._private.fake_multi_node.node_provider import (
    FAKE_HEAD_NODE_ID,
    FakeMultiNodeProvider,
)

from tests.ray.subprocesses import Sandbox

IDLE_TIMEOUT_MINUTES = 0.1
REQUIRED_LISTS = (
    "cluster_synced_files",
    "head_setup_commands",
    "head_start_ray_commands",
    "initialization_commands",
    "rsync_exclude",
    "rsync_filter",
    "setup_commands",
    "worker_setup_commands",
    "worker_start_ray_commands",
)
"""What the autoscaler's configuration must have, though no node here is reached by ssh."""


class NodesWithDisks(FakeMultiNodeProvider):
    """Ray's fake provider, with a data directory and a random id for each node."""

    def _next_hex_node_id(self) -> str:
        """Called just before the node's processes are made, which inherit the environment."""
        node_id = secrets.token_hex(28)
        os.environ["RAY_PAXOS_HOME"] = str(Path(os.environ["FAKE_NODES_HOME"]) / node_id)
        return node_id


def start_autoscaled(box: Sandbox, node_types: Mapping[str, Any]) -> str:
    """Start a head with an autoscaler in a sandbox; gives its address.

    `ray.cluster_utils.AutoscalingCluster` would end every Ray process of the machine first.

    Args:
        box: Where.
        node_types: As in the autoscaler's configuration, `available_node_types`.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    head = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
    autoscaling = {
        **{name: [] for name in REQUIRED_LISTS},
        "cluster_name": "autoscaled",
        "max_workers": 8,
        "idle_timeout_minutes": IDLE_TIMEOUT_MINUTES,
        "upscaling_speed": 8.0,
        "provider": {
            "type": "external",
            "module": f"{__name__}.{NodesWithDisks.__name__}",
            "gcs_address": address,
            "launch_multiple": True,
            "head_node_id": FAKE_HEAD_NODE_ID,
        },
        "auth": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        "head_node_type": "ray.head.default",
        "available_node_types": {"ray.head.default": head, **node_types},
    }
    file = box.folder / "autoscaling.json"
    file.write_text(json.dumps(autoscaling))
    box.environment |= {"FAKE_NODES_HOME": str(box.folder / "nodes"), "RAY_ADDRESS": address}
    started = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "ray.scripts.scripts",
                "start",
                "--head",
                "--num-cpus=0",
                "--node-ip-address=127.0.0.1",
            ),
            f"--port={address.rpartition(':')[2]}",
            f"--autoscaling-config={file}",
            *("--object-store-memory=100000000", "--include-dashboard=false"),
        ],
        env={
            **box.environment,
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_FAKE_CLUSTER": "1",
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
        },
        check=False,
        capture_output=True,
        text=True,
    )
    assert started.returncode == 0, f"{started.stdout}\n{started.stderr}"
    return address
