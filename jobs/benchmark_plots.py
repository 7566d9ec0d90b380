"""Plots of a benchmark as PNG files; matplotlib is imported here, and only if they are asked for.

`throughput_latency.png`: the median run of each closed load, p50 and p99 over commands a second.
`latency_over_time.png`: p50 and p99 of each second of each load's median run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark_run import Measured, median_of
from job_files import OutputError

SIZE = (9, 5.5)
DPI = 120


def write_plots(folder: str, runs: Mapping[str, Sequence[Measured]]) -> list[str]:
    """Draw everything.

    Args:
        folder: Made where it is not there.
        runs: By what they are.

    Returns:
        Paths of the files.

    Raises:
        OutputError: One cannot be written.
    """
    import matplotlib

    # No window, and none wanted.
    matplotlib.use("Agg")
    path = Path(folder)
    medians = {name: median_of(each) for name, each in runs.items() if each}
    drawn = {
        "throughput_latency.png": _throughput_latency(medians),
        "latency_over_time.png": _over_time(medians),
    }
    try:
        path.mkdir(exist_ok=True)
        for name, figure in drawn.items():
            figure.savefig(path / name, dpi=DPI)
    except OSError as error:
        raise OutputError(f"--plots {folder}: cannot be written: {error.strerror}") from error
    return [str(path / name) for name in drawn]


def _figure() -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=SIZE, layout="constrained")
    return figure, figure.subplots()


def _throughput_latency(medians: Mapping[str, Measured]) -> Any:
    figure, axes = _figure()
    points = sorted(
        (run.per_s, run.latency.p50_ms, run.latency.p99_ms, name)
        for name, run in medians.items()
        if run.latency is not None
    )
    rates, p50s, p99s = ([point[n] for point in points] for n in range(3))
    # One bar a load: those side by side may have nothing else in common.
    axes.vlines(rates, p50s, p99s, color="0.7", zorder=1)
    axes.plot(rates, p50s, marker="o", linestyle="none", label="p50")
    axes.plot(rates, p99s, marker="^", linestyle="none", label="p99")
    for rate, p50_ms, _, name in points:
        axes.annotate(name, (rate, p50_ms), textcoords="offset points", xytext=(6, -10), fontsize=7)
    axes.set_xlabel("commands a second")
    axes.set_ylabel("latency in ms")
    if points:
        axes.set_yscale("log")
        axes.legend()
    axes.grid(visible=True, alpha=0.3)
    return figure


def _over_time(medians: Mapping[str, Measured]) -> Any:
    figure, axes = _figure()
    for number, (name, run) in enumerate(medians.items()):
        windows = [window for window in run.windows if window.latency is not None]
        times = [window.start_s + window.width_s / 2 for window in windows]
        color = f"C{number % 10}"
        p50 = [window.latency.p50_ms for window in windows if window.latency is not None]
        p99 = [window.latency.p99_ms for window in windows if window.latency is not None]
        axes.plot(times, p50, color=color, label=f"{name}: p50, p99 dashed")
        axes.plot(times, p99, color=color, linestyle="--")
    axes.set_xlabel("seconds since the run began")
    axes.set_ylabel("latency in ms")
    if medians:
        axes.set_yscale("log")
        axes.legend(fontsize=7)
    axes.grid(visible=True, alpha=0.3)
    return figure
