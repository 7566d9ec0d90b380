"""A line to a proposer: what goes together, how many calls, and whose an answer is; no threads."""

from __future__ import annotations

import math

import pytest

from ray_paxos.actors.role_line import (
    ABANDONED_MAX,
    CALL_TIMEOUT_S,
    CALLS_MAX,
    FORGET_S,
    OWED_S,
)
from ray_paxos.core.client_calls import Call
from ray_paxos.core.wire import encode_envelope
from tests.unit.core_helpers import client, envelope, submit
from tests.unit.line_bench import Exchange, Harness


@pytest.fixture
def played() -> Harness:
    return Harness()


# What goes out.


def test_requests_that_wait_go_together(played: Harness) -> None:
    played.one.put(7, 8)
    played.two.put(7)
    (exchange,) = played.turn()
    assert exchange.carried == [(1, 7), (1, 8), (2, 7)]
    assert played.proposers.finds == [1]
    assert played.turn() == [], "nothing is left"


def test_a_call_carries_so_many_bytes_and_at_least_one_request() -> None:
    size = len(encode_envelope(envelope(client(1), submit(7))))
    played = Harness(call_bytes_max=2 * size)
    played.one.put(1, 2, 3)
    assert [each.carried for each in played.turn()] == [[(1, 1), (1, 2)], [(1, 3)]]
    tight = Harness(call_bytes_max=1)
    tight.one.put(1, 2)
    assert [each.carried for each in tight.turn()] == [[(1, 1)], [(1, 2)]]


def test_so_many_calls_are_on_their_way_and_what_waits_goes_into_the_next(played: Harness) -> None:
    exchanges = [played.send(number) for number in range(1, CALLS_MAX + 1)]
    for number in range(10, 15):
        played.one.put(number)
        assert played.turn() == []
    exchanges[0].answers()
    (following,) = played.turn()
    assert following.carried == [(1, number) for number in range(10, 15)]


def test_while_answers_are_owed_a_call_is_on_its_way(played: Harness) -> None:
    exchange = played.send(7)
    for _ in range(3):
        exchange.answers()
        (exchange,) = played.turn()
        assert exchange.carried == [], "which only asks"
    exchange.answers((1, 7))
    assert played.turn() == [], "nothing is owed"
    assert played.one.heard == [("answered", 7)]


def test_with_a_call_on_its_way_no_other_one_only_asks(played: Harness) -> None:
    first, second = played.send(7), played.send(8)
    first.answers()
    assert played.turn() == []
    second.answers()
    assert len(played.turn()) == 1


# Whose an answer is.


def test_an_answer_reaches_its_client_whichever_call_brings_it(played: Harness) -> None:
    played.two.put(7)
    (first,) = played.turn()
    second = played.send(7, 8)
    first.answers((1, 8))
    second.answers((2, 7), (1, 7))
    played.turn()
    assert played.one.heard == [("answered", 8), ("answered", 7)]
    assert played.two.heard == [("answered", 7)]


def test_a_copy_that_waits_still_is_replaced_by_a_later_one(played: Harness) -> None:
    played.lookup.is_holding = True
    (earlier,) = played.one.put(7)
    played.two.put(7)
    played.turn()
    (later,) = played.one.put(7)
    assert played.one.told == [("not taken", earlier)]
    assert played.one.whys == ["sent again"]
    played.lookup.release()
    (exchange,) = played.turn()
    assert sorted(exchange.carried) == [(1, 7), (2, 7)]
    exchange.answers((1, 7))
    played.turn()
    assert played.one.told[1:] == [("answered", later)]
    assert played.two.told == [], "whatever another client sends again"


def send_copies(played: Harness, count: int) -> tuple[list[Call], Exchange]:
    """Have so many copies of request 7 leave, each by a call; gives the last of these."""
    sent: list[Call] = []
    for _ in range(count):
        sent += played.one.put(7)
        (exchange,) = played.turn()
    return sent, exchange


def test_an_answer_to_several_copies_is_told_of_each_of_them(played: Harness) -> None:
    sent, exchange = send_copies(played, 3)
    exchange.answers((1, 7), copies=3)
    assert played.turn() == [], "nothing is owed"
    assert played.one.told == [("answered", call) for call in sent]


def test_an_answer_to_some_copies_is_told_of_the_oldest_and_the_others_are_owed(
    played: Harness,
) -> None:
    (first, second, third), exchange = send_copies(played, 3)
    exchange.answers((1, 7), copies=2)
    played.turn()
    assert played.one.told == [("answered", first), ("answered", second)]
    following = played.send(8)
    following.answers((1, 7))
    played.turn()
    assert played.one.told[2:] == [("answered", third)]
    assert [call.message.request_id for call in (first, second, third)] == [7, 7, 7]


def test_an_answer_to_more_copies_than_are_owed_is_told_of_these(played: Harness) -> None:
    (call,), exchange = send_copies(played, 1)
    exchange.answers((1, 7), copies=5)
    played.turn()
    assert played.one.told == [("answered", call)]


def test_an_answer_that_nobody_waits_for_is_dropped(played: Harness) -> None:
    exchange = played.send(7)
    exchange.answers((1, 9), (5, 7), (1, 7))
    played.turn()
    assert played.one.heard == [("answered", 7)]
    assert played.two.heard == []


# Time.


