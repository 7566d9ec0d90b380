"""What holds a command of a real cluster up is found at the hop where it was."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

import ray_paxos
from ray_paxos.cli.main import main
from ray_paxos.config import parse_configuration
from tests.ray.helpers import PATIENCE_S, holds_once, wait_for

TEXT = (
    "cluster: slowed\nmembers: 3\nroles: separate\nlogging: {level: WARNING}\n"
    "groups: [{group: 1, machines: {sleeper: 'tests.ray.slow_machine:Sleeper'}}]\n"
)
SLEPT_MS = 300
STOPPED_MS = 200


@pytest.fixture(scope="module")
def slowed(local_ray: None) -> Iterator[ray_paxos.Cluster]:
    """A cluster whose machine sleeps as long as it is told."""
    cluster = ray_paxos.start(parse_configuration(TEXT))
    yield cluster
    cluster.stop(delete_data=True)


@pytest.fixture
def client(slowed: ray_paxos.Cluster) -> Iterator[ray_paxos.Client]:
    with slowed.client(label="slow") as opened:
        yield opened


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["slow", "slowed", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def told(instance_id: int) -> dict[str, Any] | None:
    """What is remembered of an instance; None for nothing."""
    document = json.loads(run("--count", "1000", "--json"))
    found = [each for each in document["commands"] if each["instance_id"] == instance_id]
    assert len(found) <= 1
    return found[0] if found else None


def wait_for_told(instance_id: int) -> dict[str, Any]:
    found = wait_for(f"what is remembered of {instance_id}", lambda: told(instance_id))
    assert found is not None
    return found


def sleep_for(client: ray_paxos.Client, milliseconds: int) -> int:
    """Have the machine sleep; gives back the instance."""
    result = client.propose(b"%d" % milliseconds, "sleeper", timeout_s=PATIENCE_S)
    return result.instance_id


@contextlib.contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """These processes stand still meanwhile."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def role_pids(cluster: ray_paxos.Cluster, role: str) -> dict[str, int]:
    """Processes of a role, by member: each has one of its own."""
    pids = {}
    for (member, told_role), answer in cluster.reports().items():
        if told_role == role:
            assert not isinstance(answer, str), answer
            pids[member] = answer[0]["pid"]
    assert len(set(pids.values())) == 3
    return pids


def longest_hop(command: dict[str, Any]) -> str:
    hops = {name: command[name] for name in ("queue_ms", "accept_ms", "chosen_ms")}
    return max(hops, key=lambda name: hops[name])


def test_a_machine_that_is_slow(slowed: ray_paxos.Cluster, client: ray_paxos.Client) -> None:
    command = wait_for_told(sleep_for(client, SLEPT_MS))
    master = command["master"]
    assert command["machine"] == "sleeper"
    assert command["chosen_ms"] >= SLEPT_MS
    assert command["total_ms"] >= command["chosen_ms"]
    assert command["apply_ms"][master] >= SLEPT_MS
    assert command["culprit"].startswith(f"the machine sleeper of {master} took 3")
    lines = run("--group", "1", "--over", f"{SLEPT_MS}ms").splitlines()
    assert any(line.strip() == command["culprit"] for line in lines)


def test_acceptors_that_stand_still(slowed: ray_paxos.Cluster, client: ray_paxos.Client) -> None:
    sleep_for(client, 0)
    pids = role_pids(slowed, "acceptor")

    def is_found() -> bool:
        """Not where the machine that runs this stood still itself."""
        master = slowed.status().groups[-1].master
        others = {member: pid for member, pid in pids.items() if member != master}
        if len(others) != 2:
            return False
        with stopped(*others.values()):
            future = client.propose_async(b"0", "sleeper", timeout_s=PATIENCE_S)
            time.sleep(STOPPED_MS / 1_000)
        command = wait_for_told(future.result(PATIENCE_S).instance_id)
        late = command["votes"][-1]["member"]
        return (
            command["master"] == master
            and late in others
            and longest_hop(command) == "accept_ms"
            and command["accept_ms"] >= 0.7 * STOPPED_MS
            and late in command["culprit"].split(" answered after")[0]
        )

    assert holds_once(is_found)


def test_a_learner_that_stands_still(slowed: ray_paxos.Cluster, client: ray_paxos.Client) -> None:
    sleep_for(client, 0)
    pids = role_pids(slowed, "learner")

    def is_found() -> bool:
        master = slowed.status().groups[-1].master
        if master is None:
            return False
        with stopped(pids[master]):
            future = client.propose_async(b"0", "sleeper", timeout_s=PATIENCE_S)
            time.sleep(STOPPED_MS / 1_000)
        command = wait_for_told(future.result(PATIENCE_S).instance_id)
        return (
            command["master"] == master
            and longest_hop(command) == "chosen_ms"
            and command["culprit"].endswith("or its process stood still")
        )

    assert holds_once(is_found)


def test_what_was_fast_is_not_remembered(client: ray_paxos.Client) -> None:
    def is_forgotten() -> bool:
        return told(sleep_for(client, 0)) is None

    assert holds_once(is_forgotten)
    assert "are not remembered" in run("--over", "5ms")


def test_observing_that_is_switched_off_and_on(
    slowed: ray_paxos.Cluster, client: ray_paxos.Client
) -> None:
    assert observe("off") == "cluster slowed: m1, m2, m3 observe nothing from now on"
    before = commands_counted(slowed)
    for _ in range(5):
        sleep_for(client, 0)
    unseen = sleep_for(client, SLEPT_MS)
    assert commands_counted(slowed) == before
    assert "the cluster remembers nothing now" in run()
    assert told(unseen) is None
    assert observe("on") == "cluster slowed: m1, m2, m3 observe from now on"
    seen = sleep_for(client, SLEPT_MS)
    wait_for_told(seen)
    assert commands_counted(slowed) == before + 1
    assert "nothing now" not in run()
    assert told(unseen) is None


def observe(switch: str) -> str:
    """The first line of what is said."""
    result = CliRunner().invoke(main, ["observe", switch, "slowed"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()[0]


def commands_counted(cluster: ray_paxos.Cluster) -> int:
    """By all roles, of group 1."""
    answers = cluster.reports().values()
    reports = [answer[1] for answer in answers if not isinstance(answer, str)]
    assert len(reports) == 12
    return sum(each.counted.by_group.get("paxos_commands_total", {}).get(1, 0) for each in reports)


def test_a_cluster_that_does_not_run(local_ray: None) -> None:
    result = CliRunner().invoke(main, ["slow", "nobody"])
    assert result.exit_code == 1
    assert "nobody" in result.stderr
