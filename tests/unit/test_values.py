"""Values are encoded once, hashed over exactly these bytes, and chained."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.values import (
    EMPTY_CHAIN,
    HASH_BYTES,
    CommandBatch,
    MachineMount,
    MasterRecord,
    MembershipEntry,
    MembershipKind,
    SessionId,
    SessionOpen,
    Value,
    decode_value,
    encode_value,
    extend_chain,
    membership_entry,
    row_count,
    value_hash,
)
from tests.unit.core_helpers import commands

TAG = b"\xaamembership"
"""What a membership entry begins with; users may write it, too."""

numbers = st.integers(0, 2**63 - 1)
texts = st.text(max_size=5) | st.just("membership")
memberships = st.builds(MembershipEntry, st.sampled_from(MembershipKind), numbers, numbers)
entries = st.one_of(
    st.builds(
        CommandBatch,
        session=st.builds(SessionId, numbers, numbers),
        lowest_open=numbers,
        first_number=numbers,
        machine=texts,
        commands=st.lists(st.binary(max_size=9) | st.just(TAG), max_size=4).map(tuple),
    ),
    st.builds(SessionOpen, label=texts),
    st.builds(MasterRecord, ballot=st.builds(Ballot, numbers, numbers, numbers)),
    st.builds(MachineMount, texts, texts, numbers),
    memberships,
)
values = st.builds(Value, log_time_ns=numbers, entries=st.lists(entries, max_size=4).map(tuple))


@given(values)
def test_a_value_comes_back_as_it_was(value: Value) -> None:
    encoded = encode_value(value)
    assert decode_value(encoded) == value
    assert encode_value(decode_value(encoded)) == encoded


@given(values, st.data())
def test_no_part_of_a_value_is_a_value(value: Value, data: st.DataObject) -> None:
    encoded = encode_value(value)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(msgspec.DecodeError):
        decode_value(encoded[:cut])
    with pytest.raises(msgspec.DecodeError):
        decode_value(encoded + b"\x00")


@given(st.binary(max_size=60))
def test_any_other_bytes_are_a_typed_error(data: bytes) -> None:
    with contextlib.suppress(msgspec.DecodeError):
        decode_value(data)


def test_text_that_is_not_utf8_is_a_typed_error() -> None:
    encoded = encode_value(Value(0, (SessionOpen("abc"),))).replace(b"abc", b"\xff\xfe\xfd")
    with pytest.raises(msgspec.DecodeError):
        decode_value(encoded)


@given(values)
def test_a_membership_entry_is_told_from_any_other_value(value: Value) -> None:
    first = value.entries[0] if len(value.entries) == 1 else None
    expected = first if isinstance(first, MembershipEntry) else None
    assert membership_entry(encode_value(value)) == expected


# Each at which the log time takes another form, or one byte more.
LOG_TIMES = [0, 127, *(2**bits + less for bits in (7, 8, 16, 32) for less in (-1, 0)), 2**64 - 1]


@pytest.mark.parametrize("log_time_ns", LOG_TIMES)
@given(entry=memberships)
def test_no_membership_entry_is_missed_at_any_log_time(
    log_time_ns: int, entry: MembershipEntry
) -> None:
    assert membership_entry(encode_value(Value(log_time_ns, (entry,)))) == entry


@pytest.mark.parametrize(
    "entry",
    [SessionOpen("membership"), MachineMount("membership", "membership", 1)],
    ids=["label", "names"],
)
def test_what_users_name_so_is_no_membership_entry(entry: SessionOpen | MachineMount) -> None:
    encoded = encode_value(Value(0, (entry,)))
    assert TAG in encoded[:27], "it is looked at closely"
    assert membership_entry(encoded) is None


def test_a_membership_entry_that_does_not_stand_alone_changes_nothing() -> None:
    entry = MembershipEntry(MembershipKind.REMOVE, 3, 0)
    for others in ((entry, SessionOpen("")), (entry, entry)):
        assert membership_entry(encode_value(Value(0, others))) is None


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_bytes_that_only_look_like_one_are_none(before: bytes, behind: bytes) -> None:
    data = before + TAG + behind
    try:
        decode_value(data)
    except msgspec.DecodeError:
        assert membership_entry(data) is None


def test_sessions_opened_in_one_instance_differ() -> None:
    assert SessionId(5, 0) != SessionId(5, 1)
    assert SessionId(5, 1) < SessionId(6, 0)


@pytest.mark.parametrize(
    ("entry_list", "rows"),
    [
        ((), 1),
        ((SessionOpen("a"),), 1),
        ((commands("x", count=3),), 3),
        ((SessionOpen("a"), commands("x", count=3), MachineMount("kv", "kv", 1)), 5),
    ],
    ids=["no-op", "internal", "batch", "mixed"],
)
def test_a_value_takes_a_row_a_command_and_at_least_one(
    entry_list: tuple[CommandBatch, ...], rows: int
) -> None:
    assert row_count(Value(0, entry_list)) == rows


def test_the_hash_is_over_every_byte() -> None:
    encoded = encode_value(Value(7, (commands("some bytes", count=9),)))
    whole = value_hash(encoded)
    assert len(whole) == HASH_BYTES
    seen = {whole}
    for position in range(len(encoded)):
        flipped = bytearray(encoded)
        flipped[position] ^= 1
        seen.add(value_hash(bytes(flipped)))
    assert len(seen) == len(encoded) + 1


@given(st.lists(st.binary(max_size=3), max_size=5), st.lists(st.binary(max_size=3), max_size=5))
def test_members_share_a_chain_only_with_the_whole_sequence(
    ours: list[bytes], theirs: list[bytes]
) -> None:
    def chain(sequence: list[bytes]) -> bytes:
        end = EMPTY_CHAIN
        for encoded in sequence:
            end = extend_chain(end, value_hash(encoded))
        return end

    assert (chain(ours) == chain(theirs)) == (ours == theirs)
    assert len(chain(ours)) == HASH_BYTES
