"""What one member alone has said counts as such until another one says the same."""

from __future__ import annotations

import pytest

from ray_paxos.core.checkpoint_messages import ChainReply, ChainRequest
from ray_paxos.core.chunk_check import Difference
from ray_paxos.core.messages import Address
from ray_paxos.core.peers import Peers
from ray_paxos.core.settings import LearnerSettings
from ray_paxos.core.unconfirmed_chunks import INTERVAL_MAX_NS, Confirmed, UnconfirmedChunks
from tests.unit.core_helpers import MS, checkpointer_of, learner_of

RETRY_NS = 300 * MS
SETTINGS = LearnerSettings(catch_up_retry_ns=RETRY_NS)
CHAIN = b"chain after 700"


def noted(*others: int, source: int = 1, end: int = 40) -> UnconfirmedChunks:
    """At time 0, one chunk that `source` gave was learned."""
    chunks = UnconfirmedChunks(others or (1, 3), SETTINGS)
    chunks.note(source, end, 0)
    return chunks


def asked(chunks: UnconfirmedChunks, *, now_ns: int = RETRY_NS) -> tuple[Address, ChainRequest]:
    """The question that is due, with 700 instances learned."""
    question = chunks.take_question(700, CHAIN, now_ns)
    assert question is not None
    return question


def reply(
    chain: bytes | None = CHAIN, *, at: int = 700, learned: int = 900, floor: int = 1
) -> ChainReply:
    return ChainReply(at, chain, learned, floor)


def test_with_nothing_noted_nothing_is_asked() -> None:
    chunks = UnconfirmedChunks((1, 3), SETTINGS)
    assert chunks.count == 0
    assert chunks.due_ns is None
    assert chunks.take_question(700, CHAIN, 10**15) is None
    assert chunks.answered(learner_of(3), reply(), 0) is None
    assert chunks.confirmed(3, 700, 0) is None


def test_another_member_is_asked_about_what_is_learned_by_then() -> None:
    chunks = noted()
    assert chunks.count == 1
    assert chunks.take_question(700, CHAIN, RETRY_NS - 1) is None
    assert asked(chunks) == (learner_of(3), ChainRequest(700))
    assert chunks.answered(learner_of(3), reply(), RETRY_NS) == Confirmed(3, 700, 1)
    assert chunks.count == 0
    assert chunks.due_ns is None


def test_one_answer_confirms_all_that_others_gave() -> None:
    chunks = noted(1, 3, 4)
    chunks.note(1, 80, 0)
    chunks.note(3, 120, 0)
    assert chunks.count == 3
    to, _ = asked(chunks)
    assert to == learner_of(1)
    assert chunks.answered(to, reply(), RETRY_NS) == Confirmed(1, 700, 1), "not its own"
    assert chunks.count == 2
    to, _ = asked(chunks, now_ns=2 * RETRY_NS)
    assert to != learner_of(1), "it gave all that is left"
    assert chunks.answered(to, reply(), RETRY_NS) is not None


def test_what_nobody_confirms_for_long_is_overdue_until_somebody_does() -> None:
    chunks = noted()
    asked_at: list[int] = []
    while not chunks.overdue_count and len(asked_at) < 20:
        assert chunks.due_ns is not None
        asked_at.append(chunks.due_ns)
        asked(chunks, now_ns=asked_at[-1])
    assert 5_000 * MS < asked_at[-1] < 20_000 * MS
    assert chunks.answered(learner_of(3), reply(), asked_at[-1]) == Confirmed(3, 700, 1)
    assert chunks.overdue_count == 0
    chunks.note(1, 900, asked_at[-1])
    assert (chunks.count, chunks.overdue_count) == (1, 0), "it is asked for anew"


def test_what_nobody_can_confirm_is_overdue_at_once() -> None:
    assert noted(1, source=1).overdue_count == 1


def test_who_gave_it_is_never_asked() -> None:
    chunks = noted(1, 3, 4)
    now_ns = 0
    for _ in range(20):
        now_ns += INTERVAL_MAX_NS
        to, _ = asked(chunks, now_ns=now_ns)
        assert to in (learner_of(3), learner_of(4))


def test_the_only_other_member_cannot_confirm_what_it_gave() -> None:
    chunks = noted(1)
    assert chunks.due_ns is None
    assert chunks.count == 1


def test_it_asks_again_ever_more_seldom_but_never_stops() -> None:
    chunks = noted()
    waits = []
    for _ in range(12):
        due_ns = chunks.due_ns
        assert due_ns is not None
        asked(chunks, now_ns=due_ns)
        assert chunks.due_ns is not None
        waits.append(chunks.due_ns - due_ns)
    assert waits[:3] == [2 * RETRY_NS, 4 * RETRY_NS, 8 * RETRY_NS]
    assert waits[-3:] == [INTERVAL_MAX_NS] * 3


