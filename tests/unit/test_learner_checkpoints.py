"""A learner that gets chunks, checkpoints and segments of others, cleans its log, and mends it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ray_paxos.core.checkpoint_install import ASK_AGAIN_NS, CUT_AGAIN_NS
from ray_paxos.core.checkpoint_messages import (
    ChainReply,
    ChainRequest,
    CheckpointReady,
    CheckpointsKept,
    FetchCheckpoint,
    LearnerInstalled,
    LogCleaned,
    SavedTaken,
    SaveWanted,
    SegmentDamaged,
    StateSaved,
)
from ray_paxos.core.client_messages import Flush, Query, QueryResult
from ray_paxos.core.effects import Effects
from ray_paxos.core.events import (
    CaughtUp,
    CheckpointInstalled,
    ChunkDiffered,
    ChunksConfirmed,
    LogCutOff,
    MessageRefused,
    SegmentDamageFound,
    SegmentRepaired,
)
from ray_paxos.core.learner_messages import (
    Chosen,
    ChosenValue,
    LearnReply,
    LearnRequest,
    RaiseVoteFloor,
    SegmentSealed,
    SegmentsListed,
    SegmentsWanted,
)
from ray_paxos.core.messages import (
    Address,
    Message,
)
from ray_paxos.core.records import SealSegment
from ray_paxos.core.settings import LearnerSettings
from ray_paxos.core.tasks import (
    CheckpointMade,
    CutLog,
    DropSaved,
    LoadCheckpoint,
    LogCut,
    ReplaceSegment,
    SaveState,
    TaskDone,
    TaskFailed,
)
from ray_paxos.core.values import MasterRecord
from tests.unit.core_helpers import (
    GROUP,
    MS,
    acceptor_of,
    ballot,
    checkpointer_of,
    chosen,
    client,
    happened,
    learner_of,
    proposer_of,
    sends,
    sent,
    value,
)
from tests.unit.learner_bench import (
    ME,
    SETTINGS,
    LearnerBench,
    ScriptedHost,
    chain_through,
    cut_at,
    loaded,
)

OWN = checkpointer_of(ME)


@pytest.fixture
def bench() -> LearnerBench:
    return LearnerBench()


def to_(effects: Effects, kind: type[Message]) -> list[tuple[Address, Message]]:
    return [(s.to, s.message) for s in sends(effects) if isinstance(s.message, kind)]


def values(first: int, last: int) -> list[ChosenValue]:
    return [chosen(i) for i in range(first, last + 1)]


def sealed(bench: LearnerBench, last: int, step: int) -> None:
    first = bench.status.learned_through + 1
    for start in range(first, last + 1, step):
        bench.learns(start, start + step - 1)
        bench.receive(client(), Flush())
        bench.sync()


# A second source.


def test_a_chunk_is_applied_on_a_second_members_word(bench: LearnerBench) -> None:
    bench.beat(through=4)
    effects = bench.gives(*values(1, 4), first=1, learned=4)
    assert to_(effects, ChainRequest) == [(learner_of(3), ChainRequest(4))]
    assert bench.status.learned_through == 0
    effects = bench.receive(learner_of(3), ChainReply(4, chain_through(4), 4, 1))
    assert happened(effects, CaughtUp) == [CaughtUp(GROUP, 1, 4)]
    assert bench.status.applied_through == 4
    assert bench.learner.single_source_chunks == 0


def test_the_member_that_leads_is_asked_first() -> None:
    bench = LearnerBench(members=(1, 2, 3, 4))
    bench.told(chosen(1, ballot(4, 4), value(MasterRecord(ballot(4, 4)))))
    bench.beat(through=4)
    effects = bench.gives(*values(2, 4), first=2, learned=4)
    assert [to for to, _ in to_(effects, ChainRequest)] == [learner_of(4)]


def test_a_difference_throws_the_chunk_away_and_raises_an_alarm(bench: LearnerBench) -> None:
    bench.beat(through=4)
    bench.gives(*values(1, 4), first=1, learned=4)
    effects = bench.receive(learner_of(3), ChainReply(4, b"another chain", 4, 1))
    assert happened(effects, ChunkDiffered) == [
        ChunkDiffered(GROUP, 4, 1, chain_through(4), 3, b"another chain")
    ]
    assert bench.status.learned_through == 0
    (alarm,) = bench.learner.alarms
    assert chain_through(4).hex() in alarm
    assert b"another chain".hex() in alarm
    assert to_(effects, LearnRequest) == [], "two that differ are not asked in a circle"
    effects = bench.tick(SETTINGS.catch_up_retry_ns / MS)
    assert [to for to, _ in to_(effects, LearnRequest)] == [learner_of(3)]


def test_alarms_of_differences_are_bounded(bench: LearnerBench) -> None:
    for _ in range(10):
        bench.beat(through=4)
        bench.tick(SETTINGS.catch_up_retry_ns / MS)
        assert bench.asked is not None
        bench.gives(*values(1, 4), first=1, learned=4, of=bench.asked[0])
        for other in (1, 3):
            bench.receive(learner_of(other), ChainReply(4, b"another chain", 4, 1))
    assert 1 < len(bench.learner.alarms) <= 4


def test_with_nobody_to_confirm_it_a_chunk_is_taken_and_counted(bench: LearnerBench) -> None:
    bench.beat(through=4)
    bench.gives(*values(1, 4), first=1, learned=4)
    assert bench.status.learned_through == 0
    effects = bench.tick(SETTINGS.catch_up_retry_ns / MS)
    assert bench.status.learned_through == 4
    assert happened(effects, CaughtUp)
    assert bench.learner.single_source_chunks == 1


def test_a_chunk_that_was_taken_on_one_word_counts_until_another_member_says_the_same(
    bench: LearnerBench,
) -> None:
    bench.beat(through=4)
    bench.gives(*values(1, 4), first=1, learned=4)
    bench.receive(learner_of(3), ChainReply(4, None, 2, 1))
    bench.learns(5, 6)
    assert bench.learner.single_source_chunks == 1
    effects = bench.tick(SETTINGS.catch_up_retry_ns / MS)
    assert to_(effects, ChainRequest) == [(learner_of(3), ChainRequest(6))]
    effects = bench.receive(learner_of(3), ChainReply(6, chain_through(6), 6, 1))
    assert happened(effects, ChunksConfirmed) == [ChunksConfirmed(GROUP, 3, 6, 1)]
    assert bench.learner.single_source_chunks == 0
    assert to_(bench.tick(60_000), ChainRequest) == []


def test_a_chunk_that_is_confirmed_confirms_what_came_before_it(bench: LearnerBench) -> None:
    bench.beat(through=4)
    bench.gives(*values(1, 4), first=1, learned=8)
    bench.receive(learner_of(3), ChainReply(4, None, 2, 1))
    assert bench.learner.single_source_chunks == 1
    assert bench.asked == (learner_of(1), LearnRequest(5, 7_000))
    bench.gives(*values(5, 8), first=5, learned=8)
    bench.receive(learner_of(3), ChainReply(8, chain_through(8), 8, 1))
    assert bench.status.learned_through == 8
    assert bench.learner.single_source_chunks == 0


def test_a_difference_that_is_found_late_is_an_alarm(bench: LearnerBench) -> None:
    bench.beat(through=4)
    bench.gives(*values(1, 4), first=1, learned=4)
    bench.receive(learner_of(3), ChainReply(4, None, 2, 1))
    bench.tick(SETTINGS.catch_up_retry_ns / MS)
    effects = bench.receive(learner_of(3), ChainReply(4, b"another chain", 6, 1))
    assert happened(effects, ChunkDiffered) == [
        ChunkDiffered(GROUP, 4, 1, chain_through(4), 3, b"another chain")
    ]
    (alarm,) = bench.learner.alarms
    assert b"another chain".hex() in alarm
    assert bench.learner.single_source_chunks == 1
    assert bench.status.learned_through == 4


def test_what_no_room_is_left_for_is_not_counted_as_learned() -> None:
    settings = replace(SETTINGS, unsealed_bytes_max=1)
    bench = LearnerBench(settings=settings)
    bench.beat(through=4)
    bench.gives(*values(1, 4), first=1, learned=4)
    bench.receive(learner_of(3), ChainReply(4, None, 2, 1))
    assert bench.status.learned_through == 1
    assert bench.learner.single_source_chunks == 1
    effects = bench.tick(SETTINGS.catch_up_retry_ns / MS)
    assert to_(effects, ChainRequest) == [(learner_of(3), ChainRequest(1))]
    bench.receive(learner_of(3), ChainReply(1, chain_through(1), 2, 1))
    assert bench.learner.single_source_chunks == 0


def test_a_second_member_that_is_behind_leaves_one_source_at_once(bench: LearnerBench) -> None:
    bench.beat(through=4)
    bench.gives(*values(1, 4), first=1, learned=4)
    bench.receive(learner_of(3), ChainReply(4, None, 2, 1))
    assert bench.status.learned_through == 4
    assert bench.learner.single_source_chunks == 1


def test_what_left_the_seconds_memory_is_confirmed_from_its_segments(bench: LearnerBench) -> None:
    bench.beat(through=4)
    bench.gives(*values(1, 4), first=1, learned=4)
    effects = bench.receive(learner_of(3), ChainReply(4, None, 90, 50))
    assert to_(effects, ChainRequest) == [(checkpointer_of(3), ChainRequest(4))]
    bench.receive(checkpointer_of(3), ChainReply(4, chain_through(4), 90, 0))
    assert bench.status.learned_through == 4
    assert bench.learner.single_source_chunks == 0


def test_a_chunk_nobody_asked_for_is_not_taken_in(bench: LearnerBench) -> None:
    effects = bench.gives(*values(1, 4), first=1, learned=4)
    assert to_(effects, ChainRequest) == []
    bench.beat(through=4)
    effects = bench.gives(*values(1, 4), first=1, learned=4, of=learner_of(3))
    assert to_(effects, ChainRequest) == []
    bench.gives(*values(1, 4), first=1, learned=4)
    second = bench.gives(*values(1, 4), first=1, learned=4)
    assert to_(second, ChainRequest) == [], "one chunk at a time"


def test_values_with_a_hole_are_no_chunk(bench: LearnerBench) -> None:
    bench.beat(through=4)
    effects = bench.gives(chosen(1), chosen(3), chosen(4), first=1, learned=4)
    assert to_(effects, ChainRequest) == []
    assert bench.status.learned_through == 0


def test_what_is_chosen_meanwhile_does_not_wait_for_the_chunk(bench: LearnerBench) -> None:
    bench.beat(through=4)
    bench.gives(*values(1, 4), first=1, learned=4)
    bench.learns(1, 6)
    assert bench.status.applied_through == 6
    bench.receive(learner_of(3), ChainReply(4, chain_through(4), 4, 1))
    assert bench.status.applied_through == 6


def test_others_are_told_the_chain_that_is_in_memory(bench: LearnerBench) -> None:
    bench.learns(1, 30)

    def told(instance_id: int) -> ChainReply:
        (reply,) = sent(bench.receive(learner_of(3), ChainRequest(instance_id)), ChainReply)
        return reply

    assert told(7) == ChainReply(7, chain_through(7), 30, 1)
    assert told(30) == ChainReply(30, chain_through(30), 30, 1)
    assert told(31) == ChainReply(31, None, 30, 1)
    bench.receive(client(), Flush())
    bench.sync()
    reply = told(1)
    assert reply.chain is None
    assert reply.memory_floor > 2


def test_those_that_are_behind_are_told_to_keep_to_the_rate(bench: LearnerBench) -> None:
    bench.learns(1, 4)
    replies = []
    for member in (1, 3):
        effects = bench.receive(learner_of(member), LearnRequest(1, 10_000))
        replies += sent(effects, LearnReply)
    cost = sum(len(v.value) for v in replies[0].values)
    wait_ms = cost * 1_000 // SETTINGS.catch_up_bytes_per_s
    assert [reply.wait_ms for reply in replies] == [wait_ms, 2 * cost * 1_000 // 20_000_000]


# From a checkpoint of its own.


def test_it_goes_on_from_its_members_checkpoint() -> None:
    bench = LearnerBench(base=cut_at(40), problems=["50 is damaged"])
    status = bench.status
    assert (status.learned_through, status.applied_through, status.durable_through) == (40, 40, 40)
    assert status.log_floor == 41
    assert status.ballot == cut_at(40).ballot
    assert bench.learner.alarms == ("50 is damaged",)
    (listed,) = sent(bench.beat(), SegmentsListed)
    assert listed == SegmentsListed(41, ()), "its checkpointer knows where the log begins"
    bench.learns(41, 42)
    assert bench.status.applied_through == 42
    bench.receive(client(), Flush())
    bench.sync()
    assert [i.chosen.instance_id for i in bench.sealed] == [41, 42]
    assert bench.sealed[-1].chain == chain_through(42)
    (reply,) = sent(bench.receive(learner_of(3), LearnRequest(9, 999)), LearnReply)
    assert (reply.values, reply.memory_floor, reply.log_floor) == ((), 41, 41)


# From a checkpoint of another member's.


def behind(bench: LearnerBench, floor: int = 31) -> Effects:
    """It is behind, and member 1's log begins far above."""
    bench.beat(through=50)
    return bench.gives(first=bench.status.learned_through + 1, learned=50, log_floor=floor)


