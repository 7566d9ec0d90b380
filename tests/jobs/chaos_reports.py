"""Reports of chaos runs that never were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from chaos_checks import HistoryVerdict
from chaos_events import MemberReign
from chaos_gaps import SECOND_NS, Disturbance, find_gaps
from chaos_group import GroupResult
from chaos_report import ChaosReport
from ray_paxos.testing.linearizability.search import Verdict

START_AT_MS = 1_700_000_000_000


def at(seconds: float) -> int:
    return int(seconds * SECOND_NS)


def group_result(
    group: int,
    *,
    acknowledged_s: Sequence[float] = (101, 105, 109),
    checks: Mapping[str, Sequence[str]] | None = None,
    disturbances: Sequence[Disturbance] = (),
    figures: Mapping[str, Any] | None = None,
    digests: Mapping[str, tuple[int, str]] | None = None,
) -> GroupResult:
    """From 100 to 110 s."""
    shown = {"m1": (7, "ab"), "m2": (7, "ab")} if digests is None else digests
    found = {
        name: SimpleNamespace(applied_instance_id=instance, digest=digest)
        for name, (instance, digest) in shown.items()
    }
    return GroupResult(
        group=group,
        outcomes=Counter({("put", "ok"): 3, ("get", "failed"): 1}),
        errors={"QueryError": 1},
        acknowledged=len(acknowledged_s),
        checked=4,
        gaps=find_gaps([at(each) for each in acknowledged_s], at(100), at(110), disturbances),
        history=HistoryVerdict(Verdict.TRUE, 4, 1, 4, 0.5, (("k<1>", 4, 0.5),), ()),
        checks={"linearizable": []} if checks is None else checks,
        figures={} if figures is None else figures,
        digests=found,
    )


def report(
    *disturbances: Disturbance,
    groups: Sequence[GroupResult] = (),
    checks: Mapping[str, Sequence[str]] | None = None,
    cluster: str = "<demo>",
    end_ns: int = at(110),
    is_of_many: bool = True,
    workload: str = "kv",
) -> ChaosReport:
    """From 100 to 110 s."""
    return ChaosReport(
        cluster=cluster,
        members=("m1", "m2", "m3"),
        seed=1,
        clients=2,
        seconds=10,
        start_ns=at(100),
        end_ns=end_ns,
        lease_ms=2_000,
        gap_limit_s=6,
        restart_gap_limit_s=12,
        disturbances=disturbances,
        groups=groups,
        is_of_many=is_of_many,
        overall=(4.0, None),
        checks={"gap": ["too long"]} if checks is None else checks,
        workload=workload,
        start_at_ms=START_AT_MS,
    )


def reign(group: int, member: str, from_s: float, to_s: float | None) -> MemberReign:
    """By seconds since the run began."""
    from_ms = START_AT_MS + round(1_000 * from_s)
    to_ms = None if to_s is None else START_AT_MS + round(1_000 * to_s)
    return MemberReign(group, member, from_ms, to_ms, (from_ms, 1, 1), 7)
