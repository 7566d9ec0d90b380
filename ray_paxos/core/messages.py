"""The messages that roles exchange, one frozen class each, by the names of the papers.

```
Proposer ── Prepare ─▶ Acceptor         Proposer ── Accept ─▶ Acceptor
         ◀─ Promise ──                           ◀─ Accepted ──
         ◀─ Nack / BelowFloor                    ◀─ Nack / BelowFloor
         ── PreVote ─▶ Acceptor                  ── Heartbeat ─▶ Acceptor
         ◀─ PreVoteGranted, Nack                 ◀─ HeartbeatConfirmed, Nack
         ── LeaseRelease ─▶ Acceptor             ── TakeOver ─▶ Proposer of another member

Proposer ── Heartbeat ─▶ Proposer, Acceptor, Learner of every member
Proposer ── LeaseNotice, RevokeLease ─▶ Learner (own)
```

Those to and from learners are in `learner_messages`, those about chains and checkpoints in
`checkpoint_messages`, those of clients in `client_messages`, those about who votes in
`membership_messages`. A handler assumes nothing about order,
and every message may be lost, repeated or late. Whoever counts a reply checks the ballot and the
config_id it was given under.
"""

from __future__ import annotations

import enum
from typing import TypeAlias

import msgspec

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.checkpoint_messages import (
    ChainReply,
    ChainRequest,
    CheckpointDue,
    CheckpointOffer,
    CheckpointReady,
    CheckpointRequest,
    CheckpointsKept,
    Chunk,
    ChunkRequest,
    FetchCheckpoint,
    LearnerInstalled,
    LogCleaned,
    SavedTaken,
    SaveWanted,
    SegmentDamaged,
    StateSaved,
    TakeCheckpoint,
)
from ray_paxos.core.client_messages import (
    Flush,
    MasterTransferred,
    OpenSession,
    Query,
    QueryAnswers,
    QueryFailed,
    QueryMany,
    QueryResult,
    QuorumRead,
    QuorumReadAnswer,
    ReadIndex,
    ReadIndexConfirmed,
    Redirected,
    Refused,
    Submit,
    Submitted,
    TransferMaster,
)
from ray_paxos.core.genesis import Configuration
from ray_paxos.core.learner_messages import (
    Applied,
    CatchUp,
    ChainPoint,
    Chosen,
    LearnerStatus,
    LearnReply,
    LearnRequest,
    RaiseVoteFloor,
    SegmentMerged,
    SegmentSealed,
    SegmentsListed,
    SegmentsWanted,
    VoteFloorRaised,
)
from ray_paxos.core.membership_messages import (
    ChangeMembership,
    ConfigurationFollowed,
    FollowConfiguration,
    MembershipChanged,
)
from ray_paxos.core.parts_messages import DropPart, PartsChanged, PartsFollowed, TakePart


class RoleName(enum.IntEnum):
    """The part an actor plays for its member; clients are outside every member."""

    CLIENT = 0
    PROPOSER = 1
    ACCEPTOR = 2
    LEARNER = 3
    CHECKPOINTER = 4


class Address(msgspec.Struct, frozen=True, order=True, array_like=True):
    """Where a message goes: a role of a member (for a client its own random id)."""

    member_id: int
    role: RoleName


class Vote(msgspec.Struct, frozen=True, array_like=True):
    """What an acceptor has accepted for one instance: the ballot, and the encoded value."""

    instance_id: int
    ballot: Ballot
    value: bytes


class Prepare(msgspec.Struct, frozen=True, array_like=True, tag="prepare"):
    """Asks an acceptor to promise the whole log from one instance on (PMS, section 3).

    Sent again with a higher `from_instance` at the same ballot to read the next page of votes.

    Attributes:
        ballot: To be promised.
        from_instance: The first instance whose vote is asked for.
        released: A ballot whose holder has released its lease in favour of this proposer; None
            where it was not asked to take over.
    """

    ballot: Ballot
    from_instance: int
    released: Ballot | None = None


class PreVote(msgspec.Struct, frozen=True, array_like=True, tag="pre_vote"):
    """Asks an acceptor whether it would promise; it changes nothing there."""

    ballot: Ballot


class PreVoteGranted(msgspec.Struct, frozen=True, array_like=True, tag="pre_vote_granted"):
    """The acceptor would promise `ballot` now: no lease runs, and it hears of no master."""

    ballot: Ballot


