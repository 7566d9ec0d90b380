"""Reads the ends of logs, each once for all who ask, and no more of them than a few at a time.

```
 end_of(group, count) ─▶ waiting ─▶ read in a thread ─▶ kept for one interval ─▶ its last `count`
        └ too many ─▶ BusyError   └ all who asked went away ─▶ cancelled
```

Rules:

1. One reading for each group, of as many instances as anybody may ask for; each who asks is given
   the last of them.
2. At most `TAILS_MAX` are kept, waiting or under way. What is done makes room for what is new; who
   comes while all others are not done is refused.
3. A reading that has not begun ends with the last who waits for it. One that has begun goes on,
   since its thread cannot be ended, and counts until it is over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ray_paxos.dashboard.documents import Encoded, encode
from ray_paxos.dashboard.log_tail import COUNT_MAX, LogTail
from ray_paxos.errors import ClusterError

if TYPE_CHECKING:
    from ray_paxos.observability.cluster_view import GroupView

TAILS_MAX = 16
AT_ONCE = 2

ReadLog = Callable[[int, tuple[str, ...], int], LogTail]
"""Of a group, from the first of these members that answers, so many instances; blocks."""


class BusyError(ClusterError):
    """Too many logs are being read now."""


@dataclass(slots=True, eq=False)
class _Tail:
    """The end of one group's log, while it is new enough for others.

    Attributes:
        until_s: When it is too old.
        task: Reads it.
        has_begun: Whether a thread reads.
        askers: How many wait for it.
        encoded: What was sent last, and for which count.
    """

    until_s: float
    task: asyncio.Task[LogTail]
    has_begun: bool = False
    askers: int = 0
    encoded: tuple[int, Encoded] | None = None


class Tails:
    """The ends of the logs of one cluster; lives in one event loop."""

    def __init__(self, read_log: ReadLog, interval_s: float) -> None:
        """Read nothing yet.

        Args:
            read_log: Reads the end of a log; called in threads.
            interval_s: So long what was read is new enough.
        """
        self._read_log = read_log
        self._interval_s = interval_s
        self._tails: dict[int, _Tail] = {}
        self._reading = asyncio.Semaphore(AT_ONCE)

    async def end_of(self, group: GroupView, count: int) -> Encoded:
        """The last instances of a group's log.

        Args:
            group: As it was seen last.
            count: How many instances.

        Raises:
            BusyError: Too many others are being read.
            PaxosError: It cannot be read.
        """
        tail = self._tail(group)
        tail.askers += 1
        try:
            # Whoever goes away leaves the task to the others.
            found = await asyncio.shield(tail.task)
        finally:
            tail.askers -= 1
            if not tail.askers and not tail.has_begun:
                tail.task.cancel()
                if self._tails.get(group.group) is tail:
                    del self._tails[group.group]
        if tail.encoded is None or tail.encoded[0] != count:
            tail.encoded = count, encode(found.last(count).to_dict())
        return tail.encoded[1]

    def _tail(self, group: GroupView) -> _Tail:
        now_s = time.monotonic()
        for number, old in list(self._tails.items()):
            if old.task.done() and old.until_s <= now_s:
                del self._tails[number]
        tail = self._tails.get(group.group)
        if tail is None:
            self._make_room()
            task = asyncio.create_task(self._read(group))
            tail = self._tails[group.group] = _Tail(now_s + self._interval_s, task)
        return tail

    def _make_room(self) -> None:
        if len(self._tails) < TAILS_MAX:
            return
        done = next((number for number, tail in self._tails.items() if tail.task.done()), None)
        if done is None:
            raise BusyError(f"{TAILS_MAX} other logs are being read now: ask again")
        del self._tails[done]

    async def _read(self, group: GroupView) -> LogTail:
        # A learner that told nothing at the last look would be waited for in vain.
        applied = {name: p.applied for name, p in group.positions.items() if p.is_up}
        told = {name: through for name, through in applied.items() if through is not None}
        furthest = tuple(sorted(told, key=lambda name: told[name], reverse=True))
        async with self._reading:
            self._tails[group.group].has_begun = True
            return await asyncio.to_thread(self._read_log, group.group, furthest, COUNT_MAX)
