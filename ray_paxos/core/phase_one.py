"""Phase one of one ballot: the promises collected, and what they say must be proposed.

A promise covers the whole log of the group, and its votes come in pages. Votes below a ballot
cannot change at an acceptor that has promised it, so pages read one after the other are as good
as one read at once; a vote floor that rises meanwhile is seen on the later page.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.genesis import Configuration
from ray_paxos.core.messages import Promise, Vote


@dataclass
class PhaseOne:
    """The promises for one ballot under one configuration.

    Attributes:
        ballot: Asked for.
        from_instance: The first instance asked about; everything before it is learned here.
        configuration: Whose voters are counted, each once.
        pages: By replica_id, the start of the next page wanted of that voter.
        complete: Voters (replica_id) whose last page is in.
        floors: By member_id, the highest vote floor it reported.
        votes: By instance, the vote at the highest ballot reported so far.
    """

    ballot: Ballot
    from_instance: int
    configuration: Configuration
    pages: dict[int, int] = field(default_factory=dict)
    complete: set[int] = field(default_factory=set)
    floors: dict[int, int] = field(default_factory=dict)
    votes: dict[int, Vote] = field(default_factory=dict)

    def add(self, member_id: int, replica_id: int, promise: Promise) -> int | None:
        """Take a page in; pages come once and in order, whatever the network does.

        Args:
            member_id: The voter's member.
            replica_id: The voter.
            promise: One page, at this ballot.

        Returns:
            The start of the next page to ask that voter for; None where there is none to ask.
        """
        assert promise.ballot == self.ballot, "a promise for another ballot counts for nothing"
        wanted = self.pages.get(replica_id, self.from_instance)
        if replica_id in self.complete or promise.from_instance != wanted:
            return None
        self.floors[member_id] = max(self.floors.get(member_id, 1), promise.floor)
        for vote in promise.votes:
            known = self.votes.get(vote.instance_id)
            if known is None or vote.ballot > known.ballot:
                self.votes[vote.instance_id] = vote
        if promise.next_instance is None:
            self.complete.add(replica_id)
            return None
        self.pages[replica_id] = promise.next_instance
        return promise.next_instance

    @property
    def is_promised(self) -> bool:
        """Whether a majority has promised with all its votes."""
        return len(self.complete) >= self.configuration.majority

    @property
    def floor(self) -> int:
        """The highest vote floor heard of: everything below it is chosen and to be learned."""
        return max(self.floors.values(), default=1)

    @property
    def floor_sources(self) -> tuple[int, ...]:
        """Members by how high their floor is: those at the top hold all that is below it."""
        return tuple(sorted(self.floors, key=lambda member: (-self.floors[member], member)))

    def next_page(self, replica_id: int) -> int | None:
        """Where that voter's next page starts; None once all are in."""
        if replica_id in self.complete:
            return None
        return self.pages.get(replica_id, self.from_instance)

    def to_propose(self, learned_through: int) -> list[Vote | None]:
        """What the new master proposes again, from the first instance it has not learned.

        Args:
            learned_through: What its own learner has; at least `floor - 1`.

        Returns:
            For each instance above `learned_through` up to the highest vote: the vote at the
            highest ballot ("Paxos Made Simple", section 2.2, P2c), or None for a hole, where no
            majority can have chosen anything and a no-op may go.
        """
        assert learned_through >= self.floor - 1, "votes below the floor are gone: learn first"
        last = max(self.votes, default=0)
        return [self.votes.get(i) for i in range(learned_through + 1, last + 1)]
