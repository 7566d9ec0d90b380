"""How a master changes who has its group, and how a proposer takes another configuration."""

from __future__ import annotations

from typing import Any

import pytest

from ray_paxos.core.client_messages import Redirected, RefusalCode, Refused
from ray_paxos.core.effects import Effects
from ray_paxos.core.genesis import Configuration
from ray_paxos.core.learner_messages import CatchUp
from ray_paxos.core.membership import changed
from ray_paxos.core.membership_messages import ChangeMembership, MembershipChanged
from ray_paxos.core.messages import (
    Accept,
    Heartbeat,
    Nack,
    NackReason,
    Prepare,
    PreVote,
    Promise,
    TakeOver,
    Vote,
)
from ray_paxos.core.proposer import Phase
from ray_paxos.core.values import MembershipEntry, MembershipKind
from tests.unit.core_helpers import (
    CONFIGURATION,
    MS,
    REPLICAS,
    acceptor_of,
    ballot,
    client,
    learner_of,
    proposer_of,
    receivers,
    sends,
    sent,
    status,
    submit,
    value,
)
from tests.unit.proposer_bench import ProposerBench, accepts, answered, prepares, proposed

ADD, PROMOTE, DEMOTE, REMOVE = MembershipKind
CLIENT = client(7)


def serving(**options: Any) -> tuple[ProposerBench, int]:
    """A master that has heard of everybody; and the instance of its record."""
    bench = ProposerBench(members=(1, 2, 3, 4), **options)
    record = bench.serve()
    hear_of_all(bench, record)
    return bench, record


def hear_of_all(bench: ProposerBench, learned: int) -> None:
    bench.receive(learner_of(2), status(learned))
    bench.receive(learner_of(3), status(learned))
    bench.receive(learner_of(4), status(learned), replica_id=0)


def order(
    bench: ProposerBench, kind: MembershipKind, member_id: int, *, config_id: int = 0, at: int = 1
) -> Effects:
    entry = MembershipEntry(kind, member_id, config_id)
    return bench.receive(CLIENT, ChangeMembership(at, entry))


def refusal(effects: Effects) -> str:
    (refused,) = sent(effects, Refused)
    assert refused.code is RefusalCode.NOT_CHANGED
    return refused.message


def learn(bench: ProposerBench, instance_id: int, configuration: Configuration) -> Effects:
    """The own learner has learned through a membership entry, and tells what it has come to."""
    told = status(instance_id, at=bench.ballot, proposer_incarnation=2, configuration=configuration)
    return bench.receive(learner_of(1), told, config_id=configuration.config_id)


def promise_of_4(bench: ProposerBench) -> Effects:
    """Of the voter that member 4 became: a replica of its own."""
    promise = Promise(bench.ballot, bench.first, 1, (), None)
    return bench.receive(acceptor_of(4), promise, replica_id=REPLICAS[4] + 1)


def after(kind: MembershipKind, member_id: int, instance_id: int) -> Configuration:
    entry = MembershipEntry(kind, member_id, 0)
    return changed(ProposerBench(members=(1, 2, 3, 4)).proposer.configuration, entry, instance_id)


def test_the_entry_is_proposed_alone_and_nothing_above_it() -> None:
    bench, record = serving()
    effects = order(bench, PROMOTE, 4)
    (entry,) = proposed(effects)[record + 1].entries
    assert entry == MembershipEntry(PROMOTE, 4, 0)
    later = bench.receive(client(), submit(1))
    assert not sent(later, Accept)
    bench.accepted(record + 1, 1, 2)
    assert not sent(bench.receive(client(), submit(2)), Accept)


def test_what_was_proposed_before_is_finished_first() -> None:
    bench, record = serving()
    bench.ask(1)
    assert not sent(order(bench, PROMOTE, 4), Accept)
    chosen = bench.accepted(record + 1, 1, 2)
    assert not sent(chosen, Accept), "its client is not answered yet"
    effects = bench.own_learner_takes(chosen)
    assert list(proposed(effects)) == [record + 2]


