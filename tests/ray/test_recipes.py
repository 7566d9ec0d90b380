"""Locks, elections, watches and replicated objects over real actors, which are killed meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import ray

import ray_paxos
from ray_paxos.actors.launching import actor_names
from ray_paxos.actors.names import NAMESPACE
from ray_paxos.config import parse_configuration
from ray_paxos.errors import (
    CompactedError,
    ConfigurationError,
    LeaseLostError,
    WaitTimeoutError,
)
from ray_paxos.machines import kv
from ray_paxos.recipes.election import Leader
from ray_paxos.recipes.lock import Lock
from tests.ray.helpers import PATIENCE_S, wait_for

TEXT = (
    "cluster: recipes\nmembers: 3\nroles: fused\ngroups: {count: 2, voters: 3}\n"
    "logging: {level: WARNING}\n"
)


@pytest.fixture(scope="module")
def served(local_ray: None) -> Iterator[ray_paxos.Cluster]:
    """A cluster of three members, with two groups."""
    started = ray_paxos.start(parse_configuration(TEXT))
    yield started
    started.stop(delete_data=True)


def kill_master(cluster: ray_paxos.Cluster, group: int) -> None:
    """Kill the process of the member that leads a group; Ray makes another."""
    master = cluster.master(group)
    assert master is not None
    for name in actor_names(cluster._spec, master.member):
        ray.kill(ray.get_actor(name, namespace=NAMESPACE), no_restart=False)


class Holder:
    """Holds a lock in a process of its own."""

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self._grant: Any = None

    def acquire(self) -> int:
        self._grant = self._lock.acquire()
        token: int = self._grant.token
        return token

    def state(self) -> tuple[bool, float]:
        return self._grant.is_held, self._grant.remaining_s

    def check(self) -> None:
        self._grant.check()

    def pid(self) -> int:
        return os.getpid()


@ray.remote
def add_under(lock: Lock, counter: Any, count: int) -> list[int]:
    """Read, add one, write: lost updates would show. Gives the tokens."""
    tokens = []
    for _ in range(count):
        with lock as grant:
            found = counter.get("sum")
            counter.put("sum", str(int(found.value) + 1 if found else 1).encode())
            tokens.append(grant.token)
    return tokens


def test_a_lock_excludes_processes_also_while_the_master_is_killed(
    served: ray_paxos.Cluster,
) -> None:
    lock, counter = served.lock("sum", ttl_s=30), served.kv("sums")
    counting = [add_under.remote(lock, counter, 20) for _ in range(3)]
    time.sleep(1.0)
    kill_master(served, lock.group)
    tokens = [token for each in ray.get(counting, timeout=PATIENCE_S) for token in each]
    found = counter.get("sum")
    assert found is not None
    assert int(found.value) == 60
    assert len(set(tokens)) == 60
    assert lock.look().holdings == {}


def test_a_holder_that_dies_is_followed_once_its_lease_is_over(served: ray_paxos.Cluster) -> None:
    lock = served.lock("short", ttl_s=2)
    holder: Any = ray.remote(Holder).remote(lock)
    token = ray.get(holder.acquire.remote(), timeout=PATIENCE_S)
    with pytest.raises(WaitTimeoutError, match="nothing is held"):
        lock.acquire(timeout_s=0.2)
    assert lock.look().line == {}
    # It is renewed for as long as its process lives.
    time.sleep(3.0)
    assert ray.get(holder.state.remote())[0]
    ray.kill(holder)
    with lock as grant:
        assert grant.token > token
        assert 0 < grant.remaining_s < 2
        grant.check()


def test_a_holder_that_stands_still_finds_its_lease_lost(served: ray_paxos.Cluster) -> None:
    lock = served.lock("stalled", ttl_s=2)
    holder: Any = ray.remote(Holder).remote(lock)
    token = ray.get(holder.acquire.remote(), timeout=PATIENCE_S)
    pid = ray.get(holder.pid.remote())
    os.kill(pid, signal.SIGSTOP)
    try:
        with lock as grant:
            assert grant.token > token
    finally:
        os.kill(pid, signal.SIGCONT)
    assert ray.get(holder.state.remote(), timeout=PATIENCE_S) == (False, 0.0)
    with pytest.raises(LeaseLostError, match="not known to be held"):
        ray.get(holder.check.remote())


def test_waiters_in_coroutines_take_their_turns_and_may_be_cancelled(
    served: ray_paxos.Cluster,
) -> None:
    lock = served.lock("turns")
    tokens: list[int] = []

    async def take_turn() -> None:
        async with lock as grant:
            tokens.append(grant.token)

    async def play() -> None:
        first = await lock.acquire_async()
        turns = [asyncio.create_task(take_turn()) for _ in range(50)]
        left = asyncio.create_task(take_turn())
        await asyncio.to_thread(wait_for, "a line", lambda: len(lock.look().line) == 51)
        left.cancel()
        await first.release_async()
        await asyncio.gather(*turns)
        with pytest.raises(asyncio.CancelledError):
            await left

    asyncio.run(play())
    assert tokens == sorted(tokens)
    assert len(tokens) == 50
    wait_for("nobody to be left", lambda: lock.look().holdings == {})
    assert lock.look().line == {}


def test_an_election_tells_who_leads_also_while_the_master_is_killed(
    served: ray_paxos.Cluster,
) -> None:
    election = served.election("boss", ttl_s=30)
    seen: list[Leader | None] = []
    with election.watch(seen.append):
        wait_for("a first word", lambda: seen == [None])
        with election.lead("ann") as ann:
            assert election.leader() == Leader("ann", ann.epoch)
            wait_for("ann to be seen", lambda: seen[-1] == Leader("ann", ann.epoch))
            led: list[Any] = []
            standing = threading.Thread(target=lambda: led.append(election.lead("bob")))
            standing.start()
            wait_for("bob to stand", lambda: len(election.look().line) == 1)
            kill_master(served, election.group)
        standing.join(PATIENCE_S)
        (bob,) = led
        assert bob.epoch > ann.epoch
        wait_for("bob to be seen", lambda: seen[-1] == Leader("bob", bob.epoch))
        bob.release()
        wait_for("nobody to be seen", lambda: seen[-1] is None)


def test_a_watch_misses_nothing_while_masters_are_killed(served: ray_paxos.Cluster) -> None:
    flags = served.kv("flags")
    flags.put("ui/0", b"there")
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            flags.put(f"ui/{number % 7}", str(number).encode(), timeout_s=PATIENCE_S)
            flags.put("other/key", b"x", timeout_s=PATIENCE_S)
            number += 1

    with flags.watch("ui/", initial=True) as watch:
        first = watch.next(PATIENCE_S)
        assert (first.key, first.value, first.version) == ("ui/0", b"there", 1)
        versions = {"ui/0": 1}
        writer = threading.Thread(target=write)
        writer.start()
        try:
            for number in range(1, 301):
                if number in (100, 200):
                    kill_master(served, number // 100)
                change = watch.next(PATIENCE_S)
                expected = versions.get(change.key, 0) + 1
                assert change.version == expected or change.is_after_gap
                versions[change.key] = change.version
        finally:
            stop.set()
            writer.join()
        for key in sorted(versions):
            while versions[key] < flags.read(key).version:
                change = watch.next(PATIENCE_S)
                versions[change.key] = change.version
        position = watch.position
    flags.put("ui/9", b"later")
    with flags.watch("ui/", position=position) as again:
        assert again.next(PATIENCE_S).key == "ui/9"


def test_a_watch_goes_on_from_an_instance_as_far_as_it_is_remembered(
    served: ray_paxos.Cluster,
) -> None:
    jobs = served.kv("jobs", groups=[1])
    with jobs.watch() as watch:
        written = jobs._client("a").propose(kv.encode_put(jobs._inner("a"), b"1"))
        jobs.put("b", b"2")
        assert [watch.next(PATIENCE_S).key for _ in range(2)] == ["a", "b"]
    with jobs.watch(from_instance_id=written.instance_id) as again:
        assert [again.next(PATIENCE_S).key for _ in range(2)] == ["a", "b"]
    with jobs.watch(from_instance_id=1) as older, pytest.raises(CompactedError, match="remembers"):
        older.next(PATIENCE_S)
    for wrong in (0, -1, True, "1"):
        with pytest.raises(ConfigurationError, match="from_instance_id"):
            jobs.watch(from_instance_id=wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="spread over 2 groups"):
        served.kv("flags").watch(from_instance_id=1)


class Tally(ray_paxos.Replicated):
    """Counts by name."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    @ray_paxos.command
    def add(self, name: str, amount: int = 1) -> int:
        if amount < 0:
            raise ValueError("a tally does not fall")
        self._counts[name] = self._counts.get(name, 0) + amount
        return self._counts[name]

    @ray_paxos.query
    def count(self, name: str) -> int:
        return self._counts.get(name, 0)


