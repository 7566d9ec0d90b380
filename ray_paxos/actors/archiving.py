"""The checkpointer's archiver thread: keeps the archive up to date, whatever the archive does.

It shares nothing with the role but the member's folder, which it only reads. An archive that is
away, full or refuses costs the member nothing: the round is given up, tried again after a pause
that doubles, and shown in the checkpointer's status until it succeeds.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from ray_paxos.errors import PaxosError
from ray_paxos.storage.archiver import ArchiveProgress, Archiver

ROUND_PAUSE_S = 1.0
"""Between two rounds at least: what is sealed meanwhile goes together."""
LOOK_AGAIN_S = 60.0
"""After so long without being told that something is new it looks all the same."""
RETRY_S = 1.0
RETRY_MAX_S = 60.0
CLOSE_WAIT_S = 5.0
"""A call to a store that does not answer cannot be called off; it is left to end by itself."""

_logger = logging.getLogger(__name__)


class ArchiverThread:
    """Runs an archiver until it is closed."""

    def __init__(self, make: Callable[[], Archiver]) -> None:
        """Start the thread.

        Args:
            make: Makes the archiver, in the thread: it may ask the store something.
        """
        self._make = make
        self._archiver: Archiver | None = None
        self._problem = ""
        self._is_new = threading.Event()
        self._is_new.set()
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ray_paxos-archiver", daemon=True)
        self._thread.start()

    def look(self) -> None:
        """There may be something new to archive; costs the caller nothing."""
        self._is_new.set()

    def close(self) -> None:
        """Stop after the file that is under way, and wait for that, though not for ever."""
        self._is_closing.set()
        self._is_new.set()
        self._thread.join(CLOSE_WAIT_S)

    def describe(self, group: int) -> dict[str, Any]:
        """How far a group's archive is, as plain data."""
        progress = self._progress(group)
        return {
            "archived_through": progress.archived_through,
            "lag": progress.lag,
            "checkpoint": progress.checkpoint,
            "files": progress.files,
            "problem": self._problem,
        }

    def alarms(self, group: int) -> list[str]:
        """What a person should know of a group's archive."""
        found = [f"the archive is behind: {self._problem}"] if self._problem else []
        return found + [f"not archived: {text}" for text in self._progress(group).problems]

    def _progress(self, group: int) -> ArchiveProgress:
        """Nothing yet of a group that its member has just been given."""
        found = self._archiver.progress.get(group) if self._archiver is not None else None
        return found or ArchiveProgress()

    def _run(self) -> None:
        pause_s = RETRY_S
        while not self._is_closing.is_set():
            self._is_new.wait(LOOK_AGAIN_S)
            self._is_new.clear()
            if self._try():
                pause_s = RETRY_S
                self._is_closing.wait(ROUND_PAUSE_S)
            else:
                self._is_new.set()
                self._is_closing.wait(pause_s)
                pause_s = min(2 * pause_s, RETRY_MAX_S)

    def _try(self) -> bool:
        """One round; whether it succeeded."""
        try:
            if self._archiver is None:
                self._archiver = self._make()
            self._archiver.update(self._is_closing.is_set)
        except PaxosError as error:
            if str(error) != self._problem:
                _logger.warning("archive: %s", error)
            self._problem = str(error)
            return False
        else:
            self._problem = ""
            return True
