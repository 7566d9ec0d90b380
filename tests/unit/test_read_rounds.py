"""Linearizable reads at a master: rounds begun after they arrived, shared, bounded (R8, R10)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from ray_paxos.core.client_messages import QueryFailed, QueryProblem, ReadIndexConfirmed
from ray_paxos.core.effects import Effects
from ray_paxos.core.messages import (
    Accept,
    Address,
    Heartbeat,
    HeartbeatConfirmed,
    NackReason,
    RoleName,
)
from ray_paxos.core.read_rounds import PendingRead, ReadRounds
from tests.unit.core_helpers import (
    LATER_CONFIGURATION,
    MS,
    acceptor_of,
    ballot,
    client,
    receivers,
    sends,
    sent,
)
from tests.unit.proposer_bench import SETTINGS, ProposerBench

INTERVAL_MS = SETTINGS.heartbeat_interval_ns // MS
NO_LEASE = dataclasses.replace(SETTINGS, lease_ns=0, reads_max=20)


@pytest.fixture
def bench() -> ProposerBench:
    return serving()


def serving(learned: int = 0) -> ProposerBench:
    """A master without a lease, all of whose rounds are confirmed."""
    bench = ProposerBench(settings=NO_LEASE)
    beat = bench.lead(learned)
    bench.confirmed(beat, 1, 2, 3)
    bench.own_learner_takes(bench.accepted(learned + 1, 1, 2))
    assert bench.proposer.is_serving
    return bench


def indexes(effects: Effects) -> dict[int, int]:
    """By request, the index it is told."""
    return {m.request_id: m.index for m in sent(effects, ReadIndexConfirmed)}


def sequence_of(effects: Effects) -> int:
    (sequence,) = {heartbeat.sequence for heartbeat in sent(effects, Heartbeat)}
    return sequence


# Whose round counts.


def test_a_read_begins_a_round_of_its_own_and_is_told_what_was_chosen_when_it_came(
    bench: ProposerBench,
) -> None:
    bench.ask(1)
    bench.accepted(2, 1, 2)
    effects = bench.read(7)
    assert {to.role for to in receivers(effects, Heartbeat)} == {RoleName.ACCEPTOR}
    assert indexes(effects) == {}
    bench.ask(2)
    bench.accepted(3, 1, 2)
    assert indexes(bench.confirmed(effects, 1)) == {}, "one is no majority"
    assert indexes(bench.confirmed(effects, 3)) == {7: 2}
    assert bench.read_answers.total() == 1


def test_only_a_round_begun_after_it_arrived_counts_for_a_read(bench: ProposerBench) -> None:
    beat = bench.tick(INTERVAL_MS)
    assert sends(bench.read(7)) == [], "it waits for the next"
    effects = bench.confirmed(beat, 1, 2)
    assert indexes(effects) == {}, "acceptors may have confirmed before it came"
    assert indexes(bench.confirmed(beat, 3)) == {}
    assert sequence_of(effects) > sequence_of(beat)
    assert indexes(bench.confirmed(effects, 1, 2)) == {7: 1}


def test_a_vote_counts_for_a_read_only_if_its_accept_left_after_it_came(
    bench: ProposerBench,
) -> None:
    before = {accept.sequence for accept in sent(bench.ask(1), Accept)}
    read = bench.read(7)
    after = {accept.sequence for accept in sent(bench.ask(2), Accept)}
    assert after == {sequence_of(read)}
    assert indexes(bench.accepted(2, 1, 2, 3, sequence=before.pop())) == {}
    assert indexes(bench.accepted(3, 1, 2, sequence=after.pop())) == {7: 1}


def test_many_reads_share_the_next_round(bench: ProposerBench) -> None:
    rounds = []
    first = bench.read(1)
    rounds.append(first)
    for request_id in range(2, 12):
        assert sends(bench.read(request_id)) == [], "a round is on its way"
    second = bench.confirmed(rounds[0], 1, 2)
    assert indexes(second) == {1: 1}
    assert len({h.sequence for h in sent(second, Heartbeat)}) == 1
    third = bench.confirmed(second, 1, 2)
    assert set(indexes(third)) == set(range(2, 12))
    assert sent(third, Heartbeat) == [], "and no round for nobody"
    assert bench.proposer.read_counts == (11, 2)


def test_a_regular_round_that_begins_meanwhile_does_too(bench: ProposerBench) -> None:
    beat = bench.tick(INTERVAL_MS)
    bench.read(7)
    later = bench.tick(INTERVAL_MS)
    effects = bench.confirmed(beat, 1, 2)
    assert sent(effects, Heartbeat) == [], "the one on its way began after the read came"
    assert indexes(bench.confirmed(later, 1, 3)) == {7: 1}
    assert bench.proposer.read_counts == (1, 0)


def test_who_confirms_a_later_round_confirms_the_reads(bench: ProposerBench) -> None:
    read = bench.read(7)
    beat = bench.tick(INTERVAL_MS)
    bench.confirmed(beat, 2)
    assert indexes(bench.confirmed(read, 1)) == {7: 1}


@pytest.mark.parametrize("case", ["another ballot", "another configuration", "another replica"])
def test_a_confirmation_that_does_not_count(bench: ProposerBench, case: str) -> None:
    effects = bench.read(7)
    at, replica_id, config_id = bench.ballot, None, None
    match case:
        case "another ballot":
            at = ballot(bench.ballot.round, 1, 1)
        case "another configuration":
            config_id = LATER_CONFIGURATION.config_id
        case "another replica":
            replica_id = 99
    for member_id in (1, 2, 3):
        message = HeartbeatConfirmed(at, sequence_of(effects))
        told = bench.receive(
            acceptor_of(member_id), message, replica_id=replica_id, config_id=config_id
        )
        assert indexes(told) == {}


def test_a_round_that_is_lost_is_followed_by_one_to_everybody(bench: ProposerBench) -> None:
    effects = bench.read(7)
    asked = receivers(effects, Heartbeat)
    assert len(asked) == 2, "a bare majority answers a read"
    assert acceptor_of(1) in asked
    began_ns = bench.now_ns
    effects = bench.due()
    while not sent(effects, Heartbeat):
        effects = bench.due()
    assert bench.now_ns - began_ns < SETTINGS.heartbeat_interval_ns // 2
    assert receivers(effects, Heartbeat) == [acceptor_of(m) for m in (1, 2, 3)]
    missing = next(m for m in (1, 2, 3) if acceptor_of(m) not in asked)
    assert indexes(bench.confirmed(effects, 1)) == {}
    assert indexes(bench.confirmed(effects, missing)) == {7: 1}


def test_a_regular_round_asks_everybody_already(bench: ProposerBench) -> None:
    bench.tick(INTERVAL_MS - 1)
    bench.read(7)
    beat = bench.tick(1)
    assert acceptor_of(3) in receivers(beat, Heartbeat)
    began_ns = bench.now_ns
    effects = bench.due()
    while not sent(effects, Heartbeat):
        effects = bench.due()
    assert bench.now_ns == began_ns + SETTINGS.heartbeat_interval_ns, "no second one beside it"


def test_the_majority_asked_is_of_those_that_answered_last(bench: ProposerBench) -> None:
    for fresh, stale in ((3, 2), (2, 3)):
        bench.confirmed(bench.tick(INTERVAL_MS), 1, fresh)
        effects = bench.read(100 + fresh)
        assert acceptor_of(fresh) in receivers(effects, Heartbeat)
        assert acceptor_of(stale) not in receivers(effects, Heartbeat)
        bench.confirmed(effects, 1, fresh)


def test_after_it_is_answered_nothing_is_asked_on_its_account(bench: ProposerBench) -> None:
    bench.confirmed(bench.read(7), 1, 2)
    effects = bench.due()
    while not sent(effects, Heartbeat):
        effects = bench.due()
    assert bench.now_ns % SETTINGS.heartbeat_interval_ns == 0, "the next regular one"
    assert Address(2, RoleName.LEARNER) in receivers(effects, Heartbeat)


# What it has to see.


def test_a_read_sees_at_least_the_masters_own_record(bench: ProposerBench) -> None:
    bench = serving(8)
    assert indexes(bench.confirmed(bench.read(7), 1, 2)) == {7: 9}


def test_before_its_record_is_applied_a_master_answers_no_read() -> None:
    bench = ProposerBench(settings=NO_LEASE)
    beat = bench.lead(8)
    bench.confirmed(beat, 1, 2)
    bench.accepted(9, 1, 2)
    effects = bench.read(7)
    (failed,) = sent(effects, QueryFailed)
    assert (failed.request_id, failed.problem) == (7, QueryProblem.NOT_MASTER)
    assert sent(effects, Heartbeat) == []


def test_what_is_chosen_above_a_hole_does_not_count(bench: ProposerBench) -> None:
    bench.ask(1)
    bench.ask(2)
    bench.accepted(3, 1, 2)
    assert indexes(bench.confirmed(bench.read(7), 1, 2)) == {7: 1}, "2 is open, and so is 3"


# Under a lease.


def test_under_a_lease_a_read_needs_no_round() -> None:
    bench = ProposerBench()
    bench.serve()
    bench.confirmed(bench.tick(INTERVAL_MS), 1, 2)
    until_ns = bench.proposer.lease_until_ns
    bench.ask(1)
    bench.accepted(2, 1, 2)
    effects = bench.read(7)
    assert indexes(effects) == {7: 2}
    assert sent(effects, Heartbeat) == []
    assert bench.proposer.read_counts == (1, 0)
    bench.now_ns = until_ns
    effects = bench.read(8)
    assert indexes(effects) == {}, "over at its very end"
    assert indexes(bench.confirmed(effects, 1, 2)) == {8: 2}


# Bounds and ends.


def test_the_same_read_sent_again_waits_once(bench: ProposerBench) -> None:
    effects = bench.read(7)
    bench.ask(1)
    bench.accepted(2, 1, 2)
    assert sends(bench.read(7)) == []
    assert indexes(bench.confirmed(effects, 1, 2)) == {7: 1}
    assert bench.read_answers.total() == 1


def test_reads_of_clients_are_told_apart(bench: ProposerBench) -> None:
    first = bench.read(7)
    bench.read(7, of=client(901))
    second = bench.confirmed(first, 1, 2)
    bench.confirmed(second, 1, 2)
    assert bench.read_answers == {(client(), 7): 1, (client(901), 7): 1}


def test_too_many_reads_are_refused_as_overload_and_room_comes_back(
    bench: ProposerBench,
) -> None:
    first = bench.read(1)
    for request_id in range(2, 21):
        assert sends(bench.read(request_id)) == []
    (failed,) = sent(bench.read(21), QueryFailed)
    assert (failed.request_id, failed.problem) == (21, QueryProblem.OVERLOADED)
    assert sends(bench.read(20)) == [], "one that waits already is no other"
    second = bench.confirmed(first, 1, 2)
    assert sends(bench.read(22)) == []
    third = bench.confirmed(second, 1, 2)
    bench.confirmed(third, 1, 2)
    answered = {request_id for _, request_id in bench.read_answers}
    assert answered == {*range(1, 23)}
    assert set(bench.read_answers.values()) == {1}


def a_higher_promise(bench: ProposerBench) -> Effects:
    return bench.nack(3, NackReason.PROMISED, promised=ballot(9, 3))


def another_master(bench: ProposerBench) -> Effects:
    return bench.heartbeat(ballot(9, 3))


def a_stopped_learner(bench: ProposerBench) -> Effects:
    return bench.own_status(1, stopped="a machine failed")


@pytest.mark.parametrize("end", [a_higher_promise, another_master, a_stopped_learner])
def test_when_the_reign_ends_every_read_is_told_once_that_it_is_over(
    bench: ProposerBench, end: Callable[[ProposerBench], Effects]
) -> None:
    first = bench.read(1)
    for request_id in (2, 3):
        bench.read(request_id)
    failed = sent(end(bench), QueryFailed)
    assert [(f.request_id, f.problem) for f in failed] == [
        (n, QueryProblem.NOT_MASTER) for n in (1, 2, 3)
    ]
    assert {f.master for f in failed} == ({3} if end is another_master else {0})
    assert bench.confirmed(first, 1, 2) == Effects(), "a late confirmation answers nothing"
    assert set(bench.read_answers.values()) == {1}


def test_reads_while_following_or_standing_are_sent_on(bench: ProposerBench) -> None:
    bench = ProposerBench()
    bench.heartbeat(ballot(5, 3))
    (failed,) = sent(bench.read(1), QueryFailed)
    assert (failed.problem, failed.master) == (QueryProblem.NOT_MASTER, 3)
    bench.stand()
    (failed,) = sent(bench.read(2), QueryFailed)
    assert (failed.problem, failed.master) == (QueryProblem.NOT_MASTER, 0)


# The book-keeping by itself.


def pending(request_id: int, sequence: int, *, index: int = 0) -> PendingRead:
    return PendingRead(client(), request_id, index, sequence)


def test_reads_leave_in_order_as_their_rounds_are_confirmed() -> None:
    reads = ReadRounds(NO_LEASE)
    for request_id, sequence in ((1, 4), (2, 4), (3, 5), (4, 7)):
        assert reads.add(pending(request_id, sequence))
    assert [reads.needs_round_after(s) for s in (3, 4, 6, 7)] == [True, True, True, False]
    assert reads.take_confirmed(3) == []
    assert [read.request_id for read in reads.take_confirmed(5)] == [1, 2, 3]
    assert reads.answered == 3
    assert [read.request_id for read in reads.drain()] == [4]
    assert len(reads) == 0
    assert reads.answered == 3, "who is sent away was not answered"
    assert not reads.needs_round_after(0)


def test_a_read_that_waits_keeps_its_index_and_round() -> None:
    reads = ReadRounds(NO_LEASE)
    reads.add(pending(1, 4, index=10))
    reads.add(pending(1, 6, index=20))
    (read,) = reads.take_confirmed(4)
    assert read.index == 10
