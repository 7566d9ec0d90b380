"""How often a time, or a size, lay within which bounds."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
)
"""Bounds of times: from an fsync of a fast disk to a command that waited for an election."""
COUNTS = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 10_000.0)
"""Bounds of how many there are of something: commands of an instance, records of an append."""


class Histogram:
    """Counts by upper bound.

    Invariants: one count more than bounds, the last for what lies above all; `total` is the sum of
    all that was observed.

    Attributes:
        bounds: Ascending; a value counts under the first bound that is not below it.
        counts: How often.
        total: The sum.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(
        self, bounds: Sequence[float], counts: Sequence[int] | None = None, total: float = 0.0
    ) -> None:
        """Start empty, or with what another one holds.

        Args:
            bounds: Ascending.
            counts: Of another one with the same bounds.
            total: Of it.
        """
        self.bounds = tuple(bounds)
        self.counts = list(counts) if counts is not None else [0] * (len(self.bounds) + 1)
        self.total = total
        assert len(self.counts) == len(self.bounds) + 1

    @property
    def count(self) -> int:
        """How many were observed."""
        return sum(self.counts)

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, so many times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    def since(self, earlier: Histogram | None) -> Histogram:
        """What was observed after an earlier state of it; all of it for None."""
        if earlier is None:
            return Histogram(self.bounds, self.counts, self.total)
        counts = [now - before for now, before in zip(self.counts, earlier.counts, strict=True)]
        return Histogram(self.bounds, counts, self.total - earlier.total)

    def add(self, other: Histogram) -> None:
        """Count what another one with the same bounds holds, too."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.total += other.total

    def quantile(self, share: float) -> float | None:
        """Up to which value a share of them lie; None where there are none.

        Args:
            share: From 0 to 1.

        Returns:
            By linear interpolation within the bounds, as Prometheus' `histogram_quantile` has it;
            of what lies above all bounds, the highest bound.
        """
        count = self.count
        if not count:
            return None
        rank, seen = share * count, 0
        for position, each in enumerate(self.counts[:-1]):
            if each and seen + each >= rank:
                low = self.bounds[position - 1] if position else 0.0
                high = self.bounds[position]
                # Rounded, it may be above.
                return min(low + (high - low) * max(rank - seen, 0.0) / each, high)
            seen += each
        return self.bounds[-1]
