"""The acceptor's rules, one by one ("Paxos Made Simple", 2.2; R2, R3, R5; vote floor; orders)."""

from __future__ import annotations

import pytest

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.client_messages import QuorumRead, QuorumReadAnswer
from ray_paxos.core.effects import Effects
from ray_paxos.core.events import FloorRaised, InvariantBroken, MessageRefused, PromiseGranted
from ray_paxos.core.learner_messages import (
    RaiseVoteFloor,
    VoteFloorRaised,
)
from ray_paxos.core.messages import (
    Accept,
    Accepted,
    Address,
    BelowFloor,
    Heartbeat,
    HeartbeatConfirmed,
    Message,
    Nack,
    NackReason,
    OrderDone,
    Prepare,
    Promise,
    RoleName,
    Vote,
)
from ray_paxos.core.records import (
    PromiseMade,
    VoteCast,
    VoteFloorSet,
)
from ray_paxos.core.tasks import ReadSegments, SegmentsRead
from tests.unit.core_helpers import (
    GROUP,
    LATER_CONFIGURATION,
    POINT,
    AcceptorBench,
    ballot,
    checkpointer_of,
    client,
    envelope,
    happened,
    learner_of,
    proposer_of,
)

ME = 2


@pytest.fixture
def bench() -> AcceptorBench:
    return AcceptorBench()


def reply(effects: Effects) -> Message:
    """The one answer; it waits for the sync, whatever it is (R3)."""
    assert not effects.sends_now
    assert not effects.tasks
    (send,) = effects.sends_after_sync
    assert send.group == GROUP
    return send.message


def nack_reason(effects: Effects) -> NackReason:
    nack = reply(effects)
    assert isinstance(nack, Nack)
    assert not effects.records, "a refusal makes no record"
    return nack.reason


def dropped(effects: Effects) -> bool:
    assert not effects.records
    assert not effects.sends_after_sync
    assert not effects.sends_now
    return bool(happened(effects, MessageRefused))


# Promises and votes (phxpaxos.md, section 15, 1-6, with one promise for the whole log).


def test_a_prepare_above_the_promise_raises_it_durably(bench: AcceptorBench) -> None:
    for round in (1, 2, 3):
        effects = bench.prepare(ballot(round))
        assert effects.records == [PromiseMade(GROUP, ballot(round))]
        assert reply(effects) == Promise(ballot(round), 1, 1, (), None)
        assert bench.votes.promise == ballot(round)
        assert happened(effects, PromiseGranted) == [PromiseGranted(GROUP, ballot(round), 1, 0)]


def test_a_repeated_prepare_is_promised_again_without_a_record(bench: AcceptorBench) -> None:
    bench.prepare(ballot(2))
    effects = bench.prepare(ballot(2))
    assert effects.records == []
    assert reply(effects) == Promise(ballot(2), 1, 1, (), None)


def test_a_prepare_below_the_promise_changes_nothing_and_learns_the_whole_ballot(
    bench: AcceptorBench,
) -> None:
    bench.prepare(ballot(2, 3, 7))
    effects = bench.prepare(ballot(2, 1, 9))
    assert reply(effects) == Nack(ballot(2, 1, 9), 0, NackReason.PROMISED, ballot(2, 3, 7), 0)
    assert effects.records == []
    assert bench.votes.promise == ballot(2, 3, 7)


@pytest.mark.parametrize("second", [ballot(2, 1, 1), ballot(1, 3, 2), ballot(2, 1, 2)])
def test_members_and_lives_are_told_apart_in_a_round(bench: AcceptorBench, second: Ballot) -> None:
    bench.prepare(ballot(2, 2, 5))
    assert nack_reason(bench.prepare(second)) is NackReason.PROMISED
    assert nack_reason(bench.accept(second, 1)) is NackReason.PROMISED


def test_an_accept_at_or_above_the_promise_is_a_vote_and_a_promise(bench: AcceptorBench) -> None:
    bench.prepare(ballot(10))
    effects = bench.accept(ballot(13), 4, b"hello")
    assert effects.records == [VoteCast(GROUP, 4, ballot(13), b"hello")]
    assert reply(effects) == Accepted(ballot(13), 4)
    assert bench.votes.promise == ballot(13)
    assert bench.votes.votes == {4: Vote(4, ballot(13), b"hello")}
    bench.accept(ballot(14), 4, b"other")
    assert bench.votes.votes == {4: Vote(4, ballot(14), b"other")}
    # The promise covers every instance, not only the one voted in.
    assert nack_reason(bench.accept(ballot(13), 5)) is NackReason.PROMISED