def ready(bench: LearnerBench, instance_id: int = 40) -> Effects:
    return bench.receive(OWN, CheckpointReady(instance_id))


def test_below_anothers_log_a_checkpoint_is_fetched_and_nothing_else_asked(
    bench: LearnerBench,
) -> None:
    effects = behind(bench)
    assert to_(effects, FetchCheckpoint) == [(OWN, FetchCheckpoint(0, (1, 3)))]
    assert to_(effects, LearnRequest) == []
    again = bench.beat(through=60)
    assert to_(again, LearnRequest) == to_(again, FetchCheckpoint) == []
    again = bench.tick(ASK_AGAIN_NS / MS)
    assert to_(again, FetchCheckpoint) == [(OWN, FetchCheckpoint(0, (1, 3)))]


def test_a_log_that_begins_right_after_what_is_learned_needs_no_checkpoint(
    bench: LearnerBench,
) -> None:
    bench.learns(1, 3)
    bench.beat(through=50)
    effects = bench.gives(first=4, learned=50, memory_floor=20, log_floor=4)
    assert to_(effects, FetchCheckpoint) == []
    assert to_(effects, LearnRequest) == [(checkpointer_of(1), LearnRequest(4, 7_000))]
    effects = bench.gives(first=4, learned=50, log_floor=5, of=checkpointer_of(1))
    assert [message for _, message in to_(effects, FetchCheckpoint)] == [FetchCheckpoint(3, (1, 3))]


