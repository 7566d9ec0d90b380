"""Messages to and from learners: what is chosen, how far they are, and where their segments end.

```
Proposer ── Chosen ──▶ Learner (own)  ── LearnerStatus + Applied ─▶ Proposer
         ── Chosen ──▶ Learner (others) ─ LearnerStatus ─▶ Proposer
         ── CatchUp ─▶ Learner (own)

Learner  ── LearnRequest ─▶ Learner, Checkpointer of another member ─ LearnReply ─▶ Learner
Learner  ── RaiseVoteFloor ─▶ Acceptor (own) ── VoteFloorRaised ─▶ Learner
Learner  ── SegmentSealed, SegmentsListed ─▶ Checkpointer (own)
         ◀── SegmentMerged, SegmentsWanted ──
```
"""

from __future__ import annotations

import msgspec

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.genesis import Configuration, MachineSpec, MemberSpec
from ray_paxos.core.results import EntryResult


class ChainPoint(msgspec.Struct, frozen=True, array_like=True):
    """Both chains after one instance.

    Attributes:
        instance_id: After which instance; 0 for the empty log.
        chain: Over the values.
        result_chain: Over the results; None while applying is stopped before it.
    """

    instance_id: int
    chain: bytes
    result_chain: bytes | None


class ChosenValue(msgspec.Struct, frozen=True, array_like=True):
    """One instance, said to be chosen at a ballot, with its encoded value."""

    instance_id: int
    ballot: Ballot
    value: bytes


class Chosen(msgspec.Struct, frozen=True, array_like=True, tag="chosen"):
    """Instances that are chosen, from the proposer that counted the votes.

    Attributes:
        values: In ascending order; may leave gaps.
        chosen_through: As in `Heartbeat`.
        majority_durable: As in `Heartbeat`.
        trace: Of the users who wait for the results (`core.traces`), to the own member's learner;
            empty for none.
    """

    values: tuple[ChosenValue, ...]
    chosen_through: int
    majority_durable: int
    trace: str = ""


class LearnerStatus(msgspec.Struct, frozen=True, array_like=True, tag="learner_status"):
    """How far a learner is; answers `Chosen` and `Heartbeat`.

    Attributes:
        learned_through: Every instance up to it is learned.
        applied_through: Every instance up to it is applied.
        durable_through: Every instance up to it is in sealed, durable segments.
        log_floor: The lowest instance still in its log.
        point: Chains after `applied_through` (after `learned_through` while applying is stopped).
        log_time_ns: Log time of the last applied instance.
        ballot: The highest ballot at which it learned anything; None for an empty log.
        mounted: The machines of the group, as applied.
        stopped: Why applying stopped; empty while it goes on.
        sent_ns: When this was sent, on the learner's clock; 0 where it was not sent.
        master: The member of the last master record applied; 0 for none.
        master_version: That record's instance: the fencing token.
        proposer_incarnation: The latest life of the own member's proposer that it heard of.
        revoked: The highest ballot whose lease notices are void; None for none.
        configuration: That the log has come to, with `learned_through`; to the own proposer, where
            that counts under an older one; else None.
        due_log_time_ns: At which log time something in the group's state is due (`ticks`); None for
            nothing.
    """

    learned_through: int
    applied_through: int
    durable_through: int
    log_floor: int
    point: ChainPoint
    log_time_ns: int
    ballot: Ballot | None
    mounted: tuple[MachineSpec, ...]
    stopped: str
    sent_ns: int = 0
    master: int = 0
    master_version: int = 0
    proposer_incarnation: int = 0
    revoked: Ballot | None = None
    configuration: Configuration | None = None
    due_log_time_ns: int | None = None


class Applied(msgspec.Struct, frozen=True, array_like=True, tag="applied"):
    """Results of one instance, from a learner to its own member's proposer."""

    instance_id: int
    ballot: Ballot
    results: tuple[EntryResult, ...]


class CatchUp(msgspec.Struct, frozen=True, array_like=True, tag="catch_up"):
    """A proposer asks its own learner to learn up to an instance, from these members first.

    From another member: through 0, it asks how far this one is; else it says who knows more, as a
    member does that has left the group and is asked by one that has not heard of that.

    Attributes:
        through: The instance.
        sources: Ids of members that have learned it.
        joined: Those of them that are not of the genesis, where they may be unknown.
    """

    through: int
    sources: tuple[int, ...]
    joined: tuple[MemberSpec, ...] = ()


def who_has(configuration: Configuration, member_ids: tuple[int, ...]) -> CatchUp:
    """Tells a learner that these have all through a configuration, and how each is reached."""
    return CatchUp(configuration.config_id, member_ids, configuration.joined)


class LearnRequest(msgspec.Struct, frozen=True, array_like=True, tag="learn_request"):
    """A learner asks a learner or a checkpointer for chosen instances.

    Attributes:
        from_instance: The first one wanted.
        bytes_max: How much it takes at once.
    """

    from_instance: int
    bytes_max: int


class LearnReply(msgspec.Struct, frozen=True, array_like=True, tag="learn_reply"):
    """Chosen instances from another member's log.

    Attributes:
        from_instance: As asked.
        values: Contiguous from `from_instance`; empty where the sender has none to give.
        learned_through: How far the sender is.
        memory_floor: The lowest instance the learner holds in memory: what is below is for its
            member's checkpointer to send. 0 from a checkpointer.
        log_floor: The lowest instance in the sender's log: what is below is in its checkpoints.
        wait_ms: So long to wait before asking for more.
    """

    from_instance: int
    values: tuple[ChosenValue, ...]
    learned_through: int
    memory_floor: int
    log_floor: int
    wait_ms: int = 0


class RaiseVoteFloor(msgspec.Struct, frozen=True, array_like=True, tag="raise_vote_floor"):
    """A learner tells its own acceptor that votes below `floor` are no longer needed.

    Everything below is contiguous, chosen and durable in this member's segments and, by the
    master's word, in those of a majority.
    """

    floor: int


class VoteFloorRaised(msgspec.Struct, frozen=True, array_like=True, tag="vote_floor_raised"):
    """The acceptor's floor, durably; answers `RaiseVoteFloor`."""

    floor: int


class SegmentSealed(msgspec.Struct, frozen=True, array_like=True, tag="segment_sealed"):
    """A learner tells its checkpointer of a segment in its log.

    Attributes:
        first: Its first instance.
        last: Its last.
        byte_count: Of its values.
    """

    first: int
    last: int
    byte_count: int


class SegmentsListed(msgspec.Struct, frozen=True, array_like=True, tag="segments_listed"):
    """A learner tells its checkpointer of all segments in its log, at once.

    Told one by one, a log of many segments would never arrive in its order.

    Attributes:
        floor: The first instance of the first one; the next one to be sealed where there is none.
        segments: Ascending, each adjoining the one before.
    """

    floor: int
    segments: tuple[SegmentSealed, ...]


class SegmentsWanted(msgspec.Struct, frozen=True, array_like=True, tag="segments_wanted"):
    """A checkpointer missed something: it asks its learner to tell of all segments again."""


class SegmentMerged(msgspec.Struct, frozen=True, array_like=True, tag="segment_merged"):
    """A checkpointer has written, synced and read back one segment that replaces several."""

    first: int
    last: int
    byte_count: int
