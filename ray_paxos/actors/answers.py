"""What an actor call that carries envelopes returns: envelopes, or why there are none.

A role that is not serving answers every call all the same, with its state: callers tell a role
that is still opening, or that has stopped, from one that is gone. All forms begin with one byte,
so that an answer costs nothing to tell apart.
"""

from __future__ import annotations

import enum

import msgspec

from ray_paxos.actors.addressed import ADDRESSED
from ray_paxos.actors.line_answers import LINE_ANSWERS
from ray_paxos.core.wire import ENVELOPES
from ray_paxos.errors import WireFormatError

_STATE_PREFIX = b"\x00"
_ENVELOPES_PREFIXES = tuple(bytes([kind]) for kind in (ENVELOPES, ADDRESSED, LINE_ANSWERS))


class RolePhase(enum.Enum):
    """What a role actor is doing."""

    OPENING = "opening"
    SERVING = "serving"
    STOPPED = "stopped"


class RoleState(msgspec.Struct, frozen=True):
    """The state of a role actor.

    Attributes:
        phase: What it is doing.
        reason: Why it is not serving: the error of the last try to open, or why it stopped.
        error: Name of that error's class; empty where there is none.
    """

    phase: RolePhase
    reason: str = ""
    error: str = ""

    def __str__(self) -> str:
        """For a person."""
        return f"{self.phase.value}: {self.reason}" if self.reason else self.phase.value


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(RoleState)


def encode_state(state: RoleState) -> bytes:
    """The answer of a role that does not serve."""
    return _STATE_PREFIX + _encoder.encode(state)


def state_of(answer: bytes) -> RoleState | None:
    """The state an answer carries, or None where it carries envelopes.

    Raises:
        WireFormatError: It is neither.
    """
    prefix = answer[:1]
    if prefix in _ENVELOPES_PREFIXES:
        return None
    if prefix == _STATE_PREFIX:
        try:
            return _decoder.decode(memoryview(answer)[1:])
        except msgspec.DecodeError as error:
            raise WireFormatError(f"not a role's state: {error}") from error
    raise WireFormatError(f"an answer of unknown kind {prefix!r}")
