"""The vote floor rises over what is durable here and, by a master's word, at a majority."""

from __future__ import annotations

from ray_paxos.core.learner_messages import RaiseVoteFloor
from ray_paxos.core.settings import LearnerSettings
from ray_paxos.core.vote_floor import VoteFloor
from tests.unit.core_helpers import MS

RETRY_NS = 300 * MS


def floor() -> VoteFloor:
    return VoteFloor(LearnerSettings(catch_up_retry_ns=RETRY_NS))


def test_both_must_be_durable() -> None:
    one = floor()
    assert one.take_due(9, 0) is None
    one.note_majority_durable(5)
    one.note_majority_durable(4)
    assert one.take_due(0, 0) is None
    assert one.take_due(9, 0) == RaiseVoteFloor(6)
    one.raised(6)
    one.note_majority_durable(20)
    assert one.take_due(9, 0) == RaiseVoteFloor(10)


def test_it_is_asked_for_again_only_after_a_while_and_not_once_it_is_there() -> None:
    one = floor()
    one.note_majority_durable(5)
    assert one.take_due(9, 7) == RaiseVoteFloor(6)
    assert one.due_ns == 7 + RETRY_NS
    assert one.take_due(9, 6 + RETRY_NS) is None
    assert one.take_due(9, 7 + RETRY_NS) == RaiseVoteFloor(6)
    one.raised(6)
    one.raised(3)
    assert one.confirmed == 6
    assert one.due_ns is None
    assert one.take_due(9, 10**15) is None
