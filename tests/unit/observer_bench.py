"""An observer whose clocks are in the test's hands."""

from __future__ import annotations

from typing import Any

from ray_paxos.observability.observer import Observer
from ray_paxos.observability.report import RoleReport
from ray_paxos.observability.settings import ObservingSettings
from ray_paxos.observability.slow_commands import SlowInstance, SlowStep

SETTINGS = ObservingSettings(slow_ms=50, slow_kept=5, events_kept=10)
START_MS = 1_800_000_003_000


class Bench:
    """An observer whose clocks are in the test's hands; events never come too fast."""

    def __init__(self, settings: ObservingSettings = SETTINGS, **options: Any) -> None:
        self.now_ns = 0
        self.wall_ms = START_MS
        self.observer = Observer(
            "demo",
            "m1",
            "proposer",
            settings,
            clock=self._clock,
            wall_ms=lambda: self.wall_ms,
            names={1: "m1", 2: "m2"},
        )
        self.observer.begin(options.pop("incarnation", 1), options.pop("file", None))

    def _clock(self) -> int:
        self.now_ns += 3_600_000_000_000
        return self.now_ns

    def report(self, **options: Any) -> RoleReport:
        return self.observer.report(1, **options)

    def slow(self) -> tuple[tuple[SlowInstance, ...], tuple[SlowStep, ...]]:
        report = self.report(with_slow=True)
        return report.slow_instances, report.slow_steps
