"""Majorities: any two meet, also of configurations that differ by one voter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_paxos.core.genesis import Configuration, Voter
from ray_paxos.core.quorum import majority, majority_value
from tests.unit.core_helpers import CONFIGURATION


@pytest.mark.parametrize(("voters", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4)])
def test_a_majority_is_more_than_half(voters: int, needed: int) -> None:
    assert majority(voters) == needed


@pytest.mark.parametrize("voters", range(1, 40))
def test_any_two_majorities_meet_also_across_a_change_of_one_voter(voters: int) -> None:
    assert 2 * majority(voters) > voters
    assert majority(voters) + majority(voters + 1) > voters + 1
    assert 2 * (majority(voters) - 1) <= voters, "no larger than it has to be"


def test_no_voters_is_no_group() -> None:
    with pytest.raises(AssertionError):
        majority(0)


def test_a_configuration_finds_its_voters_by_member() -> None:
    assert CONFIGURATION.majority == 2
    assert CONFIGURATION.voter(2) == Voter(2, 12)
    assert CONFIGURATION.voter(12) is None, "a replica_id is no member_id"
    assert Configuration(0, (Voter(7, 1),)).majority == 1


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.integers(0, 9)))))
def test_majority_value_is_what_a_majority_reached(case: tuple[int, list[int]]) -> None:
    voters, reported = case
    reported = reported[:voters]
    found = majority_value(reported, voters)

    def reached(n: int) -> bool:
        return sum(1 for value in reported if value >= n) >= majority(voters)

    brute = max((n for n in range(1, 10) if reached(n)), default=0)
    assert found == brute


@pytest.mark.parametrize(
    ("reported", "voters", "value"),
    [
        ([], 3, 0),
        ([9], 3, 0),
        ([9, 4], 3, 4),
        ([9, 4, 0], 3, 4),
        ([9, 9, 9, 1], 4, 9),
        ([9, 9, 3, 1], 4, 3),
        ([5], 1, 5),
    ],
)
def test_a_voter_that_has_not_reported_counts_as_nothing(
    reported: list[int], voters: int, value: int
) -> None:
    assert majority_value(reported, voters) == value
