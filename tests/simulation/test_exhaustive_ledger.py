"""The exhaustive walk's judge: what must not be true of a history beside what is."""

from __future__ import annotations

import pytest

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.genesis import Configuration, Voter
from ray_paxos.core.values import MembershipEntry, MembershipKind, Value, encode_value
from ray_paxos.testing.exhaustive.facts import (
    Claimed,
    ClaimedThrough,
    Created,
    Fact,
    Followed,
    Forgotten,
    PartChanged,
    Promised,
    Proposed,
    Sealed,
    Told,
    Used,
    Voted,
    Voting,
)
from ray_paxos.testing.exhaustive.ledger import Ledger
from ray_paxos.testing.exhaustive.parts import CONFIGURATION, REPLICAS, A, B, C, D
from ray_paxos.testing.violation import Violation

REMOVE_B, ADD_D, REMOVE_D = (
    encode_value(Value(0, (MembershipEntry(kind, member_id, expected),)))
    for kind, member_id, expected in (
        (MembershipKind.REMOVE, B, 0),
        (MembershipKind.ADD, D, 0),
        (MembershipKind.REMOVE, D, 1),
    )
)
NOTHING = encode_value(Value(0, ()))
WITHOUT_B = Configuration(1, (Voter(A, 11), Voter(C, 13)), (), 14)
FIRST, SECOND = Ballot(1, A, 1), Ballot(2, A, 1)


def voter(member_id: int) -> Voter:
    return Voter(member_id, REPLICAS[member_id])


def chosen(
    instance_id: int, ballot: Ballot, value: bytes, voters: tuple[int, ...], config_id: int
) -> list[Fact]:
    """A value is proposed, by the promises of these voters, and they vote for it."""
    return [
        Used(ballot, 1, config_id),
        *(Promised(ballot, voter(member_id), config_id, 1, ()) for member_id in voters),
        Proposed(instance_id, ballot, value),
        *(Voted(instance_id, ballot, voter(member_id), config_id) for member_id in voters),
    ]


B_REMOVED = [*chosen(1, FIRST, REMOVE_B, (A, C), 0), Sealed(A, 1)]
"""A and C have removed B at instance 1, which is durable at A."""
A_LEADS_ON = [
    *B_REMOVED,
    Used(SECOND, 1, 1),
    Promised(SECOND, voter(A), 1, 1, ()),
    Promised(SECOND, voter(C), 1, 1, ()),
]
B_AT_FIRST = Ballot(1, B, 1)
TWO_CHANGES = [
    *chosen(1, FIRST, ADD_D, (A, C), 0),
    Sealed(A, 1),
    *chosen(2, SECOND, REMOVE_D, (A, C), 1),
    *chosen(3, B_AT_FIRST, NOTHING, (B, C), 0)[:-1],
]

