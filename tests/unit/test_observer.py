"""What a role's observer remembers, and that nothing in it reaches the role."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from ray_paxos.core.client_messages import Flush
from ray_paxos.core.events import (
    CommandsAnswered,
    Event,
    InstanceApplied,
    InstanceChosen,
    MasterStarted,
    MasterStopped,
    StorageFailed,
)
from ray_paxos.core.messages import Accept
from ray_paxos.observability import catalogue, observer
from ray_paxos.observability.meter import Meter
from ray_paxos.observability.report import Counted, RoleReport, decode_report, encode_report
from ray_paxos.observability.settings import ObservingSettings
from tests.unit.core_helpers import GROUP, MS, ballot
from tests.unit.event_samples import KINDS, answered, request, sample, samples
from tests.unit.observer_bench import SETTINGS, START_MS, Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()


def started(instance_id: int = 5) -> MasterStarted:
    return MasterStarted(GROUP, ballot(2), instance_id)


# Events.


def test_an_event_is_counted_and_recorded(bench: Bench) -> None:
    bench.observer.observe(started())
    report = bench.report()
    (record,) = report.events
    assert (record.cluster, record.member, record.role) == ("demo", "m1", "proposer")
    assert (record.kind, record.group, record.at_ms) == ("MasterStarted", GROUP, START_MS)
    assert record.text
    assert record.level in ("DEBUG", "INFO", "WARNING", "ERROR")
    assert record.sequence == report.last_sequence
    assert report.counted.counts["paxos_events_total"] == {"MasterStarted": 1}
    assert report.counted.by_group["paxos_reigns_total"] == {GROUP: 1}
    assert (report.at_ms, report.incarnation) == (START_MS, 1)


def test_an_event_of_the_whole_role_has_no_group(bench: Bench) -> None:
    bench.observer.observe(StorageFailed("no room"))
    (record,) = bench.report().events
    assert record.group is None


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_can_be_observed(bench: Bench, kind: type[Any]) -> None:
    bench.observer.observe(sample(kind))
    assert [record.kind for record in bench.report().events] in ([], [kind.__name__])


@pytest.mark.parametrize("kind", [InstanceChosen, InstanceApplied, CommandsAnswered])
def test_what_comes_with_every_command_is_not_recorded(bench: Bench, kind: type[Any]) -> None:
    bench.observer.observe(sample(kind))
    report = bench.report()
    assert (report.events, report.counted.counts) == ((), {})


def test_a_watcher_gets_what_it_does_not_know_yet(bench: Bench) -> None:
    bench.observer.observe(started(1))
    known = bench.report().last_sequence
    assert bench.report(events_after=known).events == ()
    bench.observer.observe(started(2))
    bench.observer.observe(started(3))
    report = bench.report(events_after=known)
    assert [record.sequence for record in report.events] == [known + 1, known + 2]
    assert len(bench.report().events) == 3


def test_events_of_a_later_life_have_higher_numbers() -> None:
    earlier, later = Bench(incarnation=3), Bench(incarnation=4)
    for number in range(100):
        earlier.observer.observe(started(number))
    later.observer.observe(started())
    assert later.report().events[0].sequence > earlier.report().last_sequence


def test_the_last_events_are_remembered_and_no_more(bench: Bench) -> None:
    for number in range(50):
        bench.observer.observe(started(number))
    report = bench.report()
    sequences = [record.sequence for record in report.events]
    last = report.last_sequence
    assert sequences == list(range(last - SETTINGS.events_kept + 1, last + 1))


class Limit:
    """Leaves out every event but each fourth."""

    def __init__(self) -> None:
        self.count = -1

    def take(self, kind: str, group: int | None, now_ns: int) -> int | None:
        self.count += 1
        return None if self.count % 4 else 3 if self.count else 0


def test_what_is_left_out_is_counted_and_told_with_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(observer, "EventLimit", Limit)
    bench = Bench()
    for number in range(5):
        bench.observer.observe(started(number))
    report = bench.report()
    first, second = report.events
    assert second.sequence == first.sequence + 1
    assert "3 more" in second.text
    assert "more" not in first.text
    assert report.counted.counts["paxos_events_left_out_total"] == {"proposer": 3}
    assert report.counted.counts["paxos_events_total"] == {"MasterStarted": 5}, "counted anyway"


def test_a_flood_takes_bounded_room(bench: Bench) -> None:
    for _ in range(300):
        for event in samples():
            bench.observer.observe(event)
        bench.observer.note_write(60 * MS, 1, [(1, 1)])
        bench.observer.note_apply(60 * MS, [(1, 1)])
        bench.observer.observe(answered(requests=(request(),), answered_ms=60))
    report = bench.report(with_slow=True)
    assert len(report.events) == SETTINGS.events_kept
    assert len(report.slow_instances) + len(report.slow_steps) == SETTINGS.slow_kept
    assert len(report.counted.counts["paxos_events_total"]) == len(KINDS) - 3


# Gauges.


def test_a_gauge_is_what_was_measured_last(bench: Bench) -> None:
    bench.observer.set_gauge(catalogue.DISK_BYTES, 5.0, "learner")
    bench.observer.set_gauge(catalogue.DISK_BYTES, 7.0, "acceptor")
    bench.observer.set_gauge(catalogue.DISK_BYTES, 6.0, "learner")
    bench.observer.set_gauge(catalogue.DISK_FULL, 1.0)
    assert bench.report().gauges == {
        "paxos_disk_bytes": {"learner": 6.0, "acceptor": 7.0},
        "paxos_disk_full": {"": 1.0},
    }


def test_a_report_does_not_change_once_it_is_made(bench: Bench) -> None:
    for event in samples():
        bench.observer.observe(event)
    bench.observer.set_gauge(catalogue.DISK_FULL, 1.0)
    report = bench.report(with_slow=True)
    before = repr(report)
    for event in samples(group=9):
        bench.observer.observe(event)
    bench.observer.set_gauge(catalogue.DISK_FULL, 0.0)
    bench.observer.note_write(60 * MS, 1, [(1, 1)])
    assert repr(report) == before


# Off.


def test_off_means_off(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(ObservingSettings(is_on=False, slow_ms=0))
    with caplog.at_level(logging.DEBUG, "ray_paxos"):
        for event in samples():
            bench.observer.observe(event)
        bench.observer.note_write(60 * MS, 1, [(1, 1)])
        bench.observer.note_apply(60 * MS, [(1, 1)])
        bench.observer.note_seal(60 * MS)
    report = bench.report(with_slow=True)
    assert report == RoleReport(
        at_ms=START_MS,
        clock_ns=report.clock_ns,
        incarnation=1,
        is_observing=False,
        last_sequence=report.last_sequence,
    )


class Written:
    """A file of events; or one that fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.records: list[Any] = []
        self.error = error

    def write(self, record: Any, now_ns: int) -> None:
        if self.error is not None:
            raise self.error
        self.records.append(record)


