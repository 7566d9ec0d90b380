"""One group's part of a chaos run with a recipe's workload; in place of `chaos_group.GroupRun`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import ray_paxos
from chaos_checks import NO_HISTORY
from chaos_cluster import Members
from chaos_gaps import Disturbance, find_gaps
from chaos_group import (
    ChaosCluster,
    GroupPlan,
    GroupResult,
    WorkLimits,
    applied_through,
    check_states,
)
from chaos_recipe_clients import Crew, Judgement, RecipeWork, WorkPlace
from chaos_recipe_records import RecipeRecords
from chaos_workload_counter import BarrierWork, CounterWork
from chaos_workload_keys import TxnWork
from chaos_workload_ledger import LedgerWork
from chaos_workload_object import ObjectWork
from chaos_workload_permits import PermitWork
from chaos_workload_queue import QueueWork
from chaos_workload_watch import WatchWork
from chaos_workloads import WorkloadKind
from ray_paxos.errors import PaxosError
from ray_paxos.testing.history import Event

if TYPE_CHECKING:
    from ray_paxos import Cluster


Sink: TypeAlias = Callable[[Event], None] | None


def make_work(
    kind: WorkloadKind, place: WorkPlace, records: RecipeRecords, sink: Sink
) -> RecipeWork:
    """A workload.

    Args:
        kind: Not the default one.
        place: Where it lives.
        records: Counts calls.
        sink: Takes its history as it happens, where it has one.
    """
    if kind is WorkloadKind.QUEUE:
        return QueueWork(place, records)
    if kind is WorkloadKind.LEDGER:
        return LedgerWork(place, records)
    if kind is WorkloadKind.COUNTER:
        return CounterWork(place, records)
    if kind is WorkloadKind.BARRIER:
        return BarrierWork(place, records)
    if kind is WorkloadKind.KV_TXN:
        return TxnWork(place, records, sink)
    if kind is WorkloadKind.WATCH:
        return WatchWork(place, records)
    if kind is WorkloadKind.OBJECT:
        return ObjectWork(place, records)
    return PermitWork(place, records, kind.value)


class RecipeRun:
    """One group, from its first client to its verdict."""

    def __init__(
        self,
        cluster: ChaosCluster,
        plan: GroupPlan,
        limits: WorkLimits,
        kind: WorkloadKind,
        run: str,
        sink: Sink,
    ) -> None:
        """See where the group is before the run; no client works yet.

        Args:
            cluster: Whose group it is.
            plan: What is done with it.
            limits: Of its clients.
            kind: Which workload.
            run: Unique to the run: in all names.
            sink: Takes the history as it happens; None for nobody.

        Raises:
            PaxosError: The cluster does not answer.
        """
        self.group = plan.group
        self.records = RecipeRecords()
        self._cluster = cluster
        self._first_instance = applied_through(cluster, plan.group) + 1
        place = WorkPlace(
            plan.group, run, plan.clients, limits.rate, limits.command_s, limits.read_s, limits.seed
        )
        self._work: RecipeWork = make_work(kind, place, self.records, sink)
        # Whoever attaches by itself has clients, and so sessions, of its own.
        clusters: list[Cluster] = [ray_paxos.connect(cluster.name) for _ in range(plan.clients)]
        self._reader = ray_paxos.connect(cluster.name)
        self.workload = Crew(self._work, clusters)
        self._judgement: Judgement | None = None
        self._checks: dict[str, Sequence[str]] = {}

    def check(self, members: Members, gone: Sequence[str], check_s: float) -> None:
        """As `GroupRun.check`."""
        unread: list[str] = []
        try:
            self._work.finish(self._reader)
        except PaxosError as error:
            unread.append(f"what is there in the end could not be read: {error}")
        # No result says here in which instance it was applied: the logs are compared with each
        # other, and what is in them is known by what the machines made of it.
        states = check_states(
            self._cluster, self.group, members, gone, acknowledged=(), first=self._first_instance
        )
        judgement = self._judgement = self._work.judge(check_s)
        self._checks = {
            "clients": list(self.records.failures),
            "read_at_the_end": unread,
            **judgement.checks,
            **states.checks,
        }
        self._digests = states.digests

    def result(
        self, start_ns: int, end_ns: int, disturbances: Sequence[Disturbance]
    ) -> GroupResult:
        """As `GroupRun.result`."""
        records, judgement = self.records, self._judgement
        assert judgement is not None, "it is checked first"
        return GroupResult(
            self.group,
            records.outcomes,
            records.errors,
            len(records.acknowledged),
            judgement.checked,
            find_gaps(
                [each.at_ns for each in records.acknowledged], start_ns, end_ns, disturbances
            ),
            judgement.history or NO_HISTORY,
            self._checks,
            {**judgement.figures, "latency_ms": records.latencies()},
            self._digests,
        )
