"""The random walk: seeds that must hold every rule and converge, and runs that must be the same."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import pytest

from ray_paxos.testing.coverage import SEEDS_MIN, SeedCoverage, missing_shares
from ray_paxos.testing.simulate import run_seed, run_seeds

SEEDS = {3: range(12, 32), 5: range(6)}
"""By the number of members; a seed of five takes twice as long."""
NIGHTLY_SEEDS = range(6, 1_000)


@functools.cache
def coverages_of(seeds: range, members: int) -> list[SeedCoverage]:
    """Run seeds, of which none may break a rule, and see what they saw."""
    coverages = []
    for result in run_seeds(seeds, members, jobs=2):
        assert not result.violation, (
            f"SEED={result.seed} members={members} step={result.steps} options={result.options}\n"
            f"{result.violation}\nreplay: python -m ray_paxos.testing.simulate "
            f"--seeds {result.seed} --members {members} --trace"
        )
        assert result.coverage.is_worth_it, f"seed {result.seed} did too little"
        coverages.append(result.coverage)
    return coverages


@pytest.mark.parametrize("members", [3, 5])
def test_seeds_hold_and_converge(members):
    assert len(coverages_of(SEEDS[members], members)) == len(SEEDS[members])


def test_seeds_see_what_they_must():
    coverages = coverages_of(SEEDS[3], 3) + coverages_of(SEEDS[5], 5)
    assert len(coverages) >= SEEDS_MIN
    assert missing_shares(coverages) == []


@pytest.mark.nightly
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("members", [3, 5])
def test_many_seeds_hold_and_converge(members):
    assert missing_shares(coverages_of(NIGHTLY_SEEDS, members)) == []


def test_a_seed_is_the_same_each_time():
    first, second = run_seed(3, 3), run_seed(3, 3)
    assert first == second
    assert run_seed(4, 3).digest != first.digest
    assert run_seed(3, 5).digest != first.digest


def test_a_seed_is_the_same_under_another_hash_seed(repository):
    """Sets and dictionaries must not decide anything by their hash order."""
    program = (
        "from ray_paxos.testing.simulate import run_seed;"
        "print(*[run_seed(s, m).digest for s, m in ((3, 3), (2, 5))])"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "4242", "PYTHONPATH": str(repository)}
    output = subprocess.run(
        [sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True
    ).stdout
    expected = [run_seed(s, m).digest for s, m in ((3, 3), (2, 5))]
    assert output.split() == expected
