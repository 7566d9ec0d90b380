"""What series of writes and reads show: for how long nobody was served, and what was stale."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from tests.hosts.drivers import Operation, Series


def longest_gap_s(operations: Sequence[Operation], since_ns: int, until_ns: int) -> float:
    """The longest time without a success, of the time between two moments.

    Args:
        operations: Of one client.
        since_ns: The first moment; a time that began before it counts from its beginning.
        until_ns: The last moment.
    """
    moments = [each.end_ns for each in operations if each.value is not None]
    before = max((moment for moment in moments if moment <= since_ns), default=since_ns)
    within = [moment for moment in moments if before < moment < until_ns]
    edges = [before, *within, until_ns]
    return max(later - earlier for earlier, later in pairwise(edges)) / 1e9


def stale_reads(writes: Series, reads: Sequence[Operation]) -> list[str]:
    """Reads that saw less than was acknowledged before they began, or more than was ever begun.

    Args:
        writes: All that was ever written to the key, by one client: 1, 2, ...
        reads: Reads that promise to be linearizable.
    """
    acknowledged = [(w.end_ns, w.value) for w in writes.operations if w.value is not None]
    found = []
    for read in reads:
        if read.value is None:
            continue
        least = max((value for end_ns, value in acknowledged if end_ns < read.start_ns), default=0)
        most = max((value for begin_ns, value in writes.begun if begin_ns < read.end_ns), default=0)
        if not least <= read.value <= most:
            found.append(f"{read} saw {read.value}; allowed: {least} to {most}")
    return found
