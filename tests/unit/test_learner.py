"""The learner learns only what is said to be chosen (R4), and applies it in order, once (R6)."""

from __future__ import annotations

import pytest

from ray_paxos.core.client_messages import Flush, Query, QueryFailed, QueryProblem, QueryResult
from ray_paxos.core.effects import Effects
from ray_paxos.core.events import (
    ApplyingStopped,
    CatchUpUnanswered,
    CaughtUp,
    InstanceApplied,
    InvariantBroken,
    MessageRefused,
)
from ray_paxos.core.learner import LOOK_AROUND_NS
from ray_paxos.core.learner_answers import OUT_OF_TOUCH_NS
from ray_paxos.core.learner_messages import (
    Applied,
    CatchUp,
    ChainPoint,
    Chosen,
    ChosenValue,
    LearnerStatus,
    LearnReply,
    LearnRequest,
)
from ray_paxos.core.messages import (
    Accept,
    Accepted,
    Address,
    Message,
    Promise,
    Vote,
)
from ray_paxos.core.records import SealSegment
from ray_paxos.core.values import EMPTY_CHAIN, MasterRecord, extend_chain, value_hash
from tests.unit.core_helpers import (
    GROUP,
    LOG_MACHINE,
    MS,
    acceptor_of,
    ballot,
    checkpointer_of,
    chosen,
    client,
    happened,
    learner_of,
    proposer_of,
    receivers,
    sends,
    sent,
    value,
)
from tests.unit.learner_bench import ME, SETTINGS, LearnerBench, ScriptedHost

OWN = ballot(3, ME)


@pytest.fixture
def bench() -> LearnerBench:
    return LearnerBench()


def questions(effects: Effects) -> list[tuple[Address, Message]]:
    return [(s.to, s.message) for s in sends(effects) if isinstance(s.message, LearnRequest)]


# What it learns from.


def test_it_learns_and_applies_what_a_proposer_says_is_chosen(bench: LearnerBench) -> None:
    effects = bench.told(chosen(1), chosen(2))
    assert [event.instance_id for event in happened(effects, InstanceApplied)] == [1, 2]
    (send,) = sends(effects)
    assert send.to == proposer_of(1)
    assert send.message == bench.status
    assert bench.status.learned_through == bench.status.applied_through == 2


@pytest.mark.parametrize(
    "sender", [acceptor_of(1), learner_of(1), checkpointer_of(1), client(1), acceptor_of(ME)]
)
def test_nobody_else_says_what_is_chosen(bench: LearnerBench, sender: Address) -> None:
    effects = bench.told(chosen(1), of=sender)
    assert happened(effects, MessageRefused)
    assert bench.status.learned_through == 0


@pytest.mark.parametrize("sender", [acceptor_of(1), proposer_of(1), client(1)])
def test_another_log_is_a_learners_or_a_checkpointers(bench: LearnerBench, sender: Address) -> None:
    effects = bench.replies(chosen(1), first=1, learned=1, of=sender)
    assert happened(effects, MessageRefused)
    assert bench.status.learned_through == 0


