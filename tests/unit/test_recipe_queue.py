"""Queues, over a real machine in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ray_paxos.errors import (
    CommandError,
    ConfigurationError,
    LeaseLostError,
    NoMasterError,
    QueryError,
    WaitTimeoutError,
)
from ray_paxos.machines import queues
from ray_paxos.recipes.queue import Queue
from tests.unit.recipe_bench import Bench, PlayedCluster, in_thread, set_up


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return set_up(monkeypatch)


@pytest.fixture
def queue(bench: Bench) -> Queue[Any]:
    return PlayedCluster(bench).queue("frames", lease_s=30)


def is_empty(queue: Queue[Any]) -> bool:
    counts = queue.look()
    return (counts.ready, counts.taken, counts.delayed, counts.dead, counts.in_line) == (0,) * 5


def test_what_is_put_in_is_taken_in_order_and_done(bench: Bench, queue: Queue[Any]) -> None:
    assert queue.put({"a": 1}) == 1
    assert queue.put_many(["b", "c", "d"]) == range(2, 5)
    assert not queue.put_many([])
    (first,) = queue.take()
    assert (first.payload, first.id, first.attempt) == ({"a": 1}, 1, 1)
    assert "Item(1, of=Queue('frames'" in repr(first)
    assert 29.6 < first.remaining_s <= 29.7
    rest = queue.take(10)
    assert [each.payload for each in rest] == ["b", "c", "d"]
    assert rest[0].receipt > first.receipt
    assert first.acknowledge()
    assert not first.acknowledge()
    assert first.remaining_s == 0
    assert queue.acknowledge(rest) == []
    assert queue.acknowledge(rest[:1]) == rest[:1]
    assert queue.acknowledge([]) == []
    assert is_empty(queue)
    assert queue.look().acknowledged_in_all == 4


def test_who_finds_nothing_waits_in_line(bench: Bench, queue: Queue[Any]) -> None:
    with pytest.raises(WaitTimeoutError, match="nothing is held"):
        queue.take(timeout_s=0)
    with pytest.raises(WaitTimeoutError):
        queue.take(timeout_s=0.0005)
    takes = [in_thread(queue.take), in_thread(lambda: asyncio.run(queue.take_async(timeout_s=50)))]
    bench.until(lambda: bench.waiting == 2)
    queue.put_many([1, 2])
    found = [item for each in takes for item in each.result(10)]
    assert {each.payload for each in found} == {1, 2}
    assert all(29 < each.remaining_s < 30 for each in found)


def test_a_wait_in_vain_leaves_the_line(bench: Bench, queue: Queue[Any]) -> None:
    takes = in_thread(lambda: queue.take(timeout_s=5))
    bench.until(lambda: bench.waiting == 1)
    bench.advance(4.9)
    assert bench.waiting == 1
    bench.advance(0.2)
    with pytest.raises(WaitTimeoutError):
        takes.result(10)
    assert is_empty(queue)


def test_who_waits_long_stands_in_line_again(bench: Bench, queue: Queue[Any]) -> None:
    takes = in_thread(queue.take)
    bench.until(lambda: bench.waiting == 1)
    for _ in range(15):
        bench.advance(100)
        bench.until(lambda: bench.waiting == 1)
    queue.put(1)
    (item,) = takes.result(10)
    assert 29 < item.remaining_s < 30, "a lease that began nobody knows when is extended first"
    bench.stand_still(29.6)
    assert item.acknowledge()


def test_what_comes_as_the_wait_ends_is_taken(bench: Bench, queue: Queue[Any]) -> None:
    takes = in_thread(lambda: queue.take(timeout_s=5))
    bench.until(lambda: bench.waiting == 1)
    with bench.lock:
        (wait,) = bench._waits
        bench._waits.clear()
        queue.put("a")
        assert wait.error is not None
        wait.future.settle(wait.error)
    assert takes.result(10)[0].acknowledge()
    assert is_empty(queue)


@pytest.mark.parametrize("is_there", [True, False])
def test_who_is_interrupted_has_nothing(bench: Bench, queue: Queue[Any], is_there: bool) -> None:
    if is_there:
        queue.put("a")
    bench.interrupts["propose"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        queue.take()
    counts = queue.look()
    assert (counts.ready, counts.taken, counts.in_line) == (int(is_there), 0, 0)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), QueryError("nobody could be asked")])
def test_who_is_interrupted_in_line_is_there_no_more(
    bench: Bench, queue: Queue[Any], error: BaseException
) -> None:
    bench.interrupts["wait"] = error
    with pytest.raises(type(error)):
        queue.take()
    assert bench.waiting == 0
    assert is_empty(queue)


def test_what_was_handed_to_a_cancelled_task_is_given_back(bench: Bench, queue: Queue[Any]) -> None:
    async def main() -> None:
        # In line: a put that comes at the same time goes to it, and back.
        task = asyncio.create_task(queue.take_async())
        await bench.until_async(lambda: bench.waiting == 1)
        queue.put("a")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert queue.look().ready == 1
        assert queue.look().in_line == 0
        # Its answer is on its way.
        bench.is_answering = False
        task = asyncio.create_task(queue.take_async())
        await bench.until_async(lambda: queue.look().taken == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        bench.answer()
        await bench.until_async(lambda: queue.look().ready == 1)
        (item,) = await queue.take_async()
        assert item.attempt == 3, "each hand-out is an attempt"
        assert await item.acknowledge_async()
        # In line, and the answer to that is on its way; then comes an item.
        bench.is_answering = False
        task = asyncio.create_task(queue.take_async())
        await bench.until_async(lambda: queue.look().in_line == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        put = in_thread(lambda: queue.put("b"))
        await bench.until_async(lambda: queue.look().taken == 1)
        bench.answer()
        put.result(10)
        await bench.until_async(lambda: queue.look().ready == 1)

    asyncio.run(main())


def test_a_late_extension_that_fails_gives_back(bench: Bench, queue: Queue[Any]) -> None:
    takes = in_thread(queue.take)
    bench.until(lambda: bench.waiting == 1)
    bench.advance(100)
    # The put goes through, and the extension after it does not.
    with bench.lock:
        queue.put("a")
        bench.fails.append(NoMasterError(""))
    with pytest.raises(NoMasterError):
        takes.result(10)
    bench.until(lambda: queue.look().ready == 1)


def test_what_is_lost_before_it_could_be_extended_is_not_taken(
    bench: Bench, queue: Queue[Any]
) -> None:
    takes = in_thread(queue.take)
    bench.until(lambda: bench.waiting == 1)
    with bench.lock:
        queue.put("a")
        # Both pass while the consumer has not run on.
        bench.advance(31)
        assert queue.look().ready == 1
    assert takes.result(10)[0].attempt == 2


def test_a_block_acknowledges_or_gives_back(queue: Queue[Any]) -> None:
    queue.put("a")
    with pytest.raises(ZeroDivisionError), queue.take()[0]:
        raise ZeroDivisionError
    assert queue.look().ready == 1
    with queue.take()[0] as item:
        assert item.attempt == 2
    assert is_empty(queue)

    async def main() -> None:
        await queue.put_many_async(["b"])
        with pytest.raises(ZeroDivisionError):
            async with (await queue.take_async())[0]:
                raise ZeroDivisionError
        async with (await queue.take_async())[0] as item:
            assert item.payload == "b"

    asyncio.run(main())
    assert is_empty(queue)


def test_what_was_ended_in_a_block_is_not_ended_again(bench: Bench, queue: Queue[Any]) -> None:
    queue.put_many("abcd")
    with queue.take()[0] as item:
        item.acknowledge()
    with queue.take()[0] as item:
        item.give_back(delay_s=5)
    with queue.take()[0] as item:
        queue.acknowledge([item])

    async def main() -> None:
        async with queue.take()[0] as item:
            await item.give_back_async()

    asyncio.run(main())
    assert queue.look().delayed == 1
    assert queue.look().ready == 1
    bench.advance(5)
    assert queue.look().ready == 2


def test_a_block_says_that_its_work_was_not_acknowledged(bench: Bench, queue: Queue[Any]) -> None:
    queue.put("a")

    def works() -> None:
        with queue.take(lease_s=5)[0] as item:
            assert item.remaining_s < 5
            bench.advance(6)
            assert not item.remaining_s

    async def works_async() -> None:
        async with queue.take(lease_s=5)[0]:
            bench.advance(6)

    for _ in range(2):
        with pytest.raises(LeaseLostError, match="is not acknowledged"):
            works()
    with pytest.raises(LeaseLostError, match="is not acknowledged"):
        asyncio.run(works_async())
    assert queue.look().ready == 1


def test_what_is_on_its_way_is_not_hidden(bench: Bench, queue: Queue[Any]) -> None:
    queue.put("a")

    def works() -> None:
        with queue.take()[0]:
            bench.fails.append(NoMasterError(""))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        works()
    bench.advance(31)
    bench.fails.append(NoMasterError(""))
    with pytest.raises(NoMasterError):
        queue.take()


def test_a_lease_is_extended(bench: Bench, queue: Queue[Any]) -> None:
    queue.put("a")
    (item,) = queue.take(lease_s=10)
    bench.advance(9)
    assert item.extend()
    assert 9 < item.remaining_s < 10
    assert item.extend(100)
    bench.advance(90)
    assert asyncio.run(item.extend_async(5))
    assert item.remaining_s < 5
    bench.advance(5)
    assert not item.extend()
    assert item.remaining_s == 0
    assert not item.give_back()
    (again,) = queue.take()
    bench.fails.append(NoMasterError(""))
    with pytest.raises(NoMasterError):
        again.extend(5)
    assert again.remaining_s < 5, "it may run for no longer than that"


def test_work_is_consumed_by_many(bench: Bench, queue: Queue[Any]) -> None:
    done: list[int] = []

    def work() -> None:
        for item in queue.consume(count=3, idle_s=1_000):
            with item:
                if item.attempt == 1 and item.payload % 3 == 0:
                    item.give_back()
                    continue
                done.append(item.payload)

    works = [in_thread(work) for _ in range(10)]
    for start in range(0, 100, 10):
        queue.put_many(range(start, start + 10))
    bench.until(lambda: len(done) == 100)
    bench.until(lambda: bench.waiting == 10)
    bench.advance(1_001)
    for _ in range(3):
        bench.advance(1)
    for each in works:
        each.result(10)
    assert sorted(done) == list(range(100))
    assert is_empty(queue)


def test_who_stops_consuming_gives_back_the_rest(bench: Bench, queue: Queue[Any]) -> None:
    queue.put_many("abcd")
    items = queue.consume(count=4)
    with next(items):
        pass
    items.close()
    assert queue.look().ready == 3

    async def main() -> None:
        found = queue.consume_async(count=3)
        async for item in found:
            assert await item.acknowledge_async()
            break
        await found.aclose()
        assert queue.look().ready == 2
        payloads = []
        async for item in queue.consume_async(idle_s=0):
            async with item:
                payloads.append(item.payload)
        assert payloads == ["c", "d"]

    asyncio.run(main())


def test_what_was_lost_before_its_turn_is_left_out(bench: Bench, queue: Queue[Any]) -> None:
    queue.put_many("ab")
    items = queue.consume(count=2, lease_s=5, idle_s=0)
    first = next(items)
    assert first.extend(60)
    bench.advance(6)
    second = next(items)
    assert (second.payload, second.attempt) == ("b", 2)
    assert first.acknowledge()


def test_what_fails_too_often_is_a_dead_letter(bench: Bench, queue: Queue[Any]) -> None:
    queue.configure(attempts_max=2, items_max=300)
    queue.put_many(range(250))
    for _ in range(2):
        for item in queue.take(1_000, consumer="ann"):
            item.give_back()
    letters = list(queue.dead_letters())
    assert [each.payload for each in letters] == list(range(250))
    assert (letters[0].id, letters[0].attempts, letters[0].consumer) == (1, 2, "ann")
    assert "DeadItem(1" in repr(letters[0])
    with pytest.raises(CommandError, match="no room"):
        queue.put_many(range(51))
    assert queue.requeue([1, 2, 999]) == 2
    assert queue.discard(range(2, 5)) == 2
    assert queue.discard([]) == 0
    (again,) = queue.take()
    assert (again.id, again.attempt) == (1, 1)

    async def main() -> None:
        assert len([each async for each in queue.dead_letters_async()]) == 246
        assert await queue.requeue_async([5]) == 1
        assert await queue.discard_async([6]) == 1
        await queue.configure_async()
        with pytest.raises(CommandError, match="handed out"):
            await queue.drop_async()
        assert (await queue.look_async()).attempts_max == 5

    asyncio.run(main())
    assert queue.drop(force=True) == 247
    assert is_empty(queue)


def test_what_cannot_be_decoded_is_a_dead_letter_in_the_end(bench: Bench) -> None:
    numbers: Queue[int] = PlayedCluster(bench).queue(
        "n", encode=lambda value: str(value).encode(), decode=int
    )
    texts = PlayedCluster(bench).queue("n", encode=str.encode, decode=bytes.decode)
    texts.put("no number")
    numbers.put(7)
    payloads = []
    for item in numbers.consume(idle_s=0):
        try:
            with item:
                payloads.append(item.payload)
        except ValueError:
            continue
    assert payloads == [7]
    assert numbers.look().dead == 1
    (letter,) = texts.dead_letters()
    assert letter.payload == "no number"


def test_who_waits_at_a_queue_that_is_dropped_goes_on(bench: Bench, queue: Queue[Any]) -> None:
    takes = in_thread(queue.take)
    bench.until(lambda: bench.waiting == 1)
    queue.drop()
    bench.until(lambda: bench.waiting == 1)
    queue.put("a")
    assert takes.result(10)[0].payload == "a"


def test_what_a_queue_cannot_be_told_is_refused(
    bench: Bench, queue: Queue[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad: Queue[Any] = PlayedCluster(bench).queue("b", encode=lambda value: value, decode=bytes)
    wrong: list[Callable[[], Any]] = [
        lambda: PlayedCluster(bench).queue("a", lease_s=0),
        lambda: queue.put(b"x" * 1_000_001),
        lambda: queue.put(bench.lock),
        lambda: bad.put("text"),
        lambda: queue.put_many([1] * 10_001),
        lambda: queue.take(0),
        lambda: queue.take(1_001),
        lambda: queue.take(lease_s=0),
        lambda: queue.take(timeout_s=-1),
        lambda: queue.take(consumer="\n"),
        lambda: queue.consume(count=0),
        lambda: queue.consume(idle_s=-1),
        lambda: queue.requeue([0]),
        lambda: queue.discard([1] * 1_001),
        lambda: queue.discard(["a"]),  # type: ignore[list-item]
        lambda: queue.configure(attempts_max=0),
        lambda: queue.configure(items_max=0),
    ]
    for each in wrong:
        with pytest.raises(ConfigurationError, match="found"):
            each()
    assert not bench.commands
    queue.put(1)
    (item,) = queue.take()
    for each in (lambda: item.give_back(delay_s=-1), lambda: item.extend(0)):
        with pytest.raises(ConfigurationError, match="found"):
            each()
    assert item.remaining_s
    assert item.acknowledge()
    monkeypatch.setattr(queues, "LINE_MAX", 0)
    with pytest.raises(CommandError, match="wait at the queue already"):
        queue.take()
