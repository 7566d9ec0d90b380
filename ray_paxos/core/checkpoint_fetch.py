"""Getting a checkpoint from another member, part by part.

```
 ask ──▶ CheckpointOffer (manifest) ──▶ what of it is here already? ──▶ chunk, write, chunk, write
  ▲                                                                          │ all there
  └──── no answer, another checkpoint, damage: the next member ◀── verify every byte, publish
```

The manifest says how long each file is and what its checksum is; a chunk is written where it
belongs, one after the other, and the whole is verified before it is a checkpoint at all. What was
received stays when the transfer breaks off, also with this process: the next one that is offered
the very same manifest goes on from there.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from ray_paxos.core.checkpoint import Manifest, decode_manifest
from ray_paxos.core.checkpoint_messages import (
    CheckpointOffer,
    CheckpointRequest,
    Chunk,
    ChunkRequest,
)
from ray_paxos.core.effects import Effects, Send
from ray_paxos.core.events import CheckpointFetchFailed, CheckpointFetchStarted
from ray_paxos.core.messages import Address, Message, RoleName
from ray_paxos.core.settings import MILLISECOND_NS, CheckpointerSettings
from ray_paxos.core.tasks import (
    BeginTransfer,
    Outcome,
    PublishTransfer,
    Task,
    TaskFailed,
    TransferBegun,
    WriteChunk,
)
from ray_paxos.errors import DamageError


class _Step(enum.Enum):
    IDLE = enum.auto()
    ASKING = enum.auto()
    BEGINNING = enum.auto()
    RECEIVING = enum.auto()
    WRITING = enum.auto()
    RESTING = enum.auto()
    PUBLISHING = enum.auto()


class CheckpointFetch:
    """One transfer at a time, for one group.

    Attributes:
        problem: Why the last one was given up; empty where none was.
        received_bytes: Of all transfers in this life.
    """

    def __init__(self, group: int, genesis: bytes, settings: CheckpointerSettings) -> None:
        """Fetch nothing yet.

        Args:
            group: Whose checkpoints.
            genesis: Hash of the cluster's; those of others are refused.
            settings: Sizes and times.
        """
        self.problem = ""
        self.received_bytes = 0
        self._group = group
        self._genesis = genesis
        self._settings = settings
        self._step = _Step.IDLE
        self._given_up = ""
        self._above = 0
        self._sources: list[int] = []
        self._source = 0
        self._manifest: Manifest | None = None
        self._present: list[int] = []
        self.due_ns: int | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether something is being fetched."""
        return self._step is not _Step.IDLE

    def take_given_up(self) -> str:
        """Why fetching has ended without a checkpoint, once; empty where it has not."""
        given_up, self._given_up = self._given_up, ""
        return given_up

    def start(self, above: int, sources: Sequence[int], now_ns: int, effects: Effects) -> None:
        """Begin, unless it is under way already.

        Args:
            above: Only a checkpoint of a later instance helps.
            sources: Members to ask, the best first.
            now_ns: The clock.
            effects: Filled.
        """
        self._above = max(self._above, above)
        if self.is_under_way:
            return
        self.problem = ""
        self._sources = list(sources)
        self._ask_next(now_ns, effects)

    def on_deadline(self, now_ns: int, effects: Effects) -> None:
        """Nobody answered, or it is time to go on."""
        if self.due_ns is None or now_ns < self.due_ns:
            return
        self.due_ns = None
        if self._step is _Step.RESTING:
            self._ask_chunk(now_ns, effects)
        elif self._step in (_Step.ASKING, _Step.RECEIVING):
            self._give_up_source(f"member {self._source} does not answer", now_ns, effects)

    def on_offer(
        self, sender: Address, offer: CheckpointOffer, now_ns: int, effects: Effects
    ) -> None:
        """A member says what its newest checkpoint consists of."""
        if self._step is not _Step.ASKING or sender.member_id != self._source:
            return
        if offer.manifest is None:
            self._give_up_source(f"member {self._source} has no such checkpoint", now_ns, effects)
            return
        try:
            where = f"the manifest of member {self._source}"
            manifest = decode_manifest(
                offer.manifest, where, genesis=self._genesis, group=self._group
            )
        except DamageError as error:
            self._give_up_source(str(error), now_ns, effects)
            return
        if manifest.cut.instance_id <= self._above:
            self._give_up_source(f"member {self._source} has no later one", now_ns, effects)
            return
        self._manifest = manifest
        self._step = _Step.BEGINNING
        self.due_ns = None
        effects.tasks.append(BeginTransfer(self._group, manifest))

    def on_chunk(self, sender: Address, chunk: Chunk, now_ns: int, effects: Effects) -> None:
        """A part has arrived."""
        manifest = self._manifest
        if self._step is not _Step.RECEIVING or sender.member_id != self._source:
            return
        assert manifest is not None, "it is being received"
        position = self._position()
        assert position is not None, "something is missing"
        file, offset = manifest.files[position], self._present[position]
        if (chunk.instance_id, chunk.path, chunk.offset) != (
            manifest.cut.instance_id,
            file.path,
            offset,
        ):
            return
        if chunk.data is None:
            self._give_up_source("the checkpoint is gone", now_ns, effects, ask_again=True)
            return
        if not chunk.data or offset + len(chunk.data) > file.size:
            self._give_up_source("a chunk of a wrong length", now_ns, effects)
            return
        self._step = _Step.WRITING
        self.due_ns = now_ns + chunk.wait_ms * MILLISECOND_NS
        instance_id = manifest.cut.instance_id
        write = WriteChunk(self._group, instance_id, file.path, offset, chunk.data)
        effects.tasks.append(write)

    def on_outcome(self, task: Task, outcome: Outcome, now_ns: int, effects: Effects) -> int | None:
        """A task of the transfer is done.

        Returns:
            The instance of the checkpoint, once it is published.
        """
        if isinstance(outcome, TaskFailed):
            if self.is_under_way:
                self._give_up_source(outcome.why, now_ns, effects)
            return None
        match task:
            case BeginTransfer() if isinstance(outcome, TransferBegun):
                self._present = list(outcome.present)
                self._ask_chunk(now_ns, effects)
            case WriteChunk():
                position = self._position()
                assert position is not None, "it was written at a position"
                self._present[position] += len(task.data)
                self.received_bytes += len(task.data)
                if self.due_ns is not None and now_ns < self.due_ns:
                    self._step = _Step.RESTING
                else:
                    self._ask_chunk(now_ns, effects)
            case PublishTransfer():
                self.problem = ""
                self._end()
                return task.instance_id
        return None

    # Parts.

    def _position(self) -> int | None:
        """The first file that is not whole; None where all are."""
        assert self._manifest is not None, "a transfer has begun"
        files = self._manifest.files
        return next((i for i, file in enumerate(files) if self._present[i] < file.size), None)

    def _ask_chunk(self, now_ns: int, effects: Effects) -> None:
        manifest, position = self._manifest, self._position()
        assert manifest is not None, "a transfer has begun"
        instance_id = manifest.cut.instance_id
        if position is None:
            self._step = _Step.PUBLISHING
            self.due_ns = None
            effects.tasks.append(PublishTransfer(self._group, instance_id))
            return
        self._step = _Step.RECEIVING
        self.due_ns = now_ns + self._settings.checkpoint_retry_ns
        path, offset = manifest.files[position].path, self._present[position]
        request = ChunkRequest(instance_id, path, offset, self._settings.chunk_bytes)
        self._send(request, effects)

    def _ask_next(self, now_ns: int, effects: Effects) -> None:
        if not self._sources:
            self._given_up = self.problem or "there is nobody to ask"
            self._end()
            return
        self._source = self._sources.pop(0)
        self._manifest = None
        self._step = _Step.ASKING
        self.due_ns = now_ns + self._settings.checkpoint_retry_ns
        effects.events.append(CheckpointFetchStarted(self._group, self._source))
        self._send(CheckpointRequest(self._above), effects)

    def _give_up_source(
        self, why: str, now_ns: int, effects: Effects, *, ask_again: bool = False
    ) -> None:
        self.problem = why
        effects.events.append(CheckpointFetchFailed(self._group, self._source, why))
        if ask_again:
            self._sources.append(self._source)
        self._ask_next(now_ns, effects)

    def _end(self) -> None:
        self._step = _Step.IDLE
        self._manifest = None
        self._present = []
        self._above = 0
        self.due_ns = None

    def _send(self, message: Message, effects: Effects) -> None:
        to = Address(self._source, RoleName.CHECKPOINTER)
        effects.sends_now.append(Send(to, self._group, message))
