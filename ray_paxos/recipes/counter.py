"""Counters, and ids that are given once.

```python
hits = cluster.counter("hits")
hits.add(3)                                # what it is at now
hits.compare_and_set(3, 10)                # True: it was at 3, and nobody came in between
hits.wait_until_at_least(100, timeout_s=60)

ids = cluster.id_allocator("orders", block_size=1_000)
ids.next()                                 # from a block that is fetched at once
ids.take(10)                               # range(1001, 1011)
```

What is promised (`machines.counters` has the rules):

- Every change is one command, applied at most once; `OutcomeUnknownError` means that it may have
  been. A read of `get` sees all that anybody was acknowledged before it began.
- An id is given once: to one caller, of one process, for ever. Ids have gaps: what a process had
  fetched and not given when it ended nobody gets, nor what was taken by a call that failed.
- `next` gives ids of this process's own blocks: those of two processes are in no order of time, and
  those of two threads of one process in hardly any. A pickled handle, and a process that is forked,
  fetch blocks of their own.
- A counter and an id allocator of one name are two things.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from typing import Any, ClassVar

from ray_paxos.actors.outcomes import Result
from ray_paxos.errors import NotYetError, WaitTimeoutError
from ray_paxos.group_clients import GroupClients
from ray_paxos.machines import counters
from ray_paxos.machines.counters import COUNT_MAX, VALUE_MAX, VALUE_MIN, Counted, Taken
from ray_paxos.recipes.recipe import (
    FOREVER_S,
    TIMEOUT_S,
    Ask,
    Propose,
    Recipe,
    Steps,
    WaitFor,
    check_number,
    check_timeout,
    value_of,
)

BLOCK_SIZE = 1_000
"""So many ids are fetched at once, where nobody says otherwise."""


class Counter(Recipe):
    """A whole number of 64 bits, signed, that is at 0 until it is changed. By `Cluster.counter`."""

    machine: ClassVar[str] = "counters"

    @property
    def _inner(self) -> str:
        return f"counter:{self.name}"

    def add(self, amount: int = 1, *, timeout_s: float = TIMEOUT_S) -> int:
        """Add to it.

        Args:
            amount: How much; may be below 0.
            timeout_s: How long to wait.

        Returns:
            What it is at after that.

        Raises:
            CommandError: It would be carried beyond 64 bits; it is as before.
            RequestError: As `Client.propose`: unless it is a `NotAppliedError`, it may be added.
            ConfigurationError: An argument means nothing; nothing was sent.
        """
        return self._run(self._add(amount, timeout_s))

    async def add_async(self, amount: int = 1, *, timeout_s: float = TIMEOUT_S) -> int:
        """As `add`, in a coroutine; cancelled, it may be added all the same."""
        return await self._run_async(self._add(amount, timeout_s))

    def _add(self, amount: int, timeout_s: float) -> Steps[int]:
        check_number("amount", amount, VALUE_MIN, VALUE_MAX)
        answer = yield Propose(counters.encode_add(self._inner, amount), timeout_s)
        return counters.decode_value(value_of(answer))

    def get(self, *, timeout_s: float = TIMEOUT_S) -> int:
        """What it is at now.

        Args:
            timeout_s: How long to try.

        Raises:
            QueryError: As `Client.query`.
        """
        return self._run(self._get(timeout_s))

    async def get_async(self, *, timeout_s: float = TIMEOUT_S) -> int:
        """As `get`, in a coroutine."""
        return await self._run_async(self._get(timeout_s))

    def _get(self, timeout_s: float) -> Steps[int]:
        answer = yield Ask(counters.encode_get(self._inner), timeout_s)
        return counters.decode_value(value_of(answer))

    def set(self, value: int, *, timeout_s: float = TIMEOUT_S) -> None:
        """Let it be at a value, whatever it is at.

        Args:
            value: Which.
            timeout_s: How long to wait.

        Raises:
            RequestError: As `Client.propose`: unless it is a `NotAppliedError`, it may be set.
            ConfigurationError: An argument means nothing; nothing was sent.
        """
        self._run(self._set(value, None, timeout_s))

    async def set_async(self, value: int, *, timeout_s: float = TIMEOUT_S) -> None:
        """As `set`, in a coroutine; cancelled, it may be set all the same."""
        await self._run_async(self._set(value, None, timeout_s))

    def compare_and_set(self, expected: int, value: int, *, timeout_s: float = TIMEOUT_S) -> bool:
        """Let it be at a value if it is at the one that is expected; in one step.

        Args:
            expected: What it is to be at before.
            value: What it is to be at after.
            timeout_s: How long to wait.

        Returns:
            Whether it was at that; if not, it is as before.

        Raises:
            RequestError: As `Client.propose`: unless it is a `NotAppliedError`, it may be set.
            ConfigurationError: An argument means nothing; nothing was sent.
        """
        check_number("expected", expected, VALUE_MIN, VALUE_MAX)
        return self._run(self._set(value, expected, timeout_s))

    async def compare_and_set_async(
        self, expected: int, value: int, *, timeout_s: float = TIMEOUT_S
    ) -> bool:
        """As `compare_and_set`, in a coroutine; cancelled, it may be set all the same."""
        check_number("expected", expected, VALUE_MIN, VALUE_MAX)
        return await self._run_async(self._set(value, expected, timeout_s))

    def _set(self, value: int, expected: int | None, timeout_s: float) -> Steps[bool]:
        check_number("value", value, VALUE_MIN, VALUE_MAX)
        answer = yield Propose(counters.encode_set(self._inner, value, expected), timeout_s)
        return isinstance(counters.decode_result(value_of(answer)), Counted)

    def wait_until_at_least(self, value: int, *, timeout_s: float | None = None) -> int:
        """Wait until it is at so much, or more. Costs nothing while nothing happens.

        Args:
            value: How much.
            timeout_s: How long to wait; None for ever.

        Returns:
            What it was at then. That holds every change that this process was acknowledged before
            the call; of others' changes it may be a little behind. A counter that is carried down
            again at once may be missed.

        Raises:
            WaitTimeoutError: It did not come to that in time.
            QueryError: No member could be asked.
            ConfigurationError: An argument means nothing.
        """
        return self._run(self._wait_until_at_least(value, timeout_s))

    async def wait_until_at_least_async(self, value: int, *, timeout_s: float | None = None) -> int:
        """As `wait_until_at_least`, in a coroutine."""
        return await self._run_async(self._wait_until_at_least(value, timeout_s))

    def _wait_until_at_least(self, value: int, timeout_s: float | None) -> Steps[int]:
        check_number("value", value, VALUE_MIN, VALUE_MAX)
        check_timeout(timeout_s)
        request = counters.encode_reached(self._inner, value)
        try:
            answer = yield WaitFor(request, None, FOREVER_S if timeout_s is None else timeout_s)
        except NotYetError as error:
            raise WaitTimeoutError(f"{self!r} did not come to {value} in time: {error}") from error
        return counters.decode_value(value_of(answer))


class IdAllocator(Recipe):
    """Gives ids, from 1, each once for ever. Made by `Cluster.id_allocator`.

    Attributes:
        block_size: So many ids `next` fetches at once.
    """

    machine: ClassVar[str] = "counters"

    def __init__(
        self, name: str, group: int, clients: GroupClients, *, block_size: int = BLOCK_SIZE
    ) -> None:
        """Made by a cluster; sends nothing.

        Args:
            name: Its name.
            group: Which group has it.
            clients: Of the cluster's groups.
            block_size: So many ids `next` fetches at once.

        Raises:
            ConfigurationError: An argument means nothing.
        """
        super().__init__(name, group, clients)
        check_number("block_size", block_size, 1, COUNT_MAX)
        self.block_size = block_size
        self._forget()
        _allocators.add(self)

    def _options(self) -> dict[str, Any]:
        return {"block_size": self.block_size}

    @property
    def _inner(self) -> str:
        return f"ids:{self.name}"

    def _forget(self) -> None:
        """Have no ids here; in a forked process they are the parent's."""
        self._taking = threading.Lock()
        self._fetching = threading.Lock()
        self._blocks: deque[range] = deque()

    def take(self, count: int, *, timeout_s: float = TIMEOUT_S) -> range:
        """Take ids that follow each other; asks the group each time.

        Args:
            count: How many.
            timeout_s: How long to wait.

        Returns:
            They; nobody else ever gets one of them.

        Raises:
            CommandError: There are no 64 bits of ids left.
            RequestError: As `Client.propose`; ids that may have been taken nobody gets.
            ConfigurationError: An argument means nothing; nothing was sent.
        """
        return self._run(self._take(count, timeout_s))

    async def take_async(self, count: int, *, timeout_s: float = TIMEOUT_S) -> range:
        """As `take`, in a coroutine; cancelled, it leaves a gap."""
        return await self._run_async(self._take(count, timeout_s))

    def _take(self, count: int, timeout_s: float) -> Steps[range]:
        check_number("count", count, 1, COUNT_MAX)
        answer = yield Propose(counters.encode_take(self._inner, count), timeout_s)
        return _ids_of(answer, count)

    def next(self, *, timeout_s: float = TIMEOUT_S) -> int:
        """Give the next id of this process's block; asks the group once a block.

        Args:
            timeout_s: How long to wait, where a block is to be fetched.

        Returns:
            It; nobody else ever gets it.

        Raises:
            As `take`.
        """
        check_timeout(timeout_s)
        found = self._given()
        if found is not None:
            return found
        # Other threads wait for this block rather than fetch one each.
        is_turn = self._fetching.acquire(timeout=min(timeout_s, threading.TIMEOUT_MAX))
        try:
            return self._run(self._next(timeout_s))
        finally:
            if is_turn:
                self._fetching.release()

    async def next_async(self, *, timeout_s: float = TIMEOUT_S) -> int:
        """As `next`, in a coroutine; several at one time fetch a block each, and none is lost."""
        return await self._run_async(self._next(timeout_s))

    def _next(self, timeout_s: float) -> Steps[int]:
        found = self._given()
        if found is not None:
            return found
        command = counters.encode_take(self._inner, self.block_size)
        # Where the caller is interrupted the block is for others here.
        answer = yield Propose(command, timeout_s, self._keep)
        block = _ids_of(answer, self.block_size)
        self._blocks.append(block[1:])
        return block[0]

    def _given(self) -> int | None:
        """An id of a block that is here; None where there is none."""
        with self._taking:
            while self._blocks:
                block = self._blocks.popleft()
                if block:
                    self._blocks.appendleft(block[1:])
                    return block[0]
        return None

    def _keep(self, answer: Result) -> None:
        self._blocks.append(_ids_of(answer, self.block_size))


def _ids_of(answer: Result, count: int) -> range:
    taken = counters.decode_result(value_of(answer))
    assert isinstance(taken, Taken), "the result of a take"
    return range(taken.first, taken.first + count)


_allocators: weakref.WeakSet[IdAllocator] = weakref.WeakSet()


def _forget_blocks() -> None:
    """In a child process after a fork: what was fetched is the parent's to give."""
    for allocator in _allocators:
        allocator._forget()


os.register_at_fork(after_in_child=_forget_blocks)
