"""Members that are replaced in a chaos run, and the controller that is killed."""

from __future__ import annotations

import pytest

import chaos_changes
from chaos_cluster import CONTROLLER
from chaos_gaps import SECOND_NS
from chaos_plan import OF_GROUPS, ROLES, FaultKind, minority, plan_faults
from tests.jobs.chaos_bench import FIVE, Bench, planned

BOTH = (FaultKind.REPLACE_MEMBER, FaultKind.KILL_CONTROLLER)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaos_changes, "AGAIN_S", 0.0)


def ordered(**fields: object) -> Bench:
    """A cluster with a controller."""
    return Bench(FIVE, kinds=BOTH, is_ordered=True, **fields)  # type: ignore[arg-type]


def replace(after_s: float = 1.0, **fields: object):
    return planned(FaultKind.REPLACE_MEMBER, after_s, **fields)


def test_a_new_member_takes_over_and_the_run_goes_on_with_it() -> None:
    bench = ordered(voters={1: FIVE[:3], 2: FIVE[2:]})
    plan = [replace(), planned(FaultKind.KILL_MEMBER, 2.0, draw=0.99)]
    bench.run(iter(plan), 6)
    assert bench.said == ["replace-member m1 (master of 2) by r1", "kill-member r1"]
    # On the node of the old one, with its pins.
    assert (0, "replace", "m1 by r1, {'host': 'h1'}") in bench.changes.made
    voters = bench.injector.account.voters
    assert voters.members == ("m2", "m3", "m4", "m5", "r1")
    assert voters.of(1) == {"m2", "m3", "r1"}
    assert {place[0] for place in bench.processes.places} == {*voters.members, CONTROLLER[0]}
    assert bench.injector.heal(10.0) == []
    assert all(d.end_ns is not None for d in bench.injector.disturbances)


def test_an_order_that_broke_off_is_given_again() -> None:
    bench = ordered()
    bench.changes.orders_failing = 3
    bench.run(iter([replace()]), 5)
    assert [what for _, what, _ in bench.changes.made] == ["replace"] * 4
    assert bench.injector.disturbances[0].refusal == ""
    assert bench.injector.account.voters.members[-1] == "r1"


def test_an_order_that_had_too_little_time_and_was_gone_on_with_is_done() -> None:
    """It was given again and again, and refused, for the member was gone."""
    bench = ordered()
    bench.changes.orders_failing, bench.changes.orders_late = 1, True
    bench.run(iter([replace()]), 5)
    assert [what for _, what, _ in bench.changes.made] == ["replace"]
    (done,) = bench.injector.disturbances
    assert (done.refusal, done.end_ns is None) == ("", False)
    assert bench.injector.account.voters.members[-1] == "r1"
    assert bench.injector.heal(10.0) == []


def test_an_order_that_is_never_done_is_told_and_both_members_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chaos_changes, "ORDERS_S", 0.0)
    bench = ordered(voters={1: FIVE[:3]})
    bench.changes.orders_failing = 1_000
    bench.run(iter([replace(draw=0.0)]), 5)
    (refused,) = bench.injector.disturbances
    assert refused.refusal == "MembershipError: it still stands"
    voters = bench.injector.account.voters
    assert {"m1", "r1"} < set(voters.members)
    # Whichever of them votes in the end, two of three are left.
    assert not voters.may_harm({"r1", "m2"})
    assert not voters.may_harm({"m1", "m2"})


def test_names_are_never_used_twice() -> None:
    bench = ordered()
    assert bench.injector.replacements is not None
    bench.injector.replacements.avoid(["m1", "r1", "r3"])
    bench.run(iter([replace(2.0), replace(2.0), replace(2.0)]), 15)
    assert [d.what.split(" by ")[1] for d in bench.injector.disturbances] == ["r2", "r4", "r5"]


def test_one_member_is_replaced_at_a_time_and_none_whose_groups_change() -> None:
    bench = ordered(voters={1: FIVE[:4]})
    bench.executor.is_waiting = True
    bench.run(iter([planned(FaultKind.REMOVE_MEMBER), replace()]), 5)
    assert [d.what for d in bench.injector.disturbances] == ["group 1: m1 leaves"] + [
        d.what for d in bench.injector.disturbances[1:]
    ]
    # Of those in group 1 none may go now; m5 has group 0 alone, which all have.
    assert [d.what for d in bench.injector.disturbances[1:]] == ["m5 by r1"]
    bench.run(iter([replace()]), 10)
    assert len(bench.injector.disturbances) == 2
    bench.executor.do_all()
    bench.run(iter([replace()]), 15)
    assert len(bench.injector.disturbances) == 3


