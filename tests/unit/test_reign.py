"""A reign: what is proposed again, votes counted once, what ends it, and clients' answers (R5)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.client_messages import RefusalCode, Refused, Submitted
from ray_paxos.core.effects import Effects
from ray_paxos.core.events import (
    AcceptResent,
    HoleFilled,
    InstanceChosen,
    MasterStarted,
    MasterStopped,
    ValueAdopted,
)
from ray_paxos.core.genesis import MachineSpec
from ray_paxos.core.learner_messages import (
    Applied,
    Chosen,
)
from ray_paxos.core.messages import (
    Accept,
    Accepted,
    Address,
    BelowFloor,
    Heartbeat,
    NackReason,
    Prepare,
    Vote,
)
from ray_paxos.core.values import MachineMount, MasterRecord, encode_value
from tests.unit.core_helpers import (
    LOG_MACHINE,
    MS,
    acceptor_of,
    ballot,
    client,
    commands,
    happened,
    learner_of,
    proposer_of,
    receivers,
    sends,
    sent,
    submit,
    value,
)
from tests.unit.proposer_bench import (
    SETTINGS,
    ProposerBench,
    accepts,
    answered,
    once_each,
    proposed,
    results_of,
)

TIMEOUT_MS = SETTINGS.election_timeout_ns // MS
OLD = ballot(0, 2)


@pytest.fixture
def bench() -> ProposerBench:
    return ProposerBench()


def vote(instance_id: int, at: Ballot = OLD, *, log_time_ns: int = 0) -> Vote:
    return Vote(instance_id, at, value(commands(f"{instance_id}"), log_time_ns=log_time_ns))


def ended(bench: ProposerBench, effects: Effects) -> bool:
    return bool(happened(effects, MasterStopped)) and not bench.proposer.is_serving


# What a new master proposes.


def test_found_values_then_no_ops_for_holes_then_its_own_record(bench: ProposerBench) -> None:
    effects = bench.lead(4, vote(5), vote(7))
    found = proposed(effects)
    assert list(found) == [5, 6, 7, 8]
    assert encode_value(found[5]) == vote(5).value
    assert found[6].entries == ()
    assert encode_value(found[7]) == vote(7).value
    assert found[8].entries == (MasterRecord(bench.ballot),)
    assert {accept.ballot for accept in sent(effects, Accept)} == {bench.ballot}
    assert accepts(effects) == {i: [1, 2, 3] for i in (5, 6, 7, 8)}
    assert [event.instance_id for event in happened(effects, ValueAdopted)] == [5, 7]
    assert [event.instance_id for event in happened(effects, HoleFilled)] == [6]


def test_of_two_votes_the_one_at_the_higher_ballot_is_proposed_again(bench: ProposerBench) -> None:
    bench.stand(4)
    low, high = vote(5, Ballot(0, 2, 1)), Vote(5, Ballot(0, 3, 1), value(commands("high")))
    bench.promise(2, high)
    effects = bench.promise(3, low)
    assert encode_value(proposed(effects)[5]) == high.value


def test_what_the_learner_learned_meanwhile_is_not_proposed(bench: ProposerBench) -> None:
    bench.stand(4)
    bench.own_status(6)
    bench.promise(2, vote(5), vote(7))
    assert list(proposed(bench.promise(3))) == [7, 8]


def test_the_record_mounts_what_nobody_has_mounted() -> None:
    kv = MachineSpec("settings", "kv", 1)
    bench = ProposerBench(machines=(LOG_MACHINE, kv))
    record = proposed(bench.lead(4, mounted=(LOG_MACHINE,)))[5]
    assert record.entries == (MasterRecord(bench.ballot), MachineMount("settings", "kv", 1))


def test_the_window_bounds_what_is_open_whatever_was_found(bench: ProposerBench) -> None:
    effects = bench.lead(0, *(vote(i) for i in range(1, 12)))
    assert list(accepts(effects)) == [1, 2, 3, 4]
    assert list(accepts(bench.accepted(3, 1, 2))) == [5]
    effects = bench.accepted(1, 2, 3)
    assert list(accepts(effects)) == [6]
    assert encode_value(proposed(effects)[6]) == vote(6).value


def test_log_time_goes_on_from_what_was_found_and_applied(bench: ProposerBench) -> None:
    effects = bench.lead(4, vote(5, log_time_ns=700), vote(7, log_time_ns=900), log_time_ns=300)
    assert [found.log_time_ns for found in proposed(effects).values()] == [700, 700, 900, 900]
    bench.own_learner_takes(bench.accepted(5, 1, 2))
    for instance_id in (6, 7, 8):
        effects = bench.own_learner_takes(bench.accepted(instance_id, 1, 2))
    assert bench.proposer.is_serving
    bench.now_ns += 5 * MS
    assert proposed(bench.ask(1))[9].log_time_ns == 900 + 5 * MS


# Serving.


def test_nothing_of_clients_is_proposed_before_the_own_record_is_applied(
    bench: ProposerBench,
) -> None:
    bench.stand(4)
    bench.ask(1)
    bench.promise(2, vote(5))
    effects = bench.promise(3)
    assert list(accepts(effects)) == [5, 6]
    assert not bench.proposer.is_serving
    assert bench.proposer.master_id is None
    assert sends(bench.ask(2)) == []
    bench.own_learner_takes(bench.accepted(5, 1, 2))
    chosen = bench.accepted(6, 1, 2)
    assert accepts(chosen) == {}, "chosen is not applied"
    bench.own_status(6, applied=5)
    assert not bench.proposer.is_serving
    effects = bench.own_learner_takes(chosen)
    (started,) = happened(effects, MasterStarted)
    assert (started.ballot, started.instance_id) == (bench.ballot, 6)
    assert bench.proposer.master_id == 1
    assert proposed(effects)[7].entries == submit(1).batches + submit(2).batches
    assert not bench.answers


def test_what_the_learner_applied_there_is_not_its_record_until_its_votes_are_counted(
    bench: ProposerBench,
) -> None:
    # Another value may have been chosen there, at a ballot that nobody here has heard of.
    bench.lead(4)
    bench.own_status(5)
    assert not bench.proposer.is_serving
    bench.own_learner_takes(bench.accepted(5, 1, 2))
    assert bench.proposer.is_serving


def test_an_adopted_record_of_a_dead_reign_opens_none(bench: ProposerBench) -> None:
    dead = Vote(5, OLD, value(MasterRecord(OLD)))
    bench.lead(4, dead)
    bench.ask(1)
    effects = bench.own_learner_takes(bench.accepted(5, 1, 2))
    assert not bench.proposer.is_serving
    assert accepts(effects) == {}
    bench.own_learner_takes(bench.accepted(6, 1, 2))
    assert bench.proposer.is_serving


def test_requests_are_batched_applied_and_answered_each_with_its_own_results(
    bench: ProposerBench,
) -> None:
    bench.lead()
    bench.ask(1)
    bench.receive(client(901), submit(2, commands("a"), commands("b")))
    effects = bench.own_learner_takes(bench.accepted(1, 1, 2))
    assert list(accepts(effects)) == [2]
    chosen = bench.accepted(2, 1, 3)
    results = results_of(2, bench.values[bench.ballot, 2])
    effects = bench.own_learner_takes(chosen)
    replies = [(s.to, s.message) for s in sends(effects) if isinstance(s.message, Submitted)]
    assert replies == [
        (client(), Submitted(1, results[:1])),
        (client(901), Submitted(2, results[1:])),
    ]


@pytest.mark.parametrize(
    "case", ["twice", "another ballot", "another member's learner", "another role"]
)
def test_only_the_own_learners_results_at_this_ballot_answer_and_once(
    bench: ProposerBench, case: str
) -> None:
    bench.serve()
    bench.ask(1)
    bench.accepted(2, 1, 2)
    results = results_of(2, bench.values[bench.ballot, 2])
    applied = Applied(2, bench.ballot, results)
    match case:
        case "another ballot":
            bench.receive(learner_of(1), Applied(2, ballot(1, 1, 1), results))
        case "another member's learner":
            bench.receive(learner_of(2), applied)
        case "another role":
            bench.receive(acceptor_of(1), applied)
    assert not bench.answers
    bench.receive(learner_of(1), applied)
    bench.receive(learner_of(1), applied)
    assert once_each(bench, [1])


def test_a_request_sent_again_in_flight_is_answered_once(bench: ProposerBench) -> None:
    bench.serve()
    effects = [bench.ask(1), bench.ask(1)]
    assert [list(accepts(effect)) for effect in effects] == [[2], []]
    bench.own_learner_takes(bench.accepted(2, 1, 2))
    assert once_each(bench, [1])


def test_what_the_intake_refuses_is_told_at_once(bench: ProposerBench) -> None:
    bench.serve()
    (refused,) = sent(bench.receive(client(), submit(1, commands("x" * 601))), Refused)
    assert refused.code is RefusalCode.TOO_LARGE


# Votes.


@pytest.mark.parametrize(
    ("sender", "replica_id", "config_id", "at"),
    [
        (acceptor_of(2), 12, 0, None),
        (acceptor_of(3), 13, 0, ballot(1, 1, 1)),
        (acceptor_of(3), 13, 7, None),
        (acceptor_of(3), 12, 0, None),
        (acceptor_of(4), 14, 0, None),
        (proposer_of(3), 13, 0, None),
    ],
    ids=[
        "the same again",
        "another ballot",
        "another configuration",
        "another replica",
        "no voter",
        "no acceptor",
    ],
)
def test_a_vote_that_does_not_count(
    bench: ProposerBench, sender: Address, replica_id: int, config_id: int, at: Ballot | None
) -> None:
    bench.lead()
    bench.accepted(1, 2)
    vote = Accepted(at or bench.ballot, 1)
    effects = bench.receive(sender, vote, replica_id=replica_id, config_id=config_id)
    assert happened(effects, InstanceChosen) == []
    assert happened(bench.accepted(1, 1), InstanceChosen) != []


def test_a_value_is_chosen_once_by_the_vote_that_makes_the_majority() -> None:
    bench = ProposerBench()
    bench.lead()
    chosen = [happened(bench.accepted(1, m), InstanceChosen) for m in (2, 2, 3, 1)]
    assert [len(events) for events in chosen] == [0, 0, 1, 0]


def test_accepts_go_again_only_to_those_that_owe_a_vote(bench: ProposerBench) -> None:
    bench.lead(0, vote(1), vote(2))
    bench.accepted(1, 2)
    bench.accepted(2, 1, 3)
    assert accepts(bench.tick(SETTINGS.retransmit_ns // MS - 1)) == {}
    effects = bench.tick(1)
    assert accepts(effects) == {1: [1, 3], 3: [1, 2, 3]}
    assert [event.instance_id for event in happened(effects, AcceptResent)] == [1, 3]
    assert accepts(bench.tick(SETTINGS.retransmit_ns // MS - 1)) == {}
    assert accepts(bench.tick(1)) == {1: [1, 3], 3: [1, 2, 3]}


def test_chosen_values_go_to_the_own_learner_at_once_to_others_in_company(
    bench: ProposerBench,
) -> None:
    bench.lead(0, vote(1), vote(2))
    own = bench.accepted(2, 1, 2)
    (message,) = sent(own, Chosen)
    assert receivers(own, Chosen) == [learner_of(1)]
    assert [c.instance_id for c in message.values] == [2]
    assert message.chosen_through == 0, "1 is open"
    assert [c.instance_id for c in sent(bench.accepted(1, 1, 2), Chosen)[0].values] == [1]
    assert sent(bench.tick(SETTINGS.chosen_delay_ns / MS - 1), Chosen) == []
    effects = bench.tick(1)
    assert receivers(effects, Chosen) == [learner_of(2), learner_of(3)]
    for message in sent(effects, Chosen):
        assert [c.instance_id for c in message.values] == [2, 1]
        assert message.chosen_through == 2


def test_much_that_is_chosen_goes_at_once(bench: ProposerBench) -> None:
    bench.lead(0, Vote(1, OLD, value(commands("x" * 1_000))))
    effects = bench.accepted(1, 1, 2)
    assert receivers(effects, Chosen) == [learner_of(1), learner_of(2), learner_of(3)]


def test_a_heartbeat_leaves_behind_the_values_it_speaks_of(bench: ProposerBench) -> None:
    bench.serve()
    bench.ask(1)
    bench.tick(SETTINGS.heartbeat_interval_ns // MS - 1)
    bench.accepted(2, 1, 2)
    effects = bench.tick(1)
    kinds = [type(s.message) for s in sends(effects) if s.to == learner_of(2)]
    assert kinds == [Chosen, Heartbeat]
    assert sent(effects, Heartbeat)[0].chosen_through == 2


# What ends a reign; every request is answered once.


def busy(bench: ProposerBench) -> list[int]:
    """Serving with requests applied, chosen, open and waiting; those not answered yet."""
    bench.serve()
    bench.ask(1)
    bench.own_learner_takes(bench.accepted(2, 1, 2))
    assert bench.answers.total() == 1
    for request_id in range(2, 12):
        bench.ask(request_id)
    bench.accepted(3, 1, 2)
    bench.accepted(5, 1, 2)
    return list(range(1, 12))


def higher_nack(bench: ProposerBench) -> Effects:
    return bench.nack(3, NackReason.PROMISED, promised=ballot(9, 3))


def higher_heartbeat(bench: ProposerBench) -> Effects:
    return bench.heartbeat(ballot(9, 3))


def stopped_learner(bench: ProposerBench) -> Effects:
    return bench.own_status(2, stopped="a machine failed")


def higher_learned(bench: ProposerBench) -> Effects:
    return bench.own_status(3, at=ballot(9, 3))


def below_floor(bench: ProposerBench) -> Effects:
    return bench.receive(acceptor_of(3), BelowFloor(bench.ballot, 4, 6))


def no_quorum(bench: ProposerBench) -> Effects:
    return bench.tick(TIMEOUT_MS + 1)


def silent_learner(bench: ProposerBench) -> Effects:
    effects = Effects()
    while bench.proposer.is_serving:
        effects = bench.due()
        if sent(effects, Heartbeat):
            bench.confirmed(effects, 2, 3)
    assert bench.now_ns < 4 * TIMEOUT_MS * MS
    return effects


@pytest.mark.parametrize(
    "end",
    [
        higher_nack,
        higher_heartbeat,
        stopped_learner,
        higher_learned,
        below_floor,
        no_quorum,
        silent_learner,
    ],
)
def test_when_a_reign_ends_every_request_is_answered_exactly_once(
    end: Callable[[ProposerBench], Effects],
) -> None:
    bench = ProposerBench()
    requests = busy(bench)
    effects = end(bench)
    assert ended(bench, effects)
    assert once_each(bench, requests)
    redirected = [request_id for name, request_id in answered(effects) if name == "Redirected"]
    assert redirected == requests[1:], "in order"
    # Nothing of the old reign happens any more.
    assert bench.accepted(4, 1, 2, 3) == Effects()
    late = Applied(3, bench.ballot, results_of(3, bench.values[bench.ballot, 3]))
    assert bench.receive(learner_of(1), late) == Effects()
    assert once_each(bench, requests)
    last = "Refused" if end is stopped_learner else "Redirected"
    assert answered(bench.ask(50)) == [(last, 50)]


def test_a_floor_above_what_is_closed_or_at_another_ballot_ends_nothing(
    bench: ProposerBench,
) -> None:
    bench.serve()
    bench.ask(1)
    for below in (BelowFloor(bench.ballot, 1, 9), BelowFloor(ballot(1, 1, 1), 2, 9)):
        bench.receive(acceptor_of(3), below)
    bench.receive(acceptor_of(3), BelowFloor(bench.ballot, 2, 9), replica_id=12)
    assert bench.proposer.is_serving


def test_it_stands_again_at_a_new_ballot_and_prepares_anew(bench: ProposerBench) -> None:
    bench.serve()
    before = bench.ballot
    bench.nack(3, NackReason.PROMISED, promised=ballot(9, 3))
    effects = bench.stand(1)
    assert bench.ballot > before
    assert {prepare.ballot for prepare in sent(effects, Prepare)} == {bench.ballot}
