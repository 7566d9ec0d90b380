"""When checkpoints are due, and which ones stay."""

from __future__ import annotations

import pytest

from ray_paxos.core.checkpoint_schedule import IN_USE_NS, CheckpointSchedule
from ray_paxos.core.learner_messages import SegmentSealed
from ray_paxos.core.settings import CheckpointerSettings
from tests.unit.core_helpers import MS

SECOND = 1_000 * MS
SETTINGS = CheckpointerSettings(
    checkpoint_instances=100,
    checkpoint_bytes=5_000,
    checkpoint_age_ns=60 * SECOND,
    checkpoints_kept=2,
    checkpoint_retry_ns=5 * SECOND,
)


def schedule(*instances: int, now_ns: int = 0) -> CheckpointSchedule:
    return CheckpointSchedule(SETTINGS, instances, now_ns)


def segments(*lengths: int, first: int = 1, byte_count: int = 10) -> list[SegmentSealed]:
    found = []
    for length in lengths:
        found.append(SegmentSealed(first, first + length - 1, byte_count))
        first += length
    return found


# When.


def test_nothing_sealed_makes_none_due() -> None:
    idle = schedule(40)
    assert idle.take_due([], 10**15) is None
    assert idle.take_due(segments(40), 10**15) is None, "the one there is holds it all"
    assert idle.due_ns is None


@pytest.mark.parametrize(
    "sealed",
    [segments(60, 40), segments(10, byte_count=5_000), segments(3, 3, byte_count=2_500)],
    ids=["instances", "bytes", "bytes of several"],
)
def test_one_is_due_by_count_or_bytes_through_all_that_is_sealed(
    sealed: list[SegmentSealed],
) -> None:
    due = schedule()
    assert due.take_due(sealed, 0) == sealed[-1].last
    assert due.is_making
    assert due.take_due([*sealed, *segments(500, first=sealed[-1].last + 1)], 0) is None, "one"
    due.made(sealed[-1].last)
    assert not due.is_making


def test_only_what_came_after_the_newest_counts() -> None:
    due = schedule(100)
    assert due.take_due(segments(100, 99, byte_count=2_600), 0) is None
    assert due.take_due(segments(100, 100), 0) == 200


def test_one_is_due_by_the_age_of_the_oldest_that_is_new() -> None:
    due = schedule()
    assert due.take_due(segments(3), 7 * SECOND) is None
    assert due.due_ns == 67 * SECOND
    assert due.take_due(segments(3, 3), 50 * SECOND) is None
    assert due.due_ns == 67 * SECOND
    assert due.take_due(segments(3, 3), 67 * SECOND - 1) is None
    assert due.take_due(segments(3, 3), 67 * SECOND) == 6
    assert due.due_ns is None, "it is being made"
    due.made(6)
    assert due.take_due(segments(3, 3), 300 * SECOND) is None
    assert due.take_due(segments(3, 3, 1), 300 * SECOND) is None, "its own age"
    assert due.due_ns == 360 * SECOND


def test_one_that_is_wanted_is_due_at_once_and_once() -> None:
    due = schedule(2)
    due.want(4)
    assert due.take_due(segments(2), 0) is None, "nothing of it is sealed yet"
    assert due.take_due(segments(2, 3), 0) == 5
    due.made(5)
    assert due.take_due(segments(2, 3, 3), 0) is None
    due.want(5)
    assert due.take_due(segments(2, 3, 3), 0) is None, "there is one"


def test_one_that_failed_is_made_again_later_and_says_so_meanwhile() -> None:
    due = schedule()
    due.want(3)
    assert due.take_due(segments(3), 0) == 3
    due.failed("no room", 2 * SECOND)
    assert due.problem == "no room"
    assert due.take_due(segments(3, 200), 7 * SECOND - 1) is None
    assert due.due_ns == 7 * SECOND, "somebody waits for it: it does not wait for its age"
    assert due.take_due(segments(3, 200), 7 * SECOND) == 203
    due.made(203)
    assert due.problem == ""


# Which.


def test_the_newest_ones_stay() -> None:
    kept = schedule(30, 10, 20)
    assert (kept.oldest, kept.newest) == (10, 30)
    assert kept.take_superfluous(0) == [10]
    assert kept.take_superfluous(0) == [], "once"
    assert kept.instances == [10, 20, 30], "it is there until it is gone"
    kept.dropped(10)
    assert (kept.oldest, kept.newest) == (20, 30)
    kept.made(40)
    kept.add(40)
    assert kept.instances == [20, 30, 40]
    assert kept.take_superfluous(0) == [20]


def test_none_is_there() -> None:
    kept = schedule()
    assert (kept.oldest, kept.newest) == (0, 0)
    assert kept.take_superfluous(0) == []
    kept.dropped(7)


def test_one_that_is_being_fetched_stays_until_nobody_has_asked_for_a_while() -> None:
    kept = schedule(10, 20)
    kept.note_used(10, 3 * SECOND)
    kept.made(30)
    assert kept.take_superfluous(3 * SECOND + IN_USE_NS - 1) == []
    assert kept.superfluous_due_ns == 3 * SECOND + IN_USE_NS
    kept.note_used(10, 9 * SECOND)
    assert kept.take_superfluous(3 * SECOND + IN_USE_NS) == []
    assert kept.take_superfluous(9 * SECOND + IN_USE_NS) == [10]
    assert kept.superfluous_due_ns is None


def test_a_damaged_one_makes_room_for_one_before_it() -> None:
    kept = schedule(10, 20, 30)
    kept.dropped(30)
    assert kept.take_superfluous(0) == []
    assert kept.newest == 20
