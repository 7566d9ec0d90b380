"""Four raylets on one machine, each with a data directory of its own: placement, pins, amnesia."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.ray.subprocesses import sandbox

PROGRAM = """
import json, os, shutil, time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

import ray_paxos
from ray_paxos.config import parse_configuration
from ray_paxos.errors import BootstrapError
from ray_paxos.machines import kv

home = Path(os.environ["RAY_PAXOS_HOME"])
said = {}


def add_node(nodes, name):
    return nodes.add_node(
        num_cpus=1,
        labels={"disk": name},
        env_vars={"RAY_PAXOS_HOME": str(home / name)},
        object_store_memory=100_000_000,
        include_dashboard=False,
    )


def node_names():
    return {n["NodeID"]: n["Labels"]["disk"] for n in ray.nodes() if n["Alive"]}


def places(cluster):
    names = node_names()
    return {
        member.name: sorted({names[role.node_id] for role in member.roles.values()})
        for member in cluster.status().members
    }


def on_disk():
    found = [path.parent for path in home.glob("*/*/*/identity.json")]
    return {folder.name: folder.parent.parent.name for folder in found}


def wait_for(condition, timeout_s=90):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "took too long"
        time.sleep(0.2)


def all_serve():
    roles = [role for member in cluster.status().members for role in member.roles.values()]
    return all(role.phase == "serving" for role in roles)


nodes = Cluster()
raylets = {name: add_node(nodes, name) for name in ("head", "n1", "n2", "n3")}
nodes.wait_for_nodes()
ray.init(address=nodes.address, log_to_driver=False)

# m1 and m3 go where there is room, but not to the head; m2 to the disk that its label names.
members = "[m1, {name: m2, node_labels: {disk: n2}}, m3]"
configuration = parse_configuration(
    f"cluster: four\\nmembers: {members}\\nroles: {os.environ['ROLES']}\\n"
    "ray: {nodes_min: 3}\\n"
)
cluster = ray_paxos.start(configuration)
said["placed"] = places(cluster)
said["on disk"] = on_disk()
with cluster.client() as client:
    client.propose(kv.encode_put("a", b"1"))
cluster.stop()

# What is on the nodes' disks is found there.
cluster = ray_paxos.start(configuration)
said["started again"] = places(cluster)
with cluster.client() as client:
    said["read"] = kv.decode_page(client.query(kv.encode_dump())).entries[0].key
    # A node that goes, and comes back under another id, brings its member back by its label.
    nodes.remove_node(raylets["n2"])
    for number in range(20):
        client.propose(kv.encode_put("b", b"%d" % number), timeout_s=40)
    started = time.monotonic()
    said["attached without n2"] = ray_paxos.start(configuration).was_running
    said["soon"] = time.monotonic() - started < 30
    raylets["n2"] = add_node(nodes, "n2")
    wait_for(all_serve)
    wait_for(lambda: set(cluster.member_digests()) == {"m1", "m2", "m3"})
said["n2 is back"] = places(cluster)
said["digests"] = len({d.digest for d in cluster.member_digests().values()})
cluster.stop()

# A copied directory: nobody knows which of the two is the true one.
shutil.copytree(home / "n2" / "four" / "m2", home / "head" / "four" / "m2")
try:
    ray_paxos.start(configuration)
except BootstrapError as error:
    said["copied"] = str(error)
print(json.dumps(said))
ray.shutdown()
nodes.shutdown()
"""


@pytest.mark.nightly
def test_members_live_where_their_disks_are(arrangement: str) -> None:
    with sandbox() as box:
        box.environment["RAY_AUTH_MODE"] = "disabled"
        said: dict[str, Any] = json.loads(box.run(PROGRAM, ROLES=arrangement)[-1])
    assert sorted(said["placed"].values()) == [["n1"], ["n2"], ["n3"]]
    assert said["placed"]["m2"] == ["n2"]
    assert said["on disk"] == {member: node for member, (node,) in said["placed"].items()}
    assert said["started again"] == said["placed"]
    assert said["read"] == "a"
    assert said["attached without n2"] is True
    assert said["soon"] is True
    assert said["n2 is back"] == said["placed"]
    assert said["digests"] == 1
    assert "member m2 has two directories" in said["copied"]
    assert "/head/four/m2" in said["copied"]
