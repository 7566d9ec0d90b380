"""A Ray cluster that a chaos run makes for itself, on hosts whose links can be cut.

```
 head   GCS, this process, its clients        h1   node of the first member        h2 ...
```

Each host is a network namespace with one Ray node (`hosts`). This process enters the head's, so
that what it sends to members goes over links, too; it is never cut off from a quorum of them.

The GCS gives up a node after it has not answered ten times in a row, which takes longer than links
are ever cut (`chaos_link_faults`): a node that was given up ends itself, and does not come back.
"""

from __future__ import annotations

import ctypes
import logging
import os
import select
import signal
import subprocess
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from chaos_cluster import Links
from chaos_cuts import HEAD as HEAD_SITE
from chaos_cuts import Direction, Directions
from chaos_disks import LoopDisk, hide_mounts, make_disk
from chaos_nodes import environment
from chaos_plan import OF_DISKS, FaultKind
from host_network import NAMESPACES, HostNetwork, host_network
from hosts import HEAD, LABEL, Hosts
from ray_paxos.config import ClusterConfiguration
from ray_paxos.errors import ClusterError

NEW_NETWORK = 0x40000000
"""CLONE_NEWNET of linux/sched.h."""
FAILURES_MAX = 10
GCS_PROGRAM = "gcs_server"
END_S = 10.0


def hosts_of(configuration: ClusterConfiguration) -> dict[str, str]:
    """The host of each member."""
    return {member.name: f"h{number}" for number, member in enumerate(configuration.members, 1)}


def labels_of(configuration: ClusterConfiguration) -> dict[str, dict[str, str]]:
    """The labels of each member's node."""
    return {member: {LABEL: host} for member, host in hosts_of(configuration).items()}


class HostNodes:
    """The nodes of a run. Made by `own_hosts`."""

    def __init__(
        self, hosts: Hosts, host_of: Mapping[str, str], disks: Mapping[str, LoopDisk]
    ) -> None:
        """Stand for nodes, which are started by whoever makes this.

        Args:
            hosts: Their hosts.
            host_of: By member.
            disks: Of members that have one of their own.
        """
        self._hosts = hosts
        self._host_of = dict(host_of)
        self._disks = disks
        self._lost: Directions = frozenset()
        self._gcs: _Program | None = None
        self._started_gcs: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Of the Ray cluster."""
        return self._hosts.gcs_address

    @property
    def links(self) -> Links | None:
        """These."""
        return self

    def lose(self, directions: Directions) -> None:
        """Lose just what is sent in these directions."""
        self._hosts.links.cut_one_way(self._named(directions - self._lost))
        self._hosts.links.mend_one_way(self._named(self._lost - directions))
        self._lost = directions

    def _named(self, directions: Collection[Direction]) -> list[tuple[str, str]]:
        return sorted((self._host(sender), self._host(hearer)) for sender, hearer in directions)

    def _host(self, site: str) -> str:
        return HEAD if site == HEAD_SITE else self._host_of[site]

    def kill(self, member: str) -> None:
        """SIGKILL of everything on its host."""
        self._hosts.end_node(self._host(member))

    def start(self, member: str) -> None:
        """Start its host's node."""
        self._hosts.start_nodes((self._host(member),))

    def kill_gcs(self) -> None:
        """SIGKILL; what it takes to start it again is kept."""
        self._gcs = _Program.find(self._hosts.network, GCS_PROGRAM)
        self._gcs.kill()
        self.reap()

    def start_gcs(self) -> None:
        """As Ray started it: on the same port, and on what it has stored."""
        if self._gcs is not None:
            self._started_gcs = self._gcs.start_again(self._hosts.network)

    def reap(self) -> None:
        """Take note that a GCS which was started here has ended."""
        if self._started_gcs is not None:
            self._started_gcs.wait(END_S)
            self._started_gcs = None

    def close(self) -> None:
        """End everything on all hosts, so that disks can be unmounted."""
        for host in self._hosts.network.hosts:
            self._hosts.end_node(host)
        self.reap()
        self._hosts.links.close()

    def slow_disk(self, member: str, freeze_s: float, for_s: float) -> None:
        """Freeze it again and again."""
        self._disks[member].slow(freeze_s, for_s)

    def fill_disk(self, member: str, for_s: float) -> None:
        """Leave no room on it."""
        self._disks[member].fill(for_s)

    def heal_disks(self) -> None:
        """All of them."""
        for disk in self._disks.values():
            disk.heal()


