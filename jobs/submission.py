"""Submits a stream of commands with much in flight, in bounded memory.

```
reader thread                          calling thread
  file ─ line ─ command ─▶ CommandFeed ──take all──▶ propose_many_async ─▶ chunks in flight (2)
                                                                             │ oldest first
                                             counts, first failure ◀─────────┘
```

The client keeps the order between chunks. After the first command that is not acknowledged
nothing more is submitted, since later commands may build on it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from command_feed import CommandFeed
from command_input import InputLine
from ray_paxos.errors import InputError, PaxosError

if TYPE_CHECKING:
    from ray_paxos import ManyResults

CHUNKS_IN_FLIGHT = 2
CHUNK_COMMANDS_MAX = 10_000
CHUNK_BYTES_MAX = 4_000_000
PROGRESS_INTERVAL_S = 0.2


class SubmittingClient(Protocol):
    """What this module needs of a `ray_paxos.Client`."""

    def propose_many_async(
        self,
        commands: Sequence[bytes],
        machine: str,
        *,
        timeout_s: float,
        on_progress: Callable[[int], None] | None,
    ) -> Future[ManyResults]:
        """Submit commands together; FIFO with what was submitted before."""


@dataclass
class Submitted:
    """What became of the commands.

    Attributes:
        submitted: Handed to the client.
        acknowledged: Applied, with a result.
        elapsed_s: From the first one submitted to the last one settled.
        failure: The first command that was not acknowledged, and why; None where there is none.
        input_error: What ended the reading early; None where it came to the end.
    """

    submitted: int = 0
    acknowledged: int = 0
    elapsed_s: float = 0.0
    failure: str | None = None
    input_error: InputError | None = None

    @property
    def failed(self) -> int:
        """Submitted, but not acknowledged."""
        return self.submitted - self.acknowledged


class _Chunk:
    """Commands that were submitted together."""

    def __init__(self, lines: list[InputLine]) -> None:
        self.numbers = [line.number for line in lines]
        self.byte_count = sum(line.byte_count for line in lines)
        self.settled = 0
        self.future: Future[ManyResults]

    def note_settled(self, settled: int) -> None:
        """So many have an outcome; called by a thread of the client."""
        self.settled = settled

    @property
    def settled_bytes(self) -> int:
        """Bytes of the input that the settled commands took, about."""
        return self.byte_count * self.settled // len(self.numbers)


class Submission:
    """One run: takes lines from a feed to a client, and counts what becomes of them."""

    def __init__(
        self,
        client: SubmittingClient,
        *,
        machine: str,
        timeout_s: float,
        on_progress: Callable[[int, int], None],
    ) -> None:
        """Prepare to submit.

        Args:
            client: Where to.
            machine: Name of the state machine that all commands are for.
            timeout_s: How long a command may stay without an outcome.
            on_progress: Called now and then, by the calling thread, with the number of commands
                settled and the bytes of input that they took.
        """
        self._client = client
        self._machine = machine
        self._timeout_s = timeout_s
        self._on_progress = on_progress
        self._in_flight: deque[_Chunk] = deque()
        self._settled_bytes = 0
        self._outcome = Submitted()

    def run(self, lines: Generator[InputLine]) -> Submitted:
        """Submit all lines, or all up to a bad line or to the first failure.

        Returns:
            The counts, once everything that was submitted is settled.
        """
        feed = CommandFeed(
            lines, commands_max=CHUNK_COMMANDS_MAX, command_bytes_max=CHUNK_BYTES_MAX
        )
        started: float | None = None
        while not self._is_over(feed):
            with feed.changed:
                feed.changed.wait_for(lambda: self._has_news(feed), PROGRESS_INTERVAL_S)
                taken = feed.take() if self._may_submit(feed) else []
            if taken:
                started = started if started is not None else time.monotonic()
                self._submit(taken, feed)
            self._settle()
            self._report()
        self._outcome.elapsed_s = time.monotonic() - started if started is not None else 0.0
        self._outcome.input_error = feed.close()
        return self._outcome

    def _may_submit(self, feed: CommandFeed) -> bool:
        has_room = len(self._in_flight) < CHUNKS_IN_FLIGHT and self._outcome.failure is None
        return has_room and feed.has_lines

    def _has_news(self, feed: CommandFeed) -> bool:
        is_settled = bool(self._in_flight) and self._in_flight[0].future.done()
        return is_settled or self._may_submit(feed) or self._is_over(feed)

    def _is_over(self, feed: CommandFeed) -> bool:
        with feed.changed:
            is_last = feed.is_exhausted or self._outcome.failure is not None
        return is_last and not self._in_flight

    def _submit(self, lines: list[InputLine], feed: CommandFeed) -> None:
        chunk = _Chunk(lines)
        try:
            chunk.future = self._client.propose_many_async(
                [line.command for line in lines],
                self._machine,
                timeout_s=self._timeout_s,
                on_progress=chunk.note_settled,
            )
        except PaxosError as error:
            self._fail(chunk.numbers[0], error)
            return
        chunk.future.add_done_callback(feed.notify)
        self._in_flight.append(chunk)
        self._outcome.submitted += len(lines)

    def _settle(self) -> None:
        """Count what the oldest chunks brought."""
        while self._in_flight and self._in_flight[0].future.done():
            chunk = self._in_flight.popleft()
            self._settled_bytes += chunk.byte_count
            try:
                results = chunk.future.result()
            except PaxosError as error:
                self._fail(chunk.numbers[0], error)
                continue
            self._outcome.acknowledged += len(results) - len(results.errors)
            if results.errors:
                position = min(results.errors)
                self._fail(chunk.numbers[position], results.errors[position])

    def _fail(self, line_number: int, error: PaxosError) -> None:
        if self._outcome.failure is None:
            self._outcome.failure = f"the command of line {line_number:,}: {error}"

    def _report(self) -> None:
        settled = self._outcome.submitted + sum(
            chunk.settled - len(chunk.numbers) for chunk in self._in_flight
        )
        settled_bytes = self._settled_bytes + sum(chunk.settled_bytes for chunk in self._in_flight)
        self._on_progress(settled, settled_bytes)
