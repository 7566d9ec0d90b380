"""The wire form: every message class comes back as it was, everything else is a typed error."""

from __future__ import annotations

import contextlib
import enum
import types
import typing
from typing import Any, get_args, get_origin

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.core import wire
from ray_paxos.core.ballot import Ballot
from ray_paxos.core.client_messages import Submit
from ray_paxos.core.genesis import MemberSpec
from ray_paxos.core.learner_messages import CatchUp, Chosen
from ray_paxos.core.messages import Accept, Accepted, Address, Envelope, Message, RoleName
from ray_paxos.core.releases import NEWEST, OLDEST, Release
from ray_paxos.core.wire import (
    ENVELOPES,
    HEADER_BYTES,
    decode_envelopes,
    encode_envelope,
    encode_envelopes,
    join_envelopes,
    seal,
    version_of,
)
from ray_paxos.errors import WireFormatError

MESSAGE_CLASSES = get_args(Message)
IN_WORDS = Envelope(
    b"0123456789abcdef",
    7,
    Address(2, RoleName.ACCEPTOR),
    12,
    3,
    0,
    Accepted(Ballot(4, 1, 2), 99, 5),
)

# The fields of each message in the order in which they are sent: names are not on the wire.
VERSION_1 = {
    "prepare": "ballot from_instance released",
    "promise": "ballot from_instance floor votes next_instance",
    "accept": "ballot instance_id value sequence lease_ms trace",
    "accepted": "ballot instance_id sequence",
    "nack": "ballot instance_id reason promised config_id wait_ms",
    "below_floor": "ballot instance_id floor",
    "heartbeat": "ballot sequence confirmed chosen_through majority_durable point "
    "confirmed_sequence lease_ms heard",
    "heartbeat_confirmed": "ballot sequence",
    "pre_vote": "ballot",
    "pre_vote_granted": "ballot",
    "lease_release": "ballot",
    "lease_notice": "ballot learner_incarnation until_ns chosen_through",
    "revoke_lease": "ballot",
    "take_over": "released",
    "transfer_master": "request_id target version",
    "master_transferred": "request_id target",
    "chosen": "values chosen_through majority_durable trace",
    "learner_status": "learned_through applied_through durable_through log_floor point "
    "log_time_ns ballot mounted stopped sent_ns master master_version proposer_incarnation "
    "revoked configuration due_log_time_ns",
    "applied": "instance_id ballot results",
    "catch_up": "through sources joined",
    "learn_request": "from_instance bytes_max",
    "learn_reply": "from_instance values learned_through memory_floor log_floor wait_ms",
    "raise_vote_floor": "floor",
    "vote_floor_raised": "floor",
    "segment_sealed": "first last byte_count",
    "segments_listed": "floor segments",
    "segments_wanted": "",
    "segment_merged": "first last byte_count",
    "create_group": "replica_id configuration floor",
    "remove_group": "replica_id config_id",
    "order_done": "replica_id refused",
    "follow": "configuration cut_short_of",
    "followed": "config_id replica_id asked_id",
    "change_membership": "request_id entry",
    "membership_changed": "request_id configuration",
    "take_part": "part",
    "drop_part": "",
    "parts_changed": "version",
    "parts_followed": "version",
    "flush": "",
    "open_session": "request_id label",
    "submit": "request_id batches timeout_ms trace",
    "submitted": "request_id results",
    "redirected": "request_id master retry_after_ms untouched",
    "refused": "request_id code message retry_after_ms",
    "query": "request_id machine request at_least consistency max_staleness_ms timeout_ms wait_ms",
    "query_many": "request_id machine requests at_least consistency max_staleness_ms timeout_ms "
    "bytes_max",
    "query_answers": "request_id applied_through results refusals learned",
    "read_index": "request_id",
    "read_index_confirmed": "request_id index ballot",
    "query_result": "request_id applied_through result learned",
    "query_failed": "request_id applied_through message problem master",
    "quorum_read": "request_id",
    "quorum_read_answer": "request_id accepted_through voters",
    "chain_request": "instance_id",
    "chain_reply": "instance_id chain learned_through memory_floor",
    "checkpoints_kept": "oldest newest",
    "fetch_checkpoint": "above sources",
    "checkpoint_ready": "instance_id problem",
    "learner_installed": "instance_id",
    "save_wanted": "",
    "state_saved": "instance_id problem",
    "saved_taken": "instance_id",
    "segment_damaged": "first last why",
    "log_cleaned": "floor",
    "checkpoint_request": "above",
    "checkpoint_offer": "above manifest",
    "chunk_request": "instance_id path offset bytes_max",
    "chunk": "instance_id path offset data wait_ms",
    "take_checkpoint": "through",
    "checkpoint_due": "through newest problem",
}


