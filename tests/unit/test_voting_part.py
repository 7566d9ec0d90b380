"""Keeping the own acceptor in step with the log's membership."""

from __future__ import annotations

import pytest

from ray_paxos.core.genesis import Configuration, Voter
from ray_paxos.core.learner_messages import CatchUp
from ray_paxos.core.membership_messages import ConfigurationFollowed, FollowConfiguration
from ray_paxos.core.messages import Address, OrderDone, RemoveGroup
from ray_paxos.core.settings import LearnerSettings
from ray_paxos.core.voting_part import VotingPart
from tests.unit.core_helpers import MS, acceptor_of, envelope, learner_of, status

ME = 2
RETRY_NS = LearnerSettings().catch_up_retry_ns
FIRST = Configuration(0, (Voter(1, 11), Voter(2, 12), Voter(3, 13)))
GROWN = Configuration(10, (*FIRST.voters, Voter(4, 14)), (), 14)
WITHOUT_ME = Configuration(12, (Voter(1, 11), Voter(3, 13), Voter(4, 14)), (), 15)
BACK_AGAIN = Configuration(20, (*WITHOUT_ME.voters, Voter(2, 17)), (), 17)


def part() -> VotingPart:
    return VotingPart(ME, LearnerSettings())


def followed(own: VotingPart, configuration: Configuration, config_id: int, replica: int) -> None:
    own.on_followed(
        acceptor_of(ME),
        ConfigurationFollowed(config_id, replica, configuration.config_id),
        configuration,
    )


def tell(own: VotingPart, member_id: int, durable: int, replica: int, at: Configuration) -> None:
    message = status(durable, durable=durable)
    own.on_status(envelope(learner_of(member_id), message, replica_id=replica), message, at)


def test_nothing_is_told_before_the_first_change() -> None:
    assert part().take_due(FIRST, 100, 0) == []


def test_an_acceptor_that_is_ahead_of_the_genesis_is_told_where_the_log_ends() -> None:
    own = part()
    own.note_ahead(20)
    assert not own.is_in_step(FIRST)
    for now_ns in (0, RETRY_NS):
        told = own.take_due(FIRST, 0, now_ns)
        assert told == [(acceptor_of(ME), FollowConfiguration(FIRST, 20))]
        followed(own, FIRST, 20, 12)


def test_an_acceptor_that_turns_out_to_be_no_further_is_asked_once() -> None:
    """What a proposer has its learner look for need not be a configuration: a vote floor, too."""
    own = part()
    own.note_ahead(30)
    assert own.take_due(FIRST, 0, 0) == [(acceptor_of(ME), FollowConfiguration(FIRST, 30))]
    followed(own, FIRST, 0, 12)
    assert own.is_in_step(FIRST)
    assert own.take_due(FIRST, 0, 9 * RETRY_NS) == []
    assert own.due_ns is None


def test_an_acceptor_that_is_no_further_than_the_log_is_left_alone() -> None:
    own = part()
    own.take_due(GROWN, 10, 0)
    followed(own, GROWN, 10, 12)
    own.note_ahead(10)
    assert own.is_in_step(GROWN)
    assert own.take_due(GROWN, 10, 9 * RETRY_NS) == []


def test_an_acceptor_that_is_ahead_is_told_again_and_again_where_the_log_ends() -> None:
    """It has to hear so after every start of its own, too."""
    own = part()
    own.take_due(GROWN, 10, 0)
    followed(own, GROWN, 20, 12)
    assert own.ahead_through == 20
    assert not own.is_in_step(GROWN)
    for now_ns in (1, 1 + RETRY_NS):
        told = own.take_due(GROWN, 10, now_ns)
        assert told == [(acceptor_of(ME), FollowConfiguration(GROWN, 20))]
        followed(own, GROWN, 20, 12)
        assert own.take_due(GROWN, 10, now_ns + 1) == [], "not before it is due"
    there = Configuration(20, GROWN.voters, (), 14)
    assert own.take_due(there, 20, 9 * RETRY_NS) == [(acceptor_of(ME), FollowConfiguration(there))]


def test_the_acceptor_is_told_once_the_entry_is_durable() -> None:
    own = part()
    assert own.take_due(GROWN, 9, 0) == []
    assert own.due_ns is None
    assert own.take_due(GROWN, 10, 0) == [(acceptor_of(ME), FollowConfiguration(GROWN))]
    assert own.take_due(GROWN, 10, RETRY_NS - 1) == []
    assert own.take_due(GROWN, 10, RETRY_NS) == [(acceptor_of(ME), FollowConfiguration(GROWN))]
    followed(own, GROWN, 10, 12)
    assert own.take_due(GROWN, 10, 9 * RETRY_NS) == []
    assert own.due_ns is None


