"""Whether a group works, and whether what it acknowledged is in danger, in sentences for a person.

What the sentences rest on, with n voters of which any q are a majority:

1. What was acknowledged was durable at q acceptors, or is in the logs and checkpoints of as many.
   So while fewer than q disks of voters are lost, at least one has it, and nothing is lost.
2. A voter that is down has not lost its disk: it comes back with it and votes again. One whose
   votes are damaged, or whose folder is another's, never votes again under its old name.
3. A group works while q voters vote. With fewer it takes no writes and answers no linearizable
   read, and goes on by itself once there are q again.
4. A member that stopped applying goes on voting and storing; it serves nothing of the group.
5. One that could not open the group does not store either, and its log may be what is damaged: it
   counts as a lost disk.
6. Members whose values differ have other logs, which rules 1 and 2 exclude: from then on nothing
   is said of where data is, but that the logs have to be compared.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ray_paxos.observability.cluster_view import GroupView, Health
from ray_paxos.observability.text import names as names
from ray_paxos.observability.text import numbers as numbers

LOGS_DIFFER = "values differ"
"""How the reason begins for which a member stops whose log is another (`core.applying`)."""


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """What is known of a group.

    Attributes:
        voters: Names, in order; empty where nobody tells.
        down: Those of the voters that do not vote now, in order, each with why in a word or two;
            empty for those that do not answer at all.
        damaged: Those of them that never will again, since their votes are damaged.
        silent: Others that have the group and whose learner tells nothing.
        stopped: Why applying stopped, by member.
        master: Who leads; None for nobody.
        not_open: Why members that have the group could not open it, by member.
    """

    voters: Sequence[str]
    down: dict[str, str]
    damaged: Collection[str]
    silent: Sequence[str]
    stopped: dict[str, str]
    master: str | None
    not_open: dict[str, str] = field(default_factory=dict)

    @property
    def majority(self) -> int:
        """How many of the voters have to vote."""
        return len(self.voters) // 2 + 1

    @property
    def up(self) -> int:
        """How many of them do."""
        return len(self.voters) - len(self.down)

    @property
    def logs_differ(self) -> bool:
        """Whether some member has another log than the master that it asked."""
        return any(why.startswith(LOGS_DIFFER) for why in self.stopped.values())

    @property
    def is_safe(self) -> bool:
        """Whether nothing acknowledged can be lost by what is known to be wrong."""
        lost = [name for name in self.voters if name in self.damaged or name in self.not_open]
        return self.up >= self.majority > len(lost) and not self.logs_differ


class Risk(NamedTuple):
    """What is wrong with some groups alike.

    Attributes:
        health: How they are.
        risk: What a person should know.
        groups: Their numbers, in order.
        since_ms: Since when the first of them is so, in milliseconds since 1970.
    """

    health: Health
    risk: str
    groups: tuple[int, ...]
    since_ms: int


def risks(groups: Iterable[GroupView]) -> list[Risk]:
    """What is wrong with groups, the gravest first; those of which the same is said are one."""
    alike: dict[tuple[Health, str], list[GroupView]] = {}
    for group in groups:
        if group.health is not Health.OK:
            alike.setdefault((group.health, group.risk), []).append(group)
    found = [
        Risk(
            health,
            risk,
            tuple(sorted(group.group for group in which)),
            min(group.since_ms for group in which),
        )
        for (health, risk), which in alike.items()
    ]
    return sorted(found, key=lambda each: (-each.health.rank, each.risk, each.groups))


def health_of(facts: GroupFacts) -> Health:
    """How a group is.

    A follower that stopped makes it degraded, unless logs differ: then any log may be the wrong
    one.
    """
    if facts.up < facts.majority:
        return Health.NO_MAJORITY
    if facts.master is None:
        return Health.NO_MASTER
    if facts.logs_differ or any(facts.stopped.get(name) for name in facts.voters):
        return Health.STOPPED
    if facts.down and facts.up == facts.majority:
        return Health.AT_RISK
    if facts.down or facts.silent or any(facts.stopped.values()):
        return Health.DEGRADED
    return Health.OK


def risk_of(facts: GroupFacts) -> str:
    """What a person should know of a group; empty where all is well."""
    if facts.voters:
        return " ".join(_sentences(facts))
    if facts.not_open:
        first = next(iter(facts.not_open))
        return (
            f"{names(list(facts.not_open))} could not open it ({first}: {facts.not_open[first]}), "
            "and no other member that has this group answers: nobody tells who votes in it."
        )
    return "No member that has this group answers, and so nobody tells who votes in it."


def _sentences(facts: GroupFacts) -> Iterable[str]:
    if facts.logs_differ:
        which = [name for name, why in facts.stopped.items() if why.startswith(LOGS_DIFFER)]
        yield (
            f"Logs differ ({names(which)}: {facts.stopped[which[0]]}): no member is to be trusted "
            "until they are compared, of a cluster that runs by `jobs/verify_log.py`, and of each "
            "folder by `ray-paxos log verify`."
        )
    if facts.up < facts.majority:
        yield from _without_majority(facts)
    elif facts.down:
        yield f"{_how_many(facts)} ({_with_reasons(facts.down)})."
        yield _what_is_left(facts)
    if facts.master is None and facts.up >= facts.majority:
        yield from _without_master(facts)
    yield from _stopped(facts)
    if facts.silent:
        verbs = ("tells", "serves") if len(facts.silent) == 1 else ("tell", "serve")
        yield f"{names(facts.silent)} {verbs[0]} nothing of it, and {verbs[1]} no reads."


def _how_many(facts: GroupFacts) -> str:
    if len(facts.voters) == 1:
        return "Its only voter is down"
    verb = "is" if len(facts.down) == 1 else "are"
    return f"{len(facts.down)} of {len(facts.voters)} voters {verb} down"


def _with_reasons(down: dict[str, str]) -> str:
    return names([f"{name}: {why}" if why else name for name, why in down.items()])


def _what_is_left(facts: GroupFacts) -> str:
    """While a majority votes."""
    spare = facts.up - facts.majority
    stops = "one more failure stops this group."
    if spare > 0:
        stops = f"this group stops if {spare + 1} more fail."
    if facts.is_safe:
        return f"Nothing acknowledged is lost; {stops}"
    return stops[0].upper() + stops[1:]


def _without_majority(facts: GroupFacts) -> Iterable[str]:
    yield f"{_how_many(facts)} ({_with_reasons(facts.down)}): this group takes no writes."
    intact = [name for name in facts.voters if name not in facts.damaged]
    copies = facts.majority - len(facts.damaged)
    if facts.logs_differ:
        # Which of the disks has what was acknowledged is not known any more.
        pass
    elif copies < 1:
        yield (
            f"What was acknowledged may be lost: the votes of {names(sorted(facts.damaged))} are "
            "damaged, and it may have been on these disks only."
        )
    elif len(facts.voters) == 1:
        yield f"What was acknowledged is on the disk of {names(facts.voters)}, and nowhere else."
    else:
        disks = "disk" if copies == 1 else "disks"
        yield f"What was acknowledged is on the {disks} of at least {copies} of {names(intact)}."
    if len(intact) < facts.majority:
        yield (
            "It cannot go on by itself, since too few of its voters can ever vote again: "
            "`ray-paxos unsafe-recover` makes a new cluster of what is left."
        )
    else:
        back = [name for name in facts.down if name not in facts.damaged]
        yield f"It goes on by itself once {_enough_of(back, facts.majority - facts.up)}."


def _enough_of(back: Sequence[str], needed: int) -> str:
    whose = "its disk" if needed == 1 else "their disks"
    verb = "is" if needed == 1 else "are"
    who = names(back) if needed == len(back) else f"{needed} of {names(back)}"
    return f"{who} {verb} back with {whose}"


def _without_master(facts: GroupFacts) -> Iterable[str]:
    yield "No member leads it: it takes no writes until one does."
    if not facts.down and facts.is_safe:
        yield "Nothing acknowledged is lost."


def _stopped(facts: GroupFacts) -> Iterable[str]:
    stopped = {name: why for name, why in facts.stopped.items() if why}
    if not stopped:
        return
    verb = "applies" if len(stopped) == 1 else "apply"
    # Of logs that differ it was said already.
    others = [name for name, why in stopped.items() if not why.startswith(LOGS_DIFFER)]
    because = f" ({others[0]}: {stopped[others[0]]})" if others else ""
    yield f"{names(list(stopped))} {verb} nothing more{because}."
    if all(facts.stopped.get(name) for name in facts.voters):
        yield "No voter can lead it: it answers nothing until that is mended."
        if facts.is_safe:
            yield "What was acknowledged is kept in the log."
    elif facts.is_safe and not any(name in facts.not_open for name in stopped):
        yield "The log is kept there, too: nothing acknowledged is lost."
    elif facts.is_safe:
        yield "Nothing acknowledged is lost: the others have it."
