"""Links that are cut in a chaos run: who counts as harmed, for how long, and what overlaps."""

from __future__ import annotations

import pytest

from chaos_cuts import HEAD, can_serve
from chaos_gaps import SECOND_NS
from chaos_plan import OF_GROUPS, OF_LINKS, ROLES, FaultKind, minority, plan_faults
from tests.jobs.chaos_bench import FIVE, MEMBERS, Bench, planned


def draw_of(members: tuple[str, ...], *, is_from_head: bool) -> float:
    """A seed by which one of these members is cut off, from the head or not."""
    for number in range(100):
        bench = Bench(members)
        bench.run(iter([planned(FaultKind.PARTITION, links_draw=number / 100)]), 1.5)
        (cut,) = bench.injector.disturbances
        is_one = "," not in cut.what.split(" from ")[0]
        if is_one and ("but the head" not in cut.what) == is_from_head:
            return number / 100
    raise AssertionError("no such seed")


OF_THREE = draw_of(MEMBERS, is_from_head=False)
OF_THREE_FAR = draw_of(MEMBERS, is_from_head=True)
NEAR = draw_of(FIVE, is_from_head=False)
FAR = draw_of(FIVE, is_from_head=True)


def test_a_member_that_is_cut_off_is_harmed_until_it_has_caught_up() -> None:
    bench = Bench()
    bench.processes.learned["m2"] = 5
    plan = [
        planned(FaultKind.PARTITION, draw=0.5, pause_s=2.0, links_draw=OF_THREE),
        planned(FaultKind.KILL_MEMBER, 6.0, draw=0.99),
    ]
    bench.run(iter(plan), 8.5)
    cut, killed = bench.injector.disturbances
    assert cut.what == "m2 from all others but the head for 4.0 s; m1 (master)"
    assert bench.nodes.did == ["lose 4", "lose 0"]
    # Its links are whole again, and it has not what the others have.
    assert cut.end_ns is None
    assert not bench.injector.account.is_member_whole("m2")
    assert killed.what == "m2"
    bench.processes.learned.clear()
    bench.run(iter([planned(FaultKind.KILL_MEMBER, 6.0, draw=0.99)]), 20)
    assert cut.end_ns is not None
    assert bench.injector.disturbances[-1].what == "m3"
    assert bench.injector.heal(10.0) == []


def test_a_member_that_does_not_catch_up_is_not_healed() -> None:
    bench = Bench()
    bench.processes.learned["m2"] = 5
    bench.run(iter([planned(FaultKind.PARTITION, draw=0.5, links_draw=OF_THREE)]), 3.0)
    (problem,) = bench.injector.heal(10.0)
    assert bench.nodes.lost == frozenset()
    assert problem.startswith("not over within 10 s of the last fault: partition m2 from all")


def test_who_cannot_be_reached_is_hit_by_nothing_else_and_not_asked() -> None:
    bench = Bench(FIVE)
    asked: list[set[str]] = []
    look = bench.processes.look

    def watched(without):
        asked.append({place[0] for place in bench.processes.places if place not in without})
        return look(without)

    bench.processes.look = watched  # type: ignore[method-assign]
    hits = (
        *(FaultKind.KILL_MEMBER, FaultKind.PAUSE_MEMBER, FaultKind.KILL_NODE),
        *(FaultKind.FULL_DISK, FaultKind.RESTART_ALL, FaultKind.PARTIAL),
    )
    plan = [planned(FaultKind.PARTITION, pause_s=6.0, links_draw=FAR)]
    plan += [planned(kind, 1.0, pause_s=0.5) for kind in hits]
    bench.run(iter(plan), 11.5)
    cut = bench.injector.disturbances[0]
    assert cut.what == "m1 from all others for 12.0 s; m1 (master)"
    assert (HEAD, "m1") in bench.nodes.lost
    assert not [d for d in bench.injector.disturbances[1:] if d.what.startswith("m1")]
    assert len(bench.injector.disturbances) > 3
    assert not {place for hit in bench.processes.killed for place in hit if place[0] == "m1"}
    assert "m1" not in asked[-1]
    assert bench.injector.heal(30.0) == []
    assert "m1" in asked[-1]


