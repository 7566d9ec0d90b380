"""The binary form of a batch of envelopes: what one actor call carries, each way."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ray_paxos.core.messages import Envelope
from ray_paxos.errors import WireFormatError

WIRE_FORMAT = 1

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[Envelope, ...])
_PREFIX = bytes([WIRE_FORMAT])


def encode_envelopes(envelopes: Sequence[Envelope]) -> bytes:
    """Pack envelopes for one call."""
    return _PREFIX + _encoder.encode(envelopes)


def encode_envelope(envelope: Envelope) -> bytes:
    """Pack one envelope, for `join_envelopes`: its exact size on the wire is then known."""
    return _encoder.encode(envelope)


def join_envelopes(encoded: Sequence[bytes]) -> bytes:
    """Make one call of separately encoded envelopes; the same bytes as `encode_envelopes`."""
    count = len(encoded)
    if count < 16:
        header = bytes([0x90 | count])
    elif count < 1 << 16:
        header = b"\xdc" + count.to_bytes(2, "big")
    else:
        header = b"\xdd" + count.to_bytes(4, "big")
    return b"".join((_PREFIX, header, *encoded))


def decode_envelopes(data: bytes) -> tuple[Envelope, ...]:
    """Unpack what one call carried.

    Raises:
        WireFormatError: Another format, or bytes that are none of ours.
    """
    if data[:1] != _PREFIX:
        found = data[0] if data else None
        raise WireFormatError(f"wire format {found}; this process speaks {WIRE_FORMAT}")
    try:
        return _decoder.decode(memoryview(data)[1:])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # msgspec lets the second one through where text is not UTF-8.
        raise WireFormatError(f"not a batch of envelopes: {error}") from error
