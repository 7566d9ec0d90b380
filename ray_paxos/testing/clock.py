"""Virtual time: one queue of things to happen, and a clock of its own for every machine.

Rules: time moves only from one thing to the next; two things due at one time happen in the order
in which they were put in, so a run depends on nothing but its seed; the arithmetic is on integers,
so it is the same on every machine.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

MILLION = 1_000_000


class Scheduler:
    """What will happen, in order of virtual time.

    Invariants: `now_ns` never falls; nothing happens before its time.
    """

    def __init__(self) -> None:
        """Start at time 0 with nothing to do."""
        self.now_ns = 0
        self.steps = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._pushed = 0

    def __len__(self) -> int:
        """How many things wait."""
        return len(self._queue)

    def at(self, time_ns: int, action: Callable[[], None]) -> None:
        """Do `action` at a time, or at once where that has passed."""
        self._pushed += 1
        heapq.heappush(self._queue, (max(time_ns, self.now_ns), self._pushed, action))

    def after(self, delay_ns: int, action: Callable[[], None]) -> None:
        """Do `action` in `delay_ns` nanoseconds."""
        self.at(self.now_ns + delay_ns, action)

    @property
    def next_ns(self) -> int | None:
        """When the next thing is due; None with nothing to do."""
        return self._queue[0][0] if self._queue else None

    def step(self) -> None:
        """Move time to the next thing and do it."""
        assert self._queue, "nothing left to do"
        time_ns, _, action = heapq.heappop(self._queue)
        assert time_ns >= self.now_ns, "time never falls"
        self.now_ns = time_ns
        self.steps += 1
        action()


class MachineClock:
    """The monotonic clock of one machine, which all its processes read, at a rate of its own.

    It runs on while a process is suspended, as `CLOCK_BOOTTIME` does, and starts anew only when
    the machine's power was gone. Nobody can set it; but a machine that is frozen from outside and
    then told how long (a virtual machine that moves) may show a `jump`.

    What a lease can bear of that: any jump forward of the holder's machine, which makes it believe
    for less long; of a granter's machine as much as the margin for drift has left. A clock that
    loses time that passes for others (a machine that is frozen and told nothing) cannot be
    defended against by any lease, nor can a rate outside of the margin: who has such machines
    turns leases off.
    """

    def __init__(self, boot_ns: int, drift_ppm: int) -> None:
        """Start a clock.

        Args:
            boot_ns: Virtual time at which it read 0.
            drift_ppm: By how many parts in a million it runs fast (or, below 0, slow).
        """
        assert drift_ppm > -MILLION, "a clock never runs backwards"
        self.drift_ppm = drift_ppm
        self._boot_ns = boot_ns
        self._rate = MILLION + drift_ppm
        self._jumped_ns = 0

    def read(self, now_ns: int) -> int:
        """What the clock shows at a virtual time."""
        return (now_ns - self._boot_ns) * self._rate // MILLION + self._jumped_ns

    def when(self, local_ns: int) -> int:
        """The first virtual time at which the clock shows at least `local_ns`."""
        return self._boot_ns - (-(local_ns - self._jumped_ns) * MILLION // self._rate)

    def jump(self, by_ns: int) -> None:
        """Go forward by so much at once; a timer that is set rings when it would have."""
        assert by_ns >= 0, "no clock of a machine that runs goes back"
        self._jumped_ns += by_ns
