"""Majorities, and the counting of replies towards one."""

from __future__ import annotations

from collections.abc import Iterable


def majority(voters: int) -> int:
    """The smallest count of which any two sets among `voters` meet.

    Args:
        voters: How many vote; at least 1.

    Returns:
        floor(voters / 2) + 1.
    """
    assert voters >= 1, "a group without voters can choose nothing"
    return voters // 2 + 1


def majority_value(values: Iterable[int], voters: int) -> int:
    """The highest number that a majority of voters has reached.

    Args:
        values: One number a voter that has reported; a voter that has not counts as 0.
        voters: How many vote.

    Returns:
        The largest n such that at least a majority of the voters reported n or more.
    """
    ranked = sorted(values, reverse=True)
    needed = majority(voters)
    return ranked[needed - 1] if len(ranked) >= needed else 0