def strategy(kind: Any) -> st.SearchStrategy[Any]:
    """Instances of a field's type, down to its parts."""
    origin = get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*(strategy(part) for part in get_args(kind)))
    if origin is tuple:
        parts = get_args(kind)
        if parts[1:] == (...,):
            return st.lists(strategy(parts[0]), max_size=2).map(tuple)
        return st.tuples(*(strategy(part) for part in parts))
    if origin is dict:
        key, held = get_args(kind)
        return st.dictionaries(strategy(key), strategy(held), max_size=2)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return st.sampled_from(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return st.builds(kind, **{f.name: strategy(f.type) for f in msgspec.structs.fields(kind)})
    simple: dict[Any, st.SearchStrategy[Any]] = {
        int: st.integers(-(2**63), 2**64 - 1),
        bytes: st.binary(max_size=9),
        str: st.text(max_size=5),
        bool: st.booleans(),
        type(None): st.none(),
    }
    return simple[kind]


def in_envelope(message: Message) -> Envelope:
    return msgspec.structs.replace(IN_WORDS, message=message)


@pytest.mark.parametrize("kind", MESSAGE_CLASSES, ids=lambda kind: kind.__name__)
def test_every_message_comes_back_as_it_was(kind: type[msgspec.Struct]) -> None:
    @settings(max_examples=10, deadline=None, database=None)
    @given(strategy(kind))
    def round_trip(message: Any) -> None:
        envelope = in_envelope(message)
        (back,) = decode_envelopes(encode_envelopes([envelope]))
        assert back == envelope
        assert type(back.message) is kind
        assert hash(back.sender) == hash(envelope.sender)
        assert back.sender.role is RoleName.ACCEPTOR, "roles compare it by identity"

    round_trip()


def test_every_message_is_frozen_and_has_a_tag_of_its_own() -> None:
    tags = [kind.__struct_config__.tag for kind in MESSAGE_CLASSES]
    assert len(set(tags)) == len(tags) > 30
    assert all(isinstance(tag, str) for tag in tags)
    assert all(kind.__struct_config__.frozen for kind in MESSAGE_CLASSES)


def test_the_bytes_under_version_1() -> None:
    # What is on its way between processes of two releases: another form is another version.
    assert (
        encode_envelopes([IN_WORDS]).hex()
        == (
            "01"  # kind
            "01"  # cluster version
            "0cda368f"  # CRC32C of all else
            "91"  # one envelope
            "97c410" + b"0123456789abcdef".hex() + "07"  # genesis, group
            "920202"  # sender
            "0c0300"  # replica_id, incarnation, config_id
            "94a8" + b"accepted".hex() + "930401026305"  # message: ballot, instance, sequence
        )
    )


def test_the_fields_under_version_1() -> None:
    fields = {
        str(kind.__struct_config__.tag): " ".join(f.name for f in msgspec.structs.fields(kind))
        for kind in MESSAGE_CLASSES
    }
    assert fields == VERSION_1
    assert all(kind.__struct_config__.array_like for kind in MESSAGE_CLASSES)


JOINED = (MemberSpec("m9", 9),)


@pytest.mark.parametrize(
    ("message", "without"),
    [
        (Submit(1, (), 5, "00-1"), Submit(1, (), 5)),
        (
            Accept(Ballot(4, 1, 2), 99, b"value", 5, 3_000, "00-1"),
            Accept(Ballot(4, 1, 2), 99, b"value", 5, 3_000),
        ),
        (Chosen((), 98, 97, "00-1"), Chosen((), 98, 97)),
        (CatchUp(20, (9,), JOINED), CatchUp(20, (9,))),
    ],
)
def test_who_knows_a_field_that_came_later_and_who_does_not_read_each_other(
    message: Message, without: Message
) -> None:
    """The field is the last one: the releases of a cluster need not agree on it."""
    fields = msgspec.to_builtins(in_envelope(message), builtin_types=(bytes,))
    older = msgspec.msgpack.encode([[*fields[:-1], fields[-1][:-1]]])
    (read,) = decode_envelopes(_with_header(older))
    assert read.message == without
    later = msgspec.msgpack.encode([[*fields[:-1], [*fields[-1], "another field"]]])
    (read,) = decode_envelopes(_with_header(later))
    assert read.message == message


def test_no_trace_costs_one_byte() -> None:
    untraced, traced = (
        encode_envelope(in_envelope(Accept(Ballot(4, 1, 2), 99, b"v", 5, 3_000, trace)))
        for trace in ("", "x" * 31)
    )
    assert untraced[-1:] == b"\xa0"
    assert len(traced) == len(untraced) + 31


def test_a_call_carries_many_envelopes_in_order() -> None:
    envelopes = [in_envelope(Accepted(Ballot(1, 1, 1), i)) for i in range(300)]
    assert list(decode_envelopes(encode_envelopes(envelopes))) == envelopes
    assert decode_envelopes(encode_envelopes([])) == ()


@pytest.mark.parametrize("kind", [0, 2, 0x91, 255])
def test_another_kind_is_named(kind: int) -> None:
    with pytest.raises(WireFormatError, match=f"of kind {kind}, where kind {ENVELOPES} is taken"):
        decode_envelopes(seal(kind, 1, encode_envelopes([])[HEADER_BYTES:]))


@pytest.mark.parametrize("version", [0, NEWEST + 1, 255])
def test_a_version_that_this_release_does_not_know_is_named(version: int) -> None:
    with pytest.raises(WireFormatError, match=f"version {version}; this release knows"):
        decode_envelopes(encode_envelopes([IN_WORDS], version))


def test_a_batch_names_the_version_under_which_it_was_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "THIS_RELEASE", Release(2, 4))
    for version in (2, 3, 4):
        data = encode_envelopes([IN_WORDS], version)
        assert version_of(data) == version
        assert decode_envelopes(data) == (IN_WORDS,)
        assert join_envelopes([encode_envelope(IN_WORDS)], version) == data
    with pytest.raises(WireFormatError, match="version 1; this release knows cluster versions 2"):
        decode_envelopes(encode_envelopes([IN_WORDS], 1))


