"""Leases: how long a word is kept, what an acceptor has granted, what a learner may believe."""

from __future__ import annotations

from fractions import Fraction
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.lease import LeaseGrants, LeaseView, Notice, held_ms
from tests.unit.core_helpers import MS, ballot

MILLION = 1_000_000
OWN = ballot(3, 1)
ME = 7
"""Incarnation of the learner in these tests."""


# How long.


@given(
    st.integers(1, 100_000),
    st.integers(0, 500_000),
    st.fractions(-1, 1, max_denominator=1_000),
    st.fractions(-1, 1, max_denominator=1_000),
)
def test_whoever_grants_keeps_its_word_for_longer_than_it_is_believed_in(
    lease_ms: int, drift_ppm: int, holder: Fraction, granter: Fraction
) -> None:
    # Clocks that run at any speed within the drift, each at its own.
    drift = Fraction(drift_ppm, MILLION)
    believed = lease_ms / (1 + drift * holder)
    kept = held_ms(lease_ms, drift_ppm) / (1 + drift * granter)
    assert kept >= believed


@given(st.integers(1, 100_000), st.integers(0, 500_000))
def test_the_margin_is_no_larger_than_it_has_to_be(lease_ms: int, drift_ppm: int) -> None:
    exact = Fraction(lease_ms * (MILLION + drift_ppm), MILLION - drift_ppm)
    assert exact <= held_ms(lease_ms, drift_ppm) < exact + 1
    assert held_ms(lease_ms, 0) == lease_ms


# What an acceptor has granted.


def granted(*grants: tuple[Ballot, int]) -> LeaseGrants:
    found = LeaseGrants()
    for at, end_ms in grants:
        found.grant(at, end_ms * MS)
    return found


def bars(grants: LeaseGrants, member_id: int, now_ms: int = 0) -> int:
    return grants.bars_promise_ns(member_id, now_ms * MS) // MS


def test_a_grant_bars_promises_to_every_other_member_until_its_end() -> None:
    grants = granted((OWN, 100))
    assert bars(grants, 1) == 0
    assert bars(grants, 2) == bars(grants, 3) == 100
    assert bars(grants, 2, 99) == 1
    assert bars(grants, 2, 100) == 0


def test_a_grant_bars_grants_to_others_and_the_confirming_of_their_rounds() -> None:
    grants = granted((OWN, 100))
    for promise in (None, OWN, ballot(4, 2)):
        assert grants.bars_grant_ns(ballot(4, 2), promise, 30 * MS) == 70 * MS
        assert grants.bars_grant_ns(ballot(4, 1), promise, 30 * MS) == 0
    assert grants.bars_grant_ns(ballot(4, 2), OWN, 100 * MS) == 0


@pytest.mark.parametrize(
    ("first", "second", "end"),
    [
        ((ballot(3, 1), 100), (ballot(5, 1), 250), 250),
        ((ballot(3, 1), 300), (ballot(5, 1), 250), 300),
        ((ballot(5, 1), 100), (ballot(3, 1), 250), 250),
        ((ballot(3, 1, 1), 300), (ballot(3, 1, 2), 250), 300),
    ],
)
def test_a_newer_ballot_of_the_same_member_takes_its_place_with_the_later_end(
    first: tuple[Ballot, int], second: tuple[Ballot, int], end: int
) -> None:
    grants = granted(first, second)
    assert bars(grants, 2) == end
    assert bars(grants, 1) == 0
    # It stands for the newer of the two.
    grants.release(min(first[0], second[0]))
    assert bars(grants, 2) == end
    grants.release(max(first[0], second[0]))
    assert bars(grants, 2) == 0


def test_a_release_ends_the_grants_of_its_ballot_and_below() -> None:
    for at in (ballot(1), ballot(2), OWN):
        grants = granted((at, 100))
        grants.release(OWN)
        assert bars(grants, 2) == 0


@pytest.mark.parametrize("released", [ballot(2, 1), ballot(3, 1, 0), ballot(9, 2)])
def test_a_release_of_an_older_ballot_or_of_another_member_leaves_a_grant(
    released: Ballot,
) -> None:
    # Schedules 6 and 21: it was delayed into a later reign of the same member.
    grants = granted((OWN, 100))
    grants.release(released)
    assert bars(grants, 2) == 100


def test_a_released_ballot_is_granted_nothing_any_more() -> None:
    grants = LeaseGrants()
    assert grants.may_grant(OWN)
    grants.release(OWN)
    for at in (OWN, ballot(2, 1), ballot(3, 1, 0)):
        assert not grants.may_grant(at)
    for at in (ballot(4, 1), ballot(3, 1, 2), ballot(1, 2), ballot(3, 2)):
        assert grants.may_grant(at)
    grants.release(ballot(1, 1))
    assert not grants.may_grant(OWN), "an older release, late, gives nothing back"