def test_an_accept_below_the_promise_leaves_no_vote(bench: AcceptorBench) -> None:
    bench.prepare(ballot(10))
    effects = bench.accept(ballot(9), 4)
    assert reply(effects) == Nack(ballot(9), 4, NackReason.PROMISED, ballot(10), 0)
    assert effects.records == []
    assert bench.votes.votes == {}
    assert bench.votes.promise == ballot(10)


def test_a_repeated_accept_is_accepted_again_without_a_record(bench: AcceptorBench) -> None:
    bench.accept(ballot(3), 1, b"v")
    effects = bench.accept(ballot(3), 1, b"v")
    assert effects.records == []
    assert reply(effects) == Accepted(ballot(3), 1)


def test_two_values_at_one_ballot_are_never_accepted(bench: AcceptorBench) -> None:
    bench.accept(ballot(3), 1, b"v")
    effects = bench.accept(ballot(3), 1, b"w")
    assert happened(effects, InvariantBroken)
    assert effects.records == []
    assert effects.sends_after_sync == []
    assert bench.votes.votes[1].value == b"v"


def test_an_accept_at_the_promised_ballot_needs_no_second_promise(bench: AcceptorBench) -> None:
    bench.prepare(ballot(3))
    effects = bench.accept(ballot(3), 1)
    assert effects.records == [VoteCast(GROUP, 1, ballot(3), b"v")]


def test_a_promise_tells_all_votes_from_the_instance_asked(bench: AcceptorBench) -> None:
    for at, instance_id in ((ballot(1), 3), (ballot(1), 9), (ballot(2), 5)):
        bench.accept(at, instance_id, b"at %d" % instance_id)
    promise = reply(bench.prepare(ballot(20), 4))
    assert promise == Promise(
        ballot(20), 4, 1, (Vote(5, ballot(2), b"at 5"), Vote(9, ballot(1), b"at 9")), None
    )


# Pages of a promise.


def test_pages_of_a_promise_cover_all_votes_once() -> None:
    bench = AcceptorBench(page_bytes=10)
    sizes = {1: 4, 2: 6, 3: 1, 7: 25, 8: 9, 9: 2}
    for instance_id, size in sizes.items():
        bench.accept(ballot(1), instance_id, b"x" * size)
    pages: list[list[int]] = []
    page: int | None = 1
    while page is not None and len(pages) < 10:
        promise = reply(bench.prepare(ballot(2), page))
        assert isinstance(promise, Promise)
        assert promise.from_instance == page
        pages.append([vote.instance_id for vote in promise.votes])
        page = promise.next_instance
    assert pages == [[1, 2], [3], [7], [8], [9]], "at most 10 bytes, at least one vote"


def test_a_floor_that_rises_between_pages_is_on_the_later_page() -> None:
    bench = AcceptorBench(page_bytes=1)
    for instance_id in (1, 2, 3, 4):
        bench.accept(ballot(1), instance_id)
    first = reply(bench.prepare(ballot(2), 1))
    assert first == Promise(ballot(2), 1, 1, (Vote(1, ballot(1), b"v"),), 2)
    bench.raise_floor(4)
    second = reply(bench.prepare(ballot(2), 2))
    assert second == Promise(ballot(2), 2, 4, (Vote(4, ballot(1), b"v"),), None)


# Heartbeats.


def test_a_heartbeat_is_confirmed_after_its_ballot_is_promised(bench: AcceptorBench) -> None:
    bench.prepare(ballot(1))
    effects = bench.beat(ballot(2), 8)
    assert effects.records == [PromiseMade(GROUP, ballot(2))]
    assert reply(effects) == HeartbeatConfirmed(ballot(2), 8)
    effects = bench.beat(ballot(2), 9)
    assert effects.records == []
    assert reply(effects) == HeartbeatConfirmed(ballot(2), 9)


def test_a_heartbeat_below_the_promise_is_not_confirmed(bench: AcceptorBench) -> None:
    # Schedule 23: who confirms below its promise keeps a deposed master believing.
    bench.prepare(ballot(7, 3))
    effects = bench.beat(ballot(6, 1))
    assert reply(effects) == Nack(ballot(6, 1), 0, NackReason.PROMISED, ballot(7, 3), 0)
    assert effects.records == []


# The vote floor.


