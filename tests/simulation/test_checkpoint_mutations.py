"""Each seeded bug of checkpoints, cleaning and repair must be found by a schedule, or by seeds."""

from __future__ import annotations

import functools

import pytest

from tests.simulation import (
    mutations,
    mutations_of_checkpoints,
    mutations_of_sessions,
    test_bounded_disk,
    test_checkpoint_kills,
    test_damage_schedules,
)
from tests.simulation import test_checkpoint_schedules as schedules
from tests.simulation.test_mutations import by_schedules, by_seeds, fail, find

FOUND_BY_SCHEDULES = [
    (mutations_of_checkpoints.cut_beyond_the_checkpoint, schedules.test_second_word),
    (
        mutations_of_checkpoints.believe_what_was_told,
        test_damage_schedules.test_word_of_a_checkpoint_that_was_set_aside_since,
    ),
    (mutations_of_checkpoints.cut_machines_at_different_instances, schedules.test_one_cut),
    (mutations_of_checkpoints.restore_without_the_log_time, schedules.test_one_cut),
    (mutations_of_sessions.drop_kept_results_at_a_checkpoint, schedules.test_one_cut),
    (mutations_of_sessions.drop_sessions_at_a_checkpoint, schedules.test_one_cut),
    (mutations_of_checkpoints.publish_without_sync, schedules.test_one_cut),
    (mutations_of_checkpoints.name_without_sync, schedules.test_one_cut),
    (
        mutations_of_checkpoints.rely_on_a_name_in_the_page_cache,
        test_checkpoint_kills.test_cut_off_between_name_and_sync,
    ),
    (
        mutations_of_checkpoints.publish_before_verifying,
        functools.partial(schedules.test_corrupted_chunk, False),
    ),
    (
        mutations_of_checkpoints.forget_promises_at_an_install,
        schedules.test_install_keeps_the_promise,
    ),
    (mutations.lower_the_promise_when_learning, schedules.test_install_keeps_the_promise),
    (mutations_of_checkpoints.learn_without_a_second_word, schedules.test_second_word),
    (
        mutations_of_checkpoints.serve_damaged_segments,
        test_damage_schedules.test_damaged_segment_is_mended,
    ),
    (
        mutations_of_checkpoints.keep_serving_a_damaged_checkpoint,
        functools.partial(test_damage_schedules.test_damaged_checkpoint_is_set_aside, True),
    ),
    (mutations_of_checkpoints.mend_nothing, test_damage_schedules.test_damaged_segment_is_mended),
    (
        mutations_of_checkpoints.mend_with_unverified_values,
        test_damage_schedules.test_damaged_segment_is_mended,
    ),
    (
        mutations_of_checkpoints.count_durable_beyond_the_hole,
        functools.partial(test_damage_schedules.test_damaged_in_the_middle_at_rest, False),
    ),
    (
        mutations_of_checkpoints.cover_with_any_checkpoint,
        test_damage_schedules.test_newest_checkpoint_damaged_and_the_log_begins_after_it,
    ),
    (
        mutations_of_checkpoints.wait_for_who_has_it,
        test_damage_schedules.test_damaged_segment_that_nobody_has_any_more,
    ),
    (
        mutations_of_checkpoints.give_up_on_one_members_word,
        test_damage_schedules.test_damaged_segment_that_one_member_has_no_more,
    ),
    (mutations_of_checkpoints.never_ask_for_a_late_word, schedules.test_second_word_comes_later),
    *(
        (mutation, functools.partial(test_damage_schedules.test_damaged_in_the_only_copy, is_kept))
        for mutation, is_kept in (
            (mutations_of_checkpoints.count_only_who_has_cut_off, True),
            (mutations_of_checkpoints.leave_checkpoints_to_the_copy, True),
            (mutations_of_checkpoints.leave_checkpoints_to_the_copy, False),
            (mutations_of_checkpoints.want_no_checkpoint, True),
        )
    ),
    (mutations_of_checkpoints.ask_for_segments_once, schedules.test_segments_told_out_of_order),
    (
        mutations_of_checkpoints.seal_while_installing,
        schedules.test_values_above_the_checkpoint_are_sealed_after_the_cut,
    ),
    (mutations_of_checkpoints.clean_nothing, test_bounded_disk.test_disk_is_bounded),
    (mutations_of_checkpoints.keep_all_checkpoints, test_bounded_disk.test_disk_is_bounded),
    (mutations_of_checkpoints.switch_while_sealing, schedules.test_sealed_while_installing),
]

FOUND_BY_SEEDS = [
    mutations_of_checkpoints.cut_beyond_the_checkpoint,
    mutations_of_checkpoints.cut_machines_at_different_instances,
    mutations_of_checkpoints.publish_without_sync,
    mutations_of_checkpoints.learn_without_a_second_word,
    mutations_of_sessions.drop_kept_results_at_a_checkpoint,
]


@pytest.mark.parametrize(("mutation", "schedule"), by_schedules(FOUND_BY_SCHEDULES))
def test_found_by_schedules(mutation, schedule, monkeypatch):
    fail(mutation, schedule, monkeypatch)


@pytest.mark.parametrize("mutation", by_seeds(FOUND_BY_SEEDS, FOUND_BY_SCHEDULES))
def test_found_by_seeds(mutation, monkeypatch):
    find(mutation, monkeypatch)
