"""One try of a linearizable read by a quorum of acceptors; see `core.quorum_read`.

```
 Reader ──▶ acceptors of a majority, and the learner of one member, at once ──▶ its answer
        ──▶ that learner again, where it has not applied the index yet       ──▶ its answer
```

Of the readers that share a turn one at a time goes this way. What comes meanwhile goes by the
master's index, whose rounds are shared among all clients: a lone read takes one hop, and many
together do not ask every acceptor once each.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence

import msgspec

from ray_paxos.actors.read_calls import ReadCalls, Started
from ray_paxos.core.client_messages import (
    Query,
    QueryResult,
    QuorumRead,
    QuorumReadAnswer,
    Refused,
)
from ray_paxos.core.messages import RoleName
from ray_paxos.core.quorum import majority
from ray_paxos.core.quorum_read import QuorumAnswers, Verdict
from ray_paxos.core.read_problems import ReadProblem

TRY_S = 0.25
"""How long a quorum is waited for; by the index any majority does."""
REST_S = 1.0
"""How long nobody has the turn after somebody did not answer."""


class QuorumReadTurn:
    """Which read of one group may ask a quorum; shared by threads and clients."""

    def __init__(self) -> None:
        """Nobody's turn."""
        self._lock = threading.Lock()
        self._rests_until = 0.0

    def take(self) -> bool:
        """Take the turn where nobody has it; to be given back."""
        return time.monotonic() >= self._rests_until and self._lock.acquire(blocking=False)

    def give_back(self) -> None:
        """The read has its answers, or waits for them no longer."""
        self._lock.release()

    def rest(self) -> None:
        """Give nobody the turn for a while."""
        self._rests_until = time.monotonic() + REST_S


class QuorumReader:
    """Tries reads of one group by a quorum. May be used by several threads."""

    def __init__(self, calls: ReadCalls, members: Collection[int], turn: QuorumReadTurn) -> None:
        """Ask these members.

        Args:
            calls: Makes the calls.
            members: All that may vote; grows. Those that do are known from the first answer on.
            turn: Shared with other readers of the group.
        """
        self._calls = calls
        self._members = members
        self._voters: Sequence[int] = ()
        self._turn = turn
        self._first_asked = 0

    def read(self, member: int, query: Query, deadline: float) -> QueryResult | None:
        """Try to read at one member's learner.

        Args:
            member: The one that seems to lead.
            query: The read, as a stale one.
            deadline: On the monotonic clock, in seconds.

        Returns:
            A linearizable answer; None where there is none this way.
        """
        if not self._turn.take():
            return None
        try:
            return self._read(member, query, deadline)
        finally:
            self._turn.give_back()

    def _read(self, member: int, query: Query, deadline: float) -> QueryResult | None:
        answers = QuorumAnswers(member)
        asked = QuorumRead(query.request_id)
        acceptors = self._acceptors(member)
        started = self._calls.start(RoleName.ACCEPTOR, asked, *acceptors, within_s=TRY_S)
        started += self._calls.start(RoleName.LEARNER, query, member, within_s=TRY_S)
        self._wait(started, answers, deadline)
        if answers.verdict() is Verdict.BEHIND:
            at_least = max(query.at_least, answers.ask_again())
            again = msgspec.structs.replace(query, at_least=at_least)
            started = self._calls.start(RoleName.LEARNER, again, member, within_s=TRY_S)
            self._wait(started, answers, deadline)
        return answers.answer if answers.verdict() is Verdict.COUNTS else None

    def _acceptors(self, member: int) -> list[int]:
        """A majority, from this member's on; others after one that did not answer."""
        voters = self._voters or sorted(self._members)
        count = len(voters)
        first = (voters.index(member) if member in voters else 0) + self._first_asked
        return [voters[(first + place) % count] for place in range(majority(count))]

    def _wait(self, started: Sequence[Started], answers: QuorumAnswers, deadline: float) -> None:
        patience_s = min(max(deadline - time.monotonic(), 0.0), TRY_S)
        for found in self._calls.finish(started, patience_s):
            if isinstance(found, ReadProblem):
                self._first_asked += 1
                self._turn.rest()
                return
            answers.take(found)
            message = found.message
            if isinstance(message, QuorumReadAnswer):
                self._voters = [voter.member_id for voter in message.voters]
            elif isinstance(message, Refused):
                # It does not vote: whoever does is to be found anew.
                self._voters, self._first_asked = (), self._first_asked + 1
