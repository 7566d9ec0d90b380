"""The page of a report: its order, its tables, what it escapes, how it is written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job_files import OutputError
from ray_paxos.config import ClusterConfiguration
from ray_paxos.errors import ConfigurationError
from report_charts import Chart
from report_html import Html, element, escaped, joined
from report_machine import Circumstances, command_text, configuration_text, machine
from report_page import (
    ROWS_MAX,
    TEXT_MAX,
    Cell,
    Page,
    Section,
    Verdict,
    bounded,
    bullets,
    check_page,
    circumstances_section,
    table,
    write_figures,
    write_page,
)
from tests.jobs.pages import BAD_TEXT
from tests.jobs.pages import Page as ReadPage
from tests.jobs.pages import check_page as check_written

CHART = Chart("a_chart", "A chart & more", 50, element("rect", x=1, width=2.345))
GOOD = Verdict("Everything held.", held=True)


def page(*parts: Any, verdict: Verdict = GOOD, title: str = "A run") -> Page:
    return Page(title, verdict, {"seed": "1"}, [Section("What it did", parts)])


# Elements.


def test_text_is_escaped_and_markup_is_not() -> None:
    made = element("td", "a<b", element("b", "c&d"), class_="x", data_y='"q"', gone=None)
    assert made == '<td class="x" data-y="&quot;q&quot;">a&lt;b<b>c&amp;d</b></td>'
    assert joined("<", Html("<br>")) == "&lt;<br>"
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'
    assert element("rect", x=1.23456, y=0.0, width=1e7) == (
        '<rect x="1.23" y="0" width="10000000"></rect>'
    )


def test_what_no_document_may_contain_is_replaced() -> None:
    assert escaped("a\x00b\x1b\ud800\ufffe\tc\n") == "a\ufffdb\ufffd\ufffd\ufffd\tc\n"
    assert escaped("größe 漢字 😀") == "größe 漢字 😀"


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_is_one_text_of_a_page_and_can_be_written(words: str) -> None:
    made = element("p", words, title=words)
    made.encode()
    read = ReadPage(made)
    assert [tag for tag, _ in read.elements] == ["p"]


# Pages.


def test_a_page_is_well_formed_and_needs_nothing_from_elsewhere() -> None:
    read = check_written(page("Some text.", CHART, table(["a"], [["b"]])).html())
    assert "A chart & more" in read.texts
    assert {"figure", "svg", "table", "h1", "h2", "nav"} <= read.tags


def test_the_verdict_stands_before_everything_else() -> None:
    failed = Verdict("Did not hold: gap.", held=False, reasons=["gap: for 7 s"])
    for verdict, look in ((failed, "bad"), (GOOD, "good"), (Verdict("Measured.", None), None)):
        read = check_written(page(verdict=verdict).html())
        (shown,) = read.of_class("verdict")
        looks = set((shown[1]["class"] or "").split()) - {"verdict"}
        assert looks == ({look} if look else set())
        first = [tag for tag, _ in read.elements].index("section")
        assert read.elements.index(shown) < first
        assert verdict.title in read.texts
    assert "gap: for 7 s" in check_written(page(verdict=failed).html()).texts


def test_nothing_that_is_told_becomes_markup() -> None:
    verdict = Verdict(BAD_TEXT, held=False, reasons=[BAD_TEXT])
    chart = Chart("x", BAD_TEXT, 10, element("text", BAD_TEXT))
    rows: list[list[Cell]] = [[BAD_TEXT, 1], [None, 2]]
    text = Page(
        BAD_TEXT,
        verdict,
        {BAD_TEXT: BAD_TEXT},
        [Section(BAD_TEXT, [BAD_TEXT, chart, table([BAD_TEXT, "n"], rows)])],
    ).html()
    read = check_written(text)
    shown = BAD_TEXT.replace("\x00", "\ufffd")
    assert read.texts.count(shown) == 13
    assert "\x00" not in text


def test_verdicts_numbers_and_what_is_missing_look_different() -> None:
    rows: list[list[Cell]] = [["a", True, 1_234], ["b", False, 0.5], ["c", None, 12.34]]
    read = ReadPage(table(["what", "held", "number"], rows))
    assert read.texts == [
        *("what", "held", "number", "a", "yes", "1,234", "b", "no", "0.50", "c", "-", "12.3"),
    ]
    assert [tag for tag, _ in read.of_class("good")] == ["td"]
    assert [tag for tag, _ in read.of_class("bad")] == ["td"]
    # Numbers and the heading of their column stand to the right.
    assert [tag for tag, _ in read.of_class("n")] == ["th", "td", "td", "td", "td"]


def test_long_tables_lists_and_texts_are_bounded_and_say_so() -> None:
    read = ReadPage(table(["n"], [[n] for n in range(ROWS_MAX + 7)]))
    assert sum(tag == "tr" for tag, _ in read.elements) == ROWS_MAX + 1
    assert "and 7 more, which the JSON document has" in read.texts
    assert bounded("x" * TEXT_MAX) == "x" * TEXT_MAX
    assert bounded("x" * (TEXT_MAX + 5)).endswith("x… (5 letters more)")
    assert ReadPage(bullets(["a", "b", "c"], 2)).texts == ["a", "b", "and 1 more"]
    assert ReadPage(table(["empty"], [])).texts == ["empty"]


# Where it ran.


def test_the_last_section_tells_how_it_was_run() -> None:
    configuration = ClusterConfiguration(cluster="demo")
    circumstances = Circumstances.begin(41, configuration)
    circumstances.end()
    section = circumstances_section(circumstances)
    text = check_written(Page("t", GOOD, {}, [section]).html()).text
    assert circumstances.ended_at >= circumstances.began_at
    for part in ("41", "cluster: demo", "lease_ms:", "cores", "ray_paxos", circumstances.began_at):
        assert part in text
    assert command_text(["jobs/chaos.py", "--seed", "a b"]) == "python jobs/chaos.py --seed 'a b'"
    assert configuration_text(configuration).startswith("cluster: demo\n")
    assert machine()["memory_gb"] > 0


def test_a_configuration_cannot_become_markup() -> None:
    told = Circumstances(BAD_TEXT, 1, BAD_TEXT, machine() | {"processor": BAD_TEXT}, BAD_TEXT)
    check_written(Page("t", GOOD, {}, [circumstances_section(told)]).html())


# Files.


def test_a_page_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    write_page(str(path), page("größe"))
    assert "größe" in check_written(path.read_text(encoding="utf-8")).texts
    assert os.listdir(tmp_path) == ["run.html"]


def test_charts_are_written_each_to_a_file_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "figures"
    assert write_figures(str(folder), page(CHART).charts) == [str(folder / "a_chart.svg")]
    assert "A chart &amp; more" in (folder / "a_chart.svg").read_text()
    with pytest.raises(OutputError, match="cannot be made: File exists"):
        write_figures(str(folder / "a_chart.svg"), [])


def test_another_ending_is_refused(tmp_path: Path) -> None:
    check_page(None, "--report")
    check_page(str(tmp_path / "run.html"), "--report")
    for path in ("run.pdf", "-", str(tmp_path)):
        with pytest.raises(ConfigurationError, match=r"^--report .*: allowed: .* ends in .html$"):
            check_page(path, "--report")
    with pytest.raises(ConfigurationError, match="there is no folder"):
        check_page(str(tmp_path / "no" / "run.html"), "--report")
