"""Who stands, and when: pre-votes, leases in the way, a silent or full disk, priorities."""

from __future__ import annotations

import dataclasses

import pytest

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.effects import Effects
from ray_paxos.core.events import CandidacyEnded, MajorityPromised, PrepareResent
from ray_paxos.core.learner_messages import CatchUp
from ray_paxos.core.messages import (
    Accept,
    Address,
    LeaseRelease,
    NackReason,
    Prepare,
    PreVote,
    PreVoteGranted,
    TakeOver,
)
from ray_paxos.core.proposer import Phase
from tests.unit.core_helpers import (
    MS,
    acceptor_of,
    ballot,
    client,
    happened,
    learner_of,
    proposer_of,
    receivers,
    sent,
    status,
)
from tests.unit.proposer_bench import SETTINGS, ProposerBench, prepares

TIMEOUT_NS = SETTINGS.election_timeout_ns
INTERVAL_NS = SETTINGS.heartbeat_interval_ns


@pytest.fixture
def bench() -> ProposerBench:
    return ProposerBench()


def refused(bench: ProposerBench, member_id: int, wait_ms: int = 700) -> Effects:
    return bench.nack(member_id, NackReason.LEASED, at=bench.wanted, wait_ms=wait_ms)


def wait_ns(bench: ProposerBench) -> int:
    return (bench.proposer.deadline_ns or 0) - bench.now_ns


# What it takes to prepare.


@pytest.mark.parametrize("last", ["a pre-vote", "its own acceptor", "its own learner"])
def test_it_prepares_once_welcome_answered_by_its_own_disk_and_known_to_its_learner(
    bench: ProposerBench, last: str
) -> None:
    bench.probe()
    steps = {
        "a pre-vote": lambda: bench.welcome(2),
        "its own acceptor": lambda: bench.welcome(1),
        "its own learner": lambda: bench.own_status(4),
    }
    final = steps.pop(last)
    for step in steps.values():
        assert prepares(step()) == []
    assert bench.is_in(Phase.PROBING)
    assert prepares(final()) == [(acceptor_of(m), 5) for m in (1, 2, 3)]
    assert bench.ballot == bench.wanted


def test_a_majority_of_others_is_not_enough_while_the_own_acceptor_is_silent(
    bench: ProposerBench,
) -> None:
    bench.probe()
    bench.own_status()
    assert prepares(bench.welcome(2, 3)) == []
    began_ns = bench.now_ns
    while bench.is_in(Phase.PROBING):
        effects = bench.due()
        assert sent(effects, Prepare) == []
        if bench.is_in(Phase.PROBING):
            assert receivers(effects, PreVote) == [acceptor_of(1)], "who granted is left in peace"
    assert bench.now_ns <= began_ns + 2 * TIMEOUT_NS


def test_the_own_acceptor_may_be_bound_itself_so_long_as_it_answers(bench: ProposerBench) -> None:
    # It restarted, or granted its lease to one that a majority no longer follows.
    bench.probe()
    bench.own_status()
    bench.welcome(2, 3)
    assert prepares(refused(bench, 1)) != []


def test_with_a_full_disk_of_its_own_it_does_not_stand(bench: ProposerBench) -> None:
    bench.probe()
    bench.own_status()
    effects = bench.nack(1, NackReason.STORAGE_FULL, at=bench.wanted)
    assert happened(effects, CandidacyEnded)
    assert bench.is_in(Phase.FOLLOWING)


def test_anothers_full_disk_is_one_voter_less(bench: ProposerBench) -> None:
    bench.probe()
    bench.own_status()
    bench.nack(3, NackReason.STORAGE_FULL, at=bench.wanted)
    assert bench.is_in(Phase.PROBING)
    assert prepares(bench.welcome(1, 2)) != []


@pytest.mark.parametrize("incarnation", [0, 1, 3])
def test_it_prepares_only_once_its_learner_knows_this_life(
    bench: ProposerBench, incarnation: int
) -> None:
    # What the life before told it of a lease would go on beside the new reign.
    bench.probe()
    bench.welcome(1, 2, 3)
    assert prepares(bench.own_status(proposer_incarnation=incarnation)) == []
    effects = bench.due()
    assert receivers(effects, CatchUp) == [learner_of(1)], "it makes itself known"
    assert prepares(bench.own_status()) != []


