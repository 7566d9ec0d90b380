"""Whose word a client follows that looks for the master of a group; pure.

Members name the master that they know of, and that one is asked next. But one that was left behind
names a master of long ago: such as one that was removed while it was away, and has not heard of it.
Two of them may name each other for as long as they are not told, or one names a member that has
left, which names nobody, and stands before it in the order in which members are asked. The master
may be one that neither knows.

So a name is followed a few times only. Once it is used up the search asks one member after the
other, each once, and then begins anew. A name that it has not heard yet is followed all the same: a
new master is found by the first who knows it.
"""

from __future__ import annotations

from collections import Counter

FOLLOWED_MAX = 3
"""So often one name is followed. A new master may be named before it can answer."""


class MasterSearch:
    """Tries that came to nothing since the last one that came to something.

    Invariants: no name is in `_followed` more often than `FOLLOWED_MAX`.

    Attributes:
        turns: How often it began to ask one member after the other.
    """

    def __init__(self) -> None:
        """Begin."""
        self.turns = 0
        self._followed: Counter[int] = Counter()
        self._in_turn = 0

    @property
    def is_in_turn(self) -> bool:
        """Whether one member after the other is asked."""
        return self._in_turn > 0

    def follows(self, named: int, members: int) -> bool:
        """Whether a member that was named is asked next; called for each try that came to nothing.

        Args:
            named: Who leads, as whoever was asked says: another member, that is known; 0 for none.
            members: How many are known.
        """
        if self._in_turn:
            self._in_turn -= 1
            if not self._in_turn:
                self._followed.clear()
        if not named:
            return False
        if self._followed[named] < FOLLOWED_MAX:
            self._followed[named] += 1
            return True
        if not self._in_turn:
            self._in_turn = members
            self.turns += 1
        return False

    def over(self) -> None:
        """The master has answered."""
        self._followed.clear()
        self._in_turn = 0
