"""Requests of a session that overtook each other are put back into order, for a moment."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_paxos.core import session_order
from ray_paxos.core.client_messages import Redirected, Submit
from ray_paxos.core.session_order import WAIT_NS, Arrival, SessionOrder
from ray_paxos.core.values import CommandBatch, SessionId, Value, decode_value
from tests.unit.core_helpers import MS, client, commands, sent, submit
from tests.unit.proposer_bench import ProposerBench

SESSION = SessionId(5, 0)
OTHER = SessionId(6, 0)


@pytest.fixture
def order() -> SessionOrder:
    return SessionOrder()


def request(
    first: int, count: int = 1, *, session: SessionId = SESSION, lowest_open: int = 1, size: int = 1
) -> Submit:
    commands = (b"x" * size,) * count
    return Submit(first, (CommandBatch(session, lowest_open, first, "kv", commands),))


def firsts(arrivals: list[Arrival]) -> list[int]:
    return [arrival.submit.batches[0].first_number for arrival in arrivals]


def arrive(order: SessionOrder, *numbers: int, now_ns: int = 0) -> list[list[int]]:
    return [firsts(order.arrive(client(), request(number), now_ns)) for number in numbers]


def test_in_order_nothing_waits(order: SessionOrder) -> None:
    assert arrive(order, 1, 2, 3) == [[1], [2], [3]]
    assert order.due_ns is None


def test_what_is_ahead_waits_for_what_is_missing(order: SessionOrder) -> None:
    assert arrive(order, 1, 3, 5, 2, 4) == [[1], [], [], [2, 3], [4, 5]]
    assert order.due_ns is None


def test_the_end_of_a_request_counts_with_all_its_batches(order: SessionOrder) -> None:
    parts = tuple(CommandBatch(SESSION, 1, n, m, (b"x", b"y")) for n, m in ((1, "kv"), (3, "log")))
    assert firsts(order.arrive(client(), Submit(1, parts), 0)) == [1]
    assert arrive(order, 5) == [[5]]


def test_sessions_do_not_wait_for_each_other(order: SessionOrder) -> None:
    arrive(order, 1, 3)
    assert firsts(order.arrive(client(), request(9, session=OTHER), 0)) == [9]


def test_closed_numbers_are_not_missing(order: SessionOrder) -> None:
    arrive(order, 1)
    assert firsts(order.arrive(client(), request(7, lowest_open=7), 0)) == [7]


def test_what_is_sent_again_does_not_wait(order: SessionOrder) -> None:
    arrive(order, 1, 2, 3)
    assert arrive(order, 2, 1) == [[2], [1]]


def test_waiting_ends_soon(order: SessionOrder) -> None:
    arrive(order, 1, now_ns=0)
    arrive(order, 4, 3, now_ns=7)
    assert order.due_ns == 7 + WAIT_NS
    assert order.expire(6 + WAIT_NS) == []
    assert firsts(order.expire(7 + WAIT_NS)) == [3, 4]
    assert order.due_ns is None
    assert arrive(order, 5) == [[5]]


def test_sessions_wait_each_for_its_own_time(order: SessionOrder) -> None:
    sessions = [SessionId(number, 0) for number in range(1, 5)]
    for at_ns, session in enumerate(sessions):
        order.arrive(client(), request(1, session=session), at_ns)
        assert order.arrive(client(), request(3, session=session), at_ns) == []
    # The first goes on, and waits again: it is the last now.
    assert firsts(order.arrive(client(), request(2, session=sessions[0]), 5)) == [2, 3]
    assert order.arrive(client(), request(9, session=sessions[0]), 5) == []
    for since_ns, session in zip((1, 2, 3, 5), (*sessions[1:], sessions[0]), strict=True):
        assert order.due_ns == since_ns + WAIT_NS
        assert order.expire(since_ns + WAIT_NS - 1) == []
        (arrival,) = order.expire(since_ns + WAIT_NS)
        assert arrival.submit.batches[0].session == session
    assert order.due_ns is None


def test_when_it_is_due_is_known_without_a_look_at_every_session(order: SessionOrder) -> None:
    for number in range(1_000):
        order.arrive(client(), request(1, session=SessionId(number, 0)), 0)
    arrive(order, 1, 3, now_ns=7)
    order._sessions = cast("OrderedDict[SessionId, Any]", Untouchable())
    assert order.due_ns == 7 + WAIT_NS
    assert order.expire(6 + WAIT_NS) == []


class Untouchable:
    """Fails whatever is done with it."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"{name} is asked for")


