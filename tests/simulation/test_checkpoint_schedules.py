"""Schedules about checkpoints: installed, and the log cut off at them.

As `test_schedules.py`: each defence is taken out in `test_checkpoint_mutations.py`, and a schedule
fails there. The judge compares every state that is loaded with a plain execution of the log, and
every cut with what would be on the disk without power.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import pytest

from ray_paxos.core.checkpoint_messages import ChainReply, CheckpointOffer, CheckpointReady, Chunk
from ray_paxos.core.checkpointer import Checkpointer
from ray_paxos.core.learner_messages import (
    CatchUp,
    Chosen,
    LearnReply,
    SegmentSealed,
)
from ray_paxos.core.messages import (
    Accept,
    Address,
    Heartbeat,
    Nack,
)
from ray_paxos.core.role import GroupRouter
from ray_paxos.testing.coverage import CLEANED, INSTALLED
from ray_paxos.testing.damage import held_files
from ray_paxos.testing.scenario import Scenario
from ray_paxos.testing.trace import name_member
from tests.simulation import test_schedules
from tests.simulation.checkpoint_scenes import (
    CHECKPOINTER,
    KEEPING,
    LEARNER,
    OFTEN,
    cleaned,
    cleaned_later,
    end_in_step,
    is_in_step,
    lines_of,
    seen,
)


def test_one_cut() -> None:
    """Schedule 16: machines and session table are as of one instance, at whoever loads them.

    C installs a checkpoint and leads. The client sends its last number again, and the next one: the
    first is not applied twice, and its result is the one of then.
    """
    play, client = cleaned()
    first = client.call("A", b"line 12")
    end_in_step(play, 13)
    assert seen(play, INSTALLED) > 0
    play.kill("A")
    play.stand("C")
    again = client.call("C", b"line 12", number=13)
    assert again == first
    client.call("C", b"line 13")
    assert play.lines("C") == lines_of(14)
    play.start("A")
    end_in_step(play, 14)


def test_log_cut_beyond_a_learner_whose_log_is_older_than_the_checkpoint() -> None:
    """F14: a checkpoint newer than the log's end, and the log cut past a lagging learner at once.

    C has some instances when it is parted. Its checkpoint is beyond its log's end by the time it
    comes, and by the time it is installed the others have cut on.
    """
    play = Scenario(3, options=KEEPING)
    play.stand("A")
    client = play.client()
    for number in range(3):
        client.call("A", b"line %d" % number)
    play.until(lambda: is_in_step(play), what="C has the beginning")
    parted = play.cut("C", "A B")
    for number in range(3, 12):
        client.call("A", b"line %d" % number)
        play.run(ms=30)
    play.until(lambda: play.learner("A").log_floor > 8, what="A cuts")
    chunks = play.hold(Chunk, to="C")
    play.end(*parted)
    play.until(lambda: chunks.count > 0, what="C fetches")
    for number in range(12, 22):
        client.call("A", b"line %d" % number)
        play.run(ms=30)
    play.deliver(chunks)
    end_in_step(play, 22)
    assert seen(play, INSTALLED) > 0


def test_install_keeps_the_promise() -> None:
    """S2 and S3: an install touches no promise, also over a restart.

    B promised C, which gets no further. B, far behind, installs a checkpoint of A's. A, which does
    not know that it is deposed, must not get B's vote.
    """
    play = Scenario(3, options=KEEPING)
    untold = play.lose(Chosen, Heartbeat, LearnReply, to="B.learner")
    play.stand("A")
    client = play.client()
    for number in range(12):
        client.call("A", b"line %d" % number)
        play.run(ms=30)
    play.until(lambda: play.learner("A").log_floor > 8, what="A cuts")
    first = play.votes("B").promise
    assert first is not None
    # A does not hear that it is deposed.
    unheard = play.lose(Heartbeat, sender="A", to="B.acceptor B.proposer C")
    parted = play.cut("A", "C")
    accepts = play.lose(Accept, sender="C")
    play.try_to_stand("C")
    play.until(lambda: accepts.count > 0, what="C is promised, and proposes")
    play.freeze("A")
    play.freeze("C")
    promise = play.votes("B").promise
    play.end(untold)
    through = play.learner("A").learned_through
    play.inject(play.process("B.proposer").address, "B.learner", CatchUp(through, (1,)))
    play.until(lambda: seen(play, INSTALLED) > 0, what="B installs")
    assert play.votes("B").promise == promise
    play.kill("B")
    play.start("B")
    assert play.votes("B").promise == promise
    refused = play.watch(Nack, sender="B", to="A")
    late = Accept(first, through + 1, b"q")
    play.inject(play.process("A.proposer").address, "B.acceptor", late, replica_id=1)
    play.until(lambda: refused.count > 0, what="B refuses A's accept")
    play.end(accepts, unheard, *parted)
    play.stand("C")
    play.run(ms=200)
    assert play.lines("A") == play.lines("B") == play.lines("C")


def test_command_of_a_proposer_whose_learner_installs() -> None:
    """F13: what a member has proposed is chosen while its own learner installs a checkpoint.

    C leads with a learner that is told nothing. Its command is chosen; the learner comes by it with
    a checkpoint only, and has no result to tell. The client must not wait for ever, and a copy that
    it sends again is not applied twice.
    """
    play, client = cleaned()
    play.until(lambda: is_in_step(play), what="C is in step")
    play.kill("A.proposer")
    play.stand("C")
    deaf = play.lose(Chosen, Heartbeat, LearnReply, to="C.learner")
    for number in range(12, 24):
        client.submit("C", b"line %d" % number)
        play.run(ms=60)
    play.until(lambda: play.learner("B").log_floor > 18, what="B cuts")
    play.end(deaf)
    play.until(lambda: play.learner("C").applied_through >= 20, what="C installs")
    for number in range(12, 24):
        client.call("C", b"line %d" % number, number=number + 1)
    play.start("A")
    end_in_step(play, 24)


@pytest.mark.parametrize(
    "schedule",
    [
        test_schedules.test_learning_by_inference,
        test_schedules.test_lowered_promise,
        test_schedules.test_vote_over_a_hole,
        test_schedules.test_known_to_nobody,
    ],
    ids=lambda schedule: schedule.__name__,
)
def test_again_with_a_log_that_is_cut(
    schedule: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """S1, S2, schedules 2 and 17, where hardly anything stays in any log."""
    monkeypatch.setattr(test_schedules, "Scenario", functools.partial(Scenario, options=OFTEN))
    schedule()


def test_floor_outlives_log_and_checkpoint() -> None:
    """Schedule 1 with cleaning on: A loses its log, and the checkpoints that the log goes on from.

    What A voted for is told by its floor, never as "no vote", and C waits for B.
    """
    play = Scenario(3, options=OFTEN)
    parted = play.cut("C", "A B")
    play.stand("A")
    client = play.client()
    for line in (b"one", b"two", b"three"):
        client.call("A", line)
    play.until(lambda: play.votes("A").floor > 5, what="A's vote floor rises")
    play.run(ms=100)
    play.kill("A B")
    disk = play.member("A").disk
    for file in list(held_files(disk, 0)):
        disk.remove(file.path)
    play.world.checker.segments[1].forget(0)
    play.start("A")
    assert play.learner("A").durable_through == 0
    play.end(*parted)
    proposed = play.watch(Accept, sender="C")
    play.try_to_stand("C")
    play.run(ms=2_000)
    assert proposed.count == 0
    play.start("B")
    play.until(lambda: play.proposer("C").is_serving, what="C serves once B is back")
    assert play.lines("C") == [b"one", b"two", b"three"]


def test_sender_dies_in_the_middle() -> None:
    """F13: the transfer goes on at another member, or from the same one when it is back."""
    play, _ = cleaned()
    chunks = play.watch(Chunk, to="C")
    play.until(lambda: chunks.count == 2, what="C receives")
    play.kill("A.checkpointer")
    play.run(ms=300)
    play.kill("B.checkpointer")
    play.start("A.checkpointer")
    play.run(ms=500)
    play.start("B.checkpointer")
    end_in_step(play, 12)


@pytest.mark.parametrize("is_stopped", [False, True])
def test_corrupted_chunk(is_stopped: bool) -> None:
    """F13: a chunk that is not what was written is found before anything is published."""
    play, _ = cleaned()
    chunks = play.hold(Chunk, to="C")
    play.until(lambda: chunks.count > 0, what="C receives")
    sender, to, envelope = chunks.held.pop()
    chunk = envelope.message
    assert isinstance(chunk, Chunk)
    assert chunk.data is not None
    bad = replace_chunk(chunk, bytes([chunk.data[0] ^ 1, *chunk.data[1:]]))
    play.end(chunks)
    play.inject(sender, name_of(to), bad)
    if is_stopped:
        play.run(ms=2)
        play.kill("C.checkpointer")
        play.start("C.checkpointer")
    end_in_step(play, 12)


def replace_chunk(chunk: Chunk, data: bytes) -> Chunk:
    return Chunk(chunk.instance_id, chunk.path, chunk.offset, data, chunk.wait_ms)


def name_of(to: Address) -> str:
    return f"{name_member(to.member_id)}.checkpointer"


def test_values_above_the_checkpoint_are_sealed_after_the_cut() -> None:
    """What C has heard above its gap goes on from the checkpoint, and into the log that is cut."""
    play, client = cleaned(replace(KEEPING, learner=replace(LEARNER, seal_bytes=1)), 10)
    chunks = play.hold(Chunk, to="C")
    play.until(lambda: chunks.count > 0, what="C fetches")
    for number in range(10, 13):
        client.call("A", b"line %d" % number)
    play.deliver(chunks)
    play.until(lambda: seen(play, INSTALLED) > 0, what="C installs")
    play.run(ms=20)
    assert play.process("C.learner").is_serving
    end_in_step(play, 13)


def test_segments_told_out_of_order() -> None:
    """A checkpointer that has missed what its learner told asks again, also while all is quiet."""
    quiet = replace(CHECKPOINTER, checkpoint_instances=1_000)
    play = Scenario(3, options=replace(KEEPING, checkpointer=quiet))
    play.stand("A")
    client = play.client()
    client.call("A", b"line 0")
    play.run(ms=50)
    # It asks when it starts, and then for a while no more.
    play.kill("B.checkpointer")
    play.start("B.checkpointer")
    late = play.hold(SegmentSealed, to="B.checkpointer")
    for number in range(1, 4):
        client.call("A", b"line %d" % number)
        play.run(ms=40)
    assert late.count > 1
    late.held.reverse()
    play.deliver(late)
    play.run(ms=3_000)
    router = play.process("B.checkpointer").role
    assert isinstance(router, GroupRouter)
    checkpointer = router.roles[0]
    assert isinstance(checkpointer, Checkpointer)
    assert checkpointer.sealed_through == play.learner("B").durable_through


def test_second_word() -> None:
    """R4: a chunk of another member's log counts after a second member's word, or is counted."""
    learner = replace(LEARNER, hold_count=1_000, log_bytes_max=1_000_000)
    play, _ = cleaned_later(replace(KEEPING, learner=learner))
    end_in_step(play, 8)
    assert play.learner("C").single_source_chunks == 0
    play, _ = cleaned_later(replace(KEEPING, learner=learner))
    play.lose(ChainReply, to="C")
    play.until(lambda: is_in_step(play), what="C takes one member's word")
    assert play.learner("C").single_source_chunks > 0


def test_second_word_comes_later() -> None:
    """R4: in a cluster that has just begun B and C are both behind, and neither can confirm.

    Later they can, and what each of them learned on A's word alone counts no more as such.
    """
    play = Scenario(3, options=KEEPING)
    unheard = play.lose(Chosen, sender="A", to="B.learner C.learner")
    play.stand("A")
    play.until(lambda: is_in_step(play), what="B and C caught up")
    alone = [name for name in "BC" if play.learner(name).single_source_chunks]
    assert alone
    play.end(unheard)
    play.client().call("A", b"line 0")
    play.until(
        lambda: not any(play.learner(name).single_source_chunks for name in alone),
        what="a second member has said the same",
    )
    end_in_step(play, 1)


def test_emptied_directory() -> None:
    """F16: an emptied folder under an old name never votes, and never serves."""
    play, client = cleaned()
    play.until(lambda: is_in_step(play), what="all are in step")
    play.kill("B")
    disk = play.member("B").disk
    for name in disk.list(""):
        disk.remove(name)
    answered = play.watch(sender="B")
    play.start("B")
    play.run(ms=500)
    client.call("A", b"line 12")
    assert answered.count == 0
    assert not any(process.is_serving for process in play.member("B").processes.values())
    play.kill("A")
    play.try_to_stand("C")
    play.run(ms=3_000)
    assert not play.masters()


def test_ready_of_an_earlier_life() -> None:
    """An answer that the learner of an earlier life waited for changes nothing in the next one."""
    play, _ = cleaned()
    ready = play.hold(CheckpointReady, to="C.learner")
    offers = play.watch(CheckpointOffer, to="C")
    play.until(lambda: ready.count > 0, what="C has fetched")
    assert offers.count > 0
    play.kill("C.learner")
    play.start("C.learner")
    play.run(ms=100)
    play.deliver(ready)
    end_in_step(play, 12)
    assert seen(play, CLEANED) > 0


def test_sealed_while_installing() -> None:
    """What is learned goes on after the checkpoint only once the old log is cut off behind it.

    C has a seal on its way when the checkpoint is loaded, and its disk is slow.
    """
    play = Scenario(3, options=KEEPING)
    play.stand("A")
    client = play.client()
    for number in range(3):
        client.call("A", b"line %d" % number)
    play.until(lambda: is_in_step(play), what="C has the beginning")
    play.stall("C.learner")
    client.call("A", b"line 3")
    play.run(ms=40)
    parted = play.cut("C", "A B")
    for number in range(4, 12):
        client.call("A", b"line %d" % number)
        play.run(ms=30)
    play.until(lambda: play.learner("A").log_floor > 8, what="A cuts")
    play.end(*parted)
    play.run(ms=400)
    assert seen(play, INSTALLED) == 0, "it waits for the seal"
    play.quicken("C.learner")
    play.until(lambda: seen(play, INSTALLED) > 0, what="C installs")
    for number in range(12, 20):
        client.submit("A", b"line %d" % number)
        play.run(ms=3)
    end_in_step(play, 20)