def test_one_that_is_behind_is_asked_about_the_same_instance_again() -> None:
    """It will never be as far as this member at the moment of asking."""
    chunks = noted()
    asked(chunks)
    assert chunks.answered(learner_of(3), reply(None, learned=690), RETRY_NS) is None
    due_ns = chunks.due_ns
    assert due_ns is not None
    assert chunks.take_question(950, b"later", due_ns) == (learner_of(3), ChainRequest(700))
    assert chunks.answered(learner_of(3), reply(), due_ns) == Confirmed(3, 700, 1)


def test_what_left_a_learners_memory_is_asked_of_its_checkpointer_at_once() -> None:
    chunks = noted()
    asked(chunks)
    question = chunks.answered(learner_of(3), reply(None, floor=800), RETRY_NS)
    assert question == (checkpointer_of(3), ChainRequest(700))
    assert chunks.answered(learner_of(3), reply(), RETRY_NS) is None, "not asked any more"
    assert chunks.answered(checkpointer_of(3), reply(), RETRY_NS) == Confirmed(3, 700, 1)


def test_where_it_is_cut_off_a_later_instance_is_asked_about() -> None:
    chunks = noted()
    asked(chunks)
    chunks.answered(learner_of(3), reply(None, floor=800), RETRY_NS)
    assert chunks.answered(checkpointer_of(3), reply(None, floor=0), RETRY_NS) is None
    due_ns = chunks.due_ns
    assert due_ns is not None
    assert chunks.take_question(950, b"later", due_ns) == (learner_of(3), ChainRequest(950))


@pytest.mark.parametrize(
    ("sender", "answer"),
    [
        (learner_of(1), reply()),
        (checkpointer_of(3), reply()),
        (learner_of(3), reply(at=699)),
    ],
    ids=["another member", "another role", "another instance"],
)
def test_an_answer_that_was_not_asked_for_decides_nothing(
    sender: Address, answer: ChainReply
) -> None:
    chunks = noted()
    asked(chunks)
    assert chunks.answered(sender, answer, RETRY_NS) is None
    assert chunks.count == 1


def test_a_late_answer_says_nothing_of_what_was_learned_since() -> None:
    chunks = noted()
    asked(chunks)
    chunks.note(1, 800, RETRY_NS)
    assert chunks.answered(learner_of(3), reply(), RETRY_NS) is None
    assert chunks.count == 2
    assert chunks.due_ns == 2 * RETRY_NS
    assert chunks.take_question(800, b"later", 2 * RETRY_NS) == (learner_of(3), ChainRequest(800))


def test_after_no_answer_it_is_asked_about_what_was_learned_since() -> None:
    chunks = noted()
    asked(chunks)
    chunks.note(1, 800, RETRY_NS)
    assert chunks.take_question(800, b"later", 2 * RETRY_NS) == (learner_of(3), ChainRequest(800))


def test_a_stream_of_chunks_does_not_put_the_question_off() -> None:
    chunks = noted()
    for now_ns in range(0, RETRY_NS, 10 * MS):
        chunks.note(1, 50, now_ns)
    assert chunks.due_ns == RETRY_NS


def test_a_confirmed_chunk_confirms_what_came_before_it() -> None:
    chunks = noted(1, 3, 4)
    assert chunks.confirmed(1, 90, 0) is None, "it gave it"
    assert chunks.confirmed(3, 39, 0) is None, "it says nothing of the end"
    assert chunks.confirmed(3, 40, 0) == Confirmed(3, 40, 1)
    assert chunks.count == 0
    assert chunks.due_ns is None


def test_a_difference_is_told_once_and_nobody_is_asked_any_more() -> None:
    chunks = noted()
    asked(chunks)
    verdict = chunks.answered(learner_of(3), reply(b"another"), RETRY_NS)
    assert verdict == Difference(700, 1, CHAIN, 3, b"another")
    assert chunks.count == 1
    assert chunks.due_ns is None
    chunks.note(1, 800, RETRY_NS)
    assert chunks.due_ns is None


def test_members_that_leave_are_asked_no_more_and_those_that_join_are() -> None:
    peers = Peers((1, 3))
    chunks = UnconfirmedChunks(peers, LearnerSettings())
    chunks.note(1, 700, 0)
    peers.replace((1,))
    assert chunks.take_question(700, CHAIN, INTERVAL_MAX_NS) is None
    assert chunks.overdue_count == 1
    peers.replace((1, 4))
    assert chunks.take_question(700, CHAIN, INTERVAL_MAX_NS) is None, "not at once"
    question = chunks.take_question(700, CHAIN, 3 * INTERVAL_MAX_NS)
    assert question is not None
    assert question[0] == learner_of(4)
