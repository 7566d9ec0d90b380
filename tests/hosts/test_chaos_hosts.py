"""What chaos does to hosts of its own, without Ray on them."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import chaos_hosts
from chaos_cuts import HEAD as HEAD_SITE
from chaos_hosts import HostNodes, labels_of
from host_network import HostNetwork, host_network
from hosts import HEAD, Hosts
from ray_paxos.config import parse_configuration
from ray_paxos.errors import ClusterError
from tests.hosts.test_host_network import reached

SLEEP = ("sleep", "3210")
PATIENCE_S = 30.0


@pytest.fixture
def network(host_rights: None) -> Iterator[HostNetwork]:
    with host_network((HEAD, "h1", "h2")) as made:
        yield made


def test_what_is_lost_is_told_as_a_whole(network: HostNetwork) -> None:
    nodes = HostNodes(Hosts(network, {}), {"a": "h1", "b": "h2"}, {})
    nodes.lose(frozenset({("a", "b"), ("b", "a")}))
    assert reached(network, "h1") == {HEAD}
    nodes.lose(frozenset({("b", "a"), ("a", HEAD_SITE)}))
    # What b sends to a is lost still, so that a has no answer of it.
    assert reached(network, "h1") == set()
    nodes.lose(frozenset({("a", HEAD_SITE)}))
    assert reached(network, "h1") == {"h2"}
    nodes.lose(frozenset())
    assert reached(network, "h1") == {HEAD, "h2"}


def test_a_gcs_is_started_again_as_it_was(
    network: HostNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program of another name stands for it."""
    monkeypatch.setattr(chaos_hosts, "GCS_PROGRAM", SLEEP[0])
    hosts = Hosts(network, {"MARK": "of the first life"})
    nodes = HostNodes(hosts, {}, {})
    with pytest.raises(ClusterError, match="sleep does not run on the head's host"):
        nodes.kill_gcs()
    # On another host it is left alone.
    elsewhere = hosts.start_program("h1", *SLEEP, stdin=subprocess.DEVNULL)
    first = hosts.start_program(HEAD, *SLEEP, stdin=subprocess.DEVNULL)
    assert sleeping(network) == first.pid
    nodes.kill_gcs()
    assert first.wait() == -9
    assert elsewhere.poll() is None
    nodes.start_gcs()
    variables = Path(f"/proc/{sleeping(network)}/environ").read_bytes().split(b"\0")
    assert b"MARK=of the first life" in variables
    nodes.close()
    assert network.process_ids(HEAD) == []
    elsewhere.wait()


def sleeping(network: HostNetwork) -> int:
    """The one process of the head, once the tool that starts it there has become it."""
    wanted = "\0".join(SLEEP).encode()
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for process_id in network.process_ids(HEAD):
            if Path(f"/proc/{process_id}/cmdline").read_bytes().startswith(wanted):
                return process_id
        time.sleep(0.01)
    raise AssertionError("it is not there")


def test_this_process_is_on_the_heads_host_for_a_time(network: HostNetwork) -> None:
    with chaos_hosts._inside(network):
        assert network.process_ids(HEAD) == [os.getpid()]
        told = subprocess.run(["ip", "-o", "address"], capture_output=True, text=True, check=True)
        assert network.address(HEAD) in told.stdout
    # Or it would be ended with the host.
    assert network.process_ids(HEAD) == []


def test_each_member_is_pinned_to_a_host_of_its_own() -> None:
    configuration = parse_configuration("cluster: x\nmembers: [a-long-name, b, c]\n")
    hosts = [labels["host"] for labels in labels_of(configuration).values()]
    assert hosts == ["h1", "h2", "h3"]
