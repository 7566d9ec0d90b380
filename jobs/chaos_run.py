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
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeAlias

from chaos_cluster import Members, Nodes
from chaos_events import MemberReign, check_events, event_problems
from chaos_gaps import SECOND_NS, Disturbance, find_gaps
from chaos_group import ChaosCluster, GroupPlan, GroupResult, GroupRun
from chaos_injection import Injector
from chaos_notices import told_apart
from chaos_page import ChaosAccount, chaos_page
from chaos_plan import OF_GROUPS, OF_RECONCILERS, FaultKind, check_members, plan_faults
from chaos_records import Records, history_path, open_history
from chaos_report import ChaosReport
from chaos_rooms import keep_voters, make_room
from chaos_settings import ChaosPlan, Environment
from chaos_voters import GroupVoters
from chaos_workloads import WorkloadKind
from job_console import JobConsole
from job_exit import GOOD, NOT_HELD
from job_files import write_each, write_json
from ray_paxos.core.genesis import SYSTEM_GROUP
from ray_paxos.errors import ClusterError, ConfigurationError
from ray_paxos.observability.event_record import EventRecord
from ray_paxos.testing.history import Event, HistoryRecorder
from report_machine import Circumstances
from report_page import write_figures, write_page

if TYPE_CHECKING:
    from chaos_recipe_run import RecipeRun

HEAL_S = 90.0
SETTLE_S = 1.0
FIRST_S = 60.0
RETRY_S = 0.5
PROGRESS_S = 5.0
CLOSE_S = 20.0
CHANGES_MAX = 4
"""So many groups are changed at a time."""

Sink: TypeAlias = Callable[[Event], None] | None
"""Takes a history as it happens; None for nobody."""


