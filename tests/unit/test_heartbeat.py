"""Rounds of heartbeats: confirmed by a majority, and counted from when they were sent."""

from __future__ import annotations

from ray_paxos.core.heartbeat import HeartbeatRounds
from tests.unit.core_helpers import CONFIGURATION, MS


def rounds(now_ns: int = 0) -> HeartbeatRounds:
    return HeartbeatRounds(CONFIGURATION, now_ns)


def test_a_reign_begins_confirmed_by_its_promises_and_due_at_once() -> None:
    new = rounds(5 * MS)
    assert new.confirmed_ns == 5 * MS
    assert new.due_ns == 5 * MS
    assert not new.is_confirmed


def test_a_round_is_confirmed_by_a_majority_each_voter_once() -> None:
    new = rounds()
    sequence = new.begin_regular(10 * MS, 20 * MS)
    assert new.due_ns == 20 * MS
    for _ in range(3):
        new.count(sequence, 11)
        assert not new.is_confirmed
    new.count(sequence, 13)
    assert new.is_confirmed


def test_a_round_counts_from_its_sending_not_from_the_replies() -> None:
    new = rounds()
    sequence = new.begin_regular(10 * MS, 20 * MS)
    new.count(sequence, 11)
    assert new.confirmed_ns == 0, "one is no majority"
    new.count(sequence, 12)
    assert new.confirmed_ns == 10 * MS
    new.count(sequence, 13)
    assert new.confirmed_ns == 10 * MS


def test_who_confirms_a_round_confirms_every_earlier_one() -> None:
    new = rounds()
    first = new.begin_regular(10 * MS, 20 * MS)
    new.count(first, 11)
    second = new.begin_regular(20 * MS, 30 * MS)
    assert second != first
    assert new.count(second, 12)
    assert (new.confirmed_sequence, new.confirmed_ns) == (first, 10 * MS), "never the later one"
    assert not new.count(first, 12), "a late reply takes nothing back, and adds nothing"
    assert new.count(second, 11)
    assert (new.confirmed_sequence, new.confirmed_ns) == (second, 20 * MS)


def test_a_round_for_reads_leaves_the_next_regular_one_where_it_is() -> None:
    new = rounds()
    new.begin_regular(10 * MS, 20 * MS)
    sequence = new.begin(12 * MS)
    assert new.due_ns == 20 * MS
    new.count(sequence, 11)
    new.count(sequence, 12)
    assert new.confirmed_ns == 12 * MS


def test_a_round_nobody_sent_counts_for_nothing() -> None:
    new = rounds()
    sequence = new.begin_regular(10 * MS, 20 * MS)
    for unknown in (sequence + 1, 0, -1):
        new.count(unknown, 11)
        new.count(unknown, 12)
    assert new.confirmed_ns == 0


def test_a_new_round_is_not_confirmed_by_the_one_before() -> None:
    new = rounds()
    first = new.begin_regular(10 * MS, 20 * MS)
    new.count(first, 11)
    new.count(first, 12)
    new.begin_regular(20 * MS, 30 * MS)
    assert not new.is_confirmed
    new.count(first, 13)
    assert not new.is_confirmed, "the third voter of a majority confirms nothing further"
    assert new.confirmed_ns == 10 * MS


def test_a_majority_that_answers_slower_than_the_interval_still_confirms() -> None:
    # Replies take longer than the time to the next round. Who dropped them would step down
    # although every one of its heartbeats is confirmed.
    new = rounds()
    sequences = [new.begin_regular(i * 10 * MS, (i + 1) * 10 * MS) for i in range(1, 6)]
    new.count(sequences[1], 11)
    new.count(sequences[1], 12)
    assert new.confirmed_ns == 20 * MS
    new.count(sequences[0], 11)
    new.count(sequences[0], 12)
    assert new.confirmed_ns == 20 * MS, "an older round takes nothing back"
