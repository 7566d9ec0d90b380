"""A reign and its learners: what is lost is given again, what nobody has is prepared for again.

At the end, a property test that plays any sequence of messages against the proposer.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.core.client_messages import Redirected, RefusalCode, Refused
from ray_paxos.core.events import MasterStopped, PrepareStarted
from ray_paxos.core.learner_messages import (
    Applied,
    Chosen,
)
from ray_paxos.core.messages import (
    Accept,
    Accepted,
    BelowFloor,
    Heartbeat,
    HeartbeatConfirmed,
    NackReason,
    Prepare,
    Promise,
    TakeOver,
    Vote,
)
from ray_paxos.core.proposer import Phase
from tests.unit.core_helpers import (
    MS,
    acceptor_of,
    ballot,
    checkpointer_of,
    client,
    commands,
    happened,
    learner_of,
    proposer_of,
    receivers,
    sends,
    sent,
    status,
    submit,
    value,
)
from tests.unit.proposer_bench import (
    SETTINGS,
    ProposerBench,
    accepts,
    once_each,
    results_of,
)

HELP_MS = SETTINGS.retransmit_ns // MS


@pytest.fixture
def bench() -> ProposerBench:
    return ProposerBench()


def keep_leading(bench: ProposerBench, milliseconds: int, **own_status: Any) -> list[Chosen]:
    """Confirmed heartbeats for a while; what the own learner was told meanwhile."""
    until_ns = bench.now_ns + milliseconds * MS
    told = []
    while bench.proposer.is_serving and (bench.proposer.deadline_ns or 0) <= until_ns:
        effects = bench.due()
        told += [
            send.message
            for send in sends(effects)
            if send.to == learner_of(1) and isinstance(send.message, Chosen)
        ]
        if sent(effects, Heartbeat):
            bench.confirmed(effects, 1, 3)
            bench.own_status(**own_status)
    bench.now_ns = max(bench.now_ns, until_ns)
    return told


def numbers(message: Chosen) -> list[int]:
    return [chosen.instance_id for chosen in message.values]


# What the own learner lost.


def test_chosen_values_are_given_again_until_the_own_learner_has_them(
    bench: ProposerBench,
) -> None:
    bench.serve()
    for request_id in (1, 2, 3):
        bench.ask(request_id)
    for instance_id in (2, 3, 4):
        bench.accepted(instance_id, 1, 2)
    told = keep_leading(bench, HELP_MS + 10, learned=1)
    assert [numbers(message) for message in told] == [[2, 3, 4]]
    bench.own_status(3)
    told = keep_leading(bench, HELP_MS + 10, learned=3)
    assert numbers(told[0])[-1] == 4


def test_a_learner_that_lost_its_unsealed_end_gets_it_again(bench: ProposerBench) -> None:
    # Schedule 17: applied and answered, not sealed; the learner dies.
    bench.serve()
    bench.ask(1)
    bench.own_learner_takes(bench.accepted(2, 1, 2), durable=1)
    assert once_each(bench, [1])
    bench.own_status(1, durable=1)
    told = keep_leading(bench, HELP_MS + 10, learned=1)
    assert numbers(told[0]) == [2]
    assert bench.proposer.is_serving


def test_what_a_learner_lost_is_given_back_as_fast_as_it_takes_it(bench: ProposerBench) -> None:
    # Found by seed 25 of five members: one batch a retransmission took 40 s after all had healed.
    bench.serve()
    for request_id in range(1, 13):
        bench.receive(client(), submit(request_id, commands("x" * 500, request_id)))
        bench.accepted(request_id + 1, 1, 2)
    (told,) = keep_leading(bench, HELP_MS + 10, learned=1)
    given = numbers(told)
    assert given[0] == 2
    assert len(given) < 12, "as much as a batch holds"
    while given[-1] < 13:
        (told,) = sent(bench.own_status(given[-1]), Chosen)
        assert numbers(told)[0] == given[-1] + 1, "at once, and nothing twice"
        given += numbers(told)
    assert given == list(range(2, 14))
    assert sent(bench.own_status(13), Chosen) == []


def test_results_that_were_lost_are_asked_for_again(bench: ProposerBench) -> None:
    bench.serve()
    bench.ask(1)
    bench.accepted(2, 1, 2)
    bench.own_status(2)
    told = keep_leading(bench, HELP_MS + 10, learned=2)
    assert numbers(told[0]) == [2], "the learner has the value, the proposer no results"
    bench.receive(learner_of(1), Applied(2, bench.ballot, results_of(2, told[0].values[0].value)))
    assert once_each(bench, [1])
    assert keep_leading(bench, HELP_MS + 10, learned=2) == []


def test_results_that_are_sealed_away_are_for_the_client_to_ask_again(
    bench: ProposerBench,
) -> None:
    bench.serve()
    bench.ask(1)
    bench.ask(2)
    bench.accepted(2, 1, 2)
    bench.accepted(3, 1, 2)
    bench.own_status(3, durable=2)
    effects = bench.tick(HELP_MS)
    assert sent(effects, Redirected) == [Redirected(1, None, 200)]
    bench.own_status(3, durable=3)
    keep_leading(bench, HELP_MS + 10, learned=3, durable=3)
    assert once_each(bench, [1, 2])
    assert bench.proposer.is_serving
    effects = bench.ask(1)
    assert list(accepts(effects)) == [4], "asked again: proposed again"


# What nobody has.


def test_a_gap_that_nobody_fills_makes_it_prepare_there_at_a_new_ballot(
    bench: ProposerBench,
) -> None:
    bench.serve(6)
    bench.ask(1)
    before = bench.ballot
    # Its learner restarts at 4; 5 and 6 were never in this reign's hands.
    bench.own_status(4)
    keep_leading(bench, SETTINGS.learner_gap_ns // MS - HELP_MS, learned=4)
    assert bench.proposer.is_serving
    effects = bench.tick()
    while bench.proposer.is_serving:
        effects = bench.due()
        if sent(effects, Heartbeat):
            bench.confirmed(effects, 2, 3)
            bench.own_status(4)
    assert happened(effects, MasterStopped)
    assert bench.is_in(Phase.PROBING), "at once, not after an election timeout"
    bench.welcome(1, 3)
    effects = bench.own_status(4)
    (started,) = happened(effects, PrepareStarted)
    assert started.from_instance == 5
    assert started.ballot > before
    assert {prepare.from_instance for prepare in sent(effects, Prepare)} == {5}
    assert once_each(bench, [1])


def test_a_gap_that_is_filled_in_time_ends_nothing(bench: ProposerBench) -> None:
    bench.serve(6)
    for _ in range(4):
        bench.own_status(4)
        keep_leading(bench, SETTINGS.learner_gap_ns // MS - HELP_MS, learned=4)
        bench.own_status(7)
        bench.tick()
    assert bench.proposer.is_serving


def test_a_gap_that_is_being_filled_ends_nothing(bench: ProposerBench) -> None:
    # Somebody gives what is missing, only not all of it at once.
    bench.serve(40)
    for learned in range(4, 16):
        bench.own_status(learned)
        keep_leading(bench, SETTINGS.learner_gap_ns // MS // 2, learned=learned)
    assert bench.proposer.is_serving


# A learner that has no room.


def test_a_master_whose_learner_takes_nothing_in_leaves_the_lead_to_others(
    bench: ProposerBench,
) -> None:
    bench.serve()
    bench.ask(1)
    bench.accepted(2, 1, 2)
    told = keep_leading(bench, SETTINGS.disk_stall_ns // MS - 2 * HELP_MS, learned=1)
    assert bench.proposer.is_serving
    assert told, "given again all the while"
    keep_leading(bench, 3 * HELP_MS, learned=1)
    assert bench.is_in(Phase.FOLLOWING)
    assert bench.proposer.deadline_ns is not None
    others_stand_ns = 2 * SETTINGS.election_timeout_ns
    assert bench.proposer.deadline_ns - bench.now_ns > others_stand_ns
    assert once_each(bench, [1])


def test_a_master_whose_learner_takes_little_in_goes_on(bench: ProposerBench) -> None:
    bench.serve()
    for request_id in range(1, 5):
        bench.ask(request_id)
        bench.accepted(1 + request_id, 1, 2)
    for learned in range(1, 5):
        keep_leading(bench, SETTINGS.disk_stall_ns // MS - HELP_MS, learned=learned)
    assert bench.proposer.is_serving
    bench.own_status(5)
    keep_leading(bench, 2 * SETTINGS.disk_stall_ns // MS, learned=5)
    assert bench.proposer.is_serving, "nothing to take in is no reason"


# How far it goes ahead.


def test_it_does_not_run_away_from_a_learner_that_applies_slowly(bench: ProposerBench) -> None:
    bench.serve()
    ahead = []
    for request_id in range(1, 40):
        bench.ask(request_id)
        ahead += list(accepts(bench.accepted(request_id + 1, 1, 2)))
    last = max(instance_id for _, instance_id in bench.values)
    assert last == 1 + 4 * SETTINGS.window_max
    effects = bench.own_status(9)
    assert list(accepts(effects)) != [], "and goes on as the learner does"


def test_what_is_not_durable_is_bounded(bench: ProposerBench) -> None:
    bench.serve()
    request_id = 0
    while True:
        request_id += 1
        effects = bench.receive(client(), submit(request_id, commands("x" * 500, count=2)))
        if not accepts(effects):
            break
        instance_id = next(iter(accepts(effects)))
        bench.own_learner_takes(bench.accepted(instance_id, 1, 2))
        assert request_id < 50
    kept = sum(len(encoded) for encoded in bench.values.values())
    assert SETTINGS.retained_bytes_max <= kept < SETTINGS.retained_bytes_max + 1_200
    effects = bench.own_status(bench.learned_through, durable=bench.learned_through)
    assert accepts(effects) != {}


def test_overload_is_an_answer_not_memory(bench: ProposerBench) -> None:
    bench.serve()
    refused = [r for n in range(1, 80) for r in sent(bench.ask(n), Refused)]
    assert len(refused) == 79 - SETTINGS.intake_requests_max
    assert {r.code for r in refused} == {RefusalCode.OVERLOADED}
    assert all(r.retry_after_ms > 0 for r in refused)


# What a majority has durably.


def told_durable(bench: ProposerBench) -> int:
    effects = bench.tick(SETTINGS.heartbeat_interval_ns // MS)
    bench.confirmed(effects, 2, 3)
    (durable,) = {message.majority_durable for message in sent(effects, Heartbeat)}
    return durable


def test_the_majority_of_voters_decides_what_is_durable_and_it_never_falls() -> None:
    bench = ProposerBench(members=(1, 2, 3, 4))
    bench.serve(20)
    assert told_durable(bench) == 0
    bench.own_status(21, durable=20)
    assert told_durable(bench) == 0, "one of three"
    bench.receive(learner_of(4), status(21, durable=21), replica_id=0)
    assert told_durable(bench) == 0, "a follower is no voter"
    bench.receive(learner_of(3), status(21, durable=9))
    assert told_durable(bench) == 9
    bench.receive(learner_of(3), status(21, durable=5))
    assert told_durable(bench) == 9, "an older status, late"
    bench.receive(learner_of(2), status(21, durable=21))
    assert told_durable(bench) == 20


def test_only_a_voters_own_learner_tells_what_is_durable_there(bench: ProposerBench) -> None:
    bench.serve(20)
    bench.own_status(21, durable=20)
    bench.receive(acceptor_of(2), status(21, durable=21))
    bench.receive(checkpointer_of(2), status(21, durable=21))
    bench.receive(client(2), status(21, durable=21))
    assert told_durable(bench) == 0
    # R9: member 2 came back without its folder, as replica 22; the entry that makes that one a
    # voter is still to come, and what replica 12 had is gone.
    bench.receive(learner_of(2), status(21, durable=21), replica_id=22)
    assert told_durable(bench) == 0


# Anything at all.

steps = st.tuples(st.integers(0, 20), st.integers(0, 3), st.integers(0, 7))


def play(bench: ProposerBench, step: tuple[int, int, int], number: int) -> None:
    """One step; most numbers mean something plausible for the moment, `number` is fresh."""
    kind, who, what = step
    member_id = who or 2
    at = bench.ballot if what else ballot(1, 1, 1)
    instances = sorted(i for b, i in bench.values if b == at) or [1]
    instance_id = instances[what % len(instances)]
    match kind:
        case 0 | 1:
            bench.due()
        case 2:
            bench.tick(100 * what)
        case 3:
            votes = [Vote(i, ballot(0, 2), value(commands(f"{i}"))) for i in range(3, 3 + what)]
            first = bench.first if who else 1
            kept = tuple(v for v in votes if v.instance_id >= first)
            next_instance = 9 if what == 7 else None
            promise = Promise(at, first, 1 + what // 3, kept, next_instance)
            bench.receive(acceptor_of(member_id), promise)
        case 4 | 5:
            bench.receive(acceptor_of(member_id), Accepted(at, instance_id, what))
        case 6 | 7:
            bench.ask(what)
        case 8:
            bench.own_status(what, durable=what // 2, at=ballot(2, who) if who else None)
        case 9:
            known = bench.values.get((at, instance_id))
            if known is not None:
                results = results_of(instance_id, known)
                bench.receive(learner_of(1), Applied(instance_id, at, results))
        case 10:
            bench.own_status(max(instances), durable=what)
        case 11:
            promised = ballot(what, 3) if who == 3 else bench.ballot
            bench.nack(member_id, NackReason(1 + what % 6), promised=promised, at=at)
        case 12:
            bench.heartbeat(ballot(what, 3), confirmed=who > 1)
        case 13:
            bench.receive(acceptor_of(member_id), BelowFloor(at, instance_id, what))
        case 14:
            bench.welcome(who or 1, 2, at=bench.wanted if what else at)
        case 15:
            bench.read(number)
        case 16:
            bench.transfer(number, who)
        case 17:
            released = ballot(what, member_id)
            bench.receive(proposer_of(member_id), TakeOver(released))
        case 18:
            bench.receive(acceptor_of(member_id), HeartbeatConfirmed(at, what))
        case 19:
            bench.receive(learner_of(member_id), status(max(instances)))
        case 20:
            revoked = bench.ballot if who else ballot(1, 1, 1)
            bench.own_status(max(instances), revoked=revoked, incarnation=1 + what % 2)


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, max_size=60), st.integers(0, 3))
def test_any_sequence_answers_every_request_and_keeps_its_rules(
    sequence: list[tuple[int, int, int]], seed: int
) -> None:
    bench = ProposerBench(seed=seed)
    bench.lead(0)
    asked: set[int] = set()
    reads: set[int] = set()
    for number, step in enumerate(sequence, start=100):
        before = dict(bench.answers)
        play(bench, step, number)
        if step[0] in (6, 7):
            asked.add(step[2])
        elif step[0] == 16:
            asked.add(number)
        elif step[0] == 15:
            reads.add(number)
        for (_, request_id), count in bench.answers.items():
            assert request_id in asked
            # One step answers a request twice at most where it was asked again after the first.
            assert count <= before.get((client(), request_id), 0) + 1
        if bench.is_in(Phase.FOLLOWING):
            assert {request_id for _, request_id in bench.answers} == asked, "none is forgotten"
            assert {request_id for _, request_id in bench.read_answers} == reads
        assert all(count == 1 for count in bench.read_answers.values())
        open_now = [i for b, i in bench.values if b == bench.ballot]
        assert open_now == sorted(open_now)
        if open_now:
            assert open_now == list(range(open_now[0], open_now[-1] + 1)), "without gaps"
    if not bench.is_in(Phase.FOLLOWING):
        bench.nack(2, NackReason.PROMISED, promised=ballot(50, 3))
    if not bench.is_in(Phase.FOLLOWING):
        bench.heartbeat(ballot(51, 3))
    assert bench.is_in(Phase.FOLLOWING)
    assert {request_id for _, request_id in bench.answers} == asked
    assert receivers(bench.tick(), Accept) == []
