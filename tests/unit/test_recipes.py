"""What all recipes share, and locks, over real machines in this process."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest

from ray_paxos.errors import (
    CommandError,
    ConfigurationError,
    LeaseLostError,
    NoMasterError,
    OutcomeUnknownError,
    OverloadedError,
    WaitTimeoutError,
)
from ray_paxos.machines import permits
from ray_paxos.recipes.lock import Lock
from ray_paxos.recipes.permit_recipe import Grant
from ray_paxos.recipes.recipe import Propose, Steps
from tests.unit.recipe_bench import Bench, PlayedCluster, in_thread, set_up


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return set_up(monkeypatch)


@pytest.fixture
def cluster(bench: Bench) -> PlayedCluster:
    return PlayedCluster(bench)


@pytest.fixture
def lock(cluster: PlayedCluster) -> Lock:
    return cluster.lock("trainer")


def leaves_nothing(bench: Bench, lock: Any) -> None:
    assert bench.waiting == 0
    bench.until(lambda: lock.look() == permits.Resource(0))


# All recipes.


def test_recipes_pickle_as_handles(bench: Bench, cluster: PlayedCluster) -> None:
    made = [
        cluster.lock("a", ttl_s=3),
        cluster.rw_lock("a"),
        cluster.semaphore("a", 4),
        cluster.election("a"),
        cluster.counter("a"),
        cluster.id_allocator("a", block_size=7),
        cluster.barrier("a", 3),
        cluster.ledger("a", lease_s=3),
        cluster.queue("a", encode=str.encode, decode=bytes.decode),
    ]
    for recipe in made:
        arrived = pickle.loads(pickle.dumps(recipe))
        assert (
            repr(arrived) == repr(recipe) == f"{type(recipe).__name__}('a', group={recipe.group})"
        )
        assert arrived._options() == recipe._options()
        assert arrived._clients is recipe._clients
        assert recipe.group in (1, 2, 5)
    with cluster.lock("a") as grant:
        assert "Lock('a'" in repr(grant)
        other = pickle.loads(pickle.dumps(cluster.lock("a")))
        with pytest.raises(WaitTimeoutError):
            other.acquire(timeout_s=0)


def test_a_name_has_one_group_unless_one_is_named(cluster: PlayedCluster) -> None:
    assert len({cluster.counter(f"{n}").group for n in range(50)}) == 3
    assert cluster.queue("a").group == cluster.queue("a").group
    assert cluster.queue("a", group=7).group == 7
    for make in (cluster.lock, cluster.counter, cluster.ledger, cluster.queue):
        with pytest.raises(ConfigurationError, match="group"):
            make("a", group=9)


@pytest.mark.parametrize("name", ["", "a\n", "\ud800", "x" * 481, 3, None, b"a"])
def test_what_is_no_name_is_refused(bench: Bench, cluster: PlayedCluster, name: Any) -> None:
    with pytest.raises(ConfigurationError, match="name: found"):
        cluster.counter(name)
    assert not bench.commands


def test_the_longest_name_is_taken_by_all_machines(cluster: PlayedCluster) -> None:
    name = "x" * 480
    cluster.counter(name).add(1)
    cluster.id_allocator(name).take(1)
    cluster.barrier(name, 1).wait()
    cluster.ledger(name).begin("a")
    cluster.queue(name).put(1)
    cluster.semaphore(name, 2).acquire()
    cluster.rw_lock(name).reading()


def test_arguments_that_mean_nothing_are_refused_before_anything_is_sent(
    bench: Bench, cluster: PlayedCluster
) -> None:
    lock, semaphore, election = cluster.lock("a"), cluster.semaphore("a", 4), cluster.election("a")
    wrong: list[Callable[[], Any]] = [
        lambda: cluster.lock("a", ttl_s=0),
        lambda: cluster.lock("a", ttl_s=float("nan")),
        lambda: cluster.lock("a", ttl_s="1"),  # type: ignore[arg-type]
        lambda: cluster.semaphore("a", 0),
        lambda: lock.acquire(timeout_s=-1),
        lambda: lock.acquire(label="\ud800"),
        lambda: lock.acquire(label=3),  # type: ignore[arg-type]
        lambda: semaphore.acquire(5),
        lambda: semaphore.acquire(True),
        lambda: election.lead("a\nb"),
        lambda: election.wait_for_change("ann"),  # type: ignore[arg-type]
        lambda: election.wait_for_change(None, timeout_s=-1),
    ]
    for each in wrong:
        with pytest.raises(ConfigurationError, match="found"):
            each()
    assert not bench.commands


def test_a_group_without_the_machine_says_what_to_do(bench: Bench, cluster: PlayedCluster) -> None:
    bench.machines.clear()
    asked: list[Callable[[], Any]] = [
        cluster.lock("a").acquire,
        cluster.lock("a").look,
        cluster.counter("a").add,
        cluster.counter("a").get,
        lambda: cluster.counter("a").wait_until_at_least(1),
        cluster.id_allocator("a").next,
        cluster.barrier("a", 2).wait,
        lambda: cluster.ledger("a").begin("k"),
        lambda: list(cluster.ledger("a").keys()),
        cluster.queue("a").take,
    ]
    for each in asked:
        with pytest.raises(ConfigurationError, match=r"no machine .*name it under `machines`"):
            each()


def test_steps_that_need_nothing_come_to_their_end(lock: Lock) -> None:
    def steps() -> Steps[int]:
        if lock.group < 0:
            yield Propose(b"")
        return 3

    assert lock._run(steps()) == 3
    assert asyncio.run(lock._run_async(steps())) == 3


# Locks.


def test_one_holds_a_lock_and_others_wait(bench: Bench, lock: Lock) -> None:
    with lock as grant:
        assert grant.is_held
        assert 9.8 < grant.remaining_s <= 9.9
        grant.check()
        other = in_thread(lock.acquire)
        bench.until(lambda: bench.waiting == 1)
        (holder,) = lock.look().holdings
        assert ":" in holder
        assert len(lock.look().line) == 1
    later = other.result(10)
    assert later.token > grant.token
    assert not grant.is_held
    assert later.release()
    assert not later.release()
    leaves_nothing(bench, lock)


def test_of_fifty_threads_never_two_are_inside(bench: Bench, lock: Lock) -> None:
    inside: list[int] = []
    tokens: list[int] = []

    def work() -> None:
        for _ in range(4):
            with lock as grant:
                inside.append(1)
                assert len(inside) == 1
                tokens.append(grant.token)
                grant.check()
                inside.pop()

    for each in [in_thread(work) for _ in range(50)]:
        each.result(60)
    assert len(tokens) == 200
    assert tokens == sorted(set(tokens))
    leaves_nothing(bench, lock)


def test_a_lock_that_is_not_had_in_time_is_not_waited_for(bench: Bench, lock: Lock) -> None:
    grant = lock.acquire()
    with pytest.raises(WaitTimeoutError, match="nothing is held"):
        lock.acquire(timeout_s=0)
    with pytest.raises(TimeoutError):
        lock.acquire(timeout_s=0.0005)
    waits = in_thread(lambda: lock.acquire(timeout_s=5))
    bench.until(lambda: bench.waiting == 1)
    bench.advance(4.9)
    assert bench.waiting == 1
    bench.advance(0.2)
    with pytest.raises(WaitTimeoutError):
        waits.result(10)
    assert grant.is_held
    assert grant.release()
    leaves_nothing(bench, lock)


@pytest.mark.parametrize("when", ["propose", "wait"])
def test_an_interrupt_leaves_nothing_behind(bench: Bench, lock: Lock, when: str) -> None:
    grant = lock.acquire()
    bench.interrupts[when] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        lock.acquire()
    assert not lock.look().line
    grant.release()
    bench.interrupts["propose"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        lock.acquire()
    leaves_nothing(bench, lock)


def test_an_interrupt_between_two_steps_leaves_nothing_behind(
    bench: Bench, lock: Lock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(error: BaseException) -> BaseException:
        raise KeyboardInterrupt

    def fails(*arguments: Any, **options: Any) -> None:
        raise NoMasterError("")

    grant = lock.acquire()
    monkeypatch.setattr(lock, "_explained", interrupted)
    monkeypatch.setattr(bench, "wait_for_async", fails)
    for acquires in (lock.acquire, lambda: asyncio.run(lock.acquire_async())):
        with pytest.raises(KeyboardInterrupt):
            acquires()
        assert len(bench.commands) % 2 == 1, "what was begun is ended"
        assert not lock.look().line
    grant.release()
    leaves_nothing(bench, lock)


def test_a_cancelled_task_leaves_nothing_behind(bench: Bench, lock: Lock) -> None:
    async def main() -> None:
        async with lock as grant:
            task = asyncio.create_task(lock.acquire_async())
            await bench.until_async(lambda: bench.waiting == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not lock.look().line
            assert grant.is_held
        bench.is_answering = False
        task = asyncio.create_task(lock.acquire_async())
        await bench.until_async(lambda: len(bench.commands) > 4)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        bench.answer()

    asyncio.run(main())
    leaves_nothing(bench, lock)


def test_an_unknown_outcome_is_released_too(bench: Bench, lock: Lock) -> None:
    bench.is_answering = False
    waits = in_thread(lock.acquire)
    bench.until(lambda: lock.look().holdings)
    bench.advance(31)
    with pytest.raises(OutcomeUnknownError):
        waits.result(10)
    bench.answer()
    leaves_nothing(bench, lock)


def test_who_waits_long_keeps_its_place(bench: Bench, lock: Lock) -> None:
    grant = lock.acquire()
    first = in_thread(lambda: lock.acquire(label="first"))
    bench.until(lambda: bench.waiting == 1)
    bench.advance(250)
    second = in_thread(lambda: lock.acquire(label="second"))
    bench.until(lambda: bench.waiting == 2)
    for _ in range(30):
        bench.advance(100)
        bench.until(lambda: bench.waiting == 2)
        assert [each.split("/")[0] for each in lock.look().line] == ["first", "second"]
    grant.release()
    first.result(10).release()
    second.result(10).release()


def test_what_was_waited_for_long_is_held_once_it_was_renewed(bench: Bench, lock: Lock) -> None:
    grant = lock.acquire()
    waits = in_thread(lock.acquire)
    bench.until(lambda: bench.waiting == 1)
    bench.advance(100)
    bench.is_answering = False
    released = in_thread(grant.release)
    later = waits.result(10)
    is_held = in_thread(lambda: later.is_held)
    bench.until(lambda: len(bench._unanswered) == 2)
    assert not is_held.done(), "its renewal is not answered"
    bench.answer()
    assert is_held.result(10)
    assert later.remaining_s > 9
    assert released.result(10)


def test_a_line_that_is_full_is_said(bench: Bench, lock: Lock, monkeypatch: Any) -> None:
    monkeypatch.setattr(permits, "LINE_MAX", 0)
    with lock, pytest.raises(OverloadedError, match="wait in line"):
        lock.acquire()
    leaves_nothing(bench, lock)


def test_a_waiter_that_finds_its_lease_over_asks_again(bench: Bench, lock: Lock) -> None:
    grant = lock.acquire()
    bench.told.append((permits._encode(permits.Lost()), 100))
    waits = in_thread(lock.acquire)
    bench.until(lambda: bench.waiting == 1)
    grant.release()
    assert waits.result(10).release()


def test_a_semaphore_has_so_many_permits(bench: Bench, cluster: PlayedCluster) -> None:
    semaphore = cluster.semaphore("gpus", 4)
    with semaphore.acquire(3) as grant:
        with pytest.raises(WaitTimeoutError):
            semaphore.acquire(2, timeout_s=0)
        with semaphore.acquire() as other:
            assert other.token > grant.token
        with pytest.raises(CommandError, match="4 units"):
            cluster.semaphore("gpus", 5, group=semaphore.group).acquire()
    assert semaphore.capacity == 4

    async def main() -> None:
        async with await semaphore.acquire_async(4) as grant:
            assert grant.is_held

    asyncio.run(main())
    leaves_nothing(bench, semaphore)


def test_readers_are_together_and_a_writer_alone(bench: Bench, cluster: PlayedCluster) -> None:
    table = cluster.rw_lock("table")
    reader, other = table.reading(), table.reading()
    with pytest.raises(WaitTimeoutError):
        table.writing(timeout_s=0)
    writer = in_thread(table.writing)
    bench.until(lambda: bench.waiting == 1)
    with pytest.raises(WaitTimeoutError):
        table.reading(timeout_s=0)
    reader.release()
    assert bench.waiting == 1
    other.release()

    async def main(grant: Grant) -> None:
        with pytest.raises(WaitTimeoutError):
            await table.reading_async(timeout_s=0)
        await grant.release_async()
        async with await table.writing_async():
            pass
        async with await table.reading_async():
            pass

    asyncio.run(main(writer.result(10)))
    leaves_nothing(bench, table)


def test_tasks_of_one_loop_take_turns(bench: Bench, lock: Lock) -> None:
    tokens: list[int] = []

    async def work() -> None:
        async with lock as grant:
            await asyncio.sleep(0)
            assert grant.is_held
            tokens.append(grant.token)

    async def main() -> None:
        await asyncio.gather(*(work() for _ in range(30)))

    asyncio.run(main())
    assert tokens == sorted(set(tokens))
    assert len(tokens) == 30
    leaves_nothing(bench, lock)


def test_a_holder_that_stood_still_has_lost_it(bench: Bench, lock: Lock) -> None:
    lost = threading.Event()
    grant = lock.acquire(on_lost=lost.set)
    bench.advance(100)
    assert grant.is_held, "it is renewed by itself"
    bench.stand_still(10.0)
    later = lock.acquire(timeout_s=0)
    assert later.token > grant.token
    assert not grant.is_held
    with pytest.raises(LeaseLostError, match="acquire it anew"):
        grant.check()
    bench.advance(0)
    assert lost.wait(10)
    assert not grant.release()
    assert later.is_held


def test_what_is_on_its_way_is_not_hidden_by_a_release_that_fails(
    bench: Bench, cluster: PlayedCluster
) -> None:
    lock = cluster.lock("a")

    def fails(held: Lock | Grant) -> None:
        with held:
            bench.fails.append(NoMasterError(""))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails(lock)
    lock = cluster.lock("b")
    with pytest.raises(ZeroDivisionError):
        fails(lock.acquire())
    with pytest.raises(NoMasterError), cluster.lock("c"):
        bench.fails.append(NoMasterError(""))
