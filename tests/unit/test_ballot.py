"""Ballots are totally ordered by all three fields, and equal only if all three are."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_paxos.core.ballot import Ballot

ballots = st.builds(
    Ballot,
    round=st.integers(0, 3),
    member_id=st.integers(1, 3),
    incarnation=st.integers(1, 3),
)


def fields(ballot: Ballot) -> tuple[int, int, int]:
    return ballot.round, ballot.member_id, ballot.incarnation


@given(ballots, ballots)
def test_order_and_equality_are_those_of_round_member_incarnation(a: Ballot, b: Ballot) -> None:
    assert (a < b) == (fields(a) < fields(b))
    assert (a <= b) == (fields(a) <= fields(b))
    assert (a == b) == (fields(a) == fields(b))
    assert (a > b) == (b < a)
    if a == b:
        assert hash(a) == hash(b)


@pytest.mark.parametrize(
    ("lower", "higher"),
    [
        (Ballot(1, 9, 9), Ballot(2, 1, 1)),
        (Ballot(2, 1, 9), Ballot(2, 2, 1)),
        (Ballot(2, 2, 1), Ballot(2, 2, 2)),
    ],
    ids=["round first", "then the member", "then the life of the proposer"],
)
def test_each_field_decides_after_the_one_before_it(lower: Ballot, higher: Ballot) -> None:
    assert lower < higher
    assert max(lower, higher) is higher


def test_two_lives_of_one_proposer_never_share_a_ballot() -> None:
    assert Ballot(5, 1, 1) != Ballot(5, 1, 2)
    assert len({Ballot(5, 1, 1), Ballot(5, 1, 2), Ballot(5, 1, 1)}) == 2


def test_a_ballot_cannot_be_changed() -> None:
    ballot = Ballot(1, 1, 1)
    with pytest.raises((AttributeError, dataclasses.FrozenInstanceError)):
        ballot.round = 2  # type: ignore[misc]
