"""How a cluster behaves over time: after a million commands, and after a burst."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmark_cluster import BenchmarkCluster
from benchmark_latency import Window
from benchmark_load import Load
from benchmark_processes import memory_by_role
from benchmark_run import Bar, Measured, Setting, Subject, measure

BURST_FACTOR = 10
BEFORE_S = 5.0
BURST_S = 1.0
AFTER_S = 8.0
WINDOW_S = 0.1
QUIET_WINDOWS = 10
"""Of so many windows in a row all are normal: then it is over."""
NORMAL_FACTOR = 2.0
NORMAL_SLACK_MS = 5.0


@dataclass(frozen=True)
class Lasting:
    """The rate at the start and after many commands.

    Attributes:
        first: The run at the start.
        last: The run after it.
        commands: Between the beginnings of the two.
        memory_before: PSS by role, in bytes, after the first run.
        memory_after: And after the last one.
    """

    first: Measured
    last: Measured
    commands: int
    memory_before: dict[str, int]
    memory_after: dict[str, int]

    @property
    def share(self) -> float:
        """The last rate, as a part of the first."""
        return self.last.per_s / self.first.per_s

    def document(self) -> dict[str, Any]:
        """For the JSON document."""
        return {
            "first_per_s": round(self.first.per_s, 1),
            "last_per_s": round(self.last.per_s, 1),
            "share": round(self.share, 4),
            "commands": self.commands,
            "pss_before_mb": _megabytes(self.memory_before),
            "pss_after_mb": _megabytes(self.memory_after),
        }


def _megabytes(memory: dict[str, int]) -> dict[str, float]:
    return {role: round(byte_count / 1e6, 1) for role, byte_count in memory.items()}


def measure_lasting(
    cluster: BenchmarkCluster, subject: Subject, setting: Setting, commands: int, bar: Bar
) -> Lasting:
    """The rate at the start and after so many commands."""
    first = measure(subject, setting, bar)
    processes = cluster.processes()
    before = memory_by_role(processes)
    left = commands - first.acknowledged
    if left > 0:
        bar.begin(f"{commands:,} commands", left / max(first.acknowledged_per_s, 1.0))
        load = Load(subject.calls.many, weight=subject.calls.weight)
        load.run_closed(setting.in_flight or 1, count=left, on_tick=lambda: bar.advance(load.ended))
    last = measure(subject, setting, bar)
    return Lasting(
        first, last, max(commands, first.acknowledged), before, memory_by_role(processes)
    )


@dataclass(frozen=True)
class Burst:
    """A burst and what came after.

    Attributes:
        rate: Before it and after it.
        normal_ms: The p99 before it.
        worst_ms: The worst p99 of any window.
        recovered_s: From the end of the burst until p99 was normal again; None if it never was.
        windows: Over time.
    """

    rate: float
    normal_ms: float
    worst_ms: float
    recovered_s: float | None
    windows: Sequence[Window]

    def document(self) -> dict[str, Any]:
        """For the JSON document."""
        recovered_s = self.recovered_s
        return {
            "rate": round(self.rate, 1),
            "normal_p99_ms": round(self.normal_ms, 3),
            "worst_p99_ms": round(self.worst_ms, 3),
            "recovered_s": round(recovered_s, 3) if recovered_s is not None else None,
            "windows": [window.document(1) for window in self.windows],
        }


def measure_burst(subject: Subject, rate: float, bar: Bar) -> Burst:
    """An open load, ten times as much of it for a second, and as before again.

    Args:
        subject: What is measured.
        rate: Operations a second, before and after.
        bar: Told how it goes.
    """
    subject.settle()
    bar.begin(f"burst of {BURST_FACTOR * rate:,.0f}/s", BEFORE_S + BURST_S + AFTER_S)
    load = Load(subject.calls.many)
    stages = [(rate, BEFORE_S), (BURST_FACTOR * rate, BURST_S), (rate, AFTER_S)]
    began_ns = load.run_open(stages, on_tick=lambda: bar.advance(load.ended))
    before = load.latencies.windows(began_ns, BEFORE_S, by_begin=True)[0].latency
    normal_ms = before.p99_ms if before is not None else 0.0
    windows = load.latencies.windows(began_ns, WINDOW_S, by_begin=True)
    return Burst(
        rate,
        normal_ms,
        max((w.latency.p99_ms for w in windows if w.latency is not None), default=0.0),
        recovery_s(windows, normal_ms),
        windows,
    )


def recovery_s(windows: Sequence[Window], normal_ms: float) -> float | None:
    """From the end of the burst until a whole second is normal; None if none is.

    Args:
        windows: By when operations were due.
        normal_ms: The p99 before the burst.
    """
    limit_ms = NORMAL_FACTOR * normal_ms + NORMAL_SLACK_MS
    first = round((BEFORE_S + BURST_S) / WINDOW_S)
    is_normal = [
        window.latency is not None and window.latency.p99_ms <= limit_ms
        for window in windows[first:]
    ]
    for start in range(len(is_normal) - QUIET_WINDOWS + 1):
        if all(is_normal[start : start + QUIET_WINDOWS]):
            return start * WINDOW_S
    return None
