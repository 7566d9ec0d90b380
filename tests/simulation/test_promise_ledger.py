"""The checker's own view of P2c: which values promises allow."""

from __future__ import annotations

import pytest

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.messages import Promise, Vote
from ray_paxos.testing.promises import PromiseLedger
from ray_paxos.testing.violation import Violation

MINE = Ballot(4, 4, 1)
OLD = Ballot(2, 5, 1)
NEWER = Ballot(3, 1, 1)


def told(ledger: PromiseLedger, member: int, *votes: Vote, start: int = 1, then: int | None = None):
    ledger.promised(member, Promise(MINE, start, 1, votes, then))


@pytest.fixture
def ledger() -> PromiseLedger:
    """Three of five have told everything; two of them voted for `old` at 7."""
    ledger = PromiseLedger(1)
    told(ledger, 1)
    told(ledger, 2, Vote(7, OLD, b"old"))
    told(ledger, 3, Vote(7, OLD, b"old"))
    return ledger


def test_the_vote_at_the_highest_ballot_is_allowed(ledger: PromiseLedger) -> None:
    ledger.proposed(7, MINE, b"old", 3)
    ledger.proposed(8, MINE, b"anything", 3)


@pytest.mark.parametrize("value", [b"new", b""])
def test_another_value_is_not(ledger: PromiseLedger, value: bytes) -> None:
    with pytest.raises(Violation, match="what no majority allows"):
        ledger.proposed(7, MINE, value, 3)


def test_a_higher_vote_beyond_the_majority_may_be_adopted(ledger: PromiseLedger) -> None:
    told(ledger, 4, Vote(7, NEWER, b"newer"))
    ledger.proposed(7, MINE, b"newer", 3)


def test_a_promise_with_pages_to_come_counts_where_it_was_told(ledger: PromiseLedger) -> None:
    # Found by seed 0 of five members: the proposer adopted what the fourth acceptor had told of
    # 7 while that one's later pages were still on their way.
    told(ledger, 4, Vote(7, NEWER, b"newer"), then=8)
    ledger.proposed(7, MINE, b"newer", 3)
    told(ledger, 4, Vote(9, NEWER, b"page out of order"), start=9)
    with pytest.raises(Violation, match="what no majority allows"):
        PromiseLedger.proposed(ledger, 7, MINE, b"another", 3)


def test_what_a_page_did_not_tell_is_not_taken_for_no_vote() -> None:
    ledger = PromiseLedger(1)
    told(ledger, 1)
    told(ledger, 2)
    told(ledger, 3, then=5)
    with pytest.raises(Violation, match="with 2 whole promises"):
        ledger.proposed(7, MINE, b"x", 3)


def test_a_later_page_alone_makes_no_promise_whole() -> None:
    ledger = PromiseLedger(1)
    told(ledger, 1)
    told(ledger, 2)
    told(ledger, 3, then=5)
    told(ledger, 3, start=6)
    with pytest.raises(Violation, match="with 2 whole promises"):
        ledger.proposed(4, MINE, b"x", 3)
    told(ledger, 3, start=5)
    ledger.proposed(4, MINE, b"x", 3)
