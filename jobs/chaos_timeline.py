"""The timeline of a chaos run, as a chart.

```
 faults            one row a kind: a bar from when it began until all that it hit served again
 masters           where they are known: one row a group, a bar from when a reign began to its end
 commands/s        acknowledged in each second
 latency           p50 and p99 of the commands acknowledged in each second, logarithmic
```

Pointing at a bar tells whom it hit. What was refused is only an outline. The longest silences are
marked behind commands and latencies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from chaos_effects import Stretch
from chaos_gaps import SECOND_NS, Disturbance
from job_numbers import number_text
from report_charts import Chart
from report_time_chart import Bar, Curve, Rows, Steps, Window, time_chart

if TYPE_CHECKING:
    from chaos_events import MemberReign
    from chaos_report import ChaosReport

STRETCHES_MAX = 900
GUIDES_MAX = 300
REIGN_ROWS_MAX = 16
NAMES_MAX = 8
SILENCE_S = 1.0
"""Shorter ones are not marked."""
COMMANDS, P50, P99 = 0, 0, 1


def timeline(
    report: ChaosReport, stretches: Sequence[Stretch], reigns: Sequence[MemberReign] = ()
) -> Chart:
    """Everything that happened, on one axis.

    Args:
        report: Of the run.
        stretches: What was acknowledged when.
        reigns: As far as they are known.
    """
    kinds = sorted({d.kind.value for d in report.disturbances})
    colors = {kind: number for number, kind in enumerate(kinds)}
    panels: list[Rows | Steps] = []
    if kinds:
        rows = [
            (kind, [_bar(report, d, colors[kind]) for d in report.disturbances if _is(d, kind)])
            for kind in kinds
        ]
        panels.append(Rows("faults, until all that they hit served again", rows))
    if reigns:
        panels.append(_reigns(report, reigns))
    silences = [
        ((gap.start_ns - report.start_ns) / SECOND_NS, (gap.end_ns - report.start_ns) / SECOND_NS)
        for _, gap in report.gaps
        if gap.length_s >= SILENCE_S
    ]
    rates = [(each.start_s, each.end_s, each.per_s) for each in stretches]
    panels += [
        Steps("commands acknowledged a second", [Curve("", COMMANDS, rates, is_filled=True)],
              bands=silences),
        Steps(
            "latency of commands, ms",
            [
                Curve("p50", P50, [(e.start_s, e.end_s, e.p50_ms) for e in stretches]),
                Curve("p99", P99, [(e.start_s, e.end_s, e.p99_ms) for e in stretches]),
            ],
            is_log=True,
            bands=silences,
        ),
    ]  # fmt: skip
    came = [d for d in report.disturbances if not d.refusal][:GUIDES_MAX]
    return time_chart(
        "timeline",
        "Faults, commands acknowledged and their latency over time. Silences of a second and more "
        "are shaded, darker where they are of more groups.",
        panels,
        report.elapsed_s,
        guides=[((d.start_ns - report.start_ns) / SECOND_NS, colors[d.kind.value]) for d in came],
        windows=[Window(each.start_s, each.end_s, _told(each)) for each in stretches],
    )


def _is(disturbance: Disturbance, kind: str) -> bool:
    return disturbance.kind.value == kind


def _bar(report: ChaosReport, disturbance: Disturbance, color: int) -> Bar:
    start_s = (disturbance.start_ns - report.start_ns) / SECOND_NS
    end_ns = disturbance.end_ns if disturbance.end_ns is not None else report.end_ns
    end_s = (end_ns - report.start_ns) / SECOND_NS
    refusal = f"; refused: {disturbance.refusal}" if disturbance.refusal else ""
    told = f"{disturbance.what}, from {start_s:.1f} s to {end_s:.1f} s{refusal}"
    return Bar(start_s, end_s, told, color, is_hollow=bool(disturbance.refusal))


def reign_seconds(report: ChaosReport, reign: MemberReign) -> tuple[float, float]:
    """From when until when a reign was, since the run began; to its end where it went on.

    Its times are by the clock of a member's node, those of the run by this machine's.
    """
    start_s = (reign.from_ms - report.start_at_ms) / 1_000
    if reign.to_ms is None:
        return start_s, report.elapsed_s
    return start_s, (reign.to_ms - report.start_at_ms) / 1_000


def _reigns(report: ChaosReport, reigns: Sequence[MemberReign]) -> Rows:
    groups = sorted({reign.group for reign in reigns})
    colors = {name: number for number, name in enumerate(sorted({r.member for r in reigns}))}
    rows = []
    for group in groups[:REIGN_ROWS_MAX]:
        bars = []
        for reign in reigns:
            start_s, end_s = reign_seconds(report, reign)
            if reign.group == group and end_s > 0 and start_s < report.elapsed_s:
                told = f"{reign.member}, from {start_s:.1f} s to {end_s:.1f} s"
                bars.append(Bar(start_s, end_s, told, colors[reign.member]))
        rows.append((f"group {group}", bars))
    left_out = len(groups) - len(rows)
    more = f"; the first {len(rows)} groups of {len(groups)}" if left_out else ""
    # More names than there is room for are said when a bar is pointed at.
    named = list(colors.items())[:NAMES_MAX]
    return Rows(f"masters, a color for each member{more}", rows, named)


def _told(stretch: Stretch) -> str:
    latency = (
        f", p50 {number_text(stretch.p50_ms)} ms, p99 {number_text(stretch.p99_ms)} ms"
        if stretch.p50_ms is not None and stretch.p99_ms is not None
        else ""
    )
    return f"{stretch.start_s:g} to {stretch.end_s:g} s: {number_text(stretch.per_s)}/s{latency}"
