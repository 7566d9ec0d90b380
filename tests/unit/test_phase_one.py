"""Phase one: promises counted once a voter, in pages, and the value that has to be proposed (P2c).

The property test compares with brute force over what the acceptors held, whatever is lost,
repeated or overtaken on the way.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.genesis import Configuration, Voter
from ray_paxos.core.messages import Promise, Vote
from ray_paxos.core.phase_one import PhaseOne
from tests.unit.core_helpers import CONFIGURATION, REPLICAS, ballot

NEW = ballot(9)


def phase_one(from_instance: int = 1) -> PhaseOne:
    return PhaseOne(NEW, from_instance, CONFIGURATION)


def vote(instance_id: int, round: int, text: str = "") -> Vote:
    return Vote(instance_id, ballot(round), (text or f"{instance_id} at {round}").encode())


def page(*votes: Vote, first: int = 1, floor: int = 1, next_instance: int | None = None) -> Promise:
    return Promise(NEW, first, floor, votes, next_instance)


def add(phase: PhaseOne, member_id: int, promise: Promise) -> int | None:
    return phase.add(member_id, REPLICAS[member_id], promise)


def test_a_majority_of_voters_is_needed_and_each_counts_once() -> None:
    phase = phase_one()
    for _ in range(3):
        assert add(phase, 1, page()) is None
        assert not phase.is_promised
    add(phase, 3, page())
    assert phase.is_promised
    assert phase.to_propose(0) == []


def test_a_promise_for_another_ballot_is_our_own_bug() -> None:
    with pytest.raises(AssertionError):
        phase_one().add(1, 11, Promise(ballot(8), 1, 1, (), None))


def test_the_vote_at_the_highest_ballot_is_proposed_whoever_answers_first() -> None:
    low, high = vote(1, 3, "low"), vote(1, 7, "high")
    for first, second in ((low, high), (high, low)):
        phase = phase_one()
        add(phase, 1, page(first))
        add(phase, 2, page(second))
        assert phase.to_propose(0) == [high]


def test_ballots_of_one_round_are_compared_in_full() -> None:
    by_member = Vote(1, Ballot(5, 2, 1), b"member 2")
    by_life = Vote(1, Ballot(5, 1, 8), b"life 8 of member 1")
    phase = phase_one()
    add(phase, 1, page(by_life))
    add(phase, 2, page(by_member))
    assert phase.to_propose(0) == [by_member]


def test_holes_below_the_highest_vote_are_no_ops_and_nothing_is_proposed_above_it() -> None:
    phase = phase_one()
    add(phase, 1, page(vote(2, 1), vote(5, 2)))
    add(phase, 2, page(vote(3, 1)))
    assert phase.to_propose(0) == [None, vote(2, 1), vote(3, 1), None, vote(5, 2)]
    assert phase.to_propose(4) == [vote(5, 2)]
    assert phase.to_propose(9) == []


# Pages.


def test_a_voter_counts_with_its_last_page_only() -> None:
    phase = phase_one()
    add(phase, 1, page())
    assert phase.next_page(12) == 1
    assert add(phase, 2, page(vote(1, 1), next_instance=4)) == 4
    assert not phase.is_promised
    assert phase.next_page(12) == 4
    assert add(phase, 2, page(vote(4, 1), first=4)) is None
    assert phase.is_promised
    assert phase.next_page(12) is None
    assert phase.to_propose(0) == [vote(1, 1), None, None, vote(4, 1)]


def test_pages_that_come_twice_or_out_of_order_count_once_and_in_order() -> None:
    phase = phase_one()
    first, second = page(vote(1, 1), next_instance=4), page(vote(4, 1), first=4)
    assert add(phase, 2, second) is None, "nobody has asked for that page"
    assert phase.next_page(12) == 1
    assert 12 not in phase.complete
    assert add(phase, 2, first) == 4
    assert add(phase, 2, first) is None, "asked for the second page once"
    assert add(phase, 2, second) is None
    assert add(phase, 2, first) is None
    assert phase.complete == {12}
    assert phase.to_propose(0) == [vote(1, 1), None, None, vote(4, 1)]


def test_a_voter_that_is_complete_is_asked_for_nothing_more() -> None:
    phase = phase_one()
    add(phase, 1, page())
    assert add(phase, 1, page(next_instance=5)) is None
    assert phase.next_page(11) is None


def test_a_page_of_another_start_does_not_complete_a_voter() -> None:
    # From 5 on there is no vote: that says nothing of what lies between 1 and 5.
    phase = phase_one()
    add(phase, 1, page(first=5))
    add(phase, 2, page(first=5))
    assert not phase.is_promised


# Floors.


def test_the_highest_floor_has_to_be_learned_first() -> None:
    phase = phase_one()
    add(phase, 1, page(floor=3))
    add(phase, 3, page(floor=7))
    assert phase.floor == 7
    assert phase.floor_sources == (3, 1)
    with pytest.raises(AssertionError):
        phase.to_propose(5)
    assert phase.to_propose(6) == []


def test_a_floor_that_rises_between_pages_counts() -> None:
    phase = phase_one()
    add(phase, 1, page())
    add(phase, 2, page(vote(1, 1), vote(2, 1), next_instance=3))
    assert phase.floor == 1
    add(phase, 2, page(vote(6, 1), first=3, floor=6))
    assert phase.floor == 6, "3 to 5 are chosen and were not told: no holes for no-ops"
    assert phase.to_propose(5) == [vote(6, 1)]
    with pytest.raises(AssertionError):
        phase.to_propose(4)


def test_a_floor_of_a_voter_that_is_not_complete_counts_too() -> None:
    phase = phase_one()
    add(phase, 1, page())
    add(phase, 3, page())
    add(phase, 2, page(floor=4, next_instance=8))
    assert phase.is_promised
    assert phase.floor == 4


# Against brute force.


@dataclass
class Acceptor:
    """What one acceptor holds when it promises: its floor, and votes at or above it."""

    floor: int
    votes: dict[int, Vote]

    def pages(self, first: int, cuts: list[int]) -> list[Promise]:
        starts = [first, *(cut for cut in cuts if cut > first)]
        pages = []
        for start, end in zip(starts, [*starts[1:], None], strict=True):
            votes = [
                vote
                for i, vote in sorted(self.votes.items())
                if i >= start and (end is None or i < end)
            ]
            pages.append(Promise(NEW, start, self.floor, tuple(votes), end))
        return pages


@st.composite
def acceptors(draw: st.DrawFn) -> list[Acceptor]:
    """Votes as Paxos leaves them: one value a ballot and instance."""
    made = []
    for _ in range(5):
        floor = draw(st.integers(1, 3))
        rounds = draw(st.dictionaries(st.integers(floor, 6), st.integers(1, 4), max_size=5))
        made.append(Acceptor(floor, {i: vote(i, round) for i, round in rounds.items()}))
    return made


@settings(max_examples=200, deadline=None)
@given(acceptors(), st.data())
def test_what_is_proposed_is_the_highest_vote_of_those_that_promised(
    acceptors: list[Acceptor], data: st.DataObject
) -> None:
    voters = tuple(Voter(member_id, member_id + 10) for member_id in range(1, 6))
    phase = PhaseOne(NEW, 1, Configuration(0, voters))
    cuts = sorted(data.draw(st.sets(st.integers(2, 6), max_size=2)))
    deliveries = [
        (member_id, promise)
        for member_id, acceptor in enumerate(acceptors, 1)
        for promise in acceptor.pages(1, cuts)
    ]
    order = data.draw(st.lists(st.sampled_from(deliveries), max_size=20))
    told: dict[int, set[int]] = {}
    for member_id, promise in order:
        told.setdefault(member_id, {1})
        if promise.from_instance not in told[member_id]:
            continue  # An acceptor answers only what it was asked.
        next_page = phase.add(member_id, member_id + 10, promise)
        if next_page is not None:
            assert next_page == promise.next_instance
            told[member_id].add(next_page)
    assert phase.is_promised == (len(phase.complete) >= 3)
    if not phase.is_promised:
        return
    complete = [acceptors[replica_id - 11] for replica_id in phase.complete]
    learned_through = phase.floor - 1
    assert learned_through >= max(acceptor.floor for acceptor in complete) - 1
    proposed = phase.to_propose(learned_through)
    for offset, found in enumerate(proposed):
        instance_id = learned_through + 1 + offset
        held = [a.votes[instance_id] for a in complete if instance_id in a.votes]
        best = max(held, key=lambda vote: vote.ballot, default=None)
        if best is not None:
            assert found is not None
            assert found.ballot >= best.ballot
        elif found is not None:
            assert any(found in a.votes.values() for a in acceptors), "a vote nobody cast"
        assert_chosen_is_proposed(acceptors, instance_id, found)
    for acceptor in complete:
        assert max(acceptor.votes, default=0) <= learned_through + len(proposed)


def assert_chosen_is_proposed(
    acceptors: list[Acceptor], instance_id: int, found: Vote | None
) -> None:
    """What a majority voted for at one ballot must be proposed again, unless a higher vote is."""
    cast = [a.votes[instance_id] for a in acceptors if instance_id in a.votes]
    for chosen in cast:
        if cast.count(chosen) >= 3:
            assert found is not None
            assert found.ballot >= chosen.ballot