@pytest.mark.parametrize(
    "message",
    [
        Accept(ballot(1), 1, value()),
        Accepted(ballot(1), 1),
        Promise(ballot(1), 1, 1, (Vote(1, ballot(1), value()),), None),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_vote_says_nothing_about_what_is_chosen(bench: LearnerBench, message: Message) -> None:
    # S1: what was voted for, at whatever ballot, is not what was chosen.
    for sender in (proposer_of(1), acceptor_of(ME)):
        assert happened(bench.receive(sender, message), MessageRefused)
    assert bench.status.learned_through == 0


def test_that_something_is_chosen_says_nothing_about_its_value(bench: LearnerBench) -> None:
    effects = bench.beat(through=5)
    assert bench.status.learned_through == 0
    assert questions(effects) == [(learner_of(1), LearnRequest(1, SETTINGS.catch_up_bytes_max))]


def test_the_own_proposer_gets_results_at_its_ballots(bench: LearnerBench) -> None:
    effects = bench.told(chosen(1, OWN), chosen(2, ballot(3, 1)), of=proposer_of(ME))
    (applied,) = sent(effects, Applied)
    assert (applied.instance_id, applied.ballot) == (1, OWN)
    assert [result.results for result in applied.results] == [(b"1",)]
    assert receivers(effects, Applied) == [proposer_of(ME)]


# Order, holes, repetition.


def test_nothing_is_applied_across_a_hole(bench: LearnerBench) -> None:
    bench.told(chosen(1), chosen(3))
    assert bench.status.learned_through == bench.status.applied_through == 1
    bench.told(chosen(5))
    effects = bench.told(chosen(2))
    assert [event.instance_id for event in happened(effects, InstanceApplied)] == [2, 3]
    bench.told(chosen(4))
    assert bench.status.applied_through == 5


def test_what_comes_twice_is_applied_once(bench: LearnerBench) -> None:
    bench.learns(1, 3)
    for _ in range(2):
        effects = bench.told(*(chosen(i, ballot(9)) for i in (1, 2, 3)))
        assert happened(effects, InstanceApplied) == []
    bench.replies(chosen(2), chosen(3), first=2, learned=3)
    assert len(bench.host.values) == 3


def test_results_are_given_again_on_demand_until_they_are_sealed(bench: LearnerBench) -> None:
    bench.told(chosen(1, OWN), of=proposer_of(ME))
    again = bench.told(chosen(1, OWN), chosen(2, OWN), of=proposer_of(ME))
    assert [applied.instance_id for applied in sent(again, Applied)] == [2, 1]
    assert len(sent(again, Applied)) == 2, "each once"
    bench.receive(client(), Flush())
    bench.sync()
    gone = bench.told(chosen(1, OWN), of=proposer_of(ME))
    assert sent(gone, Applied) == []
    assert sent(gone, LearnerStatus)[-1].durable_through == 2, "it says so, and the rest follows"


def test_results_are_given_again_to_the_own_proposer_only(bench: LearnerBench) -> None:
    bench.learns(1, 1)
    assert sent(bench.learns(1, 1), Applied) == []


def test_two_values_for_one_instance_stop_applying_and_the_first_stays(
    bench: LearnerBench,
) -> None:
    bench.told(chosen(1, OWN), of=proposer_of(ME))
    other = ChosenValue(1, OWN, value(log_time_ns=77))
    effects = bench.told(other, of=proposer_of(ME))
    assert happened(effects, InvariantBroken)
    assert happened(effects, ApplyingStopped)
    assert sent(effects, Applied) == [], "its results are not those of this value (R1)"
    assert "two values" in bench.status.stopped
    (reply,) = sent(bench.receive(learner_of(3), LearnRequest(1, 1_000)), LearnReply)
    assert reply.values == (chosen(1, OWN),)


def test_what_comes_with_a_contradiction_is_learned_and_sealed_all_the_same(
    bench: LearnerBench,
) -> None:
    # R12: learning and sealing go on.
    bench.learns(1, 1)
    bench.receive(client(), Flush())
    bench.sync()
    other = ChosenValue(1, ballot(1), value(log_time_ns=77))
    bench.told(chosen(2), other, chosen(3))
    assert bench.status.learned_through == 3
    effects = bench.tick(SETTINGS.seal_age_ns / MS)
    (seal,) = effects.records
    assert isinstance(seal, SealSegment)
    assert [instance.chosen for instance in seal.instances] == [chosen(2), chosen(3)]
    bench.sync()
    assert bench.learner.deadline_ns is None


def test_it_says_how_far_it_is(bench: LearnerBench) -> None:
    assert bench.status == LearnerStatus(
        0, 0, 0, 1, ChainPoint(0, EMPTY_CHAIN, EMPTY_CHAIN), 0, None, (), ""
    )
    bench.told(chosen(1, ballot(4, 3)), chosen(2, ballot(2, 1)), chosen(4, ballot(5, 1)))
    chain = EMPTY_CHAIN
    for instance_id in (1, 2):
        chain = extend_chain(chain, value_hash(chosen(instance_id).value))
    found = bench.status
    assert (found.learned_through, found.applied_through, found.durable_through) == (2, 2, 0)
    assert found.point.instance_id == 2
    assert found.point.chain == chain
    assert found.point.result_chain not in (None, EMPTY_CHAIN)
    assert found.log_time_ns == 2
    assert found.ballot is not None
    assert found.ballot >= ballot(4, 3), "the highest at which it learned anything"
    assert LOG_MACHINE not in found.mounted


# Catching up.


def test_a_chosen_message_tells_of_what_was_missed_before_it(bench: LearnerBench) -> None:
    effects = bench.told(chosen(3), through=3, of=proposer_of(3))
    assert questions(effects) == [(learner_of(3), LearnRequest(1, SETTINGS.catch_up_bytes_max))]
    assert questions(bench.told(chosen(9), through=3, of=proposer_of(3))) == [], "one at a time"


def test_a_lost_answer_sends_it_to_another_member(bench: LearnerBench) -> None:
    bench.beat(through=5)
    assert bench.learner.deadline_ns == SETTINGS.catch_up_retry_ns
    assert questions(bench.tick(1)) == []
    effects = bench.tick(SETTINGS.catch_up_retry_ns / MS)
    assert happened(effects, CatchUpUnanswered) == [CatchUpUnanswered(GROUP, 1)]
    (question,) = questions(effects)
    assert question == (learner_of(3), LearnRequest(1, SETTINGS.catch_up_bytes_max))


def test_it_goes_on_asking_until_it_has_caught_up(bench: LearnerBench) -> None:
    bench.beat(through=5)
    effects = bench.replies(chosen(1), chosen(2), first=1, learned=6)
    assert not happened(effects, CatchUpUnanswered)
    assert happened(effects, CaughtUp) == [CaughtUp(GROUP, 1, 2)]
    assert questions(effects) == [(learner_of(1), LearnRequest(3, SETTINGS.catch_up_bytes_max))]
    effects = bench.replies(*(chosen(i) for i in range(3, 7)), first=3, learned=6)
    assert questions(effects) == []
    assert bench.status.applied_through == 6
    assert bench.replies(chosen(3), first=3, learned=6).events == [], "late, again"


def test_what_it_learns_from_others_it_asks_for_no_more(bench: LearnerBench) -> None:
    bench.beat(through=3)
    bench.learns(1, 3)
    assert questions(bench.tick(SETTINGS.catch_up_retry_ns / MS)) == []


def test_its_own_proposer_names_whom_to_ask_and_gets_its_status(bench: LearnerBench) -> None:
    effects = bench.receive(proposer_of(ME), CatchUp(9, (3, 1)))
    assert questions(effects) == [(learner_of(3), LearnRequest(1, SETTINGS.catch_up_bytes_max))]
    assert receivers(effects, LearnerStatus) == [proposer_of(ME)]
    effects = bench.receive(proposer_of(ME), CatchUp(0, ()))
    assert sent(effects, LearnerStatus) == [bench.status]
    assert questions(effects) == []


def test_one_that_stands_asks_around_where_nobody_was_heard_of_for_a_while(
    bench: LearnerBench,
) -> None:
    """A voter, too: those that have the group now need not know of it any more."""

    def asked() -> list[Address]:
        return receivers(bench.receive(proposer_of(ME), CatchUp(0, ())), CatchUp)

    bench.beat()
    assert asked() == [], "there is a master"
    bench.tick(OUT_OF_TOUCH_NS / MS - 1)
    assert asked() == [], "an election may take so long"
    bench.tick(1)
    first = asked()
    assert len(first) == 1
    assert asked() == [], "not so soon again"
    bench.tick(LOOK_AROUND_NS / MS)
    assert {*first, *asked()} == {learner_of(m) for m in (1, 2, 3) if m != ME}


def test_it_tells_its_proposer_how_it_comes_on_while_that_waits(bench: LearnerBench) -> None:
    bench.receive(proposer_of(ME), CatchUp(3, (3,)))
    for instance_id in (1, 2, 3):
        effects = bench.replies(chosen(instance_id), first=instance_id, learned=9, of=learner_of(3))
        assert receivers(effects, LearnerStatus) == [proposer_of(ME)]
    effects = bench.replies(chosen(3), first=3, learned=9, of=learner_of(3))
    assert sent(effects, LearnerStatus) == [], "nothing new"
    effects = bench.replies(chosen(4), first=4, learned=9, of=learner_of(3))
    assert sent(effects, LearnerStatus) == [], "it waits no longer"


def test_it_gives_what_it_holds_in_memory(bench: LearnerBench) -> None:
    bench.learns(1, 4)
    bench.told(chosen(9))

    def reply(first: int, bytes_max: int = 10_000) -> LearnReply:
        effects = bench.receive(learner_of(3), LearnRequest(first, bytes_max))
        ((to, message),) = [(s.to, s.message) for s in sends(effects)]
        assert to == learner_of(3)
        assert isinstance(message, LearnReply)
        return message

    assert reply(2) == LearnReply(2, (chosen(2), chosen(3), chosen(4)), 4, 1, 1)
    assert [c.instance_id for c in reply(2, 1).values] == [2], "in pieces, at least one"
    assert reply(5) == LearnReply(5, (), 4, 1, 1), "nothing above a hole"


def test_what_left_its_memory_is_for_the_checkpointer(bench: LearnerBench) -> None:
    bench.learns(1, 30)
    bench.receive(client(), Flush())
    bench.sync()
    (reply,) = sent(bench.receive(learner_of(3), LearnRequest(1, 10_000)), LearnReply)
    assert reply.values == ()
    assert 1 < reply.memory_floor <= 31
    (reply,) = sent(
        bench.receive(learner_of(3), LearnRequest(reply.memory_floor, 10_000)), LearnReply
    )
    assert [c.instance_id for c in reply.values][-1] == 30


# A machine that fails, chains that differ (R12).


def test_a_machine_that_fails_stops_applying_and_nothing_else() -> None:
    bench = LearnerBench(host=ScriptedHost(fails_at=3))
    effects = bench.told(*(chosen(i, OWN) for i in range(1, 6)), of=proposer_of(ME))
    (stopped,) = happened(effects, ApplyingStopped)
    assert "out of paper" in stopped.why
    assert [applied.instance_id for applied in sent(effects, Applied)] == [1, 2]
    assert (bench.status.learned_through, bench.status.applied_through) == (5, 2)
    assert "out of paper" in bench.status.stopped
    assert bench.status.point.instance_id == 5
    assert bench.status.point.result_chain is None
    effects = bench.told(chosen(6, OWN), of=proposer_of(ME))
    assert bench.status.learned_through == 6
    assert happened(effects, ApplyingStopped) == [], "said once"
    assert sent(effects, Applied) == []
    bench.receive(client(), Flush())
    bench.sync()
    assert [instance.result_chain is None for instance in bench.sealed] == [False] * 2 + [True] * 4
    assert [instance.chosen.instance_id for instance in bench.sealed] == [1, 2, 3, 4, 5, 6]
    (failed,) = sent(bench.receive(client(), Query(1, "log", b"", 0)), QueryFailed)
    assert failed.problem is QueryProblem.STOPPED
    assert "out of paper" in failed.message


def test_a_value_that_nobody_can_read_stops_applying(bench: LearnerBench) -> None:
    effects = bench.told(ChosenValue(1, ballot(1), b"\xc1 nonsense"), chosen(2))
    assert happened(effects, ApplyingStopped)
    assert (bench.status.learned_through, bench.status.applied_through) == (2, 0)


def test_chains_that_agree_go_on(bench: LearnerBench) -> None:
    other = LearnerBench()
    other.learns(1, 3)
    bench.learns(1, 2)
    bench.beat(point=other.status.point)
    assert not bench.status.stopped, "3 is not applied here: nothing to compare"
    bench.learns(3, 5)
    bench.beat(point=other.status.point)
    bench.beat(point=ChainPoint(3, other.status.point.chain, None))
    bench.beat(
        point=ChainPoint(4, b"unknown to this test", None), of=proposer_of(ME)
    ) if False else 0
    assert not bench.status.stopped


@pytest.mark.parametrize("differs", ["value", "result"])
def test_a_chain_that_differs_from_the_masters_stops_applying(differs: str) -> None:
    bench = LearnerBench()
    bench.learns(1, 4)
    master = LearnerBench(host=ScriptedHost(differs_at=2))
    if differs == "value":
        master = LearnerBench()
        master.told(chosen(1), ChosenValue(2, ballot(1), value()))
    master.learns(1 if differs == "result" else 3, 3)
    effects = bench.beat(point=master.status.point)
    assert happened(effects, ApplyingStopped)
    assert f"{differs}s differ" in bench.status.stopped
    bench.learns(5, 6)
    assert (bench.status.learned_through, bench.status.applied_through) == (6, 4)


# Reads.


def test_a_master_record_is_told_to_the_own_proposer_as_soon_as_it_is_applied(
    bench: LearnerBench,
) -> None:
    record = chosen(1, ballot(4, 3), value(MasterRecord(ballot(4, 3))))
    effects = bench.told(record, chosen(2, ballot(4, 3)), of=proposer_of(3))
    told = [s.message for s in sends(effects) if s.to == proposer_of(2)]
    assert [(m.master, m.master_version) for m in told if isinstance(m, LearnerStatus)] == [(3, 1)]
    assert [m.applied_through for m in told if isinstance(m, LearnerStatus)] == [1]
    assert (bench.status.master, bench.status.master_version) == (3, 1)
    bench.replies(chosen(3, ballot(4, 3)), first=3, learned=3)
    assert (bench.status.master, bench.status.master_version) == (3, 1)


def test_a_read_is_as_of_what_is_applied(bench: LearnerBench) -> None:
    bench.learns(1, 2)
    ask = bench.receive
    assert sent(ask(client(), Query(7, "log", b"", 2)), QueryResult) == [
        QueryResult(7, 2, b"2 applied", bench.status.ballot)
    ]
    (failed,) = sent(ask(client(), Query(8, "log", b"", 3)), QueryFailed)
    assert (failed.request_id, failed.applied_through, failed.problem) == (
        8,
        2,
        QueryProblem.BEHIND,
    )
    (failed,) = sent(ask(client(), Query(9, "nothing", b"", 0)), QueryFailed)
    assert failed.problem is QueryProblem.REFUSED
    assert "nothing" in failed.message


# The role's interface.


def test_it_says_under_which_identity_it_follows(bench: LearnerBench) -> None:
    assert bench.learner.stamp(GROUP) == (12, 0)


def test_a_proposers_status_is_answered_to_whoever_leads(bench: LearnerBench) -> None:
    for effects in (bench.beat(of=proposer_of(3)), bench.told(of=proposer_of(3))):
        assert receivers(effects, LearnerStatus) == [proposer_of(3)]
    assert sent(bench.told(of=proposer_of(3)), Chosen) == []
