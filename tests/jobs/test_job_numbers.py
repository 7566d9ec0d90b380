"""Quantiles are numbers that occurred, and numbers for people are as long as they say something."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job_numbers import nearest_rank, number_text, round_number_text, weighted_nearest_rank


def test_a_quantile_is_a_number_that_occurred() -> None:
    ordered = list(range(1, 101))
    assert [nearest_rank(ordered, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1, 50, 99, 100]
    assert nearest_rank([7], 0.999) == 7
    assert nearest_rank([1, 2, 3], 0.5) == 2
    assert nearest_rank([0.25, 0.5], 0.99) == 0.5


def test_a_share_is_taken_as_it_is_written() -> None:
    # In binary 0.07 * 100 is a little more than 7, and 0.14 * 50 than 7.
    assert nearest_rank(range(1, 101), 0.07) == 7
    assert weighted_nearest_rank([(1.0, 7), (2.0, 93)], 0.07) == 1.0
    assert nearest_rank(range(1, 51), 0.14) == 7


def test_numbers_count_as_often_as_they_weigh() -> None:
    assert weighted_nearest_rank([(1.0, 99), (7.0, 1)], 0.99) == 1.0
    assert weighted_nearest_rank([(7.0, 2), (1.0, 98)], 0.99) == 7.0
    assert weighted_nearest_rank([], 0.5) == math.inf


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5)), min_size=1, max_size=20),
    st.integers(0, 1_000),
)
def test_it_is_the_smallest_below_which_the_share_lies(
    weighted: list[tuple[int, int]], thousandths: int
) -> None:
    share = thousandths / 1_000
    ordered = sorted(number for number, weight in weighted for _ in range(weight))
    found = nearest_rank(ordered, share)
    wanted = Fraction(thousandths, 1_000) * len(ordered)
    assert sum(each <= found for each in ordered) >= wanted
    assert found == ordered[0] or sum(each < found for each in ordered) < wanted
    assert weighted_nearest_rank(weighted, share) == found


@pytest.mark.parametrize(
    ("number", "told"),
    [
        *((12_345.6, "12,346"), (99.5, "99.5"), (12.345, "12.3"), (1.234, "1.23"), (3.0, "3.00")),
        *((7, "7"), (12_345, "12,345"), (0.0, "0.00"), (-123.4, "-123")),
    ],
)
def test_what_was_measured_has_as_many_places_as_say_something(number: float, told: str) -> None:
    assert number_text(number) == told


@pytest.mark.parametrize(
    ("number", "told"),
    [(20_000, "20,000"), (300_000.0, "300,000"), (0.5, "0.5"), (100.0, "100"), (1.25, "1.25")],
)
def test_what_was_chosen_is_told_as_it_was(number: float, told: str) -> None:
    assert round_number_text(number) == told
