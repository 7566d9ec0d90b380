"""What stands in for a cluster in a watcher's process; imports little, since that takes time."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import cast

from ray_paxos.dashboard.log_tail import LogLine, LogTail
from ray_paxos.dashboard.target import Hello
from ray_paxos.errors import ClusterNotFoundError
from ray_paxos.observability.cluster_view import ClusterView
from tests.unit.dashboard_views import view_of


class FakeTarget:
    """Counts its lives in a file; each group's number says what reading its log does.

    A look hangs while there is a file `hangs`.
    """

    def __init__(self, folder: Path) -> None:
        self._lives = folder / "lives"
        self._hangs = folder / "hangs"
        with self._lives.open("a") as file:
            file.write(f"{os.getpid()}\n")

    def hello(self) -> Hello:
        return Hello("demo", f"token {len(self._lives.read_text().splitlines())}")

    def look(self) -> ClusterView:
        if self._hangs.exists():
            time.sleep(60)
        return view_of()

    def read_log(self, group: int, members: tuple[str, ...], count: int) -> LogTail:
        match group:
            case 1:
                os._exit(1)
            case 2:
                time.sleep(60)
            case 3:
                raise ClusterNotFoundError("no such cluster")
            case 4:
                raise ValueError("a bug")
            case 5:
                return cast(LogTail, lambda: None)
            case 6:
                time.sleep(1)
        return tail_of(group, *members, str(count))


def hang(started: Path) -> FakeTarget:
    """A target that is not made in time."""
    started.write_text(f"{os.getpid()}\n")
    time.sleep(60)
    raise AssertionError


def fail(error: Exception) -> FakeTarget:
    """A target that cannot be made."""
    raise error


def tail_of(group: int, *texts: str) -> LogTail:
    """The end of a log with these lines."""
    lines = tuple(
        LogLine(number, 0, "command", "1.1.1", "kv", "1.0", number, text)
        for number, text in enumerate(texts, 1)
    )
    return LogTail(group, "m1", len(texts), 1, lines, 0)
