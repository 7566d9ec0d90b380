"""The timeline of a chaos run as one HTML file that needs nothing else.

```
 faults            one row a kind: a bar from when it began until all that it hit served again
 commands/s        acknowledged in each second
 latency           p50 and p99 of the commands acknowledged in each second, logarithmic
```

Pointing at a bar tells whom it hit. What was refused is only an outline.
"""

from __future__ import annotations

import html
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chaos_gaps import SECOND_NS, Disturbance
from job_files import write_lines
from ray_paxos.errors import ConfigurationError

if TYPE_CHECKING:
    from chaos_report import ChaosReport

MILLISECOND_NS = 1_000_000
WIDTH = 1_200
LEFT, RIGHT = 130, 20
ROW = 18
CHART = 150
BETWEEN = 46
TICKS = 10
COLORS = (
    "#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#b07aa1", "#9c755f", "#d37295",
)  # fmt: skip
STYLE = (
    "body{font:14px sans-serif;margin:24px;color:#222}svg text{font:12px sans-serif;fill:#333}"
    "table{border-collapse:collapse;margin-top:16px}td,th{padding:2px 12px 2px 0;text-align:left}"
    ".bad{color:#b00}"
)


@dataclass(frozen=True, slots=True)
class Second:
    """What was acknowledged in one second.

    Attributes:
        count: How many commands.
        p50_ms: Their latency; None where there was none.
        p99_ms: Likewise.
    """

    count: int
    p50_ms: float | None
    p99_ms: float | None


