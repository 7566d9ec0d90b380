"""What a job says while it runs: always on stderr, so that stdout stays for data.

On a terminal there is a progress bar; elsewhere, as in the log of `ray job submit`, a plain line
now and then.
"""

from __future__ import annotations

import errno
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

PLAIN_INTERVAL_S = 5.0


class _Console(Console):
    """Lets a broken pipe be an exception, where rich would exit by itself."""

    def on_broken_pipe(self) -> None:
        """Called by rich where it catches the exception."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


class JobConsole:
    """Says things to whoever started the job."""

    def __init__(self) -> None:
        """Write to stderr as it is now."""
        self._console = _Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """One plain message."""
        self._console.print(text, markup=False)

    def warn(self, text: str) -> None:
        """Something doubtful."""
        self._console.print(f"warning: {text}", markup=False, style="yellow")

    def error(self, text: str) -> None:
        """What went wrong."""
        self._console.print(f"error: {text}", markup=False, style="bold red")

    @contextmanager
    def progress(self, byte_count: int | None) -> Iterator[CommandProgress]:
        """Show how far a submission is.

        Args:
            byte_count: Of the whole input; None where it is not known.
        """
        if not self._console.is_terminal:
            yield PlainProgress(self, byte_count)
            return
        bar = Progress(
            TextColumn("submitting"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[commands]:,} commands, {task.fields[rate]:,.0f}/s"),
            TimeElapsedColumn(),
            console=self._console,
        )
        with bar:
            yield BarProgress(bar, byte_count)


class CommandProgress(ABC):
    """Told how far a submission is; keeps the rate."""

    def __init__(self, byte_count: int | None) -> None:
        """Start the clock."""
        self._byte_count = byte_count
        self._started = time.monotonic()

    def rate(self, commands: int) -> float:
        """Commands per second since the start."""
        return commands / max(time.monotonic() - self._started, 1e-9)

    @abstractmethod
    def update(self, commands: int, byte_count: int) -> None:
        """So many commands are settled; they took so many bytes of the input."""


class BarProgress(CommandProgress):
    """A bar on a terminal."""

    def __init__(self, bar: Progress, byte_count: int | None) -> None:
        """Add the one task to a bar that is shown."""
        super().__init__(byte_count)
        self._bar = bar
        self._task = bar.add_task("", total=byte_count, commands=0, rate=0.0)

    def update(self, commands: int, byte_count: int) -> None:
        """Move the bar."""
        self._bar.update(
            self._task, completed=byte_count, commands=commands, rate=self.rate(commands)
        )


class PlainProgress(CommandProgress):
    """A line every few seconds."""

    def __init__(self, console: JobConsole, byte_count: int | None) -> None:
        """Say nothing yet."""
        super().__init__(byte_count)
        self._console = console
        self._said = self._started

    def update(self, commands: int, byte_count: int) -> None:
        """Say it, if the last time is long enough ago."""
        now = time.monotonic()
        if now - self._said < PLAIN_INTERVAL_S:
            return
        self._said = now
        share = f" ({byte_count / self._byte_count:.0%})" if self._byte_count else ""
        self._console.say(f"{commands:,} commands{share}, {self.rate(commands):,.0f}/s")
