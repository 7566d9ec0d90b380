"""Counters, id allocators and barriers, over real machines in this process."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import signal
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from ray_paxos.errors import (
    CommandError,
    ConfigurationError,
    NoMasterError,
    OutcomeUnknownError,
    QueryError,
    WaitTimeoutError,
)
from ray_paxos.recipes.barrier import Barrier, Passage
from tests.unit.recipe_bench import Bench, PlayedCluster, in_thread, set_up


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return set_up(monkeypatch)


@pytest.fixture
def cluster(bench: Bench) -> PlayedCluster:
    return PlayedCluster(bench)


# Counters.


def test_a_counter_counts(cluster: PlayedCluster) -> None:
    hits = cluster.counter("hits")
    assert hits.get() == 0
    assert hits.add(3) == 3
    assert hits.add() == 4
    assert hits.add(-5) == -1
    assert not hits.compare_and_set(3, 10)
    assert hits.compare_and_set(-1, 10)
    hits.set(7)
    assert hits.get() == 7
    hits.set((1 << 63) - 1)
    with pytest.raises(CommandError, match="a value is"):
        hits.add()

    async def main() -> None:
        await hits.set_async(1)
        assert await hits.add_async(2) == 3
        assert await hits.compare_and_set_async(3, 4)
        assert await hits.get_async() == 4
        assert await hits.wait_until_at_least_async(4) == 4

    asyncio.run(main())


def test_who_waits_for_a_value_gets_it(bench: Bench, cluster: PlayedCluster) -> None:
    hits = cluster.counter("hits")
    waits = in_thread(lambda: hits.wait_until_at_least(5))
    bench.until(lambda: bench.waiting == 1)
    hits.add(4)
    assert bench.waiting == 1
    hits.add(2)
    assert waits.result(10) == 6
    assert bench.waited == [None], "it sees what this process was acknowledged"
    waits = in_thread(lambda: hits.wait_until_at_least(9, timeout_s=3))
    bench.until(lambda: bench.waiting == 1)
    bench.advance(3)
    with pytest.raises(WaitTimeoutError, match="did not come to 9"):
        waits.result(10)
    bench.interrupts["wait"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        hits.wait_until_at_least(9)
    assert bench.waiting == 0


def test_what_a_counter_cannot_be_told_is_refused(bench: Bench, cluster: PlayedCluster) -> None:
    hits, ids = cluster.counter("a"), cluster.id_allocator("a")
    wrong: list[Callable[[], Any]] = [
        lambda: hits.add(1 << 63),
        lambda: hits.add(True),
        lambda: hits.add(0.5),  # type: ignore[arg-type]
        lambda: hits.set(-(1 << 63) - 1),
        lambda: hits.compare_and_set(None, 1),  # type: ignore[arg-type]
        lambda: hits.compare_and_set(1, 1 << 63),
        lambda: hits.wait_until_at_least(1 << 63),
        lambda: hits.wait_until_at_least(1, timeout_s=-1),
        lambda: ids.take(0),
        lambda: ids.take((1 << 32) + 1),
        lambda: ids.next(timeout_s=-1),
        lambda: cluster.id_allocator("a", block_size=0),
    ]
    for each in wrong:
        with pytest.raises(ConfigurationError, match="found"):
            each()
    assert not bench.commands


# Ids.


def test_ids_are_given_once(bench: Bench, cluster: PlayedCluster) -> None:
    ids = cluster.id_allocator("orders", block_size=10)
    assert [ids.next() for _ in range(12)] == list(range(1, 13))
    assert len(bench.commands) == 2
    assert ids.take(5) == range(21, 26)
    others = [pickle.loads(pickle.dumps(ids)), copy.copy(ids), cluster.id_allocator("orders")]
    assert [each.next() for each in others] == [26, 36, 46]
    assert ids.next() == 13
    for name in ("orders", "ids:orders"):
        assert cluster.counter(name, group=ids.group).add(1) == 1
    assert asyncio.run(ids.take_async(2))[0] == 1046


def test_threads_and_tasks_get_no_id_twice(bench: Bench, cluster: PlayedCluster) -> None:
    ids = cluster.id_allocator("orders", block_size=100)
    bench.is_reached = False
    works = [in_thread(lambda: [ids.next() for _ in range(40)]) for _ in range(50)]
    bench.until(lambda: ids._fetching.locked() and bench._unreached)
    assert len(bench._unreached) == 1, "the others wait for the first one's block"
    bench.reach()
    given = [each for work in works for each in work.result(30)]
    assert sorted(given) == list(range(1, 2001))
    assert len(bench.commands) == 20

    async def main() -> list[int]:
        return await asyncio.gather(*(ids.next_async() for _ in range(30)))

    assert not set(asyncio.run(main())) & set(given)


def test_a_block_that_nobody_waited_for_is_given_later(
    bench: Bench, cluster: PlayedCluster
) -> None:
    ids = cluster.id_allocator("orders", block_size=10)
    bench.interrupts["propose"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        ids.next()
    assert not ids._fetching.locked()

    async def main() -> int:
        bench.is_answering = False
        other = cluster.id_allocator("orders", block_size=10)
        task = asyncio.create_task(other.next_async())
        await bench.until_async(lambda: len(bench.commands) == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        bench.answer()
        return await other.next_async()

    assert asyncio.run(main()) == 11
    assert [ids.next() for _ in range(10)] == list(range(1, 11))
    assert len(bench.commands) == 2


def test_who_cannot_have_the_turn_in_time_asks_itself(bench: Bench, cluster: PlayedCluster) -> None:
    ids = cluster.id_allocator("orders", block_size=10)
    with ids._fetching:
        assert ids.next(timeout_s=0.01) == 1
    bench.fails.append(NoMasterError(""))
    ids._blocks.clear()
    with pytest.raises(NoMasterError):
        ids.next()
    assert ids.next() == 11


def test_a_forked_process_gives_ids_of_its_own(cluster: PlayedCluster) -> None:
    ids = cluster.id_allocator("orders", block_size=10)
    assert ids.next() == 1
    reads, writes = os.pipe()
    # As where another thread is in the middle of it.
    ids._taking.acquire()
    child = os.fork()
    if child == 0:
        # A lock that nobody gives back ends the child, too.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(10)
        os.write(writes, str(ids.next()).encode())
        os._exit(0)
    ids._taking.release()
    os.waitpid(child, 0)
    os.close(writes)
    assert os.read(reads, 10) == b"11"
    os.close(reads)
    assert ids.next() == 2


# Barriers.


@pytest.fixture
def barrier(cluster: PlayedCluster) -> Barrier:
    return cluster.barrier("epoch", 3)


def comes(bench: Bench, barrier: Barrier, **options: Any) -> Future[Any]:
    """One more that waits there."""
    before = bench.waiting
    future = in_thread(lambda: barrier.wait(**options))
    bench.until(lambda: bench.waiting == before + 1)
    return future


def test_a_round_is_passed_once_all_are_there(bench: Bench, barrier: Barrier) -> None:
    for round in (1, 2, 3):
        waits = [comes(bench, barrier), comes(bench, barrier)]
        assert not any(each.done() for each in waits)
        passages = [barrier.wait(), *(each.result(10) for each in waits)]
        assert {each.round for each in passages} == {round}
        assert {each.place for each in passages} == {0, 1, 2}
    assert barrier.look().round == 4
    assert barrier.look().parties == 0


def test_many_threads_and_tasks_pass_many_rounds(bench: Bench, cluster: PlayedCluster) -> None:
    barrier = cluster.barrier("many", 12)
    done: list[int] = []

    def work() -> None:
        for round in range(1, 21):
            done.append(round)
            assert barrier.wait().round == round
            assert done.count(round) == 12

    async def tasks() -> None:
        for round in range(21, 31):
            passages = await asyncio.gather(*(barrier.wait_async() for _ in range(12)))
            assert sorted(passages) == [(round, place) for place in range(12)]

    for each in [in_thread(work) for _ in range(12)]:
        each.result(30)
    asyncio.run(tasks())


def test_who_gives_up_is_there_no_more(bench: Bench, barrier: Barrier) -> None:
    waits = comes(bench, barrier, timeout_s=5)
    bench.advance(5)
    with pytest.raises(WaitTimeoutError, match="2 were missing"):
        waits.result(10)
    assert not barrier.look().places
    with pytest.raises(WaitTimeoutError):
        barrier.wait(timeout_s=0)
    assert not barrier.look().places


@pytest.mark.parametrize("when", ["query", "propose", "wait"])
def test_who_is_interrupted_is_there_no_more(bench: Bench, barrier: Barrier, when: str) -> None:
    bench.interrupts[when] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        barrier.wait()
    assert not barrier.look().places
    assert bench.waiting == 0


def test_who_is_cancelled_is_there_no_more(bench: Bench, barrier: Barrier) -> None:
    async def main() -> None:
        task = asyncio.create_task(barrier.wait_async())
        await bench.until_async(lambda: bench.waiting == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert not barrier.look().places


def test_an_arrival_of_which_nothing_is_known_is_undone(bench: Bench, barrier: Barrier) -> None:
    bench.is_answering = False
    waits = in_thread(barrier.wait)
    bench.until(lambda: barrier.look().places)
    bench.advance(31)
    with pytest.raises(OutcomeUnknownError):
        waits.result(10)
    bench.answer()
    bench.until(lambda: not barrier.look().places)
    comes(bench, barrier)
    bench.interrupts["wait"] = QueryError("no member could be asked")
    with pytest.raises(QueryError):
        barrier.wait()
    assert len(barrier.look().places) == 1


def test_a_round_that_is_passed_as_the_time_ends_is_passed(bench: Bench, barrier: Barrier) -> None:
    others = [comes(bench, barrier), comes(bench, barrier)]
    bench.interrupts["propose"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        barrier.wait()
    assert {each.result(10).round for each in others} == {1}, "it came, and that counts"
    first = comes(bench, barrier, timeout_s=5, party="a")
    assert barrier.leave("a", 2)
    assert not barrier.leave("a", 2)
    assert not asyncio.run(barrier.leave_async("a", 9))
    bench.advance(5)
    with pytest.raises(WaitTimeoutError):
        first.result(10)


def test_a_wait_that_ends_with_the_round_says_so(bench: Bench, barrier: Barrier) -> None:
    from ray_paxos.machines import barriers

    waits = comes(bench, barrier, timeout_s=5, party="a")
    with bench.lock:
        # The last ones come between the end of the wait and the leave.
        (wait,) = bench._waits
        bench._waits.clear()
        for party in ("b", "c"):
            bench.propose_async(
                barriers.encode_arrive("epoch", party, 3, 1), "barriers", timeout_s=1
            )
        assert wait.error is not None
        wait.future.settle(wait.error)
    assert waits.result(10) == Passage(1, 0)


def test_a_task_that_is_tried_again_names_its_round(bench: Bench, barrier: Barrier) -> None:
    first = comes(bench, barrier, party="a", round=1)
    again = comes(bench, barrier, party="a", round=1)
    assert barrier.look().places == {"a": 0}
    comes(bench, barrier, party="b", round=1)
    barrier.wait(party="c")
    assert first.result(10) == again.result(10) == Passage(1, 0)
    assert barrier.wait(party="a", round=1) == Passage(1, None)
    assert not barrier.look().places
    with pytest.raises(CommandError, match="they gather for round 2"):
        barrier.wait(party="a", round=4)


def test_who_comes_after_others_went_on_comes_to_where_they_are(
    bench: Bench, cluster: PlayedCluster
) -> None:
    here, there = cluster.barrier("a", 1), cluster.barrier("a", 1)
    assert here.wait() == Passage(1, 0)
    assert [there.wait().round for _ in range(5)] == [2, 3, 4, 5, 6]
    before = len(bench.commands)
    assert here.wait() == Passage(7, 0)
    assert len(bench.commands) == before + 2, "not through all rounds between"
    assert here.wait() == Passage(8, 0)


def test_parties_must_agree_on_how_many_they_are(bench: Bench, cluster: PlayedCluster) -> None:
    barrier = cluster.barrier("a", 2)
    waits = comes(bench, barrier, party="a")
    with pytest.raises(CommandError, match="2 parties make this round"):
        cluster.barrier("a", 3).wait(party="a")
    assert asyncio.run(barrier.look_async()).places == {"a": 0}, "the other one is there still"
    barrier.wait()
    assert waits.result(10).round == 1


def test_what_a_barrier_cannot_be_told_is_refused(bench: Bench, cluster: PlayedCluster) -> None:
    barrier = cluster.barrier("a", 2)
    wrong: list[Callable[[], Any]] = [
        lambda: cluster.barrier("a", 0),
        lambda: cluster.barrier("a", 10_001),
        lambda: barrier.wait(party="a\n"),
        lambda: barrier.wait(party="a" * 101),
        lambda: barrier.wait(round=0),
        lambda: barrier.wait(round=1 << 63),
        lambda: barrier.wait(timeout_s=-1),
        lambda: barrier.leave("a", 0),
    ]
    for each in wrong:
        with pytest.raises(ConfigurationError, match="found"):
            each()
    assert not bench.commands
