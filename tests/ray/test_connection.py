"""How a driver comes to a Ray cluster: its own, a kept one, with and without a token."""

from __future__ import annotations

import pytest

from tests.ray.subprocesses import sandbox

EMBEDDED = """
import sys
import ray_paxos
from ray_paxos.config import parse_configuration
from ray_paxos.machines import kv

configuration = parse_configuration("cluster: own\\nmembers: 1\\nroles: fused\\n")
cluster = ray_paxos.start(configuration)
with cluster.client() as client:
    client.propose(kv.encode_put("a", b"1"))
print(cluster.started_ray, cluster.was_running)
if "stop" in sys.argv:
    cluster.stop(shutdown_ray=True)
"""

LEFT = """
import ray
import ray_paxos
from ray_paxos.config import parse_configuration
from ray_paxos.errors import PaxosError
from ray_paxos.machines import kv

configuration = parse_configuration("cluster: own\\nmembers: 1\\nroles: fused\\n")
ray_paxos.start(configuration)
cluster = ray_paxos.connect("own")
client = cluster.client()
client.propose(kv.encode_put("a", b"1"))
client.query(kv.encode_get("a"))
ray.shutdown()
for call in (
    lambda: client.propose(kv.encode_put("a", b"2"), timeout_s=0.5),
    lambda: client.propose_async(kv.encode_put("a", b"3"), timeout_s=0.5).result(60),
    lambda: client.query(kv.encode_get("a"), timeout_s=0.5),
    lambda: client.query_async(kv.encode_get("a"), timeout_s=0.5).result(60),
):
    try:
        call()
    except PaxosError as error:
        print(type(error).__name__)
try:
    cluster.status()
except PaxosError as error:
    print(error)
print(ray.is_initialized())
ray_paxos.start(configuration)
print(kv.decode_result(client.propose(kv.encode_put("a", b"4")).value).version)
print(kv.decode_result(client.query(kv.encode_get("a"))).value)
"""

KEEPING = """
import sys
import ray_paxos
from ray_paxos.config import parse_configuration
from ray_paxos.machines import kv

configuration = parse_configuration("cluster: kept\\nmembers: 1\\n")
cluster = ray_paxos.start(configuration, keep=True)
with cluster.client() as client:
    client.propose(kv.encode_put(sys.argv[1], b"1"))
    for entry in kv.decode_page(client.query(kv.encode_dump())).entries:
        print(entry.key)
print(cluster.started_ray, cluster.was_running)
if "stop" in sys.argv:
    cluster.stop(shutdown_ray=True)
"""

REFUSED = """
import sys, time
import ray_paxos
from ray_paxos.config import parse_configuration
from ray_paxos.errors import ClusterError

started = time.monotonic()
try:
    if sys.argv[1] == "start":
        configuration = parse_configuration("cluster: own\\nmembers: 1\\n")
        ray_paxos.start(configuration, address=sys.argv[2] or None)
    else:
        ray_paxos.connect("own")
except ClusterError as error:
    print(error)
print(time.monotonic() - started < 20)
"""


def test_the_default_is_a_ray_of_the_drivers_own_whose_data_stays() -> None:
    """Ray's default since 2.59: a local start makes a token and asks for it."""
    with sandbox() as box:
        assert box.run(EMBEDDED) == ["True False"]
        assert (box.folder / ".ray" / "auth_token").exists()
        assert (box.data / "own" / "m1" / "identity.json").exists()
        assert box.run(EMBEDDED, "stop") == ["True False"]


def test_a_client_whose_driver_leaves_ray_says_so_and_goes_on_in_the_next_one() -> None:
    with sandbox() as box:
        assert box.run(LEFT) == [
            "NoMasterError",
            "NoMasterError",
            "QueryError",
            "QueryError",
            "this process is not connected to Ray any more; ray_paxos.connect or start connects it",
            "False",
            "2",
            "b'4'",
        ]


# By default the same is seen with jobs (test_submit_commands_on_ray.py).
@pytest.mark.nightly
def test_a_ray_that_is_kept_is_found_by_the_next_driver_and_ended_with_it() -> None:
    """Without a token, decided by the environment."""
    with sandbox() as box:
        box.environment["RAY_AUTH_MODE"] = "disabled"
        record = box.data / "kept" / "ray_head.json"
        assert box.run(KEEPING, "first") == ["first", "True False"]
        try:
            assert record.exists()
        finally:
            lines = box.run(KEEPING, "second", "stop")
        assert lines == ["first", "second", "False True"]
        assert not record.exists()
        assert box.ended() == {}
        assert not (box.folder / ".ray" / "auth_token").exists()


@pytest.mark.parametrize(
    ("how", "variable", "expected"),
    [
        (["start", "127.0.0.1:1"], "", "no Ray cluster answers at 127.0.0.1:1"),
        (["start", ""], "127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1"),
        (["start", "auto"], "", "no Ray cluster runs on this machine"),
        (["connect"], "", "no Ray cluster runs on this machine"),
    ],
    ids=["argument", "RAY_ADDRESS", "auto", "connect"],
)
def test_an_address_without_a_ray_cluster_is_said_soon(
    how: list[str], variable: str, expected: str
) -> None:
    with sandbox() as box:
        if variable:
            box.environment["RAY_ADDRESS"] = variable
        message, is_soon = box.run(REFUSED, *how)
        assert expected in message
        assert is_soon == "True"
        assert not box.data.exists()
