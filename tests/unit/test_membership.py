"""What a membership entry makes of a configuration."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.core.genesis import Configuration, Voter
from ray_paxos.core.membership import change_refused, changed
from ray_paxos.core.values import MembershipEntry, MembershipKind
from ray_paxos.testing.configurations import ConfigurationLedger
from tests.unit.core_helpers import value

ADD, PROMOTE, DEMOTE, REMOVE = MembershipKind
FIRST = Configuration(0, (Voter(1, 1), Voter(2, 2), Voter(3, 3)), (Voter(4, 4),))


def entry(kind: MembershipKind, member_id: int, config_id: int = 0) -> MembershipEntry:
    return MembershipEntry(kind, member_id, config_id)


def test_a_member_joins_as_a_follower() -> None:
    after = changed(FIRST, entry(ADD, 5), 10)
    assert after == Configuration(10, FIRST.voters, (Voter(4, 4), Voter(5, 5)), 5)


def test_a_follower_becomes_a_voter_as_another_replica() -> None:
    after = changed(FIRST, entry(PROMOTE, 4), 10)
    assert after == Configuration(10, (*FIRST.voters, Voter(4, 5)), (), 5)


def test_a_voter_becomes_a_follower_as_another_replica() -> None:
    after = changed(FIRST, entry(DEMOTE, 2), 10)
    assert after.voters == (Voter(1, 1), Voter(3, 3))
    assert after.followers == (Voter(2, 5), Voter(4, 4))


@pytest.mark.parametrize("member_id", [2, 4])
def test_a_member_leaves(member_id: int) -> None:
    after = changed(FIRST, entry(REMOVE, member_id), 10)
    assert after.member_ids == tuple(sorted({1, 2, 3, 4} - {member_id}))


def test_a_replica_id_is_never_given_twice() -> None:
    removed = changed(FIRST, entry(REMOVE, 4), 10)
    again = changed(removed, entry(ADD, 4, 10), 11)
    own = again.follower(4)
    assert own is not None
    assert own.replica_id > 4
    voting = changed(again, entry(PROMOTE, 4, 11), 12).voter(4)
    assert voting is not None
    assert voting.replica_id > own.replica_id


@pytest.mark.parametrize(
    ("kind", "member_id", "why"),
    [
        (ADD, 1, "has the group already"),
        (ADD, 4, "has the group already"),
        (PROMOTE, 1, "votes already"),
        (PROMOTE, 9, "has not the group"),
        (DEMOTE, 4, "does not vote"),
        (DEMOTE, 9, "does not vote"),
        (REMOVE, 9, "has not the group"),
    ],
)
def test_what_cannot_be_is_refused_by_name(kind: MembershipKind, member_id: int, why: str) -> None:
    refused = change_refused(FIRST, entry(kind, member_id))
    assert str(member_id) in refused
    assert why in refused
    assert changed(FIRST, entry(kind, member_id), 10) is FIRST


@pytest.mark.parametrize("kind", [DEMOTE, REMOVE])
def test_the_last_voter_stays(kind: MembershipKind) -> None:
    alone = Configuration(7, (Voter(1, 1),), (Voter(2, 2),))
    assert "last voter" in change_refused(alone, entry(kind, 1, 7))
    assert not change_refused(alone, entry(REMOVE, 2, 7))


def test_another_configuration_than_the_expected_one_is_not_changed() -> None:
    later = changed(FIRST, entry(ADD, 5), 10)
    assert "the group is at 10" in change_refused(later, entry(ADD, 6, 0))
    assert changed(later, entry(ADD, 6, 0), 11) is later


entries = st.lists(st.tuples(st.sampled_from(MembershipKind), st.integers(1, 5)), max_size=30)


@given(entries)
@settings(max_examples=200, deadline=None)
def test_majorities_of_consecutive_configurations_meet(changes: list[tuple[int, int]]) -> None:
    configuration, judged = FIRST, ConfigurationLedger(FIRST)
    given_ids = {each.replica_id for each in (*FIRST.voters, *FIRST.followers)}
    for offset, (kind, member_id) in enumerate(changes):
        instance_id = 10 + offset
        one = MembershipEntry(MembershipKind(kind), member_id, configuration.config_id)
        after = changed(configuration, one, instance_id)
        judged.chosen(instance_id, value(one))
        assert after == judged.current, "the judge's own account agrees"
        assert bool(change_refused(configuration, one)) == (after is configuration)
        before_voters = [v.member_id for v in configuration.voters]
        after_voters = [v.member_id for v in after.voters]
        assert after_voters
        for some in combinations(before_voters, configuration.majority):
            for others in combinations(after_voters, after.majority):
                assert set(some) & set(others)
        known = {*configuration.voters, *configuration.followers}
        fresh = {each.replica_id for each in {*after.voters, *after.followers} - known}
        assert not fresh & given_ids, "a replica_id is given once"
        given_ids |= fresh
        configuration = after