class ChaosRun:
    """The job, from a plan to an exit status."""

    def __init__(self, plan: ChaosPlan, console: JobConsole) -> None:
        """Nothing happens yet."""
        self._plan = plan
        self._console = console
        self._groups: list[GroupRun | RecipeRun] = []
        self._began_ms = 0
        self._start_ns = 0
        self._start_at_ms = 0.0
        self._told_ns = 0
        self._checks: dict[str, list[str]] = {}
        self._members: list[str] = []
        self._reigns: Sequence[MemberReign] = ()

    def run(self, environment: Environment) -> int:
        """Start or attach, run, heal, check, report, and leave things as they were.

        Returns:
            An exit status.

        Raises:
            PaxosError: The cluster cannot be started or does not serve, or a file cannot be
                written.
        """
        plan = self._plan
        # Before the cluster is started: what its roles meet with as they begin is the run's, too.
        self._began_ms = int(time.time() * 1_000)
        circumstances = Circumstances.begin(plan.limits.seed, plan.configuration)
        with contextlib.ExitStack() as stack:
            nodes = self._start_nodes(environment, stack)
            address = nodes.address if nodes is not None else plan.address
            cluster = environment.start(plan.configuration, address=address, keep=plan.keep)
            if not plan.keep and not cluster.was_running:
                stack.callback(cluster.stop)
            self._members = [m for m in cluster.members if m not in cluster.members_gone()]
            check_members(plan.kinds, len(self._members))
            self._check_started(cluster)
            self._say_where(cluster)
            members = environment.members(cluster, self._numbers)
            with contextlib.closing(members), self._histories() as sinks, told_apart():
                report = self._run_on(cluster, members, nodes, sinks)
            circumstances.end()
            report.tell(self._console)
            self._write(report, circumstances)
            return GOOD if report.held else NOT_HELD

    def _write(self, report: ChaosReport, circumstances: Circumstances) -> None:
        """All files that are asked for; one that cannot be written keeps none of the others."""
        json, path, figures = self._plan.json, self._plan.report, self._plan.figures
        writers: list[Callable[[], object]] = []
        if json is not None:
            writers.append(lambda: write_json(json, report.document()))
        if path is not None or figures is not None:
            page = chaos_page(
                ChaosAccount(report, self._acknowledged(), circumstances, self._reigns)
            )
            if path is not None:
                writers.append(lambda: write_page(path, page))
            if figures is not None:
                writers.append(lambda: write_figures(figures, page.charts))
        write_each(writers)

    def _start_nodes(self, environment: Environment, stack: contextlib.ExitStack) -> Nodes | None:
        plan = self._plan
        if plan.has_hosts:
            count = len(plan.configuration.members)
            self._console.say(f"making {count + 1} hosts with a Ray node each")
            return stack.enter_context(environment.hosts(plan.configuration, plan.kinds))
        if plan.nodes is not None:
            self._console.say(f"starting a Ray cluster of {plan.nodes} nodes")
            own = environment.nodes(plan.configuration, plan.nodes, plan.kinds)
            return stack.enter_context(own)
        return None

    def _check_started(self, cluster: ChaosCluster) -> None:
        """Whether the cluster's controller is as the faults need it: the run started it."""
        needing = [k.value for k in FaultKind if k in OF_RECONCILERS and k in self._plan.kinds]
        if needing and cluster.was_running:
            raise ConfigurationError(
                f"--faults: {', '.join(needing)}: cluster {cluster.name} runs already, and its "
                "controller may undo what is done; only where the job starts the cluster"
            )

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
            f"cluster {cluster.name}, members {', '.join(self._members)}, {groups}, "
            f"seed {self._plan.limits.seed}"
        )

    def _see_voters(self, cluster: ChaosCluster) -> GroupVoters:
        """Who votes in the groups, once there is room for the changes that are planned."""
        kinds = set(self._plan.kinds)
        if kinds & OF_GROUPS:
            self._console.say("making room: each group leaves members that it may be given to")
            make_room(cluster, self._members, self._numbers, is_ordered=self._plan.is_ordered)
        groups = [SYSTEM_GROUP, *self._numbers]
        if self._plan.is_ordered:
            self._console.say("telling the reconciler to leave groups as they are")
            keep_voters(cluster, groups)
        voters = {group: cluster.group(group).members().voters for group in groups}
        return GroupVoters(self._members, voters)

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
            self._group_run(cluster, group, sinks[group.group], run) for group in plan.groups
        ]
        with ThreadPoolExecutor(CHANGES_MAX, thread_name_prefix="changes") as executor:
            injector = Injector(
                cluster,
                members,
                voters,
                self._numbers,
                executor,
                kinds=plan.kinds,
                nodes=nodes,
                is_ordered=plan.is_ordered,
                lease_s=plan.configuration.proposer.lease_ms / 1_000,
                say=self._say,
                on_tick=self._tell_progress,
            )
            if injector.replacements is not None:
                injector.replacements.avoid(cluster.operations.wanted().members)
            # What it needs on the nodes is started before anybody's commands are counted.
            injector.account.look()
            end_ns = self._work(injector)
        self._say("clients have ended; checking")
        there = injector.account.voters.members
        gone = [m for m in cluster.members if m not in there]
        for group in self._groups:
            group.check(members, gone, plan.check_s)
        results = [
            group.result(self._start_ns, end_ns, injector.disturbances) for group in self._groups
        ]
        if not cluster.was_running:
            # One that ran before may write no files of events.
            self._check_events(*members.read_events(there), injector.disturbances)
        self._check_gaps(results)
        self._gather(results)
        return ChaosReport(
            cluster=cluster.name,
            members=injector.account.voters.all_members,
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
            workload=plan.workload.value,
            start_at_ms=self._start_at_ms,
        )

    def _group_run(
        self, cluster: ChaosCluster, group: GroupPlan, sink: Sink, run: str
    ) -> GroupRun | RecipeRun:
        plan = self._plan
        if plan.workload is not WorkloadKind.KV:
            # Recipes bring Ray with them, which wrong options should not wait for.
            from chaos_recipe_run import RecipeRun

            return RecipeRun(cluster, group, plan.limits, plan.workload, run, sink)
        name = f"{run}.{group.group}" if plan.is_of_many else run
        return GroupRun(cluster, group, plan.limits, Records(HistoryRecorder(sink)), name)

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
            self._start_at_ms = time.time() * 1_000
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
            injector.end()
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

    def _acknowledged(self) -> dict[int, list[tuple[int, int]]]:
        """Commands of each group: when they were asked for, and when they had a result."""
        return {
            group.group: [(each.asked_ns, each.at_ns) for each in group.records.acknowledged]
            for group in self._groups
        }

    def _check_events(
        self,
        records: Sequence[EventRecord],
        unread: Sequence[str],
        disturbances: Sequence[Disturbance],
    ) -> None:
        found = check_events(records, self._began_ms)
        self._checks["events"] = event_problems(found, unread, disturbances, self._monotonic_ns)
        self._reigns = found.reigns

    def _monotonic_ns(self, at_ms: int) -> int:
        """A time of an event, by the clock of this process."""
        return self._start_ns + int((at_ms - self._start_at_ms) * 1_000_000)

    def _overall(
        self, end_ns: int, disturbances: Sequence[Disturbance]
    ) -> tuple[float, float | None]:
        """The longest times without an acknowledgement in any group."""
        times = [at_ns for group in self._acknowledged().values() for _, at_ns in group]
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
