"""Loads of the benchmark on a clock of their own: what latency means, and what is counted."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

import benchmark_load
from benchmark_latency import Latencies, summarize
from benchmark_load import Call, Load
from ray_paxos.errors import ClusterError, CommandError, NotAppliedError, OutcomeUnknownError

MS = 1_000_000


class PlayedTime:
    """A clock that only sleeping and answering move."""

    def __init__(self) -> None:
        self.now_ns = 0

    def clock(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)


class PlayedClient:
    """Answers within 1 ms; one of its calls takes a second, and the next ones wait."""

    def __init__(self, time: PlayedTime, stalled_call: int) -> None:
        self.time = time
        self.stalled_call = stalled_call
        self.calls = 0

    def call(self) -> Future[Any]:
        self.time.now_ns += 1_000 * MS if self.calls == self.stalled_call else MS
        self.calls += 1
        return done()


def done(result: object = None, error: BaseException | None = None) -> Future[Any]:
    future: Future[Any] = Future()
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
    return future


def stalling_load() -> Load:
    time = PlayedTime()
    client = PlayedClient(time, stalled_call=500)
    return Load(itertools.repeat(client.call), clock=time.clock, sleep=time.sleep)


def test_a_stall_of_a_second_is_in_the_percentiles_of_an_open_load() -> None:
    """A hundred commands were due in that second, of a thousand: a tenth of them waited."""
    load = stalling_load()
    load.run_open([(100.0, 10.0)])
    found = load.latencies.summary()
    assert found is not None
    assert found.count == 1_000
    assert found.p50_ms == pytest.approx(1.0)
    assert found.p99_ms > 850
    assert found.max_ms == pytest.approx(1_000, abs=5)


def test_the_same_stall_is_hidden_by_a_closed_load() -> None:
    """Only one command meets it, since none is started meanwhile."""
    load = stalling_load()
    load.run_closed(1, count=1_000)
    found = load.latencies.summary()
    assert found is not None
    assert found.count == 1_000
    assert found.p99_ms == pytest.approx(1.0)
    assert found.max_ms == pytest.approx(1_000)


def test_an_open_load_starts_all_of_its_commands_whatever_happens() -> None:
    load = stalling_load()
    began_ns = load.run_open([(100.0, 2.0), (1_000.0, 1.0), (100.0, 4.0)])
    assert load.ended == 200 + 1_000 + 400
    due = [began - began_ns for began, _ in load.latencies]
    assert due == sorted(due)
    # Where it was due, also where it could only be started later.
    assert due[200] == 2_000 * MS
    assert due[1_200] == 3_000 * MS


def test_windows_show_when_it_was() -> None:
    load = stalling_load()
    began_ns = load.run_open([(100.0, 10.0)])
    windows = load.latencies.windows(began_ns, 1.0, by_begin=True)
    assert [window.start_s for window in windows] == list(range(10))
    bad = [w.start_s for w in windows if w.latency is not None and w.latency.p50_ms > 100]
    assert bad == [5.0]
    assert windows[0].document(1)["calls_per_s"] == 100


class SlowClient:
    """Answers from a thread, and remembers how many were open at most."""

    def __init__(self) -> None:
        self.executor = ThreadPoolExecutor(1)
        self.lock = threading.Lock()
        self.open = 0
        self.most = 0

    def call(self) -> Future[Any]:
        with self.lock:
            self.open += 1
            self.most = max(self.most, self.open)
        return self.executor.submit(self.answer)

    def answer(self) -> None:
        with self.lock:
            self.open -= 1


def test_a_closed_load_never_has_more_in_flight_and_waits_for_the_last() -> None:
    client = SlowClient()
    load = Load(itertools.repeat(client.call))
    load.run_closed(7, count=3_000)
    assert load.ended == len(load.latencies) == 3_000
    # One more where the answer was counted before the thread was told of it.
    assert 1 < client.most <= 8
    assert client.open == 0


def test_calls_that_are_made_when_they_are_started_may_be_asked_for_by_several_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Clients of several groups settle in threads of their own, and each starts the next call."""
    monkeypatch.setattr(benchmark_load, "SETTLE_S", 2.0)
    with ThreadPoolExecutor(4) as pool:

        def made() -> Iterator[Call]:
            while True:
                time.sleep(0.0005)
                yield lambda: pool.submit(time.sleep, 0)

        load = Load(made())
        load.run_closed(8, count=400)
    assert load.ended == len(load.latencies) == 400


def test_what_never_ends_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark_load, "SETTLE_S", 0.05)
    load = Load(itertools.repeat(Future))
    with pytest.raises(ClusterError, match="2 operations did not end"):
        load.run_closed(2, count=5)


def failing(*errors: BaseException | None) -> Iterator[Call]:
    def call(error: BaseException | None) -> Callable[[], Future[Any]]:
        return lambda: done(error=error)

    return itertools.cycle([call(error) for error in errors])


def test_failures_are_counted_and_are_not_in_the_latencies() -> None:
    """A command that the machine refused was answered like any other."""
    load = Load(failing(None, OutcomeUnknownError("late"), CommandError("refused")))
    load.run_closed(1, count=300)
    assert (load.ended, load.failed, len(load.latencies)) == (300, 100, 200)
    assert isinstance(load.failure, OutcomeUnknownError)


def test_what_could_not_be_started_has_failed() -> None:
    def refuse() -> Future[Any]:
        raise NotAppliedError("no room")

    load = Load(itertools.repeat(refuse))
    load.run_closed(3, count=10)
    assert (load.ended, load.failed, len(load.latencies)) == (10, 10, 0)


class Results:
    """What a batch comes to."""

    def __init__(self, lost: int) -> None:
        self.errors = {number: OutcomeUnknownError("late") for number in range(lost)}


def test_a_batch_counts_as_many_commands_as_it_has() -> None:
    calls = itertools.cycle([lambda: done(Results(0)), lambda: done(Results(3))])
    load = Load(calls, weight=10)
    load.run_closed(2, count=100)
    assert (load.ended, load.failed, len(load.latencies)) == (100, 15, 10)


def test_percentiles_are_latencies_that_occurred() -> None:
    found = summarize([number * MS for number in reversed(range(1, 1_001))])
    assert found is not None
    assert (found.p50_ms, found.p90_ms, found.p99_ms) == (500, 900, 990)
    assert (found.p999_ms, found.max_ms, found.mean_ms) == (999, 1_000, 500.5)
    assert summarize([]) is None


def test_what_is_kept_is_bounded_and_still_even() -> None:
    latencies = Latencies(kept_max=1_000)
    for number in range(10_000):
        latencies.add(number * MS, (number + 1 + number % 7) * MS)
    assert len(latencies) < 1_000
    assert latencies.stride == 16
    found = latencies.summary()
    assert found is not None
    assert found.p50_ms == 4
    began = [began_ns // MS for began_ns, _ in latencies]
    assert began[0] < 100
    assert began[-1] > 9_900
