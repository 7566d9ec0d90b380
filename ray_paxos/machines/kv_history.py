"""The latest changes of a key-value machine, for those who watch keys.

It is no part of the state: each member keeps its own, from the first `Record` on that it applied in
this life, in bounded memory. So who watches goes on at any member that remembers what it has not
seen, and elsewhere hears that something is missing.

A change is found by its *position*, the instance and its place among the instance's changes, which
is the same on all members. Watches of keys below one head, the part of a key up to its first `/`,
wait for a topic of their own, so that others' changes cost them nothing.
"""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

from ray_paxos.machines.kv import Change, Changed, Changes

CHANGES_MAX = 10_000
BYTES_MAX = 8_000_000
"""Of keys and values; at least the latest change is kept."""
PAGE_CHANGES_MAX = 1_000
PAGE_BYTES_MAX = 500_000
"""A page ends with the change that reaches this."""
SEEN_MAX = 10_000
"""Watches of which it is remembered how far they have looked in vain."""
ANY = "*"
"""The topic of watches of more than one head."""
SPACE = "\x1f"
"""Parts a space's name from its keys (`core.spaces`)."""

Position: TypeAlias = tuple[int, int]


class History:
    """The changes since it began. Not for several threads.

    Invariants: `_changes` are ascending by position and without a gap after `floor`.

    Attributes:
        floor: Nothing after this position is missing.
    """

    def __init__(self, floor: Position) -> None:
        """Have none, after that position."""
        self.floor = floor
        self._changes: deque[Change] = deque()
        self._bytes = 0
        # How many were dropped: the number of the first one.
        self._dropped = 0
        self._last = floor
        self._seen: dict[tuple[str, Position], int] = {}

    def add(self, instance_id: int, key: str, value: bytes | None, version: int) -> None:
        """Note a change."""
        last_instance, offset = self._last
        self._last = (instance_id, offset + 1 if instance_id == last_instance else 1)
        self._changes.append(Change(*self._last, key, value, version))
        self._bytes += len(key) + len(value or b"")
        while len(self._changes) > CHANGES_MAX or (
            self._bytes > BYTES_MAX and len(self._changes) > 1
        ):
            dropped = self._changes.popleft()
            self._bytes -= len(dropped.key) + len(dropped.value or b"")
            self._dropped += 1
            self.floor = (dropped.instance_id, dropped.offset)

    def changes(self, asked: Changes) -> Changed | None:
        """The next changes after a position; None for none, where none is missing."""
        after = (asked.instance_id, asked.offset)
        if after < self.floor:
            return Changed((), *self._last, is_compacted=True)
        place = (asked.prefix, after)
        start = max(self._seen.pop(place, 0), self._dropped, self._first_after(after))
        found: list[Change] = []
        byte_count = 0
        number = start
        for number in range(start, self._dropped + len(self._changes)):
            change = self._changes[number - self._dropped]
            if not change.key.startswith(asked.prefix):
                continue
            found.append(change)
            byte_count += len(change.key) + len(change.value or b"")
            if len(found) == PAGE_CHANGES_MAX or byte_count >= PAGE_BYTES_MAX:
                break
        if found:
            return Changed(tuple(found), found[-1].instance_id, found[-1].offset)
        if len(self._seen) >= SEEN_MAX:
            self._seen.clear()
        self._seen[place] = self._dropped + len(self._changes)
        return None

    def _first_after(self, position: Position) -> int:
        """Number of the first change after a position: by bisection."""
        low, high = 0, len(self._changes)
        while low < high:
            middle = (low + high) // 2
            change = self._changes[middle]
            if (change.instance_id, change.offset) <= position:
                low = middle + 1
            else:
                high = middle
        return self._dropped + low


def topic_of_key(key: str) -> str:
    """The topic under which a change of a key is told to watches of its head."""
    return _head(key) or key


def topic_of_prefix(prefix: str) -> str:
    """The topic that a watch of a prefix waits for."""
    return _head(prefix) or ANY


def _head(text: str) -> str:
    end = text.find("/", text.find(SPACE) + 1)
    return text[: end + 1]
