"""Hosts on one machine: network namespaces that a bridge joins.

```
 h1   eth0 10.77.0.1 ──┐
 h2   eth0 10.77.0.2 ──┤ bridge, in a namespace of its own: `switch`
 h3   eth0 10.77.0.3 ──┘
```

Rules:

1. Nothing is made in the machine's own network, and nothing of a host's traffic gets there. So two
   runs may use the same addresses; the names of their namespaces carry a token each.
2. A process belongs to a host if its network namespace is the host's. Processes are ended by their
   ids, each held fast (pidfd) before it is looked at, so that no other process gets the signal.
3. A run keeps a record locked for as long as it lives. A record that nobody has locked is of a run
   that was killed: the next run ends and removes what that one left.

It takes root, and Linux with the tools of iproute2.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ray_paxos.errors import ClusterError, ConfigurationError

NAMESPACES = Path("/run/netns")
"""Where iproute2 keeps the names of namespaces."""
RECORDS = Path("/run/ray_paxos_hosts")
PREFIX = "rpx-"
SWITCH = "switch"
BRIDGE = "bridge"
SUBNET = "10.77.0"
HOST_NAME = re.compile(r"[a-z][a-z0-9]{0,7}")
"""The kernel takes 15 characters for a network interface, and some of ours add to the name."""
HOSTS_MAX = 250
TOKEN = re.compile(r"[0-9a-f]{6}")
TOOL_S = 30.0
END_S = 20.0


def run_tool(*command: str, given: str = "") -> str:
    """Run a tool to its end.

    Args:
        command: The tool and its arguments.
        given: Its standard input.

    Returns:
        What it printed.

    Raises:
        ClusterError: It is not there, failed, or took too long; says which, and what it said.
    """
    what = " ".join(command)
    try:
        done = subprocess.run(
            command,
            input=given,
            capture_output=True,
            text=True,
            timeout=TOOL_S,
            check=False,
            env={**os.environ, "PATH": tool_path()},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ClusterError(f"cannot run `{what}`: {error}") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip())[-500:]
        raise ClusterError(f"`{what}` failed: {said}")
    return done.stdout


def tool_path() -> str:
    """$PATH, and where the tools of a network lie that are not on everybody's."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


class HostNetwork:
    """The namespaces of one run; made by `host_network`.

    Attributes:
        hosts: Their names, in the order of their addresses.
        folder: For whatever the run keeps on the disk; goes with it.
    """

    def __init__(self, token: str, hosts: Sequence[str], folder: Path) -> None:
        """Stand for the namespaces of that token."""
        self.hosts = tuple(hosts)
        self.folder = folder
        self._token = token

    def address(self, host: str) -> str:
        """A host's address.

        Raises:
            ConfigurationError: There is no such host.
        """
        self.check(host)
        return f"{SUBNET}.{self.hosts.index(host) + 1}"

    def command(self, host: str, *command: str) -> list[str]:
        """The command that runs another one in a host.

        Raises:
            ConfigurationError: There is no such host.
        """
        self.check(host)
        return ["ip", "netns", "exec", self.namespace(host), *command]

    def switch_command(self, *command: str) -> list[str]:
        """The same, where the bridge is."""
        return ["ip", "netns", "exec", self.namespace(SWITCH), *command]

    def process_ids(self, host: str) -> list[int]:
        """The processes of a host.

        Raises:
            ConfigurationError: There is no such host.
        """
        self.check(host)
        with _pinned([self.namespace(host)]) as pinned:
            return sorted(pinned)

    def end_processes(self, host: str) -> None:
        """SIGKILL to every process of a host, as if its power went; returns once they are gone.

        Raises:
            ConfigurationError: There is no such host.
            ClusterError: One does not go.
        """
        self.check(host)
        _end_processes([self.namespace(host)])

    def check(self, *hosts: str) -> None:
        """Refuse names of hosts that are not there.

        Raises:
            ConfigurationError: One is not.
        """
        for host in hosts:
            if host not in self.hosts:
                allowed = ", ".join(self.hosts)
                raise ConfigurationError(f"host: found {host!r}; allowed: {allowed}")

    def namespace(self, host: str) -> str:
        """The name of a host's namespace."""
        return f"{PREFIX}{self._token}-{host}"

    def make(self) -> None:
        """Make the namespaces and join them.

        Raises:
            ClusterError: The kernel or the tools refuse.
        """
        self.folder.mkdir()
        switch = self.namespace(SWITCH)
        run_tool("ip", "netns", "add", switch)
        run_tool("ip", "-n", switch, "link", "add", BRIDGE, "type", "bridge")
        run_tool("ip", "-n", switch, "link", "set", "dev", BRIDGE, "up")
        for host in self.hosts:
            own = self.namespace(host)
            run_tool("ip", "netns", "add", own)
            run_tool("ip", "-n", own, "link", "set", "dev", "lo", "up")
            pair = ["eth0", "netns", own, "type", "veth", "peer", "name", host, "netns", switch]
            run_tool("ip", "link", "add", *pair)
            run_tool("ip", "-n", switch, "link", "set", "dev", host, "master", BRIDGE, "up")
            run_tool("ip", "-n", own, "address", "add", f"{self.address(host)}/24", "dev", "eth0")
            run_tool("ip", "-n", own, "link", "set", "dev", "eth0", "up")


