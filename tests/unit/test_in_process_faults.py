"""Members of an in-process cluster crash, are cut off, and come back."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.actors.outcomes import Result
from ray_paxos.testing.in_process import InProcessCluster
from ray_paxos.testing.in_process_client import InProcessClient
from tests.unit.in_process_machines import Notes, all_notes


@pytest.fixture
def cluster() -> InProcessCluster:
    return InProcessCluster({"notes": Notes})


@pytest.fixture
def client(cluster: InProcessCluster) -> InProcessClient:
    return cluster.client()


# Faults.


def test_the_others_go_on_without_the_master(
    cluster: InProcessCluster, client: InProcessClient
) -> None:
    client.propose(b"a")
    master = cluster.master
    assert master is not None
    cluster.crash(master)
    assert client.propose(b"b").value == b"2"
    assert cluster.master not in (None, master)
    cluster.restart(master)
    cluster.check()
    machine = cluster.machine(member=master)
    assert isinstance(machine, Notes)
    assert machine.notes == [b"a", b"b"]


def test_a_master_that_is_cut_off_is_replaced(
    cluster: InProcessCluster, client: InProcessClient
) -> None:
    client.propose(b"a")
    master = cluster.master
    assert master is not None
    cluster.partition(master)
    assert client.propose(b"b").value == b"2"
    cluster.check()  # also while one member is behind
    held = cluster.machine(member=master)
    assert isinstance(held, Notes)
    assert held.notes == [b"a"]
    cluster.heal()
    cluster.check()
    held = cluster.machine(member=master)
    assert isinstance(held, Notes)
    assert held.notes == [b"a", b"b"]


@pytest.mark.parametrize("member", ["A", "B", "C"])
def test_no_crash_at_any_time_loses_what_was_acknowledged(member: str) -> None:
    situations = set()
    for step in range(20):
        cluster = InProcessCluster({"notes": Notes}, seed=step)
        client = cluster.client()
        cluster.crash(member, after_s=step * 0.000_2)
        futures = [client.propose_async(b"%d" % n) for n in range(3)]
        acknowledged = [b"%d" % n for n, each in enumerate(futures) if each.result().value]
        assert len(acknowledged) == 3
        situations.add(cluster.master == member)
        for each in cluster.members:
            cluster.crash(each)
        cluster.restart()
        assert all_notes(client) == acknowledged
        cluster.check(in_other_processes=False)
    assert False in situations


def test_a_crash_may_come_in_the_middle(cluster: InProcessCluster, client: InProcessClient) -> None:
    client.propose(b"a")
    master = cluster.master
    assert master is not None
    cluster.crash(master, after_s=0.5)
    assert client.propose(b"b").value == b"2"
    assert cluster.master == master
    cluster.advance(0.5)
    assert cluster.master is None
    assert master not in repr(cluster).replace(f"{master} (down)", "")


def test_members_go_on_from_checkpoints(cluster: InProcessCluster, client: InProcessClient) -> None:
    client.propose_many([b"%d" % n for n in range(50)])
    before_s = cluster.now_s
    made = cluster.checkpoint()
    assert cluster.now_s - before_s < 0.5, "nobody waits until segments are sealed by their age"
    assert set(made) == set(cluster.members)
    assert len(set(made.values())) == 1
    client.propose(b"later")
    loads: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Notes, "load", _noting(Notes.load, loads))
        cluster.restart_from_checkpoint()
    assert len(loads) >= 3
    assert all_notes(client) == [*(b"%d" % n for n in range(50)), b"later"]
    assert client.propose(b"x").value == b"52"
    cluster.check()


def _noting(load: Any, loads: list[int]) -> Any:
    def noted(machine: Notes, directory: Any) -> None:
        load(machine, directory)
        loads.append(len(machine.notes))

    return noted


# The same again.


def play(seed: int) -> tuple[str, list[bytes]]:
    cluster = InProcessCluster({"notes": Notes}, seed=seed)
    client = cluster.client()
    client.propose(b"a")
    cluster.crash("B", after_s=0.001)
    client.propose_many([b"b", b"c"])
    cluster.restart()
    cluster.partition("A")
    client.propose(b"d")
    cluster.heal()
    cluster.check(in_other_processes=False)
    return cluster.trace_digest, all_notes(client)


def test_one_seed_always_does_the_same() -> None:
    runs = {seed: play(seed) for seed in (0, 1)}
    assert runs == {seed: play(seed) for seed in (0, 1)}
    assert runs[0][0] != runs[1][0]
    assert runs[0][1] == runs[1][1] == [b"a", b"b", b"c", b"d"]


def test_one_seed_does_the_same_in_every_process() -> None:
    program = "from tests.unit.test_in_process_faults import play\nprint(play(3)[0])\n"
    traces = set()
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        )
        traces.add(done.stdout)
    assert traces == {play(3)[0] + "\n"}


def test_the_trace_can_be_read() -> None:
    lines: list[str] = []
    InProcessCluster({"notes": Notes}, line=lines.append)
    assert any("A.learner" in line for line in lines)


# Any schedule.

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("propose"), st.integers(1, 3)),
        st.tuples(st.just("crash"), st.sampled_from("ABC")),
        st.tuples(st.just("crash later"), st.tuples(st.sampled_from("ABC"), st.integers(1, 30))),
        st.tuples(st.just("restart"), st.none()),
        st.tuples(st.just("partition"), st.sampled_from(["A", "B", "C"])),
        st.tuples(st.just("heal"), st.none()),
        st.tuples(st.just("advance"), st.integers(1, 4)),
        st.tuples(st.just("checkpoint"), st.none()),
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None, database=None)
@given(seed=st.integers(0, 1_000), steps=STEPS)
def test_whatever_happens_commands_are_applied_once_in_their_order(
    seed: int, steps: list[tuple[str, Any]]
) -> None:
    cluster = InProcessCluster({"notes": Notes}, seed=seed)
    client = cluster.client()
    futures: list[Future[Result]] = []
    for kind, argument in steps:
        match kind:
            case "propose":
                futures += [
                    client.propose_async(b"%d" % (len(futures) + n), timeout_s=600)
                    for n in range(argument)
                ]
            case "crash":
                cluster.crash(argument)
            case "crash later":
                cluster.crash(argument[0], after_s=argument[1] / 10_000)
            case "restart":
                cluster.restart()
            case "partition":
                cluster.partition(argument)
            case "heal":
                cluster.heal()
            case "advance":
                cluster.advance(argument)
            case "checkpoint":
                cluster.restart()
                cluster.heal()
                cluster.advance(5)
                cluster.restart_from_checkpoint()
    cluster.heal()
    cluster.restart()
    assert [each.result().value for each in futures] == [
        b"%d" % (n + 1) for n in range(len(futures))
    ]
    assert all_notes(client) == [b"%d" % n for n in range(len(futures))]
    cluster.check(in_other_processes=False)
