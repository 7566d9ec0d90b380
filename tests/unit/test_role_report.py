"""What a role tells a watcher comes over whole, also between releases."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_paxos.observability.event_record import EventRecord, decode_record, encode_record
from ray_paxos.observability.report import (
    Counted,
    HistogramCounts,
    RoleReport,
    Span,
    decode_report,
    encode_report,
)
from ray_paxos.observability.slow_commands import SlowInstance, SlowStep
from tests.unit.observer_bench import Bench

# As msgspec packs them: 64 bits.
NUMBERS = st.integers(0, 2**63 - 1)
SMALL = st.integers(0, 2**31)
TIMES = st.floats(0, 1e9, allow_nan=False)
TEXTS = st.text(max_size=12)
COUNTS = st.builds(HistogramCounts, st.lists(SMALL, max_size=16).map(tuple), TIMES)
SPANS = st.builds(Span, NUMBERS, TIMES, SMALL, st.none() | COUNTS)
COUNTED = st.builds(
    Counted,
    counts=st.dictionaries(TEXTS, st.dictionaries(TEXTS, SMALL, max_size=3), max_size=3),
    by_group=st.dictionaries(TEXTS, st.dictionaries(SMALL, SMALL, max_size=3), max_size=3),
    histograms=st.dictionaries(TEXTS, COUNTS, max_size=3),
    spans=st.lists(SPANS, max_size=3).map(tuple),
)
PLAIN = st.none() | st.booleans() | SMALL | TEXTS
RECORDS = st.builds(
    EventRecord,
    sequence=SMALL,
    at_ms=NUMBERS,
    cluster=TEXTS,
    member=TEXTS,
    role=TEXTS,
    group=st.none() | SMALL,
    kind=TEXTS,
    level=st.sampled_from(["DEBUG", "INFO", "WARNING", "ERROR"]),
    text=TEXTS,
    fields=st.dictionaries(TEXTS, PLAIN | st.lists(PLAIN, max_size=3), max_size=3),
)
INSTANCES = st.builds(
    SlowInstance,
    at_ms=NUMBERS,
    group=SMALL,
    instance_id=SMALL,
    commands=SMALL,
    byte_count=SMALL,
    machine=TEXTS,
    total_ms=TIMES,
    queue_ms=TIMES,
    accept_ms=TIMES,
    chosen_ms=TIMES,
    votes_ms=st.dictionaries(SMALL, TIMES, max_size=5),
)
STEPS = st.builds(
    SlowStep,
    at_ms=NUMBERS,
    what=st.sampled_from(["fsync", "apply"]),
    duration_ms=TIMES,
    instances=st.lists(st.tuples(SMALL, SMALL), max_size=3).map(tuple),
)
REPORTS = st.builds(
    RoleReport,
    at_ms=NUMBERS,
    clock_ns=NUMBERS,
    incarnation=SMALL,
    counted=COUNTED,
    gauges=st.dictionaries(TEXTS, st.dictionaries(TEXTS, TIMES, max_size=3), max_size=3),
    events=st.lists(RECORDS, max_size=3).map(tuple),
    last_sequence=SMALL,
    slow_instances=st.lists(INSTANCES, max_size=3).map(tuple),
    slow_steps=st.lists(STEPS, max_size=3).map(tuple),
)


@given(REPORTS)
def test_a_report_comes_over_whole(report: RoleReport) -> None:
    assert decode_report(encode_report(report)) == report


@given(REPORTS)
def test_a_later_release_may_tell_more(report: RoleReport) -> None:
    plain: dict[str, Any] = msgspec.msgpack.decode(encode_report(report), strict=False)
    plain["of_a_later_release"] = {"anything": [1, 2, 3]}
    plain["counted"]["of_a_later_release"] = "anything"
    for told in (*plain["events"], *plain["slow_instances"], *plain["slow_steps"]):
        told["of_a_later_release"] = None
    assert decode_report(msgspec.msgpack.encode(plain)) == report


def test_a_role_tells_the_time_by_its_own_clock() -> None:
    bench = Bench()
    assert bench.report().clock_ns == bench.now_ns > 0


def test_an_earlier_release_may_tell_less() -> None:
    data = msgspec.msgpack.encode({"at_ms": 5, "incarnation": 2})
    assert decode_report(data) == RoleReport(at_ms=5, incarnation=2, clock_ns=0)


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"no report", msgspec.msgpack.encode({"at_ms": "soon"})]
)
def test_what_is_no_report_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_report(data)


def test_a_report_that_was_cut_off_is_refused() -> None:
    data = encode_report(RoleReport(at_ms=5, incarnation=2, last_sequence=9))
    for length in range(len(data)):
        with pytest.raises(msgspec.DecodeError):
            decode_report(data[:length])


@given(RECORDS)
def test_an_event_is_one_line_of_json(record: EventRecord) -> None:
    line = encode_record(record)
    assert b"\n" not in line
    assert decode_record(line) == record


def test_reports_that_hold_nothing_share_nothing() -> None:
    one, other = RoleReport(at_ms=1, incarnation=1), RoleReport(at_ms=1, incarnation=1)
    one.gauges["paxos_disk_bytes"] = {"": 1.0}
    assert other.gauges == {}
