"""How long a client waits for each member, and whom it asks next."""

from __future__ import annotations

import pytest

from ray_paxos.core.patience import SEARCH_NS, Patience

FULL_NS = 6 * SEARCH_NS


def test_everybody_is_taken_for_reached_at_first() -> None:
    patience = Patience((1, 2, 3))
    assert {patience.limit_ns(member, FULL_NS) for member in (1, 2, 3)} == {FULL_NS}
    assert patience.next_after(1) == 2
    assert patience.next_after(3) == 1


def test_after_a_silence_everybody_has_little_time_until_it_has_answered() -> None:
    patience = Patience((1, 2, 3))
    patience.answered(2)
    patience.gave_no_answer(1)
    assert patience.limit_ns(2, FULL_NS) == SEARCH_NS, "what kept 1 may keep 2 as well"
    assert patience.limit_ns(3, FULL_NS) == SEARCH_NS
    patience.answered(2)
    assert patience.limit_ns(2, FULL_NS) == FULL_NS
    assert patience.limit_ns(3, FULL_NS) == SEARCH_NS
    patience.answered(1)
    assert patience.limit_ns(3, FULL_NS) == FULL_NS, "nobody is silent any more"


def test_each_silence_doubles_a_members_time_so_that_a_slow_one_is_heard() -> None:
    patience = Patience((1, 2))
    patience.gave_no_answer(1)
    limits_ns = []
    for _ in range(30):
        limits_ns.append(patience.limit_ns(1, FULL_NS))
        patience.gave_no_answer(1)
    assert limits_ns[:3] == [2 * SEARCH_NS, 4 * SEARCH_NS, FULL_NS]
    assert set(limits_ns[3:]) == {FULL_NS}
    assert patience.limit_ns(1, SEARCH_NS // 2) == SEARCH_NS // 2, "never more than before"


def test_the_silent_are_passed_over_once_and_then_asked() -> None:
    patience = Patience((1, 2, 3))
    patience.gave_no_answer(1)
    asked = [2]
    for _ in range(6):
        asked.append(patience.next_after(asked[-1]))
    assert asked == [2, 3, 2, 3, 1, 2, 3]


@pytest.mark.parametrize("members", [(1,), (1, 2, 3)])
def test_somebody_is_asked_where_all_are_silent(members: tuple[int, ...]) -> None:
    patience = Patience(members)
    for member in members:
        patience.gave_no_answer(member)
    asked, member = set(), members[0]
    for _ in range(2 * len(members)):
        member = patience.next_after(member)
        asked.add(member)
    assert asked == set(members)
