"""The ratio of runs in turn, and how sure it is."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from paired_ratio import paired_ratio
from ray_paxos.errors import ConfigurationError


def test_the_ratio_is_the_geometric_mean() -> None:
    found = paired_ratio([100.0, 400.0], [100.0, 100.0])
    assert found.ratio == pytest.approx(2.0)
    assert found.pairs == 2


def test_a_machine_that_drifts_does_not_matter() -> None:
    speeds = [10.0 * 1.3**n for n in range(20)]
    found = paired_ratio([0.9 * speed for speed in speeds], speeds)
    assert found.low == pytest.approx(0.9)
    assert found.high == pytest.approx(0.9)


def test_the_interval_is_students() -> None:
    # Logarithms 0 and 0.02: mean 0.01, standard error 0.01, t of one degree 12.706.
    found = paired_ratio([1.0, math.exp(0.02)], [1.0, 1.0])
    assert math.log(found.low) == pytest.approx(0.01 - 0.12706)
    assert math.log(found.high) == pytest.approx(0.01 + 0.12706)


@pytest.mark.parametrize(
    ("pairs", "t"),
    [(31, 2.0423), (32, 2.0395), (41, 2.0211), (61, 2.0003), (121, 1.9799), (1_000, 1.9623)],
)
def test_the_interval_of_many_pairs_is_not_too_narrow(pairs: int, t: float) -> None:
    first = [1.0 + 0.02 * (number % 2) for number in range(pairs)]
    found = paired_ratio(first, [1.0] * pairs)
    error = statistics.stdev(map(math.log, first)) / math.sqrt(pairs)
    half = math.log(found.high / found.low) / 2
    assert 0.9995 * t * error <= half <= 1.05 * t * error


def test_nineteen_intervals_of_twenty_hold_the_truth() -> None:
    rng = random.Random(7)
    held = 0
    for _ in range(400):
        pairs = [(rng.lognormvariate(0.05, 0.1), rng.lognormvariate(0.0, 0.1)) for _ in range(10)]
        found = paired_ratio([a for a, _ in pairs], [b for _, b in pairs])
        held += found.low <= 1.0513 <= found.high
    assert 0.92 <= held / 400 <= 0.98


@pytest.mark.parametrize(
    ("first", "second"), [([1.0], [1.0]), ([1.0, 1.0], [1.0]), ([1.0, 0.0], [1.0, 1.0])]
)
def test_what_says_nothing_is_refused(first: list[float], second: list[float]) -> None:
    with pytest.raises(ConfigurationError):
        paired_ratio(first, second)
