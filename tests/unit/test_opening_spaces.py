"""Spaces found in group 0, made where they are not, and dropped: by drivers that race, too."""

from __future__ import annotations

from typing import cast

import pytest

from ray_paxos import spaces as spaces_module
from ray_paxos.core.wanted import GroupState, SpaceState, WantedSpace
from ray_paxos.core.wanted_changes import (
    DropGroup,
    DropSpace,
    GroupMade,
    MakeGroup,
    MakeSpace,
)
from ray_paxos.errors import ConfigurationError, OutcomeUnknownError
from ray_paxos.key_value import KeyValue
from ray_paxos.spaces import ATTEMPTS, Spaces
from ray_paxos.system_group import SystemGroup
from tests.unit.played_spaces import GroupsPlayed, SystemPlayed
from tests.unit.wanted_changes import group


@pytest.fixture
def system() -> SystemPlayed:
    return SystemPlayed(1, 2, 3)


@pytest.fixture
def spaces(system: SystemPlayed) -> Spaces:
    return spaces_of(system)


def spaces_of(system: SystemPlayed, groups: GroupsPlayed | None = None) -> Spaces:
    """Another driver's, of the same cluster."""
    return Spaces(cast(SystemGroup, system), groups or GroupsPlayed())


def test_a_space_is_made_over_all_groups_that_can_hold_it(
    system: SystemPlayed, spaces: Spaces
) -> None:
    system.also(MakeGroup(group(4)), MakeGroup(group(5)), GroupMade(5), DropGroup(2))
    assert spaces.open("s") == WantedSpace("s", (1, 3, 5), SpaceState.PRESENT)
    assert system.state.spaces["s"] == spaces.open("s")


def test_group_0_is_asked_once_for_each_name(system: SystemPlayed, spaces: Spaces) -> None:
    system.also(MakeSpace("s", (1, 3)))
    for _ in range(3):
        assert spaces.open("s").groups == (1, 3)
        assert spaces.open("s", (3, 1, 3)).groups == (1, 3)
        assert spaces.open("s", creates=False).groups == (1, 3)
    assert system.reads == 1
    assert system.changes == []


def test_the_groups_of_a_space_that_is_made_can_be_chosen(
    system: SystemPlayed, spaces: Spaces
) -> None:
    assert spaces.open("s", iter((3, 2, 3))).groups == (2, 3)
    assert system.changes == [MakeSpace("s", (2, 3))]
    with pytest.raises(ConfigurationError, match=r"groups 2, 3: they never change, and are not 2$"):
        spaces.open("s", [2])
    another = spaces_of(system)
    with pytest.raises(ConfigurationError, match=r"are not 1, 2, 3$"):
        another.open("s", (1, 2, 3))


def test_two_drivers_at_once_get_the_same_one(system: SystemPlayed, spaces: Spaces) -> None:
    """The other one had seen a group less; or just the same."""
    system.then(MakeSpace("s", (1, 2)))
    assert spaces.open("s").groups == (1, 2)
    assert system.changes == [MakeSpace("s", (1, 2, 3))]
    system.then(MakeSpace("t", (1, 2, 3)))
    assert spaces.open("t").groups == (1, 2, 3)


def test_what_the_other_driver_has_written_already_is_no_obstacle(system: SystemPlayed) -> None:
    groups = written("s", 1, 2, count=30)
    system.then(MakeSpace("s", (1, 2)))
    assert spaces_of(system, groups).open("s").groups == (1, 2)


def test_where_the_other_one_chose_other_groups_the_second_is_told(
    system: SystemPlayed, spaces: Spaces
) -> None:
    system.then(MakeSpace("s", (1, 2)))
    with pytest.raises(ConfigurationError, match="space s is there, with the groups 1, 2"):
        spaces.open("s", (3,))
    # And is not told so for ever.
    assert spaces.open("s").groups == (1, 2)


def test_a_group_that_goes_meanwhile_is_left_out(system: SystemPlayed, spaces: Spaces) -> None:
    system.then(DropGroup(2))
    assert spaces.open("s").groups == (1, 3)


def test_what_cannot_be_is_not_tried_again(system: SystemPlayed, spaces: Spaces) -> None:
    with pytest.raises(ConfigurationError, match="there is no group 9; nothing was changed"):
        spaces.open("s", (9,))
    assert system.reads == 2, "once, and once more to see whether somebody else has made it"
    with pytest.raises(ConfigurationError, match="group 0 is the system's own"):
        spaces.open("s", (0,))
    with pytest.raises(ConfigurationError, match="name of a space: allowed: lower-case"):
        spaces.open("S")
    assert system.changes == []


