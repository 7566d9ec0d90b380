"""Since when a member is down, by what this watch has seen and what the others tell."""

from __future__ import annotations

import pytest

from ray_paxos.observability.down_since import succeeded_ms
from tests.unit.watched_roles import BEGIN_MS, PlayedCluster, event, group_in, member_of


@pytest.fixture
def played() -> PlayedCluster:
    return PlayedCluster()


def test_a_master_was_gone_by_when_another_one_succeeded_it(played: PlayedCluster) -> None:
    """For a watch that begins long after that."""
    played.kill("m1")
    played["m2"].leads = {0, 1}
    played["m2"].events = [
        event("m2", "MasterChanged", BEGIN_MS - 90_000, 1, master=10, version=1),
        event("m2", "MasterChanged", BEGIN_MS - 50_000, 2, master=11, version=8),
    ]
    played["m3"].events = [
        event("m3", "MasterChanged", BEGIN_MS - 49_000, 1, master=11, version=8),
    ]
    view = played.look()
    assert member_of(view, "m1").down_since_ms == BEGIN_MS - 50_000
    assert group_in(view, 1).since_ms == BEGIN_MS - 50_000
    assert member_of(view, "m3").down_since_ms is None


def test_a_member_is_down_for_as_long_as_the_master_that_heard_of_it_last_says(
    played: PlayedCluster,
) -> None:
    """Also one that had handed over long before it died."""
    played.kill("m3")
    played["m1"].leads, played["m2"].leads = {0}, {1}
    played["m1"].silent_ms, played["m2"].silent_ms = {12: 9_000}, {12: 7_000}
    played["m1"].events = [
        event("m1", "MasterChanged", BEGIN_MS - 90_000, 1, master=12, version=1),
        event("m1", "MasterChanged", BEGIN_MS - 50_000, 2, master=10, version=8),
    ]
    view = played.look()
    first_ms = played.at_ms
    assert member_of(view, "m3").down_since_ms == first_ms - 7_000
    assert member_of(view, "m1").down_since_ms is None
    played["m1"].silent_ms, played["m2"].silent_ms = {}, {12: 8_100}
    assert member_of(played.look(), "m3").down_since_ms == first_ms - 7_000, "the earliest stays"


HOUR_MS = 3_600_000


def handed_over(played: PlayedCluster) -> None:
    """m2 led ten hours ago, and handed over to m1 five hours ago."""
    played["m1"].events = [
        event("m1", "MasterChanged", BEGIN_MS - 10 * HOUR_MS, 1, master=11, version=1),
        event("m1", "MasterChanged", BEGIN_MS - 5 * HOUR_MS, 2, master=10, version=8),
    ]


def test_one_that_was_seen_up_is_not_down_since_it_handed_over(played: PlayedCluster) -> None:
    """For the first second no master says that it is silent."""
    handed_over(played)
    played.look()
    up_ms = played.at_ms
    played.kill("m2")
    assert member_of(played.look(), "m2").down_since_ms == up_ms + 1_000
    played["m1"].silent_ms = {11: 1_500}
    assert member_of(played.look(), "m2").down_since_ms == up_ms + 500
    played["m1"].leads, played["m3"].leads = set(), {0, 1}
    assert member_of(played.look(), "m2").down_since_ms == up_ms + 500, "m3 has never heard of it"


def test_one_that_was_seen_up_is_not_down_since_before(played: PlayedCluster) -> None:
    """Whatever the masters say that have not heard of it for longer."""
    played.look()
    up_ms = played.at_ms
    played.kill("m2")
    played["m1"].silent_ms = {11: 2 * HOUR_MS}
    assert member_of(played.look(), "m2").down_since_ms == up_ms


def test_what_masters_heard_is_better_than_who_followed_whom(played: PlayedCluster) -> None:
    handed_over(played)
    played.kill("m2")
    assert member_of(played.look(), "m2").down_since_ms == BEGIN_MS - 5 * HOUR_MS
    played["m1"].silent_ms = {11: 1_500}
    known_ms = played.at_ms + 1_000 - 1_500
    assert member_of(played.look(), "m2").down_since_ms == known_ms
    played["m1"].silent_ms = {}
    assert member_of(played.look(), "m2").down_since_ms == known_ms, "nor is it guessed again"


def test_one_that_masters_hear_and_the_watch_does_not(played: PlayedCluster) -> None:
    """It is down since it told the watch nothing."""
    played.look()
    played.kill("m2")
    first = member_of(played.look(), "m2").down_since_ms
    played["m1"].silent_ms = {11: 10}
    assert member_of(played.look(60_000), "m2").down_since_ms == first


def test_one_that_comes_back_and_dies_again(played: PlayedCluster) -> None:
    played.kill("m2")
    played["m1"].silent_ms = {11: 5_000}
    played.look()
    played["m2"].silent, played["m1"].silent_ms = set(), {}
    played.look()
    played.kill("m2")
    played["m1"].silent_ms = {11: 400}
    assert member_of(played.look(), "m2").down_since_ms == played.at_ms - 400


def test_succession_says_nothing_of_one_that_leads_yet_or_speaks_for_itself() -> None:
    led = [event("m2", "MasterChanged", 1, 1, master=10, version=1)]
    followed = [*led, event("m2", "MasterChanged", 5, 2, master=11, version=3)]
    assert succeeded_ms(10, "m1", led) is None
    assert succeeded_ms(10, "m1", followed) == 5
    assert succeeded_ms(10, "m2", followed) is None, "its own words"
    again = event("m3", "MasterChanged", 6, 3, group=2, master=10, version=9)
    assert succeeded_ms(10, "m1", [*followed, again]) is None


def test_one_that_answers_in_part_was_not_gone_then(played: PlayedCluster) -> None:
    played["m1"].phases["proposer"] = ("opening", "")
    played["m2"].events = [
        event("m2", "MasterChanged", BEGIN_MS - 90_000, 1, master=10, version=1),
        event("m2", "MasterChanged", BEGIN_MS - 50_000, 2, master=11, version=8),
    ]
    assert member_of(played.look(), "m1").down_since_ms == BEGIN_MS + 1_000
    played.kill("m1")
    assert member_of(played.look(), "m1").down_since_ms == BEGIN_MS + 1_000, "nor later"
