"""The actors that a process has looked up, by their names, for all clients of one cluster.

Rules:

1. A look-up waits for Ray's GCS for as long as that is away, and cannot be given up. So it has a
   thread of its own, and whoever needs the actor waits for it no longer than he says.
2. What one client has found all others know: as long as the GCS is away nobody needs it for an
   actor that anybody has called.
3. A handle is forgotten by whoever saw it fail, and only that one: another may be newer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError

from ray.exceptions import RayError

from ray_paxos.actors.found_actor import FoundActor

THREADS = 2
"""One may look at who else is there (`Roster.look`), which waits for those that it finds."""


class NotFoundYetError(RayError):
    """Ray has not said in time where the actor is."""


class FoundActors:
    """Used by any thread."""

    def __init__(self) -> None:
        """Know none; threads are started with the first look-up."""
        self._guard = threading.Lock()
        self._found: dict[str, FoundActor] = {}
        self._pending: dict[str, Future[FoundActor]] = {}
        self._threads: ThreadPoolExecutor | None = None

    def knows(self, name: str) -> bool:
        """Whether `find` has an answer at once."""
        return name in self._found

    def find(self, name: str, within_s: float) -> FoundActor:
        """The actor of that name; looked up where nobody has found it yet.

        Args:
            name: Of the actor.
            within_s: How long to wait for Ray.

        Raises:
            ValueError: No actor of that name lives.
            NotFoundYetError: Ray did not answer in time; the look-up goes on.
            NotConnectedError: This process is not connected to Ray.
        """
        found = self._found.get(name)
        if found is not None:
            return found
        with self._guard:
            pending = self._pending.get(name)
            if pending is None:
                pending = self._pending[name] = self._executor().submit(self._look_up_once, name)
        try:
            return pending.result(max(within_s, 0.0))
        except FutureTimeoutError:
            raise NotFoundYetError(f"Ray has not found the actor {name} in time") from None

    def look_up(self, name: str) -> FoundActor:
        """Ask Ray anew, in this thread.

        Raises:
            ValueError: No actor of that name lives.
            NotConnectedError: This process is not connected to Ray.
        """
        found = self._found[name] = FoundActor(name)
        return found

    def forget(self, name: str, actor: FoundActor) -> None:
        """That handle has failed for good: the next one who needs the actor looks it up."""
        with self._guard:
            if self._found.get(name) is actor:
                del self._found[name]

    def run(self, work: Callable[[], object]) -> Future[object]:
        """Have a thread of the look-ups do something that waits for Ray."""
        with self._guard:
            return self._executor().submit(work)

    def _look_up_once(self, name: str) -> FoundActor:
        try:
            return self.look_up(name)
        finally:
            with self._guard:
                del self._pending[name]

    def _executor(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="ray_paxos-found")
        return self._threads
