"""Health and risk of a group: what is told is true of the disks, whatever fails."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.observability.cluster_view import Health
from ray_paxos.observability.group_health import (
    GroupFacts,
    health_of,
    names,
    numbers,
    risk_of,
)


def facts(
    voters: int = 3,
    down: tuple[str, ...] = (),
    damaged: tuple[str, ...] = (),
    silent: tuple[str, ...] = (),
    stopped: dict[str, str] | None = None,
    master: str | None = "m9",
) -> GroupFacts:
    return GroupFacts(
        voters=[f"m{number + 1}" for number in range(voters)],
        down={name: "votes damaged" if name in damaged else "" for name in down},
        damaged=frozenset(damaged),
        silent=silent,
        stopped=stopped or {},
        master=master,
    )


def test_what_is_well_has_no_sentence() -> None:
    assert (health_of(facts()), risk_of(facts())) == (Health.OK, "")
    alone = facts(voters=1)
    assert (health_of(alone), risk_of(alone)) == (Health.OK, "")


@pytest.mark.parametrize(
    ("given_facts", "health", "told"),
    [
        (
            facts(3, ("m2",)),
            Health.AT_RISK,
            "1 of 3 voters is down (m2). Nothing acknowledged is lost; one more failure stops "
            "this group.",
        ),
        (
            facts(5, ("m2",)),
            Health.DEGRADED,
            "1 of 5 voters is down (m2). Nothing acknowledged is lost; this group stops if 2 more "
            "fail.",
        ),
        (
            facts(3, ("m2", "m3"), master=None),
            Health.NO_MAJORITY,
            "2 of 3 voters are down (m2, m3): this group takes no writes. What was acknowledged is "
            "on the disks of at least 2 of m1, m2, m3. It goes on by itself once 1 of m2, m3 is "
            "back with its disk.",
        ),
        (
            facts(3, ("m1", "m2", "m3"), master=None),
            Health.NO_MAJORITY,
            "3 of 3 voters are down (m1, m2, m3): this group takes no writes. What was "
            "acknowledged is on the disks of at least 2 of m1, m2, m3. It goes on by itself once "
            "2 of m1, m2, m3 are back with their disks.",
        ),
        (
            facts(1, ("m1",), master=None),
            Health.NO_MAJORITY,
            "Its only voter is down (m1): this group takes no writes. What was acknowledged is on "
            "the disk of m1, and nowhere else. It goes on by itself once m1 is back with its disk.",
        ),
        (
            facts(3, ("m2", "m3"), damaged=("m2",), master=None),
            Health.NO_MAJORITY,
            "2 of 3 voters are down (m2: votes damaged, m3): this group takes no writes. What was "
            "acknowledged is on the disk of at least 1 of m1, m3. It goes on by itself once m3 is "
            "back with its disk.",
        ),
        (
            facts(3, ("m2", "m3"), damaged=("m2", "m3"), master=None),
            Health.NO_MAJORITY,
            "2 of 3 voters are down (m2: votes damaged, m3: votes damaged): this group takes no "
            "writes. What was acknowledged may be lost: the votes of m2, m3 are damaged, and it "
            "may have been on these disks only. It cannot go on by itself, since too few of its "
            "voters can ever vote again: `ray-paxos unsafe-recover` makes a new cluster of what "
            "is left.",
        ),
        (
            facts(3, master=None),
            Health.NO_MASTER,
            "No member leads it: it takes no writes until one does. Nothing acknowledged is lost.",
        ),
        (
            facts(3, stopped={"m2": "ValueError: x", "m1": ""}),
            Health.STOPPED,
            "m2 applies nothing more (m2: ValueError: x). The log is kept there, too: nothing "
            "acknowledged is lost.",
        ),
        (
            facts(3, silent=("f1",)),
            Health.DEGRADED,
            "f1 tells nothing of it, and serves no reads.",
        ),
        (
            facts(0, master=None),
            Health.NO_MAJORITY,
            "No member that has this group answers, and so nobody tells who votes in it.",
        ),
    ],
)
def test_what_a_person_reads(given_facts: GroupFacts, health: Health, told: str) -> None:
    assert health_of(given_facts) is health
    assert risk_of(given_facts) == told


def test_all_members_that_stopped_leave_no_leader() -> None:
    told = risk_of(facts(3, stopped={"m1": "x", "m2": "x", "m3": "x"}, master=None))
    assert "No voter can lead it" in told


def test_health_is_ordered_by_gravity() -> None:
    order = [Health.OK, Health.DEGRADED, Health.AT_RISK, Health.NO_MASTER, Health.NO_MAJORITY]
    assert sorted(reversed(order), key=lambda health: health.rank) == order


@settings(deadline=None)
@given(voters=st.integers(1, 7), data=st.data())
def test_what_is_said_of_data_is_true_of_every_way_it_can_lie(
    voters: int, data: st.DataObject
) -> None:
    """An acknowledged command is on the disks of some majority: of any, as far as is known."""
    everybody = [f"m{number + 1}" for number in range(voters)]
    down = tuple(data.draw(st.lists(st.sampled_from(everybody), unique=True)))
    damaged = tuple(name for name in down if data.draw(st.booleans()))
    known = facts(voters, down, damaged, master="m1" if len(down) * 2 < voters else None)
    told = risk_of(known)
    majorities = [set(each) for each in itertools.combinations(everybody, known.majority)]
    if "Nothing acknowledged is lost" in told:
        assert all(each - set(down) for each in majorities), "also without the disks that are down"
    if "may be lost" in told:
        assert any(each <= set(damaged) for each in majorities)
    on_disks = re.search(r"on the disks? of at least (\d+) of ([m\d, ]+)\.", told)
    if on_disks is not None:
        among = set(on_disks[2].split(", "))
        assert not among & set(damaged)
        assert min(len(each & among) for each in majorities) == int(on_disks[1])
    can_return = set(everybody) - set(damaged)
    if "goes on by itself" in told:
        assert len(can_return) >= known.majority
    if "cannot go on by itself" in told:
        assert len(can_return) < known.majority
    stops = re.search(r"stops if (\d+) more fail", told)
    spare = int(stops[1]) if stops else (1 if "one more failure stops" in told else None)
    if spare is not None:
        assert known.up - spare < known.majority <= known.up - spare + 1
    assert bool(told) is bool(down or known.master is None)


def test_numbers_and_names() -> None:
    assert numbers([3, 1, 2, 7, 9, 10]) == "1-3, 7, 9-10"
    assert numbers([]) == ""
    assert names([f"m{number}" for number in range(9)]) == "m0, m1, m2, m3, m4, m5, m6 and 2 more"
