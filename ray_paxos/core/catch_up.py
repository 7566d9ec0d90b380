"""Asking other members for what a learner misses, one question at a time.

A learner knows that it is behind from what masters and other learners say they have. It asks one
member's learner; where the instances have left that learner's memory, that member's checkpointer,
which reads sealed segments. No answer in time, or none with anything new: the next member. Who
answers may say how long to wait before asking on.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from ray_paxos.core.learner_messages import (
    LearnReply,
    LearnRequest,
)
from ray_paxos.core.messages import (
    Address,
    RoleName,
)
from ray_paxos.core.settings import MILLISECOND_NS, LearnerSettings


class CatchUpPlan:
    """Whom to ask, and when to ask somebody else.

    Attributes:
        target: Somebody has everything up to this instance.
    """

    def __init__(
        self,
        *,
        member_id: int,
        members: Sequence[int],
        settings: LearnerSettings,
        random: random.Random,
    ) -> None:
        """Plan for one group's learner.

        Args:
            member_id: Its own member, which is never asked.
            members: All members that have the group, as of any time.
            settings: Sizes and times.
            random: Chooses among members; not shared.
        """
        self._member_id = member_id
        self._members = members
        self._settings = settings
        self._random = random
        self._preferred: list[int] = []
        self._asked: Address | None = None
        self._asked_from = 0
        self._is_resting = False
        self.target = 0
        self.retry_ns: int | None = None

    @property
    def _others(self) -> list[int]:
        return [m for m in self._members if m != self._member_id]

    def aim(self, through: int, sources: Sequence[int]) -> None:
        """Somebody has everything up to `through`; `sources` are to be asked first."""
        if through > self.target:
            self.target = through
            self._preferred = []
        if through == self.target and not self._preferred:
            # Also those that have the group by a later configuration than this member knows; and
            # again, where they were asked and the question or the answer was lost.
            self._preferred = [m for m in sources if m != self._member_id]

    def ask(self, learned_through: int, now_ns: int) -> tuple[Address, LearnRequest] | None:
        """The next question, if one is due.

        Args:
            learned_through: What the learner has.
            now_ns: The clock.

        Returns:
            Whom to ask what; None while an answer may still come, or nothing is missing.
        """
        if learned_through >= self.target or not self._others:
            self.rest()
            return None
        if self._asked is not None and self.retry_ns is not None and now_ns < self.retry_ns:
            return None
        if self._asked is not None and self._is_resting:
            # It had given as much as its rate allows.
            return self._question(self._asked, learned_through, now_ns)
        return self._question(Address(self._choose(), RoleName.LEARNER), learned_through, now_ns)

    def unanswered(self, now_ns: int) -> int | None:
        """The member whose answer to a question is overdue; None for none."""
        if self._asked is None or self._is_resting or self.retry_ns is None:
            return None
        return self._asked.member_id if now_ns >= self.retry_ns else None

    def rest(self) -> None:
        """Ask nothing for now; the next `ask` begins anew."""
        self.retry_ns = None
        self._asked = None

    def hold(self) -> None:
        """An answer is there and not taken in yet: no time runs meanwhile."""
        self.retry_ns = None

    def pass_over(self, now_ns: int) -> None:
        """An answer was of no use: another member is asked, though not at once."""
        if self.retry_ns is None:
            self.retry_ns = now_ns + self._settings.catch_up_retry_ns

    def _choose(self) -> int:
        last = self._asked.member_id if self._asked is not None else None
        while self._preferred:
            preferred = self._preferred.pop(0)
            # Not again the one that has just failed to help, however far ahead it says it is.
            if preferred != last:
                return preferred
        choices = [m for m in self._others if m != last] or self._others
        return choices[self._random.randrange(len(choices))]

    def _question(
        self, to: Address, learned_through: int, now_ns: int
    ) -> tuple[Address, LearnRequest]:
        self._asked = to
        self._is_resting = False
        self._asked_from = learned_through + 1
        self.retry_ns = now_ns + self._settings.catch_up_retry_ns
        return to, LearnRequest(self._asked_from, self._settings.catch_up_bytes_max)

    def is_answer(self, sender: Address, reply: LearnReply) -> bool:
        """Whether a reply is the one that is waited for."""
        return sender == self._asked and reply.from_instance == self._asked_from

    def answered(
        self, sender: Address, reply: LearnReply, learned_through: int, now_ns: int
    ) -> tuple[Address, LearnRequest] | None:
        """Go on after an answer whose values are already taken in.

        Args:
            sender: Who answered.
            reply: What it said.
            learned_through: What the learner has now.
            now_ns: The clock.

        Returns:
            The next question; None where nothing more is to be asked now.
        """
        self.target = max(self.target, reply.learned_through)
        if learned_through >= self.target:
            return self.ask(learned_through, now_ns)
        if sender != self._asked or reply.from_instance != self._asked_from:
            return None
        if learned_through >= self._asked_from:
            # It had something new: go on with its learner, which says where the rest is.
            to = Address(sender.member_id, RoleName.LEARNER)
        elif reply.memory_floor > reply.from_instance:
            to = Address(sender.member_id, RoleName.CHECKPOINTER)
        else:
            self.pass_over(now_ns)
            return None
        if reply.wait_ms:
            self._asked = to
            self._is_resting = True
            self.retry_ns = now_ns + reply.wait_ms * MILLISECOND_NS
            return None
        return self._question(to, learned_through, now_ns)
