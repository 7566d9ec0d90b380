"""What cannot work is refused with the error that says why, and leaves nothing behind."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

import ray_paxos
from ray_paxos.actors.bootstrapping import make_genesis
from ray_paxos.actors.launching import live_actor_names
from ray_paxos.actors.ray_head import is_listening
from ray_paxos.config import ClusterConfiguration, parse_configuration
from ray_paxos.errors import (
    BootstrapError,
    ClusterError,
    DamageError,
    FolderHeldError,
    PlacementError,
    StorageError,
)
from ray_paxos.storage.disk import LocalDisk
from ray_paxos.storage.folder import activate_member, stage_member
from tests.ray.helpers import dump, put, wait_for

pytestmark = pytest.mark.usefixtures("local_ray")


def one_member(cluster: str, more: str = "") -> ClusterConfiguration:
    return parse_configuration(f"cluster: {cluster}\nmembers: 1\nroles: fused\n{more}")


def make_member(home: Path, configuration: ClusterConfiguration, cluster: str = "") -> Path:
    """A member's folder as bootstrap leaves it."""
    genesis = make_genesis(configuration)
    (member,) = genesis.members
    folder = home / (cluster or configuration.cluster) / member.name
    stage_member(LocalDisk(folder), genesis, member.member_id)
    activate_member(LocalDisk(folder))
    return folder


def nothing_is_left(cluster: str) -> bool:
    """Names go as soon as the actors are dead, which takes a moment."""
    wait_for("all actors are gone", lambda: not live_actor_names(cluster))
    return True


@pytest.fixture
def stopped() -> Iterator[list[ray_paxos.Cluster]]:
    """Clusters to stop after the test."""
    clusters: list[ray_paxos.Cluster] = []
    yield clusters
    for cluster in clusters:
        cluster.stop(delete_data=True)


def test_a_directory_of_another_cluster(home: Path) -> None:
    make_member(home, one_member("theirs"), cluster="ours")
    with pytest.raises(BootstrapError, match=r"ours/m1 on node .* belongs to cluster theirs"):
        ray_paxos.start(one_member("ours"))
    assert nothing_is_left("ours")


def test_two_clusters_in_one_directory(home: Path) -> None:
    make_member(home, parse_configuration("cluster: mixed\nmembers: [a]\n"))
    make_member(home, parse_configuration("cluster: mixed\nmembers: [b]\n"))
    with pytest.raises(BootstrapError, match="two clusters have the name mixed"):
        ray_paxos.start(one_member("mixed"))


@pytest.mark.nightly
def test_a_directory_that_another_process_holds(
    home: Path, stopped: list[ray_paxos.Cluster]
) -> None:
    folder = make_member(home, one_member("held"))
    with (folder / "acceptor" / "lock").open("rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(FolderHeldError, match=r"held/m1/acceptor/lock is held by another"):
            ray_paxos.start(one_member("held"))
        assert nothing_is_left("held")
    stopped.append(ray_paxos.start(one_member("held")))
    with stopped[0].client() as client:
        put(client, "a", b"1")


def test_a_damaged_journal_stops_the_start_and_is_named(home: Path) -> None:
    folder = make_member(home, one_member("damaged"))
    (journal,) = sorted((folder / "acceptor" / "journal").iterdir())
    content = bytearray(journal.read_bytes())
    content[40] ^= 1
    journal.write_bytes(content)
    with pytest.raises(DamageError, match=r"member m1, acceptor: .*journal"):
        ray_paxos.start(one_member("damaged"))
    assert nothing_is_left("damaged")


def test_a_data_directory_that_cannot_be_written(home: Path) -> None:
    # Root may write anywhere but in the kernel's own file systems.
    with pytest.raises(StorageError, match="/proc/ray_paxos"):
        ray_paxos.start(one_member("readonly", "data_dir: /proc/ray_paxos\n"))


def test_a_file_where_the_data_directory_should_be(home: Path) -> None:
    (home / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        ray_paxos.start(one_member("file", f"data_dir: {home}/file\n"))


def test_too_few_nodes() -> None:
    with pytest.raises(PlacementError, match=r"1 live nodes.* at least 3 \(ray.nodes_min\)"):
        ray_paxos.start(parse_configuration("cluster: few\nray: {nodes_min: 3}\n"))


def test_a_label_that_no_node_has() -> None:
    pinned = "cluster: few\nmembers: [{name: m1, node_labels: {disk: one}}]\n"
    with pytest.raises(PlacementError, match="member m1: no live Ray node has label disk=one"):
        ray_paxos.start(parse_configuration(pinned))
    resource = "cluster: few\nmembers: [{name: m1, resource: ssd}]\n"
    with pytest.raises(PlacementError, match="resource ssd"):
        ray_paxos.start(parse_configuration(resource))


def test_an_interrupted_first_start_is_finished(
    home: Path, stopped: list[ray_paxos.Cluster]
) -> None:
    configuration = parse_configuration("cluster: halfway\nmembers: [a, b]\nroles: fused\n")
    genesis = make_genesis(configuration)
    member = genesis.members[0]
    stage_member(LocalDisk(home / "halfway" / member.name), genesis, member.member_id)
    stopped.append(ray_paxos.start(configuration))
    assert stopped[0].status().cluster_id == genesis.cluster_id


# An emptied folder is played by default (test_checkpoints.py).
@pytest.mark.nightly
def test_a_lost_member_is_not_made_again(
    home: Path, stopped: list[ray_paxos.Cluster], caplog: pytest.LogCaptureFixture
) -> None:
    configuration = parse_configuration("cluster: lost\nmembers: [a, b, c]\n")
    first = ray_paxos.start(configuration)
    with first.client() as client:
        put(client, "x", b"1")
    first.stop()
    (home / "lost" / "b").rename(home / "b-is-lost")
    stopped.append(ray_paxos.start(configuration))
    assert "member b is missing: its directory is on no live node" in caplog.text
    assert not (home / "lost" / "b").exists()
    assert {role.phase for role in stopped[0].status().members[1].roles.values()} == {"gone"}
    with stopped[0].client() as client:
        assert dump(client, "x") == {"x": (b"1", 1)}
        put(client, "x", b"2")
    assert set(stopped[0].member_digests()) == {"a", "c"}
    stopped.pop().stop()
    (home / "lost" / "a").rename(home / "a-is-lost")
    with pytest.raises(BootstrapError, match=r"no majority of its members here \(a: .*; b: "):
        ray_paxos.start(configuration)


def test_an_address_where_nothing_listens() -> None:
    assert not is_listening("127.0.0.1:1")
    for address in ("nonsense", "ray://127.0.0.1:10001", "http://127.0.0.1:8265", "host:"):
        with pytest.raises(ClusterError, match="no address of a Ray cluster"):
            is_listening(address)
    assert is_listening(ray.get_runtime_context().gcs_address)
