"""What is remembered of slow commands: the last ones, and no more than was said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_paxos.observability.slow_commands import SlowCommands, SlowInstance, SlowStep


def step(number: int) -> SlowStep:
    return SlowStep(at_ms=number, what="fsync", duration_ms=60.0, instances=((1, number),))


def instance(number: int) -> SlowInstance:
    return SlowInstance(
        at_ms=number,
        group=1,
        instance_id=number,
        commands=1,
        byte_count=10,
        machine="kv",
        total_ms=60.0,
        queue_ms=20.0,
        accept_ms=20.0,
        chosen_ms=20.0,
        votes_ms={1: 20.0},
    )


def test_nothing_is_remembered_at_first() -> None:
    assert SlowCommands(3).all() == ()


@given(st.integers(1, 10), st.lists(st.integers(0, 100), max_size=40))
def test_the_last_ones_are_remembered_the_oldest_first(kept: int, numbers: list[int]) -> None:
    slow = SlowCommands(kept)
    for number in numbers:
        slow.add(step(number) if number % 2 else instance(number))
        assert len(slow.all()) <= kept
    assert [each.at_ms for each in slow.all()] == numbers[-kept:]


def test_what_was_given_out_does_not_change() -> None:
    slow = SlowCommands(2)
    slow.add(step(1))
    given_out = slow.all()
    slow.add(step(2))
    slow.add(step(3))
    assert given_out == (step(1),)


def test_what_is_remembered_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        instance(1).total_ms = 0.0  # type: ignore[misc]
