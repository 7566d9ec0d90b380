"""Numbers, times and names as a person reads them."""

from __future__ import annotations

import time

import pytest

from ray_paxos.observability.text import (
    DAY_MS,
    bytes_text,
    clock_text,
    count_text,
    duration_text,
    groups_text,
    milliseconds_text,
    names,
    numbers,
    printable,
    rate_text,
)
from tests.unit.watched_roles import BEGIN_MS


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (rate_text(None), "-"),
        (rate_text(0.0), "0"),
        (rate_text(0.26), "0.3"),
        (rate_text(12_345.6), "12,346"),
        (milliseconds_text(None), "-"),
        (milliseconds_text(0), "0 ms"),
        (milliseconds_text(0.000_01), "0 ms"),
        (milliseconds_text(0.04), "0.04 ms"),
        (milliseconds_text(0.2468), "0.247 ms"),
        (milliseconds_text(48.4), "48.4 ms"),
        (milliseconds_text(99.96), "100 ms"),
        (milliseconds_text(999.6), "1 s"),
        (milliseconds_text(1_250), "1.25 s"),
        (milliseconds_text(1_250_000), "1,250 s"),
        (milliseconds_text(345.6), "346 ms"),
        (milliseconds_text(2_500), "2.5 s"),
        (bytes_text(None), "-"),
        (bytes_text(999), "999 B"),
        (bytes_text(12_000), "12 kB"),
        (bytes_text(2**60), "1,153 PB"),
        (bytes_text(1_234_567), "1.23 MB"),
        (bytes_text(999_999_999), "1 GB"),
        (duration_text(-5), "0 s"),
        (duration_text(119_000), "119 s"),
        (duration_text(120_000), "2 min"),
        (duration_text(7_200_000), "2 h"),
        (duration_text(200_000_000), "2 days"),
        (clock_text(None, 0), ""),
        (count_text(None), "-"),
        (count_text(12_345), "12,345"),
        (count_text(1, "other"), "1 other"),
        (count_text(1_200, "other"), "1,200 others"),
        (names([]), ""),
        (names(["m1"]), "m1"),
        (names(["m1", "m2", "m3"]), "m1, m2, m3"),
        (names(["m1", "m2", "m3"], last=" and "), "m1, m2 and m3"),
        (names([f"m{n}" for n in range(9)]), "m0, m1, m2, m3, m4, m5, m6 and 2 more"),
        (numbers([3, 1, 2, 7, 9, 10]), "1-3, 7, 9-10"),
        (numbers([]), ""),
        (groups_text([4]), "group 4"),
        (groups_text([1, 0]), "groups 0-1"),
        (printable("a\x1b[2J\n"), "a?[2J?"),
    ],
)
def test_texts(text: str, wanted: str) -> None:
    assert text == wanted


def test_a_time_of_another_day_has_its_date() -> None:
    assert len(clock_text(BEGIN_MS, BEGIN_MS + 1_000)) == len("20:28:15")
    assert clock_text(BEGIN_MS, BEGIN_MS + 2 * DAY_MS).startswith("2026-05-2")


def test_a_time_is_told_to_the_millisecond_where_that_is_wanted() -> None:
    local = time.strftime("%H:%M:%S.007", time.localtime(BEGIN_MS // 1_000))
    assert clock_text(BEGIN_MS + 7, BEGIN_MS + 1_000, has_ms=True) == local
