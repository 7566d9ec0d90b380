"""Hosts that reach some others and not all: the three cases of the OmniPaxos paper, section 2.

In each of them there is a majority that could go on, and protocols that do not: because the one
host that reaches a majority hears of the old master and stays quiet, because it lags and is not
elected, or because two hosts that do not hear each other depose one another in turn.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hosts import HEAD, Hosts
from tests.hosts.clusters import (
    HOSTS,
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
MISSED = 60
"""So many writes the hub misses before it has to lead."""
LINE_LEASES = 6
OLD_MASTERS, HUB, LEAF = "h1", "h3", "h4"
STAR = [(HUB, leaf) for leaf in HOSTS if leaf != HUB]


def test_quorum_loss_the_hub_takes_over_from_a_master_that_it_still_hears(
    five: HostCluster,
) -> None:
    """Everybody reaches the hub and nobody else: the master is alive, and leads no majority."""
    key = "quorum-loss"
    at_hub, at_leaf = five.write(HUB, f"{key} hub"), five.write(LEAF, key)
    reads = five.read_what_is_newest(OLD_MASTERS, key)
    five.lead(OLD_MASTERS)
    fault = Fault(five, at_leaf, lambda links: links.leave_only(STAR, among=HOSTS))
    for writes in (at_hub, at_leaf):
        writes.wait_for_success(fault.full_ns, PATIENCE_S, ACKNOWLEDGED)
    assert five.master()[0] == member_on(HUB)
    for series in reads:
        # The old master's host reaches the new one.
        series.wait_for_success(at_hub.operations[-1].end_ns, PATIENCE_S)
    fault.heal()
    for writes in (at_hub, at_leaf):
        writes.wait_for_success(fault.heal_ns, PATIENCE_S, ACKNOWLEDGED)
    for series in (at_hub, at_leaf, *reads):
        series.end()
    gaps = fault.gap_leases(at_hub), fault.gap_leases(at_leaf)
    print(f"gaps {gaps} leases, at the hub and at a leaf")
    fault.check_reads(*reads)
    assert max(gaps) <= SERVICE_LEASES
    five.wait_until_whole()


def test_constrained_election_a_hub_that_lags_is_elected(five: HostCluster) -> None:
    """The master is gone, and the only host that reaches a majority missed what it did last."""
    key = "constrained"
    writes, everywhere = five.write(LEAF, key), five.read(HEAD, key, "linearizable")
    five.lead(OLD_MASTERS)
    five.hosts.links.cut(OLD_MASTERS, HUB)
    writes.wait_for_success(0, PATIENCE_S, len(writes.operations) + MISSED)
    assert five.master()[0] == member_on(OLD_MASTERS)
    reads = five.driver(OLD_MASTERS).read(five.name, key, "lease")

    kept = [link for link in STAR if OLD_MASTERS not in link]
    fault = Fault(five, writes, lambda links: links.leave_only(kept, among=HOSTS))
    writes.wait_for_success(fault.full_ns, PATIENCE_S, ACKNOWLEDGED)
    assert five.master()[0] == member_on(HUB)
    fault.heal()
    writes.wait_for_success(fault.heal_ns, PATIENCE_S, ACKNOWLEDGED)
    for series in (writes, everywhere, reads):
        series.end()
    gaps = fault.gap_leases(writes), fault.gap_leases(everywhere)
    print(f"gaps {gaps} leases, of writes at a leaf and reads that reach everybody")
    fault.check_reads(everywhere, reads)
    assert max(gaps) <= SERVICE_LEASES
    five.wait_until_whole()


@pytest.fixture
def chain(hosts: Hosts) -> Iterator[HostCluster]:
    """Three members."""
    with host_cluster(hosts, "chain", ("h1", "h2", "h3")) as cluster:
        yield cluster
        hosts.links.heal()


@pytest.mark.nightly
def test_chained_the_ends_of_a_line_do_not_depose_one_another(chain: HostCluster) -> None:
    """Three members in a line, the master at one end: the other end does not hear it."""
    key, end, middle, other_end = "chained", "h1", "h2", "h3"
    at_middle, at_end = chain.write(middle, key), chain.write(end, f"{key} end")
    reads = [
        *chain.read_what_is_newest(other_end, key),
        *chain.read_what_is_newest(middle, key),
    ]
    chain.lead(end)
    master = chain.master()
    fault = Fault(chain, at_middle, lambda links: links.cut(end, other_end))
    # Long enough for the other end to stand several times.
    chain.wait_for_leases(LINE_LEASES, at_middle)
    masters = chain.master()
    fault.heal()
    recovered_s = {str(series): fault.recovery_s(series) for series in reads}
    for series in (at_middle, at_end, *reads):
        series.end()
    gaps = fault.gap_leases(at_middle), fault.gap_leases(at_end)
    print(f"gaps {gaps} leases, in the middle and at the end; served again after {recovered_s}")
    fault.check_reads(*reads)
    assert max(gaps) <= SERVICE_LEASES
    assert masters == master
    chain.wait_until_whole()
