"""The checkpointer: what it makes, keeps, reads for others, fetches and finds damaged."""

from __future__ import annotations

import pytest

from ray_paxos.core.checkpoint import Cut, encode_manifest
from ray_paxos.core.checkpoint_messages import (
    ChainReply,
    ChainRequest,
    CheckpointDue,
    CheckpointOffer,
    CheckpointReady,
    CheckpointRequest,
    CheckpointsKept,
    Chunk,
    ChunkRequest,
    FetchCheckpoint,
    LogCleaned,
    SavedTaken,
    SaveWanted,
    SegmentDamaged,
    StateSaved,
    TakeCheckpoint,
)
from ray_paxos.core.checkpoint_schedule import IN_USE_NS
from ray_paxos.core.checkpointer import SAVE_NS
from ray_paxos.core.client_messages import Flush
from ray_paxos.core.effects import Effects
from ray_paxos.core.events import (
    CheckpointDamaged,
    CheckpointFailed,
    CheckpointPublished,
    MessageRefused,
)
from ray_paxos.core.learner_messages import (
    LearnReply,
    LearnRequest,
    SegmentSealed,
    SegmentsListed,
    SegmentsWanted,
)
from ray_paxos.core.messages import (
    Address,
    Message,
)
from ray_paxos.core.scrubbing import LOOK_NS, REST_NS
from ray_paxos.core.tasks import (
    BeginTransfer,
    ChainRead,
    CheckpointMade,
    ChunkRead,
    DropCheckpoint,
    MakeCheckpoint,
    ManifestRead,
    PublishTransfer,
    ReadChain,
    ReadChunk,
    ReadManifest,
    ReadSegments,
    SavedByLearner,
    Scrub,
    Scrubbed,
    SegmentsRead,
    SetAsideCheckpoint,
    TakeSaved,
    TaskDone,
    TaskFailed,
    TransferBegun,
)
from tests.unit.checkpointer_bench import ME, SECOND, CheckpointerBench, tasks_of
from tests.unit.core_helpers import (
    CONFIGURATION,
    GROUP,
    MS,
    ballot,
    checkpointer_of,
    chosen,
    client,
    happened,
    learner_of,
    proposer_of,
    sends,
    sent,
)
from tests.unit.test_checkpoint_fetch import manifest

OTHER = checkpointer_of(3)


def made(instance_id: int) -> CheckpointMade:
    cut = Cut(instance_id, b"chain", b"results", ballot(3), CONFIGURATION)
    return CheckpointMade(cut, 1_234)


def told(effects: Effects) -> list[tuple[Address, Message]]:
    return [(send.to, send.message) for send in sends(effects)]


def kept(effects: Effects) -> list[tuple[int, int]]:
    return [(m.oldest, m.newest) for m in sent(effects, CheckpointsKept)]


# Making.


def test_one_that_is_due_is_made_told_to_the_learner_and_shown() -> None:
    bench = CheckpointerBench(checkpoint_instances=10)
    assert tasks_of(bench.seals(1, 9), MakeCheckpoint) == []
    effects = bench.seals(10, 12)
    assert effects.tasks == [MakeCheckpoint(GROUP, 12)]
    effects = bench.comes_to(made(12))
    assert happened(effects, CheckpointPublished) == [
        CheckpointPublished(GROUP, 12, b"chain", b"results", 1_234)
    ]
    assert told(effects) == [(learner_of(ME), CheckpointsKept(12, 12))]
    assert not bench.role.alarms


def test_one_that_cannot_be_made_is_an_alarm_until_it_is() -> None:
    bench = CheckpointerBench(checkpoint_instances=10)
    bench.seals(1, 10)
    effects = bench.comes_to(TaskFailed("a machine is not deterministic"))
    assert happened(effects, CheckpointFailed)
    assert kept(effects) == []
    assert bench.role.alarms == ("a machine is not deterministic",)
    bench.now_ns += bench.settings.checkpoint_retry_ns
    assert bench.seals(11, 11).tasks == [MakeCheckpoint(GROUP, 11)]
    bench.comes_to(made(11))
    assert not bench.role.alarms