def test_events_are_written_to_the_file_that_there_is() -> None:
    file = Written()
    bench = Bench(file=file)
    bench.observer.observe(started())
    assert file.records == list(bench.report().events)


def test_off_writes_no_file() -> None:
    file = Written()
    bench = Bench(ObservingSettings(is_on=False), file=file)
    bench.observer.observe(started())
    assert file.records == []


# Switched.


def tell_everything(bench: Bench) -> None:
    for event in samples():
        bench.observer.observe(event)
    bench.observer.note_received([Flush()])
    bench.observer.note_write(60 * MS, 1, [(1, 1)])
    bench.observer.note_apply(60 * MS, [(1, 1)])
    bench.observer.note_seal(60 * MS)
    bench.observer.observe(answered(requests=(request(),), answered_ms=60))
    bench.observer.set_gauge(catalogue.DISK_FULL, 1.0)


def test_switched_off_nothing_more_is_counted_and_what_was_stays() -> None:
    file = Written()
    bench = Bench(file=file)
    tell_everything(bench)
    before, written = bench.report(with_slow=True), len(file.records)
    assert before.is_observing
    bench.observer.switch(False)
    tell_everything(bench)
    after = bench.report(with_slow=True)
    assert after == replace(
        before,
        clock_ns=after.clock_ns,
        is_observing=False,
        last_sequence=after.last_sequence,
        gauges={},
    )
    assert len(file.records) == written > 0


