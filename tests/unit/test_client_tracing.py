"""A client's spans: whose children they are, what they say, and when they end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased
from opentelemetry.trace import SpanKind, StatusCode

from ray_paxos import client as client_module
from ray_paxos.actors import sender
from ray_paxos.actors.bootstrapping import make_genesis
from ray_paxos.actors.client_tracing import ClientTracing
from ray_paxos.actors.spec import make_spec
from ray_paxos.client import Client
from ray_paxos.config import parse_configuration
from ray_paxos.core.traces import TRACES_MAX
from ray_paxos.errors import (
    CommandError,
    CommandTooLargeError,
    ConfigurationError,
    OutcomeUnknownError,
)
from tests.unit.spans import KeptSpans, attributes, is_within, parent, place, text
from tests.unit.test_client import FakeRay, Group


@pytest.fixture
def kept() -> KeptSpans:
    return KeptSpans()


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Group:
    group = Group()
    monkeypatch.setattr(client_module, "FoundRoles", lambda roster, is_fused: group)
    monkeypatch.setattr(sender, "ray", FakeRay)
    return group


def opened(monkeypatch: pytest.MonkeyPatch, kept: KeptSpans | None) -> Client:
    def trace(cluster: str, group: int) -> ClientTracing | None:
        return ClientTracing(kept.tracing, cluster, group) if kept is not None else None

    monkeypatch.setattr(client_module, "trace_client", trace)
    configuration = parse_configuration("cluster: demo\nproposer: {command_bytes_max: 1000}\n")
    spec = make_spec(make_genesis(configuration), configuration).encoded()
    client = Client(spec, 1, "test")
    client.propose(b"open a session", "recorder")
    return client


@pytest.fixture
def client(kept: KeptSpans, group: Group, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    client = opened(monkeypatch, kept)
    kept.clear()
    yield client
    client.close(timeout_s=0)


def test_a_command_has_a_span_in_the_users_trace(
    kept: KeptSpans, client: Client, group: Group
) -> None:
    with kept.tracer.start_as_current_span("user"):
        result = client.propose(b"ab", "recorder")
    span, user = kept.only("ray_paxos.propose"), kept.only("user")
    assert parent(span) == place(user)
    assert span.kind is SpanKind.CLIENT
    assert attributes(span) == {
        "cluster": "demo",
        "group": 1,
        "machine": "recorder",
        "commands": 1,
        "instance_id": result.instance_id,
    }
    assert span.status.status_code is StatusCode.UNSET
    assert group.submits[-1].trace == text(span)
    assert is_within(span, user)


def test_without_a_current_span_a_command_begins_a_trace(kept: KeptSpans, client: Client) -> None:
    client.propose(b"ab", "recorder")
    assert parent(kept.only("ray_paxos.propose")) is None


def test_what_is_called_for_a_command_is_its_child(
    kept: KeptSpans, client: Client, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Ray's own span of the call is."""
    call = group.call

    def traced_call(proposer: Any, batch: bytes) -> Any:
        with kept.tracer.start_as_current_span("ray"):
            return call(proposer, batch)

    monkeypatch.setattr(group, "call", traced_call)
    client.propose(b"ab", "recorder")
    assert parent(kept.only("ray")) == place(kept.only("ray_paxos.propose"))


def test_the_span_of_a_future_ends_when_that_is_done(
    kept: KeptSpans, client: Client, group: Group
) -> None:
    group.mode = "keep"
    with kept.tracer.start_as_current_span("user"):
        future = client.propose_async(b"ab", "recorder")
        many = client.propose_many_async([b"cd", b"refuse", b"ef"], "recorder")
    assert kept.named("ray_paxos.propose_async") == []
    told = threading.Event()
    many.add_done_callback(lambda _: told.set())
    group.release()
    result, results = future.result(10), many.result(10)
    assert told.wait(10)
    user = kept.only("user")
    one, three = kept.only("ray_paxos.propose_async"), kept.only("ray_paxos.propose_many_async")
    assert parent(one) == parent(three) == place(user)
    assert attributes(one)["instance_id"] == result.instance_id
    found = attributes(three)
    assert (found["commands"], found["errors"]) == (3, 1)
    assert found["instance_id"] == results[0].instance_id
    assert found["last_instance_id"] == results[2].instance_id
    assert three.status.status_code is StatusCode.UNSET, "a machine's refusal is an answer"