def test_an_install_switches_in_process_and_the_old_state_serves_until_then(
    bench: LearnerBench,
) -> None:
    bench.learns(1, 2)
    behind(bench)
    assert ready(bench).tasks == [LoadCheckpoint(GROUP, 2)]
    old = bench.host
    (result,) = sent(bench.receive(client(), Query(1, "log", b"", 0)), QueryResult)
    assert result.applied_through == 2
    bench.learns(3, 3)
    assert old.through == 3, "it goes on"
    effects = bench.comes_to(loaded(40))
    (event,) = happened(effects, CheckpointInstalled)
    assert (event.instance_id, event.chain) == (40, chain_through(40))
    assert to_(effects, LearnerInstalled) == [(proposer_of(ME), LearnerInstalled(40))]
    assert bench.tasks == [CutLog(GROUP, 41, cut_at(40))]
    status = bench.status
    assert (status.learned_through, status.applied_through, status.durable_through) == (40, 40, 40)
    (result,) = sent(bench.receive(client(), Query(1, "log", b"", 0)), QueryResult)
    assert result.applied_through == 40
    bench.learns(41, 41)
    assert bench.status.applied_through == 41


def test_values_above_that_were_waiting_are_applied_with_the_switch(bench: LearnerBench) -> None:
    behind(bench)
    bench.told(chosen(41), chosen(42), chosen(44))
    ready(bench)
    bench.comes_to(loaded(40))
    assert bench.status.applied_through == 42


