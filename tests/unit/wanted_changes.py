"""Members, groups and changes of what is wanted, for tests."""

from __future__ import annotations

from hypothesis import strategies as st

from ray_paxos.core.genesis import GroupSpec, MachineSpec, MemberSpec, Voter
from ray_paxos.core.wanted import (
    GroupState,
    MemberState,
    Wanted,
    WantedGroup,
    WantedMember,
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
)

IDS = {"a": 11, "b": 12, "c": 13, "d": 14, "e": 15}


def member(name: str, state: MemberState = MemberState.PRESENT) -> WantedMember:
    return WantedMember(MemberSpec(name, IDS[name]), state)


def group_spec(number: int, names: str = "abc") -> GroupSpec:
    voters = tuple(Voter(IDS[name], n) for n, name in enumerate(names, start=1))
    return GroupSpec(number, voters, (MachineSpec("kv", "kv", 1),))


def group(number: int, state: GroupState = GroupState.PRESENT, names: str = "abc") -> WantedGroup:
    return WantedGroup(group_spec(number, names), state, len(names))


BEGIN = Begin(tuple(member(name) for name in "abc"), (group(0), group(1)))
FIRST = changed_wanted(Wanted(), BEGIN)
JOIN_D = JoinMember(WantedMember(MemberSpec("d", 14), MemberState.JOINING, node_id="node-d"))


def after(wanted: Wanted, *changes: Change) -> Wanted:
    """What is wanted after changes, each of which is to change something."""
    for change in changes:
        before, wanted = wanted, changed_wanted(wanted, change)
        assert wanted is not before, f"{change} changes nothing"
        assert wanted.version == before.version + 1
    return wanted


MEMBER_CHANGES = (MemberJoined, LeaveMember, DrainMember, StayMember, MemberLeft)
GROUP_CHANGES = (GroupMade, DropGroup, GroupDropped)

names = st.sampled_from("abcde")
numbers = st.integers(0, 4)
space_names = st.sampled_from("xy")
changes = st.one_of(
    st.builds(
        lambda name, member_id: JoinMember(
            WantedMember(MemberSpec(name, member_id), MemberState.JOINING)
        ),
        names,
        st.integers(11, 16),
    ),
    *(st.builds(kind, names) for kind in MEMBER_CHANGES),
    st.builds(MemberEnding, names, st.integers(0, 40)),
    st.builds(
        lambda number, voters: MakeGroup(group(number, names="".join(sorted(voters)))),
        numbers,
        st.sets(names),
    ),
    *(st.builds(kind, numbers) for kind in GROUP_CHANGES),
    st.builds(PlaceGroup, numbers, st.lists(names, max_size=3).map(tuple)),
    st.builds(RaiseVersion, st.integers(1, 4), st.integers(0, 40)),
    st.builds(MakeSpace, space_names, st.sampled_from(((), (1,), (1, 2), (0, 1), (1, 1)))),
    st.builds(DropSpace, space_names),
    st.just(BEGIN),
)
