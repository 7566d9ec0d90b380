"""The checkpointer's merging: adjoining segments of like size, published by the learner alone."""

from __future__ import annotations

from ray_paxos.core.checkpoint_messages import LogCleaned
from ray_paxos.core.client_messages import Flush
from ray_paxos.core.effects import Effects
from ray_paxos.core.events import MessageRefused
from ray_paxos.core.learner_messages import (
    LearnReply,
    SegmentMerged,
    SegmentSealed,
    SegmentsListed,
    SegmentsWanted,
)
from ray_paxos.core.merging import MERGE_AGAIN_NS
from ray_paxos.core.tasks import MergeSegments, ReadSegments, SegmentsRead, TaskDone, TaskFailed
from tests.unit.checkpointer_bench import ME, SECOND, CheckpointerBench
from tests.unit.core_helpers import (
    GROUP,
    envelope,
    happened,
    learner_of,
    proposer_of,
    sent,
)


class Bench(CheckpointerBench):
    """Its merging alone."""

    def __init__(self, merge_count: int = 3, merge_bytes_max: int = 1_000) -> None:
        super().__init__(merge_count=merge_count, merge_bytes_max=merge_bytes_max)

    def sealed(self, first: int, last: int, byte_count: int = 10) -> Effects:
        self.now_ns += 10 * SECOND
        return self.seals(first, last, byte_count)

    def merged(self, effects: Effects) -> Effects:
        (task,) = effects.tasks
        assert isinstance(task, MergeSegments)
        return self.comes_to(TaskDone(), task)

    def told_through(self) -> int:
        read = ReadSegments(GROUP, learner_of(1), 1, 10)
        effects = self.role.on_outcome(read, SegmentsRead((), 0), self.now_ns)
        (reply,) = sent(effects, LearnReply)
        return reply.learned_through


def test_adjoining_segments_are_merged_and_announced_once_durable() -> None:
    bench = Bench()
    assert bench.sealed(1, 4).tasks == []
    assert bench.sealed(5, 5).tasks == []
    effects = bench.sealed(6, 9)
    assert effects.tasks == [MergeSegments(GROUP, 1, 9)]
    assert sent(effects, SegmentMerged) == [], "it is not there yet"
    announced = bench.merged(effects)
    (send,) = announced.sends_now
    assert (send.to, send.message) == (learner_of(ME), SegmentMerged(1, 9, 30))


def test_one_merge_at_a_time_and_the_next_follows() -> None:
    bench = Bench()
    bench.sealed(1, 1)
    bench.sealed(2, 2)
    first = bench.sealed(3, 3)
    for instance_id in (4, 5, 6):
        assert bench.sealed(instance_id, instance_id).tasks == []
    following = bench.merged(first)
    assert following.tasks == [MergeSegments(GROUP, 4, 6)]
    assert sent(following, SegmentMerged) == [SegmentMerged(1, 3, 30)]


def test_a_large_segment_is_not_rewritten_for_small_ones() -> None:
    bench = Bench()
    bench.sealed(1, 100, 500)
    assert bench.sealed(101, 101, 10).tasks == []
    assert bench.sealed(102, 102, 10).tasks == []
    assert bench.sealed(103, 103, 10).tasks == [MergeSegments(GROUP, 101, 103)]


def test_nothing_larger_than_the_limit_is_made() -> None:
    bench = Bench(merge_bytes_max=100)
    for first in (1, 2, 3, 4):
        assert bench.sealed(first, first, 40).tasks == []


def rewrites_a_byte(segments: int) -> float:
    bench = Bench(merge_count=4, merge_bytes_max=10**9)
    rewritten = 0
    for first in range(1, segments + 1):
        effects = bench.sealed(first, first, 1)
        while effects.tasks:
            (task,) = effects.tasks
            assert isinstance(task, MergeSegments)
            rewritten += task.last - task.first + 1
            effects = bench.merged(effects)
    return rewritten / segments


def test_every_byte_is_rewritten_a_logarithmic_number_of_times() -> None:
    assert rewrites_a_byte(100) < 5
    assert rewrites_a_byte(1_600) < rewrites_a_byte(100) + 5, "four times more four times"


def test_only_the_own_learner_tells_of_segments() -> None:
    bench = Bench()
    for sender in (learner_of(1), proposer_of(ME)):
        effects = bench.ask(SegmentSealed(1, 4, 10), sender)
        assert happened(effects, MessageRefused)
    assert bench.told_through() == 0


def test_a_missing_segment_is_asked_for_and_nothing_is_merged_over_it() -> None:
    bench = Bench()
    bench.sealed(1, 4)
    effects = bench.sealed(9, 12)
    (send,) = effects.sends_now
    assert (send.to, send.message) == (learner_of(ME), SegmentsWanted())
    assert bench.told_through() == 4
    assert bench.lists((1, 4), (5, 8), (9, 12)).tasks == [MergeSegments(GROUP, 1, 12)]


