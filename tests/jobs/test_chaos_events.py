"""Members' events: what may never be is found, and who led when is told."""

from __future__ import annotations

import itertools
import logging
from dataclasses import replace
from typing import Any

import pytest

from chaos_events import MemberReign, check_events, event_problems
from chaos_gaps import SECOND_NS, Disturbance
from chaos_plan import FaultKind
from ray_paxos.core import events
from ray_paxos.core.ballot import Ballot
from ray_paxos.observability.event_kinds import KINDS, describe, fields_of, kind_of, level_of
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
    found = check_events(GOOD, 0)
    assert not found.problems
    assert not found.errors
    assert found.events == len(GOOD)
    assert found.reigns == [
        MemberReign(1, "m1", 1_000, 5_000, (3, 11, 1), 10),
        MemberReign(1, "m2", 6_000, 9_000, (5, 12, 1), 40),
        MemberReign(1, "m3", 9_000, None, (6, 13, 1), 41),
        MemberReign(2, "m3", 500, None, (2, 13, 1), 90),
    ]


def test_reigns_go_by_their_ballots_in_whatever_order_members_are_read() -> None:
    found = check_events(GOOD[::-1], 0)
    assert not found.problems
    assert found.reigns == check_events(GOOD, 0).reigns


def test_an_attempt_that_came_to_nothing_ends_no_reign() -> None:
    found = check_events([started("m1", 1_000, 3, 10), stopped("m1", 2_000, 4)], 0)
    assert found.reigns[0].to_ms is None


def test_the_same_ballot_in_another_group_is_another_ballot() -> None:
    records = [started("m1", 1_000, 3, 10), started("m1", 1_000, 3, 10, group=2)]
    found = check_events([*records, stopped("m1", 2_000, 3, group=2)], 0)
    assert not found.problems
    assert [reign.to_ms for reign in found.reigns] == [None, 2_000]


def test_two_that_serve_at_one_ballot_are_found() -> None:
    again = started("m1", 3_000, 3, 10)
    found = check_events([*GOOD, again], 0)
    assert found.problems == [
        "several masters at one ballot: 1 (m1 and m1 in group 1 at 3/11/1)",
    ]
    assert len(found.reigns) == 4


@pytest.mark.parametrize("version", [40, 39, 10])
def test_a_version_that_does_not_rise_with_its_ballot_is_found(version: int) -> None:
    found = check_events(
        [*GOOD[:4], started("m3", 9_000, 6, version), started("m1", 9_500, 7, 50)], 0
    )
    assert found.problems == [
        "versions that do not rise with their ballots: 1 "
        f"(group 1: m3 at 6/13/1 has {version}, and m2 at 5/12/1 has 40)",
    ]


def test_a_version_is_compared_with_all_of_lower_ballots() -> None:
    records = [started("m1", 1, 3, 40), started("m2", 2, 4, 10), started("m3", 3, 5, 20)]
    assert "versions that do not rise with their ballots: 2" in check_events(records, 0).problems[0]


def test_clocks_of_nodes_that_differ_are_no_problem() -> None:
    records = [started("m1", 9_000, 3, 10), stopped("m1", 8_000, 3), started("m2", 2_000, 5, 40)]
    records += [started("m1", 7_000, 6, 41), started("m3", 3_000, 7, 42)]
    found = check_events(records, 0)
    assert not found.problems
    assert [(r.from_ms, r.to_ms) for r in found.reigns] == [
        (9_000, 9_000),
        (2_000, 7_000),
        (7_000, 7_000),
        (3_000, None),
    ]


def errors() -> list[EventRecord]:
    return [
        told("m2", 40, events.StorageFailed("no room"), "acceptor"),
        told("m1", 10, events.InvariantBroken(1, "two values"), "learner"),
        told("m1", 20, events.ApplyingStopped(1, "two values"), "learner"),
        told("m3", 30, events.ChunkDiffered(1, 5, 11, b"a", 12, b"b"), "learner"),
        told("m3", 60, events.ChainsDiffered(1, 5, "results"), "learner"),
        told("m3", 50, events.GroupNotOpened(1, "no room"), "learner"),
    ]


def test_errors_are_all_events_that_want_a_person_the_earliest_first() -> None:
    found = check_events([*errors(), *GOOD], 0)
    assert not found.problems
    assert [error.kind for error in found.errors] == [
        "InvariantBroken",
        "ApplyingStopped",
        "ChunkDiffered",
        "StorageFailed",
        "GroupNotOpened",
        "ChainsDiffered",
    ]
    of_level = {kind.__name__ for kind, told_as in KINDS.items() if told_as.level == logging.ERROR}
    assert {error.kind for error in found.errors} == of_level


