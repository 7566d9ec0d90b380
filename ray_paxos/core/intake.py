"""The proposer's intake: requests of clients, bounded, first in first out (R10).

A request is never split over two instances, so that its results come together; several requests
share one instance as long as they fit. What does not fit the bounds is refused, untouched.

A request has the time that its client gave it. If that is over before its turn comes, it is
refused, too: the client has given it up, and what a full queue proposes late is load for nothing.
Of the same session nothing that waits behind it could be applied then (R7: its number is missing),
so all of that is sent back with it, to be sent again once the client has closed the gap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from ray_paxos.core.client_messages import OpenSession, RefusalCode, Refused, Submit
from ray_paxos.core.messages import Address
from ray_paxos.core.settings import MILLISECOND_NS, ProposerSettings
from ray_paxos.core.traces import bounded_text
from ray_paxos.core.values import CommandBatch, Entry, SessionId, SessionOpen

ENTRY_OVERHEAD_BYTES = 64
COMMAND_OVERHEAD_BYTES = 5
"""What the encoded form adds to a command, at most: commands without bytes cost something, too."""
LOOK_INTERVAL_NS = 50 * MILLISECOND_NS
"""How often everything that waits is looked through for what is too late."""


@dataclass(frozen=True, slots=True)
class Request:
    """A client's request on its way.

    Attributes:
        client: Who asked.
        request_id: The client's own.
        entries: What goes into the log.
        byte_count: Of the commands, with something for each of them and for each entry.
        deadline_ns: When its time is over, on this proposer's clock; None for never.
        arrived_ns: When it was taken in, on the same clock.
        trace: Of the users whose commands these are.
    """

    client: Address
    request_id: int
    entries: tuple[Entry, ...]
    byte_count: int
    deadline_ns: int | None = None
    arrived_ns: int = 0
    trace: str = ""

    def is_late(self, now_ns: int) -> bool:
        """Whether its time is over."""
        return self.deadline_ns is not None and now_ns >= self.deadline_ns

    @property
    def session(self) -> SessionId | None:
        """Whose commands these are; None where it opens a session."""
        first = self.entries[0]
        return first.session if isinstance(first, CommandBatch) else None


class Intake:
    """Requests waiting for an instance, and the count of all that are not answered yet.

    Invariants: `held_bytes` and `held_requests` cover the waiting requests and those that were
    taken and not released, and stay within the settings; a refused request is not held.
    """

    def __init__(self, settings: ProposerSettings) -> None:
        """Start empty."""
        self._settings = settings
        self._waiting: deque[Request] = deque()
        self._held: set[tuple[Address, int]] = set()
        self._refused: list[tuple[Address, Refused]] = []
        self._looked_ns = 0
        self.held_bytes = 0

    def __len__(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    @property
    def held_requests(self) -> int:
        """How many requests are not answered yet."""
        return len(self._held)

    def holds(self, client: Address, request_id: int) -> bool:
        """Whether a copy of that request is held."""
        return (client, request_id) in self._held

    def offer(self, client: Address, message: Submit | OpenSession, now_ns: int) -> Refused | None:
        """Take a request in, or say why not.

        A request that is already held is left as it is: the client sent it again, and one answer
        serves both.

        Args:
            client: Who asks.
            message: What it asks.
            now_ns: The clock.

        Returns:
            None where the request is held; else the refusal, and nothing was taken.
        """
        if self.holds(client, message.request_id):
            return None
        key = (client, message.request_id)
        entries: tuple[Entry, ...]
        deadline_ns, trace = None, ""
        if isinstance(message, OpenSession):
            entries = (SessionOpen(message.label),)
            longest, byte_count = len(message.label), len(message.label) + ENTRY_OVERHEAD_BYTES
        else:
            entries = message.batches
            if not all(batch.commands for batch in message.batches) or not message.batches:
                what = "a request, or a batch of it, without commands"
                return Refused(message.request_id, RefusalCode.MALFORMED, what, 0)
            longest, byte_count = _measure(message.batches)
            if message.timeout_ms > 0:
                deadline_ns = now_ns + message.timeout_ms * MILLISECOND_NS
            trace = bounded_text(message.trace)
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
        self._waiting.append(
            Request(client, message.request_id, entries, byte_count, deadline_ns, now_ns, trace)
        )
        return None

    def take(self, now_ns: int) -> list[Request]:
        """The requests of the next value: in order, up to the batch limit.

        Args:
            now_ns: The clock.

        Returns:
            At least one where any waits whose time is not over. What was too late is dropped:
            `take_refused` has the answers.
        """
        if now_ns >= self._looked_ns + LOOK_INTERVAL_NS:
            self._looked_ns = now_ns
            self._drop_late(now_ns)
        taken: list[Request] = []
        byte_count = 0
        while self._waiting:
            request = self._waiting[0]
            if request.is_late(now_ns):
                self._drop_late(now_ns)
                continue
            byte_count += request.byte_count
            if taken and byte_count > self._settings.batch_bytes_max:
                break
            taken.append(self._waiting.popleft())
        return taken

    def take_refused(self) -> list[tuple[Address, Refused]]:
        """Answers for what `take` dropped, untouched; each is given once."""
        refused, self._refused = self._refused, []
        return refused

    def _drop_late(self, now_ns: int) -> None:
        """Refuse what is too late, and what could not be applied without it."""
        if not any(request.is_late(now_ns) for request in self._waiting):
            return
        left: deque[Request] = deque()
        broken: set[SessionId | None] = set()
        for request in self._waiting:
            if request.is_late(now_ns):
                broken.add(request.session)
                what = "its time was over before it could be proposed"
                self._refuse(request, RefusalCode.TOO_LATE, what)
            elif request.session in broken:
                what = "a number before it came too late"
                self._refuse(request, RefusalCode.OVERLOADED, what)
            else:
                left.append(request)
        self._waiting = left

    def _refuse(self, request: Request, code: RefusalCode, what: str) -> None:
        self.release(request)
        self._refused.append((request.client, Refused(request.request_id, code, what, 0)))

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
