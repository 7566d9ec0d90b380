"""The timeline of a chaos run: what it shows, and where."""

from __future__ import annotations

import pytest

from chaos_effects import stretches
from chaos_events import MemberReign
from chaos_gaps import SECOND_NS, Disturbance
from chaos_plan import FaultKind
from chaos_timeline import REIGN_ROWS_MAX, timeline
from report_charts import Chart
from tests.jobs.chaos_reports import at, group_result, reign, report
from tests.jobs.pages import Page

FAULTS = (
    Disturbance(FaultKind.KILL_ROLE, "m1/learner", at(101), at(103)),
    Disturbance(FaultKind.KILL_ROLE, "m2/<acceptor>", at(105), None),
    Disturbance(FaultKind.DROP_MASTER, "m1 to m2", at(104), at(104), refusal="too far behind"),
)


def drawn(*disturbances: Disturbance, reigns: tuple[MemberReign, ...] = ()) -> Page:
    told = report(*disturbances)
    seconds = stretches({1: [(at(101), at(101.01)), (at(108), at(108.2))]}, at(100), at(110), 100)
    return Page(timeline(told, seconds, reigns).inline())


def bars(page: Page) -> list[dict[str, str | None]]:
    return [each for tag, each in page.elements if tag == "rect" and "pointer-events" in each]


def number(value: str | None) -> float:
    assert value is not None
    return float(value)


def test_faults_are_bars_where_they_happened() -> None:
    page = drawn(*FAULTS)
    dropped, killed, unfinished = bars(page)
    assert killed["y"] == unfinished["y"] != dropped["y"]
    assert (dropped["fill"], killed["fill"]) == ("none", "currentColor")
    # 10 s are as wide as the picture: the second bar goes on to the end.
    width = number(killed["width"]) / 2
    assert number(unfinished["width"]) == pytest.approx(5 * width, abs=1)
    assert number(unfinished["x"]) - number(killed["x"]) == pytest.approx(4 * width, abs=1)
    assert "m2/<acceptor>, from 5.0 s to 10.0 s" in page.texts
    assert "m1 to m2, from 4.0 s to 4.0 s; refused: too far behind" in page.texts


def test_every_second_says_what_it_had() -> None:
    page = drawn(*FAULTS)
    assert len(page.of_class("hit")) == 10
    assert "1 to 2 s: 1.00/s, p50 10.0 ms, p99 10.0 ms" in page.texts
    assert "2 to 3 s: 0.00/s" in page.texts


def test_a_line_goes_down_from_each_fault_that_came_about() -> None:
    guides = [e for tag, e in drawn(*FAULTS).elements if tag == "path" and "stroke-dasharray" in e]
    (guide,) = guides
    assert (guide["d"] or "").count("M") == 2
    assert drawn().text.count("kill-role") == 0


def test_silences_are_shaded() -> None:
    times = [*range(100, 104), *range(107, 111)]
    told = report(groups=(group_result(1, acknowledged_s=times),))
    page = Page(timeline(told, stretches({}, at(100), at(110), 10)).inline())
    shades = [each for tag, each in page.elements if each.get("fill-opacity") == "0.13"]
    second = number(page.of_class("hit")[0][1]["width"])
    longest = max(number(each["width"]) for each in shades)
    assert longest == pytest.approx(4 * second, abs=0.5)


def test_reigns_are_rows_of_their_groups_in_their_masters_color() -> None:
    reigns = (
        reign(1, "m1", -3.0, 4.0),
        reign(1, "m2", 5.0, None),
        reign(2, "m1", 0.0, 20.0),
        reign(2, "m3", 12.0, None),
    )
    page = drawn(reigns=reigns)
    first, second, other = bars(page)
    assert first["y"] == second["y"] != other["y"]
    # Times before and after the run are cut.
    assert number(first["x"]) == number(other["x"])
    assert number(other["width"]) == pytest.approx(10 / 5 * number(second["width"]), abs=1)
    colors = [each["class"] for tag, each in page.elements if tag == "g"]
    # After those of the three names.
    assert colors[3:6] == ["c0", "c1", "c0"]
    assert {"group 1", "group 2", "m2, from 5.0 s to 10.0 s"} <= set(page.texts)
    assert "m3, from 12.0 s to 10.0 s" not in page.texts
    # Whose color is which can be read without pointing at anything.
    assert {"m1", "m2", "m3"} <= set(page.texts)


def test_of_many_groups_some_have_a_row_and_it_says_so() -> None:
    page = drawn(reigns=tuple(reign(group, "m1", 0, None) for group in range(1, 101)))
    assert len(bars(page)) == REIGN_ROWS_MAX
    assert (
        f"masters, a color for each member; the first {REIGN_ROWS_MAX} groups of 100" in page.texts
    )


def test_a_long_run_is_no_large_chart() -> None:
    """A day, a fault every 4 s, a command every 20 ms of the first ten minutes."""
    end_ns = at(100) + 86_400 * SECOND_NS
    faults = [
        Disturbance(FaultKind.KILL_ROLE, "m1/learner", at(100 + 4 * n), at(102 + 4 * n))
        for n in range(150)
    ]
    acknowledged = [(at(100 + n / 50), at(100 + n / 50) + 5_000_000) for n in range(30_000)]
    told = report(*faults, end_ns=end_ns)
    chart: Chart = timeline(told, stretches({1: acknowledged}, at(100), end_ns, 900))
    assert len(chart.inline()) < 400_000