def test_nothing_at_all_is_no_batch() -> None:
    with pytest.raises(WireFormatError):
        decode_envelopes(b"")


def test_a_batch_cut_anywhere_or_with_more_behind_it_is_refused() -> None:
    data = encode_envelopes([IN_WORDS, IN_WORDS])
    for length in range(len(data)):
        with pytest.raises(WireFormatError):
            decode_envelopes(data[:length])
    with pytest.raises(WireFormatError):
        decode_envelopes(data + b"\x00")


def test_every_flipped_bit_is_refused() -> None:
    data = encode_envelopes([IN_WORDS])
    for position in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            with pytest.raises(WireFormatError):
                decode_envelopes(bytes(flipped))


def _with_header(body: bytes) -> bytes:
    """What a sender with the right checksum, and something wrong behind it, would send."""
    return seal(ENVELOPES, OLDEST, body)


@given(st.binary(max_size=50))
def test_any_other_bytes_are_a_typed_error(data: bytes) -> None:
    with contextlib.suppress(WireFormatError):
        decode_envelopes(_with_header(data))


@pytest.mark.parametrize(
    "kind",
    ["unknown tag", "unknown role", "missing field"],
)
def test_what_no_release_of_ours_sends_is_refused(kind: str) -> None:
    accepted: list[Any] = ["accepted", [4, 1, 2], 99]
    sender = [2, 2]
    if kind == "unknown tag":
        accepted[0] = "acceptance"
    elif kind == "unknown role":
        sender[1] = 9
    else:
        accepted.pop()
    body = msgspec.msgpack.encode([[b"0123456789abcdef", 7, sender, 12, 3, 0, accepted]])
    with pytest.raises(WireFormatError):
        decode_envelopes(_with_header(body))