def test_a_client_gets_one_that_holds_everything_up_to_its_instance() -> None:
    bench = CheckpointerBench()
    bench.tick()
    bench.seals(1, 9)
    effects = bench.ask(TakeCheckpoint(7), client())
    assert sent(effects, CheckpointDue) == [CheckpointDue(7, 0)]
    assert effects.tasks == [MakeCheckpoint(GROUP, 9)]
    assert bench.ask(TakeCheckpoint(7), client()).tasks == [], "asked again, it goes on"
    bench.comes_to(made(9))
    effects = bench.ask(TakeCheckpoint(7), client())
    assert sent(effects, CheckpointDue) == [CheckpointDue(7, 9)]
    assert effects.tasks == []
    bench.seals(10, 12)
    bench.ask(TakeCheckpoint(11), client())
    bench.comes_to(TaskFailed("no room"))
    effects = bench.ask(TakeCheckpoint(11), client())
    assert sent(effects, CheckpointDue) == [CheckpointDue(11, 9, "no room")]
    assert bench.role.deadline_ns == bench.now_ns + bench.settings.checkpoint_retry_ns


def test_the_oldest_go_once_there_are_enough_and_the_learner_hears_when_they_are_gone() -> None:
    bench = CheckpointerBench(checkpoints=(10, 20), checkpoint_instances=10)
    bench.lists((1, 30))
    effects = bench.comes_to(made(30))
    assert kept(effects) == [(10, 30)], "10 still covers what it covers"
    assert effects.tasks == [DropCheckpoint(GROUP, 10)]
    assert kept(bench.comes_to(TaskDone())) == [(20, 30)]


def test_one_that_another_member_fetches_stays_for_a_while() -> None:
    bench = CheckpointerBench(checkpoints=(10, 20), checkpoint_instances=10)
    bench.ask(ChunkRequest(10, "host.msgpack", 0, 100), OTHER)
    bench.comes_to(ChunkRead(b"data"))
    bench.lists((1, 30))
    assert bench.comes_to(made(30)).tasks == []
    assert bench.role.deadline_ns is not None
    assert bench.tick(1).tasks == []
    assert bench.role.deadline_ns == IN_USE_NS
    bench.now_ns = IN_USE_NS
    assert bench.tick().tasks == [DropCheckpoint(GROUP, 10)]


# Its own learner.


def test_at_its_start_it_tells_what_there_is_and_asks_for_the_segments_once() -> None:
    bench = CheckpointerBench(checkpoints=(10, 20), now_ns=5)
    assert bench.role.deadline_ns == 5
    effects = bench.tick()
    assert told(effects) == [
        (learner_of(ME), CheckpointsKept(10, 20)),
        (learner_of(ME), SegmentsWanted()),
    ]
    assert told(bench.tick(100 * 1_000)) == []


def test_a_learner_that_begins_anew_is_told_which_checkpoints_there_are() -> None:
    bench = CheckpointerBench(checkpoints=(10, 20))
    assert kept(bench.lists((1, 30))) == [(10, 20)]
    assert bench.role.sealed_through == 30
    assert kept(bench.seals(31, 32)) == []


@pytest.mark.parametrize("sender", [learner_of(1), proposer_of(ME), checkpointer_of(ME), client()])
def test_only_its_own_learner_commands_it(sender: Address) -> None:
    bench = CheckpointerBench()
    for message in (
        SegmentSealed(1, 9, 10),
        SegmentsListed(1, (SegmentSealed(1, 9, 10),)),
        LogCleaned(5),
        FetchCheckpoint(1, (1, 3)),
        StateSaved(9),
    ):
        effects = bench.ask(message, sender)
        assert happened(effects, MessageRefused)
        assert effects.tasks == []
        assert told(effects) == []


def test_what_is_for_others_is_dropped() -> None:
    effects = CheckpointerBench().ask(Flush())
    assert happened(effects, MessageRefused)
    assert told(effects) == []


def test_it_vouches_for_no_vote_and_has_no_records() -> None:
    role = CheckpointerBench().role
    assert role.stamp(GROUP) == (0, 0)
    assert role.on_durable([], 5) == Effects()


# What others ask for.


def test_a_learner_far_behind_gets_what_the_segments_hold() -> None:
    bench = CheckpointerBench()
    bench.seals(1, 9)
    effects = bench.ask(LearnRequest(3, 500), learner_of(1))
    assert effects.tasks == [ReadSegments(GROUP, learner_of(1), 3, 500)]
    assert told(effects) == []
    values = tuple(chosen(i) for i in (3, 4))
    wait_ms = sum(len(v.value) for v in values) * 1_000 // bench.settings.transfer_bytes_per_s
    effects = bench.comes_to(SegmentsRead(values, 2))
    assert told(effects) == [(learner_of(1), LearnReply(3, values, 9, 0, 2, wait_ms))]


