"""What the controller does next: each rule by an example."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from ray_paxos.core.genesis import GroupSpec, MemberSpec, first_voters
from ray_paxos.core.reconciliation import (
    AddMember,
    ChangeGroup,
    EndMember,
    GiveGroup,
    GroupSeen,
    LaunchMember,
    MakeMember,
    Policy,
    RetireMember,
    Seen,
    Step,
    TakeGroupAway,
    missing_members,
    plan,
)
from ray_paxos.core.spreading import Place
from ray_paxos.core.values import MembershipKind
from ray_paxos.core.wanted import (
    GroupState,
    MemberState,
    Wanted,
    WantedGroup,
    WantedMember,
)

ADD, PROMOTE, DEMOTE, REMOVE = MembershipKind
PRESENT, LEAVING, DRAINED = MemberState.PRESENT, MemberState.LEAVING, MemberState.DRAINED
STEADY = Policy(is_evening=False)


def wanted_of(
    members: str,
    groups: Mapping[int, WantedGroup] | None = None,
    **states: MemberState,
) -> Wanted:
    """Members named by one letter each, present where no state is given; groups 0 and 1 for all."""
    specs = [MemberSpec(name, 100 + ord(name)) for name in members]
    return Wanted(
        7,
        {
            spec.name: WantedMember(spec, states.get(spec.name, PRESENT), f"node-{spec.name}")
            for spec in specs
        },
        groups if groups is not None else {1: group(1)},
    )


def group(
    number: int,
    voters: int = 3,
    state: GroupState = GroupState.PRESENT,
    placed: str = "",
) -> WantedGroup:
    spec = GroupSpec(number, first_voters([MemberSpec("a", 197)]), ())
    return WantedGroup(spec, state, voters, tuple(placed))


def seen_of(
    answering: str,
    groups: Mapping[int, str] | None = None,
    *,
    lost: str = "",
    ended: str = "",
    reachable: str = "",
    free_nodes: tuple[str, ...] = (),
    going: str = "",
    nodes: str = "abcdefxyz",
) -> Seen:
    """Who has groups is told as `voters+followers`."""
    told = {n: each.partition("+") for n, each in (groups or {}).items()}
    return Seen(
        {name: Place("", f"node-{name}") for name in answering},
        frozenset(lost),
        {n: GroupSeen(40 + n, tuple(v), tuple(f)) for n, (v, _, f) in told.items()},
        frozenset(ended),
        frozenset(reachable),
        free_nodes,
        frozenset(going),
        frozenset(f"node-{name}" for name in nodes),
    )


def change(number: int, kind: MembershipKind, member: str) -> ChangeGroup:
    return ChangeGroup(number, kind, member)


def steps(wanted: Wanted, seen: Seen, policy: Policy = STEADY) -> list[Step]:
    found = plan(wanted, seen, policy)
    for step in found:
        if isinstance(step, ChangeGroup):
            assert step.version == seen.groups[step.group].version, "by compare-and-set"
    return found


def test_where_all_is_as_wanted_nothing_is_done() -> None:
    assert steps(wanted_of("abc"), seen_of("abc", {1: "abc"}), Policy()) == []


# Members.


def test_a_member_that_joins_is_made() -> None:
    wanted = wanted_of("abcd", d=MemberState.JOINING)
    assert steps(wanted, seen_of("abc", {1: "abc"})) == [MakeMember("d")]
    assert steps(wanted, seen_of("abcd", {1: "abc"})) == [MakeMember("d")], "until it is recorded"


@pytest.mark.parametrize("state", [PRESENT, LEAVING, DRAINED])
def test_a_member_whose_folder_is_on_a_live_node_is_made_to_live(state: MemberState) -> None:
    seen = seen_of("abc", {1: "abc"}, reachable="d")
    assert steps(wanted_of("abcd", d=state), seen) == [LaunchMember("d")]


def test_a_member_that_has_gone_stays_so() -> None:
    seen = seen_of("abc", {1: "abc"}, reachable="d", ended="d")
    assert steps(wanted_of("abcd", d=MemberState.GONE), seen) == []


def test_a_member_ends_once_no_group_names_it() -> None:
    wanted = wanted_of("abcd", d=LEAVING)
    assert steps(wanted, seen_of("abcd", {1: "abc"}, ended="d")) == [EndMember("d")]
    assert steps(wanted, seen_of("abcd", {1: "abc"})) == [], "it has not let go of all yet"


@pytest.mark.parametrize("names", ["abd", "abcd", "abc+d"])
def test_a_member_that_a_group_names_does_not_end(names: str) -> None:
    found = steps(wanted_of("abcd", d=LEAVING), seen_of("abcd", {1: names}, ended="d"))
    assert EndMember("d") not in found
    assert found


@pytest.mark.parametrize("state", [GroupState.PRESENT, GroupState.MAKING])
def test_a_member_does_not_end_before_every_group_was_asked(state: GroupState) -> None:
    groups = {1: group(1), 2: group(2, state=state)}
    wanted = wanted_of("abcd", groups, d=LEAVING)
    assert EndMember("d") not in steps(wanted, seen_of("abcd", {1: "abc"}, ended="d"))
    both = seen_of("abcd", {1: "abc", 2: "abc"}, ended="d")
    assert EndMember("d") in steps(wanted, both)


@pytest.mark.parametrize("state", [GroupState.DROPPING, GroupState.GONE])
def test_a_group_that_is_dropped_keeps_no_member(state: GroupState) -> None:
    wanted = wanted_of("abcd", {1: group(1), 2: group(2, state=state)}, d=LEAVING)
    assert EndMember("d") in steps(wanted, seen_of("abcd", {1: "abc", 2: "abd"}, ended="d"))


@pytest.mark.parametrize("state", [PRESENT, DRAINED])
def test_only_a_member_that_is_to_leave_ends(state: MemberState) -> None:
    assert steps(wanted_of("abcd", d=state), seen_of("abcd", {1: "abc"}, ended="d")) == []


def test_a_node_without_a_member_gets_one_where_that_is_wanted() -> None:
    seen = seen_of("abc", {1: "abc"}, free_nodes=("node-x", "node-y"))
    assert steps(wanted_of("abc"), seen) == []
    found = steps(wanted_of("abc"), seen, Policy(grows=True))
    assert found == [AddMember("node-x"), AddMember("node-y")]


def test_a_node_gets_a_member_once() -> None:
    """Also where the member has gone: whoever removed it does not want it back."""
    for state in MemberState:
        wanted = wanted_of("abcd", d=state)
        seen = seen_of("abcd", {1: "abc"}, free_nodes=("node-d",))
        assert AddMember("node-d") not in steps(wanted, seen, Policy(grows=True))


@pytest.mark.parametrize("state", [PRESENT, LEAVING, DRAINED])
def test_no_node_gets_a_second_member_while_its_own_does_not_answer(state: MemberState) -> None:
    """Where a member is, is known by its answers alone: a node may only seem to be free."""
    wanted = wanted_of("abcd", d=state)
    seen = seen_of("abc", {1: "abc"}, free_nodes=("node-x",))
    assert steps(wanted, seen, Policy(grows=True)) == []
    lost = seen_of("abc", {1: "abc"}, free_nodes=("node-x",), lost="d")
    assert AddMember("node-x") in steps(wanted, lost, Policy(grows=True))


def test_a_lost_member_leaves_by_itself_where_each_node_has_one() -> None:
    """It must not count as missing when the next node goes."""
    grows = Policy(grows=True)
    wanted = wanted_of("abcd")
    assert steps(wanted, seen_of("abc", {1: "abc"}, lost="d"), grows) == [RetireMember("d")]
    assert steps(wanted, seen_of("abc", {1: "abc"}), grows) == [], "it may come back"
    assert steps(wanted, seen_of("abc", {1: "abc"}, lost="d")) == [], "its node may come back"
    named = steps(wanted, seen_of("abc", {1: "abd"}, lost="d"), grows)
    assert RetireMember("d") not in named, "a group names it"
    assert RetireMember("d") not in steps(wanted, seen_of("ab", {1: "abc"}, lost="cd"), grows)
    # It died while it was to take a voter's place.
    follows = seen_of("abc", {1: "abc+d"}, lost="d")
    assert steps(wanted, follows, grows) == [change(1, REMOVE, "d")]
    assert steps(wanted, follows) == [], "an operator may have made it follow"


def test_a_lost_member_keeps_the_others_from_nothing() -> None:
    """Those that are left have equally many groups before it is known what becomes of it."""
    groups = {1: group(1), 2: group(2), 3: group(3)}
    wanted = wanted_of("abcdx", groups)
    names = {1: "abc", 2: "abc", 3: "abc"}
    assert steps(wanted, seen_of("abcd", names, lost="x"), Policy())
    assert steps(wanted, seen_of("abcd", names), Policy()) == [], "it may come back in a moment"


def test_missing_is_who_is_to_be_there_and_does_not_answer() -> None:
    wanted = wanted_of("abcdef", c=DRAINED, d=LEAVING, e=MemberState.JOINING, f=MemberState.GONE)
    assert missing_members(wanted, seen_of("a")) == {"b"}


# Groups that come and go.


def test_a_new_group_is_given_and_one_that_is_dropped_taken() -> None:
    groups = {
        1: group(1, state=GroupState.MAKING),
        2: group(2, state=GroupState.DROPPING),
        3: group(3, state=GroupState.GONE),
    }
    seen = seen_of("abcd", {1: "abd", 2: "abd", 3: "abd"})
    found = steps(wanted_of("abcd", groups, d=LEAVING), seen)
    expected = [GiveGroup(1), TakeGroupAway(2), TakeGroupAway(3)]
    assert found == expected, "their members stay as they are; what has come back goes again"


def test_a_group_of_which_nobody_tells_is_left_alone() -> None:
    assert steps(wanted_of("abcd"), seen_of("abcd")) == []


# Rule 1: one voter at a time.


def test_a_lost_voter_is_replaced_step_by_step() -> None:
    wanted = wanted_of("abcd")
    assert steps(wanted, seen_of("abd", {1: "abc"}, lost="c")) == [change(1, ADD, "d")]
    assert steps(wanted, seen_of("abd", {1: "abc+d"}, lost="c")) == [change(1, PROMOTE, "d")]
    assert steps(wanted, seen_of("abd", {1: "abcd"}, lost="c")) == [change(1, REMOVE, "c")]
    assert steps(wanted, seen_of("abd", {1: "abd"}, lost="c")) == []


@pytest.mark.parametrize("state", [LEAVING, DRAINED])
def test_who_is_to_go_is_replaced_step_by_step(state: MemberState) -> None:
    wanted = wanted_of("abcd", c=state)
    assert steps(wanted, seen_of("abcd", {1: "abc"})) == [change(1, ADD, "d")]
    assert steps(wanted, seen_of("abcd", {1: "abc+d"})) == [change(1, PROMOTE, "d")]
    assert steps(wanted, seen_of("abcd", {1: "abcd"})) == [change(1, REMOVE, "c")]
    assert steps(wanted, seen_of("abcd", {1: "abd"})) == []


@pytest.mark.parametrize("lost", ["", "xy"])
def test_a_second_voter_comes_only_when_the_first_one_has_left(lost: str) -> None:
    wanted = wanted_of("abcdexy", {1: group(1, 5)}, x=LEAVING, y=LEAVING)
    answering = "abcdexy" if not lost else "abcde"
    (step,) = steps(wanted, seen_of(answering, {1: "abcdxy"}, lost=lost))
    assert isinstance(step, ChangeGroup)
    assert step.kind is REMOVE
    assert step.member in "xy"


def test_a_second_lost_voter_waits_as_well() -> None:
    wanted, policy = wanted_of("abcdexy", {1: group(1, 5)}), Policy(2, is_evening=False)
    seen = seen_of("abcde", {1: "abcdxy"}, lost="xy")
    (step,) = steps(wanted, seen, policy)
    assert step in (change(1, REMOVE, "x"), change(1, REMOVE, "y"))


def test_groups_do_not_wait_for_each_other() -> None:
    wanted = wanted_of("abcd", {1: group(1), 2: group(2), 3: group(3)})
    seen = seen_of("abd", {1: "abc", 2: "abc+d", 3: "abcd"}, lost="c")
    found = steps(wanted, seen)
    assert found == [change(1, ADD, "d"), change(2, PROMOTE, "d"), change(3, REMOVE, "c")]


def test_a_group_with_too_few_voters_gets_one() -> None:
    (step,) = steps(wanted_of("abcd"), seen_of("abcd", {1: "ab"}))
    assert step in (change(1, ADD, "c"), change(1, ADD, "d"))
    assert steps(wanted_of("abcd"), seen_of("abcd", {1: "ab+c"})) == [change(1, PROMOTE, "c")]


# Rule 2: missing, lost, and nobody in its place.


def test_a_member_that_is_only_missing_keeps_what_it_has() -> None:
    assert steps(wanted_of("abcd"), seen_of("abd", {1: "abc"}), Policy()) == []


def test_where_nobody_can_take_its_place_a_lost_voter_stays() -> None:
    seen = seen_of("ab", {1: "abc"}, lost="c")
    assert steps(wanted_of("abc"), seen) == []
    assert steps(wanted_of("abcd"), seen_of("ab", {1: "abc"}, lost="c"), Policy(2)) == []


@pytest.mark.parametrize("state", [LEAVING, DRAINED])
@pytest.mark.parametrize("lost", ["", "c"])
def test_a_voter_that_was_ordered_to_go_goes_though_nobody_takes_its_place(
    state: MemberState, lost: str
) -> None:
    """Also one that is dead: else a member that is removed for that would never be gone."""
    wanted = wanted_of("abc", c=state)
    seen = seen_of("ab" if lost else "abc", {1: "abc"}, lost=lost)
    assert steps(wanted, seen) == [change(1, REMOVE, "c")]


def test_the_last_voter_is_never_removed() -> None:
    wanted = wanted_of("ab", {1: group(1, 1)}, a=LEAVING)
    assert steps(wanted, seen_of("a", {1: "a"})) == [], "b is missing"
    assert steps(wanted, seen_of("ab", {1: "a"})) == [change(1, ADD, "b")]


def test_nothing_is_given_to_one_that_is_missing() -> None:
    wanted = wanted_of("abcde", c=LEAVING)
    assert steps(wanted, seen_of("abce", {1: "abc"})) == [change(1, ADD, "e")]


def test_of_too_many_voters_one_that_does_not_answer_goes() -> None:
    """`c` was lost, `d` votes in its place; `c` came back, and is silent again."""
    wanted = wanted_of("abcd")
    assert steps(wanted, seen_of("abd", {1: "abcd"})) == [change(1, REMOVE, "c")]
    (step,) = steps(wanted, seen_of("abcd", {1: "abcd"}))
    assert isinstance(step, ChangeGroup)
    assert step.kind is REMOVE


def test_a_dead_voter_goes_before_one_that_is_only_to_leave() -> None:
    wanted = wanted_of("abcde", {1: group(1, 3)}, b=LEAVING)
    seen = seen_of("abde", {1: "abcd"}, lost="c")
    assert steps(wanted, seen) == [change(1, REMOVE, "c")]


# Rule 3: an outage.


def test_in_an_outage_nothing_is_replaced() -> None:
    wanted = wanted_of("abcdef")
    assert steps(wanted, seen_of("abef", {1: "abc"}, lost="cd"), Policy(1)) == []
    assert steps(wanted, seen_of("abef", {1: "abc"}, lost="cd"), Policy(2, is_evening=False))
    assert steps(wanted, seen_of("abdef", {1: "abc"}, lost="c"), Policy(0)) == []


def test_one_that_is_missing_counts_for_an_outage_before_it_is_lost() -> None:
    seen = seen_of("abef", {1: "abc"}, lost="c")
    assert steps(wanted_of("abcdef"), seen) == []


def test_what_an_operator_has_ordered_goes_on_in_an_outage() -> None:
    wanted = wanted_of("abcdef", b=LEAVING)
    (step,) = steps(wanted, seen_of("abf", {1: "abf"}, lost="cde"))
    assert step == change(1, REMOVE, "b")


# Rule 4: group 0.


def of_group_0(members: str, voters: int = 3, **states: MemberState) -> Wanted:
    return wanted_of(members, {0: group(0, voters)}, **states)


def test_group_0_is_changed_like_the_others_while_all_its_voters_answer() -> None:
    wanted = of_group_0("abcd", c=LEAVING)
    assert steps(wanted, seen_of("abcd", {0: "abc"})) == [change(0, ADD, "d")]
    assert steps(wanted, seen_of("abcd", {0: "abcd"})) == [change(0, REMOVE, "c")]


def test_of_group_0_the_voter_that_is_missing_is_replaced() -> None:
    wanted = of_group_0("abcd")
    assert steps(wanted, seen_of("abd", {0: "abc"}, lost="c")) == [change(0, ADD, "d")]
    assert steps(wanted, seen_of("abd", {0: "abc+d"}, lost="c")) == [change(0, PROMOTE, "d")]
    assert steps(wanted, seen_of("abd", {0: "abcd"}, lost="c")) == [change(0, REMOVE, "c")]


@pytest.mark.parametrize("names", ["abc", "abc+d", "abcd"])
def test_of_group_0_no_other_voter_is_replaced_meanwhile(names: str) -> None:
    wanted = of_group_0("abcd", c=LEAVING)
    found = steps(wanted, seen_of("acd", {0: names}))
    assert found in ([], [change(0, REMOVE, "b")]), "but one too many may be the one that is silent"
    # Of any other group it is.
    other = wanted_of("abcd", c=LEAVING)
    assert steps(other, seen_of("acd", {1: names}))


def test_group_0_is_left_alone_while_two_of_its_voters_are_missing() -> None:
    wanted, policy = of_group_0("abcdefg", 5), Policy(2, is_evening=False)
    assert steps(wanted, seen_of("abcfg", {0: "abcde"}, lost="de"), policy) == []
    assert steps(wanted, seen_of("abcefg", {0: "abcde"}, lost="d"), policy)


def test_of_group_0_a_lost_voter_does_not_wait_for_one_that_is_to_leave() -> None:
    """`b` may not leave while `c` is silent: were `b` the first, both would wait for ever."""
    wanted = of_group_0("abcde", b=LEAVING)
    (step,) = steps(wanted, seen_of("abde", {0: "abc"}, lost="c"))
    assert step in (change(0, ADD, "d"), change(0, ADD, "e"))
    assert steps(wanted, seen_of("abde", {0: "abcd"}, lost="c")) == [change(0, REMOVE, "c")]


def test_of_group_0_a_follower_in_the_way_is_taken_out() -> None:
    """Else it would keep the group from replacing its lost voter."""
    wanted = of_group_0("abcde", d=DRAINED)
    seen = seen_of("abde", {0: "abc+d"}, lost="c")
    assert steps(wanted, seen) == [change(0, REMOVE, "d")]


# Followers.


@pytest.mark.parametrize("state", [LEAVING, DRAINED, MemberState.GONE])
def test_a_follower_that_is_to_have_no_group_is_taken_out(state: MemberState) -> None:
    seen = seen_of("abcd", {1: "abc+d"})
    assert steps(wanted_of("abcd", d=state), seen) == [change(1, REMOVE, "d")]


def test_a_follower_that_may_have_groups_stays() -> None:
    assert steps(wanted_of("abcd"), seen_of("abcd", {1: "abc+d"}), Policy()) == []


def test_a_follower_becomes_the_voter_that_is_missing() -> None:
    for follower in "def":
        wanted = wanted_of("abcdef", c=LEAVING)
        seen = seen_of("abcdef", {1: f"abc+{follower}"})
        assert steps(wanted, seen) == [change(1, PROMOTE, follower)]


# Groups that are placed.


def placed(names: str, **states: MemberState) -> Wanted:
    return wanted_of("abcdef", {1: group(1, len(names), placed=names)}, **states)


def test_a_placed_group_goes_to_its_members_one_at_a_time() -> None:
    wanted, course = placed("ade"), ["abc"]
    for _ in range(20):
        found = steps(wanted, seen_of("abcdef", {1: course[-1]}), Policy())
        if not found:
            break
        (step,) = found
        assert isinstance(step, ChangeGroup)
        course.append(played(course[-1], step))
        assert 3 <= len(course[-1].partition("+")[0]) <= 4
    assert course[-1] == "ade"
    assert len(course) == 1 + 6


def played(names: str, step: ChangeGroup) -> str:
    voters, _, followers = names.partition("+")
    voters, followers = voters.replace(step.member, ""), followers.replace(step.member, "")
    if step.kind is PROMOTE:
        voters = "".join(sorted(voters + step.member))
    elif step.kind is ADD:
        followers += step.member
    return f"{voters}+{followers}" if followers else voters


def test_a_placed_group_stays_where_it_is_placed() -> None:
    wanted = placed("abc")
    assert steps(wanted, seen_of("abdef", {1: "abc"}, lost="c"), Policy()) == []
    assert steps(wanted, seen_of("abcdef", {1: "abc"}), Policy()) == []


def test_a_placed_group_does_not_lose_a_voter_for_one_that_does_not_answer() -> None:
    wanted = placed("abd")
    assert steps(wanted, seen_of("abcef", {1: "abc"})) == [], "d does not answer"
    assert steps(wanted, seen_of("abcef", {1: "abc+d"})) == []
    assert steps(wanted, seen_of("abcef", {1: "abcd"})) == [], "d was promoted, and is silent"
    assert steps(wanted, seen_of("abcdef", {1: "abcd"})) == [change(1, REMOVE, "c")]


def test_a_placed_group_gets_rid_of_a_dead_voter_first() -> None:
    wanted = placed("aef")
    assert steps(wanted, seen_of("abdef", {1: "abce"}, lost="c")) == [change(1, REMOVE, "c")]


def test_a_placed_group_takes_a_follower_first() -> None:
    assert steps(placed("ade"), seen_of("abcdef", {1: "abc+e"})) == [change(1, PROMOTE, "e")]


def test_placed_group_0_keeps_rule_4() -> None:
    wanted = wanted_of("abcd", {0: group(0, placed="abd")})
    assert steps(wanted, seen_of("abd", {0: "abc+d"})) == [change(0, PROMOTE, "d")], "for c"
    assert steps(wanted, seen_of("acd", {0: "abc+d"})) == [], "b is missing"
    assert steps(wanted, seen_of("acd", {0: "abcd"})) == []


def test_a_follower_in_a_placed_group_that_is_to_go_is_taken_out() -> None:
    wanted = placed("abc", d=DRAINED)
    assert steps(wanted, seen_of("abcdef", {1: "abc+d"})) == [change(1, REMOVE, "d")]


def test_where_a_placed_group_is_going_counts_already() -> None:
    """Else others would be moved to where it is to come, and back."""
    groups = {n: group(n, 1) for n in range(1, 5)} | {5: group(5, 2, placed="cd")}
    wanted = wanted_of("abcd", groups)
    seen = seen_of("abcd", {1: "a", 2: "a", 3: "b", 4: "b", 5: "ab"})
    (step,) = steps(wanted, seen, Policy())
    assert isinstance(step, ChangeGroup)
    assert step.group == 5


def test_one_that_joins_is_given_up_with_its_node_where_each_has_one() -> None:
    """It would be tried in every round, and no round would ever find nothing to do."""
    wanted, seen = wanted_of("abcd", d=MemberState.JOINING), seen_of("abc", {1: "abc"}, nodes="abc")
    assert steps(wanted, seen, Policy(grows=True)) == [RetireMember("d")]
    assert steps(wanted, seen) == [MakeMember("d")], "an operator sees that it cannot be"
    assert steps(wanted, seen_of("abc", {1: "abc"}), Policy(grows=True)) == [MakeMember("d")]


# Evenness.


def uneven() -> tuple[Wanted, dict[int, str]]:
    groups = {n: group(n) for n in range(1, 5)}
    return wanted_of("abcd", groups), dict.fromkeys(groups, "abc")


def test_a_new_member_gets_its_share_where_that_is_wanted() -> None:
    wanted, groups = uneven()
    found = steps(wanted, seen_of("abcd", groups), Policy())
    assert len(found) == 3
    assert {(step.kind, step.member) for step in found if isinstance(step, ChangeGroup)} == {
        (ADD, "d")
    }
    assert steps(wanted, seen_of("abcd", groups), STEADY) == []


def test_nothing_is_moved_for_evenness_while_one_is_missing() -> None:
    wanted, groups = uneven()
    assert steps(wanted, seen_of("abd", groups), Policy()) == []
    assert steps(wanted, seen_of("abd", groups, lost="c"), STEADY)


def test_a_placed_group_is_not_moved_for_evenness() -> None:
    groups = {n: group(n, 1, placed="a") for n in range(1, 5)}
    wanted = wanted_of("ab", groups)
    assert steps(wanted, seen_of("ab", dict.fromkeys(groups, "a")), Policy()) == []


def test_free_groups_make_up_for_placed_ones() -> None:
    free = (3, 4, 7, 8)
    groups = {n: group(n, 1, placed="" if n in free else "a") for n in range(1, 9)}
    found = steps(wanted_of("ab", groups), seen_of("ab", dict.fromkeys(groups, "a")), Policy())
    assert found == [change(n, ADD, "b") for n in free]


def test_at_most_one_step_for_each_member_and_each_group() -> None:
    wanted, groups = uneven()
    seen = seen_of("ab", groups, reachable="cd", ended="cd", lost="cd")
    for state in (LEAVING, DRAINED, PRESENT):
        for policy in (Policy(), Policy(3, grows=True)):
            several = wanted_of("abcd", wanted.groups, c=state, d=MemberState.JOINING)
            found = steps(several, seen, policy)
            of_groups = [step.group for step in found if isinstance(step, ChangeGroup)]
            of_members = [
                step.member
                for step in found
                if isinstance(step, MakeMember | LaunchMember | EndMember)
            ]
            assert len(set(of_groups)) == len(of_groups)
            assert sorted(of_members) == ["c", "d"]
