"""Health and risk of a group: what is told is true of the disks, whatever fails."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.observability.cluster_view import GroupView, Health
from ray_paxos.observability.group_health import (
    GroupFacts,
    health_of,
    risk_of,
    risks,
)
from tests.unit.watched_roles import PlayedCluster


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
            facts(3, stopped={"m2": "", "f1": "ValueError: x"}),
            Health.DEGRADED,
            "f1 applies nothing more (f1: ValueError: x). The log is kept there, too: nothing "
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


def test_followers_that_stopped_are_no_voters() -> None:
    told = risk_of(facts(3, stopped={"m1": "x", "f1": "x", "f2": "x", "f3": "x"}))
    assert "No voter can lead it" not in told


DIFFER = "values differ at or before 90: the chain is 00 here and 11 at the master"


@pytest.mark.parametrize(
    ("down", "master"), [((), "m1"), ((), None), (("m3",), "m1"), (("m1", "m3"), None)]
)
def test_where_logs_differ_nothing_is_said_to_be_safe(
    down: tuple[str, ...], master: str | None
) -> None:
    told = risk_of(facts(3, down, stopped={"m2": DIFFER}, master=master))
    assert told.startswith(f"Logs differ (m2: {DIFFER}): no member is to be trusted until")
    assert "`jobs/verify_log.py`" in told
    assert "`ray-paxos log verify`" in told
    assert "m2 applies nothing more." in told
    for word in ("is lost", "is kept", "on the disk"):
        assert word not in told


def test_a_follower_whose_log_differs_is_as_grave_as_a_voter() -> None:
    assert health_of(facts(3, stopped={"f1": DIFFER})) is Health.STOPPED


def test_results_that_differ_are_of_one_log() -> None:
    told = risk_of(facts(3, stopped={"m2": DIFFER.replace("values", "results")}))
    assert "Logs differ" not in told
    assert "nothing acknowledged is lost" in told


@pytest.mark.parametrize("damaged", [("m2", "m3"), ()])
@pytest.mark.parametrize("stopped", [("m1",), ("m1", "m2", "m3")])
def test_what_may_be_lost_is_not_said_to_be_safe(
    damaged: tuple[str, ...], stopped: tuple[str, ...]
) -> None:
    told = risk_of(facts(3, ("m2", "m3"), damaged, stopped=dict.fromkeys(stopped, "ValueError: x")))
    assert ("may be lost" in told) is bool(damaged)
    assert "more (m1: ValueError: x)." in told
    assert "acknowledged is lost" not in told
    assert "is kept" not in told


@pytest.mark.parametrize(
    ("not_open", "told"),
    [
        (("m1",), "Nothing acknowledged is lost: the others have it."),
        (("m1", "m2"), ""),
    ],
)
def test_a_log_that_cannot_be_opened_is_a_lost_disk(not_open: tuple[str, ...], told: str) -> None:
    stopped = {name: "DamageError: x" for name in not_open}
    known = replace(facts(3, stopped=stopped), not_open=stopped)
    said = risk_of(known)
    assert said.endswith(told)
    assert "kept there" not in said
    assert ("acknowledged is lost" in said) is bool(told)


def test_a_member_that_answers_but_could_not_open_its_group() -> None:
    told = risk_of(replace(facts(0, master=None), not_open={"m1": "DamageError: x"}))
    assert told == (
        "m1 could not open it (m1: DamageError: x), and no other member that has this group "
        "answers: nobody tells who votes in it."
    )


@pytest.mark.parametrize(
    ("known", "health"),
    [
        (facts(3, ("m2", "m3"), stopped={"m1": "x"}, master=None), Health.NO_MAJORITY),
        (facts(3, stopped={"m1": "x"}, master=None), Health.NO_MASTER),
        (facts(3, ("m2",), stopped={"m1": "x"}), Health.STOPPED),
        (facts(3, ("m2",), stopped={"f1": "x"}), Health.AT_RISK),
    ],
)
def test_the_gravest_is_shown(known: GroupFacts, health: Health) -> None:
    assert health_of(known) is health


def test_health_is_ordered_by_gravity() -> None:
    order = [Health.OK, Health.DEGRADED, Health.AT_RISK]
    order += [Health.STOPPED, Health.NO_MASTER, Health.NO_MAJORITY]
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


def test_risks_are_told_once_the_gravest_first() -> None:
    (group,) = PlayedCluster(groups=1).look().groups

    def ill(number: int, health: Health, risk: str, since_ms: int) -> GroupView:
        return replace(group, group=number, health=health, risk=risk, since_ms=since_ms)

    found = risks(
        [
            ill(4, Health.DEGRADED, "b", 7),
            ill(0, Health.AT_RISK, "c", 9),
            ill(1, Health.OK, "", 1),
            ill(2, Health.STOPPED, "z", 8),
            ill(3, Health.AT_RISK, "c", 5),
            ill(5, Health.DEGRADED, "a", 7),
        ]
    )
    assert found == [
        (Health.STOPPED, "z", (2,), 8),
        (Health.AT_RISK, "c", (0, 3), 5),
        (Health.DEGRADED, "a", (5,), 7),
        (Health.DEGRADED, "b", (4,), 7),
    ]
