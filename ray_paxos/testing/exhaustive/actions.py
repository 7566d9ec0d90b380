"""What can happen in a model, one class each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ray_paxos.core.messages import Address, Envelope
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.testing.trace import describe, name_address


@dataclass(frozen=True, slots=True)
class Packet:
    """A message that was sent, and may arrive at any time from then on, any number of times."""

    to: Address
    envelope: Envelope

    def __str__(self) -> str:
        sender = name_address(self.envelope.sender)
        return f"{sender} -> {name_address(self.to)} {describe(self.envelope.message)}"


@dataclass(frozen=True, slots=True)
class Deliver:
    """A message arrives."""

    packet: Packet

    def __str__(self) -> str:
        return f"{name_address(self.packet.to)} gets {_received(self.packet)}"


def _received(packet: Packet) -> str:
    envelope = packet.envelope
    return f"from {name_address(envelope.sender)} {describe(envelope.message)}"


@dataclass(frozen=True, slots=True)
class Fire:
    """A process's deadline has come: its clock jumps there."""

    process: Address

    def __str__(self) -> str:
        return f"{name_address(self.process)}: a deadline has come"


@dataclass(frozen=True, slots=True)
class Ring:
    """A process notices that its deadline has passed, by its clock."""

    process: Address

    def __str__(self) -> str:
        return f"{name_address(self.process)} notices that a deadline has passed"


@dataclass(frozen=True, slots=True)
class Sync:
    """What a process has written becomes durable."""

    process: Address

    def __str__(self) -> str:
        return f"{name_address(self.process)} has synced"


@dataclass(frozen=True, slots=True)
class Kill:
    """A process dies and starts again; what it had written is still there, and is synced."""

    process: Address

    def __str__(self) -> str:
        return f"{name_address(self.process)} is killed, and starts again"


@dataclass(frozen=True, slots=True)
class CutPower:
    """A process dies and starts again; what it had not synced is lost."""

    process: Address

    def __str__(self) -> str:
        return f"{name_address(self.process)} loses power with unsynced records, and starts again"


@dataclass(frozen=True, slots=True)
class LoseLog:
    """A learner dies and starts again; damage has taken all that it had sealed."""

    process: Address

    def __str__(self) -> str:
        return f"{name_address(self.process)} loses its log to damage, and starts again"


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passes, here so much of it."""

    passed_ns: int

    def __str__(self) -> str:
        return f"{self.passed_ns // MILLISECOND_NS} ms pass"


Action: TypeAlias = Deliver | Fire | Ring | Sync | Kill | CutPower | LoseLog | Tick
