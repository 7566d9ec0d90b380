"""One thread that runs what is posted to it, at once or at a time.

Every shell has one: what must not be done by whoever noticed that it is due (Ray's own threads,
which call back when an answer is there; a store's thread, which has finished a write) is posted
here. Calls run one after the other, in the order they were posted.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import os
import queue
import threading
import time
from collections.abc import Callable

_logger = logging.getLogger(__name__)

Call = Callable[[], object]


def be_nicer(niceness: int) -> None:
    """Let other threads of this machine go before the one that calls this, and its children.

    On Linux niceness is a thread's own. Elsewhere, and where it may not be changed, it stays.
    """
    if niceness:
        try:
            os.setpriority(
                os.PRIO_PROCESS,
                threading.get_native_id(),
                os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) + niceness,
            )
        except OSError as error:
            _logger.debug("niceness: %s", error)


class Timer:
    """A call at a time; made by `Background.call_later`."""

    __slots__ = ("at", "call")

    def __init__(self, at: float, call: Call) -> None:
        """Run `call` at a time of the monotonic clock, in seconds."""
        self.at = at
        self.call: Call | None = call

    def cancel(self) -> None:
        """Do not run it; where it is running already this changes nothing."""
        self.call = None


class Background:
    """The thread. May be posted to by any other, and by itself.

    Invariants: the timers are touched by the thread alone.
    """

    def __init__(self, name: str, *, niceness: int = 0) -> None:
        """Start the thread.

        Args:
            name: Of the thread.
            niceness: Above that of the thread that makes it.
        """
        self._niceness = niceness
        self._posted: queue.SimpleQueue[Call | Timer | None] = queue.SimpleQueue()
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def post(self, call: Call) -> None:
        """Run this as soon as what was posted earlier is done; after `close`, never."""
        self._posted.put(call)

    def call_later(self, delay_s: float, call: Call) -> Timer:
        """Run this after a time; it may be cancelled until then."""
        timer = Timer(time.monotonic() + delay_s, call)
        self._posted.put(timer)
        return timer

    def close(self) -> None:
        """End the thread once it has done what was posted so far, and wait for that.

        The thread itself may close it, and then does not wait.
        """
        self._posted.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        be_nicer(self._niceness)
        while True:
            posted: Call | Timer | None = _nothing
            with contextlib.suppress(queue.Empty):
                posted = self._posted.get(timeout=self._patience_s())
            if posted is None:
                return
            if isinstance(posted, Timer):
                heapq.heappush(self._timers, (posted.at, next(self._numbers), posted))
            else:
                _run_one(posted)
            self._run_due()

    def _patience_s(self) -> float | None:
        if not self._timers:
            return None
        return max(self._timers[0][0] - time.monotonic(), 0.0)

    def _run_due(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            _, _, timer = heapq.heappop(self._timers)
            if timer.call is not None:
                _run_one(timer.call)


def _run_one(call: Call) -> None:
    try:
        call()
    except Exception:  # a bug, which has stopped its role: the others' calls still run
        _logger.exception("a call in the background broke off, which is a bug")


def _nothing() -> None:
    """What is run where nothing was posted: what is due is."""
