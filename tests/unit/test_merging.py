"""Which segments are merged: adjoining ones of like size, never beyond the limit."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.core.learner_messages import SegmentSealed
from ray_paxos.core.merging import MERGE_AGAIN_NS, Merging
from ray_paxos.core.settings import CheckpointerSettings
from ray_paxos.core.tasks import MergeSegments
from tests.unit.core_helpers import GROUP


def merging(count: int = 3, bytes_max: int = 1_000) -> Merging:
    return Merging(GROUP, CheckpointerSettings(merge_count=count, merge_bytes_max=bytes_max))


def told(one: Merging, *byte_counts: int, first: int = 1) -> None:
    for at, byte_count in enumerate(byte_counts):
        assert one.add(SegmentSealed(first + at, first + at, byte_count))


def test_a_segment_behind_a_missing_one_is_not_taken() -> None:
    one = merging()
    assert not one.add(SegmentSealed(5, 9, 10)), "nothing is known of what comes before"
    assert one.through == 0
    told(one, 10, 10)
    assert not one.add(SegmentSealed(4, 4, 10))
    assert one.through == 2
    assert one.add(SegmentSealed(2, 2, 10)), "known"
    assert len(one.segments) == 2


def test_all_segments_told_at_once_take_the_place_of_those_known() -> None:
    one = merging()
    told(one, 10, 10)
    one.replace(7, [SegmentSealed(7, 9, 5), SegmentSealed(10, 10, 5)])
    assert one.through == 10
    one.replace(41, [])
    assert one.through == 40, "what lies below is in a checkpoint"
    assert one.add(SegmentSealed(41, 43, 5))
    assert not one.add(SegmentSealed(45, 45, 5))


def test_a_log_that_is_cut_off_as_a_whole_goes_on_where_it_says() -> None:
    one = merging()
    told(one, 10, 10)
    one.cut(41)
    assert (one.segments, one.through) == ([], 40)
    assert one.add(SegmentSealed(41, 43, 5))


def test_the_order_is_for_one_run_at_a_time() -> None:
    one = merging()
    told(one, 10, 10, 10, 10)
    task = one.take_due(0)
    assert task == MergeSegments(GROUP, 1, 3)
    assert one.take_due(0) is None
    assert one.merged(task) == SegmentSealed(1, 3, 30)
    assert one.segments == [SegmentSealed(1, 3, 30), SegmentSealed(4, 4, 10)]


def test_after_a_failure_nothing_is_tried_for_a_while() -> None:
    one = merging()
    told(one, 10, 10, 10)
    assert one.take_due(5) is not None
    one.failed("damaged", 5)
    assert one.problem == "damaged"
    assert len(one.segments) == 3
    assert one.take_due(5 + MERGE_AGAIN_NS - 1) is None
    task = one.take_due(5 + MERGE_AGAIN_NS)
    assert task is not None
    one.merged(task)
    assert one.problem == ""


def test_parts_cut_off_during_their_merge_do_not_come_back() -> None:
    one = merging()
    told(one, 10, 10, 10, 10)
    task = one.take_due(0)
    assert task is not None
    one.cut(3)
    one.merged(task)
    assert one.segments == [SegmentSealed(3, 3, 10), SegmentSealed(4, 4, 10)]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=60), st.integers(2, 5))
def test_whatever_the_sizes_segments_stay_whole_and_adjoining(sizes: list[int], count: int) -> None:
    one = merging(count, 1_000)
    for at, size in enumerate(sizes, 1):
        assert one.add(SegmentSealed(at, at, size))
        while (task := one.take_due(0)) is not None:
            parts = [s for s in one.segments if task.first <= s.first and s.last <= task.last]
            assert (parts[0].first, parts[-1].last) == (task.first, task.last)
            total = sum(part.byte_count for part in parts)
            assert total <= 1_000
            assert all(2 * part.byte_count <= total for part in parts), "like sizes"
            one.merged(task)
        assert [s.first for s in one.segments] == [
            1,
            *(s.last + 1 for s in one.segments[:-1]),
        ]
        assert sum(s.byte_count for s in one.segments) == sum(sizes[:at])
