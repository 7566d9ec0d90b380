"""Which member a client takes for the master."""

from __future__ import annotations

from collections.abc import Sequence

from ray_paxos.core.master_search import MasterSearch
from ray_paxos.core.patience import Patience


class MasterGuess:
    """Which member to send to: the last one known to lead, or the next one to ask.

    Invariants: `member_id` is one of the members.

    Attributes:
        member_id: Whom to send to.
        patience: What is known of who answers; told of answers by whoever takes them in.
        search: What came of asking since the master answered.
    """

    def __init__(self, patience: Patience, first: int = 0) -> None:
        """Begin with the member at place `first`, taken modulo their number.

        Args:
            patience: Of the client; knows the members, at least one.
            first: So that many clients do not all begin with the same one.
        """
        assert patience.members, "a cluster has members"
        self.patience = patience
        self.search = MasterSearch()
        self.member_id = self._members[first % len(self._members)]

    @property
    def _members(self) -> tuple[int, ...]:
        return self.patience.members

    def meet(self, members: Sequence[int]) -> None:
        """There are these, too: the first of them is asked next."""
        self.patience.meet(members)
        self.member_id = members[0]

    def answered(self, member_id: int) -> None:
        """That member has answered as the master."""
        self.search.over()
        self.member_id = member_id

    def redirected(self, asked: int, master: int | None) -> None:
        """A member named the master, or knew of none.

        Args:
            asked: Who said so; ignored where somebody else is already believed to lead.
            master: Whom it named.
        """
        if asked != self.member_id:
            return
        named = master if master is not None and master != asked and master in self._members else 0
        if self.search.follows(named, len(self._members)):
            self.member_id = named
        else:
            self._next()

    def failed(self, asked: int) -> None:
        """A member did not answer."""
        self.patience.gave_no_answer(asked)
        if asked == self.member_id:
            self.search.follows(0, len(self._members))
            self._next()

    def _next(self) -> None:
        self.member_id = self.patience.next_after(self.member_id)
