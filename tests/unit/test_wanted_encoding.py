"""How what is wanted, and its changes, stand in logs and checkpoints."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.core.genesis import GroupSpec, MachineSpec, MemberSpec, Voter
from ray_paxos.core.wanted import (
    GroupState,
    MemberState,
    SpaceState,
    Wanted,
    WantedGroup,
    WantedMember,
    WantedSpace,
    decode_wanted,
    encode_wanted,
)
from ray_paxos.core.wanted_changes import (
    Begin,
    Change,
    DropSpace,
    JoinMember,
    LeaveMember,
    MakeGroup,
    MakeSpace,
    PlaceGroup,
    RaiseVersion,
    decode_change,
    encode_change,
)
from tests.unit.wanted_changes import (
    BEGIN,
    FIRST,
    GROUP_CHANGES,
    JOIN_D,
    MEMBER_CHANGES,
    after,
    changes,
    group,
)

texts = st.text(max_size=8)
whole = st.integers(0, 2**63 - 1)
member_specs = st.builds(MemberSpec, texts, whole)
wanted_members = st.builds(
    WantedMember,
    member_specs,
    st.sampled_from(MemberState),
    texts,
    st.lists(st.tuples(texts, texts), max_size=2).map(tuple),
    texts,
)
voters_of = st.lists(st.builds(Voter, whole, whole), max_size=3).map(tuple)
wanted_groups = st.builds(
    WantedGroup,
    st.builds(
        GroupSpec,
        whole,
        voters_of,
        st.lists(st.builds(MachineSpec, texts, texts, whole), max_size=2).map(tuple),
        whole,
        voters_of,
        st.lists(member_specs, max_size=2).map(tuple),
    ),
    st.sampled_from(GroupState),
    whole,
    st.lists(texts, max_size=3).map(tuple),
)
wanted_spaces = st.builds(
    WantedSpace, texts, st.lists(whole, max_size=3).map(tuple), st.sampled_from(SpaceState)
)
wanteds = st.builds(
    Wanted,
    whole,
    st.lists(wanted_members, max_size=4).map(lambda some: {m.spec.name: m for m in some}),
    st.lists(wanted_groups, max_size=4).map(lambda some: {g.spec.group: g for g in some}),
    st.lists(wanted_spaces, max_size=4).map(lambda some: {s.name: s for s in some}),
    whole,
)
all_changes = st.one_of(
    changes,
    st.builds(Begin, st.tuples(wanted_members), st.tuples(wanted_groups)),
    st.builds(JoinMember, wanted_members),
    st.builds(MakeGroup, wanted_groups),
    st.builds(MakeSpace, texts, st.lists(whole, max_size=3).map(tuple)),
)


@given(wanteds, st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_one_form_whatever_the_order(wanted: Wanted, randomness: random.Random) -> None:
    encoded = encode_wanted(wanted)
    assert decode_wanted(encoded) == wanted
    assert encode_wanted(decode_wanted(encoded)) == encoded
    members, groups = list(wanted.members.items()), list(wanted.groups.items())
    spaces = list(wanted.spaces.items())
    for each in (members, groups, spaces):
        randomness.shuffle(each)
    other = msgspec.structs.replace(
        wanted, members=dict(members), groups=dict(groups), spaces=dict(spaces)
    )
    assert encode_wanted(other) == encoded


@given(all_changes)
@settings(max_examples=150, deadline=None)
def test_every_change_is_read_back(change: Change) -> None:
    decoded = decode_change(encode_change(change))
    assert type(decoded) is type(change)
    assert decoded == change


def test_the_encodings_stay_as_they_are() -> None:
    """They stand in logs and in checkpoints."""
    assert encode_change(LeaveMember("a")) == b"\x92\xa5leave\xa1a"
    assert [kind.__struct_config__.tag for kind in get_args(Change)] == [
        "begin",
        "join",
        "joined",
        "leave",
        "drain",
        "stay",
        "ending",
        "left",
        "make_group",
        "group_made",
        "place_group",
        "drop_group",
        "group_dropped",
        "raise_version",
        "make_space",
        "drop_space",
    ]
    empty = msgspec.msgpack.decode(encode_wanted(Wanted()))
    assert empty == [0, {}, {}, {}, 1]
    assert decode_wanted(msgspec.msgpack.encode([0, {}, {}])) == Wanted(), "from before spaces"
    assert encode_change(MakeSpace("s", (1, 2))) == b"\x93\xaamake_space\xa1s\x92\x01\x02"
    spaces = Wanted(spaces={"s": WantedSpace("s", (1, 2), SpaceState.PRESENT)})
    assert msgspec.msgpack.decode(encode_wanted(spaces))[3] == {"s": ["s", [1, 2], 1]}
    assert [each.value for each in MemberState] == [1, 2, 3, 4, 5, 6]
    assert [each.value for each in GroupState] == [1, 2, 3, 4]
    assert [each.value for each in SpaceState] == [1, 2]


def nested(depth: int) -> bytes:
    """A change with one field more than it has, which is nested deeply."""
    return b"\x93\xa5leave\xa1a" + b"\x91" * depth + b"\x90"


BAD = (
    b"",
    b"\xc1",
    b"leave",
    b"\x92\xa5leave",
    b"\x92\xa5leave\xa1a\x00",
    b"\x92\xa5leave\x01",
    b"\x92\xa5leave\xa1\xff",
    b"\x93\xa5leave\xa1a\x00",
    b"\x92\xa4nono\xa1a",
    b"\x92\xa4join\x93\x92\xa1d\x0e\x09\xa0",
    b"\x91" * 100_000 + b"\x90",
    nested(100_000),
)


@pytest.mark.parametrize("data", BAD, ids=range(len(BAD)))
def test_bad_bytes_are_no_change(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_change(data)


def with_one_more(data: object, path: tuple[int, ...]) -> object:
    """The same with one field more at the end of the struct that is there."""
    assert isinstance(data, list)
    if not path:
        return [*data, 0]
    return [with_one_more(each, path[1:]) if n == path[0] else each for n, each in enumerate(data)]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        *((kind("a"), ()) for kind in MEMBER_CHANGES),
        *((kind(1), ()) for kind in GROUP_CHANGES),
        (RaiseVersion(2, 1), ()),
        (PlaceGroup(1, ()), ()),
        (JOIN_D, ()),
        (JOIN_D, (1,)),
        (JOIN_D, (1, 0)),
        (MakeGroup(group(7)), ()),
        (MakeGroup(group(7)), (1,)),
        (MakeGroup(group(7)), (1, 0)),
        (MakeGroup(group(7)), (1, 0, 1, 0)),
        (MakeGroup(group(7)), (1, 0, 2, 0)),
        (MakeSpace("s", (1,)), ()),
        (DropSpace("s"), ()),
        (BEGIN, ()),
    ],
)
def test_what_is_not_understood_is_not_skipped(change: Change, path: tuple[int, ...]) -> None:
    """A field more could be nested so deeply that one member can skip it and another cannot."""
    data = msgspec.msgpack.decode(encode_change(change))
    with pytest.raises(msgspec.DecodeError):
        decode_change(msgspec.msgpack.encode(with_one_more(data, path)))


BAD_WANTED = (
    b"",
    b"\xc1",
    b"\x94\x01\x90\x80\x01",
    b"\x94\x01\x81\xa1\xff\x90\x80\x01",
    b"\x94\x01\x81\x01\x90\x80\x01",
    b"\x94\x01\x80\x81\xa1a\x90\x01",
    b"\x94\x01\x80\x80\x01\x00",
    b"\x95\x01\x80\x80\x01\x00",
    b"\x96\x01\x80\x80\x80\x01\x00",
    b"\x94\x01\x80\x80\x81\xa1s\x94\xa1s\x91\x01\x01\x00",
    b"\x96\x01\x80\x80\x80\x01" + b"\x91" * 100_000 + b"\x90",
)


@pytest.mark.parametrize("data", BAD_WANTED, ids=range(len(BAD_WANTED)))
def test_bad_bytes_are_not_what_is_wanted(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_wanted(data)


def damaged(encoded: bytes, randomness: random.Random) -> Iterable[bytes]:
    yield from (encoded[:length] for length in range(len(encoded)))
    for _ in range(200):
        place = randomness.randrange(len(encoded))
        yield encoded[:place] + bytes([randomness.randrange(256)]) + encoded[place + 1 :]


@pytest.mark.parametrize("seed", range(3))
def test_damaged_bytes_raise_nothing_else(seed: int) -> None:
    randomness = random.Random(seed)
    wanted = after(
        FIRST, JOIN_D, PlaceGroup(1, ("a", "b")), MakeGroup(group(7)), MakeSpace("s", (1,))
    )
    for data in damaged(encode_wanted(wanted), randomness):
        try:
            decode_wanted(data)
        except msgspec.DecodeError:
            continue
    for change in (BEGIN, JOIN_D, MakeGroup(group(7)), PlaceGroup(1, ("a",)), MakeSpace("s", (1,))):
        for data in damaged(encode_change(change), randomness):
            try:
                decode_change(data)
            except msgspec.DecodeError:
                continue
