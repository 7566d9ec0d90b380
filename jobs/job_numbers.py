"""Numbers that jobs tell: quantiles of what was measured, and how a person reads them.

Quantiles are by nearest rank, everywhere: a number that occurred, never one between two.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

PARTS = 1_000_000
"""A share is a whole number of these."""
Number = TypeVar("Number", int, float)


def nearest_rank(ordered: Sequence[Number], share: float) -> Number:
    """The smallest number at or below which this share of them lies.

    Args:
        ordered: Ascending, at least one.
        share: From 0 to 1.
    """
    return ordered[_rank(len(ordered), share) - 1]


def weighted_nearest_rank(weighted: Iterable[tuple[float, int]], share: float) -> float:
    """The same of numbers of which each counts several times; infinite of none.

    Args:
        weighted: Numbers, each with how often it counts.
        share: From 0 to 1.
    """
    ordered = sorted(weighted)
    rank = _rank(sum(weight for _, weight in ordered), share)
    reached = 0
    for number, weight in ordered:
        reached += weight
        if reached >= rank:
            return number
    return math.inf


def _rank(count: int, share: float) -> int:
    """Of so many the how manieth it is, from 1 on."""
    # Through whole numbers: 0.07 * 100 is a little more than 7.
    return max(-(-count * round(share * PARTS) // PARTS), 1)


def number_text(number: float) -> str:
    """What was measured or counted, for a person: as many places as say something."""
    if isinstance(number, int):
        return f"{number:,}"
    places = 0 if abs(number) >= 100 else 1 if abs(number) >= 10 else 2
    return f"{number:,.{places}f}"


def round_number_text(number: float) -> str:
    """A number that somebody chose, as a bound or beside an axis: as it was chosen."""
    return f"{number:,.0f}" if abs(number) >= 1_000 else f"{number:g}"
