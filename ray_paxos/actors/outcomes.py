"""What becomes of a client's commands: results, errors, and the futures that carry them."""

from __future__ import annotations

import itertools
import logging
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from operator import itemgetter
from typing import cast

import msgspec

from ray_paxos.actors.light_future import LightFuture, set_results
from ray_paxos.core.client_errors import session_expired, session_unknown
from ray_paxos.core.pending import PendingBatch
from ray_paxos.core.results import EntryResult, Note, NoteCode
from ray_paxos.errors import (
    CommandError,
    ConfigurationError,
    OutcomeUnknownError,
    PaxosError,
    WithdrawnError,
)

_logger = logging.getLogger(__name__)


class Result(msgspec.Struct, frozen=True, gc=False):
    """The result of one command.

    Attributes:
        value: What the state machine returned.
        instance_id: The instance that applied it.
        index: Its row there; `(instance_id, index)` is unique in the group and rises.
    """

    value: bytes | None
    instance_id: int
    index: int


def error_of(note: Note) -> PaxosError | None:
    """The error that a note stands for; None where the command has a result."""
    match note.code:
        case NoteCode.ERROR | NoteCode.KEPT_ERROR:
            return CommandError(note.message)
        case NoteCode.KEPT:
            return None
        case NoteCode.WITHDRAWN:
            return WithdrawnError("the client withdrew the command before it was applied")
        case NoteCode.SESSION_EXPIRED:
            return session_expired()
        case NoteCode.SESSION_UNKNOWN:
            return session_unknown()
        case _:
            return OutcomeUnknownError(
                "the group no longer knows whether this command was applied: its session has "
                "closed the number"
            )


class _Callbacks(threading.local):
    """Of this thread: whether it runs the callbacks of futures."""

    are_run_here = False


_callbacks = _Callbacks()


def run_callbacks_here() -> None:
    """This thread settles futures, so nobody may wait for one in it."""
    _callbacks.are_run_here = True


def _check_may_wait(timeout: float | None) -> None:
    if _callbacks.are_run_here and (timeout is None or timeout > 0):
        raise ConfigurationError(
            "a callback of a future must not wait for another one: add a callback to that, or go "
            "on in another thread"
        )


class CommandFuture(LightFuture[Result]):
    """The outcome of one command.

    `cancel` works until the command is first sent; then the outcome is the group's to decide.

    Attributes:
        deadline_ns: When it fails as unknown, on the client's clock.
        trace: Where the command's span stands; empty for none.
    """

    trace: str = ""

    def __init__(self, deadline_ns: int) -> None:
        """Wait until then."""
        self.deadline_ns = deadline_ns

    def begin(self) -> bool:
        """The command is about to be sent."""
        return self.set_running_or_notify_cancel()

    def _check_may_wait(self, timeout: float | None) -> None:
        _check_may_wait(timeout)

    def deliver(self, start: int, entry: EntryResult, offset: int, count: int) -> None:
        """Settle with the command's own part of the entry."""
        assert count == 1, "a future stands for one command"
        value = entry.results[offset]
        if entry.notes:
            note = entry.notes.get(offset)
            if note is not None:
                error = error_of(note)
                if error is not None:
                    self.set_exception(error)
                else:
                    self.set_result(Result(value, note.instance_id, note.index))
                return
        self.set_result(Result(value, entry.instance_id, entry.index + offset))

    def fail(self, start: int, error: PaxosError, count: int) -> None:
        """Settle without a result."""
        if not self.done():
            self.set_exception(error)


def deliver(
    batch: PendingBatch, entry: EntryResult, between: Callable[[], object] = lambda: None
) -> None:
    """Hand a batch's results to its receivers; quicker where all are futures of one command.

    Args:
        batch: Whose receivers.
        entry: Has the results.
        between: Called now and then, where there are many.
    """
    receivers = [part[0] for part in batch.receivers]
    if entry.notes or set(map(type, receivers)) != {CommandFuture}:
        batch.deliver(entry)
        return
    futures = cast(list[CommandFuture], receivers)
    places = itertools.count(entry.index)
    results = map(Result, entry.results, itertools.repeat(entry.instance_id), places)
    set_results(futures, list(results), between)


