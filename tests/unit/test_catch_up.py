"""Catching up: one question at a time, another member when one does not help, never in a circle."""

from __future__ import annotations

import random

import pytest

from ray_paxos.core.catch_up import CatchUpPlan
from ray_paxos.core.learner_messages import (
    LearnReply,
    LearnRequest,
)
from ray_paxos.core.messages import (
    Address,
    RoleName,
)
from ray_paxos.core.settings import LearnerSettings
from tests.unit.core_helpers import MS, checkpointer_of, chosen, learner_of

RETRY_NS = 300 * MS
SETTINGS = LearnerSettings(catch_up_bytes_max=7_000, catch_up_retry_ns=RETRY_NS)


def plan(*members: int, seed: int = 1) -> CatchUpPlan:
    """Of member 1."""
    return CatchUpPlan(
        member_id=1, members=members or (1, 2, 3), settings=SETTINGS, random=random.Random(seed)
    )


def values(
    first: int, last: int, *, learned: int, memory_floor: int = 1, wait_ms: int = 0
) -> LearnReply:
    contiguous = tuple(chosen(i) for i in range(first, last + 1))
    return LearnReply(first, contiguous, learned, memory_floor, 1, wait_ms)


def nothing(first: int, *, learned: int = 0, memory_floor: int = 1, wait_ms: int = 0) -> LearnReply:
    return LearnReply(first, (), learned, memory_floor, 1, wait_ms)


def asked(question: tuple[Address, LearnRequest] | None) -> Address:
    assert question is not None
    return question[0]


def test_nothing_is_asked_while_nobody_has_more() -> None:
    idle = plan()
    assert idle.ask(0, 0) is None
    idle.aim(5, (2,))
    assert idle.ask(5, 0) is None
    assert idle.ask(9, 0) is None
    assert idle.retry_ns is None


def test_who_said_it_has_more_is_asked_first_for_what_comes_next() -> None:
    for source in (2, 3):
        behind = plan()
        behind.aim(9, (source,))
        to, request = asked(question := behind.ask(4, 10)), question[1] if question else None
        assert to == learner_of(source)
        assert request == LearnRequest(5, 7_000)
        assert behind.retry_ns == 10 + RETRY_NS


def test_after_a_rest_it_begins_anew() -> None:
    behind = plan()
    behind.aim(9, (2,))
    asked(behind.ask(4, 0))
    behind.rest()
    assert behind.retry_ns is None
    assert behind.answered(learner_of(2), values(5, 6, learned=9), 6, 1) is None, "late"
    assert behind.retry_ns is None
    to, request = behind.ask(6, 2) or (None, None)
    assert to in (learner_of(2), learner_of(3))
    assert request == LearnRequest(7, 7_000)


def test_one_question_at_a_time() -> None:
    behind = plan()
    behind.aim(9, (2,))
    assert behind.ask(0, 0) is not None
    behind.aim(20, (3,))
    assert behind.ask(0, RETRY_NS - 1) is None
    assert behind.ask(3, RETRY_NS - 1) is None, "also after others told some of it"


def test_a_lost_reply_makes_it_ask_another_member() -> None:
    for seed in range(10):
        behind = plan(seed=seed)
        behind.aim(9, (2,))
        assert asked(behind.ask(0, 0)) == learner_of(2)
        assert asked(behind.ask(0, RETRY_NS)) == learner_of(3)
        assert asked(behind.ask(0, 2 * RETRY_NS)) == learner_of(2)


def test_a_member_that_never_answers_is_not_asked_again_because_it_is_ahead() -> None:
    # Its heartbeats come through and name it as the source every time; its learner is away.
    behind = plan()
    answered_by = set()
    for round in range(6):
        behind.aim(9 + round, (2,))
        answered_by.add(asked(behind.ask(0, round * RETRY_NS)))
    assert learner_of(3) in answered_by


def test_with_one_other_member_it_is_asked_again() -> None:
    behind = plan(1, 2)
    behind.aim(9, (2,))
    assert asked(behind.ask(0, 0)) == learner_of(2)
    assert asked(behind.ask(0, RETRY_NS)) == learner_of(2)


def test_an_overdue_answer_is_told_of_who_owes_it() -> None:
    behind = plan()
    assert behind.unanswered(RETRY_NS) is None, "nobody was asked"
    behind.aim(9, (2,))
    behind.ask(0, 0)
    assert behind.unanswered(RETRY_NS - 1) is None
    assert behind.unanswered(RETRY_NS) == 2
    behind.ask(0, RETRY_NS)
    assert behind.unanswered(RETRY_NS) is None
    assert behind.unanswered(2 * RETRY_NS) == 3


