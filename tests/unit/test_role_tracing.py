"""The roles' spans: of a whole cluster in threads, and of a proposer that turns clients away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from ray_paxos.actors import role_tracing
from ray_paxos.actors.addressed import decode_addressed
from ray_paxos.actors.role_tracing import AcceptorTracing, LearnerTracing, ProposerTracing
from ray_paxos.core.client_messages import (
    Redirected,
    RefusalCode,
    Refused,
    Submit,
    Submitted,
)
from ray_paxos.core.learner_messages import Chosen
from ray_paxos.core.messages import Accept, Address, Envelope, Message, RoleName
from ray_paxos.core.traces import TRACES_MAX
from ray_paxos.core.values import CommandBatch
from ray_paxos.core.wire import encode_envelopes
from ray_paxos.observability import tracing
from ray_paxos.observability.wall_time import WallTime
from tests.unit.core_helpers import GENESIS, GROUP, ballot, commands
from tests.unit.core_helpers import client as client_at
from tests.unit.member_processes import MemberProcesses, PlayedClient, running_members
from tests.unit.spans import KeptSpans, ReadableSpan, attributes, is_within, parent, place, times

PATIENCE_S = 20.0
HOPS = ["ray_paxos.queue", "ray_paxos.accept", "ray_paxos.apply"]


def trace(number: int, span: int = 1) -> str:
    return f"00-{number:032x}-{span:016x}-01"


def children(kept: KeptSpans, of: ReadableSpan) -> list[ReadableSpan]:
    return [span for span in kept.ended if parent(span) == place(of)]


def wait_for(is_true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# A cluster.


@pytest.fixture(scope="module")
def kept() -> KeptSpans:
    return KeptSpans()


@pytest.fixture(scope="module")
def members(kept: KeptSpans, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemberProcesses]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(role_tracing, "start_tracing", lambda: kept.tracing)
        with running_members(tmp_path_factory.mktemp("traced")) as cluster:
            yield cluster


@pytest.fixture
def client(members: MemberProcesses, kept: KeptSpans) -> PlayedClient:
    client = members.client(int(time.monotonic_ns()))
    kept.clear()
    return client


def write(client: PlayedClient, text: str, count: int = 1) -> int:
    """Append lines; gives the instance that they are in."""
    number = client.number + 1
    client.number += count
    batch = CommandBatch(client.session, number, number, "log", (b"line",) * count)
    submit: Any = lambda request_id, batches: Submit(request_id, batches, trace=text)  # noqa: E731
    (result,) = client.ask(submit, (batch,)).results
    return result.instance_id


def test_a_commands_way_is_told_by_all_who_had_a_part_in_it(
    members: MemberProcesses, client: PlayedClient, kept: KeptSpans
) -> None:
    before_ns = time.time_ns()
    instance_id = write(client, trace(1, 7), count=3)
    wait_for(lambda: len(kept.named("ray_paxos.acceptor")) == 3)
    after_ns = time.time_ns()
    proposer = kept.only("ray_paxos.proposer")
    master = attributes(proposer)["member"]
    assert master == members.master()
    assert parent(proposer) == (1, 7)
    assert proposer.kind is SpanKind.SERVER
    assert attributes(proposer) == {
        "cluster": "threads",
        "member": master,
        "group": 1,
        "machine": "log",
        "commands": 3,
        "instance_id": instance_id,
    }
    names = [span.name for span in children(kept, proposer)]
    assert sorted(names) == sorted([*HOPS, "ray_paxos.learner", *["ray_paxos.acceptor"] * 3])
    assert len(kept.ended) == len(names) + 1
    for span in kept.ended:
        begin, end = times(span)
        assert before_ns <= begin <= end <= after_ns
    queue, accept, apply = (kept.only(name) for name in HOPS)
    assert is_within(queue, proposer)
    assert times(queue)[1] == times(accept)[0]
    assert times(accept)[1] == times(apply)[0]
    assert times(apply)[1] == times(proposer)[1]
    learner = kept.only("ray_paxos.learner")
    assert is_within(learner, apply)
    assert learner.attributes is not None
    assert attributes(learner)["member"] == master
    assert (attributes(learner)["instance_id"], attributes(learner)["instances"]) == (
        instance_id,
        1,
    )
    for span in kept.named("ray_paxos.acceptor"):
        found = attributes(span)
        assert (found["group"], found["instance_id"]) == (1, instance_id)
        assert found["records"] >= 1
        begin, end = times(span)
        assert 0 < found["fsync_ms"] <= (end - begin) / 1e6
        assert begin >= times(accept)[0]
    voted = {attributes(span)["member"] for span in kept.named("ray_paxos.acceptor")}
    assert voted == {"m1", "m2", "m3"}
    votes = [event for event in accept.events if event.name == "vote"]
    assert len(votes) == 2
    assert {dict(v.attributes or {})["ray_paxos.member"] for v in votes} <= voted


def test_what_nobody_traces_is_not_told(client: PlayedClient, kept: KeptSpans) -> None:
    write(client, "")
    write(client, "no trace")
    write(client, trace(1)[:-1] + "0")
    write(client, trace(9))
    wait_for(lambda: len(kept.named("ray_paxos.acceptor")) == 3)
    assert {place(span)[0] for span in kept.ended} == {9}


def test_each_of_several_traces_has_the_whole_way(client: PlayedClient, kept: KeptSpans) -> None:
    texts = [trace(number) for number in range(1, TRACES_MAX + 1)]
    write(client, " ".join(texts))
    wait_for(lambda: len(kept.named("ray_paxos.acceptor")) == 3 * TRACES_MAX)
    names = sorted(["ray_paxos.proposer", "ray_paxos.learner", *["ray_paxos.acceptor"] * 3, *HOPS])
    for number in range(1, TRACES_MAX + 1):
        found = sorted(span.name for span in kept.ended if place(span)[0] == number)
        assert found == names


def test_requests_that_share_an_instance_have_an_acceptors_span_each(
    members: MemberProcesses, client: PlayedClient, kept: KeptSpans
) -> None:
    numbers = range(1, 9)
    clients = [members.client(7_000 + number) for number in numbers]
    kept.clear()
    threads = [
        threading.Thread(target=write, args=(each, trace(number)))
        for number, each in zip(numbers, clients, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_for(lambda: len(kept.named("ray_paxos.acceptor")) == 3 * len(numbers))
    for proposer in kept.named("ray_paxos.proposer"):
        of = [span.name for span in children(kept, proposer)]
        assert sorted(of) == sorted([*HOPS, "ray_paxos.learner", *["ray_paxos.acceptor"] * 3])


def test_no_request_is_followed_any_longer(members: MemberProcesses, client: PlayedClient) -> None:
    write(client, trace(1))
    for member in members.members.values():
        traced = member.proposer._tracing
        assert traced is not None
        assert traced.open_requests == 0


def test_who_does_not_lead_tells_that_the_client_was_sent_on(
    members: MemberProcesses, client: PlayedClient, kept: KeptSpans
) -> None:
    follower = next(name for name in members.members if name != members.master())
    submit = Submit(1, (commands(),), trace=trace(3, 4))
    envelope = Envelope(members.genesis.hash(), 1, client_at(77), 0, 0, 0, submit)
    members.members[follower].proposer.submit(encode_envelopes((envelope,)))
    span = kept.only("ray_paxos.proposer")
    assert parent(span) == (3, 4)
    assert attributes(span)["member"] == follower
    assert attributes(span)["outcome"] == "redirected"
    assert span.status.status_code is StatusCode.UNSET


def test_no_traces_are_sent_to_other_learners(
    members: MemberProcesses, client: PlayedClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Message] = []
    monkeypatch.setattr(
        members,
        "count",
        lambda batch: seen.extend(envelope.message for _, envelope in decode_addressed(batch)),
    )
    write(client, trace(1))
    wait_for(lambda: any(isinstance(each, Chosen) and each.values for each in seen))
    assert {each.trace for each in seen if isinstance(each, Chosen)} == {""}
    assert any(each.trace for each in seen if isinstance(each, Accept))


def test_with_tracing_off_the_roles_have_nothing_that_traces(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **more: object) -> None:
        raise AssertionError("code of spans was run")

    for kind, names in (
        (ProposerTracing, ("admit", "answered", "sent")),
        (AcceptorTracing, ("voted",)),
        (LearnerTracing, ("handled",)),
    ):
        for name in names:
            monkeypatch.setattr(kind, name, refuse)
    monkeypatch.setattr(role_tracing, "start_tracing", tracing.start_tracing)
    with running_members(tmp_path_factory.mktemp("untraced")) as cluster:
        assert write(cluster.client(5), trace(1)) > 0
        for member in cluster.members.values():
            for shell in (member.proposer, member.acceptor, member.learner, member.checkpointer):
                assert shell._tracing is None


# A proposer's open requests.


class Clocks:
    """Both clocks."""

    def __init__(self) -> None:
        self.now_ns = 5_000
        self.wall_ns = 1_000_000

    def make(self, kept: KeptSpans) -> ProposerTracing:
        wall_time = WallTime(self.clock, lambda: self.wall_ns + self.now_ns)
        return ProposerTracing(kept.tracing, "demo", "m1", {1: "m1"}, self.clock, wall_time)

    def clock(self) -> int:
        return self.now_ns


def asked(request_id: int, text: str, number: int = 900) -> Envelope:
    submit = Submit(request_id, (commands(),), trace=text)
    return Envelope(GENESIS, GROUP, client_at(number), 0, 0, 0, submit)


def answer(message: Message) -> Envelope:
    return Envelope(GENESIS, GROUP, Address(1, RoleName.PROPOSER), 11, 1, 0, message)


def trace_in(envelope: Envelope) -> str:
    assert isinstance(envelope.message, Submit)
    return envelope.message.trace


def test_a_copy_of_a_request_belongs_to_the_same_span() -> None:
    kept = KeptSpans()
    tracing = Clocks().make(kept)
    first = tracing.admit(asked(1, trace(1)), 4_000)
    again = tracing.admit(asked(1, trace(1)), 6_000)
    other = tracing.admit(asked(1, trace(1), number=901), 6_000)
    assert trace_in(first) == trace_in(again) != trace_in(other)
    assert trace_in(first) != trace(1)
    tracing.sent(client_at(900), answer(Redirected(1, 2, 0)))
    tracing.sent(client_at(900), answer(Redirected(1, 2, 0)))
    assert times(kept.only("ray_paxos.proposer")) == (1_004_000, 1_005_000)
    assert tracing.open_requests == 1


def test_all_times_of_a_request_are_told_by_the_clock_that_it_began_with() -> None:
    kept, clocks = KeptSpans(), Clocks()
    tracing = clocks.make(kept)
    tracing.admit(asked(1, trace(1)), 4_000)
    clocks.wall_ns -= 3_600_000_000_000
    tracing.sent(client_at(900), answer(Redirected(1, 2, 0)))
    tracing.admit(asked(2, trace(2)), 4_000)
    tracing.sent(client_at(900), answer(Redirected(2, 2, 0)))
    first, second = kept.named("ray_paxos.proposer")
    assert times(first) == (1_004_000, 1_005_000)
    assert times(second) == (1_004_000 - 3_600_000_000_000, 1_005_000 - 3_600_000_000_000)


@given(st.lists(st.tuples(st.integers(0, 4_000_000), st.integers(0, 10**6)), max_size=30))
def test_the_wall_time_does_not_tremble(delays: list[tuple[int, int]]) -> None:
    """However long a thread is held up between the readings of both clocks, up to a limit."""
    now_ns, held_up = 0, iter(delays)

    def clock() -> int:
        nonlocal now_ns
        now_ns += sum(next(held_up, (0, 0)))
        return now_ns

    wall_time = WallTime(clock, lambda: now_ns + 10**18)
    first = wall_time.difference_ns
    assert {wall_time.difference_ns for _ in range(20)} == {first}
    assert abs(first - 10**18) <= 5_000_000


def test_a_refusal_is_an_error_and_says_which() -> None:
    kept = KeptSpans()
    tracing = Clocks().make(kept)
    tracing.admit(asked(1, trace(1)), 4_000)
    tracing.sent(client_at(900), answer(Submitted(2, ())))
    tracing.sent(client_at(900), answer(Refused(1, RefusalCode.TOO_LATE, "too late", 0)))
    span = kept.only("ray_paxos.proposer")
    assert attributes(span)["outcome"] == "refused: too_late"
    assert span.status.description == "too late"


def test_what_is_open_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(role_tracing, "OPEN_REQUESTS_MAX", 3)
    kept = KeptSpans()
    tracing = Clocks().make(kept)
    for request_id in range(1, 6):
        tracing.admit(asked(request_id, trace(request_id)), 4_000)
        assert tracing.open_requests <= 3
    assert [place(span)[0] for span in kept.ended] == [1, 2]
    assert {attributes(span)["outcome"] for span in kept.ended} == {"not followed further"}


@pytest.mark.parametrize("text", ["", "no trace", "x" * 10_000])
def test_a_request_without_a_trace_is_left_as_it_is(text: str) -> None:
    kept = KeptSpans()
    tracing = Clocks().make(kept)
    envelope = asked(1, text)
    assert tracing.admit(envelope, 4_000) is envelope
    other = answer(Accept(ballot(1), 1, b""))
    assert tracing.admit(other, 4_000) is other
    assert tracing.open_requests == 0


def test_where_the_sampler_says_no_the_clients_own_span_is_handed_on() -> None:
    tracing = Clocks().make(KeptSpans(ALWAYS_OFF))
    assert trace_in(tracing.admit(asked(1, trace(1)), 4_000)) == trace(1)
    assert tracing.open_requests == 0