def test_two_that_share_no_group_are_not_replaced_at_a_time() -> None:
    bench = ordered(voters={0: FIVE[:3], 1: FIVE[:3]})
    bench.executor.is_waiting = True
    # m4 and m5 have no group at all.
    bench.run(iter([replace(draw=0.99), replace(draw=0.7)]), 5)
    assert [d.what for d in bench.injector.disturbances] == ["m5 by r1"]


def test_nobody_is_replaced_where_the_new_one_and_the_harmed_would_be_too_many() -> None:
    bench = ordered(voters={1: FIVE[:3]})
    bench.processes.back_after_s = 1_000.0
    plan = [planned(FaultKind.KILL_MEMBER), replace(draw=0.0)]
    bench.run(iter(plan), 5)
    # m2 and m3 have a group with m1, which is away; the new one is, too, until it serves.
    assert [d.what for d in bench.injector.disturbances] == ["m1 (master)", "m4 by r1"]


def test_who_may_take_the_place_counts_and_the_new_one_is_harmed_until_it_serves() -> None:
    bench = ordered(voters={1: FIVE[:3]})
    bench.executor.is_waiting = True
    bench.processes.never_new = True
    bench.run(iter([replace(draw=0.0)]), 3)
    account = bench.injector.account
    assert "r1" in account.harmed
    # With r1 in the place of m1, and away, neither m2 nor m3 may be.
    assert account.harmable == ["m4", "m5", "r1"]
    bench.processes.never_new = False
    account.look()
    assert account.harmable == ["m1", "m2", "m3", "m4", "m5", "r1"]
    # Either of the others may be given the group instead.
    assert not account.voters.may_harm({"m4", "m2"})


def test_nobody_is_given_to_a_group_that_comes_or_goes() -> None:
    bench = ordered(voters={1: FIVE[:3], 2: ("m2", "m3", "m4")})
    bench.executor.is_waiting = True
    plan = [replace(draw=0.0), planned(FaultKind.ADD_MEMBER, group_draw=0.9)]
    bench.run(iter(plan), 5)
    added = bench.injector.disturbances[1]
    assert added.what == "group 2: m5 joins", "neither m1, which leaves, nor r1"


def test_a_node_with_two_members_harms_both() -> None:
    bench = ordered()
    bench.executor.is_waiting = True
    plan = [replace(draw=0.0), planned(FaultKind.KILL_NODE, draw=0.0, pause_s=2.0)]
    bench.run(iter(plan), 3)
    assert bench.nodes.did == ["kill m1"]
    assert bench.injector.disturbances[1].what == "m1 (master), r1 for 2.0 s"
    assert {"m1", "r1"} <= bench.injector.account.harmed
    bench.processes.never_new = True
    bench.run(iter(()), 10)
    assert bench.nodes.did == ["kill m1", "start m1"]
    assert bench.injector.disturbances[1].end_ns is None, "r1 is not back"
    bench.processes.never_new = False
    bench.executor.do_all()
    assert bench.injector.heal(10.0) == []
    again = planned(FaultKind.KILL_NODE, draw=0.99, pause_s=60.0)
    bench.run(iter([again]), bench.now_ns / SECOND_NS + 2)
    assert bench.nodes.did[-1] == "kill m1"
    assert bench.injector.disturbances[-1].what.startswith("r1")


def test_a_node_is_not_killed_before_the_new_member_there_serves() -> None:
    """It is made where it was ordered, and a node that is started again is another one to Ray."""
    bench = ordered()
    bench.executor.is_waiting = True
    bench.processes.never_new = True
    plan = [replace(draw=0.0), planned(FaultKind.KILL_NODE, draw=0.0)]
    bench.run(iter(plan), 3)
    assert bench.nodes.did == ["kill m2"]


def test_orders_are_not_given_again_once_the_run_is_over() -> None:
    bench = ordered()
    bench.changes.orders_failing = 1_000
    bench.injector.end()
    bench.run(iter([replace()]), 3)
    assert [what for _, what, _ in bench.changes.made] == ["replace"]
    assert bench.injector.disturbances[0].refusal == "MembershipError: it still stands"