def test_a_group_of_one_has_nobody_to_ask() -> None:
    alone = plan(1)
    alone.aim(9, (1,))
    assert alone.ask(0, 0) is None
    assert alone.retry_ns is None


def test_its_own_member_is_never_asked_and_strangers_that_are_named_are() -> None:
    for seed in range(10):
        behind = plan(seed=seed)
        behind.aim(9, (1, 77, 3))
        assert asked(behind.ask(0, 0)) == learner_of(77), "one that joined later"
        assert asked(behind.ask(0, RETRY_NS)) == learner_of(3)
        assert asked(behind.ask(0, 2 * RETRY_NS)) == learner_of(2)
        behind.aim(9, (77,))
        assert asked(behind.ask(0, 3 * RETRY_NS)) == learner_of(77), "the answer may be lost"


def test_a_useful_answer_is_followed_by_the_next_question_to_the_same_member() -> None:
    behind = plan()
    behind.aim(9, (2,))
    behind.ask(0, 0)
    question = behind.answered(learner_of(2), values(1, 4, learned=9), 4, 50)
    assert question == (learner_of(2), LearnRequest(5, 7_000))
    assert behind.retry_ns == 50 + RETRY_NS
    assert behind.answered(learner_of(2), values(5, 9, learned=9), 9, 60) is None
    assert behind.retry_ns is None


def test_an_answer_tells_how_far_its_sender_is() -> None:
    behind = plan()
    behind.aim(4, (2,))
    behind.ask(0, 0)
    question = behind.answered(learner_of(2), values(1, 4, learned=30), 4, 50)
    assert question == (learner_of(2), LearnRequest(5, 7_000))
    assert behind.target == 30


def test_what_left_the_memory_of_a_learner_is_for_its_checkpointer_to_send() -> None:
    behind = plan()
    behind.aim(90, (2,))
    behind.ask(4, 0)
    question = behind.answered(learner_of(2), nothing(5, learned=90, memory_floor=40), 4, 10)
    assert question == (checkpointer_of(2), LearnRequest(5, 7_000))
    reply = values(5, 20, learned=60, memory_floor=0)
    question = behind.answered(checkpointer_of(2), reply, 20, 20)
    assert question == (learner_of(2), LearnRequest(21, 7_000))
    question = behind.answered(learner_of(2), nothing(21, learned=90, memory_floor=40), 20, 30)
    assert question == (checkpointer_of(2), LearnRequest(21, 7_000))


def test_a_checkpointer_that_has_nothing_sends_it_to_another_member() -> None:
    behind = plan()
    behind.aim(90, (2,))
    behind.ask(4, 0)
    behind.answered(learner_of(2), nothing(5, learned=90, memory_floor=40), 4, 10)
    assert behind.answered(checkpointer_of(2), nothing(5, memory_floor=0), 4, 20) is None
    assert asked(behind.ask(4, 10 + RETRY_NS)) == learner_of(3)


def test_a_member_without_anything_new_is_not_asked_in_a_circle() -> None:
    behind = plan()
    behind.aim(90, (2,))
    behind.ask(4, 0)
    assert behind.answered(learner_of(2), nothing(5, learned=3), 4, 10) is None
    assert behind.ask(4, 11) is None, "it waits for its time"
    assert asked(behind.ask(4, RETRY_NS)) == learner_of(3)


def test_an_answer_with_values_but_nothing_new_is_not_followed_at_once() -> None:
    # Values that do not start where asked, or that were dropped: the same question would get the
    # same answer, without a pause, for ever.
    behind = plan()
    behind.aim(90, (2,))
    behind.ask(4, 0)
    useless = LearnReply(5, (chosen(3), chosen(4)), 90, 1, 1)
    assert behind.answered(learner_of(2), useless, 4, 10) is None
    assert behind.ask(4, 11) is None
    assert asked(behind.ask(4, RETRY_NS)) == learner_of(3)


@pytest.mark.parametrize(
    ("sender", "first"),
    [(learner_of(3), 5), (checkpointer_of(2), 5), (learner_of(2), 1)],
    ids=["from another member", "from another role", "to an earlier question"],
)
def test_an_answer_to_another_question_starts_no_second_one(sender: Address, first: int) -> None:
    behind = plan()
    behind.aim(90, (2,))
    behind.ask(4, 0)
    assert behind.answered(sender, values(first, 9, learned=90), 9, 10) is None
    assert behind.ask(9, 11) is None, "the open question stays"
    assert behind.ask(9, RETRY_NS) is not None


