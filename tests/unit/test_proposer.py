"""The proposer up to the moment it leads, and the ways back to following."""

from __future__ import annotations

import pytest

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.client_messages import Flush, OpenSession, Redirected, RefusalCode, Refused
from ray_paxos.core.effects import Effects
from ray_paxos.core.events import (
    CandidacyEnded,
    MasterChanged,
    MasterStopped,
    MessageRefused,
    PrepareStarted,
)
from ray_paxos.core.learner_messages import CatchUp
from ray_paxos.core.messages import (
    Accept,
    Accepted,
    Address,
    Heartbeat,
    NackReason,
    Prepare,
    PreVote,
    Promise,
    Vote,
)
from ray_paxos.core.proposer import Phase
from ray_paxos.core.values import CommandBatch, decode_value
from tests.unit.core_helpers import (
    LATER_CONFIGURATION,
    MS,
    POINT,
    acceptor_of,
    ballot,
    client,
    happened,
    learner_of,
    noop,
    proposer_of,
    receivers,
    sends,
    sent,
    status,
)
from tests.unit.proposer_bench import (
    SETTINGS,
    ProposerBench,
    answered,
    once_each,
    prepares,
)

TIMEOUT_NS = SETTINGS.election_timeout_ns


@pytest.fixture
def bench() -> ProposerBench:
    return ProposerBench()


def vote(instance_id: int, at: Ballot) -> Vote:
    return Vote(instance_id, at, noop(instance_id))


# Time-outs.


def test_time_outs_are_random_but_bounded() -> None:
    deadlines = [ProposerBench(seed=seed).proposer.deadline_ns or 0 for seed in range(50)]
    assert all(TIMEOUT_NS <= deadline < 2 * TIMEOUT_NS for deadline in deadlines)
    assert len(set(deadlines)) > 40, "two candidates do not meet again and again"


