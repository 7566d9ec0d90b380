"""Recipes under all faults: seeds that hold, runs that are the same, and seeded bugs."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest

from ray_paxos.testing.coverage import RECIPE_SITUATIONS, missing_shares
from ray_paxos.testing.simulate import main, run_seed, run_seeds
from ray_paxos.testing.walk import Walk
from tests.simulation import mutations_of_recipes as mutations
from tests.simulation import test_waiting_schedules
from tests.simulation.test_mutations import fail

SEEDS = range(6)
NIGHTLY_SEEDS = {3: range(500), 5: range(100)}
QUIET_SEEDS = (3, 6, 7, 20, 21, 23, 26, 33, 99)
"""Nothing is damaged in them, which takes long to mend, and no machine's clock jumps."""


def hold(seeds, members):
    """Run seeds, of which none may break a rule; what they saw."""
    coverages = []
    for result in run_seeds(seeds, members, jobs=2, recipes=()):
        assert not result.violation, (
            f"SEED={result.seed} members={members} step={result.steps} options={result.options}\n"
            f"{result.violation}\nreplay: python -m ray_paxos.testing.simulate "
            f"--seeds {result.seed} --members {members} --recipes --trace"
        )
        coverages.append(result.coverage)
    return coverages


def test_seeds_hold_and_converge():
    for coverage in hold(SEEDS, 3):
        assert coverage.is_worth_it
        assert coverage.seen["recipes: wait ended"]


@pytest.mark.nightly
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("members", [3, 5])
def test_many_seeds_hold_and_converge(members):
    coverages = hold(NIGHTLY_SEEDS[members], members)
    assert missing_shares(coverages, RECIPE_SITUATIONS) == []


def test_a_seed_is_the_same_each_time():
    first = run_seed(7, 3, recipes=())
    assert first == run_seed(7, 3, recipes=())
    assert run_seed(7, 3, recipes=("permits",)).digest != first.digest


def test_all_else_that_a_seed_draws_is_the_same():
    first, without = Walk(7, members=3, recipes=()), Walk(7, members=3)
    assert first.options.recipes
    assert replace(first.options, recipes=()) == without.options
    assert first.world.random.getstate() == without.world.random.getstate()


def test_a_violation_names_the_option(monkeypatch, capsys):
    mutations.overlap_a_take(monkeypatch)
    assert main(["--seeds", "0:1", "--jobs", "1", "--recipes", "counters"]) == 1
    captured = capsys.readouterr()
    assert "violation: counters: ids" in captured.err
    assert "--seeds 0 --members 3 --recipes counters --trace" in captured.err


FOUND = [
    ("permits", mutations.grant_while_held),
    ("permits", mutations.give_the_same_token),
    ("permits", mutations.let_tokens_fall),
    ("permits", mutations.end_leases_early),
    ("permits", mutations.end_leases_early_on_one_replica),
    ("permits", mutations.forget_who_waits),
    ("permits", mutations.grant_at_the_end_of_a_lease_in_silence),
    ("queues", mutations.forget_a_lease),
    ("queues", mutations.end_leases_of_items_early),
    ("queues", mutations.lose_an_item_that_comes_back),
    ("queues", mutations.acknowledge_nothing),
    ("queues", mutations.hand_out_in_silence),
    ("ledgers", mutations.let_two_commits_win),
    ("ledgers", mutations.take_a_token_for_good),
    ("ledgers", mutations.begin_while_another_is_at_it),
    ("ledgers", mutations.commit_in_silence),
    ("counters", mutations.overlap_a_take),
    ("counters", mutations.lose_an_add),
    ("counters", mutations.reach_in_silence),
    ("barriers", mutations.pass_one_short),
    ("barriers", mutations.pass_in_silence),
    ("kv-txn", mutations.hold_any_condition),
    ("kv-watch", mutations.forget_a_change),
    ("kv-watch", mutations.change_in_silence),
    ("kv-ttl", mutations.end_values_early),
    ("barriers", mutations.never_ask_again),
    ("barriers", mutations.never_ask_again_who_was_ahead),
    ("barriers", mutations.take_a_lost_wait_for_held),
]

NIGHTLY = (
    # To find that nobody is told takes a while; `never_ask_again` is found the same way.
    mutations.grant_at_the_end_of_a_lease_in_silence,
    mutations.hand_out_in_silence,
    mutations.commit_in_silence,
    mutations.reach_in_silence,
    mutations.pass_in_silence,
    mutations.change_in_silence,
    # As slow, and much like another one.
    mutations.end_leases_of_items_early,
    mutations.take_a_token_for_good,
    mutations.let_two_commits_win,
)

LIKELY = {
    mutations.end_leases_of_items_early: 6,
    mutations.hand_out_in_silence: 7,
    mutations.let_two_commits_win: 6,
    mutations.commit_in_silence: 6,
    mutations.change_in_silence: 6,
    mutations.never_ask_again_who_was_ahead: 99,
}
"""The seed at which a bug was found last, where that was not the first one."""


@functools.cache
def violation_without_mutation(recipe, seed):
    return run_seed(seed, 3, recipes=(recipe,)).violation


@pytest.mark.parametrize(
    ("recipe", "mutation"),
    [
        pytest.param(
            *each, id=each[1].__name__, marks=pytest.mark.nightly if each[1] in NIGHTLY else ()
        )
        for each in FOUND
    ],
)
def test_found_by_seeds(recipe, mutation, monkeypatch):
    likely = LIKELY.get(mutation, QUIET_SEEDS[0])
    seeds = [likely, *(seed for seed in QUIET_SEEDS if seed != likely)]
    with monkeypatch.context() as patch:
        mutation(patch)
        found = next(
            (seed for seed in seeds if run_seed(seed, 3, recipes=(recipe,)).violation), None
        )
    assert found is not None, f"no seed finds {mutation.__doc__}"
    assert violation_without_mutation(recipe, found) == ""


def test_found_by_a_schedule(monkeypatch):
    schedule = test_waiting_schedules.test_what_was_waited_for_comes_with_a_checkpoint
    fail(mutations.never_ask_again_after_an_install, schedule, monkeypatch)
