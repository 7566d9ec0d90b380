"""The chosen log in memory: a contiguous prefix with its chain, and bounded values above a hole."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.core.chosen_log import ChosenLog
from ray_paxos.core.learner_messages import ChosenValue
from ray_paxos.core.values import EMPTY_CHAIN, extend_chain, value_hash
from tests.unit.core_helpers import ballot, chosen


def sized(instance_id: int, size: int = 10) -> ChosenValue:
    return ChosenValue(instance_id, ballot(1), b"%d " % instance_id + b"x" * (size - 2))


def log(*instance_ids: int, pending_bytes_max: int = 1_000) -> ChosenLog:
    made = ChosenLog(pending_bytes_max)
    for instance_id in instance_ids:
        assert made.add(sized(instance_id))
    return made


def ids(values: list[ChosenValue]) -> list[int]:
    return [value.instance_id for value in values]


def test_an_empty_log_has_learned_nothing() -> None:
    empty = log()
    assert (empty.learned_through, empty.memory_floor, empty.memory_bytes) == (0, 1, 0)
    assert empty.end_chain == EMPTY_CHAIN
    assert empty.read(1, 100) == []


def test_what_lies_above_a_hole_is_not_learned_until_the_hole_is_filled() -> None:
    made = log(1, 3, 4)
    assert made.learned_through == 1
    made.add(sized(2))
    assert made.learned_through == 4


def test_the_chain_runs_over_the_values_alone() -> None:
    one, other = log(1, 2, 3), log(3, 1)
    other.add(ChosenValue(2, ballot(9), sized(2).value))
    assert one.end_chain == other.end_chain
    expected = EMPTY_CHAIN
    for instance_id in (1, 2, 3):
        expected = extend_chain(expected, value_hash(sized(instance_id).value))
        assert one.chain(instance_id) == expected
    assert one.end_chain == expected


@pytest.mark.parametrize("instance_id", [1, 2, 4])
def test_two_values_for_one_instance_are_found_and_the_first_stays(instance_id: int) -> None:
    made = log(1, 2, 4)
    assert made.add(sized(instance_id)), "the same value again is fine"
    assert made.add(ChosenValue(instance_id, ballot(9), sized(instance_id).value)), "at any ballot"
    assert not made.add(ChosenValue(instance_id, ballot(1), b"another"))
    made.add(sized(3))
    assert made.value(instance_id) == sized(instance_id)


def test_values_above_a_hole_are_bounded_and_may_be_given_again() -> None:
    made = log(1, pending_bytes_max=25)
    for instance_id in (5, 3, 4):
        assert made.add(sized(instance_id)), "dropped is not contradicted"
    made.add(sized(2))
    assert made.learned_through == 3, "4 did not fit"
    assert made.add(sized(6)), "3 is out of the bound's way now"
    made.add(sized(4))
    assert made.learned_through == 6


def test_the_next_instance_is_taken_however_much_is_pending() -> None:
    made = log(3, pending_bytes_max=10)
    made.add(sized(1, 500))
    made.add(sized(2, 500))
    assert made.learned_through == 3


def test_only_durable_values_leave_memory_the_oldest_first() -> None:
    made = log(*range(1, 11))
    made.trim(durable_through=4, memory_bytes=0)
    assert made.memory_floor == 5
    assert made.memory_bytes == sum(len(sized(i).value) for i in range(5, 11))
    made.trim(durable_through=10, memory_bytes=25)
    assert ids(made.read(made.memory_floor, 1_000)) == [9, 10]
    assert made.end_chain == log(*range(1, 11)).end_chain
    assert made.add(sized(2)), "known to be chosen, no longer held"
    assert made.learned_through == 10


def test_reading_is_contiguous_bounded_and_from_memory_only() -> None:
    made = log(1, 2, 3, 4, 6)
    made.trim(durable_through=1, memory_bytes=0)
    assert made.read(1, 1_000) == [], "not from the middle: the caller asks the checkpointer"
    assert ids(made.read(2, 1_000)) == [2, 3, 4], "nothing above the hole"
    assert ids(made.read(2, 20)) == [2, 3]
    assert ids(made.read(2, 0)) == [2], "at least one"
    assert made.read(5, 1_000) == []
    assert made.read(0, 1_000) == []


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(1, 8), max_size=30),
    st.integers(0, 60),
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 50)), max_size=3),
)
def test_any_order_learns_the_same_prefix(
    order: list[int], pending_bytes_max: int, trims: list[tuple[int, int]]
) -> None:
    made = ChosenLog(pending_bytes_max)
    learned = 0
    pending: set[int] = set()
    for instance_id in order:
        assert made.add(chosen(instance_id))
        if instance_id == learned + 1:
            learned += 1
            while made.learned_through > learned:
                learned += 1
                assert learned in pending, "learned what nobody told it"
        elif instance_id > learned:
            pending.add(instance_id)
        assert made.learned_through == learned
    for durable_through, memory_bytes in trims:
        made.trim(min(durable_through, learned), memory_bytes)
    held = made.read(made.memory_floor, 10_000)
    assert ids(held) == list(range(made.memory_floor, learned + 1))
    assert made.memory_bytes == sum(len(value.value) for value in held)
    chain = EMPTY_CHAIN
    for instance_id in range(1, learned + 1):
        chain = extend_chain(chain, value_hash(chosen(instance_id).value))
    assert made.end_chain == chain
