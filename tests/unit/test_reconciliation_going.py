"""What the controller does about a member whose node is about to be ended: by examples."""

from __future__ import annotations

from ray_paxos.core.reconciliation import ChangeGroup, EndMember, Policy, RetireMember, Step
from tests.unit.test_reconciliation import (
    ADD,
    DRAINED,
    LEAVING,
    PROMOTE,
    REMOVE,
    change,
    group,
    played,
    seen_of,
    steps,
    wanted_of,
)

GROWS = Policy(grows=True)


def test_its_groups_are_given_to_others_while_it_can_still_teach_them() -> None:
    wanted, has = wanted_of("abcd"), "abc"
    taken: list[Step] = []
    while found := steps(wanted, seen_of("abcd", {1: has}, going="c"), Policy()):
        taken += found
        for step in found:
            assert isinstance(step, ChangeGroup)
            has = played(has, step)
    assert taken == [change(1, ADD, "d"), change(1, PROMOTE, "d"), change(1, REMOVE, "c")]
    assert has == "abd"


def test_it_keeps_what_nobody_else_can_take() -> None:
    """The group would survive less, not more (rule 2)."""
    assert steps(wanted_of("abc"), seen_of("abc", {1: "abc"}, going="c"), GROWS) == []
    both = seen_of("abcd", {1: "abc"}, going="cd")
    assert steps(wanted_of("abcd"), both, Policy()) == [], "nor is it given to one that goes, too"


def test_of_an_even_number_of_voters_it_is_one_too_many() -> None:
    """Three survive as many losses as four do."""
    wanted = wanted_of("abcd", {1: group(1, 4)})
    assert steps(wanted, seen_of("abcd", {1: "abcd"}, going="d")) == [change(1, REMOVE, "d")]
    assert steps(wanted, seen_of("abcd", {1: "abc"}, going="d")) == [], "nor another one"
    pair = wanted_of("ab", {1: group(1, 2)})
    assert steps(pair, seen_of("ab", {1: "ab"}, going="b")) == [], "on one disk alone"


def test_where_all_go_nothing_is_moved() -> None:
    assert steps(wanted_of("abcd"), seen_of("abcd", {1: "abc"}, going="abcd"), Policy()) == []


def test_one_that_is_to_leave_goes_before_one_that_only_goes() -> None:
    wanted = wanted_of("ab", {1: group(1)}, b=LEAVING)
    assert steps(wanted, seen_of("ab", {1: "ab"}, going="ab")) == [change(1, REMOVE, "b")]


def test_where_its_node_stays_after_all_it_gets_its_share_again() -> None:
    groups = {n: group(n, 1) for n in range(1, 5)}
    wanted, names = wanted_of("ab", groups), dict.fromkeys(groups, "a")
    assert steps(wanted, seen_of("ab", names, going="b"), Policy()) == []
    found = steps(wanted, seen_of("ab", names), Policy())
    assert len(found) == 2
    assert set(found) <= {change(n, ADD, "b") for n in groups}


def test_it_is_given_no_group_that_lacks_a_voter() -> None:
    assert steps(wanted_of("abcd"), seen_of("abd", {1: "ab"}, going="d")) == []
    # Nor in an outage, when nothing is replaced.
    assert steps(wanted_of("abcdef"), seen_of("abd", {1: "ab"}, going="d"), Policy()) == []


def test_in_an_outage_it_keeps_all() -> None:
    """More than `missing_max` are missing: or it is this process that is cut off (rule 3)."""
    wanted = wanted_of("abcdef")
    assert steps(wanted, seen_of("abcd", {1: "abc"}, going="c")) == []
    assert steps(wanted, seen_of("abcd", {1: "abc+d"}, going="d")) == [], "nor is it let go"


def test_it_leaves_a_group_also_while_another_voter_is_missing() -> None:
    """Of a, b and d two are enough; with c, of which nothing will be left, three would be."""
    wanted = wanted_of("abcd")
    assert steps(wanted, seen_of("bcd", {1: "abcd"}, going="c")) == [change(1, REMOVE, "c")]
    # Without a majority of what is left it is needed.
    assert steps(wanted, seen_of("cd", {1: "abcd"}, going="c"), Policy(2)) == []


def test_group_0_waits_while_another_voter_is_missing() -> None:
    wanted = wanted_of("abcde", {0: group(0)})
    assert steps(wanted, seen_of("acde", {0: "abc"}, going="c")) == [], "rule 4"
    assert steps(wanted, seen_of("abcde", {0: "abc"}, going="c")) != []


def test_a_group_that_an_operator_has_placed_is_not_moved() -> None:
    wanted = wanted_of("abcd", {1: group(1, placed="abc")})
    assert steps(wanted, seen_of("abcd", {1: "abc"}, going="c"), GROWS) == []


def test_a_placed_group_does_not_get_a_voter_that_goes() -> None:
    wanted = wanted_of("abcd", {1: group(1, placed="abd")})
    assert steps(wanted, seen_of("abcd", {1: "abc"}, going="d")) == []
    assert steps(wanted, seen_of("abcd", {1: "abc+d"}, going="d"), GROWS) == [], "it may stay"
    assert steps(wanted, seen_of("abcd", {1: "abc+d"})) == [change(1, PROMOTE, "d")]


def test_it_follows_no_group_any_more() -> None:
    """Or it would never have let go of everything, were it told to follow just before."""
    wanted = wanted_of("abcde")
    assert steps(wanted, seen_of("abcde", {1: "abc+d"}, going="d")) == [change(1, REMOVE, "d")]


def test_nothing_is_moved_for_evenness_while_one_has_groups_that_goes() -> None:
    groups = {n: group(n, 1) for n in range(1, 6)}
    wanted = wanted_of("abc", groups)
    names = {1: "a", 2: "a", 3: "a", 4: "a", 5: "c"}
    assert steps(wanted, seen_of("abc", names, going="c"), Policy()) == [change(5, ADD, "b")]
    names[5] = "b"
    found = steps(wanted, seen_of("abc", names, going="c"), Policy())
    assert set(found) <= {change(n, ADD, "b") for n in groups}
    assert len(found) == 1


def test_where_each_node_has_a_member_it_leaves_once_it_has_let_go() -> None:
    """Several nodes may go at once, and must not count as missing together afterwards."""
    wanted = wanted_of("abcde")
    found = steps(wanted, seen_of("abcde", {1: "abc"}, going="de"), GROWS)
    assert found == [RetireMember("d"), RetireMember("e")]
    assert steps(wanted, seen_of("abcde", {1: "abc"}, going="de")) == [], "it was not made for it"
    named = steps(wanted, seen_of("abcde", {1: "abd"}, going="d"), GROWS)
    assert RetireMember("d") not in named, "a group names it"
    leaving = wanted_of("abcde", d=LEAVING)
    assert EndMember("d") in steps(leaving, seen_of("abcde", {1: "abc"}, ended="d", going="d"))


def test_it_does_not_leave_where_an_operator_wants_a_group_at_it() -> None:
    """It would be refused in every round."""
    wanted = wanted_of("abcd", {1: group(1, placed="abd")})
    for seen in (seen_of("abc", {1: "abc"}, lost="d"), seen_of("abcd", {1: "abc"}, going="d")):
        assert RetireMember("d") not in steps(wanted, seen, GROWS)


def test_one_that_an_operator_has_drained_stays() -> None:
    wanted = wanted_of("abcd", d=DRAINED)
    assert steps(wanted, seen_of("abcd", {1: "abc"}, going="d"), GROWS) == []
