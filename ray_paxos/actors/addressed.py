"""The binary form of a batch between two fused members: envelopes for several roles in one call.

```
header of `core.wire` | [role, envelope] ... (msgpack)
```

As `core.wire` has it, with the role that each envelope is for: one call to a member carries what
all roles of another have for it, and its answer carries what the member's roles have for those.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from ray_paxos.core.messages import Envelope, RoleName
from ray_paxos.core.releases import OLDEST
from ray_paxos.core.wire import join_items, open_sealed, seal

ADDRESSED = 2
"""The kind of such a batch."""

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


def join_addressed(pairs: Sequence[bytes], version: int = OLDEST) -> bytes:
    """Make one call of separately encoded and addressed envelopes, under a cluster version."""
    return seal(ADDRESSED, version, join_items(pairs))


def encode_addressed(batch: Sequence[Addressed], version: int = OLDEST) -> bytes:
    """Pack addressed envelopes for one call; the same bytes as `join_addressed`."""
    return seal(ADDRESSED, version, _encoder.encode(batch))


def decode_addressed(data: bytes) -> tuple[Addressed, ...]:
    """Unpack what one call carried.

    Raises:
        WireFormatError: As `core.wire.open_sealed`.
    """
    return open_sealed(ADDRESSED, data, _decoder.decode)
