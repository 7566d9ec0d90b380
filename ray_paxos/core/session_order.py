"""Puts the requests of a session back into their order, before they cost an instance.

A client has several requests on their way at once, and calls to an actor overtake each other: the
numbers of a session then arrive as 1, 3, 2. Proposed like that, 3 is refused for its gap and has
to be sent again, so it goes into the log twice. Measured on two cores with a client of eight
requests in flight: 11 to 18 % of the rows of the chosen log were such repetitions.

So a request that is ahead of its session waits here, for a moment, until what is missing has come:

```
 arrive(1) ─▶ 1        arrive(3) ─▶ (waits)       arrive(2) ─▶ 2, 3
```

It waits `WAIT_NS` at most: what is missing may have been lost, and only the client can tell. This
is a help, not a defence: order and "once" are kept by the sessions of the applied state (R7).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from ray_paxos.core.client_messages import Submit
from ray_paxos.core.messages import Address
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.core.values import CommandBatch, SessionId

WAIT_NS = 50 * MILLISECOND_NS
SESSIONS_MAX = 10_000
EARLY_REQUESTS_MAX = 64
EARLY_BYTES_MAX = 16_000_000


@dataclass(frozen=True, slots=True)
class Arrival:
    """A client's request."""

    client: Address
    submit: Submit

    def is_same(self, other: Arrival) -> bool:
        """Whether both are copies of one request."""
        return (self.client, self.submit.request_id) == (other.client, other.submit.request_id)


@dataclass(slots=True)
class _Session:
    """What has come of one session.

    Attributes:
        next_number: Every number below it has come, or came before we knew the session.
        early: By first number, those that are ahead of it.
    """

    next_number: int
    early: dict[int, Arrival] = field(default_factory=dict)


class SessionOrder:
    """The sessions that a proposer hears of, and their requests that came too early.

    Invariants: at most `SESSIONS_MAX` sessions are known; those with early requests are never
    forgotten; `EARLY_REQUESTS_MAX` and `EARLY_BYTES_MAX` bound what waits, of all sessions
    together (R10): what exceeds them goes on as it came. `_since_ns` has exactly the sessions with
    early requests, the longest waiting first.
    """

    def __init__(self) -> None:
        """Start knowing no session."""
        self._sessions: OrderedDict[SessionId, _Session] = OrderedDict()
        # Asked for on every step of the proposer, so nothing here is looked for.
        self._since_ns: OrderedDict[SessionId, int] = OrderedDict()
        self._early_count = 0
        self._early_bytes = 0

    @property
    def due_ns(self) -> int | None:
        """When `expire` is due; None while nothing waits."""
        for since_ns in self._since_ns.values():
            return since_ns + WAIT_NS
        return None

    def arrive(self, client: Address, submit: Submit, now_ns: int) -> list[Arrival]:
        """Take a request in.

        Args:
            client: Who sent it.
            submit: The request.
            now_ns: The clock.

        Returns:
            What may be proposed now, in this order: nothing, the request, or it and what had
            waited for it.
        """
        arrival = Arrival(client, submit)
        if not submit.batches:
            return [arrival]
        first = submit.batches[0]
        session = self._sessions.get(first.session)
        if session is None:
            session = self._sessions[first.session] = _Session(first.first_number)
            self._forget_oldest()
        else:
            self._sessions.move_to_end(first.session)
        # Numbers below `lowest_open` are closed: nothing is missing there.
        session.next_number = max(session.next_number, first.lowest_open)
        if first.first_number <= session.next_number:
            return [arrival, *self._follow(first.session, session, submit)]
        early = session.early.get(first.first_number)
        if early is not None and early.is_same(arrival):
            # Sent again while it waits: one answer serves both.
            return []
        if not self._may_wait(session, first, submit):
            return [arrival]
        session.early[first.first_number] = arrival
        self._since_ns.setdefault(first.session, now_ns)
        self._early_count += 1
        self._early_bytes += _byte_count(submit)
        return []

    def expire(self, now_ns: int) -> list[Arrival]:
        """Give up waiting where it has lasted too long; in order, session by session."""
        expired: list[Arrival] = []
        while (due_ns := self.due_ns) is not None and due_ns <= now_ns:
            expired += self._release(next(iter(self._since_ns)))
        return expired

    def drain(self) -> list[Arrival]:
        """Give everything out that waits, and forget all sessions: the reign is over."""
        drained: list[Arrival] = []
        while self._since_ns:
            drained += self._release(next(iter(self._since_ns)))
        self._sessions.clear()
        return drained

    def refused(self, submit: Submit) -> list[Arrival]:
        """A request that had its turn was not taken: forget its session.

        Returns:
            What had waited in that session: it shares the fate of the one refused, and is to be
            answered at once.
        """
        session_id = submit.batches[0].session if submit.batches else None
        if session_id is None or session_id not in self._sessions:
            return []
        released = self._release(session_id)
        del self._sessions[session_id]
        return released

    def _may_wait(self, session: _Session, first: CommandBatch, submit: Submit) -> bool:
        return (
            first.first_number not in session.early
            and self._early_count < EARLY_REQUESTS_MAX
            and self._early_bytes + _byte_count(submit) <= EARLY_BYTES_MAX
        )

    def _follow(self, session_id: SessionId, session: _Session, submit: Submit) -> list[Arrival]:
        """Note that a request has its turn; what waited for it follows."""
        following: list[Arrival] = []
        session.next_number = max(session.next_number, _end(submit))
        while session.early and min(session.early) <= session.next_number:
            arrival = self._take(session_id, session, min(session.early))
            session.next_number = max(session.next_number, _end(arrival.submit))
            following.append(arrival)
        return following

    def _release(self, session_id: SessionId) -> list[Arrival]:
        session = self._sessions[session_id]
        numbers = sorted(session.early)
        released = [self._take(session_id, session, number) for number in numbers]
        for arrival in released:
            session.next_number = max(session.next_number, _end(arrival.submit))
        return released

    def _take(self, session_id: SessionId, session: _Session, number: int) -> Arrival:
        arrival = session.early.pop(number)
        self._early_count -= 1
        self._early_bytes -= _byte_count(arrival.submit)
        if not session.early:
            del self._since_ns[session_id]
        return arrival

    def _forget_oldest(self) -> None:
        if len(self._sessions) <= SESSIONS_MAX:
            return
        for session_id, session in self._sessions.items():
            if not session.early:
                del self._sessions[session_id]
                return


def _end(submit: Submit) -> int:
    """The number after the last one of a request."""
    last = submit.batches[-1]
    return last.first_number + len(last.commands)


def _byte_count(submit: Submit) -> int:
    return sum(sum(map(len, batch.commands)) for batch in submit.batches)