def test_an_answer_about_an_older_configuration_is_not_enough() -> None:
    own = part()
    own.take_due(GROWN, 10, 0)
    followed(own, GROWN, 0, 12)
    assert own.take_due(GROWN, 10, RETRY_NS)


def test_a_removed_replica_goes_once_a_majority_holds_the_entry() -> None:
    own = part()
    own.take_due(WITHOUT_ME, 12, 0)
    followed(own, WITHOUT_ME, 10, 12)
    asked = own.take_due(WITHOUT_ME, 12, MS)
    assert asked == [(learner_of(m), CatchUp(0, ())) for m in (1, 3, 4)]
    tell(own, 1, 12, 11, WITHOUT_ME)
    assert own.take_due(WITHOUT_ME, 12, RETRY_NS + MS) == [
        (learner_of(m), CatchUp(0, ())) for m in (3, 4)
    ]
    tell(own, 3, 11, 13, WITHOUT_ME)
    tell(own, 4, 12, 99, WITHOUT_ME)
    tell(own, 2, 12, 12, WITHOUT_ME)
    again = own.take_due(WITHOUT_ME, 12, 2 * RETRY_NS + MS)
    assert again == [(learner_of(m), CatchUp(0, ())) for m in (3, 4)], "those did not count"
    tell(own, 4, 12, 14, WITHOUT_ME)
    removal = own.take_due(WITHOUT_ME, 12, 2 * RETRY_NS + MS)
    assert removal == [(acceptor_of(ME), RemoveGroup(12, 12))]
    own.on_order_done(acceptor_of(ME), OrderDone(12, ""), WITHOUT_ME)
    assert own.take_due(WITHOUT_ME, 12, 2 * RETRY_NS + MS) == [
        (acceptor_of(ME), FollowConfiguration(WITHOUT_ME))
    ]
    followed(own, WITHOUT_ME, 0, 0)
    assert not own.is_in_step(WITHOUT_ME), "an old order may be on its way"
    last = own.take_due(WITHOUT_ME, 12, 2 * RETRY_NS + MS)
    assert last == [(acceptor_of(ME), RemoveGroup(15, 12))]
    own.on_order_done(acceptor_of(ME), OrderDone(15, ""), WITHOUT_ME)
    assert own.is_in_step(WITHOUT_ME)


def test_after_a_refused_removal_the_acceptor_is_asked_again_what_it_is() -> None:
    own = part()
    own.take_due(WITHOUT_ME, 12, 0)
    followed(own, WITHOUT_ME, 10, 12)
    own.take_due(WITHOUT_ME, 12, MS)
    tell(own, 1, 12, 11, WITHOUT_ME)
    tell(own, 3, 12, 13, WITHOUT_ME)
    assert own.take_due(WITHOUT_ME, 12, MS) == [(acceptor_of(ME), RemoveGroup(12, 12))]
    own.on_order_done(acceptor_of(ME), OrderDone(12, "the disk is full"), WITHOUT_ME)
    assert not own.take_due(WITHOUT_ME, 12, MS + RETRY_NS - 1)
    again = own.take_due(WITHOUT_ME, 12, MS + RETRY_NS)
    assert again == [(acceptor_of(ME), FollowConfiguration(WITHOUT_ME))]
    followed(own, WITHOUT_ME, 10, 12)
    assert own.take_due(WITHOUT_ME, 12, 2 * RETRY_NS) == [(acceptor_of(ME), RemoveGroup(12, 12))]


def test_what_voters_held_of_one_entry_says_nothing_of_the_next() -> None:
    own = part()
    own.take_due(WITHOUT_ME, 12, 0)
    followed(own, WITHOUT_ME, 10, 12)
    own.take_due(WITHOUT_ME, 12, MS)
    tell(own, 1, 12, 11, WITHOUT_ME)
    tell(own, 3, 12, 13, WITHOUT_ME)
    tell(own, 4, 12, 14, WITHOUT_ME)
    assert own.take_due(BACK_AGAIN, 20, MS + RETRY_NS) == [
        (acceptor_of(ME), FollowConfiguration(BACK_AGAIN))
    ], "nor what the acceptor was"
    followed(own, BACK_AGAIN, 10, 12)
    asked = own.take_due(BACK_AGAIN, 20, MS + RETRY_NS)
    assert asked
    assert all(isinstance(message, CatchUp) for _, message in asked)


def test_a_member_that_was_removed_and_added_again_drops_the_old_replica_first() -> None:
    own = part()
    own.take_due(BACK_AGAIN, 20, 0)
    followed(own, BACK_AGAIN, 10, 12)
    assert not own.is_in_step(BACK_AGAIN)
    own.take_due(BACK_AGAIN, 20, 0)
    for member_id, replica in ((1, 11), (3, 13), (4, 14)):
        tell(own, member_id, 20, replica, BACK_AGAIN)
    assert own.take_due(BACK_AGAIN, 20, 0) == [(acceptor_of(ME), RemoveGroup(12, 20))]
    own.on_order_done(acceptor_of(ME), OrderDone(12, ""), BACK_AGAIN)
    own.take_due(BACK_AGAIN, 20, 0)
    followed(own, BACK_AGAIN, 20, 17)
    assert own.is_in_step(BACK_AGAIN)


