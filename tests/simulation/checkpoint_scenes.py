"""What the schedules about checkpoints and damage share."""

from __future__ import annotations

from dataclasses import replace

from ray_paxos.core.settings import MILLISECOND_NS, CheckpointerSettings, LearnerSettings
from ray_paxos.testing.damage import HeldFile, held_files
from ray_paxos.testing.options import Options
from ray_paxos.testing.scenario import CALM, Scenario
from ray_paxos.testing.scripted_client import ScriptedClient

LEARNER = LearnerSettings(
    seal_age_ns=20 * MILLISECOND_NS,
    memory_bytes=0,
    catch_up_retry_ns=50 * MILLISECOND_NS,
    hold_count=0,
    log_bytes_max=1,
)


CHECKPOINTER = CheckpointerSettings(
    merge_count=1_000,
    checkpoint_instances=4,
    checkpoints_kept=1,
    checkpoint_retry_ns=100 * MILLISECOND_NS,
    chunk_bytes=100,
    scrub_bytes_per_s=0,
    scrub_interval_ns=0,
)


KEEPING = replace(CALM, learner=LEARNER, checkpointer=CHECKPOINTER)
"""A checkpoint every four instances, and nothing kept for members that are behind."""


OFTEN = replace(KEEPING, checkpointer=replace(CHECKPOINTER, checkpoint_instances=1))


def cleaned(options: Options = KEEPING, lines: int = 12) -> tuple[Scenario, ScriptedClient]:
    """A leads A and B; C knows nothing, and what it would need is cut off at both."""
    play = Scenario(3, options=options)
    parted = play.cut("C", "A B")
    play.stand("A")
    client = play.client()
    for number in range(lines):
        client.call("A", b"line %d" % number)
        play.run(ms=30)
    play.until(lambda: all(play.learner(name).log_floor > 5 for name in "AB"), what="cut")
    play.end(*parted)
    return play, client


def seen(play: Scenario, situation: str) -> int:
    return play.world.checker.coverage.seen[situation]


def lines_of(count: int) -> list[bytes]:
    return [b"line %d" % number for number in range(count)]


def is_in_step(play: Scenario, names: str = "ABC") -> bool:
    """Whether learners hold the same, durably, and nothing damaged."""
    target = play.world.checker.logs[0].reference.applied_through
    checker = play.world.checker
    return all(
        play.process(f"{name}.learner").is_serving
        and play.learner(name).applied_through == target
        and play.learner(name).durable_through == target
        and not checker.damage[play.member(name).member_id].left(0)
        for name in names
    )


def end_in_step(play: Scenario, count: int) -> None:
    """All come to the same, and hold it without power, too."""
    play.until(lambda: is_in_step(play), what="all are in step")
    for name in "ABC":
        assert play.lines(name) == lines_of(count)
    play.cut_power("A B C")
    play.start("A B C")
    for name in "ABC":
        assert play.lines(name) == lines_of(count)


def file_of(play: Scenario, name: str, *, is_checkpoint: bool, position: int = -1) -> HeldFile:
    files = [f for f in held_files(play.member(name).disk, 0) if bool(f.first) != is_checkpoint]
    return files[position]


def spoil(play: Scenario, name: str, file: HeldFile) -> None:
    member = play.member(name)
    play.world.checker.damage[member.member_id].note(0, file)
    # In the values of a segment: what is behind them has a checksum of its own.
    member.disk.flip_bit(file.path, 8 * min(member.disk.size(file.path) // 2, 20) + 3)


def cleaned_later(options: Options) -> tuple[Scenario, ScriptedClient]:
    play = Scenario(3, options=options)
    parted = play.cut("C", "A B")
    play.stand("A")
    client = play.client()
    for number in range(8):
        client.call("A", b"line %d" % number)
        play.run(ms=30)
    play.end(*parted)
    return play, client
