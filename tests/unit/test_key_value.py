"""A space of keys over the machines of its groups, without a cluster."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.core.spaces import owner_of, prefix_of
from ray_paxos.core.wanted import SpaceState, WantedSpace
from ray_paxos.errors import ConfigurationError, QueryError
from ray_paxos.key_value import KeyValue, Versioned
from ray_paxos.machines import kv
from ray_paxos.machines.base import ApplyContext
from ray_paxos.machines.kv import (
    Conflict,
    Get,
    HasValue,
    HasVersion,
    KeyEntry,
    Put,
    PutFor,
    Read,
    Renewed,
    TxnDone,
    Written,
)
from tests.unit.played_spaces import GroupsPlayed

GROUPS = (1, 2, 5)
SPACE = WantedSpace("settings", GROUPS, SpaceState.PRESENT)
keys = st.text(max_size=4)


@pytest.fixture
def groups() -> GroupsPlayed:
    return GroupsPlayed()


@pytest.fixture
def space(groups: GroupsPlayed) -> KeyValue:
    return KeyValue(SPACE, groups, owns_clients=False)


def other_space(groups: GroupsPlayed, name: str, *numbers: int) -> KeyValue:
    return KeyValue(WantedSpace(name, numbers, SpaceState.PRESENT), groups, owns_clients=False)


# One key.


def test_a_key_is_written_read_and_deleted(space: KeyValue) -> None:
    assert space.get("color") is None
    assert space.read("color") == Read(False, 0, None)
    assert space.put("color", b"green") == Written(1, False)
    assert space.put("color", b"blue") == Written(2, True)
    assert space.get("color") == Versioned(b"blue", 2)
    assert space.read("color") == Read(True, 2, b"blue")
    assert space.delete("color") == Written(3, True)
    assert space.get("color") is None
    assert space.read("color") == Read(False, 3, None)
    assert space.delete("color") == Written(4, False)
    # An empty value is one.
    space.put("color", b"")
    assert space.get("color") == Versioned(b"", 5)


def test_a_key_is_compared_and_set(space: KeyValue) -> None:
    assert space.cas("n", b"1", 1) == Conflict(0)
    assert space.cas("n", b"1", 0) == Written(1, False)
    assert space.cas("n", b"2", 0) == Conflict(1)
    assert space.cas("n", b"2", 1) == Written(2, True)
    space.delete("n")
    assert space.cas("n", b"3", space.read("n").version) == Written(4, False)


def test_a_value_ends_by_itself_unless_it_is_renewed(space: KeyValue, groups: GroupsPlayed) -> None:
    group = groups.groups[space.group_of("job")]
    assert space.put("job", b"node", ttl_s=0.0101) == Written(1, False)
    assert group.machine.due_ns == 11_000_000, "never less than was asked for"
    group.log_time_ns = 10_000_000
    assert space.renew("job", 0.010) == Renewed(1)
    assert space.renew("job", 5, expected_version=2) == Conflict(1)
    assert group.machine.due_ns == 20_000_000
    group.log_time_ns = 20_000_000
    assert space.renew("job", 0.010) == Conflict(2)
    assert space.get("job") is None
    assert space.renew("never", 1) == Conflict(0)


def test_several_keys_of_one_group_are_written_at_once(
    space: KeyValue, groups: GroupsPlayed
) -> None:
    of_one = [str(n) for n in range(60) if space.group_of(str(n)) == 2][:3]
    a, b, c = of_one
    done = space.txn([HasVersion(a, 0), HasValue(b, None)], [Put(a, b"1"), PutFor(b, b"2", 5)])
    assert done == TxnDone(True, (Written(1, False), Written(1, False)))
    assert space.multi_get(of_one) == {a: Versioned(b"1", 1), b: Versioned(b"2", 1)}
    done = space.txn([HasValue(a, b"2")], [Put(c, b"3")], [Get(a), Get(c)])
    assert done == TxnDone(False, (Read(True, 1, b"1"), Read(False, 0, None)))
    assert other_space(groups, "other", 2).txn([HasVersion(a, 1)], []).held is False
    one = other_space(groups, "other", 2)
    assert one.txn([], [Put(str(n), b"") for n in range(60)]).held
    assert len(list(one.scan())) == 60


def test_keys_of_two_groups_are_not_in_one_txn(space: KeyValue, groups: GroupsPlayed) -> None:
    a = next(str(n) for n in range(60) if space.group_of(str(n)) == 1)
    b = next(str(n) for n in range(60) if space.group_of(str(n)) == 5)
    for conditions, then in (([HasVersion(a, 0)], [Get(b)]), ([], [Get(a), Get(b)])):
        with pytest.raises(ConfigurationError, match=f"'{a}' is in group 1, '{b}' in 5"):
            space.txn(conditions, then)
    assert not any(group.timeouts for group in groups.groups.values())


def test_each_key_is_in_its_own_group_alone(space: KeyValue, groups: GroupsPlayed) -> None:
    for n in range(60):
        space.put(str(n), b"x")
    for number, group in groups.groups.items():
        page = kv.decode_page(group.machine.query(kv.encode_dump()))
        inner = [
            f"{prefix_of('settings')}{n}" for n in range(60) if owner_of(SPACE, str(n)) == number
        ]
        assert [entry.key for entry in page.entries] == sorted(inner)
        assert bool(inner) == (number in GROUPS)
    assert space.group_of("7") == owner_of(SPACE, "7")
    assert (space.name, space.groups) == ("settings", GROUPS)


def test_spaces_and_clients_of_one_group_are_kept_apart(
    space: KeyValue, groups: GroupsPlayed
) -> None:
    first, second = other_space(groups, "set", 1), other_space(groups, "sett", 1)
    plain = groups.groups[1].machine
    plain.apply(kv.encode_put("set", b"plain"), ApplyContext(1, 0))
    tricky = ("", "a", "t\x1fa", "\x1fsett\x1fa", "sett\x1fa")
    for key in tricky:
        first.put(key, b"first")
    second.put("a", b"second")
    assert [entry.key for entry in first.scan()] == sorted(tricky)
    assert [entry.value for entry in second.scan()] == [b"second"]
    assert list(space.scan()) == []
    assert first.delete("a") == Written(2, True)
    assert second.get("a") == Versioned(b"second", 1)


# Many keys.


def test_many_keys_are_read_at_once(space: KeyValue, groups: GroupsPlayed) -> None:
    for n in range(20):
        space.put(str(n), str(n).encode())
    space.delete("3")
    found = space.multi_get(["19", "3", "absent", "4", "19", ""])
    assert found == {"19": Versioned(b"19", 1), "4": Versioned(b"4", 1)}
    assert list(found) == ["19", "4"]
    assert groups.asked == 5, "each key once"
    assert space.multi_get([]) == {}
    assert space.multi_get(iter("45")) == space.multi_get(("4", "5"))


def test_a_read_of_many_that_fails_says_so(space: KeyValue, groups: GroupsPlayed) -> None:
    groups.groups[space.group_of("b")].failure = QueryError("out of reach")
    with pytest.raises(QueryError, match="out of reach"):
        space.multi_get(["a", "b", "c"])
    with pytest.raises(QueryError, match="out of reach"):
        list(space.scan())


@given(
    st.dictionaries(keys, st.binary(max_size=3), max_size=30),
    st.lists(keys, max_size=5),
    st.text(max_size=2),
    st.none() | keys,
    st.integers(1, 7),
)
@settings(max_examples=200, deadline=None)
def test_a_scan_is_what_a_sorted_table_would_be(
    entries: dict[str, bytes], deleted: list[str], prefix: str, after: str | None, page_keys: int
) -> None:
    groups = GroupsPlayed()
    space = KeyValue(SPACE, groups, owns_clients=False)
    beside = other_space(groups, "beside", *GROUPS)
    for key, value in entries.items():
        space.put(key, value)
        beside.put(key, b"of another space")
    for key in deleted:
        space.delete(key)
    expected = [
        KeyEntry(key, value, 1)
        for key, value in sorted(entries.items())
        if key not in deleted and key.startswith(prefix) and (after is None or key > after)
    ]
    assert list(space.scan(prefix, after=after, page_keys=page_keys)) == expected


def test_a_scan_goes_by_pages(space: KeyValue, groups: GroupsPlayed) -> None:
    for n in range(300):
        space.put(f"{n:03}", b"x")
    some = list(islice(space.scan(page_keys=10), 5))
    assert [entry.key for entry in some] == [f"{n:03}" for n in range(5)]
    assert groups.asked == len(GROUPS), "no more than is needed"
    rest = [entry.key for entry in space.scan(after=some[-1].key, page_keys=10)]
    assert rest == [f"{n:03}" for n in range(5, 300)]


def test_a_scan_asks_nothing_before_it_is_begun(space: KeyValue, groups: GroupsPlayed) -> None:
    begun: Iterator[KeyEntry] = space.scan()
    assert groups.asked == 0
    assert list(begun) == []
    assert groups.asked == len(GROUPS)


# How fresh, and for how long.


def test_what_is_asked_for_goes_to_the_client(space: KeyValue, groups: GroupsPlayed) -> None:
    options = {"consistency": "follower", "max_staleness_ms": 50, "timeout_s": 3.0}
    space.get("a", **options)  # type: ignore[arg-type]
    space.read("a", **options)  # type: ignore[arg-type]
    space.multi_get(["a"], **options)  # type: ignore[arg-type]
    list(space.scan(**options))  # type: ignore[arg-type]
    queries = [query for group in groups.groups.values() for query in group.queries]
    assert len(queries) == 3 + len(GROUPS)
    for query in queries:
        assert {name: query[name] for name in options} == options
    space.put("a", b"", timeout_s=4.0)
    space.delete("a", timeout_s=5.0)
    space.cas("a", b"", 2, timeout_s=6.0)
    assert groups.groups[space.group_of("a")].timeouts == [4.0, 5.0, 6.0]


BAD: tuple[tuple[str, Callable[[Any], object]], ...] = (
    ("key: found bytes", lambda space: space.put(b"a", b"")),
    ("key: found NoneType", lambda space: space.get(None)),
    ("key: found int", lambda space: space.delete(1)),
    ("key: found '\\\\ud800'", lambda space: space.put("\ud800", b"")),
    ("key: found '\\\\ud800'", lambda space: space.read("\ud800")),
    ("key: found '\\\\ud800'", lambda space: space.group_of("\ud800")),
    ("key: found int", lambda space: space.multi_get(["a", 1])),
    ("keys: found one text", lambda space: space.multi_get("abc")),
    ("value: found str", lambda space: space.put("a", "text")),
    ("value: found NoneType", lambda space: space.cas("a", None, 0)),
    ("expected_version: found -1", lambda space: space.cas("a", b"", -1)),
    ("expected_version: found True", lambda space: space.cas("a", b"", True)),
    ("expected_version: found 922", lambda space: space.cas("a", b"", 1 << 63)),
    ("ttl_s: found 0;", lambda space: space.put("a", b"", ttl_s=0)),
    ("ttl_s: found -1", lambda space: space.renew("a", -1)),
    ("ttl_s: found nan", lambda space: space.put("a", b"", ttl_s=math.nan)),
    ("ttl_s: found inf", lambda space: space.renew("a", math.inf)),
    ("ttl_s: found '5'", lambda space: space.renew("a", "5")),
    ("expected_version: found None", lambda space: space.renew("a", 1, expected_version=None)),
    ("conditions: found Put", lambda space: space.txn(Put("a", b""), [])),
    ("conditions.0.: found Put", lambda space: space.txn([Put("a", b"")], [])),
    (
        "then.1.: found .*'text'",
        lambda space: space.txn([], [Get("a"), Put("a", cast(Any, "text"))]),
    ),
    ("then.0.: found Get.key=1", lambda space: space.txn([], [Get(cast(Any, 1))])),
    ("then.0.: found .'get', 'a'.;", lambda space: space.txn([], [("get", "a")])),
    ("then.0.: found <object", lambda space: space.txn([], [object()])),
    ("then.0.: found .*ud800", lambda space: space.txn([], [Get("\ud800")])),
    ("otherwise.0.: found HasVersion", lambda space: space.txn([], [], [HasVersion("a", 0)])),
    ("conditions.0.: found HasVersion", lambda space: space.txn([HasVersion("a", 1 << 70)], [])),
    ("ttl_s: found 0.0;", lambda space: space.txn([], [PutFor("a", b"", 0)])),
    ("found 0 conditions", lambda space: space.txn([], [])),
    ("found 1001 conditions", lambda space: space.txn([], [Get("a")] * 1_001)),
    ("prefix: found bytes", lambda space: space.scan(b"")),
    ("after: found bytes", lambda space: space.scan(after=b"")),
    ("page_keys: found 0", lambda space: space.scan(page_keys=0)),
    ("page_keys: found 10001", lambda space: space.scan(page_keys=10_001)),
    ("page_keys: found 1.0", lambda space: space.scan(page_keys=1.0)),
    ("consistency: found 'newest'", lambda space: space.scan(consistency="newest")),
    ("max_staleness_ms goes with", lambda space: space.scan(max_staleness_ms=5)),
    ("timeout_s: found -1", lambda space: space.scan(timeout_s=-1)),
    ("timeout_s: found -1", lambda space: space.close(timeout_s=-1)),
)


@pytest.mark.parametrize(("why", "call"), BAD)
def test_what_means_nothing_is_refused_before_anything_is_sent(
    space: KeyValue, groups: GroupsPlayed, why: str, call: Callable[[Any], object]
) -> None:
    with pytest.raises(ConfigurationError, match=why):
        call(space)
    assert groups.asked == 0
    assert not any(group.timeouts for group in groups.groups.values())


def test_the_clients_are_closed_by_their_owner(groups: GroupsPlayed) -> None:
    with KeyValue(SPACE, groups, owns_clients=False) as shared:
        shared.put("a", b"")
    assert groups.closed == 0
    with KeyValue(SPACE, groups, owns_clients=True):
        pass
    assert groups.closed == 1


def test_random_commands_agree_with_a_table(space: KeyValue) -> None:
    randomness = random.Random(7)
    table: dict[str, tuple[bytes | None, int]] = {}
    for n in range(2_000):
        key, value = f"k{randomness.randrange(40)}", str(n).encode()
        before, version = table.get(key, (None, 0))
        match randomness.randrange(4):
            case 0:
                assert space.put(key, value) == Written(version + 1, before is not None)
                table[key] = (value, version + 1)
            case 1:
                assert space.delete(key) == Written(version + 1, before is not None)
                table[key] = (None, version + 1)
            case 2:
                expected = randomness.choice((version, version + 1))
                result = space.cas(key, value, expected)
                if expected == version:
                    assert result == Written(version + 1, before is not None)
                    table[key] = (value, version + 1)
                else:
                    assert result == Conflict(version)
            case _:
                assert space.read(key) == Read(before is not None, version, before)
    live = {key: value for key, (value, _) in table.items() if value is not None}
    assert {entry.key: entry.value for entry in space.scan("k")} == live