def test_only_the_own_acceptor_is_believed() -> None:
    own = part()
    own.take_due(GROWN, 10, 0)
    own.on_followed(acceptor_of(3), ConfigurationFollowed(10, 12, 10), GROWN)
    assert not own.is_in_step(GROWN)


def test_an_acceptor_that_is_ahead_of_a_log_that_damage_cut_short_is_left_alone() -> None:
    own = part()
    own.take_due(WITHOUT_ME, 12, 0)
    followed(own, WITHOUT_ME, 20, 17)
    assert own.ahead_through == 20
    again = own.take_due(WITHOUT_ME, 12, RETRY_NS)
    assert again == [(acceptor_of(ME), FollowConfiguration(WITHOUT_ME, 20))], "nothing is removed"
    own.take_due(BACK_AGAIN, 20, RETRY_NS)
    followed(own, BACK_AGAIN, 20, 17)
    assert own.is_in_step(BACK_AGAIN)


def test_an_answer_to_an_earlier_question_counts_for_nothing() -> None:
    own = part()
    own.take_due(WITHOUT_ME, 12, 0)
    own.on_followed(acceptor_of(ME), ConfigurationFollowed(0, 0, 10), WITHOUT_ME)
    assert own.take_due(WITHOUT_ME, 12, RETRY_NS) == [
        (acceptor_of(ME), FollowConfiguration(WITHOUT_ME))
    ]


def test_it_is_never_due_with_nothing_to_ask() -> None:
    own = part()
    own.take_due(GROWN, 10, 0)
    assert own.due_ns is not None
    assert own.take_due(WITHOUT_ME, 11, MS) == []
    assert own.due_ns is None, "the next entry is not durable yet"


def test_one_that_votes_no_more_waits_for_nobody() -> None:
    """It has no vote that anybody could need; only orders on their way are to find a tombstone."""
    own = part()
    own.take_due(WITHOUT_ME, 12, 0)
    followed(own, WITHOUT_ME, 0, 0)
    assert own.take_due(WITHOUT_ME, 12, MS) == [(acceptor_of(ME), RemoveGroup(15, 12))]


@pytest.mark.parametrize(
    ("sender", "done"),
    [
        (acceptor_of(3), OrderDone(15, "")),
        (learner_of(ME), OrderDone(15, "")),
        (acceptor_of(ME), OrderDone(12, "")),
    ],
    ids=["another member's", "another role", "another replica"],
)
def test_only_the_own_acceptors_word_of_this_very_replica_ends_it(
    sender: Address, done: OrderDone
) -> None:
    own = part()
    own.take_due(WITHOUT_ME, 12, 0)
    followed(own, WITHOUT_ME, 0, 0)
    own.take_due(WITHOUT_ME, 12, MS)
    own.on_order_done(sender, done, WITHOUT_ME)
    assert not own.is_in_step(WITHOUT_ME)
    assert own.take_due(WITHOUT_ME, 12, MS + RETRY_NS) == [(acceptor_of(ME), RemoveGroup(15, 12))]


def test_what_was_removed_under_one_configuration_is_not_in_step_with_the_next() -> None:
    own = part()
    own.take_due(WITHOUT_ME, 12, 0)
    followed(own, WITHOUT_ME, 0, 0)
    own.take_due(WITHOUT_ME, 12, MS)
    own.on_order_done(acceptor_of(ME), OrderDone(15, ""), BACK_AGAIN)
    assert not own.is_in_step(BACK_AGAIN)
    assert own.take_due(BACK_AGAIN, 20, MS) == [(acceptor_of(ME), FollowConfiguration(BACK_AGAIN))]


def test_a_follower_leaves_a_tombstone_up_to_its_own_replica() -> None:
    """Orders of the time when it voted are old; the one that will make it vote is not."""
    demoted = Configuration(12, (Voter(1, 11), Voter(3, 13)), (Voter(ME, 14),), 16)
    own = part()
    own.take_due(demoted, 12, 0)
    followed(own, demoted, 0, 0)
    assert own.take_due(demoted, 12, MS) == [(acceptor_of(ME), RemoveGroup(14, 12))]


def test_an_acceptor_that_has_not_the_group_yet_is_told_again_and_removes_nothing() -> None:
    own = part()
    own.take_due(BACK_AGAIN, 20, 0)
    followed(own, BACK_AGAIN, 0, 0)
    assert not own.is_in_step(BACK_AGAIN)
    again = own.take_due(BACK_AGAIN, 20, RETRY_NS)
    assert again == [(acceptor_of(ME), FollowConfiguration(BACK_AGAIN))]
