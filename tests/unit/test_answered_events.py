"""Where a command's time went, as its master tells it: once an instance, with times in order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.core.client_messages import OpenSession, Submitted
from ray_paxos.core.effects import Effects
from ray_paxos.core.events import CommandsAnswered, InstanceChosen
from ray_paxos.core.genesis import Configuration, Voter
from ray_paxos.core.learner_messages import Applied
from ray_paxos.core.membership import changed
from ray_paxos.core.membership_messages import ChangeMembership
from ray_paxos.core.messages import Accept, Accepted, Promise, Vote
from ray_paxos.core.values import MembershipEntry, MembershipKind, SessionOpen, decode_value
from tests.unit.core_helpers import (
    GROUP,
    MS,
    REPLICAS,
    acceptor_of,
    ballot,
    client,
    commands,
    happened,
    learner_of,
    noop,
    sent,
    status,
    submit,
)
from tests.unit.proposer_bench import SETTINGS, ProposerBench, results_of

WINDOW = SETTINGS.window_max


@pytest.fixture
def bench() -> ProposerBench:
    return ProposerBench()


def answers(effects: Effects) -> list[CommandsAnswered]:
    return happened(effects, CommandsAnswered)


def answer(bench: ProposerBench, instance_id: int, *voters: int) -> CommandsAnswered:
    """These voters choose an instance, the own learner applies it, and its event is given."""
    (told,) = answers(bench.own_learner_takes(bench.accepted(instance_id, *voters)))
    return told


def times_in_order(told: CommandsAnswered) -> None:
    for request in told.requests:
        assert request.arrived_ns <= told.opened_ns
    vote_times = [at_ns for _, at_ns in told.votes]
    assert vote_times == sorted(vote_times)
    assert told.opened_ns <= vote_times[0]
    assert vote_times[-1] == told.chosen_ns <= told.answered_ns


# Its times.


def test_each_hop_is_told_with_the_time_at_which_it_ended(bench: ProposerBench) -> None:
    record = bench.serve()
    bench.now_ns += 7 * MS
    opened_ns = bench.now_ns
    value = sent(bench.ask(1), Accept)[0].value
    bench.now_ns += 3 * MS
    bench.accepted(record + 1, 3)
    bench.now_ns += 5 * MS
    effects = bench.accepted(record + 1, 1)
    assert not answers(effects), "chosen is not answered"
    bench.now_ns += 11 * MS
    (told,) = answers(bench.own_learner_takes(effects))
    (request,) = told.requests
    assert (request.client, request.request_id) == (client(), 1)
    assert told == CommandsAnswered(
        group=GROUP,
        instance_id=record + 1,
        requests=(request,),
        byte_count=len(value),
        opened_ns=opened_ns,
        votes=((3, opened_ns + 3 * MS), (1, opened_ns + 8 * MS)),
        chosen_ns=opened_ns + 8 * MS,
        answered_ns=opened_ns + 19 * MS,
    )
    assert request.arrived_ns == opened_ns


def test_what_waits_for_room_in_the_window_arrived_before_it_was_opened(
    bench: ProposerBench,
) -> None:
    record = bench.serve()
    for request_id in range(1, WINDOW + 1):
        bench.ask(request_id)
    arrivals = []
    for request_id in range(WINDOW + 1, WINDOW + 3):
        bench.now_ns += 2 * MS
        arrivals.append(bench.now_ns)
        assert not sent(bench.ask(request_id), Accept), "the window is full"
    bench.now_ns += 9 * MS
    opened_ns = bench.now_ns
    bench.own_learner_takes(bench.accepted(record + 1, 1, 2))
    bench.now_ns += 4 * MS
    told = answer(bench, record + WINDOW + 1, 2, 3)
    assert [request.request_id for request in told.requests] == [WINDOW + 1, WINDOW + 2]
    assert [request.arrived_ns for request in told.requests] == arrivals
    assert told.opened_ns == opened_ns
    times_in_order(told)


def test_a_vote_that_comes_twice_or_too_late_changes_nothing(bench: ProposerBench) -> None:
    record = bench.serve()
    opened_ns = bench.now_ns
    bench.ask(1)
    for _ in range(3):
        bench.now_ns += MS
        bench.accepted(record + 1, 2)
    chosen = bench.accepted(record + 1, 1)
    bench.now_ns += MS
    bench.accepted(record + 1, 3, 1, 2)
    (told,) = answers(bench.own_learner_takes(chosen))
    assert told.votes == ((2, opened_ns + MS), (1, opened_ns + 3 * MS))
    assert told.chosen_ns == opened_ns + 3 * MS


def test_an_accept_that_is_sent_again_was_opened_when_it_was_sent_first(
    bench: ProposerBench,
) -> None:
    record = bench.serve()
    opened_ns = bench.now_ns
    bench.ask(1)
    again = bench.tick(SETTINGS.retransmit_ns / MS)
    assert record + 1 in {accept.instance_id for accept in sent(again, Accept)}
    told = answer(bench, record + 1, 1, 3)
    assert told.opened_ns == opened_ns
    assert told.votes[0][1] == opened_ns + SETTINGS.retransmit_ns


def test_a_request_that_is_sent_again_arrived_when_it_came_first(bench: ProposerBench) -> None:
    record = bench.serve()
    arrived_ns = bench.now_ns
    bench.ask(1)
    bench.now_ns += 20 * MS
    bench.ask(1)
    (request,) = answer(bench, record + 1, 1, 2).requests
    assert request.arrived_ns == arrived_ns


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_times_are_in_order_however_votes_come(data: Any) -> None:
    bench = ProposerBench()
    record = bench.serve()
    asked = data.draw(st.integers(1, WINDOW))
    for request_id in range(1, asked + 1):
        bench.now_ns += data.draw(st.integers(0, 3)) * MS
        bench.ask(request_id)
    instances = [record + offset for offset in range(1, asked + 1)]
    votes = data.draw(
        st.permutations([(i, m) for i in instances for m in (1, 2, 3)]), label="votes"
    )
    told: list[CommandsAnswered] = []
    for instance_id, member_id in votes:
        bench.now_ns += data.draw(st.integers(0, 3)) * MS
        chosen = bench.accepted(instance_id, member_id)
        bench.now_ns += data.draw(st.integers(0, 1)) * MS
        told += answers(bench.own_learner_takes(chosen))
    assert sorted(each.instance_id for each in told) == instances
    for each in told:
        times_in_order(each)
        assert len(each.votes) == 2, "those that made it chosen, and no other"


# Once, and only for what has requests.


def test_an_instance_that_is_applied_twice_is_answered_once(bench: ProposerBench) -> None:
    record = bench.serve()
    value = sent(bench.ask(1), Accept)[0].value
    bench.accepted(record + 1, 1, 2)
    applied = Applied(record + 1, bench.ballot, results_of(record + 1, value))
    told = [answers(bench.receive(learner_of(1), applied)) for _ in range(3)]
    assert [len(each) for each in told] == [1, 0, 0]
    assert bench.answers[client(), 1] == 1


def test_an_answer_of_another_ballot_or_learner_is_none(bench: ProposerBench) -> None:
    record = bench.serve()
    value = sent(bench.ask(1), Accept)[0].value
    bench.accepted(record + 1, 1, 2)
    results = results_of(record + 1, value)
    assert not answers(bench.receive(learner_of(1), Applied(record + 1, ballot(1, 2), results)))
    assert not answers(bench.receive(learner_of(2), Applied(record + 1, bench.ballot, results)))


def test_what_is_applied_before_a_majority_was_counted_is_not_answered(
    bench: ProposerBench,
) -> None:
    record = bench.serve()
    value = sent(bench.ask(1), Accept)[0].value
    applied = Applied(record + 1, bench.ballot, results_of(record + 1, value))
    assert not answers(bench.receive(learner_of(1), applied))


def test_adopted_values_no_ops_and_master_records_have_nobody_to_answer(
    bench: ProposerBench,
) -> None:
    effects = bench.lead(0, Vote(1, ballot(1, 2), noop(1)), Vote(3, ballot(1, 2), noop(3)))
    proposed = {accept.instance_id for accept in sent(effects, Accept)}
    assert proposed == {1, 2, 3, 4}, "two votes, a hole and the master record"
    chosen = Effects()
    for instance_id in proposed:
        chosen.extend(bench.accepted(instance_id, 1, 2))
    assert len(happened(chosen, InstanceChosen)) == 4
    effects = bench.own_learner_takes(chosen)
    assert bench.proposer.is_serving
    assert not answers(chosen)
    assert not answers(effects)


def test_a_tick_has_nobody_to_answer(bench: ProposerBench) -> None:
    record = bench.serve()
    bench.own_status(record, at=bench.ballot, due_log_time_ns=MS)
    effects = bench.tick(10)
    (instance_id,) = {accept.instance_id for accept in sent(effects, Accept)}
    assert decode_value(sent(effects, Accept)[0].value).entries == ()
    chosen = bench.accepted(instance_id, 1, 2)
    assert happened(chosen, InstanceChosen)
    assert not answers(bench.own_learner_takes(chosen))


def test_a_session_that_is_opened_is_answered_too(bench: ProposerBench) -> None:
    record = bench.serve()
    bench.receive(client(), OpenSession(1, "one"))
    (request,) = answer(bench, record + 1, 1, 2).requests
    assert request.entries == (SessionOpen("one"),)


def test_the_event_and_the_answers_leave_together(bench: ProposerBench) -> None:
    record = bench.serve()
    for request_id in range(1, WINDOW + 3):
        bench.ask(request_id)
    bench.accepted(record + 1, 1, 2)
    effects = bench.own_learner_takes(bench.accepted(record + WINDOW + 1, 1, 2))
    (told,) = answers(effects)
    submitted = [message.request_id for message in sent(effects, Submitted)]
    assert submitted == [request.request_id for request in told.requests]


def test_what_was_in_flight_when_the_lead_was_lost_is_not_told_as_answered(
    bench: ProposerBench,
) -> None:
    record = bench.serve()
    value = sent(bench.ask(1), Accept)[0].value
    bench.accepted(record + 1, 1, 2)
    old = bench.ballot
    bench.heartbeat(ballot(90, 2))
    applied = Applied(record + 1, old, results_of(record + 1, value))
    assert not answers(bench.receive(learner_of(1), applied))


# Who voted.


def test_votes_are_told_by_member_and_not_by_replica(bench: ProposerBench) -> None:
    record = bench.serve()
    bench.ask(1)
    assert {member for member, _ in answer(bench, record + 1, 2, 3).votes} == {2, 3}


def change(
    bench: ProposerBench, record: int, kind: MembershipKind, member_id: int
) -> Configuration:
    """The master changes who votes, and leads on under the new configuration."""
    entry = MembershipEntry(kind, member_id, 0)
    bench.receive(client(7), ChangeMembership(1, entry))
    bench.accepted(record + 1, 1, 2)
    later = changed(bench.proposer.configuration, entry, record + 1)
    told = status(record + 1, at=bench.ballot, proposer_incarnation=2, configuration=later)
    bench.receive(learner_of(1), told, config_id=later.config_id)
    bench.config_id = record + 1
    bench.learned[record + 1] = b""
    for voter in later.voters:
        promise = Promise(bench.ballot, bench.first, 1, (), None)
        bench.receive(acceptor_of(voter.member_id), promise, replica_id=voter.replica_id)
    return later


def accepted_by(bench: ProposerBench, instance_id: int, *voters: Voter) -> Effects:
    effects = Effects()
    for voter in voters:
        vote = Accepted(bench.ballot, instance_id, 0)
        sender = acceptor_of(voter.member_id)
        effects.extend(bench.receive(sender, vote, replica_id=voter.replica_id))
    return effects


def test_a_new_voters_vote_is_told_under_its_member() -> None:
    bench = ProposerBench(members=(1, 2, 3, 4))
    record = bench.serve()
    for member_id, replica_id in ((2, 12), (3, 13), (4, 0)):
        bench.receive(learner_of(member_id), status(record), replica_id=replica_id)
    later = change(bench, record, MembershipKind.PROMOTE, 4)
    new = later.voter(4)
    assert new is not None
    assert new.replica_id != REPLICAS[4], "another replica than the follower was"
    again = Voter(1, 11), later.voter(2), new
    voters = tuple(voter for voter in again if voter is not None)
    bench.own_learner_takes(accepted_by(bench, record + 2, *voters))
    assert bench.proposer.is_serving
    bench.ask(1)
    chosen = accepted_by(bench, record + 3, *reversed(voters))
    (told,) = answers(bench.own_learner_takes(chosen))
    assert [member for member, _ in told.votes] == [4, 2, 1]
    times_in_order(told)


def test_a_voter_that_has_gone_is_not_told_of() -> None:
    bench = ProposerBench(members=(1, 2, 3))
    record = bench.serve()
    for member_id in (2, 3):
        bench.receive(learner_of(member_id), status(record))
    later = change(bench, record, MembershipKind.DEMOTE, 3)
    assert later.voter(3) is None
    bench.own_learner_takes(accepted_by(bench, record + 2, Voter(1, 11), Voter(2, 12)))
    assert bench.proposer.is_serving
    bench.ask(1)
    chosen = accepted_by(bench, record + 3, Voter(3, 13), Voter(2, 12), Voter(1, 11))
    (told,) = answers(bench.own_learner_takes(chosen))
    assert [member for member, _ in told.votes] == [2, 1]


def test_requests_that_share_an_instance_are_all_told(bench: ProposerBench) -> None:
    record = bench.serve()
    for request_id in range(1, WINDOW + 1):
        bench.ask(request_id)
    many = commands("many", WINDOW + 1, count=3)
    bench.receive(client(901), submit(1, many))
    bench.receive(client(902), submit(1, commands("two", WINDOW + 4, count=2)))
    bench.own_learner_takes(bench.accepted(record + 1, 1, 2))
    told = answer(bench, record + WINDOW + 1, 1, 2)
    assert [request.client for request in told.requests] == [client(901), client(902)]
    assert told.requests[0].entries == (many,)