def test_a_new_ballot_is_promised_by_the_new_voters_before_anything_goes_on() -> None:
    bench, record = serving()
    order(bench, PROMOTE, 4)
    bench.accepted(record + 1, 1, 2)
    bench.receive(client(), submit(1))
    old = bench.ballot
    effects = learn(bench, record + 1, after(PROMOTE, 4, record + 1))
    assert not sent(effects, PreVote), "it leads: nobody is asked around"
    assert prepares(effects) == [(acceptor_of(m), record + 2) for m in (1, 2, 3, 4)]
    assert bench.ballot > old
    assert [m.configuration for m in sent(effects, MembershipChanged)] == [
        after(PROMOTE, 4, record + 1)
    ]
    bench.config_id = record + 1
    bench.promise(1)
    bench.promise(2)
    assert bench.is_in(Phase.PREPARING), "two of four are no majority"
    effects = promise_of_4(bench)
    assert bench.is_in(Phase.LEADING)
    assert set(accepts(effects)[record + 2]) == {1, 2, 3, 4}


def test_requests_that_came_meanwhile_are_proposed_by_the_next_reign() -> None:
    bench, record = serving()
    order(bench, PROMOTE, 4)
    bench.accepted(record + 1, 1, 2)
    bench.receive(client(), submit(1))
    learn(bench, record + 1, after(PROMOTE, 4, record + 1))
    bench.receive(client(), submit(2))
    bench.config_id = record + 1
    bench.promise(1)
    bench.promise(2)
    promise_of_4(bench)
    bench.learned[record + 1] = b""
    effects = bench.own_learner_takes(bench.accepted(record + 2, 1, 2, 3))
    assert bench.proposer.is_serving
    assert [len(v.entries) for v in proposed(effects).values()] == [2]
    assert not answered(effects)


def test_promises_of_the_old_configuration_count_for_nothing() -> None:
    bench, record = serving()
    order(bench, PROMOTE, 4)
    bench.accepted(record + 1, 1, 2)
    learn(bench, record + 1, after(PROMOTE, 4, record + 1))
    for member_id in (1, 2, 3):
        bench.receive(
            acceptor_of(member_id), Promise(bench.ballot, bench.first, 1, (), None), config_id=0
        )
    assert bench.is_in(Phase.PREPARING)


def test_a_second_change_in_flight_is_refused() -> None:
    bench, _ = serving()
    bench.ask(1)
    order(bench, PROMOTE, 4)
    assert "another change" in refusal(order(bench, REMOVE, 3, at=2))
    assert not sends(order(bench, PROMOTE, 4)), "the same one is on its way already"


@pytest.mark.parametrize(
    ("kind", "member_id", "config_id", "why"),
    [
        (ADD, 2, 0, "has the group already"),
        (PROMOTE, 9, 0, "has not the group"),
        (REMOVE, 9, 0, "has not the group"),
        (PROMOTE, 4, 3, "the group is at 0"),
    ],
)
def test_what_cannot_be_is_refused_and_not_proposed(
    kind: MembershipKind, member_id: int, config_id: int, why: str
) -> None:
    bench, _ = serving()
    effects = order(bench, kind, member_id, config_id=config_id)
    assert why in refusal(effects)
    assert not sent(effects, Accept)
    assert sent(bench.receive(client(), submit(1)), Accept), "it goes on"


def test_a_follower_that_is_far_behind_is_not_promoted() -> None:
    bench = ProposerBench(members=(1, 2, 3, 4))
    bench.serve(5_000)
    hear_of_all(bench, 5_000)
    behind = ProposerBench(members=(1, 2, 3, 4))
    behind.serve(5_000)
    behind.receive(learner_of(2), status(5_000))
    behind.receive(learner_of(4), status(10), replica_id=0)
    assert "instances behind" in refusal(order(behind, PROMOTE, 4))
    assert sent(order(bench, PROMOTE, 4), Accept)


def test_a_follower_that_does_not_answer_is_not_promoted() -> None:
    bench = ProposerBench(members=(1, 2, 3, 4))
    bench.serve()
    assert "does not answer" in refusal(order(bench, PROMOTE, 4))


