"""The waits of one client, with a clock set by hand, and short ways to answer them."""

from __future__ import annotations

import random
from collections.abc import Callable

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.client_calls import Call
from ray_paxos.core.client_messages import Query, QueryFailed, QueryProblem, QueryResult
from ray_paxos.core.client_waits import ClientWaits
from ray_paxos.core.messages import Message, RoleName
from ray_paxos.core.patience import Patience
from ray_paxos.core.pending import Outcomes
from ray_paxos.core.results import EntryResult
from ray_paxos.errors import PaxosError
from tests.unit.core_helpers import MS

OWN = Ballot(6, 1, 1)
MEMBERS = {1: "m1", 2: "m2", 3: "m3"}


class Waiter:
    """Waits for one answer.

    Attributes:
        told: What came: the answer with its instance, or an error.
        ended_ns: When.
    """

    def __init__(self, deadline_ns: int, clock: Callable[[], int]) -> None:
        self.deadline_ns = deadline_ns
        self.is_cancelled = False
        self.told: list[tuple[bytes | None, int] | PaxosError] = []
        self.ended_ns: int | None = None
        self.began = 0
        self._clock = clock

    def cancelled(self) -> bool:
        return self.is_cancelled

    def begin(self) -> bool:
        self.began += 1
        assert self.began == 1, "an outcome is known once"
        return not self.is_cancelled

    def deliver(self, start: int, entry: EntryResult, offset: int, count: int) -> None:
        assert (start, offset, count) == (0, 0, 1)
        self._end((entry.results[0], entry.instance_id))

    def fail(self, start: int, error: PaxosError, count: int) -> None:
        assert (start, count) == (0, 1)
        self._end(error)

    def _end(self, told: tuple[bytes | None, int] | PaxosError) -> None:
        assert not self.told, "told twice"
        assert not self.is_cancelled, "told, though it was cancelled"
        self.told.append(told)
        self.ended_ns = self._clock()

    @property
    def error(self) -> PaxosError:
        (error,) = self.told
        assert isinstance(error, PaxosError)
        return error


class Client:
    """The waits of one client, with a clock set by hand; it takes member 1 for the master."""

    def __init__(self, names: dict[int, str] | None = None, seed: int = 1) -> None:
        self.now_ns = 1_000_000 * MS
        self.names = dict(names or MEMBERS)
        self.master = 1
        patience = Patience(sorted(self.names))
        self.waits = ClientWaits(self.names, patience, lambda: self.master, random.Random(seed))

    def wait(self, request: bytes = b"a", *, for_ms: int = 600_000, at_least: int = 0) -> Waiter:
        waiter = Waiter(self.now_ns + for_ms * MS, lambda: self.now_ns)
        self.waits.add("kv", request, at_least, waiter)
        return waiter

    def send(self) -> list[Call]:
        calls = []
        while (call := self.waits.next_call(self.now_ns)) is not None:
            calls.append(call)
        check(self.waits)
        return calls

    def one(self) -> Call:
        (call,) = self.send()
        return call

    def answer(self, call: Call, message: Message) -> list[Call]:
        """Take an answer in; gives what is asked at once after it."""
        outcomes = Outcomes()
        self.waits.on_answer(call, message, self.now_ns, outcomes)
        check(self.waits)
        outcomes.settle()
        return self.send()

    def lose(self, call: Call, what: str = "it is gone") -> list[Call]:
        self.waits.on_lost(call, what, self.now_ns)
        return self.send()

    def time_passes(self, nanoseconds: int) -> list[Call]:
        self.now_ns += nanoseconds
        outcomes = Outcomes()
        self.waits.on_time(self.now_ns, outcomes)
        check(self.waits)
        outcomes.settle()
        due_ns = self.waits.due_ns
        assert due_ns is None or due_ns > self.now_ns, "called in a circle"
        return self.send()


def check(waits: ClientWaits) -> None:
    """The invariants of the class."""
    numbers = set(waits._waits)
    assert set(waits._ends.by_key) == numbers
    assert set(waits._to_ask).isdisjoint(waits._due.by_key)
    assert set(waits._to_ask) | set(waits._due.by_key) == numbers


def query_of(call: Call) -> Query:
    assert call.role is RoleName.LEARNER
    assert isinstance(call.message, Query)
    return call.message


def answered(call: Call, *, at: int = 50) -> QueryResult:
    query = query_of(call)
    return QueryResult(query.request_id, at, query.request.upper(), OWN)


def failed(call: Call, problem: QueryProblem, *, master: int = 0) -> QueryFailed:
    return QueryFailed(call.message.request_id, 0, "why", problem, master)
