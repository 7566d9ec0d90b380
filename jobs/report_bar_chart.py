"""Charts of bars that lie: one line each, with a name before it and what it says behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from job_numbers import round_number_text
from report_charts import (
    WIDTH,
    Chart,
    Scale,
    color_class,
    legend,
    line,
    linear_scale,
    shortened,
    text,
    text_width,
    told,
)
from report_html import Html, element, joined

BAR = 22
HEAD = 30
LABEL_MAX = 60
SAYS_MAX = 44
RIGHT_MIN = 30.0


@dataclass(frozen=True)
class Bar:
    """One line of a chart.

    Attributes:
        label: Before it.
        parts: How long each part is, and its color.
        says: Behind it.
    """

    label: str
    parts: Sequence[tuple[float, int]]
    says: str


def bar_chart(
    name: str,
    title: str,
    bars: Sequence[Bar],
    *,
    named: Sequence[tuple[str, int]] = (),
    unit: str = "",
    most: float | None = None,
    mark: tuple[float, str] | None = None,
) -> Chart:
    """Bars from 0 on.

    Args:
        name: Of the chart's file.
        title: Of the chart.
        bars: From the top.
        named: What the colors mean; empty where there is but one.
        unit: Behind the numbers of the axis.
        most: Where the axis ends; longer bars are cut there. By default all fit.
        mark: A number that a line is drawn at, and what it is called.
    """
    left = max([60.0, *(text_width(shortened(bar.label, LABEL_MAX)) + 14 for bar in bars)])
    right = max([RIGHT_MIN, *(text_width(shortened(bar.says, SAYS_MAX)) + 14 for bar in bars)])
    lengths = [sum(length for length, _ in bar.parts) for bar in bars]
    scale = linear_scale(lengths) if most is None else Scale(0.0, most)
    wide = WIDTH - left - right
    bottom = HEAD + BAR * len(bars)
    parts: list[Html] = []
    for value in scale.ticks():
        x = left + scale.place(value) * wide
        parts.append(line(x, HEAD - 4, x, bottom))
        label = round_number_text(value) + unit
        parts.append(text(x, bottom + 16, label, anchor="middle", class_="quiet"))
    for number, bar in enumerate(bars):
        y = HEAD + BAR * number
        parts.append(text(left - 8, y + 15, shortened(bar.label, LABEL_MAX), anchor="end"))
        parts.append(_bar(bar, left, y, wide, scale))
        # Behind the bar; behind the axis where a line is drawn that it would cross.
        end = scale.place(lengths[number]) * wide if mark is None else wide
        says = shortened(bar.says, SAYS_MAX)
        parts.append(text(left + end + 6, y + 15, says, class_="quiet"))
    if mark is not None:
        x = left + scale.place(mark[0]) * wide
        parts.append(line(x, HEAD - 6, x, bottom, "axis"))
        parts.append(text(x, HEAD - 12, mark[1], anchor="middle", class_="quiet"))
    parts.append(legend(WIDTH - 16, 14, named))
    return Chart(name, title, bottom + 26, joined(*parts))


def _bar(bar: Bar, left: float, y: float, wide: float, scale: Scale) -> Html:
    shapes: list[Html] = []
    end, length = 0.0, 0.0
    for more, color in bar.parts:
        start, length = end, length + more
        end = scale.place(length) * wide
        shape = element(
            "rect",
            x=left + start,
            y=y + 4,
            width=max(end - start, 1.0 if more > 0 else 0.0),
            height=BAR - 8,
            fill="currentColor",
            fill_opacity=0.8,
        )
        shapes.append(element("g", shape, class_=color_class(color)))
    return element("g", told(f"{bar.label}: {bar.says}"), *shapes)
