"""What is wanted of a cluster: every change, and what is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.core import wanted_changes
from ray_paxos.core.genesis import Genesis, MemberSpec
from ray_paxos.core.wanted import (
    GroupState,
    MemberState,
    SpaceState,
    Wanted,
    WantedMember,
    encode_wanted,
)
from ray_paxos.core.wanted_changes import (
    Begin,
    Change,
    DrainMember,
    DropGroup,
    DropSpace,
    GroupDropped,
    GroupMade,
    JoinMember,
    LeaveMember,
    MakeGroup,
    MakeSpace,
    MemberEnding,
    MemberJoined,
    MemberLeft,
    PlaceGroup,
    RaiseVersion,
    StayMember,
    changed_wanted,
    wanted_of_genesis,
)
from ray_paxos.errors import CommandError
from tests.unit.wanted_changes import (
    BEGIN,
    FIRST,
    GROUP_CHANGES,
    IDS,
    JOIN_D,
    MEMBER_CHANGES,
    after,
    changes,
    group,
    group_spec,
    member,
)


def refused(wanted: Wanted, change: Change) -> str:
    """Why a change is refused; nothing has changed then."""
    before = encode_wanted(wanted)
    with pytest.raises(CommandError) as info:
        changed_wanted(wanted, change)
    assert encode_wanted(wanted) == before
    return str(info.value)


def state_of(wanted: Wanted, name: str) -> MemberState:
    return wanted.members[name].state


def group_state(wanted: Wanted, number: int) -> GroupState:
    return wanted.groups[number].state


# How a cluster begins.


def test_it_begins_with_the_genesis() -> None:
    specs = tuple(MemberSpec(name, IDS[name]) for name in "abc")
    genesis = Genesis(1, "demo", "1" * 32, specs, (group_spec(0), group_spec(1, "ab")))
    pinned = WantedMember(specs[1], MemberState.PRESENT, "", (("disk", "b"),), "disk-b")
    pins = {"b": ({"disk": "b"}, "disk-b")}
    wanted = changed_wanted(Wanted(), wanted_of_genesis(genesis, pins, 3))
    assert (wanted.version, wanted.cluster_version) == (1, 3)
    assert wanted.members == {"a": member("a"), "b": pinned, "c": member("c")}
    assert wanted.groups == {0: group(0), 1: group(1, names="ab")}
    assert wanted.groups[1].voters == 2
    assert wanted.present == (member("a"), pinned, member("c"))


def test_what_has_begun_begins_no_more() -> None:
    assert changed_wanted(FIRST, Begin((member("e"),), ())) is FIRST


@pytest.mark.parametrize(
    "change",
    [
        JOIN_D,
        LeaveMember("a"),
        MakeGroup(group(7)),
        DropGroup(1),
        PlaceGroup(1, ()),
        RaiseVersion(2, 0),
        MakeSpace("s", (1,)),
        DropSpace("s"),
    ],
)
def test_nothing_is_changed_before_it_has_begun(change: Change) -> None:
    assert "genesis" in refused(Wanted(), change)


# Members.


MEMBER_STEPS = {
    (MemberState.JOINING, MemberJoined): MemberState.PRESENT,
    (MemberState.PRESENT, LeaveMember): MemberState.LEAVING,
    (MemberState.PRESENT, DrainMember): MemberState.DRAINED,
    (MemberState.DRAINED, LeaveMember): MemberState.LEAVING,
    (MemberState.DRAINED, StayMember): MemberState.PRESENT,
    (MemberState.LEAVING, StayMember): MemberState.PRESENT,
    (MemberState.LEAVING, MemberLeft): MemberState.GONE,
    (MemberState.ENDING, MemberLeft): MemberState.GONE,
}
"""All that change a member; `LeaveMember` of one that joins has a test of its own."""
SETTLED = {
    (MemberState.PRESENT, MemberJoined),
    (MemberState.LEAVING, LeaveMember),
    (MemberState.DRAINED, DrainMember),
    (MemberState.PRESENT, StayMember),
    (MemberState.GONE, MemberLeft),
}
"""Those that come twice: what they say is so already."""


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (kind, state)
        for kind in MEMBER_CHANGES
        for state in MemberState
        if (kind, state) != (LeaveMember, MemberState.JOINING)
    ],
)
def test_each_change_of_each_member(kind: type[Any], state: MemberState) -> None:
    wanted = changed_wanted(
        Wanted(), Begin((member("a"), member("b"), member("c", state)), (group(0, names="ab"),))
    )
    change = kind("c")
    if (state, kind) in MEMBER_STEPS:
        changed = after(wanted, change)
        assert state_of(changed, "c") is MEMBER_STEPS[state, kind]
        rest = {name: m for name, m in changed.members.items() if name != "c"}
        assert rest == {"a": member("a"), "b": member("b")}
        assert changed.groups == wanted.groups
        # The copy that comes late changes nothing.
        assert changed_wanted(changed, change) is changed
    elif (state, kind) in SETTLED:
        assert changed_wanted(wanted, change) is wanted
    else:
        assert f"member c is {state.name.lower()}" in refused(wanted, change)


def test_a_member_ends_only_where_nothing_has_changed_since_that_was_seen() -> None:
    """Its folder is deleted next: whoever was slow must not end one that has stayed after all."""
    leaving = after(FIRST, LeaveMember("b"))
    ending = MemberEnding("b", leaving.version)
    assert state_of(after(leaving, ending), "b") is MemberState.ENDING
    stayed = after(leaving, StayMember("b"))
    assert "is present" in refused(stayed, ending)
    again = after(stayed, LeaveMember("b"))
    assert "has changed since version" in refused(again, ending)
    # And there is no way back from there.
    over = after(leaving, ending)
    assert changed_wanted(over, ending) is over
    for change in (StayMember("b"), LeaveMember("b"), DrainMember("b"), MemberJoined("b")):
        assert "is ending" in refused(over, change)
    assert "no member x" in refused(FIRST, MemberEnding("x", FIRST.version))


@pytest.mark.parametrize("kind", MEMBER_CHANGES)
def test_a_member_that_is_not_there_is_named_with_those_that_are(kind: type) -> None:
    gone = after(FIRST, LeaveMember("b"), MemberLeft("b"))
    text = refused(gone, kind("x"))
    assert "no member x" in text
    assert text.endswith("there are a, c")


def test_a_member_joins_on_the_node_that_is_named() -> None:
    one = WantedMember(
        MemberSpec("d", 14), MemberState.PRESENT, "node-d", (("disk", "d"),), "disk-d"
    )
    wanted = after(FIRST, JoinMember(one))
    assert wanted.members["d"] == msgspec.structs.replace(one, state=MemberState.JOINING)
    assert wanted.present == FIRST.present, "it may not be given groups yet"
    assert state_of(after(wanted, MemberJoined("d")), "d") is MemberState.PRESENT


def test_an_order_to_join_that_comes_twice_changes_nothing() -> None:
    wanted = after(FIRST, JOIN_D)
    assert changed_wanted(wanted, JOIN_D) is wanted
    wanted = after(wanted, MemberJoined("d"))
    assert changed_wanted(wanted, JOIN_D) is wanted, "its folder is not made again"
    wanted = after(wanted, LeaveMember("d"), MemberLeft("d"))
    assert changed_wanted(wanted, JOIN_D) is wanted
    assert state_of(wanted, "d") is MemberState.GONE


@pytest.mark.parametrize("changes", [(), (LeaveMember("b"),), (LeaveMember("b"), MemberLeft("b"))])
def test_a_name_is_never_used_again(changes: tuple[Change, ...]) -> None:
    wanted = after(FIRST, *changes)
    another = JoinMember(WantedMember(MemberSpec("b", 99), MemberState.JOINING))
    assert "a name is never used again" in refused(wanted, another)


@pytest.mark.parametrize("changes", [(), (LeaveMember("b"), MemberLeft("b"))])
def test_an_id_is_never_used_again(changes: tuple[Change, ...]) -> None:
    wanted = after(FIRST, *changes)
    another = JoinMember(WantedMember(MemberSpec("x", IDS["b"]), MemberState.JOINING))
    assert str(IDS["b"]) in refused(wanted, another)


def test_a_member_that_joins_and_leaves_is_never_present() -> None:
    """Its folder may never have been made; a group that is given to it would wait for ever."""
    wanted = after(FIRST, JOIN_D, LeaveMember("d"))
    assert state_of(wanted, "d") is not MemberState.PRESENT
    refused(wanted, StayMember("d"))
    refused(wanted, MemberJoined("d"))
    last = changed_wanted(wanted, MemberLeft("d"))
    assert state_of(last, "d") is MemberState.GONE


@pytest.mark.parametrize("kind", [LeaveMember, DrainMember])
def test_the_last_present_member_stays(kind: type) -> None:
    wanted = after(FIRST, LeaveMember("a"), DrainMember("b"), JOIN_D)
    assert "member c is the last one" in refused(wanted, kind("c"))
    # Others that are there already do not keep it; one more does.
    wanted = after(wanted, MemberJoined("d"), kind("c"))
    assert [each.spec.name for each in wanted.present] == ["d"]
    assert "last one" in refused(wanted, kind("d"))


def test_a_drained_member_may_leave_though_one_only_is_present() -> None:
    wanted = after(FIRST, DrainMember("a"), DrainMember("b"), LeaveMember("b"))
    assert state_of(wanted, "b") is MemberState.LEAVING


@pytest.mark.parametrize("kind", [LeaveMember, DrainMember])
def test_a_member_on_which_a_group_is_placed_keeps_it(kind: type) -> None:
    """It would wait for ever: what an operator has placed, nobody else moves."""
    wanted = after(FIRST, PlaceGroup(1, ("a", "b")))
    assert "group 1" in refused(wanted, kind("a"))
    after(wanted, kind("c"))
    after(wanted, PlaceGroup(1, ("b", "c")), kind("a"))
    after(wanted, PlaceGroup(1, ()), kind("a"))
    after(wanted, DropGroup(1), kind("a"))


def test_only_so_many_members_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wanted_changes, "MEMBERS_KNOWN_MAX", 4)
    wanted = after(FIRST, JOIN_D, MemberJoined("d"), LeaveMember("d"), MemberLeft("d"))
    another = JoinMember(WantedMember(MemberSpec("e", 15), MemberState.JOINING))
    assert "4 members were made" in refused(wanted, another)
    assert changed_wanted(wanted, JOIN_D) is wanted


def test_a_member_is_found_by_its_id() -> None:
    assert FIRST.member_of(IDS["b"]) == member("b")
    assert FIRST.member_of(99) is None


# Groups.


GROUP_STEPS = {
    (GroupState.MAKING, GroupMade): GroupState.PRESENT,
    (GroupState.MAKING, DropGroup): GroupState.DROPPING,
    (GroupState.PRESENT, DropGroup): GroupState.DROPPING,
    (GroupState.DROPPING, GroupDropped): GroupState.GONE,
}
GROUPS_SETTLED = {
    (GroupState.PRESENT, GroupMade),
    (GroupState.DROPPING, DropGroup),
    (GroupState.GONE, GroupDropped),
}


@pytest.mark.parametrize("state", GroupState)
@pytest.mark.parametrize("kind", GROUP_CHANGES)
def test_each_change_of_each_group(kind: type[Any], state: GroupState) -> None:
    wanted = changed_wanted(Wanted(), Begin(BEGIN.members, (group(0), group(1), group(7, state))))
    change = kind(7)
    if (state, kind) in GROUP_STEPS:
        changed = after(wanted, change)
        assert group_state(changed, 7) is GROUP_STEPS[state, kind]
        assert {n: g for n, g in changed.groups.items() if n != 7} == {0: group(0), 1: group(1)}
        assert changed.members == wanted.members
        assert changed_wanted(changed, change) is changed
    elif (state, kind) in GROUPS_SETTLED:
        assert changed_wanted(wanted, change) is wanted
    elif state is GroupState.GONE:
        assert "no group 7" in refused(wanted, change)
    else:
        assert f"group 7 is {state.name.lower()}" in refused(wanted, change)


@pytest.mark.parametrize("change", [GroupMade(7), DropGroup(7), GroupDropped(7), PlaceGroup(7, ())])
def test_a_group_that_was_never_there_is_named(change: Change) -> None:
    assert "no group 7" in refused(FIRST, change)


def test_the_system_group_stays() -> None:
    assert "group 0" in refused(FIRST, DropGroup(0))


def test_a_group_is_made() -> None:
    wanted = after(FIRST, MakeGroup(group(7)))
    assert wanted.groups[7] == group(7, GroupState.MAKING), "whatever state the order names"
    assert changed_wanted(wanted, MakeGroup(group(7))) is wanted
    wanted = after(wanted, GroupMade(7))
    assert changed_wanted(wanted, MakeGroup(group(7))) is wanted
    assert changed_wanted(wanted, GroupMade(7)) is wanted


@pytest.mark.parametrize("changes", [(), (DropGroup(1),), (DropGroup(1), GroupDropped(1))])
def test_a_group_number_is_never_used_again(changes: tuple[Change, ...]) -> None:
    wanted = after(FIRST, *changes)
    assert "a number is never used again" in refused(wanted, MakeGroup(group(1, names="ab")))
    assert changed_wanted(wanted, MakeGroup(group(1))) is wanted


@pytest.mark.parametrize(
    ("names", "changes"),
    [
        ("", ()),
        ("abd", ()),
        ("abd", (JOIN_D,)),
        ("abc", (LeaveMember("c"),)),
        ("abc", (DrainMember("c"),)),
        ("abc", (LeaveMember("c"), MemberLeft("c"))),
    ],
)
def test_a_group_begins_at_present_members_only(names: str, changes: tuple[Change, ...]) -> None:
    wanted = after(FIRST, *changes)
    assert "not all present members" in refused(wanted, MakeGroup(group(7, names=names)))


def test_only_so_many_groups_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wanted_changes, "GROUPS_KNOWN_MAX", 3)
    wanted = after(FIRST, MakeGroup(group(7)), DropGroup(7), GroupDropped(7))
    assert "3 groups were made" in refused(wanted, MakeGroup(group(8)))
    assert changed_wanted(wanted, MakeGroup(group(7))) is wanted


def test_a_group_is_placed_and_let_go() -> None:
    wanted = after(FIRST, PlaceGroup(1, ("b", "a")))
    assert (wanted.groups[1].placed, wanted.groups[1].voters) == (("b", "a"), 2)
    assert changed_wanted(wanted, PlaceGroup(1, ("b", "a"))) is wanted
    wanted = after(wanted, PlaceGroup(1, ()))
    assert (wanted.groups[1].placed, wanted.groups[1].voters) == ((), 2)
    assert wanted.groups[0] == group(0)


@pytest.mark.parametrize("change", [PlaceGroup(1, ("a", "x")), PlaceGroup(1, ("a", "d"))])
def test_a_group_is_placed_at_present_members_only(change: Change) -> None:
    wanted = after(FIRST, JOIN_D)
    assert "no member that is present" in refused(wanted, change)


def test_a_group_is_placed_once_at_each_member() -> None:
    assert "named twice" in refused(FIRST, PlaceGroup(1, ("a", "b", "a")))


def test_a_group_that_has_gone_is_not_placed() -> None:
    wanted = after(FIRST, DropGroup(1), GroupDropped(1))
    assert "no group 1" in refused(wanted, PlaceGroup(1, ("a",)))


# The cluster version.


def test_the_cluster_version_only_rises() -> None:
    wanted = after(FIRST, RaiseVersion(3, FIRST.version))
    assert wanted.cluster_version == 3
    assert changed_wanted(wanted, RaiseVersion(3, wanted.version)) is wanted
    assert "3 already" in refused(wanted, RaiseVersion(2, wanted.version))
    assert (wanted.members, wanted.groups) == (FIRST.members, FIRST.groups)


def test_the_version_is_not_raised_over_a_member_that_joined_since_all_were_asked() -> None:
    """It may have a release that does not know it."""
    joined = after(FIRST, JOIN_D)
    assert "ask all members again" in refused(joined, RaiseVersion(2, FIRST.version))
    assert after(joined, RaiseVersion(2, joined.version)).cluster_version == 2


# Any changes in any order.


MEMBER_NEXT = {
    None: {MemberState.JOINING},
    MemberState.JOINING: {MemberState.PRESENT, MemberState.LEAVING, MemberState.GONE},
    MemberState.PRESENT: {MemberState.LEAVING, MemberState.DRAINED},
    MemberState.DRAINED: {MemberState.PRESENT, MemberState.LEAVING},
    MemberState.LEAVING: {MemberState.PRESENT, MemberState.ENDING, MemberState.GONE},
    MemberState.ENDING: {MemberState.GONE},
    MemberState.GONE: set(),
}
GROUP_NEXT = {
    None: {GroupState.MAKING},
    GroupState.MAKING: {GroupState.PRESENT, GroupState.DROPPING},
    GroupState.PRESENT: {GroupState.DROPPING},
    GroupState.DROPPING: {GroupState.GONE},
    GroupState.GONE: set(),
}


@given(st.lists(changes, max_size=40))
@settings(max_examples=200, deadline=None)
def test_whatever_comes_the_rules_hold(orders: list[Change]) -> None:
    wanted = FIRST
    for change in orders:
        before = wanted
        try:
            wanted = changed_wanted(before, change)
        except CommandError:
            continue
        if wanted is before:
            continue
        assert wanted.version == before.version + 1
        assert encode_wanted(wanted) != encode_wanted(before)
        check_between(before, wanted)
        try:
            assert changed_wanted(wanted, change) is wanted, "the same once more changes nothing"
        except CommandError:
            assert isinstance(change, LeaveMember), "one that never joined is gone at once"


def check_between(before: Wanted, wanted: Wanted) -> None:
    """What holds after any change, and between before and after."""
    assert before.members.keys() <= wanted.members.keys(), "none is forgotten"
    assert before.groups.keys() <= wanted.groups.keys()
    assert before.spaces.keys() <= wanted.spaces.keys()
    for name, each in wanted.members.items():
        earlier = before.members.get(name)
        if earlier is None or each.state is not earlier.state:
            assert each.state in MEMBER_NEXT[earlier.state if earlier else None]
        assert each.spec.name == name
        assert earlier is None or each.spec == earlier.spec
    for number, group_ in wanted.groups.items():
        earlier_group = before.groups.get(number)
        if earlier_group is None or group_.state is not earlier_group.state:
            assert group_.state in GROUP_NEXT[earlier_group.state if earlier_group else None]
        assert earlier_group is None or group_.spec == earlier_group.spec
        assert group_.voters > 0
    ids = [each.spec.member_id for each in wanted.members.values()]
    assert len(set(ids)) == len(ids)
    assert wanted.present, "somebody stays"
    assert group_state(wanted, 0) is GroupState.PRESENT
    standing = (GroupState.PRESENT, GroupState.MAKING)
    placed = {n for g in wanted.groups.values() if g.state in standing for n in g.placed}
    assert placed <= {each.spec.name for each in wanted.present}
    for name, space in wanted.spaces.items():
        earlier_space = before.spaces.get(name)
        assert space.name == name
        assert space.groups
        assert earlier_space is None or space.groups == earlier_space.groups, "they never change"
        if space.state is SpaceState.PRESENT:
            assert earlier_space is None or earlier_space.state is SpaceState.PRESENT
            states = {group_state(wanted, number) for number in space.groups}
            assert states == {GroupState.PRESENT}, "its keys are where they were"