class ManyResults(Sequence[Result]):
    """The results of commands that were submitted together, in their order.

    Attributes:
        values: What the state machine returned for each; None also where there is an error.
        errors: By position, of the commands that have no result. A `CommandError` is the group's
            answer like any other; everything else means that the command was not acknowledged.
    """

    __slots__ = ("_is_sorted", "_runs", "errors", "values")

    def __init__(self, count: int) -> None:
        """Expect so many."""
        self.values: list[bytes | None] = [None] * count
        self.errors: dict[int, PaxosError] = {}
        # Runs of positions whose commands stand side by side in the log: (first position, place
        # of its command). Far fewer than commands, and cheaper than an object for each.
        self._runs: list[tuple[int, int, int]] = []
        self._is_sorted = True

    @property
    def acknowledged(self) -> int:
        """How many commands the group has applied, refusals by the machine included."""
        lost = sum(not isinstance(error, CommandError) for error in self.errors.values())
        return len(self.values) - lost

    def __len__(self) -> int:
        """How many commands."""
        return len(self.values)

    def __getitem__(self, position: int) -> Result:  # type: ignore[override]
        """The result at a position.

        Raises:
            PaxosError: The command's error.
            IndexError: No such position.
        """
        if position < 0:
            position += len(self.values)
        if not 0 <= position < len(self.values):
            raise IndexError(position)
        error = self.errors.get(position)
        if error is not None:
            raise error
        if not self._is_sorted:
            # Stable: of two runs that begin at one position the later one holds.
            self._runs.sort(key=itemgetter(0))
            self._is_sorted = True
        run = bisect_right(self._runs, position, key=itemgetter(0)) - 1
        first, instance_id, index = self._runs[run]
        return Result(self.values[position], instance_id, index + position - first)

    def __iter__(self) -> Iterator[Result]:
        """All results, in order; raises where one has an error."""
        return (self[position] for position in range(len(self.values)))

    def add(self, start: int, entry: EntryResult, offset: int, count: int) -> None:
        """Take the results of `count` commands from position `start` on."""
        self.values[start : start + count] = entry.results[offset : offset + count]
        self._runs.append((start, entry.instance_id, entry.index + offset))
        self._is_sorted = False
        if not entry.notes:
            return
        for place in range(offset, offset + count):
            note = entry.notes.get(place)
            if note is None:
                continue
            position = start + place - offset
            error = error_of(note)
            if error is not None:
                self.errors[position] = error
                continue
            self._runs.append((position, note.instance_id, note.index))
            if place + 1 < offset + count:
                following = entry.index + place + 1
                self._runs.append((position + 1, entry.instance_id, following))

    def add_errors(self, start: int, error: PaxosError, count: int) -> None:
        """`count` commands from position `start` on have no result."""
        if isinstance(error, OutcomeUnknownError) and error.number is not None:
            first = error.number
            for offset in range(count):
                self.errors[start + offset] = error.for_number(first + offset)
            return
        self.errors.update((position, error) for position in range(start, start + count))


class ManyFuture(Future[ManyResults]):
    """The outcome of commands that were submitted together; one future for all of them.

    `cancel` works until the first of them is sent.

    Attributes:
        deadline_ns: When what is not known by then fails as unknown, on the client's clock.
        settled: How many outcomes are known; rises while the future is not done.
        trace: Where the commands' span stands; empty for none.
    """

    trace: str = ""

    def __init__(
        self, count: int, deadline_ns: int, on_progress: Callable[[int], None] | None
    ) -> None:
        """Wait for `count` outcomes; `on_progress` hears how many are known."""
        super().__init__()
        self.deadline_ns = deadline_ns
        self._on_progress = on_progress
        self._results = ManyResults(count)
        self._counting = threading.Lock()
        self.settled = 0

    def begin(self) -> bool:
        """The first command is about to be sent."""
        return self.set_running_or_notify_cancel()

    def result(self, timeout: float | None = None) -> ManyResults:
        """As of the base class.

        Raises:
            ConfigurationError: Waited for in a callback of a future.
        """
        if not self.done():
            _check_may_wait(timeout)
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """As of the base class, and `result`."""
        if not self.done():
            _check_may_wait(timeout)
        return super().exception(timeout)

    def deliver(self, start: int, entry: EntryResult, offset: int, count: int) -> None:
        """Take some of the outcomes."""
        self._results.add(start, entry, offset, count)
        self._note_settled(count)

    def fail(self, start: int, error: PaxosError, count: int) -> None:
        """Some of the commands have no result."""
        self._results.add_errors(start, error, count)
        self._note_settled(count)

    def _note_settled(self, count: int) -> None:
        # Parts are settled by the sender's thread and by those that wait: one of them is the last.
        with self._counting:
            self.settled += count
            is_last = self.settled == len(self._results)
        if self._on_progress is not None:
            try:
                self._on_progress(self.settled)
            except Exception:
                # As for done callbacks: what a user's code raises must not end our thread.
                _logger.exception("on_progress of propose_many failed")
        if is_last:
            self.set_result(self._results)
