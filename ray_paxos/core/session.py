"""A client's side of its session: numbers, requests in flight, what is sent again; pure.

A command gets its number once, when it is first sent, and keeps it until its outcome is known
(R7). From that these rules follow:

1. Commands are sent in the order of their numbers. Several requests are on their way at once; if
   one is lost, everything after it that is not answered is sent again after it, in order, under
   the same numbers. What had been applied comes back as the kept result.
2. A request that was refused for a gap (it overtook an earlier one) is sent again once nothing
   else is on its way.
3. `lowest_open` is the lowest number without a known outcome. All results below it have come in,
   so the group need not keep them.
4. A number is never used for another command. One that was refused for good stays a gap, which
   `lowest_open` passes as soon as everything before it is known.

```
 submitted ──▶ waiting ──▶ numbered, in a request ──▶ on its way ──▶ outcome known
              (may be      (stays until then)         ▲      │
               cancelled)                             └──────┘ lost, redirected, gap, overloaded
```
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass

from ray_paxos.core.messages import Submit
from ray_paxos.core.pending import NOBODY, Part, PendingBatch, Receiver
from ray_paxos.core.results import EntryResult, NoteCode
from ray_paxos.core.values import CommandBatch, SessionId

BATCH_COMMANDS_MAX = 20_000
"""Of one request: above it more commands make a request slower, not cheaper."""
COMMAND_OVERHEAD_BYTES = 5
"""What the wire form adds to a command, at most."""


@dataclass(slots=True, eq=False)
class _Queued:
    machine: str
    commands: Sequence[bytes]
    receiver: Receiver
    byte_count: int
    taken: int = 0
    is_begun: bool = False

    def begin(self) -> bool:
        """Whether the commands go on; asks the receiver once."""
        self.is_begun = self.is_begun or self.receiver.begin()
        return self.is_begun


@dataclass(slots=True, eq=False)
class _Request:
    request_id: int
    batches: list[PendingBatch]
    is_sent: bool = False


@dataclass(frozen=True, slots=True)
class Resolved:
    """The known outcome of one batch."""

    batch: PendingBatch
    result: EntryResult


class ClientSession:
    """Numbers a client's commands and decides what goes out next.

    Invariants: requests are held in the order of their numbers; at most `window_max` of them are
    on their way; `held_commands` and `held_bytes` count everything without a known outcome.
    """

    def __init__(self, *, request_bytes_max: int, window_max: int) -> None:
        """Start without a session id and without commands.

        Args:
            request_bytes_max: A request holds commands up to this many bytes (at least one).
            window_max: Requests on their way at most.
        """
        assert request_bytes_max > 0 and window_max > 0
        self._request_bytes_max = request_bytes_max
        self._window_max = window_max
        self._waiting: deque[_Queued] = deque()
        self._requests: OrderedDict[int, _Request] = OrderedDict()
        self._next_number = 1
        self._request_count = 0
        self._in_flight = 0
        self._rewinding = False
        self._waiting_commands = 0
        self.session: SessionId | None = None
        self.held_commands = 0
        self.held_bytes = 0

    # What the client wants.

    def enqueue(self, machine: str, commands: Sequence[bytes], receiver: Receiver) -> None:
        """Queue commands behind all earlier ones.

        Args:
            machine: Which state machine they are for.
            commands: In order, at least one; not changed by the caller afterwards.
            receiver: Gets their outcome.
        """
        byte_count = sum(map(len, commands))
        self._waiting.append(_Queued(machine, commands, receiver, byte_count))
        self._waiting_commands += len(commands)
        self.held_commands += len(commands)
        self.held_bytes += byte_count

    @property
    def has_work(self) -> bool:
        """Whether anything is without a known outcome."""
        return bool(self._waiting or self._requests)

    @property
    def in_flight(self) -> int:
        """How many requests are on their way."""
        return self._in_flight

    @property
    def may_send(self) -> bool:
        """Whether `next_submit` may have something to give; False only where it has not."""
        return self._in_flight < self._window_max and self._is_worth_a_request()

    @property
    def lowest_open(self) -> int:
        """The lowest number without a known outcome."""
        for request in self._requests.values():
            return request.batches[0].first_number
        return self._next_number

    def next_request_id(self) -> int:
        """A number for a request that is no submission (an opening, a query)."""
        self._request_count += 1
        return self._request_count

    def opened(self, session: SessionId) -> None:
        """The group has opened the session: sending may begin."""
        assert self.session is None and not self._requests, "a session is opened once"
        self.session = session
        self._next_number = 1

    # What goes out.

    def next_submit(self) -> Submit | None:
        """The request to send now; None where there is nothing, or it has to wait."""
        if self.session is None or self._in_flight >= self._window_max:
            return None
        if self._rewinding:
            if self._in_flight:
                return None
            self._rewinding = False
        request = next((r for r in self._requests.values() if not r.is_sent), None)
        if request is None and self._is_worth_a_request():
            request = self._form_request()
        if request is None:
            return None
        request.is_sent = True
        self._in_flight += 1
        lowest_open = self.lowest_open
        batches = tuple(
            CommandBatch(
                self.session, lowest_open, batch.first_number, batch.machine, tuple(batch.commands)
            )
            for batch in request.batches
        )
        return Submit(request.request_id, batches)

    def _is_worth_a_request(self) -> bool:
        """Whether what waits is enough for a request of its own while others are on their way.

        With nothing on its way it always is. Otherwise the window is shared out: a request takes
        its part of all commands without an outcome, so that a thousand in flight do not become
        hundreds of small requests. An answer is on its way then, and asks again.
        """
        return (
            not self._in_flight or self._waiting_commands * self._window_max >= self.held_commands
        )

    def _form_request(self) -> _Request | None:
        """Number what waits, up to the limits of one request."""
        batches: list[PendingBatch] = []
        room_bytes = self._request_bytes_max
        room_commands = BATCH_COMMANDS_MAX
        while self._waiting and room_bytes > 0 and room_commands > 0:
            queued = self._waiting[0]
            if not queued.begin():
                self._waiting.popleft()
                self._waiting_commands -= len(queued.commands)
                self._release(len(queued.commands), queued.byte_count)
                continue
            count, byte_count = self._fitting(queued, room_bytes, room_commands, not batches)
            if count == 0:
                break
            end = queued.taken + count
            self._add(batches, queued, queued.commands[queued.taken : end], byte_count)
            queued.taken = end
            self._waiting_commands -= count
            if end == len(queued.commands):
                self._waiting.popleft()
            room_bytes -= byte_count + count * COMMAND_OVERHEAD_BYTES
            room_commands -= count
        if not batches:
            return None
        request = _Request(self.next_request_id(), batches)
        self._requests[request.request_id] = request
        return request

    @staticmethod
    def _fitting(
        queued: _Queued, room_bytes: int, room_commands: int, at_least_one: bool
    ) -> tuple[int, int]:
        """How many of the queued commands fit, and their bytes."""
        remaining = len(queued.commands) - queued.taken
        if queued.taken == 0 and remaining <= room_commands:
            if queued.byte_count + remaining * COMMAND_OVERHEAD_BYTES <= room_bytes:
                return remaining, queued.byte_count
            if remaining == 1:
                return (1, queued.byte_count) if at_least_one else (0, 0)
        count = byte_count = used = 0
        for position in range(queued.taken, queued.taken + min(remaining, room_commands)):
            size = len(queued.commands[position])
            used += size + COMMAND_OVERHEAD_BYTES
            if used > room_bytes and not (at_least_one and count == 0):
                break
            count += 1
            byte_count += size
        return count, byte_count

    def _add(
        self,
        batches: list[PendingBatch],
        queued: _Queued,
        commands: Sequence[bytes],
        byte_count: int,
    ) -> None:
        count = len(commands)
        last = batches[-1] if batches else None
        if last is not None and last.machine == queued.machine:
            last.commands += commands
            last.receivers.append((queued.receiver, queued.taken, count))
            last.byte_count += byte_count
        else:
            receivers = [(queued.receiver, queued.taken, count)]
            batches.append(
                PendingBatch(
                    queued.machine, self._next_number, list(commands), receivers, byte_count
                )
            )
        self._next_number += count

    # What came back.

    def on_submitted(self, request_id: int, results: Sequence[EntryResult]) -> list[Resolved]:
        """All batches of a request were answered.

        Args:
            request_id: Which request; one that is not known any more is ignored.
            results: One for each batch, in order.

        Returns:
            The batches whose outcome is now known. Those refused for a gap are sent again.
        """
        request = self._requests.get(request_id)
        if request is None or len(results) != len(request.batches):
            return []
        self._unsend(request)
        resolved: list[Resolved] = []
        kept: list[PendingBatch] = []
        for batch, result in zip(request.batches, results, strict=True):
            notes = result.notes.values()
            if len(result.results) != len(batch.commands) or any(
                note.code is NoteCode.GAP for note in notes
            ):
                kept.append(batch)
                continue
            resolved.append(Resolved(batch, result))
            self._release(len(batch.commands), batch.byte_count)
        request.batches = kept
        if kept:
            self._rewinding = True
        else:
            del self._requests[request_id]
        return resolved

    def on_lost(self) -> None:
        """A request got no answer: whatever is on its way is sent again, in order."""
        for request in self._requests.values():
            self._unsend(request)

    def on_not_taken(self, request_id: int) -> None:
        """The group took nothing of a request, for now: it is sent again in its turn."""
        request = self._requests.get(request_id)
        if request is not None and request.is_sent:
            self._unsend(request)
            self._rewinding = True

    def on_refused(self, request_id: int) -> list[PendingBatch]:
        """The group will never take this request: its commands are certainly not applied."""
        request = self._requests.pop(request_id, None)
        if request is None:
            return []
        self._unsend(request)
        for batch in request.batches:
            self._release(len(batch.commands), batch.byte_count)
        # Requests behind it now follow a gap, and are refused until `lowest_open` passes it.
        return request.batches

    def on_expired(self) -> list[PendingBatch]:
        """The group does not know the session any more.

        Returns:
            All numbered batches without an outcome: they may have been applied. What waits
            without a number goes out under the next session.
        """
        batches = [batch for request in self._requests.values() for batch in request.batches]
        for batch in batches:
            self._release(len(batch.commands), batch.byte_count)
        self._requests.clear()
        self._in_flight = 0
        self._rewinding = False
        self.session = None
        return batches

    def on_time(self, now_ns: int) -> tuple[list[Part], list[Part]]:
        """Part with receivers whose time is over.

        Numbered commands stay: they are sent again until their outcome is known, and hold
        `lowest_open` down meanwhile. What has no number yet is dropped.

        Returns:
            (what may be applied, what never left).
        """
        numbered: list[Part] = []
        for request in self._requests.values():
            for batch in request.batches:
                for place, (receiver, start, count) in enumerate(batch.receivers):
                    if receiver.deadline_ns <= now_ns:
                        numbered.append((receiver, start, count))
                        batch.receivers[place] = (NOBODY, start, count)
        late = [queued for queued in self._waiting if queued.receiver.deadline_ns <= now_ns]
        return numbered, self._drop(late)

    def give_up(self) -> tuple[list[Part], list[Part]]:
        """Forget everything, as the client closes.

        Returns:
            (what may be applied, what never left).
        """
        numbered = [part for batch in self.on_expired() for part in batch.receivers]
        return numbered, self._drop(list(self._waiting))

    def _drop(self, dropped: Sequence[_Queued]) -> list[Part]:
        """Take queued commands out of the queue; gives the parts that were not cancelled."""
        parts: list[Part] = []
        for queued in dropped:
            left = queued.commands[queued.taken :]
            self._waiting_commands -= len(left)
            self._release(len(left), sum(map(len, left)))
            if queued.begin():
                parts.append((queued.receiver, queued.taken, len(left)))
        if dropped:
            gone = set(map(id, dropped))
            self._waiting = deque(q for q in self._waiting if id(q) not in gone)
        return parts

    def _unsend(self, request: _Request) -> None:
        if request.is_sent:
            request.is_sent = False
            self._in_flight -= 1

    def _release(self, commands: int, byte_count: int) -> None:
        self.held_commands -= commands
        self.held_bytes -= byte_count
