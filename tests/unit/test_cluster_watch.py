"""Looks at a cluster that is played: who votes, who is down and since when, rates, what is kept."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ray_paxos.observability import catalogue
from ray_paxos.observability.cluster_view import Health
from ray_paxos.observability.cluster_watch import ALARMS_MAX, EVENTS_MAX
from ray_paxos.observability.report import Span
from tests.unit.watched_roles import (
    BEGIN_MS,
    GONE,
    PlayedCluster,
    event,
    group_in,
    histogram,
    member_of,
)


@pytest.fixture
def played() -> PlayedCluster:
    return PlayedCluster()


def test_all_is_well(played: PlayedCluster) -> None:
    view = played.look()
    assert [member.name for member in view.members] == ["m1", "m2", "m3"]
    assert all(member.is_up and member.down_since_ms is None for member in view.members)
    first, second = view.members[:2]
    assert (first.leads, second.leads, second.votes_in) == ((0, 1), (), (0, 1))
    assert (first.node_id, first.node_address) == ("node-of-m1", "10.0.0.1")
    assert (first.disk_bytes, first.disk_free_bytes) == (4_000, 5_000_000_000)
    group = group_in(view, 1)
    assert (group.master, group.voters, group.voters_up, group.majority) == (
        "m1",
        ("m1", "m2", "m3"),
        3,
        2,
    )
    assert (group.health, group.risk, group.queued_requests) == (Health.OK, "", 3)
    position = group.positions["m2"]
    assert (position.applied, position.durable, position.checkpoint) == (100, 50, 40)
    assert view.alarms == ()
    json.dumps(view.to_dict())


def test_rates_are_those_since_the_look_before(played: PlayedCluster) -> None:
    played["m1"].commands = {0: 1_000, 1: 500}
    first = played.look()
    assert (first.commands_per_s, group_in(first, 1).commands_per_s) == (None, None)
    assert member_of(first, "m1").commands_per_s is None
    played["m1"].commands = {0: 1_000, 1: 520}
    played["m1"].times = {
        catalogue.COMMAND_SECONDS.name: histogram(*[0.002] * 20),
        catalogue.QUEUE_SECONDS.name: histogram(0.004),
    }
    played["m2"].times = {catalogue.FSYNC_SECONDS.name: histogram(0.2)}
    second = played.look(2_000)
    assert (second.commands_per_s, group_in(second, 1).commands_per_s) == (10.0, 10.0)
    assert group_in(second, 0).commands_per_s == 0.0
    assert member_of(second, "m1").commands_per_s == 10.0
    assert second.p50_ms == pytest.approx(1.75)
    assert set(second.hops_p99_ms) == {"queue", "fsync"}
    assert member_of(second, "m2").fsync_p99_ms == pytest.approx(250, rel=0.02)
    assert member_of(second, "m1").fsync_p99_ms is None
    third = played.look()
    assert (third.commands_per_s, third.p50_ms, third.hops_p99_ms) == (0.0, None, {})


def test_a_restart_makes_no_rate_negative(played: PlayedCluster) -> None:
    played["m1"].commands = {1: 5_000}
    played.look()
    played["m1"].commands, played["m1"].incarnation = {1: 30}, 2
    assert played.look().commands_per_s == 30.0


def test_clocks_of_nodes_are_not_compared(played: PlayedCluster) -> None:
    """One an hour ahead, one an hour behind: rates and times are as if they were right."""
    played["m1"].clock_ms, played["m2"].clock_ms = 3_600_000, -3_600_000
    played["m1"].commands, played["m2"].commands = {1: 10}, {0: 10}
    played.look()
    played["m1"].commands, played["m2"].commands = {1: 20}, {0: 30}
    assert played.look().commands_per_s == 30.0
    played.kill("m2")
    assert member_of(played.look(), "m2").down_since_ms == played.at_ms


def test_a_member_is_down_since_it_was_first_seen(played: PlayedCluster) -> None:
    played.look()
    played.kill("m2")
    first = played.look()
    later = played.look(60_000)
    for view in (first, later):
        member = member_of(view, "m2")
        assert (member.is_up, member.down_since_ms) == (False, BEGIN_MS + 2_000)
        assert (member.votes_in, member.node_id) == ((0, 1), "node-of-m2"), "as it was known"
        assert {role.phase for role in member.roles.values()} == {"gone"}
        assert member.alarms == (f"none of its roles answers: {GONE}",)
        group = group_in(view, 1)
        assert (group.health, group.voters_down) == (Health.AT_RISK, ("m2",))
        assert group.since_ms == BEGIN_MS + 2_000
        assert not group.positions["m2"].is_up
    assert later.alarms == (
        "groups 0-1: 1 of 3 voters is down (m2). Nothing acknowledged is lost; one more failure "
        "stops this group.",
        f"m2: none of its roles answers: {GONE}",
    )
    played["m2"].silent = set()
    back = played.look()
    assert member_of(back, "m2").down_since_ms is None
    assert (group_in(back, 1).health, group_in(back, 1).since_ms) == (Health.OK, played.at_ms)


def test_who_voted_is_told_by_the_others(played: PlayedCluster) -> None:
    """Also to one who has not seen the member that is down."""
    played.kill("m2")
    assert member_of(played.look(watch=played.new_watch()), "m2").votes_in == (0, 1)


def test_the_latest_configuration_counts(played: PlayedCluster) -> None:
    for name in ("m1", "m3"):
        played[name].voters[1], played[name].config_id = [10, 12], 70
        played[name].followers = [11]
    group = group_in(played.look(), 1)
    assert (group.voters, group.followers, group.config_id) == (("m1", "m3"), ("m2",), 70)
    assert (group.majority, group.health) == (2, Health.OK)
    played.kill("m1", "m3")
    group = group_in(played.look(), 1)
    assert group.voters == ("m1", "m3"), "though the only one that answers says otherwise"
    assert group.health is Health.NO_MAJORITY


def test_no_majority(played: PlayedCluster) -> None:
    played.look()
    played.kill("m1", "m3")
    view = played.look()
    group = group_in(view, 1)
    assert (group.health, group.master, group.voters_up) == (Health.NO_MAJORITY, None, 1)
    assert "takes no writes" in group.risk
    played.kill("m2")
    silent = played.look()
    group = group_in(silent, 1)
    assert (group.health, group.voters, group.voters_up) == (
        Health.NO_MAJORITY,
        ("m1", "m2", "m3"),
        0,
    ), "remembered"
    assert group.applied == 100


def test_an_acceptor_that_does_not_vote_is_no_voter_up(played: PlayedCluster) -> None:
    played["m2"].is_full = True
    group = group_in(played.look(), 1)
    assert (group.voters_down, group.health) == (("m2",), Health.AT_RISK)
    assert "(m2: disk full)" in group.risk
    played["m2"].is_full = False
    played["m2"].phases["acceptor"] = ("stopped", "a CRC is wrong")
    played["m2"].errors["acceptor"] = "DamageError"
    view = played.look()
    assert "(m2: votes damaged)" in group_in(view, 1).risk
    member = member_of(view, "m2")
    assert (member.is_up, member.down_since_ms) == (False, played.at_ms)
    assert "does not vote" in member.alarms[0]


def test_a_learner_that_stopped_applying(played: PlayedCluster) -> None:
    played["m3"].stopped = {1: "ValueError: odd"}
    view = played.look()
    assert group_in(view, 1).health is Health.STOPPED
    assert "m3 applies nothing more (m3: ValueError: odd)" in group_in(view, 1).risk
    assert group_in(view, 0).health is Health.OK
    assert member_of(view, "m3").alarms == ("group 1: applying stopped: ValueError: odd",)


def test_a_group_that_the_only_member_that_answers_could_not_open(played: PlayedCluster) -> None:
    played["m1"].not_open = {1: "DamageError: odd"}
    played.kill("m2", "m3")
    view = played.look()
    assert group_in(view, 1).risk.startswith("m1 could not open it (m1: DamageError: odd), and")
    assert "DamageError" not in group_in(view, 0).risk


def test_a_group_that_one_of_several_could_not_open(played: PlayedCluster) -> None:
    played["m2"].not_open = {1: "DamageError: odd"}
    group = group_in(played.look(), 1)
    assert group.health is Health.STOPPED
    assert group.risk == (
        "m2 applies nothing more (m2: DamageError: odd). Nothing acknowledged is lost: the others "
        "have it."
    )


def test_lag_is_behind_the_furthest(played: PlayedCluster) -> None:
    played["m1"].applied, played["m2"].applied = 130, 90
    view = played.look()
    assert (group_in(view, 1).lag, group_in(view, 1).applied) == (40, 130)
    assert [member.lag for member in view.members] == [0, 40, 30]


def test_of_two_that_think_they_lead_one_is_the_master(played: PlayedCluster) -> None:
    played["m3"].leads = {1}
    view = played.look()
    assert [1 in member.leads for member in view.members].count(True) == 1


def test_a_group_without_master_since_the_last_reign_ended(played: PlayedCluster) -> None:
    played["m1"].leads = {0}
    ballot, other = [2, 10, 1], [3, 11, 1]
    played["m1"].events = [
        event("m1", "MasterStarted", BEGIN_MS - 9_000, 1, instance_id=4, ballot=ballot),
        event("m1", "MasterStopped", BEGIN_MS - 5_000, 2, ballot=ballot, reason="x"),
    ]
    played["m2"].events = [
        event("m2", "MasterStopped", BEGIN_MS - 8_000, 1, ballot=other, reason="gave up"),
    ]
    view = played.look()
    assert (group_in(view, 1).health, group_in(view, 1).since_ms) == (
        Health.NO_MASTER,
        BEGIN_MS - 5_000,
    )
    assert group_in(view, 0).since_ms == BEGIN_MS + 1_000


def test_events_come_once_the_newest_first_and_are_bounded(played: PlayedCluster) -> None:
    played["m1"].events = [event("m1", "X", BEGIN_MS + n, n) for n in range(1, 4)]
    played["m2"].events = [event("m2", "X", BEGIN_MS + 2, 1)]
    for _ in range(2):
        view = played.look()
        times = [each.at_ms - BEGIN_MS for each in view.events]
        assert times == [3, 2, 2, 1]
    assert played.watch.last_events["m1", "proposer"] == 3
    played["m1"].events = [event("m1", "X", BEGIN_MS + n, n) for n in range(4, 3_000)]
    view = played.look()
    assert len(view.events) == EVENTS_MAX
    assert view.events[0].sequence == 2_999


def test_numbers_of_events_that_begin_anew_are_taken(played: PlayedCluster) -> None:
    played["m1"].events = [event("m1", "X", BEGIN_MS, 7)]
    played.look()
    played["m1"].events = [event("m1", "X", BEGIN_MS + 5, 1)]
    assert len(played.look().events) == 2
    assert len(played.look().events) == 2, "each once"


def test_events_of_a_new_folder_are_asked_for_from_its_first_one(played: PlayedCluster) -> None:
    """Those from before the look that finds it, too: the role was not asked for them."""
    played["m1"].events = [event("m1", "X", BEGIN_MS + n, n) for n in range(1, 8)]
    played.look()
    anew = [event("m1", "Y", BEGIN_MS + 100 + n, n) for n in range(1, 4)]
    played["m1"].events, played["m1"].last_sequence = [], 3
    played.look()
    assert played.watch.last_events["m1", "proposer"] == 0
    played["m1"].events = anew
    assert [each.kind for each in played.look().events[:4]] == ["Y", "Y", "Y", "X"]
    assert played.watch.last_events["m1", "proposer"] == 3


def test_history_outlives_the_member_that_made_it(played: PlayedCluster) -> None:
    played["m1"].spans = (Span(BEGIN_MS, 10.0, 50, histogram(0.001)),)
    played.look()
    played.kill("m1")
    (span,) = played.look().history
    assert (span.end_ms, span.commands_per_s) == (BEGIN_MS, 5.0)


def test_nothing_is_kept_of_what_has_left(played: PlayedCluster) -> None:
    played["m3"].spans = (Span(BEGIN_MS, 10.0, 50, None),)
    played["m3"].events = [event("m3", "X", BEGIN_MS)]
    played.look()
    played.kill("m3")
    played["m1"].silent_ms = {12: 1_500}
    played.look()
    del played.members["m3"]
    for member in played.members.values():
        member.voters = {0: [10, 11]}
        member.config_id = 5
    played.watch.members = {"m1": 10, "m2": 11}
    view = played.look()
    assert [member.name for member in view.members] == ["m1", "m2"]
    assert [group.group for group in view.groups] == [0], "group 1 was dropped"
    assert group_in(view, 0).voters == ("m1", "m2")
    assert view.history == ()
    watch = played.watch
    kept = (
        watch._before,
        watch.last_events,
        watch._down_since,
        watch._seen_down_at,
        watch._is_settled,
        watch._up_at,
        watch._node_ids,
    )
    assert not any("m3" in str(each) for each in kept)


def test_reports_are_kept_without_what_nobody_needs_again(played: PlayedCluster) -> None:
    played["m1"].events = [event("m1", "X", BEGIN_MS)]
    played.look()
    assert all(report.events == () for report in played.watch._before.values())


def test_a_voter_whose_name_nobody_knows(played: PlayedCluster) -> None:
    for member in played.members.values():
        member.voters[1] = [10, 11, 99]
    group = group_in(played.look(), 1)
    assert (group.voters, group.voters_down) == (("99", "m1", "m2"), ("99",))


def test_alarms_are_bounded(played: PlayedCluster) -> None:
    big = PlayedCluster(groups=60)
    big["m2"].stopped = {group: f"odd {group}" for group in range(60)}
    view = big.look()
    assert len(member_of(view, "m2").alarms) == ALARMS_MAX + 1
    assert member_of(view, "m2").alarms[-1] == "and 40 more of the kind"
    assert len(view.alarms) == 2 * (ALARMS_MAX + 1)


def test_a_watch_of_no_answers_shows_its_members() -> None:
    played = PlayedCluster()
    played.kill("m1", "m2", "m3")
    view = played.look()
    assert [member.is_up for member in view.members] == [False] * 3
    assert view.groups == ()
    assert replace(view, at_ms=0).to_dict()["members"][0]["name"] == "m1"
