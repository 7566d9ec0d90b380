"""Whether a group works, and whether what it acknowledged is in danger, in sentences for a person.

What the sentences rest on, with n voters of which any q are a majority:

1. What was acknowledged was durable at q acceptors, or is in the logs and checkpoints of as many.
   So while fewer than q disks of voters are lost, at least one has it, and nothing is lost.
2. A voter that is down has not lost its disk: it comes back with it and votes again. One whose
   votes are damaged, or whose folder is another's, never votes again under its old name.
3. A group works while q voters vote. With fewer it takes no writes and answers no linearizable
   read, and goes on by itself once there are q again.
4. A member that stopped applying goes on voting and storing; it serves nothing of the group.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from ray_paxos.observability.cluster_view import Health

NAMES_MAX = 7
"""More names than that are counted, not listed."""


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
    """

    voters: Sequence[str]
    down: dict[str, str]
    damaged: Collection[str]
    silent: Sequence[str]
    stopped: dict[str, str]
    master: str | None

    @property
    def majority(self) -> int:
        """How many of the voters have to vote."""
        return len(self.voters) // 2 + 1

    @property
    def up(self) -> int:
        """How many of them do."""
        return len(self.voters) - len(self.down)


def health_of(facts: GroupFacts) -> Health:
    """How a group is."""
    if any(facts.stopped.values()):
        return Health.STOPPED
    if facts.up < facts.majority:
        return Health.NO_MAJORITY
    if facts.master is None:
        return Health.NO_MASTER
    if facts.down and facts.up == facts.majority:
        return Health.AT_RISK
    if facts.down or facts.silent:
        return Health.DEGRADED
    return Health.OK


def risk_of(facts: GroupFacts) -> str:
    """What a person should know of a group; empty where all is well."""
    if not facts.voters:
        return "No member that has this group answers, and so nobody tells who votes in it."
    return " ".join(_sentences(facts))


def _sentences(facts: GroupFacts) -> Iterable[str]:
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
    if spare == 0:
        return "Nothing acknowledged is lost; one more failure stops this group."
    return f"Nothing acknowledged is lost; this group stops if {spare + 1} more fail."


def _without_majority(facts: GroupFacts) -> Iterable[str]:
    yield f"{_how_many(facts)} ({_with_reasons(facts.down)}): this group takes no writes."
    intact = [name for name in facts.voters if name not in facts.damaged]
    copies = facts.majority - len(facts.damaged)
    if copies < 1:
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
    if not facts.down:
        yield "Nothing acknowledged is lost."


def _stopped(facts: GroupFacts) -> Iterable[str]:
    stopped = {name: why for name, why in facts.stopped.items() if why}
    if not stopped:
        return
    first = next(iter(stopped))
    verb = "applies" if len(stopped) == 1 else "apply"
    yield f"{names(list(stopped))} {verb} nothing more ({first}: {stopped[first]})."
    if len(stopped) >= len(facts.voters):
        yield (
            "No voter can lead it: it answers nothing until that is mended. What was acknowledged "
            "is kept in the log."
        )
    else:
        yield "The log is kept there, too: nothing acknowledged is lost."


def names(members: Sequence[str]) -> str:
    """Names of members as a list in a sentence; the first ones where there are many."""
    if len(members) > NAMES_MAX:
        return f"{', '.join(members[:NAMES_MAX])} and {len(members) - NAMES_MAX} more"
    return ", ".join(members)


def numbers(groups: Iterable[int]) -> str:
    """Numbers of groups, ranges put together: `0-3, 7`."""
    ranges: list[list[int]] = []
    for group in sorted(groups):
        if ranges and group == ranges[-1][1] + 1:
            ranges[-1][1] = group
        else:
            ranges.append([group, group])
    texts = [str(low) if low == high else f"{low}-{high}" for low, high in ranges]
    return names(texts)
