"""One group's part of a chaos run: its clients, and what has to hold of it afterwards."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

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
from chaos_gaps import Disturbance, Gaps, find_gaps
from chaos_group_faults import LedCluster
from chaos_reads import line_count, read_keys, read_lines
from chaos_records import AcknowledgedCommand, Records
from ray_paxos.errors import PaxosError

if TYPE_CHECKING:
    from ray_paxos import ClusterStatus

DIGESTS_S = 60.0
RETRY_S = 0.5


class ChaosCluster(LedCluster, Protocol):
    """What a run needs of a `ray_paxos.Cluster`."""

    name: str
    was_running: bool

    def client(self, group: int, *, label: str) -> WorkingClient:
        """A client of one group."""

    def status(self) -> ClusterStatus:
        """Members and positions."""

    def members_gone(self) -> frozenset[str]:
        """Names of members that have left for ever."""

    def flush(self, group: int) -> None:
        """Seal everything learned so far."""

    def member_digests(self, group: int, *, timeout_s: float) -> Mapping[str, Digest]:
        """Digests of the members' states, once all that answer are equally far."""

    def stop(self) -> None:
        """Stop all roles; the data stays."""


@dataclass(frozen=True)
class GroupPlan:
    """What a run does with one group.

    Attributes:
        group: Its number.
        kv: Name of its kv machine.
        log: Name of its log machine.
        clients: How many work on it.
        first_client: The number of the first of them.
    """

    group: int
    kv: str
    log: str
    clients: int
    first_client: int = 1


@dataclass(frozen=True)
class WorkLimits:
    """What the clients of all groups have in common.

    Attributes:
        rate: Operations of one client in a second, at most.
        command_s: How long a command may stay without an outcome.
        read_s: How long a read is tried.
        seed: Of operations.
    """

    rate: float
    command_s: float
    read_s: float
    seed: int


@dataclass(frozen=True)
class GroupResult:
    """What came of one group.

    Attributes:
        group: Its number.
        outcomes: Of operations, by kind and outcome.
        errors: That clients met, by kind.
        acknowledged: Commands with a result.
        checked: Operations and ids that a check looked at.
        gaps: Times without an acknowledgement.
        history: Of the kv machine.
        checks: Problems by check; a check without problems held.
        figures: What else there is to tell of a workload.
        digests: Of members' states in the end, as far as they answered.
    """

    group: int
    outcomes: Counter[tuple[str, str]]
    errors: Mapping[str, int]
    acknowledged: int
    checked: int
    gaps: Gaps
    history: HistoryVerdict
    checks: Mapping[str, Sequence[str]]
    figures: Mapping[str, Any] = field(default_factory=dict)
    digests: Mapping[str, Digest] = field(default_factory=dict)


class GroupRun:
    """One group, from its first client to its verdict."""

    def __init__(
        self,
        cluster: ChaosCluster,
        plan: GroupPlan,
        limits: WorkLimits,
        records: Records,
        run: str,
    ) -> None:
        """See where the group is before the run; no client works yet.

        Args:
            cluster: Whose group it is.
            plan: What is done with it.
            limits: Of its clients.
            records: Take what they see.
            run: Unique to the run: in all keys and ids.

        Raises:
            PaxosError: The group cannot be read.
        """
        self.group = plan.group
        self.records = records
        self._cluster = cluster
        self._plan = plan
        self._run = run
        with cluster.client(plan.group, label="chaos") as client:
            self._first_line = line_count(client, plan.log) + 1
        self._first_instance = applied_through(cluster, plan.group) + 1
        self.workload = Workload(
            lambda name: cluster.client(plan.group, label=name),
            records,
            WorkSettings(run, plan.kv, plan.log, limits.rate, limits.command_s, limits.read_s),
            clients=plan.clients,
            seed=limits.seed,
            first=plan.first_client,
        )

    def check(self, members: Members, gone: Sequence[str], check_s: float) -> None:
        """Look at everything once clients have ended.

        Args:
            members: To read logs from.
            gone: Names of members that are gone for good.
            check_s: For the linearizability checker.
        """
        records, checks = self.records, {"clients": list(self.records.failures)}
        checks["exactly_once"] = self._check_appends()
        states = check_states(
            self._cluster,
            self.group,
            members,
            gone,
            acknowledged=records.acknowledged,
            first=self._first_instance,
        )
        checks |= states.checks
        self._digests = states.digests
        checks["follower_reads"] = check_follower_reads(records.follower_reads, records.writes)
        self._history = check_linearizability(records.history.history(), check_s)
        checks["linearizable"] = list(self._history.problems)
        self._checks = checks

    def result(
        self, start_ns: int, end_ns: int, disturbances: Sequence[Disturbance]
    ) -> GroupResult:
        """What came of it, in the time of the run."""
        records = self.records
        times = [acknowledged.at_ns for acknowledged in records.acknowledged]
        checked = len(records.appends) + len(records.follower_reads)
        return GroupResult(
            self.group,
            records.outcomes,
            records.errors,
            len(records.acknowledged),
            self._history.operations + checked,
            find_gaps(times, start_ns, end_ns, disturbances),
            self._history,
            self._checks,
            digests=self._digests,
        )

    def _check_appends(self) -> list[str]:
        """Read everything once more."""
        try:
            with self._cluster.client(self.group, label="chaos") as client:
                read_keys(client, self._plan.kv, self.records)
                lines = read_lines(client, self._plan.log, self._first_line)
        except PaxosError as error:
            return [f"the state could not be read: {error}"]
        prefix = f"{self._run} ".encode()
        appends = self.records.appends
        return check_appends(lines, appends, first=self._first_line, prefix=prefix)


