"""Frames: torn is told from damaged, byte by byte (F1, F2, R2, schedule 11)."""

from __future__ import annotations

import itertools
from random import Random

import pytest

from ray_paxos.errors import DamageError
from ray_paxos.storage.disk import SECTOR_BYTES
from ray_paxos.storage.journal_frames import (
    HEADER_BYTES,
    FrameKind,
    ScannedFile,
    encode_frame,
    first_link,
    frame_size,
    scan,
)

OWNER = b"owner"
LINK = first_link(OWNER, 1)


def write_frames(
    bodies: list[bytes], *, synced: bool = True, kinds: dict[int, FrameKind] | None = None
) -> tuple[bytes, list[int]]:
    """A file, and where each frame ends. With `synced` each was durable before the next."""
    data, ends, link = b"", [], LINK
    for index, body in enumerate(bodies):
        kind = (kinds or {}).get(index, FrameKind.RECORDS)
        durable = len(data) if synced else 0
        frame, link = encode_frame(kind, body, link=link, durable_through=durable)
        data += frame
        ends.append(len(data))
    return data, ends


def read(data: bytes) -> ScannedFile:
    return scan(data, link=LINK, where="a file")


def bodies_of(data: bytes) -> list[bytes]:
    return [frame.body for frame in read(data).frames]


BODIES = [b"first", Random(1).randbytes(700), b"", Random(2).randbytes(1_300)]


def test_frames_read_back_as_written():
    data, ends = write_frames(BODIES)
    assert bodies_of(data) == BODIES
    assert read(data).end == ends[-1] == len(data)
    assert not read(data).torn


@pytest.mark.parametrize("length", [0, 1, 479, 480, 481, 512, 991, 992, 993, 5_000])
def test_a_frame_fills_whole_sectors_so_its_header_never_crosses_one(length):
    data, _ = write_frames([bytes(length), b"next"])
    assert len(data) % SECTOR_BYTES == 0
    assert frame_size(length) % SECTOR_BYTES == 0
    assert bodies_of(data) == [bytes(length), b"next"]


def test_reserved_room_behind_the_last_frame_is_the_end():
    data, ends = write_frames(BODIES)
    scanned = read(data + bytes(10_000))
    assert (scanned.end, scanned.torn) == (ends[-1], False)
    assert [frame.body for frame in scanned.frames] == BODIES


def test_a_file_cut_at_any_byte_of_its_last_frame_loses_that_frame_only():
    data, ends = write_frames(BODIES)
    for size in range(ends[-2], len(data)):
        scanned = read(data[:size])
        assert [frame.body for frame in scanned.frames] == BODIES[:-1], size
        assert scanned.end == ends[-2]
        assert scanned.torn == (size > ends[-2])


def test_a_file_cut_before_what_a_later_frame_saw_durable_is_damage():
    data, ends = write_frames(BODIES)
    for size in range(ends[0] + 1, ends[1], SECTOR_BYTES):
        cut = data[:size] + bytes(ends[1] - size) + data[ends[1] :]
        with pytest.raises(DamageError):
            read(cut)


@pytest.mark.parametrize("body", [Random(3).randbytes(2_000), bytes(2_000), b"\xff" * 2_000])
def test_any_sectors_of_the_last_frame_that_were_never_written_are_torn(body):
    data, ends = write_frames([b"durable", body])
    sectors = range(ends[0], ends[1], SECTOR_BYTES)
    assert len(sectors) == 4
    for kept in itertools.product((True, False), repeat=len(sectors)):
        torn = bytearray(data + bytes(SECTOR_BYTES))
        for is_kept, start in zip(kept, sectors, strict=True):
            if not is_kept:
                torn[start : start + SECTOR_BYTES] = bytes(SECTOR_BYTES)
        whole = bytes(torn) == data + bytes(SECTOR_BYTES)
        expected = [b"durable", body] if whole else [b"durable"]
        assert bodies_of(bytes(torn)) == expected, kept


@pytest.mark.parametrize("rest", [0, 3 * SECTOR_BYTES])
@pytest.mark.parametrize("body", [Random(4).randbytes(900), bytes(2_000)])
@pytest.mark.parametrize("flip", [0x01, 0xFF])
def test_a_flip_in_any_byte_of_any_frame_is_damage_also_in_the_last(rest, body, flip):
    data, _ = write_frames([b"first", body, b"last"])
    for at in range(len(data)):
        flipped = bytearray(data + bytes(rest))
        flipped[at] ^= flip
        with pytest.raises(DamageError):
            read(bytes(flipped))