def by_second(acknowledged: Sequence[tuple[int, int]], start_ns: int, end_ns: int) -> list[Second]:
    """Every second of a run, also those in which nothing was acknowledged.

    Args:
        acknowledged: When each command was asked for, and when it had its result.
        start_ns: Of the run.
        end_ns: Of the run.
    """
    latencies: dict[int, list[int]] = defaultdict(list)
    for asked_ns, at_ns in acknowledged:
        if start_ns <= at_ns < end_ns:
            latencies[(at_ns - start_ns) // SECOND_NS].append(at_ns - asked_ns)
    return [_second(sorted(latencies[n])) for n in range(-((start_ns - end_ns) // SECOND_NS))]


def _second(latencies: Sequence[int]) -> Second:
    if not latencies:
        return Second(0, None, None)

    def quantile(share: float) -> float:
        return latencies[math.ceil(share * len(latencies)) - 1] / MILLISECOND_NS

    return Second(len(latencies), quantile(0.5), quantile(0.99))


def check_timeline(path: str | None) -> None:
    """Whether a file's name says what it can be.

    Raises:
        ConfigurationError: It does not.
    """
    if path is not None and Path(path).suffix != ".html":
        raise ConfigurationError(f"--timeline {path}: allowed: a file whose name ends in .html")


def write_timeline(path: str, report: ChaosReport, acknowledged: Sequence[tuple[int, int]]) -> None:
    """Write the file.

    Args:
        path: Of the file.
        report: Of the run.
        acknowledged: When each command was asked for, and when it had its result.

    Raises:
        OutputError: It cannot be written.
    """
    write_lines(path, _page(report, acknowledged))


def _page(report: ChaosReport, acknowledged: Sequence[tuple[int, int]]) -> Iterator[str]:
    title = f"chaos run of cluster {report.cluster}, seed {report.seed}"
    yield "<!DOCTYPE html>"
    yield f'<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
    yield f"<style>{STYLE}</style></head><body>"
    yield f"<h1>{html.escape(title)}</h1>"
    groups = f"{len(report.groups)} groups" if report.is_of_many else "one group"
    yield (
        f"<p>{report.elapsed_s:.0f} s, {len(report.members)} members, {groups}, "
        f"{report.clients} clients; {sum(report.injected.values())} faults; "
        f"{report.acknowledged:,} commands acknowledged; longest gap {report.longest_gap_s:.2f} s."
        "</p>"
    )
    violated = [name for name, problems in report.checks.items() if problems]
    yield (
        f'<p class="bad">Did not hold: {html.escape(", ".join(violated))}.</p>'
        if violated
        else "<p>Everything held.</p>"
    )
    yield from _Drawing(report, by_second(acknowledged, report.start_ns, report.end_ns)).lines()
    yield from _table(report)
    yield "</body></html>"


class _Drawing:
    """The picture, as SVG."""

    def __init__(self, report: ChaosReport, seconds: Sequence[Second]) -> None:
        self._report = report
        self._seconds = seconds
        self._kinds = sorted({d.kind.value for d in report.disturbances})
        self._rows_end = 24 + ROW * len(self._kinds)
        self._rates_end = self._rows_end + BETWEEN + CHART
        self._latencies_end = self._rates_end + BETWEEN + CHART

    def lines(self) -> Iterator[str]:
        height = self._latencies_end + 40
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" role="img">'
        )
        yield f'<rect width="{WIDTH}" height="{height}" fill="white"/>'
        yield from self._time_axis()
        yield from self._faults()
        yield from self._rates()
        yield from self._latencies()
        yield "</svg>"

    def _x(self, seconds: float) -> float:
        share = min(max(seconds / max(self._report.elapsed_s, 1e-9), 0.0), 1.0)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def _time_axis(self) -> Iterator[str]:
        step = _round_step(self._report.elapsed_s / TICKS)
        moment = 0.0
        while moment <= self._report.elapsed_s:
            x = self._x(moment)
            yield f'<path d="M{x} 14V{self._latencies_end}" stroke="#eee"/>'
            yield _text(x, self._latencies_end + 18, f"{moment:g} s", "middle")
            moment += step

    def _faults(self) -> Iterator[str]:
        for number, kind in enumerate(self._kinds):
            y = 18 + ROW * number
            yield _text(LEFT - 8, y + 12, kind, "end")
            for disturbance in self._report.disturbances:
                if disturbance.kind.value == kind:
                    yield self._bar(disturbance, y, COLORS[number % len(COLORS)])

    def _bar(self, disturbance: Disturbance, y: int, color: str) -> str:
        start_s = (disturbance.start_ns - self._report.start_ns) / SECOND_NS
        end_ns = disturbance.end_ns if disturbance.end_ns is not None else self._report.end_ns
        end_s = (end_ns - self._report.start_ns) / SECOND_NS
        x = self._x(start_s)
        width = max(self._x(end_s) - x, 2.0)
        look = f'fill="none" stroke="{color}"' if disturbance.refusal else f'fill="{color}"'
        refusal = f"; refused: {disturbance.refusal}" if disturbance.refusal else ""
        told = f"{disturbance.what}, from {start_s:.1f} s to {end_s:.1f} s{refusal}"
        return (
            f'<rect x="{x}" y="{y}" width="{width:.1f}" height="{ROW - 5}" {look} '
            f'fill-opacity="0.75"><title>{html.escape(told)}</title></rect>'
        )

    def _rates(self) -> Iterator[str]:
        top = max((second.count for second in self._seconds), default=0)
        step = _round_step(top / 4 or 1)
        limit = max(math.ceil(top / step), 1) * step
        y0 = self._rates_end

        def y(count: float) -> float:
            return round(y0 - count / limit * CHART, 1)

        yield _text(LEFT, y0 - CHART - 8, "acknowledged commands a second", "start")
        for number in range(round(limit / step) + 1):
            yield from self._level(y(number * step), f"{number * step:g}")
        points = [
            (self._x(edge), y(second.count))
            for number, second in enumerate(self._seconds)
            for edge in (number, number + 1)
        ]
        if points:
            shape = "L".join(f"{x} {height}" for x, height in points)
            ends = f"L{points[-1][0]} {y0}L{points[0][0]} {y0}Z"
            yield f'<path d="M{shape}{ends}" fill="#4e79a7" fill-opacity="0.5"/>'

    def _latencies(self) -> Iterator[str]:
        known = [s for s in self._seconds if s.p50_ms is not None and s.p99_ms is not None]
        lowest = min((s.p50_ms for s in known if s.p50_ms), default=1.0)
        highest = max((s.p99_ms for s in known if s.p99_ms), default=10.0)
        low, high = math.floor(math.log10(lowest)), math.ceil(math.log10(highest))
        high = max(high, low + 1)
        y0 = self._latencies_end

        def y(latency_ms: float) -> float:
            share = (math.log10(max(latency_ms, 10**low)) - low) / (high - low)
            return round(y0 - share * CHART, 1)

        yield _text(LEFT, y0 - CHART - 8, "latency in ms: p50 (blue), p99 (red)", "start")
        for power in range(low, high + 1):
            yield from self._level(y(10.0**power), f"{10.0**power:g}")
        for name, color in (("p50_ms", "#4e79a7"), ("p99_ms", "#e15759")):
            for number, second in enumerate(self._seconds):
                value = getattr(second, name)
                if value is not None:
                    left, right = self._x(number), self._x(number + 1)
                    line = f"M{left} {y(value)}H{right}"
                    yield f'<path d="{line}" stroke="{color}" stroke-width="2"/>'

    def _level(self, y: float, label: str) -> Iterator[str]:
        yield f'<path d="M{LEFT} {y}H{WIDTH - RIGHT}" stroke="#ddd"/>'
        yield _text(LEFT - 8, y + 4, label, "end")


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _round_step(least: float) -> float:
    """The next of 1, 2, 5, 10, 20, ... (and of their tenths)."""
    power = 10.0 ** math.floor(math.log10(max(least, 1e-3)))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))


def _table(report: ChaosReport) -> Iterator[str]:
    yield "<table><tr><th>from</th><th>until</th><th>fault</th><th>whom</th></tr>"
    for disturbance in report.disturbances:
        start = f"{(disturbance.start_ns - report.start_ns) / SECOND_NS:.1f} s"
        end_ns = disturbance.end_ns
        end = f"{(end_ns - report.start_ns) / SECOND_NS:.1f} s" if end_ns is not None else "the end"
        what = disturbance.what + (
            f"; refused: {disturbance.refusal}" if disturbance.refusal else ""
        )
        cells = "".join(
            f"<td>{html.escape(cell)}</td>" for cell in (start, end, disturbance.kind.value, what)
        )
        yield f"<tr>{cells}</tr>"
    yield "</table>"
