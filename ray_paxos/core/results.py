"""What applying a value returned, entry by entry.

Results are part of the replicated state: all members compute the same ones, their encoded form is
the link of the result chain, and the same form travels to the proposer and the client.
"""

from __future__ import annotations

import enum

import msgspec


class NoteCode(enum.IntEnum):
    """Why a command's result is not simply what its machine returned at this place."""

    ERROR = 1
    """The machine refused the command, the same on all members; `message` says why."""
    GAP = 2
    """Refused unapplied: a number before it is open and unseen. To be sent again in order."""
    CLOSED = 3
    """Refused: the session has closed this number; whether it was applied is no longer known."""
    KEPT = 4
    """Applied before, at the place that the note names; the result is the one kept."""
    KEPT_ERROR = 5
    """As KEPT, and the kept result is an error."""
    SESSION_EXPIRED = 6
    """Refused unapplied: the session is gone (evicted, or ended by its client), as far as the group
    can still know. An earlier copy may have been applied while it was there."""
    SESSION_UNKNOWN = 7
    """Refused unapplied: no session was ever given this id, so no copy was ever applied."""
    WITHDRAWN = 8
    """The number is closed unapplied, for ever: its client withdrew it before it was applied, at
    the place that the note names. Told again as often as it is asked for, like a result."""
    OVERLOADED = 9
    """Refused unapplied for want of room: sessions, or results that are kept for others. To be
    sent again later, in order."""


class Note(msgspec.Struct, frozen=True, array_like=True):
    """What is to be said about one command of a batch.

    Attributes:
        code: What happened.
        message: For a person; empty where the code says all.
        instance_id: Where the command was applied; 0 where it was not.
        index: Its row there.
    """

    code: NoteCode
    message: str
    instance_id: int
    index: int


class EntryResult(msgspec.Struct, frozen=True, array_like=True):
    """The results of one entry of a value.

    Attributes:
        instance_id: The instance that was applied.
        index: Row of the entry's first command (or of the entry itself).
        results: One a row; None where the machine returned nothing or the command was refused.
        notes: By offset within `results`, only for commands that have one.
    """

    instance_id: int
    index: int
    results: tuple[bytes | None, ...]
    notes: dict[int, Note]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[EntryResult, ...])


def encode_results(results: tuple[EntryResult, ...]) -> bytes:
    """The canonical form of one instance's results: notes in ascending order of offset.

    The host writes notes in ascending order, so equal results have equal bytes.
    """
    return _encoder.encode(results)


def decode_results(encoded: bytes) -> tuple[EntryResult, ...]:
    """Read an instance's results back.

    Raises:
        msgspec.DecodeError: Not the results of an instance.
    """
    return _decoder.decode(encoded)
