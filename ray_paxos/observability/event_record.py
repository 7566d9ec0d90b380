"""One event as everybody outside its role sees it: when, where, what, in words and as data."""

from __future__ import annotations

from typing import Any

import msgspec


class EventRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What happened, once.

    Attributes:
        sequence: Its number; rises over all lives of the role.
        at_ms: When, in milliseconds since 1970, by the wall clock of the role's node: for people,
            never for the protocol.
        cluster: Of which cluster.
        member: At which member.
        role: Of which role.
        group: In which group; None where it concerns all of the role.
        kind: Name of the event's class.
        level: `DEBUG`, `INFO`, `WARNING` or `ERROR`.
        text: For a person: one sentence.
        fields: The event's own fields, as plain data.
    """

    sequence: int
    at_ms: int
    cluster: str
    member: str
    role: str
    group: int | None
    kind: str
    level: str
    text: str
    fields: dict[str, Any] = {}


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(EventRecord)


def encode_record(record: EventRecord) -> bytes:
    """One line of JSON, without its end."""
    return _encoder.encode(record)


def decode_record(line: bytes) -> EventRecord:
    """Read a line back; raises msgspec.DecodeError where it is none."""
    return _decoder.decode(line)
