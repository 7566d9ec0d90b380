"""The sentence at the top of the page: what is wrong, since when, and whether data is at risk."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ray_paxos.dashboard.collector import Problem, Seen
from ray_paxos.dashboard.documents import view_document
from ray_paxos.dashboard.summary import MEANINGS, SAFE, SIGNS, is_served, meaning, summarize
from ray_paxos.observability import cluster_view
from ray_paxos.observability.cluster_view import ClusterView, Health
from tests.unit.dashboard_views import AT_MS, view_of


def summary_of(view: ClusterView | None, problem: Problem | None = None) -> tuple[str, str, str]:
    found = summarize(Seen(1, view, problem))
    return found.level, found.text, found.data


def with_health(view: ClusterView, health: Health, *groups: int, risk: str = "") -> ClusterView:
    changed = tuple(
        replace(each, health=health, risk=risk, since_ms=AT_MS - 9_000)
        if each.group in groups
        else each
        for each in view.groups
    )
    return replace(view, groups=changed)


def test_all_is_well() -> None:
    level, text, data = summary_of(view_of())
    assert level == "ok"
    assert text == "All is well: 3 members up, and 3 groups with a master and all voters."
    assert data == SAFE
    assert summarize(Seen(1, view_of())).since_ms is None


def test_a_member_that_is_down_is_named_with_since_when_and_what_it_means() -> None:
    found = summarize(Seen(1, view_of(down=(1,))))
    assert found.level == "warning"
    assert found.text == (
        "1 of 3 members is down: m2. Groups 0-2 work, but stop if one more voter is lost."
    )
    assert found.data == (
        "Groups 0-2: 1 of 3 voters down. Nothing acknowledged is lost; one more failure stops this "
        "group."
    )
    assert found.since_ms == AT_MS - 240_000
    later = with_health(view_of(down=(1,)), Health.NO_MASTER, 1)
    assert summarize(Seen(1, later)).since_ms == AT_MS - 240_000, "since the first of it"


def test_groups_that_do_not_work_are_critical() -> None:
    level, text, _ = summary_of(view_of(down=(0, 1)))
    assert level == "critical"
    assert text.startswith("2 of 3 members are down: m1, m2. Groups 0-2 do not work: too few")


@pytest.mark.parametrize("health", [health for health in Health if health is not Health.OK])
def test_each_kind_of_illness_has_words_for_one_group_and_for_several(health: Health) -> None:
    one, several, what = MEANINGS[health]
    ill = with_health(view_of(), health, 1, risk="why")
    level, text, data = summary_of(ill)
    assert text == f"Group 1 {one}{what}."
    assert level == ("warning" if health in (Health.DEGRADED, Health.AT_RISK) else "critical")
    assert data == "Group 1: why"
    _, text, _ = summary_of(with_health(view_of(), health, 0, 1))
    assert text == f"Groups 0-1 {several}{what}."
    assert summarize(Seen(1, ill)).since_ms == AT_MS - 9_000


def test_every_health_has_words_and_a_sign_of_its_own() -> None:
    assert set(MEANINGS) == set(SIGNS) == set(Health)
    assert len(set(SIGNS.values())) == len(Health)
    assert meaning(Health.OK) == "works"
    assert meaning(Health.DEGRADED) == "works, with some member of it down, silent or stopped"
    assert meaning(Health.NO_MAJORITY) == "does not work: too few voters are up"


@pytest.mark.parametrize("is_reversed", [False, True])
def test_the_headline_goes_by_the_rank(is_reversed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    order = [health for health in Health if health is not Health.OK]
    if is_reversed:
        order.reverse()
    ranks = {health: rank for rank, health in enumerate((Health.OK, *order))}
    monkeypatch.setattr(cluster_view, "_RANKS", ranks)
    view = view_of(3, len(order))
    for group, health in enumerate(order):
        view = with_health(view, health, group)
    _, text, _ = summary_of(view)
    told = [text.index(f"Group {group} ") for group in reversed(range(len(order)))]
    assert told == sorted(told), text
    plain = view_document(Seen(1, view), 2.0)["view"]["healths"]
    assert list(plain) == ["ok", *(health.value for health in order)], "the gravest last"


def test_a_group_that_does_not_work_at_all_is_told_before_one_that_stopped_on_a_member() -> None:
    view = with_health(view_of(), Health.STOPPED, 0)
    _, text, _ = summary_of(with_health(view, Health.NO_MAJORITY, 1))
    assert text.startswith("Group 1 does not work: too few voters are up. Group 0 has stopped")


def test_a_group_is_served_where_somebody_leads_it_and_enough_vote() -> None:
    group = view_of().groups[0]
    for health in (Health.OK, Health.STOPPED, Health.AT_RISK):
        assert is_served(replace(group, health=health))
    assert not is_served(replace(group, master=None))
    assert is_served(replace(group, voters_up=2))
    assert not is_served(replace(group, voters_up=1))


def test_the_gravest_is_said_first_and_many_are_counted() -> None:
    view = with_health(view_of(20, 40, down=(3,)), Health.STOPPED, 9, risk="A machine failed.")
    _, text, data = summary_of(view)
    assert text.index("Group 9 has stopped") < text.index("Groups 1-3, 21-23 work, but stop")
    assert data.startswith("Group 9: A machine failed.")
    view = view_of(20, 400, down=(3,))
    _, text, data = summary_of(view)
    assert "60 groups work, but stop" in text
    assert data.startswith("60 groups: ")


def test_more_kinds_of_risk_than_fit_are_counted() -> None:
    view = view_of(3, 5)
    for group in range(5):
        view = with_health(view, Health.DEGRADED, group, risk=f"Risk {group}.")
        view = replace(
            view,
            groups=tuple(
                replace(each, health=Health.DEGRADED, risk=f"Risk {each.group}.")
                for each in view.groups
            ),
        )
    _, _, data = summary_of(view)
    assert data == "Group 0: Risk 0. Group 1: Risk 1. And 3 more of the kind."


def test_a_member_that_is_down_and_votes_nowhere_harms_no_group() -> None:
    view = view_of(down=(1,))
    well = view_of()
    level, text, data = summary_of(replace(view, groups=well.groups))
    assert (level, data) == ("warning", SAFE)
    assert text == "1 of 3 members is down: m2. All 3 groups work."


def test_an_alarm_alone_is_said() -> None:
    level, text, _ = summary_of(view_of(alarm="the disk is nearly full"))
    assert level == "warning"
    assert text == "Everything works, but: m1: the disk is nearly full"


def test_a_cluster_that_does_not_answer_says_why_and_since_when() -> None:
    problem = Problem("it is gone.", 77)
    level, text, data = summary_of(view_of(), problem)
    assert level == "unknown"
    assert text == "The cluster does not answer: it is gone."
    assert "below is how it was before" in data
    assert summarize(Seen(1, None, problem)).since_ms == 77
    assert summary_of(None)[0] == "unknown"
    assert "below" not in summary_of(None, problem)[2]
