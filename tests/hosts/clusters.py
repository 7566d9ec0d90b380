"""A cluster with a member on each of several hosts, as tests see it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from host_links import HostLinks
from hosts import HEAD, LABEL, Hosts
from ray_paxos.config import parse_configuration
from tests.hosts.drivers import HostDriver, OrderError, RunningSeries
from tests.hosts.watching import longest_gap_s, stale_reads

HOSTS = ("h1", "h2", "h3", "h4", "h5")
PATIENCE_S = 90.0
"""For what has no limit of its own: the machine may be slow."""
PAUSE_S = 0.2
SERVICE_LEASES = 3
"""So many lease times may pass until clients of the majority are served again."""


def member_on(host: str) -> str:
    """The name of the member on a host."""
    return f"m{host[1:]}"


def configuration_text(cluster: str, hosts: tuple[str, ...], roles: str) -> str:
    """A cluster with a member on each of these hosts; all times are the defaults."""
    lines = [f"cluster: {cluster}", f"roles: {roles}", f"ray: {{nodes_min: {len(hosts)}}}"]
    lines += ["members:"]
    lines += [f"  - {{name: {member_on(h)}, node_labels: {{{LABEL}: {h}}}}}" for h in hosts]
    return "\n".join(lines) + "\n"


class HostCluster:
    """A cluster on hosts, with drivers on any of them.

    Attributes:
        name: The cluster's.
        on: The hosts that have a member.
        hosts: All hosts, and their links.
        lease_s: For how long a master believes in its lease.
    """

    def __init__(self, hosts: Hosts, name: str, on: tuple[str, ...], roles: str) -> None:
        """Start it."""
        self.name = name
        self.on = on
        self.hosts = hosts
        text = configuration_text(name, on, roles)
        self.lease_s = parse_configuration(text).proposer.lease_ms / 1_000
        self._drivers: dict[str, HostDriver] = {}
        self._series: list[RunningSeries] = []
        self.driver(HEAD).order("start", configuration=text)

    def driver(self, host: str) -> HostDriver:
        """The driver on a host; a new one where there is none, or it has ended."""
        driver = self._drivers.get(host)
        if driver is None or not driver.is_running:
            driver = self._drivers[host] = HostDriver(self.hosts, host)
        return driver

    def write(self, host: str, key: str) -> RunningSeries:
        """Begin to write to a key from a host, and wait until that is acknowledged."""
        series = self._begun(self.driver(host).write(self.name, key))
        series.wait_for_success(0, PATIENCE_S)
        return series

    def read(self, host: str, key: str, consistency: str) -> RunningSeries:
        """Begin to read a key from a host, and wait until that is answered."""
        series = self._begun(self.driver(host).read(self.name, key, consistency))
        series.wait_for_success(0, PATIENCE_S)
        return series

    def _begun(self, series: RunningSeries) -> RunningSeries:
        self._series.append(series)
        return series

    def rest(self) -> None:
        """Have all links whole, and no series go on, whatever a test that failed has left."""
        self.hosts.links.heal()
        for series in self._series:
            series.end()
        self._series.clear()

    def read_what_is_newest(self, host: str, key: str) -> list[RunningSeries]:
        """Begin to read a key from a host, in both ways that promise what is newest."""
        return [self.read(host, key, consistency) for consistency in ("linearizable", "lease")]

    def master(self) -> tuple[str, int]:
        """The member that leads, and since which instance."""
        found = self.driver(HEAD).order("master", cluster=self.name)
        assert found is not None
        return found[0], found[1]

    def lead(self, host: str) -> None:
        """Have a host's member lead, and wait until it does."""
        driver, member = self.driver(HEAD), member_on(host)
        deadline = time.monotonic() + PATIENCE_S
        while self.master()[0] != member:
            assert time.monotonic() < deadline, f"{member} does not come to lead"
            # Refused where it was away, and is not known to keep up yet.
            with suppress(OrderError):
                driver.order("lead", cluster=self.name, member=member)
            time.sleep(PAUSE_S)

    def wait_until_whole(self) -> None:
        """Wait until all members serve; they have to hold the same state."""
        driver, members = self.driver(HEAD), {member_on(host) for host in self.on}
        deadline = time.monotonic() + PATIENCE_S
        while set(serving := driver.order("serving", cluster=self.name)) != members:
            assert time.monotonic() < deadline, f"only {serving} serve"
            time.sleep(PAUSE_S)
        digests = driver.order("digests", cluster=self.name)
        assert digests.keys() == members
        assert len(set(digests.values())) == 1, digests

    def wait_for_leases(self, leases: float, series: RunningSeries) -> None:
        """Wait until so many lease times have passed and a client is served still."""
        after_ns = time.monotonic_ns() + int(leases * self.lease_s * 1e9)
        series.wait_for_success(after_ns, leases * self.lease_s + PATIENCE_S)

    def wait_until_node_is_dead(self, host: str) -> None:
        """Wait until Ray has given up a host's node, which took 34 to 46 s."""
        deadline = time.monotonic() + 2 * PATIENCE_S
        while host in self.driver(HEAD).order("alive"):
            assert time.monotonic() < deadline, f"the node on {host} is not given up"
            time.sleep(PAUSE_S)

    def restart_node(self, host: str) -> None:
        """End what is left on a host, and start its Ray node again."""
        self.hosts.end_node(host)
        driver = self._drivers.pop(host, None)
        if driver is not None:
            driver.close()
        self.hosts.start_nodes((host,))

    def stop(self) -> None:
        """Stop it, and end the drivers."""
        self.rest()
        self.driver(HEAD).order("stop", cluster=self.name)
        for driver in self._drivers.values():
            driver.close()


