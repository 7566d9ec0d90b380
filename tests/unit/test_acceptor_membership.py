"""An acceptor takes another configuration from its own member's learner, and from nobody else."""

from __future__ import annotations

import pytest

from ray_paxos.core.client_messages import QuorumRead, RefusalCode, Refused
from ray_paxos.core.effects import Effects
from ray_paxos.core.genesis import Configuration, Voter
from ray_paxos.core.membership_messages import ConfigurationFollowed, FollowConfiguration
from ray_paxos.core.messages import (
    Accept,
    Accepted,
    Address,
    BelowFloor,
    CreateGroup,
    Heartbeat,
    HeartbeatConfirmed,
    Nack,
    NackReason,
    OrderDone,
    Prepare,
    PreVote,
    PreVoteGranted,
    Promise,
    RemoveGroup,
)
from ray_paxos.core.records import ConfigurationSet, GroupCreated, GroupRemoved
from tests.unit.core_helpers import (
    CONFIGURATION,
    GROUP,
    POINT,
    AcceptorBench,
    ballot,
    client,
    learner_of,
    proposer_of,
)

ME = 2
GROWN = Configuration(10, (*CONFIGURATION.voters, Voter(4, 14)), (), 14)
BEYOND = Configuration(11, GROWN.voters, (Voter(5, 15),), 15)
WITHOUT_ME = Configuration(12, (Voter(1, 11), Voter(3, 13), Voter(4, 14)), (), 15)
BACK_AGAIN = Configuration(20, (Voter(1, 11), Voter(2, 17), Voter(3, 13), Voter(4, 14)), (), 17)


def follow(
    bench: AcceptorBench, configuration: Configuration, sender: Address | None = None
) -> Effects:
    return bench.ask(FollowConfiguration(configuration), sender or learner_of(ME))


def answer(effects: Effects) -> object:
    (send,) = effects.sends_after_sync
    return send.message


def nacked(effects: Effects) -> NackReason:
    nack = answer(effects)
    assert isinstance(nack, Nack)
    return nack.reason


def test_it_answers_under_the_new_configuration_once_it_is_durable() -> None:
    bench = AcceptorBench()
    bench.prepare(ballot(5))
    effects = follow(bench, GROWN)
    assert effects.records == [ConfigurationSet(GROUP, GROWN)]
    assert answer(effects) == ConfigurationFollowed(10, 12, 10)
    assert not effects.sends_now, "nothing is vouched for before the record is durable"
    assert bench.votes.promise == ballot(5), "a promise outlives a configuration (R2)"
    old = bench.ask(Prepare(ballot(6), 11), proposer_of(1), config_id=0)
    assert nacked(old) is NackReason.CONFIGURATION_OLD
    new = bench.ask(Prepare(ballot(6), 11), proposer_of(1), config_id=10)
    assert isinstance(answer(new), Promise)


def test_it_survives_a_restart() -> None:
    bench = AcceptorBench()
    follow(bench, GROWN)
    bench.restart()
    assert bench.votes.configuration == GROWN


def test_a_new_voter_is_counted_at_once() -> None:
    bench = AcceptorBench()
    follow(bench, GROWN)
    promise = bench.ask(Prepare(ballot(3, 4), 11), proposer_of(4), config_id=10)
    assert isinstance(answer(promise), Promise)


@pytest.mark.parametrize("instance_id", [9, 10])
def test_a_configuration_governs_nothing_at_or_below_its_entry(instance_id: int) -> None:
    bench = AcceptorBench()
    follow(bench, GROWN)
    prepare = bench.ask(Prepare(ballot(3), instance_id), proposer_of(1), config_id=10)
    assert nacked(prepare) is NackReason.BEFORE_CONFIGURATION
    accept = bench.ask(Accept(ballot(3), instance_id, b"v"), proposer_of(1), config_id=10)
    assert nacked(accept) is NackReason.BEFORE_CONFIGURATION


@pytest.mark.parametrize("sender", [learner_of(1), proposer_of(ME), client()])
def test_nobody_else_is_believed(sender: Address) -> None:
    bench = AcceptorBench()
    effects = follow(bench, GROWN, sender)
    assert not effects.records
    assert not effects.sends_after_sync
    assert bench.votes.configuration == CONFIGURATION


def test_an_older_configuration_changes_nothing() -> None:
    bench = AcceptorBench()
    follow(bench, GROWN)
    effects = follow(bench, CONFIGURATION)
    assert not effects.records
    assert answer(effects) == ConfigurationFollowed(10, 12, 0)


