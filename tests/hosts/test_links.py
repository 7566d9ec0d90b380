"""Links that lose one way, lose some, are slow, or swallow everything between two hosts only."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from host_links import HostLinks
from hosts import HEAD
from tests.hosts.clusters import (
    HOSTS,
    PATIENCE_S,
    SERVICE_LEASES,
    Fault,
    HostCluster,
    member_on,
)

# The first test starts the hosts and the cluster.
pytestmark = pytest.mark.timeout(600)

ACKNOWLEDGED = 30
MASTERS, ELSEWHERE, FOLLOWERS = "h1", "h2", "h5"
OTHERS = [host for host in HOSTS if host != MASTERS]

ONE_WAY: dict[str, Callable[[HostLinks], None]] = {
    "nobody hears the master": lambda links: links.cut_one_way((MASTERS, o) for o in OTHERS),
    "the master hears nobody": lambda links: links.cut_one_way((o, MASTERS) for o in OTHERS),
}
BAD: dict[str, Callable[[HostLinks], None]] = {
    "40 ms": lambda links: links.delay(MASTERS, 40.0, 10.0),
    "5 % lost": lambda links: links.lose(MASTERS, 0.05),
}


@pytest.mark.nightly
@pytest.mark.parametrize("how", ONE_WAY)
def test_a_master_whose_links_lose_one_way_is_replaced(five: HostCluster, how: str) -> None:
    writes = five.write(ELSEWHERE, how)
    reads = [*five.read_what_is_newest(MASTERS, how), five.read(HEAD, how, "linearizable")]
    five.lead(MASTERS)
    fault = Fault(five, writes, ONE_WAY[how])
    writes.wait_for_success(fault.full_ns, PATIENCE_S, ACKNOWLEDGED)
    assert five.master()[0] != member_on(MASTERS)
    fault.heal()
    recovered_s = {str(series): fault.recovery_s(series) for series in reads}
    for series in (writes, *reads):
        series.end()
    print(f"gap {fault.gap_leases(writes):.2f} leases; served again after {recovered_s}")
    fault.check_reads(*reads)
    assert fault.gap_leases(writes) <= SERVICE_LEASES
    five.wait_until_whole()


@pytest.mark.nightly
def test_a_black_hole_between_the_master_and_a_follower_heals(five: HostCluster) -> None:
    """Four members go on as if nothing were; the fifth has it all soon after the link is back."""
    key = "black hole"
    writes = five.write(ELSEWHERE, key)
    reads = five.read_what_is_newest(FOLLOWERS, key)
    five.lead(MASTERS)
    master = five.master()
    fault = Fault(five, writes, lambda links: links.cut(MASTERS, FOLLOWERS))
    five.wait_for_leases(SERVICE_LEASES, writes)
    fault.heal()
    recovered_s = {str(series): fault.recovery_s(series) for series in reads}
    for series in (writes, *reads):
        series.end()
    print(f"gap {fault.gap_leases(writes):.2f} leases; served again after {recovered_s}")
    fault.check_reads(*reads)
    assert fault.gap_leases(writes) < 1.0
    assert five.master() == master
    five.wait_until_whole()


@pytest.mark.nightly
@pytest.mark.parametrize("how", BAD)
def test_a_master_behind_a_bad_link_serves_on(five: HostCluster, how: str) -> None:
    writes = five.write(ELSEWHERE, how)
    reads = [
        *five.read_what_is_newest(MASTERS, how),
        *five.read_what_is_newest(ELSEWHERE, how),
    ]
    five.lead(MASTERS)
    fault = Fault(five, writes, BAD[how])
    five.wait_for_leases(SERVICE_LEASES, writes)
    fault.heal()
    for series in (*reads, writes):
        fault.recovery_s(series)
        series.end()
    print(f"gap {fault.gap_leases(writes):.2f} leases")
    fault.check_reads(*reads)
    assert fault.gap_leases(writes) <= SERVICE_LEASES
    five.wait_until_whole()