def test_what_waits_is_bounded(order: SessionOrder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_order, "EARLY_REQUESTS_MAX", 2)
    monkeypatch.setattr(session_order, "EARLY_BYTES_MAX", 100)
    arrive(order, 1)
    assert firsts(order.arrive(client(), request(3, size=101), 0)) == [3], "too many bytes"
    assert arrive(order, 6, 8, 10) == [[], [], [10]], "too many requests"


def test_sessions_are_bounded(order: SessionOrder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_order, "SESSIONS_MAX", 2)
    arrive(order, 1, 3)
    for number in range(10, 20):
        order.arrive(client(), request(1, session=SessionId(number, 0)), 0)
    assert arrive(order, 2) == [[2, 3]], "one with something waiting is not forgotten"
    assert len(order._sessions) == 2


def test_a_refusal_answers_what_waited_behind_it(order: SessionOrder) -> None:
    arrive(order, 1, 4)
    assert firsts(order.refused(request(2))) == [4]
    assert order.due_ns is None
    assert arrive(order, 9) == [[9]], "nothing waits in a session that was refused"


def test_draining_forgets(order: SessionOrder) -> None:
    arrive(order, 1, 4, 3)
    assert firsts(order.drain()) == [3, 4]
    assert arrive(order, 8) == [[8]]


@given(st.permutations(range(1, 12)), st.integers(1, 11))
def test_everything_comes_out_once_and_in_order_behind_the_first(
    numbers: list[int], repeated: int
) -> None:
    order = SessionOrder()
    # The session is known from its first word on, whatever that is.
    out = [n for got in arrive(order, 1, *(n for n in numbers if n != 1)) for n in got]
    assert out == sorted(numbers)
    assert order.due_ns is None
    assert arrive(order, repeated) == [[repeated]]


def _numbers(value: Value) -> list[int]:
    return [e.first_number for e in value.entries if isinstance(e, CommandBatch)]


def _proposed(bench: ProposerBench) -> list[int]:
    reign = bench.proposer._reign
    assert reign is not None
    return [n for i in reign._pipeline.open.values() for n in _numbers(decode_value(i.value))]


def test_the_master_proposes_in_order(bench: ProposerBench) -> None:
    bench.serve()
    for number in (1, 3, 2):
        bench.ask(number)
    assert _proposed(bench) == [1, 2, 3]


def test_the_master_gives_up_waiting_at_its_deadline(bench: ProposerBench) -> None:
    bench.serve()
    bench.ask(1)
    bench.ask(3)
    due_ns = bench.now_ns + WAIT_NS
    deadline_ns = bench.proposer.deadline_ns
    assert deadline_ns is not None
    assert deadline_ns <= due_ns
    bench.proposer.on_deadline(due_ns)
    assert _proposed(bench) == [1, 3]


def test_a_master_that_steps_down_redirects_what_waits(bench: ProposerBench) -> None:
    bench.serve()
    bench.ask(1)
    bench.ask(3)
    effects = bench.proposer.on_deadline(bench.now_ns + 60_000 * MS)
    assert sorted(r.request_id for r in sent(effects, Redirected)) == [1, 3]
    assert bench.proposer._order.due_ns is None


@pytest.fixture
def bench() -> ProposerBench:
    return ProposerBench()


def test_a_copy_of_what_waits_is_not_answered_apart(order: SessionOrder) -> None:
    # Found by hypothesis: passed on, it was redirected, and what waited was redirected once more.
    arrive(order, 1)
    assert arrive(order, 3, 3) == [[], []]
    assert firsts(order.drain()) == [3]


def test_another_request_with_the_number_of_one_that_waits_goes_on(order: SessionOrder) -> None:
    arrive(order, 1, 3)
    other = Submit(99, request(3).batches)
    assert order.arrive(client(), other, 0) == [Arrival(client(), other)]


def test_a_copy_that_came_before_the_answer_is_not_proposed_after_it(bench: ProposerBench) -> None:
    """Found by seed 2263 of the simulator: the answer to one copy is the answer to both, so nobody
    waited for the one that was put into order, and a command was applied after its time was over,
    when its client had been told that it never would be."""
    record = bench.serve()
    for number in (1, 2, 3):
        bench.ask(number)
    # The refusal of a later one makes the order forget how far the session is.
    bench.receive(client(), submit(4, commands("x" * 700, 4)))
    for copy in (1, 3):
        bench.ask(copy)
    for instance_id in range(record + 1, record + 4):
        bench.own_learner_takes(bench.accepted(instance_id, 1, 2))
    assert bench.answers == Counter({(client(), number): 1 for number in (1, 2, 3, 4)})
    bench.proposer.on_deadline(bench.now_ns + WAIT_NS)
    assert _proposed(bench) == []