@dataclass(frozen=True)
class States:
    """What members have in the end.

    Attributes:
        checks: Problems by check.
        digests: Of their states, as far as they answered.
    """

    checks: dict[str, list[str]]
    digests: Mapping[str, Digest]


def check_states(
    cluster: ChaosCluster,
    group: int,
    members: Members,
    gone: Sequence[str],
    *,
    acknowledged: Sequence[AcknowledgedCommand],
    first: int,
) -> States:
    """Whether all members that have a group have the same state and the same log.

    Args:
        cluster: Whose group it is.
        group: Its number.
        members: To read logs from.
        gone: Names of members that are gone for good.
        acknowledged: Commands that have to be in the log, where their results said.
        first: The instance from which on the log is compared.
    """
    having = _having(cluster, group, gone)
    digests: Mapping[str, Digest] = {}

    def compare() -> Sequence[str]:
        nonlocal digests
        digests = cluster.member_digests(group, timeout_s=DIGESTS_S)
        return check_digests(having, digests)

    equal = retried(compare)
    logs = _check_logs(cluster, group, members, having, acknowledged, first)
    return States({"digests_equal": equal, "logs_equal": logs}, digests)


def _having(cluster: ChaosCluster, group: int, gone: Sequence[str]) -> list[str]:
    """The members that have the group in the end, but for those that are gone for good."""
    try:
        found = cluster.group(group).members()
    except PaxosError:
        # Whatever is wrong shows in the checks.
        return [name for name in cluster.members if name not in gone]
    has_it = {*found.voters, *found.followers}
    return [name for name in cluster.members if name in has_it and name not in gone]


def _check_logs(
    cluster: ChaosCluster,
    group: int,
    members: Members,
    having: Sequence[str],
    acknowledged: Sequence[AcknowledgedCommand],
    first: int,
) -> list[str]:
    # Only here: nothing else of a run needs pyarrow, and wrong options should not wait for it.
    from chaos_logs import check_logs

    def seal() -> Sequence[str]:
        cluster.flush(group)
        return ()

    sealed = retried(seal)
    try:
        logs = members.read_logs(group, first, having)
    except PaxosError as error:
        return [*sealed, f"the logs could not be read: {error}"]
    return [*sealed, *check_logs(logs, acknowledged, first)]


def retried(check: Callable[[], Sequence[str]]) -> list[str]:
    """What a check finds, tried until it finds nothing, or its time is over.

    Members may need a moment to answer.
    """
    deadline = time.monotonic() + DIGESTS_S
    while True:
        try:
            problems = list(check())
        except PaxosError as error:
            problems = [str(error)]
        if not problems or time.monotonic() > deadline:
            return problems
        time.sleep(RETRY_S)


def applied_through(cluster: ChaosCluster, group: int) -> int:
    """The last instance of a group that any member has applied."""
    for status in cluster.status().groups:
        if status.group == group:
            return max((p.applied_through for p in status.positions.values()), default=0)
    return 0
