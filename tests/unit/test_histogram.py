"""Histograms against the values that they stand for."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ray_paxos.observability.histogram import COUNTS, SECONDS, Histogram

BOUNDS = st.lists(
    st.floats(0.001, 1_000, allow_nan=False), min_size=1, max_size=12, unique=True
).map(sorted)
VALUES = st.lists(st.floats(0, 2_000, allow_nan=False), max_size=60)
SHARES = st.floats(0, 1, allow_nan=False)


def holding(bounds: Sequence[float], values: Sequence[float]) -> Histogram:
    histogram = Histogram(bounds)
    for value in values:
        histogram.observe(value)
    return histogram


def bucket_of(bounds: Sequence[float], value: float) -> tuple[float, float]:
    """The bounds between which a value lies."""
    position = bisect_left(bounds, value)
    if position == len(bounds):
        return bounds[-1], bounds[-1]
    return bounds[position - 1] if position else 0.0, bounds[position]


@pytest.mark.parametrize("bounds", [SECONDS, COUNTS])
def test_the_bounds_rise(bounds: tuple[float, ...]) -> None:
    assert list(bounds) == sorted(set(bounds))
    assert bounds[0] > 0


@given(BOUNDS, VALUES)
def test_a_value_counts_under_the_first_bound_that_is_not_below_it(
    bounds: list[float], values: list[float]
) -> None:
    histogram = holding(bounds, values)
    for position, bound in enumerate(bounds):
        cumulative = sum(histogram.counts[: position + 1])
        assert cumulative == sum(value <= bound for value in values)
    assert histogram.count == len(values)
    assert histogram.total == pytest.approx(sum(values))


@given(BOUNDS, st.lists(st.tuples(st.floats(0, 2_000), st.integers(0, 5)), max_size=30))
def test_so_many_times_is_as_often_one_by_one(
    bounds: list[float], values: list[tuple[float, int]]
) -> None:
    at_once = Histogram(bounds)
    for value, times in values:
        at_once.observe(value, times)
    single = holding(bounds, [value for value, times in values for _ in range(times)])
    assert at_once.counts == single.counts
    assert at_once.total == pytest.approx(single.total)


@example(bounds=[1.6336310549858695, 514.2154041671037], values=[2.0], share=1.0)
@given(BOUNDS, VALUES, SHARES)
def test_a_quantile_lies_within_the_bounds_of_the_value_that_it_stands_for(
    bounds: list[float], values: list[float], share: float
) -> None:
    found = holding(bounds, values).quantile(share)
    if not values:
        assert found is None
        return
    rank = max(math.ceil(share * len(values)), 1)
    low, high = bucket_of(bounds, sorted(values)[rank - 1])
    assert found is not None
    assert low <= found <= high


@given(BOUNDS, VALUES.filter(bool), st.lists(SHARES, min_size=2, max_size=8).map(sorted))
def test_quantiles_rise_with_their_share(
    bounds: list[float], values: list[float], shares: list[float]
) -> None:
    histogram = holding(bounds, values)
    found = [histogram.quantile(share) or 0.0 for share in shares]
    assert all(a <= b or math.isclose(a, b) for a, b in pairwise(found))


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([1.0] * 10, 0.5, 0.5),
        ([1.0] * 10, 1.0, 1.0),
        ([1.0] * 10, 0.0, 0.0),
        ([1.5] * 4, 0.25, 1.25),
        ([0.5, 1.5, 3.0, 3.0], 0.75, 3.0),
        ([0.5] * 50 + [3.0] * 50, 0.5, 1.0),
        ([0.5] * 50 + [3.0] * 50, 0.51, 2.04),
        ([9.0], 0.5, 4.0),
        ([0.5, 9.0], 0.99, 4.0),
        ([0.0], 0.5, 0.5),
    ],
)
def test_a_quantile_is_what_prometheus_says(
    values: list[float], share: float, expected: float
) -> None:
    """Of the bounds 1, 2 and 4."""
    assert holding((1.0, 2.0, 4.0), values).quantile(share) == pytest.approx(expected)


@given(BOUNDS, VALUES, VALUES)
def test_since_is_what_came_later(
    bounds: list[float], before: list[float], later: list[float]
) -> None:
    histogram = holding(bounds, before)
    earlier = histogram.since(None)
    for value in later:
        histogram.observe(value)
    since = histogram.since(earlier)
    assert since.counts == holding(bounds, later).counts
    assert since.total == pytest.approx(sum(later), abs=1e-6)
    assert since.bounds == histogram.bounds


def test_what_since_gives_does_not_change_with_the_histogram() -> None:
    histogram = holding(SECONDS, [0.1])
    earlier = histogram.since(None)
    histogram.observe(0.2)
    assert earlier.count == 1


@given(BOUNDS, VALUES, VALUES)
def test_adding_counts_both(bounds: list[float], one: list[float], other: list[float]) -> None:
    histogram, added = holding(bounds, one), holding(bounds, other)
    histogram.add(added)
    assert histogram.counts == holding(bounds, [*one, *other]).counts
    assert histogram.total == pytest.approx(sum(one) + sum(other))
    assert added.counts == holding(bounds, other).counts, "the other one stays as it is"


def test_histograms_of_other_bounds_are_not_added_or_compared() -> None:
    one, other = Histogram((1.0, 2.0)), Histogram((1.0,))
    with pytest.raises(ValueError, match="zip"):
        one.add(other)
    with pytest.raises(ValueError, match="zip"):
        one.since(other)
    with pytest.raises(AssertionError):
        Histogram((1.0,), [1])


def test_counts_that_are_given_are_copied() -> None:
    counts = [1, 2]
    histogram = Histogram((1.0,), counts, 3.0)
    histogram.observe(0.5)
    assert counts == [1, 2]
    assert histogram.counts == [2, 2]
