"""The one shape of every role, and the router that makes one role of many groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ray_paxos.core.effects import Effects
from ray_paxos.core.events import MessageRefused
from ray_paxos.core.messages import Envelope
from ray_paxos.core.records import Record
from ray_paxos.core.tasks import Outcome, Task


class Role(Protocol):
    """A proposer, acceptor, learner or checkpointer: pure, single-threaded, without I/O.

    Time comes in as `now_ns` (nanoseconds of a monotonic clock of this process, never falling);
    randomness comes in at construction; everything else goes out as `Effects`.
    """

    def handle(self, envelope: Envelope, now_ns: int) -> Effects:
        """Take one message in."""

    def on_deadline(self, now_ns: int) -> Effects:
        """The time in `deadline_ns` has come (calling early is harmless)."""

    def on_durable(self, records: Sequence[Record], now_ns: int) -> Effects:
        """These records, which the role emitted, are durable."""

    def on_outcome(self, task: Task, outcome: Outcome, now_ns: int) -> Effects:
        """A task of this role's has come to this."""

    @property
    def deadline_ns(self) -> int | None:
        """When `on_deadline` wants to be called next; None for never."""

    def stamp(self, group: int) -> tuple[int, int]:
        """(replica_id, config_id) for envelopes of that group; zeros where it has none."""


class GroupRouter:
    """Makes one role out of one object a group, so that one actor serves many groups (R12).

    A message for a group that is not here is dropped with an event: a group's state is made by
    an explicit order only, never by a message (design 9).
    """

    def __init__(self, roles: dict[int, Role]) -> None:
        """Route to `roles`, by group number."""
        self._roles = roles

    @property
    def roles(self) -> dict[int, Role]:
        """The roles by group."""
        return self._roles

    def handle(self, envelope: Envelope, now_ns: int) -> Effects:
        """Hand the message to its group's role."""
        role = self._roles.get(envelope.group)
        if role is None:
            refused = MessageRefused(envelope.group, "no such group at this member")
            return Effects(events=[refused])
        return role.handle(envelope, now_ns)

    def on_deadline(self, now_ns: int) -> Effects:
        """Call each role whose deadline has come."""
        effects = Effects()
        for role in self._roles.values():
            deadline_ns = role.deadline_ns
            if deadline_ns is not None and deadline_ns <= now_ns:
                effects.extend(role.on_deadline(now_ns))
        return effects

    def on_durable(self, records: Sequence[Record], now_ns: int) -> Effects:
        """Tell each role of its own group's records, in their order."""
        effects = Effects()
        by_group: dict[int, list[Record]] = {}
        for record in records:
            by_group.setdefault(record.group, []).append(record)
        for group, own in by_group.items():
            if group in self._roles:
                effects.extend(self._roles[group].on_durable(own, now_ns))
        return effects

    def on_outcome(self, task: Task, outcome: Outcome, now_ns: int) -> Effects:
        """Tell its group's role."""
        role = self._roles.get(task.group)
        return role.on_outcome(task, outcome, now_ns) if role is not None else Effects()

    @property
    def deadline_ns(self) -> int | None:
        """The earliest deadline of all groups."""
        deadlines = [d for role in self._roles.values() if (d := role.deadline_ns) is not None]
        return min(deadlines, default=None)

    def stamp(self, group: int) -> tuple[int, int]:
        """As the group's role says."""
        role = self._roles.get(group)
        return role.stamp(group) if role is not None else (0, 0)