def test_told_again_twice_or_late_it_knows_each_segment_once() -> None:
    bench = Bench(merge_count=9)
    for first, last in ((1, 4), (5, 8), (5, 8), (1, 4), (5, 8), (9, 12), (5, 8)):
        assert bench.sealed(first, last).tasks == []
    assert bench.told_through() == 12


def test_a_learner_that_tells_of_its_segments_anew_is_believed() -> None:
    bench = Bench()
    bench.sealed(1, 4)
    bench.sealed(5, 8)
    # It has published a merge that this checkpointer, in an earlier life, had made.
    bench.lists((1, 8), byte_count=20)
    assert bench.sealed(9, 9, 10).tasks == [], "two segments, not three"
    assert bench.sealed(10, 10, 10).tasks == [MergeSegments(GROUP, 1, 10)]


def test_a_burst_with_a_hole_asks_once_not_once_a_segment() -> None:
    # Each wish makes the learner tell of all segments: one a message would multiply without end
    # wherever messages are lost or overtake each other.
    bench = Bench(merge_count=99)
    bench.sealed(1, 1)
    now_ns = bench.now_ns
    wishes = 0
    for first in range(3, 50):
        told = envelope(learner_of(ME), SegmentSealed(first, first, 10))
        wishes += len(sent(bench.role.handle(told, now_ns), SegmentsWanted))
    assert wishes == 1
    later = bench.sealed(50, 50)
    assert len(sent(later, SegmentsWanted)) == 1, "the wish may have been lost: asked again later"


def test_a_learner_that_starts_anew_during_a_merge_leaves_no_hole() -> None:
    # It tells of a list that was made before 9 to 11 were there; the merge of these ends after it.
    bench = Bench(merge_bytes_max=250)
    told = ((1, 4, 100), (5, 8, 300), (9, 9, 15), (10, 10, 15), (11, 11, 15))
    effects = [bench.sealed(*segment) for segment in told]
    assert effects[-1].tasks == [MergeSegments(GROUP, 9, 11)]
    bench.ask(SegmentsListed(1, (SegmentSealed(*told[0]),)))
    announced = bench.merged(effects[-1])
    assert sent(announced, SegmentMerged) == [SegmentMerged(9, 11, 45)]
    again = [bench.sealed(*segment) for segment in told[1:]]
    assert not any(sent(effect, SegmentsWanted) for effect in again)
    assert bench.told_through() == 11
    for effect in again:
        if effect.tasks:
            bench.merged(effect)
    # With 5 to 8 forgotten, 1 to 12 would look like 245 bytes.
    assert bench.sealed(12, 12, 100).tasks == []


def test_a_merge_that_failed_is_announced_to_nobody_and_tried_again_later() -> None:
    bench = Bench()
    bench.sealed(1, 1)
    bench.sealed(2, 2)
    (task,) = bench.sealed(3, 3).tasks
    failed = bench.comes_to(TaskFailed("1-1 is damaged", is_damage=True), task)
    assert sent(failed, SegmentMerged) == []
    assert failed.tasks == [], "not at once"
    assert bench.role.alarms == ("1-1 is damaged",)
    failed_ns = bench.now_ns
    bench.now_ns = failed_ns + MERGE_AGAIN_NS - 1
    assert bench.ask(SegmentSealed(4, 4, 10)).tasks == []
    bench.now_ns = failed_ns + MERGE_AGAIN_NS
    again = bench.ask(SegmentSealed(5, 5, 10))
    assert again.tasks == [task]
    assert sent(bench.merged(again), SegmentMerged) == [SegmentMerged(1, 3, 30)]
    assert not bench.role.alarms


def test_what_is_cleaned_away_is_merged_no_more() -> None:
    bench = Bench()
    for first in (1, 3, 5):
        effects = bench.sealed(first, first + 1)
    bench.comes_to(TaskFailed("cut otherwise"), effects.tasks[0])
    bench.now_ns += MERGE_AGAIN_NS
    bench.ask(LogCleaned(4))
    assert bench.told_through() == 6
    assert bench.sealed(7, 8).tasks == [MergeSegments(GROUP, 3, 8)], "a part of 3 to 4 stays"


def test_the_first_of_all_segments_begins_anew_wherever_it_lies() -> None:
    # After an install its learner's log goes on far above what was sealed before.
    bench = Bench()
    bench.sealed(1, 4)
    effects = bench.lists((101, 104))
    assert sent(effects, SegmentsWanted) == []
    assert bench.told_through() == 104
    bench.sealed(105, 105)
    assert bench.sealed(106, 106).tasks == [MergeSegments(GROUP, 101, 106)]


def test_what_is_for_others_is_dropped() -> None:
    effects = Bench().ask(Flush())
    assert happened(effects, MessageRefused)
    assert not effects.sends_now
