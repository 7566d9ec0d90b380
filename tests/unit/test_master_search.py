"""Whose word is followed in a search for a master."""

from __future__ import annotations

from ray_paxos.core.master_guess import MasterGuess
from ray_paxos.core.master_search import FOLLOWED_MAX, MasterSearch
from ray_paxos.core.patience import Patience

MEMBERS = 5


def test_a_name_is_followed_a_few_times_and_then_all_members_are_asked_in_turn() -> None:
    search = MasterSearch()
    for turn in range(3):
        assert [search.follows(3, MEMBERS) for _ in range(FOLLOWED_MAX)] == [True] * FOLLOWED_MAX
        assert not search.is_in_turn
        for _ in range(MEMBERS):
            assert not search.follows(3, MEMBERS)
            assert search.is_in_turn
        assert search.turns == turn + 1


def test_a_name_that_was_not_heard_yet_is_followed_also_while_members_are_asked_in_turn() -> None:
    search = MasterSearch()
    while search.follows(3, MEMBERS):
        pass
    assert search.is_in_turn
    assert search.follows(4, MEMBERS)
    assert not search.follows(3, MEMBERS)


def test_those_that_know_no_name_are_asked_in_turn_anyway() -> None:
    search = MasterSearch()
    assert not any(search.follows(0, MEMBERS) for _ in range(100))
    assert search.turns == 0


def test_after_an_answer_it_begins_anew() -> None:
    search = MasterSearch()
    while search.follows(3, MEMBERS):
        pass
    search.over()
    assert not search.is_in_turn
    assert search.follows(3, MEMBERS)


def test_a_new_master_is_found_by_the_first_that_knows_it() -> None:
    """Of 24 members 1, 2 and 24 have the group; none leads for a while, then 24 does."""
    for before in range(100):
        guess = MasterGuess(Patience(range(1, 25)))
        for _ in range(before):
            guess.redirected(guess.member_id, None)
        while guess.member_id not in (1, 2, 24):
            guess.redirected(guess.member_id, None)
        if guess.member_id != 24:
            guess.redirected(guess.member_id, 24)
        assert guess.member_id == 24
