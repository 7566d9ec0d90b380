"""Charts: scales, where things are drawn, what they say, and files of their own."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

import report_bar_chart
from report_bar_chart import bar_chart
from report_charts import (
    WIDTH,
    Chart,
    linear_scale,
    log_scale,
    round_step,
    shortened,
    text,
)
from report_range_chart import Range, range_chart
from report_time_chart import (
    Bar,
    Curve,
    Rows,
    Steps,
    Window,
    time_chart,
    time_step,
    time_text,
)
from tests.jobs.pages import BAD_TEXT, Page

SVG = "{http://www.w3.org/2000/svg}"


def read(chart: Chart) -> Page:
    """The chart as it is in a page; as a file it has to be XML, too."""
    root = ElementTree.fromstring(chart.file())
    assert root.tag == f"{SVG}svg"
    return Page(chart.inline())


def number(value: str | None) -> float:
    assert value is not None
    return float(value)


# Scales.


def test_a_linear_scale_begins_at_nothing_and_ends_round() -> None:
    scale = linear_scale([12, 430, math.inf])
    assert (scale.low, scale.high) == (0, 500)
    assert scale.ticks() == [0, 100, 200, 300, 400, 500]
    assert [scale.place(value) for value in (0, 250, 500, 900, -5)] == [0, 0.5, 1, 1, 0]
    assert linear_scale([]).high == linear_scale([0.0]).high == pytest.approx(0.2)


def test_a_logarithmic_scale_has_tenfold_always_as_far() -> None:
    scale = log_scale([0.3, 0.0, 4_000])
    assert scale.low == pytest.approx(0.2)
    assert (scale.high, scale.is_log) == (5_000, True)
    assert scale.ticks() == pytest.approx([1, 10, 100, 1_000])
    assert scale.place(10) - scale.place(1) == pytest.approx(scale.place(1_000) - scale.place(100))
    assert scale.place(0.0) == 0
    assert log_scale([7, 30]).ticks() == pytest.approx([5, 10, 20, 50])
    # One number has some room above it, and none has a scale all the same.
    assert log_scale([5, 5]).high == 50
    assert log_scale([]).ticks() == [1, 2, 5, 10]


@given(st.lists(st.floats(min_value=1e-6, max_value=1e9), min_size=1), st.booleans())
def test_every_number_is_on_its_scale_and_ticks_are_few(values: list[float], is_log: bool) -> None:
    scale = log_scale(values) if is_log else linear_scale(values)
    assert scale.low <= min(values) * (1 + 1e-6)
    assert max(values) <= scale.high * (1 + 1e-6)
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 18
    assert ticks == sorted(ticks)
    places = [scale.place(value) for value in sorted(values)]
    assert places == sorted(places)


def test_steps_are_round_and_text_is_shortened() -> None:
    assert [round_step(least) for least in (0.3, 1, 3, 51)] == pytest.approx([0.5, 1, 5, 100])
    assert shortened("abcdef", 4) == "abc…"


# Over time.


def test_bars_are_where_they_began_and_as_long_as_they_took() -> None:
    rows = Rows(
        "faults",
        [
            ("kill-role", [Bar(1, 3, "m1", 0), Bar(5, 10, "m2", 0)]),
            ("drop-master", [Bar(4, 4, "m3", 1, is_hollow=True)]),
        ],
    )
    page = read(time_chart("x", "X", [rows], 10.0))
    long, longer, moment = [each for tag, each in page.elements if tag == "rect"]
    a_second = number(long["width"]) / 2
    assert number(longer["width"]) == pytest.approx(5 * a_second, abs=0.5)
    assert number(longer["x"]) - number(long["x"]) == pytest.approx(4 * a_second, abs=0.5)
    assert number(longer["x"]) + number(longer["width"]) <= WIDTH
    assert long["y"] == longer["y"] != moment["y"]
    # What took no time can still be seen, and pointed at though it is hollow.
    assert number(moment["width"]) >= 2
    assert (moment["fill"], moment["pointer-events"]) == ("none", "all")
    assert long["fill"] == "currentColor"
    assert {"kill-role", "drop-master", "m1", "m2", "m3"} <= set(page.texts)


def steps_path(values: list[float | None], *, is_log: bool = False) -> str:
    curve = Curve("p50", 0, [(n, n + 1, value) for n, value in enumerate(values)])
    page = read(time_chart("x", "X", [Steps("ms", [curve], is_log=is_log)], len(values)))
    paths = [each["d"] for tag, each in page.elements if tag == "path"]
    return (paths or [""])[0] or ""


def test_steps_hold_for_their_time_and_break_where_there_was_nothing() -> None:
    path = steps_path([10.0, 5.0, None, 5.0, 5.0])
    # Two lines, the second one after the hole; a second is as wide as another.
    first, second = path.split("M")[1:]
    start, top, middle, low, end = [float(n) for n in re.findall(r"[\d.]+", first)]
    assert top < low
    assert end - middle == pytest.approx(middle - start, abs=0.2)
    assert float(second.split()[0]) == pytest.approx(start + 3 * (middle - start), abs=0.5)
    assert steps_path([None, None]) == ""


def test_a_logarithmic_panel_shows_small_numbers_beside_large_ones() -> None:
    heights = [float(each) for each in re.findall(r"[MV](?:[\d.]+ )?([\d.]+)", steps_path(
        [1.0, 10.0, 100.0, 1_000.0], is_log=True
    ))]  # fmt: skip
    steps = [before - after for before, after in pairwise(heights)]
    assert steps == pytest.approx([steps[0]] * 3, abs=0.3)
    assert steps[0] > 20


def test_windows_bands_and_guides_are_in_their_places() -> None:
    steps = Steps("commands", [Curve("", 3, [(0, 10, 5.0)], is_filled=True)], bands=[(2, 4)])
    chart = time_chart("x", "X", [Rows("r", []), steps], 10, guides=[(5, 2)],
                       windows=[Window(0, 5, "first"), Window(5, 10, "second")])  # fmt: skip
    page = read(chart)
    first, second = [each for _, each in page.of_class("hit")]
    assert number(second["x"]) == pytest.approx(number(first["x"]) + number(first["width"]))
    assert {"first", "second", "commands"} <= set(page.texts)
    (band,) = [each for tag, each in page.elements if tag == "rect" and "class" not in each]
    assert number(band["width"]) == pytest.approx(number(first["width"]) * 2 / 5, abs=0.2)
    guide = next(each for tag, each in page.elements if tag == "path")
    assert (guide["d"] or "").startswith(f"M{second['x']} ")


def test_labels_of_a_small_panel_do_not_cover_each_other() -> None:
    curve = Curve("", 0, [(0, 1, 1.0), (1, 2, 90.0)])
    for height, count in ((130.0, 7), (40.0, 3)):
        chart = time_chart("x", "X", [Steps("ms", [curve], is_log=True, height=height)], 2.0)
        labels = [
            each["y"] for tag, each in read(chart).elements
            if tag == "text" and each.get("text-anchor") == "end"
        ]  # fmt: skip
        heights = sorted(map(number, labels))
        assert len(heights) <= count
        assert all(b - a >= 13 for a, b in pairwise(heights))


@pytest.mark.parametrize(
    ("end_s", "step", "words"),
    [
        (0.5, 0.1, "0.2 s"),
        (9, 1, "2 s"),
        (60, 5, "10 s"),
        (600, 60, "2 min"),
        (86_400, 7_200, "4 h"),
    ],
)
def test_times_are_written_at_round_steps(end_s: float, step: float, words: str) -> None:
    assert time_step(end_s) == step
    assert time_text(2 * step, step) == words


# Bars.


def test_bars_are_as_long_as_their_parts_and_cut_at_the_end() -> None:
    bars = [
        report_bar_chart.Bar("one", [(25, 0), (25, 1)], "50 %"),
        report_bar_chart.Bar("two", [(400, 1)], "400 %"),
        report_bar_chart.Bar("three", [(0, 1)], "nothing"),
    ]
    chart = bar_chart("x", "X", bars, named=[("a", 0), ("b", 1)], most=100, unit=" %",
                      mark=(50, "asked for"))  # fmt: skip
    page = read(chart)
    shapes = [each for tag, each in page.elements if tag == "rect" and each["height"] == "14"]
    widths = [number(each["width"]) for each in shapes]
    assert widths[0] == pytest.approx(widths[1])
    assert widths[2] == pytest.approx(4 * widths[0], abs=0.1)
    assert widths[3] == 0
    assert number(shapes[2]["x"]) + widths[2] < WIDTH
    (mark,) = [each for _, each in page.of_class("axis")]
    assert number(mark["x1"]) == pytest.approx(number(shapes[2]["x"]) + widths[2] / 2, abs=0.1)
    assert {"one", "50 %", "one: 50 %", "100 %", "asked for", "a", "b"} <= set(page.texts)


def test_long_names_leave_room_for_the_bars() -> None:
    chart = bar_chart("x", "X", [report_bar_chart.Bar("n" * 500, [(1, 0)], "s" * 500)])
    widths = [number(e["width"]) for tag, e in read(chart).elements if tag == "rect"]
    assert max(widths) > 200


# Ranges.


def test_a_range_has_both_ends_above_its_number() -> None:
    ranges = [Range("slow", 0, 1.0, 10.0), Range("fast", 100, 10.0, 100.0)]
    page = read(range_chart("x", "X", ranges, across="commands a second", up="latency, ms",
                            named=("p50", "p99")))  # fmt: skip
    slow, fast = [each for tag, each in page.elements if tag == "circle"]
    assert number(slow["cx"]) < number(fast["cx"]) < WIDTH
    up = number(slow["cy"]) - number(fast["cy"])
    lines = [each for _, each in page.of_class("axis")]
    assert [number(each["x1"]) for each in lines] == [number(slow["cx"]), number(fast["cx"])]
    # Ten times as much is as far up, from the one to the other as within each.
    for each in lines:
        assert number(each["y1"]) - number(each["y2"]) == pytest.approx(up, abs=0.1)
    assert "slow: 0 commands a second, p50 1.00 ms, p99 10.0 ms" in page.texts
    assert {"slow", "fast", "p50", "p99", "latency, ms", "commands a second"} <= set(page.texts)


def test_ranges_of_one_series_are_connected_in_order() -> None:
    ranges = [Range(str(x), x, 1.0, 2.0, "a") for x in (30, 10, 20)] + [Range("alone", 5, 1, 2)]
    chart = range_chart("x", "X", ranges, across="x", up="y", named=("a", "b"))
    paths = [e["d"] or "" for tag, e in read(chart).elements if tag == "path" and "stroke" in e]
    (path,) = paths
    across = [float(part.split()[0]) for part in path.removeprefix("M").split("L")]
    assert len(across) == 3
    assert across == sorted(across)


def test_names_cover_neither_each_other_nor_the_marks() -> None:
    """Four loads at the same place, and one at the right edge."""
    ranges = [Range(f"load {n}, of a long name", 100 + n, 10.0, 20.0) for n in range(4)]
    ranges.append(Range("at the very edge", 1_000, 10.0, 20.0))
    root = ElementTree.fromstring(
        range_chart("x", "X", ranges, across="x", up="y", named=("a", "b")).file()
    )
    boxes = []
    for each in root.iter(f"{SVG}text"):
        words = each.text or ""
        if words.startswith(("load", "at the")):
            x, wide = float(each.attrib["x"]), 6 * len(words)
            left = x - wide * {"end": 1, "middle": 0.5}.get(each.attrib.get("text-anchor", ""), 0)
            boxes.append((left, float(each.attrib["y"]), left + wide))
            assert 0 < left < left + wide < WIDTH
    assert len(boxes) == 5
    circles = [(float(e.attrib["cx"]), float(e.attrib["cy"])) for e in root.iter(f"{SVG}circle")]
    for number, (left, bottom, right) in enumerate(boxes):
        for other_left, other_bottom, other_right in boxes[:number]:
            beside = right <= other_left or other_right <= left
            assert beside or abs(bottom - other_bottom) >= 12
        for x, y in circles:
            assert not (left < x < right and bottom - 11 < y < bottom)


# All of them.


@pytest.mark.parametrize(
    "chart",
    [
        Chart("x", BAD_TEXT, 10, text(0, 0, BAD_TEXT)),
        time_chart(
            "x",
            BAD_TEXT,
            [
                Rows(BAD_TEXT, [(BAD_TEXT, [Bar(0, 1, BAD_TEXT, 9)])]),
                Steps(BAD_TEXT, [Curve(BAD_TEXT, 1, [(0, 1, 2.0)])]),
            ],
            1.0,
            windows=[Window(0, 1, BAD_TEXT)],
        ),
        bar_chart("x", BAD_TEXT, [report_bar_chart.Bar(BAD_TEXT, [(1, 0)], BAD_TEXT)],
                  named=[(BAD_TEXT, 0)], unit=BAD_TEXT, mark=(1, BAD_TEXT)),
        range_chart("x", BAD_TEXT, [Range(BAD_TEXT, 1, 1, 2)], across=BAD_TEXT, up=BAD_TEXT,
                    named=(BAD_TEXT, BAD_TEXT)),
    ],
    ids=["chart", "time", "bars", "ranges"],
)  # fmt: skip
def test_nothing_that_is_told_becomes_markup(chart: Chart) -> None:
    page = read(chart)
    assert "script" not in page.tags
    assert any("<script>" in words for words in page.texts)


def test_charts_of_nothing_are_charts() -> None:
    for chart in (
        time_chart("x", "X", [], 0.0),
        time_chart("x", "X", [Steps("s", [])], 0.0),
        bar_chart("x", "X", []),
        range_chart("x", "X", [], across="x", up="y", named=("a", "b")),
    ):
        read(chart)


def test_a_chart_in_a_page_takes_its_colors_from_there_and_in_a_file_brings_them() -> None:
    chart = bar_chart("x", "A title", [report_bar_chart.Bar("one", [(1, 0)], "1")])
    assert "style" not in Page(chart.inline()).tags
    alone = chart.file()
    assert "--c0:" in alone
    assert "prefers-color-scheme:dark" in alone
    root = ElementTree.fromstring(alone)
    # As high as in the page, and its title above.
    _, top, width, height = map(float, root.attrib["viewBox"].split())
    assert (width, top + height) == (WIDTH, chart.height)
    assert top < 0
    assert "A title" in [each.text for each in root.iter(f"{SVG}text")]


def test_a_long_curve_is_no_large_file() -> None:
    curve = Curve("", 0, [(n, n + 1, n % 97 + 1.0) for n in range(10_000)])
    assert len(time_chart("x", "X", [Steps("s", [curve])], 10_000).inline()) < 400_000
