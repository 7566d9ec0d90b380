"""Reads of a simulated client that go together, by the real rules: `core.query_batches`.

Each read is judged on its own, as of when it was called: a batch that served one which was called
after its round had begun would show it something too old.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from ray_paxos.core.client_messages import (
    Consistency,
    QueryAnswers,
    QueryFailed,
    QueryResult,
    ReadIndexConfirmed,
)
from ray_paxos.core.messages import Address, Message
from ray_paxos.core.patience import Patience
from ray_paxos.core.pending import Outcomes
from ray_paxos.core.query_batches import QueryBatches
from ray_paxos.core.query_calls import Ask, QuerySettings, ReadTerms
from ray_paxos.core.results import EntryResult
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.errors import PaxosError
from ray_paxos.testing.clock import Scheduler
from ray_paxos.testing.options import ClientOptions
from ray_paxos.testing.reads import KINDS, STALENESS_MS, Read, ReadJudge
from ray_paxos.testing.violation import expect
from ray_paxos.testing.workload import Workload

OPEN_MAX = 40
TOGETHER_MAX = 5
"""Reads that are called at one moment, at most."""
NO_REQUEST = b"not a query"
BAD_SHARE = 0.05
"""So many of them are refused by their machine, among good ones."""

BatchAnswer: TypeAlias = QueryAnswers | QueryFailed | ReadIndexConfirmed


def drawn_settings(options: ClientOptions, random: random.Random) -> QuerySettings:
    """Bounds that are met all the time."""
    return QuerySettings(
        requests_max=random.choice((1, 3, 50)),
        request_bytes_max=random.choice((1, 100, 10_000)),
        answer_bytes_max=random.choice((1, 100, 10_000)),
        window_max=random.choice((1, 2, 4)),
        try_ns=options.timeout_ns,
        pause_max_ns=20 * MILLISECOND_NS,
        owed_calls_max=random.choice((2, 32)),
        owed_ns=4 * options.timeout_ns,
        look_interval_ns=20 * MILLISECOND_NS,
    )


@dataclass(eq=False)
class _Called:
    """Who waits for the answer to one read.

    Attributes:
        reads: Whose.
        read: The read.
        deadline_ns: Until when.
    """

    reads: BatchedReads
    read: Read
    deadline_ns: int

    def begin(self) -> bool:
        return True

    def deliver(self, start: int, entry: EntryResult, offset: int, count: int) -> None:
        self.reads.told(self.read, entry, offset)

    def fail(self, start: int, error: PaxosError, count: int) -> None:
        self.reads.given_up(self.read)


class BatchedReads:
    """The reads of one client that go together.

    Attributes:
        batches: What decides when, and with which others.
    """

    def __init__(
        self,
        *,
        client_id: int,
        group: int,
        members: tuple[int, ...],
        has_lease: bool,
        settings: QuerySettings,
        scheduler: Scheduler,
        random: random.Random,
        judge: ReadJudge,
        own_instance: Callable[[], int],
        send: Callable[[Address, Message], None],
    ) -> None:
        """Start with none.

        Args:
            client_id: Whose.
            group: Of whose machines.
            members: All that have the group.
            has_lease: Whether masters hold leases.
            settings: Bounds and times.
            scheduler: Virtual time.
            random: The run's.
            judge: Is told.
            own_instance: Tells in which instance this client was acknowledged last.
            send: Sends for the client.
        """
        self.batches = QueryBatches(
            {member: f"m{member}" for member in members},
            Patience(members),
            has_lease=has_lease,
            settings=settings,
            random=random,
        )
        self._client_id = client_id
        self._group = group
        self._scheduler = scheduler
        self._random = random
        self._judge = judge
        self._own_instance = own_instance
        self._send = send
        self._asks: dict[int, Ask] = {}
        self._open = 0
        self._timer_ns: int | None = None
        # Which message brought what is being told.
        self._answered = 0

    def call_some(self, workload: Workload, timeout_ns: int) -> None:
        """Call a few reads at once, most of them on the same terms.

        Args:
            workload: Draws what to read.
            timeout_ns: After which each is given up.
        """
        draw = self._random
        kind = draw.random()
        consistency = next(consistency for share, consistency in KINDS if kind < share)
        staleness_ms = None
        if consistency is Consistency.FOLLOWER and draw.random() < 0.6:
            staleness_ms = STALENESS_MS[draw.randrange(len(STALENESS_MS))]
        for _ in range(1 + draw.randrange(TOGETHER_MAX)):
            if self._open < OPEN_MAX:
                machine, request = workload.draw_read()
                if draw.random() < BAD_SHARE:
                    request = NO_REQUEST
                self.call(machine, request, consistency, staleness_ms, timeout_ns)
        self.go_on()

    def call(
        self,
        machine: str,
        request: bytes,
        consistency: Consistency,
        max_staleness_ms: int | None,
        timeout_ns: int,
    ) -> Read:
        """Call one read; `go_on` sends it."""
        read = Read(self._client_id, self._group, machine, request, consistency)
        read.is_batched = True
        read.max_staleness_ms = max_staleness_ms
        at_least: int | None = 0
        if consistency is Consistency.FOLLOWER and max_staleness_ms is None:
            read.at_least, at_least = self._own_instance(), None
        if request != NO_REQUEST:
            self._judge.read_called(read)
        self._open += 1
        terms = ReadTerms(machine, consistency, at_least, max_staleness_ms)
        called = _Called(self, read, self._scheduler.now_ns + timeout_ns)
        self.batches.add_one(terms, request, called)
        return read

    def told(self, read: Read, entry: EntryResult, offset: int) -> None:
        """A read has its answer, or was refused."""
        self._open -= 1
        read.is_over = True
        result = entry.results[offset]
        # A good one is refused, too, where the machine is not mounted yet at a member.
        expect(result is None or read.request != NO_REQUEST, "R8", "a bad read has an answer")
        if result is not None:
            answer = QueryResult(self._answered, entry.instance_id, result)
            self._judge.read_answered(read, answer)

    def given_up(self, read: Read) -> None:
        """A read's time is over."""
        self._open -= 1
        read.is_over = True

    # Messages.

    def is_ours(self, message: BatchAnswer) -> bool:
        """Whether it answers a message of these reads."""
        return message.request_id in self._asks

    def receive(self, message: BatchAnswer) -> None:
        """Take an answer in."""
        ask = self._asks.pop(message.request_id)
        outcomes = Outcomes()
        asks = self.batches.on_answer(ask, message, self._scheduler.now_ns, outcomes)
        self._answered = message.request_id
        outcomes.settle()
        self._make(asks)
        self.go_on()

    def go_on(self) -> None:
        """Send what is due, and wake up for what will be."""
        now_ns = self._scheduler.now_ns
        self._make(self.batches.next_asks(now_ns, self._own_instance()))
        due_ns = self.batches.due_ns()
        if due_ns is not None and (self._timer_ns is None or due_ns < self._timer_ns):
            self._timer_ns = max(due_ns, now_ns + 1)
            self._scheduler.at(self._timer_ns, partial(self._ring, self._timer_ns))

    def _ring(self, timer_ns: int) -> None:
        if self._timer_ns != timer_ns:
            return
        self._timer_ns = None
        outcomes = Outcomes()
        self.batches.on_deadline(self._scheduler.now_ns, outcomes)
        outcomes.settle()
        self.go_on()

    def _make(self, asks: list[Ask]) -> None:
        for ask in asks:
            self._asks[ask.number] = ask
            self._send(Address(ask.member_id, ask.role), ask.message)