def test_commands_together_have_one_span_that_ends_before_the_call_returns(
    kept: KeptSpans, client: Client
) -> None:
    client.propose_many([b"a", b"b"], "recorder")
    assert attributes(kept.only("ray_paxos.propose_many"))["commands"] == 2
    client.propose_many([], "recorder")
    assert [attributes(s)["commands"] for s in kept.named("ray_paxos.propose_many")] == [2, 0]


def test_errors_are_told(kept: KeptSpans, client: Client, group: Group) -> None:
    with pytest.raises(CommandError):
        client.propose(b"refuse", "recorder")
    with pytest.raises(CommandTooLargeError):
        client.propose_async(b"x" * 2_000, "recorder")
    with pytest.raises(ConfigurationError):
        client.propose_many([b"x"], "")
    group.mode = "lose"
    with pytest.raises(OutcomeUnknownError):
        client.propose(b"x", "recorder", timeout_s=0.2)
    with pytest.raises(OutcomeUnknownError):
        client.propose_many([b"x"], "recorder", timeout_s=0.2)
    assert {span.status.status_code for span in kept.ended} == {StatusCode.ERROR}
    named = [(span.name, span.events[0].attributes) for span in kept.ended]
    assert [(name, str((each or {})["exception.type"])) for name, each in named] == [
        ("ray_paxos.propose", "ray_paxos.errors.CommandError"),
        ("ray_paxos.propose_async", "ray_paxos.errors.CommandTooLargeError"),
        ("ray_paxos.propose_many", "ray_paxos.errors.ConfigurationError"),
        ("ray_paxos.propose", "ray_paxos.errors.OutcomeUnknownError"),
        ("ray_paxos.propose_many", "ray_paxos.errors.OutcomeUnknownError"),
    ]


def test_a_cancelled_command_says_so(kept: KeptSpans, client: Client, group: Group) -> None:
    group.mode = "no master"
    first = client.propose_async(b"first", "recorder", timeout_s=0.5)
    waiting = [client.propose_async(b"x" * 900, "recorder", timeout_s=5) for _ in range(900)]
    assert waiting[-1].cancel()
    span = kept.ended[-1]
    assert attributes(span)["cancelled"] is True
    assert span.status.status_code is StatusCode.UNSET
    assert not first.cancelled()


def test_commands_of_several_traces_in_one_request_are_all_named(
    kept: KeptSpans, client: Client, group: Group
) -> None:
    group.mode = "keep"
    client.propose_async(b"on its way", "recorder")
    futures = []
    for number in range(3):
        with kept.tracer.start_as_current_span(f"user {number}"):
            futures += [client.propose_async(b"a", "recorder") for _ in range(10)]
    group.release()
    for future in futures:
        future.result(10)
    named = [place.split("-")[1] for submit in group.submits for place in submit.trace.split()]
    users = [kept.only(f"user {number}") for number in range(3)]
    assert {f"{place(user)[0]:032x}" for user in users} <= set(named)
    for submit in group.submits:
        ids = [each.split("-")[1] for each in submit.trace.split()]
        assert len(ids) == len(set(ids)) <= TRACES_MAX


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, ParentBased(ALWAYS_OFF)])
def test_what_is_not_sampled_is_not_carried(
    sampler: Any, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = KeptSpans(sampler)
    with opened(monkeypatch, kept) as client, kept.tracer.start_as_current_span("user"):
        client.propose(b"a", "recorder")
        client.propose_async(b"b", "recorder").result(10)
        client.propose_many([b"c"], "recorder")
    assert [submit.trace for submit in group.submits if submit.trace] == []
    assert kept.ended == []


def test_a_trace_that_was_sampled_elsewhere_is_sampled(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, choosy = KeptSpans(ALWAYS_ON), KeptSpans(ParentBased(ALWAYS_OFF))
    with opened(monkeypatch, choosy) as client:
        with kept.tracer.start_as_current_span("user"):
            client.propose(b"a", "recorder")
        client.propose(b"b", "recorder")
    assert parent(choosy.only("ray_paxos.propose")) == place(kept.only("user"))


def test_with_tracing_off_nobody_is_asked_for_a_trace(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr("ray_paxos.core.session.trace_of", asked.append)
    with opened(monkeypatch, None) as client:
        client.propose(b"a", "recorder")
        client.propose_async(b"b", "recorder").result(10)
        client.propose_many([b"c"], "recorder")
    assert asked == []
    assert {submit.trace for submit in group.submits} == {""}
