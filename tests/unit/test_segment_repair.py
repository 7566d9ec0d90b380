"""A damaged segment's instances are collected as a whole, from one member after the other."""

from __future__ import annotations

from ray_paxos.core.learner_messages import (
    LearnReply,
    LearnRequest,
)
from ray_paxos.core.segment_repair import RANGES_MAX, SegmentRepair
from ray_paxos.core.settings import LearnerSettings
from ray_paxos.core.tasks import ReplaceSegment
from tests.unit.core_helpers import (
    GROUP,
    MS,
    checkpointer_of,
    chosen,
    learner_of,
)

RETRY_NS = 300 * MS
SETTINGS = LearnerSettings(catch_up_bytes_max=7_000, catch_up_retry_ns=RETRY_NS)


def repair(*others: int) -> SegmentRepair:
    return SegmentRepair(GROUP, others or (1, 3), SETTINGS)


def given(first: int, last: int, *, wait_ms: int = 0, asked: int = 0) -> LearnReply:
    values = tuple(chosen(i) for i in range(first, last + 1))
    return LearnReply(asked or first, values, 99, 0, 1, wait_ms)


def whole(first: int, last: int) -> ReplaceSegment:
    return ReplaceSegment(GROUP, tuple(chosen(i) for i in range(first, last + 1)))


def test_nothing_is_asked_while_nothing_is_damaged() -> None:
    idle = repair()
    assert idle.take_question(0) is None
    assert idle.due_ns is None
    assert idle.current is None
    assert not idle.is_answer(checkpointer_of(1), given(5, 9))


def test_a_range_is_collected_from_another_members_segments() -> None:
    one = repair()
    one.want(5, 9, "5-9 has a wrong checksum")
    assert one.problem == "5-9 has a wrong checksum"
    assert one.take_question(0) == (checkpointer_of(1), LearnRequest(5, 7_000))
    assert one.due_ns == RETRY_NS
    assert one.take_question(RETRY_NS - 1) is None
    assert one.is_answer(checkpointer_of(1), given(5, 7))
    assert one.answered(checkpointer_of(1), given(5, 7), 50) == (
        checkpointer_of(1),
        LearnRequest(8, 7_000),
    )
    assert not one.is_answer(checkpointer_of(1), given(5, 7)), "twice"
    assert one.answered(checkpointer_of(1), given(8, 14), 60) == whole(5, 9), (
        "no more than the range"
    )
    assert one.due_ns is None
    assert one.take_question(10**15) is None, "it is being put in place"
    assert not one.is_answer(checkpointer_of(1), given(8, 9))
    assert one.replaced(whole(5, 9))
    assert one.current is None
    assert one.problem == ""


def test_a_learners_answer_is_none() -> None:
    one = repair()
    one.want(5, 9, "damaged")
    one.take_question(0)
    assert not one.is_answer(learner_of(1), given(5, 7))
    assert not one.is_answer(checkpointer_of(1), given(6, 7))


def test_a_lost_answer_sends_it_to_another_member_from_the_start() -> None:
    one = repair()
    one.want(5, 9, "damaged")
    one.take_question(0)
    one.answered(checkpointer_of(1), given(5, 7), 50)
    assert one.take_question(49 + RETRY_NS) is None
    assert one.take_question(50 + RETRY_NS) == (checkpointer_of(3), LearnRequest(5, 7_000))
    assert one.take_question(50 + 2 * RETRY_NS) == (checkpointer_of(1), LearnRequest(5, 7_000))


def test_an_answer_of_no_use_is_not_followed_by_the_same_question_at_once() -> None:
    for useless in (given(5, 4), given(7, 9, asked=5), given(1, 4, asked=5)):
        one = repair()
        one.want(5, 9, "damaged")
        one.take_question(0)
        assert one.answered(checkpointer_of(1), useless, 50) is None
        assert one.take_question(51) is None
        assert one.take_question(RETRY_NS) == (checkpointer_of(3), LearnRequest(5, 7_000))


