"""When what ends: keys by the log time at which they are due.

A heap gives the first one; what was forgotten or noted anew stays in it until it comes up, or until
there is more of that than of what counts. All of it follows from the calls alone.
"""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

K = TypeVar("K", str, int, tuple[str, str])

STALE_MIN = 1_000
"""So much of the heap may always be stale."""


class TimesToLive(Generic[K]):
    """Keys, each due once at most.

    Invariants: `_heap` has an item for each of `by_key`, and beside at most as many stale ones and
    `STALE_MIN` more; its first item is not stale.

    Attributes:
        by_key: When each key is due; to be read only.
    """

    def __init__(self) -> None:
        """Nothing ends."""
        self.by_key: dict[K, int] = {}
        self._heap: list[tuple[int, K]] = []

    @property
    def first_ns(self) -> int | None:
        """When the first key is due; None where none is."""
        return self._heap[0][0] if self._heap else None

    def note(self, key: K, ends_ns: int) -> None:
        """A key is due then, and at no other time."""
        self.by_key[key] = ends_ns
        heapq.heappush(self._heap, (ends_ns, key))
        self._tidy()

    def forget(self, key: K) -> None:
        """A key is not due any more."""
        if self.by_key.pop(key, None) is not None:
            self._tidy()

    def take(self, log_time_ns: int, count_max: int) -> list[K]:
        """Forget keys that are due by then.

        Args:
            log_time_ns: When.
            count_max: So many at most.

        Returns:
            They, the longest due first, of one time in the order of the keys.
        """
        taken: list[K] = []
        while self._heap and self._heap[0][0] <= log_time_ns and len(taken) < count_max:
            _, key = self._heap[0]
            del self.by_key[key]
            taken.append(key)
            self._tidy()
        return taken

    def _tidy(self) -> None:
        """Drop what is stale: from the front always, elsewhere where it is too much."""
        heap, ends = self._heap, self.by_key
        if len(heap) > 2 * len(ends) + STALE_MIN:
            heap[:] = [(ends_ns, key) for key, ends_ns in ends.items()]
            heapq.heapify(heap)
        while heap and ends.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
