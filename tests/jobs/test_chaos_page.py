"""The page of a chaos run: what it tells, and that nothing it is told becomes markup."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chaos_events import MemberReign
from chaos_gaps import Disturbance
from chaos_page import ChaosAccount, chaos_page
from chaos_plan import FaultKind
from chaos_report import ChaosReport
from report_machine import Circumstances, machine
from tests.jobs.chaos_reports import at, group_result, reign, report
from tests.jobs.pages import BAD_TEXT, Page, check_page

FAULTS = (
    Disturbance(FaultKind.KILL_ROLE, "m1/learner", at(101), at(103)),
    Disturbance(FaultKind.DROP_MASTER, "m1 to m2", at(104), at(104), refusal="too far behind"),
)
CIRCUMSTANCES = Circumstances(
    "python jobs/chaos.py", 1, "cluster: demo\n", machine(), "2026-01-01", "2026-01-02", [1.5]
)


def page_of(
    told: ChaosReport, *reigns: MemberReign, circumstances: Circumstances = CIRCUMSTANCES
) -> Page:
    acknowledged = {1: [(at(101), at(101.01)), (at(108), at(108.2))]}
    return check_page(chaos_page(ChaosAccount(told, acknowledged, circumstances, reigns)).html())


def cells(page: Page, first: str, count: int) -> list[str]:
    """A row of a table, by its first cell."""
    start = page.texts.index(first)
    return page.texts[start : start + count]


def test_what_did_not_hold_is_told_first_and_why() -> None:
    page = page_of(report(*FAULTS, checks={"gap": ["too long"], "healed": [], "logs_equal": ["a"]}))
    (banner,) = page.of_class("verdict")
    assert "bad" in (banner[1]["class"] or "")
    assert page.texts.index("Did not hold: gap, logs_equal.") < page.texts.index("length")
    assert {"gap: too long", "logs_equal: a"} <= set(page.texts)
    assert cells(page, "healed", 2) == ["healed", "yes"]


def test_one_check_with_many_problems_hides_no_other() -> None:
    page = page_of(report(checks={"gap": [str(n) for n in range(50)], "healed": ["a"]}))
    assert page.texts.index("healed: a") < page.texts.index("length")


def test_what_held_is_told_as_such() -> None:
    page = page_of(report(checks={"gap": [], "healed": []}))
    assert "Everything held." in page.texts
    assert page.of_class("bad") == []


def test_faults_are_told_by_kind_and_each() -> None:
    page = page_of(report(*FAULTS, groups=[group_result(1)]))
    start = page.texts.index("Faults by kind, and what was seen meanwhile", 40)
    kinds = page.texts[start:]
    assert kinds[kinds.index("kill-role") :][:6] == ["kill-role", "1", "0", "0", "2.00", "2.00"]
    assert kinds[kinds.index("drop-master") :][:4] == ["drop-master", "0", "1", "0"]
    assert "refused: too far behind" in page.texts
    assert "kill-role" not in page_of(report()).texts


def test_silences_have_their_limits_and_what_was_going_on() -> None:
    result = group_result(3, acknowledged_s=[101, 109], disturbances=FAULTS)
    page = page_of(report(*FAULTS, groups=[result]))
    assert cells(page, "group 3", 6) == [
        *("group 3", "1.00", "8.00", "6", "no"),
        "kill-role m1/learner; drop-master m1 to m2",
    ]
    assert any("In all groups together the longest was 4.00 s." in text for text in page.texts)
    alone = page_of(report(groups=[result], is_of_many=False))
    assert not any("In all groups together" in text for text in alone.texts)


def test_every_group_has_a_verdict_where_there_are_many() -> None:
    bad = group_result(2, checks={"exactly_once": ["lost: 1"], "linearizable": []})
    page = page_of(report(groups=[group_result(1), bad]))
    start = page.texts.index("did not hold")
    rows = page.texts[start + 1 :]
    assert rows[:2] == ["group 1", "yes"]
    assert rows[rows.index("group 2") :][:2] == ["group 2", "no"]
    assert "exactly_once" in rows
    # A silence counts, too, though it is no check of the group's own.
    silent = group_result(3, acknowledged_s=[101, 109])
    rows = page_of(report(groups=[group_result(1), silent])).texts
    rows = rows[rows.index("did not hold") + 1 :]
    assert rows[rows.index("group 3") :][:8] == [
        *("group 3", "no", "2", "0.20", "8.00", "-", "4", "gap"),
    ]
    assert "did not hold" not in page_of(report(groups=[bad], is_of_many=False)).texts


def test_states_that_differ_are_in_lines_of_their_own() -> None:
    same = {"m1": (7, "ab"), "m2": (7, "ab"), "m3": (7, "cd")}
    page = page_of(report(groups=[group_result(1, digests=same)]))
    assert cells(page, "m1, m2", 3) == ["m1, m2", "7", "ab"]
    assert cells(page, "m3", 3) == ["m3", "7", "cd"]


def test_operations_histories_and_figures_are_told() -> None:
    figures = {"items": 1_234, "hand_over_ms": {"p50": 1.5, "p99": 3}, "latency_ms": {"get": {}}}
    page = page_of(report(groups=[group_result(1, figures=figures)], workload="queue"))
    assert "Figures of the workload queue" in page.texts
    assert cells(page, "items", 2) == ["items", "1,234"]
    assert cells(page, "hand_over_ms", 2) == ["hand_over_ms", "p50 1.5, p99 3"]
    assert cells(page, "QueryError", 2) == ["QueryError", "1"]
    assert cells(page, "k<1>", 3) == ["k<1>", "4", "0.50"]
    # Not every workload has a history.
    plain = page_of(report(groups=[group_result(1, checks={"clients": []})]))
    assert "Linearizability" not in plain.texts


def test_masters_are_told_where_they_are_known() -> None:
    page = page_of(report(groups=[group_result(1)]), reign(1, "m2", 2.0, None))
    assert "Masters" in page.texts
    assert cells(page, "m2, from 2.0 s to 10.0 s", 1)
    assert cells(page, "version", 7)[1:] == ["group 1", "m2", "2.00", "-", "8.00", "7"]
    assert "Masters" not in page_of(report(groups=[group_result(1)])).texts


def test_how_it_was_run_stands_at_the_end() -> None:
    page = page_of(report())
    assert {"python jobs/chaos.py", "cluster: demo\n", "2026-01-01", "2026-01-02"} <= set(
        page.texts
    )
    assert cells(page, "load average at the end", 2)[1] == "1.5"


@pytest.mark.parametrize("is_of_many", [True, False])
def test_nothing_that_is_told_becomes_markup(is_of_many: bool) -> None:
    faults = (
        Disturbance(FaultKind.KILL_ROLE, BAD_TEXT, at(101), at(103)),
        Disturbance(FaultKind.DROP_MASTER, BAD_TEXT, at(104), at(104), refusal=BAD_TEXT),
    )
    result = group_result(
        1,
        disturbances=faults,
        checks={BAD_TEXT: [BAD_TEXT]},
        figures={BAD_TEXT: {BAD_TEXT: BAD_TEXT}, "x": BAD_TEXT},
        digests={BAD_TEXT: (7, BAD_TEXT)},
    )
    result = replace(result, errors={BAD_TEXT: 1})
    result.outcomes[BAD_TEXT, BAD_TEXT] = 1
    told = report(
        *faults,
        groups=[result],
        cluster=BAD_TEXT,
        checks={BAD_TEXT: [BAD_TEXT]},
        is_of_many=is_of_many,
        workload=BAD_TEXT,
    )
    circumstances = Circumstances(BAD_TEXT, 1, BAD_TEXT, machine(), BAD_TEXT, BAD_TEXT)
    page = page_of(told, reign(1, BAD_TEXT, 0.0, None), circumstances=circumstances)
    assert page.text.count("<script>") > 20


def test_ten_minutes_with_many_groups_and_problems_are_a_small_page() -> None:
    """100 groups, a fault every 2 s, 400 commands a second, and hundreds of long problems."""
    faults = [
        Disturbance(FaultKind.KILL_ROLE, f"m{n % 3}/learner (master of 12)", at(100 + 2 * n), None)
        for n in range(300)
    ]
    problems = [f"group {n}: " + "key k is not linearizable " * 400 for n in range(400)]
    groups = [group_result(n, disturbances=faults) for n in range(1, 101)]
    told = report(*faults, groups=groups, checks={"linearizable": problems}, end_ns=at(700))
    acknowledged = {
        group: [(at(100 + n / 4), at(100.01 + n / 4)) for n in range(2_400)]
        for group in range(1, 101)
    }
    reigns = [reign(n % 100 + 1, f"m{n % 3}", n / 2, n / 2 + 3) for n in range(1_200)]
    html = chaos_page(ChaosAccount(told, acknowledged, CIRCUMSTANCES, reigns)).html()
    assert len(html.encode()) < 2_000_000
    check_page(html)
