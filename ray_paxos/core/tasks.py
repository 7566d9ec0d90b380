"""What roles have their stores do beside writing records, and what comes of it.

```
role ── Effects.tasks ──▶ driver ── Run(task) ──▶ shell: store.run(task), in its own time
     ◀── on_outcome(task, outcome) ───────────────┘
```

Records are what a role's answers may have to wait for (R3): they are written in order, and one
that fails stops the role. A task is everything else: nothing waits for it, what it makes is durable
when its outcome arrives, and where it fails the outcome says why and the role goes on. A task that
belongs to a process that died is simply not done, or half done: whatever it began is found and
removed at the next opening.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from ray_paxos.core.checkpoint import Cut, Manifest
from ray_paxos.core.learner_messages import ChosenValue
from ray_paxos.core.messages import Address
from ray_paxos.machines.host import MachineHost

if TYPE_CHECKING:
    from ray_paxos.core.role import Role


class ReadSegments(msgspec.Struct, frozen=True):
    """Read chosen instances from sealed segments, for another member's learner.

    Attributes:
        group: Whose log.
        reader: Who asked.
        from_instance: The first one wanted.
        bytes_max: As many as fit, at least one.
    """

    group: int
    reader: Address
    from_instance: int
    bytes_max: int


class SegmentsRead(msgspec.Struct, frozen=True):
    """What sealed segments hold.

    Attributes:
        values: Contiguous; empty where they hold nothing of it.
        floor: The lowest instance in them.
    """

    values: tuple[ChosenValue, ...]
    floor: int


class ReadChain(msgspec.Struct, frozen=True):
    """Look up the value chain after one sealed instance, for another member's learner."""

    group: int
    reader: Address
    instance_id: int


class ChainRead(msgspec.Struct, frozen=True):
    """The chain; None where no segment holds the instance."""

    chain: bytes | None


class MergeSegments(msgspec.Struct, frozen=True):
    """Write one segment with the content of several adjoining ones, and read it back."""

    group: int
    first: int
    last: int


class PublishMerged(msgspec.Struct, frozen=True):
    """Put a merged segment, verified, in the place of its parts."""

    group: int
    first: int
    last: int


class MakeCheckpoint(msgspec.Struct, frozen=True):
    """Apply sealed segments through an instance to the own copy of the machines, and save it."""

    group: int
    through: int


class SavedByLearner(msgspec.Struct, frozen=True):
    """A machine may not be copied: the learner has to save the group's state."""


@dataclass(frozen=True, slots=True)
class SaveState:
    """Save the learner's own state, here and now: nothing may be applied meanwhile.

    Attributes:
        group: Whose.
        cut: Where it stands.
        host: The learner's own.
    """

    group: int
    cut: Cut
    host: MachineHost


class TakeSaved(msgspec.Struct, frozen=True):
    """Make a checkpoint of what the learner has saved; `CheckpointMade` is its outcome."""

    group: int
    instance_id: int


class DropSaved(msgspec.Struct, frozen=True):
    """Remove what the learner has saved: it is taken over, or of no use."""

    group: int


class CheckpointMade(msgspec.Struct, frozen=True):
    """A checkpoint is published, durably."""

    cut: Cut
    byte_count: int


class DropCheckpoint(msgspec.Struct, frozen=True):
    """Remove a checkpoint that is no longer wanted."""

    group: int
    instance_id: int


class SetAsideCheckpoint(msgspec.Struct, frozen=True):
    """Put a damaged checkpoint where nothing is served from it."""

    group: int
    instance_id: int


class LoadCheckpoint(msgspec.Struct, frozen=True):
    """Load the newest whole checkpoint above an instance from the own member's folder.

    Attributes:
        group: Whose.
        above: Only one of a later instance.
    """

    group: int
    above: int


@dataclass(frozen=True, slots=True)
class CheckpointLoaded:
    """A checkpoint's state is in memory, every byte of it verified.

    Attributes:
        cut: Where in the log it stands.
        host: The machines and sessions as of then.
    """

    cut: Cut
    host: MachineHost


class CutLog(msgspec.Struct, frozen=True):
    """Remove sealed segments that end below an instance.

    Attributes:
        group: Whose log.
        floor: Nothing at or above it is removed, unless
        base: a checkpoint was installed beyond the log's end: the log goes on after it.
    """

    group: int
    floor: int
    base: Cut | None = None


