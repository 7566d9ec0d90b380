"""A chunk of another member's log is not believed on that member's word alone.

```
 asked of B:  41 ... 90, values ──▶ chain recomputed here, from our own chain after 40
 asked of C:  the chain after 90 ──▶ equal: learn all of them      else: throw them away, and say so
```

What B's disk, memory or program made of a value would otherwise be applied here and, once sealed,
be handed on. C answers 16 bytes. Where nobody can answer (C is gone, is behind itself, or has the
instance neither in memory nor in a segment), the chunk is taken all the same: that one member
disappeared must not stop another from catching up. It is counted, shown in `status`, and asked
about later (`unconfirmed_chunks`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ray_paxos.core.checkpoint_messages import ChainReply, ChainRequest
from ray_paxos.core.learner_messages import LearnReply
from ray_paxos.core.messages import (
    Address,
    RoleName,
)
from ray_paxos.core.settings import LearnerSettings
from ray_paxos.core.values import extend_chain, value_hash


@dataclass(frozen=True, slots=True)
class HeldChunk:
    """Instances that another member gave.

    Attributes:
        sender: Who gave them.
        reply: All that it said; its values follow on what is learned here.
        end: The last instance.
        chain: After it, recomputed.
    """

    sender: Address
    reply: LearnReply
    end: int
    chain: bytes


@dataclass(frozen=True, slots=True)
class Difference:
    """Two members have different chains after one instance.

    Attributes:
        instance_id: After which.
        source: The member that gave what leads to `source_chain` here.
        source_chain: As recomputed here.
        other: Another member.
        other_chain: As that one says.
    """

    instance_id: int
    source: int
    source_chain: bytes
    other: int
    other_chain: bytes


class ChunkCheck:
    """The chunk that waits for a second word, one at a time.

    Attributes:
        due_ns: When to ask the next member; None where no answer is waited for.
    """

    def __init__(self, members: Sequence[int], settings: LearnerSettings) -> None:
        """Wait for none.

        Args:
            members: All others that have the group, as of any time.
            settings: For how long to wait for an answer.
        """
        self._members = members
        self._retry_ns = settings.catch_up_retry_ns
        self._chunk: HeldChunk | None = None
        self._to_ask: list[Address] = []
        self._asked: Address | None = None
        self.due_ns: int | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether a chunk is held back."""
        return self._chunk is not None

    def hold(
        self, sender: Address, reply: LearnReply, learned_through: int, chain: bytes, master: int
    ) -> None:
        """Hold a chunk back; `next_question` says whom to ask.

        Args:
            sender: Who gave it.
            reply: What it gave: values from `learned_through + 1` on, or earlier, without a gap.
            learned_through: What is learned here.
            chain: After that instance.
            master: The member that leads, which is asked first; 0 where nobody is known to.
        """
        for chosen in reply.values:
            if chosen.instance_id > learned_through:
                chain = extend_chain(chain, value_hash(chosen.value))
        self._chunk = HeldChunk(sender, reply, reply.values[-1].instance_id, chain)
        others = [member for member in self._members if member != sender.member_id]
        others.sort(key=lambda member: member != master)
        self._to_ask = [Address(member, RoleName.LEARNER) for member in others]

    def next_question(self, now_ns: int) -> tuple[Address, ChainRequest] | None:
        """Whom to ask what; None where nobody is left (see `take`)."""
        if self._chunk is None or not self._to_ask:
            return None
        self._asked = self._to_ask.pop(0)
        self.due_ns = now_ns + self._retry_ns
        return self._asked, ChainRequest(self._chunk.end)

    def answered(self, sender: Address, reply: ChainReply) -> HeldChunk | Difference | None:
        """Take an answer in.

        Returns:
            The chunk, to be learned; or what differs, the chunk being thrown away; or None where
            the answer decides nothing: then `next_question` goes on.
        """
        chunk = self._chunk
        if chunk is None or reply.instance_id != chunk.end or sender != self._asked:
            return None
        if reply.chain is None:
            is_sealed = reply.memory_floor > chunk.end and sender.role is RoleName.LEARNER
            if is_sealed:
                self._to_ask.insert(0, Address(sender.member_id, RoleName.CHECKPOINTER))
            self.due_ns = None
            return None
        self._end()
        if reply.chain == chunk.chain:
            return chunk
        source, other = chunk.sender.member_id, sender.member_id
        return Difference(chunk.end, source, chunk.chain, other, reply.chain)

    def take(self) -> HeldChunk:
        """Nobody is left to ask: take the chunk on one member's word."""
        assert self._chunk is not None and not self._to_ask, "somebody may still answer"
        chunk = self._chunk
        self._end()
        return chunk

    def drop(self) -> None:
        """Forget the chunk, if there is one: what it holds is learned by other ways."""
        self._end()

    def _end(self) -> None:
        self._chunk = None
        self._to_ask = []
        self._asked = None
        self.due_ns = None
