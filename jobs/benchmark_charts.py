"""The charts of a benchmark, made of its JSON document: the same for a page and for files.

| chart | what it shows |
|---|---|
| `suite_lines` | of each line of the suite how much of what is asked for was reached |
| `throughput_latency` | the median run of each load, p50 and p99 over commands a second |
| `latency_over_time` | p50 and p99 of each second of each load's median run |
| `cpu` | of each role, its share of the processor time for one command |
| `peers` | commands a second of this run and of those beside it, by load |
| `burst` | latency before, in and after the suite's burst |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmark_stability import BEFORE_S, BURST_S
from benchmark_table import Line
from job_numbers import number_text
from report_bar_chart import Bar, bar_chart
from report_charts import Chart
from report_range_chart import Range, range_chart
from report_time_chart import Curve, Steps, Window, time_chart

PANELS_MAX = 24
WINDOWS_MAX = 300
"""Of one load; of a longer run several seconds are drawn as one."""
PANEL_HEIGHT = 70.0
REACHED_MAX = 200.0
GOOD, BAD = 2, 6
P50, P99 = 0, 1
Document = Mapping[str, Any]


def system_name(document: Document) -> str:
    """What was measured, in a word or two."""
    peer = document.get("peer")
    return peer["name"] if peer else f"ray_paxos, {document['options']['roles']}"


def system_names(documents: Sequence[Document]) -> list[str]:
    """The same of each; those after the first of a name have a number, too."""
    names: list[str] = []
    for number, document in enumerate(documents, 1):
        name = system_name(document)
        names.append(f"{name} ({number})" if name in names else name)
    return names


def medians(document: Document) -> dict[str, Document]:
    """The median run of each load, or of each line of a suite."""
    if "suite" not in document:
        return dict(document.get("median", {}))
    runs: Mapping[str, Sequence[Document]] = document["suite"]["runs"]
    return {what: median_document(each) for what, each in runs.items() if each}


def median_document(runs: Sequence[Document]) -> Document:
    """As `benchmark_run.median_of`, of documents."""
    return sorted(runs, key=lambda run: float(run["commands_per_s"]))[(len(runs) - 1) // 2]


def lines_chart(lines: Sequence[Line]) -> Chart:
    """How much of what each line asks for was reached."""
    bars = []
    for line in lines:
        says = f"{line.measured_text}, {line.requirement.bound_text}"
        color = GOOD if line.holds else BAD
        bars.append(Bar(line.requirement.text, [(reached(line), color)], says))
    return bar_chart(
        "suite_lines",
        "Of each line, how much of what is asked for was reached; longer is better",
        bars,
        named=[("holds", GOOD), ("does not hold", BAD)],
        unit=" %",
        most=REACHED_MAX,
        mark=(100.0, "asked for"),
    )


def reached(line: Line) -> float:
    """In percent; twice as much counts as more than that."""
    bound, measured = line.requirement.bound, line.measured
    if measured is None:
        return 0.0
    if not line.requirement.is_most:
        return min(100 * measured / bound, REACHED_MAX)
    # As good as it gets.
    return min(100 * bound / measured, REACHED_MAX) if measured > 0 else REACHED_MAX


def throughput_chart(documents: Sequence[Document]) -> Chart | None:
    """Throughput against latency, of this run and of those beside it."""
    ranges = [
        Range(
            f"{system}: {name}" if len(documents) > 1 else name,
            run["commands_per_s"],
            run["latency"]["p50_ms"],
            run["latency"]["p99_ms"],
            # Lines of a suite have nothing in common; loads of one run have all but the load.
            "" if "suite" in document else system,
        )
        for document, system in zip(documents, system_names(documents), strict=True)
        for name, run in medians(document).items()
        if run["latency"] is not None
    ]
    if not ranges:
        return None
    return range_chart(
        "throughput_latency",
        "Throughput against latency: p50 and p99 of the median run of each load",
        ranges,
        across="commands a second",
        up="latency, ms",
        named=("p50", "p99"),
    )


def over_time_chart(document: Document) -> Chart | None:
    """Latency of each second, one panel a load."""
    panels = []
    end_s = 0.0
    for name, run in list(medians(document).items())[:PANELS_MAX]:
        windows = drawn_windows(run["windows"])
        if windows:
            end_s = max(end_s, windows[-1][1])
            curves = [
                Curve("p50", P50, [(start, end, p50) for start, end, _, p50, _ in windows]),
                Curve("p99", P99, [(start, end, p99) for start, end, _, _, p99 in windows]),
            ]
            panels.append(Steps(f"{name}, ms", curves, is_log=True, height=PANEL_HEIGHT))
    if not panels:
        return None
    return time_chart("latency_over_time", "Latency over the time of each run", panels, end_s)


Drawn = tuple[float, float, float, float | None, float | None]
"""From when until when, calls a second, p50 and p99 in ms."""


def drawn_windows(windows: Sequence[Document]) -> list[Drawn]:
    """Windows of a run as they are drawn: of many, some are one, with the worst p99 of them."""
    if not windows:
        return []
    starts = [window["start_s"] for window in windows]
    width_s = starts[1] - starts[0] if len(starts) > 1 else 1.0
    together = -(-len(windows) // WINDOWS_MAX)
    drawn: list[Drawn] = []
    for first in range(0, len(windows), together):
        some = windows[first : first + together]
        p50s = [window["p50_ms"] for window in some if window["p50_ms"] is not None]
        p99s = [window["p99_ms"] for window in some if window["p99_ms"] is not None]
        per_s = sum(window["calls_per_s"] for window in some) / len(some)
        start_s = round(some[0]["start_s"], 3)
        end_s = round(some[-1]["start_s"] + width_s, 3)
        drawn.append(
            (start_s, end_s, per_s, median(p50s) if p50s else None, max(p99s, default=None))
        )
    return drawn


def cpu_spent(document: Document) -> dict[str, dict[str, float]]:
    """Microseconds of processor time for one command, by load and role."""
    return {name: run["cpu"].get("us_per_operation", {}) for name, run in medians(document).items()}


def cpu_roles(document: Document) -> list[str]:
    """All roles that took any."""
    return sorted({role for of_load in cpu_spent(document).values() for role in of_load})


def cpu_chart(document: Document) -> Chart | None:
    """Who takes the processor time; shares, as a lone command takes hundreds of times as much."""
    roles = cpu_roles(document)
    if not roles:
        return None
    bars = []
    for name, of_load in cpu_spent(document).items():
        total = sum(of_load.values())
        shares = [
            (100 * of_load.get(role, 0.0) / (total or 1.0), n) for n, role in enumerate(roles)
        ]
        bars.append(Bar(name, shares, f"{number_text(total)} us a command"))
    return bar_chart(
        "cpu",
        "Processor time for one command: shares of the roles, and microseconds of all",
        bars,
        named=[(role, color) for color, role in enumerate(roles)],
        unit=" %",
        most=100.0,
    )


def peers_chart(documents: Sequence[Document]) -> Chart | None:
    """Commands a second by load, of this run and of those beside it; None where there are none."""
    if len(documents) < 2:
        return None
    bars = []
    systems = system_names(documents)
    for load in dict.fromkeys(name for each in documents for name in medians(each)):
        for number, document in enumerate(documents):
            run = medians(document).get(load)
            if run is not None:
                says = f"{run['commands_per_s']:,.0f}/s"
                name = f"{load}: {systems[number]}"
                bars.append(Bar(name, [(run["commands_per_s"], number)], says))
    named = [(system, number) for number, system in enumerate(systems)]
    return bar_chart("peers", "Commands a second, by load", bars, named=named)


def burst_chart(burst: Document) -> Chart:
    """The suite's burst: offered ten times as much for a second."""
    windows = drawn_windows(burst["windows"])
    end_s = windows[-1][1] if windows else 1.0
    steps = Steps(
        "latency of calls by when they were due, ms; the burst is shaded",
        [
            Curve("p50", P50, [(start, end, p50) for start, end, _, p50, _ in windows]),
            Curve("p99", P99, [(start, end, p99) for start, end, _, _, p99 in windows]),
        ],
        is_log=True,
        bands=[(BEFORE_S, BEFORE_S + BURST_S)],
    )
    told = [
        Window(start, end, f"{start:g} to {end:g} s: {number_text(per_s)} calls/s")
        for start, end, per_s, _, _ in windows
    ]
    return time_chart("burst", "Latency around a burst of ten times the load", [steps], end_s,
                      windows=told)  # fmt: skip
