"""The binary form of a batch of envelopes: what one actor call carries, each way.

```
format (1 byte) | CRC32C of the rest (4 bytes, little-endian) | envelopes (msgpack)
```

Batches of other forms have the same header (`seal`, `open_sealed`). The checksum covers every byte
behind it, and a wrong format byte is refused: no flipped bit between two processes is taken for a
message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import google_crc32c
import msgspec

from ray_paxos.core.messages import Envelope
from ray_paxos.errors import WireFormatError

Batch = TypeVar("Batch")

WIRE_FORMAT = 1
HEADER_BYTES = 5

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[Envelope, ...])


def encode_envelopes(envelopes: Sequence[Envelope]) -> bytes:
    """Pack envelopes for one call."""
    return seal(WIRE_FORMAT, _encoder.encode(envelopes))


def encode_envelope(envelope: Envelope) -> bytes:
    """Pack one envelope, for `join_envelopes`: its exact size on the wire is then known."""
    return _encoder.encode(envelope)


def join_envelopes(encoded: Sequence[bytes]) -> bytes:
    """Make one call of separately encoded envelopes; the same bytes as `encode_envelopes`."""
    return seal(WIRE_FORMAT, join_items(encoded))


def decode_envelopes(data: bytes) -> tuple[Envelope, ...]:
    """Unpack what one call carried.

    Raises:
        WireFormatError: Another format, a wrong checksum, or bytes that are none of ours.
    """
    return open_sealed(WIRE_FORMAT, data, _decoder.decode)


def join_items(encoded: Sequence[bytes]) -> bytes:
    """One msgpack array of items that are encoded already."""
    count = len(encoded)
    if count < 16:
        header = bytes([0x90 | count])
    elif count < 1 << 16:
        header = b"\xdc" + count.to_bytes(2, "big")
    else:
        header = b"\xdd" + count.to_bytes(4, "big")
    return b"".join((header, *encoded))


def seal(wire_format: int, body: bytes) -> bytes:
    """Put the header before what a call carries."""
    return b"".join((bytes([wire_format]), _checksum(body), body))


def open_sealed(wire_format: int, data: bytes, decode: Callable[[bytes], Batch]) -> Batch:
    """What `seal` closed, decoded.

    Args:
        wire_format: The only one that is taken.
        data: As it came.
        decode: Reads the body; raises msgspec's errors.

    Raises:
        WireFormatError: Another format, a wrong checksum, or bytes that are none of ours.
    """
    if data[:1] != bytes([wire_format]):
        found = data[0] if data else None
        raise WireFormatError(f"wire format {found}; this process speaks {wire_format}")
    body = data[HEADER_BYTES:]
    if data[1:HEADER_BYTES] != _checksum(body):
        raise WireFormatError("a wrong checksum: the bytes were damaged on their way")
    try:
        return decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # msgspec lets the second one through where text is not UTF-8.
        raise WireFormatError(f"not a batch of envelopes: {error}") from error


def _checksum(body: bytes) -> bytes:
    checksum: int = google_crc32c.value(body)
    return checksum.to_bytes(4, "little")