def test_nothing_is_sealed_into_the_old_log_or_before_the_new_one_is_begun(
    bench: LearnerBench,
) -> None:
    behind(bench)
    ready(bench)
    bench.comes_to(loaded(40))
    bench.learns(41, 43)
    assert bench.receive(client(), Flush()).records == []
    assert bench.tick(2 * SETTINGS.seal_age_ns / MS).records == []
    effects = bench.comes_to(LogCut(41))
    (seal,) = effects.records
    assert isinstance(seal, SealSegment)
    assert [i.chosen.instance_id for i in seal.instances] == [41, 42, 43]
    assert happened(effects, LogCutOff) == [LogCutOff(GROUP, 41)]
    assert to_(effects, LogCleaned) == [(OWN, LogCleaned(41))]
    (told,) = sent(bench.sync(), SegmentSealed)
    assert (told.first, told.last) == (41, 43)
    (listed,) = sent(bench.receive(OWN, SegmentsWanted()), SegmentsListed)
    assert listed == SegmentsListed(41, (told,))


def test_a_switch_waits_for_the_seal_that_is_on_its_way(bench: LearnerBench) -> None:
    bench.learns(1, 3)
    assert bench.receive(client(), Flush()).records
    behind(bench)
    ready(bench)
    effects = bench.comes_to(loaded(40))
    assert happened(effects, CheckpointInstalled) == []
    bench.learns(4, 6)
    assert bench.receive(client(), Flush()).records == [], "the next seal would keep it waiting"
    assert bench.status.applied_through == 6
    effects = bench.sync()
    assert happened(effects, CheckpointInstalled)
    assert bench.status.durable_through == 40


