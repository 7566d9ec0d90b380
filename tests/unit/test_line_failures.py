"""A line to a proposer whose calls fail, or that has to be looked up again; no threads."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, RaySystemError

from ray_paxos.actors.found_actor import CallFailedError, NotConnectedError
from ray_paxos.actors.role_line import CALLS_MAX, OWED_S
from tests.unit.line_bench import Exchange, Harness


@pytest.fixture
def played() -> Harness:
    return Harness()


# Calls that fail.


@pytest.mark.parametrize(
    "error", [ActorDiedError(), ActorUnavailableError("restarting", None), RaySystemError("no")]
)
def test_a_call_that_fails_loses_all_that_is_owed(played: Harness, error: Exception) -> None:
    played.two.put(9)
    (first,) = played.turn()
    played.send(7, 8)
    first.set_exception(error)
    assert played.turn() == [], "nothing is owed any more"
    assert played.one.heard == [("lost", 7), ("lost", 8)]
    assert played.two.heard == [("lost", 9)]
    assert type(error).__name__ in played.one.whys[0]


def test_an_answer_after_all_was_lost_is_for_nobody(played: Harness) -> None:
    first, second = played.send(7), played.send(8)
    first.set_exception(ActorUnavailableError("restarting", None))
    second.answers((1, 7), (1, 8))
    played.turn()
    assert played.one.heard == [("lost", 7), ("lost", 8)]


@pytest.mark.parametrize("garbage", [b"", b"\x07abc", b"\x01\xff", b"\x00\xff", b"\x03\xff"])
def test_an_answer_that_is_none_of_ours_is_a_failure(played: Harness, garbage: bytes) -> None:
    played.send(7).set_result(garbage)
    played.turn()
    assert played.one.heard == [("lost", 7)]
    assert played.send(8).handle == "handle 1"


def test_a_dead_actor_is_looked_up_again_and_an_unavailable_one_is_not(played: Harness) -> None:
    exchange = played.send(7)
    assert played.line.handle == exchange.handle == "handle 1"
    exchange.set_exception(ActorUnavailableError("restarting", None))
    played.turn()
    exchange = played.send(8)
    assert exchange.handle == "handle 1"
    exchange.set_exception(ActorDiedError())
    played.turn()
    assert played.line.handle is None
    assert played.send(9).handle == "handle 2"
    assert played.proposers.finds == [1, 1]


def test_a_lone_call_that_finds_the_actor_dead_has_it_looked_up_again(played: Harness) -> None:
    played.send(7).answers((1, 7))
    played.turn()
    played.line.note_failure(ActorUnavailableError("restarting", None), played.line.handle)
    assert played.line.handle == "handle 1"
    played.line.note_failure(ActorDiedError(), played.line.handle)
    assert played.send(8).handle == "handle 2"
    assert played.one.heard == [("answered", 7)]


@pytest.mark.parametrize("error", [ActorDiedError(), NotConnectedError("left")])
def test_a_call_that_cannot_be_made_has_failed_and_nobody_has_taken_what_it_carries(
    played: Harness, error: Exception
) -> None:
    played.send(7)
    played.proposers.refusing = error
    played.one.put(8)
    assert played.turn() == []
    assert played.one.heard == [("not taken", 8), ("lost", 7)]
    played.proposers.refusing = None
    for number in range(10, 10 + CALLS_MAX - 1):
        played.send(number)
    played.one.put(20)
    assert played.turn() == [], "the call that was never made takes nobody's place"


def test_of_a_copy_that_cannot_be_sent_only_that_is_not_taken(played: Harness) -> None:
    (earlier,) = played.one.put(7)
    played.turn()
    played.proposers.refusing = NotConnectedError("left")
    (later,) = played.one.put(7)
    played.turn()
    assert played.one.told == [("not taken", later), ("lost", earlier)]


def test_a_call_of_which_nobody_knows_whether_it_was_made_is_lost(played: Harness) -> None:
    played.send(7)
    played.proposers.refusing = CallFailedError("the connection was lost just now")
    played.one.put(8)
    assert played.turn() == []
    assert played.one.heard == [("lost", 7), ("lost", 8)]
    assert played.line.handle == "handle 1"


def test_a_role_that_does_not_serve_has_not_taken_what_the_call_carried(played: Harness) -> None:
    first, second = played.send(7), played.send(8)
    second.is_opening()
    assert played.turn() == []
    assert played.one.heard == [("not taken", 8), ("lost", 7)]
    assert all("opening: held" in why for why in played.one.whys)
    first.answers()
    assert played.turn() == []


# Another handle.


def look_up_anew(played: Harness) -> Exchange:
    """A lone call finds the actor dead; request 8 leaves over the next handle."""
    played.line.note_failure(ActorDiedError(), played.line.handle)
    exchange = played.send(8)
    assert exchange.handle == "handle 2"
    return exchange


def test_a_lone_call_over_an_older_handle_leaves_the_later_one(played: Harness) -> None:
    older = played.send(7).handle
    look_up_anew(played)
    played.line.note_failure(ActorDiedError(), older)
    assert played.line.handle == "handle 2"
    assert played.one.heard == [("lost", 7)], "with the proposer that was gone"


def fail(exchange: Exchange) -> None:
    exchange.set_exception(ActorDiedError())


@pytest.mark.parametrize("end", [fail, Exchange.is_opening], ids=["failed", "not serving"])
def test_what_fails_over_an_older_handle_loses_only_what_went_over_that(
    played: Harness, end: Callable[[Exchange], None]
) -> None:
    first, second = played.send(6), played.send(7)
    later = look_up_anew(played)
    end(first)
    played.turn()
    assert sorted(number for _, number in played.one.heard) == [6, 7]
    assert played.line.handle == "handle 2"
    end(second)
    later.answers((1, 8))
    played.turn()
    assert played.one.heard[2:] == [("answered", 8)]


@pytest.mark.parametrize("end", [fail, Exchange.is_opening], ids=["failed", "not serving"])
def test_a_request_that_is_sent_again_over_another_handle_is_owed_by_that_one_only(
    played: Harness, end: Callable[[Exchange], None]
) -> None:
    (earlier,) = played.one.put(7)
    (first,) = played.turn()
    look_up_anew(played)
    (later,) = played.one.put(7)
    (second,) = played.turn()
    assert played.one.told == [("lost", earlier)]
    end(first)
    played.turn()
    assert len(played.one.told) == 1, "the later copy is not lost with it"
    second.answers((1, 7))
    played.turn()
    assert played.one.told[1:] == [("answered", later)]


@pytest.mark.parametrize("error", [NotConnectedError("left"), CallFailedError("who knows")])
def test_what_is_owed_over_an_older_handle_is_not_asked_for_in_a_loop(
    played: Harness, error: Exception
) -> None:
    older = played.send(7)
    later = look_up_anew(played)
    older.answers()
    later.answers((1, 8))
    played.proposers.refusing = error
    played.turn()
    played.time_passes(OWED_S)
    assert sorted(played.one.heard) == [("answered", 8), ("lost", 7)]


# Looking the proposer up.


@pytest.mark.parametrize(
    "error", [ValueError("no actor"), RaySystemError("no GCS"), RuntimeError("who knows")]
)
def test_where_no_proposer_is_found_nothing_was_taken(played: Harness, error: Exception) -> None:
    played.proposers.missing = error
    played.one.put(7)
    played.two.put(8)
    assert played.turn() == []
    assert played.one.heard == [("not taken", 7)]
    assert played.two.heard == [("not taken", 8)]
    assert type(error).__name__ in played.one.whys[0]
    assert played.proposers.finds == [1], "not before there is something to send again"
    played.proposers.missing = None
    played.send(9)


@pytest.mark.parametrize("error", [ValueError("no actor"), RuntimeError("who knows")])
def test_a_proposer_that_is_nowhere_is_not_looked_up_for_what_it_owes(
    played: Harness, error: Exception
) -> None:
    played.send(7).answers()
    played.proposers.missing = error
    played.line.note_failure(ActorDiedError(), played.line.handle)
    assert played.turn() == []
    assert played.one.heard == [("lost", 7)]
    assert played.proposers.finds == [1], "not before there is something to send"


def test_a_proposer_is_looked_up_once_at_a_time(played: Harness) -> None:
    played.lookup.is_holding = True
    for number in (7, 8):
        played.one.put(number)
        assert played.turn() == []
    played.lookup.release()
    (exchange,) = played.turn()
    assert exchange.carried == [(1, 7), (1, 8)]
    assert played.proposers.finds == [1]
