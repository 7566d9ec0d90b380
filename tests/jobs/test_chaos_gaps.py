"""Times without an acknowledgement, and whose fault they are."""

from __future__ import annotations

import random
from itertools import pairwise

from chaos_gaps import SECOND_NS, Disturbance, find_gaps
from chaos_plan import FaultKind


def at(*seconds: float) -> list[int]:
    return [int(second * SECOND_NS) for second in seconds]


def disturbance(kind: FaultKind, start_s: float, end_s: float | None) -> Disturbance:
    start_ns = int(start_s * SECOND_NS)
    return Disturbance(kind, "m1", start_ns, None if end_s is None else int(end_s * SECOND_NS))


def find(acknowledged: list[int], start_s: float, end_s: float, *disturbances: Disturbance):
    start_ns, end_ns = at(start_s, end_s)
    return find_gaps(acknowledged, start_ns, end_ns, disturbances)


def test_gaps_are_between_acknowledgements_and_at_both_ends() -> None:
    assert find(at(1, 3, 4), 0, 5).longest_s == 2
    assert find(at(3, 4), 0, 5).longest_s == 3
    assert find(at(1), 0, 5).longest_s == 4
    assert find([], 0, 5).longest_s == 5
    # In any order, and what lies outside counts for nothing.
    assert find(at(4, 1, 3, 9, -1), 0, 5).longest_s == 2


def test_a_gap_names_what_went_on_meanwhile() -> None:
    pause = disturbance(FaultKind.PAUSE_MEMBER, 1.5, 3.5)
    kill = disturbance(FaultKind.KILL_ROLE, 4.5, None)
    gaps = find(at(1, 3, 4, 5, 6), 0, 6, pause, kill)
    assert [(gap.length_s, gap.causes) for gap in gaps.shown] == [
        (2, (pause,)),
        (1, ()),
        (1, (pause,)),
        (1, (kill,)),
        (1, (kill,)),
    ]
    assert gaps.longest_restart_all_s is None


def test_what_overlaps_a_restart_of_everything_counts_apart() -> None:
    restart = disturbance(FaultKind.RESTART_ALL, 2.0, 6.0)
    gaps = find(at(1, 1.9, 8, 8.5, 11), 0, 11, restart)
    assert gaps.longest_s == 2.5
    assert gaps.longest_restart_all_s == 8 - 1.9
    # Served again, and a later gap is its own fault.
    assert find(at(1, 2, 5, 6, 9), 0, 9, restart).longest_s == 3
    # Begun before everything served again: counted apart to its end.
    assert find(at(1, 2, 5, 5.5, 9), 0, 9, restart).longest_restart_all_s == 3.5


def test_a_restart_that_is_not_over_takes_all_that_follows() -> None:
    restart = disturbance(FaultKind.RESTART_ALL, 2.0, None)
    gaps = find(at(1, 2), 0, 30, restart)
    assert (gaps.longest_s, gaps.longest_restart_all_s) == (1, 28)


def test_the_shortcut_finds_what_looking_at_all_gaps_finds() -> None:
    source = random.Random(5)
    for _ in range(200):
        moments = sorted(source.uniform(0, 100) for _ in range(source.randrange(60)))
        faults = []
        for kind in source.choices(list(FaultKind), k=4):
            start_s = source.uniform(0, 90)
            faults.append(disturbance(kind, start_s, start_s + source.uniform(0, 10)))
        gaps = find(at(*moments), 0, 100, *faults)
        longest = {False: 0.0, True: 0.0}
        ends = [0, *at(*moments), 100 * SECOND_NS]
        for before, after in pairwise(ends):
            is_restart = any(
                fault.kind is FaultKind.RESTART_ALL and fault.overlaps(before, after)
                for fault in faults
            )
            longest[is_restart] = max(longest[is_restart], (after - before) / SECOND_NS)
        assert gaps.longest_s == longest[False]
        assert (gaps.longest_restart_all_s or 0.0) == longest[True]
