"""What all charts of a report have in common: scales, colors, text, and how one becomes a file.

1. A chart is SVG, and needs nothing else: no script, no font, no address.
2. In a page it takes its colors from the page, which has a light and a dark set. As a file of its
   own (`Chart.file`) it brings both along, with a title and a background.
3. Colors never speak alone: what is colored has a name beside it, or says it when pointed at.
4. What a chart is given is bounded by whoever makes it; a long run has wider windows, not more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from report_html import Html, element, joined

WIDTH = 1_100
FONT_WIDTH = 7.1
"""Of a letter of 12 pixels, on average and a little more."""
COLOR_COUNT = 8
_LIGHT = ("#2f6db0", "#d9731a", "#1f8a5b", "#b3397f", "#7a52b3", "#8a6d1d", "#c0392b", "#3b8ea5")
_DARK = ("#7db4f0", "#f4a259", "#5fcf9a", "#ee86bd", "#b99af0", "#d6bd66", "#ff8a7a", "#74cbe2")


def _variables(ink: str, paper: str, quiet: str, grid: str, colors: Sequence[str]) -> str:
    numbered = "".join(f"--c{number}:{color};" for number, color in enumerate(colors))
    return f":root{{--ink:{ink};--paper:{paper};--quiet:{quiet};--grid:{grid};{numbered}}}"


LIGHT = _variables("#1d2430", "#ffffff", "#5b6675", "#dfe3e8", _LIGHT)
DARK = _variables("#e6e9ee", "#14181f", "#9aa5b4", "#323a46", _DARK)
STYLE = (
    f"{LIGHT}@media screen and (prefers-color-scheme:dark){{{DARK}}}"
    "svg text{font:12px system-ui,'DejaVu Sans',sans-serif;fill:var(--ink)}"
    "svg .quiet{fill:var(--quiet)}svg .strong{font-weight:600}"
    "svg .grid{stroke:var(--grid);fill:none}svg .axis{stroke:var(--quiet);fill:none}"
    "svg .quiet-line{stroke:var(--quiet);stroke-opacity:.5;fill:none}"
    "svg .paper{fill:var(--paper)}svg .hit{fill:transparent}"
    "svg .hit:hover{fill:var(--quiet);fill-opacity:.18}"
    + "".join(f"svg .c{n}{{color:var(--c{n})}}" for n in range(COLOR_COUNT))
)
"""For a page that shows charts, and for a chart in a file of its own."""


@dataclass(frozen=True)
class Chart:
    """A picture.

    Attributes:
        name: Of its file, without an ending.
        title: Of the picture.
        height: In pixels; it is `WIDTH` wide.
        body: What is in it.
    """

    name: str
    title: str
    height: float
    body: Html

    def inline(self) -> Html:
        """For a page, with its title under it."""
        drawn = self._svg(self.body, top=0)
        return element("figure", drawn, element("figcaption", self.title))

    def file(self) -> str:
        """For a file of its own."""
        top = 34
        head = joined(
            element("style", Html(STYLE)),
            element("rect", class_="paper", y=-top, width=WIDTH, height=self.height + top),
            text(12, 20 - top, self.title, class_="strong"),
        )
        return self._svg(joined(head, self.body), top=top)

    def _svg(self, body: Html, top: float) -> Html:
        return element(
            "svg",
            body,
            xmlns="http://www.w3.org/2000/svg",
            viewBox=f"0 {-top} {WIDTH} {self.height + top:g}",
            role="img",
            aria_label=self.title,
        )


@dataclass(frozen=True)
class Scale:
    """From a number to a place between 0 and 1.

    Attributes:
        low: The number at 0.
        high: The number at 1.
        is_log: Whether tenfold is always as far.
    """

    low: float
    high: float
    is_log: bool = False

    def place(self, value: float) -> float:
        """Where a number is; at an end where it is outside."""
        if self.is_log:
            value = max(value, self.low)
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return min(max(share, 0.0), 1.0)

    def ticks(self) -> list[float]:
        """Numbers to write beside the axis: few, and round."""
        if not self.is_log:
            step = round_step((self.high - self.low) / 6)
            count = math.floor((self.high - self.low) / step + 1e-9)
            return [self.low + number * step for number in range(count + 1)]
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        factors = (1,) if self.high / self.low > 100 else (1, 2, 5)
        values = [10.0**power * factor for power in powers for factor in factors]
        return [v for v in values if self.low * (1 - 1e-9) <= v <= self.high * (1 + 1e-9)]


def linear_scale(values: Iterable[float]) -> Scale:
    """From 0 to a round number at or above all of these."""
    top = max((value for value in values if math.isfinite(value)), default=0.0)
    step = round_step(top / 6 if top > 0 else 0.2)
    return Scale(0.0, max(math.ceil(top / step - 1e-9), 1) * step)


def log_scale(values: Iterable[float]) -> Scale:
    """Around all of these that are above 0, to the next 1, 2, 5, 10, ... on both sides."""
    positive = [value for value in values if value > 0 and math.isfinite(value)]
    low = _round_down(min(positive, default=1.0))
    high = round_step(max(positive, default=10.0))
    return Scale(low, high if high > 2 * low else 10 * low, is_log=True)


def round_step(least: float) -> float:
    """The next of 1, 2, 5, 10, 20, ... and of their tenths, hundredths and so on."""
    power = 10.0 ** math.floor(math.log10(max(least, 1e-9)))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))


def _round_down(most: float) -> float:
    power = 10.0 ** math.floor(math.log10(max(most, 1e-9)))
    return next(power * factor for factor in (5, 2, 1) if power * factor <= most * (1 + 1e-9))


def text(x: float, y: float, words: str, *, anchor: str = "start", class_: str = "") -> Html:
    """One line of text; `anchor` as SVG has it: start, middle or end."""
    return element(
        "text",
        words,
        x=x,
        y=y,
        text_anchor=anchor if anchor != "start" else None,
        class_=class_ or None,
    )


def line(x1: float, y1: float, x2: float, y2: float, class_: str = "grid") -> Html:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def told(words: str) -> Html:
    """What is said when the thing that it is in is pointed at."""
    return element("title", words)


def color_class(color: int) -> str:
    """The class of a color; they begin again after the last one."""
    return f"c{color % COLOR_COUNT}"


def text_width(words: str) -> float:
    """About how wide a line of text is."""
    return len(words) * FONT_WIDTH


def shortened(words: str, most: int) -> str:
    """At most so many letters of a text."""
    return words if len(words) <= most else words[: most - 1] + "…"


def legend(x: float, y: float, named: Sequence[tuple[str, int]]) -> Html:
    """Names of colors in a line that ends at x, its text on y."""
    parts: list[Html] = []
    for name, color in reversed(named):
        x -= text_width(name)
        parts.append(text(x, y, name))
        x -= 16
        square = element("rect", x=x, y=y - 9, width=10, height=10, rx=2, fill="currentColor")
        parts.append(element("g", square, class_=color_class(color)))
        x -= 14
    return joined(*parts)
