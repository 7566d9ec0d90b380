"""What a master knows of the other members: whom it would hand over to."""

from __future__ import annotations

import pytest

from ray_paxos.core.companions import Companions
from tests.unit.core_helpers import MS

SECOND = 1_000 * MS


def tell(found: Companions, member_id: int, learned: int, *, wanted: int, now_ns: int) -> None:
    """A learner tells that it has learned so far."""
    found.note(
        member_id, learned, has_arrived=True, wanted=wanted, now_ns=now_ns, silence_ns=SECOND
    )


def companions(priorities: dict[int, int], **learned: int) -> Companions:
    found = Companions(priorities)
    for name, through in learned.items():
        tell(found, int(name[1:]), through, wanted=0, now_ns=0)
    return found


@pytest.mark.parametrize(
    ("priorities", "learned", "best"),
    [
        ({}, {"m2": 7, "m3": 9}, 3),
        ({}, {"m2": 9, "m3": 9}, 2),
        ({2: 2}, {"m2": 7, "m3": 9}, 2),
        ({2: 2, 3: 2}, {"m2": 7, "m3": 9}, 3),
        ({2: 0}, {"m2": 9, "m3": 7}, 3),
        ({3: 9}, {"m2": 7}, 2),
        ({3: 9}, {}, 0),
    ],
)
def test_the_best_has_the_highest_priority_then_the_longest_log(
    priorities: dict[int, int], learned: dict[str, int], best: int
) -> None:
    found = companions(priorities, **learned)
    assert found.best([2, 3], 0, SECOND) == best
    assert found.best([2, 3], SECOND + 1, SECOND) == 0, "all of them are silent"


def test_keeping_up_counts_from_the_last_time_that_it_did_not() -> None:
    found = Companions({3: 5})
    for at in range(5):
        tell(found, 3, 100, wanted=90, now_ns=at * SECOND)
    assert found.preferred([2, 3], 1, 4 * SECOND, SECOND, 4 * SECOND) == 3
    assert found.preferred([2, 3], 1, 4 * SECOND, SECOND, 5 * SECOND) == 0
    tell(found, 3, 100, wanted=101, now_ns=5 * SECOND)
    tell(found, 3, 102, wanted=101, now_ns=6 * SECOND)
    assert found.preferred([2, 3], 1, 6 * SECOND, SECOND, SECOND) == 0
    assert found.preferred([2, 3], 1, 7 * SECOND, SECOND, SECOND) == 3
    tell(found, 3, 110, wanted=109, now_ns=9 * SECOND)
    assert found.preferred([2, 3], 1, 9 * SECOND, SECOND, SECOND) == 0, "it was silent meanwhile"


def test_who_was_silent_or_stopped_is_chosen_again_once_it_is_back() -> None:
    found = companions({3: 5}, m2=9, m3=9)
    found.forget(3)
    assert not found.is_heard(3, 0, SECOND)
    assert found.best([2, 3], 0, SECOND) == 2
    tell(found, 3, 9, wanted=9, now_ns=SECOND // 2)
    assert found.best([2, 3], SECOND // 2, SECOND) == 3
    assert found.preferred([2, 3], 1, SECOND // 2, SECOND, 1) == 0, "settled anew from here on"


def test_the_preferred_member_is_one_of_higher_priority_than_the_own() -> None:
    found = companions({1: 3, 2: 4, 3: 9}, m2=9, m3=9)
    assert found.preferred([2, 3], 1, SECOND, SECOND, SECOND) == 3
    assert found.preferred([2], 1, SECOND, SECOND, SECOND) == 2
    assert found.preferred([1, 2], 3, SECOND, SECOND, SECOND) == 0
