"""What a role counts: each event under its metric, each time in its histogram, in bounded room."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.core.client_messages import RefusalCode
from ray_paxos.core.events import (
    AcceptRejected,
    AcceptResent,
    CatchUpUnanswered,
    CaughtUp,
    CommandsAnswered,
    InstanceApplied,
    InstanceChosen,
    MajorityPromised,
    MessageRefused,
    NackReceived,
    PrepareResent,
    PrepareStarted,
    RequestRedirected,
    RequestRefused,
)
from ray_paxos.core.messages import NackReason
from ray_paxos.observability.catalogue import BY_NAME
from ray_paxos.observability.histogram import SECONDS, Histogram
from ray_paxos.observability.meter import SPAN_MS, SPANS_MAX, Meter, commands_of
from ray_paxos.observability.report import Counted, HistogramCounts, Span
from tests.unit.core_helpers import GROUP, ballot
from tests.unit.event_samples import KINDS, answered, request, sample, samples

START_MS = 1_800_000_003_000
"""Three seconds after a whole ten."""
FIRST_END_MS = START_MS + 7_000
HOT = (InstanceChosen, InstanceApplied, CommandsAnswered)
OF_GROUP = {
    "MasterStarted": "paxos_reigns_total",
    "MasterStopped": "paxos_reigns_ended_total",
    "CandidacyEnded": "paxos_candidacies_ended_total",
    "PrepareStarted": "paxos_prepares_total",
    "InstanceChosen": "paxos_instances_total",
    "PromiseGranted": "paxos_promises_total",
    "ChunkDiffered": "paxos_chain_differences_total",
    "ChainsDiffered": "paxos_chain_differences_total",
    "CheckpointPublished": "paxos_checkpoints_total",
    "CheckpointFailed": "paxos_checkpoints_failed_total",
    "CheckpointDamaged": "paxos_damaged_files_total",
    "SegmentDamageFound": "paxos_damaged_files_total",
    "SegmentRepaired": "paxos_repaired_files_total",
    "ApplyingStopped": "paxos_applying_stops_total",
    "CaughtUp": "paxos_caught_up_instances_total",
}


@pytest.fixture
def meter() -> Meter:
    return Meter(START_MS)


def counted(meter: Meter, at_ms: int = START_MS) -> Counted:
    return meter.counted(at_ms)


def histogram(counted: Counted, name: str) -> Histogram:
    held = counted.histograms[name]
    return Histogram(BY_NAME[name].bounds, held.counts, held.total)


# Events.


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in HOT], ids=lambda k: k.__name__)
def test_each_event_is_counted_by_its_kind(meter: Meter, kind: type[Any]) -> None:
    for _ in range(3):
        meter.take(sample(kind), START_MS)
    assert counted(meter).counts["paxos_events_total"] == {kind.__name__: 3}


@pytest.mark.parametrize("kind", HOT)
def test_what_comes_with_every_command_has_metrics_of_its_own(
    meter: Meter, kind: type[Any]
) -> None:
    meter.take(sample(kind), START_MS)
    assert "paxos_events_total" not in counted(meter).counts


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_what_is_of_a_group_is_counted_for_it(meter: Meter, kind: type[Any]) -> None:
    for group in (7, 7, 8):
        meter.take(sample(kind, group), START_MS)
    by_group = counted(meter).by_group
    metric = OF_GROUP.get(kind.__name__)
    if metric is None:
        assert kind is CommandsAnswered or by_group == {}
        return
    each = sample(kind).count if kind is CaughtUp else 1
    assert by_group == {metric: {7: 2 * each, 8: each}}


@pytest.mark.parametrize("code", list(RefusalCode))
def test_refusals_are_counted_by_their_reason(meter: Meter, code: RefusalCode) -> None:
    meter.take(RequestRefused(GROUP, code), START_MS)
    meter.take(RequestRefused(GROUP + 1, code), START_MS)
    counts = counted(meter).counts["paxos_requests_refused_total"]
    assert counts == {code.name.lower(): 2}


def test_who_was_sent_on_was_not_taken_either(meter: Meter) -> None:
    meter.take(RequestRedirected(GROUP), START_MS)
    assert counted(meter).counts["paxos_requests_refused_total"] == {"redirected": 1}


@pytest.mark.parametrize("reason", list(NackReason))
def test_refusals_between_roles_are_counted_by_their_reason(
    meter: Meter, reason: NackReason
) -> None:
    meter.take(NackReceived(GROUP, 2, reason), START_MS)
    meter.take(AcceptRejected(GROUP, ballot(1), reason), START_MS)
    meter.take(AcceptRejected(GROUP, ballot(2), reason), START_MS)
    counts = counted(meter).counts
    assert counts["paxos_nacks_received_total"] == {reason.name.lower(): 1}
    assert counts["paxos_nacks_sent_total"] == {reason.name.lower(): 2}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (AcceptResent, "accept"),
        (PrepareResent, "prepare"),
        (CatchUpUnanswered, "learn_request"),
    ],
)
def test_what_is_sent_again_is_counted_by_its_message(
    meter: Meter, kind: type[Any], message: str
) -> None:
    for group in (1, 2):
        meter.take(sample(kind, group), START_MS)
    assert counted(meter).counts["paxos_messages_resent_total"] == {message: 2}


def test_a_majority_of_promises_is_timed(meter: Meter) -> None:
    meter.take(MajorityPromised(GROUP, ballot(1), 250_000_000), START_MS)
    found = counted(meter)
    assert found.histograms["paxos_prepare_seconds"].total == pytest.approx(0.25)
    assert histogram(found, "paxos_prepare_seconds").count == 1


def test_each_metric_that_is_counted_is_in_the_catalogue_under_its_kind(meter: Meter) -> None:
    for event in samples():
        meter.take(event, START_MS)
    found = counted(meter)
    for name, by_label in found.counts.items():
        assert BY_NAME[name].label, f"{name} has a label"
        assert not BY_NAME[name].is_of_group
        assert "" not in by_label
    assert all(BY_NAME[name].is_of_group for name in found.by_group)
    for name, held in found.histograms.items():
        assert len(held.counts) == len(BY_NAME[name].bounds) + 1


# Times.


def test_the_times_of_a_command_go_where_they_belong(meter: Meter) -> None:
    event = answered(
        requests=(request(arrived_ms=0), request(arrived_ms=15)),
        opened_ms=20,
        chosen_ms=23,
        answered_ms=63,
    )
    meter.take(event, START_MS)
    found = counted(meter).histograms
    expected: dict[str, list[float]] = {
        "paxos_command_seconds": [0.063, 0.048],
        "paxos_queue_seconds": [0.020, 0.005],
        "paxos_accept_seconds": [0.003],
        "paxos_chosen_seconds": [0.040],
        "paxos_batch_commands": [2],
    }
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        wanted = Histogram(BY_NAME[name].bounds)
        for value in values:
            wanted.observe(value)
        assert histogram(counted(meter), name).counts == wanted.counts, name
        assert found[name].total == pytest.approx(sum(values)), name


def test_the_times_of_a_request_weigh_as_many_times_as_it_has_commands(meter: Meter) -> None:
    event = answered(
        requests=(request(count=5), request(arrived_ms=90, count=2)), opened_ms=95, answered_ms=100
    )
    meter.take(event, START_MS)
    found = counted(meter)
    assert histogram(found, "paxos_command_seconds").count == 7
    assert found.histograms["paxos_command_seconds"].total == pytest.approx(5 * 0.1 + 2 * 0.01)
    assert found.histograms["paxos_queue_seconds"].total == pytest.approx(5 * 0.095 + 2 * 0.005)
    assert histogram(found, "paxos_accept_seconds").count == 1, "an instance, and not a command"
    assert found.by_group["paxos_commands_total"] == {GROUP: 7}
    assert found.by_group["paxos_command_bytes_total"] == {GROUP: 100}
    assert found.histograms["paxos_batch_commands"].total == 7


def test_sessions_that_are_opened_are_no_commands(meter: Meter) -> None:
    meter.take(answered(requests=(request(count=0),), answered_ms=400), START_MS)
    found = counted(meter)
    assert found.by_group == {}
    assert histogram(found, "paxos_command_seconds").count == 0
    assert "paxos_batch_commands" not in found.histograms
    assert commands_of(request(count=0)) == 0


def test_sizes_and_times_of_a_shell_are_taken_by_their_metric(meter: Meter) -> None:
    meter.observe(BY_NAME["paxos_fsync_seconds"], 0.003)
    meter.observe(BY_NAME["paxos_fsync_records"], 40, 2)
    meter.add(BY_NAME["paxos_events_left_out_total"], 3, "acceptor")
    meter.add(BY_NAME["paxos_events_left_out_total"], 4, "acceptor")
    found = counted(meter)
    assert found.histograms["paxos_fsync_seconds"].total == pytest.approx(0.003)
    assert histogram(found, "paxos_fsync_records").count == 2
    assert found.counts == {"paxos_events_left_out_total": {"acceptor": 7}}


def test_what_was_told_does_not_change_with_the_meter(meter: Meter) -> None:
    for event in samples():
        meter.take(event, START_MS)
    before = counted(meter)
    copy = repr(before)
    for event in samples(group=77):
        meter.take(event, START_MS + 3 * SPAN_MS)
    assert repr(before) == copy
    assert counted(meter) != before


def test_a_flood_takes_no_more_room_than_one_of_each(meter: Meter) -> None:
    for event in samples():
        meter.take(event, START_MS)
    before = _sizes(counted(meter))
    for number in range(2_000):
        meter.take(MessageRefused(number, f"for a group that is not here: {number}"), START_MS)
        for event in samples():
            meter.take(event, START_MS)
    assert _sizes(counted(meter)) == before


def _sizes(counted: Counted) -> dict[str, int]:
    return {
        **{name: len(held) for name, held in counted.counts.items()},
        **{name: len(held) for name, held in counted.by_group.items()},
        **{name: len(held.counts) for name, held in counted.histograms.items()},
        "spans": len(counted.spans),
    }


# Spans.


def answer(meter: Meter, at_ms: int, *, count: int = 1, took_ms: float = 4) -> None:
    meter.take(answered(requests=(request(count=count),), answered_ms=took_ms), at_ms)


def test_there_are_no_spans_before_the_first_command(meter: Meter) -> None:
    assert counted(meter, START_MS + 10 * SPAN_MS).spans == ()


def test_a_span_is_told_once_it_is_over(meter: Meter) -> None:
    answer(meter, START_MS + 1_000)
    answer(meter, FIRST_END_MS - 1)
    assert counted(meter, FIRST_END_MS - 1).spans == ()
    (span,) = counted(meter, FIRST_END_MS).spans
    assert (span.end_ms, span.seconds, span.commands) == (FIRST_END_MS, 7.0, 2)
    assert span.end_ms % SPAN_MS == 0
    assert span.latency == _latency(0.004, 0.004)


def _latency(*seconds: float) -> HistogramCounts:
    held = Histogram(SECONDS)
    for each in seconds:
        held.observe(each)
    return HistogramCounts(tuple(held.counts), held.total)


def test_a_command_counts_in_the_span_in_which_it_was_answered(meter: Meter) -> None:
    answer(meter, FIRST_END_MS - 1, count=3)
    answer(meter, FIRST_END_MS, count=5)
    answer(meter, FIRST_END_MS + SPAN_MS, count=7)
    spans = counted(meter, FIRST_END_MS + SPAN_MS).spans
    assert [(span.end_ms, span.commands) for span in spans] == [
        (FIRST_END_MS, 3),
        (FIRST_END_MS + SPAN_MS, 5),
    ]
    assert spans[1].seconds == 10.0


def test_between_commands_are_spans_without_any(meter: Meter) -> None:
    answer(meter, START_MS)
    answer(meter, FIRST_END_MS + 3 * SPAN_MS)
    spans = counted(meter, FIRST_END_MS + 4 * SPAN_MS).spans
    assert [span.commands for span in spans] == [1, 0, 0, 0, 1]
    assert [span.latency is None for span in spans] == [False, True, True, True, False]
    assert _ends(spans) == [FIRST_END_MS + number * SPAN_MS for number in range(5)]


def test_what_is_taken_in_a_part_of_a_span_is_of_just_so_many_seconds(meter: Meter) -> None:
    answer(meter, START_MS)
    meter.pause(START_MS + 1_000)
    meter.go_on(START_MS + 3_000)
    answer(meter, START_MS + 4_000, count=8)
    (span,) = counted(meter, FIRST_END_MS).spans
    assert (span.end_ms, span.seconds, span.commands) == (FIRST_END_MS, 4.0, 8)
    assert span.latency is not None
    assert sum(span.latency.counts) == 8


def test_spans_that_were_over_when_it_was_paused_are_told_and_none_of_the_pause(
    meter: Meter,
) -> None:
    answer(meter, START_MS)
    meter.pause(FIRST_END_MS + 3 * SPAN_MS)
    later_ms = FIRST_END_MS + 20 * SPAN_MS
    assert _ends(counted(meter, later_ms).spans) == [FIRST_END_MS + n * SPAN_MS for n in range(4)]
    meter.go_on(later_ms)
    assert _ends(counted(meter, later_ms + 2 * SPAN_MS).spans)[4:] == [
        later_ms + SPAN_MS,
        later_ms + 2 * SPAN_MS,
    ]


def test_a_clock_that_was_set_back_in_a_pause_makes_no_span_twice(meter: Meter) -> None:
    answer(meter, START_MS)
    meter.pause(FIRST_END_MS + 3 * SPAN_MS)
    meter.go_on(START_MS)
    answer(meter, START_MS + 1, count=9)
    (span,) = counted(meter, FIRST_END_MS).spans
    assert (span.end_ms, span.commands) == (FIRST_END_MS, 9)


def _ends(spans: tuple[Span, ...]) -> list[int]:
    return [span.end_ms for span in spans]


@pytest.mark.timeout(30)  # A gap of any length is passed over at once.
@pytest.mark.parametrize("gap_spans", [SPANS_MAX - 1, SPANS_MAX, SPANS_MAX + 1, 10**12])
def test_after_a_gap_the_last_fifteen_minutes_are_told(meter: Meter, gap_spans: int) -> None:
    answer(meter, START_MS)
    later_ms = FIRST_END_MS + gap_spans * SPAN_MS
    answer(meter, later_ms, count=9)
    spans = counted(meter, later_ms + SPAN_MS).spans
    assert len(spans) == SPANS_MAX
    assert _ends(spans) == [
        later_ms + SPAN_MS - number * SPAN_MS for number in reversed(range(SPANS_MAX))
    ]
    assert all(span.seconds == 10.0 for span in spans[1:])
    assert spans[-1].commands == 9
    assert sum(span.commands for span in spans) == 9


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3 * SPAN_MS) | st.integers(0, 2 * SPANS_MAX * SPAN_MS),
            st.integers(1, 5),
        ),
        max_size=40,
    ),
    st.integers(0, 2 * SPANS_MAX * SPAN_MS),
)
def test_spans_are_what_happened_in_them(steps: list[tuple[int, int]], quiet_ms: int) -> None:
    meter, now_ms = Meter(START_MS), START_MS
    by_end: Counter[int] = Counter()
    for pause_ms, count in steps:
        now_ms += pause_ms
        answer(meter, now_ms, count=count)
        by_end[(now_ms // SPAN_MS + 1) * SPAN_MS] += count
    now_ms += quiet_ms
    spans = counted(meter, now_ms).spans
    last_ms = now_ms // SPAN_MS * SPAN_MS
    assert len(spans) <= SPANS_MAX
    if not steps:
        assert spans == ()
        return
    number = min((last_ms - FIRST_END_MS) // SPAN_MS + 1, SPANS_MAX)
    assert _ends(spans) == [last_ms - SPAN_MS * each for each in reversed(range(number))]
    assert [span.commands for span in spans] == [by_end[span.end_ms] for span in spans]
    for span in spans:
        assert span.seconds == (7.0 if span.end_ms == FIRST_END_MS else 10.0)
        assert (span.latency is None) == (span.commands == 0)


def test_a_clock_that_is_set_back_a_little_loses_no_command(meter: Meter) -> None:
    answer(meter, FIRST_END_MS + 100)
    answer(meter, FIRST_END_MS - 100)
    answer(meter, FIRST_END_MS + 200)
    spans = counted(meter, FIRST_END_MS + SPAN_MS).spans
    assert sum(span.commands for span in spans) == 3
    assert _ends(spans) == [FIRST_END_MS, FIRST_END_MS + SPAN_MS]


def test_a_clock_that_was_far_ahead_and_is_set_right_goes_on(meter: Meter) -> None:
    day_ms = 86_400_000
    answer(meter, START_MS + day_ms)
    answer(meter, START_MS, count=7)
    spans = counted(meter, FIRST_END_MS).spans
    assert spans[-1].end_ms == FIRST_END_MS
    assert spans[-1].commands == 7


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 3 * SPANS_MAX * SPAN_MS) | st.integers(0, 10**15), max_size=30))
def test_whatever_the_clock_says_spans_are_in_order_and_bounded(clock: list[int]) -> None:
    meter = Meter(START_MS)
    for now_ms in clock:
        answer(meter, now_ms)
        spans = counted(meter, now_ms).spans
        ends = _ends(spans)
        assert len(spans) <= SPANS_MAX
        assert ends == sorted(set(ends))
        assert all(end % SPAN_MS == 0 for end in ends)
        assert all(0 < span.seconds <= 10.0 for span in spans)
    found = counted(meter).histograms.get("paxos_command_seconds")
    assert (sum(found.counts) if found else 0) == len(clock), "no command is lost from the counts"


def test_groups_that_a_role_has_no_more_are_forgotten(meter: Meter) -> None:
    for group in (1, 2, 3):
        meter.take(sample(InstanceChosen, group), START_MS)
        meter.take(sample(PrepareStarted, group), START_MS)
    meter.keep_groups({2, 9})
    by_group = counted(meter).by_group
    assert by_group == {"paxos_instances_total": {2: 1}, "paxos_prepares_total": {2: 1}}
