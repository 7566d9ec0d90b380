"""The proposer's intake: requests of clients, bounded, first in first out (R10).

A request is never split over two instances, so that its results come together; several requests
share one instance as long as they fit. What does not fit the bounds is refused, untouched.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from ray_paxos.core.messages import Address, OpenSession, RefusalCode, Refused, Submit
from ray_paxos.core.settings import ProposerSettings
from ray_paxos.core.values import CommandBatch, Entry, SessionOpen

ENTRY_OVERHEAD_BYTES = 64
COMMAND_OVERHEAD_BYTES = 5
"""What the encoded form adds to a command, at most: commands without bytes cost something, too."""


@dataclass(frozen=True, slots=True)
class Request:
    """A client's request on its way.

    Attributes:
        client: Who asked.
        request_id: The client's own.
        entries: What goes into the log.
        byte_count: Of the commands, with something for each of them and for each entry.
    """

    client: Address
    request_id: int
    entries: tuple[Entry, ...]
    byte_count: int


class Intake:
    """Requests waiting for an instance, and the count of all that are not answered yet.

    Invariants: `held_bytes` and `held_requests` cover the waiting requests and those that were
    taken and not released, and stay within the settings.
    """

    def __init__(self, settings: ProposerSettings) -> None:
        """Start empty."""
        self._settings = settings
        self._waiting: deque[Request] = deque()
        self._held: set[tuple[Address, int]] = set()
        self.held_bytes = 0

    def __len__(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    @property
    def held_requests(self) -> int:
        """How many requests are not answered yet."""
        return len(self._held)

    def offer(self, client: Address, message: Submit | OpenSession) -> Refused | None:
        """Take a request in, or say why not.

        A request that is already held is left as it is: the client sent it again, and one answer
        serves both.

        Args:
            client: Who asks.
            message: What it asks.

        Returns:
            None where the request is held; else the refusal, and nothing was taken.
        """
        key = (client, message.request_id)
        if key in self._held:
            return None
        entries: tuple[Entry, ...]
        if isinstance(message, OpenSession):
            entries = (SessionOpen(message.label),)
            longest, byte_count = len(message.label), len(message.label) + ENTRY_OVERHEAD_BYTES
        else:
            entries = message.batches
            if not all(batch.commands for batch in message.batches) or not message.batches:
                what = "a request, or a batch of it, without commands"
                return Refused(message.request_id, RefusalCode.MALFORMED, what, 0)
            longest, byte_count = _measure(message.batches)
        if longest > self._settings.command_bytes_max:
            limit = self._settings.command_bytes_max
            what = f"a command of {longest} bytes; at most {limit} are taken"
            return Refused(message.request_id, RefusalCode.TOO_LARGE, what, 0)
        if byte_count > self._settings.intake_bytes_max:
            limit = self._settings.intake_bytes_max
            what = f"a request of {byte_count} bytes; at most {limit} are taken"
            return Refused(message.request_id, RefusalCode.TOO_LARGE, what, 0)
        if (
            self.held_requests >= self._settings.intake_requests_max
            or self.held_bytes + byte_count > self._settings.intake_bytes_max
        ):
            what = f"{self.held_requests} requests of {self.held_bytes} bytes are waiting"
            return Refused(message.request_id, RefusalCode.OVERLOADED, what, 100)
        self._held.add(key)
        self.held_bytes += byte_count
        self._waiting.append(Request(client, message.request_id, entries, byte_count))
        return None

    def take(self) -> list[Request]:
        """The requests of the next value: in order, up to the batch limit, at least one."""
        taken: list[Request] = []
        byte_count = 0
        while self._waiting:
            byte_count += self._waiting[0].byte_count
            if taken and byte_count > self._settings.batch_bytes_max:
                break
            taken.append(self._waiting.popleft())
        return taken

    def release(self, request: Request) -> None:
        """A request that was taken is answered."""
        self._held.remove((request.client, request.request_id))
        self.held_bytes -= request.byte_count

    def drain(self) -> list[Request]:
        """Take everything that waits, to be answered otherwise."""
        drained = list(self._waiting)
        self._waiting.clear()
        return drained


def _measure(batches: Sequence[CommandBatch]) -> tuple[int, int]:
    """The longest part of some batches, and the bytes of all."""
    longest = byte_count = 0
    for batch in batches:
        longest = max(longest, len(batch.machine), max(map(len, batch.commands)))
        byte_count += len(batch.machine) + ENTRY_OVERHEAD_BYTES
        byte_count += sum(map(len, batch.commands)) + COMMAND_OVERHEAD_BYTES * len(batch.commands)
    return longest, byte_count