def test_a_learner_that_caught_up_otherwise_keeps_what_it_has(bench: LearnerBench) -> None:
    bench.learns(1, 3)
    assert bench.receive(client(), Flush()).records
    behind(bench)
    ready(bench)
    bench.learns(4, 45)
    effects = bench.comes_to(loaded(40))
    effects.extend(bench.sync())
    assert happened(effects, CheckpointInstalled) == []
    assert bench.status.applied_through == 45
    bench.receive(client(), Flush())
    bench.sync()
    assert bench.status.durable_through == 45, "sealing goes on"


def test_a_cut_that_fails_is_tried_again_and_nothing_is_sealed_meanwhile(
    bench: LearnerBench,
) -> None:
    behind(bench)
    ready(bench)
    bench.comes_to(loaded(40))
    bench.learns(41, 43)
    bench.comes_to(TaskFailed("EIO"))
    assert "EIO" in bench.learner.alarms
    assert bench.receive(client(), Flush()).records == []
    effects = bench.tick(CUT_AGAIN_NS / MS)
    assert effects.tasks == [CutLog(GROUP, 41, cut_at(40))]
    assert bench.comes_to(LogCut(41)).records
    assert not bench.learner.alarms


def test_a_fetch_that_was_given_up_lets_it_ask_others_and_is_not_repeated_at_once(
    bench: LearnerBench,
) -> None:
    behind(bench)
    effects = bench.receive(OWN, CheckpointReady(0, "nobody has one"))
    assert "nobody has one" in bench.learner.alarms
    (question,) = to_(effects, LearnRequest)
    for _ in range(3):
        to, request = question
        assert isinstance(request, LearnRequest)
        effects = bench.gives(first=1, learned=50, log_floor=31, of=to)
        assert to_(effects, FetchCheckpoint) == to_(effects, LearnRequest) == []
        (question,) = to_(bench.tick(SETTINGS.catch_up_retry_ns / MS), LearnRequest)
    bench.tick(ASK_AGAIN_NS / MS)
    assert bench.asked is not None
    effects = bench.gives(first=1, learned=50, log_floor=31, of=bench.asked[0])
    assert to_(effects, FetchCheckpoint)


