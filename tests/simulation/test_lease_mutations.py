"""Each seeded bug of leases, reads, elections and sessions must be found; see `test_mutations`."""

from __future__ import annotations

import functools

import pytest

from tests.simulation import (
    mutations,
    mutations_of_masters,
    mutations_of_reads,
    mutations_of_sessions,
)
from tests.simulation import test_election_schedules as elections
from tests.simulation import test_lease_schedules as leases
from tests.simulation import test_read_schedules as reads
from tests.simulation import test_session_schedules as sessions
from tests.simulation.test_mutations import by_schedules, by_seeds, fail, find

HUB = ("CA", "CB", "CD", "CE")
LEASE_MS = 600

FOUND_BY_SCHEDULES = [
    # Who may believe in a lease.
    (mutations_of_masters.tell_no_instance, leases.test_lease_read_at_a_restarted_learner),
    (
        mutations_of_masters.take_a_notice_for_another_life,
        leases.test_notice_for_an_earlier_life_of_the_learner,
    ),
    (mutations_of_masters.release_before_the_learner_knows, leases.test_early_release),
    (mutations_of_masters.keep_a_revoked_notice, leases.test_early_release),
    (mutations_of_masters.release_before_the_learner_knows, leases.test_release_is_waited_out),
    (mutations_of_masters.release_without_a_ballot, leases.test_delayed_release),
    (
        mutations_of_masters.trust_the_lease_from_the_arrival,
        leases.test_lease_counted_from_a_late_reply,
    ),
    (mutations_of_masters.echo_the_last_send, leases.test_lease_counted_from_a_late_vote),
    (mutations_of_masters.keep_the_last_length_only, leases.test_lease_shortened_by_a_restart),
    (
        mutations_of_masters.forget_the_lease_over_a_restart,
        leases.test_lease_shortened_by_a_restart,
    ),
    (mutations_of_masters.resume_at_a_released_ballot, leases.test_released_ballot_that_lives_on),
    (mutations_of_masters.release_without_a_ballot, leases.test_released_ballot_that_lives_on),
    (
        mutations_of_masters.take_a_notice_after_its_revocation,
        leases.test_notice_after_its_revocation,
    ),
    (
        mutations_of_masters.take_a_notice_of_an_earlier_life,
        leases.test_notice_of_an_earlier_life_of_the_proposer,
    ),
    (
        mutations_of_masters.take_a_notice_of_an_earlier_life,
        leases.test_late_notice_of_an_earlier_life_of_the_proposer,
    ),
    (
        mutations_of_masters.take_a_notice_of_an_old_configuration,
        leases.test_notice_of_an_old_configuration,
    ),
    (mutations_of_masters.grant_below_the_promise, leases.test_grant_below_the_promise),
    # Reads.
    (mutations_of_masters.trust_a_notice_for_ever, reads.test_paused_master),
    (mutations_of_masters.trust_a_notice_for_ever, reads.test_paused_learner),
    (mutations_of_masters.trust_a_notice_for_ever, reads.test_clock_jumps_forward_at_the_holder),
    (
        mutations_of_masters.confirm_an_index_without_a_round,
        reads.test_read_index_of_a_deposed_master,
    ),
    (
        mutations_of_masters.share_a_round_already_sent,
        reads.test_read_that_shares_a_round_already_sent,
    ),
    (
        mutations_of_masters.read_below_the_own_master_record,
        reads.test_read_index_before_the_own_master_record,
    ),
    (
        mutations_of_masters.tell_what_was_heard_before_serving,
        reads.test_follower_under_a_new_master,
    ),
    (
        mutations_of_masters.count_unconfirmed_rounds_as_fresh,
        reads.test_follower_of_a_deposed_master,
    ),
    (
        mutations_of_reads.count_an_acceptor_twice,
        functools.partial(reads.test_read_by_quorum_at_a_deposed_master, leases.LEASED),
    ),
    (
        mutations_of_reads.take_the_first_acceptor_for_all,
        functools.partial(reads.test_read_by_quorum_at_a_deposed_master, reads.UNLEASED),
    ),
    (
        mutations_of_reads.answer_before_the_index_is_applied,
        functools.partial(reads.test_read_by_quorum_at_a_deposed_master, leases.LEASED),
    ),
    (
        mutations_of_reads.answer_before_the_index_is_applied,
        functools.partial(reads.test_read_by_quorum, leases.LEASED),
    ),
    (mutations_of_reads.show_another_reign, reads.test_read_by_quorum_at_another_learner),
    (
        mutations_of_reads.tell_only_the_votes_that_are_left,
        functools.partial(reads.test_read_by_quorum_over_a_raised_floor, False),
    ),
    (
        mutations_of_reads.tell_only_the_votes_that_are_left,
        functools.partial(reads.test_read_by_quorum_over_a_raised_floor, True),
    ),
    (mutations_of_reads.count_whoever_answers, reads.test_read_by_quorum_over_configurations),
    (mutations_of_reads.count_across_configurations, reads.test_read_by_quorum_over_configurations),
    (
        mutations_of_reads.follow_another_configuration,
        reads.test_read_by_quorum_over_configurations,
    ),
    # Elections.
    (
        mutations_of_masters.confirm_without_the_disk,
        functools.partial(elections.test_stalled_disk_at_the_master, LEASE_MS),
    ),
    (
        mutations_of_masters.go_on_without_a_majority,
        functools.partial(elections.test_one_way_cut_of_the_master, LEASE_MS, False),
    ),
    (
        mutations_of_masters.call_every_heartbeat_confirmed,
        functools.partial(elections.test_quorum_loss, 0, 5, HUB),
    ),
    (
        mutations_of_masters.compare_logs_in_a_pre_vote,
        functools.partial(elections.test_constrained_election, LEASE_MS, 5, HUB[1:]),
    ),
    (
        mutations_of_masters.stand_without_a_pre_vote,
        functools.partial(elections.test_chain, 0, 3, ("AC", "CB")),
    ),
    (
        mutations_of_masters.stand_without_a_pre_vote,
        functools.partial(elections.test_isolated_follower, LEASE_MS),
    ),
    (mutations_of_masters.count_a_pre_vote_twice, elections.test_repeated_pre_vote),
    (
        mutations_of_masters.go_on_without_a_majority,
        functools.partial(elections.test_clients_of_the_minority, LEASE_MS),
    ),
    (
        mutations_of_masters.forget_the_lease_over_a_restart,
        elections.test_two_lives_of_an_acceptor,
    ),
    # Sessions.
    (
        mutations_of_sessions.tell_a_gap_as_not_applied,
        sessions.test_delayed_copy_of_a_refused_number,
    ),
    (mutations_of_sessions.reuse_a_refused_number, sessions.test_number_of_a_refused_command),
    (mutations_of_sessions.open_an_evicted_session_anew, sessions.test_evicted_session),
    (
        mutations_of_sessions.drop_kept_results_at_a_checkpoint,
        functools.partial(sessions.test_lost_reply, False, True),
    ),
    (
        mutations_of_sessions.drop_sessions_at_a_checkpoint,
        functools.partial(sessions.test_lost_reply, True, True),
    ),
    (mutations.apply_a_number_again, functools.partial(sessions.test_lost_reply, False, False)),
    (
        mutations.apply_a_number_again,
        functools.partial(sessions.test_master_change_in_the_middle_of_a_command, "C"),
    ),
    (
        mutations.forget_to_adopt,
        functools.partial(sessions.test_master_change_in_the_middle_of_a_command, "C"),
    ),
]

