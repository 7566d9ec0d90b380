"""What an acceptor knows is the fold of its records, live and after recovery, and never shrinks.

The property test plays any sequence of messages against a model of a few lines.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.core.acceptor_state import AcceptorState, GroupVotes
from ray_paxos.core.ballot import Ballot
from ray_paxos.core.invariants import acceptor_forgot, votes_contradict, vouches_too_early
from ray_paxos.core.learner_messages import VoteFloorRaised
from ray_paxos.core.messages import (
    Accepted,
    BelowFloor,
    HeartbeatConfirmed,
    Message,
    Nack,
    NackReason,
    Promise,
    Vote,
)
from ray_paxos.core.records import (
    GroupCreated,
    GroupOpening,
    GroupRemoved,
    JournalOpening,
    JournalRecord,
    LeaseLengthened,
    PromiseMade,
    VoteCast,
    VoteFloorSet,
)
from tests.unit.core_helpers import (
    CONFIGURATION,
    GROUP,
    LATER_CONFIGURATION,
    AcceptorBench,
    ballot,
    sends,
)


@dataclass
class Model:
    """An acceptor in the words of the paper, with a vote floor."""

    promise: Ballot | None = None
    floor: int = 1
    votes: dict[int, tuple[Ballot, bytes]] = field(default_factory=dict)

    @property
    def accepted_through(self) -> int:
        return max([self.floor - 1, *self.votes])

    def is_refused(self, at: Ballot) -> bool:
        return self.promise is not None and at < self.promise

    def nack(self, at: Ballot, instance_id: int) -> Message:
        return Nack(at, instance_id, NackReason.PROMISED, self.promise, 0)

    def prepare(self, at: Ballot, first: int) -> Message:
        if self.is_refused(at):
            return self.nack(at, 0)
        self.promise = at
        votes = (Vote(i, b, v) for i, (b, v) in sorted(self.votes.items()) if i >= first)
        return Promise(at, first, self.floor, tuple(votes), None)

    def accept(self, at: Ballot, instance_id: int, value: bytes) -> Message | None:
        if self.is_refused(at):
            return self.nack(at, instance_id)
        if instance_id < self.floor:
            return BelowFloor(at, instance_id, self.floor)
        known = self.votes.get(instance_id)
        if known is not None and known[0] == at and known[1] != value:
            return None
        self.promise = at
        self.votes[instance_id] = (at, value)
        return Accepted(at, instance_id)

    def beat(self, at: Ballot, sequence: int) -> Message:
        if self.is_refused(at):
            return self.nack(at, 0)
        self.promise = at
        return HeartbeatConfirmed(at, sequence)

    def raise_floor(self, floor: int) -> Message:
        self.floor = max(self.floor, floor)
        self.votes = {i: vote for i, vote in self.votes.items() if i >= self.floor}
        return VoteFloorRaised(self.floor)


ballots = st.builds(ballot, st.integers(1, 3), st.sampled_from([1, 3]), st.integers(1, 2))
instances = st.integers(1, 6)
steps = st.one_of(
    st.tuples(st.just("prepare"), ballots, instances),
    st.tuples(st.just("accept"), ballots, instances, st.sampled_from([b"v", b"w"])),
    st.tuples(st.just("beat"), ballots, st.integers(1, 3)),
    st.tuples(st.just("raise_floor"), st.integers(0, 7)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=25))
def test_any_sequence_of_messages_gives_what_the_model_gives(steps: list[tuple[Any, ...]]) -> None:
    bench, model = AcceptorBench(), Model()
    recovered = copy.deepcopy(bench.acceptor.state)
    for name, *arguments in steps:
        before = copy.deepcopy(recovered)
        effects = getattr(bench, name)(*arguments)
        answers = [send.message for send in sends(effects)]
        expected = getattr(model, name)(*arguments)
        assert answers == ([] if expected is None else [expected])
        for record in effects.records:
            recovered.apply(record)
        # Nothing is in memory that is not in a record, nothing falls, every answer is vouched for.
        assert recovered == bench.acceptor.state
        assert acceptor_forgot(before, recovered) == ""
        assert votes_contradict(bench.votes) == ""
        for answer in answers:
            assert vouches_too_early(answer, recovered.groups[GROUP]) == ""
    assert bench.votes.promise == model.promise
    assert bench.votes.floor == model.floor
    assert bench.votes.accepted_through == model.accepted_through
    assert {i: (v.ballot, v.value) for i, v in bench.votes.votes.items()} == model.votes


def made() -> AcceptorState:
    """A group 1 with promise 4, floor 3, votes at 3 and 5, lease 7; a tombstone of group 9."""
    state = AcceptorState()
    for record in (
        GroupCreated(GROUP, 12, CONFIGURATION, 1),
        VoteCast(GROUP, 2, ballot(2), b"two"),
        VoteCast(GROUP, 3, ballot(2), b"three"),
        VoteCast(GROUP, 5, ballot(3), b"five"),
        PromiseMade(GROUP, ballot(4)),
        VoteFloorSet(GROUP, 3),
        LeaseLengthened(GROUP, 7),
        GroupCreated(9, 2, CONFIGURATION, 1),
        GroupRemoved(9, 2),
    ):
        state.apply(record)
    return state


def test_records_add_up() -> None:
    votes = made().groups[GROUP]
    assert votes.promise == ballot(4)
    assert votes.floor == 3
    assert votes.votes == {3: Vote(3, ballot(2), b"three"), 5: Vote(5, ballot(3), b"five")}
    assert votes.longest_lease_ms == 7
    assert made().tombstones == {9: 2}
    assert 9 not in made().groups


@pytest.mark.parametrize(
    "record",
    [
        PromiseMade(GROUP, ballot(1)),
        VoteCast(GROUP, 6, ballot(1), b"old"),
        VoteFloorSet(GROUP, 1),
        LeaseLengthened(GROUP, 6),
        GroupRemoved(9, 1),
    ],
    ids=lambda record: type(record).__name__,
)
def test_no_record_lowers_anything(record: JournalRecord) -> None:
    state = made()
    state.apply(record)
    assert acceptor_forgot(made(), state) == ""
    assert state.groups[GROUP].promise == ballot(4)
    assert state.groups[GROUP].floor == 3
    assert state.groups[GROUP].longest_lease_ms == 7
    assert state.tombstones == {9: 2}


def test_what_was_accepted_is_known_whichever_file_it_is_read_from() -> None:
    state = made()
    assert state.groups[GROUP].accepted_through == 5
    state.apply(VoteCast(GROUP, 4, ballot(5), b"four"))
    assert state.groups[GROUP].accepted_through == 5
    # Of a later file alone nothing is told but the floor, and then no older file has a vote left.
    state.apply(VoteFloorSet(GROUP, 9))
    fresh = AcceptorState()
    fresh.restore(state.opening())
    assert fresh == state
    assert fresh.groups[GROUP].accepted_through == 8
    later = GroupOpening(GROUP, 12, LATER_CONFIGURATION, None, 9, 0)
    fresh.restore(JournalOpening((later,), ()))
    assert fresh.groups[GROUP].accepted_through == LATER_CONFIGURATION.config_id


def test_a_vote_below_the_floor_is_not_brought_back() -> None:
    state = made()
    state.apply(VoteCast(GROUP, 2, ballot(5), b"late"))
    assert 2 not in state.groups[GROUP].votes
    assert state.groups[GROUP].promise == ballot(5), "its promise holds all the same"


@pytest.mark.parametrize(
    "record",
    [
        PromiseMade(7, ballot(1)),
        VoteCast(7, 1, ballot(1), b"v"),
        VoteFloorSet(7, 2),
        LeaseLengthened(7, 100),
    ],
    ids=lambda record: type(record).__name__,
)
def test_a_record_of_a_group_that_no_record_created_is_damage(record: JournalRecord) -> None:
    with pytest.raises(KeyError):
        made().apply(record)


def test_a_new_replica_starts_without_the_old_ones_votes() -> None:
    state = made()
    state.apply(GroupRemoved(GROUP, 12))
    state.apply(GroupCreated(GROUP, 20, CONFIGURATION, 8))
    assert state.groups[GROUP] == GroupVotes(20, CONFIGURATION, 8)
    assert state.tombstones == {9: 2, GROUP: 12}


def test_an_opening_holds_all_but_the_votes() -> None:
    state = made()
    opening = state.opening()
    assert opening == JournalOpening(
        (GroupOpening(GROUP, 12, CONFIGURATION, ballot(4), 3, 7),), ((9, 2),)
    )
    fresh = AcceptorState()
    fresh.restore(opening)
    assert fresh.groups[GROUP] == GroupVotes(12, CONFIGURATION, 3, ballot(4), 7, {})
    assert fresh.tombstones == {9: 2}


def test_an_opening_keeps_earlier_votes_and_lowers_nothing() -> None:
    state = made()
    before = copy.deepcopy(state)
    state.restore(made().opening())
    assert state == before
    older = GroupOpening(GROUP, 12, CONFIGURATION, ballot(1), 1, 0)
    state.restore(JournalOpening((older,), ((9, 2),)))
    assert acceptor_forgot(before, state) == ""
    assert state.groups[GROUP].longest_lease_ms == 7, "schedule 8: an older, longer grant runs"
    nobody = GroupOpening(GROUP, 12, CONFIGURATION, None, 1, 0)
    state.restore(JournalOpening((nobody,), ((9, 2),)))
    assert state.groups[GROUP].promise == ballot(4)


def test_a_later_opening_raises_floor_promise_and_configuration() -> None:
    state = made()
    later = GroupOpening(GROUP, 12, LATER_CONFIGURATION, ballot(8), 5, 9)
    state.restore(JournalOpening((later,), ((9, 4),)))
    votes = state.groups[GROUP]
    assert (votes.promise, votes.floor, votes.longest_lease_ms) == (ballot(8), 5, 9)
    assert set(votes.votes) == {5}
    assert votes.configuration == LATER_CONFIGURATION
    assert state.tombstones == {9: 4}


def test_a_group_that_a_later_opening_does_not_list_is_gone() -> None:
    state = made()
    state.restore(JournalOpening((), ((GROUP, 12), (9, 2))))
    assert state.groups == {}
    assert state.tombstones == {GROUP: 12, 9: 2}


def test_an_opening_of_another_replica_brings_no_old_vote() -> None:
    state = made()
    state.restore(JournalOpening((GroupOpening(GROUP, 20, CONFIGURATION, None, 1, 0),), ()))
    assert state.groups[GROUP] == GroupVotes(20, CONFIGURATION, 1)
    assert state.tombstones == {9: 2}, "a tombstone is never dropped"


def test_openings_are_in_order_so_that_equal_states_have_equal_bytes() -> None:
    one, other = AcceptorState(), AcceptorState()
    for state, groups in ((one, (3, 1, 2)), (other, (2, 3, 1))):
        for group in groups:
            state.apply(GroupCreated(group, 12, CONFIGURATION, 1))
            state.apply(GroupRemoved(group + 10, 1))
    assert one.opening() == other.opening()
    assert [group.group for group in one.opening().groups] == [1, 2, 3]
