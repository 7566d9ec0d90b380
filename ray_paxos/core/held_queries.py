"""Queries that a learner holds because there is no answer yet.

```
 client ── Query, wait 60 s ─▶ learner ──▶ machine: NotYetError("stock/7")
                                 │  held under that topic
 log    ── chosen ─────────────▶ │ apply: context.notify("stock/7")
 client ◀─ QueryResult ───────── │ asked again: here it is
```

Rules:

1. A held query is asked again only once its topic was notified, or the state was replaced. So a
   wait costs nothing while nothing happens, however many wait.
2. It is answered once: with an answer, with a refusal, or, when its time to wait is over, with
   `NOT_YET`; then the client asks again, maybe elsewhere, and has missed nothing, since what it
   asks for is in the state. All are given up by a learner that hears nothing of its group any more,
   or has left it (`learner_answers`).
3. What many wait for is not given to all at once: after so many were asked again, others who want
   something of the learner come first (R10).
4. A client that asks under the same number again waits in the place of its earlier query.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from ray_paxos.core.client_messages import Query
from ray_paxos.core.messages import Address
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.machines.times_to_live import TimesToLive

HELD_MAX = 10_000
"""So many queries of one group are held; more are refused, overloaded."""
WAIT_MS_MAX = 60_000
"""No query is held for longer."""
TURN_MAX = 64
"""So many are asked again in one turn,"""
TURN_PAUSE_NS = 1 * MILLISECOND_NS
"""and no others for so long after a full one. A query of few bytes takes some ten microseconds."""

Topic: TypeAlias = tuple[str, str]
"""(machine, topic)."""


@dataclass(slots=True, eq=False)
class HeldQuery:
    """One that waits.

    Attributes:
        sender: Who gets the answer.
        query: What it asked.
        topic: What it waits for; None for that its `at_least` is applied.
    """

    sender: Address
    query: Query
    topic: Topic | None


class HeldQueries:
    """Of one learner.

    Invariants: each is in `_held` and `_ends`, and either under its topic, or behind, or due.
    """

    def __init__(self) -> None:
        """Hold none."""
        self._last_ticket = 0
        self._held: dict[int, HeldQuery] = {}
        self._by_request: dict[tuple[Address, int], int] = {}
        self._by_topic: dict[Topic, dict[int, None]] = {}
        self._behind: dict[int, None] = {}
        self._due: dict[int, None] = {}
        self._ends = TimesToLive[int]()
        self._not_before_ns = 0

    def __len__(self) -> int:
        """How many are held."""
        return len(self._held)

    @property
    def deadline_ns(self) -> int | None:
        """When one of them is to be looked at."""
        first_ns = self._ends.first_ns
        if self._due and first_ns is not None:
            return min(first_ns, self._not_before_ns)
        return first_ns

    def hold(self, sender: Address, query: Query, topic: Topic | None, now_ns: int) -> bool:
        """Hold a query; False where there is no room.

        Args:
            sender: Who asked.
            query: Its `wait_ms` is over zero.
            topic: What it waits for; None for that its `at_least` is applied.
            now_ns: The clock.
        """
        key = (sender, query.request_id)
        earlier = self._by_request.get(key)
        if earlier is None and len(self._held) >= HELD_MAX:
            return False
        if earlier is not None:
            self._forget(earlier)
        self._last_ticket += 1
        ticket = self._last_ticket
        self._by_request[key] = ticket
        self._held[ticket] = HeldQuery(sender, query, topic)
        self._wait(ticket, topic)
        wait_ms = min(query.wait_ms, WAIT_MS_MAX)
        self._ends.note(ticket, now_ns + wait_ms * MILLISECOND_NS)
        return True

    def hold_on(self, ticket: int, topic: Topic | None) -> None:
        """One that was due has no answer still; its time goes on."""
        held = self._held.get(ticket)
        if held is not None:
            held.topic = topic
            self._wait(ticket, topic)

    def _wait(self, ticket: int, topic: Topic | None) -> None:
        if topic is None:
            self._behind[ticket] = None
        else:
            self._by_topic.setdefault(topic, {})[ticket] = None

    def notify(self, topics: Iterable[Topic]) -> None:
        """Something has happened under these: who waits for it is due."""
        # Sorted: no order of a set may decide who is answered first.
        for topic in sorted(topics):
            self._due.update(self._by_topic.pop(topic, {}))

    def applied(self, applied_through: int) -> None:
        """So much is applied: who waited for that is due."""
        held = self._held
        reached = [t for t in self._behind if held[t].query.at_least <= applied_through]
        for ticket in reached:
            del self._behind[ticket]
            self._due[ticket] = None

    def notify_all(self) -> None:
        """The state was replaced, or answers no more: all are due."""
        self._by_topic.clear()
        self._behind.clear()
        self._due = dict.fromkeys(self._held)

    def take_due(self, now_ns: int) -> list[tuple[int, HeldQuery]]:
        """Those to be asked again now, with their tickets, for `hold_on` or `answered`."""
        if not self._due or now_ns < self._not_before_ns:
            return []
        tickets = list(itertools.islice(self._due, TURN_MAX))
        for ticket in tickets:
            del self._due[ticket]
        if len(tickets) == TURN_MAX:
            self._not_before_ns = now_ns + TURN_PAUSE_NS
        return [(ticket, self._held[ticket]) for ticket in tickets]

    def answered(self, ticket: int) -> None:
        """One has its answer."""
        self._forget(ticket)

    def take_all(self) -> list[HeldQuery]:
        """All of them, which are held no more."""
        held = list(self._held.values())
        for ticket in list(self._held):
            self._forget(ticket)
        return held

    def take_over(self, now_ns: int) -> list[HeldQuery]:
        """Those whose time to wait is over, which are held no more."""
        over = []
        for ticket in self._ends.take(now_ns, len(self._held)):
            over.append(self._held[ticket])
            self._forget(ticket)
        return over

    def _forget(self, ticket: int) -> None:
        held = self._held.pop(ticket)
        del self._by_request[held.sender, held.query.request_id]
        self._ends.forget(ticket)
        self._behind.pop(ticket, None)
        self._due.pop(ticket, None)
        if held.topic is not None:
            waiting = self._by_topic.get(held.topic)
            if waiting is not None:
                waiting.pop(ticket, None)
                if not waiting:
                    del self._by_topic[held.topic]
