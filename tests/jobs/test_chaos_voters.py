"""Who votes while groups change, and who may be harmed then."""

from __future__ import annotations

from chaos_plan import FaultKind
from chaos_voters import Change, GroupVoters
from tests.jobs.test_chaos_plan import planned

THREE = ("m1", "m2", "m3")
FIVE = ("m1", "m2", "m3", "m4", "m5")


def test_of_three_voters_one_may_be_harmed_and_of_five_two() -> None:
    three = GroupVoters(THREE, {1: THREE})
    assert three.harmable(()) == list(THREE)
    assert three.harmable({"m3"}) == ["m3"]
    # Where everything is harmed, as after a restart of everything, all may be hit again.
    assert three.harmable({"m1", "m3"}) == ["m1", "m3"]
    five = GroupVoters(FIVE, {1: FIVE})
    assert five.harmable({"m1"}) == list(FIVE)
    assert five.harmable({"m1", "m5"}) == ["m1", "m5"]


def test_every_group_counts_by_itself() -> None:
    voters = GroupVoters(FIVE, {1: ("m1", "m2", "m3"), 2: ("m3", "m4", "m5")})
    assert voters.harmable({"m1"}) == ["m1", "m4", "m5"]
    assert voters.may_harm({"m1", "m4"})
    assert not voters.may_harm({"m1", "m3"})
    assert voters.groups_of("m3") == [1, 2]


def test_a_change_counts_before_and_after_and_between() -> None:
    change = Change(1, joins="m4", leaves="m1")
    steps = [sorted(step) for step in change.steps(frozenset(THREE))]
    assert steps == [["m1", "m2", "m3", "m4"], ["m2", "m3", "m4"]]
    voters = GroupVoters(FIVE, {1: THREE})
    voters.begin(change)
    # m1 and m4 are never both voters with one of three; of the four in between only one may be.
    assert not voters.may_harm({"m1", "m4"})
    assert not voters.may_harm({"m4", "m2"})
    assert voters.may_harm({"m5", "m2"})
    voters.end(1, ("m2", "m3", "m4"), is_sure=True)
    assert voters.may_harm({"m1", "m4"})


def test_what_may_be_carried_out_later_counts_until_it_is_known() -> None:
    voters = GroupVoters(FIVE, {1: ("m1", "m2", "m3", "m4", "m5")})
    voters.begin(Change(1, leaves="m5"))
    voters.end(1, FIVE, is_sure=False)
    assert voters.of(1) == frozenset(FIVE)
    assert not voters.may_harm({"m1", "m2"})
    voters.begin(Change(1, leaves="m4"))
    voters.end(1, ("m1", "m2", "m3", "m5"), is_sure=True)
    assert voters.may_harm({"m1", "m4"})


def choose(voters: GroupVoters, kind: FaultKind, **fields: object) -> Change | str | None:
    harmed = {"m5"} if fields.pop("is_m5_harmed", False) else set()
    return voters.choose_change(
        planned(kind, **fields),
        [1],
        whole=set(voters.members) - harmed,
        harmed=harmed,
        masters={1: "m2"},
    )


def test_the_master_leaves_where_it_is_aimed_at() -> None:
    voters = GroupVoters(FIVE, {1: ("m1", "m2", "m3", "m4")})
    assert choose(voters, FaultKind.REMOVE_MEMBER, is_for_master=True) == Change(1, leaves="m2")
    assert choose(voters, FaultKind.REMOVE_MEMBER, draw=0.9) == Change(1, leaves="m4")
    moved = choose(voters, FaultKind.MOVE_GROUP, is_for_master=True)
    assert moved == Change(1, joins="m5", leaves="m2")
    assert choose(voters, FaultKind.ADD_MEMBER) == Change(1, joins="m5")


def test_who_is_harmed_does_not_join() -> None:
    voters = GroupVoters(FIVE, {1: ("m1", "m2", "m3", "m4")})
    assert choose(voters, FaultKind.ADD_MEMBER, is_m5_harmed=True) is None
    assert choose(voters, FaultKind.MOVE_GROUP, is_m5_harmed=True) is None
    assert isinstance(choose(voters, FaultKind.REMOVE_MEMBER, is_m5_harmed=True), Change)


def test_nobody_leaves_where_the_harmed_would_be_no_minority_of_the_others() -> None:
    voters = GroupVoters(FIVE, {1: ("m1", "m2", "m3", "m4", "m5")})
    found = voters.choose_change(
        planned(FaultKind.REMOVE_MEMBER, draw=0.0),
        [1],
        whole={"m1", "m2", "m3"},
        harmed={"m4", "m5"},
        masters={},
    )
    # Two of four are no minority; once one of the two leaves, one is harmed.
    assert found == Change(1, leaves="m4")


def test_a_member_can_be_spared_while_three_are_left_in_each_of_its_groups() -> None:
    voters = GroupVoters(FIVE, {0: FIVE, 1: ("m1", "m2", "m3"), 2: ("m2", "m3", "m4", "m5")})
    assert [name for name in FIVE if voters.can_spare(name, 3)] == ["m4", "m5"]
    voters.begin(Change(2, leaves="m5"))
    assert voters.is_changing("m4")
    assert not voters.is_changing("m1")
    assert [name for name in FIVE if voters.can_spare(name, 3)] == ["m5"]


def test_who_is_gone_is_no_member_and_still_a_voter() -> None:
    voters = GroupVoters(FIVE, {1: ("m1", "m2", "m3", "m4")})
    voters.lose("m1")
    assert voters.members == ("m2", "m3", "m4", "m5")
    assert voters.all_members == FIVE
    assert voters.harmable({"m1"}) == ["m5"]
    assert choose(voters, FaultKind.REMOVE_MEMBER, draw=0.0) == Change(1, leaves="m2")
