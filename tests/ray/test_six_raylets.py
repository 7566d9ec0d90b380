"""A hundred groups on six members over six raylets: one is lost for good, another one comes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.ray.subprocesses import sandbox

PROGRAM = """
import json, os, threading, time
from collections import Counter
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

import ray_paxos
from ray_paxos.config import parse_configuration
from ray_paxos.errors import RequestError
from ray_paxos.machines import kv

home = Path(os.environ["RAY_PAXOS_HOME"])
GROUPS = int(os.environ["GROUPS"])
said = {}


def add_node(name):
    return nodes.add_node(
        num_cpus=1,
        labels={"disk": name},
        env_vars={"RAY_PAXOS_HOME": str(home / name)},
        object_store_memory=100_000_000,
        include_dashboard=False,
    )


def voters():
    # In one call to each member, whatever the number of groups.
    seen = cluster.operations.look()
    return {g: each.voters for g, each in seen.groups.items()}


def loads():
    # Of how many groups each member is a voter, group 0 among them.
    return Counter(n for names in voters().values() for n in names)


def is_even(counts, members):
    return len(counts) == members and max(counts.values()) - min(counts.values()) <= 1


def wait_for(condition, timeout_s):
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout_s, ("took too long", said, voters())
        time.sleep(0.5)
    return time.monotonic() - began


def of_three(gone):
    found = voters()
    del found[0]
    return len(found) == GROUPS and all(
        len(names) == 3 and not gone & set(names) for names in found.values()
    )


class Load:
    # One client for each of some groups; every acknowledged key has to be there in the end.
    def __init__(self, groups):
        self.acknowledged = {g: set() for g in groups}
        self.gaps = dict.fromkeys(groups, 0.0)
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.work, args=(g,), daemon=True) for g in groups]
        for thread in self.threads:
            thread.start()

    def work(self, group):
        with cluster.client(group) as client:
            number, last = 0, time.monotonic()
            while not self.over.is_set():
                key = f"{number}"
                number += 1
                try:
                    client.propose(kv.encode_put(key, b"x"), timeout_s=60)
                except RequestError as error:
                    said.setdefault("errors", []).append(str(error))
                    continue
                now = time.monotonic()
                self.gaps[group] = max(self.gaps[group], now - last)
                last = now
                self.acknowledged[group].add(key)
                time.sleep(0.02)

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def lost(self):
        lost = 0
        for group, keys in self.acknowledged.items():
            with cluster.client(group) as client:
                found, after = set(), None
                while True:
                    page = kv.decode_page(client.query(kv.encode_dump("", after)))
                    found |= {entry.key for entry in page.entries}
                    after = page.next_after
                    if after is None:
                        break
            lost += len(keys - found)
        return lost


nodes = Cluster(initialize_head=True, head_node_args={
    "num_cpus": 0,
    "labels": {"disk": "head"},
    "env_vars": {"RAY_PAXOS_HOME": str(home / "head")},
    "object_store_memory": 100_000_000,
    "include_dashboard": False,
})
raylets = {f"n{number}": add_node(f"n{number}") for number in range(1, 7)}
nodes.wait_for_nodes()
ray.init(address=nodes.address, log_to_driver=False)
names = {n["NodeID"]: n["Labels"]["disk"] for n in ray.nodes() if n["Alive"]}

configuration = parse_configuration(
    "cluster: six\\nmembers: 6\\nroles: fused\\nray: {nodes_min: 6}\\n"
    f"groups: {{count: {GROUPS}, voters: 3}}\\n"
    "controller: {runs: true, grows: true, replace_after_ms: 10000}\\n"
    "logging: {level: WARNING}\\n"
)
began = time.monotonic()
cluster = ray_paxos.start(configuration)
loaded = list(range(1, GROUPS + 1, max(GROUPS // 5, 1)))
with cluster.client(GROUPS) as client:
    client.propose(kv.encode_put("first", b"1"), timeout_s=60)
wait_for(lambda: of_three(set()), 60)
said["up_s"] = time.monotonic() - began
said["is_even"] = is_even(loads(), 6)

load = Load(loaded)
time.sleep(2)
where = {m.name: names[m.roles["learner"].node_id] for m in cluster.status().members}
victim = "m2"
nodes.remove_node(raylets[where[victim]], allow_graceful=False)
said["replaced_s"] = wait_for(lambda: of_three({victim}), 180)
said["gaps_lost"] = load.gaps
before = voters()
said["is_even_after"] = is_even(loads(), 5)

load.gaps = dict.fromkeys(loaded, 0.0)
raylets["n7"] = add_node("n7")
least = sum(map(len, before.values())) // 6


said["spread_s"] = wait_for(lambda: is_even(loads(), 6) and of_three({victim}), 300)
after = voters()
said["moved"] = sum(len(set(after[g]) - set(before[g])) for g in after)
said["least"] = least
said["gaps_spread"] = load.gaps
load.stop()
said["acknowledged"] = sum(map(len, load.acknowledged.values()))
said["lost"] = load.lost()
print(json.dumps(said))
cluster.stop()
ray.shutdown()
nodes.shutdown()
"""


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_a_hundred_groups_outlive_a_raylet_and_spread_to_another() -> None:
    with sandbox() as box:
        box.environment["RAY_AUTH_MODE"] = "disabled"
        said: dict[str, Any] = json.loads(box.run(PROGRAM, timeout_s=840, GROUPS="100")[-1])
    print(said)
    assert said["up_s"] < 60
    assert said["is_even"]
    assert said["replaced_s"] < 60
    assert said["is_even_after"]
    assert said["moved"] <= 1.2 * said["least"]
    assert said["lost"] == 0
    assert "errors" not in said
