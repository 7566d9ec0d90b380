"""What faults did to a run's clients, kind by kind; pure.

1. A fault lasts from when it began until all that it hit served again. Faults overlap, so what is
   seen while one lasts may be another's doing: numbers of a kind say what it was like around its
   faults, not what they alone caused.
2. Rates and latencies are of all groups together, silences of the group that waited longest.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TypeAlias

from chaos_gaps import SECOND_NS, Disturbance
from job_numbers import nearest_rank

MILLISECOND_NS = 1_000_000
Acknowledged: TypeAlias = Mapping[int, Sequence[tuple[int, int]]]
"""Of each group: when each command was asked for, and when it had its result."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """What was acknowledged in one stretch of time.

    Attributes:
        start_s: Since the run began.
        end_s: Likewise.
        count: How many commands.
        p50_ms: Their latency; None where there was none.
        p99_ms: Likewise.
    """

    start_s: float
    end_s: float
    count: int
    p50_ms: float | None
    p99_ms: float | None

    @property
    def per_s(self) -> float:
        """Commands a second."""
        return self.count / max(self.end_s - self.start_s, 1e-9)


@dataclass(frozen=True, slots=True)
class KindEffects:
    """What one kind of fault did.

    Attributes:
        kind: Which.
        injected: How many came about.
        refused: How many did not.
        unfinished: After how many not all that they hit served again.
        usual_s: From when one began until all served again: the median; None where none ended.
        longest_s: The longest of these.
        silence_s: The longest time without an acknowledgement in any group that overlaps one.
        per_s: Commands acknowledged a second while at least one lasted; None where they took no
            time.
        p99_ms: Their latency; None where there was none.
    """

    kind: str
    injected: int
    refused: int
    unfinished: int
    usual_s: float | None
    longest_s: float | None
    silence_s: float
    per_s: float | None
    p99_ms: float | None


def stretches(acknowledged: Acknowledged, start_ns: int, end_ns: int, most: int) -> list[Stretch]:
    """The whole run in stretches of a second; of as many seconds as needed to have few enough.

    What is left at the end belongs to the stretch before it where it is less than half of one: a
    few commands of a moment are no rate.

    Args:
        acknowledged: By group.
        start_ns: Of the run.
        end_ns: Of the run.
        most: How many there may be.
    """
    seconds = -((start_ns - end_ns) // SECOND_NS)
    width_ns = max(-(-seconds // most), 1) * SECOND_NS
    whole, left_ns = divmod(end_ns - start_ns, width_ns)
    count = max(whole + (2 * left_ns >= width_ns), 1)
    latencies: dict[int, list[int]] = defaultdict(list)
    for of_group in acknowledged.values():
        for asked_ns, at_ns in of_group:
            if start_ns <= at_ns < end_ns:
                number = min((at_ns - start_ns) // width_ns, count - 1)
                latencies[number].append(at_ns - asked_ns)
    run_s = (end_ns - start_ns) / SECOND_NS
    found = []
    for number in range(count):
        inside = sorted(latencies[number])
        begin_s = number * width_ns / SECOND_NS
        stop_s = run_s if number == count - 1 else (number + 1) * width_ns / SECOND_NS
        p50_ms, p99_ms = _quantile_ms(inside, 0.5), _quantile_ms(inside, 0.99)
        found.append(Stretch(begin_s, stop_s, len(inside), p50_ms, p99_ms))
    return found


def _quantile_ms(ordered_ns: Sequence[int], share: float) -> float | None:
    return nearest_rank(ordered_ns, share) / MILLISECOND_NS if ordered_ns else None


def effects_by_kind(
    disturbances: Sequence[Disturbance], acknowledged: Acknowledged, start_ns: int, end_ns: int
) -> list[KindEffects]:
    """Of every kind that was tried.

    Args:
        disturbances: What was injected, and what was refused.
        acknowledged: By group.
        start_ns: Of the run.
        end_ns: Of the run.
    """
    kinds: dict[str, list[Disturbance]] = defaultdict(list)
    for disturbance in disturbances:
        kinds[disturbance.kind.value].append(disturbance)
    times = [sorted(at_ns for _, at_ns in of_group) for of_group in acknowledged.values()]
    ended = sorted(
        (at_ns, at_ns - asked) for each in acknowledged.values() for asked, at_ns in each
    )
    return [
        _effects(kind, of_kind, times, ended, (start_ns, end_ns))
        for kind, of_kind in sorted(kinds.items())
    ]


def _effects(
    kind: str,
    of_kind: Sequence[Disturbance],
    times: Sequence[Sequence[int]],
    ended: Sequence[tuple[int, int]],
    run: tuple[int, int],
) -> KindEffects:
    came = [each for each in of_kind if not each.refusal]
    lengths = [(e.end_ns - e.start_ns) / SECOND_NS for e in came if e.end_ns is not None]
    spans = _merged([(e.start_ns, run[1] if e.end_ns is None else e.end_ns) for e in came], run)
    latencies: list[int] = []
    for start_ns, end_ns in spans:
        first = bisect_left(ended, (start_ns, -1))
        latencies += [taken for _, taken in ended[first : bisect_left(ended, (end_ns, -1))]]
    span_s = sum(end_ns - start_ns for start_ns, end_ns in spans) / SECOND_NS
    silences = (_silence_ns(of_group, span, run) for of_group in times for span in spans)
    return KindEffects(
        kind=kind,
        injected=len(came),
        refused=len(of_kind) - len(came),
        unfinished=len(came) - len(lengths),
        usual_s=median(lengths) if lengths else None,
        longest_s=max(lengths, default=None),
        silence_s=max(silences, default=0) / SECOND_NS,
        per_s=len(latencies) / span_s if span_s > 0 else None,
        p99_ms=_quantile_ms(sorted(latencies), 0.99),
    )


def _merged(spans: Sequence[tuple[int, int]], run: tuple[int, int]) -> list[tuple[int, int]]:
    """Spans within the run that do not overlap, in order."""
    merged: list[tuple[int, int]] = []
    for start_ns, end_ns in sorted(spans):
        start_ns, end_ns = max(start_ns, run[0]), min(end_ns, run[1])
        if start_ns > end_ns:
            continue
        if merged and start_ns <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end_ns))
        else:
            merged.append((start_ns, end_ns))
    return merged


def _silence_ns(times: Sequence[int], span: tuple[int, int], run: tuple[int, int]) -> int:
    """The longest time between two acknowledgements that overlaps a span."""
    before = bisect_right(times, span[0]) - 1
    # What took no time has the silence after it.
    after = bisect_left(times, max(span[1], span[0] + 1))
    edges = [
        max(times[before], run[0]) if before >= 0 else run[0],
        *times[before + 1 : after],
        min(times[after], run[1]) if after < len(times) else run[1],
    ]
    return max(later - sooner for sooner, later in pairwise(edges))
