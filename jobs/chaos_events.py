"""What members' events tell after a chaos run: who led when, and what went wrong.

Rules:

1. A ballot is one attempt of one life of one proposer: in each group at most one event says that
   somebody began to serve at it.
2. A reign's version is the instance of its master record. A master of a higher ballot has learned,
   or proposes again, what any lower one got chosen: so versions rise with ballots.
3. Neither is judged by the clock, so both hold over all that the files have, earlier runs on the
   same folders included. Files are appended to over all lives of a role. Its incarnation rises with
   each life, so no ballot comes back; rounds and versions go on from what acceptors and logs have.
   - A member whose folder was deleted has lost its files with it, and never votes again: its reigns
     are not missed, and no ballot of its comes back. One that was replaced is not read any more.
   - A new member has an id that was drawn for it, even under a name that another one had: nobody
     else has its ballots.
   - A cluster that was deleted and made anew has new folders, and its files begin with it.
4. Of what a run is blamed for, or shows, only what is at or after its start counts: an error of
   last week, and reigns of then, are not its own. The start is by this machine's clock, the event's
   by its node's, which is the same where all is on one machine. Where it is not, the clocks have to
   be in step: by one that is behind, errors of the first moments are taken for older ones, and by
   one that is ahead, the last ones of an earlier run for new ones.
5. An *error* is an event of level `ERROR`: it wants a person. It may come of a fault that was
   injected: where a disk has no room, roles stop, and groups are not opened. Every other error is a
   problem.
6. What is not in the files is not missed: a role writes only so many events a second, and its
   files are bounded. So what is found is wrong, but what is not found may have been.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from chaos_checks import some
from chaos_gaps import SECOND_NS, Disturbance
from chaos_plan import OF_DISKS
from ray_paxos.observability.event_record import EventRecord

ERROR = "ERROR"
OF_FULL_DISKS = ("StorageFailed", "GroupNotOpened")
"""Errors that a disk without room, or too slow, explains."""
EXPLAINED_S = 10.0
"""So long after a fault of its disk a role may say that it stopped for it."""

Ballot: TypeAlias = tuple[int, int, int]
"""Round, member_id and incarnation, by which ballots are ordered."""


@dataclass(frozen=True, slots=True)
class MemberReign:
    """A time in which a member was master of a group.

    Attributes:
        group: Its number.
        member: Its name.
        from_ms: When it began to serve, in milliseconds since 1970, by its node's clock.
        to_ms: When it stopped; where it does not say, when the next one began; None where there
            is neither.
        ballot: Its ballot.
        version: Instance of its master record.
    """

    group: int
    member: str
    from_ms: int
    to_ms: int | None
    ballot: Ballot
    version: int


@dataclass(frozen=True, slots=True)
class EventsFound:
    """What the files tell.

    Attributes:
        problems: What may never be, as sentences.
        errors: Of this run; each wants a fault that explains it; the earliest first.
        reigns: Of this run; of each group those of lower ballots first.
        events: How many are of this run.
    """

    problems: list[str] = field(default_factory=list)
    errors: list[EventRecord] = field(default_factory=list)
    reigns: list[MemberReign] = field(default_factory=list)
    events: int = 0


def check_events(records: Sequence[EventRecord], started_ms: int) -> EventsFound:
    """Judge what members tell.

    Args:
        records: Of all roles of all members; each role's in the order in which they were written.
        started_ms: When the run began, before its cluster did, in milliseconds since 1970.
    """
    starts = [record for record in records if record.kind == "MasterStarted"]
    stops: dict[tuple[int, Ballot], int] = {}
    for record in records:
        if record.kind == "MasterStopped":
            stops.setdefault((_group(record), _ballot(record)), record.at_ms)
    doubled: list[str] = []
    sunk: list[str] = []
    reigns: list[MemberReign] = []
    for group, of_group in sorted(_by_group(starts).items()):
        once, again = _first_of_each_ballot(of_group)
        doubled += again
        own = [_reign(record, stops.get((group, _ballot(record)))) for record in once]
        sunk += _sunk(own)
        reigns += _ended(own)
    of_run = [record for record in records if record.at_ms >= started_ms]
    errors = (record for record in of_run if record.level == ERROR)
    return EventsFound(
        problems=[
            *some("several masters at one ballot", doubled),
            *some("versions that do not rise with their ballots", sunk),
        ],
        errors=sorted(errors, key=lambda record: (record.at_ms, record.sequence)),
        reigns=[reign for reign in reigns if reign.from_ms >= started_ms],
        events=len(of_run),
    )


def event_problems(
    found: EventsFound,
    unread: Sequence[str],
    disturbances: Sequence[Disturbance],
    at_ns: Callable[[int], int],
) -> list[str]:
    """All that is wrong with what members tell, for a person.

    Args:
        found: What they tell.
        unread: What could not be read, for a person.
        disturbances: What was injected.
        at_ns: From an event's time to the clock by which faults were injected.
    """
    left = [
        f"{error.member}'s {error.role} {error.text}"
        for error in found.errors
        if not is_explained(error, disturbances, at_ns(error.at_ms))
    ]
    return [
        *([] if found.events else ["no member has written any event since the run began"]),
        *some("files of events that cannot be read", unread),
        *found.problems,
        *some("errors without a fault that explains them", left),
    ]


def is_explained(error: EventRecord, disturbances: Iterable[Disturbance], at_ns: int) -> bool:
    """Whether a fault explains an error: its member's disk was taken from it meanwhile.

    Args:
        error: An event of that level.
        disturbances: What was injected.
        at_ns: When the event was, by the clock by which faults were injected.
    """
    if error.kind not in OF_FULL_DISKS:
        return False
    slack_ns = int(EXPLAINED_S * SECOND_NS)
    # As a word of its own: m1 is not in what was done to m10.
    member = re.compile(rf"(?<![\w.-]){re.escape(error.member)}(?![\w.-])")
    return any(
        each.kind in OF_DISKS
        and not each.refusal
        and member.search(each.what)
        and each.overlaps(at_ns - slack_ns, at_ns + 1)
        for each in disturbances
    )


def _group(record: EventRecord) -> int:
    return -1 if record.group is None else record.group


def _ballot(record: EventRecord) -> Ballot:
    round_number, member_id, incarnation = record.fields["ballot"]
    return round_number, member_id, incarnation


def _ballot_text(ballot: Ballot) -> str:
    return "/".join(map(str, ballot))


def _by_group(records: Iterable[EventRecord]) -> dict[int, list[EventRecord]]:
    groups: defaultdict[int, list[EventRecord]] = defaultdict(list)
    for record in records:
        groups[_group(record)].append(record)
    return groups


def _first_of_each_ballot(
    starts: Iterable[EventRecord],
) -> tuple[list[EventRecord], list[str]]:
    """By rising ballots; and in words those that came again at one."""
    first: dict[Ballot, EventRecord] = {}
    again = []
    for record in sorted(starts, key=_ballot):
        ballot = _ballot(record)
        known = first.setdefault(ballot, record)
        if known is not record:
            again.append(
                f"{record.member} and {known.member} in group {_group(record)} "
                f"at {_ballot_text(ballot)}"
            )
    return list(first.values()), again


def _reign(record: EventRecord, stopped_ms: int | None) -> MemberReign:
    return MemberReign(
        group=_group(record),
        member=record.member,
        from_ms=record.at_ms,
        to_ms=None if stopped_ms is None else max(stopped_ms, record.at_ms),
        ballot=_ballot(record),
        version=record.fields["instance_id"],
    )


def _sunk(reigns: Sequence[MemberReign]) -> list[str]:
    """In words each reign whose version is not above all those of lower ballots."""
    found = []
    highest: MemberReign | None = None
    for reign in reigns:
        if highest is not None and reign.version <= highest.version:
            found.append(
                f"group {reign.group}: {reign.member} at {_ballot_text(reign.ballot)} has "
                f"{reign.version}, and {highest.member} at {_ballot_text(highest.ballot)} has "
                f"{highest.version}"
            )
        if highest is None or reign.version > highest.version:
            highest = reign
    return found


def _ended(reigns: Sequence[MemberReign]) -> list[MemberReign]:
    """With ends: a reign that does not tell its own is over once the next one has begun."""
    ended = []
    for number, reign in enumerate(reigns):
        if reign.to_ms is None and number + 1 < len(reigns):
            reign = replace(reign, to_ms=max(reign.from_ms, reigns[number + 1].from_ms))
        ended.append(reign)
    return ended
