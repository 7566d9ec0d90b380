"""Somebody who looks at a cluster now and then, as a status page does, while it is loaded."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from ray_paxos.errors import PaxosError

if TYPE_CHECKING:
    from ray_paxos import Cluster

WATCH_S = 2.0


class Watcher:
    """Looks in times that are said to it, from a thread of its own."""

    def __init__(self, look: Callable[[], object]) -> None:
        """Look at nothing yet.

        Args:
            look: Looks once; may raise a PaxosError.
        """
        self._look = look
        self._left_s = WATCH_S
        self._failure: PaxosError | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look whenever `WATCH_S` of such times are over, however short each of them is.

        Raises:
            PaxosError: A look failed; at the end, for nobody looked from then on.
        """
        is_over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(is_over,), name="watcher")
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()
        if self._failure is not None:
            raise self._failure

    def _watch(self, is_over: threading.Event) -> None:
        while True:
            began_s = time.monotonic()
            if is_over.wait(self._left_s):
                self._left_s = max(self._left_s - (time.monotonic() - began_s), 0.0)
                return
            self._left_s = WATCH_S
            try:
                self._look()
            except PaxosError as error:
                self._failure = error
                return


@contextmanager
def watcher_of(cluster: Cluster) -> Iterator[Watcher]:
    """Who looks at a cluster from a process of its own, as a status page does."""
    # They bring Ray with them, which wrong options should not wait for.
    import ray

    from ray_paxos.dashboard.target import ClusterTarget
    from ray_paxos.dashboard.watcher import Watcher as WatcherProcess

    address = str(ray.get_runtime_context().gcs_address)
    process = WatcherProcess(partial(ClusterTarget, cluster.name, address))
    try:
        process.hello()
        yield Watcher(process.look)
    finally:
        process.close()