def test_the_first_life_of_a_cluster_waits_for_no_master() -> None:
    deadlines = [
        ProposerBench(seed=seed, incarnation=1, now_ns=7 * MS).proposer.deadline_ns or 0
        for seed in range(50)
    ]
    assert all(7 * MS <= deadline < 7 * MS + TIMEOUT_NS // 2 for deadline in deadlines)
    assert len(set(deadlines)) > 40


def test_back_off_after_a_failed_attempt_is_random_but_bounded() -> None:
    waits = []
    for seed in range(30):
        bench = ProposerBench(seed=seed)
        bench.stand()
        bench.nack(2, NackReason.PROMISED, promised=ballot(9, 2))
        assert bench.is_in(Phase.FOLLOWING)
        waits.append((bench.proposer.deadline_ns or 0) - bench.now_ns)
    assert all(TIMEOUT_NS <= wait < 2 * TIMEOUT_NS for wait in waits)
    assert len(set(waits)) > 20


def test_calling_early_is_harmless(bench: ProposerBench) -> None:
    assert bench.tick(TIMEOUT_NS / MS - 1) == Effects()
    assert bench.is_in(Phase.FOLLOWING)


def test_who_does_not_vote_does_not_stand() -> None:
    bench = ProposerBench(replica_id=0)
    for _ in range(10):
        # It may vote by now: its learner knows.
        (asked,) = sends(bench.due())
        assert asked.message == CatchUp(0, ())
    assert bench.is_in(Phase.FOLLOWING)
    assert bench.proposer.stamp(1) == (0, 0)
    assert answered(bench.ask(1)) == [("Redirected", 1)]


def test_a_confirmed_master_is_left_in_peace_an_unconfirmed_one_is_not(
    bench: ProposerBench,
) -> None:
    for _ in range(10):
        bench.now_ns += int(0.9 * TIMEOUT_NS)
        bench.heartbeat(ballot(3, 2))
        assert (bench.proposer.deadline_ns or 0) >= bench.now_ns + TIMEOUT_NS
    deadline_ns = bench.proposer.deadline_ns
    for _ in range(20):
        bench.now_ns += 100 * MS
        bench.heartbeat(ballot(3, 2), confirmed=False)
    assert bench.proposer.deadline_ns == deadline_ns
    bench.due()
    assert bench.is_in(Phase.PROBING)


# Probing.


def test_it_asks_its_own_learner_and_around_before_it_disturbs_anybody(
    bench: ProposerBench,
) -> None:
    effects = bench.due()
    assert [(send.to, send.message) for send in sends(effects)] == [
        (learner_of(1), CatchUp(0, ())),
        *((acceptor_of(m), PreVote(Ballot(1, 1, 2))) for m in (1, 2, 3)),
    ]
    assert bench.welcome(1, 2) == Effects(), "it needs to know where to begin, too"
    assert bench.receive(learner_of(2), status(5)) == Effects(), "another's learner does not do"
    assert bench.receive(acceptor_of(1), status(5)) == Effects()
    assert bench.is_in(Phase.PROBING)
    effects = bench.own_status(5)
    assert prepares(effects) == [(acceptor_of(m), 6) for m in (1, 2, 3)]
    assert happened(effects, PrepareStarted)


def test_a_lost_question_is_asked_again_and_given_up_in_the_end(bench: ProposerBench) -> None:
    bench.due()
    began_ns = bench.now_ns
    asked = 0
    while bench.is_in(Phase.PROBING):
        asked += receivers(bench.due(), CatchUp) == [learner_of(1)]
    assert asked >= 1
    assert bench.now_ns - began_ns <= 2 * TIMEOUT_NS
    assert bench.is_in(Phase.FOLLOWING)


def test_a_learner_that_stopped_applying_keeps_its_member_from_standing(
    bench: ProposerBench,
) -> None:
    bench.due()
    bench.welcome(1, 2)
    effects = bench.own_status(5, stopped="a machine failed")
    assert sent(effects, Prepare) == []
    assert bench.is_in(Phase.FOLLOWING)


def test_only_a_confirmed_master_ends_the_probing(bench: ProposerBench) -> None:
    bench.due()
    bench.heartbeat(ballot(3, 2), confirmed=False)
    assert bench.is_in(Phase.PROBING)
    bench.heartbeat(ballot(3, 2))
    assert bench.is_in(Phase.FOLLOWING)
    assert bench.proposer.master_id == 2


# Ballots.


def test_each_attempt_has_a_ballot_of_its_own_above_all_it_heard_of() -> None:
    bench = ProposerBench(incarnation=6)
    bench.stand()
    assert bench.ballot == Ballot(1, 1, 6)
    bench.nack(2, NackReason.PROMISED, promised=ballot(7, 3, 9))
    bench.stand()
    assert bench.ballot == Ballot(8, 1, 6)
    bench.nack(2, NackReason.PROMISED, promised=ballot(3, 3))
    bench.stand()
    assert bench.ballot == Ballot(9, 1, 6), "never back to a lower one"
    bench.nack(2, NackReason.PROMISED, promised=None)
    bench.heartbeat(ballot(20, 3), confirmed=False)
    bench.probe()
    bench.own_status(at=ballot(31, 2))
    bench.welcome(1, 2)
    assert bench.ballot == Ballot(32, 1, 6), "nor below what its learner learned at"


def test_an_earlier_life_of_its_own_is_no_master_but_its_ballot_is_heard(
    bench: ProposerBench,
) -> None:
    deadline_ns = bench.proposer.deadline_ns
    bench.heartbeat(ballot(8, 1, 1))
    assert bench.proposer.master_id is None
    assert bench.proposer.deadline_ns == deadline_ns
    bench.stand()
    assert bench.ballot.round == 9


def test_a_nack_for_another_ballot_only_tells_of_a_round(bench: ProposerBench) -> None:
    bench.stand()
    bench.nack(2, NackReason.PROMISED, promised=ballot(40, 3), at=ballot(1, 1, 1))
    assert bench.is_in(Phase.PREPARING)
    bench.nack(2, NackReason.PROMISED, promised=ballot(2, 3))
    bench.stand()
    assert bench.ballot.round == 41


# Promises (phxpaxos.md, section 15, 8-10).


def test_a_majority_of_promises_leads(bench: ProposerBench) -> None:
    bench.stand()
    assert sent(bench.promise(1), Accept) == []
    assert bench.is_in(Phase.PREPARING)
    assert sent(bench.promise(3), Accept) != []
    assert bench.is_in(Phase.LEADING)


def test_one_voters_promise_counts_once(bench: ProposerBench) -> None:
    bench.stand()
    for _ in range(5):
        bench.promise(2)
    assert bench.is_in(Phase.PREPARING)


@pytest.mark.parametrize(
    ("sender", "replica_id", "config_id", "at"),
    [
        (acceptor_of(3), 13, 0, Ballot(1, 1, 1)),
        (acceptor_of(3), 13, 0, Ballot(2, 1, 2)),
        (acceptor_of(3), 12, 0, Ballot(1, 1, 2)),
        (acceptor_of(3), 0, 0, Ballot(1, 1, 2)),
        (acceptor_of(3), 13, 5, Ballot(1, 1, 2)),
        (acceptor_of(4), 14, 0, Ballot(1, 1, 2)),
        (learner_of(3), 13, 0, Ballot(1, 1, 2)),
        (proposer_of(3), 13, 0, Ballot(1, 1, 2)),
        (client(3), 13, 0, Ballot(1, 1, 2)),
    ],
    ids=[
        "for an earlier life",
        "for another round",
        "another voter's replica",
        "no replica",
        "another configuration",
        "no voter",
        "a learner",
        "a proposer",
        "a client",
    ],
)
def test_a_promise_that_counts_for_nobody(
    bench: ProposerBench, sender: Address, replica_id: int, config_id: int, at: Ballot
) -> None:
    bench.stand()
    assert bench.ballot == Ballot(1, 1, 2)
    bench.promise(1)
    promise = Promise(at, 1, 1, (), None)
    bench.receive(sender, promise, replica_id=replica_id, config_id=config_id)
    assert bench.is_in(Phase.PREPARING)


def test_promises_while_following_start_nothing(bench: ProposerBench) -> None:
    bench.stand()
    bench.nack(2, NackReason.PROMISED, promised=ballot(9, 3))
    for member_id in (1, 2, 3):
        assert bench.promise(member_id) == Effects()
    assert bench.is_in(Phase.FOLLOWING)


def test_votes_are_read_page_by_page(bench: ProposerBench) -> None:
    bench.stand(4)
    old = ballot(0, 2)
    effects = bench.promise(2, vote(5, old), next_instance=9)
    assert prepares(effects) == [(acceptor_of(2), 9)]
    assert sent(effects, Prepare)[0].ballot == bench.ballot
    bench.promise(3)
    assert bench.is_in(Phase.PREPARING)
    assert bench.promise(2, vote(5, old), next_instance=9) == Effects(), "a page again"
    bench.promise(2, vote(9, old), first=9)
    assert bench.is_in(Phase.LEADING)


def test_a_prepare_is_sent_again_to_those_that_owe_a_page(bench: ProposerBench) -> None:
    bench.stand(4)
    bench.promise(2)
    bench.promise(3, next_instance=8)
    effects = bench.tick(SETTINGS.retransmit_ns / MS)
    assert prepares(effects) == [(acceptor_of(1), 5), (acceptor_of(3), 8)]
    assert {prepare.ballot for prepare in sent(effects, Prepare)} == {bench.ballot}


def test_an_attempt_without_a_majority_ends(bench: ProposerBench) -> None:
    bench.stand()
    bench.promise(2)
    began_ns = bench.now_ns
    while bench.is_in(Phase.PREPARING):
        effects = bench.due()
    assert happened(effects, CandidacyEnded)
    assert not happened(effects, MasterStopped)
    assert bench.now_ns - began_ns <= 2 * TIMEOUT_NS


def test_it_prepares_only_above_the_entry_of_its_configuration() -> None:
    bench = ProposerBench(configuration=LATER_CONFIGURATION)
    effects = bench.stand(0)
    assert {first for _, first in prepares(effects)} == {11}
    assert [to.member_id for to, _ in prepares(effects)] == [1, 2, 4]


# Learning up to the floor.


def test_nothing_is_proposed_below_a_floor_that_is_not_learned(bench: ProposerBench) -> None:
    bench.stand(4)
    bench.promise(1, floor=3)
    effects = bench.promise(3, vote(12, ballot(0, 3)), floor=12)
    assert bench.is_in(Phase.LEARNING)
    assert sent(effects, Accept) == []
    assert [(send.to, send.message) for send in sends(effects)] == [
        (learner_of(1), CatchUp(11, (3, 1)))
    ]
    # A status is the answer to a question: another question would double for ever.
    assert sends(bench.own_status(10)) == []
    assert bench.is_in(Phase.LEARNING)
    effects = bench.own_status(11)
    assert bench.is_in(Phase.LEADING)
    assert {accept.instance_id for accept in sent(effects, Accept)} == {12, 13}


def test_a_late_promise_with_a_higher_floor_still_counts(bench: ProposerBench) -> None:
    bench.stand(4)
    bench.promise(1, floor=8)
    bench.promise(3)
    assert bench.is_in(Phase.LEARNING)
    bench.promise(2, floor=20)
    bench.own_status(7)
    assert bench.is_in(Phase.LEARNING), "what is below 20 is chosen, perhaps not as voted here"
    bench.own_status(19)
    assert bench.is_in(Phase.LEADING)


def test_learning_is_asked_for_again_and_given_time_while_it_goes_on(bench: ProposerBench) -> None:
    bench.stand(0)
    bench.promise(1, floor=100)
    bench.promise(3)
    for learned in range(1, 60, 6):
        bench.now_ns += int(0.8 * TIMEOUT_NS)
        bench.own_status(learned)
        assert bench.is_in(Phase.LEARNING), "it makes progress"
    asked = 0
    began_ns = bench.now_ns
    while bench.is_in(Phase.LEARNING):
        effects = bench.due()
        asked += len(sent(effects, CatchUp))
        bench.own_status(55)
    assert asked >= 1
    assert bench.now_ns - began_ns <= 2 * TIMEOUT_NS
    assert bench.is_in(Phase.FOLLOWING)


def test_a_learner_that_fell_back_makes_it_prepare_from_there(bench: ProposerBench) -> None:
    # 5 to 8 were not asked about: their votes are not known.
    bench.stand(8)
    bench.promise(1, floor=20)
    bench.promise(3)
    before = bench.ballot
    effects = bench.own_status(4)
    assert {first for _, first in prepares(effects)} == {5}
    (started,) = happened(effects, PrepareStarted)
    assert started.ballot > before
    bench.ballot = before
    bench.promise(2, first=9)
    assert bench.is_in(Phase.PREPARING), "promises for the old ballot are void"


def test_a_learner_that_fell_back_while_preparing(bench: ProposerBench) -> None:
    bench.stand(8)
    bench.own_status(4)
    bench.promise(1)
    effects = bench.promise(3)
    assert sent(effects, Accept) == []
    assert {first for _, first in prepares(effects)} == {5}


# Other masters.


def test_a_higher_ballot_that_leads_ends_an_attempt_a_lower_one_does_not(
    bench: ProposerBench,
) -> None:
    bench.heartbeat(ballot(5, 2))
    bench.stand()
    bench.heartbeat(ballot(5, 2))
    assert bench.is_in(Phase.PREPARING)
    bench.heartbeat(ballot(6, 2), confirmed=False)
    assert bench.is_in(Phase.FOLLOWING), "a majority promised it"
    assert bench.proposer.master_id == 2


def test_a_late_heartbeat_of_an_earlier_master_changes_nothing(bench: ProposerBench) -> None:
    bench.heartbeat(ballot(5, 3))
    deadline_ns = bench.proposer.deadline_ns
    bench.now_ns += 500 * MS
    bench.heartbeat(ballot(4, 2))
    assert bench.proposer.master_id == 3
    assert bench.proposer.deadline_ns == deadline_ns


@pytest.mark.parametrize("sender", [client(2), acceptor_of(2), learner_of(2), proposer_of(3)])
def test_only_the_master_itself_says_that_it_leads(bench: ProposerBench, sender: Address) -> None:
    effects = bench.receive(sender, Heartbeat(ballot(5, 2), 1, True, 0, 0, POINT))
    assert happened(effects, MessageRefused)
    assert bench.proposer.master_id is None


@pytest.mark.parametrize(
    ("reason", "ends"),
    [
        (NackReason.PROMISED, True),
        (NackReason.CONFIGURATION_NEW, False),
        (NackReason.STORAGE_FULL, False),
        (NackReason.BEFORE_CONFIGURATION, False),
        (NackReason.LEASED, False),
    ],
)
@pytest.mark.parametrize("leads", [False, True])
def test_which_nacks_end_an_attempt_or_a_reign(
    bench: ProposerBench, reason: NackReason, ends: bool, leads: bool
) -> None:
    if leads:
        bench.lead()
    else:
        bench.stand()
    effects = bench.nack(2, reason, promised=bench.ballot)
    assert (bench.is_in(Phase.FOLLOWING)) == ends
    assert bool(happened(effects, MasterStopped if leads else CandidacyEnded)) == ends
    assert not happened(effects, CandidacyEnded if leads else MasterStopped)


@pytest.mark.parametrize("reason", [NackReason.CONFIGURATION_OLD, NackReason.NOT_A_VOTER])
def test_who_counts_another_configuration_ends_a_reign_and_no_attempt(
    bench: ProposerBench, reason: NackReason
) -> None:
    bench.stand()
    bench.nack(2, reason)
    assert bench.is_in(Phase.PREPARING), "a majority may still promise"
    bench.promise(1)
    bench.promise(3)
    assert bench.is_in(Phase.LEADING)
    bench.nack(2, reason)
    assert bench.is_in(Phase.FOLLOWING)


def test_a_nack_from_who_does_not_vote_ends_nothing(bench: ProposerBench) -> None:
    bench.stand()
    bench.nack(4, NackReason.PROMISED, promised=ballot(9, 3))
    assert bench.is_in(Phase.PREPARING)


# Who leads, by the log.


def test_a_later_master_record_that_the_own_learner_applied_is_told_once(
    bench: ProposerBench,
) -> None:
    told = [
        happened(bench.own_status(9, master=master), MasterChanged)
        for master in ((2, 4), (2, 4), (1, 3), (3, 7), (0, 0), (3, 7))
    ]
    assert told == [[MasterChanged(1, 2, 4)], [], [], [MasterChanged(1, 3, 7)], [], []]
    assert bench.proposer.master_record == (3, 7)
    later = status(9, master=(2, 8))
    assert happened(bench.receive(learner_of(2), later), MasterChanged) == []


# Clients of who does not lead.


def test_requests_while_following_go_to_the_master(bench: ProposerBench) -> None:
    (redirected,) = sent(bench.ask(1), Redirected)
    assert redirected.master is None
    assert redirected.retry_after_ms > 0
    bench.heartbeat(ballot(5, 3))
    (redirected,) = sent(bench.ask(2), Redirected)
    assert redirected == Redirected(2, 3, 0, untouched=True)
    effects = bench.receive(client(), OpenSession(3, "me"))
    assert sent(effects, Redirected) == [Redirected(3, 3, 0, untouched=True)]
    assert once_each(bench, [1, 2, 3])


def test_requests_wait_for_an_attempt_and_are_all_answered_when_it_fails(
    bench: ProposerBench,
) -> None:
    bench.due()
    bench.ask(1)
    bench.own_status()
    bench.welcome(1, 2)
    bench.ask(2)
    bench.ask(2)
    bench.receive(client(), OpenSession(3, "me"))
    assert not bench.answers
    (promised,) = happened(bench.nack(2, NackReason.PROMISED), CandidacyEnded)
    assert promised.reason
    assert once_each(bench, [1, 2, 3])


def test_requests_go_to_the_master_that_ended_the_attempt(bench: ProposerBench) -> None:
    bench.stand()
    bench.ask(1)
    effects = bench.heartbeat(ballot(6, 2))
    assert sent(effects, Redirected) == [Redirected(1, 2, 0, untouched=True)]


def test_only_what_was_not_proposed_is_called_untouched(bench: ProposerBench) -> None:
    """A client may take it for certain that nothing of such a call will ever be applied."""
    bench.serve()
    for request_id in range(1, 12):
        bench.ask(request_id)
    effects = bench.nack(2, NackReason.PROMISED)
    proposed = {
        entry.first_number
        for (at, _), encoded in bench.values.items()
        if at == bench.ballot
        for entry in decode_value(encoded).entries
        if isinstance(entry, CommandBatch)
    }
    redirected = sent(effects, Redirected)
    assert {r.request_id for r in redirected if not r.untouched} == proposed
    assert {r.request_id for r in redirected if r.untouched} == set(range(1, 12)) - proposed
    assert 1 < len(proposed) < 11


def test_a_machine_that_failed_is_named_while_nobody_leads(bench: ProposerBench) -> None:
    bench.stand()
    bench.ask(1)
    effects = bench.own_status(stopped="machine 'kv' failed")
    refusals = [*sent(effects, Refused), *sent(bench.ask(2), Refused)]
    assert [(r.request_id, r.code) for r in refusals] == [
        (1, RefusalCode.APPLY_STOPPED),
        (2, RefusalCode.APPLY_STOPPED),
    ]
    assert "'kv'" in refusals[0].message
    assert refusals[0].retry_after_ms > 0
    bench.heartbeat(ballot(9, 3))
    (redirected,) = sent(bench.ask(3), Redirected)
    assert redirected.master == 3, "who leads may have a machine that works"


def test_what_is_for_others_is_dropped(bench: ProposerBench) -> None:
    for message in (Flush(), Accept(ballot(1), 1, b""), Redirected(1, None, 0)):
        effects = bench.receive(client(), message)
        assert happened(effects, MessageRefused)
        assert sends(effects) == []


def test_votes_while_following_count_for_nothing(bench: ProposerBench) -> None:
    for member_id in (1, 2, 3):
        vote = Accepted(ballot(1), 1)
        assert bench.receive(acceptor_of(member_id), vote) == Effects()
