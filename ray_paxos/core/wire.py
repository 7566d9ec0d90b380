"""The binary form of a batch of envelopes: what one actor call carries, each way.

```
format (1 byte) | CRC32C of the rest (4 bytes, little-endian) | envelopes (msgpack)
```

The checksum covers every byte behind it, and a wrong format byte is refused: no flipped bit
between two processes is taken for a message.
"""

from __future__ import annotations

from collections.abc import Sequence

import google_crc32c
import msgspec

from ray_paxos.core.messages import Envelope
from ray_paxos.errors import WireFormatError

WIRE_FORMAT = 1
HEADER_BYTES = 5

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[Envelope, ...])
_PREFIX = bytes([WIRE_FORMAT])


def encode_envelopes(envelopes: Sequence[Envelope]) -> bytes:
    """Pack envelopes for one call."""
    body = _encoder.encode(envelopes)
    return b"".join((_PREFIX, _checksum(body), body))


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
    body = b"".join((header, *encoded))
    return b"".join((_PREFIX, _checksum(body), body))


def decode_envelopes(data: bytes) -> tuple[Envelope, ...]:
    """Unpack what one call carried.

    Raises:
        WireFormatError: Another format, a wrong checksum, or bytes that are none of ours.
    """
    if data[:1] != _PREFIX:
        found = data[0] if data else None
        raise WireFormatError(f"wire format {found}; this process speaks {WIRE_FORMAT}")
    body = data[HEADER_BYTES:]
    if data[1:HEADER_BYTES] != _checksum(body):
        raise WireFormatError("a wrong checksum: the bytes were damaged on their way")
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # msgspec lets the second one through where text is not UTF-8.
        raise WireFormatError(f"not a batch of envelopes: {error}") from error


def _checksum(body: bytes) -> bytes:
    checksum: int = google_crc32c.value(body)
    return checksum.to_bytes(4, "little")