def test_a_voter_is_not_removed_where_too_few_of_the_others_answer() -> None:
    bench = ProposerBench(members=(1, 2, 3, 4))
    record = bench.serve()
    bench.receive(learner_of(3), status(record))
    assert "only 1 answer" in refusal(order(bench, REMOVE, 3))
    assert sent(order(bench, REMOVE, 2), Accept), "1 and 3 are left, and answer"


def test_who_asks_before_the_others_were_heard_of_asks_again() -> None:
    """A reign begins without having heard of anybody: that passes, and is no reason to give up."""
    bench = ProposerBench(members=(1, 2, 3, 4))
    record = bench.serve()
    (refused,) = sent(order(bench, REMOVE, 2), Refused)
    assert "only 1 answer" in refused.message
    assert refused.retry_after_ms > 0
    bench.receive(learner_of(3), status(record))
    assert sent(order(bench, REMOVE, 2), Accept)


def test_who_asks_before_the_master_serves_asks_again() -> None:
    bench = ProposerBench()
    bench.lead()
    (again,) = sent(order(bench, REMOVE, 3), Redirected)
    assert again.retry_after_ms > 0


def test_a_member_that_does_not_lead_sends_on() -> None:
    bench = ProposerBench()
    assert sent(order(bench, REMOVE, 3), Redirected)


@pytest.mark.parametrize("kind", [REMOVE, DEMOTE])
def test_a_master_that_is_to_vote_no_more_hands_over_first(kind: MembershipKind) -> None:
    bench, _ = serving()
    effects = order(bench, kind, 1)
    assert sent(effects, Redirected)
    assert not sent(effects, Accept)
    assert receivers(effects, TakeOver) in ([proposer_of(2)], [proposer_of(3)])
    assert bench.is_in(Phase.FOLLOWING)


def test_a_master_whose_companions_are_silent_cannot_be_removed() -> None:
    bench = ProposerBench()
    bench.serve()
    assert "no other voter is fit to lead" in refusal(order(bench, REMOVE, 1))


def test_a_change_that_cannot_drain_in_time_is_given_up() -> None:
    bench, record = serving()
    bench.ask(1)
    order(bench, PROMOTE, 4)
    effects = bench.tick(1_000)
    assert "could not be finished in time" in refusal(effects)
    chosen = bench.accepted(record + 1, 1, 2)
    assert not proposed(bench.own_learner_takes(chosen)), "the change is forgotten"
    assert sent(bench.receive(client(), submit(2)), Accept)


def test_acceptors_that_have_the_new_configuration_already_end_nothing() -> None:
    bench, record = serving()
    order(bench, PROMOTE, 4)
    bench.accepted(record + 1, 1, 2)
    nack = Nack(bench.ballot, 0, NackReason.CONFIGURATION_OLD, None, record + 1)
    bench.receive(acceptor_of(2), nack, config_id=record + 1)
    assert bench.is_in(Phase.LEADING)
    foreign = Nack(bench.ballot, 0, NackReason.CONFIGURATION_OLD, None, record + 9)
    effects = bench.receive(acceptor_of(3), foreign, config_id=record + 9)
    assert bench.is_in(Phase.FOLLOWING)
    assert CatchUp(record + 9, (3,)) in sent(effects, CatchUp)


def test_an_adopted_entry_is_the_last_thing_proposed_at_its_ballot() -> None:
    entry = value(MembershipEntry(PROMOTE, 4, 0))
    bench = ProposerBench(members=(1, 2, 3, 4))
    votes = (
        Vote(1, ballot(1, 3), value()),
        Vote(2, ballot(1, 3), entry),
        Vote(3, ballot(1, 3), value()),
    )
    effects = bench.lead(0, *votes)
    assert set(accepts(effects)) == {1, 2}
    assert not proposed(effects)[1].entries
    assert len(proposed(effects)[2].entries) == 1
    bench.accepted(1, 1, 2)
    bench.accepted(2, 1, 2)
    assert not bench.proposer.is_serving
    effects = learn(bench, 2, after(PROMOTE, 4, 2))
    assert {instance_id for _, instance_id in prepares(effects)} == {3}


def test_a_change_that_another_has_made_unseats() -> None:
    bench, record = serving()
    learn(bench, record, after(PROMOTE, 4, record))
    assert bench.is_in(Phase.FOLLOWING)


