"""What is special about `roles: fused`: one actor a member, and all that lives and dies with it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest
import ray

import ray_paxos
from ray_paxos.actors.launching import live_actor_names
from ray_paxos.config import parse_configuration
from ray_paxos.errors import ConfigurationError
from ray_paxos.machines import kv
from tests.ray.helpers import dump, put, read, version
from tests.ray.test_kills import Load, check_agreement, master_of, roles_of, wait_until_all_serve

CONFIGURATION = "cluster: one-each\nmembers: 3\nroles: fused\nlogging: {level: WARNING}\n"
CLIENTS = 120
WATCHERS = 100


@pytest.fixture(scope="module")
def fused(local_ray: None) -> Iterator[ray_paxos.Cluster]:
    """A fused cluster, whatever the others here play."""
    started = ray_paxos.start(parse_configuration(CONFIGURATION))
    yield started
    started.stop(delete_data=True)


@pytest.fixture
def fused_client(fused: ray_paxos.Cluster) -> Iterator[ray_paxos.Client]:
    with fused.client(label="test") as opened:
        yield opened


def test_a_member_is_one_actor(fused: ray_paxos.Cluster, fused_client: ray_paxos.Client) -> None:
    put(fused_client, "one", b"1")
    assert live_actor_names("one-each") == {f"one-each/m{n}/member" for n in (1, 2, 3)}
    for member in fused.status().members:
        assert len({role.pid for role in member.roles.values()}) == 1
        assert {role.phase for role in member.roles.values()} == {"serving"}
        assert {role.incarnation for role in member.roles.values()} == {1}
        assert member.roles["learner"].groups is not None
    assert set(fused.checkpoint()) == {"m1", "m2", "m3"}


def test_connect_learns_that_it_is_fused(
    fused: ray_paxos.Cluster, fused_client: ray_paxos.Client
) -> None:
    put(fused_client, "connected", b"1")
    with ray_paxos.connect("one-each").client() as other:
        assert read(other, "connected").value == b"1"
        assert version(put(other, "connected", b"2").value) == 2

    def work() -> bytes | None:
        with ray_paxos.connect("one-each").client() as own:
            return read(own, "connected").value

    assert ray.get(ray.remote(num_cpus=0)(work).remote()) == b"2"


def test_it_is_not_started_with_separate_roles_while_it_runs(fused: ray_paxos.Cluster) -> None:
    separate = parse_configuration(CONFIGURATION.replace("fused", "separate"))
    with pytest.raises(ConfigurationError, match="roles: found separate; cluster one-each runs"):
        ray_paxos.start(separate)
    # Also where it does not run whole.
    fused_actor = ray.get_actor("one-each/m3/member", namespace="ray_paxos")
    ray.kill(fused_actor, no_restart=True)
    deadline = time.monotonic() + 20
    while "one-each/m3/member" in live_actor_names("one-each"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.raises(ConfigurationError, match="runs with roles fused"):
        ray_paxos.start(separate)
    assert not [name for name in live_actor_names("one-each") if not name.endswith("/member")]
    again = ray_paxos.start(parse_configuration(CONFIGURATION))
    assert again.was_running
    wait_until_all_serve(again)


def test_members_are_killed_one_after_the_other_under_load(
    fused: ray_paxos.Cluster, fused_client: ray_paxos.Client
) -> None:
    load = Load(fused_client)
    try:
        for _ in range(3):
            master = master_of(fused)
            (pid,) = set(roles_of(fused, master).values())
            load.go_on()
            os.kill(pid, signal.SIGKILL)
            load.go_on()
            wait_until_all_serve(fused)
            assert set(roles_of(fused, master).values()) != {pid}
    finally:
        load.stop()
    check_agreement(fused)
    load.check()


@pytest.mark.parametrize(
    ("before", "after"),
    [("fused", "separate"), pytest.param("separate", "fused", marks=pytest.mark.nightly)],
)
def test_the_roles_may_change_while_it_is_stopped(local_ray: None, before: str, after: str) -> None:
    text = "cluster: changing\nmembers: 3\nlogging: {level: WARNING}\nroles: "
    cluster = ray_paxos.start(parse_configuration(text + before))
    with cluster.client() as client:
        put(client, "kept", b"1")
    cluster.stop()
    cluster = ray_paxos.start(parse_configuration(text + after))
    with cluster.client() as client:
        assert version(put(client, "kept", b"2").value) == 2
        assert dump(client, "kept") == {"kept": (b"2", 2)}
    cluster.stop(delete_data=True)


def test_watchers_and_many_clients_starve_no_peer(
    fused: ray_paxos.Cluster, fused_client: ray_paxos.Client
) -> None:
    """More of both than there are threads for: the master stays, and everybody is answered."""
    put(fused_client, "crowd", b"0")
    before = fused.wait_for_master(timeout_s=20.0)
    assert before is not None
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            fused.wait_for_master(after_version=before.version, timeout_s=2.0)

    watchers = [threading.Thread(target=watch, daemon=True) for _ in range(WATCHERS)]
    clients = [fused.client(label=f"crowd {number}") for number in range(CLIENTS)]
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for n in range(5):
                clients[number].propose(kv.encode_put(f"crowd/{number}", b"%d" % n), timeout_s=60.0)
        except BaseException as error:  # told to the test, which has to fail
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(CLIENTS)]
    for thread in (*watchers, *threads):
        thread.start()
    try:
        # Who leads is known at once, also to one more: it is asked without waiting.
        assert fused.master() == before
        for thread in threads:
            thread.join()
    finally:
        over.set()
        for thread in watchers:
            thread.join()
        for client in clients:
            client.close()
    assert failures == []
    found = dump(fused_client, "crowd/")
    assert found == {f"crowd/{number}": (b"4", 5) for number in range(CLIENTS)}
    assert fused.master() == before, "no peer waited so long that the lead was lost"
