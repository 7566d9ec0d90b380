"""Members' events: what may never be is found, and who led when is told."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from chaos_events import (
    ALARMS,
    MemberReign,
    check_events,
    unexplained,
)
from ray_paxos.core import events
from ray_paxos.core.ballot import Ballot
from ray_paxos.observability.event_kinds import describe, fields_of, kind_of, level_of
from ray_paxos.observability.event_record import EventRecord

IDS = {"m1": 11, "m2": 12, "m3": 13}
NAMES = {member_id: name for name, member_id in IDS.items()}
numbers = itertools.count(1)


def told(member: str, at_ms: int, event: Any, role: str = "proposer") -> EventRecord:
    """What a member's observer makes of an event of the core."""
    return EventRecord(
        sequence=next(numbers),
        at_ms=at_ms,
        cluster="demo",
        member=member,
        role=role,
        group=getattr(event, "group", None),
        kind=kind_of(event),
        level=level_of(type(event)),
        text=describe(event, NAMES),
        fields=fields_of(event),
    )


def started(member: str, at_ms: int, number: int, version: int, group: int = 1) -> EventRecord:
    return told(member, at_ms, events.MasterStarted(group, Ballot(number, IDS[member], 1), version))


def stopped(member: str, at_ms: int, number: int, group: int = 1) -> EventRecord:
    return told(
        member, at_ms, events.MasterStopped(group, Ballot(number, IDS[member], 1), "another leads")
    )


GOOD = [
    started("m1", 1_000, 3, 10),
    stopped("m1", 5_000, 3),
    stopped("m3", 5_500, 4),
    started("m2", 6_000, 5, 40),
    started("m3", 9_000, 6, 41),
    started("m3", 500, 2, 90, group=2),
]


def test_reigns_are_told_with_their_ends() -> None:
    found = check_events(GOOD)
    assert not found.problems
    assert not found.alarms
    assert found.events == len(GOOD)
    assert found.reigns == [
        MemberReign(1, "m1", 1_000, 5_000, (3, 11, 1), 10),
        MemberReign(1, "m2", 6_000, 9_000, (5, 12, 1), 40),
        MemberReign(1, "m3", 9_000, None, (6, 13, 1), 41),
        MemberReign(2, "m3", 500, None, (2, 13, 1), 90),
    ]


def test_reigns_go_by_their_ballots_in_whatever_order_members_are_read() -> None:
    found = check_events(GOOD[::-1])
    assert not found.problems
    assert found.reigns == check_events(GOOD).reigns


def test_an_attempt_that_came_to_nothing_ends_no_reign() -> None:
    found = check_events([started("m1", 1_000, 3, 10), stopped("m1", 2_000, 4)])
    assert found.reigns[0].to_ms is None


def test_the_same_ballot_in_another_group_is_another_ballot() -> None:
    records = [started("m1", 1_000, 3, 10), started("m1", 1_000, 3, 10, group=2)]
    found = check_events([*records, stopped("m1", 2_000, 3, group=2)])
    assert not found.problems
    assert [reign.to_ms for reign in found.reigns] == [None, 2_000]


def test_two_that_serve_at_one_ballot_are_found() -> None:
    again = started("m1", 3_000, 3, 10)
    found = check_events([*GOOD, again])
    assert found.problems == [
        "several masters at one ballot: 1 (m1 and m1 in group 1 at 3/11/1)",
    ]
    assert len(found.reigns) == 4


@pytest.mark.parametrize("version", [40, 39, 10])
def test_a_version_that_does_not_rise_with_its_ballot_is_found(version: int) -> None:
    found = check_events([*GOOD[:4], started("m3", 9_000, 6, version), started("m1", 9_500, 7, 50)])
    assert found.problems == [
        "versions that do not rise with their ballots: 1 "
        f"(group 1: m3 at 6/13/1 has {version}, and m2 at 5/12/1 has 40)",
    ]


def test_a_version_is_compared_with_all_of_lower_ballots() -> None:
    records = [started("m1", 1, 3, 40), started("m2", 2, 4, 10), started("m3", 3, 5, 20)]
    assert "versions that do not rise with their ballots: 2" in check_events(records).problems[0]


def test_clocks_of_nodes_that_differ_are_no_problem() -> None:
    records = [started("m1", 9_000, 3, 10), stopped("m1", 8_000, 3), started("m2", 2_000, 5, 40)]
    records += [started("m1", 7_000, 6, 41), started("m3", 3_000, 7, 42)]
    found = check_events(records)
    assert not found.problems
    assert [(r.from_ms, r.to_ms) for r in found.reigns] == [
        (9_000, 9_000),
        (2_000, 7_000),
        (7_000, 7_000),
        (3_000, None),
    ]


def alarms() -> list[EventRecord]:
    return [
        told("m2", 40, events.StorageFailed("no room"), "acceptor"),
        told("m1", 10, events.InvariantBroken(1, "two values"), "learner"),
        told("m1", 20, events.ApplyingStopped(1, "two values"), "learner"),
        told("m3", 30, events.ChunkDiffered(1, 5, 11, b"a", 12, b"b"), "learner"),
    ]


def test_alarms_are_left_to_the_caller_the_earliest_first() -> None:
    found = check_events([*alarms(), *GOOD])
    assert not found.problems
    assert [alarm.kind for alarm in found.alarms] == [
        "InvariantBroken",
        "ApplyingStopped",
        "ChunkDiffered",
        "StorageFailed",
    ]
    assert set(ALARMS) == {alarm.kind for alarm in found.alarms}


def test_alarms_that_a_fault_explains_are_no_problem() -> None:
    found = check_events(alarms())
    assert not unexplained(found.alarms, lambda alarm: True)
    assert unexplained(found.alarms, lambda alarm: alarm.member != "m2") == [
        "alarms without a fault that explains them: 1 "
        "(m2's acceptor a write to the disk failed, and the role stopped: no room)"
    ]
