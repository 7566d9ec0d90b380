"""Interprets effects: the one place where R3 is enforced.

The driver is pure, too. A shell (an actor, or the simulator) feeds it what happens and executes
the actions it returns, in order:

```
shell                         driver                        role
  receive(envelope) ───────▶  admission ── handle ───────▶  Effects
  ◀── Write(records, n) ────  numbers each batch of records
  ◀── Transmit(envelope) ───  sends_now, at once
        write, fsync
  on_durable(n) ───────────▶  lets go what waited for n ──▶ on_durable(records)
  ◀── Transmit(envelope) ───  sends_after_sync
```

A message of `sends_after_sync` waits for the highest number given out when it was emitted, even
if its own handler made no record: a repeated prepare finds the promise in memory while the record
of the first is still being synced, and its reply must wait all the same.

After a failed write or fsync the role is `stopped`: nothing that waited ever leaves, nothing more
is handled, and no fsync is tried again, since a second fsync may succeed without having written
what the first one lost.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TypeAlias

from ray_paxos.core.effects import Effects, Send
from ray_paxos.core.events import Event, MessageRefused, StorageFailed
from ray_paxos.core.messages import Address, Envelope, RoleName
from ray_paxos.core.records import Record
from ray_paxos.core.role import Role
from ray_paxos.core.tasks import Outcome, Task


@dataclass(frozen=True, slots=True)
class Write:
    """Make these records durable, then call `on_durable(number)`; writes are in number order."""

    records: tuple[Record, ...]
    number: int


@dataclass(frozen=True, slots=True)
class Transmit:
    """Hand this envelope to the network."""

    to: Address
    envelope: Envelope


@dataclass(frozen=True, slots=True)
class Run:
    """Have the store do this, then call `on_outcome` with what it came to."""

    task: Task


@dataclass(frozen=True, slots=True)
class Observe:
    """An event for whoever watches."""

    event: Event


Action: TypeAlias = Write | Transmit | Run | Observe


class Driver:
    """Runs one role of one member.

    Invariants: numbers of writes rise by one; nothing waits for a number that is durable; once
    `stopped` is set it stays.
    """

    def __init__(self, role: Role, *, genesis: bytes, sender: Address, incarnation: int) -> None:
        """Run `role`.

        Args:
            role: What handles the messages.
            genesis: Hash of the cluster's genesis; other clusters' messages are dropped.
            sender: The role's own address.
            incarnation: Of the role's folder, raised and durable before this call.
        """
        assert incarnation >= 1 or sender.role is RoleName.CLIENT
        self._role = role
        self._genesis = genesis
        self._sender = sender
        self._incarnation = incarnation
        self._written = 0
        self._durable = 0
        self._unsynced: deque[Write] = deque()
        self._waiting: deque[tuple[int, Transmit]] = deque()
        self.stopped = ""

    @property
    def deadline_ns(self) -> int | None:
        """When `on_deadline` is to be called; None for never."""
        return None if self.stopped else self._role.deadline_ns

    def receive(self, envelope: Envelope, now_ns: int) -> list[Action]:
        """Take one envelope in.

        Args:
            envelope: As it came; of any sender.
            now_ns: This process's monotonic clock.

        Returns:
            What the shell has to do, in order.
        """
        if self.stopped:
            return []
        if envelope.genesis != self._genesis:
            refused = MessageRefused(envelope.group, "from a cluster with another genesis")
            return [Observe(refused)]
        return self._interpret(self._role.handle(envelope, now_ns))

    def on_deadline(self, now_ns: int) -> list[Action]:
        """The role's deadline has come."""
        if self.stopped:
            return []
        return self._interpret(self._role.on_deadline(now_ns))

    def on_durable(self, number: int, now_ns: int) -> list[Action]:
        """The write of that number, and so every earlier one, is durable."""
        if self.stopped:
            return []
        assert self._durable <= number <= self._written, "durable before it was written"
        self._durable = number
        actions: list[Action] = []
        while self._waiting and self._waiting[0][0] <= number:
            actions.append(self._waiting.popleft()[1])
        records: list[Record] = []
        while self._unsynced and self._unsynced[0].number <= number:
            records.extend(self._unsynced.popleft().records)
        if records:
            actions += self._interpret(self._role.on_durable(records, now_ns))
        return actions

    def on_outcome(self, task: Task, outcome: Outcome, now_ns: int) -> list[Action]:
        """What a `Run` has come to."""
        if self.stopped:
            return []
        return self._interpret(self._role.on_outcome(task, outcome, now_ns))

    def on_storage_failed(self, what: str) -> list[Action]:
        """A write or an fsync failed: stop for good, and vouch for nothing (R3).

        Args:
            what: For a person: the file and the error.
        """
        if self.stopped:
            return []
        self.stopped = what or "a write or an fsync failed"
        self._waiting.clear()
        self._unsynced.clear()
        return [Observe(StorageFailed(self.stopped))]

    def _interpret(self, effects: Effects) -> list[Action]:
        actions: list[Action] = [Observe(event) for event in effects.events]
        if effects.records:
            self._written += 1
            write = Write(tuple(effects.records), self._written)
            self._unsynced.append(write)
            actions.append(write)
        actions += [self._transmit(send) for send in effects.sends_now]
        for send in effects.sends_after_sync:
            # Stamped now: an answer counts for the replica and under the configuration that gave
            # it (R5), whatever the role is by the time it may leave.
            transmit = self._transmit(send)
            if self._durable >= self._written:
                actions.append(transmit)
            else:
                self._waiting.append((self._written, transmit))
        actions += [Run(task) for task in effects.tasks]
        return actions

    def _transmit(self, send: Send) -> Transmit:
        replica_id, config_id = self._role.stamp(send.group)
        envelope = Envelope(
            self._genesis,
            send.group,
            self._sender,
            replica_id,
            self._incarnation,
            config_id if send.config_id is None else send.config_id,
            send.message,
        )
        return Transmit(send.to, envelope)