def test_a_life_that_knows_no_grants_promises_nobody_anything_for_the_longest() -> None:
    grants = LeaseGrants()
    grants.opened(50 * MS, 100)
    for member_id in (1, 2, 3):
        assert bars(grants, member_id, 50) == 100
        assert bars(grants, member_id, 149) == 1
        assert bars(grants, member_id, 150) == 0
    # What was granted was granted at or below the promise; at the promise, to that very ballot.
    promise = ballot(4, 2)
    assert grants.bars_grant_ns(promise, promise, 60 * MS) == 0
    for at in (ballot(5, 2), ballot(4, 3), ballot(4, 2, 2)):
        assert grants.bars_grant_ns(at, promise, 60 * MS) == 90 * MS


def test_a_life_after_one_that_never_granted_anything_waits_for_nothing() -> None:
    grants = LeaseGrants()
    grants.opened(50 * MS, 0)
    assert bars(grants, 2, 50) == 0
    assert grants.bars_grant_ns(ballot(5, 2), None, 50 * MS) == 0


def test_hearsay_bars_pre_votes_of_others_and_nothing_else() -> None:
    grants = LeaseGrants()
    grants.heard(OWN, 100 * MS)
    assert grants.bars_pre_vote_ns(2, 30 * MS) == 70 * MS
    assert grants.bars_pre_vote_ns(2, 100 * MS) == 0
    assert grants.bars_pre_vote_ns(1, 30 * MS) == 0
    assert bars(grants, 2, 30) == 0
    assert grants.bars_grant_ns(ballot(4, 2), OWN, 30 * MS) == 0


def test_a_pre_vote_is_barred_by_whatever_bars_a_promise() -> None:
    grants = granted((OWN, 100))
    grants.heard(OWN, 40 * MS)
    assert grants.bars_pre_vote_ns(2, 0) == 100 * MS
    grants = LeaseGrants()
    grants.opened(0, 100)
    assert grants.bars_pre_vote_ns(1, 0) == 100 * MS


def test_after_a_release_the_master_is_hearsay_no_more() -> None:
    grants = granted((OWN, 100))
    grants.heard(OWN, 100 * MS)
    grants.release(ballot(9, 2))
    assert grants.bars_pre_vote_ns(2, 0) == 100 * MS
    grants.release(ballot(OWN.round - 1, 1))
    assert grants.bars_pre_vote_ns(2, 0) == 100 * MS, "an old release says nothing of a later reign"
    grants.release(OWN)
    assert grants.bars_pre_vote_ns(2, 0) == 0
    grants.release(ballot(9, 2))
    assert not grants.may_grant(OWN), "another's release does not make it live again"


moves = st.one_of(
    st.tuples(st.just("grant"), st.integers(1, 4), st.integers(1, 3), st.integers(0, 40)),
    st.tuples(st.just("release"), st.integers(1, 4), st.integers(1, 3), st.just(0)),
    st.tuples(st.just("wait"), st.just(0), st.just(0), st.integers(0, 20)),
)


@given(st.lists(moves, max_size=25))
def test_a_grant_is_kept_until_its_end_or_its_release(
    sequence: list[tuple[str, int, int, int]],
) -> None:
    """As an acceptor plays it: it grants only what it may, and what nothing bars."""
    grants = LeaseGrants()
    now_ns = 0
    given: list[tuple[Ballot, int]] = []
    for kind, round, member_id, milliseconds in sequence:
        at = ballot(round, member_id)
        if kind == "wait":
            now_ns += milliseconds * MS
        elif kind == "release":
            grants.release(at)
            given = [g for g in given if g[0].member_id != member_id or g[0] > at]
        elif grants.may_grant(at) and not grants.bars_grant_ns(at, None, now_ns):
            end_ns = now_ns + milliseconds * MS
            grants.grant(at, end_ns)
            given.append((at, end_ns))
        holders = {g[0].member_id for g in given if g[1] > now_ns}
        assert len(holders) <= 1
        for other in (1, 2, 3):
            ends = [g[1] - now_ns for g in given if g[0].member_id != other]
            # A release of an older ballot may leave more than what was given for the later one.
            assert grants.bars_promise_ns(other, now_ns) >= max([0, *ends])
            if not holders:
                continue
            if {other} == holders:
                assert grants.bars_promise_ns(other, now_ns) == 0


# What a learner may believe.


def notice(at: Ballot = OWN, *, config_id: int = 0, until: int = 100, chosen: int = 40) -> Notice:
    return Notice(at, config_id, until * MS, chosen)


def view(*notices: Notice) -> LeaseView:
    found = LeaseView(ME)
    for told in notices:
        found.heard(1)
        found.noticed(told, 1, ME)
    return found


def point(
    view: LeaseView, now_ms: int = 0, *, config_id: int = 0, learned: Ballot | None = OWN
) -> int | None:
    return view.read_point(now_ms * MS, config_id, learned)


