"""Whether what a proposer proposes is safe by what it was promised ("Paxos Made Simple", P2c).

The checker sees which promises arrived, not which of them the proposer counted. So a value is
judged against all majorities of the acceptors that have promised and told of this instance: some
majority must allow it, which means that the vote at the highest ballot among its promises, if
there is any, is for that very value. An acceptor whose later pages are still missing has promised
all the same, and what it told of an instance cannot change any more: it may be one of them. But a
majority must have told everything before anything is proposed, or a vote further up is missed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.messages import Promise, Vote
from ray_paxos.testing.violation import Violation


@dataclass
class _Told:
    """What one acceptor told with its promises for one ballot.

    Attributes:
        next_instance: Everything below it was told, from where the proposer asked; None for all.
        votes: By instance.
    """

    next_instance: int | None
    votes: dict[int, Vote] = field(default_factory=dict)

    def covers(self, instance_id: int) -> bool:
        """Whether it has told its vote of an instance, or that it has none."""
        return self.next_instance is None or instance_id < self.next_instance


class PromiseLedger:
    """Promises and proposals of one group."""

    def __init__(self, group: int) -> None:
        """Start with nothing promised."""
        self._group = group
        self._told: dict[Ballot, dict[int, _Told]] = {}

    def promised(self, member_id: int, promise: Promise) -> None:
        """A promise, or a page of one, has arrived at the proposer that asked for it."""
        first = _Told(promise.from_instance)
        told = self._told.setdefault(promise.ballot, {}).setdefault(member_id, first)
        for vote in promise.votes:
            # Votes at the ballot itself came after the first promise for it.
            if vote.ballot < promise.ballot:
                told.votes.setdefault(vote.instance_id, vote)
        is_next = told.next_instance is not None and promise.from_instance <= told.next_instance
        if promise.next_instance is None and is_next:
            told.next_instance = None
        elif promise.next_instance is not None and is_next:
            assert told.next_instance is not None
            told.next_instance = max(told.next_instance, promise.next_instance)

    def proposed(self, instance_id: int, ballot: Ballot, value: bytes, majority: int) -> None:
        """A value is proposed at a ballot for the first time."""
        promises = self._told.get(ballot, {}).values()
        complete = sum(told.next_instance is None for told in promises)
        if complete < majority:
            what = f"proposes at {instance_id}, {ballot}, with {complete} whole promises"
            raise Violation("P2c", f"group {self._group}: {what}")
        votes = [told.votes.get(instance_id) for told in promises if told.covers(instance_id)]
        if not any(votes):
            return
        for chosen in combinations(votes, majority):
            highest = max((v for v in chosen if v is not None), key=_ballot, default=None)
            if highest is None or highest.value == value:
                return
        found = ", ".join(str(vote.ballot) for vote in votes if vote is not None)
        what = f"proposes at {instance_id}, {ballot}, what no majority allows; votes at {found}"
        raise Violation("P2c", f"group {self._group}: {what}")


def _ballot(vote: Vote) -> Ballot:
    return vote.ballot
