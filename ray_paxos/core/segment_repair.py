"""Fetching a damaged segment's instances again, from another member.

The chains before and after the segment are known, from when it was listed. So what another member
gives is proved right by its own content: the whole range is collected, the store recomputes the
chain over it, and only then puts it in the damaged one's place.

A member that has cut its log beyond the segment says so. That it covers the instances with a
checkpoint may be believed: to fetch one harms nothing. That they are gone is not its to say: the
next member is asked, and only when all the others have said that they have it not is the segment
given up. One that has not learned so far counts as well: where this member's was the only copy in
a log, the others wait for what it cannot give, and go on from a checkpoint of it instead. A member
that does not answer holds up nothing else: the log is cut as if nothing were damaged, and where
several segments are, each has its turn.
"""

from __future__ import annotations

from collections.abc import Sequence

from ray_paxos.core.learner_messages import (
    ChosenValue,
    LearnReply,
    LearnRequest,
)
from ray_paxos.core.messages import (
    Address,
    RoleName,
)
from ray_paxos.core.settings import MILLISECOND_NS, LearnerSettings
from ray_paxos.core.tasks import ReplaceSegment

RANGES_MAX = 64


class SegmentRepair:
    """One segment at a time, of one group.

    Invariants: `_values` are contiguous from the current range's first instance on; `_cut_off` and
    `_without` are about ranges that are wanted, and other members.

    Attributes:
        problem: What could not be mended so far; empty where nothing is left to be.
    """

    def __init__(self, group: int, others: Sequence[int], settings: LearnerSettings) -> None:
        """Repair nothing yet.

        Args:
            group: Whose log.
            others: The other members that have the group, as of any time.
            settings: Sizes and times.
        """
        self.problem = ""
        self.due_ns: int | None = None
        self._group = group
        self._others = others
        self._settings = settings
        self._ranges: list[tuple[int, int]] = []
        self._values: list[ChosenValue] = []
        self._source = 0
        self._tried = 0
        # Ranges that a member has cut off, and by range the members that have it not at all.
        self._cut_off: set[tuple[int, int]] = set()
        self._without: dict[tuple[int, int], set[int]] = {}
        self._is_resting = False
        self._is_replacing = False

    @property
    def current(self) -> tuple[int, int] | None:
        """The range that is being repaired."""
        return self._ranges[0] if self._ranges else None

    @property
    def cut_off_through(self) -> int:
        """The highest instance wanted that another member has cut off, and has a checkpoint of.

        0 for none.
        """
        return max((last for _, last in self._cut_off), default=0)

    @property
    def lost_through(self) -> int:
        """The end of the lowest segment that no other member has; 0 for none."""
        said = self._without.items()
        return min((last for (_, last), by in said if by.issuperset(self._others)), default=0)

    def want(self, first: int, last: int, why: str) -> None:
        """A segment is damaged."""
        if (first, last) not in self._ranges and len(self._ranges) < RANGES_MAX:
            self._ranges.append((first, last))
        self.problem = why

    def take_question(self, now_ns: int) -> tuple[Address, LearnRequest] | None:
        """Whom to ask what, if it is time to."""
        if not self._ranges or self._is_replacing or not self._others:
            self.due_ns = None
            return None
        if self.due_ns is not None and now_ns < self.due_ns:
            return None
        if self.due_ns is not None and not self._is_resting:
            # No answer, or none of use: another member, from the start.
            self._source += 1
            self._values = []
            self._tried += 1
            if self._tried >= len(self._others):
                # Nobody helps: the next segment has its turn.
                self._tried = 0
                self._ranges.append(self._ranges.pop(0))
        return self._question(now_ns)

    def _question(self, now_ns: int) -> tuple[Address, LearnRequest]:
        member = self._others[self._source % len(self._others)]
        self._is_resting = False
        self.due_ns = now_ns + self._settings.catch_up_retry_ns
        wanted = self._ranges[0][0] + len(self._values)
        to = Address(member, RoleName.CHECKPOINTER)
        return to, LearnRequest(wanted, self._settings.catch_up_bytes_max)

    def is_answer(self, sender: Address, reply: LearnReply) -> bool:
        """Whether an answer is to a question of this."""
        if not self._ranges or self._is_replacing or sender.role is not RoleName.CHECKPOINTER:
            return False
        return reply.from_instance == self._ranges[0][0] + len(self._values)

    def answered(
        self, sender: Address, reply: LearnReply, now_ns: int
    ) -> tuple[Address, LearnRequest] | ReplaceSegment | None:
        """Take an answer in.

        Returns:
            The next question; or the order to put the segment in place; or None where nothing is
            to be asked now: the sender has given as much as its rate allows, or the answer helps
            nothing.
        """
        first, last = self._ranges[0]
        before = len(self._values)
        for chosen in reply.values:
            if chosen.instance_id != first + len(self._values) or chosen.instance_id > last:
                break
            self._values.append(chosen)
        if len(self._values) == last - first + 1:
            self._is_replacing = True
            self.due_ns = None
            return ReplaceSegment(self._group, tuple(self._values))
        if len(self._values) == before:
            if sender.member_id in self._others:
                self._note_without(sender.member_id, reply)
            return None
        if reply.wait_ms:
            self._is_resting = True
            self.due_ns = now_ns + reply.wait_ms * MILLISECOND_NS
            return None
        return self._question(now_ns)

    def _note_without(self, member_id: int, reply: LearnReply) -> None:
        """Remember of a member that gave nothing whether it has the segment at all."""
        current = self._ranges[0]
        is_cut_off = reply.log_floor > current[0]
        if is_cut_off:
            self._cut_off.add(current)
        if is_cut_off or reply.learned_through < reply.from_instance:
            self._without.setdefault(current, set()).add(member_id)

    def replaced(self, task: ReplaceSegment) -> bool:
        """The segment is put in place.

        Returns:
            False where its range was cut off meanwhile.
        """
        if not self._is_of_current(task):
            return False
        self._begin_next(self._ranges[1:])
        if not self._ranges:
            self.problem = ""
        return True

    def failed(self, task: ReplaceSegment, why: str, now_ns: int) -> None:
        """What was fetched could not be put in place: again, later, from another member."""
        if self._is_of_current(task):
            self.problem = why
            self._begin_anew()
            self.due_ns = now_ns + self._settings.catch_up_retry_ns

    def _is_of_current(self, task: ReplaceSegment) -> bool:
        values = task.values
        return self._is_replacing and self.current == (
            values[0].instance_id,
            values[-1].instance_id,
        )

    def drop_below(self, floor: int) -> None:
        """The log begins here now: what lay below needs no repair."""
        kept = [(first, last) for first, last in self._ranges if last >= floor]
        if kept == self._ranges:
            return
        if kept[:1] == self._ranges[:1]:
            self._keep(kept)
        else:
            self._begin_next(kept)
        if not kept:
            self.problem = ""

    def _begin_next(self, ranges: list[tuple[int, int]]) -> None:
        self._keep(ranges)
        self._tried = 0
        self._begin_anew()

    def _keep(self, ranges: list[tuple[int, int]]) -> None:
        self._ranges = ranges
        self._cut_off.intersection_update(ranges)
        self._without = {r: by for r, by in self._without.items() if r in ranges}

    def _begin_anew(self) -> None:
        self._values = []
        self._is_resting = False
        self._is_replacing = False
        self.due_ns = None
