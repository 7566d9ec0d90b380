"""Hands what one thread reads to another that submits it, in bounded memory."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import closing

from command_input import InputLine
from ray_paxos.errors import InputError


class CommandFeed:
    """Lines that were read and not yet taken; fills itself in a thread of its own.

    While nothing takes, lines pile up to a chunk; then the reader waits. So a slow input is taken
    line by line, and a fast one in large chunks.

    Attributes:
        changed: The one lock, and the condition on which both sides (and others who have news
            for the taking side) wait and notify.
    """

    def __init__(
        self, lines: Generator[InputLine], *, commands_max: int, command_bytes_max: int
    ) -> None:
        """Start to read.

        Args:
            lines: Read by the feed's own thread.
            commands_max: A chunk has at most so many commands,
            command_bytes_max: and this many bytes of commands, but for its last one.
        """
        self.changed = threading.Condition()
        self._lines = lines
        self._commands_max = commands_max
        self._command_bytes_max = command_bytes_max
        self._pending: list[InputLine] = []
        self._pending_bytes = 0
        self._is_finished = False
        self._is_closed = False
        self._came_to_an_end = False
        self._input_error: InputError | None = None
        # A daemon: one that waits for standard input must not hold up the end of the process.
        threading.Thread(target=self._fill, name="read-commands", daemon=True).start()

    def _fill(self) -> None:
        try:
            # Closed by this thread, so that nobody closes a file under a read.
            with closing(self._lines) as lines:
                for line in lines:
                    if not self._add(line):
                        break
            self._came_to_an_end = True
        except InputError as error:
            self._input_error = error
            self._came_to_an_end = True
        finally:
            with self.changed:
                self._is_finished = True
                self.changed.notify_all()

    def _add(self, line: InputLine) -> bool:
        """Wait for room; False where nothing more will be taken."""
        with self.changed:
            while self._is_full() and not self._is_closed:
                self.changed.wait()
            self._pending.append(line)
            self._pending_bytes += len(line.command)
            if len(self._pending) == 1:
                self.changed.notify_all()
            return not self._is_closed

    def _is_full(self) -> bool:
        return (
            len(self._pending) >= self._commands_max
            or self._pending_bytes >= self._command_bytes_max
        )

    @property
    def has_lines(self) -> bool:
        """Whether `take` would return something now; call it with the lock held."""
        return bool(self._pending)

    @property
    def is_exhausted(self) -> bool:
        """Whether nothing is left and nothing will come; call it with the lock held."""
        return self._is_finished and not self._pending

    def take(self) -> list[InputLine]:
        """All that is pending; call it with the lock held."""
        lines, self._pending, self._pending_bytes = self._pending, [], 0
        self.changed.notify_all()
        return lines

    def notify(self, _event: object = None) -> None:
        """Wake who waits on `changed`."""
        with self.changed:
            self.changed.notify_all()

    def close(self) -> InputError | None:
        """Let the reader go.

        Returns:
            What ended the reading early; None where it came to the end or was stopped by this.

        Raises:
            RuntimeError: The reader died of something else, whose traceback it has printed.
        """
        with self.changed:
            self._is_closed = True
            self.changed.notify_all()
            if self._is_finished and not self._came_to_an_end:
                raise RuntimeError("the thread that reads the input died")
            return self._input_error