@contextmanager
def host_cluster(
    hosts: Hosts, name: str, on: tuple[str, ...], roles: str = "fused"
) -> Iterator[HostCluster]:
    """A cluster on hosts, stopped in the end."""
    cluster = HostCluster(hosts, name, on, roles)
    try:
        yield cluster
    finally:
        cluster.stop()


class Fault:
    """What clients saw of one fault, from before it until all was well again.

    Attributes:
        begin_ns: When it began,
        full_ns: was in force on all links,
        heal_ns: and ended.
    """

    def __init__(
        self,
        cluster: HostCluster,
        writes: RunningSeries,
        inject: Callable[[HostLinks], None],
    ) -> None:
        """Begin.

        Args:
            cluster: Whose hosts.
            writes: All that is ever written to a key.
            inject: Does to the links what is to be done.
        """
        self._cluster = cluster
        self._writes = writes
        self.heal_ns = 0
        self.begin_ns = time.monotonic_ns()
        inject(cluster.hosts.links)
        self.full_ns = time.monotonic_ns()

    def heal(self) -> None:
        """End it."""
        self.heal_ns = time.monotonic_ns()
        self._cluster.hosts.links.heal()

    def gap_leases(self, series: RunningSeries) -> float:
        """The longest time during the fault without a success of a client, in lease times."""
        gap_s = longest_gap_s(series.operations, self.begin_ns, self.heal_ns)
        return gap_s / self._cluster.lease_s

    def recovery_s(self, series: RunningSeries) -> float:
        """How long after its end a client was served again."""
        return (series.wait_for_success(self.heal_ns, PATIENCE_S).end_ns - self.heal_ns) / 1e9

    def check_reads(self, *reads: RunningSeries) -> None:
        """None of these may have seen less than was acknowledged before it began."""
        for series in reads:
            assert stale_reads(self._writes.told, series.operations) == [], series

    def answered_reads(self, reads: RunningSeries, after_ns: int) -> int:
        """Reads with an answer, of those that began after a moment and were over by the end."""
        return sum(
            read.value is not None
            for read in reads.operations
            if read.start_ns >= after_ns and read.end_ns <= self.heal_ns
        )
