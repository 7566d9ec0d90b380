"""Opens a role's folder in a thread, again and again until it works.

The constructor of an actor may neither raise nor touch the disk: Ray would hold the actor for dead
for ever, or restart it in a tight loop. So opening is a step of its own. It is tried again after a
pause that doubles, for whatever may pass: another process still holds the folder (the actor's own
former life, most often), the disk is full or read-only, the member is not activated yet. What
cannot pass, damage and a foreign folder, stops the role; it says why for as long as it is asked.

The thread hands the opened role over once, through a queue, and shares nothing else with the
actor's main thread but its state, which is replaced as a whole.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from ray_paxos.actors.answers import RolePhase, RoleState
from ray_paxos.errors import DamageError, ForeignFolderError, PaxosError, StorageError
from ray_paxos.storage.opening import OpenedRole

PAUSE_S = 0.05
PAUSE_MAX_S = 2.0

_logger = logging.getLogger(__name__)


class Opening:
    """The way of one role from `opening` to opened, or to `stopped`."""

    def __init__(self, open_role: Callable[[], OpenedRole], on_opened: Callable[[], None]) -> None:
        """Start the thread.

        Args:
            open_role: Opens the role's folder; raises a PaxosError where it cannot.
            on_opened: Called from the thread once the role waits to be taken.
        """
        self._open_role = open_role
        self._on_opened = on_opened
        self._opened: queue.SimpleQueue[OpenedRole] = queue.SimpleQueue()
        self._is_over = threading.Event()
        self._is_cancelled = threading.Event()
        self.state = RoleState(RolePhase.OPENING)
        self._thread = threading.Thread(target=self._run, name="ray_paxos-opening", daemon=True)
        self._thread.start()

    def take(self) -> OpenedRole | None:
        """The opened role, once; None before and after."""
        try:
            return self._opened.get_nowait()
        except queue.Empty:
            return None

    def wait(self, timeout_s: float) -> bool:
        """Wait until opening has ended, well or badly; False where the time ran out."""
        return self._is_over.wait(timeout_s)

    def cancel(self) -> OpenedRole | None:
        """Try no more; what was opened and not taken is returned, to be closed."""
        self._is_cancelled.set()
        self._thread.join()
        return self.take()

    def _run(self) -> None:
        try:
            self._try_until_open()
        finally:
            # Also where a bug ended it: nobody waits for ever, and everybody is told.
            if self.state.phase is RolePhase.OPENING:
                reason = f"opening ended early; last error: {self.state.reason or 'see the log'}"
                self.state = RoleState(RolePhase.STOPPED, reason, self.state.error)
            self._is_over.set()

    def _try_until_open(self) -> None:
        pause_s = PAUSE_S
        while not self._is_cancelled.is_set():
            try:
                opened = self._open_role()
            except (DamageError, ForeignFolderError) as error:
                self._note(RolePhase.STOPPED, error)
                return
            except (StorageError, OSError) as error:
                self._note(RolePhase.OPENING, error)
            except PaxosError as error:
                self._note(RolePhase.STOPPED, error)
                return
            else:
                self._opened.put(opened)
                self.state = RoleState(RolePhase.SERVING)
                self._on_opened()
                return
            self._is_cancelled.wait(pause_s)
            pause_s = min(2 * pause_s, PAUSE_MAX_S)

    def _note(self, phase: RolePhase, error: PaxosError | OSError) -> None:
        if self.state.reason != str(error):
            _logger.warning("%s: %s", phase.value, error)
        self.state = RoleState(phase, str(error), type(error).__name__)