def test_an_object_is_replicated_for_drivers_and_tasks(served: ray_paxos.Cluster) -> None:
    tally = served.replicated(Tally, "votes")
    assert tally.add("a") == 1
    with pytest.raises(ValueError, match="does not fall"):
        tally.add("a", -1)

    @ray.remote
    def vote(tally: Tally, count: int) -> None:
        for _ in range(count):
            tally.add("a")

    voting = [vote.remote(tally, 20) for _ in range(3)]
    kill_master(served, 1)
    ray.get(voting, timeout=PATIENCE_S)
    assert tally.count("a") == 61
    assert served.replicated(Tally, "votes").count("a") == 61
    assert asyncio.run(_add(tally)) == 62


async def _add(tally: Tally) -> int:
    added: int = await tally.add.asynchronously("a")
    return added


def test_a_registry_tells_who_is_there(served: ray_paxos.Cluster) -> None:
    workers = served.registry("workers", ttl_s=2)
    with workers.watch() as watch:
        first = workers.register("w1", b"one")
        assert watch.next(PATIENCE_S) == {"w1": b"one"}
        lost = threading.Event()
        second = workers.register("w2", b"two", on_lost=lost.set)
        assert watch.next(PATIENCE_S) == {"w1": b"one", "w2": b"two"}
        # They are renewed.
        time.sleep(3.0)
        assert workers.entries() == {"w1": b"one", "w2": b"two"}
        assert first.is_held
        with workers.register("w2", b"another"):
            assert lost.wait(PATIENCE_S)
            assert not second.is_held
            second.end()
            assert workers.entries() == {"w1": b"one", "w2": b"another"}
        # Of a process that is gone.
        first._lease.end()
        wait_for("its end", lambda: workers.entries() == {})
        while watch.next(PATIENCE_S):
            pass
    with pytest.raises(WaitTimeoutError), workers.watch() as watch:
        watch.next(0.1)
