"""A Ray cluster over several hosts on one machine, with links that can be cut.

```
 head   GCS, no members        h1   node with the label host=h1       h2 ...
```

Each host is a network namespace (`host_network`) with one Ray node, whose temporary files and
members' data have a folder of their own, as on a disk of its own. The GCS is on a host that has no
members, so that a member can be cut off and the GCS not, or both. Links: `host_links`.

Drivers run in a host, too: `start_program` starts one there. As Ray looks for nodes by the
processes of the machine, a driver has to say which is its own:
`ray.init(address=hosts.gcs_address, _node_ip_address=hosts.network.address(host))`.

Everything that runs in a host is ended with it, whoever started it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import which
from typing import Any

from host_links import HostLinks
from host_network import HostNetwork, host_network, tool_path
from ray_paxos.config import RayConfiguration
from ray_paxos.errors import ClusterError

HEAD = "head"
GCS_PORT = 6379
LABEL = "host"
"""Name of the label by which a member is pinned to a host's node."""
OBJECT_STORE_BYTES = 80_000_000
START_S = 120.0
AT_ONCE = 2
"""So many nodes are started at the same time."""
TOOLS = ("ip", "iptables-restore")


def missing_for_hosts() -> str:
    """What it takes to make hosts and is not here, for a person; empty for nothing."""
    if os.geteuid() != 0:
        return "only root makes network namespaces"
    absent = [tool for tool in TOOLS if which(tool, path=tool_path()) is None]
    if absent:
        return f"not found: {', '.join(absent)} (packages iproute2 and iptables)"
    try:
        with host_network(("a", "b")) as network:
            HostLinks(network).lose("a", 0.5)
    except ClusterError as error:
        return str(error)
    return ""


class Hosts:
    """Hosts with Ray nodes; made by `ray_hosts`.

    Attributes:
        network: Their namespaces.
        links: Their links.
        members: Names of those that members may live on: all but the head's.
    """

    def __init__(
        self, network: HostNetwork, environment: Mapping[str, str], *, processors: int = 0
    ) -> None:
        """Stand for hosts on which nothing runs yet.

        Args:
            network: Their namespaces, the head's first.
            environment: Variables for everything that runs there.
            processors: Of each Ray node. Actors of members and the tasks that look for them take
                none. For each one Ray starts a process at once and keeps it for whatever comes;
                without any, each task has to wait for a process of its own.
        """
        self.network = network
        self.links = HostLinks(network)
        self.members = network.hosts[1:]
        self._environment = dict(environment)
        self._processors = processors

    @property
    def gcs_address(self) -> str:
        """HOST:PORT of Ray's GCS, as any host reaches it."""
        return f"{self.network.address(HEAD)}:{GCS_PORT}"

    def folder(self, host: str) -> Path:
        """A host's own folder: `ray`, its Ray node's; `data`, its members'."""
        return self.network.folder / host

    def environment(self, host: str) -> dict[str, str]:
        """Variables of everything that runs on a host."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        return {
            **inherited,
            # On both ends of every link: what a cut means for Ray depends on them.
            **RayConfiguration().environment(),
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_PAXOS_HOME": str(self.folder(host) / "data"),
            "TMPDIR": str(self.folder(host)),
            "PATH": tool_path(),
            **self._environment,
        }

    def start_program(self, host: str, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start a program on a host.

        Args:
            host: Which.
            command: The program and its arguments.
            options: As of `subprocess.Popen`.
        """
        return subprocess.Popen(
            self.network.command(host, *command), env=self.environment(host), text=True, **options
        )

    # Nodes.

    def start_nodes(self, hosts: Sequence[str]) -> None:
        """Start the Ray nodes of some hosts, a few at a time, and wait until they have joined.

        Raises:
            ClusterError: One did not come up; says what `ray start` said.
        """
        for first in range(0, len(hosts), AT_ONCE):
            self._start_together(hosts[first : first + AT_ONCE])

    def _start_together(self, hosts: Sequence[str]) -> None:
        with ExitStack() as stack:
            starting = {host: stack.enter_context(self._starting(host)) for host in hosts}
            failed = [host for host, process in starting.items() if not self._is_up(host, process)]
        for host in failed:
            # Once more: Ray waits 30 s for a node to join, which is little on a busy machine.
            self.end_node(host)
            with self._starting(host) as process:
                if not self._is_up(host, process):
                    said = self._output(host).read_text(errors="replace").strip()
                    raise ClusterError(f"`ray start` on host {host} failed: {said[-2000:]}")

    def _is_up(self, host: str, process: subprocess.Popen[str]) -> bool:
        try:
            return process.wait(START_S) == 0
        except subprocess.TimeoutExpired as error:
            raise ClusterError(f"`ray start` on host {host}: {error}") from error

    def end_node(self, host: str) -> None:
        """End everything on a host at once, as if its power went; its folder stays.

        Raises:
            ClusterError: A process does not end.
        """
        self.network.end_processes(host)

    @contextmanager
    def _starting(self, host: str) -> Iterator[subprocess.Popen[str]]:
        """Run `ray start`, whose processes stay when it has ended; it ends with the block."""
        self.folder(host).mkdir(exist_ok=True)
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--disable-usage-stats"]
        command += [f"--node-ip-address={self.network.address(host)}"]
        command += [f"--num-cpus={self._processors}", f"--object-store-memory={OBJECT_STORE_BYTES}"]
        command += [f"--temp-dir={self.folder(host) / 'ray'}", "--include-log-monitor=false"]
        if host == HEAD:
            command += ["--head", f"--port={GCS_PORT}", "--include-dashboard=false"]
        else:
            command += [f"--address={self.gcs_address}", f"--labels={LABEL}={host}"]
        # Not a pipe: the processes that stay would hold its other end open.
        with self._output(host).open("w") as output:
            process = self.start_program(
                host, *command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def _output(self, host: str) -> Path:
        return self.folder(host) / "ray_start.txt"


@contextmanager
def ray_hosts(
    members: Sequence[str], environment: Mapping[str, str] | None = None
) -> Iterator[Hosts]:
    """Make hosts with a Ray node each, beside one for the GCS, and end and remove them.

    Args:
        members: Names of the hosts, as of `host_network`.
        environment: Variables for everything that runs there.

    Raises:
        ConfigurationError: A name is wrong.
        ClusterError: Something cannot be made or started; nothing of it stays.
    """
    with host_network((HEAD, *members)) as network:
        hosts = Hosts(network, environment or {})
        try:
            hosts.start_nodes((HEAD,))
            hosts.start_nodes(members)
            yield hosts
        finally:
            hosts.links.close()
