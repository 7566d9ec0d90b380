"""The injector on processes and a clock of this test: what overlaps, what is waited for."""

from __future__ import annotations

import pytest

from chaos_gaps import SECOND_NS
from chaos_plan import (
    DEFAULT_KINDS,
    OF_GROUPS,
    ROLES,
    FaultKind,
    minority,
    plan_faults,
)
from tests.jobs.chaos_bench import FIVE, Bench, planned
from tests.jobs.chaos_fakes import Flaws


def watch_harm(bench: Bench) -> None:
    """Look, after each signal, how many members are not whole."""

    def watched(signal):
        def send(lives, *arguments):
            hit = bench.processes.places_of(lives)
            count: int = signal(lives, *arguments)
            # But for those that hit everything.
            if len({place[0] for place in hit}) == 1:
                bench.harmed_most = max(bench.harmed_most, len(bench.processes.harmed()))
            return count

        return send

    bench.processes.kill = watched(bench.processes.kill)  # type: ignore[method-assign]
    bench.processes.pause = watched(bench.processes.pause)  # type: ignore[method-assign]


@pytest.mark.parametrize("count", [3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_never_more_than_a_minority_is_harmed(seed: int, count: int) -> None:
    bench = Bench(tuple(f"m{number}" for number in range(1, count + 1)))
    watch_harm(bench)
    kinds = (*DEFAULT_KINDS, FaultKind.PAUSE_ROLE)
    bench.run(plan_faults(kinds, seed, 1.0), 300)
    assert bench.harmed_most == minority(count)
    found = [disturbance.kind for disturbance in bench.injector.disturbances]
    assert set(found) == set(kinds)
    assert len(found) > 100
    assert bench.injector.heal(30.0) == []
    assert all(disturbance.end_ns is not None for disturbance in bench.injector.disturbances)


def test_each_kind_does_what_it_says() -> None:
    bench = Bench()
    plan = [
        planned(FaultKind.KILL_ROLE, role="acceptor", is_for_master=True),
        planned(FaultKind.KILL_MEMBER, after_s=5.0, draw=0.5),
        planned(FaultKind.PAUSE_MEMBER, after_s=5.0, draw=0.9),
        planned(FaultKind.PAUSE_ROLE, after_s=5.0),
        planned(FaultKind.RESTART_ALL, after_s=5.0),
        planned(FaultKind.DROP_MASTER),
    ]
    bench.run(iter(plan), 60)
    killed_role, killed_member, killed_all = bench.processes.killed
    assert killed_role == [("m1", "acceptor")]
    assert killed_member == [("m2", role) for role in ROLES]
    assert killed_all == bench.processes.places
    assert bench.processes.stopped == [[("m3", role) for role in ROLES], [("m1", "learner")]]
    assert bench.handed_over == ["m2"]
    assert bench.said == [
        "kill-role m1/acceptor (master)",
        "kill-member m2",
        "pause-member m3 for 2.0 s",
        "pause-role m1/learner (master) for 2.0 s",
        "restart-all all members",
        "drop-master m1 to m2",
    ]
    assert bench.now_ns == 60 * SECOND_NS


def test_an_account_is_open_until_everything_serves_again() -> None:
    bench = Bench()
    bench.run(iter([planned(FaultKind.KILL_ROLE), planned(FaultKind.PAUSE_MEMBER, 4.0)]), 20)
    killed, paused = bench.injector.disturbances
    assert killed.start_ns == 1 * SECOND_NS
    assert 2.5 <= (killed.end_ns or 0) / SECOND_NS < 3.2
    assert paused.start_ns == 5 * SECOND_NS
    assert 7.0 <= (paused.end_ns or 0) / SECOND_NS < 7.7


def test_a_member_may_be_killed_while_it_is_paused() -> None:
    bench = Bench()
    plan = [
        planned(FaultKind.PAUSE_MEMBER, pause_s=6.0, draw=0.5),
        planned(FaultKind.KILL_MEMBER, draw=0.9),
    ]
    bench.run(iter(plan), 20)
    assert bench.processes.killed == [[("m2", role) for role in ROLES]]
    assert bench.injector.account.is_whole


def test_a_fault_waits_until_it_may_hit_somebody() -> None:
    bench = Bench()
    # The only member that may be hit has no process left to kill.
    plan = [planned(FaultKind.KILL_MEMBER), planned(FaultKind.KILL_MEMBER, 0.1, draw=0.9)]
    bench.run(iter(plan), 20)
    first, second = bench.injector.disturbances
    assert second.start_ns >= first.start_ns + int(1.5 * SECOND_NS)


def test_nothing_happens_while_everything_is_restarted() -> None:
    bench = Bench()
    plan = [planned(FaultKind.RESTART_ALL), planned(FaultKind.DROP_MASTER, 0.1)]
    bench.run(iter(plan), 20)
    restart, drop = bench.injector.disturbances
    assert restart.end_ns is not None
    assert drop.start_ns >= restart.end_ns >= restart.start_ns + int(1.5 * SECOND_NS)


def test_nothing_is_injected_at_the_end_or_later() -> None:
    bench = Bench()
    bench.run(iter([planned(FaultKind.KILL_ROLE, 5.0)]), 5)
    assert bench.injector.disturbances == []
    assert bench.now_ns == 5 * SECOND_NS
    bench.run(plan_faults(DEFAULT_KINDS, 1, 0.2), 30)
    assert bench.now_ns < 31 * SECOND_NS


def test_a_short_run_goes_on_until_each_kind_has_come_once() -> None:
    kinds = (FaultKind.KILL_ROLE, FaultKind.PAUSE_MEMBER, FaultKind.DROP_MASTER)
    bench = Bench(kinds=kinds)
    bench.run(plan_faults(kinds, 1, 4.0), 5)
    assert [fault.kind for fault in bench.injector.disturbances] == [
        fault.kind for fault, _ in zip(plan_faults(kinds, 1, 4.0), kinds, strict=False)
    ]
    assert bench.now_ns > 5 * SECOND_NS


def test_a_run_does_not_go_on_for_long_for_what_cannot_come() -> None:
    kinds = (FaultKind.KILL_MEMBER, FaultKind.DROP_MASTER)
    bench = Bench(kinds=kinds)
    plan = [planned(FaultKind.DROP_MASTER, 70.0), planned(FaultKind.KILL_MEMBER, 1.0)]
    bench.run(iter(plan), 5)
    assert bench.injector.disturbances == []
    assert bench.now_ns == 5 * SECOND_NS


def test_a_refused_transfer_is_told() -> None:
    bench = Bench(refuses=True)
    bench.run(iter([planned(FaultKind.DROP_MASTER)]), 3)
    (refused,) = bench.injector.disturbances
    assert refused.refusal == "it is too far behind"
    assert bench.said == ["drop-master m1 to m2: refused: it is too far behind"]


def test_healing_continues_what_is_stopped_and_names_what_does_not_come_back() -> None:
    bench = Bench()
    bench.run(iter([planned(FaultKind.PAUSE_MEMBER, pause_s=1_000.0)]), 3)
    assert not bench.injector.account.is_whole
    assert bench.injector.heal(10.0) == []
    assert bench.processes.resumed == 1
    bench.processes.never_back = True
    started_ns = bench.now_ns
    (problem,) = bench.injector.heal(10.0)
    assert problem == "not all roles served within 10 s of the last fault: m1/learner"
    assert bench.now_ns - started_ns < 11 * SECOND_NS


# Changes of members


def test_changes_keep_three_voters_and_are_told() -> None:
    bench = Bench(FIVE, voters={1: ("m1", "m2", "m3", "m4")})
    plan = [
        planned(FaultKind.REMOVE_MEMBER, is_for_master=True),
        planned(FaultKind.REMOVE_MEMBER),
        planned(FaultKind.ADD_MEMBER),
        planned(FaultKind.MOVE_GROUP, draw=0.9),
    ]
    bench.run(iter(plan), 20)
    assert bench.said == [
        "remove-member group 1: m1 leaves",
        "remove-member no group: refused: no group has more than 3 voters",
        "add-member group 1: m1 joins",
        "move-group group 1: from m4 to m5",
    ]
    assert bench.changes.voters[1] == {"m1", "m2", "m3", "m5"}
    assert bench.injector.heal(10.0) == []
    assert [d.refusal for d in bench.injector.disturbances][1] == "no group has more than 3 voters"
    assert all(d.end_ns is not None for d in bench.injector.disturbances)


def test_a_group_that_everybody_has_cannot_be_given_to_anybody() -> None:
    bench = Bench(FIVE)
    bench.run(iter([planned(FaultKind.ADD_MEMBER), planned(FaultKind.MOVE_GROUP)]), 5)
    assert [d.refusal for d in bench.injector.disturbances] == ["every member has every group"] * 2
    assert bench.changes.made == []


def test_a_refused_change_is_told_and_its_voters_are_looked_up() -> None:
    bench = Bench(FIVE, flaws=Flaws(changes_fail=True))
    bench.run(iter([planned(FaultKind.REMOVE_MEMBER)]), 5)
    (refused,) = bench.injector.disturbances
    assert refused.refusal == "MembershipError: it is too far behind"
    assert refused.end_ns is not None
    # It may be carried out later: until that is known both configurations count.
    voters = bench.injector.account.voters
    assert voters.of(1) == set(FIVE)
    assert voters.harmable({"m2", "m3"}) == ["m2", "m3"]


def test_while_a_group_changes_a_minority_is_one_of_every_step() -> None:
    bench = Bench(FIVE, voters={1: ("m1", "m2", "m3")})
    bench.executor.is_waiting = True
    move = planned(FaultKind.MOVE_GROUP, draw=0.0)
    kills = [planned(FaultKind.KILL_MEMBER, 0.1, draw=draw) for draw in (0.9, 0.9, 0.9)]
    bench.run(iter([move, *kills]), 2.5)
    # m1 leaves for m4: of m2, m3 and m4 one may be harmed, of m1, m2 and m3 one, and m5 besides.
    hit = [places[0][0] for places in bench.processes.killed]
    assert hit[0] == "m5"
    assert len(set(hit)) == 2
    assert not bench.changes.made
    bench.executor.do_all()
    assert bench.injector.heal(10.0) == []
    assert bench.changes.voters[1] == {"m2", "m3", "m4"}


def test_one_group_is_changed_once_at_a_time() -> None:
    bench = Bench(FIVE, voters={1: ("m1", "m2", "m3"), 2: FIVE})
    bench.executor.is_waiting = True
    plan = [planned(FaultKind.MOVE_GROUP), planned(FaultKind.ADD_MEMBER)]
    bench.run(iter(plan), 5)
    assert [d.kind for d in bench.injector.disturbances] == [FaultKind.MOVE_GROUP]
    bench.executor.do_all()
    bench.run(iter(plan[1:]), 10)
    assert [d.kind for d in bench.injector.disturbances] == [d.kind for d in plan]


def test_nobody_joins_or_leaves_where_too_few_would_be_left_alive() -> None:
    bench = Bench(FIVE, voters={1: ("m1", "m2", "m3", "m4")})
    bench.processes.back_after_s = 3.0
    # m5 cannot join before it is back; without m4 one of three is harmed, which is a minority.
    plan = [
        planned(FaultKind.KILL_MEMBER, draw=0.99),
        planned(FaultKind.MOVE_GROUP, 0.1),
    ]
    bench.run(iter(plan), 20)
    killed, moved = bench.injector.disturbances
    assert killed.what == "m5"
    assert moved.start_ns >= killed.start_ns + 3 * SECOND_NS


@pytest.mark.parametrize("seed", range(5))
def test_no_group_ever_has_too_many_of_its_voters_harmed(seed: int) -> None:
    bench = Bench(FIVE, voters={1: ("m1", "m2", "m3"), 2: ("m3", "m4", "m5"), 3: FIVE[1:]})
    worst: dict[int, int] = {}

    def watched(signal):
        def send(lives, *arguments):
            count: int = signal(lives, *arguments)
            for group, names in bench.changes.voters.items():
                harmed = len(names & bench.processes.harmed())
                assert harmed <= minority(len(names)), (group, names)
                worst[group] = max(worst.get(group, 0), harmed)
            return count

        return send

    bench.processes.kill = watched(bench.processes.kill)  # type: ignore[method-assign]
    bench.processes.pause = watched(bench.processes.pause)  # type: ignore[method-assign]
    kinds = (*OF_GROUPS, FaultKind.KILL_MEMBER, FaultKind.PAUSE_MEMBER, FaultKind.KILL_ROLE)
    bench.run(plan_faults(kinds, seed, 0.5), 300)
    assert all(len(names) >= 3 for names in bench.changes.voters.values())
    assert worst[0] == 2
    assert {what for _, what, _ in bench.changes.made} == {"add", "promote", "remove"}


# Whole members


def test_members_are_restarted_in_turn() -> None:
    bench = Bench()
    plan = [
        planned(FaultKind.KILL_MEMBER),
        planned(FaultKind.ROLLING_RESTART, 0.1),
        planned(FaultKind.DROP_MASTER, 0.1),
    ]
    bench.run(iter(plan), 30)
    killed, rolling, dropped = bench.injector.disturbances
    assert bench.processes.restarted == ["m1", "m2", "m3"]
    # The master hands over first; here it stays, and gives up the lead once more in the end.
    assert bench.handed_over == [None, "m2"]
    # One is away for 1.5 s; the next one follows once it is back.
    assert rolling.start_ns >= (killed.end_ns or 0)
    assert rolling.end_ns is not None
    assert rolling.end_ns - rolling.start_ns >= 3 * 1.5 * SECOND_NS
    assert dropped.start_ns >= rolling.end_ns


def test_a_restart_in_turn_stops_at_who_does_not_come_back() -> None:
    bench = Bench()
    bench.processes.back_after_s = 1_000.0
    bench.run(iter([planned(FaultKind.ROLLING_RESTART)]), 5)
    (rolling,) = bench.injector.disturbances
    assert bench.processes.restarted == ["m1"]
    assert rolling.refusal == "m1 did not serve again within 60 s"


def test_a_wiped_member_is_removed_and_waited_for_no_more() -> None:
    bench = Bench(FIVE, voters={1: ("m1", "m2", "m3", "m4"), 2: ("m1", "m2", "m3", "m5")})
    bench.run(iter([planned(FaultKind.WIPE_MEMBER, is_for_master=True)]), 5)
    assert bench.processes.wiped == ["m1"]
    assert bench.changes.made == [(group, "remove", "m1") for group in (0, 1, 2)]
    assert bench.injector.heal(10.0) == []
    assert bench.injector.stay_out() == []
    # The others have three voters of each group left, and none of them can be spared.
    bench.run(iter([planned(FaultKind.WIPE_MEMBER), planned(FaultKind.KILL_MEMBER)]), 20)
    assert bench.processes.wiped == ["m1"]
    assert "fewer than 3 voters" in bench.injector.disturbances[1].refusal
    assert bench.processes.killed[-1] == [("m2", role) for role in ROLES]


def test_a_wiped_member_that_votes_again_or_does_not_say_why_not_is_told() -> None:
    bench = Bench(FIVE)
    bench.run(iter([planned(FaultKind.WIPE_MEMBER)]), 5)
    bench.processes.votes_again = True
    bench.injector.account.look()
    assert bench.injector.stay_out() == ["m1 votes again, though its folder was deleted"]
    bench.processes.votes_again = False
    bench.processes.refusals_are_told = False
    bench.injector.account.look()
    assert bench.injector.stay_out() == ["m1 does not say why it stays out"]


def test_a_wiped_member_counts_as_harmed_until_it_has_left() -> None:
    bench = Bench(FIVE, voters={1: ("m1", "m2", "m3", "m4")})
    bench.executor.is_waiting = True
    bench.run(iter([planned(FaultKind.WIPE_MEMBER), planned(FaultKind.KILL_MEMBER)]), 3)
    # Of the four voters of before, and of the three of after, only m1 may be harmed.
    assert bench.processes.killed[-1][0] == ("m5", ROLES[0])


# Nodes and disks


def test_a_node_is_started_again_after_its_time() -> None:
    bench = Bench()
    bench.run(iter([planned(FaultKind.KILL_NODE, is_for_master=True, pause_s=3.0)]), 20)
    assert bench.nodes.did == ["kill m1", "start m1"]
    (killed,) = bench.injector.disturbances
    assert killed.what == "m1 (master) for 3.0 s"
    assert 5.5 <= (killed.end_ns or 0) / SECOND_NS < 6.5


def test_a_node_that_is_down_is_started_by_healing_and_hit_by_nothing_else() -> None:
    bench = Bench()
    plan = [
        planned(FaultKind.KILL_NODE, pause_s=1_000.0),
        planned(FaultKind.KILL_NODE, 0.1),
    ]
    bench.run(iter(plan), 3)
    bench.run(iter([planned(FaultKind.KILL_MEMBER, 0.1)]), 4)
    assert bench.nodes.did == ["kill m1"]
    assert bench.processes.killed == []
    assert bench.injector.heal(10.0) == []
    assert bench.nodes.did == ["kill m1", "heal", "start m1"]


def test_nobody_is_looked_at_while_the_gcs_is_away() -> None:
    bench = Bench()
    looks: list[int] = []
    look = bench.processes.look

    def watched(without):
        looks.append(bench.now_ns)
        return look(without)

    bench.processes.look = watched  # type: ignore[method-assign]
    plan = [planned(FaultKind.KILL_MEMBER), planned(FaultKind.KILL_GCS, 0.1, pause_s=2.0)]
    bench.run(iter(plan), 30)
    killed, gcs = bench.injector.disturbances
    assert bench.nodes.did == ["kill gcs", "start gcs"]
    assert gcs.start_ns >= (killed.end_ns or 0)
    assert gcs.end_ns is not None
    assert gcs.end_ns - gcs.start_ns >= 8 * SECOND_NS
    assert not [at_ns for at_ns in looks if gcs.start_ns < at_ns < gcs.start_ns + 8 * SECOND_NS]


def test_a_gcs_is_started_again_whatever_happens() -> None:
    bench = Bench()

    def interrupted(seconds: float) -> None:
        if "kill gcs" in bench.nodes.did:
            raise KeyboardInterrupt
        bench.sleep(seconds)

    bench.injector._waiting._sleep = interrupted
    with pytest.raises(KeyboardInterrupt):
        bench.run(iter([planned(FaultKind.KILL_GCS)]), 30)
    assert bench.nodes.did == ["kill gcs", "start gcs"]


def test_a_disk_harms_its_member_until_it_is_well() -> None:
    bench = Bench()
    plan = [
        planned(FaultKind.SLOW_DISK, pause_s=2.0),
        planned(FaultKind.KILL_MEMBER, 0.5, draw=0.9),
        planned(FaultKind.FULL_DISK, 8.0, draw=0.9),
    ]
    bench.run(iter(plan), 20)
    slow, killed, full = bench.injector.disturbances
    assert bench.nodes.did == ["slow m1", "fill m3"]
    assert slow.what == "m1 (master) frozen for 0.10 s at a time, for 4.0 s"
    # While one of three is harmed, it is the one that is hit.
    assert killed.what == "m1 (master)"
    assert 5.0 <= (slow.end_ns or 0) / SECOND_NS < 6.0
    assert full.what == "m3 for 4.0 s"


def test_a_member_whose_disk_stays_full_is_not_healed() -> None:
    bench = Bench()
    bench.processes.full.add("m2")
    bench.run(iter([planned(FaultKind.FULL_DISK, draw=0.5)]), 20)
    (problem,) = bench.injector.heal(5.0)
    assert problem == "not all roles served within 5 s of the last fault: m2/acceptor"
    bench.processes.full.clear()
    assert bench.injector.heal(5.0) == []


def test_a_member_whose_groups_change_is_not_wiped() -> None:
    bench = Bench(FIVE, voters={1: FIVE[:4], 2: FIVE})
    bench.executor.is_waiting = True
    # Everybody has group 2, which m1 is to leave.
    plan = [
        planned(FaultKind.REMOVE_MEMBER, group_draw=0.9),
        planned(FaultKind.WIPE_MEMBER),
    ]
    bench.run(iter(plan), 5)
    assert bench.processes.wiped == []
    bench.executor.do_all()
    bench.run(iter(plan[1:]), 10)
    assert bench.processes.wiped == ["m1"]