@pytest.mark.parametrize(
    ("sender", "replica_id", "config_id", "at"),
    [
        (acceptor_of(2), 12, 0, Ballot(1, 1, 1)),
        (acceptor_of(2), 12, 0, Ballot(2, 1, 2)),
        (acceptor_of(2), 13, 0, Ballot(1, 1, 2)),
        (acceptor_of(2), 12, 5, Ballot(1, 1, 2)),
        (acceptor_of(4), 14, 0, Ballot(1, 1, 2)),
        (learner_of(2), 12, 0, Ballot(1, 1, 2)),
        (client(2), 12, 0, Ballot(1, 1, 2)),
        (acceptor_of(1), 11, 0, Ballot(1, 1, 2)),
    ],
    ids=[
        "for an earlier life",
        "for another round",
        "another voter's replica",
        "another configuration",
        "no voter",
        "a learner",
        "a client",
        "the same again",
    ],
)
def test_a_pre_vote_that_counts_for_nobody(
    bench: ProposerBench, sender: Address, replica_id: int, config_id: int, at: Ballot
) -> None:
    bench.probe()
    assert bench.wanted == Ballot(1, 1, 2)
    bench.own_status()
    bench.welcome(1)
    effects = bench.receive(sender, PreVoteGranted(at), replica_id=replica_id, config_id=config_id)
    assert prepares(effects) == []
    assert bench.is_in(Phase.PROBING)


def test_pre_votes_while_following_preparing_or_leading_start_nothing(
    bench: ProposerBench,
) -> None:
    assert bench.welcome(1, 2, 3) == Effects()
    bench.stand()
    assert bench.welcome(1, 2, 3) == Effects()
    bench.promise(1)
    bench.promise(2)
    assert bench.welcome(1, 2, 3) == Effects()


# In peace with who leads.


def test_a_member_behind_a_cut_raises_no_ballot_and_unseats_nobody(bench: ProposerBench) -> None:
    told = []
    for _ in range(30):
        effects = bench.due()
        assert sent(effects, Prepare) == []
        told += sent(effects, PreVote)
        if bench.is_in(Phase.PROBING) and receivers(effects, CatchUp):
            bench.own_status()
            bench.welcome(1)
    assert len(told) > 10
    assert {pre_vote.ballot for pre_vote in told} == {Ballot(1, 1, 2)}
    # Healed: the others follow a master, and say so.
    bench.heartbeat(ballot(1, 2))
    assert bench.is_in(Phase.FOLLOWING)
    assert bench.proposer.master_id == 2


def test_in_a_chain_it_gives_way_to_a_master_that_it_cannot_hear(bench: ProposerBench) -> None:
    # F11: member 3 leads, member 2 hears both, members 1 and 3 do not hear each other.
    for attempt in range(10):
        bench.probe()
        bench.own_status()
        bench.welcome(1)
        assert bench.wanted == Ballot(1, 1, 2), "and no ballot is used up"
        refused(bench, 2)
        assert bench.is_in(Phase.PROBING), "member 3 has not answered yet"
        while bench.is_in(Phase.PROBING):
            assert sent(bench.due(), Prepare) == []
        assert attempt < 10


def test_it_comes_back_when_the_refusals_say_and_not_all_at_once() -> None:
    waits = []
    for seed in range(40):
        bench = ProposerBench(seed=seed)
        bench.probe()
        bench.own_status()
        bench.welcome(1)
        refused(bench, 2, 400)
        assert bench.is_in(Phase.PROBING)
        (stopped,) = happened(refused(bench, 3, 700), CandidacyEnded)
        assert stopped.reason
        waits.append(wait_ns(bench))
    # With the own acceptor's a majority may be there once the first of the two is free.
    assert all(400 * MS <= wait <= 400 * MS + INTERVAL_NS for wait in waits)
    assert len(set(waits)) > 20


def test_if_all_are_bound_it_waits_for_a_majority_of_them(bench: ProposerBench) -> None:
    bench.probe()
    bench.own_status()
    refused(bench, 3, 900)
    refused(bench, 1, 300)
    assert bench.is_in(Phase.FOLLOWING), "two of three: no majority can be left"
    # Who has not answered is taken to be free an election timeout from now.
    assert 900 * MS <= wait_ns(bench) <= 900 * MS + INTERVAL_NS


def test_a_grant_after_a_refusal_counts(bench: ProposerBench) -> None:
    bench.probe()
    bench.own_status()
    bench.welcome(1)
    refused(bench, 2)
    effects = bench.tick(SETTINGS.retransmit_ns / MS)
    assert receivers(effects, PreVote) == [acceptor_of(2), acceptor_of(3)]
    assert prepares(bench.welcome(2)) != []


