"""The page that a job reports on: one HTML file that needs nothing else.

1. The verdict stands first, and why it is no better.
2. Everything is in the file: styles and charts, no script, no address of anything outside. It can
   be mailed, kept beside a release, read without a network, and printed.
3. Text is escaped where an element is made (`report_html`), and bounded here: a table has a most of
   rows and a text a most of letters, and says how many are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from job_files import OutputError, check_output, write_lines
from job_numbers import number_text
from ray_paxos.errors import ConfigurationError
from report_charts import STYLE as CHART_STYLE
from report_charts import Chart
from report_html import Html, element, joined
from report_machine import Circumstances

ROWS_MAX = 500
TEXT_MAX = 4_000
REASONS_MAX = 20
SHORT = 24
"""A text of so few letters is not broken in a table."""
Cell: TypeAlias = str | float | bool | None
"""Numbers stand to the right, a bool is a verdict, None is a dash."""

_LIGHT = "--good:#177245;--bad:#b3261e;--back:#f5f6f8"
_DARK = "--good:#5fcf9a;--bad:#ff8a7a;--back:#1e242d"
STYLE = (
    f"{CHART_STYLE}:root{{{_LIGHT};color-scheme:light dark}}"
    f"@media screen and (prefers-color-scheme:dark){{:root{{{_DARK}}}}}"
    "body{font:15px/1.5 system-ui,'DejaVu Sans',sans-serif;color:var(--ink);"
    "background:var(--paper);margin:0 auto;padding:24px;max-width:1148px}"
    "h1{font-size:1.5em;margin:0 0 .2em}h2{font-size:1.2em;margin:2em 0 .4em;"
    "border-bottom:1px solid var(--grid);padding-bottom:.2em}"
    "p{margin:.4em 0}.quiet{color:var(--quiet)}a{color:inherit}"
    ".verdict{border-left:6px solid var(--quiet);background:var(--back);padding:10px 16px;"
    "margin:14px 0}.verdict.good{border-color:var(--good)}.verdict.bad{border-color:var(--bad)}"
    ".verdict strong{font-size:1.2em}.good>strong,td.good{color:var(--good)}"
    ".bad>strong,td.bad{color:var(--bad);font-weight:600}.verdict ul{margin:.3em 0;"
    "padding-left:1.2em}li{white-space:pre-wrap;overflow-wrap:anywhere}"
    "dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(165px,1fr));gap:10px;margin:0}"
    "dl div{background:var(--back);padding:8px 12px}dt{color:var(--quiet);font-size:.85em}"
    "dd{margin:0;font-size:1.15em;overflow-wrap:anywhere}"
    "nav{font-size:.9em}nav a{margin-right:1em}"
    "figure{margin:1em 0}figcaption{color:var(--quiet);font-size:.9em}"
    "svg{display:block;width:100%;height:auto}"
    ".wide{overflow-x:auto}table{border-collapse:collapse;font-size:.92em;margin:.6em 0}"
    "td,th{padding:3px 16px 3px 0;text-align:left;vertical-align:top;"
    "border-bottom:1px solid var(--grid);overflow-wrap:anywhere}"
    "th{color:var(--quiet);font-weight:600}.n{text-align:right;white-space:nowrap;"
    "font-variant-numeric:tabular-nums}.s{white-space:nowrap}"
    "th,th.n{white-space:normal;overflow-wrap:normal;vertical-align:bottom}"
    "pre{background:var(--back);padding:12px 16px;font-size:.82em;line-height:1.4;"
    "white-space:pre-wrap;overflow-wrap:anywhere;margin:.6em 0}"
    "pre.columns{column-width:300px;column-gap:28px}"
    "@media print{body{padding:0;font-size:11px}nav{display:none}.wide{overflow:visible}"
    "figure,tr,dl div,.verdict{break-inside:avoid}h2{break-after:avoid}"
    "*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}"
)


@dataclass(frozen=True)
class Verdict:
    """What it came to.

    Attributes:
        title: In a few words.
        held: Whether what is promised held; None where nothing was.
        reasons: Why not, or what else to know first.
    """

    title: str
    held: bool | None
    reasons: Sequence[str] = ()


@dataclass(frozen=True)
class Section:
    """A part of a page under a heading.

    Attributes:
        title: Of it.
        parts: Tables, charts and paragraphs; a string is a paragraph.
    """

    title: str
    parts: Sequence[str | Chart]


@dataclass(frozen=True)
class Page:
    """All of it.

    Attributes:
        title: Of the page.
        verdict: Comes first.
        facts: The few numbers that sum it up, by name.
        sections: In order.
    """

    title: str
    verdict: Verdict
    facts: Mapping[str, str]
    sections: Sequence[Section]

    @property
    def charts(self) -> list[Chart]:
        """All of the page."""
        return [part for each in self.sections for part in each.parts if isinstance(part, Chart)]

    def html(self) -> str:
        """The file."""
        head = element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width,initial-scale=1"),
            element("title", self.title),
            element("style", Html(STYLE)),
        )
        body = element(
            "body",
            element("h1", self.title),
            _verdict(self.verdict),
            _facts(self.facts),
            _contents(self.sections),
            *(_section(number, each) for number, each in enumerate(self.sections, 1)),
        )
        return "<!DOCTYPE html>\n" + element("html", head, body, lang="en")


def _verdict(verdict: Verdict) -> Html:
    looks = {True: "verdict good", False: "verdict bad", None: "verdict"}
    parts: list[Html] = [element("strong", verdict.title)]
    if verdict.reasons:
        parts.append(bullets(verdict.reasons, REASONS_MAX))
    return element("div", *parts, class_=looks[verdict.held])


def _facts(facts: Mapping[str, str]) -> Html:
    pairs = (
        element("div", element("dt", name), element("dd", fact)) for name, fact in facts.items()
    )
    return element("dl", *pairs) if facts else Html("")


def _contents(sections: Sequence[Section]) -> Html:
    links = (
        element("a", each.title, href=f"#s{number}") for number, each in enumerate(sections, 1)
    )
    return element("nav", element("p", *(joined(link, " ") for link in links)))


def _section(number: int, section: Section) -> Html:
    return element(
        "section", element("h2", section.title, id=f"s{number}"), *map(_part, section.parts)
    )


def _part(part: str | Chart) -> Html:
    if isinstance(part, Chart):
        return part.inline()
    return part if isinstance(part, Html) else element("p", part)


def bullets(texts: Sequence[str], most: int) -> Html:
    """A list of texts, at most so many of them."""
    shown = [element("li", bounded(words)) for words in texts[:most]]
    if len(texts) > most:
        shown.append(element("li", f"and {len(texts) - most:,} more"))
    return element("ul", *shown)


def bounded(words: str) -> str:
    """A text of at most `TEXT_MAX` letters."""
    if len(words) <= TEXT_MAX:
        return words
    return f"{words[:TEXT_MAX]}… ({len(words) - TEXT_MAX:,} letters more)"


def table(headings: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Html:
    """A table of at most `ROWS_MAX` rows.

    Args:
        headings: Of the columns.
        rows: Each with a cell for each heading.
    """
    shown = rows[:ROWS_MAX]
    is_number = [
        bool(shown) and all(cell is None or _is_number(cell) for cell in column)
        for column in zip(*shown, strict=True)
    ] or [False] * len(headings)
    head = (
        element("th", name, class_="n" if right else None)
        for name, right in zip(headings, is_number, strict=True)
    )
    body = (element("tr", *map(_cell, row)) for row in shown)
    parts = [
        element("thead", element("tr", *head)),
        element("tbody", *body),
    ]
    drawn = element("div", element("table", *parts), class_="wide")
    if len(rows) <= ROWS_MAX:
        return drawn
    left_out = f"and {len(rows) - ROWS_MAX:,} more, which the JSON document has"
    return joined(drawn, element("p", left_out, class_="quiet"))


def _is_number(cell: Cell) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _cell(cell: Cell) -> Html:
    if cell is None:
        return element("td", "-", class_="n")
    if isinstance(cell, bool):
        return element("td", "yes" if cell else "no", class_="good" if cell else "bad")
    if isinstance(cell, str):
        is_short = len(cell) <= SHORT
        return element("td", bounded(cell), class_="s" if is_short else None)
    return element("td", number_text(cell), class_="n")


def circumstances_section(circumstances: Circumstances) -> Section:
    """How it was run, on what, with which configuration; the last section of every page."""
    rows = list(circumstances.rows())
    return Section(
        "How it was run",
        [
            element("pre", circumstances.command),
            table(["what", "it was"], rows),
            "The configuration, with every default:",
            element("pre", circumstances.configuration, class_="columns"),
        ],
    )


# Files.


def check_page(path: str | None, option: str) -> None:
    """Whether a page can be written to a file.

    Args:
        path: Of the file; None where none is wanted.
        option: What messages call it.

    Raises:
        ConfigurationError: It cannot.
    """
    if path is None:
        return
    if Path(path).suffix != ".html":
        raise ConfigurationError(f"{option} {path}: allowed: a file whose name ends in .html")
    check_output(path, option)


def write_page(path: str, page: Page) -> None:
    """Write a page; the file is the whole of it or what it was before.

    Raises:
        OutputError: It cannot be written.
    """
    write_lines(path, [page.html()])


def write_figures(folder: str, charts: Sequence[Chart]) -> list[str]:
    """Write each chart as an SVG file, named after it.

    Args:
        folder: Made where it is not there.
        charts: With names of their own.

    Returns:
        Paths of the files.

    Raises:
        OutputError: One cannot be written.
    """
    try:
        Path(folder).mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made: {error.strerror}") from error
    paths = [str(Path(folder) / f"{chart.name}.svg") for chart in charts]
    for path, chart in zip(paths, charts, strict=True):
        write_lines(path, [chart.file()])
    return paths
