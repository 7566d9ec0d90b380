"""A chunk of another's log counts on a second member's word, or on nobody's left to ask."""

from __future__ import annotations

import pytest

from ray_paxos.core.checkpoint_messages import ChainReply, ChainRequest
from ray_paxos.core.chunk_check import ChunkCheck, Difference, HeldChunk
from ray_paxos.core.learner_messages import LearnReply
from ray_paxos.core.messages import Address
from ray_paxos.core.settings import LearnerSettings
from ray_paxos.core.values import EMPTY_CHAIN
from tests.unit.core_helpers import MS, checkpointer_of, chosen, learner_of
from tests.unit.learner_bench import chain_through

RETRY_NS = 300 * MS
SETTINGS = LearnerSettings(catch_up_retry_ns=RETRY_NS)


def given(first: int, last: int) -> LearnReply:
    return LearnReply(first, tuple(chosen(i) for i in range(first, last + 1)), 99, 1, 1)


def held(*others: int, first: int = 4, last: int = 9, learned: int = 3, master: int = 0):
    """A chunk that member 1 gave is held back."""
    check = ChunkCheck(others or (1, 3, 4), SETTINGS)
    chain = chain_through(learned)
    check.hold(learner_of(1), given(first, last), learned, chain, master)
    return check


def reply(chain: bytes | None, *, end: int = 9, learned: int = 99, floor: int = 1) -> ChainReply:
    return ChainReply(end, chain, learned, floor)


def test_nothing_is_held_and_nothing_is_due() -> None:
    check = ChunkCheck((1, 3), SETTINGS)
    assert not check.is_waiting
    assert check.due_ns is None
    assert check.next_question(0) is None
    assert check.answered(learner_of(3), reply(EMPTY_CHAIN)) is None


def test_the_chain_at_its_end_is_asked_of_another_member_than_gave_it() -> None:
    check = held()
    assert check.is_waiting
    assert check.next_question(7) == (learner_of(3), ChainRequest(9))
    assert check.due_ns == 7 + RETRY_NS
    verdict = check.answered(learner_of(3), reply(chain_through(9)))
    assert verdict == HeldChunk(learner_of(1), given(4, 9), 9, chain_through(9))
    assert not check.is_waiting
    assert check.due_ns is None


def test_values_that_are_learned_already_are_not_chained_twice() -> None:
    check = held(first=2, learned=5)
    check.next_question(0)
    assert isinstance(check.answered(learner_of(3), reply(chain_through(9))), HeldChunk)


def test_the_master_is_asked_first() -> None:
    question = held(master=4).next_question(0)
    assert question == (learner_of(4), ChainRequest(9))
    question = held(master=1).next_question(0)
    assert question == (learner_of(3), ChainRequest(9)), "it gave the chunk"


def test_another_chain_is_a_difference_and_the_chunk_is_gone() -> None:
    check = held()
    check.next_question(0)
    verdict = check.answered(learner_of(3), reply(b"another"))
    assert verdict == Difference(9, 1, chain_through(9), 3, b"another")
    assert not check.is_waiting


@pytest.mark.parametrize(
    ("sender", "answer"),
    [
        (learner_of(4), reply(chain_through(9))),
        (learner_of(1), reply(chain_through(9))),
        (checkpointer_of(3), reply(chain_through(9))),
        (learner_of(3), reply(chain_through(9), end=8)),
    ],
    ids=["another member", "who gave it", "another role", "another instance"],
)
def test_an_answer_that_was_not_asked_for_decides_nothing(
    sender: Address, answer: ChainReply
) -> None:
    check = held()
    check.next_question(0)
    assert check.answered(sender, answer) is None
    assert check.is_waiting
    assert check.due_ns == RETRY_NS, "the question is still open"


def test_who_is_behind_is_passed_over() -> None:
    check = held()
    check.next_question(0)
    assert check.answered(learner_of(3), reply(None, learned=5)) is None
    assert check.due_ns is None, "go on at once"
    assert check.next_question(1) == (learner_of(4), ChainRequest(9))


def test_what_left_a_learners_memory_is_asked_of_its_checkpointer() -> None:
    check = held()
    check.next_question(0)
    check.answered(learner_of(3), reply(None, floor=10))
    assert check.next_question(1) == (checkpointer_of(3), ChainRequest(9))
    check.answered(checkpointer_of(3), reply(None, floor=10))
    assert check.next_question(2) == (learner_of(4), ChainRequest(9)), "not in a circle"
    assert isinstance(check.answered(learner_of(4), reply(chain_through(9))), HeldChunk)


def test_with_nobody_left_it_is_taken_on_one_members_word() -> None:
    check = held()
    assert check.next_question(0) is not None
    assert check.next_question(RETRY_NS) == (learner_of(4), ChainRequest(9)), "3 did not answer"
    assert check.next_question(2 * RETRY_NS) is None
    assert check.is_waiting
    assert check.take().end == 9
    assert not check.is_waiting
    assert check.due_ns is None


def test_it_is_not_taken_while_somebody_may_answer() -> None:
    with pytest.raises(AssertionError):
        held().take()


def test_of_two_members_there_is_only_one_word() -> None:
    check = held(1)
    assert check.next_question(0) is None
    assert check.take().end == 9


def test_a_dropped_chunk_is_gone() -> None:
    check = held()
    check.next_question(0)
    check.drop()
    assert not check.is_waiting
    assert check.due_ns is None
    assert check.answered(learner_of(3), reply(chain_through(9))) is None
