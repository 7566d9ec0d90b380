"""How a learner follows its group's membership."""

from __future__ import annotations

import pytest

from ray_paxos.core.checkpoint import Cut
from ray_paxos.core.client_messages import Consistency, Query, QueryFailed, QueryResult
from ray_paxos.core.effects import Effects
from ray_paxos.core.events import ApplyingStopped, ConfigurationLearned
from ray_paxos.core.genesis import Configuration, Voter
from ray_paxos.core.learner_messages import CatchUp, LearnerStatus, LearnRequest, RaiseVoteFloor
from ray_paxos.core.membership_messages import ConfigurationFollowed, FollowConfiguration
from ray_paxos.core.messages import LeaseNotice
from ray_paxos.core.records import SealedInstance, SealSegment
from ray_paxos.core.values import EMPTY_CHAIN, MembershipEntry, MembershipKind
from tests.unit.core_helpers import (
    CONFIGURATION,
    MS,
    REPLICAS,
    acceptor_of,
    ballot,
    chosen,
    client,
    happened,
    learner_of,
    proposer_of,
    receivers,
    sends,
    sent,
    value,
)
from tests.unit.learner_bench import ME, LearnerBench, ScriptedHost, cut_at

FOLLOWED = Configuration(0, CONFIGURATION.voters, (Voter(4, REPLICAS[4]),))
GROWN = Configuration(3, (*CONFIGURATION.voters, Voter(4, 15)), (), 15)


def entry(kind: MembershipKind, member_id: int, config_id: int = 0) -> bytes:
    return value(MembershipEntry(kind, member_id, config_id))


def grown() -> tuple[LearnerBench, Effects]:
    """Member 4 is made a voter at instance 3."""
    bench = LearnerBench(members=(1, 2, 3, 4))
    bench.learns(1, 2)
    return bench, bench.told(chosen(3, encoded=entry(MembershipKind.PROMOTE, 4)), through=3)


def own_statuses(effects: Effects) -> list[LearnerStatus]:
    return [
        send.message
        for send in sends(effects)
        if isinstance(send.message, LearnerStatus) and send.to == proposer_of(ME)
    ]


def test_the_configuration_is_followed_and_told_to_the_own_proposer() -> None:
    bench, effects = grown()
    assert bench.learner.configuration == GROWN
    assert happened(effects, ConfigurationLearned) == [ConfigurationLearned(1, GROWN)]
    assert not any(told.configuration for told in own_statuses(effects)), "not durable yet"
    assert own_statuses(bench.sync())[-1].configuration == GROWN
    assert bench.learner.stamp(1) == (REPLICAS[ME], 3)


def test_the_own_proposer_is_told_until_it_has_taken_it() -> None:
    bench, _ = grown()
    bench.sync()
    (told,) = own_statuses(bench.receive(proposer_of(ME), CatchUp(0, ()), config_id=0))
    assert told.configuration == GROWN
    (told,) = own_statuses(bench.receive(proposer_of(ME), CatchUp(0, ()), config_id=3))
    assert told.configuration is None
    (told,) = own_statuses(bench.receive(proposer_of(ME), CatchUp(0, ()), config_id=0))
    assert told.configuration == GROWN, "its next life has to be told again"


def test_other_members_proposers_are_not_told() -> None:
    _bench, effects = grown()
    (told,) = [s.message for s in sends(effects) if s.to == proposer_of(1)]
    assert isinstance(told, LearnerStatus)
    assert told.configuration is None


def test_an_entry_is_sealed_at_once_and_the_acceptor_told_after_it() -> None:
    bench, effects = grown()
    assert not sent(effects, FollowConfiguration)
    (seal,) = bench.unsynced
    assert isinstance(seal, SealSegment)
    assert seal.instances[-1].chosen.instance_id == 3
    effects = bench.sync()
    assert sent(effects, FollowConfiguration) == [FollowConfiguration(GROWN)]
    assert receivers(effects, FollowConfiguration) == [acceptor_of(ME)]
    bench.receive(acceptor_of(ME), ConfigurationFollowed(3, REPLICAS[ME], 3))
    assert not sent(bench.tick(10_000), FollowConfiguration)


def test_it_asks_again_until_the_acceptor_answers() -> None:
    bench, _ = grown()
    bench.sync()
    assert sent(bench.tick(300), FollowConfiguration) == [FollowConfiguration(GROWN)]


def test_a_restart_follows_what_is_sealed() -> None:
    bench, _ = grown()
    bench.sync()
    again = LearnerBench(
        members=(1, 2, 3, 4), sealed=bench.sealed, segments=[(1, 3, 100)], incarnation=2
    )
    assert again.learner.configuration == GROWN
    assert sent(again.tick(), FollowConfiguration) == [FollowConfiguration(GROWN)]