def test_a_notice_is_believed_until_its_end_and_no_longer() -> None:
    told = view(notice())
    assert point(LeaseView(ME)) is None
    assert point(told) == 40
    assert point(told, 99) == 40
    assert point(told, 100) is None
    assert point(told, learned=None) == 40


def test_a_notice_of_an_old_configuration_is_void() -> None:
    assert point(view(notice(config_id=5)), config_id=5) == 40
    assert point(view(notice(config_id=5)), config_id=9) is None
    assert point(view(notice(config_id=9)), config_id=5) is None


def test_who_learned_at_a_higher_ballot_believes_no_notice_below() -> None:
    assert point(view(notice()), learned=ballot(3, 2)) is None
    assert point(view(notice()), learned=ballot(2, 9)) == 40


def test_a_notice_for_another_life_of_the_learner_is_void() -> None:
    # Schedule 5: that one had applied what this one may not have.
    for incarnation in (ME - 1, ME + 1):
        told = LeaseView(ME)
        told.noticed(notice(), 1, incarnation)
        assert point(told) is None


def test_a_later_life_of_the_proposer_voids_what_the_one_before_said() -> None:
    told = view(notice())
    told.heard(2)
    assert point(told) is None
    told.noticed(notice(), 1, ME)
    assert point(told) is None, "and whatever it said that comes late"
    told.heard(1)
    assert told.proposer_incarnation == 2
    told.noticed(notice(ballot(4, 1, 2)), 2, ME)
    assert point(told, learned=ballot(4, 1, 2)) == 40


def test_a_revocation_voids_all_notices_at_or_below_it_for_ever() -> None:
    told = view(notice())
    told.revoke(OWN)
    assert point(told) is None
    told.noticed(notice(until=500), 1, ME)
    told.noticed(notice(ballot(2, 1), until=500), 1, ME)
    assert point(told) is None
    told.revoke(ballot(1, 1))
    assert told.revoked == OWN, "it never falls"
    told.noticed(notice(until=500), 1, ME)
    assert point(told) is None
    told.noticed(notice(ballot(4, 1)), 1, ME)
    assert point(told, learned=ballot(4, 1)) == 40


def test_a_revocation_of_an_older_ballot_leaves_a_later_reigns_notice() -> None:
    told = view(notice())
    told.revoke(ballot(2, 1))
    assert point(told) == 40


def test_of_two_notices_the_later_is_kept_whichever_comes_first() -> None:
    older, newer = notice(until=100, chosen=40), notice(until=200, chosen=60)
    for order in permutations([older, newer]):
        assert point(view(*order), 150) == 60
        assert point(view(*order), 50) == 60, "it has to see the newer one's instances, too"
    earlier_reign = notice(ballot(2, 1), until=500, chosen=90)
    for order in permutations([earlier_reign, newer]):
        assert point(view(*order), 50) == 60
        assert point(view(*order), 300) is None


# Each event of schedule 22: a notice (life of the proposer, ballot, config_id, until), a
# revocation, a message of another life, the clock. The learner follows configuration 0.
happenings = st.one_of(
    st.tuples(
        st.just("notice"),
        st.integers(1, 3),
        st.integers(1, 4),
        st.sampled_from([0, 0, 0, 5]),
        st.integers(1, 60),
        st.sampled_from([ME, ME, ME, ME - 1]),
    ),
    st.tuples(st.just("revoke"), st.integers(1, 4), st.integers(1, 3)),
    st.tuples(st.just("heard"), st.integers(1, 3)),
    st.tuples(st.just("wait"), st.integers(0, 30)),
)


@given(st.lists(happenings, max_size=20))
def test_whatever_the_order_no_read_rests_on_a_void_notice(
    sequence: list[tuple[object, ...]],
) -> None:
    told = LeaseView(ME)
    now_ns, newest_life = 0, 0
    revoked: list[Ballot] = []
    given: list[tuple[int, Notice, int]] = []
    for happening in sequence:
        match happening:
            case ("notice", int(life), int(round), int(config_id), int(until), int(learner)):
                at = Ballot(round, 1, life)
                said = Notice(at, config_id, until * MS, 10 * len(given) + 1)
                given.append((life, said, learner))
                told.heard(life)
                told.noticed(said, life, learner)
                newest_life = max(newest_life, life)
            case ("revoke", int(round), int(life)):
                told.heard(life)
                told.revoke(Ballot(round, 1, life))
                revoked.append(Ballot(round, 1, life))
                newest_life = max(newest_life, life)
            case ("heard", int(life)):
                told.heard(life)
                newest_life = max(newest_life, life)
            case ("wait", int(milliseconds)):
                now_ns += milliseconds * MS
        found = told.read_point(now_ns, 0, None)
        good = [
            said.chosen_through
            for life, said, learner in given
            if life == newest_life
            and learner == ME
            and said.config_id == 0
            and said.until_ns > now_ns
            and not any(at >= said.ballot for at in revoked)
        ]
        assert found is None or found in good
        assert told.proposer_incarnation == newest_life
        assert told.revoked == max(revoked, default=None)
