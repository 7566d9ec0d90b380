"""Commands of a client that have no number yet: first in, first out; pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from ray_paxos.core.pending import Part, PendingBatch, Receiver

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


class WaitingCommands:
    """Commands in the order in which they were submitted; bounded by who adds to it.

    Attributes:
        commands: How many wait,
        byte_count: and their bytes.
    """

    def __init__(self) -> None:
        """Start with none."""
        self._queue: deque[_Queued] = deque()
        self.commands = 0
        self.byte_count = 0

    def __bool__(self) -> bool:
        """Whether any wait."""
        return bool(self._queue)

    def add(self, machine: str, commands: Sequence[bytes], receiver: Receiver) -> None:
        """Queue commands, at least one, behind all others."""
        byte_count = sum(map(len, commands))
        self._queue.append(_Queued(machine, commands, receiver, byte_count))
        self.commands += len(commands)
        self.byte_count += byte_count

    def number(self, first_number: int, bytes_max: int) -> tuple[list[PendingBatch], int]:
        """Give numbers to what fits one request.

        Args:
            first_number: The first one to give.
            bytes_max: How much fits; one command does in any case.

        Returns:
            Batches, in order, and the latest deadline of any of their receivers; no batches where
            nothing waits that was not cancelled.
        """
        batches: list[PendingBatch] = []
        deadline_ns = 0
        room_bytes, room_commands = bytes_max, BATCH_COMMANDS_MAX
        while self._queue and room_bytes > 0 and room_commands > 0:
            queued = self._queue[0]
            if not queued.begin():
                self._queue.popleft()
                self._uncount(len(queued.commands), queued.byte_count)
                continue
            count, byte_count = self._fitting(queued, room_bytes, room_commands, not batches)
            if count == 0:
                break
            end = queued.taken + count
            commands = queued.commands[queued.taken : end]
            _add(batches, first_number, queued, commands, byte_count)
            first_number += count
            if queued.receiver.deadline_ns > deadline_ns:
                deadline_ns = queued.receiver.deadline_ns
            queued.taken = end
            self.commands -= count
            self.byte_count -= byte_count
            if end == len(queued.commands):
                self._queue.popleft()
            room_bytes -= byte_count + count * COMMAND_OVERHEAD_BYTES
            room_commands -= count
        return batches, deadline_ns

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

    def drop_overdue(self, now_ns: int) -> list[Part]:
        """Take out what has run out of time; gives the parts that were not cancelled."""
        dropped = [queued for queued in self._queue if queued.receiver.deadline_ns <= now_ns]
        parts: list[Part] = []
        for queued in dropped:
            left = queued.commands[queued.taken :]
            self._uncount(len(left), sum(map(len, left)))
            if queued.begin():
                parts.append((queued.receiver, queued.taken, len(left)))
        if dropped:
            gone = set(map(id, dropped))
            self._queue = deque(q for q in self._queue if id(q) not in gone)
        return parts

    def _uncount(self, commands: int, byte_count: int) -> None:
        self.commands -= commands
        self.byte_count -= byte_count


def _add(
    batches: list[PendingBatch],
    number: int,
    queued: _Queued,
    commands: Sequence[bytes],
    byte_count: int,
) -> None:
    part = (queued.receiver, queued.taken, len(commands))
    last = batches[-1] if batches else None
    if last is not None and last.machine == queued.machine:
        last.commands += commands
        last.receivers.append(part)
        last.byte_count += byte_count
    else:
        batches.append(PendingBatch(queued.machine, number, list(commands), [part], byte_count))