def test_below_the_floor_there_is_no_vote_and_no_voting(bench: AcceptorBench) -> None:
    for instance_id in (1, 2, 3):
        bench.accept(ballot(2), instance_id)
    effects = bench.raise_floor(3)
    assert effects.records == [VoteFloorSet(GROUP, 3)]
    assert reply(effects) == VoteFloorRaised(3)
    assert happened(effects, FloorRaised) == [FloorRaised(GROUP, 3)]
    assert set(bench.votes.votes) == {3}
    for at in (ballot(2), ballot(9)):
        effects = bench.accept(at, 2)
        assert reply(effects) == BelowFloor(at, 2, 3)
        assert effects.records == []
    assert reply(bench.accept(ballot(2), 3)) == Accepted(ballot(2), 3)
    assert reply(bench.prepare(ballot(9), 1)) == Promise(
        ballot(9), 1, 3, (Vote(3, ballot(2), b"v"),), None
    )


def test_an_accept_below_both_promise_and_floor_is_a_nack(bench: AcceptorBench) -> None:
    bench.raise_floor(5)
    bench.prepare(ballot(4))
    assert nack_reason(bench.accept(ballot(3), 1)) is NackReason.PROMISED


def test_the_floor_never_falls(bench: AcceptorBench) -> None:
    bench.raise_floor(5)
    for floor in (5, 4, 0, -1):
        effects = bench.raise_floor(floor)
        assert effects.records == []
        assert reply(effects) == VoteFloorRaised(5)
    assert bench.votes.floor == 5


@pytest.mark.parametrize(
    "sender", [learner_of(1), proposer_of(ME), checkpointer_of(ME), client(ME)]
)
def test_only_the_own_learner_raises_the_floor(bench: AcceptorBench, sender: Address) -> None:
    bench.accept(ballot(1), 1)
    assert dropped(bench.ask(RaiseVoteFloor(2), sender, replica_id=12))
    assert bench.votes.floor == 1
    assert set(bench.votes.votes) == {1}


# Configurations (R5) and who may ask.


def ask_all(
    bench: AcceptorBench,
    sender: Address,
    at: Ballot,
    *,
    config_id: int | None = None,
    replica_id: int | None = None,
) -> list[NackReason]:
    messages: list[Message] = [
        Prepare(at, 50),
        Accept(at, 50, b"v"),
        Heartbeat(at, 1, True, 0, 0, POINT),
    ]
    return [
        nack_reason(bench.ask(message, sender, config_id=config_id, replica_id=replica_id))
        for message in messages
    ]


def test_another_configuration_is_refused_and_named() -> None:
    bench = AcceptorBench(LATER_CONFIGURATION)
    for config_id, reason in (
        (0, NackReason.CONFIGURATION_OLD),
        (9, NackReason.CONFIGURATION_OLD),
        (11, NackReason.CONFIGURATION_NEW),
    ):
        reasons = ask_all(bench, proposer_of(1), ballot(1), config_id=config_id)
        assert reasons == [reason] * 3
    nack = reply(bench.ask(Prepare(ballot(1), 50), proposer_of(1), config_id=9))
    assert isinstance(nack, Nack)
    assert nack.config_id == 10
    assert bench.votes.promise is None


def test_a_configuration_never_governs_its_entry_or_anything_before() -> None:
    bench = AcceptorBench(LATER_CONFIGURATION)
    for instance_id in (1, 9, 10):
        assert nack_reason(bench.accept(ballot(1), instance_id)) is NackReason.BEFORE_CONFIGURATION
        effects = bench.prepare(ballot(1), instance_id)
        assert nack_reason(effects) is NackReason.BEFORE_CONFIGURATION
    assert bench.votes.promise is None, "refused before it was promised"
    assert reply(bench.accept(ballot(1), 11)) == Accepted(ballot(1), 11)
    assert isinstance(reply(bench.prepare(ballot(2), 11)), Promise)


def test_instance_zero_is_before_every_configuration(bench: AcceptorBench) -> None:
    assert nack_reason(bench.accept(ballot(1), 0)) is NackReason.BEFORE_CONFIGURATION
    assert nack_reason(bench.prepare(ballot(1), 0)) is NackReason.BEFORE_CONFIGURATION


@pytest.mark.parametrize(
    ("sender", "replica_id", "at"),
    [
        (proposer_of(4), 14, ballot(9, 4)),
        (proposer_of(1), 12, ballot(9, 1)),
        (proposer_of(1), 0, ballot(9, 1)),
        (proposer_of(1), 11, ballot(9, 3)),
    ],
    ids=["no voter", "another voter's replica", "no replica", "another member's ballot"],
)
def test_only_a_voter_under_its_own_identity_and_ballot_is_heard(
    bench: AcceptorBench, sender: Address, replica_id: int, at: Ballot
) -> None:
    assert ask_all(bench, sender, at, replica_id=replica_id) == [NackReason.NOT_A_VOTER] * 3
    assert bench.votes.promise is None


