"""A queues machine whose log time is the test's, with a method for each command."""

from __future__ import annotations

from ray_paxos.machines import queue_messages as messages
from ray_paxos.machines.base import ApplyContext
from ray_paxos.machines.queue_messages import (
    Counts,
    DeadPage,
    QueueAnswer,
    QueueResult,
    Taken,
    TakenItem,
    Waiting,
)
from ray_paxos.machines.queues import QueuesMachine, topic_of

MS = 1_000_000


class Group:
    """A machine, its log time in milliseconds, and the topics that the last step named."""

    def __init__(self) -> None:
        self.machine = QueuesMachine()
        self.now_ms = 0
        self.topics: set[str] = set()

    def at(self, milliseconds: int) -> Group:
        """Let log time come so far, as the host does."""
        self.now_ms = milliseconds
        context = ApplyContext(1, 0, milliseconds * MS)
        while (due_ns := self.machine.due_ns) is not None and due_ns <= milliseconds * MS:
            self.machine.on_due(context)
        self.topics = context.topics
        return self

    def apply(self, command: bytes) -> QueueResult:
        context = ApplyContext(1, 0, self.now_ms * MS)
        try:
            result = self.machine.apply(command, context)
        finally:
            self.topics = context.topics
        assert result is not None
        return messages.decode_result(result)

    def query(self, request: bytes) -> QueueAnswer:
        return messages.decode_answer(self.machine.query(request))

    def put(self, *items: bytes, queue: str = "q") -> QueueResult:
        return self.apply(messages.encode_put(queue, items))

    def take(
        self, consumer: str = "c", *, queue: str = "q", lease_ms: int = 100, **options: int
    ) -> QueueResult:
        return self.apply(messages.encode_take(queue, consumer, lease_ms=lease_ms, **options))

    def taken(self, consumer: str = "c", **options: int) -> TakenItem:
        """Take the one item that there is for this one."""
        return only(self.take(consumer, queue="q", **options))

    def acknowledge(self, *receipts: int, queue: str = "q") -> QueueResult:
        return self.apply(messages.encode_acknowledge(queue, receipts))

    def give_back(self, *receipts: int, queue: str = "q", delay_ms: int = 0) -> QueueResult:
        return self.apply(messages.encode_return(queue, receipts, delay_ms=delay_ms))

    def extend(self, *receipts: int, queue: str = "q", lease_ms: int = 100) -> QueueResult:
        return self.apply(messages.encode_extend(queue, receipts, lease_ms=lease_ms))

    def leave(self, ticket: int, queue: str = "q") -> QueueResult:
        return self.apply(messages.encode_leave(queue, ticket))

    def requeue(self, *item_ids: int, queue: str = "q") -> QueueResult:
        return self.apply(messages.encode_requeue(queue, item_ids))

    def discard(self, *item_ids: int, queue: str = "q") -> QueueResult:
        return self.apply(messages.encode_discard(queue, item_ids))

    def configure(self, queue: str = "q", **limits: int) -> QueueResult:
        return self.apply(messages.encode_configure(queue, **limits))

    def drop(self, queue: str = "q", *, force: bool = False) -> QueueResult:
        return self.apply(messages.encode_drop(queue, force=force))

    def awaited(self, ticket: int, queue: str = "q") -> QueueAnswer:
        return self.query(messages.encode_await(queue, ticket))

    def look(self, queue: str = "q") -> Counts:
        counts = self.query(messages.encode_look(queue))
        assert isinstance(counts, Counts)
        return counts

    def dead(self, queue: str = "q", **options: int) -> DeadPage:
        page = self.query(messages.encode_dead_letters(queue, **options))
        assert isinstance(page, DeadPage)
        return page

    def line_of(self, *wait_ms: int) -> list[int]:
        """Put so many in line; their tickets."""
        tickets: list[int] = []
        for each in wait_ms:
            result = self.take(wait_ms=each)
            assert isinstance(result, Waiting)
            tickets.append(result.ticket)
        return tickets


def only(result: QueueResult | QueueAnswer) -> TakenItem:
    assert isinstance(result, Taken)
    (item,) = result.items
    return item


def topics(*tickets: int) -> set[str]:
    return {topic_of("q", ticket) for ticket in tickets}


def kill(group: Group, count: int) -> None:
    group.configure(attempts_max=1)
    group.put(*(b"%d" % number for number in range(count)))
    result = group.take("killer", count_max=count)
    assert isinstance(result, Taken)
    group.give_back(*(item.receipt for item in result.items))
