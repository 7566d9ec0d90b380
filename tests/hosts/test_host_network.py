"""Hosts and their links, without Ray: what gets through, and what stays behind."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import host_network as host_network_module
from host_links import HostLinks, filter_table
from host_network import NAMESPACES, HostNetwork, clear_leftovers, host_network
from hosts import missing_for_hosts
from ray_paxos.errors import ClusterError, ConfigurationError
from tests.conftest import ROOT

pytestmark = pytest.mark.usefixtures("host_rights")
PORT = 7000
WAIT_S = 20.0

# Answers each datagram; or sends one, says how long its answer took, in seconds, or nothing.
ECHO = """
import socket, sys
here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
here.bind((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
heard = 0
while True:
    data, sender = here.recvfrom(100)
    heard += 1
    here.sendto(b"%d" % heard, sender)
"""
ASK = """
import socket, sys, time
address, port, count, patience_s = sys.argv[1:]
here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
here.settimeout(float(patience_s))
for _ in range(int(count)):
    begin = time.monotonic()
    here.sendto(b"?", (address, int(port)))
    try:
        heard = int(here.recvfrom(100)[0])
    except TimeoutError:
        print("nothing", 0)
    else:
        print(time.monotonic() - begin, heard)
"""


# Which addresses answer, if only by a refusal.
REACH = """
import socket, sys
for address in sys.argv[1:]:
    try:
        socket.create_connection((address, 9), 0.5)
    except ConnectionRefusedError:
        print(address)
    except TimeoutError:
        pass
"""


class Ends:
    """Two hosts, the second of which answers the first."""

    def __init__(self, network: HostNetwork) -> None:
        self.network = network
        self.links = HostLinks(network)
        self._echo = subprocess.Popen(
            network.command("b", sys.executable, "-c", ECHO, network.address("b"), str(PORT)),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._echo.stdout is not None
        assert self._echo.stdout.readline() == "ready\n"

    def ask(self, count: int = 1, patience_s: float = 0.3) -> tuple[list[float], int]:
        """How long the answers took that came, and how many questions were heard up to then."""
        done = subprocess.run(
            self.network.command(
                *("a", sys.executable, "-c", ASK),
                *(self.network.address("b"), str(PORT), str(count), str(patience_s)),
            ),
            capture_output=True,
            text=True,
            timeout=WAIT_S + count * patience_s,
            check=True,
        )
        answers = [line.split() for line in done.stdout.splitlines()]
        times = [float(taken) for taken, _ in answers if taken != "nothing"]
        return times, max(int(heard) for _, heard in answers)

    def close(self) -> None:
        self.links.close()
        self._echo.kill()
        self._echo.wait()
        assert self._echo.stdout is not None
        self._echo.stdout.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    with host_network(("a", "b")) as network:
        two = Ends(network)
        try:
            yield two
        finally:
            two.close()


def heard(ends: Ends) -> int:
    """How many questions the second host has heard; this one, too."""
    return ends.ask()[1]


def test_a_cut_lets_nothing_through_and_heals(ends: Ends) -> None:
    assert len(ends.ask()[0]) == 1
    ends.links.cut("a", "b")
    assert ends.ask()[0] == []
    ends.links.mend("a", "b")
    assert heard(ends) == 2


@pytest.mark.parametrize(("sender", "receiver", "is_heard"), [("a", "b", 0), ("b", "a", 1)])
def test_one_way_the_other_direction_stays(
    ends: Ends, sender: str, receiver: str, is_heard: int
) -> None:
    ends.links.cut_one_way([(sender, receiver)])
    assert ends.ask()[0] == []
    ends.links.heal()
    assert heard(ends) == is_heard + 1


def test_one_direction_is_mended_and_the_other_stays_cut(ends: Ends) -> None:
    ends.links.cut("a", "b")
    ends.links.mend_one_way([("a", "b")])
    assert ends.ask()[0] == []
    ends.links.mend_one_way([("b", "a")])
    assert heard(ends) == 2


def test_an_isolated_host_reaches_only_what_it_is_left() -> None:
    with host_network(("a", "b", "c")) as network:
        links = HostLinks(network)
        links.isolate("a", but_for=("c",))
        assert reached(network, "a") == {"c"}
        assert reached(network, "b") == {"c"}
        links.heal()
        links.leave_only([("a", "b")], among=("a", "b", "c"))
        assert reached(network, "a") == {"b"}
        assert reached(network, "c") == set()


def reached(network: HostNetwork, host: str) -> set[str]:
    """The other hosts that answer, if only that nobody listens."""
    by_address = {network.address(name): name for name in network.hosts if name != host}
    done = subprocess.run(
        network.command(host, sys.executable, "-c", REACH, *by_address),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=True,
    )
    return {by_address[address] for address in done.stdout.split()}


def test_a_lossy_host_loses_about_its_share(ends: Ends) -> None:
    ends.links.lose("a", 0.3)
    # A question and its answer both have to come through: about half do.
    answered = len(ends.ask(count=60, patience_s=0.05)[0])
    assert 10 < answered < 50


def test_a_slow_host_is_slow_both_ways_until_it_is_healed(ends: Ends) -> None:
    quick = min(ends.ask(count=5)[0])
    ends.links.delay("a", 30.0, 10.0)
    slow = ends.ask(count=20, patience_s=2.0)[0]
    assert len(slow) == 20
    assert min(slow) >= 0.04
    assert sum(slow) / len(slow) >= 0.055
    with pytest.raises(ConfigurationError, match="slow already"):
        ends.links.delay("a", 5.0)
    ends.links.heal()
    assert min(ends.ask(count=5)[0]) < quick + 0.04


def test_two_networks_at_once_do_not_meet() -> None:
    with host_network(("a", "b")) as first, host_network(("a", "b")) as second:
        assert first.address("a") == second.address("a")
        HostLinks(first).cut("a", "b")
        assert reached(first, "a") == set()
        assert reached(second, "a") == {"b"}


def namespaces_of(folder: Path) -> set[str]:
    """Those of a run, by its folder, which has the same token."""
    return {path.name for path in NAMESPACES.glob(f"{folder.name}-*")}


def test_nothing_stays_behind_of_a_run_that_fails() -> None:
    made: list[tuple[HostNetwork, subprocess.Popen[bytes]]] = []
    with pytest.raises(KeyboardInterrupt):
        fail_with_a_process(made)
    ((network, process),) = made
    assert process.wait(WAIT_S) == -signal.SIGKILL
    assert namespaces_of(network.folder) == set()
    assert not network.folder.exists()


def fail_with_a_process(made: list[tuple[HostNetwork, subprocess.Popen[bytes]]]) -> None:
    """Be interrupted while a process runs on a host."""
    with host_network(("a",)) as network:
        made.append((network, subprocess.Popen(network.command("a", "sleep", "600"))))
        deadline = time.monotonic() + WAIT_S
        while not network.process_ids("a"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        (network.folder / "file").write_text("x")
        assert len(namespaces_of(network.folder)) == 2
        raise KeyboardInterrupt


KILLED = """
import subprocess, sys, time
from pathlib import Path
import host_network
host_network.RECORDS = Path(sys.argv[1])
with host_network.host_network(("a",)) as network:
    asleep = subprocess.Popen(network.command("a", "sleep", "600"), start_new_session=True)
    while asleep.pid not in network.process_ids("a"):
        time.sleep(0.01)
    print(asleep.pid, network.folder, flush=True)
    time.sleep(600)
"""


def test_the_next_run_removes_what_a_killed_one_left_and_nothing_of_one_that_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_network_module, "RECORDS", tmp_path)
    with host_network(("a",)) as living:
        killed = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'jobs'}"},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert killed.stdout is not None
        asleep, name = killed.stdout.readline().split()
        folder = Path(name)
        killed.kill()
        killed.wait()
        killed.stdout.close()
        assert len(namespaces_of(folder)) == 2
        assert clear_leftovers() == [folder.name.removeprefix("rpx-")]
        assert namespaces_of(folder) == set()
        assert not folder.exists()
        assert is_over(int(asleep))
        assert living.folder.exists()
        assert clear_leftovers() == []
    assert list(tmp_path.iterdir()) == []


def is_over(process_id: int) -> bool:
    """Whether a process has ended; nobody may have taken its status."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def test_what_cannot_be_made_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    token = secrets.token_hex(3)
    monkeypatch.setattr("host_network.secrets.token_hex", lambda _: token)
    monkeypatch.setattr(host_network_module, "SUBNET", "10.77.999")
    with pytest.raises(ClusterError, match=r"ip .*10\.77\.999"), host_network(("a",)):
        pass
    folder = Path(tempfile.gettempdir()) / f"rpx-{token}"
    assert namespaces_of(folder) == set()
    assert not folder.exists()


@pytest.mark.parametrize(
    "names", [("a", "a"), ("switch",), ("too-long-a-name",), ("1a",), ("",)], ids=repr
)
def test_bad_names_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match="allowed: "), host_network(names):
        pass


def test_a_host_that_is_not_there_is_refused_by_name(ends: Ends) -> None:
    with pytest.raises(ConfigurationError, match="host: found 'x'; allowed: a, b"):
        ends.links.cut("a", "x")
    assert len(ends.ask()[0]) == 1


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hosts.TOOLS", ("ip", "no-such-tool"))
    assert missing_for_hosts() == "not found: no-such-tool (packages iproute2 and iptables)"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert missing_for_hosts() == "only root makes network namespaces"


def test_a_filter_is_a_whole_table() -> None:
    assert filter_table({"10.0.0.1": 1.0, "10.0.0.2": 0.25}).splitlines() == [
        "*filter",
        ":INPUT ACCEPT [0:0]",
        ":FORWARD ACCEPT [0:0]",
        ":OUTPUT ACCEPT [0:0]",
        "-A INPUT -s 10.0.0.1/32 -j DROP",
        "-A INPUT -s 10.0.0.2/32 -m statistic --mode random --probability 0.250000 -j DROP",
        "COMMIT",
    ]
