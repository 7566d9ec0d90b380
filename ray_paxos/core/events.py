"""What happened inside a role, named in the past tense; for logs, metrics and checkers only.

Events never change behaviour: a role that emitted none would do the same.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.client_messages import RefusalCode
from ray_paxos.core.genesis import Configuration
from ray_paxos.core.intake import Request
from ray_paxos.core.messages import NackReason


class PromiseGranted(msgspec.Struct, frozen=True):
    """An acceptor promised; `floor` and `votes` are what the promise carried."""

    group: int
    ballot: Ballot
    floor: int
    votes: int


class AcceptRejected(msgspec.Struct, frozen=True):
    """An acceptor refused a prepare, accept or heartbeat."""

    group: int
    ballot: Ballot
    reason: NackReason


class MessageRefused(msgspec.Struct, frozen=True):
    """A message was dropped unanswered: another cluster's, or for a group that is not here."""

    group: int
    reason: str


class PrepareStarted(msgspec.Struct, frozen=True):
    """A proposer asks to lead from an instance on."""

    group: int
    ballot: Ballot
    from_instance: int


class ValueAdopted(msgspec.Struct, frozen=True):
    """A new master found a vote and proposes its value again."""

    group: int
    instance_id: int
    voted_at: Ballot


class HoleFilled(msgspec.Struct, frozen=True):
    """A new master found no vote below the highest one, and proposes a no-op."""

    group: int
    instance_id: int


class GroupNotOpened(msgspec.Struct, frozen=True):
    """A role could not begin to play its part in a group that its member was given."""

    group: int
    why: str


class ConfigurationLearned(msgspec.Struct, frozen=True):
    """A learner's log has come to another configuration of its group."""

    group: int
    configuration: Configuration


class MasterStarted(msgspec.Struct, frozen=True):
    """A proposer applied its own master record and serves."""

    group: int
    ballot: Ballot
    instance_id: int


class MasterChanged(msgspec.Struct, frozen=True):
    """A member's proposer heard that its learner applied a later master record."""

    group: int
    master: int
    version: int


class MajorityPromised(msgspec.Struct, frozen=True):
    """A majority of the voters promised a proposer its ballot.

    Attributes:
        group: Whose.
        ballot: Which.
        after_ns: How long after the prepares had left for the first time.
    """

    group: int
    ballot: Ballot
    after_ns: int


class CandidacyEnded(msgspec.Struct, frozen=True):
    """A proposer gave up an attempt to lead."""

    group: int
    ballot: Ballot
    reason: str


class PrepareResent(msgspec.Struct, frozen=True):
    """A prepare was sent again: no majority answered in time, or who refused may do so no more."""

    group: int
    ballot: Ballot


class AcceptResent(msgspec.Struct, frozen=True):
    """An accept was not answered by a majority in time, and was sent again."""

    group: int
    instance_id: int


class MasterStopped(msgspec.Struct, frozen=True):
    """A proposer stopped leading."""

    group: int
    ballot: Ballot
    reason: str


class InstanceChosen(msgspec.Struct, frozen=True):
    """A proposer counted a quorum of votes."""

    group: int
    instance_id: int
    ballot: Ballot
    value: bytes


class CommandsAnswered(msgspec.Struct, frozen=True, kw_only=True):
    """A master's own learner applied an instance, and the clients in it are answered.

    All times are on the proposer's clock.

    Attributes:
        group: Whose.
        instance_id: Which.
        requests: Those that it answers; each says when it was taken in.
        byte_count: Of the value.
        opened_ns: When the accepts left for the first time.
        votes: (member_id, when its accepted came in), of those that made it chosen.
        chosen_ns: When the last of these came in.
        answered_ns: When the results were here.
    """

    group: int
    instance_id: int
    requests: tuple[Request, ...]
    byte_count: int
    opened_ns: int
    votes: tuple[tuple[int, int], ...]
    chosen_ns: int
    answered_ns: int


class RequestRefused(msgspec.Struct, frozen=True):
    """A proposer did not take a client's request."""

    group: int
    code: RefusalCode


class RequestRedirected(msgspec.Struct, frozen=True):
    """A proposer that does not lead sent a client on."""

    group: int


class NackReceived(msgspec.Struct, frozen=True):
    """A voter refused this proposer's prepare, accept or heartbeat."""

    group: int
    member_id: int
    reason: NackReason


class InstanceApplied(msgspec.Struct, frozen=True):
    """A learner executed an instance."""

    group: int
    instance_id: int
    value: bytes
    result_chain: bytes


class ApplyingStopped(msgspec.Struct, frozen=True):
    """A learner stopped applying: a machine failed, or its chains differ from the master's."""

    group: int
    why: str


