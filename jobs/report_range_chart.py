"""Charts of ranges: from a usual number up to a rare one, over another number, each with a name.

Throughput against latency is one: a dot at the p50, a triangle at the p99, a line between them.
Names are put where they cover neither a mark nor another name, as far as there is such a place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from job_numbers import number_text, round_number_text
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

LEFT, RIGHT, TOP, FOOT = 70, 24, 34, 48
HEIGHT = 420
LABEL_MAX = 50
LINE = 14
DOWN = (6, -7, 20, -21, 34, -35, 48, -49, 62, -63)
"""Where a name may be, below or above its mark: the first place is the best one."""
FAR = 25
"""Names that are further away have a line to their mark."""
POINTS = 60
"""Of a line between two marks, where names keep off it."""
USUAL, RARE = 0, 1
"""Colors of the two."""


@dataclass(frozen=True)
class Range:
    """One of what is shown.

    Attributes:
        name: Beside it.
        x: The number below.
        usual: The lower number.
        rare: The upper one.
        series: Ranges of the same series are connected in the order of x; "" for none.
    """

    name: str
    x: float
    usual: float
    rare: float
    series: str = ""


@dataclass(frozen=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: _Box) -> float:
        """The area of both together."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(wide, 0.0) * max(high, 0.0)


@dataclass
class _Plot:
    across: Scale
    up: Scale
    taken: list[_Box] = field(default_factory=list)

    def x(self, value: float) -> float:
        return LEFT + self.across.place(value) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return TOP + HEIGHT - self.up.place(value) * HEIGHT

    def grid(self) -> Iterator[Html]:
        for value in self.across.ticks():
            yield line(self.x(value), TOP, self.x(value), TOP + HEIGHT)
            label = round_number_text(value)
            at = self.x(value)
            yield text(at, TOP + HEIGHT + 18, label, anchor="middle", class_="quiet")
        for value in self.up.ticks():
            yield line(LEFT, self.y(value), WIDTH - RIGHT, self.y(value))
            yield text(
                LEFT - 8, self.y(value) + 4, round_number_text(value), anchor="end", class_="quiet"
            )

    def mark(self, each: Range, axis: str) -> Html:
        x, usual, rare = self.x(each.x), self.y(each.usual), self.y(each.rare)
        # Once more apart, so that a name keeps off the line between them as much as off its ends.
        self.taken += [
            _Box(x - 6, usual - 6, x + 6, usual + 6),
            _Box(x - 6, rare - 6, x + 6, usual),
        ]
        dot = element("circle", cx=x, cy=usual, r=5, fill="currentColor")
        triangle = f"M{x - 6:g} {rare + 5:g}H{x + 6:g}L{x:g} {rare - 6:g}Z"
        return element(
            "g",
            told(
                f"{each.name}: {number_text(each.x)} {axis}, p50 {number_text(each.usual)} ms, "
                f"p99 {number_text(each.rare)} ms"
            ),
            line(x, usual, x, rare, "axis"),
            element("g", dot, class_=color_class(USUAL)),
            element(
                "g", element("path", d=triangle, fill="currentColor"), class_=color_class(RARE)
            ),
        )

    def name(self, each: Range) -> Html:
        words = shortened(each.name, LABEL_MAX)
        wide = text_width(words)
        box = min(self._places(each, wide), key=self._cost)
        self.taken.append(box)
        x, y, middle = self.x(each.x), self.y(each.usual), (box.top + box.bottom) / 2
        # From the side where the mark is: how wide a text becomes is only about known.
        if box.left > x:
            shown = text(box.left, box.bottom - 3, words)
        elif box.right < x:
            shown = text(box.right, box.bottom - 3, words, anchor="end")
        else:
            shown = text((box.left + box.right) / 2, box.bottom - 3, words, anchor="middle")
        if abs(middle - y) <= FAR:
            return shown
        return joined(line(x, y, min(max(x, box.left), box.right), middle, "quiet-line"), shown)

    def _places(self, each: Range, wide: float) -> Iterator[_Box]:
        x, y = self.x(each.x), self.y(each.usual)
        for down in DOWN:
            for left in (x + 9, x - 9 - wide, x - wide / 2):
                yield _Box(left, y + down - LINE / 2, left + wide, y + down + LINE / 2)

    def _cost(self, box: _Box) -> float:
        inside = _Box(LEFT, TOP, WIDTH - RIGHT, TOP + HEIGHT)
        outside = (box.right - box.left) * LINE - box.overlap(inside)
        # Rounded: of places that are as good the first one is taken, whatever the last digits say.
        return round(10 * outside + sum(box.overlap(other) for other in self.taken), 3)

    def _keep_free(self, before: tuple[float, float], after: tuple[float, float]) -> None:
        """Names keep off a line between two points, too."""
        for number in range(POINTS + 1):
            share = number / POINTS
            x = before[0] + share * (after[0] - before[0])
            y = before[1] + share * (after[1] - before[1])
            self.taken.append(_Box(x - 3, y - 3, x + 3, y + 3))

    def connections(self, ranges: Sequence[Range]) -> Iterator[Html]:
        by_series: dict[str, list[Range]] = {}
        for each in ranges:
            if each.series:
                by_series.setdefault(each.series, []).append(each)
        for of_series in by_series.values():
            points = [(self.x(e.x), self.y(e.usual)) for e in sorted(of_series, key=_by_x)]
            for before, after in pairwise(points):
                self._keep_free(before, after)
            path = element(
                "path",
                d="M" + "L".join(f"{x:g} {y:g}" for x, y in points),
                fill="none",
                stroke="currentColor",
                stroke_opacity=0.5,
            )
            yield element("g", path, class_=color_class(USUAL))


def _by_x(each: Range) -> float:
    return each.x


def range_chart(
    name: str, title: str, ranges: Sequence[Range], *, across: str, up: str, named: tuple[str, str]
) -> Chart:
    """Ranges over a number, on a logarithmic scale upwards.

    Args:
        name: Of the chart's file.
        title: Of the chart.
        ranges: What is shown.
        across: What the number below is.
        up: What the ranges are of.
        named: What their lower and their upper ends are called.
    """
    plot = _Plot(
        linear_scale([each.x for each in ranges]),
        log_scale([value for each in ranges for value in (each.usual, each.rare)]),
    )
    parts = [*plot.grid(), *plot.connections(ranges)]
    parts += [plot.mark(each, across) for each in ranges]
    parts += [plot.name(each) for each in sorted(ranges, key=_by_x)]
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(text(middle, TOP + HEIGHT + 38, across, anchor="middle"))
    parts.append(text(LEFT - 50, TOP - 14, up))
    parts.append(legend(WIDTH - RIGHT, TOP - 14, [(named[0], USUAL), (named[1], RARE)]))
    return Chart(name, title, TOP + HEIGHT + FOOT, joined(*parts))
