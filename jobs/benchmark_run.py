"""One measurement: warm up, run, wait until everything is done, and say what it was.

`commands_per_s` divides what was acknowledged by the whole time until learners, segments and
checkpoints were done, `acknowledged_per_s` by the time until the last answer. Runs of one setting
are repeated, and the one with the median of `commands_per_s` speaks for them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from benchmark_latency import Summary, Window
from benchmark_load import Load
from benchmark_processes import Process, cpu_document, cpu_seconds
from benchmark_target import Calls
from ray_paxos.actors.interpreter import look_through_less
from ray_paxos.errors import ClusterError

WINDOW_S = 1.0


class Bar(Protocol):
    """Told how a run goes on."""

    def begin(self, text: str, seconds: float) -> None:
        """Something begins that takes so long."""

    def advance(self, operations: int) -> None:
        """So many operations have ended by now."""


class NoBar:
    """Shows nothing."""

    def begin(self, text: str, seconds: float) -> None:
        """Nothing."""

    def advance(self, operations: int) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Setting:
    """What one run is.

    Attributes:
        in_flight: Calls in flight; None for an open load.
        rate: Calls a second of an open load.
        seconds: How long calls are started.
        warmup_seconds: How long before that, unmeasured.
        count: So many operations instead of `seconds`; 0: by time.
    """

    in_flight: int | None
    rate: float | None = None
    seconds: float = 10.0
    warmup_seconds: float = 2.0
    count: int = 0

    @property
    def name(self) -> str:
        """For a person."""
        if self.in_flight is None:
            return f"{self.rate:,.0f}/s"
        return f"{self.in_flight:,} in flight"


@dataclass(frozen=True)
class Measured:
    """What one run came to.

    Attributes:
        setting: What it was.
        acknowledged: Operations with a result.
        failed: Operations without.
        failure: The first error; empty where there was none.
        load_s: Until the last answer.
        whole_s: Until everything was applied, durable and in checkpoints.
        settled: When each of these came true, in seconds after the last answer.
        latency: Of calls, each of which may be a whole batch; None where nothing ended well.
        stride: Of so many operations one is in the latencies.
        cpu: As `cpu_document`.
        windows: Over time.
    """

    setting: Setting
    acknowledged: int
    failed: int
    failure: str
    load_s: float
    whole_s: float
    settled: dict[str, float]
    latency: Summary | None
    stride: int = 1
    cpu: dict[str, Any] = field(default_factory=dict)
    windows: Sequence[Window] = ()

    @property
    def per_s(self) -> float:
        """Operations a second, by the whole time."""
        return self.acknowledged / self.whole_s if self.whole_s > 0 else 0.0

    @property
    def durable_per_s(self) -> float:
        """Operations a second, until all learners had applied all and had it in segments.

        For comparing many groups with one: of many, no checkpoints end a run.
        """
        return self.acknowledged / (self.load_s + self.settled.get("durable", 0.0))

    @property
    def acknowledged_per_s(self) -> float:
        """Operations a second, until the last answer."""
        return self.acknowledged / self.load_s if self.load_s > 0 else 0.0

    def document(self) -> dict[str, Any]:
        """For the JSON document."""
        return {
            "in_flight": self.setting.in_flight,
            "rate": self.setting.rate,
            "seconds": self.setting.seconds,
            "commands_per_s": round(self.per_s, 1),
            "durable_per_s": round(self.durable_per_s, 1),
            "acknowledged_per_s": round(self.acknowledged_per_s, 1),
            "acknowledged": self.acknowledged,
            "failed": self.failed,
            "failure": self.failure,
            "load_s": round(self.load_s, 3),
            "whole_s": round(self.whole_s, 3),
            "settled_s": {name: round(after, 3) for name, after in self.settled.items()},
            "latency": self.latency.document() if self.latency is not None else None,
            "latency_stride": self.stride,
            "cpu": self.cpu,
            "windows": [window.document(self.stride) for window in self.windows],
        }


def median_of(runs: Sequence[Measured]) -> Measured:
    """The run whose rate is the median; of an even number the lower one of the middle two."""
    return sorted(runs, key=lambda run: run.per_s)[(len(runs) - 1) // 2]


@dataclass(frozen=True)
class Subject:
    """What is measured, whether it is a cluster of ours or a peer.

    Attributes:
        calls: What is started.
        processes: Whose CPU time counts.
        settle: Waits until everything is done; gives when each thing was, by the clock in
            nanoseconds. Does nothing where nothing is written.
    """

    calls: Calls
    processes: Sequence[Process]
    settle: Callable[[], dict[str, int]]


def measure(subject: Subject, setting: Setting, bar: Bar) -> Measured:
    """One run.

    Raises:
        ClusterError: Nothing was acknowledged, or it did not end.
    """
    warmup = replace(setting, seconds=setting.warmup_seconds, count=0)
    if setting.warmup_seconds > 0:
        bar.begin(f"{setting.name}: warm-up", setting.warmup_seconds)
        _run(subject, warmup, bar)
    subject.settle()
    look_through_less()
    bar.begin(setting.name, setting.seconds)
    before = cpu_seconds(subject.processes)
    began_ns = time.monotonic_ns()
    load = _run(subject, setting, bar)
    ended_ns = time.monotonic_ns()
    settled = subject.settle()
    whole_ns = max([ended_ns, *settled.values()])
    after = cpu_seconds(subject.processes)
    acknowledged = load.ended - load.failed
    if acknowledged == 0:
        raise ClusterError(f"{setting.name}: nothing was acknowledged: {load.failure}")
    whole_s = (whole_ns - began_ns) / 1e9
    is_open = setting.in_flight is None
    return Measured(
        setting=setting,
        acknowledged=acknowledged,
        failed=load.failed,
        failure=str(load.failure or ""),
        load_s=(ended_ns - began_ns) / 1e9,
        whole_s=whole_s,
        settled={
            name.removesuffix("_ns"): (moment_ns - ended_ns) / 1e9
            for name, moment_ns in settled.items()
        },
        latency=load.latencies.summary(),
        stride=load.latencies.stride,
        cpu=cpu_document(subject.processes, before, after, acknowledged, whole_s),
        windows=load.latencies.windows(began_ns, WINDOW_S, by_begin=is_open),
    )


def measure_repeatedly(subject: Subject, setting: Setting, repeat: int, bar: Bar) -> list[Measured]:
    """Several runs of a setting; only the first one warms up."""
    runs = [measure(subject, setting, bar)]
    for _ in range(repeat - 1):
        runs.append(measure(subject, replace(setting, warmup_seconds=0.0), bar))
    return runs


def _run(subject: Subject, setting: Setting, bar: Bar) -> Load:
    calls = subject.calls
    load = Load(calls.many, weight=calls.weight)

    def tick() -> None:
        bar.advance(load.ended)

    if setting.in_flight is None:
        assert setting.rate is not None, "an open load has a rate"
        load.run_open([(setting.rate, setting.seconds)], on_tick=tick)
    elif setting.in_flight == 1 and not setting.count:
        load.run_alone(calls.alone, seconds=setting.seconds, on_tick=tick)
    else:
        load.run_closed(
            setting.in_flight, seconds=setting.seconds, count=setting.count, on_tick=tick
        )
    return load
