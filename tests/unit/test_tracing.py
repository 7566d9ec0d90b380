"""Spans: off where Ray's tracing is off, named by W3C's text, and never in anybody's way."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased
from opentelemetry.trace import SpanKind, StatusCode

from ray_paxos.core.events import CommandsAnswered
from ray_paxos.core.intake import Request
from ray_paxos.core.traces import TRACE_LENGTH
from ray_paxos.observability import tracing
from ray_paxos.observability.span_data import Moment, SpanData, hops_of
from ray_paxos.observability.tracing import Tracing, is_on, place_of, start_tracing, trace_text
from tests.unit.core_helpers import client, commands
from tests.unit.spans import KeptSpans, attributes, parent, place, text
from tests.unit.test_imports import imported_packages

TRACE_ID, SPAN_ID = 0xABC, 0x123
SAMPLED = trace_text(TRACE_ID, SPAN_ID, 1)


def test_the_text_is_that_of_w3c() -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert place_of(trace) == (0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7, 1)
    assert trace_text(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7, 1) == trace
    assert len(trace) == TRACE_LENGTH


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255))
def test_a_text_is_read_as_it_was_written(trace_id: int, span_id: int, flags: int) -> None:
    trace = trace_text(trace_id, span_id, flags)
    assert place_of(trace) == ((trace_id, span_id, flags) if flags & 1 else None)


@pytest.mark.parametrize(
    "trace",
    [
        "",
        "01" + SAMPLED[2:],
        SAMPLED.upper(),
        SAMPLED + "-",
        SAMPLED[:-1],
        " " + SAMPLED,
        SAMPLED + "\n",
        trace_text(0, SPAN_ID, 1),
        trace_text(TRACE_ID, 0, 1),
        "00-" + "g" * 32 + "-" + "1" * 16 + "-01",
        "<script>",
    ],
)
def test_what_is_no_trace_gets_no_span(trace: str) -> None:
    kept = KeptSpans()
    assert place_of(trace) is None
    kept.tracing.tell(trace, SpanData("x", 1, 2))
    assert kept.tracing.begin("x", trace, {}, 1) is None
    assert kept.ended == []


# Whether it is on.


def test_nothing_of_opentelemetry_is_imported_where_tracing_is_off(repository: Path) -> None:
    program = (
        "import sys, ray_paxos\n"
        "import ray_paxos.client\n"
        "import ray_paxos.actors.launching\n"
        "import ray_paxos.actors.role_tracing, ray_paxos.actors.client_tracing\n"
        "from ray_paxos.observability.tracing import is_on, start_tracing\n"
        "before = {name for name in sys.modules if name.startswith('opentelemetry')}\n"
        "assert not is_on() and start_tracing() is None\n"
        "import ray\n"
        "assert not is_on() and start_tracing() is None\n"
        "ours = {n for n in sys.modules if n.startswith('opentelemetry.sdk.trace')}\n"
        "assert not ours and not before, (ours, before)\n"
        "from ray.util.tracing import tracing_helper\n"
        "tracing_helper._enable_tracing()\n"
        "assert is_on() and start_tracing() is not None\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_opentelemetry_is_imported_in_one_place_only(repository: Path) -> None:
    package = repository / "ray_paxos"
    found = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        for _, name in imported_packages(path)
        if name == "opentelemetry"
    }
    assert found == {"observability/tracing.py"}


def test_it_is_off_where_ray_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, tracing.RAY_TRACING, ModuleType("another Ray's"))
    assert not is_on()
    monkeypatch.delitem(sys.modules, tracing.RAY_TRACING)
    assert not is_on()


@pytest.mark.parametrize("broken", ["no OpenTelemetry", "its set-up"])
def test_where_no_spans_can_be_made_the_log_says_so(
    broken: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    helper: Any = SimpleNamespace(_is_tracing_enabled=lambda: True)
    monkeypatch.setitem(sys.modules, tracing.RAY_TRACING, helper)
    assert isinstance(start_tracing(), Tracing)
    if broken == "no OpenTelemetry":
        # What Python is told of a module that is not there.
        monkeypatch.setitem(sys.modules, "opentelemetry", None)
    else:
        monkeypatch.setattr(trace, "get_tracer", Broken())
    monkeypatch.setattr(logging.getLogger("ray_paxos"), "propagate", True)
    assert start_tracing() is None
    assert "no spans are made here" in caplog.text


# Spans.


def test_a_span_that_is_over_is_told_with_its_own_times() -> None:
    kept = KeptSpans()
    moment = Moment("vote", 1_500, {"ray_paxos.member": "m2"})
    kept.tracing.tell(SAMPLED, SpanData("x", 1_000, 2_000, {"ray_paxos.group": 1}, (moment,)))
    kept.tracing.tell(SAMPLED, SpanData("y", 1, 2), is_asked=True)
    span = kept.only("x")
    assert parent(span) == (TRACE_ID, SPAN_ID)
    assert place(span)[0] == TRACE_ID
    assert (span.start_time, span.end_time) == (1_000, 2_000)
    assert attributes(span) == {"group": 1}
    assert [(event.name, event.timestamp) for event in span.events] == [("vote", 1_500)]
    assert span.kind is SpanKind.INTERNAL
    assert kept.only("y").kind is SpanKind.SERVER


def test_a_span_of_a_role_is_the_child_of_what_was_sent() -> None:
    kept = KeptSpans()
    span = kept.tracing.begin("x", SAMPLED, {"ray_paxos.member": "m1"}, 1_000)
    assert span is not None
    kept.tracing.tell(span.trace, SpanData("child", 1_100, 1_200))
    span.end({"ray_paxos.outcome": "refused"}, error="full", at_ns=3_000)
    ended = kept.only("x")
    assert parent(ended) == (TRACE_ID, SPAN_ID)
    assert parent(kept.only("child")) == place(ended)
    assert (ended.start_time, ended.end_time) == (1_000, 3_000)
    assert attributes(ended) == {"member": "m1", "outcome": "refused"}
    assert (ended.status.status_code, ended.status.description) == (StatusCode.ERROR, "full")


def test_what_is_not_sampled_gets_no_span() -> None:
    # Also where the user's sampler asks nobody's leave.
    kept = KeptSpans(ALWAYS_ON)
    unsampled = SAMPLED[:-1] + "0"
    kept.tracing.tell(unsampled, SpanData("x", 1, 2))
    assert kept.tracing.begin("x", unsampled, {}, 1) is None
    choosy = KeptSpans(ALWAYS_OFF)
    assert choosy.tracing.begin("x", SAMPLED, {}, 1) is None
    assert choosy.tracing.begin_here("x", {}) is None
    choosy.tracing.tell(SAMPLED, SpanData("x", 1, 2))
    assert kept.ended == choosy.ended == []


def test_a_clients_span_is_the_child_of_the_current_one() -> None:
    kept = KeptSpans()
    with kept.tracer.start_as_current_span("user") as user:
        span = kept.tracing.begin_here("x", {})
        assert span is not None
        with span.current(), kept.tracer.start_as_current_span("within"):
            pass
        with kept.tracer.start_as_current_span("beside"):
            pass
    span.end({})
    root = kept.tracing.begin_here("root", {})
    assert root is not None
    root.end({})
    context = user.get_span_context()
    assert parent(kept.only("x")) == (context.trace_id, context.span_id)
    assert parent(kept.only("within")) == place(kept.only("x"))
    assert parent(kept.only("beside")) == (context.trace_id, context.span_id)
    assert parent(kept.only("root")) is None
    assert span.trace == text(kept.only("x"))


def test_of_a_parent_that_is_not_sampled_not_even_the_sampler_hears(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = KeptSpans(ParentBased(ALWAYS_OFF))
    calls: list[str] = []
    monkeypatch.setattr(Tracing, "_begin", lambda *arguments: calls.append("begun"))
    with kept.tracer.start_as_current_span("user"):
        assert kept.tracing.begin_here("x", {}) is None
    assert calls == []


class Broken:
    """A set-up that fails wherever it can."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("the user's own bug")


