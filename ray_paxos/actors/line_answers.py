"""The binary form of what a call of a line returns: answers for several clients.

```
format (1 byte) | CRC32C of the rest (4 bytes, little-endian) | [client, copies, envelope] ...
```

As `core.wire` has it, with whose answer each envelope is, since an envelope names its sender only,
and how many copies of the request it answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from ray_paxos.core.messages import Envelope
from ray_paxos.core.wire import open_sealed, seal

LINE_FORMAT = 3

ClientAnswer: TypeAlias = tuple[int, int, Envelope]
"""Id of a client, how many copies of its request came by the line, and the answer to all."""

# Made at import, by one thread: as in `addressed`.
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[ClientAnswer, ...])


def encode_answers(answers: Sequence[ClientAnswer]) -> bytes:
    """Pack answers for one call's return."""
    return seal(LINE_FORMAT, _encoder.encode(answers))


def decode_answers(data: bytes) -> tuple[ClientAnswer, ...]:
    """Unpack what one call returned.

    Raises:
        WireFormatError: Another format, a wrong checksum, or bytes that are none of ours.
    """
    return open_sealed(LINE_FORMAT, data, _decoder.decode)
