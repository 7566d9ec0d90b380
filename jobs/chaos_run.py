"""One chaos run: clients, faults, healing, checks.

```
 clients   ────────────────────────────────────────────────▶ end ─┐
 injector  ── fault ── fault ── ... ── fault ── heal ─▶ all serve ─┤
                                                                   ▼
                  last reads ─▶ ids of the log machine ─▶ digests ─▶ logs ─▶ history ─▶ report
```
"""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TextIO

from chaos_checks import (
    Digest,
    HistoryVerdict,
    check_appends,
    check_digests,
    check_follower_reads,
    check_linearizability,
)
from chaos_clients import WorkingClient, Workload, WorkSettings
from chaos_cluster import Members
from chaos_gaps import SECOND_NS, Gaps, find_gaps
from chaos_injection import Injector, LedCluster
from chaos_plan import FaultKind, check_members, plan_faults
from chaos_reads import line_count, read_keys, read_lines
from chaos_records import Records, open_history
from chaos_report import ChaosReport
from job_console import JobConsole
from job_exit import GOOD, NOT_HELD
from job_files import write_json
from ray_paxos.config import ClusterConfiguration
from ray_paxos.errors import ClusterError, PaxosError
from ray_paxos.testing.history import HistoryRecorder

if TYPE_CHECKING:
    from ray_paxos import ClusterStatus

HEAL_S = 90.0
SETTLE_S = 1.0
FIRST_S = 60.0
DIGESTS_S = 60.0
RETRY_S = 0.5
PROGRESS_S = 5.0
CLOSE_S = 20.0
KILLED_NOTICE = "A worker died or was killed"


class ChaosCluster(LedCluster, Protocol):
    """What a run needs of a `ray_paxos.Cluster`."""

    name: str
    was_running: bool

    def client(self, group: int, *, label: str) -> WorkingClient:
        """A client of one group."""

    def status(self) -> ClusterStatus:
        """Members and positions."""

    def flush(self, group: int) -> None:
        """Seal everything learned so far."""

    def member_digests(self, group: int, *, timeout_s: float) -> Mapping[str, Digest]:
        """Digests of the members' states, once all that answer are equally far."""

    def stop(self) -> None:
        """Stop all roles; the data stays."""


class Environment(Protocol):
    """Where clusters come from: Ray, or what stands for it in a test."""

    def start(
        self, configuration: ClusterConfiguration, *, address: str | None, keep: bool
    ) -> ChaosCluster:
        """As `ray_paxos.start`."""

    def members(self, cluster: ChaosCluster, group: int) -> Members:
        """The members of a cluster, to look at and to signal."""


@dataclass(frozen=True)
class ChaosPlan:
    """What the command line and the configuration come to; `chaos.py` describes each.

    Attributes:
        configuration: Of the cluster.
        group: Whose log.
        kv: Name of the group's kv machine.
        log: Name of its log machine.
        kinds: Of faults.
        seconds: For how long they are injected.
        interval_s: Between two, on average.
        clients: How many.
        rate: Operations of one client in a second, at most.
        command_s: How long a command may stay without an outcome.
        read_s: How long a read is tried.
        seed: Of faults and operations.
        gap_limit_s: For gaps without an acknowledgement.
        restart_gap_limit_s: For those in the time of a `restart-all`.
        check_s: For the linearizability checker.
        address: Of the Ray cluster.
        keep: Whether to leave the cluster running.
        json: File of the document.
        history: File of the history.
    """

    configuration: ClusterConfiguration
    group: int
    kv: str
    log: str
    kinds: tuple[FaultKind, ...]
    seconds: float
    interval_s: float
    clients: int
    rate: float
    command_s: float
    read_s: float
    seed: int
    gap_limit_s: float
    restart_gap_limit_s: float
    check_s: float
    address: str | None
    keep: bool
    json: str | None
    history: str | None


