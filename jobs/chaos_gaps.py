"""For how long nothing was acknowledged, and what was going on meanwhile; pure.

A gap lies between two acknowledgements that follow each other, whoever got them, or between one
and an end of the run. What falls into the time of a `restart-all` is counted apart: a gap that
overlaps the time from when everything was killed until all members served again; it ends with the
next acknowledgement, like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from chaos_plan import FaultKind

SHOWN = 10
SECOND_NS = 1_000_000_000


@dataclass(slots=True)
class Disturbance:
    """One fault, as it was injected.

    Attributes:
        kind: Which.
        what: Whom it hit and how, for a person.
        start_ns: When it began.
        end_ns: When all that it hit served again; None while it has not.
        refusal: Why it did not come about; empty where it did.
    """

    kind: FaultKind
    what: str
    start_ns: int
    end_ns: int | None = None
    refusal: str = ""

    def overlaps(self, start_ns: int, end_ns: int) -> bool:
        """Whether any of its time lies between these two."""
        return self.start_ns < end_ns and (self.end_ns is None or start_ns < self.end_ns)


@dataclass(frozen=True, slots=True)
class Gap:
    """A time without an acknowledgement.

    Attributes:
        start_ns: The acknowledgement before it, or the start of the run.
        end_ns: The one after it, or the end of the run.
        causes: The faults that overlap it.
        is_of_restart_all: Whether one of them is `restart-all`.
    """

    start_ns: int
    end_ns: int
    causes: tuple[Disturbance, ...]
    is_of_restart_all: bool

    @property
    def length_s(self) -> float:
        """How long it is."""
        return (self.end_ns - self.start_ns) / SECOND_NS


@dataclass(frozen=True)
class Gaps:
    """The gaps of a run.

    Attributes:
        longest_s: Of those that no `restart-all` overlaps; 0 where there is none.
        longest_restart_all_s: Of those that one does; None where there was no `restart-all`.
        shown: The longest of all, longest first.
    """

    longest_s: float
    longest_restart_all_s: float | None
    shown: tuple[Gap, ...]


def find_gaps(
    acknowledged_ns: Sequence[int],
    start_ns: int,
    end_ns: int,
    disturbances: Sequence[Disturbance],
) -> Gaps:
    """Measure a run.

    Args:
        acknowledged_ns: When, in any order; what lies outside the run does not count.
        start_ns: Of the run.
        end_ns: Of the run.
        disturbances: Its faults.
    """
    inside = sorted(moment for moment in acknowledged_ns if start_ns <= moment <= end_ns)
    ends = [pair for pair in pairwise([start_ns, *inside, end_ns]) if pair[0] < pair[1]]
    ends.sort(key=lambda pair: pair[0] - pair[1])
    longest: dict[bool, float] = {}
    if any(d.kind is FaultKind.RESTART_ALL for d in disturbances):
        wanted = {False, True}
    else:
        wanted = {False}
    shown: list[Gap] = []
    # From the longest on, so that the faults are compared with few of them.
    for before, after in ends:
        if len(shown) >= SHOWN and wanted <= longest.keys():
            break
        gap = _gap(before, after, disturbances)
        longest.setdefault(gap.is_of_restart_all, gap.length_s)
        shown.append(gap)
    return Gaps(
        longest_s=longest.get(False, 0.0),
        longest_restart_all_s=longest.get(True, 0.0) if True in wanted else None,
        shown=tuple(shown[:SHOWN]),
    )


def _gap(start_ns: int, end_ns: int, disturbances: Sequence[Disturbance]) -> Gap:
    causes = tuple(d for d in disturbances if d.overlaps(start_ns, end_ns))
    is_of_restart_all = any(cause.kind is FaultKind.RESTART_ALL for cause in causes)
    return Gap(start_ns, end_ns, causes, is_of_restart_all)
