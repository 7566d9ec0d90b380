"""How long a member with a long life behind it takes until it serves again."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import ray_paxos
from ray_paxos.config import parse_configuration
from ray_paxos.machines import kv
from tests.ray.helpers import put, read

COMMANDS = 1_000_000
CHUNK = 5_000
KEYS = 100_000
SERVES_WITHIN_S = 10.0
CONFIGURATION = """
cluster: long-lived
members: 3
logging: {level: WARNING}
learner: {hold_count: 100}
checkpointer: {checkpoint_instances: 500}
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_cluster_that_applied_a_million_commands_serves_again_soon(
    local_ray: None, home: Path, arrangement: str
) -> None:
    configuration = parse_configuration(f"{CONFIGURATION}roles: {arrangement}\n")
    cluster = ray_paxos.start(configuration)
    try:
        with cluster.client() as client:
            for first in range(0, COMMANDS, CHUNK):
                client.propose_many(
                    [
                        kv.encode_put(f"key{number % KEYS}", b"x" * 100)
                        for number in range(first, first + CHUNK)
                    ]
                )
        made = cluster.checkpoint()
        assert set(made) == set(cluster.members)
        before = cluster.member_digests()
        cluster.stop()
        started = time.monotonic()
        cluster = ray_paxos.start(configuration)
        with cluster.client() as client:
            put(client, "one more", b"1")
            served_s = time.monotonic() - started
            assert read(client, "key5").value == b"x" * 100
        print(f"serves again after {served_s:.1f} s")
        after = cluster.member_digests()
        assert len(set(after.values())) == 1
        assert after["m1"].applied_instance_id > before["m1"].applied_instance_id
        assert served_s < SERVES_WITHIN_S
    finally:
        cluster.stop(delete_data=True)
