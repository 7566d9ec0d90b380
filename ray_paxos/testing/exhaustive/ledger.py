"""What is true of a whole history: which values were proposed, voted for and chosen.

In these models a message that was sent can always still arrive, so that all messages ever sent are
part of the state, and what holds of a history is a matter of the state alone. The ledger is a
summary of those messages. It judges each new one against the earlier ones:

* agreement: one value is chosen for an instance (R1), counted from the acceptors' answers, and
  nothing else is proposed there at any higher ballot (P2b), before or after;
* one value is proposed at one ballot and instance, by one life of one proposer;
* P2c ("Paxos Made Simple", section 2.2): some majority of those that promised the ballot allows
  the value, by the highest of their votes, and by floors that lie at or below the instance;
* what anybody says is chosen, learns, applies or drops votes below, is chosen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.events import Event, InstanceApplied, InstanceChosen
from ray_paxos.core.learner_messages import (
    Chosen,
    ChosenValue,
    LearnerStatus,
    LearnReply,
)
from ray_paxos.core.messages import (
    Accept,
    Accepted,
    Address,
    BelowFloor,
    Heartbeat,
    Prepare,
    Promise,
    Vote,
)
from ray_paxos.core.values import value_hash
from ray_paxos.testing.exhaustive.actions import Packet
from ray_paxos.testing.trace import name_address, name_member
from ray_paxos.testing.violation import Violation


@dataclass(frozen=True, slots=True)
class Used:
    """A proposer sent something at a ballot, in one of its lives."""

    ballot: Ballot
    life: int


@dataclass(frozen=True, slots=True)
class Proposed:
    """An accept was sent."""

    instance_id: int
    ballot: Ballot
    value: bytes


@dataclass(frozen=True, slots=True)
class Voted:
    """An acceptor answered "accepted"."""

    instance_id: int
    ballot: Ballot
    member_id: int


@dataclass(frozen=True, slots=True)
class Promised:
    """An acceptor promised for the first time, and told these votes below the ballot."""

    ballot: Ballot
    member_id: int
    floor: int
    votes: tuple[Vote, ...]


@dataclass(frozen=True, slots=True)
class Claimed:
    """Somebody says, or acts on it, that a value is chosen."""

    instance_id: int
    value: bytes
    by: str


@dataclass(frozen=True, slots=True)
class ClaimedThrough:
    """Somebody says, or acts on it, that all instances up to one are chosen."""

    instance_id: int
    by: str


Fact: TypeAlias = Used | Proposed | Voted | Promised | Claimed | ClaimedThrough


def facts_of_packet(packet: Packet, life: int) -> Iterator[Fact]:
    """What a message says.

    Args:
        packet: On its way.
        life: Of the process that sent it.
    """
    envelope, by = packet.envelope, name_address(packet.envelope.sender)
    match envelope.message:
        case Prepare(ballot=ballot):
            yield Used(ballot, life)
        case Accept(ballot=ballot, instance_id=instance_id, value=value):
            yield Used(ballot, life)
            yield Proposed(instance_id, ballot, value)
        case Accepted(ballot=ballot, instance_id=instance_id):
            yield Voted(instance_id, ballot, envelope.sender.member_id)
        case Promise(ballot=ballot, floor=floor, votes=votes):
            below = tuple(vote for vote in votes if vote.ballot < ballot)
            yield Promised(ballot, envelope.sender.member_id, floor, below)
            yield ClaimedThrough(floor - 1, by)
        case BelowFloor(floor=floor):
            yield ClaimedThrough(floor - 1, by)
        case Chosen(values=values, chosen_through=through):
            yield from (Claimed(chosen.instance_id, chosen.value, by) for chosen in values)
            yield ClaimedThrough(through, by)
        case LearnReply(values=values, learned_through=through):
            yield from (Claimed(chosen.instance_id, chosen.value, by) for chosen in values)
            yield ClaimedThrough(through, by)
        case Heartbeat(ballot=ballot, chosen_through=through):
            yield Used(ballot, life)
            yield ClaimedThrough(through, by)
        case LearnerStatus(learned_through=through):
            yield ClaimedThrough(through, by)
        case _:
            pass


def facts_of_event(address: Address, event: Event) -> Iterator[Fact]:
    """What a role reports to have acted on."""
    match event:
        case InstanceChosen(instance_id=instance_id, value=value):
            yield Claimed(instance_id, value, name_address(address))
        case InstanceApplied(instance_id=instance_id, value=value):
            yield Claimed(instance_id, value, name_address(address))
        case _:
            pass


class Ledger:
    """The facts so far; never changed, `after` gives another.

    Attributes:
        facts: What makes two ledgers the same.
        chosen: By instance.
    """

    def __init__(self, majority: int) -> None:
        """Nothing has happened."""
        self.facts: frozenset[Fact] = frozenset()
        self.chosen: dict[int, ChosenValue] = {}
        self._majority = majority
        self._lives: dict[Ballot, int] = {}
        self._values: dict[tuple[int, Ballot], bytes] = {}
        self._votes: dict[tuple[int, Ballot], frozenset[int]] = {}
        self._promises: dict[Ballot, tuple[Promised, ...]] = {}

    def _copy(self, fact: Fact) -> Ledger:
        copy = Ledger(self._majority)
        copy.facts = self.facts | {fact}
        copy.chosen = self.chosen
        copy._lives, copy._values = self._lives, self._values
        copy._votes, copy._promises = self._votes, self._promises
        return copy

    def after(self, fact: Fact) -> Ledger:
        """The ledger with one more fact.

        Raises:
            Violation: It cannot be true beside the others.
        """
        if fact in self.facts:
            return self
        match fact:
            case Used(ballot=ballot, life=life):
                return self._after_use(fact, ballot, life)
            case Proposed():
                return self._after_proposal(fact)
            case Voted():
                return self._after_vote(fact)
            case Promised(ballot=ballot, member_id=member_id):
                promises = self._promises.get(ballot, ())
                if any(known.member_id == member_id for known in promises):
                    # What it told first cannot change any more.
                    return self
                copy = self._copy(fact)
                copy._promises = {**self._promises, ballot: (*promises, fact)}
                return copy
            case Claimed():
                self._judge_claim(fact)
            case ClaimedThrough(instance_id=instance_id, by=by):
                missing = [i for i in range(1, instance_id + 1) if i not in self.chosen]
                if missing:
                    what = f"{by} takes all up to {instance_id} for chosen; {missing} are not"
                    raise Violation("R4", what)
        return self

    def _after_use(self, fact: Fact, ballot: Ballot, life: int) -> Ledger:
        first = self._lives.get(ballot)
        if first is None:
            copy = self._copy(fact)
            copy._lives = {**self._lives, ballot: life}
            return copy
        if first != life:
            what = f"{_say(ballot)} was used in the lives {first} and {life} of one proposer"
            raise Violation("ballots", what)
        return self

    def _after_proposal(self, fact: Proposed) -> Ledger:
        key = (fact.instance_id, fact.ballot)
        known = self._values.get(key)
        if known is not None:
            if known != fact.value:
                what = f"two values proposed at instance {fact.instance_id}, {_say(fact.ballot)}"
                raise Violation("ballots", what)
            return self
        chosen = self.chosen.get(fact.instance_id)
        if chosen is not None and fact.ballot > chosen.ballot:
            self._judge_later(fact, chosen)
        self._judge_proposal(fact)
        copy = self._copy(fact)
        copy._values = {**self._values, key: fact.value}
        return copy

    def _judge_later(self, fact: Proposed, chosen: ChosenValue) -> None:
        if fact.value != chosen.value:
            what = f"{_say(fact.ballot)} proposes {_name(fact.value)} at {fact.instance_id}, where "
            what += f"{_name(chosen.value)} was chosen at {_say(chosen.ballot)}"
            raise Violation("R1", what)

    def _judge_proposal(self, fact: Proposed) -> None:
        promises = self._promises.get(fact.ballot, ())
        for quorum in combinations(promises, self._majority):
            if _allows(quorum, fact):
                return
        told = ", ".join(name_member(promise.member_id) for promise in promises) or "nobody"
        what = f"no majority of {told} allows {_name(fact.value)} at instance {fact.instance_id}, "
        raise Violation("P2c", what + _say(fact.ballot))

    def _after_vote(self, fact: Voted) -> Ledger:
        key = (fact.instance_id, fact.ballot)
        value = self._values.get(key)
        if value is None:
            what = f"{name_member(fact.member_id)} accepted what nobody proposed: instance "
            raise Violation("R1", what + f"{fact.instance_id}, {_say(fact.ballot)}")
        copy = self._copy(fact)
        voters = self._votes.get(key, frozenset()) | {fact.member_id}
        copy._votes = {**self._votes, key: voters}
        if len(voters) == self._majority:
            copy._choose(ChosenValue(fact.instance_id, fact.ballot, value))
        return copy

    def _choose(self, chosen: ChosenValue) -> None:
        first = self.chosen.get(chosen.instance_id)
        if first is None:
            self.chosen = {**self.chosen, chosen.instance_id: chosen}
        elif first.value != chosen.value:
            what = f"two values chosen at instance {chosen.instance_id}: {_name(first.value)} at "
            what += f"{_say(first.ballot)} and {_name(chosen.value)} at {_say(chosen.ballot)}"
            raise Violation("R1", what)
        elif chosen.ballot < first.ballot:
            self.chosen = {**self.chosen, chosen.instance_id: chosen}
        for (instance_id, ballot), value in self._values.items():
            if instance_id == chosen.instance_id and ballot > chosen.ballot:
                # P2b, whichever of the two came first.
                self._judge_later(Proposed(instance_id, ballot, value), chosen)

    def _judge_claim(self, fact: Claimed) -> None:
        chosen = self.chosen.get(fact.instance_id)
        where = f"at instance {fact.instance_id}"
        if chosen is None:
            what = f"{fact.by} takes {_name(fact.value)} for chosen {where}: no majority voted so"
            raise Violation("R4", what)
        if chosen.value != fact.value:
            what = f"{fact.by} takes {_name(fact.value)} for chosen {where}, where "
            raise Violation("R4", what + f"{_name(chosen.value)} was at {_say(chosen.ballot)}")


def _allows(quorum: tuple[Promised, ...], fact: Proposed) -> bool:
    """Whether a value may be proposed by what a majority promised."""
    if any(promise.floor > fact.instance_id for promise in quorum):
        return False
    votes = [v for promise in quorum for v in promise.votes if v.instance_id == fact.instance_id]
    highest = max(votes, key=lambda vote: vote.ballot, default=None)
    return highest is None or highest.value == fact.value


def _say(ballot: Ballot) -> str:
    return f"ballot {ballot.round} of {name_member(ballot.member_id)} ({ballot.incarnation})"


def _name(value: bytes) -> str:
    return value_hash(value)[:3].hex()
