"""What is said and done in a history: one class for each kind of fact.

A fact is true of a history from some step on; which ones are is all that the ledger knows of it
(`ledger`). Facts of messages are taken when the message leaves, those of records when they are
durable.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.events import ConfigurationLearned, Event, InstanceApplied, InstanceChosen
from ray_paxos.core.genesis import Configuration, Voter
from ray_paxos.core.learner_messages import Chosen, LearnerStatus, LearnReply
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
from ray_paxos.core.parts import PartLeft, PartTaken
from ray_paxos.core.records import (
    ConfigurationSet,
    GroupCreated,
    GroupRemoved,
    Record,
    SealSegment,
)
from ray_paxos.testing.exhaustive.actions import Packet
from ray_paxos.testing.trace import name_address


@dataclass(frozen=True, slots=True)
class Used:
    """A proposer sent something at a ballot, in one of its lives, under a configuration."""

    ballot: Ballot
    life: int
    config_id: int


@dataclass(frozen=True, slots=True)
class Proposed:
    """An accept was sent."""

    instance_id: int
    ballot: Ballot
    value: bytes


@dataclass(frozen=True, slots=True)
class Voted:
    """An acceptor answered "accepted", as this voter and under that configuration."""

    instance_id: int
    ballot: Ballot
    voter: Voter
    config_id: int


@dataclass(frozen=True, slots=True)
class Promised:
    """An acceptor promised, as this voter and under that configuration.

    It told these votes below the ballot, and where its votes begin.
    """

    ballot: Ballot
    voter: Voter
    config_id: int
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


@dataclass(frozen=True, slots=True)
class Sealed:
    """A member's learner holds everything through an instance durably."""

    member_id: int
    instance_id: int


@dataclass(frozen=True, slots=True)
class Followed:
    """A learner's log has come to a configuration."""

    configuration: Configuration
    by: str


@dataclass(frozen=True, slots=True)
class Told:
    """A learner tells its member's proposer of a configuration, which may count by it from then."""

    member_id: int
    config_id: int


@dataclass(frozen=True, slots=True)
class Voting:
    """An acceptor answers as this voter under a configuration, durably."""

    voter: Voter
    configuration: Configuration


@dataclass(frozen=True, slots=True)
class Created:
    """An acceptor becomes this voter, durably, with a vote floor; it holds no vote yet."""

    voter: Voter
    config_id: int
    floor: int


@dataclass(frozen=True, slots=True)
class Forgotten:
    """An acceptor that was this voter holds nothing of its votes any more, durably."""

    voter: Voter


@dataclass(frozen=True, slots=True)
class PartChanged:
    """A member takes part in the group as this replica, or has left it as all up to this one."""

    voter: Voter
    is_left: bool


Fact: TypeAlias = (
    Used
    | Proposed
    | Voted
    | Promised
    | Claimed
    | ClaimedThrough
    | Sealed
    | Followed
    | Told
    | Voting
    | Created
    | Forgotten
    | PartChanged
)


def facts_of_packet(packet: Packet, life: int) -> Iterator[Fact]:
    """What a message says.

    Args:
        packet: On its way.
        life: Of the process that sent it.
    """
    envelope, by = packet.envelope, name_address(packet.envelope.sender)
    config_id = envelope.config_id
    voter = Voter(envelope.sender.member_id, envelope.replica_id)
    match envelope.message:
        case Prepare(ballot=ballot):
            yield Used(ballot, life, config_id)
        case Accept(ballot=ballot, instance_id=instance_id, value=value):
            yield Used(ballot, life, config_id)
            yield Proposed(instance_id, ballot, value)
        case Accepted(ballot=ballot, instance_id=instance_id):
            yield Voted(instance_id, ballot, voter, config_id)
        case Promise(ballot=ballot, floor=floor, votes=votes):
            below = tuple(vote for vote in votes if vote.ballot < ballot)
            yield Promised(ballot, voter, config_id, floor, below)
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
            yield Used(ballot, life, config_id)
            yield ClaimedThrough(through, by)
        case LearnerStatus(learned_through=through, configuration=configuration):
            yield ClaimedThrough(through, by)
            if configuration is not None:
                yield Told(voter.member_id, configuration.config_id)
        case _:
            pass


def facts_of_event(address: Address, event: Event) -> Iterator[Fact]:
    """What a role reports to have acted on."""
    match event:
        case InstanceChosen(instance_id=instance_id, value=value):
            yield Claimed(instance_id, value, name_address(address))
        case InstanceApplied(instance_id=instance_id, value=value):
            yield Claimed(instance_id, value, name_address(address))
        case ConfigurationLearned(configuration=configuration):
            yield Followed(configuration, name_address(address))
        case _:
            pass


def facts_of_records(member_id: int, replica_id: int, records: Sequence[Record]) -> Iterator[Fact]:
    """What is durable now that was not before.

    Args:
        member_id: Whose records.
        replica_id: As which its acceptor answered before them; 0 for not.
        records: In the order in which they were written.
    """
    for record in records:
        match record:
            case SealSegment(instances=instances):
                yield Sealed(member_id, instances[-1].chosen.instance_id)
            case GroupCreated(configuration=configuration, floor=floor):
                replica_id = record.replica_id
                yield Created(Voter(member_id, replica_id), configuration.config_id, floor)
                yield Voting(Voter(member_id, replica_id), configuration)
            case ConfigurationSet(configuration=configuration):
                yield Voting(Voter(member_id, replica_id), configuration)
            case PartTaken(part=part):
                yield PartChanged(Voter(member_id, part.replica_id), False)
            case PartLeft():
                yield PartChanged(Voter(member_id, record.replica_id), True)
            case GroupRemoved() if replica_id:
                yield Forgotten(Voter(member_id, replica_id))
                replica_id = 0
            case _:
                pass
