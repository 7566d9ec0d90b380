"""Orders make and end groups at a member, once each, for rising replica_ids (design section 9)."""

from __future__ import annotations

import pytest

from ray_paxos.core.genesis import Configuration, Voter
from ray_paxos.core.messages import Accept, CreateGroup, OrderDone, RemoveGroup
from ray_paxos.core.records import GroupCreated, GroupRemoved
from tests.unit.core_helpers import (
    GROUP,
    LATER_CONFIGURATION,
    AcceptorBench,
    ballot,
    client,
    proposer_of,
)

ME = 2


@pytest.fixture
def bench() -> AcceptorBench:
    return AcceptorBench()


def order(
    bench: AcceptorBench, message: CreateGroup | RemoveGroup, group: int = 8
) -> tuple[bool, str]:
    """Whether the order made a record, and why it was refused."""
    effects = bench.ask(message, client(), group=group)
    (send,) = effects.sends_after_sync
    assert isinstance(send.message, OrderDone)
    assert send.message.replica_id == message.replica_id
    assert send.to == client()
    return bool(effects.records), send.message.refused


def create(replica_id: int, floor: int = 1) -> CreateGroup:
    return CreateGroup(replica_id, Configuration(0, (Voter(1, 1), Voter(ME, replica_id))), floor)


def test_an_order_makes_a_group_once(bench: AcceptorBench) -> None:
    effects = bench.ask(create(5, 4), client(), group=8)
    assert effects.records == [GroupCreated(8, 5, create(5).configuration, 4)]
    assert bench.acceptor.stamp(8) == (5, 0)
    bench.ask(Accept(ballot(1), 7, b"v"), proposer_of(1), group=8, replica_id=1)
    assert order(bench, create(5)) == (False, ""), "sent again: done already"
    assert set(bench.acceptor.state.groups[8].votes) == {7}, "and nothing forgotten"
    assert order(bench, create(6)) == (False, "already here as replica 5")


def test_a_tombstone_refuses_the_delayed_order_for_ever(bench: AcceptorBench) -> None:
    # Schedule 25: the order that created replica 5 was delayed, its re-send worked.
    order(bench, create(5))
    effects = bench.ask(RemoveGroup(5), client(), group=8)
    assert effects.records == [GroupRemoved(8, 5)]
    assert 8 not in bench.acceptor.state.groups
    for replica_id in (5, 4):
        made, refused = order(bench, create(replica_id))
        assert not made
        assert "removed" in refused
    assert order(bench, RemoveGroup(5)) == (False, ""), "done before"
    assert order(bench, RemoveGroup(4)) == (False, "")
    assert order(bench, create(6)) == (True, "")
    made, refused = order(bench, RemoveGroup(5))
    assert not made
    assert "later replica 6" in refused
    assert bench.acceptor.state.groups[8].replica_id == 6


def test_removing_what_was_never_here_leaves_a_tombstone_all_the_same(bench: AcceptorBench) -> None:
    # The removal overtook the order that creates.
    assert order(bench, RemoveGroup(5)) == (True, "")
    made, refused = order(bench, create(5))
    assert not made
    assert refused


def test_a_member_that_does_not_vote_holds_no_votes(bench: AcceptorBench) -> None:
    foreign = CreateGroup(5, Configuration(0, (Voter(1, 1), Voter(3, 5))), 1)
    made, refused = order(bench, foreign)
    assert not made
    assert "voter" in refused


def test_an_order_has_to_name_the_replica_of_its_configuration(bench: AcceptorBench) -> None:
    # As replica 6 it would stand above tombstone 5 with an entry that added replica 5.
    wrong = CreateGroup(6, Configuration(0, (Voter(1, 1), Voter(ME, 5))), 1)
    made, refused = order(bench, wrong)
    assert not made
    assert refused


def test_a_new_voter_starts_above_the_entry_that_made_it_one(bench: AcceptorBench) -> None:
    for floor in (1, 10):
        made, refused = order(bench, CreateGroup(12, LATER_CONFIGURATION, floor))
        assert not made
        assert "floor" in refused
    assert order(bench, CreateGroup(12, LATER_CONFIGURATION, 11)) == (True, "")
    assert bench.acceptor.stamp(8) == (12, 10)


def test_an_order_for_one_group_leaves_the_others_alone(bench: AcceptorBench) -> None:
    bench.accept(ballot(3), 1)
    order(bench, create(5))
    order(bench, RemoveGroup(5))
    assert bench.votes.promise == ballot(3)
    assert set(bench.votes.votes) == {1}


def test_a_full_disk_takes_no_orders(bench: AcceptorBench) -> None:
    bench.acceptor.storage_full = True
    for order in (CreateGroup(5, Configuration(0, (Voter(ME, 5),)), 1), RemoveGroup(5)):
        effects = bench.ask(order, client(), group=8)
        assert effects.records == [], f"{type(order).__name__} needs a record"
        (send,) = effects.sends_after_sync
        assert isinstance(send.message, OrderDone)
        assert "full" in send.message.refused
    effects = bench.ask(RemoveGroup(12), client())
    assert effects.records == []
    assert GROUP in bench.acceptor.state.groups
