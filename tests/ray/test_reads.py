"""Reads of each consistency on real actors, by a lease and by rounds."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import ray_paxos
from ray_paxos.config import parse_configuration
from ray_paxos.errors import LeaseError, QueryError, StaleReadError
from ray_paxos.machines import kv
from tests.ray.helpers import put, read

NO_LEASE = "cluster: rounds\nmembers: 3\nproposer: {lease_ms: 0}\nlogging: {level: WARNING}\n"


@pytest.fixture(scope="module")
def leaseless(local_ray: None) -> Iterator[ray_paxos.Cluster]:
    """A cluster whose masters hold no lease."""
    started = ray_paxos.start(parse_configuration(NO_LEASE))
    yield started
    started.stop(delete_data=True)


def counts(cluster: ray_paxos.Cluster) -> tuple[int, int]:
    """(read indexes given, rounds begun for them), over all members."""
    groups = [(m.roles["proposer"].groups or {}).get(1, {}) for m in cluster.status().members]
    return (
        sum(group.get("reads", 0) for group in groups),
        sum(group.get("read_rounds", 0) for group in groups),
    )


@pytest.mark.parametrize("consistency", ["linearizable", "lease", "follower"])
def test_a_client_reads_its_own_writes(client: ray_paxos.Client, consistency: str) -> None:
    for number in range(20):
        put(client, f"own/{consistency}", b"%d" % number)
        assert read(client, f"own/{consistency}", consistency).value == b"%d" % number


@pytest.mark.parametrize("consistency", ["linearizable", "lease"])
def test_what_anybody_was_acknowledged_is_seen(
    cluster: ray_paxos.Cluster, client: ray_paxos.Client, consistency: str
) -> None:
    with cluster.client() as other:
        for number in range(20):
            put(other, f"other/{consistency}", b"%d" % number)
            assert read(client, f"other/{consistency}", consistency).value == b"%d" % number


def test_a_lease_costs_no_round(cluster: ray_paxos.Cluster, client: ray_paxos.Client) -> None:
    put(client, "leased", b"1")
    assert read(client, "leased", "lease").value == b"1"
    before = counts(cluster)
    for _ in range(50):
        read(client, "leased")
    assert counts(cluster)[1] == before[1]


def test_at_least_waits_for_an_instance(
    cluster: ray_paxos.Cluster, client: ray_paxos.Client
) -> None:
    with cluster.client() as other:
        written = put(other, "at_least", b"1")
    answer = client.query(
        kv.encode_get("at_least"), consistency="follower", at_least=written.instance_id
    )
    found = kv.decode_result(answer)
    assert isinstance(found, kv.Read)
    assert found.value == b"1"
    with pytest.raises(StaleReadError, match="applied through"):
        client.query(kv.encode_get("x"), consistency="stale", at_least=10**9, timeout_s=0.3)


def test_staleness_is_bounded(cluster: ray_paxos.Cluster, client: ray_paxos.Client) -> None:
    put(client, "fresh", b"1")
    query = kv.encode_get("fresh")
    # Two rounds of heartbeats, and some time on a busy machine.
    answer = client.query(query, consistency="follower", max_staleness_ms=2_000, at_least=0)
    assert isinstance(kv.decode_result(answer), kv.Read)
    with pytest.raises(StaleReadError, match="ms old"):
        client.query(query, consistency="follower", max_staleness_ms=0, timeout_s=0.3)


def test_reads_add_nothing_to_the_log(cluster: ray_paxos.Cluster, client: ray_paxos.Client) -> None:
    put(client, "quiet", b"1")
    before = {d.applied_instance_id for d in cluster.member_digests().values()}
    for consistency in ("linearizable", "lease", "follower", "stale"):
        for _ in range(5):
            read(client, "quiet", consistency)
    assert {d.applied_instance_id for d in cluster.member_digests().values()} == before


def test_without_a_lease_reads_take_rounds_and_share_them(leaseless: ray_paxos.Cluster) -> None:
    with leaseless.client() as client:
        put(client, "shared", b"1")
        read(client, "shared")
        alone = counts(leaseless)
        readers = 16
        barrier = threading.Barrier(readers)

        def one(_: int) -> bytes | None:
            barrier.wait()
            return [read(client, "shared").value for _ in range(10)][-1]

        with ThreadPoolExecutor(readers) as pool:
            assert set(pool.map(one, range(readers))) == {b"1"}
        together = counts(leaseless)
        assert together[0] - alone[0] >= 10 * readers
        assert together[1] - alone[1] < (together[0] - alone[0]) / 2
        with pytest.raises(LeaseError):
            client.query(b"x", consistency="lease", timeout_s=0.3)


def test_a_master_that_cannot_ask_anybody_serves_no_linearizable_read(
    leaseless: ray_paxos.Cluster,
) -> None:
    """The other members' acceptors are stopped in their tracks (SIGSTOP)."""
    with leaseless.client() as client:
        put(client, "alone", b"1")
        status = leaseless.status()
        master = status.groups[-1].master
        pids = [m.roles["acceptor"].pid for m in status.members if m.name != master]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(QueryError):
                read_for(client, "alone", 0.6)
            assert read(client, "alone", "stale").value == b"1"
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        assert read_for(client, "alone", 20.0) is not None


def read_for(client: ray_paxos.Client, key: str, timeout_s: float) -> bytes:
    return client.query(kv.encode_get(key), timeout_s=timeout_s)
