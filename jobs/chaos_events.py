"""What members' events tell after a chaos run: who led when, and what went wrong.

Rules:

1. A ballot is one attempt of one life of one proposer: in each group at most one event says that
   somebody began to serve at it.
2. A reign's version is the instance of its master record. A master of a higher ballot has learned,
   or proposes again, what any lower one got chosen: so versions rise with ballots.
3. Neither is judged by the clock: those of the members' nodes differ. Times are for the timeline.
4. What wants a person may come of a fault that was injected: a failing disk stops a role. Who
   injected it knows, so alarms are given as a list (`unexplained`).
5. What is not in the files is not missed: a role writes only so many events a second, and its
   files are bounded. So what is found is wrong, but what is not found may have been.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from chaos_checks import some
from ray_paxos.observability.event_record import EventRecord

ALARMS = ("InvariantBroken", "ApplyingStopped", "StorageFailed", "ChunkDiffered")
"""Kinds that no run may have without a fault that explains them."""

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
        alarms: What wants a fault that explains it, the earliest first.
        reigns: Of each group those of lower ballots first.
        events: How many were read.
    """

    problems: list[str] = field(default_factory=list)
    alarms: list[EventRecord] = field(default_factory=list)
    reigns: list[MemberReign] = field(default_factory=list)
    events: int = 0


def check_events(records: Sequence[EventRecord]) -> EventsFound:
    """Judge what members tell.

    Args:
        records: Of all roles of all members; each role's in the order in which they were written.
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
    alarms = sorted((r for r in records if r.kind in ALARMS), key=lambda r: (r.at_ms, r.sequence))
    return EventsFound(
        problems=[
            *some("several masters at one ballot", doubled),
            *some("versions that do not rise with their ballots", sunk),
        ],
        alarms=alarms,
        reigns=reigns,
        events=len(records),
    )


def unexplained(
    alarms: Iterable[EventRecord], is_explained: Callable[[EventRecord], bool]
) -> list[str]:
    """Problems of those alarms that no fault explains.

    Args:
        alarms: That were found.
        is_explained: Whether a fault that was injected explains one.
    """
    left = [f"{a.member}'s {a.role} {a.text}" for a in alarms if not is_explained(a)]
    return some("alarms without a fault that explains them", left)


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
