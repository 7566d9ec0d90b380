"""Which group has a key of a space, and under which name."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ray_paxos.core.spaces import SPACE_MACHINE, keys_by_owner, owner_of, prefix_of
from ray_paxos.core.wanted import SpaceState, WantedSpace
from ray_paxos.machines.kv_machine import KeyValueMachine

KEYS = 10_000

names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True)
keys = st.text()


def space(*groups: int, name: str = "settings") -> WantedSpace:
    return WantedSpace(name, groups, SpaceState.PRESENT)


def test_owners_stay_as_they_are() -> None:
    """Whoever would find another owner would find none of the keys that are there."""
    three = space(1, 2, 3)
    asked = ("", "color", "a/b", "\x1f", "Grün", "🔑", "x" * 1_000)
    assert [owner_of(three, key) for key in asked] == [1, 3, 1, 3, 2, 3, 2]
    seven = space(*range(10, 17), name="other")
    assert [owner_of(seven, key) for key in asked] == [14, 15, 14, 12, 16, 13, 14]


@pytest.mark.parametrize("count", [2, 3, 8, 20, 100])
def test_keys_are_spread_evenly(count: int) -> None:
    """As evenly as chance does it: within four standard deviations, in every group."""
    groups = tuple(range(1, count + 1))
    for shape in ("user/{}", "{}", "2024-01-{:05}"):
        found = Counter(owner_of(space(*groups), shape.format(n)) for n in range(KEYS))
        fair = KEYS / count
        allowed = 4 * (fair * (1 - 1 / count)) ** 0.5
        assert set(found) == set(groups)
        assert max(abs(each - fair) for each in found.values()) <= allowed


def test_the_same_key_of_many_spaces_is_not_always_in_one_group() -> None:
    found = {owner_of(space(1, 2, 3, name=f"job-{n}"), "leader") for n in range(50)}
    assert found == {1, 2, 3}


def test_keys_go_by_owner_in_their_order() -> None:
    asked = [str(n) for n in range(100)]
    by_owner = keys_by_owner(space(1, 2, 3), asked)
    assert set(by_owner) == {1, 2, 3}
    for group, found in by_owner.items():
        assert found == [key for key in asked if owner_of(space(1, 2, 3), key) == group]
    assert keys_by_owner(space(1), asked) == {1: asked}
    assert keys_by_owner(space(1), []) == {}


@given(names, keys, names, keys)
def test_no_key_stands_where_another_space_has_one(
    first: str, key: str, second: str, other: str
) -> None:
    assume(first != second)
    assert prefix_of(first) + key != prefix_of(second) + other
    # Nor is it found by what the other space looks for.
    assert not (prefix_of(first) + key).startswith(prefix_of(second))


@given(names, keys, keys)
def test_keys_of_a_space_are_told_apart_and_in_order(name: str, key: str, other: str) -> None:
    assert (prefix_of(name) + key < prefix_of(name) + other) == (key < other)


def test_how_a_key_stands_in_its_machine() -> None:
    assert prefix_of("settings") == "\x1fsettings\x1f"
    assert SPACE_MACHINE == KeyValueMachine.kind == "kv"
