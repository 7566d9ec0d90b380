"""A queue: producers, and consumers of which some stand still, give back, or are gone.

Rules:

1. At least once: each item that was put in is in the end acknowledged, dead, or still there: one
   of these, once. Nothing else is.
2. An item that was acknowledged by its current receipt is handed out no more; so that is the
   highest receipt it ever had.
3. Receipts are given once, and each attempt of an item has a higher one than the attempt before.
   It is handed out no more often than the queue allows.
4. While a consumer can rely on its lease, nobody else gets the item, and its receipt is current.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ray_paxos.machines.base import ApplyContext, StateMachine
from ray_paxos.machines.queue_messages import (
    Acknowledged,
    Counts,
    DeadPage,
    Extended,
    PutIn,
    Returned,
    Taken,
    TakenItem,
    Waiting,
    decode_answer,
    decode_result,
    encode_acknowledge,
    encode_await,
    encode_configure,
    encode_dead_letters,
    encode_extend,
    encode_leave,
    encode_look,
    encode_put,
    encode_return,
    encode_take,
)
from ray_paxos.machines.queues import QueuesMachine
from ray_paxos.testing.options import SECOND_NS
from ray_paxos.testing.recipe_check import Beliefs, Recipe, Table, TokenOrder
from ray_paxos.testing.recipe_client import Play, RecipeClient, Step

QUEUE = "work"
LEASES_MS = (80, 250, 800)
WAITS_MS = (0, 200, 1_500)
ITEMS_MAX = 60
"""No producer goes on while so many are there."""
LONG_NS = 1_000_000 * SECOND_NS
"""All leases and delays are shorter."""


@dataclass
class _Item:
    """What is known of one.

    Attributes:
        payload: What was put in.
        receipts: By attempt, as consumers were told.
        done_by: The receipt that it was acknowledged by; 0 for none.
    """

    payload: bytes
    receipts: dict[int, int] = field(default_factory=dict)
    done_by: int = 0


class WorkQueue(Recipe):
    """One queue."""

    title: ClassVar[str] = "queues"
    machine: ClassVar[str] = QueuesMachine.kind

    def __init__(self, table: Table) -> None:
        """Draw how often an item is handed out."""
        super().__init__(table)
        self._attempts_max = table.random.choice((2, 3, 5))
        self._leases_ms = table.random.sample(LEASES_MS, 2)
        self._put_called: set[bytes] = set()
        self._put: dict[int, bytes] = {}
        self._items: dict[int, _Item] = {}
        self._receipts = TokenOrder(self.title)
        self._beliefs: dict[int, Beliefs] = {}
        self._is_configured = self._is_configuring = False

    def plays(self) -> Sequence[Callable[[RecipeClient], Play]]:
        """Producers and consumers."""
        draw = self.table.random
        return [self._produce] * draw.randint(1, 2) + [self._consume] * draw.randint(2, 3)

    # Producers.

    def _produce(self, client: RecipeClient) -> Play:
        count = 0
        yield from self._begin(client)
        while not client.stopped:
            yield from client.rest(120)
            if sum(not item.done_by for item in self._items.values()) >= ITEMS_MAX:
                continue
            payloads = [
                b"%s/%d" % (client.name.encode(), count + offset)
                for offset in range(client.random.randint(1, 3))
            ]
            count += len(payloads)
            self._put_called.update(payloads)
            outcome = yield from client.command(self.machine, encode_put(QUEUE, payloads))
            assert outcome.result is not None
            result = decode_result(outcome.result)
            assert isinstance(result, PutIn)
            for item_id, payload in enumerate(payloads, result.first_id):
                self.expect(item_id not in self._put, f"two items have the id {item_id}")
                self._put[item_id] = payload
                found = self._item(item_id, payload).payload
                self.expect(found == payload, f"item {item_id} is {found!r}, not {payload!r}")

    def _begin(self, client: RecipeClient) -> Play:
        """Let the queue be configured; nobody puts anything in before."""
        if not self._is_configuring:
            self._is_configuring = True
            command = encode_configure(QUEUE, attempts_max=self._attempts_max)
            yield from client.command(self.machine, command)
            self._is_configured = True
        while not self._is_configured:
            yield from client.pause(20)

    def _item(self, item_id: int, payload: bytes) -> _Item:
        return self._items.setdefault(item_id, _Item(payload))

    # Consumers.

    def _consume(self, client: RecipeClient) -> Play:
        while not client.stopped:
            yield from client.rest(40)
            lease_ms = client.random.choice(self._leases_ms)
            asked_ns = client.now_ns
            items = yield from self._take(client, lease_ms)
            until_ns = asked_ns + self.table.trusted_ns(lease_ms)
            for item in items:
                self._handed_out(client, item, until_ns)
            if items:
                yield from self._work(client, items, lease_ms)

    def _take(
        self, client: RecipeClient, lease_ms: int
    ) -> Generator[Step, Any, tuple[TakenItem, ...]]:
        draw = client.random
        wait_ms = draw.choice(WAITS_MS)
        count_max = draw.randint(1, 3)
        asked_ns = client.now_ns
        command = encode_take(
            QUEUE, client.name, lease_ms=lease_ms, count_max=count_max, wait_ms=wait_ms
        )
        outcome = yield from client.command(self.machine, command)
        assert outcome.result is not None
        result = decode_result(outcome.result)
        if isinstance(result, Taken):
            for item in result.items:
                self._receipts.given_after(outcome, item.receipt)
            if result.items:
                self._receipts.given_at(outcome, result.items[0].receipt, client.name)
            return result.items
        assert isinstance(result, Waiting)
        timeout_ms = wait_ms // 3 if draw.random() < 0.15 else None
        request = encode_await(QUEUE, result.ticket)
        answer = yield from client.wait(self.machine, request, outcome.instance_id, timeout_ms)
        if answer is None:
            self.saw("wait given up")
            leave = encode_leave(QUEUE, result.ticket)
            left = yield from client.command(self.machine, leave)
            assert left.result is not None
            told: object = decode_result(left.result)
        else:
            told = decode_answer(answer.result)
        if not isinstance(told, Taken):
            self.saw("waited in vain")
            # The wait is over, or something was handed out meanwhile and that lease is.
            least_ns = self.table.trusted_ns(min(wait_ms, lease_ms))
            self.expect(
                answer is None or client.now_ns >= asked_ns + least_ns,
                f"{client.name} has lost its place in line",
            )
            return ()
        self.saw("handed out in line")
        for item in told.items:
            self._receipts.given_after(outcome, item.receipt)
        return told.items

    def _handed_out(self, client: RecipeClient, taken: TakenItem, until_ns: int) -> None:
        """A consumer was handed an item."""
        payload, receipt = taken.payload, taken.receipt
        self.expect(payload in self._put_called, f"{payload!r} was handed out, and never put in")
        item = self._item(taken.item_id, payload)
        self.expect(item.payload == payload, f"item {taken.item_id} is {item.payload!r}")
        self._receipts.given(receipt, client.name)
        self.expect(
            1 <= taken.attempt <= self._attempts_max,
            f"item {taken.item_id} is handed out {taken.attempt} times",
        )
        known = item.receipts.setdefault(taken.attempt, receipt)
        self.expect(known == receipt, f"item {taken.item_id}: two have attempt {taken.attempt}")
        in_order = [item.receipts[attempt] for attempt in sorted(item.receipts)]
        self.expect(in_order == sorted(in_order), f"item {taken.item_id} has receipts {in_order}")
        self._check_done(taken.item_id, item)
        beliefs = self._beliefs.setdefault(taken.item_id, Beliefs(self, 1, f"item {taken.item_id}"))
        beliefs.begin(f"{client.name} by {receipt}", 1, until_ns)

    def _check_done(self, item_id: int, item: _Item) -> None:
        if item.done_by:
            highest = max(item.receipts.values())
            self.expect(
                highest == item.done_by,
                f"item {item_id} was acknowledged by {item.done_by}, and handed out as {highest}",
            )

    def _work(self, client: RecipeClient, items: tuple[TakenItem, ...], lease_ms: int) -> Play:
        draw = client.random
        if draw.random() < 0.2:
            # Past the lease: somebody else may have them by then.
            yield from client.pause(lease_ms * (1 + draw.random()))
        else:
            yield from client.rest(max(lease_ms // 2, 1))
        if draw.random() < 0.3:
            yield from self._extend(client, items, lease_ms)
            yield from client.rest(lease_ms)
        kind = draw.random()
        if kind < 0.7:
            yield from self._acknowledge(client, items)
        elif kind < 0.85:
            yield from self._give_back(client, items)
        else:
            self.saw("consumer gone")
            self._rely_no_more(client, items)

    def _extend(self, client: RecipeClient, items: tuple[TakenItem, ...], lease_ms: int) -> Play:
        asked_ns = client.now_ns
        command = encode_extend(QUEUE, [each.receipt for each in items], lease_ms=lease_ms)
        outcome = yield from client.command(self.machine, command)
        assert outcome.result is not None
        result = decode_result(outcome.result)
        assert isinstance(result, Extended)
        self._check_lost(client, items, result.lost)
        until_ns = asked_ns + self.table.trusted_ns(lease_ms)
        for item in items:
            if item.receipt not in result.lost:
                holder = f"{client.name} by {item.receipt}"
                self._beliefs[item.item_id].begin(holder, 1, until_ns)

    def _acknowledge(self, client: RecipeClient, items: tuple[TakenItem, ...]) -> Play:
        command = encode_acknowledge(QUEUE, [each.receipt for each in items])
        outcome = yield from client.command(self.machine, command)
        assert outcome.result is not None
        result = decode_result(outcome.result)
        assert isinstance(result, Acknowledged)
        self._check_lost(client, items, result.lost)
        self._rely_no_more(client, items)
        for taken in items:
            if taken.receipt in result.lost:
                self.saw("acknowledged too late")
                continue
            self.saw("acknowledged")
            item = self._items[taken.item_id]
            self.expect(not item.done_by, f"item {taken.item_id} is acknowledged twice")
            item.done_by = taken.receipt
            self._check_done(taken.item_id, item)

    def _give_back(self, client: RecipeClient, items: tuple[TakenItem, ...]) -> Play:
        until_ns = {
            each.receipt: self._beliefs[each.item_id].until_ns(f"{client.name} by {each.receipt}")
            for each in items
        }
        # From when it asks to be rid of them: others may have them before it hears of that.
        self._rely_no_more(client, items)
        delay_ms = client.random.choice((0, 100))
        command = encode_return(QUEUE, [each.receipt for each in items], delay_ms=delay_ms)
        outcome = yield from client.command(self.machine, command)
        assert outcome.result is not None
        result = decode_result(outcome.result)
        assert isinstance(result, Returned)
        self.saw("given back")
        for receipt in result.lost:
            self.expect(
                until_ns[receipt] <= client.now_ns,
                f"{client.name} gives back by {receipt}, and has lost it before its time",
            )

    def _check_lost(
        self, client: RecipeClient, items: tuple[TakenItem, ...], lost: tuple[int, ...]
    ) -> None:
        for item in items:
            holder = f"{client.name} by {item.receipt}"
            self.expect(
                item.receipt not in lost or not self._beliefs[item.item_id].holds(holder),
                f"{holder} has lost item {item.item_id} before its time",
            )

    def _rely_no_more(self, client: RecipeClient, items: tuple[TakenItem, ...]) -> None:
        for item in items:
            self._beliefs[item.item_id].end(f"{client.name} by {item.receipt}")

    # In the end.

    def finish(self, machine: StateMachine, log_time_ns: int) -> None:
        """Each item is acknowledged, dead, or handed out once all leases have ended."""
        self.expect(
            {each.payload for each in self._items.values()} == self._put_called,
            "items are not those that were put in",
        )
        done = {item_id for item_id, item in self._items.items() if item.done_by}
        counts = decode_answer(machine.query(encode_look(QUEUE)))
        assert isinstance(counts, Counts)
        self.expect(
            (counts.put_in_all, counts.acknowledged_in_all) == (len(self._put), len(done)),
            f"{len(self._put)} were put in, {len(done)} acknowledged, and it has {counts}",
        )
        dead = self._dead(machine)
        there = self._drain(machine, log_time_ns + LONG_NS)
        # What had its last attempt is dead once that is over.
        dead |= self._dead(machine)
        self.expect(not dead & there, f"{sorted(dead & there)} are dead, and handed out")
        left = dead | there
        self.expect(not left & done, f"{sorted(left & done)} are acknowledged, and still there")
        lost = self._put.keys() - left - done
        self.expect(not lost, f"items {sorted(lost)} are lost")
        for item_id in left:
            self.expect(item_id in self._put, f"item {item_id} was never put in")
        for _ in dead:
            self.saw("dead letter")

    def _dead(self, machine: StateMachine) -> set[int]:
        page = decode_answer(machine.query(encode_dead_letters(QUEUE, count_max=1_000)))
        assert isinstance(page, DeadPage)
        for letter in page.letters:
            self.expect(letter.payload == self._put.get(letter.item_id), f"{letter} was not put in")
        return {letter.item_id for letter in page.letters}

    def _drain(self, machine: StateMachine, log_time_ns: int) -> set[int]:
        """Let all leases and delays end, then take all there is."""
        context = ApplyContext(1, 0, log_time_ns)
        while machine.due_ns is not None and machine.due_ns <= log_time_ns:
            machine.on_due(context)
        there: set[int] = set()
        while True:
            command = encode_take(QUEUE, "the end", lease_ms=1_000, count_max=1_000)
            result = decode_result(machine.apply(command, context) or b"")
            assert isinstance(result, Taken)
            if not result.items:
                return there
            for item in result.items:
                self.expect(
                    item.item_id not in there and item.payload == self._put.get(item.item_id),
                    f"{item} is there, which was not put in, or twice",
                )
                there.add(item.item_id)