def test_a_call_that_takes_too_long_makes_room_and_may_still_answer(played: Harness) -> None:
    slow, *_ = [played.send(number) for number in range(1, CALLS_MAX)]
    played.time_passes(1.0)
    played.send(CALLS_MAX)
    played.one.put(10)
    assert played.turn() == []
    assert played.line.due == 1_000.0 + CALL_TIMEOUT_S
    (following,) = played.time_passes(CALL_TIMEOUT_S - 1.0)
    assert following.carried == [(1, 10)]
    slow.answers((1, CALLS_MAX))
    played.turn()
    assert played.one.heard[-1] == ("answered", CALLS_MAX), "whenever it comes"
    # One of the three abandoned ones has returned; those that count are two.
    for number in range(11, 11 + CALLS_MAX - 2):
        played.send(number)
    played.one.put(20)
    assert played.turn() == [], "it does not make room twice"


def abandon(played: Harness, count: int) -> list[Exchange]:
    """Leave so many calls without an answer for too long, the last one almost; gives them."""
    exchanges = [played.send(100)]
    for number in range(101, 100 + count):
        assert played.time_passes(CALL_TIMEOUT_S) == []
        exchanges.append(played.send(number))
    assert played.time_passes(CALL_TIMEOUT_S - 0.1) == []
    played.one.told.clear()
    return exchanges


def test_a_member_that_owes_too_many_answers_gets_nothing_more(played: Harness) -> None:
    exchanges = abandon(played, ABANDONED_MAX)
    last = played.send(8)
    assert played.time_passes(0.1) == [], "now it is one too many"
    played.two.put(9)
    assert played.two.heard == [("not taken", 9)], "at once"
    assert "too many" in played.two.whys[0]
    assert played.turn() == []
    last.answers()
    assert played.turn() == [], "8 is owed, and not asked for"
    exchanges[0].answers()
    (poll,) = played.turn()
    poll.answers((1, 8))
    played.turn()
    assert played.one.heard[-1] == ("answered", 8)
    played.send(11)


def test_what_waits_when_a_member_owes_too_many_is_not_taken(played: Harness) -> None:
    abandon(played, ABANDONED_MAX)
    for number in range(CALLS_MAX - 1):
        played.send(20 + number)
    played.one.put(8)
    played.two.put(9)
    assert played.turn() == []
    assert played.time_passes(0.1) == []
    assert played.one.heard[-1] == ("not taken", 8)
    assert played.two.heard == [("not taken", 9)]


def test_calls_that_nobody_ever_answers_are_forgotten_in_the_end(played: Harness) -> None:
    abandon(played, ABANDONED_MAX)
    played.time_passes(0.1)
    abandoned_first = 1_000.0 + CALL_TIMEOUT_S
    assert played.line.due == abandoned_first + FORGET_S
    played.now = abandoned_first + FORGET_S - 0.1
    assert played.turn() == []
    played.two.put(8)
    assert played.two.heard == [("not taken", 8)]
    played.time_passes(0.2)
    played.send(9)


def test_a_request_that_is_not_answered_for_long_is_lost_though_calls_return(
    played: Harness,
) -> None:
    calls = [played.send(7)]
    while calls and played.now < 1_000.0 + 2 * OWED_S:
        assert played.one.heard == []
        calls[0].answers()
        calls = played.time_passes(OWED_S / 3)
    assert played.now == 1_000.0 + OWED_S
    assert played.one.heard == [("lost", 7)]
    assert "gave up" in played.one.whys[0]
    assert played.line.due == math.inf


def test_an_answer_to_what_was_given_up_is_for_nobody(played: Harness) -> None:
    exchange = played.send(7)
    played.time_passes(OWED_S)
    exchange.answers((1, 7))
    played.turn()
    assert played.one.heard == [("lost", 7)]


def test_the_line_wants_to_be_called_when_a_request_is_to_be_given_up(played: Harness) -> None:
    exchange = played.send(7)
    played.time_passes(5.0)
    exchange.answers()
    played.turn()
    assert played.line.due == 1_000.0 + OWED_S, "before the call that waits now is abandoned"


def test_all_copies_are_given_up_so_long_after_the_last_one(played: Harness) -> None:
    (earlier,) = played.one.put(7)
    (first,) = played.turn()
    played.two.put(9)
    played.turn()
    first.answers()
    played.time_passes(OWED_S - 1.0)
    (later,) = played.one.put(7)
    played.turn()
    played.time_passes(1.0)
    assert played.one.told == []
    assert played.two.heard == [("lost", 9)], "what is sent again does not hide what is older"
    played.time_passes(OWED_S - 1.0)
    assert played.one.told == [("lost", earlier), ("lost", later)]


# A client that is gone.


def test_nothing_of_a_client_that_is_gone_is_sent_or_waited_for(played: Harness) -> None:
    first = played.send(7)
    played.two.put(7)
    (second,) = played.turn()
    played.lookup.is_holding = True
    played.one.put(8)
    played.two.put(8)
    played.line.forget(played.one)
    (third,) = played.turn()
    assert third.carried == [(2, 8)]
    first.answers((1, 7), (2, 7))
    played.turn()
    assert played.one.heard == []
    assert played.two.heard == [("answered", 7)]
    played.line.forget(played.two)
    second.answers()
    third.answers()
    assert played.turn() == [], "nobody waits"
