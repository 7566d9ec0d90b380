"""Who leads: asked, watched, handed over, and replaced when it dies."""

from __future__ import annotations

import itertools
import os
import signal
import statistics
import threading
import time
from collections.abc import Iterator

import pytest

import ray_paxos
from ray_paxos.actors.masters import Master
from ray_paxos.config import parse_configuration
from ray_paxos.errors import ConfigurationError, TransferError
from ray_paxos.machines import kv
from tests.ray.helpers import PATIENCE_S, put, read, wait_for
from tests.ray.test_kills import wait_until_all_serve

pytestmark = pytest.mark.fused_by_default

# The defaults.
LEASE_S = 2.0
ELECTION_TIMEOUT_S = 1.0
UNDER_WAY = 20
"""Acknowledged commands before something happens to the master, and again after it."""
CONFIGURATION = "cluster: masters\nmembers: 3\nlogging: {level: WARNING}\n"


@pytest.fixture(scope="module")
def led(local_ray: None, arrangement: str) -> Iterator[ray_paxos.Cluster]:
    """A cluster whose masters these tests move and kill."""
    text = f"{CONFIGURATION}roles: {arrangement}\n"
    started = ray_paxos.start(parse_configuration(text))
    yield started
    started.stop(delete_data=True)


class Gaps:
    """Writes one command after the other, and keeps the times of the acknowledgements."""

    def __init__(self, cluster: ray_paxos.Cluster) -> None:
        self.client = cluster.client(label="gaps")
        self.acknowledged = [time.monotonic()]
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        put(self.client, "gaps", b"first")
        self.thread.start()

    def run(self) -> None:
        number = 0
        while not self.stopping.is_set():
            number += 1
            self.client.propose(kv.encode_put("gaps", b"%d" % number), timeout_s=PATIENCE_S)
            self.acknowledged.append(time.monotonic())

    def __enter__(self) -> Gaps:
        self.go_on()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on()
        self.stopping.set()
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()
        self.client.close()

    def go_on(self) -> None:
        """Wait for some more acknowledgements."""
        wanted = len(self.acknowledged) + UNDER_WAY
        wait_for("writes go on", lambda: len(self.acknowledged) >= wanted)

    @property
    def waited_s(self) -> float:
        """The longest gap, without what so many messages take on this machine, now.

        A command takes four; a handover some ten more, on a machine that may be busy with it.
        """
        pairs = itertools.pairwise(self.acknowledged)
        gaps = [later - earlier for earlier, later in pairs]
        return max(gaps) - 10 * statistics.median(gaps)


def other_than(cluster: ray_paxos.Cluster, *names: str) -> str:
    return next(name for name in cluster.members if name not in names)


def settled(cluster: ray_paxos.Cluster) -> Master:
    """The master, once a command of ours went through it."""
    with cluster.client() as client:
        put(client, "settled", b"1")
    master = cluster.master()
    assert master is not None
    return master


def test_a_transfer_moves_the_lead_and_interrupts_writes_only_briefly(
    led: ray_paxos.Cluster,
) -> None:
    before = settled(led)
    gaps = []
    for _ in range(3):
        target = other_than(led, before.member)
        with Gaps(led) as load:
            led.transfer_master(target)
            after = led.wait_for_master(after_version=before.version, timeout_s=PATIENCE_S)
        assert after is not None
        assert after.member == target
        assert after.version > before.version
        gaps.append(load.waited_s)
        before = after
    # Nobody waits for a timeout. The best of three, since tests share their machine.
    assert min(gaps) < ELECTION_TIMEOUT_S / 2, gaps


def test_transferring_to_the_master_changes_nothing(led: ray_paxos.Cluster) -> None:
    before = settled(led)
    led.transfer_master(before.member)
    assert settled(led) == before


def test_a_master_that_is_dropped_leaves_the_lead_to_another(led: ray_paxos.Cluster) -> None:
    before = settled(led)
    successor = led.drop_master()
    after = led.wait_for_master(after_version=before.version, timeout_s=PATIENCE_S)
    assert after is not None
    assert after.member == successor != before.member
    with led.client() as client:
        put(client, "dropped", b"1")
        assert read(client, "dropped", "lease").value == b"1"


def test_a_member_that_does_not_answer_is_not_handed_the_lead(led: ray_paxos.Cluster) -> None:
    before = settled(led)
    target = other_than(led, before.member)
    learner = next(m for m in led.status().members if m.name == target).roles["learner"].pid
    os.kill(learner, signal.SIGSTOP)
    try:
        time.sleep(1.5)
        with pytest.raises(TransferError, match="does not answer"):
            led.transfer_master(target)
        with led.client() as client:
            put(client, "refused", b"1")
    finally:
        os.kill(learner, signal.SIGCONT)
    assert settled(led).version == before.version
    hand_over_once_heard(led, target)
    with pytest.raises(ConfigurationError, match="member: found 'm9'"):
        led.transfer_master("m9")


def hand_over_once_heard(led: ray_paxos.Cluster, target: str) -> None:
    """The master has to hear first of a member that stood still, or was busy for a moment."""

    def is_taken() -> bool:
        try:
            led.transfer_master(target)
        except TransferError:
            return False
        return True

    wait_for(f"{target} is handed the lead", is_taken)


def test_watchers_hear_of_every_master(led: ray_paxos.Cluster) -> None:
    heard: list[Master] = []
    changed = threading.Condition()

    def note(master: Master) -> None:
        with changed:
            heard.append(master)
            changed.notify_all()
        if len(heard) == 1:
            raise ValueError("a callback that fails")

    before = settled(led)
    with led.watch_master(note), changed:
        assert changed.wait_for(lambda: before in heard, PATIENCE_S)
        hand_over_once_heard(led, other_than(led, before.member))
        assert changed.wait_for(lambda: len(heard) >= 2, PATIENCE_S)
    assert [m.version for m in heard] == sorted({m.version for m in heard})


def test_a_killed_master_is_replaced_within_two_lease_times(led: ray_paxos.Cluster) -> None:
    gaps = []
    for _ in range(2):
        before = settled(led)
        roles = next(m for m in led.status().members if m.name == before.member).roles
        with Gaps(led) as load:
            for pid in {role.pid for role in roles.values()}:
                os.kill(pid, signal.SIGKILL)
            after = led.wait_for_master(after_version=before.version, timeout_s=PATIENCE_S)
        assert after is not None
        gaps.append(load.waited_s)
        wait_until_all_serve(led)
    assert min(gaps) < 2 * LEASE_S, gaps
