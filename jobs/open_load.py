"""Commands at a steady rate, whether or not the cluster keeps up: an open load.

A closed load waits for answers and so hides what a slow cluster does to those who do not: here
every command has its time, its latency counts from that time, and one that could not even be sent
then, as too many are open, counts as late. Commands of ten milliseconds go together, as many
clients' would.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from job_numbers import weighted_nearest_rank
from submission import SubmittingClient

TICK_S = 0.01
OPEN_TICKS_MAX = 3_000
"""So many ticks' commands may be open: half a minute of them."""


@dataclass(frozen=True)
class Tick:
    """The commands of one tick: when they were due, and how long they took.

    Attributes:
        due_s: By `time.monotonic`.
        count: How many.
        latency_ms: From then to the last one's result.
        failed: How many have no result.
    """

    due_s: float
    count: int
    latency_ms: float
    failed: int


@dataclass
class Latencies:
    """What an open load met with in a stretch of time.

    Attributes:
        ticks: Those that were due in it.
        seconds: How long it was.
    """

    ticks: list[Tick] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def acknowledged(self) -> int:
        """Commands with a result."""
        return sum(tick.count - tick.failed for tick in self.ticks)

    @property
    def rate(self) -> float:
        """Acknowledged in a second."""
        return self.acknowledged / self.seconds if self.seconds > 0 else 0.0

    @property
    def failed(self) -> int:
        """Commands without a result."""
        return sum(tick.failed for tick in self.ticks)

    def percentile_ms(self, share: float) -> float:
        """So many of all commands took no longer; infinite where there were none."""
        return weighted_nearest_rank(
            [(tick.latency_ms, tick.count) for tick in self.ticks if tick.count], share
        )

    def document(self) -> dict[str, Any]:
        """For the JSON document."""
        return {
            "seconds": round(self.seconds, 2),
            "acknowledged": self.acknowledged,
            "failed": self.failed,
            "commands_per_s": round(self.rate, 1),
            "p50_ms": round(self.percentile_ms(0.5), 2),
            "p99_ms": round(self.percentile_ms(0.99), 2),
            "max_ms": round(self.percentile_ms(1.0), 2),
        }

    def text(self) -> str:
        """For a person."""
        return (
            f"{self.rate:,.0f} commands/s, p50 {self.percentile_ms(0.5):.1f} ms, "
            f"p99 {self.percentile_ms(0.99):.1f} ms, most {self.percentile_ms(1.0):.1f} ms, "
            f"{self.failed:,} failed"
        )


class OpenLoad:
    """Sends commands at a rate, from a thread of its own, until it is stopped."""

    def __init__(
        self,
        client: SubmittingClient,
        machine: str,
        rate: float,
        make: Callable[[int], bytes],
        *,
        timeout_s: float = 30.0,
    ) -> None:
        """Begin at once.

        Args:
            client: Where to.
            machine: Which state machine.
            rate: Commands in a second.
            make: The command of a number.
            timeout_s: A command without a result for so long has failed.
        """
        self._client = client
        self._machine = machine
        self._rate = rate
        self._make = make
        self._timeout_s = timeout_s
        self._ticks: deque[Tick] = deque()
        self._changed = threading.Condition()
        self._open = 0
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="open-load", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Send nothing more, and wait for what is open."""
        self._is_stopping.set()
        self._thread.join()
        with self._changed:
            self._changed.wait_for(lambda: self._open == 0, self._timeout_s + 5.0)

    def between(self, since_s: float, until_s: float) -> Latencies:
        """What was due in a stretch of time, once all of it is settled.

        Args:
            since_s: By `time.monotonic`.
            until_s: Likewise; not in the future.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._settled_through >= until_s, self._timeout_s + 5.0)
            ticks = [tick for tick in self._ticks if since_s <= tick.due_s < until_s]
        return Latencies(ticks, until_s - since_s)

    @property
    def _settled_through(self) -> float:
        if self._open == 0 and self._is_stopping.is_set():
            return math.inf
        # A client settles in order: what is due before the last settled tick is settled.
        return self._ticks[-1].due_s if self._ticks else -math.inf

    def _run(self) -> None:
        started = time.monotonic()
        number, tick = 0, 0
        while not self._is_stopping.is_set():
            tick += 1
            due_s = started + tick * TICK_S
            wait_s = due_s - time.monotonic()
            if wait_s > 0 and self._is_stopping.wait(wait_s):
                return
            through = int(tick * TICK_S * self._rate)
            commands = [self._make(each) for each in range(number, through)]
            number = through
            if not commands:
                continue
            with self._changed:
                self._changed.wait_for(lambda: self._open < OPEN_TICKS_MAX)
                self._open += 1
            future = self._client.propose_many_async(
                commands, self._machine, timeout_s=self._timeout_s, on_progress=None
            )
            future.add_done_callback(partial(self._settled, due_s, len(commands)))

    def _settled(self, due_s: float, count: int, done: Future[Any]) -> None:
        latency_ms = (time.monotonic() - due_s) * 1e3
        failed = count if done.exception() is not None else len(done.result().errors)
        with self._changed:
            self._ticks.append(Tick(due_s, count, latency_ms, failed))
            self._open -= 1
            self._changed.notify_all()
