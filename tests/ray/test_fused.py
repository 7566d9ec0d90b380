"""What is special about `roles: fused`: one actor a member, and all that lives and dies with it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import ray

import ray_paxos
from ray_paxos.actors.addressed import encode_addressed
from ray_paxos.actors.launching import live_actor_names
from ray_paxos.actors.line_exchange import REPLY_TIMEOUT_S
from ray_paxos.actors.names import NAMESPACE
from ray_paxos.actors.proposer import CLIENT_THREADS
from ray_paxos.actors.proposer_shell import WATCHERS_MAX
from ray_paxos.config import parse_configuration
from ray_paxos.core.wire import encode_envelopes
from ray_paxos.errors import ConfigurationError
from tests.ray.helpers import PATIENCE_S, dump, put, read, version, wait_for
from tests.ray.test_kills import Load, check_agreement, master_of, roles_of, wait_until_all_serve

CONFIGURATION = "cluster: one-each\nmembers: 3\nroles: fused\nlogging: {level: WARNING}\n"
NOTHING = encode_envelopes(())


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


def test_all_roles_of_a_member_are_switched_off_and_on(
    fused: ray_paxos.Cluster, fused_client: ray_paxos.Client
) -> None:
    def counted() -> tuple[int, set[bool]]:
        """Commands of group 1, and whether roles observe."""
        reports = [each[1] for each in fused.reports().values() if not isinstance(each, str)]
        commands = [each.counted.by_group.get("paxos_commands_total", {}) for each in reports]
        assert len(reports) == 12
        return sum(each.get(1, 0) for each in commands), {each.is_observing for each in reports}

    assert fused.operations.observe(False) == ("m1", "m2", "m3")
    before = counted()
    put(fused_client, "unseen", b"1")
    assert counted() == before
    assert before[1] == {False}
    assert fused.operations.observe(True) == ("m1", "m2", "m3")
    put(fused_client, "seen", b"1")
    wait_for("it is counted", lambda: counted() == (before[0] + 1, {True}))


def test_it_is_not_started_with_separate_roles_while_it_runs(fused: ray_paxos.Cluster) -> None:
    separate = parse_configuration(CONFIGURATION.replace("fused", "separate"))
    with pytest.raises(ConfigurationError, match="roles: found separate; cluster one-each runs"):
        ray_paxos.start(separate)
    # Also where it does not run whole.
    fused_actor = ray.get_actor("one-each/m3/member", namespace="ray_paxos")
    ray.kill(fused_actor, no_restart=True)
    wait_for("it is gone", lambda: "one-each/m3/member" not in live_actor_names("one-each"))
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
    text = "cluster: rearranged\nmembers: 1\nlogging: {level: WARNING}\nroles: "
    cluster = ray_paxos.start(parse_configuration(text + before))
    with cluster.client() as client:
        put(client, "kept", b"1")
    cluster.stop()
    cluster = ray_paxos.start(parse_configuration(text + after))
    with cluster.client() as client:
        assert version(put(client, "kept", b"2").value) == 2
        assert dump(client, "kept") == {"kept": (b"2", 2)}
    cluster.stop(delete_data=True)


def test_clients_and_watchers_that_take_all_threads_hold_up_nobody(
    fused: ray_paxos.Cluster, fused_client: ray_paxos.Client
) -> None:
    """What members have for each other, and every other kind of call, is answered meanwhile.

    How fast the machine is does not matter: each call here needs a thread and nothing else.
    """
    wait_until_all_serve(fused)
    put(fused_client, "crowd", b"0")
    for name in fused.members:
        actor = ray.get_actor(f"one-each/{name}/member", namespace=NAMESPACE)
        crowd = take_all_threads(actor)
        one_more = actor.submit.remote(NOTHING)
        for _ in range(5):
            others = [
                actor.deliver.remote(encode_addressed(())),
                actor.query.remote(NOTHING),
                actor.read.remote(NOTHING),
                actor.watch_master.remote(1, 0, 0.0),
                actor.ask.remote("learner", "digest", 1),
            ]
            ray.get(others, timeout=PATIENCE_S)
        answered, _ = ray.wait([*crowd, one_more], timeout=0)
        assert not answered, "those that hold the threads, and one that needs no more than one"
    # Who waits for one of these threads is served once there is one.
    assert version(put(fused_client, "crowd", b"1").value) == 2


def take_all_threads(actor: Any) -> list[Any]:
    """Calls of lines that ask nothing and wait for answers, and of watchers of masters to come."""
    lines = [actor.exchange.remote(10**6 + line, NOTHING) for line in range(CLIENT_THREADS)]
    known = 1 << 62
    watchers = range(WATCHERS_MAX)
    return lines + [actor.watch_master.remote(1, known, REPLY_TIMEOUT_S) for _ in watchers]
