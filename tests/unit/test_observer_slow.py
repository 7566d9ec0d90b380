"""What an observer remembers as slow: from exactly so long on, and what each hop took."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from ray_paxos.observability import catalogue
from ray_paxos.observability.histogram import Histogram
from ray_paxos.observability.observer import MACHINE_LENGTH_MAX, STEP_INSTANCES_MAX
from ray_paxos.observability.slow_commands import SlowInstance, SlowStep
from tests.unit.core_helpers import MS
from tests.unit.event_samples import answered, request
from tests.unit.observer_bench import SETTINGS, START_MS, Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_what_took_exactly_so_long_is_remembered(bench: Bench) -> None:
    just_under = answered(requests=(request(),), instance_id=1, answered_ms=49.999_999)
    bench.observer.observe(just_under)
    bench.observer.observe(answered(requests=(request(),), instance_id=2, answered_ms=50))
    instances, _ = bench.slow()
    assert [slow.instance_id for slow in instances] == [2]


def test_where_the_bound_is_nothing_everything_is_remembered() -> None:
    bench = Bench(replace(SETTINGS, slow_ms=0))
    bench.observer.observe(answered(requests=(request(),)))
    bench.observer.note_write(0, 1, [(1, 1)])
    instances, steps = bench.slow()
    assert (len(instances), len(steps)) == (1, 1)


def test_the_hops_of_a_slow_instance_are_those_of_its_slowest_request(bench: Bench) -> None:
    event = answered(
        requests=(
            request(arrived_ms=40, count=2, machine="kv"),
            request(arrived_ms=10, count=3, machine="slow"),
            request(arrived_ms=30, count=1, machine="log"),
        ),
        group=7,
        instance_id=12,
        byte_count=321,
        opened_ms=45,
        votes_ms=((2, 46), (1, 60)),
        chosen_ms=60,
        answered_ms=90,
    )
    bench.observer.observe(event)
    ((slow,), _) = bench.slow()
    assert slow == SlowInstance(
        at_ms=START_MS,
        group=7,
        instance_id=12,
        commands=6,
        byte_count=321,
        machine="slow",
        total_ms=80.0,
        queue_ms=35.0,
        accept_ms=15.0,
        chosen_ms=30.0,
        votes_ms={2: 1.0, 1: 15.0},
    )
    assert slow.queue_ms + slow.accept_ms + slow.chosen_ms == slow.total_ms


def test_of_the_name_of_a_machine_no_more_is_remembered_than_a_person_reads(bench: Bench) -> None:
    bench.observer.observe(answered(requests=(request(machine="x" * 5_000),), answered_ms=90))
    ((slow,), _) = bench.slow()
    assert slow.machine == "x" * MACHINE_LENGTH_MAX


def test_one_slow_request_among_fast_ones_is_enough(bench: Bench) -> None:
    requests = (request(arrived_ms=58), request(arrived_ms=9), request(arrived_ms=59))
    bench.observer.observe(answered(requests=requests, opened_ms=59, answered_ms=60))
    ((slow,), _) = bench.slow()
    assert slow.total_ms == 51.0


def test_a_session_that_is_opened_slowly_is_of_no_machine(bench: Bench) -> None:
    bench.observer.observe(answered(requests=(request(count=0),), answered_ms=70))
    ((slow,), _) = bench.slow()
    assert (slow.machine, slow.commands) == ("", 0)


def test_slow_writes_are_remembered_with_what_they_were_for(bench: Bench) -> None:
    bench.observer.note_write(50 * MS - 1, 2, [(1, 8), (2, 9)])
    bench.observer.note_write(50 * MS, 3, [(1, 10), (2, 11)])
    _, (step,) = bench.slow()
    assert step == SlowStep(
        at_ms=START_MS, what="fsync", duration_ms=50.0, instances=((1, 10), (2, 11))
    )
    histograms = bench.report().counted.histograms
    assert histograms["paxos_fsync_seconds"].total == pytest.approx(0.1)
    assert histograms["paxos_fsync_records"].total == 5


def test_what_a_fast_write_was_for_is_not_looked_at(bench: Bench) -> None:
    def instances() -> Iterator[tuple[int, int]]:
        raise AssertionError("looked at")
        yield 1, 1

    bench.observer.note_write(MS, 1, instances())


def test_only_the_first_few_instances_of_a_step_are_named(bench: Bench) -> None:
    many = [(1, number) for number in range(1_000)]
    bench.observer.note_write(60 * MS, 1_000, iter(many))
    bench.observer.note_apply(60 * MS, many)
    _, steps = bench.slow()
    assert [step.instances for step in steps] == [tuple(many[:STEP_INSTANCES_MAX])] * 2


def test_the_time_of_a_step_is_shared_by_the_instances_that_it_applied(bench: Bench) -> None:
    bench.observer.note_apply(60 * MS, [(1, 4), (1, 5), (2, 6)])
    held = bench.report().counted.histograms["paxos_apply_seconds"]
    assert Histogram(catalogue.APPLY_SECONDS.bounds, held.counts).count == 3
    assert held.total == pytest.approx(0.06)
    _, (step,) = bench.slow()
    assert (step.what, step.duration_ms) == ("apply", 60.0)


def test_a_step_that_applied_nothing_is_none(bench: Bench) -> None:
    bench.observer.note_apply(60 * MS, [])
    assert bench.slow() == ((), ())
    assert bench.report().counted.histograms == {}


def test_a_seal_is_timed(bench: Bench) -> None:
    bench.observer.note_seal(8 * MS)
    held = bench.report().counted.histograms["paxos_seal_seconds"]
    assert held.total == pytest.approx(0.008)


def test_what_was_slow_is_told_where_it_is_asked_for(bench: Bench) -> None:
    bench.observer.note_write(60 * MS, 1, [(1, 1)])
    assert bench.report().slow_steps == ()
    assert len(bench.report(with_slow=True).slow_steps) == 1


def test_the_last_slow_ones_are_remembered(bench: Bench) -> None:
    for number in range(20):
        event = answered(requests=(request(),), instance_id=number, answered_ms=60)
        bench.observer.observe(event)
    instances, _ = bench.slow()
    assert [slow.instance_id for slow in instances] == list(range(15, 20))