WRONG = [
    # Ballots.
    (A_LEADS_ON, Used(SECOND, 2, 1), "ballots: .* in the lives 1 and 2"),
    (A_LEADS_ON, Used(FIRST, 1, 1), "R5: .* under the configurations 0 and 1"),
    (B_REMOVED, Used(Ballot(3, C, 1), 1, 1), "R5: C.proposer goes by the configuration 1"),
    (B_REMOVED, Used(Ballot(3, C, 1), 1, 7), "R5: .* counts configuration 7, which nobody chose"),
    # Promises, proposals and votes.
    (A_LEADS_ON, Promised(SECOND, voter(B), 1, 1, ()), "R5: B .* promises without a vote in 1"),
    (A_LEADS_ON, Proposed(1, SECOND, NOTHING), "R5: .* proposes at 1 under the configuration 1"),
    (B_REMOVED, Proposed(2, FIRST, NOTHING), "R5: .* above its membership entry at 1"),
    (A_LEADS_ON[:-1], Proposed(2, SECOND, NOTHING), "P2c: no majority of A"),
    (
        [*A_LEADS_ON, Proposed(2, SECOND, NOTHING)],
        Voted(2, SECOND, voter(C), 0),
        "R5: C .* under 0; it is counted under 1",
    ),
    (
        [*A_LEADS_ON, Proposed(2, SECOND, NOTHING)],
        Voted(2, SECOND, voter(B), 1),
        "R5: B .* without a vote in 1",
    ),
    (TWO_CHANGES, Voted(3, B_AT_FIRST, voter(C), 0), r"R5: 3 is chosen under .* \[0\]; 2 governs"),
    # What is said and followed.
    (B_REMOVED, Claimed(2, NOTHING, "C"), "R4: C takes .* for chosen at instance 2"),
    (B_REMOVED, Claimed(1, NOTHING, "C"), "R4: C takes .* where"),
    (B_REMOVED, ClaimedThrough(2, "C"), r"R4: C takes all up to 2 .* \[2\] are not"),
    (
        B_REMOVED,
        Followed(Configuration(1, CONFIGURATION.voters), "C"),
        "R5: C follows .* it is",
    ),
    (B_REMOVED, Told(C, 1), "R5: C.proposer goes by the configuration 1"),
    (B_REMOVED, Voting(voter(C), WITHOUT_B), "R5: C.acceptor goes by the configuration 1"),
    (B_REMOVED, Voting(voter(B), WITHOUT_B), "R5: B.acceptor votes as 12 under 1"),
    (
        B_REMOVED,
        Voting(voter(A), Configuration(1, CONFIGURATION.voters)),
        "R5: A.acceptor follows .* it is",
    ),
    # What members are.
    (B_REMOVED, Created(voter(B), 0, 1), "groups: B, replica 12, is made again"),
    (B_REMOVED, Created(voter(D), 1, 1), "R5: D, replica 14, begins at 1, by the entry 1"),
    (B_REMOVED, Forgotten(voter(C)), "groups: C forgets 13, as which it votes"),
    (B_REMOVED, Forgotten(voter(B)), "groups: B forgets 12; no majority"),
    (B_REMOVED, PartChanged(voter(C), True), "groups: C leaves, and is named"),
    (
        [*B_REMOVED, PartChanged(voter(B), True)],
        PartChanged(voter(B), False),
        "groups: B takes part again as 12, which has left",
    ),
]


def after(facts: list[Fact]) -> Ledger:
    ledger = Ledger(CONFIGURATION)
    for fact in facts:
        ledger = ledger.after(fact)
    return ledger


@pytest.mark.parametrize(("facts", "wrong", "what"), WRONG)
def test_what_must_not_be(facts, wrong, what):
    ledger = after(facts)
    with pytest.raises(Violation, match=what):
        ledger.after(wrong)


RIGHT = [
    (B_REMOVED, Used(Ballot(3, A, 1), 1, 1)),
    (A_LEADS_ON, Proposed(2, SECOND, NOTHING)),
    ([*B_REMOVED, Sealed(C, 1)], Used(Ballot(3, C, 1), 1, 1)),
    ([*B_REMOVED, Sealed(C, 1)], Voting(voter(C), WITHOUT_B)),
    ([*B_REMOVED, Sealed(C, 1)], Forgotten(voter(B))),
    (B_REMOVED, Followed(WITHOUT_B, "B")),
    (B_REMOVED, Created(voter(D), 1, 2)),
    (B_REMOVED, PartChanged(voter(B), True)),
    ([*B_REMOVED, PartChanged(voter(B), True)], PartChanged(Voter(B, 15), False)),
]


@pytest.mark.parametrize(("facts", "right"), RIGHT)
def test_what_may_be(facts, right):
    """Each of them is near to something that must not be."""
    after([*facts, right])


def test_a_promise_under_another_configuration_counts_for_nothing():
    """It is dropped: two of one configuration are no majority with it."""
    late = Promised(SECOND, voter(C), 0, 1, ())
    ledger = after([*A_LEADS_ON[:-1], late])
    with pytest.raises(Violation, match="P2c"):
        ledger.after(Proposed(2, SECOND, NOTHING))


def test_a_ledger_is_the_same_in_whatever_order():
    in_order = after(A_LEADS_ON)
    first, second, *rest = A_LEADS_ON[1:3]
    assert after([A_LEADS_ON[0], second, first, *rest, *A_LEADS_ON[3:]]).facts == in_order.facts
    assert in_order.configurations.current == WITHOUT_B