def cut_short(bench: AcceptorBench) -> None:
    """It follows the entry at 10, and the own log ends before that one now."""
    bench.prepare(ballot(5))
    bench.accept(ballot(5), 9, b"command")
    bench.accept(ballot(5), 10, b"entry")
    follow(bench, GROWN)
    bench.ask(FollowConfiguration(CONFIGURATION, 10), learner_of(ME))


def under(effects: Effects, config_id: int) -> object:
    """What it answers, where it counts under that configuration."""
    (send,) = effects.sends_after_sync
    assert send.config_id == config_id
    return send.message


def test_where_the_own_log_was_cut_short_it_answers_as_before_the_entry() -> None:
    bench = AcceptorBench()
    cut_short(bench)
    asked = proposer_of(1)
    assert isinstance(under(bench.ask(PreVote(ballot(6)), asked, config_id=0), 0), PreVoteGranted)
    promise = under(bench.ask(Prepare(ballot(6), 9), asked, config_id=0), 0)
    assert isinstance(promise, Promise)
    assert [vote.value for vote in promise.votes] == [b"command", b"entry"]
    assert bench.votes.promise == ballot(6)
    accept = bench.ask(Accept(ballot(6), 10, b"entry", 1, 1_000), asked, config_id=0)
    assert isinstance(under(accept, 0), Accepted)
    beat = bench.ask(Heartbeat(ballot(6), 2, True, 8, 8, POINT, lease_ms=1_000), asked, config_id=0)
    assert under(beat, 0) == HeartbeatConfirmed(ballot(6), 2)
    assert bench.votes.longest_lease_ms == 0, "nothing is granted under what is over"
    assert bench.votes.configuration == GROWN
    new = bench.ask(Prepare(ballot(7), 11), asked, config_id=10)
    assert isinstance(under(new, 10), Promise)


def test_it_votes_for_nothing_above_the_entry_under_what_was_before() -> None:
    bench = AcceptorBench()
    cut_short(bench)
    old = bench.ask(Accept(ballot(6), 11, b"v"), proposer_of(1), config_id=0)
    assert nacked(old) is NackReason.CONFIGURATION_OLD
    assert not old.records


def test_it_tells_all_votes_page_by_page_under_what_was_before() -> None:
    """Also those above the entry: refused in the middle the promise were never complete."""
    bench = AcceptorBench(page_bytes=6)
    cut_short(bench)
    bench.ask(Accept(ballot(5), 11, b"above"), proposer_of(1), config_id=10)
    told: list[bytes] = []
    page: int | None = 9
    while page is not None:
        promise = under(bench.ask(Prepare(ballot(6), page), proposer_of(1), config_id=0), 0)
        assert isinstance(promise, Promise)
        told += [vote.value for vote in promise.votes]
        page = promise.next_instance
    assert told == [b"command", b"entry", b"above"]


def test_the_own_log_can_teach_whoever_stands_under_what_it_has_left_behind() -> None:
    bench = AcceptorBench()
    follow(bench, BEYOND)
    bench.ask(FollowConfiguration(GROWN, 11), learner_of(ME))
    old = bench.ask(Prepare(ballot(6), 9), proposer_of(1), config_id=0)
    assert nacked(old) is NackReason.CONFIGURATION_OLD
    as_it_has = bench.ask(Prepare(ballot(6), 11), proposer_of(1), config_id=10)
    assert isinstance(under(as_it_has, 10), Promise)


@pytest.mark.parametrize("cut_short_of", [0, 10])
def test_what_it_is_told_late_is_no_word_of_damage(cut_short_of: int) -> None:
    bench = AcceptorBench()
    follow(bench, GROWN)
    follow(bench, BEYOND)
    effects = bench.ask(FollowConfiguration(CONFIGURATION, cut_short_of), learner_of(ME))
    assert answer(effects) == ConfigurationFollowed(11, 12, 0)
    old = bench.ask(Prepare(ballot(6), 9), proposer_of(1), config_id=0)
    assert nacked(old) is NackReason.CONFIGURATION_OLD


@pytest.mark.parametrize("by_a_restart", [True, False])
def test_it_goes_back_no_more_once_the_log_is_there_again(by_a_restart: bool) -> None:
    bench = AcceptorBench()
    cut_short(bench)
    if by_a_restart:
        bench.restart()
    else:
        follow(bench, GROWN)
    old = bench.ask(Prepare(ballot(6), 9), proposer_of(1), config_id=0)
    assert nacked(old) is NackReason.CONFIGURATION_OLD


