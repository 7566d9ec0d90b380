"""From a cluster and a workload to what is measured: clients, calls, processes and the clock."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from benchmark_cluster import BenchmarkCluster
from benchmark_run import Subject
from benchmark_target import READERS_MAX, ClientTarget, make_batches, make_calls
from benchmark_workload import Kind, load_workload
from ray_paxos.errors import ConfigurationError


@dataclass(frozen=True)
class ClusterSubject:
    """What is measured, and how its reads are made.

    Attributes:
        subject: To be measured.
        reads_by: `query_async`, `threads`, or nothing where nothing is read.
    """

    subject: Subject
    reads_by: str


@contextmanager
def cluster_subject(
    cluster: BenchmarkCluster,
    workload: str,
    *,
    value_bytes: int = 100,
    batch: int = 0,
    consistency: str = "linearizable",
    records: int | None = None,
    readers: int = 0,
    rng: random.Random,
) -> Iterator[ClusterSubject]:
    """Clients of all groups, with what the workload reads already written.

    Args:
        cluster: The cluster.
        workload: Its name.
        value_bytes: Of each value.
        batch: Commands in one call; 0: one future per command.
        consistency: Of reads.
        records: Keys; None for the workload's own number.
        readers: Reads in flight, should they need threads.
        rng: Where the randomness comes from.
    """
    chosen = load_workload(workload, value_bytes, records)
    if batch and set(chosen.shares) - {Kind.UPDATE, Kind.INSERT}:
        raise ConfigurationError(f"--batch with --workload {workload}: allowed with put")
    with ExitStack() as stack:
        pool = None
        if chosen.reads and readers:
            pool = ThreadPoolExecutor(min(readers, READERS_MAX), thread_name_prefix="reader")
            stack.callback(pool.shutdown, cancel_futures=True)
        clients = stack.enter_context(cluster.clients())
        targets = [ClientTarget(client, consistency, pool) for client in clients]
        if chosen.reads:
            for target in targets:
                target.load(chosen.initial(value_bytes, rng))
        if batch:
            calls = make_batches(targets, chosen, value_bytes, batch, rng)
        else:
            calls = make_calls(targets, chosen, value_bytes, rng)
        settle = cluster.settle if chosen.writes else dict
        yield ClusterSubject(
            Subject(calls, cluster.processes(), settle),
            targets[0].reads_by if chosen.reads else "",
        )
