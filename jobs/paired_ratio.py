"""How much faster one of two things is, from runs of both in turn.

Runs side by side in time see the same machine, so the ratio of each pair is worth more than the two
means. Ratios multiply: their logarithms are averaged, and the interval is Student's.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ray_paxos.errors import ConfigurationError

T_95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""Two-sided 95 % quantiles of Student's t, by degrees of freedom from 1 on.

They fall, to 1.960: with more degrees than stand here the last one is taken, so that the interval
is a little too wide, and never too narrow.
"""
PAIRS_MIN = 2


@dataclass(frozen=True, slots=True)
class PairedRatio:
    """What the pairs come to.

    Attributes:
        ratio: The geometric mean of first / second.
        low: Of its 95 % interval.
        high: Likewise.
        pairs: How many.
    """

    ratio: float
    low: float
    high: float
    pairs: int

    def __str__(self) -> str:
        """For a person."""
        interval = f"95 % interval {self.low:.4f} to {self.high:.4f}"
        return f"{self.ratio:.4f} ({interval}, {self.pairs} pairs)"


def paired_ratio(first: Sequence[float], second: Sequence[float]) -> PairedRatio:
    """Compare what was measured in turn.

    Args:
        first: Of each pair, above 0.
        second: Of the same pairs.

    Raises:
        ConfigurationError: There are fewer than two pairs, or nothing was measured in one.
    """
    if len(first) != len(second) or len(first) < PAIRS_MIN:
        raise ConfigurationError(f"pairs: found {len(first)}; allowed: {PAIRS_MIN} or more")
    if min(*first, *second) <= 0:
        raise ConfigurationError("a run measured nothing: there is no ratio")
    logs = [math.log(a / b) for a, b in zip(first, second, strict=True)]
    mean = statistics.fmean(logs)
    freedom = len(logs) - 1
    t = T_95[min(freedom, len(T_95)) - 1]
    half = t * statistics.stdev(logs) / math.sqrt(len(logs))
    return PairedRatio(math.exp(mean), math.exp(mean - half), math.exp(mean + half), len(logs))
