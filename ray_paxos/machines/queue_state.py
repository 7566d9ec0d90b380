"""What the queues machine has of one queue: its items, where each of them is, and who is in line.

1. `Kept` is what a checkpoint holds. An item is there once, by its id; by the tables of ids that
   name it, it is taken, delayed or dead, and by being in none of them it is ready.
2. A `Queue` is made of that alone, and has beside it what makes it quick: ready items in their
   order, current receipts by ticket, the sum of bytes, dead letters in the order of ids.

What commands do with it, and when leases, delays and waits end, is in `queues`.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import OrderedDict, deque
from itertools import islice

import msgspec

from ray_paxos.machines.queue_messages import (
    Counts,
    DeadLetter,
    DeadPage,
    Taken,
    TakenItem,
    WaitOver,
)

PAGE_BYTES_MAX = 1_000_000
"""A hand-out or page ends with the item that reaches this many bytes of payload."""


class Item(msgspec.Struct, array_like=True, gc=False):
    """One item, wherever it is.

    Attributes:
        payload: What was put in.
        attempts: Hand-outs so far.
        consumer: Who had it last.
        ends_ns: Log time at which its lease or delay ends, or the last one of them ended or would
            have ended.
        ticket: Under which it was handed out last; 0 for none.
    """

    payload: bytes
    attempts: int = 0
    consumer: str = ""
    ends_ns: int = 0
    ticket: int = 0


class Place(msgspec.Struct, array_like=True):
    """One in line: what it takes, and the log time until which it waits."""

    consumer: str
    count_max: int
    lease_ms: int
    ends_ns: int


class Kept(msgspec.Struct, array_like=True):
    """What a checkpoint holds of a queue, and what all else about it follows from.

    Attributes:
        attempts_max: As configured.
        items_max: As configured.
        last_id: Of all items put in.
        put_in_all, acknowledged_in_all, discarded_in_all: How many.
        items: By id, ascending. Ready is what the next three do not have.
        taken: Ids by receipt, ascending.
        delayed: Ids by the receipt of their last hand-out.
        dead: Ids, in the order in which they came to it.
        line: By ticket, the first in line first.
    """

    attempts_max: int
    items_max: int
    last_id: int
    put_in_all: int = 0
    acknowledged_in_all: int = 0
    discarded_in_all: int = 0
    items: dict[int, Item] = {}
    taken: dict[int, int] = {}
    delayed: dict[int, int] = {}
    dead: dict[int, None] = {}
    line: dict[int, Place] = {}


class State(msgspec.Struct, array_like=True):
    """What a checkpoint holds."""

    last_number: int
    last_dropped_id: int
    queues: dict[str, Kept]


encode_state = msgspec.msgpack.Encoder().encode
decode_state = msgspec.msgpack.Decoder(State).decode


class Queue:
    """One queue.

    Invariants: what is ready is in `fresh`, ascending, or in the heap `back`, once; `given` has
    for each ticket its current receipts; `line` is that of `kept` (whose own is stale until it is
    saved).
    """

    __slots__ = ("back", "dead_sorted", "fresh", "given", "kept", "line", "name", "payload_bytes")

    def __init__(self, name: str, kept: Kept) -> None:
        """Make it of what is kept."""
        self.name = name
        self.kept = kept
        self.line = OrderedDict(kept.line)
        # Not in any of the three: ready.
        away = {*kept.taken.values(), *kept.delayed.values(), *kept.dead}
        self.fresh = deque(item_id for item_id in kept.items if item_id not in away)
        self.back: list[int] = []
        self.given: dict[int, dict[int, int]] = {}
        for receipt, item_id in kept.taken.items():
            if ticket := kept.items[item_id].ticket:
                self.given.setdefault(ticket, {})[receipt] = item_id
        self.payload_bytes = sum(len(item.payload) for item in kept.items.values())
        self.dead_sorted: list[int] | None = None

    @property
    def ready(self) -> int:
        """How many items are."""
        return len(self.fresh) + len(self.back)

    def next_ready(self) -> int:
        """Remove the lowest ready id."""
        if self.back and (not self.fresh or self.back[0] < self.fresh[0]):
            return heapq.heappop(self.back)
        return self.fresh.popleft()

    def forget(self, item_id: int) -> None:
        """An item is done."""
        self.payload_bytes -= len(self.kept.items.pop(item_id).payload)

    def taken_items(self, receipts: dict[int, int]) -> Taken:
        """What is handed out under current receipts."""
        items = self.kept.items
        return Taken(
            tuple(
                TakenItem(item_id, receipt, items[item_id].attempts, items[item_id].payload)
                for receipt, item_id in receipts.items()
            )
        )

    def answer(self, ticket: int) -> Taken | WaitOver:
        """What a ticket that is in no line gets."""
        receipts = self.given.get(ticket)
        return WaitOver() if receipts is None else self.taken_items(receipts)

    def counts(self) -> Counts:
        """The answer to a `Look`."""
        kept = self.kept
        return Counts(
            ready=self.ready,
            taken=len(kept.taken),
            delayed=len(kept.delayed),
            dead=len(kept.dead),
            in_line=len(self.line),
            put_in_all=kept.put_in_all,
            acknowledged_in_all=kept.acknowledged_in_all,
            discarded_in_all=kept.discarded_in_all,
            payload_bytes=self.payload_bytes,
            attempts_max=kept.attempts_max,
            items_max=kept.items_max,
        )

    def dead_page(self, start_after: int, count_max: int) -> DeadPage:
        """Dead letters above an id, up to the limits, in the order of ids."""
        kept = self.kept
        if self.dead_sorted is None:
            self.dead_sorted = sorted(kept.dead)
        start = bisect_right(self.dead_sorted, start_after)
        letters: list[DeadLetter] = []
        byte_count = 0
        for item_id in islice(self.dead_sorted, start, None):
            if len(letters) == count_max or byte_count >= PAGE_BYTES_MAX:
                return DeadPage(tuple(letters), letters[-1].item_id)
            item = kept.items[item_id]
            letters.append(DeadLetter(item_id, item.attempts, item.consumer, item.payload))
            byte_count += len(item.payload)
        return DeadPage(tuple(letters), None)
