"""What one role's state and counts come to in metrics.

```
 state   ─┬─ phase, stopped groups ─────────▶ gauges of the role
          └─ groups: {1: {...}, 2: {...}} ──▶ gauges of groups ───┐   named, or `group="all"`
 report  ─┬─ counted.by_group ──────────────▶ counters of groups ─┘
          ├─ counted.counts, .histograms ───▶ counters by label, histograms
          └─ gauges ────────────────────────▶ gauges of the role
```

Rules:

1. Groups are named where the role knows of at most `groups_max`. Otherwise each metric of groups is
   one sample with `group="all"`, aggregated as its catalogue entry says. So what a member exports
   does not grow with its groups.
2. Every counter that a role can count is there from the beginning, with 0: how much a counter rose
   is only seen where it was there before it did.
3. What a state does not tell gives no sample: a role that does not serve tells nothing of groups,
   and 0 would be a wrong answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ray_paxos.core.client_messages import RefusalCode
from ray_paxos.core.messages import NackReason
from ray_paxos.observability import catalogue
from ray_paxos.observability.catalogue import BY_NAME, Aggregation, Kind, Metric
from ray_paxos.observability.meter import ACCEPT, LEARN_REQUEST, PREPARE, REDIRECTED
from ray_paxos.observability.report import HistogramCounts, RoleReport
from ray_paxos.observability.settings import ObservingSettings

ALL_GROUPS = "all"
"""The group of what stands for many groups."""

GroupState: TypeAlias = Mapping[str, Any]
Reading: TypeAlias = Callable[[GroupState], "float | None"]
"""What a group's part of a state says; None for nothing."""

