"""What happens to the links between hosts: cut, cut one way, lossy, slow, and mended.

Rules:

1. Packets are dropped where they arrive, without a word to their sender (a black hole, not a
   refusal), by the receiving host's own packet filter. So each direction of each link is apart.
2. What a host drops is always put in force as a whole, in one step, never half of a change.
3. A slow host's frames go through a process that holds each for a time (`host_wire`): not every
   kernel has `tc netem`, and every one that has tap devices can do this. Order is kept.

A cut in one direction is one of packets. What two processes say to each other goes over TCP: what
had left before still arrives at the side that hears, but nothing is acknowledged to the other, and
after a moment neither has anything new of the other.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from host_network import BRIDGE, HostNetwork, run_tool, tool_path
from ray_paxos.errors import ClusterError, ConfigurationError

WIRE_PROGRAM = Path(__file__).with_name("host_wire.py")
WIRE_READY = "ready"
END_S = 10.0


class HostLinks:
    """The links of a network's hosts; whole at first.

    Invariants: `_shares` is what every host's filter does, once a method has returned.
    """

    def __init__(self, network: HostNetwork) -> None:
        """Take charge of the links of `network`."""
        self._network = network
        # Of packets by receiver and sender, which share is dropped.
        self._shares: dict[str, dict[str, float]] = {host: {} for host in network.hosts}
        self._wires: dict[str, subprocess.Popen[str]] = {}

    # Faults.

    def cut(self, first: str, second: str) -> None:
        """Let nothing through between two hosts.

        Raises:
            ConfigurationError: There is no such host.
            ClusterError: The filter refuses.
        """
        self._drop(((first, second, 1.0), (second, first, 1.0)))

    def cut_one_way(self, directions: Iterable[tuple[str, str]]) -> None:
        """Let nothing through in some directions; what goes the other way arrives.

        Args:
            directions: Pairs of a host that sends and one that hears nothing of it any more.

        Raises:
            As `cut`.
        """
        self._drop((*direction, 1.0) for direction in directions)

    def isolate(self, host: str, *, but_for: Collection[str] = ()) -> None:
        """Cut a host off from all others, both ways.

        Args:
            host: Which.
            but_for: Those that it goes on reaching, such as the one of Ray's GCS.

        Raises:
            As `cut`.
        """
        self._network.check(*but_for)
        others = [name for name in self._network.hosts if name not in (host, *but_for)]
        self._drop(
            (*direction, 1.0) for other in others for direction in ((host, other), (other, host))
        )

    def leave_only(self, links: Iterable[tuple[str, str]], among: Collection[str]) -> None:
        """Cut all links between some hosts, but for these.

        Args:
            links: Pairs of hosts whose links stay.
            among: The hosts; links to others stay as they are.

        Raises:
            As `cut`.
        """
        kept = {frozenset(link) for link in links}
        self._drop(
            (sender, receiver, 1.0)
            for sender in among
            for receiver in among
            if sender != receiver and frozenset((sender, receiver)) not in kept
        )

    def lose(self, host: str, share: float) -> None:
        """Lose packets at random, of all that a host sends and all that it gets.

        Args:
            host: Which.
            share: Of the packets, from 0 to 1.

        Raises:
            As `cut`.
        """
        if not 0.0 <= share <= 1.0:
            raise ConfigurationError(f"share: found {share!r}; allowed: 0 to 1")
        others = [name for name in self._network.hosts if name != host]
        self._drop(
            (*direction, share) for other in others for direction in ((host, other), (other, host))
        )

    def delay(self, host: str, delay_ms: float, jitter_ms: float = 0.0) -> None:
        """Make a host slow to reach: every frame from it and to it arrives so much later.

        Args:
            host: Which; not one that is slow already.
            delay_ms: How much later.
            jitter_ms: By how much that may be more or less, at random; order is kept.

        Raises:
            ConfigurationError: There is no such host, or it is slow already.
            ClusterError: There are no tap devices here, or something else is missing.
        """
        self._network.check(host)
        if host in self._wires:
            raise ConfigurationError(f"host {host} is slow already; heal it first")
        near, far, port = f"near-{host}", f"far-{host}", f"port-{host}"
        wire = subprocess.Popen(
            self._network.switch_command(
                *(sys.executable, str(WIRE_PROGRAM), near, far),
                *("--delay-ms", str(delay_ms), "--jitter-ms", str(jitter_ms)),
            ),
            env={"PATH": tool_path()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._wires[host] = wire
        assert wire.stdout is not None, "it is a pipe"
        # The program says so, or ends: both end the wait.
        if wire.stdout.readline().strip() != WIRE_READY:
            self._end_wire(host)
            raise ClusterError(f"cannot delay {host}: there are no tap devices, or no right to any")
        self._switch("link", "add", port, "type", "bridge")
        self._switch("link", "set", "dev", port, "up")
        self._switch("link", "set", "dev", near, "master", port, "up")
        self._switch("link", "set", "dev", far, "master", BRIDGE, "up")
        self._switch("link", "set", "dev", host, "master", port)

    # Mending.

    def mend(self, first: str, second: str) -> None:
        """Let everything through again between two hosts.

        Raises:
            As `cut`.
        """
        self.mend_one_way(((first, second), (second, first)))

    def mend_one_way(self, directions: Iterable[tuple[str, str]]) -> None:
        """Let everything through again in some directions.

        Args:
            directions: As of `cut_one_way`.

        Raises:
            As `cut`.
        """
        self._drop((*direction, 0.0) for direction in directions)

    def heal(self) -> None:
        """Make all links whole and fast again.

        Raises:
            ClusterError: The filter refuses.
        """
        for receiver, shares in self._shares.items():
            if shares:
                self._shares[receiver] = {}
                self._put_in_force(receiver)
        for host in list(self._wires):
            self._switch("link", "set", "dev", host, "master", BRIDGE)
            self._end_wire(host)
            self._switch("link", "delete", f"port-{host}")

    def close(self) -> None:
        """End what was started here; the network is to be removed."""
        for host in list(self._wires):
            self._end_wire(host)

    # Parts.

    def _drop(self, changes: Iterable[tuple[str, str, float]]) -> None:
        """Change which share of packets is dropped: (sender, receiver, share)."""
        changes = list(changes)
        for sender, receiver, _ in changes:
            self._network.check(sender, receiver)
        receivers: dict[str, None] = {}
        for sender, receiver, share in changes:
            if share:
                self._shares[receiver][sender] = share
            else:
                self._shares[receiver].pop(sender, None)
            receivers[receiver] = None
        for receiver in receivers:
            self._put_in_force(receiver)

    def _put_in_force(self, receiver: str) -> None:
        table = filter_table(
            {self._network.address(s): share for s, share in self._shares[receiver].items()}
        )
        command = self._network.command(receiver, "iptables-restore", "--wait", "10")
        run_tool(*command, given=table)

    def _switch(self, *arguments: str) -> None:
        run_tool(*self._network.switch_command("ip", *arguments))

    def _end_wire(self, host: str) -> None:
        wire = self._wires.pop(host)
        wire.terminate()
        with suppress(subprocess.TimeoutExpired):
            wire.wait(END_S)
        if wire.poll() is None:
            wire.kill()
            wire.wait()
        if wire.stdout is not None:
            wire.stdout.close()


def filter_table(shares: dict[str, float]) -> str:
    """A packet filter, for `iptables-restore`.

    Args:
        shares: By address: of the packets that come from there, which share is dropped.

    Returns:
        The whole table; it takes the place of what was in force.
    """
    lines = ["*filter", ":INPUT ACCEPT [0:0]", ":FORWARD ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]"]
    for address, share in shares.items():
        chance = "" if share >= 1.0 else f"-m statistic --mode random --probability {share:.6f} "
        lines.append(f"-A INPUT -s {address}/32 {chance}-j DROP")
    return "\n".join([*lines, "COMMIT", ""])