def test_what_an_attempt_waited_for_is_told(bench: ProposerBench) -> None:
    bench.stand()
    began_ns = bench.now_ns
    effects = bench.tick(SETTINGS.retransmit_ns / MS)
    assert [event.ballot for event in happened(effects, PrepareResent)] == [bench.ballot]
    assert not happened(bench.promise(2), MajorityPromised)
    effects = bench.promise(1)
    (promised,) = happened(effects, MajorityPromised)
    assert promised.ballot == bench.ballot
    assert promised.after_ns == bench.now_ns - began_ns >= SETTINGS.retransmit_ns
    assert not happened(bench.promise(3), MajorityPromised), "told once"


def test_a_promise_to_another_makes_it_ask_anew_above_it(bench: ProposerBench) -> None:
    bench.probe()
    bench.own_status()
    bench.welcome(2)
    effects = bench.nack(3, NackReason.PROMISED, promised=ballot(7, 2), at=bench.wanted)
    assert {pre_vote.ballot for pre_vote in sent(effects, PreVote)} == {Ballot(8, 1, 2)}
    assert receivers(effects, PreVote) == [acceptor_of(m) for m in (1, 2, 3)]
    assert prepares(bench.welcome(1)) == [], "the grant below it counts no more"
    assert prepares(bench.welcome(3)) != []
    assert bench.ballot == Ballot(8, 1, 2)


def test_a_late_refusal_of_an_earlier_question_changes_nothing(bench: ProposerBench) -> None:
    bench.probe()
    bench.own_status()
    earlier = bench.wanted
    bench.nack(3, NackReason.PROMISED, promised=ballot(7, 2), at=earlier)
    for member_id in (1, 2, 3):
        bench.nack(member_id, NackReason.LEASED, at=earlier, wait_ms=500)
        effects = bench.nack(member_id, NackReason.PROMISED, promised=ballot(7, 2), at=earlier)
        assert sent(effects, PreVote) == []
    assert bench.is_in(Phase.PROBING)
    assert prepares(bench.welcome(1, 2)) != []


def test_a_lease_granted_since_the_pre_vote_is_waited_for_and_asked_again(
    bench: ProposerBench,
) -> None:
    bench.stand()
    bench.promise(1)
    bench.nack(2, NackReason.LEASED, wait_ms=120)
    assert bench.is_in(Phase.PREPARING)
    assert wait_ns(bench) == 120 * MS
    effects = bench.due()
    assert receivers(effects, Prepare) == [acceptor_of(2), acceptor_of(3)]
    assert {prepare.ballot for prepare in sent(effects, Prepare)} == {bench.ballot}
    bench.nack(2, NackReason.LEASED, wait_ms=0)
    assert wait_ns(bench) >= MS, "never in a circle"


# Priorities.


def test_who_has_not_the_highest_priority_stands_later() -> None:
    delay_ns = SETTINGS.preferred_delay_ns
    for seed in range(20):
        plain = ProposerBench(seed=seed).proposer.deadline_ns or 0
        for priorities, later in (
            ({2: 5}, delay_ns),
            ({1: 0}, delay_ns),
            ({1: 5}, 0),
            ({1: 5, 2: 5}, 0),
            ({2: 0}, 0),
            ({4: 9}, 0),
        ):
            bench = ProposerBench(seed=seed, priorities=priorities)
            assert bench.proposer.deadline_ns == plain + later, "4 is no voter"
            bench.heartbeat(ballot(3, 2))
            assert TIMEOUT_NS + later <= wait_ns(bench) < 2 * TIMEOUT_NS + later


def test_after_a_refusal_too_it_stands_later() -> None:
    for priorities, later in (({1: 5}, 0), ({2: 5}, SETTINGS.preferred_delay_ns)):
        bench = ProposerBench(priorities=priorities)
        bench.probe()
        bench.own_status()
        bench.welcome(1)
        refused(bench, 2, 100)
        refused(bench, 3, 100)
        assert 100 * MS + later <= wait_ns(bench) <= 100 * MS + later + INTERVAL_NS


# Asked to take over.


RELEASED = ballot(4, 2)


def take_over(bench: ProposerBench, released: Ballot = RELEASED) -> Effects:
    return bench.receive(proposer_of(released.member_id), TakeOver(released))