FOUND_BY_SEEDS = [
    (mutations_of_masters.trust_the_lease_from_the_arrival, 0),
    (mutations_of_masters.echo_the_last_send, 0),
    (mutations_of_masters.tell_no_instance, 0),
    (mutations_of_masters.promise_in_spite_of_a_lease, 0),
    (mutations_of_masters.grant_below_the_promise, 2),
    (mutations_of_masters.trust_a_notice_for_ever, 2),
    (mutations_of_masters.keep_a_revoked_notice, 0),
    (mutations_of_masters.release_before_the_learner_knows, 0),
    (mutations_of_masters.resume_at_a_released_ballot, 3),
    (mutations_of_masters.forget_the_lease_over_a_restart, 4),
    (mutations_of_masters.leave_no_margin_for_drift, 86),
    (mutations_of_masters.read_below_the_own_master_record, 3),
    (mutations_of_reads.answer_before_the_index_is_applied, 0),
]
"""With the seed at which each was found last, which is tried first; then all the others are."""


@pytest.mark.parametrize(("mutation", "schedule"), by_schedules(FOUND_BY_SCHEDULES))
def test_found_by_schedules(mutation, schedule, monkeypatch):
    fail(mutation, schedule, monkeypatch)


@pytest.mark.parametrize("mutation", by_seeds(dict(FOUND_BY_SEEDS), FOUND_BY_SCHEDULES))
def test_found_by_seeds(mutation, monkeypatch):
    find(mutation, monkeypatch, dict(FOUND_BY_SEEDS)[mutation])
