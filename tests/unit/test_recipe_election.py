"""Elections, over a real machine in this process."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from ray_paxos.errors import (
    ClientClosedError,
    NoMasterError,
    PaxosError,
    WaitTimeoutError,
)
from ray_paxos.machines import permits
from ray_paxos.recipes.election import ElectionWatch, Leader
from tests.unit.recipe_bench import Bench, PlayedCluster, in_thread, set_up


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return set_up(monkeypatch)


@pytest.fixture
def cluster(bench: Bench) -> PlayedCluster:
    return PlayedCluster(bench)


def test_one_leads_and_epochs_rise(bench: Bench, cluster: PlayedCluster) -> None:
    election = cluster.election("boss")
    assert election.leader() is None
    with election.lead("ann") as lead:
        assert election.leader() == Leader("ann", lead.epoch)
        assert f"epoch={lead.epoch}" in repr(lead)
        with pytest.raises(WaitTimeoutError, match="stands no more"):
            election.lead("bob", timeout_s=0)
        bob = in_thread(lambda: election.lead("b/ob"))
        bench.until(lambda: bench.waiting == 1)

        async def cancelled() -> None:
            task = asyncio.create_task(election.lead_async("cy"))
            await bench.until_async(lambda: bench.waiting == 2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(cancelled())
    later = bob.result(10)
    assert later.epoch > lead.epoch
    assert asyncio.run(election.leader_async()) == Leader("b/ob", later.epoch)
    later.release()
    assert election.leader() is None


def test_changes_are_waited_for(bench: Bench, cluster: PlayedCluster) -> None:
    election = cluster.election("boss")
    change = in_thread(lambda: election.wait_for_change(None))
    bench.until(lambda: bench.waiting == 1)
    lead = election.lead("ann")
    ann = Leader("ann", lead.epoch)
    assert change.result(10) == ann
    change = in_thread(lambda: asyncio.run(election.wait_for_change_async(ann, timeout_s=50)))
    bench.until(lambda: bench.waiting == 1)
    lead.release()
    assert change.result(10) is None
    change = in_thread(lambda: election.wait_for_change(None, timeout_s=50))
    bench.until(lambda: bench.waiting == 1)
    bench.advance(51)
    with pytest.raises(WaitTimeoutError, match="nothing changed"):
        change.result(10)


def test_a_member_that_lags_tells_of_no_earlier_leader(
    bench: Bench, cluster: PlayedCluster
) -> None:
    election = cluster.election("boss")
    election.lead("ann").release()
    old = permits._encode(election.look())
    lead = election.lead("bob")
    bench.told.append((old, 1))
    change = in_thread(lambda: election.wait_for_change(Leader("bob", lead.epoch)))
    bench.until(lambda: bench.waiting == 1 or change.done())
    assert bench.waited == [0, 2], "it waits for what comes after that"
    lead.release()
    assert change.result(10) is None


def test_a_watch_is_told_of_each_change(bench: Bench, cluster: PlayedCluster) -> None:
    election = cluster.election("boss")
    told: list[Leader | None] = []

    def hear(leader: Leader | None) -> None:
        told.append(leader)
        if leader is not None:
            raise ValueError("of the callback")

    with election.watch(hear):
        bench.until(lambda: told == [None] and bench.waiting == 1)
        lead = election.lead("ann")
        bench.until(lambda: len(told) == 2 and bench.waiting == 1)
        bench.advance(31)
        bench.until(lambda: bench.waiting == 1)
        lead.release()
        bench.until(lambda: len(told) == 3 and bench.waiting == 1)
    assert told == [None, Leader("ann", lead.epoch), None]
    election.lead("bob")
    bench.until(lambda: bench.waiting == 0)
    assert len(told) == 3


@pytest.mark.parametrize(
    ("error", "ends"), [(NoMasterError(""), False), (ClientClosedError(""), True)]
)
def test_a_watch_goes_on_while_it_can_ask(
    bench: Bench, cluster: PlayedCluster, error: PaxosError, ends: bool, monkeypatch: Any
) -> None:
    monkeypatch.setattr("ray_paxos.recipes.election.PAUSE_S", 0.0)
    election = cluster.election("boss")
    told: list[Leader | None] = []
    bench.interrupts["query"] = error
    with election.watch(told.append) as watch:
        if ends:
            watch._thread.join(10)
            assert not watch._thread.is_alive()
        else:
            bench.until(lambda: told == [None] and bench.waiting == 1)


def test_a_watch_that_is_closed_waits_for_nothing_any_more(
    bench: Bench, cluster: PlayedCluster
) -> None:
    told: list[Leader | None] = []
    watch = cluster.election("boss").watch(told.append)
    bench.until(lambda: bench.waiting == 1)
    watch.close()
    watch._thread.join(10)
    assert not watch._thread.is_alive()
    assert bench.waiting == 0


def test_a_watch_that_is_closed_as_it_begins_to_wait_waits_for_nothing(
    bench: Bench, cluster: PlayedCluster, monkeypatch: Any
) -> None:
    election = cluster.election("boss")
    watches: list[ElectionWatch] = []
    may_wait = threading.Event()
    change_after = election._change_after

    def closed_meanwhile(known: Leader | None, at_least: int) -> Any:
        may_wait.wait(10)
        watches[0].close()
        return change_after(known, at_least)

    monkeypatch.setattr(election, "_change_after", closed_meanwhile)
    watches.append(election.watch(lambda leader: None))
    may_wait.set()
    watches[0]._thread.join(10)
    assert not watches[0]._thread.is_alive()
    assert bench.waiting == 0
