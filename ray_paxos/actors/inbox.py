"""How an actor's background threads hand something to its main thread.

They put it in a queue and call the actor's own `wake`, which is a call like any other: whatever
the main thread owns is touched by calls only, one after the other.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Inbox(Generic[Item]):
    """Items on their way to the main thread; one wake-up call for many of them."""

    def __init__(self, wake: Callable[[], object]) -> None:
        """Wake the main thread by `wake`, which makes a call to the actor and does not wait."""
        self._wake = wake
        self._items: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._is_woken = False

    def post(self, item: Item) -> None:
        """Hand an item over; from any thread."""
        self._items.put(item)
        # The flag is cleared before the queue is emptied: a race makes one call too many, never
        # one too few.
        if not self._is_woken:
            self._is_woken = True
            self._wake()

    def drain(self) -> list[Item]:
        """Everything that was posted; on the main thread."""
        self._is_woken = False
        items: list[Item] = []
        while True:
            try:
                items.append(self._items.get_nowait())
            except queue.Empty:
                return items
