"""Answers of a proposer that wait to be taken to their client, and the calls that wait for them.

A call that waits for the answers to what it brought waits for the slowest of them. Where a process
has clients of a hundred groups, all would be as slow as the slowest, or each would need calls of
its own, and calls are what costs most. So an answer is not bound to the call that brought its
request: it goes into the mailbox of the *line* that the request came by, and the next call of the
line that returns takes along what is there.

```
 line 7 ── exchange(requests) ──▶ proposer             mailbox of line 7
        ◀─ what is there ───────  any waiting call ◀── answers, as they come
```

With each call that comes to wait, the one that has waited longest is let go, with or without
answers, so that the line always has one to bring more by.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import TypeAlias

from ray_paxos.actors.line_answers import ClientAnswer
from ray_paxos.core.messages import Address, Envelope

RequestKey: TypeAlias = tuple[Address, int]
"""Which client's request of which number."""

WAITING_MAX = 1
"""Calls of one line that wait; another one lets the longest waiting go."""
LINES_MAX = 4_096
"""Lines whose mailboxes are kept; those used least lately go first."""
LINE_IDLE_S = 60.0
"""A line that makes no call for so long is given up: its process is gone, or waits for nothing."""


class Mailbox:
    """Answers for one line, or for one call that waits for its own; used by all threads.

    Bare locks, since a `Future` or an `Event` costs several times as much, once a command.

    Invariants: a call waits only while there is no answer that it was not told of.

    Attributes:
        is_left: Nobody takes anything from it any more.
    """

    __slots__ = ("_answers", "_awaited", "_lock", "_waiting", "is_left")

    def __init__(self) -> None:
        """Start empty."""
        self.is_left = False
        self._lock = threading.Lock()
        self._answers: list[ClientAnswer] = []
        self._waiting: deque[threading.Lock] = deque()
        self._awaited: OrderedDict[RequestKey, float] = OrderedDict()

    def expect(self, key: RequestKey, until: float) -> None:
        """An answer to a request will be put here; not later than then."""
        with self._lock:
            self._awaited[key] = until
            self._awaited.move_to_end(key)

    def overdue(self, now: float) -> list[RequestKey]:
        """The requests that are not answered and whose time is over; each is told once."""
        with self._lock:
            overdue = []
            while self._awaited and next(iter(self._awaited.values())) <= now:
                overdue.append(self._awaited.popitem(last=False)[0])
            return overdue

    def put(self, key: RequestKey, envelope: Envelope, copies: int = 1) -> None:
        """Lay an answer to so many copies in; whoever waits is told by `open`."""
        with self._lock:
            self._awaited.pop(key, None)
            self._answers.append((key[0].member_id, copies, envelope))

    def open(self) -> None:
        """Let the call that has waited longest take what is there."""
        with self._lock:
            if self._answers and self._waiting:
                self._waiting.popleft().release()

    def take(self, timeout_s: float) -> list[ClientAnswer]:
        """What is there; waits for something, unless others of the line come to wait after it.

        Args:
            timeout_s: How long to wait.

        Returns:
            Answers in the order in which they came; none where there was nothing in time, or
            another call waits in its place.
        """
        with self._lock:
            if self._answers:
                return self._take_all()
            gate = threading.Lock()
            gate.acquire()
            self._waiting.append(gate)
            if len(self._waiting) > WAITING_MAX:
                self._waiting.popleft().release()
        gate.acquire(timeout=max(timeout_s, 0.0))
        with self._lock:
            if gate in self._waiting:
                self._waiting.remove(gate)
            return self._take_all()

    def _take_all(self) -> list[ClientAnswer]:
        answers, self._answers = self._answers, []
        return answers


class LineMailboxes:
    """The mailboxes of all lines to one proposer.

    Invariants: at most `LINES_MAX` of them, in the order in which they were used last.
    """

    def __init__(self) -> None:
        """Start with none."""
        self._lock = threading.Lock()
        self._mailboxes: OrderedDict[int, tuple[Mailbox, float]] = OrderedDict()

    def of(self, line: int, now: float) -> tuple[Mailbox, list[Mailbox]]:
        """A line's mailbox, made where there is none.

        Args:
            line: Number of the line, which is in use now.
            now: The clock, in seconds.

        Returns:
            The mailbox, and those that had to go meanwhile.
        """
        dropped: list[Mailbox] = []
        with self._lock:
            known = self._mailboxes.pop(line, None)
            mailbox = known[0] if known is not None else Mailbox()
            self._mailboxes[line] = mailbox, now
            while self._is_first_over(now):
                dropped.append(self._mailboxes.popitem(last=False)[1][0])
        return mailbox, dropped

    def _is_first_over(self, now: float) -> bool:
        _, used = next(iter(self._mailboxes.values()))
        return used + LINE_IDLE_S <= now or len(self._mailboxes) > LINES_MAX
