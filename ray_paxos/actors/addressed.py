"""The binary form of a batch between two fused members: envelopes for several roles in one call.

```
format (1 byte) | CRC32C of the rest (4 bytes, little-endian) | [role, envelope] ... (msgpack)
```

As `core.wire` has it, with the role that each envelope is for: one call to a member carries what
all roles of another have for it, and its answer carries what the member's roles have for those.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import google_crc32c
import msgspec

from ray_paxos.core.messages import Envelope, RoleName
from ray_paxos.core.wire import HEADER_BYTES
from ray_paxos.errors import WireFormatError

ADDRESSED_FORMAT = 2

Addressed: TypeAlias = tuple[RoleName, Envelope]
"""An envelope, and the role of the receiving member that it is for."""

_PREFIX = bytes([ADDRESSED_FORMAT])
_PAIRS = {role: bytes([0x92, role]) for role in RoleName}
# Made here, at import, by one thread: msgspec completes a decoder's types when it is made, and two
# threads that do so at once crash the process.
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[Addressed, ...])


def address(role: RoleName, encoded: bytes) -> bytes:
    """Put before an encoded envelope whom it is for, for `join_addressed`."""
    return _PAIRS[role] + encoded


def join_addressed(pairs: Sequence[bytes]) -> bytes:
    """Make one call of separately encoded and addressed envelopes."""
    count = len(pairs)
    if count < 16:
        header = bytes([0x90 | count])
    elif count < 1 << 16:
        header = b"\xdc" + count.to_bytes(2, "big")
    else:
        header = b"\xdd" + count.to_bytes(4, "big")
    return _seal(b"".join((header, *pairs)))


def encode_addressed(batch: Sequence[Addressed]) -> bytes:
    """Pack addressed envelopes for one call."""
    return _seal(_encoder.encode(batch))


def decode_addressed(data: bytes) -> tuple[Addressed, ...]:
    """Unpack what one call carried.

    Raises:
        WireFormatError: Another format, a wrong checksum, or bytes that are none of ours.
    """
    if data[:1] != _PREFIX:
        found = data[0] if data else None
        raise WireFormatError(f"wire format {found}; a fused member speaks {ADDRESSED_FORMAT}")
    body = data[HEADER_BYTES:]
    if data[1:HEADER_BYTES] != _checksum(body):
        raise WireFormatError("a wrong checksum: the bytes were damaged on their way")
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # msgspec lets the second one through where text is not UTF-8.
        raise WireFormatError(f"not a batch of addressed envelopes: {error}") from error


def _seal(body: bytes) -> bytes:
    return b"".join((_PREFIX, _checksum(body), body))


def _checksum(body: bytes) -> bytes:
    checksum: int = google_crc32c.value(body)
    return checksum.to_bytes(4, "little")
