"""Schedules about bytes that turn in segments and checkpoints (R11).

See `test_checkpoint_schedules.py`.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from ray_paxos.core.checkpoint_messages import CheckpointRequest, CheckpointsKept
from ray_paxos.core.learner_messages import Chosen, LearnReply, LearnRequest
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.testing.coverage import DAMAGE, INSTALLED, MENDED
from ray_paxos.testing.damage import held_files
from ray_paxos.testing.scenario import Scenario
from tests.simulation.checkpoint_scenes import (
    CHECKPOINTER,
    KEEPING,
    LEARNER,
    cleaned,
    end_in_step,
    file_of,
    is_in_step,
    seen,
    spoil,
)


def test_damaged_segment_is_mended() -> None:
    """F2, R11: the scrubber finds it, another member gives it again, and it is never served."""
    checkpointer = replace(CHECKPOINTER, scrub_bytes_per_s=1_000_000)
    learner = replace(LEARNER, hold_count=1_000, log_bytes_max=1_000_000)
    play = Scenario(3, options=replace(KEEPING, checkpointer=checkpointer, learner=learner))
    play.stand("A")
    client = play.client()
    for number in range(12):
        client.call("A", b"line %d" % number)
        play.run(ms=30)
    spoil(play, "B", file_of(play, "B", is_checkpoint=False, position=1))
    play.until(lambda: is_in_step(play), what="B is whole")
    assert seen(play, DAMAGE) > 0
    assert seen(play, MENDED) > 0
    end_in_step(play, 12)


def test_damaged_segment_that_nobody_has_any_more() -> None:
    """R11: the others have cut theirs off: then a checkpoint of theirs covers it.

    B keeps more than the others, since it has made no checkpoint for long.
    """
    # Its own learner could save one, too, but not before long.
    slow = replace(CHECKPOINTER, checkpoint_retry_ns=60_000 * MILLISECOND_NS)
    checkpointer = replace(slow, scrub_bytes_per_s=1_000_000)
    play = Scenario(3, options=replace(KEEPING, checkpointer=checkpointer))
    play.kill("B.checkpointer")
    play.stand("A")
    client = play.client()
    for number in range(12):
        client.call("A", b"line %d" % number)
        play.run(ms=30)
    play.until(lambda: all(play.learner(name).log_floor > 8 for name in "AC"), what="cut")
    assert play.learner("B").log_floor == 1
    spoil(play, "B", file_of(play, "B", is_checkpoint=False, position=1))
    play.start("B.checkpointer")
    play.until(lambda: is_in_step(play), what="B is whole")
    assert seen(play, DAMAGE) > 0
    client.call("A", b"line 12")
    end_in_step(play, 13)


def test_damaged_segment_that_one_member_has_no_more() -> None:
    """R11: A's log begins later, and A is asked first. C has all of it, and is slow to answer.

    B covers the segment with a checkpoint, but keeps its log for others: on A's word alone it must
    not cut it off.
    """
    # Its own learner could save one, too, but not before long.
    slow = replace(CHECKPOINTER, checkpoint_retry_ns=60_000 * MILLISECOND_NS)
    checkpointer = replace(slow, scrub_bytes_per_s=1_000_000)
    learner = replace(LEARNER, hold_count=1_000, log_bytes_max=1_000_000)
    play = Scenario(3, options=replace(KEEPING, checkpointer=checkpointer, learner=learner))
    play.stand("A")
    client = play.client()
    for number in range(12):
        client.call("A", b"line %d" % number)
        play.run(ms=30)
    file = file_of(play, "B", is_checkpoint=False, position=1)
    asked = play.lose(LearnRequest, sender="B", to="A.checkpointer")
    away = play.lose(LearnReply, sender="C", to="B")
    spoil(play, "B", file)
    play.until(lambda: asked.count > 0, ms=60_000, what="B asks A")
    word = LearnReply(file.first, (), 12, 0, file.last + 1)
    play.inject(play.process("A.checkpointer").address, "B.learner", word)
    play.run(ms=2_000)
    assert play.learner("B").log_floor == 1
    play.end(asked, away)
    play.until(lambda: is_in_step(play), ms=60_000, what="B is whole")
    assert play.learner("B").log_floor == 1
    assert seen(play, MENDED) > 0
    end_in_step(play, 12)


@pytest.mark.parametrize("is_kept", [True, False])
def test_damaged_in_the_only_copy(is_kept: bool) -> None:
    """R11: nobody else has learned it yet: a checkpoint of what is applied takes its place.

    B and C vote and learn nothing, so A's log, or its checkpoint and what follows, is the only copy
    but for the votes. Its checkpointer cannot go on over the damage; its learner has applied all.
    """
    often = replace(CHECKPOINTER, scrub_bytes_per_s=1_000_000)
    rarely = replace(often, checkpoint_instances=1_000)
    kept = replace(LEARNER, hold_count=1_000, log_bytes_max=1_000_000)
    options = replace(KEEPING, checkpointer=often)
    if is_kept:
        options = replace(KEEPING, checkpointer=rarely, learner=kept)
    play = Scenario(3, options=options)
    play.stand("A")
    client = play.client()
    client.call("A", b"line 0")
    play.until(lambda: is_in_step(play), what="all know the first line")
    deaf = play.lose(Chosen, LearnReply, to="B.learner C.learner")
    for number in range(1, 12):
        client.call("A", b"line %d" % number)
        play.run(ms=30)
    if not is_kept:
        play.until(lambda: play.learner("A").log_floor > 8, what="A cuts")
        spoil(play, "A", file_of(play, "A", is_checkpoint=True))
        # Killed: the copy of the machines in the checkpointer's memory would help.
        play.kill("A.checkpointer")
        play.start("A.checkpointer")
    spoil(play, "A", file_of(play, "A", is_checkpoint=False, position=0 if not is_kept else 4))
    play.until(lambda: seen(play, DAMAGE) > 0, what="the damage is found")
    play.end(deaf)
    play.until(lambda: is_in_step(play), what="all are in step")
    client.call("A", b"line 12")
    end_in_step(play, 13)


@pytest.mark.parametrize("is_running", [True, False])
def test_damaged_checkpoint_is_set_aside(is_running: bool) -> None:
    """R11: it counts no more, and is made again; where it was the base, another is fetched."""
    checkpointer = replace(CHECKPOINTER, scrub_bytes_per_s=1_000_000)
    play, client = cleaned(replace(KEEPING, checkpointer=checkpointer))
    play.until(lambda: is_in_step(play), what="all are in step")
    if not is_running:
        play.kill("B")
    spoil(play, "B", file_of(play, "B", is_checkpoint=True))
    play.start("B")
    play.until(lambda: is_in_step(play), what="B is whole")
    client.call("A", b"line 12")
    end_in_step(play, 13)


@pytest.mark.parametrize("power_goes", [False, True])
def test_damaged_in_the_middle_at_rest(power_goes: bool) -> None:
    """R11: what lies behind a damaged segment counts for nothing at the next start.

    The whole log of B is there but for a byte in the middle; B must not say that it is durable to
    the end, and comes to the rest again.
    """
    quiet = replace(CHECKPOINTER, checkpoint_instances=1_000)
    play = Scenario(3, options=replace(KEEPING, checkpointer=quiet))
    play.stand("A")
    client = play.client()
    for number in range(12):
        client.call("A", b"line %d" % number)
        play.run(ms=30)
    files = [f for f in held_files(play.member("B").disk, 0) if f.first]
    middle = files[len(files) // 2]
    if power_goes:
        play.cut_power("B")
    play.kill("B")
    spoil(play, "B", middle)
    mute = play.lose(sender="A C", to="B.learner")
    play.start("B")
    assert play.learner("B").durable_through == middle.first - 1
    play.end(mute)
    client.call("A", b"line 12")
    end_in_step(play, 13)


def test_newest_checkpoint_damaged_and_the_log_begins_after_it() -> None:
    """An older checkpoint that does not reach to the log covers nothing of it.

    C has one of its own, and installs a later one, which is then found damaged.
    """
    # Its own learner could save another, too, but not before long.
    slow = replace(CHECKPOINTER, checkpoint_retry_ns=60_000 * MILLISECOND_NS)
    checkpointer = replace(slow, checkpoints_kept=2, checkpoint_instances=6)
    play = Scenario(3, options=replace(KEEPING, checkpointer=checkpointer))
    play.stand("A")
    client = play.client()
    for number in range(6):
        client.call("A", b"line %d" % number)
        play.run(ms=30)
    parted = play.cut("C", "A B")
    for number in range(6, 24):
        client.call("A", b"line %d" % number)
        play.run(ms=30)
    play.until(lambda: play.learner("A").log_floor > 12, what="A cuts")
    play.end(*parted)
    play.until(lambda: seen(play, INSTALLED) > 0, what="C installs")
    play.run(ms=200)
    instances = [f.last for f in held_files(play.member("C").disk, 0) if not f.first]
    assert len(set(instances)) == 2
    spoil(play, "C", file_of(play, "C", is_checkpoint=True))
    # Killed: the copy of the machines in the checkpointer's memory would help.
    play.kill("C.checkpointer")
    play.start("C.checkpointer")
    damage = play.world.checker.damage[3]
    load_again(play, "C", max(instances))
    target = play.learner("C").log_floor - 1
    play.until(lambda: damage.reach(0, whole=True) >= target, ms=30_000, what="C is covered")
    end_in_step(play, 24)


def load_again(play: Scenario, name: str, instance_id: int) -> None:
    """Somebody asks for the newest checkpoint, and so its damage is found."""
    asker = play.process("A.checkpointer").address
    play.inject(asker, f"{name}.checkpointer", CheckpointRequest(instance_id - 1))
    play.until(lambda: seen(play, DAMAGE) > 0, ms=30_000, what="the damage is found")


def test_word_of_a_checkpoint_that_was_set_aside_since() -> None:
    """The log is not cut on the word of yesterday: the disk is asked.

    B's learner hears late that there is a checkpoint, which is found damaged meanwhile.
    """
    checkpointer = replace(CHECKPOINTER, scrub_bytes_per_s=1_000_000, checkpoint_instances=10)
    play = Scenario(3, options=replace(KEEPING, checkpointer=checkpointer))
    play.stand("A")
    client = play.client()
    for number in range(6):
        client.call("A", b"line %d" % number)
        play.run(ms=30)
    held = play.hold(CheckpointsKept, to="B.learner")
    for number in range(6, 12):
        client.call("A", b"line %d" % number)
        play.run(ms=30)
    play.until(lambda: held.count > 0, what="B has a checkpoint")
    told = [each for each in held.held if each[2].message != CheckpointsKept(0, 0)]
    assert told
    spoil(play, "B", file_of(play, "B", is_checkpoint=True))
    # It cannot be made again at once: there is no room.
    disk = play.member("B").disk
    disk.set_capacity(disk.used_bytes)
    play.until(lambda: seen(play, DAMAGE) > 0, ms=30_000, what="the damage is found")
    play.run(ms=50)
    held.is_active = False
    for sender, to, envelope in told:
        play.transport.carry(sender, to, envelope)
    play.run(ms=50)
    disk.set_capacity(None)
    client.call("A", b"line 12")
    play.until(lambda: is_in_step(play), what="B is whole")
    end_in_step(play, 13)
