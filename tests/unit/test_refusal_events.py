"""What a proposer refuses, sends on, and is refused itself: an event each time, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from ray_paxos.core.client_messages import (
    OpenSession,
    Redirected,
    RefusalCode,
    Refused,
    Submit,
    TransferMaster,
)
from ray_paxos.core.effects import Effects
from ray_paxos.core.events import NackReceived, RequestRedirected, RequestRefused
from ray_paxos.core.membership_messages import ChangeMembership
from ray_paxos.core.messages import Accept, Nack, NackReason
from ray_paxos.core.proposer import Phase
from ray_paxos.core.session_order import WAIT_NS
from ray_paxos.core.values import MembershipEntry, MembershipKind
from tests.unit.core_helpers import (
    GROUP,
    MS,
    acceptor_of,
    ballot,
    client,
    commands,
    happened,
    learner_of,
    sent,
    submit,
)
from tests.unit.proposer_bench import SETTINGS, ProposerBench

WINDOW = SETTINGS.window_max


@pytest.fixture
def bench() -> ProposerBench:
    return ProposerBench()


def refusals(effects: Effects) -> list[RequestRefused]:
    told = happened(effects, RequestRefused)
    answers = [message.code for message in sent(effects, Refused)]
    assert [each.code for each in told] == answers, "an event for every answer, and no other"
    return told


def redirections(effects: Effects) -> int:
    told = happened(effects, RequestRedirected)
    assert set(told) <= {RequestRedirected(GROUP)}
    assert len(told) == len(sent(effects, Redirected)), "an event for every answer"
    return len(told)


def nacks(effects: Effects) -> list[NackReceived]:
    return happened(effects, NackReceived)


# Refused.


def test_an_overload_is_told() -> None:
    bench = ProposerBench(settings=replace(SETTINGS, intake_requests_max=3))
    bench.serve()
    told = [refusals(bench.ask(request_id)) for request_id in range(1, 6)]
    refused = [RequestRefused(GROUP, RefusalCode.OVERLOADED)]
    assert told == [[], [], [], refused, refused]


def test_bytes_overload_too() -> None:
    bench = ProposerBench(settings=replace(SETTINGS, intake_bytes_max=300))
    bench.serve()
    told: list[RequestRefused] = []
    for request_id in range(1, 8):
        told += refusals(bench.ask(request_id))
    assert set(told) == {RequestRefused(GROUP, RefusalCode.OVERLOADED)}


def test_what_is_too_large_is_told(bench: ProposerBench) -> None:
    bench.serve()
    large = commands("x" * (SETTINGS.command_bytes_max + 1))
    told = refusals(bench.receive(client(), submit(1, large)))
    assert told == [RequestRefused(GROUP, RefusalCode.TOO_LARGE)]
    many = commands("x" * SETTINGS.command_bytes_max, count=40)
    told = refusals(bench.receive(client(901), submit(1, many)))
    assert told == [RequestRefused(GROUP, RefusalCode.TOO_LARGE)]


def test_a_label_that_is_too_large_is_told(bench: ProposerBench) -> None:
    bench.serve()
    opening = OpenSession(1, "x" * (SETTINGS.command_bytes_max + 1))
    assert refusals(bench.receive(client(), opening)) == [
        RequestRefused(GROUP, RefusalCode.TOO_LARGE)
    ]


@pytest.mark.parametrize("message", [Submit(1, ()), submit(1, commands(count=0))])
def test_what_is_malformed_is_told(bench: ProposerBench, message: Submit) -> None:
    bench.serve()
    told = refusals(bench.receive(client(), message))
    assert told == [RequestRefused(GROUP, RefusalCode.MALFORMED)]


def test_what_is_too_late_is_told_and_what_waited_behind_it(bench: ProposerBench) -> None:
    record = bench.serve()
    for request_id in range(1, WINDOW + 1):
        bench.ask(request_id)
    late = Submit(WINDOW + 1, submit(WINDOW + 1).batches, 10)
    assert not refusals(bench.receive(client(), late))
    assert not refusals(bench.ask(WINDOW + 2))
    bench.now_ns += 11 * MS
    effects = bench.accepted(record + 1, 1, 2)
    assert refusals(effects) == [
        RequestRefused(GROUP, RefusalCode.TOO_LATE),
        RequestRefused(GROUP, RefusalCode.OVERLOADED),
    ]
    assert not sent(effects, Accept)
    assert not refusals(bench.own_learner_takes(effects)), "once each"


def test_a_refusal_of_what_had_waited_for_its_turn_is_told(bench: ProposerBench) -> None:
    """It is ahead of its session for too long, and then too large for the intake."""
    record = bench.serve()
    bench.own_learner_takes(bench.ask(1))
    bench.own_learner_takes(bench.accepted(record + 1, 1, 2))
    large = commands("x" * (SETTINGS.command_bytes_max + 1), 9)
    assert not refusals(bench.receive(client(), submit(9, large)))
    told = refusals(bench.tick(WAIT_NS / MS))
    assert told == [RequestRefused(GROUP, RefusalCode.TOO_LARGE)]


def test_what_followed_a_refused_one_is_told_each(bench: ProposerBench) -> None:
    bench.serve()
    bench.ask(1)
    large = "x" * (SETTINGS.command_bytes_max + 1)
    assert not refusals(bench.receive(client(), submit(3, commands(large, 3))))
    assert not refusals(bench.receive(client(), submit(4, commands(large, 4))))
    told = refusals(bench.receive(client(), submit(2, commands(large, 2))))
    assert told == [RequestRefused(GROUP, RefusalCode.TOO_LARGE)] * 3


def test_a_member_whose_machine_failed_refuses(bench: ProposerBench) -> None:
    bench.own_status(3, stopped="a machine failed")
    effects = bench.ask(1)
    assert refusals(effects) == [RequestRefused(GROUP, RefusalCode.APPLY_STOPPED)]
    assert not redirections(effects)


def test_a_master_whose_machine_fails_refuses_what_is_untouched_and_sends_on_the_rest(
    bench: ProposerBench,
) -> None:
    record = bench.serve()
    for request_id in range(1, WINDOW + 3):
        bench.ask(request_id)
    effects = bench.own_status(record, stopped="a machine failed", at=bench.ballot)
    assert refusals(effects) == [RequestRefused(GROUP, RefusalCode.APPLY_STOPPED)] * 2
    assert redirections(effects) == WINDOW


def test_what_is_taken_is_not_told_as_refused(bench: ProposerBench) -> None:
    record = bench.serve()
    effects = bench.ask(1)
    effects.extend(bench.own_learner_takes(bench.accepted(record + 1, 1, 2)))
    assert not refusals(effects)
    assert not redirections(effects)


# Sent on.


def test_a_follower_sends_each_request_on(bench: ProposerBench) -> None:
    for request_id in (1, 2):
        assert redirections(bench.ask(request_id)) == 1
    bench.heartbeat(ballot(3, 2))
    assert redirections(bench.ask(3)) == 1
    assert redirections(bench.receive(client(), OpenSession(4, ""))) == 1
    assert redirections(bench.transfer(5)) == 1
    entry = MembershipEntry(MembershipKind.ADD, 4, 0)
    assert redirections(bench.receive(client(), ChangeMembership(6, entry))) == 1


def test_who_stands_keeps_requests_and_sends_them_on_when_it_fails(bench: ProposerBench) -> None:
    bench.stand()
    assert redirections(bench.ask(1)) == 0
    assert redirections(bench.ask(2)) == 0
    effects = bench.nack(2, NackReason.PROMISED, promised=ballot(90, 2))
    assert redirections(effects) == 2


def test_after_the_lead_is_lost_each_request_is_sent_on_once(bench: ProposerBench) -> None:
    record = bench.serve()
    for request_id in range(1, WINDOW + 3):
        bench.ask(request_id)
    bench.accepted(record + 1, 1, 2)  # chosen, and not applied
    ahead = WINDOW + 9
    bench.ask(ahead)  # ahead of its session
    effects = bench.heartbeat(ballot(90, 2))
    assert bench.is_in(Phase.FOLLOWING)
    assert redirections(effects) == WINDOW + 3
    told = [message.request_id for message in sent(effects, Redirected)]
    assert sorted(told) == [*range(1, WINDOW + 3), ahead]
    assert redirections(bench.heartbeat(ballot(91, 3))) == 0


def test_a_request_that_was_answered_is_not_sent_on(bench: ProposerBench) -> None:
    record = bench.serve()
    bench.ask(1)
    bench.own_learner_takes(bench.accepted(record + 1, 1, 2))
    assert redirections(bench.heartbeat(ballot(90, 2))) == 0


def test_a_request_whose_results_were_lost_is_sent_on_once(bench: ProposerBench) -> None:
    record = bench.serve()
    bench.ask(1)
    bench.accepted(record + 1, 1, 2)
    bench.own_status(record + 1, durable=record + 1, at=bench.ballot)
    effects = bench.tick(SETTINGS.retransmit_ns / MS)
    assert redirections(effects) == 1
    assert redirections(bench.tick(SETTINGS.retransmit_ns / MS)) == 0


# Refused by acceptors.


def follow(bench: ProposerBench) -> None:
    pass


def probe(bench: ProposerBench) -> None:
    bench.probe()


def prepare(bench: ProposerBench) -> None:
    bench.stand()


def lead(bench: ProposerBench) -> None:
    bench.serve()


@pytest.mark.parametrize("reason", list(NackReason))
@pytest.mark.parametrize("reach", [follow, probe, prepare, lead])
def test_a_voters_refusal_is_told_with_its_reason(
    bench: ProposerBench, reach: Callable[[ProposerBench], None], reason: NackReason
) -> None:
    reach(bench)
    at = bench.wanted if bench.is_in(Phase.PROBING) else bench.ballot
    promised = ballot(90, 2) if reason is NackReason.PROMISED else None
    effects = bench.nack(3, reason, promised=promised, at=at, wait_ms=5)
    assert nacks(effects) == [NackReceived(GROUP, 3, reason)], "by member, not by replica"


@pytest.mark.parametrize("reach", [follow, probe, prepare, lead])
def test_only_a_voters_refusal_is_told(
    reach: Callable[[ProposerBench], None],
) -> None:
    bench = ProposerBench(members=(1, 2, 3, 4))
    reach(bench)
    nack = Nack(bench.ballot, 0, NackReason.STORAGE_FULL, None, 0, 0)
    follower = acceptor_of(4)
    assert not nacks(bench.receive(follower, nack)), "it does not vote"
    assert not nacks(bench.receive(acceptor_of(3), nack, replica_id=99)), "an earlier replica"
    assert not nacks(bench.receive(learner_of(3), nack)), "no acceptor"
    assert not nacks(bench.receive(acceptor_of(5), nack)), "no member"
    assert len(nacks(bench.receive(acceptor_of(3), nack))) == 1


def test_a_refusal_that_ends_a_reign_is_told_before_its_requests_are_sent_on(
    bench: ProposerBench,
) -> None:
    bench.serve()
    bench.ask(1)
    effects = bench.nack(2, NackReason.PROMISED, promised=ballot(90, 2))
    kinds = [type(event) for event in effects.events]
    assert kinds.index(NackReceived) < kinds.index(RequestRedirected)
    assert nacks(effects) == [NackReceived(GROUP, 2, NackReason.PROMISED)]


def test_an_order_that_is_handed_over_is_no_request_that_is_refused(bench: ProposerBench) -> None:
    """What became of a hand-over is its own answer, not a refusal of a command."""
    bench.serve()
    effects = bench.receive(client(), TransferMaster(1, 9, 0))
    assert not happened(effects, RequestRefused)
