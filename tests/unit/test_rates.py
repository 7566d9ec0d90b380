"""Rates between two looks, and the last 15 minutes: never less than nothing, whatever restarts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ray_paxos.observability import catalogue
from ray_paxos.observability.histogram import SECONDS, Histogram
from ray_paxos.observability.rates import (
    HISTORY_MS,
    SPANS_MAX,
    Between,
    History,
    quantile_ms,
    together,
)
from ray_paxos.observability.report import Counted, HistogramCounts, RoleReport, Span
from tests.unit.watched_roles import histogram

COMMANDS = catalogue.COMMANDS
TIMES = catalogue.COMMAND_SECONDS


def report(
    at_ms: int,
    commands: int,
    incarnation: int = 1,
    times: HistogramCounts | None = None,
    clock_ns: int = 0,
) -> RoleReport:
    counted = Counted(
        by_group={COMMANDS.name: {1: commands}},
        histograms={TIMES.name: times} if times is not None else {},
    )
    return RoleReport(at_ms=at_ms, incarnation=incarnation, counted=counted, clock_ns=clock_ns)


def test_a_difference_of_one_life() -> None:
    between = Between(report(1_000, 5), report(3_000, 9))
    assert (between.seconds, between.by_group(COMMANDS)) == (2.0, {1: 4})


def test_the_first_look_compares_with_nothing() -> None:
    between = Between(None, report(3_000, 9, times=histogram(0.001)))
    assert (between.seconds, between.by_group(COMMANDS)) == (None, {})
    assert between.histogram(TIMES) is None


def test_a_new_life_begins_at_nothing() -> None:
    between = Between(report(1_000, 500), report(3_000, 9, incarnation=2))
    assert (between.seconds, between.by_group(COMMANDS)) == (2.0, {1: 9})


def test_a_role_that_stopped_has_not_begun_anew() -> None:
    between = Between(report(1_000, 500), report(3_000, 501, incarnation=0))
    assert between.by_group(COMMANDS) == {1: 1}


@pytest.mark.parametrize(("was_on", "is_on"), [(True, False), (False, True), (False, False)])
def test_of_a_time_in_which_it_did_not_observe_there_is_no_rate(was_on: bool, is_on: bool) -> None:
    before = replace(report(1_000, 500, clock_ns=1), is_observing=was_on)
    after = replace(report(3_000, 500, clock_ns=2_000_000_001), is_observing=is_on)
    between = Between(before, after)
    assert (between.seconds, between.by_group(COMMANDS)) == (None, {})


SECOND = 1_000_000_000


@pytest.mark.parametrize("wall_ms", [-3_600_000, 0, 50, 3_600_000])
@pytest.mark.parametrize("incarnation", [1, 0])
def test_time_is_by_the_clock_of_the_role_whatever_the_wall_clock_says(
    wall_ms: int, incarnation: int
) -> None:
    before = report(5_000_000, 5, clock_ns=7 * SECOND)
    after = report(5_000_000 + wall_ms, 9, incarnation, clock_ns=9 * SECOND)
    assert Between(before, after).seconds == 2.0


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (report(1_000, 5), report(4_000, 9, clock_ns=7 * SECOND)),
        (report(1_000, 5, clock_ns=7 * SECOND), report(4_000, 9)),
        (report(1_000, 5, clock_ns=2), report(4_000, 9, 2, clock_ns=9 * SECOND)),
        (report(1_000, 5, 0, clock_ns=9 * SECOND), report(4_000, 9, 0, clock_ns=7 * SECOND)),
    ],
    ids=["begins to tell it", "older", "another life, maybe on another node", "booted anew"],
)
def test_time_is_by_the_wall_clock_where_no_other_one_is_told_twice(
    before: RoleReport, after: RoleReport
) -> None:
    assert Between(before, after).seconds == 3.0


def test_a_clock_that_was_set_back_gives_no_rate() -> None:
    assert Between(report(3_000, 5), report(2_000, 9)).seconds is None


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 50)), min_size=1))
def test_rates_are_never_negative_and_nothing_is_counted_twice(
    steps: list[tuple[bool, int]],
) -> None:
    """A model: each step may restart the role, and counts some commands before the next look."""
    before, incarnation, counted, told = report(-1_000, 0), 1, 0, 0
    for number, (restarts, commands) in enumerate(steps):
        if restarts:
            incarnation, counted = incarnation + 1, 0
        counted += commands
        after = report(number * 1_000, counted, incarnation, histogram(*[0.001] * counted))
        between = Between(before, after)
        found = between.by_group(COMMANDS).get(1, 0)
        times = between.histogram(TIMES)
        assert found == (times.count if times is not None else 0) == commands
        told, before = told + found, after
    assert told == sum(commands for _, commands in steps)


def test_times_of_other_bounds_are_left_out() -> None:
    odd = HistogramCounts((1, 2, 3), 1.0)
    assert Between(report(0, 0), report(1, 1, times=odd)).histogram(TIMES) is None
    assert quantile_ms(None, 0.5) is None


def test_times_of_several_members_are_put_together() -> None:
    both = [Histogram(SECONDS) for _ in range(2)]
    both[0].observe(0.001, 3)
    both[1].observe(0.5)
    found = together([None, *both])
    assert found is not None
    assert (found.count, both[0].count) == (4, 3), "and stay what they are"
    assert together([None]) is None


def span(end_ms: int, commands: int, seconds: float = 10.0, *times: float) -> Span:
    return Span(end_ms, seconds, commands, histogram(*times) if times else None)


NOW_MS = 10_000_000


def test_spans_that_end_together_are_added() -> None:
    history = History()
    history.take("m1", [span(10_000, 50), span(20_000, 20, 10.0, 0.001)], 40_000)
    history.take("m2", [span(20_000, 30, 4.0, 0.3), span(40_000, 7)], 40_000)
    found = history.spans(40_000)
    assert [(each.end_ms, each.commands_per_s) for each in found] == [
        (10_000, 5.0),
        (20_000, 5.0),
        (40_000, 0.7),
    ], "what nobody tells of is left out"
    assert found[1].p99_ms == pytest.approx(500, rel=0.1)
    assert found[0].p50_ms is None


def test_spans_are_remembered_for_a_member_that_died() -> None:
    history = History()
    history.take("m1", [span(10_000, 50)], 20_000)
    history.take("m1", (), 20_000)
    assert len(history.spans(20_000)) == 1
    history.keep_only({"m2": 2})
    assert history.spans(20_000) == ()


def test_history_is_bounded() -> None:
    history = History()
    for number in range(1_000):
        history.take("m1", [span(number * 10_000, 1)], number * 10_000)
    now_ms = 9_990_000
    assert len(history.spans(now_ms)) == HISTORY_MS // 10_000
    assert len(history._spans["m1"]) == HISTORY_MS // 10_000, "no more is kept, either"
    later_ms = now_ms + 2 * HISTORY_MS
    history.take("m2", [span(later_ms, 1)], later_ms)
    assert len(history.spans(later_ms)) == 1


@pytest.mark.parametrize("watcher_ms", [-7_200_000, 0, 7_200_000])
def test_history_is_bounded_whatever_the_clocks_say(watcher_ms: int) -> None:
    history = History()
    for number in range(1_000):
        history.take("m1", [span(number * 10_000, 1)], number * 10_000 + watcher_ms)
    assert len(history._spans["m1"]) == SPANS_MAX
    ends = [each.end_ms for each in history.spans(9_990_000 + watcher_ms)]
    assert (len(ends), ends[-1]) == (SPANS_MAX, 9_990_000)


def test_a_clock_that_was_far_ahead_for_one_span_empties_nothing() -> None:
    history = History()
    ends = range(NOW_MS - 300_000, NOW_MS, 10_000)
    history.take("m1", [span(end, 1) for end in ends], NOW_MS)
    history.take("m2", [span(end, 1) for end in ends], NOW_MS)
    ahead = NOW_MS + 7_200_000
    history.take("m2", [span(ahead, 1)], NOW_MS)
    found = history.spans(NOW_MS)
    assert [each.end_ms for each in found] == [*ends, ahead]
    assert {each.commands_per_s for each in found[:-1]} == {0.2}, "its own are kept, too"
    history.take("m2", [span(NOW_MS, 1)], NOW_MS)
    assert [each.end_ms for each in history.spans(NOW_MS)] == [*ends, NOW_MS], "it never was"
