"""A call that was executed and whose reply was lost: the retry gets the first result (F18)."""

from __future__ import annotations

import json

import pytest

from tests.ray.subprocesses import sandbox

START = """
import os
os.environ["RAY_AUTH_MODE"] = "disabled"
import ray_paxos
from ray_paxos.config import parse_configuration

configuration = parse_configuration(f"cluster: lost\\nroles: {os.environ['ROLES']}\\n")
cluster = ray_paxos.start(configuration, keep=True)
with cluster.client() as client:
    print(client.propose(b"ready", machine="log").instance_id)
"""

RETRY = """
import os, json
os.environ["RAY_AUTH_MODE"] = "disabled"
import ray_paxos
from ray_paxos.core import session
from ray_paxos.machines import kv, log

resent = 0
on_lost = session.ClientSession.on_lost


def count_lost(self):
    global resent
    resent += 1
    on_lost(self)


session.ClientSession.on_lost = count_lost
cluster = ray_paxos.connect("lost")
versions, places = [], []
with cluster.client(label="retrying") as client:
    for number in range(20):
        result = client.propose(kv.encode_put("key", b"%d" % number), timeout_s=60)
        versions.append(kv.decode_result(result.value).version)
        places.append((result.instance_id, result.index))
    lines = [b"line %d" % number for number in range(200)]
    many = client.propose_many(lines, machine="log", timeout_s=60)
    page = log.decode_page(client.query(log.encode_lines(), machine="log", timeout_s=60))
print(json.dumps({
    "versions": versions,
    "places": places,
    "acknowledged": many.acknowledged,
    "lines": [line.decode() for line in page.lines],
    "resent": resent,
}))
"""

STOP = """
import os
os.environ["RAY_AUTH_MODE"] = "disabled"
import ray_paxos
ray_paxos.connect("lost").stop(shutdown_ray=True)
"""

FAILURES = json.dumps(
    {
        "CoreWorkerService.grpc_client.PushTask": {
            "num_failures": 8,
            "req_failure_prob": 0,
            "resp_failure_prob": 30,
            "in_flight_failure_prob": 5,
        }
    }
)


@pytest.mark.nightly
def test_a_retry_gets_the_first_result(arrangement: str) -> None:
    with sandbox() as box:
        box.run(START, ROLES=arrangement)
        try:
            (said,) = box.run(RETRY, RAY_testing_rpc_failure=FAILURES)[-1:]
            found = json.loads(said)
        finally:
            box.run(STOP)
    assert found["resent"] >= 3, "Ray lost nothing: this showed nothing"
    assert found["versions"] == list(range(1, 21)), "each applied once, in order"
    assert found["places"] == sorted(found["places"])
    assert found["acknowledged"] == 200
    assert found["lines"] == ["ready", *(f"line {number}" for number in range(200))]