class _Program:
    """One program on the head, by which it can be started again."""

    def __init__(self, process_id: int) -> None:
        folder = Path("/proc") / str(process_id)
        self._process_id = process_id
        self._command = _fields(folder / "cmdline")
        self._variables = dict(
            each.split("=", 1) for each in _fields(folder / "environ") if "=" in each
        )

    @classmethod
    def find(cls, network: HostNetwork, name: str) -> _Program:
        """The program of that name on the head.

        Raises:
            ClusterError: It does not run.
        """
        for process_id in network.process_ids(HEAD):
            with suppress(OSError, IndexError):
                program = cls(process_id)
                if Path(program._command[0]).name == name:
                    return program
        raise ClusterError(f"{name} does not run on the head's host")

    def kill(self) -> None:
        """SIGKILL; returns once it has ended."""
        descriptor = os.pidfd_open(self._process_id)
        try:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            _wait_for_end(descriptor)
        finally:
            os.close(descriptor)

    def start_again(self, network: HostNetwork) -> subprocess.Popen[bytes]:
        """Start it on the head."""
        return subprocess.Popen(
            network.command(HEAD, *self._command),
            env=self._variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def _fields(path: Path) -> list[str]:
    return [field for field in path.read_bytes().decode().split("\0") if field]


def _wait_for_end(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if not poll.poll(END_S * 1e3):
        raise ClusterError(f"{GCS_PROGRAM} does not end")


@contextmanager
def own_hosts(
    configuration: ClusterConfiguration, kinds: Collection[FaultKind]
) -> Iterator[HostNodes]:
    """Make a host with a Ray node for each member, enter the head's, and end and remove them.

    Args:
        configuration: Of the cluster.
        kinds: Of the faults that are to be injected: they say what the hosts need.

    Yields:
        The nodes; this process is connected to their Ray cluster.

    Raises:
        ClusterError: Something cannot be made or started.
    """
    host_of = hosts_of(configuration)
    with ExitStack() as stack:
        network = stack.enter_context(host_network((HEAD, *host_of.values())))
        disks = _make_disks(network, host_of, stack) if OF_DISKS & set(kinds) else {}
        variables = {
            **configuration.ray.environment(),
            "RAY_health_check_failure_threshold": str(FAILURES_MAX),
        }
        if FaultKind.KILL_GCS in kinds:
            folder = network.folder / "gcs"
            folder.mkdir()
            variables |= {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": str(folder)}
        # With none, six hosts on two cores began six processes for every look at their disks, and
        # all masters had too little of a processor to keep their leases.
        hosts = Hosts(network, variables, processors=1)
        nodes = HostNodes(hosts, host_of, disks)
        stack.callback(nodes.close)
        hosts.start_nodes((HEAD,))
        hosts.start_nodes(hosts.members)
        stack.enter_context(environment({**variables, "RAY_AUTH_MODE": "disabled"}))
        stack.enter_context(_inside(network))
        stack.enter_context(_connected(hosts))
        yield nodes


def _make_disks(
    network: HostNetwork, host_of: Mapping[str, str], stack: ExitStack
) -> dict[str, LoopDisk]:
    """A file system for each member, where its host has its members' data."""
    # After the hosts were made: the next run has to find what this one leaves if it is killed.
    hide_mounts()
    disks = {}
    for member, host in host_of.items():
        folder = network.folder / host
        disks[member] = make_disk(network.folder / f"{host}.image", folder / "data")
        stack.callback(disks[member].close)
    return disks


@contextmanager
def _inside(network: HostNetwork) -> Iterator[None]:
    """Have this thread, and those that it starts, be on the head's host.

    Raises:
        ClusterError: The kernel refuses.
    """
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _enter(NAMESPACES / network.namespace(HEAD))
        try:
            yield
        finally:
            # Whatever is on the head's host then is ended.
            _set_network(own)
    finally:
        os.close(own)


def _enter(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _set_network(descriptor)
    finally:
        os.close(descriptor)


def _set_network(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, NEW_NETWORK) != 0:
        raise ClusterError(f"no other host can be entered: {os.strerror(ctypes.get_errno())}")


@contextmanager
def _connected(hosts: Hosts) -> Iterator[None]:
    # Only here: who is told that something is wrong should not wait for it.
    import ray

    try:
        ray.init(
            address=hosts.gcs_address,
            # Ray looks for it by the processes of the machine, which are those of all hosts.
            _node_ip_address=hosts.network.address(HEAD),
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(f"cannot connect to the Ray cluster on the hosts: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()