class LogCut(msgspec.Struct, frozen=True):
    """Segments are gone, durably.

    Attributes:
        floor: The lowest instance still there, or the next one where there is none.
    """

    floor: int


class ReplaceSegment(msgspec.Struct, frozen=True):
    """Put a segment of these instances in the place of a damaged one.

    Attributes:
        group: Whose log.
        values: All instances of its range, from another member.
    """

    group: int
    values: tuple[ChosenValue, ...]


class ReadManifest(msgspec.Struct, frozen=True):
    """Read what the newest checkpoint consists of, for another member's checkpointer."""

    group: int
    reader: Address
    above: int


class ManifestRead(msgspec.Struct, frozen=True):
    """What there is to offer.

    Attributes:
        manifest: Of the newest whole one, encoded; None where there is none of a later instance.
        damaged: Instances of newer ones that are not what was written.
    """

    manifest: bytes | None
    damaged: tuple[int, ...] = ()


class ReadChunk(msgspec.Struct, frozen=True):
    """Read a part of a checkpoint's file, for another member's checkpointer."""

    group: int
    reader: Address
    instance_id: int
    path: str
    offset: int
    bytes_max: int


class ChunkRead(msgspec.Struct, frozen=True):
    """The part; None where that checkpoint is gone."""

    data: bytes | None


class BeginTransfer(msgspec.Struct, frozen=True):
    """Make room for another member's checkpoint, or go on with what is there of it."""

    group: int
    manifest: Manifest


class TransferBegun(msgspec.Struct, frozen=True):
    """How much of each file is there already.

    Attributes:
        present: Bytes by position in the manifest's files.
    """

    present: tuple[int, ...]


class WriteChunk(msgspec.Struct, frozen=True):
    """Append to a file of the checkpoint that is being received."""

    group: int
    instance_id: int
    path: str
    offset: int
    data: bytes


class PublishTransfer(msgspec.Struct, frozen=True):
    """Verify every byte of a received checkpoint, make it durable and publish it."""

    group: int
    instance_id: int


class Scrub(msgspec.Struct, frozen=True):
    """Read one file of the log or of a checkpoint and compare it with its checksums.

    Attributes:
        group: Whose.
        segment: (first, last) of a segment; None for a checkpoint.
        checkpoint: Instance of a checkpoint; 0 for none.
    """

    group: int
    segment: tuple[int, int] | None
    checkpoint: int = 0


class Scrubbed(msgspec.Struct, frozen=True):
    """What a file turned out to be.

    Attributes:
        damage: What is wrong with it, with its name; empty where nothing is.
        byte_count: Read.
    """

    damage: str
    byte_count: int


class TaskDone(msgspec.Struct, frozen=True):
    """It is done, and there is nothing to say of it."""


class TaskFailed(msgspec.Struct, frozen=True):
    """It was given up.

    Attributes:
        why: For a person, with the file concerned.
        is_damage: What was read is not what was written; the same try would fail again.
    """

    why: str
    is_damage: bool = False


class FollowParts(msgspec.Struct, frozen=True):
    """Open the groups that the member has by now, and let go of those that it has left.

    Attributes:
        group: Of none in particular; the system's.
    """

    group: int


@dataclass(frozen=True, slots=True)
class PartsOpened:
    """What the member has.

    Attributes:
        version: Of the parts.
        groups: All of them.
        made: Of those that are new and could be opened, what makes the role, at a time of this
            process's clock; may raise what opening raises.
        failed: Why others could not be opened, or what was left not be let go of, by group: to be
            tried again.
    """

    version: int
    groups: frozenset[int]
    made: Mapping[int, Callable[[int], Role]]
    failed: Mapping[int, str] = field(default_factory=dict)


Task: TypeAlias = (
    ReadSegments
    | ReadChain
    | MergeSegments
    | PublishMerged
    | MakeCheckpoint
    | SaveState
    | TakeSaved
    | DropSaved
    | DropCheckpoint
    | SetAsideCheckpoint
    | LoadCheckpoint
    | CutLog
    | ReplaceSegment
    | ReadManifest
    | ReadChunk
    | BeginTransfer
    | WriteChunk
    | PublishTransfer
    | Scrub
    | FollowParts
)
Outcome: TypeAlias = (
    SegmentsRead
    | ChainRead
    | CheckpointMade
    | SavedByLearner
    | CheckpointLoaded
    | LogCut
    | ManifestRead
    | ChunkRead
    | TransferBegun
    | Scrubbed
    | PartsOpened
    | TaskDone
    | TaskFailed
)