_AGGREGATE: dict[Aggregation, Callable[[list[float]], float]] = {
    Aggregation.SUM: sum,
    Aggregation.MAX: max,
    Aggregation.MIN: min,
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a metric.

    Attributes:
        metric: Of which.
        value: What it is now; of a counter or a histogram, what was counted in this life of the
            role.
        label: The value of the metric's own label; empty where it has none.
        group: Its group, or `all`; empty where the metric is not of groups.
        role: Which role gave it: no label, but counts of several roles of one process add up.
    """

    metric: Metric
    value: float | HistogramCounts
    label: str = ""
    group: str = ""
    role: str = ""


def samples_of(
    state: Mapping[str, Any], report: RoleReport, settings: ObservingSettings
) -> list[Sample]:
    """What a role comes to, now.

    Args:
        state: As `Shell.state` gives it.
        report: Of the same moment.
        settings: Of its cluster; says how many groups are named.

    Returns:
        One sample for each series. Names, labels and groups that this release does not know are
        left out.
    """
    role = str(state["role"])
    groups: Mapping[int, GroupState] = state["groups"]
    is_named = len(_known_groups(state, report)) <= settings.groups_max
    return [
        *_of_role(role, state, report),
        *_gauges_of_groups(role, groups, is_named),
        *_counters_of_groups(role, groups, report, is_named),
        *_counters_by_label(role, report),
        *_histograms(role, report),
    ]


def _known_groups(state: Mapping[str, Any], report: RoleReport) -> set[int]:
    """Also those that it served earlier: what was counted of them stays."""
    counted = report.counted.by_group.values()
    return {*state["groups"], *state["stopped_groups"], *(g for each in counted for g in each)}


# Of the role.


def _of_role(role: str, state: Mapping[str, Any], report: RoleReport) -> Iterator[Sample]:
    yield Sample(catalogue.ROLE_SERVING, float(state["phase"] == "serving"), role, role=role)
    yield Sample(catalogue.GROUPS_STOPPED, float(len(state["stopped_groups"])), role, role=role)
    groups: list[GroupState] = list(state["groups"].values())
    if role == "proposer" and groups:
        leaderless = sum(_master_known(group) == 0 for group in groups)
        yield Sample(catalogue.GROUPS_WITHOUT_MASTER, float(leaderless), role=role)
    if role in _WRITERS and groups:
        is_full = any(group.get("storage_full") for group in groups)
        yield Sample(catalogue.DISK_FULL, float(is_full), role, role=role)
    for name, values in report.gauges.items():
        metric = BY_NAME.get(name)
        if metric is not None and metric.kind is Kind.GAUGE and not metric.is_of_group:
            for label, value in values.items():
                yield Sample(metric, value, label, role=role)


_WRITERS = ("acceptor", "learner")
"""Roles whose groups say by `storage_full` that nothing can be written for want of room."""


# Gauges of groups.


def _number(field: str) -> Reading:
    def read(group: GroupState) -> float | None:
        value = group.get(field)
        return None if value is None else float(value)

    return read


def _master_known(group: GroupState) -> float | None:
    """Only of a voter: one that follows never stands, and so never notices."""
    if not group.get("is_voter", True):
        return None
    return float(bool(group.get("is_serving")) or group.get("master_id") is not None)


def _lease_left(group: GroupState) -> float | None:
    """Only a master has one."""
    return group["lease_ms"] / 1_000 if group.get("is_serving") else None


def _lag(group: GroupState) -> float | None:
    known, applied = group.get("known_through"), group.get("applied_through")
    return None if known is None or applied is None else float(max(known - applied, 0))


def _is_stopped(group: GroupState) -> float:
    return float(bool(group.get("stopped")))


def _newest_checkpoint(group: GroupState) -> float | None:
    checkpoints = group.get("checkpoints")
    return None if checkpoints is None else float(max(checkpoints, default=0))


_GAUGES: dict[str, dict[Metric, Reading]] = {
    "proposer": {
        catalogue.IS_MASTER: _number("is_serving"),
        catalogue.MASTER_KNOWN: _master_known,
        catalogue.LEASE_LEFT: _lease_left,
        catalogue.QUEUED_REQUESTS: _number("queued_requests"),
        catalogue.QUEUED_BYTES: _number("queued_bytes"),
        catalogue.OPEN_INSTANCES: _number("open_instances"),
    },
    "acceptor": {
        catalogue.VOTES_HELD: _number("votes"),
        catalogue.VOTE_FLOOR: _number("floor"),
    },
    "learner": {
        catalogue.APPLIED: _number("applied_through"),
        catalogue.LAG: _lag,
        catalogue.APPLYING_STOPPED: _is_stopped,
        catalogue.SEGMENTS: _number("segments"),
        catalogue.LOG_FLOOR: _number("log_floor"),
        catalogue.SESSIONS: _number("sessions"),
    },
    "checkpointer": {
        catalogue.CHECKPOINT_INSTANCE: _newest_checkpoint,
    },
}


def _gauges_of_groups(
    role: str, groups: Mapping[int, GroupState], is_named: bool
) -> Iterator[Sample]:
    for metric, read in _GAUGES.get(role, {}).items():
        values = {group: value for group, g in groups.items() if (value := read(g)) is not None}
        yield from _of_groups(metric, values, is_named, role)


def _of_groups(
    metric: Metric, values: Mapping[int, float], is_named: bool, role: str
) -> Iterator[Sample]:
    if is_named:
        for group, value in values.items():
            yield Sample(metric, value, group=str(group), role=role)
    elif values:
        aggregate = _AGGREGATE[metric.aggregation](list(values.values()))
        yield Sample(metric, aggregate, group=ALL_GROUPS, role=role)


# Counters.

_OF_CHECKPOINTER = {catalogue.SCRUBBED: _number("scrubbed_files")}
"""What the state of a checkpointer's groups counts, in this life."""
_COUNTERS_OF_GROUPS: dict[str, tuple[Metric, ...]] = {
    "proposer": (
        catalogue.REIGNS,
        catalogue.REIGNS_ENDED,
        catalogue.CANDIDACIES_ENDED,
        catalogue.PREPARES,
        catalogue.COMMANDS,
        catalogue.COMMAND_BYTES,
        catalogue.INSTANCES,
    ),
    "acceptor": (catalogue.PROMISES,),
    "learner": (
        catalogue.APPLYING_STOPS,
        catalogue.CHAINS_DIFFERED,
        catalogue.CAUGHT_UP,
        catalogue.DAMAGED,
        catalogue.REPAIRED,
    ),
    "checkpointer": (
        catalogue.CHECKPOINTS,
        catalogue.CHECKPOINTS_FAILED,
        catalogue.DAMAGED,
    ),
}
"""What each role may count, which is there with 0 before it does."""


def _counters_of_groups(
    role: str, groups: Mapping[int, GroupState], report: RoleReport, is_named: bool
) -> Iterator[Sample]:
    counted = report.counted.by_group
    names = [metric.name for metric in _COUNTERS_OF_GROUPS.get(role, ())]
    for name in dict.fromkeys((*names, *counted)):
        metric = BY_NAME.get(name)
        if metric is None or not metric.is_of_group:
            continue
        values = {**dict.fromkeys(groups, 0.0), **counted.get(name, {})}
        yield from _of_groups(metric, values, is_named, role)
    if role == "checkpointer":
        for metric, read in _OF_CHECKPOINTER.items():
            values = {number: read(group) or 0.0 for number, group in groups.items()}
            yield from _of_groups(metric, values, is_named, role)


def _names_of(reasons: type[RefusalCode] | type[NackReason]) -> tuple[str, ...]:
    return tuple(reason.name.lower() for reason in reasons)


_LABELS: dict[str, dict[Metric, tuple[str, ...]]] = {
    "proposer": {
        catalogue.REFUSED: (*_names_of(RefusalCode), REDIRECTED),
        catalogue.NACKS_RECEIVED: _names_of(NackReason),
        catalogue.RESENT: (ACCEPT, PREPARE),
    },
    "learner": {catalogue.RESENT: (LEARN_REQUEST,)},
    "acceptor": {catalogue.NACKS_SENT: _names_of(NackReason)},
}
"""What each role may count, by the values of the metric's own label."""


def _counters_by_label(role: str, report: RoleReport) -> Iterator[Sample]:
    counted = report.counted.counts
    expected = {
        catalogue.EVENTS_LEFT_OUT.name: (role,),
        **{metric.name: labels for metric, labels in _LABELS.get(role, {}).items()},
    }
    for name in dict.fromkeys((*expected, *counted)):
        metric = BY_NAME.get(name)
        if metric is None or metric.is_of_group:
            continue
        values = {**dict.fromkeys(expected.get(name, ()), 0), **counted.get(name, {})}
        for label, value in values.items():
            yield Sample(metric, float(value), label, role=role)


def _histograms(role: str, report: RoleReport) -> Iterator[Sample]:
    for name, counts in report.counted.histograms.items():
        metric = BY_NAME.get(name)
        if metric is not None and metric.kind is Kind.HISTOGRAM:
            yield Sample(metric, counts, role=role)
