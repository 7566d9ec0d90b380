"""Charts over the time of a run: rows of bars, and steps, one above the other on one axis.

```
 rows       a bar from when something began until it ended, one row a name
 steps      a number for each window of time; where there was nothing the line has a hole
```

Pointing at a bar tells what it is. Pointing anywhere below tells what was measured in that window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from job_numbers import round_number_text
from report_charts import (
    WIDTH,
    Chart,
    Scale,
    color_class,
    legend,
    line,
    linear_scale,
    log_scale,
    shortened,
    text,
    text_width,
    told,
)
from report_html import Html, element, joined

RIGHT = 16
ROW = 19
STEPS_HEIGHT = 130
HEAD = 30
"""Above a panel, for its name."""
FOOT = 30
LABEL_MAX = 30
LABEL_HEIGHT = 13
TICKS_MAX = 12
_STEPS_S = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1_200, 1_800, 3_600)


@dataclass(frozen=True)
class Bar:
    """From when until when.

    Attributes:
        start_s: Since the run began.
        end_s: Likewise.
        told: Said when it is pointed at.
        color: Its number.
        is_hollow: Whether it is only an outline.
    """

    start_s: float
    end_s: float
    told: str
    color: int
    is_hollow: bool = False


@dataclass(frozen=True)
class Rows:
    """A panel of rows.

    Attributes:
        title: Above it.
        rows: Name and bars of each.
        named: What the colors mean, where the rows do not say it.
    """

    title: str
    rows: Sequence[tuple[str, Sequence[Bar]]]
    named: Sequence[tuple[str, int]] = ()


@dataclass(frozen=True)
class Curve:
    """One number over time.

    Attributes:
        name: What it is; empty where the panel's title says it.
        color: Its number.
        steps: From when until when it was what; None where there was none.
        is_filled: Whether what is below is filled.
    """

    name: str
    color: int
    steps: Sequence[tuple[float, float, float | None]]
    is_filled: bool = False


@dataclass(frozen=True)
class Steps:
    """A panel of numbers over time.

    Attributes:
        title: Above it.
        curves: Shown on one scale.
        is_log: Whether that is logarithmic.
        height: In pixels.
        bands: From when until when something is marked behind the curves.
    """

    title: str
    curves: Sequence[Curve]
    is_log: bool = False
    height: float = STEPS_HEIGHT
    bands: Sequence[tuple[float, float]] = ()


Panel: TypeAlias = Rows | Steps


@dataclass(frozen=True)
class Window:
    """A stretch of time, and what is said of it."""

    start_s: float
    end_s: float
    told: str


@dataclass
class _Drawing:
    """Panels are added from the top; `y` is where the next one begins."""

    left: float
    end_s: float
    y: float = 6.0
    parts: list[Html] = field(default_factory=list)

    def x(self, seconds: float) -> float:
        share = min(max(seconds / max(self.end_s, 1e-9), 0.0), 1.0)
        return round(self.left + share * (WIDTH - self.left - RIGHT), 1)

    def rows(self, panel: Rows) -> None:
        self.parts.append(text(self.left, self.y + 14, panel.title, class_="strong"))
        self.parts.append(legend(WIDTH - RIGHT, self.y + 14, panel.named))
        self.y += HEAD - 6
        for name, bars in panel.rows:
            label = shortened(name, LABEL_MAX)
            self.parts.append(text(self.left - 8, self.y + 13, label, anchor="end"))
            self.parts.append(line(self.left, self.y + ROW, WIDTH - RIGHT, self.y + ROW))
            self.parts.extend(self._bar(bar) for bar in bars)
            self.y += ROW

    def _bar(self, bar: Bar) -> Html:
        x = self.x(bar.start_s)
        shape = element(
            "rect",
            told(bar.told),
            x=x,
            y=self.y + 3,
            width=max(self.x(bar.end_s) - x, 3.0),
            height=ROW - 6,
            rx=2,
            fill="none" if bar.is_hollow else "currentColor",
            fill_opacity=None if bar.is_hollow else 0.7,
            stroke="currentColor",
            pointer_events="all",
        )
        return element("g", shape, class_=color_class(bar.color))

    def steps(self, panel: Steps) -> None:
        self.y += HEAD
        scale = _scale(panel)
        bottom = self.y + panel.height
        self.parts.append(text(self.left, self.y - 8, panel.title, class_="strong"))
        named = [(curve.name, curve.color) for curve in panel.curves if curve.name]
        self.parts.append(legend(WIDTH - RIGHT, self.y - 8, named))
        for start_s, end_s in panel.bands:
            x = self.x(start_s)
            width = max(self.x(end_s) - x, 1.0)
            band = element("rect", x=x, y=self.y, width=width, height=panel.height,
                           fill="currentColor", fill_opacity=0.13)  # fmt: skip
            self.parts.append(element("g", band, class_=color_class(6)))
        labelled = math.inf
        for value in scale.ticks():
            y = bottom - scale.place(value) * panel.height
            self.parts.append(line(self.left, y, WIDTH - RIGHT, y))
            if labelled - y >= LABEL_HEIGHT:
                labelled = y
                label = round_number_text(value)
                self.parts.append(text(self.left - 8, y + 4, label, anchor="end", class_="quiet"))
        for curve in panel.curves:
            self._curve(curve, scale, bottom, panel.height)
        self.y = bottom

    def _curve(self, curve: Curve, scale: Scale, bottom: float, height: float) -> None:
        path = ""
        area = ""
        end_before: float | None = None
        for start_s, end_s, value in curve.steps:
            if value is None:
                continue
            y = round(bottom - scale.place(value) * height, 1)
            x, end = self.x(start_s), self.x(end_s)
            path += f"V{y:g}H{end:g}" if end_before == start_s else f"M{x:g} {y:g}H{end:g}"
            area += f"M{x:g} {bottom:g}V{y:g}H{end:g}V{bottom:g}Z"
            end_before = end_s
        if not path:
            return
        shapes = [element("path", d=path, fill="none", stroke="currentColor", stroke_width=1.6)]
        if curve.is_filled:
            shapes.insert(0, element("path", d=area, fill="currentColor", fill_opacity=0.25))
        self.parts.append(element("g", *shapes, class_=color_class(curve.color)))

    def guides(self, moments: Sequence[tuple[float, int]], top: float) -> Html:
        """Thin lines through everything, where something began."""
        by_color: dict[int, str] = {}
        for seconds, color in moments:
            d = f"M{self.x(seconds):g} {top:g}V{self.y:g}"
            by_color[color] = by_color.get(color, "") + d
        return joined(
            *(
                element(
                    "path",
                    d=d,
                    fill="none",
                    stroke="currentColor",
                    stroke_opacity=0.35,
                    stroke_dasharray="2 3",
                    class_=color_class(color),
                )
                for color, d in by_color.items()
            )
        )

    def axis(self, top: float) -> Html:
        step = time_step(self.end_s)
        parts: list[Html] = []
        for number in range(math.floor(self.end_s / step + 1e-9) + 1):
            x = self.x(number * step)
            parts.append(line(x, top, x, self.y))
            label = time_text(number * step, step)
            parts.append(text(x, self.y + 18, label, anchor="middle", class_="quiet"))
        return joined(*parts)


def time_chart(
    name: str,
    title: str,
    panels: Sequence[Panel],
    end_s: float,
    *,
    guides: Sequence[tuple[float, int]] = (),
    windows: Sequence[Window] = (),
) -> Chart:
    """Panels one above the other.

    Args:
        name: Of the chart's file.
        title: Of the chart.
        panels: From the top.
        end_s: The run's length, in seconds.
        guides: Where thin lines go through all panels, and their colors.
        windows: What is said of a stretch of time that is pointed at, below the rows.
    """
    labels = [shortened(row, LABEL_MAX) for p in panels if isinstance(p, Rows) for row, _ in p.rows]
    left = max([64.0, *(text_width(label) + 16 for label in labels)])
    drawing = _Drawing(left, end_s)
    steps_top: float | None = None
    for panel in panels:
        if isinstance(panel, Rows):
            drawing.rows(panel)
        else:
            steps_top = drawing.y + HEAD if steps_top is None else steps_top
            drawing.steps(panel)
    top = 24.0
    back = joined(drawing.axis(top), drawing.guides(guides, top))
    front: list[Html] = []
    if steps_top is not None:
        for window in windows:
            x = drawing.x(window.start_s)
            width = drawing.x(window.end_s) - x
            front.append(
                element("rect", told(window.told), class_="hit", x=x, y=steps_top,
                        width=width, height=drawing.y - steps_top)
            )  # fmt: skip
    return Chart(name, title, drawing.y + FOOT, joined(back, *drawing.parts, *front))


def _scale(panel: Steps) -> Scale:
    values = [value for curve in panel.curves for *_, value in curve.steps if value is not None]
    return log_scale(values) if panel.is_log else linear_scale(values)


def time_step(end_s: float) -> float:
    """How far apart times are written beside an axis."""
    least = end_s / TICKS_MAX
    if least <= 1:
        return next(step for step in (0.1, 0.2, 0.5, 1.0) if step >= least)
    return next((float(s) for s in _STEPS_S if s >= least), math.ceil(least / 3_600) * 3_600.0)


def time_text(seconds: float, step: float) -> str:
    """A time for a person."""
    if step >= 3_600:
        return f"{seconds / 3_600:g} h"
    return f"{seconds / 60:g} min" if step >= 60 else f"{round(seconds, 1):g} s"
