"""Each seeded bug of changes of members must be found; see `test_mutations`."""

from __future__ import annotations

import functools

import pytest

from ray_paxos.core.values import MembershipKind
from tests.simulation import mutations_of_masters, mutations_of_storage
from tests.simulation import mutations_of_membership as bugs
from tests.simulation import test_left_behind_schedules as left_behind
from tests.simulation import test_membership_schedules as schedules
from tests.simulation.test_mutations import by_schedules, by_seeds, fail, find

REMOVE, DEMOTE = MembershipKind.REMOVE, MembershipKind.DEMOTE

FOUND_BY_SCHEDULES = [
    # The proposer.
    (
        bugs.skip_the_prepare_after_a_change,
        schedules.test_replaced_voter_of_an_established_master,
    ),
    (bugs.skip_the_prepare_after_a_change, schedules.test_adopted_entry),
    (bugs.count_by_the_old_voters, schedules.test_replaced_voter_of_an_established_master),
    (bugs.count_by_the_old_voters, schedules.test_counting_under_the_wrong_configuration),
    (bugs.propose_above_an_adopted_entry, schedules.test_adopted_entry),
    (bugs.propose_above_an_adopted_entry, schedules.test_removed_voter_that_is_asked),
    (bugs.propose_beside_an_entry, schedules.test_requests_during_a_change),
    (bugs.take_a_configuration_from_a_nack, schedules.test_taught_not_applied),
    (bugs.teach_nobody, schedules.test_voter_that_knows_none_of_those_that_are_left),
    (
        bugs.propose_the_own_removal,
        functools.partial(schedules.test_master_that_is_to_vote_no_more, REMOVE),
    ),
    (
        bugs.propose_the_own_removal,
        functools.partial(schedules.test_master_that_is_to_vote_no_more, DEMOTE),
    ),
    (
        bugs.promote_whoever_answers,
        functools.partial(
            schedules.test_member_that_is_added_again_while_it_is_about_to_leave, False
        ),
    ),
    (
        bugs.promote_what_is_not_durable,
        functools.partial(
            schedules.test_member_that_is_added_again_while_it_is_about_to_leave, True
        ),
    ),
    # What an entry does.
    (bugs.let_the_last_voter_go, functools.partial(schedules.test_last_voter, REMOVE)),
    (bugs.let_the_last_voter_go, functools.partial(schedules.test_last_voter, DEMOTE)),
    (bugs.change_what_is_there, schedules.test_two_changes_of_one_configuration),
    (bugs.reuse_a_replica_id, schedules.test_member_that_is_added_again),
    # The acceptor.
    (
        bugs.take_a_configuration_before_it_is_sealed,
        schedules.test_configuration_that_outlives_its_entry,
    ),
    (bugs.begin_with_the_first_instance, schedules.test_member_that_is_added_again),
    (bugs.answer_who_is_late, schedules.test_counting_under_the_wrong_configuration),
    (bugs.answer_who_is_late, schedules.test_late_accept_of_an_old_configuration),
    (
        bugs.never_go_back,
        functools.partial(schedules.test_entry_that_only_a_damaged_log_had, False),
    ),
    (bugs.never_go_back, functools.partial(schedules.test_entry_that_only_a_damaged_log_had, True)),
    (bugs.never_go_back, schedules.test_entries_that_are_in_votes_alone),
    (
        bugs.say_nothing_of_the_genesis,
        functools.partial(schedules.test_entry_that_only_a_damaged_log_had, False),
    ),
    (
        bugs.stamp_what_it_follows,
        functools.partial(schedules.test_entry_that_only_a_damaged_log_had, True),
    ),
    (
        bugs.answer_who_is_ahead,
        schedules.test_member_that_is_added_again_before_it_has_forgotten,
    ),
    (bugs.answer_below_the_entry, schedules.test_taught_not_applied),
    (bugs.forget_at_once, schedules.test_removed_voter_that_is_asked),
    (bugs.forget_at_once, schedules.test_removed_voter_whose_votes_are_needed),
    (bugs.create_a_group_on_a_message, schedules.test_removed_voter_that_is_asked),
    (bugs.forget_the_tombstone_of_a_vote, schedules.test_delayed_orders),
    (
        bugs.forget_the_tombstone_of_a_vote,
        functools.partial(schedules.test_voter_that_was_away_when_it_was_removed, False),
    ),
    (mutations_of_storage.lose_tombstones, schedules.test_delayed_orders),
    (bugs.remove_whatever_is_there, schedules.test_member_that_is_added_again),
    (
        bugs.follow_as_whoever_it_was,
        schedules.test_member_that_is_added_again_before_it_has_forgotten,
    ),
    # The learner, and what it tells its member's other roles.
    (bugs.take_a_late_answer, schedules.test_late_answer_of_an_acceptor),
    (bugs.remove_by_a_log_that_is_behind, schedules.test_voter_whose_log_is_lost),
    (
        bugs.tell_of_what_is_not_sealed,
        functools.partial(
            schedules.test_learner_that_dies_before_it_has_sealed_the_entry, MembershipKind.ADD
        ),
    ),
    (bugs.follow_no_further, schedules.test_removed_voter_whose_successors_are_replaced),
    (bugs.ask_nobody, schedules.test_follower_that_was_away_when_it_was_removed),
    (
        bugs.ask_nobody,
        functools.partial(schedules.test_member_that_was_away_while_all_that_it_knows_left, False),
    ),
    (
        bugs.forget_who_has_what_was_left,
        functools.partial(schedules.test_member_that_was_away_while_all_that_it_knows_left, False),
    ),
    (
        bugs.forget_who_has_what_was_left_by_a_restart,
        functools.partial(schedules.test_member_that_was_away_while_all_that_it_knows_left, True),
    ),
    (
        bugs.know_nobody_by_hearsay,
        functools.partial(schedules.test_member_that_was_away_while_all_that_it_knows_left, False),
    ),
    (bugs.forget_who_was_named, left_behind.test_answers_of_the_one_that_has_the_group_are_lost),
    (bugs.forget_who_was_named, left_behind.test_answers_to_a_voter_are_lost),
    (
        bugs.forget_who_was_named,
        left_behind.test_the_last_of_a_chain_of_departures_is_away_at_first,
    ),
    (bugs.forget_who_was_named, left_behind.test_only_a_checkpoint_has_what_was_missed),
    (bugs.teach_without_names, left_behind.test_only_a_checkpoint_has_what_a_voter_missed),
    (bugs.name_voters_only, left_behind.test_a_follower_has_taken_over_from_the_voter),
    (
        bugs.wait_for_a_floor_of_nobody,
        functools.partial(schedules.test_voter_that_left_while_its_vote_floor_was_raised, DEMOTE),
    ),
    (
        bugs.wait_for_an_older_answer,
        schedules.test_stalled_disk_while_the_acceptor_is_told_of_a_configuration,
    ),
    (bugs.forget_the_tombstone_of_a_part, schedules.test_delayed_orders),
    (
        bugs.forget_the_tombstone_of_a_part,
        functools.partial(schedules.test_voter_that_was_away_when_it_was_removed, True),
    ),
    (
        mutations_of_masters.take_a_notice_of_an_old_configuration,
        schedules.test_notice_of_an_old_configuration,
    ),
]


@pytest.mark.parametrize(("mutation", "schedule"), by_schedules(FOUND_BY_SCHEDULES))
def test_found_by_schedules(mutation, schedule, monkeypatch):
    fail(mutation, schedule, monkeypatch)


FOUND_BY_SEEDS = [
    (bugs.skip_the_prepare_after_a_change, 0),
    (bugs.reuse_a_replica_id, 18),
    (bugs.begin_with_the_first_instance, 2),
    (bugs.answer_who_is_ahead, 4),
    (bugs.forget_at_once, 0),
    (bugs.promote_whoever_answers, 215),
    (bugs.create_a_group_on_a_message, 0),
]
"""With the seed at which each was found last, which is tried first; then all the others are."""


@pytest.mark.parametrize("mutation", by_seeds(dict(FOUND_BY_SEEDS), FOUND_BY_SCHEDULES))
def test_found_by_seeds(mutation, monkeypatch):
    find(mutation, monkeypatch, dict(FOUND_BY_SEEDS)[mutation])
