"""How much of the log stays: what no checkpoint covers, and nothing for a member that is away."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.core.learner_messages import SegmentSealed
from ray_paxos.core.log_cleaning import CUT_AGAIN_NS, LogCleaning
from ray_paxos.core.settings import LearnerSettings
from ray_paxos.core.tasks import CutLog
from tests.unit.core_helpers import GROUP


def cleaning(oldest: int = 0, *, hold: int = 10, bytes_max: int = 10**9) -> LogCleaning:
    settings = LearnerSettings(hold_count=hold, log_bytes_max=bytes_max)
    cleaning = LogCleaning(GROUP, settings)
    cleaning.oldest_checkpoint = oldest
    return cleaning


def segments(count: int, *, first: int = 1, byte_count: int = 100) -> list[SegmentSealed]:
    """Of ten instances each."""
    starts = range(first, first + 10 * count, 10)
    return [SegmentSealed(start, start + 9, byte_count) for start in starts]


def test_without_a_checkpoint_everything_stays() -> None:
    assert cleaning(0, hold=0, bytes_max=1).take_due(segments(9), 90, 0) is None


@pytest.mark.parametrize(
    ("oldest", "hold", "learned", "floor"),
    [
        (90, 30, 95, 66),  # 66 to 95 stay, so segments up to 60 go
        (45, 30, 95, 46),  # what comes after the oldest checkpoint stays
        (90, 0, 95, 91),
        (90, 90, 95, None),  # 6 to 95 stay
        (90, 86, 96, 11),  # the first segment, to the instance
        (90, 87, 96, None),
        (9, 0, 95, None),  # it ends inside the first segment
        (10, 0, 95, 11),
    ],
)
def test_whole_segments_below_what_is_held_and_covered_go(
    oldest: int, hold: int, learned: int, floor: int | None
) -> None:
    due = cleaning(oldest, hold=hold).take_due(
        segments(10)[:-1] + segments(1, first=91), learned, 0
    )
    assert due == (None if floor is None else CutLog(GROUP, floor))


def test_the_last_segment_stays_for_the_next_one_to_go_on_from() -> None:
    assert cleaning(500, hold=0).take_due(segments(1), 10, 0) is None
    assert cleaning(500, hold=0).take_due(segments(3), 30, 0) == CutLog(GROUP, 21)


def test_a_log_that_is_too_large_is_cut_further_than_what_is_held() -> None:
    due = cleaning(90, hold=1_000, bytes_max=650).take_due(segments(9), 90, 0)
    assert due == CutLog(GROUP, 31), "900 bytes, three segments too many"
    due = cleaning(25, hold=1_000, bytes_max=650).take_due(segments(9), 90, 0)
    assert due == CutLog(GROUP, 21), "though never beyond the checkpoint"
    assert cleaning(90, hold=1_000, bytes_max=900).take_due(segments(9), 90, 0) is None


def test_one_cut_at_a_time() -> None:
    one = cleaning(90)
    assert one.take_due(segments(9), 90, 0) is not None
    assert one.take_due(segments(9), 90, 0) is None
    one.done()
    assert one.take_due(segments(9), 90, 0) is not None


def test_a_cut_that_failed_is_not_tried_again_at_once() -> None:
    one = cleaning(90)
    one.take_due(segments(9), 90, 0)
    one.failed(5)
    assert one.take_due(segments(9), 90, 4 + CUT_AGAIN_NS) is None
    assert one.take_due(segments(9), 90, 5 + CUT_AGAIN_NS) is not None


def test_what_is_damaged_for_good_goes_once_any_checkpoint_covers_it() -> None:
    one = cleaning(15, hold=1_000)
    one.newest_checkpoint = 39
    assert one.take_due(segments(9), 90, 0, lost_through=40) == CutLog(GROUP, 16), "no further"
    one.done()
    one.newest_checkpoint = 40
    assert one.take_due(segments(9), 90, 0, lost_through=40) == CutLog(GROUP, 41)
    one.done()
    one.newest_checkpoint = 90
    assert one.take_due(segments(9), 90, 0, lost_through=90) == CutLog(GROUP, 81), "not the last"


def test_nothing_is_cut_of_an_empty_log() -> None:
    assert cleaning(90).take_due([], 90, 0) is None


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 50)), min_size=1, max_size=12),
    st.integers(0, 120),
    st.integers(0, 40),
    st.integers(0, 300),
    st.integers(0, 9),
)
def test_whatever_goes_is_covered_and_held_by_no_rule(
    shapes: list[tuple[int, int]], oldest: int, hold: int, bytes_max: int, unsealed: int
) -> None:
    log: list[SegmentSealed] = []
    for length, byte_count in shapes:
        first = log[-1].last + 1 if log else 1
        log.append(SegmentSealed(first, first + length - 1, byte_count))
    learned = log[-1].last + unsealed
    due = cleaning(oldest, hold=hold, bytes_max=bytes_max).take_due(log, learned, 0)
    floor = due.floor if due is not None else 1
    gone = [segment for segment in log if segment.last < floor]
    stay = log[len(gone) :]
    assert bool(gone) == (due is not None), "no order for nothing"
    assert stay, "the last one stays"
    assert all(segment.last <= oldest for segment in gone)
    if gone and gone[-1].last > learned - hold:
        before = [gone[-1], *stay]
        assert sum(segment.byte_count for segment in before) > bytes_max, "held, and small enough"
    if stay[0].last <= min(oldest, log[-2].last if len(log) > 1 else 0):
        assert stay[0].last > learned - hold, "neither held nor uncovered"
        assert sum(segment.byte_count for segment in stay) <= bytes_max
