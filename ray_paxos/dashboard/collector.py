"""Looks at the cluster as long as somebody looks at the page, once for all of them.

```
 seen() ─▶ asked ─▶ look ─▶ the last view ─▶ pause ─┬─▶ look ...
                      └ failed ─▶ the last view, and since when it is old
                                             nobody asked for a while ─▶ rest
```

Rules:

1. One look at a time, and the next one not before the interval is over, and half of it was a pause.
2. A look that fails, or takes long, changes nothing of the last view, and never ends the collector.
3. Whoever comes after a rest waits for the next look: what there is may be hours old.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from ray_paxos.errors import PaxosError
from ray_paxos.observability.cluster_view import ClusterView

WATCHED_S = 30.0
SLOW_S = 5.0
"""A look takes less, also where members are down; else something is wrong, and the page says so."""
FIRST_WAIT_S = 15.0
FAILED_PAUSE_MAX_S = 10.0

_logger = logging.getLogger(__name__)


def wall_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Problem:
    """Why there is no newer view.

    Attributes:
        text: For a person.
        since_ms: When that began, in milliseconds since 1970.
    """

    text: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is to show.

    Attributes:
        number: Rises with everything new.
        view: The last one; None before the first.
        problem: Why it is old; None where it is not.
    """

    number: int = 0
    view: ClusterView | None = None
    problem: Problem | None = None


class Collector:
    """Of one server; lives in its event loop."""

    def __init__(
        self,
        look: Callable[[], ClusterView],
        *,
        interval_s: float,
        watched_s: float = WATCHED_S,
        slow_s: float = SLOW_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Rest.

        Args:
            look: Takes a look; blocks, and is called in a thread, one call at a time.
            interval_s: From one look to the next.
            watched_s: So long after somebody asked there are looks.
            slow_s: A look that takes longer is a problem.
            clock: Seconds, never falling.
        """
        self.interval_s = interval_s
        self._look = look
        self._watched_s = watched_s
        self._slow_s = slow_s
        self._clock = clock
        self._asked_s = -watched_s
        self._is_asked = asyncio.Event()
        self._is_resting = True
        self._news = asyncio.Condition()
        self._seen = Seen()

    @property
    def last(self) -> Seen:
        """What there is, without asking for more."""
        return self._seen

    async def seen(self, wait_s: float = FIRST_WAIT_S) -> Seen:
        """What there is to show, and a wish for more.

        Args:
            wait_s: After a rest, how long to wait for the next look.
        """
        before = self._seen.number
        has_rested = self._is_resting
        self._asked_s = self._clock()
        self._is_asked.set()
        if has_rested:
            await self._wait_for_later(before, wait_s)
        return self._seen

    async def _wait_for_later(self, number: int, wait_s: float) -> None:
        async def wait() -> None:
            async with self._news:
                await self._news.wait_for(lambda: self._seen.number > number)

        try:
            await asyncio.wait_for(wait(), wait_s)
        except asyncio.TimeoutError:
            return

    async def run(self) -> None:
        """Look for as long as the task lives; to be cancelled."""
        failures = 0
        while True:
            await self._is_asked.wait()
            if self._clock() - self._asked_s > self._watched_s:
                self._is_asked.clear()
                self._is_resting = True
                continue
            started_s = self._clock()
            looking = asyncio.create_task(self._try_to_look())
            await asyncio.wait((looking,), timeout=self._slow_s)
            if not looking.done():
                await self._take(f"no answer for {self._slow_s:g} s")
            await self._take(await looking)
            failures = failures + 1 if self._seen.problem is not None else 0
            took_s = self._clock() - started_s
            pause_s = max(self.interval_s - took_s, self.interval_s / 2)
            if failures > 1:
                pause_s = max(pause_s, min(pause_s * 2 ** min(failures, 8), FAILED_PAUSE_MAX_S))
            await asyncio.sleep(pause_s)

    async def _try_to_look(self) -> ClusterView | str:
        try:
            return await asyncio.to_thread(self._look)
        except PaxosError as error:
            return str(error)
        except Exception as error:
            # Ours; the page goes on all the same, and says what it was.
            _logger.exception("a look at the cluster broke off")
            return f"{type(error).__name__}: {error}"

    async def _take(self, found: ClusterView | str) -> None:
        seen = self._seen
        if isinstance(found, str):
            since_ms = seen.problem.since_ms if seen.problem is not None else wall_ms()
            problem = Problem(found, since_ms)
            if seen.problem is None:
                _logger.warning("the cluster does not answer: %s", found)
            self._seen = Seen(seen.number + 1, seen.view, problem)
        else:
            if seen.problem is not None:
                _logger.warning("the cluster answers again")
            self._seen = Seen(seen.number + 1, found, None)
        self._is_resting = False
        async with self._news:
            self._news.notify_all()
