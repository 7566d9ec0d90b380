"""Users' traces on their way through the core: handed on, bounded, and without any say in it."""

from __future__ import annotations

from dataclasses import replace

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.core.client_messages import Submit
from ray_paxos.core.effects import Effects
from ray_paxos.core.events import CommandsAnswered
from ray_paxos.core.learner_messages import Chosen
from ray_paxos.core.messages import Accept
from ray_paxos.core.pending import NOBODY, trace_of
from ray_paxos.core.traces import (
    TEXT_LENGTH_MAX,
    TRACE_LENGTH,
    TRACES_MAX,
    bounded_text,
    join_places,
    join_texts,
    traces_in,
)
from tests.unit.core_helpers import (
    MS,
    AcceptorBench,
    ballot,
    client,
    commands,
    happened,
    proposer_of,
    sends,
    sent,
)
from tests.unit.proposer_bench import SETTINGS, ProposerBench, accepts
from tests.unit.test_client_session import Collector, entries, open_session


def trace(number: int, span: int = 1) -> str:
    return f"00-{number:032x}-{span:016x}-01"


# Texts.


def test_the_longest_text_holds_just_as_many_traces_as_may_be() -> None:
    assert len(trace(1)) == TRACE_LENGTH
    most = " ".join(trace(number) for number in range(1, TRACES_MAX + 1))
    assert len(most) == TEXT_LENGTH_MAX
    assert bounded_text(most) == most
    assert traces_in(most) == most.split(" ")
    assert bounded_text(most + " ") == ""
    assert traces_in(most + " ") == []


@given(st.lists(st.lists(st.integers(1, 40), max_size=20), max_size=6))
def test_an_instance_names_the_first_traces_of_its_requests(numbers: list[list[int]]) -> None:
    texts = [" ".join(map(trace, some)) for some in numbers]
    expected = [trace(n) for some in numbers if len(some) <= TRACES_MAX for n in some]
    joined = join_texts(texts)
    assert joined.split() == expected[:TRACES_MAX]
    assert bounded_text(joined) == joined


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 3)), max_size=60))
def test_of_each_trace_a_request_names_the_first_place(numbers: list[tuple[int, int]]) -> None:
    places = [trace(*each) if each[0] else "" for each in numbers]
    first: dict[int, str] = {}
    for (number, _), place in zip(numbers, places, strict=True):
        if number:
            first.setdefault(number, place)
    assert join_places(places).split() == list(first.values())[:TRACES_MAX]


@given(st.text(max_size=1_000))
def test_any_text_is_read(text: str) -> None:
    assert len(traces_in(text)) <= max(TEXT_LENGTH_MAX, 1)
    assert len(join_texts([text, text])) <= TEXT_LENGTH_MAX
    join_places([text])


# A client's session.


class Traced(Collector):
    """A receiver with a span."""

    def __init__(self, trace: str) -> None:
        super().__init__()
        self.trace = trace


def test_a_request_names_the_spans_of_its_commands_each_time_it_is_sent() -> None:
    session = open_session()
    session.is_traced = True
    session.enqueue("log", (b"a", b"b"), Traced(trace(1, 1)))
    session.enqueue("log", (b"c",), Collector())
    session.enqueue("log", (b"d",), Traced(trace(1, 2)))
    session.enqueue("kv", (b"e",), Traced(trace(2, 3)))
    first = session.next_submit(0)
    assert first is not None
    assert first.trace == f"{trace(1, 1)} {trace(2, 3)}"
    session.on_lost()
    again = session.next_submit(0)
    assert again is not None
    assert again.trace == first.trace
    session.on_submitted(again.request_id, entries(again))
    session.enqueue("log", (b"f",), Collector())
    last = session.next_submit(0)
    assert last is not None
    assert last.trace == ""


def test_receivers_are_not_asked_where_nobody_traces() -> None:
    class Untraceable(Collector):
        @property
        def trace(self) -> str:
            raise AssertionError("asked for its trace")

    session = open_session()
    session.enqueue("log", (b"a",), Untraceable())
    submitted = session.next_submit(0)
    assert submitted is not None
    assert submitted.trace == ""
    assert trace_of(NOBODY) == ""


# A master.


def ask(bench: ProposerBench, request_id: int, trace: str, *, timeout_ms: int = 0) -> Effects:
    batch = commands(f"command {request_id}", request_id)
    return bench.receive(client(), Submit(request_id, (batch,), timeout_ms, trace))


def told_learners(effects: Effects) -> dict[int, list[str]]:
    """The traces of what is chosen, by member."""
    found: dict[int, list[str]] = {}
    for send in sends(effects):
        if isinstance(send.message, Chosen):
            found.setdefault(send.to.member_id, []).append(send.message.trace)
    return found


