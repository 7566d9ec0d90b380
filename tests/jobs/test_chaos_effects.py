"""What faults did, kind by kind, and what was acknowledged when."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos_effects import Stretch, effects_by_kind, stretches
from chaos_gaps import SECOND_NS, Disturbance, find_gaps
from chaos_plan import FaultKind


def at(seconds: float) -> int:
    return round(seconds * SECOND_NS)


def every(step_s: float, start_s: float, end_s: float) -> list[tuple[int, int]]:
    """Commands that took 10 ms each, one every so often."""
    count = round((end_s - start_s) / step_s)
    return [(at(start_s + n * step_s - 0.01), at(start_s + n * step_s)) for n in range(count)]


# Stretches.


def test_every_second_has_its_count_and_its_latencies() -> None:
    acknowledged = [(at(100.1), at(100.2)), (at(99), at(99.5)), (at(102.1), at(102.105))]
    others = [(at(102.2), at(102.2 + 0.001 * n)) for n in range(1, 100)]
    found = stretches({1: acknowledged, 2: others}, at(100), at(102.5), 10)
    assert [(each.start_s, each.end_s) for each in found] == [(0, 1), (1, 2), (2, 2.5)]
    assert found[0].count == 1
    assert found[0].p50_ms == pytest.approx(100, rel=1e-3)
    assert found[1] == Stretch(1, 2, 0, None, None)
    assert found[2].count == 100
    assert found[2].per_s == 200
    assert found[2].p50_ms == pytest.approx(50, abs=1.1)
    assert found[2].p99_ms == pytest.approx(98, abs=1.1)


def test_the_end_of_a_run_is_no_stretch_of_its_own_where_it_is_short() -> None:
    found = stretches({1: every(0.1, 0, 3.2)}, 0, at(3.2), 10)
    assert [(each.start_s, each.end_s, each.count) for each in found] == [
        *((0, 1, 10), (1, 2, 10), (2, 3.2, 12)),
    ]
    assert stretches({}, 0, at(0.1), 10) == [Stretch(0, 0.1, 0, None, None)]


@given(
    st.lists(st.integers(-5, 20 * SECOND_NS), max_size=30),
    st.integers(1, 19 * SECOND_NS),
    st.integers(1, 30),
)
def test_no_command_of_the_run_is_lost_and_stretches_are_few(
    times: list[int], end_ns: int, most: int
) -> None:
    found = stretches({1: [(moment - 1, moment) for moment in times]}, 0, end_ns, most)
    assert 1 <= len(found) <= most
    assert sum(each.count for each in found) == sum(0 <= moment < end_ns for moment in times)
    assert found[0].start_s == 0
    assert found[-1].end_s == end_ns / SECOND_NS
    assert all(a.end_s == b.start_s for a, b in pairwise(found))


# Effects.


def test_a_kind_has_its_faults_and_what_was_seen_meanwhile() -> None:
    # 10 a second, nothing from 4 to 6 s, and slow ones at the end of that.
    acknowledged = [*every(0.1, 0, 4), (at(3.9), at(6.0)), *every(0.1, 6.1, 20)]
    faults = [
        Disturbance(FaultKind.KILL_ROLE, "m1", at(4), at(7)),
        Disturbance(FaultKind.KILL_ROLE, "m2", at(10), at(11)),
        Disturbance(FaultKind.KILL_ROLE, "m2", at(19), None),
        Disturbance(FaultKind.DROP_MASTER, "m1", at(15), at(15), refusal="too far behind"),
        Disturbance(FaultKind.DROP_MASTER, "m1", at(16), at(16)),
    ]
    drop, kill = effects_by_kind(faults, {1: acknowledged}, 0, at(20))
    assert (kill.kind, kill.injected, kill.refused, kill.unfinished) == ("kill-role", 3, 0, 1)
    assert (kill.usual_s, kill.longest_s) == (2, 3)
    assert kill.silence_s == pytest.approx(2.1, abs=0.01)
    # 10 of 3 s, 10 of 1 s, and the last second of the run.
    assert kill.per_s == pytest.approx(30 / 5, abs=0.5)
    assert kill.p99_ms == pytest.approx(2_100)
    assert (drop.kind, drop.injected, drop.refused, drop.unfinished) == ("drop-master", 1, 1, 0)
    assert (drop.usual_s, drop.per_s, drop.p99_ms) == (0, None, None)
    assert drop.silence_s == pytest.approx(0.1, abs=0.01)


def test_a_silence_of_one_group_counts_though_others_go_on() -> None:
    faults = [Disturbance(FaultKind.KILL_MEMBER, "m1", at(4), at(5))]
    groups = {1: every(0.1, 0, 10), 2: [*every(0.1, 0, 4), *every(0.1, 7, 10)], 3: []}
    (found,) = effects_by_kind(faults, {1: groups[1]}, 0, at(10))
    assert found.silence_s == pytest.approx(0.1, abs=0.01)
    (found,) = effects_by_kind(faults, {1: groups[1], 2: groups[2]}, 0, at(10))
    assert found.silence_s == pytest.approx(3.1, abs=0.01)
    (found,) = effects_by_kind(faults, groups, 0, at(10))
    assert found.silence_s == 10


def test_faults_that_overlap_count_their_time_once() -> None:
    faults = [
        Disturbance(FaultKind.KILL_ROLE, "m1", at(1), at(3)),
        Disturbance(FaultKind.KILL_ROLE, "m2", at(2), at(5)),
    ]
    # 10 a second while both last, none while one does.
    (found,) = effects_by_kind(faults, {1: every(0.1, 2, 3)}, 0, at(10))
    assert found.per_s == pytest.approx(10 / 4, abs=0.3)


@given(
    st.lists(st.integers(0, 100), max_size=20),
    st.lists(st.tuples(st.integers(0, 100), st.integers(0, 50)), min_size=1, max_size=5),
)
def test_silences_are_the_longest_gaps_that_overlap(
    times: list[int], spans: list[tuple[int, int]]
) -> None:
    """As `find_gaps` finds them: its longest gap that any of the faults overlaps."""
    faults = [
        Disturbance(FaultKind.KILL_ROLE, "m", at(start), at(start + length) + 1)
        for start, length in spans
    ]
    acknowledged = [(0, at(moment)) for moment in times]
    (found,) = effects_by_kind(faults, {1: acknowledged}, 0, at(100) + 1)
    edges = sorted({0, *(at_ns for _, at_ns in acknowledged), at(100) + 1})
    overlapping = [
        after - before
        for before, after in pairwise(edges)
        if any(fault.overlaps(before, after) for fault in faults)
    ]
    assert found.silence_s * SECOND_NS == pytest.approx(max(overlapping, default=0), abs=2)
    longest = find_gaps([at_ns for _, at_ns in acknowledged], 0, at(100) + 1, faults).longest_s
    assert found.silence_s <= longest + 1e-6
