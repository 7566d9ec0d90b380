"""Frames: how a journal file tells a record that a crash cut short from one that was damaged.

A frame is written by one append and is there whole or not at all:

```
sector  0          512        1024       1536
        [header|body ........ ............ff] [header|body ...ffff]
         32 bytes              padding
```

Each frame begins on a sector and is padded to one with 0xff, so a header never crosses a sector,
a sector that is durable is never written again, and a sector that was written is never all zeros
for want of data. The header holds, under its own CRC32C: the CRC32C of every byte that follows up
to the next frame, the hash of the header before it, how many sectors of the body are all zeros,
and up to which byte the file was durable when the frame was written.

Since files are given their room in advance, what a crash leaves of an append are sectors that
read as zeros. So, at the first place where no whole frame stands:

1. Zeros to the end of the file: the end.
2. The file ends in the frame, the header's sector is all zeros, or the body has more zero sectors
   than its header counts: sectors were never written. Torn, and to be cut.
3. Anything else, a wrong CRC over written sectors, a header that is neither valid nor zeros: those
   bytes were once written and are not what they were. Damage.

And whatever it looks like, it is damage if a header behind it says that this place was durable:
what was durable cannot be torn. The hash over the header stands for the frame, because the header
holds the body's CRC; it finds a frame that is missing, or of another file or time.
"""

from __future__ import annotations

import enum
import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import google_crc32c

from ray_paxos.errors import DamageError
from ray_paxos.storage.disk import SECTOR_BYTES

HEADER_BYTES = 32
LINK_BYTES = 8
BODY_BYTES_MAX = 1 << 29

_MAGIC = b"RPxJ"
# magic, kind, zero sectors, body length, body CRC, link, durable through; then the header's CRC.
_HEADER = struct.Struct("<4sBxHIIQI")
_CRC = struct.Struct("<I")
_ZERO_SECTOR = bytes(SECTOR_BYTES)
_ZERO_SECTORS_MAX = 0xFFFF
_PADDING = b"\xff"


class FrameKind(enum.IntEnum):
    """What a frame's body is."""

    OPENING = 1
    """First of a file: whose journal it is, and the acceptor's state but for the votes."""
    RECORDS = 2
    """Records of one append."""
    END = 3
    """Last of a file that was closed: everything before it is whole. No body."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One whole frame of a file."""

    kind: FrameKind
    body: bytes


@dataclass(frozen=True, slots=True)
class ScannedFile:
    """What one journal file holds.

    Attributes:
        frames: All whole frames, in order.
        end: Where the last one ends; what follows may be cut.
        torn: Whether a part of an unfinished frame follows.
    """

    frames: Sequence[Frame]
    end: int
    torn: bool

    @property
    def is_ended(self) -> bool:
        """Whether the file was closed with an end mark."""
        return bool(self.frames) and self.frames[-1].kind is FrameKind.END


@dataclass(frozen=True, slots=True)
class _Header:
    kind: int
    zero_sectors: int
    body_bytes: int
    body_crc: int
    link: int
    durable_through: int

    @property
    def frame_bytes(self) -> int:
        return frame_size(self.body_bytes)


