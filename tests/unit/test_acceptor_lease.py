"""The acceptor's word to a master: leases, rounds it confirms, pre-votes, restarts (design 6)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.effects import Effects
from ray_paxos.core.events import AcceptRejected, MessageRefused
from ray_paxos.core.lease import held_ms
from ray_paxos.core.messages import (
    Accepted,
    Address,
    Heartbeat,
    HeartbeatConfirmed,
    LeaseRelease,
    Message,
    Nack,
    NackReason,
    PreVote,
    PreVoteGranted,
    Promise,
)
from ray_paxos.core.records import LeaseLengthened, PromiseMade, VoteCast
from tests.unit.core_helpers import (
    GROUP,
    LATER_CONFIGURATION,
    MS,
    POINT,
    AcceptorBench,
    ballot,
    client,
    happened,
    learner_of,
    proposer_of,
)

LEASE_MS = 2_000
HELD_MS = held_ms(LEASE_MS, 10_000)
OWN = ballot(3, 1)
OTHER = ballot(4, 3)


@pytest.fixture
def bench() -> AcceptorBench:
    return AcceptorBench()


def reply(effects: Effects) -> Message:
    """The one answer; it waits for the sync, whatever it is (R3)."""
    assert not effects.sends_now
    (send,) = effects.sends_after_sync
    return send.message


def leased(effects: Effects) -> int:
    """For how many milliseconds it says it is bound; it changed nothing."""
    nack = reply(effects)
    assert isinstance(nack, Nack)
    assert nack.reason is NackReason.LEASED
    assert effects.records == []
    assert [event.reason for event in happened(effects, AcceptRejected)] == [nack.reason]
    return nack.wait_ms


def is_promised(effects: Effects) -> bool:
    return isinstance(reply(effects), Promise)


def lead(bench: AcceptorBench, at: Ballot = OWN, *, lease_ms: int = LEASE_MS) -> None:
    """A master with a lease, from now on."""
    bench.prepare(at)
    assert reply(bench.beat(at, lease_ms=lease_ms)) == HeartbeatConfirmed(at, 1)


# Grants.


def test_a_grant_bars_the_prepares_and_heartbeats_of_others_never_their_accepts(
    bench: AcceptorBench,
) -> None:
    lead(bench)
    bench.now_ns = 500 * MS
    assert leased(bench.prepare(OTHER)) == HELD_MS - 500
    assert leased(bench.beat(OTHER)) == HELD_MS - 500
    assert leased(bench.pre_vote(OTHER)) == HELD_MS - 500
    assert bench.votes.promise == OWN
    assert reply(bench.accept(OTHER, 1)) == Accepted(OTHER, 1)
    assert bench.votes.promise == OTHER
    bench.now_ns = HELD_MS * MS - 1
    assert leased(bench.prepare(ballot(5, 3))) == 1, "rounded up: no earlier than it may"
    bench.now_ns = HELD_MS * MS
    assert is_promised(bench.prepare(ballot(5, 3)))


def test_the_margin_is_the_acceptors_own() -> None:
    bench = AcceptorBench(drift_ppm=100_000)
    lead(bench)
    assert leased(bench.prepare(OTHER)) == held_ms(LEASE_MS, 100_000) > HELD_MS


@pytest.mark.parametrize("how", ["heartbeat", "accept"])
def test_each_confirmation_lengthens_it_from_when_it_is_answered(
    bench: AcceptorBench, how: str
) -> None:
    lead(bench)
    bench.now_ns = 1_500 * MS
    if how == "heartbeat":
        bench.beat(OWN, 2, lease_ms=LEASE_MS)
    else:
        bench.accept(OWN, 1, sequence=2, lease_ms=LEASE_MS)
    assert leased(bench.prepare(OTHER)) == HELD_MS


def test_a_repeated_accept_grants_as_the_first_did(bench: AcceptorBench) -> None:
    bench.accept(OWN, 1, sequence=2, lease_ms=LEASE_MS)
    bench.now_ns = 1_500 * MS
    effects = bench.accept(OWN, 1, sequence=5, lease_ms=LEASE_MS)
    assert reply(effects) == Accepted(OWN, 1, 5)
    assert effects.records == []
    assert leased(bench.prepare(OTHER)) == HELD_MS


def test_a_promise_grants_nothing(bench: AcceptorBench) -> None:
    bench.prepare(OWN)
    assert is_promised(bench.prepare(OTHER))


def test_without_a_length_nothing_is_granted_but_rounds_are_confirmed(
    bench: AcceptorBench,
) -> None:
    bench.prepare(OWN)
    assert reply(bench.beat(OWN, 8)) == HeartbeatConfirmed(OWN, 8)
    assert reply(bench.accept(OWN, 1, sequence=9)) == Accepted(OWN, 1, 9)
    assert [r for r in bench.records if isinstance(r, LeaseLengthened)] == []
    assert is_promised(bench.prepare(OTHER))


def test_a_shorter_lease_takes_nothing_back(bench: AcceptorBench) -> None:
    lead(bench)
    bench.beat(OWN, 2, lease_ms=100)
    assert leased(bench.prepare(OTHER)) == HELD_MS


def test_the_same_member_may_always_prepare_and_its_new_ballot_takes_the_place(
    bench: AcceptorBench,
) -> None:
    lead(bench)
    later = ballot(6, 1, 2)
    assert isinstance(reply(bench.pre_vote(later)), PreVoteGranted)
    assert is_promised(bench.prepare(later))
    assert leased(bench.prepare(ballot(7, 3))) == HELD_MS, "the older one is still believed in"
    bench.now_ns = 1_000 * MS
    bench.beat(later, lease_ms=100)
    assert leased(bench.prepare(ballot(7, 3))) == HELD_MS - 1_000, "the later of the two ends"
    bench.release(OWN)
    assert leased(bench.prepare(ballot(7, 3))) == HELD_MS - 1_000, "an older release, late"


def test_a_repeated_prepare_is_answered_whatever_was_granted_since(bench: AcceptorBench) -> None:
    # The promise that it repeats was given before: pages are read with it.
    lead(bench)
    bench.accept(OTHER, 1)
    assert is_promised(bench.prepare(OTHER, 2))


# At or above the promise only.


def test_nothing_is_confirmed_or_granted_below_the_promise(bench: AcceptorBench) -> None:
    # Schedule 23.
    bench.prepare(ballot(7, 3))
    for effects in (
        bench.beat(ballot(6, 1), lease_ms=LEASE_MS),
        bench.accept(ballot(6, 1), 1, sequence=4, lease_ms=LEASE_MS),
    ):
        nack = reply(effects)
        assert isinstance(nack, Nack)
        assert nack.reason is NackReason.PROMISED
        assert effects.records == []
    assert is_promised(bench.prepare(ballot(8, 2)))


def test_the_promise_is_raised_durably_before_a_round_above_it_is_confirmed(
    bench: AcceptorBench,
) -> None:
    bench.prepare(ballot(1, 1))
    effects = bench.beat(OWN, 4, lease_ms=LEASE_MS)
    assert effects.records == [PromiseMade(GROUP, OWN), LeaseLengthened(GROUP, HELD_MS)]
    assert reply(effects) == HeartbeatConfirmed(OWN, 4)
    effects = bench.accept(ballot(5, 1), 1, sequence=6, lease_ms=LEASE_MS)
    assert effects.records == [VoteCast(GROUP, 1, ballot(5, 1), b"v")]
    assert reply(effects) == Accepted(ballot(5, 1), 1, 6)


def test_a_vote_names_no_round_where_another_members_grant_runs(bench: AcceptorBench) -> None:
    lead(bench)
    effects = bench.accept(OTHER, 1, sequence=6, lease_ms=LEASE_MS)
    assert reply(effects) == Accepted(OTHER, 1, 0)
    bench.now_ns = 100 * MS
    assert leased(bench.beat(OTHER, lease_ms=LEASE_MS)) == HELD_MS - 100
    bench.now_ns = HELD_MS * MS
    assert reply(bench.accept(OTHER, 2, sequence=7)) == Accepted(OTHER, 2, 7)


@pytest.mark.parametrize("config_id", [0, 99])
def test_a_round_of_another_configuration_is_not_confirmed(config_id: int) -> None:
    bench = AcceptorBench(LATER_CONFIGURATION)
    heartbeat = Heartbeat(OWN, 1, True, 0, 0, POINT, 0, LEASE_MS)
    nack = reply(bench.ask(heartbeat, proposer_of(1), config_id=config_id))
    assert isinstance(nack, Nack)
    assert bench.votes.longest_lease_ms == 0
    assert isinstance(reply(bench.pre_vote(ballot(4, 4))), PreVoteGranted)


# Releases.


def test_a_release_frees_the_acceptor_and_the_ballot_is_dead(bench: AcceptorBench) -> None:
    lead(bench)
    effects = bench.release(OWN)
    assert (effects.records, effects.sends_after_sync) == ([], [])
    bench.beat(OWN, 2, lease_ms=LEASE_MS)
    bench.accept(OWN, 1, sequence=3, lease_ms=LEASE_MS)
    assert is_promised(bench.prepare(OTHER)), "late messages of the dead ballot grant nothing"


def test_the_successors_prepare_carries_the_release(bench: AcceptorBench) -> None:
    lead(bench)
    assert leased(bench.prepare(OTHER, released=ballot(2, 1))) == HELD_MS, "an older reign's"
    assert leased(bench.prepare(OTHER, released=ballot(9, 2))) == HELD_MS
    assert is_promised(bench.prepare(OTHER, released=OWN))


def test_a_prepare_that_is_refused_releases_nothing(bench: AcceptorBench) -> None:
    lead(bench)
    nack = reply(bench.prepare(ballot(2, 3), released=OWN))
    assert isinstance(nack, Nack)
    assert nack.reason is NackReason.PROMISED
    assert leased(bench.prepare(OTHER)) == HELD_MS


@pytest.mark.parametrize("sender", [proposer_of(3), learner_of(3), client(1_000)])
def test_only_the_holders_member_releases(bench: AcceptorBench, sender: Address) -> None:
    lead(bench)
    effects = bench.ask(LeaseRelease(OWN), sender)
    assert happened(effects, MessageRefused)
    assert leased(bench.prepare(OTHER)) == HELD_MS


# Restarts.


def test_the_longest_length_is_durable_before_it_is_granted_and_once(
    bench: AcceptorBench,
) -> None:
    bench.prepare(OWN)
    lengths = []
    for sequence, lease_ms in enumerate((500, 300, 500, LEASE_MS, 1_000, LEASE_MS), start=1):
        effects = bench.beat(OWN, sequence, lease_ms=lease_ms)
        lengths += [r.held_ms for r in effects.records if isinstance(r, LeaseLengthened)]
        assert reply(effects) == HeartbeatConfirmed(OWN, sequence)
    assert lengths == [held_ms(500, 10_000), HELD_MS]
    assert bench.votes.longest_lease_ms == HELD_MS


def test_after_a_restart_nobody_is_promised_anything_for_the_longest_length(
    bench: AcceptorBench,
) -> None:
    lead(bench)
    bench.now_ns = 700 * MS
    bench.restart()
    for at in (OTHER, ballot(4, 1), ballot(4, 2)):
        assert leased(bench.prepare(at)) == HELD_MS
        assert leased(bench.pre_vote(at)) == HELD_MS
        assert leased(bench.beat(at, lease_ms=100)) == HELD_MS
    bench.now_ns = (700 + HELD_MS) * MS - 1
    assert leased(bench.prepare(OTHER, released=OWN)) == 1, "it does not know whom it granted"
    bench.now_ns += 1
    assert is_promised(bench.prepare(OTHER))


def test_after_a_restart_rounds_are_confirmed_and_granted_at_the_promise_itself(
    bench: AcceptorBench,
) -> None:
    lead(bench)
    bench.restart()
    assert reply(bench.beat(OWN, 9, lease_ms=LEASE_MS)) == HeartbeatConfirmed(OWN, 9)
    assert reply(bench.accept(OWN, 1, sequence=10)) == Accepted(OWN, 1, 10)
    assert is_promised(bench.prepare(OWN, 2)), "and the promise is given again"


def test_after_a_restart_a_vote_above_the_promise_confirms_no_round(bench: AcceptorBench) -> None:
    lead(bench)
    bench.restart()
    assert reply(bench.accept(OTHER, 1, sequence=4)) == Accepted(OTHER, 1, 0)
    assert reply(bench.accept(OTHER, 2, sequence=5)) == Accepted(OTHER, 2, 0)
    assert isinstance(reply(bench.beat(OTHER, 6)), Nack), "it is the promise now, not then"
    bench.now_ns += 2 * LEASE_MS * MS
    assert reply(bench.accept(OTHER, 3, sequence=7)) == Accepted(OTHER, 3, 7)


def test_a_lease_shortened_by_a_rolling_restart_is_kept_as_long_as_it_was(
    bench: AcceptorBench,
) -> None:
    # Schedule 8.
    lead(bench)
    bench.restart()
    bench.beat(OWN, 2, lease_ms=100)
    bench.now_ns = 300 * MS
    assert leased(bench.prepare(OTHER)) == HELD_MS - 300
    bench.restart()
    assert leased(bench.prepare(OTHER)) == HELD_MS, "and by every life from here on"


def test_an_acceptor_that_never_granted_anything_waits_for_nothing(bench: AcceptorBench) -> None:
    bench.prepare(OWN)
    bench.beat(OWN)
    bench.restart()
    assert is_promised(bench.prepare(OTHER))


# Pre-votes.


def test_a_pre_vote_changes_nothing(bench: AcceptorBench) -> None:
    bench.prepare(OWN)
    for at in (OTHER, ballot(50, 3), OWN):
        effects = bench.pre_vote(at)
        assert reply(effects) == PreVoteGranted(at)
        assert effects.records == []
    assert bench.votes.promise == OWN
    assert is_promised(bench.prepare(ballot(4, 1)))


def test_a_pre_vote_below_the_promise_is_told_the_promise(bench: AcceptorBench) -> None:
    bench.prepare(OTHER)
    assert reply(bench.pre_vote(OWN)) == Nack(OWN, 0, NackReason.PROMISED, OTHER, 0)


@pytest.mark.parametrize("lease_ms", [0, 100])
def test_while_a_confirmed_master_is_heard_of_nobody_else_gets_a_pre_vote(
    bench: AcceptorBench, lease_ms: int
) -> None:
    bench.prepare(OWN)
    bench.beat(OWN, 2, lease_ms=lease_ms)
    bench.now_ns = 400 * MS
    assert leased(bench.pre_vote(OTHER)) == 600
    assert reply(bench.pre_vote(ballot(4, 1))) == PreVoteGranted(ballot(4, 1))
    assert is_promised(bench.prepare(OTHER)), "hearsay is no promise"
    bench.now_ns = 1_000 * MS
    assert reply(bench.pre_vote(ballot(5, 3))) == PreVoteGranted(ballot(5, 3))


def test_an_unconfirmed_master_keeps_nobody_from_standing(bench: AcceptorBench) -> None:
    bench.prepare(OWN)
    bench.beat(OWN, 2, confirmed=False)
    assert reply(bench.pre_vote(OTHER)) == PreVoteGranted(OTHER)


def test_a_refused_heartbeat_is_no_hearsay(bench: AcceptorBench) -> None:
    bench.prepare(ballot(7, 3))
    bench.beat(ballot(6, 1))
    assert reply(bench.pre_vote(ballot(8, 2))) == PreVoteGranted(ballot(8, 2))


def test_who_does_not_vote_gets_no_pre_vote_and_one_with_a_full_disk_gives_none(
    bench: AcceptorBench,
) -> None:
    for sender, replica_id in ((proposer_of(3), 12), (proposer_of(4), 14), (proposer_of(1), None)):
        nack = reply(bench.ask(PreVote(OTHER), sender, replica_id=replica_id))
        assert isinstance(nack, Nack)
        assert nack.reason is NackReason.NOT_A_VOTER
    bench.acceptor.storage_full = True
    nack = reply(bench.pre_vote(OTHER))
    assert isinstance(nack, Nack)
    assert nack.reason is NackReason.STORAGE_FULL


# Any sequence: what was granted is kept, in whatever order it comes, over any restart.

moves = st.tuples(
    st.sampled_from(["beat", "accept", "prepare", "wait", "wait", "restart", "release"]),
    st.integers(1, 6),
    st.sampled_from([1, 3]),
    st.integers(1, 300),
)


@given(st.lists(moves, max_size=25))
def test_whatever_happens_no_promise_to_others_before_a_grant_is_over(
    sequence: list[tuple[str, int, int, int]],
) -> None:
    bench = AcceptorBench(drift_ppm=0)
    ends: dict[int, dict[Ballot, int]] = {1: {}, 3: {}}
    released: set[Ballot] = set()
    for number, (kind, round, member_id, milliseconds) in enumerate(sequence, start=1):
        at = ballot(round, member_id)
        other = 4 - member_id
        before = bench.votes.promise
        match kind:
            case "wait":
                bench.now_ns += milliseconds * MS
            case "restart":
                bench.restart()
                # At its promise it confirms at once. Another member's accept may have raised that
                # above a grant: who sends accepts has a majority's promises, which were given
                # after the lease was over, whatever this acceptor still held of it.
                if before is not None and before.member_id == other:
                    ends[member_id] = {}
                elif before is not None:
                    ends[other] = {b: end for b, end in ends[other].items() if b > before}
            case "release":
                bench.release(at)
                released.add(at)
                for held in [b for b in ends[member_id] if b <= at]:
                    del ends[member_id][held]
            case "beat" | "accept":
                if any(r.member_id == member_id and at <= r for r in released):
                    # Its holder sends nothing at it any more; what is late is not believed in.
                    continue
                if kind == "beat":
                    answer = reply(bench.beat(at, number, lease_ms=milliseconds))
                    confirmed = isinstance(answer, HeartbeatConfirmed)
                else:
                    made = bench.accept(at, number, sequence=number, lease_ms=milliseconds)
                    answer = reply(made)
                    confirmed = isinstance(answer, Accepted) and answer.sequence > 0
                if confirmed:
                    assert before is None or at >= before
                    assert bench.votes.promise == at
                    assert all(end <= bench.now_ns for end in ends[other].values())
                    end_ns = bench.now_ns + milliseconds * MS
                    ends[member_id][at] = max(end_ns, ends[member_id].get(at, 0))
            case "prepare":
                answer = reply(bench.prepare(at))
                if isinstance(answer, Promise) and at != before:
                    assert all(end <= bench.now_ns for end in ends[other].values())


def test_a_late_heartbeat_of_a_released_ballot_is_no_word_of_it(bench: AcceptorBench) -> None:
    lead(bench)
    bench.release(OWN)
    assert bench.beat(OWN, 7, lease_ms=LEASE_MS) == Effects()
    assert reply(bench.pre_vote(OTHER)) == PreVoteGranted(OTHER)