class Promise(msgspec.Struct, frozen=True, array_like=True, tag="promise"):
    """The acceptor will accept nothing below `ballot`, in any instance.

    Attributes:
        ballot: The ballot asked for.
        from_instance: Of the prepare that is answered.
        floor: The vote floor: everything below is chosen, and votes there are gone.
        votes: Those at or above `from_instance`, ascending, as many as fit one page.
        next_instance: Where the next page starts; None where this page is the last. The promise
            counts only once the last page is in.
    """

    ballot: Ballot
    from_instance: int
    floor: int
    votes: tuple[Vote, ...]
    next_instance: int | None


class Accept(msgspec.Struct, frozen=True, array_like=True, tag="accept"):
    """Asks an acceptor to vote for a value in one instance, and to confirm a round on the way.

    Attributes:
        ballot: The master's.
        instance_id: Which instance.
        value: Encoded.
        sequence: The newest round of heartbeats that had begun when this left; 0 for none.
        lease_ms: As in `Heartbeat`.
        trace: Of the users whose commands the value holds (`core.traces`); empty for none.
    """

    ballot: Ballot
    instance_id: int
    value: bytes
    sequence: int = 0
    lease_ms: int = 0
    trace: str = ""


class Accepted(msgspec.Struct, frozen=True, array_like=True, tag="accepted"):
    """The acceptor's vote at this ballot is durable.

    Attributes:
        ballot: Of the accept.
        instance_id: Of the accept.
        sequence: Of the accept, where the vote confirms that round, too; else 0.
    """

    ballot: Ballot
    instance_id: int
    sequence: int = 0


class NackReason(enum.IntEnum):
    """Why an acceptor refuses a prepare, an accept or a heartbeat."""

    PROMISED = 1
    """It has promised a higher ballot, which `promised` names in full."""
    CONFIGURATION_OLD = 2
    """The sender's configuration is older than the acceptor's, which `config_id` names."""
    CONFIGURATION_NEW = 3
    """The acceptor has not learned the sender's configuration yet."""
    NOT_A_VOTER = 4
    """The sender does not vote in the acceptor's configuration."""
    STORAGE_FULL = 5
    """The acceptor's disk has no room for another record."""
    BEFORE_CONFIGURATION = 6
    """A configuration never governs an instance at or below its entry."""
    LEASED = 7
    """It has granted another member a lease, or may have before it restarted: see `wait_ms`."""


class Nack(msgspec.Struct, frozen=True, array_like=True, tag="nack"):
    """A refusal, with all that the proposer needs to do better.

    Attributes:
        ballot: The ballot refused.
        instance_id: Of the accept refused; 0 for a prepare or a heartbeat.
        reason: Why.
        promised: The acceptor's promise; None before its first.
        config_id: The acceptor's configuration.
        wait_ms: With LEASED, after how long asking again makes sense; else 0.
    """

    ballot: Ballot
    instance_id: int
    reason: NackReason
    promised: Ballot | None
    config_id: int
    wait_ms: int = 0


class BelowFloor(msgspec.Struct, frozen=True, array_like=True, tag="below_floor"):
    """The instance of an accept lies below the vote floor: it is chosen, and to be learned."""

    ballot: Ballot
    instance_id: int
    floor: int


class HeardFrom(msgspec.Struct, frozen=True, array_like=True):
    """When a learner sent the latest status that the master has of it.

    Attributes:
        incarnation: Of the learner's folder: its clock may have begun anew with another life.
        sent_ns: On that learner's own clock.
    """

    incarnation: int
    sent_ns: int


class Heartbeat(msgspec.Struct, frozen=True, array_like=True, tag="heartbeat"):
    """The master is there; sent to every member's proposer, acceptor and learner, off the log.

    Attributes:
        ballot: The master's.
        sequence: Counts this master's rounds at this ballot.
        confirmed: Since the round before was sent, a quorum of acceptors confirmed a further one;
            only such a heartbeat keeps others from standing.
        chosen_through: Every instance up to it is chosen, by the master's count.
        majority_durable: Every instance up to it is durable in a majority's segments.
        point: Chains of the master's learner.
        confirmed_sequence: The latest round of this reign that a quorum confirmed; 0 for none.
        lease_ms: For how long the acceptor is asked to promise nobody else anything; 0 for not.
        heard: To a learner: what the master last had of it before this round began.
    """

    ballot: Ballot
    sequence: int
    confirmed: bool
    chosen_through: int
    majority_durable: int
    point: ChainPoint
    confirmed_sequence: int = 0
    lease_ms: int = 0
    heard: HeardFrom | None = None


class HeartbeatConfirmed(msgspec.Struct, frozen=True, array_like=True, tag="heartbeat_confirmed"):
    """The acceptor has promised nothing above `ballot`, and granted the lease asked for."""

    ballot: Ballot
    sequence: int


