"""Everything on the disk has its turn, slowly."""

from __future__ import annotations

from ray_paxos.core.learner_messages import SegmentSealed
from ray_paxos.core.scrubbing import LOOK_NS, REST_NS, Scrubbing
from ray_paxos.core.tasks import Scrub, Scrubbed
from tests.unit.core_helpers import GROUP, MS

SECOND = 1_000 * MS
SEGMENTS = [SegmentSealed(1, 4, 10), SegmentSealed(5, 9, 10)]
ALL = [Scrub(GROUP, (1, 4)), Scrub(GROUP, (5, 9)), Scrub(GROUP, None, 7)]


def test_each_file_has_its_turn_and_then_again() -> None:
    scrubbing = Scrubbing(GROUP, 1_000_000, 0, 0)
    seen = []
    now_ns = 0
    for _ in range(7):
        assert scrubbing.due_ns is not None
        now_ns = scrubbing.due_ns
        scrub = scrubbing.take_due(SEGMENTS, [7], now_ns)
        assert scrub is not None
        assert scrubbing.take_due(SEGMENTS, [7], now_ns + 10**15) is None, "one at a time"
        seen.append(scrub)
        scrubbing.done(scrub, Scrubbed("", 10), now_ns)
    assert seen == [*ALL, *ALL, ALL[0]]
    assert (scrubbing.files, scrubbing.found) == (7, 0)


def test_it_begins_after_a_rest_and_not_early() -> None:
    scrubbing = Scrubbing(GROUP, 1_000, 0, 5)
    assert scrubbing.due_ns == 5 + REST_NS
    assert scrubbing.take_due(SEGMENTS, [], 4 + REST_NS) is None
    assert scrubbing.take_due(SEGMENTS, [], 5 + REST_NS) == ALL[0]


def test_reading_keeps_to_its_rate() -> None:
    scrubbing = Scrubbing(GROUP, 1_000, 0, 0)
    now_ns = REST_NS
    scrub = scrubbing.take_due(SEGMENTS, [], now_ns)
    assert scrub is not None
    scrubbing.done(scrub, Scrubbed("", 60_000), now_ns)
    assert scrubbing.due_ns == now_ns + 60 * SECOND
    scrub = scrubbing.take_due(SEGMENTS, [], now_ns + 60 * SECOND)
    assert scrub is not None
    scrubbing.done(scrub, Scrubbed("", 1), now_ns + 60 * SECOND)
    assert scrubbing.due_ns == now_ns + 60 * SECOND + REST_NS, "never without a rest"


def test_with_nothing_to_read_it_looks_again() -> None:
    scrubbing = Scrubbing(GROUP, 1_000, 0, 0)
    assert scrubbing.take_due([], [], REST_NS) is None
    assert scrubbing.due_ns == REST_NS + LOOK_NS


def test_a_rate_of_nothing_reads_nothing_by_itself() -> None:
    scrubbing = Scrubbing(GROUP, 0, 0, 0)
    assert scrubbing.due_ns is None
    assert scrubbing.take_due(SEGMENTS, [7], 10**15) is None
    scrubbing.done(ALL[2], Scrubbed("7 is damaged", 0), 10**15)
    scrubbing.gave_up(ALL[2], 10**15)
    assert scrubbing.due_ns is None
    assert (scrubbing.files, scrubbing.found) == (1, 1)


def test_a_file_that_cannot_be_read_does_not_keep_the_others_from_their_turn() -> None:
    scrubbing = Scrubbing(GROUP, 1_000, 0, 0)
    seen = []
    for turn in range(1, 5):
        scrub = scrubbing.take_due(SEGMENTS, [7], turn * 100 * REST_NS)
        assert scrub is not None
        seen.append(scrub)
        scrubbing.gave_up(scrub, turn * 100 * REST_NS)
    assert seen == [*ALL, ALL[0]]


