"""What one role tells whoever watches: its state, its counts, its events, what was slow.

It travels by the names of its fields, since watchers may be of another release.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from ray_paxos.observability.event_record import EventRecord
from ray_paxos.observability.slow_commands import SlowInstance, SlowStep

PROPOSER, ACCEPTOR, LEARNER, CHECKPOINTER = "proposer", "acceptor", "learner", "checkpointer"
ROLES = (PROPOSER, ACCEPTOR, LEARNER, CHECKPOINTER)


class HistogramCounts(msgspec.Struct, frozen=True):
    """A histogram's counts, by the bounds of its metric, and the sum of all that was observed."""

    counts: tuple[int, ...]
    total: float


class Span(msgspec.Struct, frozen=True):
    """What a role did within some seconds.

    Attributes:
        end_ms: Their end, in milliseconds since 1970.
        seconds: How many they were.
        commands: Answered by the member as master; of a proposer.
        latency: Of these commands (`paxos_command_seconds`); None for none.
    """

    end_ms: int
    seconds: float
    commands: int
    latency: HistogramCounts | None


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """What a role has counted in this life; all of it only rises.

    Attributes:
        counts: By metric, then by the value of its label (empty for none).
        by_group: By metric, then by group.
        histograms: By metric.
        spans: The last 15 minutes, the oldest first; of a proposer.
    """

    counts: dict[str, dict[str, int]] = {}
    by_group: dict[str, dict[int, int]] = {}
    histograms: dict[str, HistogramCounts] = {}
    spans: tuple[Span, ...] = ()


class RoleReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one role tells.

    Attributes:
        at_ms: When, in milliseconds since 1970, by its node's wall clock.
        clock_ns: When, by the role's own clock: since its node was booted. 0 for unknown, of an
            older release.
        incarnation: Of which life; counts of another one begin at 0. 0 where the role does not
            serve.
        is_observing: Whether it observes now; on, too, where an older release does not say it.
        counted: What it has counted; as it was when observing was switched off, where it is.
        gauges: By metric, then by the value of its label: what is measured now, not of a group.
        events: Those asked for, the oldest first.
        last_sequence: Of its last event.
        slow_instances: Of a proposer, the oldest first; where that was asked for.
        slow_steps: Of an acceptor or a learner, likewise.
    """

    at_ms: int
    incarnation: int
    counted: Counted = Counted()
    gauges: dict[str, dict[str, float]] = {}
    events: tuple[EventRecord, ...] = ()
    last_sequence: int = 0
    slow_instances: tuple[SlowInstance, ...] = ()
    slow_steps: tuple[SlowStep, ...] = ()
    clock_ns: int = 0
    is_observing: bool = True


Answer: TypeAlias = tuple[dict[str, Any], RoleReport] | str
"""A role's state and report; or why there is none, for a person."""
Answers: TypeAlias = Mapping[tuple[str, str], Answer]
"""By (member, role)."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(RoleReport)


def encode_report(report: RoleReport) -> bytes:
    """The form in which it travels; fields that a reader does not know are skipped."""
    return _encoder.encode(report)


def decode_report(data: bytes) -> RoleReport:
    """Read it back; raises msgspec.DecodeError where it is none."""
    return _decoder.decode(data)
