"""The network of a scripted scenario: fixed times, and rules for messages that a test names.

A message is matched by its class, its sender and receiver (`A.acceptor`, or `A` for all roles of a
member), the instance that it is about, and its group.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from functools import partial

from ray_paxos.core.learner_messages import (
    Chosen,
    LearnReply,
)
from ray_paxos.core.messages import (
    Address,
    Envelope,
    Message,
)
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.core.wire import encode_envelopes
from ray_paxos.testing.network import Deliver, node_of
from ray_paxos.testing.options import MICROSECOND_NS
from ray_paxos.testing.trace import name_address, name_member
from ray_paxos.testing.world import World

LOCAL_NS = 100 * MICROSECOND_NS
REMOTE_NS = MILLISECOND_NS


class Fate(enum.Enum):
    """What becomes of a message."""

    LOST = "lost"
    HELD = "held"
    SEEN = "seen"
    """It goes its way; the rule counts it."""


def _instances(message: Message) -> tuple[int, ...]:
    """Which instances a message is about."""
    if isinstance(message, Chosen | LearnReply):
        return tuple(chosen.instance_id for chosen in message.values)
    return (getattr(message, "instance_id", 0),)


@dataclass
class Rule:
    """What a scenario does with some messages.

    Attributes:
        kinds: Which classes of messages; empty for all.
        sender: Names of senders; empty for all.
        to: Names of receivers; empty for all.
        instance: Only messages about this instance; 0 for all.
        group: Only of this group; None for all.
        fate: What becomes of them.
        count: How many matched.
        matched: All of them, in the order in which they were sent.
        held: Those held back, in the order in which they were sent.
        is_active: Whether it goes on.
    """

    kinds: tuple[type, ...]
    sender: tuple[str, ...]
    to: tuple[str, ...]
    instance: int
    group: int | None
    fate: Fate
    count: int = 0
    matched: list[Envelope] = field(default_factory=list)
    held: list[tuple[Address, Address, Envelope]] = field(default_factory=list)
    is_active: bool = True

    def matches(self, sender: Address, to: Address, envelope: Envelope) -> bool:
        """Whether a message is one of those."""
        message = envelope.message
        return (
            self.is_active
            and (not self.kinds or isinstance(message, self.kinds))
            and (not self.sender or is_named(sender, self.sender))
            and (not self.to or is_named(to, self.to))
            and (not self.instance or self.instance in _instances(message))
            and (self.group is None or envelope.group == self.group)
        )


def is_named(address: Address, names: tuple[str, ...]) -> bool:
    """Whether a process, or its member, is one of those."""
    return name_address(address) in names or name_member(address.member_id) in names


class ScriptedTransport:
    """Carries everything in fixed times, but for what rules say."""

    def __init__(self, world: World) -> None:
        """Start without rules."""
        self.rules: list[Rule] = []
        self._world = world
        self._deliver: Deliver | None = None

    def connect(self, deliver: Deliver) -> None:
        """Say where envelopes arrive."""
        self._deliver = deliver

    def send(self, sender: Address, to: Address, envelope: Envelope) -> None:
        """Carry a message, unless a rule matches it; the first one that does decides."""
        for rule in self.rules:
            if rule.matches(sender, to, envelope):
                rule.count += 1
                rule.matched.append(envelope)
                if rule.fate is Fate.HELD:
                    rule.held.append((sender, to, envelope))
                if rule.fate is not Fate.SEEN:
                    return
        self.carry(sender, to, envelope)

    def carry(self, sender: Address, to: Address, envelope: Envelope) -> None:
        """Carry a message, whatever the rules say."""
        assert self._deliver is not None, "connected before anything is sent"
        delay_ns = LOCAL_NS if node_of(sender) == node_of(to) else REMOTE_NS
        data = encode_envelopes((envelope,))
        self._world.scheduler.after(delay_ns, partial(self._deliver, sender, to, data))
