"""Checkpoints made, sent, installed and dropped on disks that fail, by processes that die anywhere.

See `test_checkpoint_schedules.py`.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable
from dataclasses import replace

import pytest

from ray_paxos.testing.coverage import CHECKPOINT, INSTALLED
from ray_paxos.testing.damage import held_files
from ray_paxos.testing.scenario import Scenario
from tests.simulation.checkpoint_scenes import (
    CHECKPOINTER,
    KEEPING,
    LEARNER,
    cleaned,
    end_in_step,
    is_in_step,
    seen,
)

# Each in a cluster of its own; tests/storage has the crashes of single folders by default.
pytestmark = pytest.mark.nightly


def operations_until(play: Scenario, name: str, holds: Callable[[], bool]) -> int:
    """How many operations a member's disk sees until something holds."""
    disk = play.member(name).disk
    before = disk.operations
    play.until(holds, what=f"{name} is done")
    return disk.operations - before


@functools.cache
def operations_of_an_install() -> int:
    play, _ = cleaned()
    return operations_until(play, "C", lambda: seen(play, INSTALLED) > 0 and is_in_step(play))


STEP = 3
"""All operations in steps of this, in several tests of one each."""


@pytest.mark.parametrize("power_goes", [False, True])
@pytest.mark.parametrize("role", ["checkpointer", "learner"])
@pytest.mark.parametrize("first", range(STEP))
def test_killed_at_any_operation_of_an_install(first: int, role: str, power_goes: bool) -> None:
    """F13, F20: receiving, publishing, switching and cutting off, cut short anywhere.

    The learner is started before the checkpointer is: what it finds may be in the page cache only.
    Then the power goes, and what it relied on must be there.
    """
    for operation in range(first, operations_of_an_install() + 1, STEP):
        play, client = cleaned()
        process = play.process(f"C.{role}")
        process.faults.crash_in = operation
        play.run(ms=400)
        process.faults.crash_in = None
        if not process.is_up:
            play.kill("C.learner")
            play.start("C.learner")
            play.run(ms=20)
        if power_goes:
            play.cut_power("C")
        play.start("C")
        client.call("A", b"line 12")
        end_in_step(play, 13)


@functools.cache
def operations_of_a_checkpoint() -> int:
    play, client = cleaned()
    made = seen(play, CHECKPOINT)
    for number in range(12, 18):
        client.submit("A", b"line %d" % number)
    return operations_until(play, "A", lambda: seen(play, CHECKPOINT) > made + 1) + 20


@pytest.mark.parametrize("power_goes", [False, True])
@pytest.mark.parametrize("role", ["checkpointer", "learner"])
@pytest.mark.parametrize("first", range(STEP))
def test_killed_at_any_operation_of_a_checkpoint(first: int, role: str, power_goes: bool) -> None:
    """F13, F20: sealing, making, publishing and dropping a checkpoint, and cutting the log."""
    for operation in range(first, operations_of_a_checkpoint() + 1, STEP):
        play, client = cleaned()
        process = play.process(f"B.{role}")
        process.faults.crash_in = operation
        for number in range(12, 20):
            client.call("A", b"line %d" % number)
            play.run(ms=20)
        process.faults.crash_in = None
        if not process.is_up:
            play.kill("B.learner")
            play.start("B.learner")
            play.run(ms=20)
        if power_goes:
            play.cut_power("B")
        play.start("B")
        client.call("A", b"line 20")
        end_in_step(play, 21)


@pytest.mark.parametrize("role", ["checkpointer", "learner"])
def test_crash_loop_while_recovering(role: str) -> None:
    """F20: killed again and again while it opens and goes on, each time a little later."""
    play, _ = cleaned()
    process = play.process(f"C.{role}")
    for operation in range(45):
        process.kill()
        process.faults.crash_in = operation
        play.start(f"C.{role}")
        play.run(ms=60)
        if operation % 7 == 0:
            play.cut_power("C")
            play.start("C")
    process.faults.crash_in = None
    play.start("C")
    end_in_step(play, 12)


def test_cut_off_between_name_and_sync() -> None:
    """A checkpoint that is named, but not durably, is no base to cut the log off at.

    C's checkpointer is killed after it has renamed the manifest and before the folder is synced.
    C's learner starts on what it finds; then the power goes.
    """
    found = 0
    for operation in range(operations_of_an_install() + 1):
        play, _ = cleaned()
        process = play.process("C.checkpointer")
        process.faults.crash_in = operation
        play.run(ms=400)
        process.faults.crash_in = None
        disk = play.member("C").disk
        named = [file for file in held_files(disk, 0) if not file.first]
        if process.is_up or not named or all(disk.is_durable(file.path) for file in named):
            continue
        found += 1
        play.kill("C.learner")
        play.start("C.learner")
        through = play.learner("C").durable_through
        assert through > 5
        play.cut_power("C")
        play.start("C.learner")
        assert play.learner("C").durable_through >= through
        break
    assert found


@pytest.mark.parametrize("role", ["A", "C"])
@pytest.mark.parametrize("room", range(0, 2_400, 150))
def test_full_disk(role: str, room: int) -> None:
    """F5: no room for a seal, a checkpoint, a merge or a transfer; all goes on once there is.

    At A, which seals, merges and makes checkpoints, or at C, which receives one.
    """
    checkpointer = replace(CHECKPOINTER, merge_count=2)
    learner = replace(LEARNER, hold_count=8, log_bytes_max=1_000_000)
    play, client = cleaned(replace(KEEPING, checkpointer=checkpointer, learner=learner), 20)
    disk = play.member(role).disk
    disk.set_capacity(disk.used_bytes + room)
    for number in range(20, 26):
        client.submit("A" if role != "A" else "B", b"line %d" % number)
        play.run(ms=100)
    disk.set_capacity(None)
    play.let_all_stand()
    play.until(lambda: bool(play.masters()), what="somebody leads")
    master = play.masters()[0]
    for number in range(20, 26):
        client.call(master, b"line %d" % number, number=number + 1)
    end_in_step(play, 26)


@pytest.mark.parametrize("where", ["learner/log", "checkpointer/group", "learner/"])
@pytest.mark.parametrize("name", ["A", "C"])
def test_failing_sync(name: str, where: str) -> None:
    """F3: a sync that fails once, of a segment or a checkpoint: nothing is vouched for, ever."""
    play, client = cleaned()
    for attempt in range(4):
        play.member(name).disk.fail_next_sync(where)
        client.call("A", b"line %d" % (12 + attempt))
        play.run(ms=150)
        for process in play.member(name).processes.values():
            if process.is_stopped:
                process.kill()
        if attempt % 2:
            play.cut_power(name)
        play.start(name)
        if not play.masters():
            play.stand("A")
    end_in_step(play, 16)


def test_errno_of_a_full_disk_is_known() -> None:
    """What the schedules above fill the disk with is what a real one says."""
    play = Scenario(3)
    disk = play.member("A").disk
    disk.set_capacity(0)
    with pytest.raises(OSError, match="No space") as raised:
        disk.create("acceptor/x").write(b"x")
    assert raised.value.errno == errno.ENOSPC
