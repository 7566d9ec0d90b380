"""Spaces of keys: made over groups that stay as long as they do, dropped for ever."""

from __future__ import annotations

import msgspec
import pytest

from ray_paxos.core import wanted_spaces
from ray_paxos.core.genesis import MachineSpec
from ray_paxos.core.wanted import GroupState, SpaceState, Wanted, WantedGroup, WantedSpace
from ray_paxos.core.wanted_changes import (
    Begin,
    Change,
    DropGroup,
    DropSpace,
    GroupDropped,
    GroupMade,
    MakeGroup,
    MakeSpace,
    PlaceGroup,
    changed_wanted,
)
from ray_paxos.core.wanted_spaces import SPACE_GROUPS_MAX, may_have_keys
from ray_paxos.errors import CommandError
from tests.unit.wanted_changes import BEGIN, after, group


def with_machines(number: int, *machines: MachineSpec) -> WantedGroup:
    made = group(number)
    return msgspec.structs.replace(made, spec=msgspec.structs.replace(made.spec, machines=machines))


NAMED_OTHERWISE = with_machines(4, MachineSpec("keys", "kv", 1))
OF_ANOTHER_KIND = with_machines(5, MachineSpec("kv", "log", 1))
BEGUN = changed_wanted(
    Wanted(),
    Begin(
        BEGIN.members,
        (
            *(group(number) for number in (0, 1, 2, 3)),
            NAMED_OTHERWISE,
            OF_ANOTHER_KIND,
            group(6, GroupState.DROPPING),
            group(7, GroupState.GONE),
        ),
    ),
)
MADE = after(BEGUN, MakeSpace("s", (1, 3)))


def refused(wanted: Wanted, change: Change) -> str:
    with pytest.raises(CommandError) as info:
        changed_wanted(wanted, change)
    return str(info.value)


def test_a_space_is_made() -> None:
    assert MADE.spaces == {"s": WantedSpace("s", (1, 3), SpaceState.PRESENT)}
    assert (MADE.members, MADE.groups) == (BEGUN.members, BEGUN.groups)
    assert changed_wanted(MADE, MakeSpace("s", (1, 3))) is MADE
    # Several spaces may have one group.
    assert set(after(MADE, MakeSpace("t", (1, 2, 3))).spaces) == {"s", "t"}


def test_the_groups_of_a_space_never_change() -> None:
    for groups in ((1,), (1, 2, 3), (1, 2)):
        assert "space s exists, with the groups 1, 3" in refused(MADE, MakeSpace("s", groups))
    # Nor by anything that becomes of its groups, or by new ones.
    moved = after(MADE, PlaceGroup(1, ("a", "b")), MakeGroup(group(8)), GroupMade(8))
    assert moved.spaces == MADE.spaces


@pytest.mark.parametrize(
    ("groups", "why"),
    [
        ((), "found 0 groups"),
        ((0,), "group 0 is the system's own"),
        ((1, 99), "there is no group 99"),
        ((1, 4), "group 4 has no machine kv"),
        ((5,), "group 5 has no machine kv"),
        ((6,), "group 6 is dropping"),
        ((7,), "group 7 is gone"),
        ((1, 1), "once each, ascending"),
        ((3, 1), "once each, ascending"),
        (tuple(range(1, SPACE_GROUPS_MAX + 2)), "found 1,025 groups; allowed: 1 to 1,024"),
    ],
)
def test_a_space_is_made_over_groups_that_can_hold_it(groups: tuple[int, ...], why: str) -> None:
    assert why in refused(BEGUN, MakeSpace("s", groups))


def test_a_space_waits_for_its_groups() -> None:
    making = after(BEGUN, MakeGroup(group(8)))
    assert "group 8 is making" in refused(making, MakeSpace("s", (8,)))
    after(making, GroupMade(8), MakeSpace("s", (8,)))


def test_which_groups_may_have_keys() -> None:
    fit = [number for number, each in sorted(BEGUN.groups.items()) if may_have_keys(each)]
    assert fit == [1, 2, 3]
    assert not may_have_keys(group(8, GroupState.MAKING))


@pytest.mark.parametrize(
    "name", ["", "S", "a b", "-a", "_a", "a/b", "a\x1fb", "\x1f", "é", "a" * 64, "a\n"]
)
def test_a_name_is_a_name(name: str) -> None:
    assert "name of a space: allowed: lower-case letters" in refused(BEGUN, MakeSpace(name, (1,)))


@pytest.mark.parametrize("name", ["0", "a-b_c", "a" * 63])
def test_names_that_are_allowed(name: str) -> None:
    after(BEGUN, MakeSpace(name, (1,)))


def test_a_group_that_holds_keys_is_not_dropped_before_its_spaces() -> None:
    two = after(MADE, MakeSpace("r", (1,)))
    assert "group 1 holds keys of space r; drop the space first" in refused(two, DropGroup(1))
    one = after(two, DropSpace("r"))
    assert "group 1 holds keys of space s; drop the space first" in refused(one, DropGroup(1))
    after(one, DropGroup(2))
    after(one, DropSpace("s"), DropGroup(1), GroupDropped(1), DropGroup(3))


def test_a_name_is_never_used_again() -> None:
    """The keys of a space that was dropped are in its groups still."""
    dropped = after(MADE, DropSpace("s"))
    assert dropped.spaces == {"s": WantedSpace("s", (1, 3), SpaceState.GONE)}
    assert changed_wanted(dropped, DropSpace("s")) is dropped
    for groups in ((1, 3), (2,)):
        why = refused(dropped, MakeSpace("s", groups))
        assert why == "space s was dropped; a name is never used again"


def test_a_space_that_was_never_there_is_named() -> None:
    assert "there is no space t" in refused(MADE, DropSpace("t"))


def test_only_so_many_spaces_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wanted_spaces, "SPACES_KNOWN_MAX", 2)
    full = after(MADE, MakeSpace("t", (1,)), DropSpace("t"))
    assert "2 spaces were made" in refused(full, MakeSpace("u", (1,)))
    assert changed_wanted(full, MakeSpace("s", (1, 3))) is full


def test_a_space_of_many_groups_is_named_in_few_words() -> None:
    many = changed_wanted(Wanted(), Begin(BEGIN.members, tuple(group(n) for n in range(40))))
    wanted = after(many, MakeSpace("s", tuple(range(1, 40))))
    why = refused(wanted, MakeSpace("s", (1,)))
    assert why.endswith("the groups 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 29 more")
