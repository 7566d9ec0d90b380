"""What tests conclude from what clients saw."""

from __future__ import annotations

from tests.hosts.drivers import Operation, Series
from tests.hosts.watching import longest_gap_s, stale_reads

SECOND_NS = 1_000_000_000


def written(*moments_s: float) -> list[Operation]:
    return [
        Operation(int((end - 0.1) * SECOND_NS), int(end * SECOND_NS), number)
        for number, end in enumerate(moments_s, 1)
    ]


def read(start_s: float, end_s: float, value: int | None) -> Operation:
    return Operation(int(start_s * SECOND_NS), int(end_s * SECOND_NS), value)


def test_a_gap_counts_from_the_last_acknowledgement_before_it() -> None:
    writes = written(1, 2, 5, 6)
    assert longest_gap_s(writes, 3 * SECOND_NS, 7 * SECOND_NS) == 3


def test_a_gap_that_has_not_ended_counts_to_the_end() -> None:
    writes = [*written(1, 2), Operation(0, 8 * SECOND_NS, None, "no master")]
    assert longest_gap_s(writes, 2 * SECOND_NS, 9 * SECOND_NS) == 7


def test_only_what_was_acknowledged_before_it_began_makes_a_read_stale() -> None:
    writes = Series(written(1, 2), begun=[(0, 1), (int(1.5 * SECOND_NS), 2)])
    assert stale_reads(writes, [read(1.8, 2.5, 1), read(2.1, 2.2, 2), read(2.1, 3, None)]) == []
    (stale,) = stale_reads(writes, [read(2.1, 2.2, 1)])
    assert "saw 1; allowed: 2 to 2" in stale


def test_what_nobody_has_begun_to_write_is_wrong() -> None:
    writes = Series(written(1), begun=[(0, 1)])
    assert len(stale_reads(writes, [read(2, 3, 2)])) == 1
