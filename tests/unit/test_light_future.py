"""A light future does what any future does, whoever waits for it and in whatever way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Future,
    InvalidStateError,
    as_completed,
    wait,
)
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

import pytest

from ray_paxos.actors.light_future import SETTLED_AT_ONCE, LightFuture, set_results

Settle = Callable[[LightFuture[int], int], None]


def one_by_one(future: LightFuture[int], result: int) -> None:
    future.set_result(result)


def together(future: LightFuture[int], result: int) -> None:
    set_results([future], [result])


@pytest.fixture(params=[one_by_one, together])
def settle(request: pytest.FixtureRequest) -> Settle:
    found: Settle = request.param
    return found


def after_a_moment(settle: Settle, future: LightFuture[int], result: int) -> threading.Timer:
    timer = threading.Timer(0.05, settle, (future, result))
    timer.start()
    return timer


def test_a_result_that_is_there_needs_no_condition(settle: Settle) -> None:
    future: LightFuture[int] = LightFuture()
    assert not future.done()
    assert future.set_running_or_notify_cancel()
    heard: list[Future[int]] = []
    future.add_done_callback(heard.append)
    future.add_done_callback(heard.append)
    settle(future, 7)
    assert future.done()
    assert not future.cancelled()
    assert future.result() == future.result(0) == 7
    assert heard == [future, future]
    assert future.exception() is future.exception(0) is None
    assert "_condition" not in vars(future)


def test_who_waits_is_woken(settle: Settle) -> None:
    future: LightFuture[int] = LightFuture()
    future.set_running_or_notify_cancel()
    with pytest.raises(FutureTimeoutError):
        future.result(0.01)
    after_a_moment(settle, future, 7)
    assert future.result(10) == 7


def test_wait_and_as_completed(settle: Settle) -> None:
    futures: list[LightFuture[int]] = [LightFuture() for _ in range(3)]
    plain: Future[int] = Future()
    settle(futures[0], 0)
    assert wait([*futures, plain], timeout=10, return_when=FIRST_COMPLETED).done == {futures[0]}
    timers = [after_a_moment(settle, future, 1) for future in futures[1:]]
    assert set(as_completed(futures, timeout=10)) == set(futures)
    assert wait(futures, timeout=10).not_done == set()
    for timer in timers:
        timer.join()
    with pytest.raises(FutureTimeoutError):
        list(as_completed([*futures, plain], timeout=0.01))


def test_a_loop_waits_for_it(settle: Settle) -> None:
    async def run() -> tuple[int, ...]:
        futures: list[LightFuture[int]] = [LightFuture() for _ in range(3)]
        settle(futures[0], 0)
        for number in (1, 2):
            after_a_moment(settle, futures[number], number)
        return tuple(await asyncio.gather(*map(asyncio.wrap_future, futures)))

    assert asyncio.run(run()) == (0, 1, 2)


def test_a_loop_that_gives_up_cancels_it() -> None:
    future: LightFuture[int] = LightFuture()

    async def run() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(future), 0.01)

    asyncio.run(run())
    assert future.cancelled()
    assert not future.set_running_or_notify_cancel()


def test_it_can_be_cancelled_until_it_runs() -> None:
    future: LightFuture[int] = LightFuture()
    heard: list[Future[int]] = []
    future.add_done_callback(heard.append)
    assert future.cancel()
    assert future.cancelled()
    assert future.done()
    assert heard == [future]
    assert not future.set_running_or_notify_cancel()
    with pytest.raises(CancelledError):
        future.result(0)
    running: LightFuture[int] = LightFuture()
    assert running.set_running_or_notify_cancel()
    assert running.running()
    assert not running.cancel()


def test_a_waiter_hears_of_a_cancelled_one() -> None:
    future: LightFuture[int] = LightFuture()
    future.cancel()
    threading.Timer(0.05, future.set_running_or_notify_cancel).start()
    assert wait([future], timeout=10).done == {future}


def test_an_error_is_raised(settle: Settle) -> None:
    future: LightFuture[int] = LightFuture()
    heard: list[Future[int]] = []
    future.add_done_callback(heard.append)
    future.set_exception(ZeroDivisionError())
    assert heard == [future]
    with pytest.raises(ZeroDivisionError):
        future.result()
    assert isinstance(future.exception(), ZeroDivisionError)
    waited: LightFuture[int] = LightFuture()
    threading.Timer(0.05, waited.set_exception, (ZeroDivisionError(),)).start()
    with pytest.raises(ZeroDivisionError):
        waited.result(10)


def test_it_is_settled_once(settle: Settle) -> None:
    future: LightFuture[int] = LightFuture()
    settle(future, 7)
    for again in (lambda: settle(future, 8), lambda: future.set_exception(ZeroDivisionError())):
        with pytest.raises(InvalidStateError):
            again()
    assert future.result(0) == 7


def test_a_callback_that_raises_keeps_none_from_the_others(
    settle: Settle, caplog: pytest.LogCaptureFixture
) -> None:
    future: LightFuture[int] = LightFuture()
    heard: list[Future[int]] = []

    def fail(future: Future[int]) -> None:
        raise ZeroDivisionError

    future.add_done_callback(fail)
    future.add_done_callback(heard.append)
    settle(future, 7)
    assert heard == [future]
    future.add_done_callback(fail)
    future.add_done_callback(heard.append)
    assert heard == [future, future], "at once, where it is done"
    assert caplog.text.count("exception calling callback") == 2


def test_a_callback_that_was_there_before_somebody_waited_is_called_once(settle: Settle) -> None:
    future: LightFuture[int] = LightFuture()
    heard: list[Future[int]] = []
    future.add_done_callback(heard.append)
    with pytest.raises(FutureTimeoutError):
        future.result(0)
    future.add_done_callback(heard.append)
    settle(future, 7)
    assert heard == [future, future]


def test_many_are_settled_in_order_whoever_waits_for_which() -> None:
    count = 2 * SETTLED_AT_ONCE + 3
    futures: list[LightFuture[int]] = [LightFuture() for _ in range(count)]
    heard: list[int] = []
    for number, future in enumerate(futures):
        if number % 3 == 1:
            future.add_done_callback(lambda future: heard.append(future.result(0)))
        if number % 5 == 1:
            with pytest.raises(FutureTimeoutError):
                future.result(0)
    set_results(futures, list(range(count)))
    assert [future.result(0) for future in futures] == list(range(count))
    assert heard == list(range(1, count, 3))


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, []),
        (SETTLED_AT_ONCE, []),
        (SETTLED_AT_ONCE + 1, [SETTLED_AT_ONCE]),
        (2 * SETTLED_AT_ONCE, [SETTLED_AT_ONCE]),
        (2 * SETTLED_AT_ONCE + 1, [SETTLED_AT_ONCE, 2 * SETTLED_AT_ONCE]),
    ],
)
def test_between_many_that_are_settled_something_else_is_done(
    count: int, expected: list[int]
) -> None:
    futures: list[LightFuture[int]] = [LightFuture() for _ in range(count)]
    heard: list[Future[int]] = []
    for future in futures:
        future.add_done_callback(heard.append)
    seen: list[tuple[int, int]] = []

    def between() -> None:
        seen.append((sum(future.done() for future in futures), len(heard)))

    set_results(futures, list(range(count)), between)
    assert seen == [(settled, settled) for settled in expected]
    assert heard == futures


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), KeyboardInterrupt()])
def test_all_are_settled_though_what_is_done_between_breaks_off(error: BaseException) -> None:
    futures: list[LightFuture[int]] = [LightFuture() for _ in range(3 * SETTLED_AT_ONCE)]
    heard: list[Future[int]] = []
    futures[-1].add_done_callback(heard.append)

    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        set_results(futures, list(range(len(futures))), fail)
    assert [future.result(0) for future in futures] == list(range(len(futures)))
    assert heard == futures[-1:]


def test_threads_that_wait_and_threads_that_settle_miss_nothing() -> None:
    """Conditions are made while futures are settled, again and again."""
    for _ in range(20):
        futures: list[LightFuture[int]] = [LightFuture() for _ in range(200)]
        heard: list[Future[int]] = []
        results: list[Any] = []

        def settle_all(futures: list[LightFuture[int]] = futures) -> None:
            for begin in range(0, len(futures), 7):
                part = futures[begin : begin + 7]
                set_results(part, list(range(begin, begin + len(part))))

        def wait_for_all(
            futures: list[LightFuture[int]] = futures, results: list[Any] = results
        ) -> None:
            results.append([future.result(10) for future in futures])

        def attach(
            futures: list[LightFuture[int]] = futures, heard: list[Future[int]] = heard
        ) -> None:
            for future in reversed(futures):
                future.add_done_callback(heard.append)

        threads = [threading.Thread(target=run) for run in (wait_for_all, attach, settle_all)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert results == [list(range(200))]
        assert len(heard) == 200
        assert set(heard) == set(futures)
