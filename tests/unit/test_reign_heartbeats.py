"""A reign's heartbeats: to everybody, confirmed by a majority, without which it ends."""

from __future__ import annotations

import pytest

from ray_paxos.core.events import MasterStopped
from ray_paxos.core.messages import Address, Heartbeat, RoleName
from tests.unit.core_helpers import (
    MS,
    acceptor_of,
    ballot,
    happened,
    learner_of,
    proposer_of,
    receivers,
    sent,
)
from tests.unit.proposer_bench import SETTINGS, ProposerBench, accepts

TIMEOUT_MS = SETTINGS.election_timeout_ns // MS


@pytest.fixture
def bench() -> ProposerBench:
    return ProposerBench()


def test_heartbeats_go_to_everybody_each_interval(bench: ProposerBench) -> None:
    first = bench.lead()
    everybody = {Address(m, role) for m in (1, 2, 3) for role in list(RoleName)[1:4]}
    assert set(receivers(first, Heartbeat)) == everybody - {proposer_of(1)}
    (beat,) = {message.sequence for message in sent(first, Heartbeat)}
    assert not any(message.confirmed for message in sent(first, Heartbeat))
    assert sent(bench.tick(SETTINGS.heartbeat_interval_ns // MS - 1), Heartbeat) == []
    second = bench.tick(1)
    assert {message.sequence for message in sent(second, Heartbeat)} == {beat + 1}
    assert {message.ballot for message in sent(second, Heartbeat)} == {bench.ballot}


def test_followers_of_the_group_hear_heartbeats_and_chosen_but_do_not_vote() -> None:
    bench = ProposerBench(members=(1, 2, 3, 4))
    effects = bench.lead()
    assert learner_of(4) in receivers(effects, Heartbeat)
    assert proposer_of(4) in receivers(effects, Heartbeat)
    assert acceptor_of(4) not in receivers(effects, Heartbeat)
    assert accepts(effects) == {1: [1, 2, 3]}


def test_a_heartbeat_says_whether_a_majority_confirmed(bench: ProposerBench) -> None:
    beat = bench.lead()
    for members, confirmed in (((2,), False), ((2, 3), True), ((), False), ((1, 3), True)):
        bench.confirmed(beat, *members)
        beat = bench.tick(SETTINGS.heartbeat_interval_ns // MS)
        assert {message.confirmed for message in sent(beat, Heartbeat)} == {confirmed}


def test_without_a_majority_that_confirms_it_steps_down(bench: ProposerBench) -> None:
    bench.serve()
    began_ns = bench.now_ns
    while bench.proposer.is_serving:
        effects = bench.due()
        if sent(effects, Heartbeat):
            bench.confirmed(effects, 2)
            bench.own_status(1)
    assert happened(effects, MasterStopped)
    assert bench.now_ns - began_ns <= (TIMEOUT_MS + 200) * MS


def test_a_confirmation_counts_from_the_sending_of_its_round(bench: ProposerBench) -> None:
    bench.serve()
    interval = SETTINGS.heartbeat_interval_ns // MS
    beat = bench.tick(interval)
    sent_ns = bench.now_ns
    bench.now_ns += (interval - 1) * MS
    bench.confirmed(beat, 2, 3)
    while bench.proposer.is_serving:
        bench.due()
        if bench.proposer.is_serving:
            bench.own_status(1)
    assert bench.now_ns <= sent_ns + (TIMEOUT_MS + interval) * MS


def test_with_a_majority_that_confirms_it_goes_on(bench: ProposerBench) -> None:
    bench.serve()
    for _ in range(50):
        effects = bench.due()
        if sent(effects, Heartbeat):
            bench.confirmed(effects, 1, 3)
        bench.own_status(1, at=bench.ballot)
    assert bench.proposer.is_serving
    assert bench.now_ns > 3 * TIMEOUT_MS * MS


def test_confirmations_of_another_ballot_or_configuration_do_not_count(
    bench: ProposerBench,
) -> None:
    beat = bench.lead()
    good = bench.ballot
    bench.ballot = ballot(good.round, 1, 1)
    bench.confirmed(beat, 1, 2, 3)
    bench.ballot = good
    bench.config_id = 5
    bench.confirmed(beat, 1, 2, 3)
    bench.config_id = 0
    beat = bench.tick(SETTINGS.heartbeat_interval_ns // MS)
    assert not sent(beat, Heartbeat)[0].confirmed
