"""A space of keys as a dictionary, without a cluster."""

from __future__ import annotations

import pickle
import threading
from collections.abc import MutableMapping
from typing import Any, cast

import pytest

from ray_paxos.core.wanted import SpaceState, WantedSpace
from ray_paxos.errors import ConfigurationError, OutcomeUnknownError
from ray_paxos.key_mapping import KeyMapping
from ray_paxos.key_value import KeyValue
from tests.unit.played_spaces import GroupsPlayed

SPACE = WantedSpace("flags", (1, 2, 5), SpaceState.PRESENT)


@pytest.fixture
def groups() -> GroupsPlayed:
    return GroupsPlayed()


@pytest.fixture
def flags(groups: GroupsPlayed) -> KeyMapping[Any]:
    return KeyValue(SPACE, groups, owns_clients=False).mapping()


def commands(groups: GroupsPlayed) -> int:
    return sum(group.number for group in groups.groups.values())


def test_it_is_a_dictionary(flags: KeyMapping[Any]) -> None:
    assert isinstance(flags, MutableMapping)
    plain: dict[str, Any] = {}
    for mapping in (plain, flags):
        mapping["b"] = [1, {"x": None}]
        mapping["a"] = lambda: 3
        mapping.update({"c": b"3", "d": ""}, e=0)
        del mapping["d"]
        assert mapping.pop("c") == b"3"
        assert mapping.pop("c", 7) == 7
        assert mapping.setdefault("b", 8) == [1, {"x": None}]
        assert mapping.setdefault("f", 8) == 8
        assert mapping.setdefault("none") is None
        assert mapping.get("missing") is None
        assert mapping["a"]() == 3
        assert ("a" in mapping, "c" in mapping, "missing" in mapping) == (True, False, False)
        for missing in (lambda m: m["c"], lambda m: m.pop("c"), lambda m: m.__delitem__("c")):
            with pytest.raises(KeyError, match="c"):
                missing(mapping)
        mapping.pop("a")
        assert sorted(mapping) == sorted(mapping.keys()) == ["b", "e", "f", "none"]
        assert len(mapping) == 4
        assert dict(mapping.items())["b"] == [1, {"x": None}]
        assert 8 in mapping.values()
        assert ("f", 8) in mapping.items()
    assert flags == plain
    assert flags != {**plain, "f": 9}
    flags.clear()
    assert dict(flags) == {}


def test_each_step_on_one_key_is_one_command(flags: KeyMapping[Any], groups: GroupsPlayed) -> None:
    flags["a"] = 1
    steps = [
        lambda: flags.setdefault("a", 2),
        lambda: flags.setdefault("b", 2),
        lambda: flags.pop("a"),
        lambda: flags.pop("a", None),
        lambda: flags.__delitem__("b"),
    ]
    for number, step in enumerate(steps, 2):
        step()
        assert commands(groups) == number
    assert groups.asked == 0


def test_keys_come_in_order_and_in_one_pass(flags: KeyMapping[Any], groups: GroupsPlayed) -> None:
    for number in range(30):
        flags[f"{number:02}"] = number
    assert list(flags.items()) == [(f"{number:02}", number) for number in range(30)]
    assert list(flags.values()) == list(range(30))
    assert list(flags.keys()) == [f"{number:02}" for number in range(30)]
    assert groups.asked == 3 * len(SPACE.groups), "a page of each group, and no key by itself"


def test_of_many_who_take_items_each_gets_another(flags: KeyMapping[Any]) -> None:
    for number in range(8):
        flags[str(number)] = number
    taken: list[Any] = []
    turn = threading.Lock()

    def take() -> None:
        for _ in range(2):
            with turn:
                taken.append(flags.popitem())

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [(str(number), number) for number in range(8)]
    with pytest.raises(KeyError):
        flags.popitem()


def test_an_item_that_another_takes_first_is_passed_over(
    flags: KeyMapping[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags["a"], flags["b"] = 1, 2
    monkeypatch.setattr(KeyMapping, "__iter__", lambda self: iter(["gone", "a", "b"]))
    assert flags.popitem() == ("a", 1)


def test_values_of_another_form(groups: GroupsPlayed) -> None:
    space = KeyValue(SPACE, groups, owns_clients=False)
    texts = space.mapping(encode=str.encode, decode=bytes.decode)
    texts["a"] = "é"
    assert texts["a"] == "é"
    found = space.get("a")
    assert found is not None
    assert found.value == "é".encode()


def test_what_cannot_be_pickled_is_refused_and_nothing_is_written(
    flags: KeyMapping[Any], groups: GroupsPlayed
) -> None:
    for wrong in (threading.Lock(), (each for each in "generator")):
        with pytest.raises(ConfigurationError, match="cannot be pickled"):
            flags["a"] = wrong
        with pytest.raises(ConfigurationError, match="cannot be pickled"):
            flags.setdefault("a", wrong)
    assert commands(groups) == 0


def test_what_a_key_is_is_told(flags: KeyMapping[Any]) -> None:
    with pytest.raises(ConfigurationError, match="key: found int"):
        flags[5] = 1  # type: ignore[index]
    assert cast(Any, 5) not in flags


def test_what_a_space_raises_comes_through(flags: KeyMapping[Any], groups: GroupsPlayed) -> None:
    flags["a"] = 1
    groups.groups[flags._space.group_of("a")].failure = OutcomeUnknownError("no answer")
    with pytest.raises(OutcomeUnknownError):
        flags["a"]


def test_it_says_which_it_is(flags: KeyMapping[Any]) -> None:
    assert repr(flags) == "KeyMapping('flags')"
    assert pickle.loads(pickle.dumps(flags._encode)) is flags._encode
