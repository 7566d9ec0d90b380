"""What a chaos run is told, and where it gets its cluster from."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from chaos_cluster import Members, Nodes
from chaos_group import ChaosCluster, GroupPlan, WorkLimits
from chaos_plan import FaultKind
from chaos_workloads import WorkloadKind
from ray_paxos.config import ClusterConfiguration


class Environment(Protocol):
    """Where clusters come from: Ray, or what stands for it in a test."""

    def start(
        self, configuration: ClusterConfiguration, *, address: str | None, keep: bool
    ) -> ChaosCluster:
        """As `ray_paxos.start`."""

    def members(self, cluster: ChaosCluster, groups: Sequence[int]) -> Members:
        """The members of a cluster, to look at and to signal."""

    def nodes(
        self, configuration: ClusterConfiguration, count: int, kinds: Collection[FaultKind]
    ) -> AbstractContextManager[Nodes]:
        """Ray nodes of the run's own, one for each member."""

    def hosts(
        self, configuration: ClusterConfiguration, kinds: Collection[FaultKind]
    ) -> AbstractContextManager[Nodes]:
        """The same, on hosts whose links can be cut."""


@dataclass(frozen=True)
class ChaosPlan:
    """What the command line and the configuration come to; `chaos.py` describes each.

    Attributes:
        configuration: Of the cluster.
        groups: Whose logs, and what is done with each.
        is_of_many: Whether all groups of the cluster are meant, rather than one.
        kinds: Of faults.
        seconds: For how long they are injected.
        interval_s: Between two, on average.
        limits: Of the clients.
        gap_limit_s: For gaps without an acknowledgement.
        restart_gap_limit_s: For those in the time of a `restart-all`.
        check_s: For the linearizability checker.
        address: Of the Ray cluster.
        nodes: How many the run starts itself; None for none.
        has_hosts: Whether it makes a host for each member, besides.
        is_ordered: Whether a reconciler runs, so that changes are ordered of it.
        keep: Whether to leave the cluster running.
        json: File of the document.
        history: File of the history.
        report: File of the HTML page.
        figures: Folder of its charts.
        workload: What clients do.
    """

    configuration: ClusterConfiguration
    groups: tuple[GroupPlan, ...]
    is_of_many: bool
    kinds: tuple[FaultKind, ...]
    seconds: float
    interval_s: float
    limits: WorkLimits
    gap_limit_s: float
    restart_gap_limit_s: float
    check_s: float
    address: str | None
    nodes: int | None
    has_hosts: bool
    is_ordered: bool
    keep: bool
    json: str | None
    history: str | None
    report: str | None
    figures: str | None
    workload: WorkloadKind = WorkloadKind.KV