def test_a_repeated_answer_is_answered_once() -> None:
    behind = plan()
    behind.aim(90, (2,))
    behind.ask(0, 0)
    reply = values(1, 4, learned=90)
    assert behind.answered(learner_of(2), reply, 4, 10) is not None
    assert behind.answered(learner_of(2), reply, 4, 11) is None


def test_a_lower_aim_changes_nothing() -> None:
    behind = plan()
    behind.aim(9, (2,))
    behind.aim(7, (3,))
    assert behind.target == 9
    assert asked(behind.ask(0, 0)) == learner_of(2)


def test_every_member_gets_its_turn() -> None:
    behind = plan(1, 2, 3, 4, 5)
    behind.aim(9, ())
    turns = {asked(behind.ask(0, n * RETRY_NS)).member_id for n in range(60)}
    assert turns == {2, 3, 4, 5}
    assert all(asked(behind.ask(0, n * RETRY_NS)).role is RoleName.LEARNER for n in range(60, 70))


# Answers that are held back, and members that want to be spared.


def test_only_the_answer_that_is_waited_for_is_one() -> None:
    behind = plan()
    behind.aim(90, (2,))
    assert not behind.is_answer(learner_of(2), values(5, 9, learned=90)), "nothing is asked yet"
    behind.ask(4, 0)
    assert behind.is_answer(learner_of(2), values(5, 9, learned=90))
    assert behind.is_answer(learner_of(2), nothing(5))
    assert not behind.is_answer(learner_of(3), values(5, 9, learned=90))
    assert not behind.is_answer(checkpointer_of(2), values(5, 9, learned=90))
    assert not behind.is_answer(learner_of(2), values(4, 9, learned=90))
    behind.rest()
    assert not behind.is_answer(learner_of(2), values(5, 9, learned=90))


def test_while_an_answer_is_held_back_no_time_runs() -> None:
    behind = plan()
    behind.aim(90, (2,))
    behind.ask(4, 0)
    behind.hold()
    assert behind.retry_ns is None
    question = behind.answered(learner_of(2), values(5, 9, learned=90), 9, 8 * RETRY_NS)
    assert question == (learner_of(2), LearnRequest(10, 7_000))


def test_an_answer_that_was_held_and_is_no_good_is_not_asked_for_again_at_once() -> None:
    behind = plan()
    behind.aim(90, (2,))
    behind.ask(4, 0)
    behind.hold()
    behind.pass_over(50)
    assert behind.ask(4, 51) is None
    assert behind.retry_ns == 50 + RETRY_NS
    assert asked(behind.ask(4, 50 + RETRY_NS)) == learner_of(3)


def test_passing_over_an_answer_does_not_prolong_the_wait() -> None:
    behind = plan()
    behind.aim(90, (2,))
    behind.ask(4, 0)
    for now_ns in range(10, RETRY_NS, RETRY_NS // 7):
        behind.pass_over(now_ns)
    assert behind.retry_ns == RETRY_NS


def test_who_wants_to_be_spared_is_asked_on_after_that_time() -> None:
    behind = plan()
    behind.aim(90, (2,))
    behind.ask(4, 0)
    reply = values(5, 9, learned=90, wait_ms=700)
    assert behind.answered(learner_of(2), reply, 9, 10 * MS) is None
    assert behind.retry_ns == 710 * MS
    assert behind.ask(9, 709 * MS) is None
    assert behind.ask(9, 710 * MS) == (learner_of(2), LearnRequest(10, 7_000)), "the same one"
    assert behind.ask(9, 710 * MS + RETRY_NS) == (learner_of(3), LearnRequest(10, 7_000))


def test_a_checkpointer_that_wants_to_be_spared_hands_back_to_its_learner() -> None:
    behind = plan()
    behind.aim(90, (2,))
    behind.ask(4, 0)
    behind.answered(learner_of(2), nothing(5, learned=90, memory_floor=40, wait_ms=20), 4, 0)
    assert behind.ask(4, 20 * MS) == (checkpointer_of(2), LearnRequest(5, 7_000))
    reply = values(5, 20, learned=60, memory_floor=0, wait_ms=30)
    assert behind.answered(checkpointer_of(2), reply, 20, 20 * MS) is None
    assert behind.ask(20, 50 * MS) == (learner_of(2), LearnRequest(21, 7_000))
