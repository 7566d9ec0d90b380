"""Queues: work that is handed out until somebody says that it is done.

```python
queue = cluster.queue("frames")
queue.put("a.png")                              # values of any kind that pickles
for item in queue.consume(lease_s=60):          # waits for work; nobody else has this item now
    with item:                                  # acknowledges it; gives it back on an exception
        detect(item.payload)
```

What is promised (`machines.queues` has the rules):

- At least once: an item is handed out until it is acknowledged, or was handed out `attempts_max`
  times (5, unless configured): then it is a dead letter, which stays until it is requeued or
  discarded. None is lost.
- While the lease of a hand-out runs nobody else has the item. A consumer that dies or stands still
  for longer than its lease leaves it to others. So the work may be done again, and by two at a time
  where one stood still: do it in a way that this does no harm, write its outcome under the item's
  id (a ledger), or show `item.receipt` to a store that refuses lower ones for the item.
- Items are handed out in the order in which they were put in; what comes back comes first. Who
  waits for one does so in line, and polls nothing.
- Every hand-out uses up an attempt, also one that is given back at once because its consumer was
  interrupted. A process that dies in line may be handed items once: they are late by their lease.
- Payloads are pickled with cloudpickle, unless `encode` and `decode` are given: whoever can put can
  have code run by whoever takes, as in Ray itself.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Generator, Iterable
from typing import TypeVar

from ray_paxos.actors.outcomes import Result
from ray_paxos.errors import ConfigurationError, NotYetError, PaxosError, WaitTimeoutError
from ray_paxos.machines import queue_messages as messages
from ray_paxos.machines.queue_messages import (
    Acknowledged,
    Counts,
    Extended,
    PutIn,
    Taken,
    TakenItem,
    Waiting,
)
from ray_paxos.machines.queues import (
    COUNT_MAX,
    ITEM_BYTES_MAX,
    PUT_ITEMS_MAX,
)
from ray_paxos.recipes.leases import boot_time_s
from ray_paxos.recipes.permit_recipe import own_label
from ray_paxos.recipes.queue_items import DeadItem, Item
from ray_paxos.recipes.queue_upkeep import KeptQueue
from ray_paxos.recipes.recipe import (
    TIMEOUT_S,
    Propose,
    Send,
    Steps,
    WaitFor,
    check_label,
    check_number,
    check_timeout,
    deadline_of_wait,
    milliseconds_of,
    value_of,
)

__all__ = ["Counts", "DeadItem", "Item", "Queue"]

V = TypeVar("V")

PLACE_S = 600.0
"""For so long one stands in line; who waits longer stands at its end again."""
WAITED_PART = 0.1
"""Who waited for more than this part of a lease extends it first, since it counts from before."""


class Queue(KeptQueue[V]):
    """Made by `Cluster.queue`.

    Attributes:
        lease_s: How long an item is handed out for, where a take does not say otherwise.
    """

    # To put in.

    def put(self, payload: V, *, timeout_s: float = TIMEOUT_S) -> int:
        """Append an item.

        Args:
            payload: What it is.
            timeout_s: How long to wait.

        Returns:
            The item's id.

        Raises:
            CommandError: There is no room in the queue, or for another queue.
            RequestError: As `Client.propose`: unless it is a `NotAppliedError`, it may be in.
            ConfigurationError: It cannot be encoded, or is too large; nothing was sent.
        """
        return self._run(self._put([payload], timeout_s))[0]

    async def put_async(self, payload: V, *, timeout_s: float = TIMEOUT_S) -> int:
        """As `put`, in a coroutine; cancelled, it may be in all the same."""
        return (await self._run_async(self._put([payload], timeout_s)))[0]

    def put_many(self, payloads: Iterable[V], *, timeout_s: float = TIMEOUT_S) -> range:
        """Append items that follow each other, all or none.

        Args:
            payloads: What they are; up to 10,000.
            timeout_s: How long to wait.

        Returns:
            Their ids.

        Raises:
            As `put`; and CommandTooLargeError for more bytes than one command has.
        """
        return self._run(self._put(payloads, timeout_s))

    async def put_many_async(self, payloads: Iterable[V], *, timeout_s: float = TIMEOUT_S) -> range:
        """As `put_many`, in a coroutine; cancelled, all may be in all the same."""
        return await self._run_async(self._put(payloads, timeout_s))

    def _put(self, payloads: Iterable[V], timeout_s: float) -> Steps[range]:
        items = [self._encoded(payload) for payload in payloads]
        if not items:
            return range(0)
        check_number("the number of payloads", len(items), 1, PUT_ITEMS_MAX)
        answer = yield Propose(messages.encode_put(self.name, items), timeout_s)
        put_in = messages.decode_result(value_of(answer))
        assert isinstance(put_in, PutIn), "the result of a put"
        return range(put_in.first_id, put_in.first_id + len(items))

    def _encoded(self, payload: V) -> bytes:
        encoded = self._encode(payload)
        if type(encoded) is not bytes or len(encoded) > ITEM_BYTES_MAX:
            size = f"{len(encoded)} bytes" if type(encoded) is bytes else type(encoded).__qualname__
            raise ConfigurationError(
                f"payload: found {size}; allowed: up to {ITEM_BYTES_MAX} bytes, once encoded; store"
                " what is larger elsewhere, and let its place be the payload"
            )
        return encoded

    # To take out.

    def take(
        self,
        count: int = 1,
        *,
        lease_s: float | None = None,
        timeout_s: float | None = None,
        consumer: str = "",
    ) -> list[Item[V]]:
        """Wait until there are items, and take the first ones.

        Args:
            count: So many at most; it does not wait for more than one.
            lease_s: How long nobody else gets them; by default the queue's.
            timeout_s: How long to wait; None for ever, 0 for not at all.
            consumer: What a person calls the consumer; by default host and process.

        Returns:
            The items, at least one.

        Raises:
            WaitTimeoutError: There was none in time; nothing is held, and nothing waits.
            CommandError: Too many wait in line.
            RequestError: As `Client.propose`; what may be handed out comes back with the end of its
                lease.
            ConfigurationError: An argument means nothing; nothing was sent.
        """
        return self._run(self._take(count, lease_s, timeout_s, consumer))

    async def take_async(
        self,
        count: int = 1,
        *,
        lease_s: float | None = None,
        timeout_s: float | None = None,
        consumer: str = "",
    ) -> list[Item[V]]:
        """As `take`, in a coroutine; cancelled, it gives back what it was handed."""
        return await self._run_async(self._take(count, lease_s, timeout_s, consumer))

    def _take(
        self, count: int, lease_s: float | None, timeout_s: float | None, consumer: str
    ) -> Steps[list[Item[V]]]:
        check_number("count", count, 1, COUNT_MAX)
        deadline_s = deadline_of_wait(timeout_s)
        check_label("consumer", consumer)
        lease_s = self.lease_s if lease_s is None else lease_s
        lease_ms = milliseconds_of("lease_s", lease_s)
        while True:
            sent_s = boot_time_s()
            wait_s = min(max(deadline_s - sent_s, 0.0), PLACE_S)
            command = messages.encode_take(
                self.name,
                consumer or own_label(),
                lease_ms=lease_ms,
                count_max=count,
                wait_ms=int(wait_s * 1_000),
            )
            asked = yield Propose(command, undo=self._undo_take)
            answer = messages.decode_result(value_of(asked))
            taken: tuple[TakenItem, ...] = ()
            if isinstance(answer, Waiting):
                taken = yield from self._wait_in_line(answer.ticket, asked, wait_s)
                if taken and boot_time_s() - sent_s > lease_s * WAITED_PART:
                    sent_s = boot_time_s()
                    taken = yield from self._extended(taken, lease_ms)
            elif isinstance(answer, Taken):
                taken = answer.items
            if taken:
                return [Item(self, each, lease_s, sent_s) for each in taken]
            # Who had less than a millisecond left did not wait at all.
            if boot_time_s() >= deadline_s or wait_s < 0.001:
                raise WaitTimeoutError(f"{self!r} had no item in time; nothing is held")

    def _wait_in_line(
        self, ticket: int, asked: Result, wait_s: float
    ) -> Steps[tuple[TakenItem, ...]]:
        """What is handed to a ticket; it is in no line afterwards, whatever happens."""
        leave = messages.encode_leave(self.name, ticket)
        request = messages.encode_await(self.name, ticket)
        try:
            waited = yield WaitFor(request, asked.instance_id, wait_s)
            answer: object = messages.decode_answer(value_of(waited))
        except NotYetError:
            # What it was handed in this very moment is its own.
            left = yield Propose(leave, undo=self._undo_take)
            answer = messages.decode_result(value_of(left))
        except BaseException:
            yield Send(leave, self._undo_take)
            raise
        return answer.items if isinstance(answer, Taken) else ()

    def _extended(
        self, taken: tuple[TakenItem, ...], lease_ms: int
    ) -> Steps[tuple[TakenItem, ...]]:
        """Let leases run that began nobody here knows when; those of them that do."""
        receipts = [each.receipt for each in taken]
        try:
            command = messages.encode_extend(self.name, receipts, lease_ms=lease_ms)
            extended = messages.decode_result(value_of((yield Propose(command))))
            assert isinstance(extended, Extended), "the result of an extension"
        except BaseException:
            yield Send(messages.encode_return(self.name, receipts))
            raise
        return tuple(each for each in taken if each.receipt not in extended.lost)

    def _undo_take(self, answer: Result) -> Send | None:
        """Who was interrupted while it took, or left the line, has nothing and waits no more."""
        found = messages.decode_result(value_of(answer))
        if isinstance(found, Waiting):
            return Send(messages.encode_leave(self.name, found.ticket), self._undo_take)
        if isinstance(found, Taken) and found.items:
            receipts = [each.receipt for each in found.items]
            return Send(messages.encode_return(self.name, receipts))
        return None

    def consume(
        self,
        *,
        count: int = 1,
        lease_s: float | None = None,
        idle_s: float | None = None,
        consumer: str = "",
    ) -> Generator[Item[V], None, None]:
        """Take items one after the other; each is to be acknowledged or given back, as by `with`.

        Args:
            count: So many are taken at a time; their leases run while the first ones are worked on,
                and one whose lease has ended meanwhile is left out.
            lease_s: As of `take`.
            idle_s: End once there was none for so long; None for never.
            consumer: As of `take`.

        Returns:
            An iterator over them; raises as `take`. Where it is left before its end, `close` gives
            back what was not come to.
        """
        check_number("count", count, 1, COUNT_MAX)
        check_timeout(idle_s)
        return self._consume(count, lease_s, idle_s, consumer)

    def _consume(
        self, count: int, lease_s: float | None, idle_s: float | None, consumer: str
    ) -> Generator[Item[V], None, None]:
        items: deque[Item[V]] = deque()
        try:
            while True:
                try:
                    items.extend(
                        self.take(count, lease_s=lease_s, timeout_s=idle_s, consumer=consumer)
                    )
                except WaitTimeoutError:
                    return
                while items:
                    item = items.popleft()
                    if item.remaining_s:
                        yield item
        finally:
            for item in items:
                with contextlib.suppress(PaxosError):
                    item.give_back()

    async def consume_async(
        self,
        *,
        count: int = 1,
        lease_s: float | None = None,
        idle_s: float | None = None,
        consumer: str = "",
    ) -> AsyncGenerator[Item[V], None]:
        """As `consume`, in a coroutine; close it, by `aclose`, where it is left before its end."""
        check_timeout(idle_s)
        items: deque[Item[V]] = deque()
        try:
            while True:
                try:
                    items.extend(
                        await self.take_async(
                            count, lease_s=lease_s, timeout_s=idle_s, consumer=consumer
                        )
                    )
                except WaitTimeoutError:
                    return
                while items:
                    item = items.popleft()
                    if item.remaining_s:
                        yield item
        finally:
            for item in items:
                with contextlib.suppress(PaxosError):
                    await item.give_back_async()

    def acknowledge(
        self, items: Iterable[Item[V]], *, timeout_s: float = TIMEOUT_S
    ) -> list[Item[V]]:
        """Say that items are done, for good; in one command.

        Args:
            items: Of this queue; up to 1,000.
            timeout_s: How long to wait.

        Returns:
            Those that were not held any more: others have them, or will.

        Raises:
            RequestError: As `Client.propose`; what may not be acknowledged is handed out again.
            ConfigurationError: An argument means nothing; nothing was sent.
        """
        return self._run(self._acknowledge(items, timeout_s))

    async def acknowledge_async(
        self, items: Iterable[Item[V]], *, timeout_s: float = TIMEOUT_S
    ) -> list[Item[V]]:
        """As `acknowledge`, in a coroutine."""
        return await self._run_async(self._acknowledge(items, timeout_s))

    def _acknowledge(self, items: Iterable[Item[V]], timeout_s: float) -> Steps[list[Item[V]]]:
        done = list(items)
        if not done:
            return []
        check_number("the number of items", len(done), 1, COUNT_MAX)
        command = messages.encode_acknowledge(self.name, [each.receipt for each in done])
        answer = messages.decode_result(value_of((yield Propose(command, timeout_s))))
        assert isinstance(answer, Acknowledged), "the result of an acknowledgement"
        for each in done:
            each._is_settled = True
        return [each for each in done if each.receipt in answer.lost]
