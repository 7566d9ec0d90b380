"""Rows of the Grafana dashboard about who serves, how much, and how fast."""

from __future__ import annotations

from ray_paxos.observability import catalogue
from ray_paxos.observability.alerting import AlertLimits
from ray_paxos.observability.grafana_queries import (
    HALF,
    INTERVAL,
    NEARLY_ALL,
    SERIES_MAX,
    Panel,
    Query,
    by_member,
    half_and_nearly_all,
    most,
    number,
    quantile,
    rate,
    rise,
    selected,
    value,
)

GONE_WINDOW_S = AlertLimits().gone_window_s
"""Roles that told something within it are missed, as the alerts miss them."""


def overview() -> tuple[Panel, ...]:
    """Whether all is well, at a glance."""
    serving, masters = value(catalogue.ROLE_SERVING), value(catalogue.IS_MASTER)
    was_there = f"max_over_time({selected(catalogue.ROLE_SERVING)}[{GONE_WINDOW_S}s])"
    gone = f"(max by (member, role) ({was_there}) unless {serving})"
    alerts = 'ALERTS{component="ray_paxos",alertstate="firing",cluster="$cluster"}'
    return (
        number(
            "Members serving",
            "Members all of whose roles serve.",
            f"count(min by (member) ({serving}) == 1) or vector(0)",
            width=3,
        ),
        number(
            "Roles not serving",
            "That do not serve, or tell nothing and did within the last "
            f"{GONE_WINDOW_S // 60} minutes; as the alerts find them.",
            f"count({serving} == 0 or {gone}) or vector(0)",
            bad_above=0,
            width=3,
        ),
        number(
            "Groups with a master",
            "Of the chosen groups.",
            f"sum({masters}) or vector(0)",
            width=3,
        ),
        number(
            "Groups without a master",
            "The most that one of the chosen members sees.",
            f"max({value(catalogue.GROUPS_WITHOUT_MASTER)}) or vector(0)",
            bad_above=0,
            width=3,
        ),
        number(
            "Alerts",
            "That fire now; by the rules of `ray-paxos alerts`.",
            f"count({alerts}) or vector(0)",
            bad_above=0,
        ),
        number(
            "Commands, in all",
            "Answered, by all masters together.",
            f"sum(rate({selected(catalogue.COMMANDS)}[{INTERVAL}])) or vector(0)",
            "ops",
        ),
        number(
            "Latency, p99",
            "From when a master took a request in until it was answered.",
            quantile(NEARLY_ALL, catalogue.COMMAND_SECONDS),
            "s",
        ),
        Panel(
            "Groups led",
            "By each member.",
            (Query(f"sum by (member) ({masters})", "{{member}}"),),
        ),
        Panel(
            "Roles",
            "Whether each serves; nothing where it tells nothing.",
            (Query(serving, "{{member}} {{role}}"),),
            kind="state-timeline",
        ),
        Panel(
            "Alerts that fire",
            "By the rules of `ray-paxos alerts`; empty too where Prometheus was not given them.",
            (Query(f"count by (alertname, member, group, severity) ({alerts})", ""),),
            kind="table",
        ),
        Panel(
            "What has stopped",
            "Groups that a role does not serve, and those in which a learner applies no more.",
            (
                Query(value(catalogue.GROUPS_STOPPED), "{{member}} {{role}}, groups stopped"),
                Query(
                    f"{value(catalogue.APPLYING_STOPPED)} > 0",
                    "{{member}} group {{group}}, applying stopped",
                ),
            ),
            width=12,
        ),
        Panel(
            "Who knows no master",
            "Members that know nobody who leads a group; one alone is cut off from the others.",
            (
                Query(
                    f"count by (group) ({value(catalogue.MASTER_KNOWN)} == 0)",
                    "members, of group {{group}}",
                ),
                Query(value(catalogue.GROUPS_WITHOUT_MASTER), "groups, of {{member}}"),
            ),
            width=12,
        ),
    )


