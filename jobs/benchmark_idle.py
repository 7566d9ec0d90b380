"""What a cluster takes that does nothing: memory and CPU, beside as many empty actors."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import ray

from benchmark_cluster import BenchmarkCluster
from benchmark_floor import bare_actor
from benchmark_processes import Process, cpu_seconds, member_processes, pss_bytes
from benchmark_run import Bar

QUIET_S = 3.0


class EmptyActor:
    """Does nothing, with the libraries of a role loaded."""

    def __init__(self) -> None:
        """Load them."""
        import pyarrow.parquet

        self._library = pyarrow.parquet

    def process(self) -> int:
        """Its process id."""
        import os

        return os.getpid()


@dataclass(frozen=True)
class Idle:
    """What processes take at rest.

    Attributes:
        processes: How many.
        pss_bytes: Of all together.
        cpu_points: Percent of one core, of all together.
    """

    processes: int
    pss_bytes: int
    cpu_points: float

    def document(self) -> dict[str, Any]:
        """For the JSON document."""
        return {
            "processes": self.processes,
            "pss_mb": round(self.pss_bytes / 1e6, 1),
            "cpu_points": round(self.cpu_points, 2),
        }


def measure_idle(processes: list[Process], seconds: float) -> Idle:
    """What these take while nobody asks anything of them."""
    time.sleep(QUIET_S)
    before, began = cpu_seconds(processes), time.monotonic()
    time.sleep(seconds)
    after, gone_s = cpu_seconds(processes), time.monotonic() - began
    spent_s = sum(after[pid] - before[pid] for pid in before if pid in after)
    memory = sum(pss_bytes(process.pid) for process in processes)
    return Idle(len(processes), memory, 100 * spent_s / gone_s)


def idle_members(cluster: BenchmarkCluster, seconds: float, bar: Bar) -> Idle:
    """Of all members' processes."""
    bar.begin(f"{len(cluster.groups)} idle groups", seconds + QUIET_S)
    return measure_idle(member_processes(cluster.cluster.status().members), seconds)


def idle_actors(count: int, seconds: float, bar: Bar) -> Idle:
    """Of as many empty actors."""
    bar.begin(f"{count} empty actors", seconds + QUIET_S)
    actors = [bare_actor(EmptyActor) for _ in range(count)]
    try:
        pids: list[int] = ray.get([actor.process.remote() for actor in actors])
        return measure_idle([Process(pid, "empty", "empty") for pid in pids], seconds)
    finally:
        for actor in actors:
            ray.kill(actor)