def test_where_groups_come_and_go_all_the_time_it_ends_all_the_same(spaces: Spaces) -> None:
    system = SystemPlayed(*range(1, 20))
    spaces = spaces_of(system)
    going = iter(range(1, 20))
    system.after_read = lambda: system.also(DropGroup(next(going)))
    with pytest.raises(ConfigurationError, match="is dropping; nothing was changed"):
        spaces.open("s")
    assert system.reads == ATTEMPTS


def test_a_cluster_without_a_group_that_can_hold_keys(spaces: Spaces) -> None:
    spaces = spaces_of(SystemPlayed())
    with pytest.raises(
        ConfigurationError, match="space s: no group that is present has a machine kv"
    ):
        spaces.open("s")


def test_of_very_many_groups_the_first_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spaces_module, "SPACE_GROUPS_MAX", 4)
    assert spaces_of(SystemPlayed(*range(5, 15))).open("s").groups == (5, 6, 7, 8)


def test_a_space_that_is_not_to_be_made_is_named(system: SystemPlayed, spaces: Spaces) -> None:
    with pytest.raises(ConfigurationError, match="no space s; those that are there: none"):
        spaces.open("s", creates=False)
    system.also(MakeSpace("b", (1,)), MakeSpace("a", (1,)), MakeSpace("c", (1,)), DropSpace("c"))
    with pytest.raises(ConfigurationError, match="no space s; those that are there: a, b"):
        spaces.open("s", creates=False)
    assert system.changes == []
    assert [space.name for space in spaces.present()] == ["a", "b"]


def test_a_space_is_dropped_for_ever(system: SystemPlayed, spaces: Spaces) -> None:
    spaces.open("s")
    spaces.drop("s")
    spaces.drop("s")
    for known in (spaces, spaces_of(system)):
        for creates in (True, False):
            with pytest.raises(ConfigurationError, match="s was dropped; a name is never used"):
                known.open("s", creates=creates)
    with pytest.raises(ConfigurationError, match="there is no space t; nothing was changed"):
        spaces.drop("t")
    system.also(DropGroup(1))
    assert system.state.groups[1].state is GroupState.DROPPING


def test_what_is_not_known_to_be_made_is_asked_for_again(
    system: SystemPlayed, spaces: Spaces
) -> None:
    system.failure = OutcomeUnknownError("no answer in time")
    with pytest.raises(OutcomeUnknownError):
        spaces.open("s")
    assert spaces.open("s").groups == (1, 2, 3)


def written(name: str, *numbers: int, count: int) -> GroupsPlayed:
    """Groups that hold keys of a space, of which a restored cluster's group 0 knows nothing."""
    groups = GroupsPlayed()
    space = KeyValue(WantedSpace(name, numbers, SpaceState.PRESENT), groups, owns_clients=False)
    for n in range(count):
        space.put(f"key/{n}", b"x")
    return groups


def test_a_space_is_made_again_over_the_groups_that_hold_its_keys(system: SystemPlayed) -> None:
    groups = written("s", 1, 2, 3, count=30)
    assert spaces_of(system, groups).open("s").groups == (1, 2, 3)


def test_the_groups_that_are_looked_at_share_one_time(system: SystemPlayed) -> None:
    groups = GroupsPlayed()
    spaces_of(system, groups).open("s")
    (first,), (second,), (third,) = (groups.groups[number].queries for number in (1, 2, 3))
    assert spaces_module.LOOK_TIMEOUT_S > first["timeout_s"] > second["timeout_s"]
    assert second["timeout_s"] > third["timeout_s"] > 0


@pytest.mark.parametrize("before", [(1, 2), (1,), (3,), (1, 2, 3, 4)])
def test_a_space_is_not_made_over_groups_that_hold_keys_of_other_places(
    system: SystemPlayed, before: tuple[int, ...]
) -> None:
    groups = written("s", *before, count=30)
    with pytest.raises(ConfigurationError, match="holds keys of a space s that was spread over"):
        spaces_of(system, groups).open("s")
    assert system.changes == []
    # Other spaces there are no obstacle.
    assert spaces_of(system, groups).open("t").groups == (1, 2, 3)
    if before in ((1,), (1, 2)):
        assert spaces_of(system, groups).open("s", before).groups == before


@pytest.mark.parametrize("name", ["", None, 5, b"s", "\ud800"])
def test_a_name_is_a_text(system: SystemPlayed, spaces: Spaces, name: str) -> None:
    with pytest.raises(ConfigurationError, match="name of a space: found"):
        spaces.open(name)
    assert system.reads == 0


@pytest.mark.parametrize("groups", ["12", [1.0], [True], [None]])
def test_groups_are_numbers(system: SystemPlayed, spaces: Spaces, groups: list[int]) -> None:
    with pytest.raises(ConfigurationError, match="groups: found"):
        spaces.open("s", groups)
    assert system.reads == 0
