"""Leases that a process keeps: renewed in time, known to hold only as long as its own clock says.

```
   sent ─── answered                 renewed at a third        given up
    │          │                          │                       │
 ───┼──────────┼──────────────────────────┼───────────────────────┼──▶ the holder's clock
    └─ known to be held for ttl, less the drift, from here ───────┘
       (the machine counts from the instance that granted it, which is later)
```

Rules:

1. A lease is known to be held from when a command that granted or renewed it was answered until its
   ttl after that command was *sent*, less what clocks may drift; never longer. Nothing is read off
   the machine's clock.
2. A grant that was waited for began at an instance whose time nobody here knows; so it is known to
   be held once it was renewed, which is done at once. Its token counts from the beginning.
3. Renewals go by themselves, every third of the ttl. A process that stands still renews nothing,
   and finds the lease over by its own clock (which goes on while a machine sleeps).
4. A lease that is over is never held again: `Lost` by the machine, or a clock that came to its end
   without an answer.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from ray_paxos.actors.outcomes import Result
from ray_paxos.errors import LeaseLostError, PaxosError

_logger = logging.getLogger(__name__)

DRIFT_PPM = 10_000
"""By how much any clock may be slow, in parts in a million; as of the masters' leases."""
RENEWALS = 3
"""So often a lease is renewed in the time of its ttl."""


def boot_time_s() -> float:
    """Seconds since boot, suspends included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class KeptLease:
    """One lease that is renewed by itself until it is ended or lost. Used by any thread.

    Attributes:
        token: The fencing token.
    """

    def __init__(
        self,
        what: str,
        token: int,
        ttl_s: float,
        renew: Callable[[], Future[Result]],
        is_renewed: Callable[[Result], bool],
        *,
        known_from_s: float | None,
        on_lost: Callable[[], object] | None = None,
        clock: Callable[[], float] = boot_time_s,
    ) -> None:
        """Held already.

        Args:
            what: For a person: of what.
            token: The fencing token.
            ttl_s: For how long each renewal is.
            renew: Submits a renewal.
            is_renewed: Whether the result of one says so; else the lease is lost.
            known_from_s: When the command was sent that granted it; None where it was waited for.
            on_lost: Called once, from another thread, when the lease is over without `end`.
            clock: Seconds.
        """
        self.token = token
        self._what = what
        self._ttl_s = ttl_s
        self._renew = renew
        self._is_renewed = is_renewed
        self._on_lost = on_lost
        self._clock = clock
        self._changed = threading.Condition()
        self._is_over = False
        self._known_s = ttl_s * (1 - DRIFT_PPM / 1e6)
        self._sent_s = known_from_s
        # Where nothing is known, nothing will be, once no renewal was answered for that long.
        self._is_known = known_from_s is not None
        from_s = clock() if known_from_s is None else known_from_s
        self._held_until_s = from_s + self._known_s
        self._keeper = _keeper_of_this_process()
        self._keeper.keep(self)

    # For its user.

    @property
    def is_held(self) -> bool:
        """Whether it is known to be held now."""
        return self.remaining_s > 0

    @property
    def remaining_s(self) -> float:
        """For how long it is known to be held, in seconds, if nothing is renewed; 0 for not at all.

        Waits for the first renewal where the grant was waited for, for up to the ttl.
        """
        with self._changed:
            while not self._is_known and not self._is_over:
                self._changed.wait(self._ttl_s)
                if self._clock() >= self._held_until_s:
                    return 0.0
            return 0.0 if self._is_over else max(self._held_until_s - self._clock(), 0.0)

    def check(self) -> None:
        """Go on only while it is known to be held.

        Raises:
            LeaseLostError: It is not.
        """
        if not self.is_held:
            raise LeaseLostError(
                f"{self._what} is not known to be held any more: this process stood still, or the "
                "group could not be reached in time; acquire it anew"
            )

    def end(self) -> None:
        """Keep it no more; to give it back is the caller's."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    # For the keeper.

    def next_due_s(self) -> float | None:
        """When to look at it next; None once it is over."""
        with self._changed:
            if self._is_over:
                return None
            if self._sent_s is None:
                return self._clock()
            return min(self._held_until_s, self._sent_s + self._ttl_s / RENEWALS)

    def go_on(self) -> None:
        """Renew it, or see that it is over."""
        with self._changed:
            if self._is_over:
                return
            if self._clock() >= self._held_until_s:
                self._lose()
                return
            sent_s = self._sent_s = self._clock()
        try:
            future = self._renew()
        except PaxosError:
            # No room, or a closed client: it is over in time, by the clock.
            return
        future.add_done_callback(lambda done: self._on_renewed(sent_s, done))

    def _on_renewed(self, sent_s: float, done: Future[Result]) -> None:
        if done.cancelled() or done.exception() is not None:
            return
        with self._changed:
            if self._is_over:
                return
            # An answer that comes too late makes nothing held again: it was said to be over.
            is_late = self._clock() >= self._held_until_s
            if is_late or not self._is_renewed(done.result()):
                self._lose()
                return
            self._is_known = True
            self._held_until_s = max(self._held_until_s, sent_s + self._known_s)
            self._changed.notify_all()

    def _lose(self) -> None:
        """It is over, without `end`; with the condition."""
        self._is_over = True
        self._changed.notify_all()
        if self._on_lost is not None:
            # A thread of its own: whatever the callback does, others' leases are kept meanwhile.
            threading.Thread(target=self._on_lost, name="ray_paxos-lost", daemon=True).start()


class _Keeper:
    """The thread that renews all leases of a process."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._numbers = itertools.count()
        self._due: list[tuple[float, int, KeptLease]] = []
        self._thread = threading.Thread(target=self._run, name="ray_paxos-leases", daemon=True)
        self._thread.start()

    def keep(self, lease: KeptLease) -> None:
        """Look at a lease from now on."""
        due_s = lease.next_due_s()
        if due_s is not None:
            with self._changed:
                heapq.heappush(self._due, (due_s, next(self._numbers), lease))
                self._changed.notify()

    def _run(self) -> None:
        while True:
            for lease in self._take_due():
                try:
                    lease.go_on()
                except Exception:
                    # Such as no more threads: whatever it is, others' leases are kept meanwhile.
                    _logger.exception("a lease was not renewed")
                self.keep(lease)

    def _take_due(self) -> list[KeptLease]:
        """Those that are to be looked at; waits until there are some."""
        with self._changed:
            while True:
                now_s = boot_time_s()
                due = []
                while self._due and self._due[0][0] <= now_s:
                    due.append(heapq.heappop(self._due)[2])
                if due:
                    return due
                self._changed.wait(self._due[0][0] - now_s if self._due else None)


_making = threading.Lock()
_keeper: _Keeper | None = None


def _keeper_of_this_process() -> _Keeper:
    global _keeper
    with _making:
        if _keeper is None:
            _keeper = _Keeper()
        return _keeper


def _forget_keeper() -> None:
    """In a child process after a fork: the parent's threads do not run here."""
    global _keeper, _making
    _making = threading.Lock()
    _keeper = None


os.register_at_fork(after_in_child=_forget_keeper)
