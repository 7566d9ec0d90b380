"""What is certain of the order of calls: one that was told before another was asked for; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import TypeVar

T = TypeVar("T")


def highest_before(
    told: Iterable[tuple[int, int]], asked: Iterable[tuple[int, T]]
) -> Iterator[tuple[T, int]]:
    """The highest number that was told to anybody before each call was made; 0 for none.

    Args:
        told: When, and which number.
        asked: When each call was made, and what it is.

    Returns:
        Each call, in the order in which they were made.
    """
    ordered = sorted(told)
    highest, count = 0, 0
    for asked_ns, call in sorted(asked, key=itemgetter(0)):
        while count < len(ordered) and ordered[count][0] < asked_ns:
            highest = max(highest, ordered[count][1])
            count += 1
        yield call, highest