def test_who_wants_to_be_spared_is_asked_on_after_that_time() -> None:
    one = repair()
    one.want(5, 9, "damaged")
    one.take_question(0)
    assert one.answered(checkpointer_of(1), given(5, 7, wait_ms=900), 0) is None
    assert one.due_ns == 900 * MS
    assert one.take_question(899 * MS) is None
    assert one.take_question(900 * MS) == (checkpointer_of(1), LearnRequest(8, 7_000))
    assert one.take_question(900 * MS + RETRY_NS) == (checkpointer_of(3), LearnRequest(5, 7_000))


def test_values_that_were_not_what_was_sealed_are_asked_of_another_member() -> None:
    one = repair()
    one.want(5, 9, "damaged")
    one.take_question(0)
    one.answered(checkpointer_of(1), given(5, 9), 0)
    one.failed(whole(5, 9), "what was fetched does not have its chain", 10)
    assert one.problem == "what was fetched does not have its chain"
    assert one.take_question(9 + RETRY_NS) is None
    assert one.take_question(10 + RETRY_NS) == (checkpointer_of(3), LearnRequest(5, 7_000))
    one.answered(checkpointer_of(1), given(5, 9), 0)
    one.failed(whole(5, 9), "again", 0)
    assert one.take_question(RETRY_NS) == (checkpointer_of(1), LearnRequest(5, 7_000))


def test_damaged_segments_are_mended_one_after_the_other() -> None:
    one = repair()
    one.want(5, 9, "first")
    one.want(20, 21, "second")
    one.want(5, 9, "first again")
    one.take_question(0)
    one.answered(checkpointer_of(1), given(5, 9), 0)
    assert one.replaced(whole(5, 9))
    assert one.problem, "not all is mended"
    assert one.take_question(0) == (checkpointer_of(1), LearnRequest(20, 7_000))
    assert one.answered(checkpointer_of(1), given(20, 30), 0) == whole(20, 21)
    assert one.replaced(whole(20, 21))
    assert one.problem == ""


def test_how_many_wait_is_bounded() -> None:
    one = repair()
    for first in range(1, 2 * RANGES_MAX):
        one.want(first, first, "damaged")
    assert len(one._ranges) == RANGES_MAX


def test_what_is_cut_off_needs_no_repair() -> None:
    one = repair()
    one.want(5, 9, "damaged")
    one.want(20, 29, "damaged")
    one.take_question(0)
    one.answered(checkpointer_of(1), given(5, 7), 0)
    one.drop_below(5)
    assert one.current == (5, 9)
    one.drop_below(10)
    assert one.current == (20, 29)
    assert one.problem
    assert one.take_question(0) == (checkpointer_of(1), LearnRequest(20, 7_000))
    one.drop_below(25)
    assert one.current == (20, 29), "its end is still in the log"
    one.drop_below(30)
    assert one.current is None
    assert one.problem == ""
    assert one.due_ns is None


def test_a_segment_that_is_cut_off_while_it_is_put_in_place_takes_no_other_with_it() -> None:
    for outcome in ("done", "failed"):
        one = repair()
        one.want(5, 9, "damaged")
        one.want(20, 29, "damaged too")
        one.take_question(0)
        one.answered(checkpointer_of(1), given(5, 9), 0)
        one.drop_below(10)
        if outcome == "done":
            assert not one.replaced(whole(5, 9))
        else:
            one.failed(whole(5, 9), "gone", 0)
        assert one.current == (20, 29)
        assert one.problem == "damaged too"
        assert one.take_question(0) is not None, "at once"
        one.drop_below(40)
        assert not one.replaced(whole(5, 9)), "with none left"


def test_what_another_member_has_cut_off_is_lost_there() -> None:
    one = repair()
    one.want(5, 9, "damaged")
    one.take_question(0)
    assert one.answered(checkpointer_of(1), LearnReply(5, (), 99, 0, 5), 0) is None
    assert one.cut_off_through == 0, "it begins there, and may have it later"
    one.answered(checkpointer_of(1), LearnReply(5, (), 99, 0, 6), 0)
    assert one.cut_off_through == 9, "it has a checkpoint instead"
    assert one.lost_through == 0, "another one may have it"
    one.answered(checkpointer_of(3), LearnReply(5, (), 99, 0, 6), 0)
    assert one.lost_through == 9
    one.answered(checkpointer_of(3), given(5, 9), 0)
    assert one.replaced(whole(5, 9)), "and yet it had it"
    assert one.cut_off_through == one.lost_through == 0


