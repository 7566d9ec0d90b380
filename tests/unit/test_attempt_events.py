"""Events of attempts to lead, and of what has to be sent again."""

from __future__ import annotations

import pytest

from ray_paxos.core.effects import Effects
from ray_paxos.core.events import (
    AcceptResent,
    CandidacyEnded,
    MajorityPromised,
    MasterStopped,
    PrepareResent,
    PrepareStarted,
)
from ray_paxos.core.messages import Accept, NackReason, Prepare
from ray_paxos.core.proposer import Phase
from tests.unit.core_helpers import GROUP, MS, ballot, happened, sent
from tests.unit.proposer_bench import SETTINGS, ProposerBench

RETRANSMIT_MS = SETTINGS.retransmit_ns / MS


@pytest.fixture
def bench() -> ProposerBench:
    return ProposerBench()


def kinds(effects: Effects) -> list[str]:
    return [type(event).__name__ for event in effects.events]


def test_the_last_promise_that_was_needed_is_told_with_its_time(bench: ProposerBench) -> None:
    bench.stand()
    at = bench.ballot
    bench.now_ns += 3 * MS
    assert not happened(bench.promise(2), MajorityPromised)
    bench.now_ns += 4 * MS
    assert happened(bench.promise(3), MajorityPromised) == [MajorityPromised(GROUP, at, 7 * MS)]
    bench.now_ns += 5 * MS
    assert not happened(bench.promise(1), MajorityPromised), "once"


def test_a_promise_of_another_ballot_makes_no_majority(bench: ProposerBench) -> None:
    bench.stand()
    bench.promise(2)
    assert not happened(bench.promise(3, at=ballot(1, 1, 1)), MajorityPromised)
    assert not happened(bench.promise(2), MajorityPromised), "a voter counts once"


def test_time_runs_from_when_the_prepares_left_first(bench: ProposerBench) -> None:
    bench.stand()
    prepared_ns = bench.now_ns
    effects = bench.tick(RETRANSMIT_MS)
    assert happened(effects, PrepareResent) == [PrepareResent(GROUP, bench.ballot)]
    assert len(sent(effects, Prepare)) == 3
    assert not happened(effects, PrepareStarted), "no other ballot"
    bench.promise(2)
    (promised,) = happened(bench.promise(3), MajorityPromised)
    assert promised.after_ns == bench.now_ns - prepared_ns == SETTINGS.retransmit_ns


def test_nothing_is_told_as_sent_again_that_is_sent_first(bench: ProposerBench) -> None:
    bench.probe()
    assert not happened(bench.tick(RETRANSMIT_MS), PrepareResent), "it only asks around"
    bench = ProposerBench()
    effects = bench.stand()
    assert sent(effects, Prepare)
    assert not happened(effects, PrepareResent)


def test_an_attempt_that_is_given_up_is_no_reign_that_ended(bench: ProposerBench) -> None:
    bench.stand()
    at = bench.ballot
    effects = bench.nack(2, NackReason.PROMISED, promised=ballot(90, 2))
    (ended,) = happened(effects, CandidacyEnded)
    assert (ended.group, ended.ballot) == (GROUP, at)
    assert "higher ballot" in ended.reason
    assert not happened(effects, MasterStopped)


def test_an_attempt_that_nobody_answers_ends(bench: ProposerBench) -> None:
    bench.stand()
    ended: list[CandidacyEnded] = []
    for _ in range(20):
        if bench.is_in(Phase.FOLLOWING):
            break
        ended += happened(bench.due(), CandidacyEnded)
    assert len(ended) == 1


def test_a_reign_that_ends_is_no_attempt(bench: ProposerBench) -> None:
    bench.serve()
    effects = bench.heartbeat(ballot(90, 2))
    assert len(happened(effects, MasterStopped)) == 1
    assert not happened(effects, CandidacyEnded)


def test_each_accept_that_is_sent_again_is_told(bench: ProposerBench) -> None:
    record = bench.serve()
    for request_id in (1, 2):
        assert not happened(bench.ask(request_id), AcceptResent)
    bench.accepted(record + 1, 2)
    effects = bench.tick(RETRANSMIT_MS)
    assert happened(effects, AcceptResent) == [
        AcceptResent(GROUP, record + 1),
        AcceptResent(GROUP, record + 2),
    ], "an instance, and not each voter"
    again = sent(effects, Accept)
    assert [accept.instance_id for accept in again].count(record + 1) == 2, "who voted is not asked"
    assert not happened(bench.tick(1), AcceptResent)


def test_what_is_chosen_is_not_sent_again(bench: ProposerBench) -> None:
    record = bench.serve()
    bench.ask(1)
    bench.own_learner_takes(bench.accepted(record + 1, 1, 2))
    assert "AcceptResent" not in kinds(bench.tick(RETRANSMIT_MS))
