"""Messages about chains, checkpoints and damage, within a member and between members.

```
Learner ── ChainRequest ─▶ Learner, Checkpointer of another member ── ChainReply ─▶ Learner

Learner ── FetchCheckpoint, LogCleaned ─▶ Checkpointer (own)
        ◀── CheckpointsKept, CheckpointReady, SegmentDamaged ──
        ── LearnerInstalled ─▶ Proposer (own)

Checkpointer ── SaveWanted ─▶ Learner (own) ── StateSaved ─▶ Checkpointer ── SavedTaken ─▶ Learner

Checkpointer ── CheckpointRequest, ChunkRequest ─▶ Checkpointer of another member
             ◀── CheckpointOffer, Chunk ──

Client ── TakeCheckpoint ─▶ Checkpointer ── CheckpointDue ─▶ Client
```
"""

from __future__ import annotations

import msgspec


class ChainRequest(msgspec.Struct, frozen=True, array_like=True, tag="chain_request"):
    """A learner asks for the value chain after one instance, to compare another's chunk with."""

    instance_id: int


class ChainReply(msgspec.Struct, frozen=True, array_like=True, tag="chain_reply"):
    """The chain after that instance, as this member has it.

    Attributes:
        instance_id: As asked.
        chain: None where it is not at hand: not learned yet, cleaned, or in segments only.
        learned_through: How far the sender is.
        memory_floor: As in `LearnReply`.
    """

    instance_id: int
    chain: bytes | None
    learned_through: int
    memory_floor: int


class CheckpointsKept(msgspec.Struct, frozen=True, array_like=True, tag="checkpoints_kept"):
    """A checkpointer tells its learner which checkpoints there are, whenever that changes.

    Attributes:
        oldest: Instance of the oldest one; 0 for none.
        newest: Instance of the newest one; 0 for none.
    """

    oldest: int
    newest: int


class FetchCheckpoint(msgspec.Struct, frozen=True, array_like=True, tag="fetch_checkpoint"):
    """A learner has its checkpointer get a checkpoint from another member.

    Attributes:
        above: Only one of a later instance helps.
        sources: Members to ask, the best first.
    """

    above: int
    sources: tuple[int, ...]


class CheckpointReady(msgspec.Struct, frozen=True, array_like=True, tag="checkpoint_ready"):
    """A fetched checkpoint is published in the own member's folder; or none can be had now.

    Attributes:
        instance_id: Its instance; 0 where fetching was given up.
        problem: Why; empty where it was not.
    """

    instance_id: int
    problem: str = ""


class LearnerInstalled(msgspec.Struct, frozen=True, array_like=True, tag="learner_installed"):
    """A learner goes on from a checkpoint: its proposer drops the promises it holds."""

    instance_id: int


class SaveWanted(msgspec.Struct, frozen=True, array_like=True, tag="save_wanted"):
    """A checkpointer has its learner save its own state: no second copy of it may be held."""


class StateSaved(msgspec.Struct, frozen=True, array_like=True, tag="state_saved"):
    """A learner has saved its state as of an instance, beside its log.

    Attributes:
        instance_id: As of which instance; 0 where it could not be saved.
        problem: Why; empty where it could.
    """

    instance_id: int
    problem: str = ""


class SavedTaken(msgspec.Struct, frozen=True, array_like=True, tag="saved_taken"):
    """The checkpointer has taken over what was saved as of an instance, or does not want it."""

    instance_id: int


class SegmentDamaged(msgspec.Struct, frozen=True, array_like=True, tag="segment_damaged"):
    """A checkpointer found a segment of its learner's that is not what was written."""

    first: int
    last: int
    why: str


class LogCleaned(msgspec.Struct, frozen=True, array_like=True, tag="log_cleaned"):
    """A learner tells its checkpointer that segments below `floor` are gone."""

    floor: int


class CheckpointRequest(msgspec.Struct, frozen=True, array_like=True, tag="checkpoint_request"):
    """Asks another member's checkpointer what its newest checkpoint consists of."""

    above: int


class CheckpointOffer(msgspec.Struct, frozen=True, array_like=True, tag="checkpoint_offer"):
    """What that checkpoint consists of.

    Attributes:
        above: As asked.
        manifest: Encoded; None where there is none of a later instance.
    """

    above: int
    manifest: bytes | None


class ChunkRequest(msgspec.Struct, frozen=True, array_like=True, tag="chunk_request"):
    """Asks for a part of one file of a checkpoint."""

    instance_id: int
    path: str
    offset: int
    bytes_max: int


class Chunk(msgspec.Struct, frozen=True, array_like=True, tag="chunk"):
    """A part of one file of a checkpoint.

    Attributes:
        instance_id: As asked.
        path: As asked.
        offset: As asked.
        data: None where that checkpoint is gone by now.
        wait_ms: So long to wait before asking for more.
    """

    instance_id: int
    path: str
    offset: int
    data: bytes | None
    wait_ms: int = 0


class TakeCheckpoint(msgspec.Struct, frozen=True, array_like=True, tag="take_checkpoint"):
    """A client wants a checkpoint that holds everything up to an instance.

    Making one takes its time; the client asks again until it hears that it is there.
    """

    through: int


class CheckpointDue(msgspec.Struct, frozen=True, array_like=True, tag="checkpoint_due"):
    """Answers `TakeCheckpoint`.

    Attributes:
        through: As asked.
        newest: Instance of the newest checkpoint; 0 for none.
        problem: Why the last one could not be made; empty where it could.
    """

    through: int
    newest: int
    problem: str = ""