def test_what_the_users_set_up_raises_is_told_once_and_ends_there(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracing, "_is_told", False)
    monkeypatch.setattr(logging.getLogger("ray_paxos"), "propagate", True)
    broken: Any = Broken()
    made = Tracing(broken)
    assert made.begin_here("x", {}) is None
    assert made.begin("x", SAMPLED, {}, 1) is None
    made.tell(SAMPLED, SpanData("x", 1, 2))
    span = tracing.OpenSpan(broken, SAMPLED)
    with span.current():
        pass
    span.end({}, error=ValueError())
    # One record, which reaches the capture twice where an earlier test left a handler behind.
    assert len({id(record) for record in caplog.records}) == 1
    assert "the user's own bug" in caplog.text


def test_what_is_raised_within_a_current_span_comes_through() -> None:
    kept = KeptSpans()
    span = kept.tracing.begin_here("x", {})
    assert span is not None
    with pytest.raises(KeyError), span.current():
        raise KeyError
    assert kept.ended == [], "it has not ended by that"


# Hops.


@given(st.lists(st.integers(0, 10**12), min_size=6, max_size=6), st.integers(0, 10**18))
def test_a_requests_hops_follow_each_other(times: list[int], wall_ns: int) -> None:
    arrived, opened, vote, chosen, answered, _ = sorted(times)
    request = Request(client(), 7, (commands(),), 10, None, arrived)
    event = CommandsAnswered(
        group=1,
        instance_id=9,
        requests=(request, request),
        byte_count=100,
        opened_ns=opened,
        votes=((1, vote), (5, chosen)),
        chosen_ns=chosen,
        answered_ns=answered,
    )
    queue, accept, apply = hops_of(event, request, wall_ns, {1: "m1"})
    assert [hop.name for hop in (queue, accept, apply)] == [
        "ray_paxos.queue",
        "ray_paxos.accept",
        "ray_paxos.apply",
    ]
    assert queue.start_ns == arrived + wall_ns
    assert queue.end_ns == accept.start_ns == opened + wall_ns
    assert accept.end_ns == apply.start_ns == chosen + wall_ns
    assert apply.end_ns == answered + wall_ns
    assert [(m.at_ns - wall_ns, m.attributes) for m in accept.moments] == [
        (vote, {"ray_paxos.member": "m1"}),
        (chosen, {"ray_paxos.member": "5"}),
    ]
    assert accept.attributes == {
        "ray_paxos.instance_id": 9,
        "ray_paxos.requests": 2,
        "ray_paxos.bytes": 100,
    }
