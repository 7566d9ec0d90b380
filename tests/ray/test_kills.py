"""kill -9 of real processes while commands flow: nothing acknowledged is lost or applied twice."""

from __future__ import annotations

import functools
import itertools
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

import ray_paxos
from ray_paxos.config import ClusterConfiguration
from ray_paxos.machines import kv
from tests.ray.helpers import PATIENCE_S, dump, end_member, put, version, wait_for

ROLES = ("proposer", "acceptor", "learner", "checkpointer")
UNDER_WAY = 200
"""Acknowledged commands before a fault, and again after it."""

_prefixes = itertools.count()


class Load:
    """Writes each key once, with some in flight, until it is told to stop."""

    def __init__(self, client: ray_paxos.Client) -> None:
        self.client = client
        self.prefix = f"load{next(_prefixes)}/"
        self.acknowledged: dict[str, ray_paxos.Result] = {}
        self.failure: Exception | None = None
        self.changed = threading.Condition()
        self.stopping = threading.Event()
        self.window = threading.Semaphore(50)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        for number in itertools.count():
            self.window.acquire()
            if self.stopping.is_set():
                return
            key = f"{self.prefix}{number:06d}"
            future = self.client.propose_async(kv.encode_put(key, b"v"), timeout_s=PATIENCE_S)
            future.add_done_callback(functools.partial(self.note, key))

    def note(self, key: str, done: Future[ray_paxos.Result]) -> None:
        with self.changed:
            error = done.exception()
            if error is None:
                self.acknowledged[key] = done.result()
            else:
                self.failure = error if isinstance(error, Exception) else Exception(error)
            self.changed.notify_all()
        self.window.release()

    def go_on(self, count: int = UNDER_WAY) -> None:
        """Wait until so many more commands are acknowledged."""
        with self.changed:
            wanted = len(self.acknowledged) + count
            done = self.changed.wait_for(
                lambda: self.failure is not None or len(self.acknowledged) >= wanted, PATIENCE_S
            )
        assert self.failure is None, self.failure
        assert done, f"no progress within {PATIENCE_S:g} s"

    def stop(self) -> None:
        self.stopping.set()
        self.window.release()
        self.thread.join()

    def check(self) -> None:
        """Everything acknowledged is there, once."""
        found = dump(self.client, self.prefix)
        missing = self.acknowledged.keys() - found.keys()
        assert not missing, f"{len(missing)} acknowledged commands are lost: {sorted(missing)[:5]}"
        twice = [key for key, (_, times) in found.items() if times != 1]
        assert not twice, f"applied twice: {twice[:5]}"
        assert all(version(result.value) == 1 for result in self.acknowledged.values())


@pytest.fixture
def load(client: ray_paxos.Client) -> Iterator[Load]:
    running = Load(client)
    yield running
    running.stop()


def roles_of(cluster: ray_paxos.Cluster, member: str) -> dict[str, int]:
    """Process ids of a member's roles."""
    (status,) = (m for m in cluster.status().members if m.name == member)
    pids = {name: role.pid for name, role in status.roles.items()}
    assert 0 not in pids.values(), status
    return pids


def master_of(cluster: ray_paxos.Cluster) -> str:
    def known() -> str:
        (group,) = (g for g in cluster.status().groups if g.group == 1)
        return group.master or ""

    return wait_for("a master", known)


def wait_until_all_serve(cluster: ray_paxos.Cluster) -> None:
    def phases() -> set[str]:
        members = cluster.status().members
        return {role.phase for member in members for role in member.roles.values()}

    wait_for("all roles serve", lambda: phases() == {"serving"})


def check_agreement(cluster: ray_paxos.Cluster) -> None:
    digests = cluster.member_digests()
    assert set(digests) == set(cluster.members)
    assert len(set(digests.values())) == 1, digests


@pytest.mark.parametrize("roles", [*((role,) for role in ROLES), ROLES], ids="+".join)
def test_roles_of_the_master_are_killed(
    cluster: ray_paxos.Cluster, load: Load, arrangement: str, roles: tuple[str, ...]
) -> None:
    if arrangement == "fused" and roles != ROLES:
        pytest.skip("all four are one process")
    master = master_of(cluster)
    pids = roles_of(cluster, master)
    load.go_on()
    for pid in {pids[role] for role in roles}:
        os.kill(pid, signal.SIGKILL)
    load.go_on()
    wait_until_all_serve(cluster)
    load.go_on()
    load.stop()
    assert not set(pids[role] for role in roles) & set(roles_of(cluster, master).values())
    check_agreement(cluster)
    load.check()


@pytest.mark.for_both_roles
def test_a_follower_member_is_killed_and_catches_up(cluster: ray_paxos.Cluster, load: Load) -> None:
    master = master_of(cluster)
    follower = next(name for name in cluster.members if name != master)
    load.go_on()
    for pid in set(roles_of(cluster, follower).values()):
        os.kill(pid, signal.SIGKILL)
    load.go_on(2_000)
    wait_until_all_serve(cluster)
    load.stop()
    check_agreement(cluster)
    load.check()


@pytest.mark.for_both_roles
def test_everything_is_killed_at_once_and_comes_back_by_itself(
    cluster: ray_paxos.Cluster, load: Load
) -> None:
    load.go_on()
    pids = {pid for name in cluster.members for pid in roles_of(cluster, name).values()}
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    load.go_on()
    wait_until_all_serve(cluster)
    load.stop()
    check_agreement(cluster)
    load.check()


def test_a_stopped_process_holds_nobody_up(cluster: ray_paxos.Cluster, load: Load) -> None:
    """SIGSTOP of a follower's learner and acceptor, then SIGCONT."""
    master = master_of(cluster)
    follower = next(name for name in cluster.members if name != master)
    pids = roles_of(cluster, follower)
    paused = {pids["learner"], pids["acceptor"]}
    load.go_on()
    try:
        for pid in paused:
            os.kill(pid, signal.SIGSTOP)
        load.go_on(1_000)
    finally:
        for pid in paused:
            os.kill(pid, signal.SIGCONT)
    load.go_on()
    load.stop()
    check_agreement(cluster)
    load.check()


def test_actors_that_are_gone_for_good_are_made_again_by_start(
    cluster: ray_paxos.Cluster, configuration: ClusterConfiguration, load: Load
) -> None:
    load.go_on()
    end_member(cluster, "m2")
    load.go_on()
    again = ray_paxos.start(configuration)
    assert again.was_running
    wait_until_all_serve(again)
    load.stop()
    check_agreement(again)
    load.check()


def test_what_was_stopped_starts_again_with_everything(
    cluster: ray_paxos.Cluster, configuration: ClusterConfiguration, client: ray_paxos.Client
) -> None:
    put(client, "kept", b"1")
    incarnations = [m.roles["acceptor"].incarnation for m in cluster.status().members]
    identity = cluster.status().cluster_id
    cluster.stop()
    again = ray_paxos.start(configuration)
    assert not again.was_running
    assert again.status().cluster_id == identity
    later = [m.roles["acceptor"].incarnation for m in again.status().members]
    assert later == [incarnation + 1 for incarnation in incarnations]
    with again.client() as reader:
        assert dump(reader, "kept") == {"kept": (b"1", 1)}
    check_agreement(again)
    # The client of before goes on in its session, with the actors that have taken the names.
    assert version(put(client, "kept", b"2").value) == 2
