"""What a role comes to in metrics: which series there are, and what they say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_paxos.observability import catalogue
from ray_paxos.observability.catalogue import METRICS, Aggregation, Kind, Metric
from ray_paxos.observability.report import HistogramCounts, RoleReport
from ray_paxos.observability.samples import ALL_GROUPS, Sample, samples_of
from ray_paxos.observability.settings import ObservingSettings
from tests.unit.observed_roles import GROUPS, ROLES, member_samples, report, state

SETTINGS = ObservingSettings()
NOTHING = RoleReport(at_ms=1, incarnation=1)


def values(samples: list[Sample], metric: Metric) -> Mapping[tuple[str, str], object]:
    """By label and group."""
    found = [s for s in samples if s.metric is metric]
    by_key = {(s.label, s.group): s.value for s in found}
    assert len(by_key) == len(found), "a series has one value"
    return by_key


def series_count(samples: list[Sample]) -> int:
    """How many series Prometheus sees of them."""
    keys = {(s.metric.name, s.label, s.group): s.metric for s in samples}
    return sum(
        len(metric.bounds) + 3 if metric.kind is Kind.HISTOGRAM else 1 for metric in keys.values()
    )


def test_the_four_roles_give_the_whole_catalogue_and_nothing_else() -> None:
    given_metrics = {sample.metric for sample in member_samples(2, SETTINGS)}
    assert given_metrics == set(METRICS)


def test_each_sample_has_the_labels_of_its_metric() -> None:
    for groups in (2, 1_000):
        for sample in member_samples(groups, SETTINGS):
            metric = sample.metric
            assert bool(sample.label) == bool(metric.label), sample
            assert bool(sample.group) == metric.is_of_group, sample
            is_histogram = isinstance(sample.value, HistogramCounts)
            assert is_histogram == (metric.kind is Kind.HISTOGRAM), sample


def test_a_member_with_a_thousand_groups_has_few_series() -> None:
    few, many = member_samples(2, SETTINGS), member_samples(1_000, SETTINGS)
    assert {s.group for s in many} == {"", ALL_GROUPS}
    assert series_count(many) < 300
    assert series_count(many) <= series_count(few)
    # The most that a member can have: of groups, no more than are named.
    most = member_samples(SETTINGS.groups_max, SETTINGS)
    of_groups = {s.metric for s in many if s.metric.is_of_group}
    assert series_count(most) < series_count(many) + SETTINGS.groups_max * len(of_groups)
    assert series_count(most) < 2_000


def test_groups_are_named_up_to_the_limit() -> None:
    settings = ObservingSettings(groups_max=3)
    named = samples_of(state("learner", range(3)), NOTHING, settings)
    assert set(values(named, catalogue.APPLIED)) == {("", "0"), ("", "1"), ("", "2")}
    unnamed = samples_of(state("learner", range(4)), NOTHING, settings)
    assert set(values(unnamed, catalogue.APPLIED)) == {("", ALL_GROUPS)}


def test_groups_that_were_served_earlier_count_for_the_limit() -> None:
    settings = ObservingSettings(groups_max=3)
    counted = report("proposer", {catalogue.COMMANDS.name: {7: 1, 8: 2}})
    found = values(samples_of(state("proposer"), counted, settings), catalogue.COMMANDS)
    assert found == {("", ALL_GROUPS): 3}


def test_many_groups_are_put_together_as_the_catalogue_says() -> None:
    settings = ObservingSettings(groups_max=0)
    told = state("learner", (1, 2, 3))
    for group, applied in ((1, 5), (2, 50), (3, 20)):
        told["groups"][group] |= {
            "applied_through": applied,
            "known_through": 60,
            "log_floor": group,
        }
    found = samples_of(told, NOTHING, settings)
    assert values(found, catalogue.APPLIED) == {("", ALL_GROUPS): 50}
    assert values(found, catalogue.LAG) == {("", ALL_GROUPS): 55}
    assert values(found, catalogue.LOG_FLOOR) == {("", ALL_GROUPS): 1}
    assert values(found, catalogue.SEGMENTS) == {("", ALL_GROUPS): 6}


@given(
    st.dictionaries(st.integers(0, 200), st.integers(0, 1_000), max_size=80),
    st.integers(0, 100),
)
def test_what_all_groups_come_to_is_the_same_named_or_not(
    votes: dict[int, int], groups_max: int
) -> None:
    told = state("acceptor", votes)
    for group, count in votes.items():
        told["groups"][group]["votes"] = count
    counted = report("acceptor", {catalogue.PROMISES.name: votes})
    found = samples_of(told, counted, ObservingSettings(groups_max=groups_max))
    for metric in (catalogue.VOTES_HELD, catalogue.PROMISES):
        assert metric.aggregation is Aggregation.SUM
        of_metric = values(found, metric)
        assert sum(of_metric.values()) == sum(votes.values())  # type: ignore[arg-type]
        assert len(of_metric) == (len(votes) if len(votes) <= groups_max else 1)


def test_masters() -> None:
    told = state("proposer", (1, 2, 3))
    told["groups"][2] |= {"is_serving": False, "master_id": 2, "lease_ms": 0}
    told["groups"][3] |= {"is_serving": False, "master_id": None, "lease_ms": 0}
    found = samples_of(told, NOTHING, SETTINGS)
    assert values(found, catalogue.IS_MASTER) == {("", "1"): 1, ("", "2"): 0, ("", "3"): 0}
    assert values(found, catalogue.MASTER_KNOWN) == {("", "1"): 1, ("", "2"): 1, ("", "3"): 0}
    assert values(found, catalogue.GROUPS_WITHOUT_MASTER) == {("", ""): 1}
    # A member that does not lead has no lease, not one of no length.
    assert values(found, catalogue.LEASE_LEFT) == {("", "1"): 1.5}


def test_a_member_that_only_follows_says_nothing_of_masters_that_it_would_not_miss() -> None:
    told = state("proposer", (1, 2))
    for group in (1, 2):
        told["groups"][group] |= {"is_serving": False, "master_id": None, "is_voter": group == 1}
    found = samples_of(told, NOTHING, SETTINGS)
    assert values(found, catalogue.MASTER_KNOWN) == {("", "1"): 0}
    assert values(found, catalogue.GROUPS_WITHOUT_MASTER) == {("", ""): 1}


def test_a_role_that_does_not_serve_says_so_and_nothing_of_groups() -> None:
    for role in ROLES:
        found = samples_of(state(role, (), phase="opening"), NOTHING, SETTINGS)
        assert values(found, catalogue.ROLE_SERVING) == {(role, ""): 0}
        assert not [s for s in found if s.metric.is_of_group]
        assert not values(found, catalogue.GROUPS_WITHOUT_MASTER)
        assert not values(found, catalogue.DISK_FULL)


def test_groups_that_a_role_has_stopped_are_counted() -> None:
    found = samples_of(state("acceptor", (1,), stopped_groups={2: "why"}), NOTHING, SETTINGS)
    assert values(found, catalogue.GROUPS_STOPPED) == {("acceptor", ""): 1}


@pytest.mark.parametrize("role", ["acceptor", "learner"])
def test_a_full_disk_is_of_the_role_that_finds_it_so(role: str) -> None:
    told = state(role, (1, 2))
    empty = samples_of(told, NOTHING, SETTINGS)
    assert values(empty, catalogue.DISK_FULL) == {(role, ""): 0}
    told["groups"][2]["storage_full"] = True
    full = samples_of(told, NOTHING, SETTINGS)
    assert values(full, catalogue.DISK_FULL) == {(role, ""): 1}


def test_a_learner_whose_disk_is_slow_does_not_say_that_it_is_full() -> None:
    told = state("learner", (1, 2))
    told["groups"][2]["is_full"] = True
    assert values(samples_of(told, NOTHING, SETTINGS), catalogue.DISK_FULL) == {("learner", ""): 0}


def test_a_stopped_learner_and_a_member_ahead_of_what_it_knows() -> None:
    told = state("learner", (1, 2))
    told["groups"][1] |= {"stopped": "results differ", "known_through": 27}
    found = samples_of(told, NOTHING, SETTINGS)
    assert values(found, catalogue.APPLYING_STOPPED) == {("", "1"): 1, ("", "2"): 0}
    assert values(found, catalogue.LAG) == {("", "1"): 0, ("", "2"): 2}


def test_counters_are_there_before_anything_was_counted() -> None:
    found = [
        sample for role in ROLES for sample in samples_of(state(role, (1, 2)), NOTHING, SETTINGS)
    ]
    zero = {s.metric for s in found if s.metric.kind is Kind.COUNTER and s.value == 0}
    # Kinds of events and of messages are named by these alone; the files of state() were read back.
    counters = {metric for metric in METRICS if metric.kind is Kind.COUNTER}
    named = {catalogue.EVENTS, catalogue.MESSAGES_RECEIVED}
    assert counters - zero == {*named, catalogue.SCRUBBED}
    assert ("redirected", "") in values(found, catalogue.REFUSED)
    assert ("storage_full", "") in values(found, catalogue.NACKS_RECEIVED)


def test_what_was_counted_is_given() -> None:
    counted = report(
        "proposer",
        {catalogue.COMMANDS.name: {1: 12}},
        {
            catalogue.NACKS_RECEIVED.name: {"promised": 4},
            catalogue.EVENTS_LEFT_OUT.name: {"proposer": 2},
        },
    )
    found = samples_of(state("proposer"), counted, SETTINGS)
    assert values(found, catalogue.COMMANDS) == {("", "0"): 0, ("", "1"): 12}
    assert values(found, catalogue.NACKS_RECEIVED)["promised", ""] == 4
    assert values(found, catalogue.EVENTS_LEFT_OUT) == {("proposer", ""): 2}
    assert values(found, catalogue.SCRUBBED) == {}


def test_what_another_release_tells_is_left_out_where_it_is_not_known() -> None:
    told = state("learner", (1,))
    told["groups"][1] = {"applied_through": 3, "of_tomorrow": 1}
    # Of those that are known, another one may have other labels.
    counted = report(
        "learner",
        {"paxos_of_tomorrow_total": {1: 1}, catalogue.EVENTS.name: {1: 1}},
        {"paxos_x_total": {"": 1}, catalogue.COMMANDS.name: {"x": 1}},
    )
    gauges = {"paxos_of_tomorrow": {"": 1.0}, catalogue.APPLIED.name: {"": 1.0}}
    told_more = RoleReport(at_ms=1, incarnation=1, counted=counted.counted, gauges=gauges)
    found = samples_of(told, told_more, SETTINGS)
    assert {s.metric for s in found} <= set(METRICS)
    assert all(bool(s.group) == s.metric.is_of_group for s in found)
    assert all(bool(s.label) == bool(s.metric.label) for s in found)
    assert values(found, catalogue.APPLIED) == {("", "1"): 3}
    assert values(found, catalogue.LAG) == {}
    assert values(found, catalogue.SEGMENTS) == {}


def test_nothing_is_given_twice() -> None:
    for groups in (2, 1_000):
        keys = Counter(
            (s.metric.name, s.label, s.group, s.role) for s in member_samples(groups, SETTINGS)
        )
        assert max(keys.values()) == 1
    assert GROUPS.keys() == set(ROLES)
