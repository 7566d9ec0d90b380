"""Clients that put items into a queue and take them out, some too slowly for their lease."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from chaos_checks import some
from chaos_judge_queue import check_queue, redelivered
from chaos_recipe_clients import Call, Crew, Judgement, RecipeClient, RecipeWork, WorkPlace
from chaos_recipe_records import Delivery, PutCall, RecipeRecords, percentiles_ms
from ray_paxos.errors import WaitTimeoutError

if TYPE_CHECKING:
    from ray_paxos import Cluster
    from ray_paxos.machines.queue_messages import Counts
    from ray_paxos.recipes.queue import Item, Queue

    Texts: TypeAlias = Queue[str]

SECOND_NS = 1_000_000_000
LEASE_S = 1.5
TAKE_MAX = 3
WAIT_S = (0.5, 4.0)
DRAIN_S = 60.0
BACKLOG_MAX = 10
"""Above this nobody puts in more: what is to be measured is a queue that keeps up."""
BAD = ".bad"
BAD_SHARE = 0.01
"""So many items are given back whenever they are handed out, until they are dead letters."""
# What becomes of an item, and how often in a hundred: what is left is acknowledged in time.
SLOW, RETURNED, FORGOTTEN, EXTENDED = 0.04, 0.06, 0.02, 0.05


class QueueWork(RecipeWork):
    """One queue. Of its clients every other one puts in, and the others take out."""

    def __init__(self, place: WorkPlace, records: RecipeRecords) -> None:
        """As of `RecipeWork`."""
        super().__init__(place, records)
        self.puts: list[PutCall] = []
        self.deliveries: list[Delivery] = []
        self._handed_out: set[int] = set()
        self._dead: set[int] = set()
        self._counts: Counts | None = None
        self._problems: list[str] = []

    def queue(self, cluster: Cluster) -> Texts:
        """The queue, of one client."""
        return cluster.queue(
            f"chaos-{self.place.run}",
            lease_s=LEASE_S,
            encode=str.encode,
            decode=bytes.decode,
            group=self.place.group,
        )

    def client(self, crew: Crew, number: int, cluster: Cluster) -> RecipeClient:
        """One that puts in, or takes out."""
        kind = _Consumer if number % 2 else _Producer
        return kind(crew, self, number, self.queue(cluster))

    def finish(self, cluster: Cluster) -> None:
        """Take out whatever is there, once its leases have ended."""
        queue = self.queue(cluster)
        deadline = time.monotonic() + DRAIN_S
        while time.monotonic() < deadline:
            counts = queue.look(timeout_s=DRAIN_S)
            if not counts.ready and not counts.taken and not counts.delayed:
                break
            asked_ns = time.monotonic_ns()
            try:
                items = queue.take(100, timeout_s=LEASE_S * 2)
            except WaitTimeoutError:
                continue
            for item in items:
                delivery = self.delivered("the end", item, asked_ns)
                # Where this is not so, it comes again.
                if item.acknowledge():
                    delivery.settled = "acknowledged"
                    delivery.settled_ns = time.monotonic_ns()
        else:
            self._problems.append(f"there are items still, {DRAIN_S:g} s after the end")
        self._dead = {letter.id for letter in queue.dead_letters()}
        self._counts = queue.look(timeout_s=DRAIN_S)

    def delivered(self, client: str, item: Item[str], asked_ns: int) -> Delivery:
        """An item was handed out."""
        told_ns = time.monotonic_ns()
        known_until_ns = told_ns + int(item.remaining_s * SECOND_NS)
        delivery = Delivery(
            client,
            item.id,
            item.payload,
            item.attempt,
            item.receipt,
            asked_ns,
            told_ns,
            known_until_ns,
        )
        self.deliveries.append(delivery)
        self._handed_out.add(item.id)
        return delivery

    @property
    def backlog(self) -> int:
        """About how many were put in, and never handed out yet."""
        return len(self.puts) - len(self._handed_out)

    def judge(self, check_s: float) -> Judgement:
        """See `chaos_judge_queue`."""
        puts, deliveries = self.puts, self.deliveries
        checks = {
            "queue": [*self._problems, *check_queue(puts, deliveries, self._dead)],
            "counts": self._check_counts(),
        }
        firsts = {put.payload: put.asked_ns for put in puts}
        ways = [
            max(each.told_ns - firsts[each.payload], 0)
            for each in deliveries
            if each.attempt == 1 and each.payload in firsts
        ]
        figures = {
            "put_in": sum(put.item_id is not None for put in puts),
            "handed_out": len(deliveries),
            "handed_out_again": redelivered(deliveries),
            "acknowledged": sum(each.settled == "acknowledged" for each in deliveries),
            "lost_leases": sum(each.settled == "lost" for each in deliveries),
            "dead": len(self._dead),
            "hand_over_ms": percentiles_ms(ways),
        }
        return Judgement(checks, len(puts) + len(deliveries), figures)

    def _check_counts(self) -> list[str]:
        """What the queue says of itself at the end."""
        counts = self._counts
        if counts is None:
            return ["the queue could not be read"]
        acknowledged = sum(put.item_id is not None for put in self.puts)
        possible = sum(not put.is_refused for put in self.puts)
        problems = []
        if not acknowledged <= counts.put_in_all <= possible:
            problems.append(f"put in: {counts.put_in_all}; allowed: {acknowledged} to {possible}")
        if counts.put_in_all != counts.acknowledged_in_all + counts.dead:
            problems.append(
                f"put in: {counts.put_in_all}; acknowledged: {counts.acknowledged_in_all}, dead: "
                f"{counts.dead}"
            )
        if counts.dead != len(self._dead):
            problems += some(f"dead: {counts.dead}; listed", sorted(self._dead))
        return problems


class _Producer(RecipeClient):
    def __init__(self, crew: Crew, work: QueueWork, number: int, queue: Texts) -> None:
        super().__init__(crew, work, number)
        self._work = work
        self._queue = queue

    def step(self) -> None:
        if self._work.backlog > BACKLOG_MAX:
            return
        count = self.random.choice((1, 1, 1, 3))
        payloads = [self.unique() + BAD * self.chance(BAD_SHARE) for _ in range(count)]
        timeout_s = self.place.command_s
        call = self.call("put", lambda: self._queue.put_many(payloads, timeout_s=timeout_s))
        for number, payload in enumerate(payloads):
            item_id = call.value[number] if call.is_ok else None
            put = PutCall(payload, call.asked_ns, call.told_ns, item_id, call.is_refused)
            self._work.puts.append(put)


class _Consumer(RecipeClient):
    def __init__(self, crew: Crew, work: QueueWork, number: int, queue: Texts) -> None:
        super().__init__(crew, work, number)
        self._work = work
        self._queue = queue

    def step(self) -> None:
        count, timeout_s = self.random.randint(1, TAKE_MAX), self.random.uniform(*WAIT_S)
        call = self.call("take", lambda: self._queue.take(count, timeout_s=timeout_s))
        if not call.is_ok:
            return
        # All of them are noted first: their leases run while the first one is worked on.
        delivered = [
            (item, self._work.delivered(self.name, item, call.asked_ns)) for item in call.value
        ]
        for item, delivery in delivered:
            self._settle(item, delivery)

    def _settle(self, item: Item[str], delivery: Delivery) -> None:
        draw = SLOW if item.payload.endswith(BAD) else self.random.random()
        if draw < SLOW:
            time.sleep(LEASE_S * self.random.uniform(1.0, 1.6))
        elif draw < SLOW + RETURNED:
            delay_s = self.random.choice((0.0, 0.0, 0.3))
            self._end(
                delivery, "return", lambda: item.give_back(delay_s=delay_s), "returning", "returned"
            )
            return
        elif draw < SLOW + RETURNED + FORGOTTEN:
            return
        elif draw < SLOW + RETURNED + FORGOTTEN + EXTENDED:
            self._extend(item, delivery)
        time.sleep(self.random.uniform(0.0, 0.01))
        self._end(delivery, "acknowledge", item.acknowledge, "acknowledging", "acknowledged")

    def _extend(self, item: Item[str], delivery: Delivery) -> None:
        call: Call[bool] = self.call("extend", item.extend)
        if call.is_ok:
            known_until_ns = call.asked_ns + int(item.remaining_s * SECOND_NS)
            delivery.known_until_ns = known_until_ns if call.value else 0

    def _end(
        self, delivery: Delivery, kind: str, end: Callable[[], bool], unknown: str, done: str
    ) -> None:
        """Settle it, one way or the other."""
        # Whatever becomes of the call, from here on it may be settled.
        delivery.known_until_ns = min(delivery.known_until_ns, time.monotonic_ns())
        call: Call[bool] = self.call(kind, end)
        delivery.settled_ns = call.told_ns
        if call.is_ok:
            delivery.settled = done if call.value else "lost"
        elif not call.is_refused:
            delivery.settled = unknown
