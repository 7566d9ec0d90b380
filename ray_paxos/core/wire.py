"""The binary form of a batch of envelopes: what one actor call carries, each way.

```
kind (1 byte) | cluster version (1 byte) | CRC32C of all else (4 bytes, little-endian) | msgpack
```

Batches of other kinds have the same header (`seal`, `open_sealed`). The checksum covers every byte
but its own, and an unknown kind or version is refused: no flipped bit between two processes is
taken for a message. The version is that under which the batch was made (`core.releases`); what is
behind the header has the form that it says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeVar

import google_crc32c
import msgspec

from ray_paxos.core.messages import Envelope
from ray_paxos.core.releases import OLDEST, THIS_RELEASE
from ray_paxos.errors import WireFormatError

Batch = TypeVar("Batch")

ENVELOPES = 1
"""The kind of a batch of envelopes."""
HEADER_BYTES = 6
_CHECKSUM_AT = 2

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[Envelope, ...])


def encode_envelopes(envelopes: Sequence[Envelope], version: int = OLDEST) -> bytes:
    """Pack envelopes for one call, under a cluster version."""
    return seal(ENVELOPES, version, _encoder.encode(envelopes))


def encode_envelope(envelope: Envelope) -> bytes:
    """Pack one envelope, for `join_envelopes`: its exact size on the wire is then known."""
    return _encoder.encode(envelope)


def join_envelopes(encoded: Sequence[bytes], version: int = OLDEST) -> bytes:
    """Make one call of separately encoded envelopes; the same bytes as `encode_envelopes`."""
    return seal(ENVELOPES, version, join_items(encoded))


def decode_envelopes(data: bytes) -> tuple[Envelope, ...]:
    """Unpack what one call carried.

    Raises:
        WireFormatError: Another kind, an unknown version, a wrong checksum, or bytes that are none
            of ours.
    """
    return open_sealed(ENVELOPES, data, _decoder.decode)


def version_of(data: bytes) -> int:
    """The cluster version under which a batch was made, once it was read."""
    return data[1]


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


def seal(kind: int, version: int, body: bytes) -> bytes:
    """Put the header before what a call carries."""
    head = bytes((kind, version))
    return b"".join((head, _checksum(head, body), body))


def open_sealed(kind: int, data: bytes, decode: Callable[[bytes], Batch]) -> Batch:
    """What `seal` closed, decoded.

    Args:
        kind: The only one that is taken.
        data: As it came.
        decode: Reads the body; raises msgspec's errors.

    Raises:
        WireFormatError: Another kind, an unknown version, a wrong checksum, or bytes that are none
            of ours.
    """
    head, body = data[:_CHECKSUM_AT], data[HEADER_BYTES:]
    if data[_CHECKSUM_AT:HEADER_BYTES] != _checksum(head, body):
        raise WireFormatError("a wrong checksum: the bytes were damaged on their way")
    if head[0] != kind:
        raise WireFormatError(f"a batch of kind {head[0]}, where kind {kind} is taken")
    if not THIS_RELEASE.knows(head[1]):
        raise WireFormatError(
            f"a batch of cluster version {head[1]}; this release knows {THIS_RELEASE}. Use the "
            "release that the cluster's members run"
        )
    try:
        return decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # msgspec lets the second one through where text is not UTF-8.
        raise WireFormatError(f"not a batch of envelopes: {error}") from error


def _checksum(head: bytes, body: bytes) -> bytes:
    checksum: int = google_crc32c.extend(_begun(head), body)
    return checksum.to_bytes(4, "little")


@lru_cache(maxsize=64)
def _begun(head: bytes) -> int:
    begun: int = google_crc32c.value(head)
    return begun