@pytest.mark.parametrize("body", [bytes(700) + b"x" * 700, b"x" * 700 + bytes(1_400)])
def test_a_flip_in_a_last_frame_with_zeros_of_its_own_is_damage(body):
    # Sectors of zeros that were written so must not make the whole frame look unwritten.
    data, _ = write_frames([b"first", body])
    for at in range(len(data)):
        flipped = bytearray(data + bytes(2_048))
        flipped[at] ^= 0x40
        with pytest.raises(DamageError):
            read(bytes(flipped))


def test_a_flip_in_the_reserved_rest_costs_nothing_that_was_written():
    data, _ = write_frames(BODIES)
    for at in range(len(data), len(data) + 1_500):
        flipped = bytearray(data + bytes(1_500))
        flipped[at] ^= 1
        try:
            assert bodies_of(bytes(flipped)) == BODIES
        except DamageError:
            assert at < len(data) + SECTOR_BYTES, "taken for a header"


def test_zeros_over_any_200_bytes_of_the_last_frame_are_damage():
    # The parent's R2: its checksum was recomputed from the file and proved nothing.
    data, ends = write_frames([b"first", Random(5).randbytes(1_200)])
    for start in range(ends[0], ends[1] - 200):
        zeroed = data[:start] + bytes(200) + data[start + 200 :]
        with pytest.raises(DamageError):
            read(zeroed)
        with pytest.raises(DamageError):
            read(zeroed + bytes(4_096))


def test_unsynced_frames_may_be_torn_in_any_order():
    bodies = [b"durable", Random(6).randbytes(900), Random(7).randbytes(900), b"end"]
    first, ends = write_frames(bodies[:1])
    data, link = first, encode_frame(FrameKind.RECORDS, bodies[0], link=LINK, durable_through=0)[1]
    for body in bodies[1:]:
        frame, link = encode_frame(FrameKind.RECORDS, body, link=link, durable_through=len(first))
        data += frame
        ends.append(len(data))
    sectors = range(len(first), len(data), SECTOR_BYTES)
    for kept in itertools.product((True, False), repeat=len(sectors)):
        torn = bytearray(data)
        for is_kept, start in zip(kept, sectors, strict=True):
            if not is_kept:
                torn[start : start + SECTOR_BYTES] = bytes(SECTOR_BYTES)
        found = bodies_of(bytes(torn))
        assert found == bodies[: len(found)]
        assert found


def test_a_durable_frame_is_never_taken_for_torn_once_a_later_one_stands():
    data, ends = write_frames([b"first", Random(8).randbytes(900), b"later"])
    for start in range(ends[0], ends[1], SECTOR_BYTES):
        zeroed = data[:start] + bytes(SECTOR_BYTES) + data[start + SECTOR_BYTES :]
        with pytest.raises(DamageError, match="was durable"):
            read(zeroed)


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_frame_that_is_left_out_is_damage(missing):
    data, ends = write_frames(BODIES)
    starts = [0, *ends]
    with pytest.raises(DamageError):
        read(data[: starts[missing]] + data[starts[missing + 1] :])


def test_two_frames_that_changed_places_are_damage():
    data, ends = write_frames([b"a" * 10, b"b" * 10, b"c" * 10])
    swapped = data[: ends[0]] + data[ends[1] : ends[2]] + data[ends[0] : ends[1]]
    with pytest.raises(DamageError, match="does not follow"):
        read(swapped)


@pytest.mark.parametrize(("owner", "number"), [(b"other", 1), (OWNER, 2)])
def test_a_file_of_another_journal_or_number_is_damage(owner, number):
    data, _ = write_frames(BODIES)
    with pytest.raises(DamageError):
        scan(data, link=first_link(owner, number), where="a file")


def test_nothing_may_stand_behind_an_end_mark():
    kinds = {1: FrameKind.END}
    data, ends = write_frames([b"first", b"", b"behind"], kinds=kinds)
    assert read(data[: ends[1]]).is_ended
    assert read(data[: ends[1]] + bytes(5_000)).is_ended
    with pytest.raises(DamageError, match="behind the end mark"):
        read(data)
    with pytest.raises(DamageError):
        read(data[: ends[1] + HEADER_BYTES - 1])


def test_an_end_mark_says_that_all_before_it_is_whole():
    data, ends = write_frames([b"first", Random(9).randbytes(900), b""], kinds={2: FrameKind.END})
    for start in range(0, ends[1], SECTOR_BYTES):
        zeroed = data[:start] + bytes(SECTOR_BYTES) + data[start + SECTOR_BYTES :]
        with pytest.raises(DamageError):
            read(zeroed)


def test_an_unknown_kind_of_frame_is_damage():
    frame, _ = encode_frame(9, b"", link=LINK, durable_through=0)  # type: ignore[arg-type]
    with pytest.raises(DamageError, match="unknown kind"):
        read(frame)
