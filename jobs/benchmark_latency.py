"""Latencies of a run: every one is kept, so that percentiles are exact.

Two whole numbers an operation go into one array: 0.1 us each, where recording into an HDR histogram
of the Python package of that name took 0.9 us, a tenth of what a client spends on a command. The
array is bounded: when it is full every second operation goes, and from then on only every second
one comes in; `stride` says so. Percentiles are by nearest rank: a latency that occurred.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress, cycle
from typing import Any

from job_numbers import nearest_rank

KEPT_MAX = 4_000_000
"""Operations; 16 bytes each."""


@dataclass(frozen=True)
class Summary:
    """Percentiles, in milliseconds.

    Attributes:
        count: Operations of which they are.
    """

    count: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float

    def document(self) -> dict[str, Any]:
        """For the JSON document."""
        return {
            name: round(number, 4) if isinstance(number, float) else number
            for name, number in vars(self).items()
        }


def summarize(latencies_ns: list[int]) -> Summary | None:
    """Percentiles of latencies; None where there are none."""
    if not latencies_ns:
        return None
    ordered = sorted(latencies_ns)
    count = len(ordered)

    def at(share: float) -> float:
        return nearest_rank(ordered, share) / 1e6

    mean_ms = sum(ordered) / count / 1e6
    return Summary(count, mean_ms, at(0.5), at(0.9), at(0.99), at(0.999), ordered[-1] / 1e6)


@dataclass(frozen=True)
class Window:
    """A stretch of a run.

    Attributes:
        start_s: Since the run began.
        width_s: How long it is.
        latency: Of the operations in it; None where there were none.
    """

    start_s: float
    width_s: float
    latency: Summary | None

    def document(self, stride: int) -> dict[str, Any]:
        """For the JSON document, and for charts."""
        count = self.latency.count * stride if self.latency is not None else 0
        return {
            "start_s": round(self.start_s, 3),
            "calls_per_s": round(count / self.width_s, 1),
            "p50_ms": round(self.latency.p50_ms, 3) if self.latency is not None else None,
            "p99_ms": round(self.latency.p99_ms, 3) if self.latency is not None else None,
        }


class Latencies:
    """When operations began and ended.

    Attributes:
        stride: Of so many operations one is kept.
    """

    def __init__(self, kept_max: int = KEPT_MAX) -> None:
        """Keep at most so many."""
        self.stride = 1
        self._kept_max = kept_max
        self._times = array("q")
        self._skipped = 0

    def add(self, began_ns: int, ended_ns: int) -> None:
        """One operation; not to be called by two threads at once."""
        if self.stride > 1:
            self._skipped += 1
            if self._skipped < self.stride:
                return
            self._skipped = 0
        self._times.extend((began_ns, ended_ns))
        if len(self._times) >= 2 * self._kept_max:
            self._halve()

    def _halve(self) -> None:
        self._times = array("q", compress(self._times, cycle((1, 1, 0, 0))))
        self.stride *= 2

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._times) // 2

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """When each began and ended."""
        return zip(self._times[::2], self._times[1::2], strict=True)

    def summary(self) -> Summary | None:
        """Percentiles of all."""
        return summarize([ended - began for began, ended in self])

    def windows(self, began_ns: int, width_s: float, *, by_begin: bool = False) -> list[Window]:
        """What it was like over time.

        Args:
            began_ns: When the run began.
            width_s: Of each stretch.
            by_begin: Whether an operation counts where it began, not where it ended.
        """
        stretches: dict[int, list[int]] = {}
        width_ns = int(width_s * 1e9)
        for began, ended in self:
            place = ((began if by_begin else ended) - began_ns) // width_ns
            stretches.setdefault(place, []).append(ended - began)
        last = max(stretches, default=-1)
        return [
            Window(place * width_s, width_s, summarize(stretches.get(place, [])))
            for place in range(last + 1)
        ]