def test_switched_on_again_it_goes_on_from_where_it_was(bench: Bench) -> None:
    bench.observer.observe(started(1))
    bench.observer.switch(False)
    bench.observer.observe(started(2))
    known = bench.report().last_sequence
    bench.observer.switch(True)
    bench.observer.observe(started(3))
    bench.observer.set_gauge(catalogue.DISK_FULL, 1.0)
    report = bench.report(events_after=known)
    assert report.is_observing
    assert report.counted.counts["paxos_events_total"] == {"MasterStarted": 2}
    assert [record.sequence for record in report.events] == [known + 1]
    assert report.gauges == {"paxos_disk_full": {"": 1.0}}


def test_one_that_began_off_observes_once_it_is_switched_on() -> None:
    bench = Bench(ObservingSettings(is_on=False))
    bench.observer.observe(started(1))
    bench.observer.switch(True)
    tell_everything(bench)
    report = bench.report(with_slow=True)
    assert report.is_observing
    assert report.counted.by_group["paxos_commands_total"] == {GROUP: 2}
    assert report.slow_instances
    assert report.slow_steps


def test_a_time_in_which_nothing_was_observed_has_no_rate(bench: Bench) -> None:
    command = answered(requests=(request(),))
    bench.observer.observe(command)
    bench.wall_ms += 10_000
    bench.observer.switch(False)
    bench.wall_ms += 35_000
    assert len(bench.report().counted.spans) == 1
    bench.observer.switch(True)
    bench.observer.observe(command)
    bench.wall_ms += 10_000
    spans = bench.report().counted.spans
    assert [(span.end_ms - START_MS, span.seconds) for span in spans] == [(7_000, 7), (47_000, 2)]


@pytest.mark.parametrize("is_on", [False, True])
def test_to_switch_it_to_what_it_is_changes_nothing(bench: Bench, is_on: bool) -> None:
    bench.observer.switch(is_on)
    tell_everything(bench)
    before = bench.report(with_slow=True)
    bench.wall_ms += 25_000
    bench.observer.switch(is_on)
    after = bench.report(with_slow=True)
    assert after.counted.counts == before.counted.counts
    assert (after.is_observing, after.gauges) == (is_on, before.gauges)
    assert len(after.counted.spans) == (2 if is_on else 0)


# Nothing reaches the role.

