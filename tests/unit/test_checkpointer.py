"""The checkpointer: adjoining segments, merged by like size, published by the learner alone."""

from __future__ import annotations

from ray_paxos.core.checkpointer import Checkpointer
from ray_paxos.core.client_messages import Flush
from ray_paxos.core.effects import Effects
from ray_paxos.core.events import MessageRefused
from ray_paxos.core.messages import (
    Address,
    LearnReply,
    LearnRequest,
    Message,
    SegmentMerged,
    SegmentSealed,
    SegmentsWanted,
)
from ray_paxos.core.records import MergeSegments, PublishMerged, ReadSegments
from ray_paxos.core.settings import CheckpointerSettings
from tests.unit.core_helpers import (
    GROUP,
    MS,
    chosen,
    envelope,
    happened,
    learner_of,
    proposer_of,
    sent,
)

ME = 2
SECOND = 1_000 * MS


class Bench:
    """The checkpointer of member 2."""

    def __init__(self, merge_count: int = 3, merge_bytes_max: int = 1_000) -> None:
        settings = CheckpointerSettings(merge_count, merge_bytes_max)
        self.role = Checkpointer(group=GROUP, member_id=ME, settings=settings)
        self.now_ns = 0

    def ask(self, message: Message, sender: Address | None = None) -> Effects:
        self.now_ns += 10 * SECOND
        return self.role.handle(envelope(sender or learner_of(ME), message), self.now_ns)

    def sealed(self, first: int, last: int, byte_count: int = 10) -> Effects:
        return self.ask(SegmentSealed(first, last, byte_count))

    def merged(self, effects: Effects) -> Effects:
        (record,) = effects.records
        assert isinstance(record, MergeSegments)
        return self.role.on_durable([record], self.now_ns)

    def told_through(self) -> int:
        read = ReadSegments(GROUP, 1, 10)
        (reply,) = sent(self.role.on_read(read, learner_of(1), (), 0), LearnReply)
        return reply.learned_through


def test_adjoining_segments_are_merged_and_announced_once_durable() -> None:
    bench = Bench()
    assert bench.sealed(1, 4).records == []
    assert bench.sealed(5, 5).records == []
    effects = bench.sealed(6, 9)
    assert effects.records == [MergeSegments(GROUP, 1, 9)]
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
        assert bench.sealed(instance_id, instance_id).records == []
    following = bench.merged(first)
    assert following.records == [MergeSegments(GROUP, 4, 6)]
    assert sent(following, SegmentMerged) == [SegmentMerged(1, 3, 30)]


def test_a_large_segment_is_not_rewritten_for_small_ones() -> None:
    bench = Bench()
    bench.sealed(1, 100, 500)
    assert bench.sealed(101, 101, 10).records == []
    assert bench.sealed(102, 102, 10).records == []
    assert bench.sealed(103, 103, 10).records == [MergeSegments(GROUP, 101, 103)]


def test_nothing_larger_than_the_limit_is_made() -> None:
    bench = Bench(merge_bytes_max=100)
    for first in (1, 2, 3, 4):
        assert bench.sealed(first, first, 40).records == []


def rewrites_a_byte(segments: int) -> float:
    bench = Bench(merge_count=4, merge_bytes_max=10**9)
    rewritten = 0
    for first in range(1, segments + 1):
        effects = bench.sealed(first, first, 1)
        while effects.records:
            (record,) = effects.records
            assert isinstance(record, MergeSegments)
            rewritten += record.last - record.first + 1
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
    for first, last in ((1, 4), (5, 8), (9, 12)):
        effects = bench.sealed(first, last)
    assert effects.records == [MergeSegments(GROUP, 1, 12)]


def test_told_again_twice_or_late_it_knows_each_segment_once() -> None:
    bench = Bench(merge_count=9)
    for first, last in ((1, 4), (5, 8), (5, 8), (1, 4), (5, 8), (9, 12), (5, 8)):
        assert bench.sealed(first, last).records == []
    assert bench.told_through() == 12


def test_a_learner_that_tells_of_its_segments_anew_is_believed() -> None:
    bench = Bench()
    bench.sealed(1, 4)
    bench.sealed(5, 8)
    # It has published a merge that this checkpointer, in an earlier life, had made.
    bench.sealed(1, 8, 20)
    assert bench.sealed(9, 9, 10).records == [], "two segments, not three"
    assert bench.sealed(10, 10, 10).records == [MergeSegments(GROUP, 1, 10)]


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
    # It tells of its segments from the first on; the merge of 9 to 11 ends in the midst of that.
    bench = Bench(merge_bytes_max=250)
    told = ((1, 4, 100), (5, 8, 300), (9, 9, 15), (10, 10, 15), (11, 11, 15))
    effects = [bench.sealed(*segment) for segment in told]
    assert effects[-1].records == [MergeSegments(GROUP, 9, 11)]
    bench.sealed(*told[0])
    announced = bench.merged(effects[-1])
    assert sent(announced, SegmentMerged) == [SegmentMerged(9, 11, 45)]
    again = [bench.sealed(*segment) for segment in told[1:]]
    assert not any(sent(effect, SegmentsWanted) for effect in again)
    assert bench.told_through() == 11
    for effect in again:
        if effect.records:
            bench.merged(effect)
    # With 5 to 8 forgotten, 1 to 12 would look like 245 bytes.
    assert bench.sealed(12, 12, 100).records == []


def test_a_learner_far_behind_gets_what_the_segments_hold() -> None:
    bench = Bench()
    bench.sealed(1, 9)
    effects = bench.ask(LearnRequest(3, 500), learner_of(1))
    read = ReadSegments(GROUP, 3, 500)
    assert effects.reads == [(read, learner_of(1))]
    assert effects.sends_now == effects.sends_after_sync == []
    values = tuple(chosen(i) for i in (3, 4))
    (send,) = bench.role.on_read(read, learner_of(1), values, 0).sends_now
    assert (send.to, send.message) == (learner_of(1), LearnReply(3, values, 9, 0))


def test_what_the_segments_do_not_hold_is_answered_too() -> None:
    bench = Bench()
    read = ReadSegments(GROUP, 30, 500)
    (send,) = bench.role.on_read(read, learner_of(1), (), 0).sends_now
    assert send.message == LearnReply(30, (), 0, 0)
    (send,) = bench.role.on_read(read, learner_of(1), (chosen(30),), 0).sends_now
    assert send.message == LearnReply(30, (chosen(30),), 30, 0), "read before it was told"


def test_what_is_for_others_is_dropped() -> None:
    effects = Bench().ask(Flush())
    assert happened(effects, MessageRefused)
    assert not effects.sends_now


def test_it_vouches_for_no_vote_and_waits_for_nothing() -> None:
    role = Bench().role
    assert role.stamp(GROUP) == (0, 0)
    assert role.deadline_ns is None
    assert role.on_deadline(5) == Effects()
    assert role.on_durable([PublishMerged(GROUP, 1, 2)], 5) == Effects()
