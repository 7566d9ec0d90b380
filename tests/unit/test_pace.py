"""Everybody who is behind is served, and all of them together stay under one rate."""

from __future__ import annotations

from ray_paxos.core.pace import Pace
from tests.unit.core_helpers import MS


def test_an_answer_costs_its_bytes() -> None:
    pace = Pace(1_000_000)
    assert pace.take(500_000, 0) == 500
    assert pace.take(0, 500 * MS) == 0, "the time is over"
    assert pace.take(250_000, 10_000 * MS) == 250, "nothing is saved up while nobody asks"


def test_those_that_ask_together_wait_for_each_other() -> None:
    pace = Pace(1_000_000)
    assert [pace.take(100_000, 0) for _ in range(4)] == [100, 200, 300, 400]
    assert pace.take(100_000, 250 * MS) == 250


def test_askers_that_keep_to_it_never_exceed_the_rate() -> None:
    pace = Pace(10_000)
    due_ns = [0] * 5
    given = 0
    while min(due_ns) < 20_000 * MS:
        now_ns = min(due_ns)
        asker = due_ns.index(now_ns)
        given += 700
        due_ns[asker] = now_ns + pace.take(700, now_ns) * MS + 1
        assert given <= 10_000 * now_ns / (1_000 * MS) + 6 * 700, "one answer each, and one more"
    assert given > 0.95 * 10_000 * 20, "nor is the rate wasted"
