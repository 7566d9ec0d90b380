"""The master's host is cut off from all others; clients are there, and elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from hosts import HEAD, Hosts
from tests.hosts.clusters import (
    PATIENCE_S,
    SERVICE_LEASES,
    Fault,
    HostCluster,
    host_cluster,
    member_on,
)

# The first test starts the hosts and the cluster.
pytestmark = pytest.mark.timeout(600)

ACKNOWLEDGED = 30
"""So many writes are to go through while the host is away, and so many once it is back."""
TRIED = 3
"""So many reads of each kind are to be tried on the host while it is away."""
AWAY, ELSEWHERE = "h1", "h2"


def play_isolation(cluster: HostCluster, key: str, but_for: tuple[str, ...]) -> None:
    """Isolate the master's host and let it come back, with clients on it and on others."""
    writes = cluster.write(ELSEWHERE, key)
    there = cluster.read_what_is_newest(AWAY, key)
    elsewhere = cluster.read(HEAD, key, "linearizable")
    cluster.lead(AWAY)

    fault = Fault(cluster, writes, lambda links: links.isolate(AWAY, but_for=but_for))
    first = writes.wait_for_success(fault.full_ns, PATIENCE_S, ACKNOWLEDGED)
    for reads in there:
        reads.wait_for_outcomes(first.end_ns, PATIENCE_S, TRIED)
    assert cluster.master()[0] != member_on(AWAY)
    fault.heal()

    recovered_s = {str(reads): fault.recovery_s(reads) for reads in there}
    writes.wait_for_success(fault.heal_ns, PATIENCE_S, ACKNOWLEDGED)
    for series in (writes, *there, elsewhere):
        series.end()
    gaps = fault.gap_leases(writes), fault.gap_leases(elsewhere)
    print(f"gaps {gaps} leases, of writes and reads; served again after {recovered_s}")
    fault.check_reads(*there, elsewhere)
    assert [fault.answered_reads(reads, first.end_ns) for reads in there] == [0, 0]
    assert max(gaps) <= SERVICE_LEASES
    cluster.wait_until_whole()


@pytest.mark.parametrize(
    "but_for",
    [
        pytest.param((), id="from all"),
        pytest.param((HEAD,), id="from all but the GCS", marks=pytest.mark.slow),
    ],
)
def test_a_majority_serves_without_the_masters_host_and_that_host_serves_nothing_stale(
    five: HostCluster, but_for: tuple[str, ...]
) -> None:
    play_isolation(five, f"isolated but for {but_for}", but_for)


@pytest.mark.nightly
def test_separate_roles_do_the_same(apart: HostCluster) -> None:
    play_isolation(apart, "isolated", ())


@pytest.fixture
def apart(hosts: Hosts) -> Iterator[HostCluster]:
    """Three members with separate roles."""
    with host_cluster(hosts, "apart", ("h1", "h2", "h3"), "separate") as cluster:
        yield cluster


@pytest.mark.nightly
def test_nobody_notices_that_a_followers_host_is_away(five: HostCluster) -> None:
    writes = five.write(ELSEWHERE, "follower")
    there = five.read_what_is_newest(AWAY, "follower")
    five.lead(ELSEWHERE)
    fault = Fault(five, writes, lambda links: links.isolate(AWAY))
    for reads in there:
        reads.wait_for_outcomes(fault.full_ns, PATIENCE_S, TRIED)
    fault.heal()
    recovered_s = {str(reads): fault.recovery_s(reads) for reads in there}
    for series in (writes, *there):
        series.end()
    print(f"gap {fault.gap_leases(writes):.2f} leases; served again after {recovered_s}")
    fault.check_reads(*there)
    assert fault.gap_leases(writes) < 1.0
    assert five.master()[0] == member_on(ELSEWHERE)
    five.wait_until_whole()


@pytest.mark.nightly
def test_a_host_that_ray_gives_up_comes_back_with_a_new_node(five: HostCluster) -> None:
    """Away for longer than the GCS waits: its raylet ends itself, and with it the member there.

    Started again, its node has another id; the label brings the member back to its disk.
    """
    writes = five.write(ELSEWHERE, "given up")
    there = five.read_what_is_newest(AWAY, "given up")
    five.lead(AWAY)
    fault = Fault(five, writes, lambda links: links.isolate(AWAY))
    writes.wait_for_success(fault.full_ns, PATIENCE_S)
    five.wait_until_node_is_dead(AWAY)
    fault.heal()
    print(f"given up after {(time.monotonic_ns() - fault.begin_ns) / 1e9:.1f} s")
    five.restart_node(AWAY)
    five.wait_until_whole()
    again = five.read(AWAY, "given up", "linearizable")
    for series in (writes, again):
        series.end()
    fault.check_reads(*there, again)
    assert fault.gap_leases(writes) <= SERVICE_LEASES
