"""What is said to the queues machine, and what it says; what all of it means is in `queues`.

Commands, results, queries and answers are msgpack arrays that start with their name. Times are
milliseconds of log time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import msgspec

ATTEMPTS_MAX = 5
"""So often an item is handed out, where nothing else is configured."""
ITEMS_MAX = 1_000_000
"""So many items a queue has, where nothing else is configured."""

# Commands.


class Put(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="put"):
    """Command: append items, all or none."""

    queue: str
    items: tuple[bytes, ...]


class Take(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="take"):
    """Command: hand out the first ready items.

    Attributes:
        queue: From which queue.
        consumer: To whom; a name for people, which dead letters show.
        count_max: At most so many; at least 1.
        lease_ms: How long nobody else gets them; at least 1.
        wait_ms: How long to wait in line where nothing is ready; 0 for not at all.
    """

    queue: str
    consumer: str
    count_max: int
    lease_ms: int
    wait_ms: int


class Leave(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="leave"):
    """Command: who has this ticket waits no longer."""

    queue: str
    ticket: int


class Acknowledge(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="acknowledge"
):
    """Command: what was handed out under these receipts is done for good."""

    queue: str
    receipts: tuple[int, ...]


class Return(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="return"
):
    """Command: give back what was handed out under these receipts.

    Attributes:
        queue: To which queue.
        receipts: Of the hand-outs.
        delay_ms: After how long the items are ready again; 0 for at once.
    """

    queue: str
    receipts: tuple[int, ...]
    delay_ms: int


class Extend(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="extend"
):
    """Command: let the leases of these receipts run so long from now."""

    queue: str
    receipts: tuple[int, ...]
    lease_ms: int


class Requeue(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="requeue"
):
    """Command: make dead letters ready again, as if they had never been handed out."""

    queue: str
    item_ids: tuple[int, ...]


class Discard(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="discard"
):
    """Command: forget dead letters."""

    queue: str
    item_ids: tuple[int, ...]


class Configure(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="configure"
):
    """Command: set a queue's limits; makes the queue where there is none.

    Attributes:
        queue: Which one.
        attempts_max: So often an item is handed out before it is a dead letter.
        items_max: So many items it has, dead letters included; one that has more keeps them.
    """

    queue: str
    attempts_max: int
    items_max: int


class Drop(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="drop"):
    """Command: forget a queue with all its items.

    Attributes:
        queue: Which one.
        force: Even where some of them are handed out.
    """

    queue: str
    force: bool


# Results; the first three are answers, too.


class TakenItem(msgspec.Struct, frozen=True, array_like=True):
    """One item that is handed out.

    Attributes:
        item_id: Its number in its queue.
        receipt: The token of this hand-out.
        attempt: The how manieth one it is, from 1.
        payload: What was put in.
    """

    item_id: int
    receipt: int
    attempt: int
    payload: bytes


class Taken(msgspec.Struct, frozen=True, array_like=True, tag="taken"):
    """Result of a take, or of a leave: what is handed out. Nothing, where nothing was ready."""

    items: tuple[TakenItem, ...]


class WaitOver(msgspec.Struct, frozen=True, array_like=True, tag="wait_over"):
    """Answer: the ticket stands in no line, and nothing is handed out under it (any more)."""


class Waiting(msgspec.Struct, frozen=True, array_like=True, tag="waiting"):
    """Result of a take: it is in line; ask by this ticket."""

    ticket: int


class PutIn(msgspec.Struct, frozen=True, array_like=True, tag="put_in"):
    """Result of a put: the first item has this id, the next ones the next."""

    first_id: int


class Acknowledged(msgspec.Struct, frozen=True, array_like=True, tag="acknowledged"):
    """Result: so many are done; the receipts that were not current did nothing."""

    count: int
    lost: tuple[int, ...]


class Returned(msgspec.Struct, frozen=True, array_like=True, tag="returned"):
    """Result: so many are given back; the receipts that were not current did nothing."""

    count: int
    lost: tuple[int, ...]


class Extended(msgspec.Struct, frozen=True, array_like=True, tag="extended"):
    """Result: so many leases run anew; the receipts that were not current did nothing."""

    count: int
    lost: tuple[int, ...]


class Requeued(msgspec.Struct, frozen=True, array_like=True, tag="requeued"):
    """Result: so many are ready again; these ids were no dead letters."""

    count: int
    missing: tuple[int, ...]


class Discarded(msgspec.Struct, frozen=True, array_like=True, tag="discarded"):
    """Result: so many are forgotten; these ids were no dead letters."""

    count: int
    missing: tuple[int, ...]


class Configured(msgspec.Struct, frozen=True, array_like=True, tag="configured"):
    """Result: the limits hold."""


class Dropped(msgspec.Struct, frozen=True, array_like=True, tag="dropped"):
    """Result: there is no such queue any more; it had so many items."""

    count: int


# Queries and their answers.


class Await(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="await"):
    """Query: what is handed out under a ticket."""

    queue: str
    ticket: int


class Look(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="look"):
    """Query: how many items a queue has."""

    queue: str


class DeadLetters(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="dead_letters"
):
    """Query: dead letters in the order of ids.

    Attributes:
        queue: Of which queue.
        start_after: With ids above this one; 0 for from the first on.
        count_max: At most so many; at least 1.
    """

    queue: str
    start_after: int
    count_max: int


class Counts(msgspec.Struct, frozen=True, array_like=True, tag="counts"):
    """Answer to a look; all 0 where there is no such queue.

    Attributes:
        ready: Items that the next take gets.
        taken: Items that are handed out.
        delayed: Items that were given back, and are not ready yet.
        dead: Dead letters.
        in_line: Consumers who wait.
        put_in_all: Items ever put in: those above, and the next two.
        acknowledged_in_all: Items that are done.
        discarded_in_all: Dead letters that were forgotten.
        payload_bytes: Of all items that are there.
        attempts_max: As configured.
        items_max: As configured.
    """

    ready: int = 0
    taken: int = 0
    delayed: int = 0
    dead: int = 0
    in_line: int = 0
    put_in_all: int = 0
    acknowledged_in_all: int = 0
    discarded_in_all: int = 0
    payload_bytes: int = 0
    attempts_max: int = 0
    items_max: int = 0


class DeadLetter(msgspec.Struct, frozen=True, array_like=True):
    """An item that was handed out too often; `consumer` had it last."""

    item_id: int
    attempts: int
    consumer: str
    payload: bytes


class DeadPage(msgspec.Struct, frozen=True, array_like=True, tag="dead_page"):
    """Answer: dead letters, and where the next page starts after; None where there is none."""

    letters: tuple[DeadLetter, ...]
    next_after: int | None


QueueCommand: TypeAlias = (
    Put | Take | Leave | Acknowledge | Return | Extend | Requeue | Discard | Configure | Drop
)
QueueResult: TypeAlias = (
    PutIn
    | Taken
    | Waiting
    | WaitOver
    | Acknowledged
    | Returned
    | Extended
    | Requeued
    | Discarded
    | Configured
    | Dropped
)
QueueQuery: TypeAlias = Await | Look | DeadLetters
QueueAnswer: TypeAlias = Taken | WaitOver | Counts | DeadPage

encode: Callable[[QueueCommand | QueueResult | QueueQuery | QueueAnswer], bytes] = (
    msgspec.msgpack.Encoder().encode
)
decode_command: Callable[[bytes], QueueCommand] = msgspec.msgpack.Decoder(QueueCommand).decode
decode_query: Callable[[bytes], QueueQuery] = msgspec.msgpack.Decoder(QueueQuery).decode
_decode_result: Callable[[bytes], QueueResult] = msgspec.msgpack.Decoder(QueueResult).decode
_decode_answer: Callable[[bytes], QueueAnswer] = msgspec.msgpack.Decoder(QueueAnswer).decode


def encode_put(queue: str, items: Iterable[bytes]) -> bytes:
    """The command that appends items."""
    return encode(Put(queue, tuple(items)))


def encode_take(
    queue: str, consumer: str, *, lease_ms: int, count_max: int = 1, wait_ms: int = 0
) -> bytes:
    """The command that hands out ready items, or waits for some; see `Take`."""
    return encode(Take(queue, consumer, count_max, lease_ms, wait_ms))


def encode_leave(queue: str, ticket: int) -> bytes:
    """The command of one that waits no longer."""
    return encode(Leave(queue, ticket))


def encode_acknowledge(queue: str, receipts: Iterable[int]) -> bytes:
    """The command that says what is done."""
    return encode(Acknowledge(queue, tuple(receipts)))


def encode_return(queue: str, receipts: Iterable[int], *, delay_ms: int = 0) -> bytes:
    """The command that gives items back."""
    return encode(Return(queue, tuple(receipts), delay_ms))


def encode_extend(queue: str, receipts: Iterable[int], *, lease_ms: int) -> bytes:
    """The command that lets leases run so long from then."""
    return encode(Extend(queue, tuple(receipts), lease_ms))


def encode_requeue(queue: str, item_ids: Iterable[int]) -> bytes:
    """The command that makes dead letters ready again."""
    return encode(Requeue(queue, tuple(item_ids)))


def encode_discard(queue: str, item_ids: Iterable[int]) -> bytes:
    """The command that forgets dead letters."""
    return encode(Discard(queue, tuple(item_ids)))


def encode_configure(
    queue: str, *, attempts_max: int = ATTEMPTS_MAX, items_max: int = ITEMS_MAX
) -> bytes:
    """The command that sets a queue's limits."""
    return encode(Configure(queue, attempts_max, items_max))


def encode_drop(queue: str, *, force: bool = False) -> bytes:
    """The command that forgets a queue."""
    return encode(Drop(queue, force))


def encode_await(queue: str, ticket: int) -> bytes:
    """The query for what is handed out under a ticket."""
    return encode(Await(queue, ticket))


def encode_look(queue: str) -> bytes:
    """The query for a queue's counts."""
    return encode(Look(queue))


def encode_dead_letters(queue: str, *, start_after: int = 0, count_max: int = 100) -> bytes:
    """The query for a page of dead letters."""
    return encode(DeadLetters(queue, start_after, count_max))


def decode_result(data: bytes) -> QueueResult:
    """Read the result of a command.

    Raises:
        msgspec.DecodeError: Not a result of this machine.
    """
    return _decode_result(data)


def decode_answer(data: bytes) -> QueueAnswer:
    """Read the answer to a query.

    Raises:
        msgspec.DecodeError: Not an answer of this machine.
    """
    return _decode_answer(data)
