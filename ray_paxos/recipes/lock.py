"""Locks, locks for readers and a writer, semaphores: permits that are held by leases.

```python
lock = cluster.lock("trainer", ttl_s=10)
with lock as grant:                       # first come, first served; renewed by itself
    store.write(data, token=grant.token)  # a store that refuses lower tokens is safe in any case
    grant.check()                         # LeaseLostError once it is not known to be held any more

with cluster.rw_lock("table").reading(): ...
with cluster.semaphore("gpus", capacity=4).acquire(2): ...
async with lock as grant: ...
```

What is promised (`machines.permits` has the rules, `recipes.leases` those of the holder's clock):

- At no place in the group's log more is held than there is. Of time that means: whoever goes by
  `is_held` or `check`, and does nothing for longer than `remaining_s` says, is alone.
- A holder that stands still (a garbage collection, a paused container, a cut network) loses what it
  holds after `ttl_s` and cannot know it while it stands. So what it writes afterwards must be
  refused by whoever it writes to: by the token, which rises with every grant.
- Who waits holds a place in line, in the order in which they asked; a process that dies in line
  costs those behind it one `ttl_s` when its turn comes.
- It is not reentrant: a second `acquire` of the same process waits for the first.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from ray_paxos.errors import WaitTimeoutError
from ray_paxos.group_clients import GroupClients
from ray_paxos.machines.permits import (
    CAPACITY_MAX,
)
from ray_paxos.recipes.permit_recipe import Grant, PermitRecipe
from ray_paxos.recipes.recipe import (
    hiding_nothing,
)


class _Held:
    """The grants of `with` statements that are open, by the thread or task that has each."""

    def __init__(self) -> None:
        self._grants: dict[tuple[int, int], list[Grant]] = {}

    def push(self, grant: Grant, task: int = 0) -> Grant:
        self._grants.setdefault((threading.get_ident(), task), []).append(grant)
        return grant

    def pop(self, task: int = 0) -> Grant:
        key = (threading.get_ident(), task)
        grants = self._grants[key]
        grant = grants.pop()
        if not grants:
            del self._grants[key]
        return grant


class Lock(PermitRecipe):
    """A mutual exclusion between processes. Made by `Cluster.lock`."""

    prefix = "lock"

    def __init__(self, name: str, group: int, clients: GroupClients, *, ttl_s: float) -> None:
        """As of `PermitRecipe`, of one unit."""
        super().__init__(name, group, clients, ttl_s=ttl_s, capacity=1)
        self._held = _Held()

    def _options(self) -> dict[str, Any]:
        return {"ttl_s": self.ttl_s}

    def acquire(
        self,
        *,
        timeout_s: float | None = None,
        on_lost: Callable[[], object] | None = None,
        label: str = "",
    ) -> Grant:
        """Wait for the lock, behind who asked before.

        Args:
            timeout_s: How long to wait; None for ever.
            on_lost: Called once, from another thread, if the lease is lost before its release.
            label: What a person calls the holder; by default host and process.

        Returns:
            The grant.

        Raises:
            WaitTimeoutError: It could not be had in time; nothing is held.
            OverloadedError: Too many wait; nothing is held.
            RequestError: As `Client.propose`; what may be held is given back, or ends with its
                lease.
            ConfigurationError: An argument means nothing; nothing was sent.
        """
        return _had(self._run(self._acquire(1, timeout_s, on_lost, label)), self)

    async def acquire_async(
        self,
        *,
        timeout_s: float | None = None,
        on_lost: Callable[[], object] | None = None,
        label: str = "",
    ) -> Grant:
        """As `acquire`, in a coroutine; cancelled, it leaves the line."""
        return _had(await self._run_async(self._acquire(1, timeout_s, on_lost, label)), self)

    def __enter__(self) -> Grant:
        return self._held.push(self.acquire())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with hiding_nothing(error):
            self._held.pop().release()

    async def __aenter__(self) -> Grant:
        return self._held.push(await self.acquire_async(), id(asyncio.current_task()))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with hiding_nothing(error):
            await self._held.pop(id(asyncio.current_task())).release_async()


class Semaphore(PermitRecipe):
    """So many permits, of which each holder has some. Made by `Cluster.semaphore`."""

    prefix = "semaphore"

    def _options(self) -> dict[str, Any]:
        return {"ttl_s": self.ttl_s, "capacity": self._capacity}

    @property
    def capacity(self) -> int:
        """How many permits there are."""
        return self._capacity

    def acquire(
        self,
        units: int = 1,
        *,
        timeout_s: float | None = None,
        on_lost: Callable[[], object] | None = None,
        label: str = "",
    ) -> Grant:
        """Wait for permits, behind who asked before, however few those behind want.

        Args:
            units: How many.
            timeout_s: As of `Lock.acquire`.
            on_lost: As of `Lock.acquire`.
            label: As of `Lock.acquire`.

        Returns:
            The grant of all of them: use it in a `with` statement, or release it.

        Raises:
            CommandError: Others use it with another capacity just now.
            As `Lock.acquire`.
        """
        return _had(self._run(self._acquire(units, timeout_s, on_lost, label)), self)

    async def acquire_async(
        self,
        units: int = 1,
        *,
        timeout_s: float | None = None,
        on_lost: Callable[[], object] | None = None,
        label: str = "",
    ) -> Grant:
        """As `acquire`, in a coroutine; cancelled, it leaves the line."""
        return _had(await self._run_async(self._acquire(units, timeout_s, on_lost, label)), self)


class ReadWriteLock(PermitRecipe):
    """Many readers, or one writer. Made by `Cluster.rw_lock`.

    In order: readers that come after a waiting writer wait behind it, so that it gets its turn.
    """

    prefix = "rw_lock"

    def __init__(self, name: str, group: int, clients: GroupClients, *, ttl_s: float) -> None:
        """As of `PermitRecipe`: a reader holds one unit, a writer all."""
        super().__init__(name, group, clients, ttl_s=ttl_s, capacity=CAPACITY_MAX)

    def _options(self) -> dict[str, Any]:
        return {"ttl_s": self.ttl_s}

    def reading(
        self,
        *,
        timeout_s: float | None = None,
        on_lost: Callable[[], object] | None = None,
        label: str = "",
    ) -> Grant:
        """Wait until nobody writes; others may read meanwhile. As `Lock.acquire`."""
        return _had(self._run(self._acquire(1, timeout_s, on_lost, label)), self)

    async def reading_async(
        self,
        *,
        timeout_s: float | None = None,
        on_lost: Callable[[], object] | None = None,
        label: str = "",
    ) -> Grant:
        """As `reading`, in a coroutine."""
        return _had(await self._run_async(self._acquire(1, timeout_s, on_lost, label)), self)

    def writing(
        self,
        *,
        timeout_s: float | None = None,
        on_lost: Callable[[], object] | None = None,
        label: str = "",
    ) -> Grant:
        """Wait until nobody reads or writes, and hold it alone. As `Lock.acquire`."""
        units = self._capacity
        return _had(self._run(self._acquire(units, timeout_s, on_lost, label)), self)

    async def writing_async(
        self,
        *,
        timeout_s: float | None = None,
        on_lost: Callable[[], object] | None = None,
        label: str = "",
    ) -> Grant:
        """As `writing`, in a coroutine."""
        units = self._capacity
        return _had(await self._run_async(self._acquire(units, timeout_s, on_lost, label)), self)


def _had(grant: Grant | None, recipe: PermitRecipe) -> Grant:
    if grant is None:
        raise WaitTimeoutError(f"{recipe!r} could not be had in time; nothing is held")
    return grant
