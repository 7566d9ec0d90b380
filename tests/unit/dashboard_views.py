"""Hand-made views of clusters, for the tests of the page and for looking at it."""

from __future__ import annotations

import math

from ray_paxos.core.quorum import majority
from ray_paxos.observability.cluster_view import (
    ClusterView,
    GroupView,
    Health,
    MemberView,
    PositionView,
    RoleView,
    SpanView,
)
from ray_paxos.observability.event_record import EventRecord

AT_MS = 1_764_604_800_000
SCRIPT = '<script>document.title="taken"</script>'
LOSES = "Nothing acknowledged is lost; one more failure stops this group."


def view_of(
    members: int = 3,
    groups: int = 3,
    *,
    down: tuple[int, ...] = (),
    voters: int = 3,
    at_ms: int = AT_MS,
    alarm: str = "",
) -> ClusterView:
    """A cluster of so many members and groups.

    Args:
        members: How many.
        groups: Likewise.
        down: Positions of members that are down for 4 minutes.
        voters: Of each group.
        at_ms: When.
        alarm: Of the first member.
    """
    names = [f"m{number}" for number in range(1, members + 1)]
    dead = {names[position] for position in down}
    made = [_group(number, names, dead, voters, at_ms) for number in range(groups)]
    alarms = (f"m1: {alarm}",) if alarm else ()
    return ClusterView(
        at_ms=at_ms,
        cluster="demo",
        cluster_id="0123456789abcdef" * 2,
        members=tuple(_member(p, n, made, dead, at_ms, alarm) for p, n in enumerate(names)),
        groups=tuple(made),
        commands_per_s=sum(group.commands_per_s or 0.0 for group in made),
        p50_ms=3.4,
        p99_ms=17.2,
        history=tuple(_span(at_ms - 5_000 * age) for age in reversed(range(180))),
        events=tuple(_event(number, names, at_ms) for number in range(60)),
        alarms=(*(f"{name}: no role of it answers" for name in sorted(dead)), *alarms),
        hops_p99_ms={"queue": 1.2, "accept": 9.3, "fsync": 4.8, "chosen": 3.1, "apply": 0.6},
    )


def _group(number: int, names: list[str], dead: set[str], voters: int, at_ms: int) -> GroupView:
    mine = [names[(number + step) % len(names)] for step in range(min(voters, len(names)))]
    up = [name for name in mine if name not in dead]
    lost = [name for name in mine if name in dead]
    needed = majority(len(mine))
    health = Health.OK
    if len(up) < needed:
        health = Health.NO_MAJORITY
    elif len(up) < len(mine):
        health = Health.AT_RISK if len(up) == needed else Health.DEGRADED
    applied = 48_000 + 37 * number
    return GroupView(
        group=number,
        master=up[0] if len(up) >= needed else None,
        voters=tuple(sorted(mine)),
        followers=(),
        voters_up=len(up),
        majority=needed,
        health=health,
        risk="" if health is Health.OK else f"{len(lost)} of {len(mine)} voters down. {LOSES}",
        applied=applied,
        lag=0 if len(up) == len(mine) else 3,
        commands_per_s=120.0 + number % 7 if number else 0.0,
        positions={
            name: PositionView(True, True, applied, applied - 40, 0, "")
            if name in up
            else PositionView(True, False, None, None, None, "")
            for name in sorted(mine)
        },
        since_ms=at_ms - (240_000 if health is not Health.OK else 3_600_000),
        voters_down=tuple(sorted(lost)),
    )


def _member(
    position: int, name: str, groups: list[GroupView], dead: set[str], at_ms: int, alarm: str
) -> MemberView:
    is_up = name not in dead
    role = RoleView("serving", "") if is_up else RoleView("gone", "no such actor")
    alarms = (alarm,) if alarm and not position else ()
    return MemberView(
        name=name,
        member_id=position + 1,
        node_id=f"{position:02x}" * 28,
        node_address=f"10.0.0.{position + 1}",
        is_up=is_up,
        down_since_ms=None if is_up else at_ms - 240_000,
        roles={text: role for text in ("proposer", "acceptor", "learner", "checkpointer")},
        leads=tuple(group.group for group in groups if group.master == name),
        votes_in=tuple(group.group for group in groups if name in group.voters),
        follows=(),
        commands_per_s=122.0 if is_up else None,
        fsync_p99_ms=4.8 if is_up else None,
        lag=0 if is_up else None,
        disk_bytes=812_000_000 if is_up else None,
        disk_free_bytes=91_000_000_000 if is_up else None,
        alarms=alarms if is_up else ("it is down: no such actor", *alarms),
    )


def _span(end_ms: int) -> SpanView:
    wave = math.sin(end_ms / 90_000)
    return SpanView(end_ms, 5.0, 8_000 + 1_500 * wave, 3.0 + wave / 2, 15.0 + 6 * wave)


def _event(number: int, names: list[str], at_ms: int) -> EventRecord:
    name = names[number % len(names)]
    level, kind, text = (
        ("INFO", "MasterStarted", f"{name} leads the group since instance 480"),
        ("WARNING", "AcceptRejected", f"{name} refused a ballot: another one is promised"),
        ("DEBUG", "CaughtUp", "took 12 instances from m1"),
    )[number % 3]
    return EventRecord(
        sequence=number + 1,
        at_ms=at_ms - 7_000 * number,
        cluster="demo",
        member=name,
        role="proposer",
        group=number % 3,
        kind=kind,
        level=level,
        text=text,
        fields={},
    )