def test_what_is_stopped_where_no_link_leads_is_not_killed() -> None:
    bench = Bench(FIVE)
    plan = [
        planned(FaultKind.PAUSE_MEMBER, pause_s=6.0),
        planned(FaultKind.PARTITION, 0.5, pause_s=6.0, links_draw=FAR),
        planned(FaultKind.RESTART_ALL, 0.5),
    ]
    bench.run(iter(plan), 3.0)
    assert [d.what[:2] for d in bench.injector.disturbances[:2]] == ["m1", "m1"]
    (killed,) = bench.processes.killed
    assert {place[0] for place in killed} == {"m2", "m3", "m4", "m5"}


def test_a_node_that_is_down_is_not_cut_off_from_the_head() -> None:
    bench = Bench()
    plan = [
        planned(FaultKind.KILL_NODE, pause_s=6.0),
        planned(FaultKind.PARTITION, 1.0, links_draw=OF_THREE_FAR),
    ]
    bench.run(iter(plan), 3.0)
    assert bench.injector.disturbances[1].what.startswith("m1 from all others but the head")


def test_one_cut_is_mended_and_another_one_stays() -> None:
    bench = Bench(FIVE)
    plan = [
        planned(FaultKind.PARTITION, pause_s=1.5, links_draw=NEAR),
        planned(FaultKind.PARTITION, 1.0, pause_s=6.0, draw=0.3, links_draw=NEAR),
    ]
    bench.run(iter(plan), 2.5)
    first, second = bench.injector.disturbances
    assert (first.what[:2], second.what[:2]) == ("m1", "m2")
    assert ("m1", "m3") in bench.nodes.lost
    bench.run(iter(()), 5.0)
    assert first.end_ns is not None
    assert {name for direction in bench.nodes.lost for name in direction} == set(FIVE)
    assert all("m2" in direction for direction in bench.nodes.lost)
    assert bench.injector.heal(10.0) == []
    assert bench.nodes.lost == frozenset()


def test_links_are_mended_before_what_is_stopped_goes_on() -> None:
    bench = Bench(FIVE)
    resume = bench.processes.resume

    def resumed() -> None:
        # Whoever tells processes to go on may be where no link leads.
        assert bench.nodes.lost == frozenset()
        resume()

    bench.processes.resume = resumed  # type: ignore[method-assign]
    plan = [
        planned(FaultKind.PAUSE_MEMBER, pause_s=100.0, draw=0.9),
        planned(FaultKind.PARTITION, 0.5, pause_s=6.0, links_draw=FAR),
    ]
    bench.run(iter(plan), 3.0)
    assert bench.injector.heal(10.0) == []
    assert bench.processes.resumed == 1


@pytest.mark.parametrize("seed", range(3))
def test_every_group_keeps_a_voter_that_reaches_a_quorum(seed: int) -> None:
    """By what is really down and cut at every moment, not by the account."""
    voters = {1: ("m1", "m2", "m3", "m4"), 2: ("m3", "m4", "m5"), 3: FIVE[1:]}
    bench = Bench(FIVE, voters=voters)
    bench.processes.back_after_s = 0.8
    seen: set[tuple[int, int]] = set()

    def check() -> None:
        lost = {frozenset(direction) for direction in bench.nodes.lost}
        down = bench.processes.harmed()
        # After a restart of everything there is no such voter; it is not among the kinds.
        for group, names in bench.changes.voters.items():
            assert can_serve(names, down, lost), (group, names, down, lost)
        seen.add((len(down), len(lost)))

    sleep = bench.sleep

    def checked(seconds: float) -> None:
        check()
        sleep(seconds)

    bench.injector._waiting._sleep = checked
    kinds = (*OF_LINKS, *OF_GROUPS, FaultKind.KILL_MEMBER, FaultKind.PAUSE_MEMBER)
    bench.run(plan_faults(kinds, seed, 1.0), 300)
    found = {disturbance.kind for disturbance in bench.injector.disturbances}
    assert found == set(kinds)
    assert max(down for down, _ in seen) == minority(5)
    assert any(down and links for down, links in seen), "they overlap"
    assert bench.injector.heal(30.0) == []
    assert all(d.end_ns is not None for d in bench.injector.disturbances)


def test_cuts_last_for_leases() -> None:
    bench = Bench(FIVE)
    plan = [planned(kind, 30.0, pause_s=6.0, links_draw=NEAR) for kind in OF_LINKS]
    bench.run(iter(plan), 120)
    for disturbance in bench.injector.disturbances:
        assert "for 12.0 s" in disturbance.what
        assert disturbance.end_ns is not None
        length_s = (disturbance.end_ns - disturbance.start_ns) / SECOND_NS
        assert 12.0 <= length_s < 13.0
    assert {place[1] for place in bench.processes.places} == set(ROLES)
