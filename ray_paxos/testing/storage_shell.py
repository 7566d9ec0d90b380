"""What one life of a simulated process does with its store: writes, syncs, and failing at them.

```
 write ──▶ handed to the store (page cache) ──── some time later ────▶ store.sync ──▶ driver told
   └─ while a sync runs it may wait in the process instead (`DiskOptions.writes_wait`)
```

A sync covers everything handed over before it *ends*, but the driver is told of what had been
handed over when it *began*: the less favourable one of what real disks do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import msgspec

from ray_paxos.core.acceptor import Acceptor
from ray_paxos.core.driver import Write
from ray_paxos.core.messages import Address, RoleName
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.core.tasks import Outcome, Task, TaskFailed
from ray_paxos.errors import PaxosError, StorageFullError
from ray_paxos.storage.opening import OpenedRole
from ray_paxos.storage.stores import SLOW_TASKS
from ray_paxos.testing.disk import SimulatedDisk
from ray_paxos.testing.options import MICROSECOND_NS
from ray_paxos.testing.world import World

READ_NS = 200 * MICROSECOND_NS
TASK_SYNCS = 5
REWRITE_NS = 20 * MILLISECOND_NS
ROOM_BYTES = 200
"""What a record takes beyond the message that asked for it."""

T = TypeVar("T")
_encode = msgspec.msgpack.Encoder().encode


@dataclass
class StorageFaults:
    """What is wrong with a process's disk; outlasts the process's lives.

    Attributes:
        sync_factor: How many times longer than usual its syncs take.
        syncs_held: Syncs that begin do not end until `release_syncs`; for scripted scenarios.
        crash_in: So many operations on the disk from now the process is killed; None for never.
    """

    sync_factor: int = 1
    syncs_held: bool = False
    crash_in: int | None = None

    def at_risk(self, disk: SimulatedDisk, call: Callable[[], T]) -> T:
        """Use the disk.

        Raises:
            CrashedError: The process is killed in the middle of it.
        """
        if self.crash_in is None:
            return call()
        before = disk.operations
        disk.crash_at(before + self.crash_in)
        try:
            return call()
        finally:
            disk.crash_at(None)
            self.crash_in = max(0, self.crash_in - (disk.operations - before))


class StorageUser(Protocol):
    """The process."""

    def later(self, delay_ns: int, action: Callable[[], None]) -> None:
        """Do something later, if this life lasts."""

    def durable(self, number: int) -> None:
        """The write of that number, and all before, are durable."""

    def storage_failed(self, error: Exception) -> None:
        """A write or sync failed: the process stops."""


class StorageShell:
    """The storage of one life of one process.

    Invariants: writes are handed over in the order of their numbers; one sync runs at a time;
    after a failure, or once the process is dead, nothing is done any more.
    """

    def __init__(
        self,
        world: World,
        address: Address,
        disk: SimulatedDisk,
        opened: OpenedRole,
        faults: StorageFaults,
        user: StorageUser,
    ) -> None:
        """Use what was just opened."""
        self._world = world
        self._address = address
        self._disk = disk
        self._opened = opened
        self._faults = faults
        self._user = user
        self._syncing: int | None = None
        self._handed_over = 0
        self._queued: list[Write] = []
        self._busy_until_ns = {False: 0, True: 0}
        self._is_over = False

    def end(self) -> None:
        """The process is dead, or has stopped."""
        self._is_over = True
        self._queued = []

    def close(self) -> None:
        """Stop cleanly; what is queued was promised to nobody."""
        self._is_over = True
        self._faults.at_risk(self._disk, self._opened.store.close)

    def make_room(self, byte_count: int) -> None:
        """Tell the acceptor whether its disk has room for what this message may make it write."""
        acceptor = self._opened.role
        assert isinstance(acceptor, Acceptor), "only an acceptor is told"
        queued = [record for write in self._queued for record in write.records]
        needed = byte_count + ROOM_BYTES + sum(len(_encode(r)) + ROOM_BYTES for r in queued)
        reserve = partial(self._opened.store.reserve, needed, appends=len(self._queued) + 1)
        try:
            acceptor.storage_full = not self._faults.at_risk(self._disk, reserve)
        except PaxosError as error:
            self._fail(error)

    def write(self, write: Write) -> None:
        """Hand records over, now or as soon as it is their turn."""
        waits = self._syncing is not None and self._world.options.disk.writes_wait
        if waits or self._queued:
            self._queued.append(write)
        else:
            self._hand_over(write)

    def later(self, task: Task, run: Callable[[], None]) -> None:
        """Do a task once it has its turn: slow ones have a queue of their own."""
        is_slow, now_ns = isinstance(task, SLOW_TASKS), self._world.now_ns
        end_ns = max(self._busy_until_ns[is_slow], now_ns) + self._delay_ns(task)
        self._busy_until_ns[is_slow] = end_ns
        self._user.later(end_ns - now_ns, run)

    def _delay_ns(self, task: Task) -> int:
        """How long a task takes: those that write or read much, as long as some syncs do."""
        disk = self._world.options.disk
        if not isinstance(task, SLOW_TASKS):
            return READ_NS
        spread_ns = int(TASK_SYNCS * disk.sync_spread_ns * self._world.random.random())
        return (disk.sync_min_ns + spread_ns) * self._faults.sync_factor

    def run(self, task: Task) -> Outcome | None:
        """Do a task; None once the process has stopped."""
        if self._is_over:
            return None
        outcome = self._faults.at_risk(self._disk, partial(self._opened.store.run, task))
        if isinstance(outcome, TaskFailed):
            self._world.say(f"{self._address} gives up {type(task).__name__}: {outcome.why}")
        return outcome

    def release_syncs(self) -> None:
        """Let a sync end that was held."""
        if self._syncing is not None:
            self._begin_sync()

    def _hand_over_queued(self) -> None:
        queued, self._queued = self._queued, []
        for write in queued:
            if self._queued:
                self._queued.append(write)
            else:
                self._hand_over(write)

    def _hand_over(self, write: Write) -> None:
        if self._is_over:
            return
        self._world.checker.writing(self._address, write.records)
        try:
            store_write = partial(self._opened.store.write, write.records)
            self._faults.at_risk(self._disk, store_write)
        except StorageFullError as error:
            if self._address.role is RoleName.ACCEPTOR:
                self._fail(error)
                return
            # Nothing was written: a learner tries again until there is room.
            self._queued.append(write)
            self._user.later(REWRITE_NS, self._write_again)
            return
        except PaxosError as error:
            self._fail(error)
            return
        self._world.checker.wrote(self._address, write.records)
        self._handed_over = write.number
        if self._syncing is None:
            self._begin_sync()

    def _write_again(self) -> None:
        if not self._is_over and self._syncing is None:
            self._hand_over_queued()

    def _begin_sync(self) -> None:
        self._syncing = self._handed_over
        if self._faults.syncs_held:
            return
        disk = self._world.options.disk
        spread_ns = int(disk.sync_spread_ns * self._world.random.random())
        delay_ns = (disk.sync_min_ns + spread_ns) * self._faults.sync_factor
        self._user.later(delay_ns, self._end_sync)

    def _end_sync(self) -> None:
        number = self._syncing
        if self._is_over or number is None:
            return
        try:
            self._faults.at_risk(self._disk, self._opened.store.sync)
        except PaxosError as error:
            self._fail(error)
            return
        self._world.checker.synced(self._address)
        self._syncing = None
        self._hand_over_queued()
        self._user.durable(number)
        if not self._is_over and self._syncing is None and self._handed_over > number:
            self._begin_sync()

    def _fail(self, error: Exception) -> None:
        if not self._is_over:
            self.end()
            self._user.storage_failed(error)
