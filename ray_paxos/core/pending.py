"""Commands of a client whose outcome is not known yet, and those who wait for it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from ray_paxos.core.results import EntryResult
from ray_paxos.errors import PaxosError


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


class _Nobody:
    deadline_ns = sys.maxsize

    def begin(self) -> bool:
        return True

    def deliver(self, start: int, entry: EntryResult, offset: int, count: int) -> None:
        pass

    def fail(self, start: int, error: PaxosError, count: int) -> None:
        pass


Part: TypeAlias = tuple[Receiver, int, int]
"""Commands of one receiver: who gets their outcome, position of the first there, how many."""

NOBODY: Receiver = _Nobody()
"""Takes the place of a receiver that was told that its time is over."""


@dataclass(slots=True, eq=False)
class PendingBatch:
    """Numbered commands without a known outcome.

    Attributes:
        machine: For which machine.
        first_number: Of the first command; the others follow one by one.
        commands: In order.
        receivers: Whose they are, in order.
        byte_count: Of the commands.
    """

    machine: str
    first_number: int
    commands: list[bytes]
    receivers: list[Part]
    byte_count: int

    def deliver(self, entry: EntryResult) -> None:
        """Hand the outcome to everyone who waits for a part of it."""
        offset = 0
        for receiver, start, count in self.receivers:
            receiver.deliver(start, entry, offset, count)
            offset += count
