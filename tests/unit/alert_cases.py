"""What Prometheus sees in one case after another, and which alerts fire then: for `promtool`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

ROLES = ("proposer", "acceptor", "learner", "checkpointer")
MEMBERS = ("m1", "m2", "m3")
MINUTES = 40
Series = dict[str, str]


def selector(metric: str, member: str, **labels: str) -> str:
    """A series as Ray exports it."""
    every = {"cluster": "demo", "member": member, **labels, "WorkerId": f"w-{member}"}
    return f"ray_{metric}{{{','.join(f'{k}={v!r}' for k, v in every.items())}}}".replace("'", '"')


def always(value: float, minutes: int = MINUTES) -> str:
    return f"{value:g}x{4 * minutes}"


def then(before: float, minutes: int, after: float | None) -> str:
    """One value for some minutes, then another; None where the scrape finds it no more."""
    rest = 4 * (MINUTES - minutes)
    return f"{always(before, minutes)} {'stale' if after is None else f'{after:g}x{rest}'}"


def healthy(groups: tuple[str, ...] = ("1", "2")) -> Series:
    """Three members that have nothing to complain of."""
    series: Series = {}
    for member in MEMBERS:
        for role in ROLES:
            series[selector("paxos_role_serving", member, role=role)] = always(1)
            series[selector("paxos_groups_stopped", member, role=role)] = always(0)
        series[selector("paxos_groups_without_master", member)] = always(0)
        series[selector("paxos_disk_free_bytes", member)] = always(1e12)
        series[selector("paxos_disk_full", member, role="acceptor")] = always(0)
        for group in groups:
            values = {
                "paxos_master_known": 1,
                "paxos_applied_instance": 50_000,
                "paxos_lag_instances": 3,
                "paxos_applying_stopped": 0,
                "paxos_chain_differences_total": 0,
                "paxos_damaged_files_total": 0,
                "paxos_checkpoints_failed_total": 0,
                "paxos_reigns_total": 1,
            }
            for name, value in values.items():
                series[selector(name, member, group=group)] = always(value)
        for bound in (0.001, 0.1, 1.0, "+Inf"):
            series[selector("paxos_fsync_seconds_bucket", member, le=str(bound))] = (
                f"0+10x{4 * MINUTES}"
            )
    return series


def of_group(metric: str, values: Mapping[str, str], group: str = "1") -> Series:
    return {selector(metric, member, group=group): value for member, value in values.items()}


def gone(series: Series, member: str, minutes: int) -> Series:
    """The member exports nothing from then on."""
    return {
        key: f"{value.split('x')[0]}x{4 * minutes} stale" if f'"{member}"' in key else value
        for key, value in series.items()
    }


class Case(NamedTuple):
    """What Prometheus sees beside what is healthy, and which alerts fire when."""

    name: str
    changes: Series
    at: str
    fires: list[str]
    base: Series = healthy()


def label_set(alert: str, **labels: str) -> str:
    every = {"alertname": alert, "cluster": "demo", **labels}
    return "{" + ", ".join(f'{key}="{every[key]}"' for key in sorted(every)) + "}"


UNNAMED = {key.replace('group="1"', 'group="all"'): value for key, value in healthy(("1",)).items()}


def leaderless(*members: str) -> Series:
    return {selector("paxos_groups_without_master", member): always(7) for member in members}


CASES = [
    Case("healthy", {}, "35m", []),
    Case("healthy, with groups together", {}, "35m", [], UNNAMED),
    Case(
        "no master of one group",
        of_group("paxos_master_known", {member: then(1, 5, 0) for member in MEMBERS}),
        "6m",
        [label_set("PaxosGroupWithoutMaster", group="1")],
    ),
    Case(
        "not at once",
        of_group("paxos_master_known", {member: then(1, 5, 0) for member in MEMBERS}),
        "5m15s",
        [],
    ),
    Case("one member is cut off", of_group("paxos_master_known", {"m1": always(0)}), "9m", []),
    Case(
        "two of three see no master",
        of_group("paxos_master_known", {"m1": always(0), "m3": always(0)}),
        "9m",
        [label_set("PaxosGroupWithoutMaster", group="1")],
    ),
    Case(
        "one member is left, and sees no master",
        of_group("paxos_master_known", {"m3": then(1, 5, 0)}),
        "7m",
        [
            label_set("PaxosGroupWithoutMaster", group="1"),
            label_set("PaxosMemberGone", member="m1"),
            label_set("PaxosMemberGone", member="m2"),
        ],
        gone(gone(healthy(), "m1", 5), "m2", 5),
    ),
    Case("groups together, one is cut off", leaderless("m1"), "9m", [], UNNAMED),
    Case(
        "groups together, without a master",
        leaderless("m1", "m2"),
        "9m",
        [label_set("PaxosGroupsWithoutMaster")],
        UNNAMED,
    ),
    Case(
        "groups together, the last member sees no master",
        leaderless("m3"),
        "9m",
        [
            label_set("PaxosGroupsWithoutMaster"),
            label_set("PaxosMemberGone", member="m1"),
            label_set("PaxosMemberGone", member="m2"),
        ],
        gone(gone(UNNAMED, "m1", 5), "m2", 5),
    ),
    Case("groups named say it by themselves", leaderless("m1", "m2"), "9m", []),
    Case(
        "elections",
        of_group(
            "paxos_reigns_total", {"m1": "0x20 0+1x139", "m2": "0x20 0+1x139", "m3": always(0)}
        ),
        "7m",
        [label_set("PaxosElectionsTooOften", group="1")],
    ),
    Case(
        "an election now and then",
        of_group("paxos_reigns_total", {"m1": then(1, 3, 2), "m2": then(1, 4, 3)}),
        "7m",
        [],
    ),
    Case(
        "groups together, one member takes over all that another one led",
        of_group("paxos_reigns_total", {"m2": "1x12 101x147"}, "all"),
        "6m",
        [],
        UNNAMED,
    ),
    Case(
        "a member is gone",
        {},
        "9m",
        [label_set("PaxosMemberGone", member="m2")],
        gone(healthy(), "m2", 5),
    ),
    Case(
        "a process that was started again is there",
        {selector("paxos_role_serving", "m2", role=role): then(1, 5, None) for role in ROLES}
        | {
            selector("paxos_role_serving", "m2", role=role, Pid="2"): f"_x22 1x{4 * MINUTES}"
            for role in ROLES
        },
        "9m",
        [],
    ),
    Case(
        "a role is gone",
        {selector("paxos_role_serving", "m2", role="learner"): then(1, 5, None)},
        "9m",
        [label_set("PaxosRoleGone", member="m2", role="learner")],
    ),
    Case(
        "a role does not serve",
        {selector("paxos_role_serving", "m2", role="acceptor"): then(1, 5, 0)},
        "9m",
        [label_set("PaxosRoleNotServing", member="m2", role="acceptor")],
    ),
    Case(
        "all is gone",
        {},
        "9m",
        [label_set("PaxosClusterGone")],
        gone(gone(gone(healthy(), "m1", 5), "m2", 5), "m3", 5),
    ),
    Case(
        "a member that was removed is forgotten after an hour",
        {
            key: value.replace(f"x{4 * MINUTES}", "x400")
            for key, value in healthy().items()
            if '"m2"' not in key
        },
        "70m",
        [],
        gone(healthy(), "m2", 5),
    ),
    Case(
        "groups are stopped",
        {selector("paxos_groups_stopped", "m1", role="acceptor"): always(2)},
        "1m",
        [label_set("PaxosGroupStopped", member="m1", role="acceptor")],
    ),
    Case(
        "one member does not know how far the others are",
        of_group("paxos_applied_instance", {"m1": always(39_999)}),
        "9m",
        [label_set("PaxosLag", member="m1", group="1")],
    ),
    Case(
        "a member a little behind",
        of_group("paxos_applied_instance", {"m1": always(41_000)}),
        "9m",
        [],
    ),
    Case(
        "groups together, one member is behind",
        of_group("paxos_lag_instances", {"m2": always(10_001)}, "all"),
        "9m",
        [label_set("PaxosLag", member="m2", group="all")],
        UNNAMED,
    ),
    Case(
        "groups together say nothing by their furthest instance",
        of_group("paxos_applied_instance", {"m2": always(7)}, "all"),
        "9m",
        [],
        UNNAMED,
    ),
    Case(
        "applying stopped",
        of_group("paxos_applying_stopped", {"m2": then(0, 3, 1)}),
        "4m",
        [label_set("PaxosApplyingStopped", member="m2", group="1")],
    ),
    Case(
        "checksums differ",
        of_group("paxos_chain_differences_total", {"m2": then(0, 3, 1)}),
        "4m",
        [label_set("PaxosChecksumsDiffer", member="m2", group="1")],
    ),
    Case(
        "checksums differed long ago",
        of_group("paxos_chain_differences_total", {"m2": then(0, 3, 1)}),
        "30m",
        [],
    ),
    Case(
        "checksums differ at a member that has just come",
        {selector("paxos_chain_differences_total", "m4", group="1"): f"_x20 1x{4 * MINUTES}"},
        "6m",
        [label_set("PaxosChecksumsDiffer", member="m4", group="1")],
    ),
    Case(
        "an invariant is broken",
        {selector("paxos_events_total", "m1", event="InvariantBroken"): f"_x20 1x{4 * MINUTES}"},
        "6m",
        [label_set("PaxosInvariantBroken", member="m1")],
    ),
    Case(
        "other events",
        {selector("paxos_events_total", "m1", event="MasterStarted"): f"_x20 1x{4 * MINUTES}"},
        "6m",
        [],
    ),
    Case(
        "damage is found",
        of_group("paxos_damaged_files_total", {"m1": then(2, 3, 3)}),
        "4m",
        [label_set("PaxosDamageFound", member="m1", group="1")],
    ),
    Case(
        "checkpoints fail",
        of_group("paxos_checkpoints_failed_total", {"m1": f"0x12 0+1x{4 * MINUTES}"}),
        "5m",
        [label_set("PaxosCheckpointsFail", member="m1", group="1")],
    ),
    Case(
        "one checkpoint failed",
        of_group("paxos_checkpoints_failed_total", {"m1": then(0, 3, 1)}),
        "5m",
        [],
    ),
    Case(
        "a disk is full",
        {selector("paxos_disk_full", "m1", role="acceptor"): then(0, 3, 1)},
        "4m",
        [label_set("PaxosDiskFull", member="m1", role="acceptor")],
    ),
    Case(
        "a disk is nearly full",
        {selector("paxos_disk_free_bytes", "m1"): always(4e9)},
        "4m",
        [label_set("PaxosDiskNearlyFull", member="m1")],
    ),
    Case(
        "a disk will be full within hours",
        {selector("paxos_disk_free_bytes", "m1"): "1000000000000-2000000000x160"},
        "35m",
        [label_set("PaxosDiskNearlyFull", member="m1")],
    ),
    Case(
        "nobody can tell after some minutes",
        {selector("paxos_disk_free_bytes", "m1"): "1000000000000-2000000000x160"},
        "9m",
        [],
    ),
    Case(
        "fsyncs are slow",
        {
            selector("paxos_fsync_seconds_bucket", "m1", le=bound): value
            for bound, value in (("0.001", "0+1x160"), ("0.1", "0+1x160"))
        },
        "12m",
        [label_set("PaxosSlowFsync", member="m1")],
    ),
]