def frame_size(body_bytes: int) -> int:
    """How many bytes of a file a frame with such a body takes."""
    return -(-(HEADER_BYTES + body_bytes) // SECTOR_BYTES) * SECTOR_BYTES


def first_link(owner: bytes, number: int) -> int:
    """What the first frame of a file is linked to: whose journal it is, and the file's number."""
    return _hash(b"journal" + number.to_bytes(8, "big") + owner)


def encode_frame(
    kind: FrameKind, body: bytes, *, link: int, durable_through: int
) -> tuple[bytes, int]:
    """Make a frame.

    Args:
        kind: What the body is.
        body: At most `BODY_BYTES_MAX` bytes.
        link: Of the frame before, or `first_link`.
        durable_through: Bytes of the file that are known to be durable now.

    Returns:
        The frame, a whole number of sectors; and the link for the frame after it.
    """
    assert len(body) <= BODY_BYTES_MAX, "an append this large belongs into several"
    padding = frame_size(len(body)) - HEADER_BYTES - len(body)
    rest = body + _PADDING * padding
    head = _HEADER.pack(
        _MAGIC,
        kind,
        _count_zero_sectors(rest),
        len(body),
        google_crc32c.value(rest),
        link,
        durable_through,
    )
    header = head + _CRC.pack(google_crc32c.value(head))
    return header + rest, _hash(header)


def scan(data: bytes, *, link: int, where: str) -> ScannedFile:
    """Read every frame of a file.

    Args:
        data: The whole file.
        link: Its `first_link`.
        where: Its path, for messages.

    Raises:
        DamageError: Something is not what was written and durable.
    """
    frames: list[Frame] = []
    position = 0
    while position < len(data):
        header = _decode_header(data[position : position + HEADER_BYTES])
        if header is None:
            return _end(data, position, frames, where, "a header is damaged")
        if header.link != link:
            problem = (
                "does not follow the last one" if position else "is of another journal or file"
            )
            raise DamageError(f"{where}: the frame at byte {position} {problem}")
        rest = data[position + HEADER_BYTES : position + header.frame_bytes]
        if (
            len(rest) != header.frame_bytes - HEADER_BYTES
            or google_crc32c.value(rest) != header.body_crc
        ):
            return _end(data, position, frames, where, "wrong checksum in the frame")
        if frames and frames[-1].kind is FrameKind.END:
            raise DamageError(f"{where}: byte {position}: a frame behind the end mark")
        try:
            kind = FrameKind(header.kind)
        except ValueError as error:
            message = f"{where}: byte {position}: a frame of unknown kind {header.kind}"
            raise DamageError(message) from error
        frames.append(Frame(kind, rest[: header.body_bytes]))
        link = _hash(data[position : position + HEADER_BYTES])
        position += header.frame_bytes
    return ScannedFile(frames, position, torn=False)


def _end(
    data: bytes, position: int, frames: Sequence[Frame], where: str, problem: str
) -> ScannedFile:
    """The first place without a whole frame: the end, a torn append, or damage."""
    if data.count(0, position) == len(data) - position:
        return ScannedFile(frames, position, torn=False)
    witness = _durable_witness(data, position)
    if witness is not None:
        message = f"{where}: {problem} at byte {position}, which was durable (byte {witness})"
        raise DamageError(message)
    if not _is_unwritten(data, position):
        raise DamageError(f"{where}: {problem} at byte {position}")
    if frames and frames[-1].kind is FrameKind.END:
        raise DamageError(f"{where}: byte {position}: something behind the end mark")
    return ScannedFile(frames, position, torn=True)


def _is_unwritten(data: bytes, position: int) -> bool:
    """Whether sectors are missing at `position` that a crash can have kept from being written."""
    if len(data) - position < HEADER_BYTES:
        return True
    header = _decode_header(data[position : position + HEADER_BYTES])
    if header is None:
        return not any(data[position : position + SECTOR_BYTES])
    if position + header.frame_bytes > len(data):
        return True
    rest = data[position + HEADER_BYTES : position + header.frame_bytes]
    return _count_zero_sectors(rest) > header.zero_sectors


def _durable_witness(data: bytes, position: int) -> int | None:
    """Where a header behind `position` says that it was durable there; None if none does."""
    start = position + SECTOR_BYTES
    for at in range(start, len(data) - HEADER_BYTES + 1, SECTOR_BYTES):
        if data[at : at + 4] == _MAGIC:
            header = _decode_header(data[at : at + HEADER_BYTES])
            if header is not None and header.durable_through > position:
                return at
    return None


def _decode_header(data: bytes) -> _Header | None:
    """A header, if these bytes are a whole valid one."""
    if len(data) < HEADER_BYTES:
        return None
    head = data[: HEADER_BYTES - _CRC.size]
    if _CRC.pack(google_crc32c.value(head)) != data[HEADER_BYTES - _CRC.size : HEADER_BYTES]:
        return None
    magic, kind, zero_sectors, body_bytes, body_crc, link, durable_through = _HEADER.unpack(head)
    if magic != _MAGIC or body_bytes > BODY_BYTES_MAX:
        return None
    return _Header(kind, zero_sectors, body_bytes, body_crc, link, durable_through)


def _count_zero_sectors(rest: bytes) -> int:
    """How many whole sectors of a frame, behind that of its header, are all zeros.

    A count that the header cannot hold is given as the highest it can: sectors beyond that which
    were never written would then be taken for damage, which is the safe side.
    """
    if _ZERO_SECTOR not in rest:
        return 0
    count = 0
    for start in range(SECTOR_BYTES - HEADER_BYTES, len(rest), SECTOR_BYTES):
        count += rest[start : start + SECTOR_BYTES] == _ZERO_SECTOR
    return min(count, _ZERO_SECTORS_MAX)


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=LINK_BYTES).digest(), "little")