@contextmanager
def host_network(hosts: Sequence[str]) -> Iterator[HostNetwork]:
    """Make hosts, and in the end remove them with their processes and their folder.

    Removes first what runs that were killed have left.

    Args:
        hosts: Their names: a lower-case letter, and up to seven more or digits.

    Raises:
        ConfigurationError: A name is wrong or there twice, or there are too many.
        ClusterError: They cannot be made; nothing of them stays.
    """
    _check(hosts)
    clear_leftovers()
    token = secrets.token_hex(3)
    # Short, since paths of Ray's sockets are limited to 107 bytes.
    folder = Path(tempfile.gettempdir()) / f"{PREFIX}{token}"
    with _recorded(token, folder):
        network = HostNetwork(token, hosts, folder)
        network.make()
        yield network


def clear_leftovers() -> list[str]:
    """Remove what runs have left that were killed.

    Returns:
        Their tokens.

    Raises:
        ClusterError: Something cannot be removed.
    """
    cleared = []
    with _all_records():
        for path in sorted(RECORDS.iterdir()):
            if not TOKEN.fullmatch(path.name):
                continue
            # Another run may end and remove its own meanwhile.
            with suppress(FileNotFoundError), path.open() as record:
                try:
                    fcntl.flock(record, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                _remove(path.name, Path(record.read()))
                path.unlink()
                cleared.append(path.name)
    return cleared


def _check(hosts: Sequence[str]) -> None:
    for host in hosts:
        if not HOST_NAME.fullmatch(host) or host in (SWITCH, BRIDGE):
            allowed = f"a lower-case letter, up to seven more or digits; not {SWITCH} or {BRIDGE}"
            raise ConfigurationError(f"host: found {host!r}; allowed: {allowed}")
    if len(set(hosts)) < len(hosts) or len(hosts) > HOSTS_MAX:
        raise ConfigurationError(
            f"hosts: found {', '.join(hosts)}; allowed: names of their own, at most {HOSTS_MAX}"
        )


# The record of a run.


@contextmanager
def _all_records() -> Iterator[None]:
    """Keep other runs from making or clearing records."""
    try:
        RECORDS.mkdir(parents=True, exist_ok=True)
        folder = os.open(RECORDS, os.O_RDONLY)
    except OSError as error:
        raise ClusterError(f"cannot keep records of hosts in {RECORDS}: {error}") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


@contextmanager
def _recorded(token: str, folder: Path) -> Iterator[None]:
    """Keep the record of a run, and in the end remove the run."""
    path = RECORDS / token
    with ExitStack() as stack:
        with _all_records():
            record = stack.enter_context(path.open("x"))
            fcntl.flock(record, fcntl.LOCK_EX | fcntl.LOCK_NB)
            record.write(str(folder))
            record.flush()
        try:
            yield
        finally:
            _remove(token, folder)
            # Only now: where not all could be removed, the next run tries again.
            path.unlink()


def _remove(token: str, folder: Path) -> None:
    """End the processes of a run, and remove its namespaces and its folder."""
    mark = f"{PREFIX}{token}-"
    namespaces = [path.name for path in NAMESPACES.glob(f"{mark}*")]
    _end_processes(namespaces)
    for namespace in namespaces:
        # Its interfaces go with it, and with the bridge's end of a pair the other one.
        run_tool("ip", "netns", "delete", namespace)
    if folder.name == f"{PREFIX}{token}":
        # A run that was killed may not have come to write it down.
        shutil.rmtree(folder, ignore_errors=True)


# Processes.


@contextmanager
def _pinned(namespaces: Iterable[str]) -> Iterator[dict[int, int]]:
    """Descriptors of all processes of these namespaces, by process id."""
    meant = set()
    for namespace in namespaces:
        status = os.stat(NAMESPACES / namespace)
        meant.add((status.st_dev, status.st_ino))
    with ExitStack() as stack:
        pinned = {}
        for entry in Path("/proc").iterdir():
            if not (entry.name.isdigit() and _is_in(entry, meant)):
                continue
            # It may end meanwhile, and another one get its number.
            with suppress(ProcessLookupError):
                descriptor = os.pidfd_open(int(entry.name))
                stack.callback(os.close, descriptor)
                if _is_in(entry, meant):
                    pinned[int(entry.name)] = descriptor
        yield pinned


def _is_in(process: Path, namespaces: set[tuple[int, int]]) -> bool:
    """Whether a process, by its folder in /proc, is in one of these namespaces."""
    try:
        status = os.stat(process / "ns" / "net")
    except OSError:
        # It has ended.
        return False
    return (status.st_dev, status.st_ino) in namespaces


def _end_processes(namespaces: Sequence[str]) -> None:
    deadline = time.monotonic() + END_S
    while True:
        # Again until there are none: one may start another while it is looked for.
        with _pinned(namespaces) as pinned:
            if not pinned:
                return
            for descriptor in pinned.values():
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            for process_id, descriptor in pinned.items():
                # Readable once the process has ended.
                patience_s = max(deadline - time.monotonic(), 0.0)
                if not _is_readable(descriptor, patience_s):
                    raise ClusterError(f"process {process_id} does not end")


def _is_readable(descriptor: int, patience_s: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(patience_s * 1e3))
