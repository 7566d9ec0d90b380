"""The futures of a client's reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from ray_paxos.actors.light_future import LightFuture, set_results
from ray_paxos.core.pending import PendingBatch
from ray_paxos.core.results import EntryResult
from ray_paxos.errors import PaxosError, QueryError


class QueryFuture(LightFuture[bytes]):
    """The answer to one read; `cancel` works until it is first sent.

    Attributes:
        deadline_ns: When it fails, on the client's clock.
    """

    def __init__(self, deadline_ns: int) -> None:
        """Wait until then."""
        self.deadline_ns = deadline_ns

    def begin(self) -> bool:
        """The read is about to be sent."""
        return self.set_running_or_notify_cancel()

    def deliver(self, start: int, entry: EntryResult, offset: int, count: int) -> None:
        """Settle with the read's own answer."""
        result = entry.results[offset]
        if result is not None:
            self.set_result(result)
        else:
            self.set_exception(QueryError(entry.notes[offset].message))

    def fail(self, start: int, error: PaxosError, count: int) -> None:
        """Settle without an answer."""
        self.set_exception(error)


class QueriesFuture(LightFuture[list[bytes]]):
    """The answers to reads that were asked together.

    Attributes:
        deadline_ns: When what is not answered by then fails, on the client's clock.
    """

    def __init__(self, count: int, deadline_ns: int) -> None:
        """Wait for so many answers."""
        self.deadline_ns = deadline_ns
        self._answers: list[bytes | None] = [None] * count
        self._left = count
        # Of the first read that has an error: position, error.
        self._error: tuple[int, PaxosError] | None = None

    def begin(self) -> bool:
        """The first read is about to be sent."""
        return self.set_running_or_notify_cancel()

    def deliver(self, start: int, entry: EntryResult, offset: int, count: int) -> None:
        """Take some of the answers."""
        self._answers[start : start + count] = entry.results[offset : offset + count]
        for place in range(offset, offset + count):
            note = entry.notes.get(place) if entry.notes else None
            if note is not None:
                self._note_error(start + place - offset, QueryError(note.message))
        self._note_settled(count)

    def fail(self, start: int, error: PaxosError, count: int) -> None:
        """Some of the reads have no answer."""
        self._note_error(start, error)
        self._note_settled(count)

    def _note_error(self, position: int, error: PaxosError) -> None:
        if self._error is None or position < self._error[0]:
            self._error = position, error

    def _note_settled(self, count: int) -> None:
        self._left -= count
        if self._left:
            return
        if self._error is None:
            self.set_result(cast(list[bytes], self._answers))
        else:
            self.set_exception(self._error[1])


def deliver_answers(batch: PendingBatch, entry: EntryResult) -> None:
    """Hand a batch's answers to its receivers; quicker where all are futures of one read."""
    receivers: Sequence[object] = [part[0] for part in batch.receivers]
    if entry.notes or set(map(type, receivers)) != {QueryFuture}:
        batch.deliver(entry)
        return
    set_results(cast(list[QueryFuture], receivers), cast(tuple[bytes, ...], entry.results))
