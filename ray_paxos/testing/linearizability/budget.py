"""How long, and how much memory, a search may take before it says that it does not know."""

from __future__ import annotations

from collections.abc import Callable

CONFIGURATIONS_MAX = 2_000_000
"""Configurations that one key's search may hold: 300 bytes and 10 to 40 us each."""

_WORK_BETWEEN_LOOKS = 1_000


class Budget:
    """What is left to spend on one verdict.

    Attributes:
        configurations: Spent so far, by all searches.
        reason: Why a search gave up; empty while none has.
    """

    def __init__(
        self,
        clock_ns: Callable[[], int],
        limit_ns: int,
        configurations_max: int = CONFIGURATIONS_MAX,
    ) -> None:
        """Start the clock.

        Args:
            clock_ns: Monotonic, in nanoseconds.
            limit_ns: Time from now on for all searches together.
            configurations_max: For each search.
        """
        self._clock_ns = clock_ns
        self._limit_ns = limit_ns
        self._deadline_ns = clock_ns() + limit_ns
        self._configurations_max = configurations_max
        self._left = configurations_max
        self._work = 0
        self.configurations = 0
        self.reason = ""

    def has_time(self) -> bool:
        """Whether the time limit has not passed; else the reason says so from here on."""
        if self._clock_ns() < self._deadline_ns:
            return True
        self.reason = f"the time limit of {self._limit_ns / 1e9:g} s passed"
        return False

    def begin_search(self) -> None:
        """The memory of the searches before is free again."""
        self._left = self._configurations_max

    def spend(self, configurations: int, work: int) -> bool:
        """Take what a step of the search costs.

        Args:
            configurations: New ones to be held.
            work: Any number that grows with the time the step took.

        Returns:
            False if there are no configurations left, or no time.
        """
        self.configurations += configurations
        self._left -= configurations
        if self._left < 0:
            self.reason = f"{self._configurations_max} configurations were not enough"
            return False
        self._work += work
        if self._work < _WORK_BETWEEN_LOOKS:
            return True
        self._work = 0
        return self.has_time()
