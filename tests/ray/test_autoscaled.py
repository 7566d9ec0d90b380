"""Members on nodes that Ray's autoscaler starts and ends, with its fake provider of nodes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.ray.fake_nodes import start_autoscaled
from tests.ray.subprocesses import sandbox

MEMORY = {"object_store_memory": 100_000_000}
NODE_TYPES = {
    "members": {
        "resources": {"CPU": 1, "paxos_disk": 1, **MEMORY},
        "node_config": {},
        "min_workers": 3,
        "max_workers": 4,
    },
    "work": {
        "resources": {"CPU": 2, **MEMORY},
        "node_config": {},
        "min_workers": 0,
        "max_workers": 2,
    },
}

PROGRAM = """
import json, os, subprocess, sys, threading, time

import ray
from ray._raylet import GcsClient
from ray.autoscaler.sdk import request_resources

import ray_paxos
from ray_paxos.actors.controller import find_controller
from ray_paxos.config import parse_configuration
from ray_paxos.machines import kv

said = {}


def wait_for(what, condition, timeout_s=150):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, ("took too long", what, live("paxos_disk"), state())
        time.sleep(0.2)


def state():
    operations = cluster.operations
    members = {name: each.state.name for name, each in operations.wanted().members.items()}
    controller = ray.get(find_controller("scaling").describe.remote())
    return members, operations.look(), controller


def live(resource):
    return {n["NodeID"] for n in ray.nodes() if n["Alive"] and n["Resources"].get(resource)}


def workless():
    return {n for n in live("CPU") if n not in live("paxos_disk")}


def voters():
    return {g: set(each.voters) for g, each in cluster.operations.look().groups.items()}


def member_on(node):
    places = cluster.operations.look().places
    return next((name for name, place in places.items() if place.machine == node), None)


def votes(member):
    return any(member in names for names in voters().values())


def drain(node):
    why = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "another is cheaper"]
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    command = [*ray, "drain-node", "--address", os.environ["RAY_ADDRESS"], "--node-id", node]
    subprocess.run([*command, *why], check=True, capture_output=True)


def is_spread(count):
    found = voters()
    names = set().union(*found.values())
    return len(names) == count and all(len(each) == 3 for each in found.values())


class Load(threading.Thread):
    def __init__(self):
        super().__init__(daemon=True)
        self.count, self.problem, self.over = 0, "", threading.Event()
        self.start()

    def run(self):
        with cluster.client(1) as client:
            while not self.over.is_set() and not self.problem:
                try:
                    client.propose(kv.encode_put(f"{self.count % 50}", b"x"), timeout_s=60)
                    self.count += 1
                except ray_paxos.PaxosError as error:
                    self.problem = str(error)


ray.init(address=os.environ["RAY_ADDRESS"], log_to_driver=False)
wait_for("the nodes that always are there", lambda: len(live("paxos_disk")) == 3)
cluster = ray_paxos.start(parse_configuration(
    "cluster: scaling\\nmembers: 3\\nroles: fused\\nray: {nodes_min: 3}\\n"
    "groups: {count: 4, voters: 3}\\nlogging: {level: WARNING}\\n"
    "controller: {runs: true, grows: true, grows_on: paxos_disk, replace_after_ms: 15000}\\n"
))
load = Load()
first = live("paxos_disk")

# A node of each kind is asked for: one gets a member and its share of the groups.
request_resources(bundles=[{"paxos_disk": 1}] * 4 + [{"CPU": 2}])
wait_for("a node of each kind", lambda: len(live("paxos_disk")) == 4 and workless())
wait_for("groups at a fourth member", lambda: is_spread(4))
(fourth,) = live("paxos_disk") - first
said["members"] = len(cluster.operations.wanted().members)

# Nobody asks for either of them any more: the one without a member is ended.
request_resources(bundles=[])
wait_for("the node without a member to be ended", lambda: not workless())
said["stays"] = fourth in live("paxos_disk")

# One that is drained has time to give its groups away, and is ended then.
drained = member_on(fourth)
drain(fourth)
wait_for("the drained node to end", lambda: fourth not in live("paxos_disk"))
wait_for("its groups to be elsewhere", lambda: is_spread(3) and not votes(drained))

# Where there is nobody to take them its groups wait for the node that is started in its place.
other, victim, _ = sorted(first)
drained = member_on(other)
drain(other)
wait_for("another node's member to have its groups", lambda: is_spread(3) and not votes(drained))
wait_for("the drained node to end", lambda: other not in live("paxos_disk"))

# As Ray's autoscaler ends a node that is one too many: it gets no time. Another one is started.
lost = member_on(victim)
GcsClient(address=os.environ["RAY_ADDRESS"]).drain_nodes([bytes.fromhex(victim)])
wait_for("the node to end", lambda: victim not in live("paxos_disk"))
wait_for("its member to be replaced", lambda: is_spread(3) and not votes(lost))
load.over.set()
load.join()
said |= {"problem": load.problem, "commands": load.count}
print(json.dumps(said))
cluster.stop()
"""


@pytest.mark.nightly
@pytest.mark.timeout(700)
def test_members_on_nodes_that_an_autoscaler_starts_and_ends() -> None:
    with sandbox() as box:
        box.environment["RAY_AUTH_MODE"] = "disabled"
        start_autoscaled(box, NODE_TYPES)
        said: dict[str, Any] = json.loads(box.run(PROGRAM, timeout_s=600)[-1])
    assert said["members"] == 4
    assert said["stays"] is True
    assert said["problem"] == ""
    assert said["commands"] > 0
