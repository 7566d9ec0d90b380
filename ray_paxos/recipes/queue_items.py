"""One item of a queue that was handed out, until it is done or given back; see `recipes.queue`."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar

from ray_paxos.errors import LeaseLostError
from ray_paxos.machines import queue_messages as messages
from ray_paxos.machines.queue_messages import Acknowledged, DeadLetter, Extended, Returned
from ray_paxos.recipes.leases import DRIFT_PPM, boot_time_s
from ray_paxos.recipes.recipe import (
    TIMEOUT_S,
    Propose,
    Steps,
    hiding_nothing,
    milliseconds_of,
    value_of,
)

if TYPE_CHECKING:
    from ray_paxos.recipes.queue import Queue
    from ray_paxos.recipes.queue_upkeep import KeptQueue

V = TypeVar("V")


class Item(Generic[V]):
    """A piece of work, that nobody else has while its lease runs.

    A context manager, of both kinds: it acknowledges the item where the block comes to its end, and
    gives it back where that raises. The lease is not renewed by itself: `extend` it in time.

    Attributes:
        id: Its number in the queue, from 1; the same in every attempt.
        attempt: The how manieth one this is, from 1.
        receipt: Of this hand-out, above those of all before it in the group: a fencing token.
    """

    def __init__(
        self, queue: Queue[V], taken: messages.TakenItem, lease_s: float, sent_s: float
    ) -> None:
        """Made by `Queue.take`; its lease is known to run from when the command was sent."""
        self._queue = queue
        self._payload = taken.payload
        self._lease_s = lease_s
        self._is_settled = False
        self.id = taken.item_id
        self.attempt = taken.attempt
        self.receipt = taken.receipt
        self._held_until_s = _held_until_s(sent_s, lease_s)

    def __repr__(self) -> str:
        return f"Item({self.id}, of={self._queue!r}, attempt={self.attempt})"

    @property
    def payload(self) -> V:
        """What was put in; decoded each time, so that what cannot be raises where it is used."""
        return self._queue._decode(self._payload)

    @property
    def remaining_s(self) -> float:
        """For how many seconds its lease is known to run, by this process's clock; 0 for none."""
        return 0.0 if self._is_settled else max(self._held_until_s - boot_time_s(), 0.0)

    def acknowledge(self, *, timeout_s: float = TIMEOUT_S) -> bool:
        """Say that it is done, for good.

        Args:
            timeout_s: How long to wait.

        Returns:
            Whether it was held; if not, its lease had ended, and others have it, or will.

        Raises:
            RequestError: As `Client.propose`; what may not be acknowledged is handed out again.
        """
        return self._queue._run(self._acknowledge(timeout_s))

    async def acknowledge_async(self, *, timeout_s: float = TIMEOUT_S) -> bool:
        """As `acknowledge`, in a coroutine; cancelled, it may be acknowledged all the same."""
        return await self._queue._run_async(self._acknowledge(timeout_s))

    def _acknowledge(self, timeout_s: float) -> Steps[bool]:
        command = messages.encode_acknowledge(self._queue.name, [self.receipt])
        answer = messages.decode_result(value_of((yield Propose(command, timeout_s))))
        self._is_settled = True
        return isinstance(answer, Acknowledged) and not answer.lost

    def give_back(self, *, delay_s: float = 0.0, timeout_s: float = TIMEOUT_S) -> bool:
        """Let others have it; or, after its last attempt, let it be a dead letter.

        Args:
            delay_s: Not before so much time is over.
            timeout_s: How long to wait.

        Returns:
            Whether it was held; if not, its lease had ended, and others have it, or will.

        Raises:
            RequestError: As `Client.propose`; it comes back with the end of its lease, at the
                latest.
            ConfigurationError: The delay means nothing; nothing was sent.
        """
        return self._queue._run(self._give_back(delay_s, timeout_s))

    async def give_back_async(self, *, delay_s: float = 0.0, timeout_s: float = TIMEOUT_S) -> bool:
        """As `give_back`, in a coroutine."""
        return await self._queue._run_async(self._give_back(delay_s, timeout_s))

    def _give_back(self, delay_s: float, timeout_s: float) -> Steps[bool]:
        delay_ms = milliseconds_of("delay_s", delay_s, least_ms=0)
        self._is_settled = True
        command = messages.encode_return(self._queue.name, [self.receipt], delay_ms=delay_ms)
        answer = messages.decode_result(value_of((yield Propose(command, timeout_s))))
        return isinstance(answer, Returned) and not answer.lost

    def extend(self, lease_s: float | None = None, *, timeout_s: float = TIMEOUT_S) -> bool:
        """Let its lease run for so long from now.

        Args:
            lease_s: How long, in seconds; by default as it was taken for.
            timeout_s: How long to wait.

        Returns:
            Whether it was held, and is; if not, its lease had ended, and others have it, or will.

        Raises:
            RequestError: As `Client.propose`; the lease runs as before, or longer.
            ConfigurationError: The time means nothing; nothing was sent.
        """
        return self._queue._run(self._extend(lease_s, timeout_s))

    async def extend_async(
        self, lease_s: float | None = None, *, timeout_s: float = TIMEOUT_S
    ) -> bool:
        """As `extend`, in a coroutine."""
        return await self._queue._run_async(self._extend(lease_s, timeout_s))

    def _extend(self, lease_s: float | None, timeout_s: float) -> Steps[bool]:
        lease_s = self._lease_s if lease_s is None else lease_s
        lease_ms = milliseconds_of("lease_s", lease_s)
        sent_s = boot_time_s()
        # A lease that is to be shorter may be so from now on, whatever comes of the command.
        self._held_until_s = min(self._held_until_s, _held_until_s(sent_s, lease_s))
        command = messages.encode_extend(self._queue.name, [self.receipt], lease_ms=lease_ms)
        answer = messages.decode_result(value_of((yield Propose(command, timeout_s))))
        is_held = isinstance(answer, Extended) and not answer.lost
        if is_held:
            self._held_until_s = _held_until_s(sent_s, lease_s)
        else:
            self._is_settled = True
        return is_held

    def __enter__(self) -> Item[V]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it, unless that was done.

        Raises:
            LeaseLostError: It was done, and is not acknowledged: its lease had ended.
        """
        if self._is_settled:
            return
        if error is None:
            self._check_done(self.acknowledge())
            return
        with hiding_nothing(error):
            self.give_back()

    async def __aenter__(self) -> Item[V]:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_settled:
            return
        if error is None:
            self._check_done(await self.acknowledge_async())
            return
        with hiding_nothing(error):
            await self.give_back_async()

    def _check_done(self, was_held: bool) -> None:
        if not was_held:
            raise LeaseLostError(
                f"{self!r} is not acknowledged: its lease had ended, and others have it, or will; "
                "take it for longer, or extend it in time"
            )


class DeadItem(Generic[V]):
    """An item that was handed out too often, and is handed out no more.

    Attributes:
        id: Its number in the queue.
        attempts: So often it was handed out.
        consumer: Who had it last.
    """

    def __init__(self, queue: KeptQueue[V], letter: DeadLetter) -> None:
        """Made by `Queue.dead_letters`."""
        self._queue = queue
        self._payload = letter.payload
        self.id = letter.item_id
        self.attempts = letter.attempts
        self.consumer = letter.consumer

    def __repr__(self) -> str:
        return f"DeadItem({self.id}, of={self._queue!r}, attempts={self.attempts})"

    @property
    def payload(self) -> V:
        """What was put in; decoded each time."""
        return self._queue._decode(self._payload)


def _held_until_s(sent_s: float, lease_s: float) -> float:
    """Until when a lease is known to run that was granted by a command that was sent then."""
    return sent_s + lease_s * (1 - DRIFT_PPM / 1e6)
