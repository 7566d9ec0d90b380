"""Commands of a client whose outcome is not known yet, and those who wait for it."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from ray_paxos.core.results import EntryResult, Note, NoteCode
from ray_paxos.core.values import WITHDRAWAL
from ray_paxos.errors import PaxosError

FOREVER_NS = sys.maxsize
"""The deadline of what has none."""
GONE = (NoteCode.SESSION_EXPIRED, NoteCode.SESSION_UNKNOWN)
"""Notes of a command whose session the group does not have."""


class Receiver(Protocol):
    """Who wants the outcome of some commands that were submitted together.

    Attributes:
        deadline_ns: Until when, on the client's clock.
    """

    deadline_ns: int

    def begin(self) -> bool:
        """The commands are about to be numbered; False where they were cancelled before."""

    def deliver(self, start: int, entry: EntryResult, offset: int, count: int) -> None:
        """Take the outcome of some of the commands.

        Args:
            start: Position of the first of them among those submitted together.
            entry: Has their results,
            offset: from here on.
            count: How many.
        """

    def fail(self, start: int, error: PaxosError, count: int) -> None:
        """`count` commands from position `start` on have no result."""


def trace_of(receiver: Receiver) -> str:
    """Where the span of a receiver's commands stands (`core.traces`): its attribute `trace`.

    Empty for one that has none, as most have: it is set only where somebody traces.
    """
    trace: str = getattr(receiver, "trace", "")
    return trace


class _Nobody:
    deadline_ns = FOREVER_NS

    def begin(self) -> bool:
        return True

    def deliver(self, start: int, entry: EntryResult, offset: int, count: int) -> None:
        pass

    def fail(self, start: int, error: PaxosError, count: int) -> None:
        pass


Part: TypeAlias = tuple[Receiver, int, int]
"""Commands of one receiver: who gets their outcome, position of the first there, how many."""

NOBODY: Receiver = _Nobody()
"""Takes the place of a receiver that was told that the outcome is unknown: that is asked for by
number, later."""


@dataclass(slots=True, eq=False)
class PendingBatch:
    """Numbered commands without a known outcome.

    Attributes:
        machine: For which machine.
        first_number: Of the first command; the others follow one by one.
        commands: In order.
        receivers: Whose they are, in order.
        byte_count: Of the commands.
        earliest_ns: The earliest deadline of its receivers, or an earlier time: until then nobody
            has to look at each of them.
        has_nobody: Whether `NOBODY` is among them, or was.
    """

    machine: str
    first_number: int
    commands: list[bytes]
    receivers: list[Part]
    byte_count: int
    earliest_ns: int = 0
    has_nobody: bool = False

    @property
    def end(self) -> int:
        """The number after the last."""
        return self.first_number + len(self.commands)

    def deliver(self, entry: EntryResult) -> None:
        """Hand the outcome to everyone who waits for a part of it."""
        offset = 0
        for receiver, start, count in self.receivers:
            receiver.deliver(start, entry, offset, count)
            offset += count

    def numbered_parts(self) -> list[tuple[Part, int]]:
        """Each part, with the number of its first command."""
        parts = []
        number = self.first_number
        for part in self.receivers:
            parts.append((part, number))
            number += part[2]
        return parts

    def tell_unknown(self, now_ns: int) -> list[tuple[Part, int]]:
        """Take nobody for receivers whose time is over; gives them, with their numbers."""
        told: list[tuple[Part, int]] = []
        if now_ns < self.earliest_ns:
            return told
        for place, (part, number) in enumerate(self.numbered_parts()):
            if _is_overdue(part, now_ns):
                told.append((part, number))
                self.receivers[place] = (NOBODY, 0, part[2])
        self.earliest_ns = min(part[0].deadline_ns for part in self.receivers)
        self.has_nobody = self.has_nobody or bool(told)
        return told

    def without_overdue(self, now_ns: int) -> tuple[list[PendingBatch], list[Part]]:
        """What is left without the commands whose time is over, and the parts of those."""
        if now_ns < self.earliest_ns:
            return [self], []
        overdue = [part for part in self.receivers if _is_overdue(part, now_ns)]
        if not overdue:
            self.earliest_ns = min(part[0].deadline_ns for part in self.receivers)
            return [self], []
        pieces: list[PendingBatch] = []
        for part, number in self.numbered_parts():
            if _is_overdue(part, now_ns):
                continue
            offset = number - self.first_number
            commands = self.commands[offset : offset + part[2]]
            byte_count = sum(map(len, commands))
            last = pieces[-1] if pieces else None
            if last is not None and last.end == number:
                last.commands += commands
                last.receivers.append(part)
                last.byte_count += byte_count
            else:
                pieces.append(self._made(number, commands, [part], byte_count))
        return pieces, overdue

    def withdrawn(self) -> PendingBatch:
        """The same numbers, withdrawn."""
        commands = [b""] * len(self.commands)
        batch = self._made(self.first_number, commands, self.receivers, 0)
        batch.machine = WITHDRAWAL
        return batch

    def with_one_withdrawn(self, number: int) -> list[PendingBatch]:
        """The same numbers in pieces, of which one is withdrawn."""
        at = number - self.first_number
        before, one = self.split(at)
        assert one is not None, "the number is one of the batch"
        one, after = one.split(1)
        assert one is not None, "a number"
        return [piece for piece in (before, one.withdrawn(), after) if piece is not None]

    def split(self, at: int) -> tuple[PendingBatch | None, PendingBatch | None]:
        """Cut before an offset; None where nothing is on that side."""
        if at == 0:
            return None, self
        if at == len(self.commands):
            return self, None
        first: list[Part] = []
        second: list[Part] = []
        left = at
        for receiver, start, count in self.receivers:
            taken = min(count, left)
            if taken:
                first.append((receiver, start, taken))
            if taken < count:
                second.append((receiver, start + taken, count - taken))
            left -= taken
        return self._piece(0, self.commands[:at], first), self._piece(
            at, self.commands[at:], second
        )

    def _piece(self, offset: int, commands: list[bytes], receivers: list[Part]) -> PendingBatch:
        byte_count = sum(map(len, commands))
        return self._made(self.first_number + offset, commands, receivers, byte_count)

    def _made(
        self, number: int, commands: list[bytes], receivers: list[Part], byte_count: int
    ) -> PendingBatch:
        return PendingBatch(
            self.machine,
            number,
            commands,
            receivers,
            byte_count,
            self.earliest_ns,
            self.has_nobody,
        )


@dataclass(frozen=True, slots=True)
class Resolved:
    """The known outcome of one batch."""

    batch: PendingBatch
    result: EntryResult


@dataclass(slots=True)
class Answered:
    """What an answer brought.

    Attributes:
        resolved: Batches whose outcome is now known. Those refused for now are sent again.
        gone: Why the group does not have the session; None where it has.
        no_room: Why something was refused for want of room; empty where nothing was.
    """

    resolved: list[Resolved] = field(default_factory=list)
    gone: NoteCode | None = None
    no_room: str = ""

    def note(self, refusal: Note) -> None:
        """Take in why something was refused."""
        if refusal.code in GONE:
            self.gone = refusal.code
        elif refusal.code is NoteCode.OVERLOADED:
            self.no_room = refusal.message


@dataclass(slots=True)
class Overdue:
    """Parts whose time is over.

    Attributes:
        unknown: May have been applied, or may be; each with the number of its first command.
            They are sent again until their outcome is known.
        untouched: Were numbered, but no copy was or will be proposed: certainly not applied.
        unsent: Never left.
    """

    unknown: list[tuple[Part, int]] = field(default_factory=list)
    untouched: list[Part] = field(default_factory=list)
    unsent: list[Part] = field(default_factory=list)


def _is_overdue(part: Part, now_ns: int) -> bool:
    return part[0] is not NOBODY and part[0].deadline_ns <= now_ns


@dataclass(slots=True)
class Outcomes:
    """What became known of commands, to be handed out once no lock is held."""

    _resolved: deque[tuple[PendingBatch, EntryResult]] = field(default_factory=deque)
    _failed: deque[tuple[Part, PaxosError]] = field(default_factory=deque)
    _told: deque[tuple[Receiver, EntryResult]] = field(default_factory=deque)

    def resolve(self, batch: PendingBatch, result: EntryResult) -> None:
        """A batch has its results."""
        self._resolved.append((batch, result))

    def fail(self, parts: Sequence[Part], error: PaxosError) -> None:
        """These commands have no result."""
        self._failed += [(part, error) for part in parts]

    def tell(self, receiver: Receiver, entry: EntryResult) -> None:
        """One command, which its receiver asked for by number, has this result."""
        self._told.append((receiver, entry))

    def settle(
        self, deliver: Callable[[PendingBatch, EntryResult], None] = PendingBatch.deliver
    ) -> None:
        """Tell everyone; runs the callbacks that users attached to their futures.

        Args:
            deliver: Hands a batch's results to its receivers, where there is a quicker way.
        """
        # Each is told once, also where this broke off and is called again.
        while self._resolved:
            deliver(*self._resolved.popleft())
        while self._failed:
            (receiver, start, count), error = self._failed.popleft()
            receiver.fail(start, error, count)
        while self._told:
            receiver, entry = self._told.popleft()
            receiver.deliver(0, entry, 0, 1)
