"""The times of a role on the wall clock, for people.

A role's clock never falls and is never set; the wall clock is. So the difference between both is
measured once, as well as can be, and again only after the wall clock was set: read anew for each
time it would tremble by as long as a thread may be held up between two readings, and what follows
on something else would seem to come before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeAlias

Clock: TypeAlias = Callable[[], int]
"""Nanoseconds."""

SET_NS = 5_000_000
"""If the wall clock is off by more than this, it was set."""
TRIES = 5


def wall_ms() -> int:
    """Milliseconds since 1970, for people: what anything does never depends on it."""
    return time.time_ns() // 1_000_000


class WallTime:
    """Of one role; used in its turns."""

    def __init__(self, clock: Clock, wall_clock: Clock = time.time_ns) -> None:
        """Measure the difference.

        Args:
            clock: The role's.
            wall_clock: Nanoseconds since 1970.
        """
        self._clock = clock
        self._wall_clock = wall_clock
        self._difference_ns = self._measured()

    @property
    def difference_ns(self) -> int:
        """What to add to a time of the role's clock."""
        found = self._wall_clock() - self._clock()
        if abs(found - self._difference_ns) > SET_NS:
            self._difference_ns = self._measured()
        return self._difference_ns

    def _measured(self) -> int:
        """The difference by the two readings of several that were closest together."""
        tries = []
        for _ in range(TRIES):
            before_ns = self._clock()
            wall_ns = self._wall_clock()
            tries.append((self._clock() - before_ns, wall_ns - before_ns))
        gap_ns, difference_ns = min(tries)
        return difference_ns - gap_ns // 2
