"""The binary form of what a call of a line returns: answers for several clients.

```
header of `core.wire` | [client, copies, envelope] ... (msgpack)
```

As `core.wire` has it, with whose answer each envelope is, since an envelope names its sender only,
and how many copies of the request it answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from ray_paxos.core.messages import Envelope
from ray_paxos.core.releases import OLDEST
from ray_paxos.core.wire import open_sealed, seal

LINE_ANSWERS = 3
"""The kind of such a batch."""

ClientAnswer: TypeAlias = tuple[int, int, Envelope]
"""Id of a client, how many copies of its request came by the line, and the answer to all."""

# Made at import, by one thread: as in `addressed`.
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[ClientAnswer, ...])


def encode_answers(answers: Sequence[ClientAnswer], version: int = OLDEST) -> bytes:
    """Pack answers for one call's return, under a cluster version."""
    return seal(LINE_ANSWERS, version, _encoder.encode(answers))


def decode_answers(data: bytes) -> tuple[ClientAnswer, ...]:
    """Unpack what one call returned.

    Raises:
        WireFormatError: As `core.wire.open_sealed`.
    """
    return open_sealed(LINE_ANSWERS, data, _decoder.decode)
