"""What the clients of a recipe's workload saw; each kind of it is for one judge.

All times are of one monotonic clock, in nanoseconds: `asked_ns` is read before a call is made,
`told_ns` after it has returned. What a judge takes from them is only what is certain: that one call
returned before another one was made.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from job_numbers import nearest_rank

MILLISECOND_NS = 1_000_000


@dataclass(frozen=True, slots=True)
class Answered:
    """A call of a recipe that had a result.

    Attributes:
        kind: Of the call.
        asked_ns: Before it.
        at_ns: After it.
    """

    kind: str
    asked_ns: int
    at_ns: int


@dataclass
class RecipeRecords:
    """What all clients share. Lists are only appended to, so that threads may share them.

    Attributes:
        acknowledged: All calls with a result.
        outcomes: By kind of call and outcome.
        errors: By kind of error.
        failures: What ended a client, or must not happen at all.
    """

    acknowledged: list[Answered] = field(default_factory=list)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, kind: str, outcome: str, error: BaseException | None = None) -> None:
        """One call ended so."""
        with self._lock:
            self.outcomes[kind, outcome] += 1
            if error is not None:
                self.errors[type(error).__name__] += 1

    @property
    def last_acknowledged_ns(self) -> int:
        """When the last call had a result; 0 for none yet."""
        return self.acknowledged[-1].at_ns if self.acknowledged else 0

    @property
    def operations(self) -> int:
        """How many ended."""
        with self._lock:
            return sum(self.outcomes.values())

    def latencies(self) -> dict[str, dict[str, float]]:
        """Of calls with a result, by kind: median, 99th percentile and the longest, in ms."""
        by_kind: dict[str, list[int]] = defaultdict(list)
        for each in self.acknowledged:
            by_kind[each.kind].append(each.at_ns - each.asked_ns)
        return {kind: percentiles_ms(taken) for kind, taken in sorted(by_kind.items())}


def percentiles_ms(lengths_ns: Sequence[int]) -> dict[str, float]:
    """Count, median, 99th percentile and the longest of some times; nothing of none."""
    if not lengths_ns:
        return {"count": 0}
    ordered = sorted(lengths_ns)

    def at(share: float) -> float:
        return round(nearest_rank(ordered, share) / MILLISECOND_NS, 3)

    return {"count": len(ordered), "p50": at(0.5), "p99": at(0.99), "longest": at(1.0)}


@dataclass(slots=True)
class Holding:
    """Something that was granted to one client: units of a resource, a lead, the work of a key.

    Attributes:
        client: Whose.
        resource: Of what.
        units: How many of them.
        token: The fencing token, or the epoch.
        asked_ns: Before it was asked for.
        granted_ns: After it was granted.
        known_until_ns: Until then it was known to be held, as `is_held` and `remaining_s` said, and
            not given back yet; 0 where it never was.
        end_asked_ns: Before it was given back; None where it was not.
        was_held: Whether it was held when it was given back, as the answer says; None for unknown.
        stood_still: Whether its holder stood still for longer than its lease.
    """

    client: str
    resource: str
    units: int
    token: int
    asked_ns: int
    granted_ns: int
    known_until_ns: int = 0
    end_asked_ns: int | None = None
    was_held: bool | None = None
    stood_still: bool = False


@dataclass(frozen=True, slots=True)
class StoreWrite:
    """A write to a store that refuses tokens below the highest it has seen.

    Attributes:
        resource: What the store belongs to.
        token: The writer's.
        at_ns: When the store took it, or refused it.
        is_taken: Whether it took it.
        known_until_ns: Until then the writer knew, before it wrote, to hold the resource.
        is_late: Whether the writer had stood still, and did not look before it wrote.
    """

    resource: str
    token: int
    at_ns: int
    is_taken: bool
    known_until_ns: int
    is_late: bool = False


class FencedStore:
    """One place outside of the cluster for each resource; takes no token below one it has seen."""

    def __init__(self, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        """Nothing was written.

        Args:
            clock_ns: Monotonic.
        """
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._highest: dict[str, int] = {}
        self.writes: list[StoreWrite] = []

    def write(
        self, resource: str, token: int, known_until_ns: int, *, is_late: bool = False
    ) -> bool:
        """Write by a token; whether it was taken.

        Args:
            resource: Where.
            token: The writer's.
            known_until_ns: As of `StoreWrite`.
            is_late: As of `StoreWrite`.
        """
        with self._lock:
            is_taken = token >= self._highest.get(resource, 0)
            if is_taken:
                self._highest[resource] = token
            # After it is decided: who was held up before that may know it no more.
            at_ns = self._clock_ns()
            write = StoreWrite(resource, token, at_ns, is_taken, known_until_ns, is_late)
            self.writes.append(write)
        return is_taken


@dataclass(frozen=True, slots=True)
class LeaderSeen:
    """Who leads, as somebody was told.

    Attributes:
        election: Which.
        candidate: Who; None where nobody leads.
        epoch: By which epoch; 0 where nobody leads.
        asked_ns: Before it was asked.
        told_ns: After it was told.
    """

    election: str
    candidate: str | None
    epoch: int
    asked_ns: int
    told_ns: int


@dataclass(frozen=True, slots=True)
class PutCall:
    """An item that was put in, or may have been.

    Attributes:
        payload: Unique to it.
        asked_ns: Before the call.
        told_ns: After it.
        item_id: As it was acknowledged; None where it was not.
        is_refused: Whether it is certainly not in.
    """

    payload: str
    asked_ns: int
    told_ns: int
    item_id: int | None = None
    is_refused: bool = False


@dataclass(slots=True)
class Delivery:
    """An item that was handed out.

    Attributes:
        client: To whom.
        item_id: Its id.
        payload: What was in it.
        attempt: The how manieth time it was handed out.
        receipt: Of this time.
        asked_ns: Before it was taken.
        told_ns: After it was.
        known_until_ns: Until then its lease was known to run, and it was not settled.
        settled: What became of it, as the answer said: "acknowledged", "returned", "lost"; or
            "acknowledging" or "returning" where the answer is not known; "" for nothing.
        settled_ns: After that.
    """

    client: str
    item_id: int
    payload: str
    attempt: int
    receipt: int
    asked_ns: int
    told_ns: int
    known_until_ns: int
    settled: str = ""
    settled_ns: int = 0


@dataclass(frozen=True, slots=True)
class KeyLook:
    """What somebody was told of a key of a ledger.

    Attributes:
        key: Which.
        how: By which call.
        outcome: What it came to; None where it was said not to be done.
        token: By which token; 0 where it is not done, or not known.
        asked_ns: Before it was asked.
        told_ns: After it was told.
    """

    key: str
    how: str
    outcome: str | None
    token: int
    asked_ns: int
    told_ns: int


@dataclass(frozen=True, slots=True)
class Tried:
    """An outcome that somebody tried to commit.

    Attributes:
        key: Of a ledger.
        outcome: Unique to the attempt.
        is_lost: Whether the answer was that it is not the outcome, and never will be.
    """

    key: str
    outcome: str
    is_lost: bool = False


@dataclass(frozen=True, slots=True)
class Addition:
    """Something was added to a counter, or may have been.

    Attributes:
        counter: Which.
        amount: How much; above 0.
        value: What it was at after that; None where that is not known.
        asked_ns: Before the call.
        told_ns: After it.
        is_refused: Whether it was certainly not added.
    """

    counter: str
    amount: int
    value: int | None
    asked_ns: int
    told_ns: int
    is_refused: bool = False


@dataclass(frozen=True, slots=True)
class CounterLook:
    """What a counter was at, as somebody was told."""

    counter: str
    value: int
    asked_ns: int
    told_ns: int


@dataclass(frozen=True, slots=True)
class IdsTaken:
    """Ids that somebody was given.

    Attributes:
        allocator: Of what.
        first: The first of them.
        count: How many.
        asked_ns: Before the call.
        told_ns: After it.
        is_of_block: Whether they are of a block that was fetched earlier, maybe.
    """

    allocator: str
    first: int
    count: int
    asked_ns: int
    told_ns: int
    is_of_block: bool = False


@dataclass(frozen=True, slots=True)
class RoundPassed:
    """A round of a barrier that a party passed.

    Attributes:
        party: Who.
        round: Its number.
        place: The party's in it; None where it came too late for it.
        asked_ns: Before it came.
        told_ns: After it passed.
    """

    party: str
    round: int
    place: int | None
    asked_ns: int
    told_ns: int


@dataclass(frozen=True, slots=True)
class KeyWritten:
    """An acknowledged write of a key.

    Attributes:
        key: Which.
        version: The key's after it.
        value: None for a delete.
        told_ns: After it was acknowledged.
    """

    key: str
    version: int
    value: str | None
    told_ns: int


@dataclass(frozen=True, slots=True)
class ChangeSeen:
    """What a watch told.

    Attributes:
        key: Of what.
        version: The key's now.
        value: None where it has none.
        is_after_gap: Whether the watch said that changes before it may be missing.
    """

    key: str
    version: int
    value: str | None
    is_after_gap: bool = False


Figures = dict[str, Any]