def test_one_that_cannot_be_loaded_is_an_alarm(bench: LearnerBench) -> None:
    behind(bench)
    ready(bench)
    bench.comes_to(TaskFailed("no machine of kind 'shelf'"))
    assert "no machine of kind 'shelf'" in bench.learner.alarms
    assert bench.tasks == []
    bench.learns(1, 2)
    assert bench.status.applied_through == 2


def test_only_the_own_checkpointer_has_a_say(bench: LearnerBench) -> None:
    behind(bench)
    for sender in (checkpointer_of(1), learner_of(ME), proposer_of(ME)):
        for message in (
            CheckpointReady(40),
            CheckpointsKept(40, 40),
            SegmentDamaged(1, 3, "x"),
            SaveWanted(),
            SavedTaken(1),
        ):
            effects = bench.receive(sender, message)
            assert happened(effects, MessageRefused)
            assert effects.tasks == []


def test_promises_are_not_touched_and_the_vote_floor_follows_the_majority(
    bench: LearnerBench,
) -> None:
    behind(bench)
    ready(bench)
    effects = bench.comes_to(loaded(40))
    assert sent(effects, RaiseVoteFloor) == [], "no majority is known to be durable"
    effects = bench.beat(through=50, durable=35)
    assert to_(effects, RaiseVoteFloor) == [(acceptor_of(ME), RaiseVoteFloor(36))]


def test_a_chunk_that_was_held_is_dropped_with_the_old_log(bench: LearnerBench) -> None:
    bench.beat(through=50)
    bench.gives(*values(1, 4), first=1, learned=50)
    bench.receive(OWN, CheckpointReady(40))
    effects = bench.comes_to(loaded(40))
    (question,) = sent(effects, LearnRequest)
    assert question.from_instance == 41, "it holds up nothing"
    bench.receive(learner_of(3), ChainReply(4, chain_through(4), 50, 1))
    assert bench.status.learned_through == 40


# Cleaning.

CLEANING = LearnerSettings(
    seal_bytes=10_000,
    seal_age_ns=SETTINGS.seal_age_ns,
    memory_bytes=10_000,
    hold_count=3,
    catch_up_retry_ns=SETTINGS.catch_up_retry_ns,
)


def test_the_log_is_cut_once_a_checkpoint_covers_it() -> None:
    bench = LearnerBench(settings=CLEANING)
    sealed(bench, 12, 3)
    assert bench.tasks == []
    effects = bench.receive(OWN, CheckpointsKept(7, 12))
    assert effects.tasks == [CutLog(GROUP, 8)]
    assert bench.tick(1).tasks == [], "one at a time"
    effects = bench.comes_to(LogCut(7))
    assert to_(effects, LogCleaned) == [(OWN, LogCleaned(7))]
    assert bench.learner.log_floor == 1, "it still holds it in memory"
    (first, *_) = bench.learner._state.sealing.segments
    assert first.first == 7
    assert bench.tasks == []
    assert bench.receive(OWN, CheckpointsKept(12, 12)).tasks == [CutLog(GROUP, 10)]
    assert bench.comes_to(TaskFailed("EIO")).tasks == [], "not at once"
    assert bench.tick(CUT_AGAIN_NS / MS).tasks == [CutLog(GROUP, 10)], "again"


