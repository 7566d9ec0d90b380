"""The predicates that tests and simulator share, each against a state that breaks it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ray_paxos.core.acceptor_state import AcceptorState, GroupVotes
from ray_paxos.core.ballot import Ballot
from ray_paxos.core.genesis import Configuration, Voter
from ray_paxos.core.invariants import (
    acceptor_forgot,
    is_below,
    status_contradicts,
    votes_contradict,
    vouches_too_early,
)
from ray_paxos.core.learner_messages import (
    ChainPoint,
    LearnerStatus,
    VoteFloorRaised,
)
from ray_paxos.core.messages import (
    Accepted,
    BelowFloor,
    HeartbeatConfirmed,
    Nack,
    NackReason,
    Promise,
    Vote,
)
from ray_paxos.core.values import EMPTY_CHAIN

LOW, HIGH = Ballot(1, 1, 1), Ballot(2, 1, 1)
CONFIGURATION = Configuration(0, (Voter(1, 1), Voter(2, 2), Voter(3, 3)))


def votes(**changes) -> GroupVotes:
    held = GroupVotes(1, CONFIGURATION, 5, LOW, 0, {5: Vote(5, LOW, b"v"), 6: Vote(6, LOW, b"w")})
    return replace(held, **changes)


def state(held: GroupVotes) -> AcceptorState:
    return AcceptorState({0: held}, {7: 2})


def test_below():
    assert is_below(None, LOW)
    assert is_below(LOW, HIGH)
    assert not is_below(LOW, LOW)


def test_votes_agree_with_promise_and_floor():
    assert votes_contradict(votes()) == ""
    assert "promise" in votes_contradict(votes(promise=None))
    assert "below its floor" in votes_contradict(votes(floor=6))
    held = votes()
    held.voted_through = 5
    assert "voted through 5" in votes_contradict(held)


@pytest.mark.parametrize(
    ("later", "what"),
    [
        (votes(promise=None), "promise"),
        (votes(floor=4), "vote floor"),
        (votes(votes={5: Vote(5, LOW, b"v")}), "is gone"),
        (votes(votes={5: Vote(5, LOW, b"v"), 6: Vote(6, LOW, b"x")}), "another value"),
        (
            votes(votes={5: Vote(5, Ballot(0, 1, 1), b"v"), 6: Vote(6, LOW, b"w")}),
            "is now Ballot",
        ),
    ],
)
def test_what_an_acceptor_forgot(later, what):
    assert what in acceptor_forgot(state(votes()), state(later))


def test_what_an_acceptor_may_lose():
    assert acceptor_forgot(state(votes()), state(votes(promise=HIGH))) == ""
    passed = votes(floor=7, votes={})
    assert acceptor_forgot(state(votes()), state(passed)) == ""
    removed = AcceptorState({}, {0: 1, 7: 2})
    assert acceptor_forgot(state(votes()), removed) == ""
    assert "tombstone" in acceptor_forgot(state(votes()), AcceptorState({}, {7: 2}))
    assert "tombstone" in acceptor_forgot(state(votes()), AcceptorState({0: votes()}, {}))


TOLD = (Vote(5, LOW, b"v"), Vote(6, LOW, b"w"))


@pytest.mark.parametrize(
    ("message", "durable", "what"),
    [
        (Promise(HIGH, 5, 5, TOLD, None), votes(), "promises"),
        (Promise(HIGH, 5, 6, TOLD, None), votes(promise=HIGH), "vote floor"),
        (Promise(HIGH, 5, 5, TOLD[:1], None), votes(promise=HIGH), "without its vote at 6"),
        (Promise(HIGH, 5, 5, (*TOLD, Vote(7, LOW, b"u")), None), votes(promise=HIGH), "at 7"),
        (Accepted(HIGH, 5), votes(), "durable promise"),
        (Accepted(LOW, 7), votes(), "durable vote"),
        (HeartbeatConfirmed(HIGH, 1), votes(), "confirms"),
        (Nack(LOW, 5, NackReason.PROMISED, HIGH, 0), votes(), "tells of the promise"),
        (BelowFloor(LOW, 5, 6), votes(), "vote floor"),
        (VoteFloorRaised(6), votes(), "vote floor"),
    ],
)
def test_what_vouches_too_early(message, durable, what):
    assert what in vouches_too_early(message, durable)


@pytest.mark.parametrize(
    "message",
    [
        Promise(HIGH, 5, 5, TOLD, None),
        Promise(HIGH, 5, 5, TOLD[:1], 6),
        Promise(HIGH, 6, 5, TOLD[1:], None),
        Accepted(LOW, 6),
        Accepted(LOW, 4),
        HeartbeatConfirmed(HIGH, 1),
        Nack(LOW, 5, NackReason.PROMISED, HIGH, 0),
        Nack(LOW, 5, NackReason.STORAGE_FULL, None, 0),
        BelowFloor(LOW, 4, 5),
        VoteFloorRaised(5),
    ],
)
def test_what_is_vouched_for(message):
    assert vouches_too_early(message, votes(promise=HIGH)) == ""


def test_positions_of_a_learner():
    point = ChainPoint(0, EMPTY_CHAIN, EMPTY_CHAIN)

    def status(learned: int, applied: int, durable: int) -> LearnerStatus:
        return LearnerStatus(learned, applied, durable, 1, point, 0, None, (), "")

    assert status_contradicts(status(5, 5, 5)) == ""
    assert "applied 6" in status_contradicts(status(5, 6, 5))
    assert "durable 6" in status_contradicts(status(5, 5, 6))
