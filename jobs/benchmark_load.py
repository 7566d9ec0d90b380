"""Loads: so many operations in flight (closed), or so many a second whatever happens (open).

A closed load starts the next operation when one ends. It finds out how much fits through, but a
cluster that stands still for a second shows in a handful of its latencies only: nothing is started
meanwhile. An open load starts operations at times fixed before, and counts each one's latency from
that time, whenever it could really be started: who would have waited in that second is in the
percentiles.

What is started is a `Call`: it returns a future that stands for one operation or for a whole batch
of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from benchmark_latency import Latencies
from ray_paxos.errors import ClusterError, CommandError, PaxosError

Call = Callable[[], "Future[Any]"]
OPEN_MAX = 50_000
"""So many operations of an open load may be open; the next one waits, and its clock runs."""
TICK_S = 0.001
TICK_NS = 100_000_000
SETTLE_S = 60.0
_ENDLESS = 1 << 63


class Load:
    """Starts operations and takes in how they end.

    Attributes:
        latencies: Of those that ended well.
        ended: How many operations have ended, well or not.
        failed: How many of them have no result.
        failure: The first error; None where there was none.
    """

    def __init__(
        self,
        calls: Iterator[Call],
        *,
        weight: int = 1,
        clock: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Start nothing yet.

        Args:
            calls: What to start, without end.
            weight: Operations that one call stands for.
            clock: In nanoseconds.
            sleep: Until a time has come, in seconds.
        """
        self.latencies = Latencies()
        self.ended = 0
        self.failed = 0
        self.failure: BaseException | None = None
        self._calls = calls
        self._weight = weight
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._open = 0
        # The submitting thread sleeps until no more than this are open; -1 while it does not.
        self._wanted = -1
        self._is_room = threading.Event()
        # Of a closed load: calls to start, until when, and how many go on one after the other.
        self._left = 0
        self._until_ns = 0
        self._chains = 0
        self._is_over = threading.Event()

    # Closed.

    def run_closed(
        self,
        in_flight: int,
        *,
        seconds: float = 0.0,
        count: int = 0,
        on_tick: Callable[[], None] = lambda: None,
    ) -> None:
        """Keep so many calls in flight, and wait for the last ones in the end.

        The thread that settles a call starts the next one. With a thread that starts calls beside
        the client's own, which settles them, the two spent more on handing the interpreter to each
        other than on commands.

        Args:
            in_flight: Calls.
            seconds: How long to start calls.
            count: Or how many operations to start.
            on_tick: Called now and then.

        Raises:
            ClusterError: Nothing ended for a minute.
        """
        self._left = -(-count // self._weight) if count else _ENDLESS
        self._until_ns = _ENDLESS if count else self._clock() + int(seconds * 1e9)
        self._chains = in_flight
        self._is_over.clear()
        for _ in range(in_flight):
            self._go_on()
        ended, quiet_s = self.ended, 0.0
        while not self._is_over.wait(TICK_NS / 1e9):
            on_tick()
            quiet_s = quiet_s + TICK_NS / 1e9 if self.ended == ended else 0.0
            ended = self.ended
            if quiet_s > SETTLE_S:
                raise ClusterError(f"{self._chains:,} operations did not end in {SETTLE_S:g} s")
        on_tick()

    def _go_on(self) -> None:
        """Start one call, or several where they end at once; or end this chain of calls."""
        while True:
            began_ns = self._clock()
            with self._lock:
                if self._left <= 0 or began_ns >= self._until_ns:
                    self._chains -= 1
                    if not self._chains:
                        self._is_over.set()
                    return
                self._left -= 1
                # In here, since some of them are generators.
                call = next(self._calls)
            try:
                future = call()
            except PaxosError as error:
                self._note_failure(error, self._weight)
                with self._lock:
                    self.ended += self._weight
                continue
            if not future.done():
                future.add_done_callback(partial(self._ended_then_next, began_ns))
                return
            # Not by the callback, which would be called in here, deeper each time.
            self._take_in(began_ns, future)

    def _ended_then_next(self, began_ns: int, future: Future[Any]) -> None:
        self._take_in(began_ns, future)
        self._go_on()

    # One at a time.

    def run_alone(
        self,
        calls: Iterator[Callable[[], object]],
        *,
        seconds: float,
        on_tick: Callable[[], None] = lambda: None,
    ) -> None:
        """Make one call after the other and wait for each in this thread."""
        clock, add = self._clock, self.latencies.add
        until_ns = clock() + int(seconds * 1e9)
        ended_ns = 0
        while ended_ns < until_ns:
            call = next(calls)
            began_ns = clock()
            try:
                call()
            except PaxosError as error:
                self._note_failure(error, self._weight)
                ended_ns = clock()
            else:
                ended_ns = clock()
                add(began_ns, ended_ns)
            self.ended += self._weight
            on_tick()

    # Open.

    def run_open(
        self,
        stages: Sequence[tuple[float, float]],
        *,
        on_tick: Callable[[], None] = lambda: None,
    ) -> int:
        """Start calls at their times, and wait for the last ones in the end.

        Args:
            stages: Calls in a second, and for how many seconds; one after the other.
            on_tick: Called about every millisecond.

        Returns:
            When it began, by the clock.
        """
        began_ns = self._clock()
        stage_ns = began_ns
        for rate, seconds in stages:
            for number in range(int(rate * seconds)):
                due_ns = stage_ns + int(number * 1e9 / rate)
                self._sleep_until(due_ns, on_tick)
                if self._open >= OPEN_MAX:
                    self._wait_for(OPEN_MAX - 1)
                self._start(due_ns)
            stage_ns += int(seconds * 1e9)
            self._sleep_until(stage_ns, on_tick)
        self._wait_for(0)
        return began_ns

    def _sleep_until(self, due_ns: int, on_tick: Callable[[], None]) -> None:
        while (early_ns := due_ns - self._clock()) > 0:
            on_tick()
            # Calls of one tick are started together: a thread that wakes for each one costs more
            # than what it starts.
            self._sleep(max(early_ns / 1e9, TICK_S))

    # How they end.

    def _start(self, began_ns: int) -> None:
        with self._lock:
            self._open += 1
        try:
            future = next(self._calls)()
        except PaxosError as error:
            self._note_failure(error, self._weight)
            self._note_ended()
            return
        future.add_done_callback(partial(self._settled, began_ns))

    def _settled(self, began_ns: int, future: Future[Any]) -> None:
        self._take_in(began_ns, future)
        with self._lock:
            self._open -= 1
            if self._open <= self._wanted:
                self._is_room.set()

    def _take_in(self, began_ns: int, future: Future[Any]) -> None:
        ended_ns = self._clock()
        error = future.exception()
        is_good = error is None or isinstance(error, CommandError)
        lost = 0 if is_good else self._weight
        if is_good and self._weight > 1:
            errors = future.result().errors
            lost = sum(not isinstance(each, CommandError) for each in errors.values())
            error = next(iter(errors.values()), None)
        if lost and error is not None:
            self._note_failure(error, lost)
        with self._lock:
            if lost < self._weight:
                self.latencies.add(began_ns, ended_ns)
            self.ended += self._weight

    def _note_ended(self) -> None:
        with self._lock:
            self.ended += self._weight
            self._open -= 1

    def _note_failure(self, error: BaseException, count: int) -> None:
        with self._lock:
            self.failed += count
            self.failure = self.failure or error

    def _wait_for(self, open_max: int) -> None:
        """Until no more than so many calls are open.

        Raises:
            ClusterError: Nothing ended for a minute.
        """
        while True:
            with self._lock:
                if self._open <= open_max:
                    self._wanted = -1
                    return
                self._wanted = open_max
                ended = self.ended
                self._is_room.clear()
            if not self._is_room.wait(SETTLE_S) and self.ended == ended:
                raise ClusterError(f"{self._open:,} operations did not end in {SETTLE_S:g} s")
