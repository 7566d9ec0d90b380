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

import msgspec

from ray_paxos.core.messages import Envelope, RoleName
from ray_paxos.core.wire import join_items, open_sealed, seal

ADDRESSED_FORMAT = 2

Addressed: TypeAlias = tuple[RoleName, Envelope]
"""An envelope, and the role of the receiving member that it is for."""

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
    return seal(ADDRESSED_FORMAT, join_items(pairs))


def encode_addressed(batch: Sequence[Addressed]) -> bytes:
    """Pack addressed envelopes for one call."""
    return seal(ADDRESSED_FORMAT, _encoder.encode(batch))


def decode_addressed(data: bytes) -> tuple[Addressed, ...]:
    """Unpack what one call carried.

    Raises:
        WireFormatError: Another format, a wrong checksum, or bytes that are none of ours.
    """
    return open_sealed(ADDRESSED_FORMAT, data, _decoder.decode)
