"""The one form of values: equal ones have equal bytes, and come back as they were."""

from __future__ import annotations

import pickle
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings

from ray_paxos.class_shipping import types_of
from ray_paxos.machines import object_values
from ray_paxos.machines.object_values import NotDataError, decode_value, encode_value
from tests.unit.played_shop import (
    NO_TYPES,
    PLAIN,
    Color,
    Loop,
    Looped,
    Names,
    Order,
    Point,
    Rank,
    Rights,
    Shop,
    Slotted,
)

VALUES: list[object] = [
    None, True, 1, -1, 1 << 63, 1 << 64, -(1 << 70), 0.0, -0.0, float("inf"), "", "\ud800", "a",
    b"", b"a", bytearray(b"a"), [], (), [()], {}, {"b": 1, "a": [2]}, {1: {(2, 3): 4}}, set(),
    frozenset({1, "a", None}), {"a", "b", "c", (1, 2)}, 1 + 2j, Decimal("1.50"), Fraction(1, 3),
    UUID(int=7), date(2020, 1, 2), datetime(2020, 1, 2, 3, tzinfo=timezone.utc), timedelta(hours=1),
    range(3), slice(1, 2), Ellipsis, NotImplemented, deque([1, 2], maxlen=3), Counter("aab"),
    OrderedDict(b=1, a=2), defaultdict(list, a=[1]), ValueError("x", 1), Color.RED, Rank.LOW,
    Rights.READ | Rights.WRITE, Point(1, 2), Order("a", 1, frozenset("xyz")), Order, len,
    Names("ab"), datetime.fromisoformat, Path("a/b"),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_comes_back_as_it_was(value: object) -> None:
    types = types_of(Shop)
    data = encode_value(value, types)
    found = decode_value(data, types)
    assert type(found) is type(value)
    assert found == value or repr(found) == repr(value)
    assert encode_value(found, types) == data


def test_values_that_differ_differ() -> None:
    types = types_of(Shop)
    assert len({encode_value(value, types) for value in VALUES}) == len(VALUES)


def test_the_order_in_which_attributes_were_set_does_not_show() -> None:
    one, other = Loop("own"), Loop("own")
    vars(one).clear()
    one.tags, one.own = [], "own"
    assert list(vars(one)) != list(vars(other))
    types = types_of(Looped)
    assert encode_value(one, types) == encode_value(other, types)


def test_the_order_of_a_dictionary_shows_but_where_it_is_not_to() -> None:
    one, other = {"a": 1, "b": 2}, {"b": 2, "a": 1}
    assert encode_value(one, NO_TYPES) != encode_value(other, NO_TYPES)
    assert list(decode_value(encode_value(other, NO_TYPES), NO_TYPES)) == ["b", "a"]
    as_sorted = [encode_value(each, NO_TYPES, sorts_keys=True) for each in (one, other)]
    assert as_sorted[0] == as_sorted[1]


def test_slots_and_not_a_number_come_back() -> None:
    types = types_of(Shop)
    found = decode_value(encode_value(Slotted(1, [float("nan")]), types), types)
    assert (found.left, repr(found.right)) == (1, "[nan]")
    negative = msgspec.msgpack.decode(b"\xcb\xff\xf8\0\0\0\0\0\1")
    assert negative != negative
    assert encode_value(negative, types) == encode_value(float("nan"), types)


class _Own:
    def __reduce__(self) -> Any:
        raise OSError(f"no: {self!r}")


def test_what_is_no_data_is_refused() -> None:
    own: list[Any] = []
    own.append(own)
    deep: Any = 1
    for _ in range(object_values.DEPTH_MAX + 1):
        deep = [deep]
    for value, why in [
        (own, "contains itself"),
        (deep, "nested over 100 deep"),
        ((each for each in "ab"), "a generator"),
        ([memoryview(b"")], "a memoryview"),
        (_Own(), "a _Own$"),
        (lambda: None, "cannot be imported"),
    ]:
        with pytest.raises(NotDataError, match=why):
            encode_value(value, NO_TYPES)
    encode_value(deep[0], NO_TYPES)


def test_few_objects_that_mention_each_other_often_come_to_an_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(object_values, "ITEMS_MAX", 10_000)
    value: list[Any] = []
    for _ in range(60):
        value = [value, value]
    with pytest.raises(NotDataError, match="over 10,000 items"):
        encode_value(value, NO_TYPES)


@settings(max_examples=200, deadline=None)
@given(PLAIN)
def test_equal_values_have_equal_bytes_whatever_their_identities(value: object) -> None:
    data = encode_value([value, value], NO_TYPES)
    # The same object twice, two equal ones, and what pickle makes of them.
    other = pickle.loads(pickle.dumps(value))
    assert encode_value([value, other], NO_TYPES) == data
    assert encode_value(pickle.loads(pickle.dumps([value, value])), NO_TYPES) == data
    assert decode_value(data, NO_TYPES) == [value, value]