def test_what_is_new_is_read_before_what_was_read_and_what_is_gone_is_forgotten() -> None:
    scrubbing = Scrubbing(GROUP, 10**9, 0, 0)
    for turn in (1, 2, 3):
        scrub = scrubbing.take_due(SEGMENTS, [7], turn * REST_NS)
        assert scrub is not None
        scrubbing.done(scrub, Scrubbed("", 1), turn * REST_NS)
    later = [SegmentSealed(1, 9, 20)]
    assert scrubbing.take_due(later, [7], 4 * REST_NS) == Scrub(GROUP, (1, 9))
    assert len(scrubbing._read) == 2


def test_no_file_is_read_again_before_its_interval_is_over_but_a_new_one_is() -> None:
    interval_ns = 600 * SECOND
    scrubbing = Scrubbing(GROUP, 10**9, interval_ns, 0)
    seen: list[tuple[int, Scrub]] = []
    now_ns = 0
    while now_ns < 2 * interval_ns:
        assert scrubbing.due_ns is not None
        now_ns = scrubbing.due_ns
        checkpoints = [7, 8] if now_ns > 100 * SECOND else [7]
        scrub = scrubbing.take_due(SEGMENTS, checkpoints, now_ns)
        if scrub is not None:
            seen.append((now_ns, scrub))
            scrubbing.done(scrub, Scrubbed("", 10), now_ns)
    later = Scrub(GROUP, None, 8)
    assert [scrub for _, scrub in seen] == [*ALL, later, *ALL, later]
    when = {scrub: [at for at, each in seen if each == scrub] for scrub in (*ALL, later)}
    for first, second in when.values():
        assert interval_ns <= second - first <= interval_ns + LOOK_NS + len(ALL) * REST_NS
    assert when[later][0] <= 100 * SECOND + LOOK_NS + REST_NS


def test_a_file_that_could_not_be_read_is_tried_again_at_once() -> None:
    scrubbing = Scrubbing(GROUP, 10**9, 600 * SECOND, 0)
    scrub = scrubbing.take_due(SEGMENTS, [7], REST_NS)
    assert scrub == ALL[0]
    scrubbing.done(scrub, Scrubbed("", 10), REST_NS)
    for turn in range(2, 6):
        scrub = scrubbing.take_due(SEGMENTS, [7], turn * REST_NS)
        assert scrub == ALL[1 + turn % 2]
        scrubbing.gave_up(scrub, turn * REST_NS)


def test_a_damaged_file_is_read_again_at_once_until_it_is_mended() -> None:
    scrubbing = Scrubbing(GROUP, 10**9, 600 * SECOND, 0)
    for turn, damage in ((1, "page 3"), (2, "page 3"), (3, "")):
        scrub = scrubbing.take_due([], [7], turn * REST_NS)
        assert scrub == ALL[2]
        scrubbing.done(scrub, Scrubbed(damage, 10), turn * REST_NS)
    assert scrubbing.take_due([], [7], 4 * REST_NS) is None


def test_a_damaged_file_counts_once_until_it_was_read_sound() -> None:
    scrubbing = Scrubbing(GROUP, 10**9, 0, 0)
    found = []
    for damage in ("a byte", "a byte", "", "another byte"):
        assert scrubbing.due_ns is not None
        scrub = scrubbing.take_due(SEGMENTS[:1], [], scrubbing.due_ns)
        assert scrub == ALL[0]
        scrubbing.done(scrub, Scrubbed(damage, 10), scrubbing.due_ns or 0)
        found.append(scrubbing.found)
    assert found == [1, 1, 1, 2], "what waits to be mended is read again, and is no other damage"


def test_a_damaged_file_that_went_and_came_again_counts_again() -> None:
    scrubbing = Scrubbing(GROUP, 10**9, 0, 0)
    now_ns = REST_NS
    for there in (SEGMENTS[:1], SEGMENTS[1:], SEGMENTS[:1]):
        scrub = scrubbing.take_due(there, [], now_ns)
        assert scrub is not None
        scrubbing.done(scrub, Scrubbed("" if there == SEGMENTS[1:] else "a byte", 10), now_ns)
        now_ns += REST_NS
    assert scrubbing.found == 2