def test_changes_are_ordered_where_a_reconciler_runs() -> None:
    bench = ordered(voters={1: FIVE[:4]})
    plan = [
        planned(FaultKind.MOVE_GROUP),
        planned(FaultKind.ADD_MEMBER),
        planned(FaultKind.WIPE_MEMBER, draw=0.99),
    ]
    bench.run(iter(plan), 6)
    # Placed, so that nobody else moves it, and given free, so that members can be replaced.
    assert bench.changes.made == [
        (1, "place", "m2,m3,m4,m5"),
        (1, "place", ""),
        (1, "place", "m1,m2,m3,m4,m5"),
        (1, "place", ""),
        (0, "place", "m1,m2,m3,m4"),
        (0, "place", ""),
        (1, "place", "m1,m2,m3,m4"),
        (1, "place", ""),
    ]


# The controller


def test_a_controller_is_killed_and_waited_for() -> None:
    bench = ordered()
    bench.run(iter([planned(FaultKind.KILL_CONTROLLER, is_transfer=False)]), 1.5)
    (killed,) = bench.injector.disturbances
    assert bench.processes.killed == [[CONTROLLER]]
    assert killed.what == "at any moment"
    assert killed.end_ns is None
    assert bench.injector.account.harmed == set()
    assert bench.injector.heal(10.0) == []
    assert killed.end_ns is not None
    assert killed.end_ns >= killed.start_ns + int(1.5 * SECOND_NS)


def test_a_controller_that_does_not_come_back_is_not_healed() -> None:
    bench = ordered()
    bench.processes.back_after_s = 1_000.0
    bench.run(iter([planned(FaultKind.KILL_CONTROLLER, is_transfer=False)]), 1.5)
    (problem,) = bench.injector.heal(10.0)
    assert problem == "not all roles served within 10 s of the last fault: controller"


def test_a_controller_is_killed_in_the_middle_of_an_order() -> None:
    bench = ordered()
    bench.executor.is_waiting = True
    plan = [planned(FaultKind.KILL_CONTROLLER, is_transfer=True, draw=0.5)]
    bench.run(iter(plan), 6)
    assert bench.said == [
        "replace-member m3 by r1",
        "kill-controller while m3 is replaced by r1",
    ]
    ordered_at, killed_at = (d.start_ns for d in bench.injector.disturbances)
    assert 1.4 <= (killed_at - ordered_at) / SECOND_NS < 1.7
    # While one is under way the next one comes at once.
    bench.run(iter(plan), 8)
    assert bench.said[-1] == "kill-controller while m3 is replaced by r1"
    bench.executor.do_all()
    assert bench.injector.heal(10.0) == []


def test_a_restart_of_everything_leaves_the_controller_alone() -> None:
    bench = ordered()
    bench.run(iter([planned(FaultKind.RESTART_ALL)]), 3)
    assert CONTROLLER not in bench.processes.killed[0]
    assert len(bench.processes.killed[0]) == len(FIVE) * len(ROLES)


@pytest.mark.parametrize("seed", range(3))
def test_no_group_ever_has_too_many_of_its_voters_harmed(seed: int) -> None:
    bench = ordered(voters={1: FIVE[:3], 2: FIVE[2:], 3: FIVE[1:]})
    worst = 0

    def checked(seconds: float) -> None:
        nonlocal worst
        for group, names in bench.changes.voters.items():
            harmed = len(names & bench.processes.harmed())
            assert harmed <= minority(len(names)), (group, names)
            worst = max(worst, harmed)
        bench.sleep(seconds)
        # Orders take a while.
        if bench.now_ns % (3 * SECOND_NS) < SECOND_NS / 4:
            bench.executor.do_all()

    bench.executor.is_waiting = True
    bench.injector._waiting._sleep = checked
    kinds = (*BOTH, *OF_GROUPS, FaultKind.KILL_MEMBER, FaultKind.PAUSE_MEMBER, FaultKind.KILL_NODE)
    bench.run(plan_faults(kinds, seed, 1.0), 200)
    assert {d.kind for d in bench.injector.disturbances} == set(kinds)
    assert worst == 2
    bench.executor.is_waiting = False
    bench.executor.do_all()
    assert bench.injector.heal(60.0) == []
    assert all(d.end_ns is not None for d in bench.injector.disturbances)
