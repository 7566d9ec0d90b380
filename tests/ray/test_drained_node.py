"""Four members on four raylets, one of which Ray drains: its groups move away under load."""

from __future__ import annotations

import json
from typing import Any

from tests.ray.subprocesses import sandbox

PROGRAM = """
import json, os, subprocess, threading, time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

import ray_paxos
from ray_paxos.config import parse_configuration
from ray_paxos.errors import PlacementError
from ray_paxos.machines import kv

home = Path(os.environ["RAY_PAXOS_HOME"])
said = {}


def node_options(name, cpus):
    return {
        "num_cpus": cpus,
        "env_vars": {"RAY_PAXOS_HOME": str(home / name)},
        "object_store_memory": 100_000_000,
        "include_dashboard": False,
    }


def live_nodes():
    return {n["NodeID"] for n in ray.nodes() if n["Alive"]}


def wait_for(what, condition, timeout_s=120):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, ("took too long", what, cluster.operations.look())
        time.sleep(0.2)


def voters():
    return {g: each.voters for g, each in cluster.operations.look().groups.items()}


class Load(threading.Thread):
    def __init__(self, group):
        super().__init__(daemon=True)
        self.group, self.count, self.problem = group, 0, ""
        self.over = threading.Event()
        self.start()

    def run(self):
        with cluster.client(self.group) as client:
            while not self.over.is_set() and not self.problem:
                try:
                    client.propose(kv.encode_put(f"{self.count}", b"x"), timeout_s=60)
                    self.count += 1
                except ray_paxos.PaxosError as error:
                    self.problem = str(error)

    def stop(self):
        self.over.set()
        self.join()
        with cluster.client(self.group) as client:
            page = kv.decode_page(client.query(kv.encode_dump()))
            # One page has the first thousand; the last one of all says that none is missing before.
            last = kv.decode_result(client.query(kv.encode_get(f"{self.count - 1}")))
        said["lost"] += len(page.entries) < min(self.count, 100) or last.value != b"x"
        said["problems"] += [self.problem] if self.problem else []
        said["commands"] += self.count


nodes = Cluster(initialize_head=True, head_node_args=node_options("head", 0))
for number in range(1, 5):
    nodes.add_node(**node_options(f"n{number}", 1))
nodes.wait_for_nodes()
ray.init(address=nodes.address, log_to_driver=False)
cluster = ray_paxos.start(parse_configuration(
    "cluster: drained\\nmembers: 4\\nroles: fused\\nray: {nodes_min: 4}\\n"
    "groups: {count: 3, voters: 3}\\ncontroller: {runs: true, grows: true}\\n"
    "logging: {level: WARNING}\\n"
))
said |= {"lost": 0, "problems": [], "commands": 0}
loads = [Load(group) for group in (1, 2, 3)]
where = {m.name: m.roles["learner"].node_id for m in cluster.status().members}
# One that leads a group, too, and has a share of them.
victim = next(m for m in cluster.members if m in voters()[0])
said["had"] = [g for g, names in voters().items() if victim in names]
command = ["ray", "drain-node", "--address", nodes.address, "--node-id", where[victim]]
reason = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "it is needed elsewhere"]
subprocess.run([*command, *reason], check=True, capture_output=True)
try:
    cluster.operations.add_member("m9", node=where[victim])
except PlacementError as error:
    said["refused"] = str(error)


def is_let_go():
    found = voters()
    # Group 0 had all four of them.
    return all(len(names) == 3 and victim not in names for names in found.values())


wait_for("its groups to move", is_let_go)
wait_for("its node to end by itself", lambda: where[victim] not in live_nodes())
said["state"] = cluster.operations.wanted().members[victim].state.name
for load in loads:
    load.stop()
said["voters"] = sorted(set(sum(voters().values(), ())))
said["others"] = sorted(set(where) - {victim})
print(json.dumps(said))
cluster.stop()
ray.shutdown()
nodes.shutdown()
"""


def test_groups_move_off_a_node_that_ray_drains_and_it_ends() -> None:
    with sandbox() as box:
        box.environment["RAY_AUTH_MODE"] = "disabled"
        said: dict[str, Any] = json.loads(box.run(PROGRAM)[-1])
    assert said["had"]
    assert said["problems"] == []
    assert said["lost"] == 0
    assert said["commands"] > 0
    assert "it will be ended, and takes no new member" in said["refused"]
    # Its member left, and so did the controller if it was there: Ray ends a node that is idle.
    assert said["state"] in ("LEAVING", "ENDING", "GONE")
    assert said["voters"] == said["others"]
