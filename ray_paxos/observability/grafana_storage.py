"""Rows of the Grafana dashboard about disks, logs, checkpoints, events and refusals."""

from __future__ import annotations

from ray_paxos.observability import catalogue
from ray_paxos.observability.grafana_queries import (
    SERIES_MAX,
    Panel,
    Query,
    by_member,
    half_and_nearly_all,
    most,
    rate,
    rise,
    value,
)


def fsync() -> tuple[Panel, ...]:
    """How long disks take."""
    return (
        Panel(
            "Appends of the acceptor",
            "Until they are durable.",
            half_and_nearly_all(catalogue.FSYNC_SECONDS),
            "s",
        ),
        Panel(
            "Records in one append",
            "Votes and promises that one fsync makes durable.",
            half_and_nearly_all(catalogue.FSYNC_RECORDS),
        ),
        Panel(
            "Segments of the learner",
            "Until one is written and durable.",
            half_and_nearly_all(catalogue.SEAL_SECONDS),
            "s",
        ),
    )


def lag() -> tuple[Panel, ...]:
    """Who has not got what the others have."""
    applied = value(catalogue.APPLIED)
    behind = f"max by (group) ({applied}) - on (group) group_right () {applied}"
    return (
        Panel(
            "Behind the furthest member",
            "Instances, by member and group; of members that name their groups.",
            (Query(most(f"({behind}) > 0"), "{{member}} group {{group}}"),),
            width=12,
        ),
        Panel(
            "Known to be chosen and not applied",
            "Instances, as each member knows itself: one that is cut off knows of none.",
            (Query(most(value(catalogue.LAG)), "{{member}} group {{group}}"),),
            width=12,
        ),
        Panel(
            "Applied",
            "The last instance.",
            (Query(most(applied), "{{member}} group {{group}}"),),
        ),
        Panel(
            "Taken from other members",
            "Instances that a member had missed.",
            (by_member(catalogue.CAUGHT_UP),),
            "ops",
        ),
        Panel(
            "Votes held",
            "Above the vote floor, by each acceptor: they stay until a majority has them durably.",
            (Query(f"sum by (member) ({value(catalogue.VOTES_HELD)})", "{{member}}"),),
        ),
    )


def disk() -> tuple[Panel, ...]:
    """What is used and what is left."""
    return (
        Panel(
            "Room left",
            "On each member's disk.",
            (Query(value(catalogue.DISK_FREE_BYTES), "{{member}}"),),
            "bytes",
        ),
        Panel(
            "Files",
            "Of each role.",
            (Query(value(catalogue.DISK_BYTES), "{{member}} {{role}}"),),
            "bytes",
        ),
        Panel(
            "Full",
            "1 while a role cannot write for want of room.",
            (Query(value(catalogue.DISK_FULL), "{{member}} {{role}}"),),
        ),
        Panel(
            "Segments",
            "Of the chosen log, all groups together.",
            (Query(f"sum by (member) ({value(catalogue.SEGMENTS)})", "{{member}}"),),
        ),
        Panel(
            "Beginning of the log",
            "The lowest instance in it; what is below is in checkpoints.",
            (Query(most(value(catalogue.LOG_FLOOR)), "{{member}} group {{group}}"),),
        ),
        Panel(
            "Vote floor",
            "Below it an acceptor holds no votes.",
            (Query(most(value(catalogue.VOTE_FLOOR)), "{{member}} group {{group}}"),),
        ),
    )


def checkpoints() -> tuple[Panel, ...]:
    """Whether they come about, and what was found to be wrong."""
    age = f"{value(catalogue.APPLIED)} - {value(catalogue.CHECKPOINT_INSTANCE)}"
    bad = (
        (catalogue.DAMAGED, "damaged files"),
        (catalogue.REPAIRED, "mended segments"),
        (catalogue.CHAINS_DIFFERED, "checksums that differ"),
        (catalogue.APPLYING_STOPS, "stops of applying"),
    )
    return (
        Panel(
            "Checkpoints",
            "Published, and failed, in each interval.",
            (
                Query(rise(catalogue.CHECKPOINTS, "member"), "{{member}} published"),
                Query(rise(catalogue.CHECKPOINTS_FAILED, "member"), "{{member}} failed"),
            ),
        ),
        Panel(
            "Age of the newest checkpoint",
            "In instances: so many a member applies anew when it starts.",
            (Query(most(f"({age})"), "{{member}} group {{group}}"),),
        ),
        Panel(
            "Damage and checksums",
            "Found in each interval; none of it is normal.",
            tuple(Query(rise(metric, "member"), f"{{{{member}}}} {text}") for metric, text in bad),
        ),
        Panel(
            "Files read back",
            "By the scrubber.",
            (by_member(catalogue.SCRUBBED),),
            "ops",
        ),
    )


def events() -> tuple[Panel, ...]:
    """What happens, by kind; what comes with every instance is in other rows."""
    return (
        Panel(
            "Events",
            f"In each interval, the {SERIES_MAX} kinds with the most.",
            (Query(most(rise(catalogue.EVENTS, "event")), "{{event}}"),),
            width=12,
        ),
        Panel(
            "Left out of the log",
            "Events that came too fast; they are counted all the same.",
            (Query(rise(catalogue.EVENTS_LEFT_OUT, "member, role"), "{{member}} {{role}}"),),
            width=12,
        ),
    )


def refused() -> tuple[Panel, ...]:
    """What was refused, by reason, and what was not answered in time."""
    nacked = "of prepares, accepts and heartbeats."
    kinds = (
        (catalogue.REFUSED, "Requests", "Not taken by proposers; clients ask again or elsewhere."),
        (catalogue.NACKS_RECEIVED, "Nacks received", f"By proposers, {nacked}"),
        (catalogue.NACKS_SENT, "Nacks sent", f"By acceptors, {nacked}"),
        (catalogue.RESENT, "Messages sent again", "Nobody had answered them in time."),
        (catalogue.MESSAGES_RECEIVED, "Messages", "Taken in by all roles of the member."),
    )
    return tuple(
        Panel(
            title,
            description,
            (
                Query(
                    rate(metric, f"member, {metric.label}"),
                    f"{{{{member}}}} {{{{{metric.label}}}}}",
                ),
            ),
            "ops",
            width=12,
        )
        for metric, title, description in kinds
    )