def test_a_group_is_never_made_by_a_message(bench: AcceptorBench) -> None:
    at = ballot(1)
    for message in (
        Prepare(at, 1),
        Accept(at, 1, b"v"),
        Heartbeat(at, 1, True, 0, 0, POINT),
        RaiseVoteFloor(4),
    ):
        for sender in (proposer_of(1), learner_of(ME)):
            effects = bench.acceptor.handle(envelope(sender, message, group=8), 0)
            assert dropped(effects)
    assert set(bench.acceptor.state.groups) == {GROUP}
    assert bench.acceptor.stamp(8) == (0, 0)
    assert bench.acceptor.stamp(GROUP) == (12, 0)


def test_what_is_for_others_is_dropped(bench: AcceptorBench) -> None:
    for message in (Accepted(ballot(1), 1), OrderDone(1, ""), VoteFloorRaised(9)):
        assert dropped(bench.ask(message, proposer_of(1)))


# Reads by a quorum.


def accepted_through(bench: AcceptorBench) -> int:
    effects = bench.ask(QuorumRead(7), client())
    assert effects.records == [], "a read writes nothing"
    answer = reply(effects)
    assert isinstance(answer, QuorumReadAnswer)
    assert answer.request_id == 7
    assert answer.voters == bench.configuration.voters
    assert effects.sends_after_sync[0].to == client()
    return answer.accepted_through


def test_a_client_is_told_the_highest_instance_that_was_ever_accepted(
    bench: AcceptorBench,
) -> None:
    assert accepted_through(bench) == 0
    bench.prepare(ballot(1))
    assert accepted_through(bench) == 0, "a promise is no vote"
    bench.accept(ballot(1), 7)
    bench.accept(ballot(1), 4)
    assert accepted_through(bench) == 7
    bench.accept(ballot(0), 9)
    assert accepted_through(bench) == 7, "refused"
    bench.prepare(ballot(5))
    assert accepted_through(bench) == 7, "whoever is promised meanwhile"
    bench.raise_floor(5)
    assert accepted_through(bench) == 7
    bench.raise_floor(12)
    assert accepted_through(bench) == 11, "below the floor all is chosen, and the votes are gone"
    assert bench.acceptor.quorum_reads == {GROUP: 7}


def test_what_was_accepted_is_told_after_a_restart_too(bench: AcceptorBench) -> None:
    bench.accept(ballot(1), 7)
    bench.restart()
    assert accepted_through(bench) == 7
    bench.raise_floor(9)
    bench.restart()
    assert accepted_through(bench) == 8


def test_the_entry_that_made_the_configuration_was_accepted() -> None:
    # By the one before; this acceptor may never have voted under that.
    bench = AcceptorBench(LATER_CONFIGURATION)
    assert accepted_through(bench) == 10
    bench.accept(ballot(1), 12)
    assert accepted_through(bench) == 12


def test_a_full_disk_keeps_nobody_from_reading(bench: AcceptorBench) -> None:
    bench.accept(ballot(1), 7)
    bench.acceptor.storage_full = True
    assert accepted_through(bench) == 7


# A full disk.


def test_a_full_disk_refuses_with_its_reason_and_recovers(bench: AcceptorBench) -> None:
    bench.prepare(ballot(1))
    bench.acceptor.storage_full = True
    assert ask_all(bench, proposer_of(1), ballot(2)) == [NackReason.STORAGE_FULL] * 3
    assert nack_reason(bench.accept(ballot(1), 1)) is NackReason.STORAGE_FULL
    assert nack_reason(bench.prepare(ballot(0))) is NackReason.PROMISED
    assert bench.raise_floor(3).records == []
    assert (bench.votes.promise, bench.votes.votes, bench.votes.floor) == (ballot(1), {}, 1)
    bench.acceptor.storage_full = False
    assert reply(bench.accept(ballot(1), 1)) == Accepted(ballot(1), 1)


# The role's interface.


def test_an_acceptor_waits_for_nothing_and_reads_nothing(bench: AcceptorBench) -> None:
    assert bench.acceptor.deadline_ns is None
    read = ReadSegments(GROUP, Address(1, RoleName.LEARNER), 1, 10)
    for effects in (
        bench.acceptor.on_deadline(5),
        bench.acceptor.on_durable([PromiseMade(GROUP, ballot(1))], 5),
        bench.acceptor.on_outcome(read, SegmentsRead((), 1), 5),
    ):
        assert effects == Effects()
