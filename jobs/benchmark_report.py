"""What a benchmark says on the console: tables for a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmark_run import Measured, median_of
from benchmark_table import Line

WIDTH = 160


def report_console() -> Console:
    """Where tables go: stderr, as wide as they are where that is no terminal."""
    console = Console(stderr=True, highlight=False)
    return console if console.is_terminal else Console(stderr=True, highlight=False, width=WIDTH)


def runs_table(title: str, runs: Sequence[Sequence[Measured]]) -> Table:
    """One line for each setting: its median run."""
    table = Table(title=title, box=box.SIMPLE, title_justify="left")
    table.add_column("load")
    for name in ("runs", "commands/s", "acknowledged/s", "p50 ms", "p99 ms", "p99.9 ms", "max ms"):
        table.add_column(name, justify="right")
    table.add_column("failed", justify="right")
    table.add_column("CPU us a command", overflow="fold")
    for each in runs:
        middle = median_of(each)
        latency = middle.latency
        told = (
            [f"{number:,.2f}" for number in _shown(latency)] if latency is not None else ["-"] * 4
        )
        table.add_row(
            middle.setting.name,
            str(len(each)),
            f"{middle.per_s:,.0f}",
            f"{middle.acknowledged_per_s:,.0f}",
            *told,
            f"{middle.failed:,}",
            cpu_text(middle),
        )
    return table


def _shown(latency: Any) -> tuple[float, float, float, float]:
    return latency.p50_ms, latency.p99_ms, latency.p999_ms, latency.max_ms


def cpu_text(run: Measured) -> str:
    """CPU time of each role for one command."""
    spent: dict[str, float] = run.cpu.get("us_per_operation", {})
    parts = [f"{role} {microseconds:,.1f}" for role, microseconds in sorted(spent.items())]
    return ", ".join(parts)


def suite_table(lines: Sequence[Line]) -> Table:
    """The table of README."""
    table = Table(box=box.SIMPLE)
    table.add_column("what")
    table.add_column("required", no_wrap=True)
    table.add_column("measured", justify="right", no_wrap=True)
    table.add_column("holds")
    table.add_column("floor (bare Ray)", overflow="fold")
    table.add_column("note", overflow="fold")
    for line in lines:
        table.add_row(
            line.requirement.text,
            line.requirement.bound_text,
            line.measured_text,
            "yes" if line.holds else "no",
            line.floor,
            line.note,
        )
    return table


def floor_text(floor: dict[str, float]) -> str:
    """The floor in one line."""
    return (
        f"floor, p50 of one call at a time: separate {floor['separate']:.2f} ms, fused "
        f"{floor['fused']:.2f} ms, read {floor['read']:.2f} ms"
    )
