"""Ticks: a master lets the group's time go on where something is due, and only then (R6)."""

from __future__ import annotations

import pytest

from ray_paxos.core.client_messages import Refused
from ray_paxos.core.ticks import TICK_INTERVAL_NS
from tests.unit.core_helpers import MS, learner_of, sent, status, submit
from tests.unit.proposer_bench import ProposerBench, accepts, proposed

# Log time begins with the reign in these tests: the record carries 0.


@pytest.fixture
def bench() -> ProposerBench:
    return ProposerBench()


def serve(bench: ProposerBench, due_ms: float | None) -> int:
    """It serves, and something is due so long after the reign has begun."""
    record = bench.serve()
    due_log_time_ns = None if due_ms is None else int(due_ms * MS)
    bench.own_status(record, at=bench.ballot, due_log_time_ns=due_log_time_ns)
    return record


def tick_at(bench: ProposerBench, milliseconds: float) -> dict[int, int]:
    """What it proposes by itself until then: log time by instance."""
    until_ns = bench.now_ns + int(milliseconds * MS)
    found: dict[int, int] = {}
    while (deadline_ns := bench.proposer.deadline_ns) is not None and deadline_ns <= until_ns:
        values = proposed(bench.due())
        assert all(value.entries == () for value in values.values())
        found |= {instance: value.log_time_ns for instance, value in values.items()}
    bench.now_ns = until_ns
    return found


def test_where_nothing_is_due_nothing_is_proposed(bench: ProposerBench) -> None:
    serve(bench, None)
    assert tick_at(bench, 150) == {}


def test_a_tick_is_proposed_when_something_is_due_and_not_before(bench: ProposerBench) -> None:
    record = serve(bench, 50)
    assert tick_at(bench, 49.9) == {}
    ticks = tick_at(bench, 0.2)
    assert list(ticks) == [record + 1]
    assert ticks[record + 1] >= 50 * MS


def test_one_tick_is_on_its_way_and_not_two(bench: ProposerBench) -> None:
    record = serve(bench, 50)
    tick_at(bench, 60)
    assert bench.proposer.deadline_ns is not None
    bench.own_status(record, at=bench.ballot, due_log_time_ns=50 * MS)
    assert set(tick_at(bench, 100)) <= {record + 1}, "at most the same again"


def test_whatever_carries_the_time_is_as_good_as_a_tick(bench: ProposerBench) -> None:
    record = serve(bench, 50)
    bench.now_ns += 60 * MS
    effects = bench.ask(1)
    value = proposed(effects)[record + 1]
    assert value.entries == submit(1).batches
    assert value.log_time_ns >= 50 * MS
    assert tick_at(bench, 50) == {}


def test_what_was_proposed_too_early_is_no_tick(bench: ProposerBench) -> None:
    record = serve(bench, 50)
    bench.ask(1)
    assert list(tick_at(bench, 60)) == [record + 2]


def test_what_is_left_due_has_another_tick_after_a_while(bench: ProposerBench) -> None:
    record = serve(bench, 50)
    tick_at(bench, 50.1)
    bench.accepted(record + 1, 1, 2)
    bench.own_status(record + 1, at=bench.ballot, due_log_time_ns=50 * MS)
    assert tick_at(bench, TICK_INTERVAL_NS / MS - 1) == {}
    assert list(tick_at(bench, 2)) == [record + 2]


def test_a_reign_that_begins_late_finds_what_is_due(bench: ProposerBench) -> None:
    """Log time stands still without a master: it goes on from what was applied."""
    bench.now_ns = 5_000 * MS
    bench.lead(4, log_time_ns=300 * MS, due_log_time_ns=310 * MS)
    bench.accepted(5, 1, 2)
    options = {"log_time_ns": 300 * MS, "due_log_time_ns": 310 * MS}
    bench.own_status(5, at=bench.ballot, **options)
    assert bench.proposer.is_serving
    assert tick_at(bench, 9) == {}
    ticks = tick_at(bench, 2)
    assert list(ticks) == [6]
    assert 310 * MS <= ticks[6] < 312 * MS


def test_a_master_that_does_not_serve_yet_proposes_none(bench: ProposerBench) -> None:
    bench.lead(4, log_time_ns=300 * MS, due_log_time_ns=300 * MS)
    due = {"log_time_ns": 300 * MS, "due_log_time_ns": 300 * MS}
    assert accepts(bench.own_status(4, at=bench.ballot, **due)) == {}
    assert tick_at(bench, 150) == {}
    assert accepts(bench.accepted(5, 1, 2)) == {}
    assert list(accepts(bench.own_status(5, at=bench.ballot, **due))) == [6]


def test_a_master_that_hands_over_proposes_none(bench: ProposerBench) -> None:
    record = serve(bench, 50)
    bench.receive(learner_of(2), status(record))
    bench.ask(1)
    assert not sent(bench.transfer(2, 2), Refused), "it waits for what is on its way"
    assert tick_at(bench, 60) == {}


def test_a_full_window_has_room_for_a_tick_later(bench: ProposerBench) -> None:
    record = serve(bench, 50)
    for request_id in range(1, 5):
        bench.ask(request_id)
    assert tick_at(bench, 60) == {}
    effects = bench.accepted(record + 1, 1, 2)
    assert list(accepts(effects)) == [record + 5]
    assert proposed(effects)[record + 5].entries == ()
