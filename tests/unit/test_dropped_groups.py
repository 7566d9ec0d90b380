"""A group that is given up everywhere: each member lets go of it, and never takes it again."""

from __future__ import annotations

from ray_paxos.core.messages import OrderDone, RemoveGroup
from ray_paxos.core.parts import PartLeft, Parts
from ray_paxos.core.parts_messages import DROPPED, DropPart, TakePart
from tests.unit.core_helpers import acceptor_of, client, receivers, sends, sent
from tests.unit.test_member_roles import MASTER, ME, PART, Quiet, keeper, told

VOTES_GONE = OrderDone(DROPPED, "")


def test_the_votes_go_first_and_the_answer_waits_for_the_tombstone() -> None:
    own = keeper(Parts(1, {7: PART}), {7: Quiet()})
    effects = own.handle(told(client(), DropPart()), 1)
    assert sent(effects, RemoveGroup) == [RemoveGroup(DROPPED, DROPPED)]
    assert receivers(effects, RemoveGroup) == [acceptor_of(ME)]
    assert not effects.records
    assert 7 in own.roles
    effects = own.handle(told(acceptor_of(ME), VOTES_GONE), 2)
    assert effects.records == [PartLeft(7, DROPPED)]
    assert 7 not in own.roles
    assert not effects.sends_now
    assert [(each.to, each.message) for each in effects.sends_after_sync] == [
        (client(), VOTES_GONE)
    ]


def test_no_order_brings_it_back() -> None:
    own = keeper(Parts(1, {}, {7: DROPPED}))
    (done,) = sent(own.handle(told(MASTER, TakePart(PART)), 1), OrderDone)
    assert "has left" in done.refused


def test_one_that_never_had_it_refuses_it_from_there_on_too() -> None:
    own = keeper()
    own.handle(told(client(), DropPart()), 1)
    effects = own.handle(told(acceptor_of(ME), VOTES_GONE), 2)
    assert effects.records == [PartLeft(7, DROPPED)]


def test_it_may_be_ordered_again() -> None:
    own = keeper(Parts(1, {}, {7: DROPPED}))
    effects = own.handle(told(client(), DropPart()), 1)
    assert sent(effects, OrderDone) == [VOTES_GONE]
    assert not effects.records
    assert not sent(effects, RemoveGroup)


def test_one_that_is_just_being_made_is_dropped_once_it_is() -> None:
    own = keeper()
    own.handle(told(MASTER, TakePart(PART)), 1)
    effects = own.handle(told(client(), DropPart()), 2)
    assert not sends(effects)
    assert not effects.records


def test_a_full_disk_is_told_and_nothing_is_left() -> None:
    own = keeper(Parts(1, {7: PART}), {7: Quiet()})
    own.handle(told(client(), DropPart()), 1)
    effects = own.handle(told(acceptor_of(ME), OrderDone(DROPPED, "the disk is full")), 2)
    assert not effects.records
    assert 7 in own.roles
    assert sent(effects, OrderDone) == [OrderDone(DROPPED, "the disk is full")]


def test_only_the_own_acceptors_word_counts() -> None:
    own = keeper(Parts(1, {7: PART}), {7: Quiet()})
    own.handle(told(client(), DropPart()), 1)
    assert not own.handle(told(acceptor_of(1), VOTES_GONE), 2).records