def test_what_the_segments_do_not_hold_or_is_damaged_is_answered_too() -> None:
    bench = CheckpointerBench()
    bench.ask(LearnRequest(30, 500), learner_of(1))
    assert sent(bench.comes_to(SegmentsRead((), 5)), LearnReply) == [LearnReply(30, (), 0, 0, 5)]
    bench.ask(LearnRequest(30, 500), learner_of(1))
    read = bench.comes_to(SegmentsRead((chosen(30),), 5))
    assert sent(read, LearnReply) == [LearnReply(30, (chosen(30),), 30, 0, 5)], "told later"
    bench.ask(LearnRequest(30, 500), learner_of(1))
    failed = bench.comes_to(TaskFailed("damaged", is_damage=True))
    assert sent(failed, LearnReply) == [LearnReply(30, (), 0, 0, 0)]


def test_chains_are_read_from_segments() -> None:
    bench = CheckpointerBench()
    bench.seals(1, 9)
    for outcome, chain in (
        (ChainRead(b"c"), b"c"),
        (ChainRead(None), None),
        (TaskFailed("x"), None),
    ):
        assert bench.ask(ChainRequest(4), learner_of(1)).tasks == [
            ReadChain(GROUP, learner_of(1), 4)
        ]
        assert told(bench.comes_to(outcome)) == [(learner_of(1), ChainReply(4, chain, 9, 0))]


def test_the_newest_whole_checkpoint_is_offered_and_damaged_ones_are_set_aside() -> None:
    bench = CheckpointerBench(checkpoints=(10, 20, 30), checkpoints_kept=3)
    assert bench.ask(CheckpointRequest(5), OTHER).tasks == [ReadManifest(GROUP, OTHER, 5)]
    effects = bench.comes_to(ManifestRead(b"manifest", (30,)))
    assert (OTHER, CheckpointOffer(5, b"manifest")) in told(effects)
    assert kept(effects) == [(10, 20)]
    assert [event.instance_id for event in happened(effects, CheckpointDamaged)] == [30]
    assert effects.tasks == [SetAsideCheckpoint(GROUP, 30)]
    bench.comes_to(TaskDone())
    bench.ask(CheckpointRequest(5), OTHER)
    effects = bench.comes_to(TaskFailed("EIO"))
    assert told(effects) == [(OTHER, CheckpointOffer(5, None))]


def test_chunks_are_bounded_and_given_out_at_the_rate_for_all() -> None:
    bench = CheckpointerBench(checkpoints=(40,), chunk_bytes=100, transfer_bytes_per_s=1_000)
    for at, member in enumerate((1, 3), 1):
        reader = checkpointer_of(member)
        effects = bench.ask(ChunkRequest(40, "host.msgpack", 7, 10**9), reader)
        assert effects.tasks == [ReadChunk(GROUP, reader, 40, "host.msgpack", 7, 100)]
        effects = bench.comes_to(ChunkRead(b"x" * 100))
        assert told(effects) == [
            (reader, Chunk(40, "host.msgpack", 7, b"x" * 100, at * 100)),
        ]
    for outcome in (ChunkRead(None), TaskFailed("damaged", is_damage=True)):
        bench.ask(ChunkRequest(40, "host.msgpack", 7, 100), OTHER)
        (reply,) = sent(bench.comes_to(outcome), Chunk)
        assert reply.data is None, "nothing damaged is given out"


# Fetching for its own learner.


def test_a_fetched_checkpoint_is_kept_and_told() -> None:
    bench = CheckpointerBench(checkpoints=(10,))
    effects = bench.ask(FetchCheckpoint(20, (3, 1)))
    assert told(effects) == [
        (learner_of(ME), CheckpointsKept(10, 10)),
        (OTHER, CheckpointRequest(20)),
    ]
    assert effects.tasks == []
    bench.ask(CheckpointOffer(20, encode_manifest(manifest(40))), OTHER)
    assert bench.tasks == [BeginTransfer(GROUP, manifest(40))]
    effects = bench.comes_to(TransferBegun((10, 3, 0)))
    assert effects.tasks == [PublishTransfer(GROUP, 40)]
    effects = bench.comes_to(TaskDone())
    assert told(effects) == [
        (learner_of(ME), CheckpointsKept(10, 40)),
        (learner_of(ME), CheckpointReady(40)),
    ]


