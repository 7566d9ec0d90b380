"""What each kind of event is to people: how grave, whether kept, and in which words.

Rules:

1. Recorded, which is kept for watchers and written to logs and files, is what says something by
   itself. What comes with instances, requests or messages is only counted. Each kind has its count
   in `paxos_events_total` but for those of every instance, which other metrics count (`meter`).
2. `ERROR` wants a person. `WARNING` is mended by the cluster itself, and somebody should know why
   it had to be. `INFO` is a change that operators ask for: who leads, who has which group. `DEBUG`
   is what goes on behind it.
3. A sentence is one line, of bounded length, whatever an error of a machine or a disk said. Its
   subject is the role that tells it, which stands beside it.
4. A value that users gave never leaves this way, and neither does one that they were answered: of
   values there is only the size.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ray_paxos.core import events
from ray_paxos.core.ballot import Ballot
from ray_paxos.core.client_messages import RefusalCode
from ray_paxos.core.events import Event
from ray_paxos.core.genesis import Configuration, Voter
from ray_paxos.core.messages import NackReason
from ray_paxos.core.results import NoteCode

WORDS_MAX = 400
"""Characters of one field in a sentence."""
FIELD_MAX = 2_000
"""Characters of one field as data."""
CHAIN_SHOWN = 8
"""Hexadecimal digits of a chain in a sentence; as data it is whole."""


@dataclass(frozen=True, slots=True)
class EventKind:
    """What one class of events is to people.

    Attributes:
        level: Of `logging`.
        sentence: With names of the event's fields in braces.
        is_recorded: Whether one is kept and written, or only counted.
    """

    level: int
    sentence: str
    is_recorded: bool = True


def _counted(sentence: str) -> EventKind:
    return EventKind(logging.DEBUG, sentence, is_recorded=False)


def _debug(sentence: str) -> EventKind:
    return EventKind(logging.DEBUG, sentence)


def _info(sentence: str) -> EventKind:
    return EventKind(logging.INFO, sentence)


def _warning(sentence: str) -> EventKind:
    return EventKind(logging.WARNING, sentence)


def _error(sentence: str) -> EventKind:
    return EventKind(logging.ERROR, sentence)


KINDS: Mapping[type[Any], EventKind] = {
    # Of acceptors.
    events.PromiseGranted: _debug(
        "promised ballot {ballot} in group {group}; votes told from instance {floor} on: {votes}"
    ),
    events.AcceptRejected: _counted("refused ballot {ballot} in group {group}: {reason}"),
    events.FloorRaised: _counted("needs no votes below instance {floor} in group {group} any more"),
    # Of proposers.
    events.PrepareStarted: _info(
        "asks to lead group {group} from instance {from_instance} on, at ballot {ballot}"
    ),
    events.ValueAdopted: _debug(
        "proposes again in group {group} what it found at instance {instance_id}, voted for at "
        "ballot {voted_at}"
    ),
    events.HoleFilled: _debug(
        "found no vote at instance {instance_id} of group {group}, and proposes nothing there"
    ),
    events.MasterStarted: _info(
        "leads group {group} and serves, at ballot {ballot}, since instance {instance_id}"
    ),
    events.MasterChanged: _debug(
        "knows {master} as the master of group {group} since instance {version}"
    ),
    events.MajorityPromised: _debug(
        "has the promises of a majority of group {group} for ballot {ballot}, after {after_ns}"
    ),
    events.CandidacyEnded: _info(
        "gave up its attempt to lead group {group}, at ballot {ballot}: {reason}"
    ),
    events.PrepareResent: _counted("asked again in group {group} for promises of {ballot}"),
    events.AcceptResent: _counted("asked again in group {group} for votes at {instance_id}"),
    events.MasterStopped: _info("ended its lead of group {group}, at ballot {ballot}: {reason}"),
    events.InstanceChosen: _counted(
        "instance {instance_id} of group {group} is chosen at ballot {ballot}"
    ),
    events.CommandsAnswered: _counted(
        "answered the clients of instance {instance_id} of group {group}, requests: {requests}"
    ),
    events.RequestRefused: _counted("refused a request in group {group}: {code}"),
    events.RequestRedirected: _counted("sent a client of group {group} on to the master"),
    events.NackReceived: _counted("was refused by {member_id} in group {group}: {reason}"),
    # Of learners.
    events.InstanceApplied: _counted("applied instance {instance_id} of group {group}"),
    events.CommandRefused: _counted(
        "refused a command at instance {instance_id} of group {group} for its session's sake: "
        "{code}"
    ),
    events.ApplyingStopped: _error("applies nothing more in group {group}: {why}"),
    events.ChainsDiffered: _error(
        "has other {what} than the master in group {group}, after instance {instance_id} or before"
    ),
    events.ChunkDiffered: _error(
        "{source} and {other} have different logs of group {group} after instance {instance_id}: "
        "checksums {source_chain} and {other_chain}"
    ),
    events.ChunksConfirmed: _counted(
        "{member_id} has the same log of group {group} through instance {through}; parts that "
        "this confirms: {count}"
    ),
    events.CaughtUp: _counted(
        "took instances of group {group} from {source}, which were missing here: {count}"
    ),
    events.CatchUpUnanswered: _counted(
        "asked {source} in vain for instances of group {group}, and asks another member"
    ),
    events.ConfigurationLearned: _info("group {group} has {configuration}"),
    events.SegmentsSealed: _counted(
        "instances {first} to {last} of group {group} are durable in the log"
    ),
    events.LogCutOff: _debug("the log of group {group} begins at instance {floor} now"),
    events.SegmentDamageFound: _warning(
        "instances {first} to {last} of group {group} are damaged on the disk, and are fetched "
        "from another member: {why}"
    ),
    events.SegmentRepaired: _info(
        "instances {first} to {last} of group {group} are whole again on the disk"
    ),
    events.CheckpointInstalled: _info(
        "goes on in group {group} from the checkpoint at instance {instance_id}"
    ),
    # Of checkpointers.
    events.CheckpointPublished: _debug(
        "made a checkpoint of group {group} at instance {instance_id}, of {byte_count} bytes"
    ),
    events.CheckpointFailed: _warning(
        "could not make a checkpoint of group {group}, and tries again: {why}"
    ),
    events.CheckpointDamaged: _warning(
        "the checkpoint of group {group} at instance {instance_id} is damaged on the disk, and "
        "was set aside: {why}"
    ),
    events.CheckpointFetchStarted: _info("asks {source} for its checkpoint of group {group}"),
    events.CheckpointFetchFailed: _warning(
        "could not get a checkpoint of group {group} from {source}: {why}"
    ),
    # Of any role.
    events.MessageRefused: _debug("dropped a message for group {group}: {reason}"),
    events.GroupNotOpened: _error("takes no part in group {group}: {why}"),
    events.InvariantBroken: _error(
        "stops in group {group}, where something happened that must never happen: {what}"
    ),
    events.StorageFailed: _error("a write to the disk failed, and the role stopped: {what}"),
}
"""Of every class of events."""

_MEMBERS = frozenset(("master", "source", "other", "member_id"))
"""Fields that hold a member_id."""
_VALUES = frozenset(("value", "requests"))
"""Fields that hold what users gave."""
_UNKNOWN = EventKind(logging.WARNING, "told something that nobody has put into words yet")
_NACKS: Mapping[NackReason, str] = {
    NackReason.PROMISED: "a higher ballot is promised",
    NackReason.CONFIGURATION_OLD: "the proposer knows older members of the group",
    NackReason.CONFIGURATION_NEW: "the acceptor knows older members of the group",
    NackReason.NOT_A_VOTER: "the proposer does not vote in the group",
    NackReason.STORAGE_FULL: "the acceptor's disk is full",
    NackReason.BEFORE_CONFIGURATION: "the proposer's members do not decide that instance",
    NackReason.LEASED: "another member has a lease",
}
_REFUSALS: Mapping[RefusalCode, str] = {
    RefusalCode.OVERLOADED: "there is too much to do",
    RefusalCode.TOO_LARGE: "it is too large",
    RefusalCode.UNKNOWN_GROUP: "there is no such group here",
    RefusalCode.MALFORMED: "it cannot be read",
    RefusalCode.TOO_LATE: "its time was over",
    RefusalCode.APPLY_STOPPED: "a machine has failed at this member",
    RefusalCode.NOT_TRANSFERRED: "the lead was not handed over",
    RefusalCode.NOT_CHANGED: "the members were not changed",
}


def kind_of(event: Event) -> str:
    """Its kind, by which it is counted and found: the name of its class."""
    return type(event).__name__


def is_recorded(kind: type[Any]) -> bool:
    """Whether events of a class are kept and written; only counted otherwise."""
    return KINDS.get(kind, _UNKNOWN).is_recorded


def level_of(kind: type[Any]) -> str:
    """How grave events of a class are: `DEBUG`, `INFO`, `WARNING` or `ERROR`."""
    return logging.getLevelName(KINDS.get(kind, _UNKNOWN).level)


def describe(event: Event, names: Mapping[int, str]) -> str:
    """One sentence for a person.

    Args:
        event: What happened.
        names: Of the members, by member_id; a member without one is told by its id.

    Returns:
        One line of bounded length, without its subject: the role that emitted the event.
    """
    fields = msgspec.structs.asdict(event)
    words = {field: _words(field, value, names) for field, value in fields.items()}
    return KINDS.get(type(event), _UNKNOWN).sentence.format_map(words)


def fields_of(event: Event) -> dict[str, Any]:
    """The event's own fields but for its group, as data that JSON can hold.

    Returns:
        Bytes as hexadecimal digits, enums by name, ballots as `[round, member_id, incarnation]`,
        voters as `[member_id, replica_id]`; of a value its size as `value_bytes`, of requests their
        number.
    """
    plain: dict[str, Any] = {}
    for field, value in msgspec.structs.asdict(event).items():
        if field in _VALUES:
            plain["value_bytes" if field == "value" else field] = len(value)
        elif field != "group":
            plain[field] = _plain(value)
    return plain


def ballot_text(ballot: Ballot, names: Mapping[int, str]) -> str:
    """A ballot as people read it: round, member and the life of its proposer, as in `7/m1/2`."""
    return f"{ballot.round}/{_name(ballot.member_id, names)}/{ballot.incarnation}"


def _words(field: str, value: object, names: Mapping[int, str]) -> str:
    match value:
        case Ballot():
            return ballot_text(value, names)
        case Configuration():
            return _configuration_text(value, names)
        case NackReason():
            return _NACKS[value]
        case RefusalCode():
            return _REFUSALS[value]
        case bytes():
            return value.hex()[:CHAIN_SHOWN]
        case tuple():
            return str(len(value))
        case int() if field in _MEMBERS:
            return _name(value, names)
        case int() if field.endswith("_ns"):
            return f"{value / 1e6:.1f} ms"
        case int() if field == "code":
            known = {int(code): code.name for code in NoteCode}
            return known.get(value, str(value)).lower().replace("_", " ")
    return _bounded(" ".join(str(value).split()), WORDS_MAX)


def _configuration_text(configuration: Configuration, names: Mapping[int, str]) -> str:
    known = {**{each.member_id: each.name for each in configuration.joined}, **names}

    def listed(voters: tuple[Voter, ...]) -> str:
        return ", ".join(_name(each.member_id, known) for each in voters) or "none"

    followers = f" and the followers {listed(configuration.followers)}"
    return (
        f"the voters {listed(configuration.voters)}{followers if configuration.followers else ''} "
        f"after instance {configuration.config_id}"
    )


def _name(member_id: int, names: Mapping[int, str]) -> str:
    return names.get(member_id) or f"member {member_id}"


def _bounded(text: str, length_max: int) -> str:
    """At most so long, and with nothing in it that UTF-8 cannot hold, as paths may have."""
    cut = text if len(text) <= length_max else text[: length_max - 1] + "…"
    return cut.encode("utf-8", "replace").decode("utf-8")


def _plain(value: object) -> Any:
    match value:
        case enum.Enum():
            return value.name
        case bytes():
            return value.hex()
        case str():
            return _bounded(value, FIELD_MAX)
        case Ballot():
            return [value.round, value.member_id, value.incarnation]
        case Voter():
            return [value.member_id, value.replica_id]
        case msgspec.Struct():
            return {k: _plain(each) for k, each in msgspec.structs.asdict(value).items()}
        case tuple():
            return [_plain(each) for each in value]
    return value