def test_another_replica_does_not_go_back_where_the_removed_one_did() -> None:
    bench = AcceptorBench()
    cut_short(bench)
    bench.ask(RemoveGroup(12, 10), learner_of(ME))
    bench.ask(CreateGroup(17, BACK_AGAIN, 21), proposer_of(ME))
    old = bench.ask(Prepare(ballot(6), 11), proposer_of(1), config_id=10)
    assert nacked(old) is NackReason.CONFIGURATION_OLD


def test_what_it_promised_under_the_later_configuration_holds_for_the_older_ones() -> None:
    bench = AcceptorBench()
    cut_short(bench)
    bench.ask(Prepare(ballot(8, 3), 11), proposer_of(3), config_id=10)
    for message in (
        Prepare(ballot(6), 9),
        Accept(ballot(6), 9, b"v"),
        Heartbeat(ballot(6), 1, True, 8, 8, POINT),
    ):
        old = bench.ask(message, proposer_of(1), config_id=0)
        assert nacked(old) is NackReason.PROMISED
        assert not old.records


def test_the_genesis_makes_no_voter_without_an_order() -> None:
    """R9: one that has lost its votes does not vote, whatever its log says."""
    bench = AcceptorBench()
    del bench.acceptor.state.groups[GROUP]
    effects = follow(bench, CONFIGURATION)
    assert not effects.records
    assert answer(effects) == ConfigurationFollowed(0, 0, 0)


def test_a_removed_voter_goes_on_answering_until_it_is_told_to_go() -> None:
    bench = AcceptorBench()
    bench.accept(ballot(5), 12, b"the entry")
    effects = follow(bench, WITHOUT_ME)
    assert not effects.records
    assert answer(effects) == ConfigurationFollowed(0, 12, 12)
    promise = answer(bench.ask(Prepare(ballot(6), 12), proposer_of(1), config_id=0))
    assert isinstance(promise, Promise)
    assert promise.votes[0].value == b"the entry"
    gone = bench.ask(RemoveGroup(12), learner_of(ME))
    assert gone.records == [GroupRemoved(GROUP, 12)]
    assert answer(gone) == OrderDone(12, "")
    assert answer(follow(bench, WITHOUT_ME)) == ConfigurationFollowed(0, 0, 12)


def test_a_new_voter_votes_above_the_entry_that_made_it_one_and_never_below() -> None:
    bench = AcceptorBench()
    bench.ask(RemoveGroup(12), learner_of(ME))
    effects = follow(bench, BACK_AGAIN)
    assert effects.records == [GroupCreated(GROUP, 17, BACK_AGAIN, 21)]
    assert answer(effects) == ConfigurationFollowed(20, 17, 20)
    ask = Accept(ballot(3), 21, b"v")
    assert isinstance(answer(bench.ask(ask, proposer_of(1), config_id=20)), Accepted)
    ask = Accept(ballot(3), 20, b"v")
    refused = answer(bench.ask(ask, proposer_of(1), config_id=20))
    assert isinstance(refused, Nack | BelowFloor)


def test_a_replica_that_was_removed_never_comes_back() -> None:
    bench = AcceptorBench()
    bench.ask(RemoveGroup(17), learner_of(ME))
    effects = follow(bench, BACK_AGAIN)
    assert not effects.records
    assert answer(effects) == ConfigurationFollowed(0, 0, 20)


def test_another_replica_takes_the_place_of_one_that_is_still_here_only_after_its_removal() -> None:
    bench = AcceptorBench()
    effects = follow(bench, BACK_AGAIN)
    assert not effects.records
    assert answer(effects) == ConfigurationFollowed(0, 12, 20)
    assert bench.votes.replica_id == 12


def test_a_full_disk_is_no_reason_to_believe_it_followed() -> None:
    bench = AcceptorBench()
    bench.acceptor.storage_full = True
    effects = follow(bench, GROWN)
    assert not effects.records
    assert answer(effects) == ConfigurationFollowed(0, 12, 10)


def test_a_removal_by_an_older_configuration_than_its_own_is_refused() -> None:
    bench = AcceptorBench()
    follow(bench, GROWN)
    effects = bench.ask(RemoveGroup(12, 9), learner_of(ME))
    assert not effects.records
    done = answer(effects)
    assert isinstance(done, OrderDone)
    assert "later configuration 10" in done.refused
    assert bench.ask(RemoveGroup(12, 12), learner_of(ME)).records


def test_a_client_that_reads_a_group_that_is_not_here_is_told() -> None:
    bench = AcceptorBench()
    refused = answer(bench.ask(QuorumRead(5), client(), group=GROUP + 1))
    assert isinstance(refused, Refused)
    assert (refused.request_id, refused.code) == (5, RefusalCode.UNKNOWN_GROUP)