# Faults that explain errors: events are told in milliseconds, disturbances in nanoseconds.


def at_ns(at_ms: int) -> int:
    return at_ms * 1_000_000


def disk(
    what: str, start_s: float, end_s: float | None, kind: FaultKind = FaultKind.FULL_DISK
) -> Disturbance:
    end_ns = None if end_s is None else int(end_s * SECOND_NS)
    return Disturbance(kind, what, int(start_s * SECOND_NS), end_ns)


def problems(records: list[EventRecord], *disturbances: Disturbance) -> list[str]:
    return event_problems(check_events(records, 0), [], disturbances, at_ns)


def test_errors_without_a_fault_are_problems_and_the_rest_are_told_beside() -> None:
    found = check_events([*GOOD, started("m1", 3_000, 3, 10), *errors()[:1]], 0)
    assert event_problems(found, ["a file"], [], at_ns) == [
        "files of events that cannot be read: 1 (a file)",
        "several masters at one ballot: 1 (m1 and m1 in group 1 at 3/11/1)",
        "errors without a fault that explains them: 1 "
        "(m2's acceptor a write to the disk failed, and the role stopped: no room)",
    ]
    assert event_problems(check_events([], 0), [], [], at_ns) == [
        "no member has written any event since the run began"
    ]
    assert not problems(GOOD)


@pytest.mark.parametrize(
    "event", [events.StorageFailed("no room"), events.GroupNotOpened(1, "no room")]
)
@pytest.mark.parametrize(
    ("fault", "is_explained"),
    [
        (disk("m1 for 2.0 s", 15, 17), True),
        (disk("m1 for 2.0 s", 15, 17, FaultKind.SLOW_DISK), True),
        (disk("m2, m1 (leads group 1) for 2.0 s", 15, None), True),
        (disk("m1 for 2.0 s", 8, 11), True),
        (disk("m1 for 2.0 s", 7, 9.9), False),
        (disk("m1 for 2.0 s", 20.1, 22), False),
        (disk("m10 for 2.0 s", 15, 17), False),
        (disk("of-m1 for 2.0 s", 15, 17), False),
        (disk("m1/learner", 15, 17, FaultKind.KILL_ROLE), False),
        (replace(disk("m1 for 2.0 s", 15, 17), refusal="too many are harmed"), False),
    ],
    ids=lambda each: f"{each.kind.value}-{each.what}" if isinstance(each, Disturbance) else None,
)
def test_a_fault_of_its_disk_explains_what_a_member_could_not_write(
    event: Any, fault: Disturbance, is_explained: bool
) -> None:
    records = [*GOOD, told("m1", 20_000, event, "learner")]
    assert bool(problems(records, fault)) is not is_explained


def test_no_fault_explains_that_members_differ() -> None:
    records = [*GOOD, told("m1", 20_000, events.ChainsDiffered(1, 5, "values"), "learner")]
    assert "errors without a fault" in problems(records, disk("m1 for 9 s", 15, 24))[0]


# Earlier runs on the same folders.


def test_errors_and_reigns_of_earlier_runs_are_not_those_of_this_one() -> None:
    old = told("m1", 5_999, events.StorageFailed("no room"), "acceptor")
    new = told("m1", 6_000, events.StorageFailed("no room"), "acceptor")
    found = check_events([*GOOD, old, new], 6_000)
    assert found.errors == [new]
    assert [(reign.member, reign.from_ms) for reign in found.reigns] == [
        ("m2", 6_000),
        ("m3", 9_000),
    ]
    assert found.events == 3


def test_ballots_and_versions_are_judged_over_all_runs() -> None:
    again = check_events([*GOOD, started("m1", 20_000, 3, 50)], 15_000)
    assert "several masters at one ballot" in again.problems[0]
    sunk = check_events([*GOOD, started("m1", 20_000, 9, 41)], 15_000)
    assert "versions that do not rise with their ballots" in sunk.problems[0]
    # The same member in a later life, and a new one of the same name.
    later = told("m1", 20_000, events.MasterStarted(1, Ballot(7, IDS["m1"], 2), 50))
    anew = told("m1", 21_000, events.MasterStarted(1, Ballot(7, 99, 1), 51))
    assert not check_events([*GOOD, later, anew], 15_000).problems


def test_a_run_that_wrote_no_events_is_not_hidden_by_earlier_ones() -> None:
    assert check_events(GOOD, 15_000).events == 0
