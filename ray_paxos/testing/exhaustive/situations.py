"""What a walk has been through, beside the number of its states.

A model that never gets to what it is about proves nothing. So each step says what it was that a
reader of the model wants to see happen, and the search counts the different steps of each kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ray_paxos.core.acceptor import Acceptor
from ray_paxos.core.checkpoint_messages import ChainReply
from ray_paxos.core.driver import Action as Order
from ray_paxos.core.driver import Observe, Transmit, Write
from ray_paxos.core.events import (
    ConfigurationLearned,
    Event,
    MasterStarted,
    MessageRefused,
    ValueAdopted,
)
from ray_paxos.core.genesis import GENESIS_CONFIG_ID
from ray_paxos.core.learner import Learner
from ray_paxos.core.learner_messages import LearnReply
from ray_paxos.core.membership_messages import ConfigurationFollowed, FollowConfiguration
from ray_paxos.core.messages import (
    Accept,
    Accepted,
    Address,
    Envelope,
    LeaseNotice,
    Message,
    Nack,
    NackReason,
    OrderDone,
    Prepare,
    Promise,
    RemoveGroup,
    Vote,
)
from ray_paxos.core.parts import PartLeft
from ray_paxos.core.parts_messages import TakePart
from ray_paxos.core.proposer import Proposer
from ray_paxos.core.records import GroupCreated, GroupRemoved, Record
from ray_paxos.core.role import Role
from ray_paxos.core.values import MembershipEntry, MembershipKind, membership_entry

ENTRY_TOLD = "a promise tells of a membership entry"
OWN_REMOVAL_TOLD = "a voter tells of the entry that ends its vote"
ENTRY_ADOPTED = "a new master proposes a membership entry again that it has found"
LED_ON = "a master serves under a configuration that is not the first"
TAUGHT = "a learner is given a membership entry by another learner"
OLD_PREPARE = "a prepare of an older configuration is refused"
OLD_ACCEPT = "an accept of an older configuration is refused"
WENT_BACK = "a voter whose log was cut short promises what stands where that ends"
OLD_VOTE = "a voter whose log was cut short votes for what is proposed where that ends"
NEW_PREPARE = "a prepare of a newer configuration is refused"
BELOW_ENTRY = "a prepare from below its own configuration's entry is refused"
ASKED_TOO_LATE = "a voter is asked that has forgotten its votes"
FORGOT = "a voter forgets its votes"
VOTES = "a member begins to vote"
VOTES_AGAIN = "a member begins to vote that voted before"
FOLLOW_TOO_LATE = "an acceptor is told to vote as what it has forgotten"
REMOVE_TOO_LATE = "an acceptor refuses to forget what it is by now"
LOST_UNSEALED = "a learner follows an entry, and dies before that is durable"
PART_LEFT = "a member leaves the group"
PART_TOO_LATE = "a member is ordered to take part as what has left"
OLD_NOTICE = "a learner is told of a lease of an older configuration, which runs"

ENDS_OF_VOTES = (MembershipKind.REMOVE, MembershipKind.DEMOTE)


def situations(
    address: Address, role: Role, envelope: Envelope, orders: Sequence[Order], now_ns: int
) -> Iterator[str]:
    """What was special about a message that a process has just handled.

    Args:
        address: Which process.
        role: As it is now.
        envelope: What it handled.
        orders: What came of it.
        now_ns: Its clock.
    """
    message = envelope.message
    adopted = set(_adopted(orders))
    for order in orders:
        match order:
            case Transmit(envelope=Envelope(message=Accept(instance_id=instance_id, value=value))):
                if instance_id in adopted and membership_entry(value) is not None:
                    yield ENTRY_ADOPTED
            case Transmit(envelope=Envelope(message=answer, config_id=config_id)):
                yield from _of_answer(address, message, answer)
                if isinstance(role, Acceptor) and config_id < role.stamp(envelope.group)[1]:
                    yield OLD_VOTE if isinstance(answer, Accepted) else WENT_BACK
            case Observe(event=event):
                yield from _of_event(role, event, message)
            case Write(records=records):
                for record in records:
                    yield from _of_record(role, record)
            case _:
                pass
    if isinstance(role, Learner):
        yield from _of_learner(role, envelope, now_ns)


def situations_of_death(role: Role) -> Iterator[str]:
    """What is special about a process that dies, with what it has not synced."""
    if isinstance(role, Learner) and role.durable_through < role.configuration.config_id:
        yield LOST_UNSEALED


def _adopted(orders: Iterable[Order]) -> Iterator[int]:
    for order in orders:
        if isinstance(order, Observe) and isinstance(order.event, ValueAdopted):
            yield order.event.instance_id


def _of_answer(address: Address, message: Message, answer: Message) -> Iterator[str]:
    match message, answer:
        case Prepare(), Promise(votes=votes):
            entries = list(_entries(votes))
            if entries:
                yield ENTRY_TOLD
            if any(e.member_id == address.member_id and e.kind in ENDS_OF_VOTES for e in entries):
                yield OWN_REMOVAL_TOLD
        case Prepare(), Nack(reason=NackReason.CONFIGURATION_OLD):
            yield OLD_PREPARE
        case Accept(), Nack(reason=NackReason.CONFIGURATION_OLD):
            yield OLD_ACCEPT
        case Prepare(), Nack(reason=NackReason.CONFIGURATION_NEW):
            yield NEW_PREPARE
        case Prepare(), Nack(reason=NackReason.BEFORE_CONFIGURATION):
            yield BELOW_ENTRY
        case RemoveGroup(), OrderDone(refused=refused) if refused:
            yield REMOVE_TOO_LATE
        case TakePart(), OrderDone(refused=refused) if refused:
            yield PART_TOO_LATE
        case FollowConfiguration(configuration=configuration), ConfigurationFollowed(replica_id=0):
            if configuration.voter(address.member_id) is not None:
                yield FOLLOW_TOO_LATE
        case _:
            pass


def _entries(votes: Iterable[Vote]) -> Iterator[MembershipEntry]:
    for vote in votes:
        entry = membership_entry(vote.value)
        if entry is not None:
            yield entry


def _of_event(role: Role, event: Event, message: Message) -> Iterator[str]:
    match event, message:
        case MasterStarted(), _ if isinstance(role, Proposer):
            if role.configuration.config_id != GENESIS_CONFIG_ID:
                yield LED_ON
        case MessageRefused(), Prepare() | Accept() if isinstance(role, Acceptor):
            if role.state.tombstones:
                yield ASKED_TOO_LATE
        case ConfigurationLearned(), LearnReply() | ChainReply():
            yield TAUGHT
        case _:
            pass


def _of_record(role: Role, record: Record) -> Iterator[str]:
    match record:
        case GroupRemoved():
            yield FORGOT
        case GroupCreated() if isinstance(role, Acceptor):
            yield VOTES_AGAIN if role.state.tombstones else VOTES
        case PartLeft():
            yield PART_LEFT
        case _:
            pass


def _of_learner(role: Learner, envelope: Envelope, now_ns: int) -> Iterator[str]:
    config_id = role.configuration.config_id
    match envelope.message:
        case LeaseNotice(until_ns=until_ns) if envelope.config_id < config_id and until_ns > now_ns:
            yield OLD_NOTICE
        case _:
            pass
