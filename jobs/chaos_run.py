"""One chaos run: clients, faults, healing, checks.

```
 clients   ────────────────────────────────────────────────▶ end ─┐
 injector  ── fault ── fault ── ... ── fault ── heal ─▶ all serve ─┤
                                                                   ▼
                  last reads ─▶ ids of the log machine ─▶ digests ─▶ logs ─▶ history ─▶ report
                                        (of each group)
```
"""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TextIO, TypeAlias

from chaos_cluster import Members, Nodes
from chaos_gaps import SECOND_NS, Disturbance, find_gaps
from chaos_group import ChaosCluster, GroupPlan, GroupResult, GroupRun, WorkLimits
from chaos_injection import Injector
from chaos_plan import OF_GROUPS, FaultKind, check_members, plan_faults
from chaos_records import Records, history_path, open_history
from chaos_report import ChaosReport
from chaos_rooms import make_room
from chaos_timeline import write_timeline
from chaos_voters import GroupVoters
from job_console import JobConsole
from job_exit import GOOD, NOT_HELD
from job_files import write_json
from ray_paxos.config import ClusterConfiguration
from ray_paxos.core.genesis import SYSTEM_GROUP
from ray_paxos.errors import ClusterError
from ray_paxos.testing.history import Event, HistoryRecorder

HEAL_S = 90.0
SETTLE_S = 1.0
FIRST_S = 60.0
RETRY_S = 0.5
PROGRESS_S = 5.0
CLOSE_S = 20.0
CHANGES_MAX = 4
"""So many groups are changed at a time."""
EXPECTED_NOTICES = ("A worker died or was killed", "has been marked dead")
"""Of processes and nodes that this run killed."""


Sink: TypeAlias = Callable[[Event], None] | None
"""Takes a history as it happens; None for nobody."""


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
        keep: Whether to leave the cluster running.
        json: File of the document.
        history: File of the history.
        timeline: File of the timeline.
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
    keep: bool
    json: str | None
    history: str | None
    timeline: str | None