def test_a_fetch_that_is_given_up_is_told_wherever_it_ends() -> None:
    bench = CheckpointerBench()
    effects = bench.ask(FetchCheckpoint(20, ()))
    (ready,) = sent(effects, CheckpointReady)
    assert (ready.instance_id, bool(ready.problem)) == (0, True)
    bench.ask(FetchCheckpoint(20, (3,)))
    (ready,) = sent(bench.ask(CheckpointOffer(20, None), OTHER), CheckpointReady)
    assert ready.problem
    bench.ask(FetchCheckpoint(20, (3,)))
    bench.tick()
    (ready,) = sent(bench.tick(bench.settings.checkpoint_retry_ns / MS), CheckpointReady)
    assert "member 3" in ready.problem
    bench.ask(FetchCheckpoint(20, (3,)))
    bench.ask(CheckpointOffer(20, encode_manifest(manifest(40))), OTHER)
    (ready,) = sent(bench.comes_to(TaskFailed("no room")), CheckpointReady)
    assert ready.problem == "no room"
    assert bench.role.alarms == ("no room",)


def test_one_that_its_learner_could_not_use_is_looked_at() -> None:
    # It told of 40, and the learner still wants one above 20: what is on the disk may be damaged.
    bench = CheckpointerBench(checkpoints=(40,))
    effects = bench.ask(FetchCheckpoint(20, (3,)))
    assert effects.tasks == [Scrub(GROUP, None, 40)]
    assert (OTHER, CheckpointRequest(20)) in told(effects)
    assert bench.ask(FetchCheckpoint(20, (3,))).tasks == [], "told again while it is under way"
    effects = bench.comes_to(Scrubbed("host.msgpack has a wrong checksum", 0))
    assert effects.tasks == [SetAsideCheckpoint(GROUP, 40)]
    assert kept(effects) == [(0, 0)]


# Damage.


def test_everything_is_scrubbed_and_damage_goes_to_whom_it_concerns() -> None:
    bench = CheckpointerBench(checkpoints=(7,), scrub_bytes_per_s=10**9)
    bench.seals(1, 4)
    bench.seals(5, 7)
    bench.tick()
    found = []
    for _ in range(3):
        (scrub,) = tasks_of(bench.tick(REST_NS / MS), Scrub)
        found.append(scrub)
        effects = bench.comes_to(Scrubbed("a wrong checksum", 10))
        if scrub.segment is not None:
            first, last = scrub.segment
            damaged = SegmentDamaged(first, last, "a wrong checksum")
            assert told(effects) == [(learner_of(ME), damaged)]
        else:
            assert [e.instance_id for e in happened(effects, CheckpointDamaged)] == [7]
            assert kept(effects) == [(0, 0)]
            # The one in its place is due as if it had never been.
            assert effects.tasks == [SetAsideCheckpoint(GROUP, 7), MakeCheckpoint(GROUP, 7)]
            bench.comes_to(TaskDone())
            bench.comes_to(made(7))
    assert found == [Scrub(GROUP, (1, 4)), Scrub(GROUP, (5, 7)), Scrub(GROUP, None, 7)]
    assert (bench.role.scrubbing.files, bench.role.scrubbing.found) == (3, 3)


def test_what_was_scrubbed_is_left_alone_until_its_interval_is_over() -> None:
    interval_ns = 600 * SECOND
    bench = CheckpointerBench(
        checkpoints=(7,), scrub_bytes_per_s=10**9, scrub_interval_ns=interval_ns
    )
    assert tasks_of(bench.tick(REST_NS / MS), Scrub) == [Scrub(GROUP, None, 7)]
    bench.comes_to(Scrubbed("", 10))
    assert tasks_of(bench.tick(interval_ns / MS - 1), Scrub) == []
    assert tasks_of(bench.tick(LOOK_NS / MS), Scrub) == [Scrub(GROUP, None, 7)]


def test_a_file_that_cannot_be_read_is_no_damage_and_others_follow() -> None:
    bench = CheckpointerBench(scrub_bytes_per_s=10**9)
    bench.seals(1, 4)
    bench.seals(5, 9)
    bench.tick()
    seen = []
    for _ in range(3):
        (scrub,) = tasks_of(bench.tick(REST_NS / MS), Scrub)
        seen.append(scrub.segment)
        assert told(bench.comes_to(TaskFailed("EIO"))) == []
    assert seen == [(1, 4), (5, 9), (1, 4)]


def test_damage_of_a_checkpoint_that_is_gone_is_nothing() -> None:
    bench = CheckpointerBench(checkpoints=(7,), scrub_bytes_per_s=10**9)
    bench.tick()
    bench.tick(REST_NS / MS)
    (scrub,) = bench.tasks
    bench.ask(CheckpointRequest(0), OTHER)
    bench.comes_to(ManifestRead(None, (7,)), bench.tasks[-1])
    effects = bench.comes_to(Scrubbed("a wrong checksum", 0), scrub)
    assert effects.events == []
    assert tasks_of(effects, SetAsideCheckpoint) == []


# Saved by the learner.


