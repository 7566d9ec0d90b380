"""Four members on four raylets, one of which Ray drains: its groups move away under load.

Its member leaves, and the controller moves, so that Ray ends the node; and it keeps nobody from
making members elsewhere.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.ray.subprocesses import sandbox

PROGRAM = """
import json, os, subprocess, sys, threading, time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import ray_paxos
from ray_paxos.actors.controller import find_controller
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


def state_of(member):
    return cluster.operations.wanted().members[member].state.name


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
                    # A load, and not all that two cores can do: they have raylets to start, too.
                    self.over.wait(0.02)
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


def controller_node():
    controller = find_controller("drained")
    asked = controller.__ray_call__.remote(lambda actor: ray.get_runtime_context().get_node_id())
    try:
        return ray.get(asked, timeout=30)
    except RayActorError:
        return None


# The node is drained that the controller is on, too: not the head, which cannot be.
while controller_node() not in where.values():
    ray.kill(find_controller("drained"), no_restart=False)
    wait_for("another controller", controller_node)
victim = next(member for member, node_id in where.items() if node_id == controller_node())


@ray.remote(num_cpus=0)
class Other:
    def is_there(self):
        return True


# What is not ours keeps the node alive.
on_it = NodeAffinitySchedulingStrategy(where[victim], soft=False)
other = Other.options(scheduling_strategy=on_it).remote()
assert ray.get(other.is_there.remote())
said["had"] = [g for g, names in voters().items() if victim in names]
ray_command = [sys.executable, "-m", "ray.scripts.scripts"]
command = [*ray_command, "drain-node", "--address", nodes.address, "--node-id", where[victim]]
reason = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "it is needed elsewhere"]
subprocess.run([*command, *reason], check=True, capture_output=True)


def is_refused():
    try:
        cluster.operations.add_member("m9", node=where[victim])
    except PlacementError as error:
        said["refused"] = str(error)
        return True
    except ray_paxos.QueryError:
        # Group 0 may be without a master just now.
        return False


wait_for("a refusal", is_refused)


def is_let_go():
    found = voters()
    # Group 0 had all four of them.
    return all(len(names) == 3 and victim not in names for names in found.values())


wait_for("its groups to move", is_let_go)
wait_for("its member to leave", lambda: state_of(victim) == "GONE")
wait_for("the controller to move", lambda: controller_node() not in (None, where[victim]))
said["lives"] = where[victim] in live_nodes()
# Nobody can look into it; but another node gets a member all the same.
nodes.add_node(**node_options("n5", 1))
wait_for("a member on a new node", lambda: len(cluster.operations.look().places) == 4)
ray.kill(other)
wait_for("its node to end by itself", lambda: where[victim] not in live_nodes())
for load in loads:
    load.stop()
print(json.dumps(said))
cluster.stop()
ray.shutdown()
nodes.shutdown()
"""


# Five raylets, and what they start, on two cores: two minutes and a half beside other tests. The
# steps are played without Ray in tests/unit/test_drained_nodes.py.
@pytest.mark.slow
def test_groups_move_off_a_node_that_ray_drains_and_it_ends() -> None:
    with sandbox() as box:
        box.environment["RAY_AUTH_MODE"] = "disabled"
        said: dict[str, Any] = json.loads(box.run(PROGRAM)[-1])
    assert said["had"]
    assert said["problems"] == []
    assert said["lost"] == 0
    assert said["commands"] > 0
    assert "it will be ended, and takes no new member" in said["refused"]
    assert said["lives"] is True
