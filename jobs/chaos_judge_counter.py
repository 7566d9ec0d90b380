"""Whether a counter counts, ids are given once, and rounds of a barrier are whole; pure.

Of a counter to which only what is above 0 is added:

1. Each addition takes the counter from `value - amount` to `value`: of two of them these steps have
   nothing in common, and whatever was told before another was asked for is below it.
2. A read is at least the sum of all that was told before it was asked for, and at most that of all
   that was asked for before it was told, without what was refused; and at least any value that was
   told before.

Of ids: none is given twice; those of a call that asks the group follow those that were told before.

Of a barrier: of a round no two parties have the same place; all of its places are below the number
of parties; nobody passes it before all of those that have a place in it have come; and whoever
comes after somebody passed it is in a later one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

from chaos_checks import some
from chaos_judge_order import highest_before
from chaos_recipe_records import Addition, CounterLook, IdsTaken, RoundPassed


def check_counter(additions: Sequence[Addition], looks: Sequence[CounterLook]) -> list[str]:
    """Rules 1 and 2, of each counter."""
    problems: list[str] = []
    for name in sorted({each.counter for each in additions} | {each.counter for each in looks}):
        own = [each for each in additions if each.counter == name]
        problems += some(f"{name}: additions that overlap", _overlapping(own))
        values = [
            (each.asked_ns, each.told_ns, each.value) for each in looks if each.counter == name
        ]
        problems += some(f"{name}: reads that are wrong", _wrong_reads(own, values))
    return problems


def _overlapping(additions: Sequence[Addition]) -> list[str]:
    known = [(each, each.value) for each in additions if each.value is not None]
    steps = sorted((value, each.amount) for each, value in known)
    found = [
        f"{amount} to {value}, and one to {before}"
        for (before, _), (value, amount) in zip([(0, 0), *steps], steps, strict=False)
        if value - amount < before
    ]
    told = [(each.told_ns, value) for each, value in known]
    asked = [(each.asked_ns, (each.amount, value)) for each, value in known]
    found += [
        f"{amount} to {value}, after {highest}"
        for (amount, value), highest in highest_before(told, asked)
        if value - amount < highest
    ]
    return found


def _wrong_reads(additions: Sequence[Addition], looks: Sequence[tuple[int, int, int]]) -> list[str]:
    may_be = [each for each in additions if not each.is_refused]
    told = sorted((each.told_ns, each.amount) for each in may_be if each.value is not None)
    asked = sorted((each.asked_ns, each.amount) for each in may_be)
    found = []
    for asked_ns, told_ns, value in looks:
        least = sum(amount for at_ns, amount in told if at_ns < asked_ns)
        most = sum(amount for at_ns, amount in asked if at_ns < told_ns)
        if not least <= value <= most:
            found.append(f"{value}, allowed: {least} to {most}")
    seen = [(told_ns, value) for _, told_ns, value in looks]
    values = [(asked_ns, value) for asked_ns, _, value in looks]
    found += [
        f"{value} after {highest}"
        for value, highest in highest_before(seen, values)
        if value < highest
    ]
    return found


def check_ids(taken: Sequence[IdsTaken]) -> list[str]:
    """No id is given twice, and those that the group gives rise."""
    problems: list[str] = []
    for name in sorted({each.allocator for each in taken}):
        own = [each for each in taken if each.allocator == name]
        ranges = sorted((each.first, each.first + each.count) for each in own)
        twice = [f"{after[0]}" for before, after in pairwise(ranges) if after[0] < before[1]]
        wrong = [str(first) for first, _ in ranges if first < 1]
        of_group = [each for each in own if not each.is_of_block]
        told = [(each.told_ns, each.first + each.count - 1) for each in of_group]
        asked = [(each.asked_ns, each.first) for each in of_group]
        fallen = [
            f"{first} after {highest}"
            for first, highest in highest_before(told, asked)
            if first <= highest
        ]
        problems += some(f"{name}: ids given twice", twice)
        problems += some(f"{name}: ids below 1", wrong)
        problems += some(f"{name}: ids that fell", fallen)
    return problems


def check_barrier(passed: Sequence[RoundPassed], parties: int) -> list[str]:
    """What is said of a barrier above."""
    by_round: dict[int, list[RoundPassed]] = defaultdict(list)
    for each in passed:
        if each.place is not None:
            by_round[each.round].append(each)
    places, early = [], []
    for number, of_it in by_round.items():
        seen = [each.place for each in of_it]
        if len(set(seen)) < len(seen) or not all(0 <= (place or 0) < parties for place in seen):
            places.append(f"{number}: {seen}")
        last_ns = max(each.asked_ns for each in of_it)
        early += [f"{number} by {each.party}" for each in of_it if each.told_ns < last_ns]
    told = [(each.told_ns, each.round) for each in passed]
    late = [
        f"{later.round} by {later.party}, after {highest}"
        for later, highest in highest_before(told, [(each.asked_ns, each) for each in passed])
        if later.place is not None and later.round <= highest
    ]
    return [
        *some("rounds with wrong places", places),
        *some("rounds passed before all were there", early),
        *some("rounds come to after they were passed", late),
    ]
