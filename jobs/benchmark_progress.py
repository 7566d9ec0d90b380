"""How far a benchmark is: a bar on a terminal, elsewhere a line for each part."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmark_run import Bar

INTERVAL_S = 0.2


class TerminalBar:
    """One bar that begins anew with every part; drawn only when it is told something."""

    def __init__(self, progress: Progress) -> None:
        """Show nothing before the first part."""
        self._progress = progress
        self._task = progress.add_task("", total=1.0, text="starting", rate=0.0)
        self._began = self._shown = time.monotonic()

    def begin(self, text: str, seconds: float) -> None:
        """Start the bar again."""
        self._began = self._shown = time.monotonic()
        self._progress.reset(self._task, total=max(seconds, 0.1), text=text, rate=0.0)
        self._progress.refresh()

    def advance(self, operations: int) -> None:
        """Move the bar, unless that was a moment ago."""
        now = time.monotonic()
        if now - self._shown < INTERVAL_S:
            return
        self._shown = now
        gone_s = now - self._began
        self._progress.update(self._task, completed=gone_s, rate=operations / gone_s)
        self._progress.refresh()


class PlainBar:
    """One line for each part, when it begins."""

    def __init__(self, console: Console) -> None:
        """Say nothing yet."""
        self._console = console

    def begin(self, text: str, seconds: float) -> None:
        """Say what begins."""
        self._console.print(f"{text} ({seconds:g} s)", markup=False)

    def advance(self, operations: int) -> None:
        """Nothing."""


@contextmanager
def progress_bar() -> Iterator[Bar]:
    """A bar on stderr, as long as the block runs."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        yield PlainBar(console)
        return
    progress = Progress(
        TextColumn("{task.fields[text]}"),
        BarColumn(),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        TimeElapsedColumn(),
        console=console,
        # The thread that redraws would take time from what is measured.
        auto_refresh=False,
    )
    with progress:
        yield TerminalBar(progress)
