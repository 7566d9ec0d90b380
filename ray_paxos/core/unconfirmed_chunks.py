"""A second member's word on chunks that were learned without one.

While a cluster starts, or while others are away, whoever catches up finds nobody that could confirm
what it is given (`chunk_check`). That passes, so it asks again later. A chain covers everything
before it, so one answer, at an instance that is new enough for the other to have it at hand,
confirms all chunks at once that it did not give itself:

```
 chunks given by B: ── 1..40 ── 41..90 ──▶ learned on, here through 700
 asked of C, later:          the chain after 700 ──▶ equal: C has the same 1..90
```

No answer, or one that decides nothing: another member, after twice the time. A chain that differs
is told, and nobody is asked any more: what is learned is learned, and a person has to look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ray_paxos.core.checkpoint_messages import ChainReply, ChainRequest
from ray_paxos.core.chunk_check import Difference
from ray_paxos.core.messages import Address, RoleName
from ray_paxos.core.settings import MILLISECOND_NS, LearnerSettings

INTERVAL_MAX_NS = 5_000 * MILLISECOND_NS
"""Between two questions at most."""


@dataclass(slots=True)
class _Unconfirmed:
    """What one member alone has said.

    Attributes:
        count: Chunks.
        end: Of the last of them.
    """

    count: int
    end: int


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A second member has said the same as the one that gave the chunks, or as several did."""

    member_id: int
    through: int
    count: int


class UnconfirmedChunks:
    """The chunks of one group that only one member has vouched for.

    Invariants: at most one entry a member; one question at a time, about an instance at or above
    the end of everything that was noted when it was begun with.

    Attributes:
        due_ns: When to ask next; None where nothing is left to be confirmed, or nobody could.
    """

    def __init__(self, members: Sequence[int], settings: LearnerSettings) -> None:
        """Know of none.

        Args:
            members: All others that have the group, as of any time.
            settings: For how long to wait at first.
        """
        self.due_ns: int | None = None
        self._members = members
        self._by_source: dict[int, _Unconfirmed] = {}
        self._interval_min_ns = min(settings.catch_up_retry_ns, INTERVAL_MAX_NS)
        self._interval_ns = self._interval_min_ns
        self._turn = 0
        self._asked: Address | None = None
        self._point: tuple[int, bytes] | None = None
        self._is_disputed = False

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(entry.count for entry in self._by_source.values())

    @property
    def overdue_count(self) -> int:
        """How many, once asking again and again has not helped, or nobody can be asked."""
        is_overdue = self.due_ns is None or self._interval_ns >= INTERVAL_MAX_NS
        return self.count if is_overdue else 0

    def note(self, source: int, end: int, now_ns: int) -> None:
        """A chunk was learned on one member's word.

        Args:
            source: Who gave it.
            end: Its last instance.
            now_ns: The clock.
        """
        entry = self._by_source.setdefault(source, _Unconfirmed(0, 0))
        entry.count += 1
        entry.end = end
        # A question that is open reaches no further than to what was there before.
        self._point = self._asked = None
        due_ns = self.due_ns
        self._interval_ns = self._interval_min_ns
        self._wait(now_ns)
        if due_ns is not None and self.due_ns is not None:
            self.due_ns = min(due_ns, self.due_ns)

    def _wait(self, now_ns: int) -> None:
        can_ask = not self._is_disputed and bool(self._helpful())
        self.due_ns = now_ns + self._interval_ns if can_ask else None

    def _helpful(self) -> list[int]:
        """The members whose word would confirm anything."""
        sources = self._by_source
        return [m for m in self._members if any(source != m for source in sources)]

    def take_question(
        self, learned_through: int, chain: bytes, now_ns: int
    ) -> tuple[Address, ChainRequest] | None:
        """Whom to ask what, if it is time to.

        Args:
            learned_through: What is learned here.
            chain: After that instance.
            now_ns: The clock.
        """
        if self.due_ns is None and self._by_source:
            # There may be another member by now.
            self._wait(now_ns)
        if self.due_ns is None or now_ns < self.due_ns:
            return None
        if self._point is None:
            self._point = learned_through, chain
        helpful = self._helpful()
        self._interval_ns = min(2 * self._interval_ns, INTERVAL_MAX_NS)
        self._wait(now_ns)
        if not helpful:
            # Those that could confirm anything have left the group.
            return None
        self._asked = Address(helpful[self._turn % len(helpful)], RoleName.LEARNER)
        self._turn += 1
        return self._asked, ChainRequest(self._point[0])

    def answered(
        self, sender: Address, reply: ChainReply, now_ns: int
    ) -> tuple[Address, ChainRequest] | Confirmed | Difference | None:
        """Take an answer in.

        Returns:
            A question to ask at once; or what is confirmed; or what differs; or None where the
            answer decides nothing: then `take_question` goes on.
        """
        point = self._point
        if point is None or sender != self._asked or reply.instance_id != point[0]:
            return None
        self._asked = None
        if reply.chain is None:
            return self._passed_over(sender, reply, point[0])
        if reply.chain == point[1]:
            self._point = None
            return self.confirmed(sender.member_id, point[0], now_ns)
        self._is_disputed = True
        self.due_ns = None
        source = next(source for source in self._by_source if source != sender.member_id)
        return Difference(point[0], source, point[1], sender.member_id, reply.chain)

    def _passed_over(
        self, sender: Address, reply: ChainReply, instance_id: int
    ) -> tuple[Address, ChainRequest] | None:
        """It does not have the chain at hand: its checkpointer may, or it is not so far yet."""
        if sender.role is RoleName.LEARNER and reply.memory_floor > instance_id:
            self._asked = Address(sender.member_id, RoleName.CHECKPOINTER)
            return self._asked, ChainRequest(instance_id)
        if reply.learned_through >= instance_id:
            # It has cut it off by now: a later one is to be asked about.
            self._point = None
        return None

    def confirmed(self, member_id: int, through: int, now_ns: int) -> Confirmed | None:
        """A member has the same chain as this one after an instance.

        Args:
            member_id: Which one.
            through: After which instance.
            now_ns: The clock.

        Returns:
            What that confirms; None for nothing.
        """
        count = 0
        for source, entry in list(self._by_source.items()):
            if source != member_id and entry.end <= through:
                count += entry.count
                del self._by_source[source]
        if not count:
            return None
        self._point = self._asked = None
        self._interval_ns = self._interval_min_ns
        self._wait(now_ns)
        return Confirmed(member_id, through, count)
