"""A master's lease: what counts for it, from when, and what its own learner is told (R8)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import pairwise

import pytest

from ray_paxos.core.effects import Effects
from ray_paxos.core.events import MasterStopped
from ray_paxos.core.messages import (
    Accept,
    Accepted,
    Address,
    HeardFrom,
    Heartbeat,
    HeartbeatConfirmed,
    LeaseNotice,
    NackReason,
    PreVote,
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
    sends,
    sent,
    status,
)
from tests.unit.proposer_bench import SETTINGS, ProposerBench

INTERVAL_MS = SETTINGS.heartbeat_interval_ns // MS
LEASE_NS = SETTINGS.lease_ns
NO_LEASE = dataclasses.replace(SETTINGS, lease_ns=0)


@pytest.fixture
def bench() -> ProposerBench:
    return ProposerBench()


def sequence_of(effects: Effects) -> int:
    (sequence,) = {heartbeat.sequence for heartbeat in sent(effects, Heartbeat)}
    return sequence


def until(bench: ProposerBench) -> int:
    return bench.proposer.lease_until_ns


# From when it counts.


def test_the_lease_is_asked_for_with_heartbeats_and_accepts(bench: ProposerBench) -> None:
    effects = bench.lead()
    assert {heartbeat.lease_ms for heartbeat in sent(effects, Heartbeat)} == {LEASE_NS // MS}
    assert {accept.lease_ms for accept in sent(effects, Accept)} == {LEASE_NS // MS}
    assert {accept.sequence for accept in sent(effects, Accept)} == {sequence_of(effects)}


def test_promises_are_no_lease_and_neither_are_the_confirmations_of_a_minority(
    bench: ProposerBench,
) -> None:
    beat = bench.lead()
    assert until(bench) == 0
    for _ in range(3):
        bench.confirmed(beat, 2)
    assert until(bench) == 0
    bench.confirmed(beat, 3)
    assert until(bench) == bench.now_ns + LEASE_NS


def test_it_counts_from_when_the_round_was_asked_not_from_the_replies(
    bench: ProposerBench,
) -> None:
    beat = bench.lead()
    asked_ns = bench.now_ns
    bench.now_ns += 150 * MS
    bench.confirmed(beat, 2)
    bench.now_ns += 30 * MS
    bench.confirmed(beat, 3)
    assert until(bench) == asked_ns + LEASE_NS
    bench.confirmed(beat, 1)
    assert until(bench) == asked_ns + LEASE_NS


def test_what_was_sent_again_counts_from_the_round_that_the_reply_names(
    bench: ProposerBench,
) -> None:
    # Schedule 7: asked at 0, sent again at 1.9 and lost, the first reply arrives at 1.95.
    beat = bench.lead()
    first, asked_ns = sequence_of(beat), bench.now_ns
    again: list[Accept] = []
    while not again:
        effects = bench.due()
        again = sent(effects, Accept)
        if sent(effects, Heartbeat):
            latest = sequence_of(effects)
    assert {accept.sequence for accept in again} == {latest}, "it may confirm the newest by now"
    assert latest > first
    bench.accepted(1, 2, 3, sequence=first)
    assert until(bench) == asked_ns + LEASE_NS
    bench.accepted(1, 2, 3, sequence=latest)
    assert asked_ns + LEASE_NS < until(bench) <= bench.now_ns + LEASE_NS


def test_a_vote_confirms_the_round_its_accept_named_not_the_newest(bench: ProposerBench) -> None:
    beat = bench.lead()
    asked_ns = bench.now_ns
    bench.tick(INTERVAL_MS)
    bench.accepted(1, 1, 2, sequence=sequence_of(beat))
    assert until(bench) == asked_ns + LEASE_NS


def test_a_vote_that_names_no_round_confirms_none(bench: ProposerBench) -> None:
    beat = bench.lead()
    bench.accepted(1, 1, 2)
    assert until(bench) == 0
    for unknown in (sequence_of(beat) + 1, -1):
        bench.accepted(1, 1, 2, 3, sequence=unknown)
    assert until(bench) == 0


@pytest.mark.parametrize("case", ["another ballot", "another configuration", "another replica"])
@pytest.mark.parametrize("kind", ["heartbeat", "accept"])
def test_a_grant_counts_only_at_this_ballot_and_configuration(
    bench: ProposerBench, kind: str, case: str
) -> None:
    sequence = sequence_of(bench.lead())
    at, replica_id, config_id = bench.ballot, None, None
    match case:
        case "another ballot":
            at = ballot(bench.ballot.round, 1, 1)
        case "another configuration":
            config_id = 7
        case "another replica":
            replica_id = 99
    for member_id in (1, 2, 3):
        message = (
            HeartbeatConfirmed(at, sequence) if kind == "heartbeat" else Accepted(at, 1, sequence)
        )
        bench.receive(acceptor_of(member_id), message, replica_id=replica_id, config_id=config_id)
    assert until(bench) == 0


def test_a_lease_is_of_one_reign(bench: ProposerBench) -> None:
    beat = bench.lead()
    bench.confirmed(beat, 1, 2)
    assert until(bench) > 0
    bench.nack(3, NackReason.PROMISED, promised=ballot(9, 3))
    assert until(bench) == 0
    bench.lead()
    bench.confirmed(beat, 1, 2)
    assert until(bench) == bench.now_ns + LEASE_NS, "counted by the new reign's own rounds"


def test_without_leases_nothing_is_asked_believed_or_told() -> None:
    bench = ProposerBench(settings=NO_LEASE)
    bench.serve()
    notices = []
    for _ in range(20):
        effects = bench.due()
        notices += sent(effects, LeaseNotice)
        assert all(heartbeat.lease_ms == 0 for heartbeat in sent(effects, Heartbeat))
        if sent(effects, Heartbeat):
            notices += sent(bench.confirmed(effects, 1, 2), LeaseNotice)
            notices += sent(bench.own_status(1, at=bench.ballot), LeaseNotice)
    assert until(bench) == 0
    assert bench.proposer.is_serving
    assert notices == []


# What the own learner is told.


def test_the_own_learner_is_told_once_the_master_serves(bench: ProposerBench) -> None:
    beat = bench.lead(4)
    told = bench.confirmed(beat, 1, 2)
    assert sent(told, LeaseNotice) == [], "its record is not applied yet"
    effects = bench.own_learner_takes(bench.accepted(5, 1, 2))
    assert receivers(effects, LeaseNotice) == [learner_of(1)]
    assert sent(effects, LeaseNotice) == [LeaseNotice(bench.ballot, 1, until(bench), 5)]


def test_each_round_that_is_confirmed_gives_a_later_notice_with_what_is_chosen_by_then(
    bench: ProposerBench,
) -> None:
    bench.serve(4)
    beat = bench.tick(INTERVAL_MS)
    asked_ns = bench.now_ns
    bench.ask(1)
    bench.accepted(6, 1, 2)
    bench.now_ns += 50 * MS
    effects = bench.confirmed(beat, 1, 2)
    (notice,) = sent(effects, LeaseNotice)
    assert (notice.until_ns, notice.chosen_through) == (asked_ns + LEASE_NS, 6)
    assert sent(bench.confirmed(beat, 3), LeaseNotice) == []


def test_a_notice_that_is_over_already_is_not_sent(bench: ProposerBench) -> None:
    beat = bench.lead()
    bench.own_learner_takes(bench.accepted(1, 1, 2))
    bench.now_ns += LEASE_NS
    assert sent(bench.confirmed(beat, 1, 2), LeaseNotice) == []


def test_another_life_of_the_learner_is_told_anew_and_by_its_own_number(
    bench: ProposerBench,
) -> None:
    # Schedule 5: what the one before had applied, this one may not have.
    bench.serve(4)
    bench.confirmed(bench.tick(INTERVAL_MS), 1, 2)
    bench.ask(1)
    bench.own_learner_takes(bench.accepted(6, 1, 2))
    effects = bench.own_status(5, at=bench.ballot, incarnation=2)
    assert sent(effects, LeaseNotice) == [LeaseNotice(bench.ballot, 2, until(bench), 6)]
    late = bench.own_status(6, at=bench.ballot, incarnation=1)
    assert sent(late, LeaseNotice) == [], "a late word of the life before"


def test_only_the_own_learners_life_counts(bench: ProposerBench) -> None:
    bench.serve(4)
    bench.confirmed(bench.tick(INTERVAL_MS), 1, 2)
    effects = bench.receive(learner_of(2), status(5), incarnation=9)
    assert sent(effects, LeaseNotice) == []


# What learners are told of their own age.


def heard(effects: Effects) -> dict[Address, HeardFrom | None]:
    return {s.to: s.message.heard for s in sends(effects) if isinstance(s.message, Heartbeat)}


def test_each_learner_is_told_which_status_of_its_own_the_master_had_last() -> None:
    bench = ProposerBench(members=(1, 2, 3, 4))
    bench.serve()
    for member_id, incarnation, sent_ns in (
        (2, 1, 50),
        (2, 1, 70),
        (2, 1, 60),
        (4, 3, 10),
        (4, 2, 90),
        (4, 4, 5),
    ):
        told = status(1, sent_ns=sent_ns)
        bench.receive(
            learner_of(member_id),
            told,
            replica_id=0 if member_id == 4 else None,
            incarnation=incarnation,
        )
    found = heard(bench.tick(INTERVAL_MS))
    assert found[learner_of(2)] == HeardFrom(1, 70), "a late one takes nothing back"
    assert found[learner_of(4)] == HeardFrom(4, 5), "a follower's, and of its latest life"
    assert found[learner_of(3)] is None
    assert {to for to, what in found.items() if what} <= {learner_of(m) for m in (1, 2, 4)}


def test_a_master_that_does_not_serve_yet_tells_nobody_of_any_age(bench: ProposerBench) -> None:
    bench.lead()
    bench.receive(learner_of(2), status(1, sent_ns=50))
    assert set(heard(bench.tick(INTERVAL_MS)).values()) == {None}


def test_what_is_no_learners_status_is_not_heard_of(bench: ProposerBench) -> None:
    bench.serve()
    for sender in (acceptor_of(2), proposer_of(2), client(2)):
        bench.receive(sender, status(1, sent_ns=50))
    assert heard(bench.tick(INTERVAL_MS))[learner_of(2)] is None


# Rounds.


def test_rounds_of_all_groups_fall_on_the_same_times() -> None:
    bench = ProposerBench(now_ns=37 * MS + 11)
    bench.due()
    bench.welcome(1, 2)
    bench.own_status()
    bench.promise(1)
    bench.promise(2)
    began_ns = bench.now_ns
    assert began_ns % SETTINGS.heartbeat_interval_ns
    times = []
    for _ in range(8):
        effects = bench.due()
        if sent(effects, Heartbeat):
            times.append(bench.now_ns)
            bench.confirmed(effects, 1, 2)
    assert [at % SETTINGS.heartbeat_interval_ns for at in times] == [0] * len(times)
    assert times[0] - began_ns < SETTINGS.heartbeat_interval_ns
    assert {later - at for at, later in pairwise(times)} == {SETTINGS.heartbeat_interval_ns}


# Its own disk (F6).


def lead_on(bench: ProposerBench, milliseconds: int, *, own: bool) -> Effects:
    """Confirmed by the others all the time, by the own acceptor where told."""
    until_ns = bench.now_ns + milliseconds * MS
    effects = Effects()
    while bench.proposer.is_serving and (bench.proposer.deadline_ns or 0) <= until_ns:
        effects = bench.due()
        if bench.proposer.is_serving:
            if sent(effects, Heartbeat):
                bench.confirmed(effects, *((1, 2, 3) if own else (2, 3)))
            bench.own_status(bench.learned_through, at=bench.ballot)
    return effects


def test_a_master_whose_own_acceptor_is_silent_steps_down(bench: ProposerBench) -> None:
    bench.serve()
    bench.confirmed(bench.tick(INTERVAL_MS), 1, 2)
    began_ns = bench.now_ns
    lead_on(bench, SETTINGS.disk_stall_ns // MS, own=False)
    assert bench.proposer.is_serving
    effects = lead_on(bench, 2 * INTERVAL_MS, own=False)
    (stopped,) = happened(effects, MasterStopped)
    assert "own acceptor" in stopped.reason
    assert bench.now_ns <= began_ns + SETTINGS.disk_stall_ns + 2 * INTERVAL_MS * MS
    assert bench.is_in(Phase.FOLLOWING)


def test_a_master_whose_own_acceptor_votes_or_confirms_goes_on(bench: ProposerBench) -> None:
    bench.serve()
    lead_on(bench, 2 * SETTINGS.disk_stall_ns // MS, own=True)
    assert bench.proposer.is_serving


def test_an_own_acceptor_that_may_not_grant_yet_does_not_stall(bench: ProposerBench) -> None:
    # It restarted, and refuses for as long as it ever granted; a lease may be longer than a stall.
    bench.serve()
    bench.confirmed(bench.tick(INTERVAL_MS), 1, 2)
    for _ in range(2 * SETTINGS.disk_stall_ns // (INTERVAL_MS * MS)):
        lead_on(bench, INTERVAL_MS, own=False)
        bench.nack(1, NackReason.LEASED)
    assert bench.proposer.is_serving


def full(bench: ProposerBench) -> Effects:
    return bench.nack(1, NackReason.STORAGE_FULL)


def others_full(bench: ProposerBench) -> Effects:
    return bench.nack(2, NackReason.STORAGE_FULL)


def an_earlier_reigns(bench: ProposerBench) -> Effects:
    return bench.nack(1, NackReason.STORAGE_FULL, at=ballot(1, 1, 1))


@pytest.mark.parametrize(
    ("told", "ends"), [(full, True), (others_full, False), (an_earlier_reigns, False)]
)
def test_a_master_whose_own_disk_is_full_steps_down(
    bench: ProposerBench, told: Callable[[ProposerBench], Effects], ends: bool
) -> None:
    bench.serve()
    stopped = happened(told(bench), MasterStopped)
    assert bool(stopped) == ends
    assert bench.proposer.is_serving != ends
    if ends:
        assert "disk" in stopped[0].reason
        assert sent(bench.probe(), PreVote), "it asks, but does not lead before there is room"
        bench.nack(1, NackReason.STORAGE_FULL, at=bench.wanted)
        assert bench.is_in(Phase.FOLLOWING)