def throughput() -> tuple[Panel, ...]:
    """What is done, and what waits."""
    of_groups = most(rate(catalogue.COMMANDS, "group"))
    return (
        Panel("Commands", "By master.", (by_member(catalogue.COMMANDS),), "ops"),
        Panel(
            "Commands by group",
            f"The {SERIES_MAX} groups with the most.",
            (Query(of_groups, "group {{group}}"),),
            "ops",
        ),
        Panel("Bytes", "Of the commands' values.", (by_member(catalogue.COMMAND_BYTES),), "Bps"),
        Panel("Instances", "Chosen, by master.", (by_member(catalogue.INSTANCES),), "ops"),
        Panel(
            "Commands in one instance",
            "What masters put together.",
            half_and_nearly_all(catalogue.BATCH_COMMANDS),
        ),
        Panel(
            "In flight",
            "Requests not answered yet, and instances not chosen yet, at each master.",
            (
                Query(
                    f"sum by (member) ({value(catalogue.QUEUED_REQUESTS)})", "{{member}} requests"
                ),
                Query(
                    f"sum by (member) ({value(catalogue.OPEN_INSTANCES)})", "{{member}} instances"
                ),
            ),
        ),
        Panel(
            "Bytes in flight",
            "Of requests not answered yet; above proposer.intake_bytes_max they are refused.",
            (Query(f"sum by (member) ({value(catalogue.QUEUED_BYTES)})", "{{member}}"),),
            "bytes",
            width=12,
        ),
        Panel(
            "Sessions",
            "Open ones, by group.",
            (
                Query(
                    most(f"max by (group) ({value(catalogue.SESSIONS)})"),
                    "group {{group}}",
                ),
            ),
            width=12,
        ),
    )


def latency() -> tuple[Panel, ...]:
    """Where a command's time goes."""
    hops = (
        (catalogue.COMMAND_SECONDS, "all of it"),
        (catalogue.QUEUE_SECONDS, "queue: until its instance is opened"),
        (catalogue.ACCEPT_SECONDS, "accept: until a majority has accepted"),
        (catalogue.CHOSEN_SECONDS, "chosen: until the results are back"),
        (catalogue.APPLY_SECONDS, "apply: a learner's step, for each of its instances"),
        (catalogue.FSYNC_SECONDS, "fsync: one append of an acceptor"),
    )
    by_hop = tuple(
        Panel(
            f"Hops, p{share * 100:g}",
            "Where a command's time goes, at its master.",
            tuple(Query(quantile(share, metric), text) for metric, text in hops),
            "s",
            width=12,
        )
        for share in (HALF, NEARLY_ALL)
    )
    members = (
        ("All of it, by master", catalogue.COMMAND_SECONDS, "From taken in to answered."),
        ("Accept, by master", catalogue.ACCEPT_SECONDS, "Waiting for a majority's disks."),
        (
            "Apply, by member",
            catalogue.APPLY_SECONDS,
            "A learner's step, shared out over its instances.",
        ),
    )
    return (
        *by_hop,
        *(
            Panel(title, description, half_and_nearly_all(metric), "s")
            for title, metric, description in members
        ),
    )


def masters() -> tuple[Panel, ...]:
    """How often they change, and how sure they are."""
    changes = (
        (catalogue.REIGNS, "began to serve"),
        (catalogue.REIGNS_ENDED, "ended"),
        (catalogue.PREPARES, "prepared"),
        (catalogue.CANDIDACIES_ENDED, "gave up"),
    )
    return (
        Panel(
            "Reigns",
            "How often members began to lead, tried to, and stopped, in each interval.",
            tuple(Query(rise(metric, "member"), f"{{{{member}}}} {t}") for metric, t in changes),
            width=6,
        ),
        Panel(
            "Lease left",
            "The shortest of each master's; 0 or near it where a master is not confirmed.",
            (Query(f"min by (member) ({value(catalogue.LEASE_LEFT)})", "{{member}}"),),
            "s",
            width=6,
        ),
        Panel(
            "Prepare",
            "From when a ballot was prepared until a majority had promised it.",
            half_and_nearly_all(catalogue.PREPARE_SECONDS),
            "s",
            width=6,
        ),
        Panel(
            "Promises",
            "Given by acceptors, in each interval.",
            (Query(rise(catalogue.PROMISES, "member"), "{{member}}"),),
            width=6,
        ),
    )
