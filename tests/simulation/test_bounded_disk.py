"""Under a steady load a member's disk stays under a bound that follows from the settings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ray_paxos.core.settings import MILLISECOND_NS, CheckpointerSettings, LearnerSettings
from ray_paxos.machines.kv import encode_put
from ray_paxos.testing.options import Options
from ray_paxos.testing.scenario import CALM, Scenario
from ray_paxos.testing.workload import KV_MACHINE

KEYS = 40
VALUE_BYTES = 100
INSTANCE_BYTES = VALUE_BYTES + 250
"""With the command around the value, its results, chains and ballot, as segments hold it."""
ENTRY_BYTES = VALUE_BYTES + 50

STEADY = replace(
    CALM,
    learner=LearnerSettings(
        seal_age_ns=100 * MILLISECOND_NS,
        memory_bytes=5_000,
        hold_count=150,
        log_bytes_max=20_000,
    ),
    checkpointer=CheckpointerSettings(
        merge_count=4,
        merge_bytes_max=10_000,
        checkpoint_instances=100,
        checkpoints_kept=2,
        scrub_bytes_per_s=20_000,
        scrub_interval_ns=0,
    ),
    journal_bytes=10_000,
    journal_files=2,
)


def bound(options: Options) -> int:
    """Bytes on a member's disk, at most."""
    learner, checkpointer = options.learner, options.checkpointer
    # All that is not covered by the oldest checkpoint, and one that is due and not made yet; then a
    # segment that straddles where the log is cut.
    uncovered = (checkpointer.checkpoints_kept + 1) * checkpointer.checkpoint_instances
    held = max(uncovered, learner.hold_count)
    log = held * INSTANCE_BYTES + 2 * checkpointer.merge_bytes_max
    merging = 3 * checkpointer.merge_bytes_max
    checkpoints = (checkpointer.checkpoints_kept + 1) * (KEYS * ENTRY_BYTES + 2_000)
    # A new file while the live ones are there, and what is copied into it.
    journal = (options.journal_files + 2) * options.journal_bytes
    others = 5_000
    return log + merging + checkpoints + journal + others


def check_steady_load(seconds: int, commands_per_s: int, at_least: int) -> None:
    """Write the same keys again and again, and look at all disks all the time."""
    play = Scenario(3, options=STEADY)
    play.stand("A")
    client = play.client()
    client.open("A")
    highest = 0
    thirds = [0, 0, 0]
    total = seconds * commands_per_s
    for number in range(1, total + 1):
        value = b"%d" % number * (VALUE_BYTES // len(b"%d" % number))
        command = encode_put(f"key-{number % KEYS}", value)
        client.submit("A", command, lowest_open=max(1, number - 20), machine=KV_MACHINE)
        play.run(ms=1_000 / commands_per_s)
        used = max(play.member(name).disk.used_bytes for name in "ABC")
        highest = max(highest, used)
        thirds[3 * (number - 1) // total] = max(thirds[3 * (number - 1) // total], used)
    play.until(lambda: len(client.results) == total, what="all are answered")
    assert at_least < highest <= bound(STEADY)
    assert thirds[2] <= 1.1 * thirds[1]
    for name in "ABC":
        # So that it is a bound on what all that was written would take.
        assert play.learner(name).log_floor > total // 2


def test_disk_is_bounded() -> None:
    check_steady_load(seconds=60, commands_per_s=20, at_least=bound(STEADY) // 3)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_disk_is_bounded_for_half_an_hour() -> None:
    check_steady_load(seconds=1_800, commands_per_s=10, at_least=bound(STEADY) // 3)