class ChaosRun:
    """The job, from a plan to an exit status."""

    def __init__(self, plan: ChaosPlan, console: JobConsole) -> None:
        """Nothing happens yet."""
        self._plan = plan
        self._console = console
        self._groups: list[GroupRun] = []
        self._start_ns = 0
        self._told_ns = 0
        self._checks: dict[str, list[str]] = {}

    def run(self, environment: Environment) -> int:
        """Start or attach, run, heal, check, report, and leave things as they were.

        Returns:
            An exit status.

        Raises:
            PaxosError: The cluster cannot be started or does not serve, or a file cannot be
                written.
        """
        plan = self._plan
        with contextlib.ExitStack() as stack:
            nodes: Nodes | None = None
            if plan.nodes is not None:
                self._console.say(f"starting a Ray cluster of {plan.nodes} nodes")
                own = environment.nodes(plan.configuration, plan.nodes, plan.kinds)
                nodes = stack.enter_context(own)
            address = nodes.address if nodes is not None else plan.address
            cluster = environment.start(plan.configuration, address=address, keep=plan.keep)
            if not plan.keep and not cluster.was_running:
                stack.callback(cluster.stop)
            check_members(plan.kinds, len(cluster.members))
            self._say_where(cluster)
            members = environment.members(cluster, self._numbers)
            with contextlib.closing(members), self._histories() as sinks, told_apart():
                report = self._run_on(cluster, members, nodes, sinks)
            report.tell(self._console)
            if plan.json is not None:
                write_json(plan.json, report.document())
            if plan.timeline is not None:
                write_timeline(plan.timeline, report, self._acknowledged())
            return GOOD if report.held else NOT_HELD

    @property
    def _numbers(self) -> list[int]:
        return [group.group for group in self._plan.groups]

    @contextlib.contextmanager
    def _histories(self) -> Iterator[dict[int, Sink]]:
        """What takes each group's history: files, or nothing."""
        with contextlib.ExitStack() as stack:
            sinks: dict[int, Sink] = {}
            for group in self._numbers:
                number = group if self._plan.is_of_many else None
                path = history_path(self._plan.history, number)
                sinks[group] = stack.enter_context(open_history(path))
            yield sinks

    def _say_where(self, cluster: ChaosCluster) -> None:
        numbers = self._numbers
        groups = f"{len(numbers)} groups" if self._plan.is_of_many else f"group {numbers[0]}"
        self._console.say(
            f"cluster {cluster.name}, members {', '.join(cluster.members)}, {groups}, "
            f"seed {self._plan.limits.seed}"
        )

    def _see_voters(self, cluster: ChaosCluster) -> GroupVoters:
        """Who votes in the groups, once there is room for the changes that are planned."""
        kinds = set(self._plan.kinds)
        if kinds & OF_GROUPS:
            self._console.say("making room: each group leaves members that it may be given to")
            make_room(cluster, self._numbers)
        groups = [SYSTEM_GROUP, *self._numbers]
        voters = {group: cluster.group(group).members().voters for group in groups}
        return GroupVoters(cluster.members, voters)

    def _run_on(
        self,
        cluster: ChaosCluster,
        members: Members,
        nodes: Nodes | None,
        sinks: Mapping[int, Sink],
    ) -> ChaosReport:
        plan = self._plan
        load = {"start": os.getloadavg()}
        voters = self._see_voters(cluster)
        run = secrets.token_hex(4)
        self._groups = [
            GroupRun(
                cluster,
                group,
                plan.limits,
                Records(HistoryRecorder(sinks[group.group])),
                f"{run}.{group.group}" if plan.is_of_many else run,
            )
            for group in plan.groups
        ]
        with ThreadPoolExecutor(CHANGES_MAX, thread_name_prefix="changes") as executor:
            injector = Injector(
                cluster,
                members,
                voters,
                self._numbers,
                executor,
                nodes=nodes,
                say=self._say,
                on_tick=self._tell_progress,
            )
            end_ns = self._work(injector)
        self._say("clients have ended; checking")
        gone = [m for m in cluster.members if m not in injector.account.voters.members]
        for group in self._groups:
            group.check(members, gone, plan.check_s)
        results = [
            group.result(self._start_ns, end_ns, injector.disturbances) for group in self._groups
        ]
        self._check_gaps(results)
        self._gather(results)
        return ChaosReport(
            cluster=cluster.name,
            members=cluster.members,
            seed=plan.limits.seed,
            clients=sum(group.clients for group in plan.groups),
            seconds=plan.seconds,
            start_ns=self._start_ns,
            end_ns=end_ns,
            lease_ms=plan.configuration.proposer.lease_ms,
            gap_limit_s=plan.gap_limit_s,
            restart_gap_limit_s=plan.restart_gap_limit_s,
            disturbances=injector.disturbances,
            groups=results,
            is_of_many=plan.is_of_many,
            overall=self._overall(end_ns, injector.disturbances),
            checks=self._checks,
            load={**load, "end": os.getloadavg()},
        )

    # While it runs.

    def _work(self, injector: Injector) -> int:
        """Have clients work while faults are injected, and heal; gives when the run was over."""
        plan = self._plan
        workloads = [group.workload for group in self._groups]
        is_over = False
        try:
            for workload in workloads:
                problem = workload.start(FIRST_S)
                if problem:
                    raise ClusterError(f"the cluster does not serve: {problem}")
            self._start_ns = self._told_ns = time.monotonic_ns()
            until_ns = self._start_ns + int(plan.seconds * SECOND_NS)
            faults = plan_faults(plan.kinds, plan.limits.seed, plan.interval_s)
            injector.run(faults, until_ns)
            self._say("no more faults; healing")
            self._checks["healed"] = injector.heal(HEAL_S)
            if FaultKind.WIPE_MEMBER in plan.kinds:
                self._checks["stays_out"] = injector.stay_out()
            self._settle()
            is_over = True
            return time.monotonic_ns()
        finally:
            # Also where the run broke off: nothing goes on behind the checks, or the exit.
            timeout_s = plan.limits.command_s + plan.limits.read_s + CLOSE_S if is_over else 0.0
            for workload in workloads:
                workload.end()
            deadline = time.monotonic() + timeout_s
            for workload in workloads:
                workload.stop(max(deadline - time.monotonic(), 0.0))

    def _say(self, text: str) -> None:
        self._console.say(f"{(time.monotonic_ns() - self._start_ns) / SECOND_NS:7.2f} s  {text}")

    def _tell_progress(self) -> None:
        now_ns = time.monotonic_ns()
        if now_ns < self._told_ns + int(PROGRESS_S * SECOND_NS):
            return
        self._told_ns = now_ns
        records = [group.records for group in self._groups]
        last_ns = max(each.last_acknowledged_ns for each in records)
        operations = sum(each.operations for each in records)
        acknowledged = sum(len(each.acknowledged) for each in records)
        self._say(
            f"{operations:,} operations, {acknowledged:,} commands "
            f"acknowledged, the last one {(now_ns - last_ns) / SECOND_NS:.2f} s ago"
        )

    def _settle(self) -> None:
        """Until something is acknowledged after everything is healed, so that a gap has its end."""
        healed_ns = time.monotonic_ns()
        patience_ns = int(max(self._plan.restart_gap_limit_s, self._plan.gap_limit_s) * SECOND_NS)
        time.sleep(SETTLE_S)
        while (
            any(group.records.last_acknowledged_ns < healed_ns for group in self._groups)
            and time.monotonic_ns() < healed_ns + patience_ns
        ):
            time.sleep(RETRY_S)

    # Afterwards.

    def _acknowledged(self) -> list[tuple[int, int]]:
        """Of all acknowledged commands: when they were asked for, and when they had a result."""
        return [
            (command.asked_ns, command.at_ns)
            for group in self._groups
            for command in group.records.acknowledged
        ]

    def _overall(
        self, end_ns: int, disturbances: Sequence[Disturbance]
    ) -> tuple[float, float | None]:
        """The longest times without an acknowledgement in any group."""
        times = [at_ns for _, at_ns in self._acknowledged()]
        gaps = find_gaps(times, self._start_ns, end_ns, disturbances)
        return gaps.longest_s, gaps.longest_restart_all_s

    def _gather(self, results: Sequence[GroupResult]) -> None:
        """The groups' problems, by check."""
        for result in results:
            where = f"group {result.group}: " if self._plan.is_of_many else ""
            for name, problems in result.checks.items():
                self._checks.setdefault(name, []).extend(where + text for text in problems)

    def _check_gaps(self, results: Sequence[GroupResult]) -> None:
        plan = self._plan
        ordinary: list[str] = []
        of_restarts: list[str] = []
        for result in results:
            gaps = result.gaps
            where = f" in group {result.group}" if plan.is_of_many else ""
            if gaps.longest_s > plan.gap_limit_s:
                ordinary.append(
                    f"nothing was acknowledged{where} for {gaps.longest_s:.2f} s; "
                    f"limit {plan.gap_limit_s:g} s"
                )
            if (gaps.longest_restart_all_s or 0.0) > plan.restart_gap_limit_s:
                of_restarts.append(
                    f"nothing was acknowledged{where} for {gaps.longest_restart_all_s:.2f} s "
                    f"around a restart-all; limit {plan.restart_gap_limit_s:g} s"
                )
        self._checks["gap"], self._checks["restart_all_gap"] = ordinary, of_restarts


@contextlib.contextmanager
def told_apart() -> Iterator[None]:
    """Keep what Ray tells the driver off standard output, which is for data.

    Ray prints a paragraph there for whatever was killed, which says nothing new here;
    whatever else it prints goes to stderr.
    """
    with contextlib.redirect_stdout(_RayNotices(sys.stderr)):
        yield


class _RayNotices(io.TextIOBase):
    def __init__(self, others: TextIO) -> None:
        self._others = others
        self._is_dropping = False

    def write(self, text: str) -> int:
        if any(notice in text for notice in EXPECTED_NOTICES):
            self._is_dropping = True
        elif not self._is_dropping or text.strip():
            self._is_dropping = False
            self._others.write(text)
        return len(text)