def test_a_candidate_begins_anew_under_another_configuration() -> None:
    bench = ProposerBench(members=(1, 2, 3, 4))
    bench.stand()
    old = bench.ballot
    effects = learn(bench, 5, after(PROMOTE, 4, 5))
    assert bench.is_in(Phase.PROBING)
    assert receivers(effects, PreVote) == [acceptor_of(m) for m in (1, 2, 3, 4)]
    assert all(pre_vote.ballot > old for pre_vote in sent(effects, PreVote))


def test_a_status_whose_configuration_is_not_told_counts_for_nothing() -> None:
    bench, record = serving()
    order(bench, PROMOTE, 4)
    bench.accepted(record + 1, 1, 2)
    told = status(record + 1, at=bench.ballot, proposer_incarnation=2)
    effects = bench.receive(learner_of(1), told, config_id=record + 1)
    assert bench.is_in(Phase.LEADING)
    assert not sends(effects)


def test_a_proposer_that_did_not_vote_at_the_genesis_asks_its_learner() -> None:
    bench = ProposerBench(replica_id=0)
    assert sent(bench.due(), CatchUp) == [CatchUp(0, ())]
    promoted = changed(bench.proposer.configuration, MembershipEntry(PROMOTE, 1, 0), 9)
    learn(bench, 9, promoted)
    bench.config_id = 9
    effects = bench.due()
    assert receivers(effects, PreVote) == [acceptor_of(m) for m in (1, 2, 3)]


def test_a_removed_member_stands_no_more() -> None:
    bench = ProposerBench(members=(1, 2, 3))
    learn(bench, 9, changed(CONFIGURATION, MembershipEntry(REMOVE, 1, 0), 9))
    for _ in range(5):
        assert not sent(bench.due(), PreVote)
        assert bench.is_in(Phase.FOLLOWING)


def test_an_acceptor_that_is_not_there_yet_is_asked_again_soon() -> None:
    bench, record = serving()
    order(bench, PROMOTE, 4)
    bench.accepted(record + 1, 1, 2)
    learn(bench, record + 1, after(PROMOTE, 4, record + 1))
    nack = Nack(bench.ballot, 0, NackReason.CONFIGURATION_NEW, None, 0)
    bench.receive(acceptor_of(2), nack, config_id=0)
    assert bench.is_in(Phase.PREPARING)
    effects = bench.tick(20)
    assert acceptor_of(2) in receivers(effects, Prepare)


def test_heartbeats_go_to_followers_too() -> None:
    bench, _ = serving()
    beats = [send.to for send in sends(bench.tick(200)) if isinstance(send.message, Heartbeat)]
    assert learner_of(4) in beats
    assert proposer_of(4) in beats
    assert acceptor_of(4) not in beats
    assert bench.now_ns > 0 * MS


def test_an_acceptor_whose_member_lags_is_taught() -> None:
    bench, record = serving()
    order(bench, PROMOTE, 4)
    bench.accepted(record + 1, 1, 2)
    learn(bench, record + 1, after(PROMOTE, 4, record + 1))
    nack = Nack(bench.ballot, 0, NackReason.CONFIGURATION_NEW, None, 0)
    effects = bench.receive(acceptor_of(2), nack, config_id=0)
    assert [send.to for send in sends(effects)] == [learner_of(2)]
    assert sent(effects, CatchUp) == [CatchUp(record + 1, (1,))]


def test_a_late_refusal_of_the_reign_before_ends_no_new_attempt() -> None:
    bench, record = serving()
    order(bench, PROMOTE, 4)
    bench.accepted(record + 1, 1, 2)
    old = bench.ballot
    learn(bench, record + 1, after(PROMOTE, 4, record + 1))
    nack = Nack(old, 0, NackReason.CONFIGURATION_OLD, None, record + 1)
    bench.receive(acceptor_of(2), nack, config_id=record + 1)
    assert bench.is_in(Phase.PREPARING)


def test_another_proposer_of_this_process_uses_other_ballots() -> None:
    bench = ProposerBench()
    bench.proposer.go_on_from(41)
    assert all(ask.ballot.round > 41 for ask in sent(bench.probe(), PreVote))
