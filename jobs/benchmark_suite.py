"""The table of README: what is required, what was measured, and the floor beside each line.

| | full | quick |
|---|---|---|
| throughput | 5 runs of 30 s a line | 1 run of 10 s |
| one at a time, 100 KB values | 5 runs of 12 s | 1 run of 10 s |
| more settings for the best rate | 3 runs of 15 s each | 1 run of 5 s |
| idle | 20 s | 5 s |
| commands until the rate is taken again | 1,000,000 | 200,000 |
| starts from nothing | 5 | 1 |
| in all, on two cores | under 40 minutes | 5 minutes |

Clusters are shared by lines: one of separate roles, one fused, one of 20 groups, one of 100, one of
100 fused. Each number is the median of its runs. The floor of a line is that of its chain of calls
(`benchmark_floor`) with a whole batch of it as the argument, one batch at a time. A line that
fails is told, and the next ones go on; what this version cannot do is told, too. With short runs of
15 s and idle ones of 30 s the whole table took 40.4 minutes on a machine where bare Ray calls took
2.6 times as long as where README's figures were measured.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from benchmark_cluster import BenchmarkCluster, benchmark_cluster, has_roles
from benchmark_floor import RECORD_BYTES, measure_floor
from benchmark_idle import Idle, idle_actors, idle_members
from benchmark_keys import key_name
from benchmark_run import Bar, Measured, Setting, Subject, measure_repeatedly, median_of
from benchmark_stability import measure_burst, measure_lasting
from benchmark_startup import measure_startup
from benchmark_subject import cluster_subject
from benchmark_table import Line, Requirement
from ray_paxos.errors import PaxosError
from ray_paxos.machines import kv

PARENT_PER_S = 164_000
BURST_SHARE = 0.08
"""Of the rate of a closed load, so that ten times as much is a little less than all."""
SMALL_BATCH, LARGE_BATCH = 1_000, 5_000
LARGE_VALUE = 100_000
REQUEST_BYTES = 90_000
IN_FLIGHT = 1_000

SEPARATE = Requirement("1 group, 1,000 in flight, separate", 70_000, "/s")
FUSED = Requirement("1 group, 1,000 in flight, fused", 85_000, "/s")
BEST = Requirement("one future per command, best setting", 125_000, "/s")
SMALL = Requirement("propose_many of 1,000, 8 in flight", 200_000, "/s")
LARGE = Requirement("propose_many of 5,000, 6 in flight", 300_000, "/s")
ALONE = Requirement("one at a time, p50 over the floor, separate", 1.25, "", is_most=True)
ALONE_FUSED = Requirement("one at a time, p50 over the floor, fused", 1.25, "", is_most=True)
GROUPS_20 = Requirement("20 groups, of one group's rate", 90.0, " %")
GROUPS_100 = Requirement("100 groups, of one group's rate", 90.0, " %")
VALUES = Requirement("100 KB values", 676, "/s")
READS = Requirement("linearizable reads, 1,000 in flight", 100_000, "/s")
LASTING = Requirement("after {commands} commands, of the rate at the start", 95.0, " %")
IDLE = Requirement("3 idle members, 100 groups: PSS", 1_000, " MB", is_most=True)
IDLE_CPU = Requirement("the same: CPU above empty actors", 3.0, " points", is_most=True)
IDLE_FUSED = Requirement("3 idle members, 100 groups, fused: PSS", 400, " MB", is_most=True)
IDLE_FUSED_CPU = Requirement(
    "the same: CPU above empty actors, fused", 3.0, " points", is_most=True
)
START = Requirement("start from nothing to the first result", 8.0, " s", is_most=True)
BURST = Requirement("p99 normal again after a burst of 10x", 2.0, " s", is_most=True)


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    repeat: int = 5
    seconds: float = 30.0
    short_seconds: float = 12.0
    best_repeat: int = 3
    best_seconds: float = 15.0
    idle_seconds: float = 20.0
    commands: int = 1_000_000
    starts: int = 5
    warmup_seconds: float = 2.0


FULL = Plan()
QUICK = Plan(1, 10.0, 10.0, 1, 5.0, 5.0, 200_000, 1, 1.0)


@dataclass
class Suite:
    """The lines so far, and what they are made of.

    Attributes:
        lines: The table.
        runs: All runs, by line, for the JSON document and the page.
        details: Whatever else was measured, by line.
        floors: By bytes of the argument.
    """

    config: str
    plan: Plan
    seed: int
    bar: Bar
    say: Callable[[str], None]
    lines: list[Line] = field(default_factory=list)
    runs: dict[str, list[Measured]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    floors: dict[int, dict[str, float]] = field(default_factory=dict)
    best: list[Measured] = field(default_factory=list)

    def run(self) -> None:
        """All of it."""
        self._start()
        with self._part((SEPARATE, BEST, SMALL, LARGE, ALONE, VALUES, READS, LASTING, BURST)):
            self._separate()
        with self._part((FUSED, ALONE_FUSED), roles="fused"):
            self._fused()
        self._add_best()
        with self._part((GROUPS_20,)):
            self._groups(20, GROUPS_20)
        with self._part((IDLE, IDLE_CPU, GROUPS_100)):
            self._groups(100, GROUPS_100)
        with self._part((IDLE_FUSED, IDLE_FUSED_CPU), roles="fused"):
            self._idle_fused()
        order = list(REQUIREMENTS)
        self.lines.sort(key=lambda line: order.index(line.requirement.what))

    @contextmanager
    def _part(self, lines: Sequence[Requirement], roles: str = "separate") -> Iterator[None]:
        """Lines that one cluster stands for; those that it does not come to have not held."""
        try:
            yield
        except PaxosError as error:
            why = str(error)
            if not has_roles(roles):
                why = "roles: fused is not in this version"
            told = {line.requirement.what for line in self.lines}
            for requirement in lines:
                if requirement.what not in told and requirement is not BEST:
                    shown = requirement.of(commands=f"{self.plan.commands:,}")
                    self._add(Line(shown, None, note=why))

    def _add(self, line: Line) -> None:
        self.lines.append(line)
        self.say(line.text())

    # Lines.

    def _start(self) -> None:
        with self._part((START,)):
            self.bar.begin("start from nothing", 10.0 * self.plan.starts)
            starts = [measure_startup(self.config, "separate") for _ in range(self.plan.starts)]
            self.details[START.what] = starts
            bare_s = median(start["ray_s"] + start["actors_s"] for start in starts)
            taken_s = median(start["start_s"] for start in starts)
            floor = f"Ray and 12 empty actors: {bare_s:.1f} s"
            self._add(Line(START, taken_s, floor))

    def _separate(self) -> None:
        with self._cluster(1, "separate") as cluster:
            self._measure_floors()
            setting = self._setting(IN_FLIGHT)
            with self._subject(cluster) as subject:
                lasting = measure_lasting(cluster, subject, setting, self.plan.commands, self.bar)
                more = self.plan.repeat - 1
                runs = [lasting.first]
                if more:
                    again = replace(setting, warmup_seconds=0.0)
                    runs += measure_repeatedly(subject, again, more, self.bar)
                self._throughput(SEPARATE, runs, self._batch_floor("separate"))
                self._best_of(runs, subject, "separate")
            self._lasting(lasting.document(), lasting.share)
            self._batches(cluster)
            self._alone(cluster, ALONE, "separate")
            with self._subject(cluster, value_bytes=LARGE_VALUE) as subject:
                short = self._setting(16, self.plan.short_seconds)
                found = measure_repeatedly(subject, short, self.plan.repeat, self.bar)
                self._throughput(VALUES, found, self._floor_rate("separate", LARGE_VALUE, 1))
            with self._subject(cluster, workload="get", in_flight=IN_FLIGHT) as subject:
                found = measure_repeatedly(subject, setting, self.plan.repeat, self.bar)
                floor_ms = self.floors[RECORD_BYTES]["read"]
                self._throughput(READS, found, f"a bare call: {floor_ms:.2f} ms")
            with self._subject(cluster) as subject:
                self._burst(subject, median_of(runs).acknowledged_per_s)

    def _lasting(self, document: dict[str, Any], share: float) -> None:
        self.details[LASTING.what] = document
        before, after = document["pss_before_mb"], document["pss_after_mb"]
        learners = " -> ".join(
            f"{sum(mb for role, mb in each.items() if role in ('learner', 'fused')):,.0f}"
            for each in (before, after)
        )
        self._add(
            Line(
                LASTING.of(commands=f"{document['commands']:,}"),
                100 * share,
                f"{document['first_per_s']:,.0f}/s",
                f"PSS of learners {learners} MB",
            )
        )

    def _batches(self, cluster: BenchmarkCluster) -> None:
        for requirement, batch, in_flight in ((SMALL, SMALL_BATCH, 8), (LARGE, LARGE_BATCH, 6)):
            with self._subject(cluster, batch=batch) as subject:
                runs = measure_repeatedly(
                    subject, self._setting(in_flight), self.plan.repeat, self.bar
                )
            floor = self._floor_rate("separate", batch * _command_bytes(), batch)
            self._throughput(requirement, runs, floor)

    def _alone(self, cluster: BenchmarkCluster, requirement: Requirement, roles: str) -> None:
        with self._subject(cluster) as subject:
            setting = self._setting(1, self.plan.short_seconds)
            runs = measure_repeatedly(subject, setting, self.plan.repeat, self.bar)
        self.runs[requirement.what] = runs
        p50_ms = median(run.latency.p50_ms for run in runs if run.latency is not None)
        floor_ms = self.floors[RECORD_BYTES][roles]
        note = f"p50 {p50_ms:.2f} ms"
        self._add(Line(requirement, p50_ms / floor_ms, f"{floor_ms:.2f} ms", note))

    def _fused(self) -> None:
        with self._cluster(1, "fused") as cluster:
            self._measure_floors()
            with self._subject(cluster) as subject:
                runs = measure_repeatedly(
                    subject, self._setting(IN_FLIGHT), self.plan.repeat, self.bar
                )
                self._throughput(FUSED, runs, self._batch_floor("fused"))
                self._best_of(runs, subject, "fused")
            self._alone(cluster, ALONE_FUSED, "fused")

    def _groups(self, groups: int, requirement: Requirement) -> None:
        with self._cluster(groups, "separate") as cluster:
            if requirement is GROUPS_100:
                members = idle_members(cluster, self.plan.idle_seconds, self.bar)
                self._idle(members, IDLE, IDLE_CPU)
            with self._subject(cluster) as subject:
                runs = measure_repeatedly(
                    subject, self._setting(IN_FLIGHT), self.plan.repeat, self.bar
                )
            self.runs[requirement.what] = runs
            one = self.runs.get(SEPARATE.what)
            rate = median_of(runs).durable_per_s
            share = 100 * rate / median_of(one).durable_per_s if one else None
            note = f"{rate:,.0f}/s until durable everywhere"
            self._add(Line(requirement, share, self._batch_floor("separate"), note))

    def _idle_fused(self) -> None:
        with self._cluster(100, "fused") as cluster:
            members = idle_members(cluster, self.plan.idle_seconds, self.bar)
            self._idle(members, IDLE_FUSED, IDLE_FUSED_CPU)

    def _idle(self, members: Idle, memory: Requirement, cpu: Requirement) -> None:
        actors = idle_actors(members.processes, self.plan.idle_seconds, self.bar)
        self.details[memory.what] = {
            "members": members.document(),
            "empty_actors": actors.document(),
        }
        what = f"{actors.processes} empty actors"
        self._add(
            Line(memory, members.pss_bytes / 1e6, f"{what}: {actors.pss_bytes / 1e6:,.0f} MB")
        )
        self._add(
            Line(
                cpu,
                members.cpu_points - actors.cpu_points,
                f"{what}: {actors.cpu_points:.1f} points",
                f"{members.cpu_points:.1f} points in all",
            )
        )

    def _best_of(self, runs: list[Measured], subject: Subject, roles: str) -> None:
        self.best.append(median_of(runs))
        for in_flight in (5_000, 20_000):
            setting = self._setting(in_flight, self.plan.best_seconds)
            found = measure_repeatedly(subject, setting, self.plan.best_repeat, self.bar)
            self.runs[f"{in_flight:,} in flight, {roles}"] = found
            self.best.append(median_of(found))

    def _add_best(self) -> None:
        if not self.best:
            self._add(Line(BEST, None, note="nothing was measured"))
            return
        best = max(self.best, key=lambda run: run.per_s)
        note = f"{best.setting.name}; the parent's best: {PARENT_PER_S:,}/s"
        self._add(Line(BEST, best.per_s, self._batch_floor("separate"), note))

    def _burst(self, subject: Subject, rate: float) -> None:
        burst = measure_burst(subject, BURST_SHARE * rate, self.bar)
        self.details[BURST.what] = burst.document()
        note = f"p99 {burst.normal_ms:.1f} ms before, {burst.worst_ms:.0f} ms at worst"
        if burst.recovered_s is None:
            note = f"not within the run; {note}"
        self._add(Line(BURST, burst.recovered_s, f"{burst.rate:,.0f}/s before it", note))

    def _throughput(self, requirement: Requirement, runs: list[Measured], floor: str) -> None:
        self.runs[requirement.what] = runs
        middle = median_of(runs)
        note = f"{middle.acknowledged_per_s:,.0f}/s acknowledged"
        if middle.latency is not None:
            note += f", p50 {middle.latency.p50_ms:.1f} ms, p99 {middle.latency.p99_ms:.1f} ms"
        if middle.failed:
            note += f"; {middle.failed:,} failed: {middle.failure}"
        self._add(Line(requirement, middle.per_s, floor, note))

    # Parts.

    def _setting(self, in_flight: int, seconds: float | None = None) -> Setting:
        return Setting(
            in_flight,
            seconds=seconds or self.plan.seconds,
            warmup_seconds=self.plan.warmup_seconds,
        )

    @contextmanager
    def _cluster(self, groups: int, roles: str) -> Iterator[BenchmarkCluster]:
        self.bar.begin(f"start a cluster, groups: {groups}, roles: {roles}", 5.0)
        with benchmark_cluster(self.config, groups=groups, roles=roles) as cluster:
            yield cluster

    @contextmanager
    def _subject(
        self,
        cluster: BenchmarkCluster,
        *,
        workload: str = "put",
        value_bytes: int = 100,
        batch: int = 0,
        in_flight: int = 0,
    ) -> Iterator[Subject]:
        with cluster_subject(
            cluster,
            workload,
            value_bytes=value_bytes,
            batch=batch,
            readers=in_flight,
            rng=random.Random(self.seed),
        ) as measured:
            yield measured.subject

    def _measure_floors(self) -> None:
        sizes = (
            RECORD_BYTES,
            REQUEST_BYTES,
            LARGE_VALUE,
            SMALL_BATCH * _command_bytes(),
            LARGE_BATCH * _command_bytes(),
        )
        for size in sizes:
            if size not in self.floors:
                self.bar.begin(f"floor, {size:,} bytes", 2.0)
                calls = 300 if size == RECORD_BYTES else 30
                self.floors[size] = measure_floor(record_bytes=size, calls=calls)

    def _floor_rate(self, roles: str, size: int, commands: int) -> str:
        chain_ms = self.floors[size][roles]
        return f"{chain_ms:.1f} ms a batch, {commands * 1e3 / chain_ms:,.0f}/s"

    def _batch_floor(self, roles: str) -> str:
        if REQUEST_BYTES not in self.floors:
            return ""
        return self._floor_rate(roles, REQUEST_BYTES, REQUEST_BYTES // _command_bytes())

    def document(self) -> dict[str, Any]:
        """For the JSON document."""
        return {
            "plan": vars(self.plan),
            "table": [line.document() for line in self.lines],
            "floors_ms": {str(size): floor for size, floor in self.floors.items()},
            "runs": {what: [run.document() for run in runs] for what, runs in self.runs.items()},
            "details": self.details,
        }


def _command_bytes() -> int:
    return len(kv.encode_put(key_name(1), bytes(100)))


REQUIREMENTS = {
    requirement.what: requirement
    for requirement in (
        *(SEPARATE, FUSED, BEST, SMALL, LARGE, ALONE, ALONE_FUSED, GROUPS_20, GROUPS_100),
        *(VALUES, READS, LASTING, IDLE, IDLE_CPU, IDLE_FUSED, IDLE_FUSED_CPU, START, BURST),
    )
}
