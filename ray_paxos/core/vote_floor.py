"""Raising the own acceptor's vote floor.

Votes below it are gone, so everything below must be contiguous and durable in this member's own
segments, and by the master's word in those of a majority (design 5).
"""

from __future__ import annotations

from ray_paxos.core.learner_messages import RaiseVoteFloor
from ray_paxos.core.settings import LearnerSettings


class VoteFloor:
    """How far one learner has its acceptor's vote floor raised.

    Invariants: all attributes but `due_ns` only rise.

    Attributes:
        majority_durable: Every instance up to it is durable at a majority, by a master's word.
        confirmed: The floor, as the acceptor told it last.
        due_ns: When to ask again; None where no answer is waited for.
    """

    def __init__(self, settings: LearnerSettings) -> None:
        """Know of no floor yet; `settings` say for how long to wait for an answer."""
        self.majority_durable = 0
        self.confirmed = 1
        self.due_ns: int | None = None
        self._retry_ns = settings.catch_up_retry_ns

    def rest(self) -> None:
        """Ask for nothing: the own member does not vote."""
        self.due_ns = None

    def note_majority_durable(self, through: int) -> None:
        """A master said what is durable at a majority."""
        self.majority_durable = max(self.majority_durable, through)

    def raised(self, floor: int) -> None:
        """The acceptor's floor is durable."""
        self.confirmed = max(self.confirmed, floor)
        self.due_ns = None

    def take_due(self, durable_through: int, now_ns: int) -> RaiseVoteFloor | None:
        """The request for a higher floor, if one can be had and none is on its way.

        Args:
            durable_through: What is durable at this member.
            now_ns: The clock.
        """
        floor = min(durable_through, self.majority_durable) + 1
        if floor <= self.confirmed:
            return None
        if self.due_ns is not None and now_ns < self.due_ns:
            return None
        self.due_ns = now_ns + self._retry_ns
        return RaiseVoteFloor(floor)