def test_accepts_and_the_own_learner_are_told_whose_commands_these_are() -> None:
    bench = ProposerBench()
    record = bench.serve()
    asked = ask(bench, 1, trace(1))
    assert [each.trace for each in sent(asked, Accept)] == [trace(1)] * 3
    chosen = bench.accepted(record + 1, 2, 3)
    assert told_learners(chosen) == {1: [trace(1)]}
    (answered,) = happened(bench.own_learner_takes(chosen), CommandsAnswered)
    assert [request.trace for request in answered.requests] == [trace(1)]
    # The others hear of it later, and nobody waits for them.
    assert told_learners(bench.tick(SETTINGS.chosen_delay_ns / MS)) == {2: [""], 3: [""]}


def test_an_accept_that_is_sent_again_names_them_again() -> None:
    bench = ProposerBench()
    record = bench.serve()
    ask(bench, 1, trace(1))
    bench.accepted(record + 1, 2)
    again = [a.trace for a in sent(bench.tick(SETTINGS.retransmit_ns / MS), Accept)]
    assert again == [trace(1)] * 2


def test_requests_that_share_an_instance_are_all_named() -> None:
    bench = ProposerBench()
    record = bench.serve()
    for request_id in range(1, SETTINGS.window_max + 1):
        ask(bench, request_id, "")
    for number in (1, 0, 2):
        request_id += 1
        assert accepts(ask(bench, request_id, trace(number) if number else "")) == {}
    opened = bench.accepted(record + 1, 1, 2)
    assert {each.trace for each in sent(opened, Accept)} == {f"{trace(1)} {trace(2)}"}


def test_what_is_too_long_to_be_carried_is_dropped_and_the_command_is_not() -> None:
    bench = ProposerBench()
    record = bench.serve()
    asked = ask(bench, 1, "x" * (TEXT_LENGTH_MAX + 1))
    assert [each.trace for each in sent(asked, Accept)] == [""] * 3
    answered = bench.own_learner_takes(bench.accepted(record + 1, 1, 2))
    assert len(happened(answered, CommandsAnswered)) == 1


def untraced(effects: Effects) -> list[object]:
    """All of it, but for the traces."""
    left: list[object] = [*effects.records, *effects.tasks]
    for send in sends(effects):
        message = send.message
        if isinstance(message, Accept | Chosen):
            message = msgspec.structs.replace(message, trace="")
        left.append((send.to, send.config_id, message))
    for event in effects.events:
        if isinstance(event, CommandsAnswered):
            requests = tuple(replace(request, trace="") for request in event.requests)
            event = msgspec.structs.replace(event, requests=requests)
        left.append(event)
    return left


Steps = list[tuple[str, int, int]]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(("ask", "late", "again", "vote", "apply", "wait")),
        st.integers(0, 17),
        st.integers(1, 3),
    ),
    max_size=40,
)


def play(steps: Steps, *, is_traced: bool) -> list[list[object]]:
    """What a master does in each step, but for the traces that it hands on."""
    bench = ProposerBench()
    record = bench.serve()
    # What is asked from here on waits, and shares an instance as far as it fits.
    first = [ask(bench, request_id, "") for request_id in range(1, SETTINGS.window_max + 1)]
    assert all(accepts(each) for each in first)
    request_id, chosen, done = SETTINGS.window_max, Effects(), []
    for what, number, member in steps:
        text = " ".join(map(trace, range(1, number + 1))) if is_traced else ""
        effects = Effects()
        match what:
            case "ask" | "late":
                request_id += 1
                effects = ask(bench, request_id, text, timeout_ms=what == "late")
            case "again" if request_id:
                effects = ask(bench, request_id, text)
            case "vote":
                effects = bench.accepted(record + 1 + number % 6, member)
                chosen.extend(effects)
            case "apply":
                effects, chosen = bench.own_learner_takes(chosen), Effects()
            case _:
                effects = bench.tick(number)
        done.append(untraced(effects))
    return done


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_a_master_does_the_same_with_and_without_traces(steps: Steps) -> None:
    assert play(steps, is_traced=True) == play(steps, is_traced=False)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.integers(1, 4), st.sampled_from((b"v", b"w"))), max_size=12
    )
)
def test_an_acceptor_does_the_same_with_and_without_traces(
    asked: list[tuple[int, int, bytes]],
) -> None:
    done = []
    for text in ("", f"{trace(1)} {trace(2)}", "no trace"):
        bench = AcceptorBench()
        effects = [
            bench.ask(Accept(ballot(round), at, vote, 1, 100, text), proposer_of(1))
            for round, at, vote in asked
        ]
        done.append(([untraced(each) for each in effects], bench.records))
    assert done[0] == done[1] == done[2]
