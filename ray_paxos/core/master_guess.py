"""Which member a client takes for the master."""

from __future__ import annotations

from collections.abc import Sequence

from ray_paxos.core.master_search import MasterSearch
from ray_paxos.core.patience import Patience


class MasterGuess:
    """Which member to send to: the last one known to lead, or the next one to ask.

    Invariants: `member_id` is one of the members.

    Attributes:
        patience: What is known of who answers; told of answers by whoever takes them in.
        search: What came of asking since the master answered.
    """

    def __init__(self, members: Sequence[int], first: int = 0) -> None:
        """Begin with the member at place `first`, taken modulo their number.

        Args:
            members: Their ids; at least one.
            first: So that many clients do not all begin with the same one.
        """
        assert members, "a cluster has members"
        self.patience = Patience(members)
        self.search = MasterSearch()
        self._position = first % len(members)

    @property
    def _members(self) -> tuple[int, ...]:
        return self.patience.members

    @property
    def member_id(self) -> int:
        """Whom to send to."""
        return self._members[self._position]

    def meet(self, members: Sequence[int]) -> None:
        """There are these, too: the first of them is asked next."""
        self._position = len(self._members)
        self.patience.meet(members)

    def answered(self, member_id: int) -> None:
        """That member has answered as the master."""
        self.search.over()
        self._take(member_id)

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
            self._take(named)
        else:
            self._next()

    def failed(self, asked: int) -> None:
        """A member did not answer."""
        self.patience.gave_no_answer(asked)
        if asked == self.member_id:
            self.search.follows(0, len(self._members))
            self._next()

    def _take(self, member_id: int) -> None:
        self._position = self._members.index(member_id)

    def _next(self) -> None:
        self._take(self.patience.next_after(self.member_id))
