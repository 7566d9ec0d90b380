"""A watch over keys: every change, in order, as it happens.

```python
with cluster.kv("flags").watch("ui/", initial=True) as watch:
    for change in watch:                       # first what is there, then each change
        print(change.key, change.value, change.version)
        saved = watch.position                 # pickles; kv.watch("ui/", position=saved) goes on
```

What is promised:

1. Of each key its changes come in the order of its versions, each once. Those of different groups
   come in no order between them.
2. None is missing, whatever masters, members and connections do meanwhile, unless it is said: then
   `is_after_gap` is set, and what comes is how the key is now, also of keys of which this watch had
   told nothing, which may not have changed. That happens where the member that is asked does not
   remember what came between: it was restarted, or more changes than it keeps (10,000 of a group,
   or 8 MB) came before they were read.
3. A wait costs nothing while nothing changes: a learner holds the query (`core.held_queries`).

A `position` from a program that ended is good for as long as a member remembers; after that
`CompactedError` says so, and `initial=True` begins anew.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future
from types import TracebackType

import msgspec

from ray_paxos.actors.client_arguments import deadline_of
from ray_paxos.actors.outcomes import Result
from ray_paxos.core.spaces import SPACE_MACHINE
from ray_paxos.errors import CompactedError, ConfigurationError, WaitTimeoutError
from ray_paxos.group_clients import GroupClients
from ray_paxos.machines import kv
from ray_paxos.machines.kv import Change, Read
from ray_paxos.machines.kv_machine import NO_OFFSET

FOREVER_S = 1e6


class KeyChange(msgspec.Struct, frozen=True):
    """What became of a key.

    Attributes:
        key: Which.
        value: Its value now; None where it has none any more.
        version: Its version now.
        is_after_gap: Whether changes between this one and the one before may be missing.
    """

    key: str
    value: bytes | None
    version: int
    is_after_gap: bool = False


class KeyPosition(msgspec.Struct, frozen=True):
    """How far a watch has come: by group, the instance and the change in it. Pickles."""

    by_group: dict[int, tuple[int, int]]


class KeyWatch:
    """Made by `KeyValue.watch`. For one thread or coroutine at a time; to be closed.

    Iterate over it, with `for` or `async for`; neither ends by itself.
    """

    def __init__(
        self,
        *,
        space_prefix: str,
        prefix: str,
        groups: tuple[int, ...],
        clients: GroupClients,
        position: KeyPosition | None,
        initial: bool,
        timeout_s: float,
    ) -> None:
        """Begin; waits until each group has said from where on.

        Args:
            space_prefix: Of the space's keys, as its groups know them.
            prefix: Of the keys that are watched, behind it.
            groups: Those that may have such keys.
            clients: Of the groups.
            position: Where to go on; None for here and now.
            initial: Whether to begin with what is there.
            timeout_s: How long to wait.
        """
        self._space_prefix = space_prefix
        self._prefix = space_prefix + prefix
        self._clients = clients
        self._timeout_s = timeout_s
        self._ready: deque[tuple[int, KeyChange, tuple[int, int]]] = deque()
        self._waits: dict[int, Future[Result]] = {}
        # By group: how far it is told, and how far it is asked for.
        self._told: dict[int, tuple[int, int]] = {}
        self._asked: dict[int, tuple[int, int]] = {}
        # Of each key that was told: its version, and whether it has a value.
        self._known: dict[int, dict[str, tuple[int, bool]]] = {group: {} for group in groups}
        self._may_be_compacted = position is None
        # Has the coroutine that waits go on, if one does.
        self._wake: Callable[[], object] = _nothing
        recorded = self._record(groups)
        start = recorded if position is None else self._positions(position, groups)
        for group, place in start.items():
            self._told[group] = self._asked[group] = place
        if initial:
            for group in groups:
                self._read_all(group, is_after_gap=False)

    def _positions(
        self, position: KeyPosition, groups: tuple[int, ...]
    ) -> Mapping[int, tuple[int, int]]:
        if not isinstance(position, KeyPosition) or position.by_group.keys() != set(groups):
            raise ConfigurationError(
                f"position: found {position!r:.80}; allowed: one of a watch of this space"
            )
        return position.by_group

    @property
    def position(self) -> KeyPosition:
        """After all that was told so far; of what was there to begin with it tells all or nothing.

        Whoever stops in between begins anew with `initial`.
        """
        return KeyPosition(dict(self._told))

    def __iter__(self) -> Iterator[KeyChange]:
        return self

    def __next__(self) -> KeyChange:
        return self.next()

    def next(self, timeout_s: float | None = None) -> KeyChange:
        """The next change.

        Args:
            timeout_s: How long to wait; None for ever.

        Raises:
            WaitTimeoutError: There was none in time.
            CompactedError: No member remembers what came after the position that the watch was
                begun with.
            QueryError: No member could be asked.
        """
        deadline = None if timeout_s is None else deadline_of(timeout_s)
        while not self._ready:
            waits = self._all_waits()
            left_s = None if deadline is None else max(deadline - deadline_of(0), 0) / 1e9
            done, _ = concurrent.futures.wait(
                waits, timeout=left_s, return_when=concurrent.futures.FIRST_COMPLETED
            )
            if not done:
                raise WaitTimeoutError("no key has changed in time")
            self._take_done()
        return self._tell()

    def __aiter__(self) -> AsyncIterator[KeyChange]:
        return self

    async def __anext__(self) -> KeyChange:
        while not self._ready:
            await self._one_of(self._all_waits())
            # It may have to read everything anew, which takes a while.
            await asyncio.to_thread(self._take_done)
        return self._tell()

    async def _one_of(self, waits: list[Future[Result]]) -> None:
        """Return once one of them is done."""
        loop, is_done = asyncio.get_running_loop(), asyncio.Event()
        # One callback of each wait, however often this comes by.
        self._wake = lambda: loop.call_soon_threadsafe(is_done.set)
        try:
            if not any(wait.done() for wait in waits):
                await is_done.wait()
        finally:
            self._wake = _nothing

    def close(self) -> None:
        """Wait for nothing any more."""
        for wait in self._waits.values():
            wait.cancel()
        self._waits.clear()

    def __enter__(self) -> KeyWatch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _tell(self) -> KeyChange:
        group, change, place = self._ready.popleft()
        self._told[group] = place
        return change

    def _all_waits(self) -> list[Future[Result]]:
        for group, (instance_id, offset) in self._asked.items():
            if group not in self._waits:
                request = kv.encode_changes(self._prefix, instance_id, offset)
                wait = self._clients.at(group).wait_for_async(
                    request, SPACE_MACHINE, at_least=instance_id, timeout_s=FOREVER_S
                )
                self._waits[group] = wait
                wait.add_done_callback(lambda done: self._wake())
        return list(self._waits.values())

    def _take_done(self) -> None:
        for group, wait in list(self._waits.items()):
            if not wait.done():
                continue
            del self._waits[group]
            if wait.cancelled():
                continue
            changed = kv.decode_changed(wait.result().value or b"")
            if changed.is_compacted:
                self._begin_anew(group)
                continue
            self._may_be_compacted = True
            self._asked[group] = (changed.instance_id, changed.offset)
            for change in changed.changes:
                self._add(group, change, is_after_gap=False)

    def _begin_anew(self, group: int) -> None:
        if not self._may_be_compacted:
            raise CompactedError(
                f"no member of group {group} remembers what came after instance "
                f"{self._told[group][0]}; read what is there now (initial=True)",
                self._record((group,))[group][0],
            )
        self._asked[group] = self._record((group,))[group]
        self._read_all(group, is_after_gap=True)

    def _record(self, groups: tuple[int, ...]) -> dict[int, tuple[int, int]]:
        """Have changes remembered; gives the positions from which on they are."""
        asked = {
            group: self._clients.at(group).propose_async(
                kv.encode_record(), SPACE_MACHINE, timeout_s=self._timeout_s
            )
            for group in groups
        }
        return {group: (each.result().instance_id, NO_OFFSET) for group, each in asked.items()}

    def _read_all(self, group: int, *, is_after_gap: bool) -> None:
        """Tell what is there now, as far as it is not known."""
        client = self._clients.at(group)
        instance_id, offset = self._asked[group]
        after: str | None = None
        there: set[str] = set()
        while True:
            request = kv.encode_dump(self._prefix, after)
            page = kv.decode_page(client.query(request, SPACE_MACHINE, timeout_s=self._timeout_s))
            for entry in page.entries:
                there.add(entry.key)
                change = Change(instance_id, offset, entry.key, entry.value, entry.version)
                self._add(group, change, is_after_gap=is_after_gap)
            if page.next_after is None:
                break
            after = page.next_after
        for key, (_, has_value) in list(self._known[group].items()):
            if has_value and key not in there:
                answer = client.query(kv.encode_get(key), SPACE_MACHINE, timeout_s=self._timeout_s)
                found = kv.decode_result(answer)
                assert isinstance(found, Read), "what the machine answers to a get"
                change = Change(instance_id, offset, key, found.value, found.version)
                self._add(group, change, is_after_gap=is_after_gap)

    def _add(self, group: int, change: Change, *, is_after_gap: bool) -> None:
        known, _ = self._known[group].get(change.key, (0, False))
        if change.version <= known:
            # It was read with what was there.
            return
        self._known[group][change.key] = (change.version, change.value is not None)
        key = change.key.removeprefix(self._space_prefix)
        told = KeyChange(key, change.value, change.version, is_after_gap)
        self._ready.append((group, told, (change.instance_id, change.offset)))


def _nothing() -> None:
    """Nobody waits."""