def saving() -> CheckpointerBench:
    """The learner is asked to save its state, as of 12 or later."""
    bench = CheckpointerBench(checkpoint_instances=10)
    bench.tick()
    bench.seals(1, 12)
    effects = bench.comes_to(SavedByLearner())
    assert told(effects) == [(learner_of(ME), SaveWanted())]
    assert bench.tasks == []
    return bench


def test_what_the_learner_saves_becomes_the_checkpoint() -> None:
    bench = saving()
    effects = bench.ask(StateSaved(14))
    assert effects.tasks == [TakeSaved(GROUP, 14)]
    effects = bench.comes_to(made(14))
    assert kept(effects) == [(14, 14)]
    assert sent(effects, SavedTaken) == [SavedTaken(14)]
    bench.seals(13, 23)
    assert tasks_of(bench.seals(24, 24), MakeCheckpoint) == [MakeCheckpoint(GROUP, 24)]


def test_the_learner_saves_what_no_copy_can_go_on_to() -> None:
    bench = CheckpointerBench(checkpoint_instances=10, checkpoint_retry_ns=1_000 * MS)
    bench.tick()
    bench.seals(1, 12)
    damage = TaskFailed("segment 1-12: a wrong checksum", is_damage=True)
    assert happened(bench.comes_to(damage), CheckpointFailed)
    assert tasks_of(bench.tick(1_000), MakeCheckpoint) == [MakeCheckpoint(GROUP, 12)], "again"
    assert sent(bench.comes_to(TaskFailed("no room")), SaveWanted) == [], "that is no damage"
    bench.tick(1_000)
    assert sent(bench.comes_to(damage), SaveWanted) == [], "it may be mended meanwhile"
    bench.tick(1_000)
    assert sent(bench.comes_to(damage), SaveWanted) == [SaveWanted()]


def test_damage_of_a_segment_makes_a_checkpoint_due() -> None:
    bench = CheckpointerBench(checkpoint_instances=1_000)
    bench.tick()
    bench.seals(1, 12)
    scrub = Scrub(GROUP, (1, 12), 0)
    bench.tasks.append(scrub)
    effects = bench.comes_to(Scrubbed("a wrong checksum", 0), scrub)
    assert tasks_of(effects, MakeCheckpoint) == [MakeCheckpoint(GROUP, 12)]


@pytest.mark.parametrize("how", ["told", "silent", "not taken"])
def test_a_learner_that_cannot_save_holds_up_no_later_one(how: str) -> None:
    bench = saving()
    if how == "told":
        effects = bench.ask(StateSaved(0, "no room"))
    elif how == "silent":
        assert bench.tick(SAVE_NS / MS - 1).events == []
        effects = bench.tick(1)
    else:
        bench.ask(StateSaved(14))
        effects = bench.comes_to(TaskFailed("no room"))
        assert sent(effects, SavedTaken) == [SavedTaken(14)], "it may go"
    assert happened(effects, CheckpointFailed)
    (alarm,) = bench.role.alarms
    assert alarm == ("the learner has not saved its state" if how == "silent" else "no room")
    bench.now_ns += bench.settings.checkpoint_retry_ns
    assert bench.seals(13, 13).tasks == [MakeCheckpoint(GROUP, 13)]


def test_a_saved_state_that_comes_late_is_let_go() -> None:
    bench = saving()
    bench.tick(SAVE_NS / MS)
    effects = bench.ask(StateSaved(14))
    assert sent(effects, SavedTaken) == [SavedTaken(14)]
    assert tasks_of(effects, TakeSaved) == []


def test_a_saved_state_is_of_no_use_beside_a_later_checkpoint() -> None:
    bench = saving()
    bench.ask(FetchCheckpoint(20, (3,)))
    bench.ask(CheckpointOffer(20, encode_manifest(manifest(40))), OTHER)
    bench.comes_to(TransferBegun((10, 3, 0)))
    bench.comes_to(TaskDone())
    effects = bench.ask(StateSaved(14))
    assert sent(effects, SavedTaken) == [SavedTaken(14)]
    assert tasks_of(effects, TakeSaved) == []
    bench.now_ns += bench.settings.checkpoint_retry_ns
    bench.lists((41, 60))
    assert bench.tasks == [MakeCheckpoint(GROUP, 60)], "the next one is made"


def test_the_age_of_what_is_new_is_waited_for() -> None:
    bench = CheckpointerBench(checkpoint_age_ns=60 * SECOND)
    bench.tick()
    bench.seals(1, 3)
    assert bench.role.deadline_ns == 60 * SECOND
    assert bench.tick(60 * 1_000).tasks == [MakeCheckpoint(GROUP, 3)]