ERRORS = [ValueError("x"), KeyError("x"), TypeError("x"), AttributeError("x"), IndexError("x")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("broken", ["describe", "fields_of"])
def test_an_event_that_cannot_be_described_is_recorded_and_counted(
    monkeypatch: pytest.MonkeyPatch, bench: Bench, broken: str, error: Exception
) -> None:
    def fail(*arguments: object) -> str:
        raise error

    monkeypatch.setattr(observer, broken, fail)
    bench.observer.observe(started())
    report = bench.report()
    (record,) = report.events
    assert "cannot be described" in record.text
    assert record.fields == {}
    assert report.counted.counts["paxos_events_total"] == {"MasterStarted": 1}


WORSE = [RuntimeError("x"), OSError("x"), AssertionError("x"), RecursionError("x")]


@pytest.mark.parametrize("error", WORSE, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("broken", ["describe", "fields_of", "level_of"])
def test_no_mistake_in_a_description_reaches_the_role(
    monkeypatch: pytest.MonkeyPatch, bench: Bench, broken: str, error: Exception
) -> None:
    """What is raised in a turn of a role ends the role."""

    def fail(*arguments: object) -> str:
        raise error

    monkeypatch.setattr(observer, broken, fail)
    bench.observer.observe(started())
    assert bench.report().counted.counts["paxos_events_total"] == {"MasterStarted": 1}


@pytest.mark.parametrize("what", ["file", "log", "meter"])
def test_nothing_that_observing_does_reaches_the_role(
    monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("broken")

    bench = Bench(file=Written(OSError("no room")) if what == "file" else None)
    if what == "log":
        monkeypatch.setattr(bench.observer._log, "write", fail)
    elif what == "meter":
        monkeypatch.setattr(Meter, "take", fail)
    bench.observer.observe(started())
    bench.observer.observe(answered(requests=(request(),)))
    assert bench.report().incarnation == 1


def test_a_mistake_is_told_by_what_is_known_of_the_role(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Before a role's folder is opened its cluster has no name yet."""

    def fail(*arguments: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(Meter, "take", fail)
    for cluster, place in (("", "m1/learner"), ("demo", "demo/m1/learner")):
        caplog.clear()
        early = observer.Observer(
            cluster,
            "m1",
            "learner",
            SETTINGS,
            clock=lambda: 0,
            wall_ms=lambda: START_MS,
            names={},
        )
        early.observe(started())
        (told,) = (each for each in caplog.messages if "a mistake" in each)
        assert told.startswith(f"{place}: ")


def test_a_report_can_be_encoded_whatever_an_error_said(bench: Bench) -> None:
    bench.observer.observe(StorageFailed("cannot write journal/\udcff"))
    report = decode_report(encode_report(bench.report()))
    assert "cannot write" in str(report.events[0].fields) + report.events[0].text


# Threads.


def test_what_several_threads_tell_is_counted_once_each(bench: Bench) -> None:
    threads_count, each = 4, 300
    begin = threading.Barrier(threads_count + 1)
    reports: list[RoleReport] = []

    def tell() -> None:
        begin.wait()
        for number in range(each):
            bench.observer.observe(answered(requests=(request(),), answered_ms=60))
            bench.observer.observe(started(number))
            bench.observer.note_write(MS, 1, ())

    threads = [threading.Thread(target=tell) for _ in range(threads_count)]
    for thread in threads:
        thread.start()
    begin.wait()
    while any(thread.is_alive() for thread in threads):
        reports.append(bench.report(with_slow=True))
    for thread in threads:
        thread.join()
    counted = bench.report().counted
    assert counted.by_group["paxos_commands_total"] == {GROUP: threads_count * each}
    assert counted.counts["paxos_events_total"] == {"MasterStarted": threads_count * each}
    held = counted.histograms["paxos_fsync_seconds"]
    assert sum(held.counts) == threads_count * each
    totals = [
        report.counted.by_group.get("paxos_commands_total", {}).get(1, 0) for report in reports
    ]
    assert totals == sorted(totals)


class Meanwhile:
    """Has a watcher look at an observer while an event is being described."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look

    def __call__(self, event: Event, names: object) -> str:
        thread = threading.Thread(target=self._look)
        thread.start()
        # Where the lock is held meanwhile the watcher waits for it, and the event for nobody.
        thread.join(0.2)
        return type(event).__name__


def test_a_watcher_that_looks_at_any_time_misses_no_event(
    monkeypatch: pytest.MonkeyPatch, bench: Bench
) -> None:
    seen: list[int] = []
    known = [0]
    lock = threading.Lock()

    def look() -> None:
        with lock:
            report = bench.report(events_after=known[0])
            known[0] = report.last_sequence
            seen.extend(record.sequence for record in report.events)

    monkeypatch.setattr(observer, "describe", Meanwhile(look))
    for number in range(5):
        bench.observer.observe(started(number))
    look()
    assert seen == sorted(seen)
    assert len(seen) == 5


def test_events_of_several_threads_are_told_in_the_order_of_their_numbers(
    monkeypatch: pytest.MonkeyPatch, bench: Bench
) -> None:
    slow_one, released = threading.Event(), threading.Event()

    def describe(event: Event, names: object) -> str:
        if isinstance(event, MasterStopped):
            slow_one.set()
            released.wait(0.3)
        return type(event).__name__

    monkeypatch.setattr(observer, "describe", describe)
    thread = threading.Thread(
        target=bench.observer.observe, args=(MasterStopped(GROUP, ballot(2), "why"),)
    )
    thread.start()
    slow_one.wait()
    bench.observer.observe(started())
    released.set()
    thread.join()
    sequences = [record.sequence for record in bench.report().events]
    assert sequences == sorted(sequences)
    assert len(sequences) == 2


# Messages.


def test_messages_are_counted_by_their_names(bench: Bench) -> None:
    accept = Accept(ballot(1), 1, b"value")
    bench.observer.note_received([accept, accept, Flush()])
    counts = bench.report().counted.counts
    assert counts["paxos_messages_received_total"] == {"accept": 2, "flush": 1}


def test_with_observing_off_no_message_is_counted() -> None:
    bench = Bench(ObservingSettings(is_on=False))
    bench.observer.note_received([Flush()])
    assert bench.report().counted == Counted()