def test_a_checkpoint_that_the_log_needs_and_that_is_gone_is_fetched_from_another() -> None:
    bench = LearnerBench(settings=CLEANING)
    sealed(bench, 12, 3)
    bench.receive(OWN, CheckpointsKept(12, 12))
    bench.comes_to(LogCut(10))
    effects = bench.receive(OWN, CheckpointsKept(0, 0))
    assert to_(effects, FetchCheckpoint) == [(OWN, FetchCheckpoint(8, (1, 3)))]
    assert bench.receive(OWN, CheckpointReady(0, "nobody has one")).tasks == []
    assert to_(bench.tick(1), FetchCheckpoint) == []
    effects = bench.tick(ASK_AGAIN_NS / MS)
    assert to_(effects, FetchCheckpoint), "until there is one"
    bench.receive(OWN, CheckpointsKept(9, 9))
    effects = bench.receive(OWN, CheckpointReady(9))
    assert effects.tasks == [], "it is there for the next start only"
    assert to_(bench.tick(2 * ASK_AGAIN_NS / MS), FetchCheckpoint) == []


def test_a_whole_log_needs_no_checkpoint(bench: LearnerBench) -> None:
    sealed(bench, 6, 3)
    assert to_(bench.receive(OWN, CheckpointsKept(0, 0)), FetchCheckpoint) == []


# Damage.


def test_a_damaged_segment_is_fetched_again_and_put_in_place(bench: LearnerBench) -> None:
    sealed(bench, 12, 3)
    effects = bench.receive(OWN, SegmentDamaged(4, 6, "4-6 has a wrong checksum"))
    assert happened(effects, SegmentDamageFound) == [
        SegmentDamageFound(GROUP, 4, 6, "4-6 has a wrong checksum")
    ]
    assert to_(effects, LearnRequest) == [(checkpointer_of(1), LearnRequest(4, 7_000))]
    assert bench.learner.alarms == ("4-6 has a wrong checksum",)
    effects = bench.gives(*values(4, 5), first=4, learned=12, of=checkpointer_of(1))
    assert to_(effects, LearnRequest) == [(checkpointer_of(1), LearnRequest(6, 7_000))]
    effects = bench.gives(*values(6, 9), first=6, learned=12, of=checkpointer_of(1))
    assert effects.tasks == [ReplaceSegment(GROUP, tuple(values(4, 6)))]
    assert bench.status.learned_through == 12
    effects = bench.comes_to(TaskDone())
    assert happened(effects, SegmentRepaired) == [SegmentRepaired(GROUP, 4, 6)]
    assert not bench.learner.alarms


def test_one_member_that_has_cut_it_off_does_not_give_a_damaged_segment_up() -> None:
    """R11: its word may be wrong or of little weight; the others may still have the segment."""
    bench = LearnerBench(settings=replace(CLEANING, hold_count=1_000))
    sealed(bench, 12, 3)
    bench.receive(OWN, CheckpointsKept(12, 12))
    bench.receive(OWN, SegmentDamaged(4, 6, "4-6 has a wrong checksum"))
    bench.gives(first=4, learned=12, log_floor=10, of=checkpointer_of(1))
    assert bench.tasks == [], "nothing is cut off"
    effects = bench.tick(SETTINGS.catch_up_retry_ns / MS)
    assert to_(effects, LearnRequest) == [(checkpointer_of(3), LearnRequest(4, 2_000_000))]
    effects = bench.gives(*values(4, 6), first=4, learned=12, of=checkpointer_of(3))
    assert effects.tasks == [ReplaceSegment(GROUP, tuple(values(4, 6)))]


def test_a_damaged_segment_that_all_others_have_cut_off_is_cut_off_once_it_is_covered() -> None:
    bench = LearnerBench(settings=replace(CLEANING, hold_count=1_000))
    sealed(bench, 12, 3)
    bench.receive(OWN, SegmentDamaged(4, 6, "4-6 has a wrong checksum"))
    effects = bench.gives(first=4, learned=12, log_floor=10, of=checkpointer_of(1))
    assert to_(effects, FetchCheckpoint) == [(OWN, FetchCheckpoint(5, (1, 3)))], "on one word"
    bench.tick(SETTINGS.catch_up_retry_ns / MS)
    bench.gives(first=4, learned=12, log_floor=10, of=checkpointer_of(3))
    assert bench.tasks == [], "no checkpoint covers it"
    effects = bench.receive(OWN, CheckpointsKept(9, 9))
    assert effects.tasks == [CutLog(GROUP, 7)]
    bench.comes_to(LogCut(7))
    assert not bench.learner.alarms