def test_what_all_others_have_cut_off_is_said_by_each_of_them() -> None:
    one = repair(1, 3)
    one.want(5, 9, "damaged")
    one.want(20, 29, "damaged too")
    one.take_question(0)
    one.answered(checkpointer_of(7), LearnReply(5, (), 99, 0, 6), 0)
    assert one.cut_off_through == 0, "it does not have the group"
    for sender in (checkpointer_of(1), checkpointer_of(1), checkpointer_of(7)):
        one.answered(sender, LearnReply(5, (), 99, 0, 6), 0)
        assert one.lost_through == 0
    one.drop_below(10)
    assert one.cut_off_through == 0, "said of another range"
    one.answered(checkpointer_of(3), LearnReply(20, (), 99, 0, 40), 0)
    assert (one.cut_off_through, one.lost_through) == (29, 0)


def test_a_segment_that_nobody_gives_does_not_hold_up_the_others() -> None:
    one = repair(1, 3)
    one.want(5, 9, "damaged")
    one.want(20, 29, "damaged too")
    one.take_question(0)
    one.answered(checkpointer_of(1), LearnReply(5, (), 99, 0, 10), 0)
    assert one.take_question(RETRY_NS) == (checkpointer_of(3), LearnRequest(5, 7_000))
    assert one.take_question(2 * RETRY_NS) == (checkpointer_of(1), LearnRequest(20, 7_000))
    assert (one.cut_off_through, one.lost_through) == (9, 0), "that is not forgotten"
    assert one.answered(checkpointer_of(1), given(20, 29), 0) == whole(20, 29)
    assert one.replaced(whole(20, 29))
    assert one.take_question(0) == (checkpointer_of(1), LearnRequest(5, 7_000))
    assert one.take_question(RETRY_NS) == (checkpointer_of(3), LearnRequest(5, 7_000))
    one.answered(checkpointer_of(3), LearnReply(5, (), 99, 0, 10), 0)
    assert one.lost_through == 9


def test_the_lowest_of_several_that_are_lost_goes_first() -> None:
    one = repair(1)
    one.want(20, 29, "damaged")
    one.want(5, 9, "damaged too")
    one.take_question(0)
    one.answered(checkpointer_of(1), LearnReply(20, (), 99, 0, 40), 0)
    assert (one.cut_off_through, one.lost_through) == (29, 29)
    one.take_question(RETRY_NS)
    one.answered(checkpointer_of(1), LearnReply(5, (), 99, 0, 40), 0)
    assert (one.cut_off_through, one.lost_through) == (29, 9)


def test_a_member_that_has_cut_off_the_beginning_meanwhile_has_lost_it() -> None:
    one = repair(1)
    one.want(5, 9, "damaged")
    one.take_question(0)
    one.answered(checkpointer_of(1), given(5, 6), 0)
    one.answered(checkpointer_of(1), LearnReply(7, (), 99, 0, 7), 0)
    assert one.lost_through == 9


def test_a_member_that_has_not_learned_so_far_has_it_not() -> None:
    one = repair(1, 3)
    one.want(5, 9, "damaged")
    one.take_question(0)
    one.answered(checkpointer_of(1), LearnReply(5, (), 4, 0, 1), 0)
    assert (one.cut_off_through, one.lost_through) == (0, 0), "it has no checkpoint of it either"
    one.answered(checkpointer_of(3), LearnReply(5, (), 5, 0, 1), 0)
    assert one.lost_through == 0, "that one may give it another time"
    one.answered(checkpointer_of(3), LearnReply(5, (), 99, 0, 6), 0)
    assert (one.cut_off_through, one.lost_through) == (9, 9)


def test_with_nobody_to_ask_the_problem_stays() -> None:
    alone = SegmentRepair(GROUP, (), SETTINGS)
    alone.want(5, 9, "damaged")
    assert alone.take_question(0) is None
    assert alone.due_ns is None
    assert alone.problem == "damaged"