def test_membership_goes_on_where_applying_stopped() -> None:
    bench = LearnerBench(members=(1, 2, 3, 4), host=ScriptedHost(fails_at=1))
    effects = bench.learns(1, 2)
    assert happened(effects, ApplyingStopped)
    bench.told(chosen(3, encoded=entry(MembershipKind.PROMOTE, 4)), through=3)
    assert bench.learner.configuration == GROWN
    assert sent(bench.sync(), FollowConfiguration) == [FollowConfiguration(GROWN)]


def test_entries_above_a_hole_wait_for_it() -> None:
    bench = LearnerBench(members=(1, 2, 3, 4))
    bench.told(chosen(3, encoded=entry(MembershipKind.PROMOTE, 4)), through=3)
    assert bench.learner.configuration == FOLLOWED
    bench.learns(1, 2)
    assert bench.learner.configuration == GROWN


def test_a_refused_entry_changes_nothing() -> None:
    bench = LearnerBench()
    bench.learns(1, 2)
    effects = bench.told(chosen(3, encoded=entry(MembershipKind.PROMOTE, 9)), through=3)
    assert not happened(effects, ConfigurationLearned)
    assert bench.learner.stamp(1) == (REPLICAS[ME], 0)


def test_a_removed_member_votes_no_more_and_raises_no_floor() -> None:
    bench = LearnerBench()
    bench.learns(1, 2)
    bench.told(chosen(3, encoded=entry(MembershipKind.REMOVE, ME)), through=3, durable=3)
    assert bench.learner.stamp(1) == (0, 3)
    effects = bench.sync()
    assert sent(effects, FollowConfiguration)
    assert not sent(effects, RaiseVoteFloor)


def test_members_that_joined_are_asked_and_those_that_left_are_not() -> None:
    bench = LearnerBench()
    bench.told(chosen(1, encoded=entry(MembershipKind.REMOVE, 3)), through=1)
    bench.told(chosen(2, encoded=entry(MembershipKind.ADD, 4, 1)), through=2)
    asked = set()
    bench.beat(through=9, of=proposer_of(1), config_id=2)
    for _ in range(40):
        asked |= set(receivers(bench.tick(300), LearnRequest))
    assert {to.member_id for to in asked} == {1, 4}


def test_a_checkpoint_brings_its_configuration() -> None:
    cut = cut_at(5)
    bench = LearnerBench(
        base=Cut(cut.instance_id, cut.chain, cut.result_chain, cut.ballot, GROWN),
        members=(1, 2, 3, 4),
    )
    assert bench.learner.configuration == GROWN
    assert sent(bench.tick(), FollowConfiguration) == [FollowConfiguration(GROWN)]


def test_a_lease_of_an_older_configuration_is_void() -> None:
    bench = LearnerBench(members=(1, 2, 3, 4))
    bench.learns(1, 2)
    notice = LeaseNotice(ballot(1, ME), 1, 10_000 * MS, 2)
    bench.receive(proposer_of(ME), notice)
    query = Query(1, "log", b"", 0, Consistency.LEASE)
    assert sent(bench.receive(client(), query), QueryResult)
    bench.told(chosen(3, encoded=entry(MembershipKind.PROMOTE, 4)), through=3)
    assert sent(bench.receive(client(), query), QueryFailed)


def test_no_lease_counts_before_the_log_has_come_to_where_this_member_was_added() -> None:
    """It was a voter of this very configuration before: a notice of then is nobody's now."""
    bench = LearnerBench(members=(1, 2, 3, 4), ordered=GROWN)
    bench.learns(1, 2)
    bench.receive(proposer_of(ME), LeaseNotice(ballot(1, ME), 1, 10_000 * MS, 2))
    query = Query(1, "log", b"", 0, Consistency.LEASE)
    assert sent(bench.receive(client(), query), QueryFailed)
    assert bench.learner.lease_point(bench.now_ns) is None
    bench.told(chosen(3, encoded=entry(MembershipKind.PROMOTE, 4)), through=3)
    bench.receive(proposer_of(ME), LeaseNotice(ballot(2, ME), 1, 10_000 * MS, 3), config_id=3)
    assert sent(bench.receive(client(), query), QueryResult)
    assert bench.learner.lease_point(bench.now_ns) == 3


@pytest.mark.parametrize("sealed_through", [2, 3])
def test_only_what_is_sealed_is_told_to_the_acceptor_after_a_restart(sealed_through: int) -> None:
    values = [chosen(1), chosen(2), chosen(3, encoded=entry(MembershipKind.PROMOTE, 4))]
    sealed = [SealedInstance(v, EMPTY_CHAIN, None) for v in values[:sealed_through]]
    bench = LearnerBench(
        members=(1, 2, 3, 4), sealed=sealed, segments=[(1, sealed_through, 100)], incarnation=2
    )
    assert bool(sent(bench.tick(), FollowConfiguration)) == (sealed_through == 3)
    assert learner_of(ME).member_id == ME