def test_damage_of_what_is_merged_or_cleaned_by_now_is_nothing(bench: LearnerBench) -> None:
    sealed(bench, 6, 3)
    for first, last in ((1, 6), (2, 3), (7, 9)):
        effects = bench.receive(OWN, SegmentDamaged(first, last, "damaged"))
        assert effects.events == []
        assert to_(effects, LearnRequest) == []


def test_values_that_were_never_sealed_here_are_asked_of_another_member(
    bench: LearnerBench,
) -> None:
    sealed(bench, 3, 3)
    bench.receive(OWN, SegmentDamaged(1, 3, "damaged"))
    bench.gives(*values(1, 3), first=1, learned=12, of=checkpointer_of(1))
    bench.comes_to(TaskFailed("what was fetched does not have its chain", is_damage=True))
    effects = bench.tick(SETTINGS.catch_up_retry_ns / MS)
    assert to_(effects, LearnRequest) == [(checkpointer_of(3), LearnRequest(1, 7_000))]


def test_a_segment_that_an_install_leaves_behind_while_it_is_mended_is_no_error(
    bench: LearnerBench,
) -> None:
    sealed(bench, 3, 3)
    bench.receive(OWN, SegmentDamaged(1, 3, "damaged"))
    bench.gives(*values(1, 3), first=1, learned=50, of=checkpointer_of(1))
    (replace,) = bench.tasks
    behind(bench)
    ready(bench)
    bench.comes_to(loaded(40), LoadCheckpoint(GROUP, 3))
    effects = bench.comes_to(TaskDone(), replace)
    assert happened(effects, SegmentRepaired) == []
    assert not bench.learner.alarms


# Saved by the learner.


def test_a_state_that_may_not_be_copied_is_saved_as_it_is(bench: LearnerBench) -> None:
    bench.learns(1, 3)
    (task,) = bench.receive(OWN, SaveWanted()).tasks
    assert isinstance(task, SaveState)
    assert task.host is bench.host
    point = bench.status.point
    assert (task.cut.instance_id, task.cut.chain, task.cut.result_chain) == (
        3,
        point.chain,
        point.result_chain,
    )
    effects = bench.comes_to(CheckpointMade(task.cut, 10))
    assert to_(effects, StateSaved) == [(OWN, StateSaved(3))]
    assert bench.receive(OWN, SavedTaken(3)).tasks == [DropSaved(GROUP)]
    assert bench.comes_to(TaskDone()) == Effects()


def test_a_state_that_cannot_be_saved_is_told(bench: LearnerBench) -> None:
    effects = bench.receive(OWN, SaveWanted())
    (saved,) = sent(effects, StateSaved)
    assert saved.problem
    bench.learns(1, 3)
    bench.receive(OWN, SaveWanted())
    effects = bench.comes_to(TaskFailed("no room"))
    assert to_(effects, StateSaved) == [(OWN, StateSaved(0, "no room"))]
    stopped = LearnerBench(host=ScriptedHost(fails_at=2))
    stopped.told(*values(1, 3))
    effects = stopped.receive(OWN, SaveWanted())
    assert effects.tasks == []
    (saved,) = sent(effects, StateSaved)
    assert "out of paper" in saved.problem


def test_a_chosen_message_of_a_hole_is_still_chosen() -> None:
    # What a proposer says is chosen needs no second word: it counted the votes (R4).
    bench = LearnerBench(members=(1, 2, 3))
    effects = bench.receive(proposer_of(1), Chosen((chosen(1),), 1, 0))
    assert to_(effects, ChainRequest) == []
    assert bench.status.applied_through == 1