def test_a_successor_asks_nobody_and_its_prepares_carry_the_release(bench: ProposerBench) -> None:
    bench.heartbeat(RELEASED)
    effects = take_over(bench)
    assert sent(effects, PreVote) == []
    assert receivers(effects, CatchUp) == [learner_of(1)]
    effects = bench.own_status(6)
    assert prepares(effects) == [(acceptor_of(m), 7) for m in (1, 2, 3)]
    assert {prepare.released for prepare in sent(effects, Prepare)} == {RELEASED}
    assert bench.ballot == Ballot(5, 1, 2)
    bench.promise(2)
    assert sent(bench.promise(3), Accept) == [], "its own disk may stall: it asked nobody before"
    assert sent(bench.promise(1), Accept) != []


def test_a_successor_too_waits_until_its_learner_knows_this_life(bench: ProposerBench) -> None:
    take_over(bench)
    assert prepares(bench.own_status(proposer_incarnation=1)) == []
    assert prepares(bench.own_status()) != []


def test_a_successor_whose_learner_stopped_does_not_stand(bench: ProposerBench) -> None:
    take_over(bench)
    assert sent(bench.own_status(stopped="a machine failed"), Prepare) == []
    assert bench.is_in(Phase.FOLLOWING)


def test_prepares_of_anybody_else_carry_no_release(bench: ProposerBench) -> None:
    assert {prepare.released for prepare in sent(bench.stand(), Prepare)} == {None}


def test_who_was_asking_around_takes_over_at_once(bench: ProposerBench) -> None:
    bench.probe()
    take_over(bench)
    assert prepares(bench.own_status()) != []
    assert bench.ballot == Ballot(5, 1, 2)


def test_an_order_of_an_old_ballot_or_sent_twice_is_ignored(bench: ProposerBench) -> None:
    bench.heartbeat(ballot(5, 3))
    assert take_over(bench) == Effects()
    assert bench.is_in(Phase.FOLLOWING)
    take_over(bench, ballot(6, 2))
    bench.own_status()
    before = bench.ballot
    assert take_over(bench, ballot(6, 2)) == Effects()
    assert bench.is_in(Phase.PREPARING)
    bench.promise(1)
    bench.promise(2)
    assert take_over(bench, ballot(6, 2)) == Effects()
    assert take_over(bench, ballot(60, 2)) == Effects(), "who leads is asked for nothing"
    bench.nack(3, NackReason.PROMISED, promised=ballot(9, 3))
    assert take_over(bench, ballot(6, 2)) == Effects()
    assert bench.is_in(Phase.FOLLOWING)
    assert bench.ballot == before


@pytest.mark.parametrize("sender", [proposer_of(3), acceptor_of(2), learner_of(2), client(2)])
def test_only_the_master_itself_hands_over(bench: ProposerBench, sender: Address) -> None:
    bench.receive(sender, TakeOver(RELEASED))
    assert bench.is_in(Phase.FOLLOWING)


def test_who_does_not_vote_takes_nothing_over() -> None:
    bench = ProposerBench(replica_id=0)
    take_over(bench)
    assert bench.is_in(Phase.FOLLOWING)
    assert bench.receive(learner_of(1), status()) == Effects()


def test_a_successor_that_is_not_promised_gives_up_like_anybody(bench: ProposerBench) -> None:
    take_over(bench)
    bench.own_status()
    began_ns = bench.now_ns
    while bench.is_in(Phase.PREPARING):
        effects = bench.due()
        assert sent(effects, LeaseRelease) == []
    assert happened(effects, CandidacyEnded)
    assert bench.now_ns - began_ns <= 2 * TIMEOUT_NS
    assert {prepare.released for prepare in sent(bench.stand(), Prepare)} == {None}


def test_a_successor_with_a_full_disk_does_not_stand(bench: ProposerBench) -> None:
    take_over(bench)
    bench.own_status()
    bench.nack(1, NackReason.STORAGE_FULL)
    bench.promise(2)
    bench.promise(3)
    assert not bench.is_in(Phase.LEADING)


def test_a_late_heartbeat_of_who_handed_over_does_not_stop_the_successor(
    bench: ProposerBench,
) -> None:
    take_over(bench)
    bench.heartbeat(RELEASED)
    assert prepares(bench.own_status()) != []


def test_probing_is_not_for_ever_whatever_the_settings() -> None:
    slow = dataclasses.replace(SETTINGS, retransmit_ns=5_000 * MS)
    bench = ProposerBench(settings=slow)
    bench.probe()
    bench.due()
    assert bench.is_in(Phase.FOLLOWING)
