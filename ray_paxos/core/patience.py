"""How long a client waits for each member, and whom it asks after one that said nothing; pure.

Any member that a client reaches answers at once, if only that another one leads; the master alone
may take long over an answer that is worth waiting for. So once some member has given no answer, and
nobody knows any more who can be reached, all get little time until they have answered something,
and those that were silent are passed over in every other round. Where hosts reach one another only
in part, as where all reach one and no other, a client finds the master that way before long,
whatever it has to try first.

A member that is only slow is not given up: each silence doubles its time, up to what it had before.

All that one client asks in a group, commands, reads and waits, shares this: whoever was silent to a
read would otherwise be waited for once more by the next command, each for its full time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ray_paxos.core.settings import MILLISECOND_NS

SEARCH_NS = 500 * MILLISECOND_NS
"""How long one is waited for that nobody knows to be reached."""


class Patience:
    """What a client knows of who answers it.

    Invariants: `_silences` counts a member's calls without an answer since its last one; `_heard`
    are those that have answered since anybody was silent. Several threads may use it: a race costs
    one more try, or a member has to be met once more.

    Attributes:
        members: All that are known; any of its users may have met them.
    """

    def __init__(self, members: Sequence[int]) -> None:
        """Take all of these for reached; at least one."""
        self.members = tuple(members)
        self._silences: dict[int, int] = {}
        self._heard: set[int] = set()
        self._passed_over: set[int] = set()

    def meet(self, members: Iterable[int]) -> None:
        """Whoever of these is not known yet is there, too."""
        self.members += tuple(each for each in members if each not in self.members)

    def answered(self, member_id: int) -> None:
        """A member has answered, whatever it said, and however late."""
        self._silences.pop(member_id, None)
        self._heard.add(member_id)

    def gave_no_answer(self, member_id: int) -> None:
        """A member was waited for in vain, or could not be called."""
        self._silences[member_id] = self._silences.get(member_id, 0) + 1
        # Whatever keeps this one from answering may do so with others.
        self._heard.clear()

    def limit_ns(self, member_id: int, full_ns: int) -> int:
        """How long to wait for a member's next answer.

        Args:
            member_id: Whose.
            full_ns: How long for one that is known to be reached.
        """
        if not self._silences or member_id in self._heard:
            return full_ns
        return min(full_ns, SEARCH_NS << min(self._silences.get(member_id, 0), 16))

    def next_after(self, member_id: int) -> int:
        """Whom to ask after a member: the next one, but for the silent, each passed over once."""
        # One that a race has made unknown again is as if it stood first.
        members = self.members if member_id in self.members else (member_id, *self.members)
        place = members.index(member_id)
        others = (*members[place + 1 :], *members[:place])
        # Twice round at most: in the second one all that are silent were passed over.
        for other in (*others, *others):
            if other not in self._silences or other in self._passed_over:
                self._passed_over.discard(other)
                return other
            self._passed_over.add(other)
        return member_id