class ChainsDiffered(msgspec.Struct, frozen=True):
    """The master's chain and the own one differ after an instance; applying stops for it.

    Attributes:
        group: Whose log.
        instance_id: After which instance; they may differ from an earlier one on.
        what: `values` or `results`.
    """

    group: int
    instance_id: int
    what: str


class SegmentsSealed(msgspec.Struct, frozen=True):
    """A learner's instances became durable in its chosen log."""

    group: int
    first: int
    last: int


class LogCutOff(msgspec.Struct, frozen=True):
    """A learner's log begins later now: what was below is in checkpoints."""

    group: int
    floor: int


class SegmentDamageFound(msgspec.Struct, frozen=True):
    """A segment is not what was written; its instances are fetched from another member."""

    group: int
    first: int
    last: int
    why: str


class SegmentRepaired(msgspec.Struct, frozen=True):
    """The range of a damaged segment is whole again."""

    group: int
    first: int
    last: int


class CheckpointPublished(msgspec.Struct, frozen=True):
    """A checkpoint is published.

    Attributes:
        group: Whose.
        instance_id: As of which instance.
        chain: Value chain after it.
        result_chain: Result chain after it.
        byte_count: Of its files.
    """

    group: int
    instance_id: int
    chain: bytes
    result_chain: bytes
    byte_count: int


class CheckpointFailed(msgspec.Struct, frozen=True):
    """A checkpoint could not be made; it is tried again."""

    group: int
    why: str


class CheckpointDamaged(msgspec.Struct, frozen=True):
    """A checkpoint is not what was written: it was set aside."""

    group: int
    instance_id: int
    why: str


class CheckpointInstalled(msgspec.Struct, frozen=True):
    """A learner goes on from a checkpoint, its own or another member's.

    Attributes:
        group: Whose.
        instance_id: As of which instance.
        chain: Value chain after it.
        result_chain: Result chain after it.
    """

    group: int
    instance_id: int
    chain: bytes
    result_chain: bytes


class ChunkDiffered(msgspec.Struct, frozen=True):
    """Two members have different chains after one instance.

    What one of them gave is thrown away, unless it was learned before on that one's word alone.
    """

    group: int
    instance_id: int
    source: int
    source_chain: bytes
    other: int
    other_chain: bytes


class ChunksConfirmed(msgspec.Struct, frozen=True):
    """A second member has said the same as the one on whose word alone something was learned.

    Attributes:
        group: Whose log.
        member_id: The second member.
        through: Everything through this instance it has as we have.
        count: Chunks that this confirms.
    """

    group: int
    member_id: int
    through: int
    count: int


class CatchUpUnanswered(msgspec.Struct, frozen=True):
    """A member that was asked for instances did not give any in time; another is asked."""

    group: int
    source: int


class CheckpointFetchStarted(msgspec.Struct, frozen=True):
    """A member is asked for its newest checkpoint."""

    group: int
    source: int


class CheckpointFetchFailed(msgspec.Struct, frozen=True):
    """A member's checkpoint could not be had from it; another member is asked, if there is one."""

    group: int
    source: int
    why: str


class FloorRaised(msgspec.Struct, frozen=True):
    """An acceptor's vote floor rose."""

    group: int
    floor: int


class CommandRefused(msgspec.Struct, frozen=True):
    """The host refused a command for its session's sake (a gap, a closed number, no session)."""

    group: int
    instance_id: int
    code: int


class CaughtUp(msgspec.Struct, frozen=True):
    """A learner took chosen instances from another member's log."""

    group: int
    source: int
    count: int


class InvariantBroken(msgspec.Struct, frozen=True):
    """Something that the protocol excludes; the group stops here and wants a person."""

    group: int
    what: str


class StorageFailed(msgspec.Struct, frozen=True):
    """A write or fsync failed; the role stopped and vouches for nothing more (R3)."""

    what: str


Event: TypeAlias = (
    PromiseGranted
    | AcceptRejected
    | MessageRefused
    | PrepareStarted
    | ValueAdopted
    | HoleFilled
    | ConfigurationLearned
    | GroupNotOpened
    | MajorityPromised
    | CandidacyEnded
    | PrepareResent
    | AcceptResent
    | MasterStarted
    | MasterChanged
    | MasterStopped
    | InstanceChosen
    | CommandsAnswered
    | RequestRefused
    | RequestRedirected
    | NackReceived
    | InstanceApplied
    | ApplyingStopped
    | ChainsDiffered
    | SegmentsSealed
    | LogCutOff
    | SegmentDamageFound
    | SegmentRepaired
    | CheckpointPublished
    | CheckpointFailed
    | CheckpointDamaged
    | CheckpointInstalled
    | ChunkDiffered
    | ChunksConfirmed
    | FloorRaised
    | CommandRefused
    | CaughtUp
    | CatchUpUnanswered
    | CheckpointFetchStarted
    | CheckpointFetchFailed
    | InvariantBroken
    | StorageFailed
)
