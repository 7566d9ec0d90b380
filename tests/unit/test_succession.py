"""Handing over: drain, revoke, release, in this order; whom to; when not (design section 6)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from ray_paxos.core.client_messages import (
    MasterTransferred,
    QueryFailed,
    QueryProblem,
    Redirected,
    RefusalCode,
    Refused,
)
from ray_paxos.core.effects import Effects
from ray_paxos.core.events import MasterStopped
from ray_paxos.core.learner_messages import Chosen
from ray_paxos.core.messages import (
    Accept,
    Heartbeat,
    HeartbeatConfirmed,
    LeaseNotice,
    LeaseRelease,
    NackReason,
    RevokeLease,
    TakeOver,
    Vote,
)
from ray_paxos.core.proposer import STAND_BACK_TIMEOUTS, Phase
from tests.unit.core_helpers import (
    MS,
    acceptor_of,
    ballot,
    commands,
    happened,
    learner_of,
    proposer_of,
    receivers,
    sends,
    sent,
    status,
    value,
)
from tests.unit.proposer_bench import SETTINGS, ProposerBench, accepts, answered, once_each

TIMEOUT_NS = SETTINGS.election_timeout_ns
INTERVAL_MS = SETTINGS.heartbeat_interval_ns // MS
ALL = [acceptor_of(m) for m in (1, 2, 3)]


@pytest.fixture
def bench() -> ProposerBench:
    return serving()


def serving(learned: int = 0, **options: Any) -> ProposerBench:
    """A master with a lease that its learner was told of; members 2 and 3 keep up."""
    bench = ProposerBench(**options)
    record = bench.serve(learned)
    bench.confirmed(bench.tick(INTERVAL_MS), 1, 2, 3)
    companions_tell(bench, record)
    return bench


def companions_tell(bench: ProposerBench, learned: int, *member_ids: int) -> None:
    for member_id in member_ids or (2, 3):
        bench.receive(learner_of(member_id), status(learned))


def revoked(bench: ProposerBench, **options: Any) -> Effects:
    """The own learner has revoked what it was told to."""
    return bench.own_status(bench.learned_through, at=bench.ballot, revoked=bench.ballot, **options)


def is_released(effects: Effects) -> bool:
    return bool(sent(effects, LeaseRelease))


# The order.


def test_idle_it_revokes_at_once_and_releases_once_that_is_acknowledged(
    bench: ProposerBench,
) -> None:
    effects = bench.transfer(1, 2)
    assert [(send.to, send.message) for send in sends(effects)] == [
        (learner_of(1), RevokeLease(bench.ballot))
    ]
    assert bench.proposer.is_serving
    effects = revoked(bench)
    assert receivers(effects, LeaseRelease) == ALL
    assert set(sent(effects, LeaseRelease)) == {LeaseRelease(bench.ballot)}
    assert receivers(effects, TakeOver) == [proposer_of(2)]
    assert sent(effects, TakeOver) == [TakeOver(bench.ballot)]
    assert sent(effects, MasterTransferred) == [MasterTransferred(1, 2)]
    assert bench.is_in(Phase.FOLLOWING)
    assert happened(effects, MasterStopped)
    assert once_each(bench, [1])


def test_first_all_that_was_proposed_is_chosen_applied_and_answered(
    bench: ProposerBench,
) -> None:
    bench.ask(1)
    assert sends(bench.transfer(2, 3)) == []
    assert sends(bench.ask(3)) == [], "nothing new is proposed"
    chosen = bench.accepted(2, 1, 2)
    assert not sent(chosen, RevokeLease), "chosen is not answered"
    effects = bench.own_status(bench.learned_through, at=bench.ballot)
    assert not sent(effects, RevokeLease)
    effects = bench.own_learner_takes(chosen)
    assert answered(effects) == [("Submitted", 1)]
    assert sent(effects, RevokeLease) == [RevokeLease(bench.ballot)]
    assert receivers(effects, Chosen) == [learner_of(2), learner_of(3)], "nobody has to ask"
    assert accepts(effects) == {}
    effects = revoked(bench)
    assert is_released(effects)
    # What came meanwhile goes to the successor.
    assert sent(effects, Redirected) == [Redirected(3, 3, 0, untouched=True)]
    assert once_each(bench, [1, 2, 3])


@pytest.mark.parametrize(
    "told",
    [
        lambda bench: bench.own_status(bench.learned_through, at=bench.ballot),
        lambda bench: bench.own_status(bench.learned_through, revoked=ballot(0, 1, 2)),
        lambda bench: bench.receive(learner_of(2), status(1, revoked=bench.ballot)),
        lambda bench: bench.receive(acceptor_of(1), status(1, revoked=bench.ballot)),
    ],
    ids=["nothing revoked", "an earlier ballot", "another's learner", "another role"],
)
def test_it_releases_nothing_before_its_own_learner_has_revoked_this_very_ballot(
    bench: ProposerBench, told: Callable[[ProposerBench], Effects]
) -> None:
    # Schedule 6: the revocation is on its way, the learner goes on reading by the lease.
    bench.transfer(1, 2)
    assert not is_released(told(bench))
    assert bench.is_in(Phase.LEADING)
    assert is_released(revoked(bench))


def test_a_revocation_that_is_lost_is_sent_again_and_in_the_end_waited_out(
    bench: ProposerBench,
) -> None:
    (told_ns,) = {bench.proposer.lease_until_ns}
    bench.transfer(1, 2)
    asked = 0
    effects = Effects()
    while bench.is_in(Phase.LEADING):
        effects = bench.due()
        asked += len(sent(effects, RevokeLease))
        if bench.is_in(Phase.LEADING):
            assert not is_released(effects)
            if sent(effects, Heartbeat):
                more = bench.confirmed(effects, 1, 2, 3)
                assert sent(more, LeaseNotice) == [], "or it would never end"
            more = bench.own_status(bench.learned_through, at=bench.ballot)
            assert sent(more, LeaseNotice) == []
    assert asked >= 2
    assert bench.now_ns == told_ns, "when the learner's last notice is over"
    assert is_released(effects)
    assert once_each(bench, [1])


def test_a_learner_that_was_told_of_no_lease_is_not_waited_for() -> None:
    bench = ProposerBench()
    bench.serve()
    companions_tell(bench, 1)
    assert bench.proposer.lease_until_ns == 0
    effects = bench.transfer(1, 2)
    assert sent(effects, RevokeLease) == [RevokeLease(bench.ballot)]
    assert is_released(effects)


def test_another_life_of_the_learner_was_told_nothing(bench: ProposerBench) -> None:
    bench.transfer(1, 2)
    effects = bench.own_status(1, at=bench.ballot, incarnation=2)
    assert sent(effects, LeaseNotice) == []
    assert is_released(effects)


def test_an_earlier_life_of_the_learner_acknowledges_nothing(bench: ProposerBench) -> None:
    assert sent(bench.own_status(1, at=bench.ballot, incarnation=2), LeaseNotice)
    bench.transfer(1, 2)
    assert not is_released(revoked(bench, incarnation=1))
    assert is_released(revoked(bench, incarnation=2))


def test_after_the_release_nothing_more_is_said_at_that_ballot(bench: ProposerBench) -> None:
    # Schedule 21: the target may be dead; a ballot whose release is out is dead, too.
    bench.ask(1)
    bench.own_learner_takes(bench.accepted(2, 1, 2))
    bench.transfer(2, 2)
    effects = revoked(bench)
    released = bench.ballot
    kinds = [type(send.message) for send in sends(effects)]
    first = kinds.index(LeaseRelease)
    assert not {Accept, Heartbeat, LeaseNotice, Chosen} & set(kinds[first:])
    assert bench.accepted(2, 3) == Effects()
    assert bench.receive(acceptor_of(2), HeartbeatConfirmed(released, 2)) == Effects()
    assert bench.proposer.lease_until_ns == 0
    assert not bench.proposer.is_serving
    seen: list[Any] = []
    while bench.is_in(Phase.FOLLOWING):
        seen += sends(bench.due())
    bench.welcome(1, 2)
    seen += sends(bench.own_status(2, at=released))
    assert bench.ballot > released
    assert not [s for s in seen if getattr(s.message, "ballot", None) == released]


def test_reads_that_wait_for_a_round_are_sent_to_the_successor() -> None:
    bench = serving(settings=dataclasses.replace(SETTINGS, lease_ns=0))
    bench.read(2)
    effects = bench.transfer(1, 3)
    (failed,) = sent(effects, QueryFailed)
    assert (failed.request_id, failed.problem, failed.master) == (2, QueryProblem.NOT_MASTER, 3)
    (failed,) = sent(bench.read(3), QueryFailed)
    assert (failed.problem, failed.master) == (QueryProblem.NOT_MASTER, 3)
    assert bench.read_answers.total() == 2


def test_clients_are_sent_to_the_successor_until_a_master_is_heard_of(
    bench: ProposerBench,
) -> None:
    bench.transfer(1, 3)
    revoked(bench)
    assert bench.proposer.master_id == 3
    assert sent(bench.ask(2), Redirected) == [Redirected(2, 3, 0, untouched=True)]
    assert sent(bench.transfer(3, 2), Redirected) == [Redirected(3, 3, 0)]
    bench.heartbeat(ballot(5, 2))
    assert bench.proposer.master_id == 2


def test_a_successor_that_never_came_is_forgotten(bench: ProposerBench) -> None:
    bench.transfer(1, 3)
    revoked(bench)
    bench.probe()
    bench.own_status(1)
    while not bench.is_in(Phase.FOLLOWING):
        bench.due()
    assert bench.proposer.master_id is None


# Given again, or late.


def test_an_order_for_an_earlier_reign_ends_no_later_one() -> None:
    bench = serving(learned=6)
    effects = bench.transfer(1, version=5)
    assert sent(effects, MasterTransferred) == [MasterTransferred(1, 1)], "it leads since"
    assert sent(effects, RevokeLease) == []
    assert sent(bench.ask(7), Accept) != [], "and goes on"
    assert once_each(bench, [1])


def test_an_order_for_this_very_reign_ends_it() -> None:
    bench = serving(learned=6)
    bench.transfer(1, version=7)
    assert receivers(revoked(bench), TakeOver) == [proposer_of(2)]


def test_before_its_record_is_proposed_a_reign_is_later_than_any_that_is_known() -> None:
    bench = ProposerBench()
    votes = [Vote(i, ballot(1, 2), value(commands(str(i)))) for i in range(1, 6)]
    bench.lead(0, *votes)
    effects = bench.transfer(1, version=3)
    assert sent(effects, MasterTransferred) == [MasterTransferred(1, 1)]
    assert bench.is_in(Phase.LEADING)


def test_a_deposed_master_does_not_speak_for_the_reign_that_is_to_end() -> None:
    bench = serving(learned=6)
    effects = bench.transfer(1, version=9)
    assert sent(effects, Redirected) == [Redirected(1, None, INTERVAL_MS)]
    assert sent(effects, RevokeLease) == []


# When it is not done.


def refusal(effects: Effects) -> str:
    (refused,) = sent(effects, Refused)
    assert refused.code is RefusalCode.NOT_TRANSFERRED
    return refused.message


def test_handing_the_lead_to_who_has_it_changes_nothing() -> None:
    bench = serving(members=(1, 2, 3))
    effects = bench.transfer(1, 1)
    assert sent(effects, MasterTransferred) == [MasterTransferred(1, 1)]
    assert bench.is_in(Phase.LEADING)
    assert sent(bench.ask(7), Accept) != []


@pytest.mark.parametrize("target", [4, 99])
def test_only_another_voter_is_handed_the_lead(target: int) -> None:
    bench = serving(members=(1, 2, 3, 4))
    bench.receive(learner_of(4), status(1), replica_id=0)
    assert f"member {target} is not another voter" in refusal(bench.transfer(1, target))
    assert bench.proposer.is_serving


def test_a_silent_member_is_not_handed_the_lead(bench: ProposerBench) -> None:
    for _ in range(2 * TIMEOUT_NS // MS // INTERVAL_MS):
        bench.confirmed(bench.tick(INTERVAL_MS), 1, 2, 3)
        bench.own_status(1, at=bench.ballot)
        companions_tell(bench, 1, 3)
    assert "member 2 does not answer" in refusal(bench.transfer(1, 2))
    assert sent(bench.transfer(2, 3), RevokeLease)


def test_a_member_far_behind_is_not_handed_the_lead() -> None:
    bench = ProposerBench()
    bench.serve(5_000)
    companions_tell(bench, 4_500, 2)
    companions_tell(bench, 3_000, 3)
    assert "2001 instances behind" in refusal(bench.transfer(1, 3))
    assert is_released(bench.transfer(2, 2))


def test_a_member_whose_learner_stopped_is_not_handed_the_lead(bench: ProposerBench) -> None:
    # R12: it would not lead.
    bench.receive(learner_of(2), status(1, stopped="a machine failed"))
    assert "stopped applying" in refusal(bench.transfer(1, 2))
    bench.transfer(2)
    assert receivers(revoked(bench), TakeOver) == [proposer_of(3)]


def test_a_master_that_does_not_serve_yet_hands_nothing_over() -> None:
    bench = ProposerBench()
    bench.lead()
    companions_tell(bench, 1)
    refusal(bench.transfer(1, 2))
    assert sent(bench.transfer(2), Refused) != []


def test_one_handover_at_a_time_but_more_may_ask_for_it(bench: ProposerBench) -> None:
    bench.transfer(1, 2)
    assert "member 2 already" in refusal(bench.transfer(2, 3))
    assert sent(bench.transfer(3, 2), Refused) == []
    assert sent(bench.transfer(4), Refused) == []
    effects = revoked(bench)
    assert sent(effects, MasterTransferred) == [MasterTransferred(n, 2) for n in (1, 3, 4)]
    assert once_each(bench, [1, 2, 3, 4])


def test_a_handover_that_takes_too_long_is_given_up_and_requests_go_on(
    bench: ProposerBench,
) -> None:
    bench.ask(1)
    began_ns = bench.now_ns
    bench.transfer(2, 2)
    bench.ask(3)
    effects = Effects()
    while not sent(effects, Refused):
        effects = bench.due()
        assert not is_released(effects)
        if sent(effects, Heartbeat):
            bench.confirmed(effects, 1, 2)
            bench.own_status(1, at=bench.ballot)
    assert bench.now_ns == began_ns + SETTINGS.transfer_timeout_ns
    assert "in time" in refusal(effects)
    assert 3 in accepts(effects), "request 3 goes on"
    assert bench.proposer.is_serving
    bench.own_learner_takes(bench.accepted(2, 1, 2))
    assert not sent(bench.own_learner_takes(bench.accepted(3, 1, 2)), RevokeLease)
    beat = bench.tick(INTERVAL_MS)
    assert sent(bench.confirmed(beat, 1, 2), LeaseNotice), "and so do notices of the lease"
    assert once_each(bench, [1, 2, 3])


def test_a_reign_that_ends_meanwhile_tells_who_asked(bench: ProposerBench) -> None:
    bench.ask(1)
    bench.transfer(2, 2)
    effects = bench.nack(3, NackReason.PROMISED, promised=ballot(9, 3))
    assert "meanwhile" in refusal(effects)
    assert not is_released(effects)
    assert once_each(bench, [1, 2])


# Whom to.


def test_to_drop_the_lead_is_to_hand_it_to_the_best_and_to_stand_back() -> None:
    bench = serving(priorities={2: 3, 3: 5})
    companions_tell(bench, 1)
    bench.transfer(1)
    effects = revoked(bench)
    assert receivers(effects, TakeOver) == [proposer_of(3)]
    assert sent(effects, MasterTransferred) == [MasterTransferred(1, 3)]
    until_ns = bench.proposer.deadline_ns or 0
    assert until_ns - bench.now_ns >= (1 + STAND_BACK_TIMEOUTS) * TIMEOUT_NS


def test_who_was_told_whom_to_hand_over_to_does_not_stand_back(bench: ProposerBench) -> None:
    bench.transfer(1, 2)
    revoked(bench)
    assert (bench.proposer.deadline_ns or 0) - bench.now_ns < 2 * TIMEOUT_NS


def test_the_lead_is_dropped_even_if_nobody_can_be_asked() -> None:
    bench = ProposerBench()
    bench.serve()
    effects = bench.transfer(1)
    assert is_released(effects)
    assert sent(effects, TakeOver) == []
    assert sent(effects, MasterTransferred) == [MasterTransferred(1, 0)]
    assert bench.proposer.master_id is None
    assert (bench.proposer.deadline_ns or 0) - bench.now_ns >= STAND_BACK_TIMEOUTS * TIMEOUT_NS


# Priorities: the preferred member is handed the lead once it has kept up.


def keep_leading(bench: ProposerBench, milliseconds: int, *, third_learned: int) -> Effects:
    """Everybody answers; the effects of the moment at which it hands over, if it does."""
    until_ns = bench.now_ns + milliseconds * MS
    while (bench.proposer.deadline_ns or 0) <= until_ns:
        effects = bench.due()
        if sent(effects, RevokeLease):
            return effects
        if sent(effects, Heartbeat):
            bench.confirmed(effects, 1, 2, 3)
            bench.own_status(bench.learned_through, at=bench.ballot)
            companions_tell(bench, bench.learned_through, 2)
            if third_learned >= 0:
                companions_tell(bench, third_learned, 3)
    bench.now_ns = until_ns
    return Effects()


SETTLED_MS = SETTINGS.preferred_settled_ns // MS


def test_a_member_of_higher_priority_that_has_kept_up_is_handed_the_lead() -> None:
    bench = serving(20, priorities={3: 5})
    assert sends(keep_leading(bench, SETTLED_MS - 2 * INTERVAL_MS, third_learned=21)) == []
    effects = keep_leading(bench, 4 * INTERVAL_MS, third_learned=21)
    assert sent(effects, RevokeLease) == [RevokeLease(bench.ballot)]
    assert receivers(revoked(bench), TakeOver) == [proposer_of(3)]
    assert (bench.proposer.deadline_ns or 0) - bench.now_ns < 3 * TIMEOUT_NS, "no standing back"


@pytest.mark.parametrize("priorities", [{}, {1: 5, 3: 5}, {1: 5}, {3: 0}, {4: 9}])
def test_nobody_else_is(priorities: dict[int, int]) -> None:
    bench = serving(20, priorities=priorities)
    assert sends(keep_leading(bench, 3 * SETTLED_MS, third_learned=21)) == []


@pytest.mark.parametrize("third_learned", [-1, 3])
def test_a_preferred_member_that_is_silent_or_far_behind_has_to_wait(third_learned: int) -> None:
    bench = serving(20, priorities={3: 5})
    assert sends(keep_leading(bench, 3 * SETTLED_MS, third_learned=third_learned)) == []
    assert sends(keep_leading(bench, SETTLED_MS - 2 * INTERVAL_MS, third_learned=21)) == []
    assert sent(keep_leading(bench, 4 * INTERVAL_MS, third_learned=21), RevokeLease)


def test_a_preferred_member_whose_learner_stopped_is_handed_nothing() -> None:
    # Or the lead would go there and come back for ever.
    bench = serving(20, priorities={3: 5})
    keep_leading(bench, SETTLED_MS - 2 * INTERVAL_MS, third_learned=21)
    bench.receive(learner_of(3), status(21, applied=9, stopped="a machine failed"))
    assert sends(keep_leading(bench, 4 * INTERVAL_MS, third_learned=-1)) == []


def test_a_handover_by_priority_that_cannot_drain_is_not_tried_at_every_beat() -> None:
    bench = serving(20, priorities={3: 5})
    keep_leading(bench, SETTLED_MS - 2 * INTERVAL_MS, third_learned=21)
    bench.ask(1)
    keep_leading(bench, 4 * INTERVAL_MS, third_learned=21)
    assert sent(bench.ask(2), Accept) == [], "it is being handed over: nothing new is proposed"
    assert (bench.ballot, 23) not in bench.values
    keep_leading(bench, SETTINGS.transfer_timeout_ns // MS + INTERVAL_MS, third_learned=21)
    assert (bench.ballot, 23) in bench.values, "given up: what waited is proposed"
    keep_leading(bench, 2 * INTERVAL_MS, third_learned=21)
    assert sent(bench.ask(3), Accept) != [], "and not begun again"


def test_a_copy_of_an_order_is_answered_once(bench: ProposerBench) -> None:
    for _ in range(3):
        bench.transfer(1, 2)
    assert len(sent(revoked(bench), MasterTransferred)) == 1