class LeaseRelease(msgspec.Struct, frozen=True, array_like=True, tag="lease_release"):
    """The holder's learner has acknowledged that the lease at `ballot` is over.

    The ballot is dead from here on: nothing is proposed, confirmed or granted at it any more.
    """

    ballot: Ballot


class LeaseNotice(msgspec.Struct, frozen=True, array_like=True, tag="lease_notice"):
    """A master tells its own member's learner that it may answer reads by itself.

    Attributes:
        ballot: The master's.
        learner_incarnation: The life of the learner that this is for: another one may not have
            applied what this one has.
        until_ns: On the host's clock.
        chosen_through: A read has to see at least this.
    """

    ballot: Ballot
    learner_incarnation: int
    until_ns: int
    chosen_through: int


class RevokeLease(msgspec.Struct, frozen=True, array_like=True, tag="revoke_lease"):
    """Void, for ever, of all notices at or below `ballot`; answered with a `LearnerStatus`."""

    ballot: Ballot


class TakeOver(msgspec.Struct, frozen=True, array_like=True, tag="take_over"):
    """A master that has released its lease wants this member to lead now, without a pre-vote."""

    released: Ballot


class CreateGroup(msgspec.Struct, frozen=True, array_like=True, tag="create_group"):
    """The explicit order that makes a group at a member; the only thing that does (design 9).

    Attributes:
        replica_id: The member's identity in the group; above every one it has held there.
        configuration: Of the genesis or of the entry that added the member.
        floor: The new voter's vote floor: above the entry that made it one; 1 at genesis.
    """

    replica_id: int
    configuration: Configuration
    floor: int


class RemoveGroup(msgspec.Struct, frozen=True, array_like=True, tag="remove_group"):
    """The explicit order that ends a member's vote in a group and leaves a tombstone.

    Attributes:
        replica_id: That goes, and no order for it or a lower one brings back.
        config_id: Of the configuration by which it does not vote: under a later one it may.
    """

    replica_id: int
    config_id: int = 0


class OrderDone(msgspec.Struct, frozen=True, array_like=True, tag="order_done"):
    """Answers an order, once its record is durable.

    Attributes:
        replica_id: Of the order.
        refused: Why the order was refused; empty where it holds (also when it held before).
    """

    replica_id: int
    refused: str


Message: TypeAlias = (
    Prepare
    | Promise
    | Accept
    | Accepted
    | Nack
    | BelowFloor
    | Heartbeat
    | HeartbeatConfirmed
    | PreVote
    | PreVoteGranted
    | LeaseRelease
    | LeaseNotice
    | RevokeLease
    | TakeOver
    | TransferMaster
    | MasterTransferred
    | Chosen
    | LearnerStatus
    | Applied
    | CatchUp
    | LearnRequest
    | LearnReply
    | RaiseVoteFloor
    | VoteFloorRaised
    | SegmentSealed
    | SegmentsListed
    | SegmentsWanted
    | SegmentMerged
    | CreateGroup
    | RemoveGroup
    | OrderDone
    | FollowConfiguration
    | ConfigurationFollowed
    | ChangeMembership
    | MembershipChanged
    | TakePart
    | DropPart
    | PartsChanged
    | PartsFollowed
    | ChainRequest
    | ChainReply
    | CheckpointsKept
    | FetchCheckpoint
    | CheckpointReady
    | LearnerInstalled
    | SaveWanted
    | StateSaved
    | SavedTaken
    | SegmentDamaged
    | LogCleaned
    | CheckpointRequest
    | CheckpointOffer
    | ChunkRequest
    | Chunk
    | TakeCheckpoint
    | CheckpointDue
    | Flush
    | OpenSession
    | Submit
    | Submitted
    | Redirected
    | Refused
    | Query
    | QueryMany
    | QueryAnswers
    | ReadIndex
    | ReadIndexConfirmed
    | QueryResult
    | QueryFailed
    | QuorumRead
    | QuorumReadAnswer
)


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    """One message with all that says whose it is.

    Attributes:
        genesis: Hash of the sender's genesis.
        group: Which group's log it is about.
        sender: The role that sent it.
        replica_id: The sender's identity in the group; 0 where it has none.
        incarnation: Of the sender's folder; 0 for a client.
        config_id: The configuration the sender counts under.
        message: What it says.
    """

    genesis: bytes
    group: int
    sender: Address
    replica_id: int
    incarnation: int
    config_id: int
    message: Message