class ChaosRun:
    """The job, from a plan to an exit status."""

    def __init__(self, plan: ChaosPlan, console: JobConsole) -> None:
        """Nothing happens yet."""
        self._plan = plan
        self._console = console
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
        cluster = environment.start(plan.configuration, address=plan.address, keep=plan.keep)
        try:
            check_members(plan.kinds, len(cluster.members))
            self._console.say(
                f"cluster {cluster.name}, members {', '.join(cluster.members)}, "
                f"group {plan.group}, seed {plan.seed}"
            )
            members = environment.members(cluster, plan.group)
            with contextlib.closing(members), open_history(plan.history) as sink, told_apart():
                report = self._run_on(cluster, members, Records(HistoryRecorder(sink)))
            report.tell(self._console)
            if plan.json is not None:
                write_json(plan.json, report.document())
            return GOOD if report.held else NOT_HELD
        finally:
            if not plan.keep and not cluster.was_running:
                cluster.stop()

    def _run_on(self, cluster: ChaosCluster, members: Members, records: Records) -> ChaosReport:
        plan = self._plan
        load = {"start": os.getloadavg()}
        run = secrets.token_hex(4)
        with cluster.client(plan.group, label="chaos") as client:
            first_line = line_count(client, plan.log) + 1
        first_instance = _applied_through(cluster, plan.group) + 1
        workload = Workload(
            lambda name: cluster.client(plan.group, label=name),
            records,
            WorkSettings(run, plan.kv, plan.log, plan.rate, plan.command_s, plan.read_s),
            clients=plan.clients,
            seed=plan.seed,
        )
        injector = Injector(
            cluster,
            members,
            plan.group,
            say=self._say,
            on_tick=lambda: self._tell_progress(records),
        )
        end_ns = self._work(workload, injector)
        self._say("clients have ended; checking")
        self._checks["clients"] = list(records.failures)
        self._check_state(cluster, records, run, first_line)
        self._check_logs(cluster, members, records, first_instance)
        self._checks["follower_reads"] = check_follower_reads(
            records.follower_reads, records.writes
        )
        history = check_linearizability(records.history.history(), plan.check_s)
        self._checks["linearizable"] = list(history.problems)
        acknowledged_ns = [acknowledged.at_ns for acknowledged in records.acknowledged]
        gaps = find_gaps(acknowledged_ns, self._start_ns, end_ns, injector.disturbances)
        self._check_gaps(gaps)
        return ChaosReport(
            cluster=cluster.name,
            group=plan.group,
            members=cluster.members,
            seed=plan.seed,
            clients=plan.clients,
            seconds=plan.seconds,
            start_ns=self._start_ns,
            end_ns=end_ns,
            lease_ms=plan.configuration.proposer.lease_ms,
            gap_limit_s=plan.gap_limit_s,
            restart_gap_limit_s=plan.restart_gap_limit_s,
            disturbances=injector.disturbances,
            outcomes=records.outcomes,
            errors=records.errors,
            acknowledged=len(records.acknowledged),
            checked=_checked(history, records),
            gaps=gaps,
            history=history,
            checks=self._checks,
            load={**load, "end": os.getloadavg()},
        )

    # While it runs.

    def _work(self, workload: Workload, injector: Injector) -> int:
        """Have clients work while faults are injected, and heal; gives when the run was over."""
        plan = self._plan
        is_over = False
        try:
            problem = workload.start(FIRST_S)
            if problem:
                raise ClusterError(f"the cluster does not serve: {problem}")
            self._start_ns = self._told_ns = time.monotonic_ns()
            until_ns = self._start_ns + int(plan.seconds * SECOND_NS)
            injector.run(plan_faults(plan.kinds, plan.seed, plan.interval_s), until_ns)
            self._say("no more faults; healing")
            self._checks["healed"] = injector.heal(HEAL_S)
            self._settle(workload.records)
            is_over = True
            return time.monotonic_ns()
        finally:
            # Also where the run broke off: nothing goes on behind the checks, or the exit.
            workload.stop(plan.command_s + plan.read_s + CLOSE_S if is_over else 0.0)

    def _say(self, text: str) -> None:
        self._console.say(f"{(time.monotonic_ns() - self._start_ns) / SECOND_NS:7.2f} s  {text}")

    def _tell_progress(self, records: Records) -> None:
        now_ns = time.monotonic_ns()
        if now_ns < self._told_ns + int(PROGRESS_S * SECOND_NS):
            return
        self._told_ns = now_ns
        silent_s = (now_ns - records.last_acknowledged_ns) / SECOND_NS
        self._say(
            f"{records.operations:,} operations, {len(records.acknowledged):,} commands "
            f"acknowledged, the last one {silent_s:.2f} s ago"
        )

    def _settle(self, records: Records) -> None:
        """Until something is acknowledged after everything is healed, so that a gap has its end."""
        healed_ns = time.monotonic_ns()
        patience_ns = int(max(self._plan.restart_gap_limit_s, self._plan.gap_limit_s) * SECOND_NS)
        time.sleep(SETTLE_S)
        while (
            records.last_acknowledged_ns < healed_ns
            and time.monotonic_ns() < healed_ns + patience_ns
        ):
            time.sleep(RETRY_S)

    # Afterwards.

    def _check_state(
        self, cluster: ChaosCluster, records: Records, run: str, first_line: int
    ) -> None:
        """Read everything once more, and compare the members."""
        plan = self._plan
        lines: list[bytes] = []
        try:
            with cluster.client(plan.group, label="chaos") as client:
                read_keys(client, plan.kv, records)
                lines = read_lines(client, plan.log, first_line)
        except PaxosError as error:
            self._checks["exactly_once"] = [f"the state could not be read: {error}"]
        else:
            self._checks["exactly_once"] = check_appends(
                lines, records.appends, first=first_line, prefix=f"{run} ".encode()
            )
        self._checks["digests_equal"] = self._retried(
            lambda: check_digests(
                cluster.members, cluster.member_digests(plan.group, timeout_s=DIGESTS_S)
            )
        )

    def _check_logs(
        self, cluster: ChaosCluster, members: Members, records: Records, first: int
    ) -> None:
        # Only here: nothing else of a run needs pyarrow, and wrong options should not wait for it.
        from chaos_logs import check_logs

        def seal() -> Sequence[str]:
            cluster.flush(self._plan.group)
            return ()

        sealed = self._retried(seal)
        try:
            logs = members.read_logs(first)
        except PaxosError as error:
            self._checks["logs_equal"] = [*sealed, f"the logs could not be read: {error}"]
        else:
            self._checks["logs_equal"] = [*sealed, *check_logs(logs, records.acknowledged, first)]

    def _retried(self, check: Callable[[], Sequence[str]]) -> list[str]:
        """Until a check holds, or its time is over: members may need a moment to answer."""
        deadline = time.monotonic() + DIGESTS_S
        while True:
            try:
                problems = list(check())
            except PaxosError as error:
                problems = [str(error)]
            if not problems or time.monotonic() > deadline:
                return problems
            time.sleep(RETRY_S)

    def _check_gaps(self, gaps: Gaps) -> None:
        plan = self._plan
        self._checks["gap"] = []
        self._checks["restart_all_gap"] = []
        if gaps.longest_s > plan.gap_limit_s:
            self._checks["gap"] = [
                f"nothing was acknowledged for {gaps.longest_s:.2f} s; limit {plan.gap_limit_s:g} s"
            ]
        if (gaps.longest_restart_all_s or 0.0) > plan.restart_gap_limit_s:
            self._checks["restart_all_gap"] = [
                f"nothing was acknowledged for {gaps.longest_restart_all_s:.2f} s around a "
                f"restart-all; limit {plan.restart_gap_limit_s:g} s"
            ]


@contextlib.contextmanager
def told_apart() -> Iterator[None]:
    """Keep what Ray tells the driver off standard output, which is for data.

    Ray prints a paragraph there for every process that was killed, which says nothing new here;
    whatever else it prints goes to stderr.
    """
    with contextlib.redirect_stdout(_RayNotices(sys.stderr)):
        yield


class _RayNotices(io.TextIOBase):
    def __init__(self, others: TextIO) -> None:
        self._others = others
        self._is_dropping = False

    def write(self, text: str) -> int:
        if KILLED_NOTICE in text:
            self._is_dropping = True
        elif not self._is_dropping or text.strip():
            self._is_dropping = False
            self._others.write(text)
        return len(text)


def _applied_through(cluster: ChaosCluster, group: int) -> int:
    for status in cluster.status().groups:
        if status.group == group:
            return max((p.applied_through for p in status.positions.values()), default=0)
    return 0


def _checked(history: HistoryVerdict, records: Records) -> int:
    return history.operations + len(records.appends) + len(records.follower_reads)
