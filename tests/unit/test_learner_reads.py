"""What a learner answers by itself: under its member's lease, or fresh enough (R8, design 6)."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.client_messages import (
    Consistency,
    Query,
    QueryAnswers,
    QueryFailed,
    QueryMany,
    QueryProblem,
    QueryResult,
)
from ray_paxos.core.effects import Effects
from ray_paxos.core.events import MessageRefused
from ray_paxos.core.learner_messages import (
    CatchUp,
    LearnerStatus,
)
from ray_paxos.core.learner_reads import ROUNDS_MAX, LearnerReads
from ray_paxos.core.messages import (
    Address,
    HeardFrom,
    Heartbeat,
    LeaseNotice,
    RevokeLease,
)
from tests.unit.core_helpers import (
    LATER_CONFIGURATION,
    MS,
    POINT,
    acceptor_of,
    ballot,
    chosen,
    client,
    happened,
    proposer_of,
    receivers,
    sends,
    sent,
)
from tests.unit.learner_bench import ME, LearnerBench

OWN = ballot(3, ME)
MASTER = ballot(2, 1)


@pytest.fixture
def bench() -> LearnerBench:
    """Its member's proposer leads at `OWN`; fifty instances are learned."""
    found = LearnerBench()
    found.told(*(chosen(i, OWN) for i in range(1, 51)), of=proposer_of(ME))
    return found


def notice(
    bench: LearnerBench,
    *,
    at: Ballot = OWN,
    learner: int = 1,
    until: int = 100,
    through: int = 50,
    of: Address | None = None,
    incarnation: int = 1,
    config_id: int = 0,
) -> Effects:
    message = LeaseNotice(at, learner, until * MS, through)
    return bench.receive(
        of or proposer_of(ME), message, incarnation=incarnation, config_id=config_id
    )


def ask(
    bench: LearnerBench,
    consistency: Consistency,
    *,
    at_least: int = 0,
    max_staleness_ms: int | None = None,
) -> QueryProblem | int:
    """The instance that the answer is as of, or why there is none; of many reads the same."""
    many = QueryMany(8, "log", (b"", b""), at_least, consistency, max_staleness_ms, 0, 1_000)
    effects = bench.receive(client(), many)
    answers, failures = sent(effects, QueryAnswers), sent(effects, QueryFailed)
    found = ask_one(bench, consistency, at_least, max_staleness_ms)
    told = [a.applied_through for a in answers] + [f.problem for f in failures]
    assert told == [found]
    return found


def ask_one(
    bench: LearnerBench, consistency: Consistency, at_least: int, max_staleness_ms: int | None
) -> QueryProblem | int:
    query = Query(7, "log", b"", at_least, consistency, max_staleness_ms)
    effects = bench.receive(client(), query)
    assert receivers(effects, QueryResult) + receivers(effects, QueryFailed) == [client()]
    for result in sent(effects, QueryResult):
        applied, learned = len(bench.host.values), bench.status.ballot
        assert result == QueryResult(7, applied, b"%d applied" % applied, learned)
        return result.applied_through
    (failed,) = sent(effects, QueryFailed)
    assert (failed.request_id, failed.applied_through) == (7, len(bench.host.values))
    assert failed.message
    return failed.problem


def leased(bench: LearnerBench) -> QueryProblem | int:
    found = ask(bench, Consistency.LEASE)
    assert ask(bench, Consistency.LINEARIZABLE) == found
    return found


# Under the own member's lease.


def test_without_a_notice_no_read_is_linearizable_here(bench: LearnerBench) -> None:
    assert leased(bench) is QueryProblem.NO_LEASE
    assert ask(bench, Consistency.STALE) == 50
    assert ask(bench, Consistency.FOLLOWER, at_least=50) == 50


def test_under_a_notice_it_answers_until_the_lease_ends(bench: LearnerBench) -> None:
    notice(bench)
    assert leased(bench) == 50
    bench.now_ns = 100 * MS - 1
    assert leased(bench) == 50
    bench.now_ns += 1
    assert leased(bench) is QueryProblem.NO_LEASE


def test_only_what_the_notice_names_is_fresh_enough(bench: LearnerBench) -> None:
    # Schedule 5: what was acknowledged was applied by the life before.
    notice(bench, through=51)
    assert leased(bench) is QueryProblem.BEHIND
    bench.told(chosen(51, OWN), of=proposer_of(ME))
    assert leased(bench) == 51
    assert ask(bench, Consistency.LEASE, at_least=52) is QueryProblem.BEHIND


def test_another_life_of_the_learner_believes_nothing_that_was_meant_for_the_first() -> None:
    bench = LearnerBench(incarnation=2)
    bench.told(*(chosen(i, OWN) for i in range(1, 51)), of=proposer_of(ME))
    notice(bench, learner=1)
    assert leased(bench) is QueryProblem.NO_LEASE
    notice(bench, learner=2)
    assert leased(bench) == 50


@pytest.mark.parametrize("config_id", [9, 10])
def test_a_notice_counted_under_another_configuration_is_void(
    bench: LearnerBench, config_id: int
) -> None:
    notice(bench, config_id=config_id)
    assert leased(bench) is QueryProblem.NO_LEASE


def test_what_was_learned_at_a_higher_ballot_voids_it(bench: LearnerBench) -> None:
    notice(bench)
    bench.told(chosen(51, ballot(4, 1)), of=proposer_of(1))
    assert leased(bench) is QueryProblem.NO_LEASE
    notice(bench, at=ballot(5, ME), through=51)
    assert leased(bench) == 51


@pytest.mark.parametrize(
    ("of", "at"),
    [
        (proposer_of(1), ballot(3, 1)),
        (proposer_of(1), OWN),
        (acceptor_of(ME), OWN),
        (client(ME), OWN),
        (proposer_of(ME), ballot(3, 1)),
    ],
)
def test_only_the_own_proposer_tells_of_its_own_lease(
    bench: LearnerBench, of: Address, at: Ballot
) -> None:
    assert happened(notice(bench, at=at, of=of), MessageRefused)
    assert leased(bench) is QueryProblem.NO_LEASE


def test_any_word_of_a_later_life_of_the_proposer_voids_it(bench: LearnerBench) -> None:
    notice(bench)
    effects = bench.receive(proposer_of(ME), CatchUp(0, ()), incarnation=2)
    (status,) = sent(effects, LearnerStatus)
    assert status.proposer_incarnation == 2, "by which it knows that it may prepare"
    assert leased(bench) is QueryProblem.NO_LEASE
    notice(bench, until=500)
    assert leased(bench) is QueryProblem.NO_LEASE
    bench.receive(proposer_of(1), CatchUp(0, ()), incarnation=9)
    assert bench.status.proposer_incarnation == 2, "another member's does not count"


def test_a_revocation_is_acknowledged_and_for_ever(bench: LearnerBench) -> None:
    notice(bench)
    assert bench.status.revoked is None
    effects = bench.receive(proposer_of(ME), RevokeLease(OWN))
    assert receivers(effects, LearnerStatus) == [proposer_of(ME)]
    assert [status.revoked for status in sent(effects, LearnerStatus)] == [OWN]
    assert leased(bench) is QueryProblem.NO_LEASE
    notice(bench, until=500)
    assert leased(bench) is QueryProblem.NO_LEASE, "schedule 22: a notice that was delayed"
    assert bench.status.revoked == OWN


@pytest.mark.parametrize("sender", [proposer_of(1), acceptor_of(ME), client(ME)])
def test_only_the_own_proposer_revokes(bench: LearnerBench, sender: Address) -> None:
    notice(bench)
    effects = bench.receive(sender, RevokeLease(OWN))
    assert sends(effects) == []
    assert leased(bench) == 50


def test_all_orders_of_schedule_22(bench: LearnerBench) -> None:
    first, second = ballot(3, ME, 1), ballot(4, ME, 2)
    for order in permutations(["notice 1", "revoke 1", "second life", "notice 2", "late notice"]):
        bench = LearnerBench()
        bench.told(*(chosen(i, first) for i in range(1, 51)), of=proposer_of(ME))
        seen: set[str] = set()
        for step in order:
            seen.add(step)
            match step:
                case "notice 1":
                    notice(bench, at=first)
                case "late notice":
                    notice(bench, at=first, until=400)
                case "revoke 1":
                    bench.receive(proposer_of(ME), RevokeLease(first))
                case "second life":
                    bench.receive(proposer_of(ME), CatchUp(0, ()), incarnation=2)
                case "notice 2":
                    notice(bench, at=second, incarnation=2)
            is_void = {"revoke 1", "second life", "notice 2"} & seen
            expected = "notice 2" in seen or (
                not is_void and ("notice 1" in seen or "late notice" in seen)
            )
            assert (leased(bench) == 50) == expected, (order, step)


def test_a_learner_that_stopped_applying_answers_no_read_at_all(bench: LearnerBench) -> None:
    notice(bench)
    bench.host.fails_at = 51
    bench.told(chosen(51, OWN), of=proposer_of(ME))
    for consistency in Consistency:
        assert ask(bench, consistency) is QueryProblem.STOPPED


# How old the state is.


def beat(
    bench: LearnerBench,
    sequence: int,
    *,
    through: int = 50,
    heard: HeardFrom | None = None,
    confirmed: int = 0,
    at: Ballot = MASTER,
    config_id: int = 0,
) -> Effects:
    heartbeat = Heartbeat(at, sequence, True, through, 0, POINT, confirmed, 0, heard)
    return bench.receive(proposer_of(at.member_id), heartbeat, config_id=config_id)


def age(bench: LearnerBench) -> QueryProblem | int:
    """In milliseconds: the smallest bound that a read may ask for."""
    for milliseconds in range(2_000):
        if ask(bench, Consistency.FOLLOWER, max_staleness_ms=milliseconds) == 50:
            return milliseconds
    return QueryProblem.STALE


def test_a_learner_that_was_told_nothing_does_not_know_its_age(bench: LearnerBench) -> None:
    assert ask(bench, Consistency.FOLLOWER, max_staleness_ms=10**9) is QueryProblem.STALE
    assert ask(bench, Consistency.FOLLOWER) == 50


def test_the_age_counts_from_the_status_that_the_master_had_before_a_confirmed_round(
    bench: LearnerBench,
) -> None:
    bench.now_ns = 100 * MS
    (status,) = sent(beat(bench, 1), LearnerStatus)
    assert status.sent_ns == 100 * MS
    bench.now_ns = 300 * MS
    beat(bench, 2, heard=HeardFrom(1, status.sent_ns))
    assert age(bench) is QueryProblem.STALE, "nobody has confirmed it yet"
    bench.now_ns = 350 * MS
    beat(bench, 3, confirmed=2)
    assert age(bench) == 250
    bench.now_ns += MS
    assert age(bench) == 251


@pytest.mark.parametrize(
    "told",
    [
        {"sequence": 3, "confirmed": 1},
        {"sequence": 3, "confirmed": 2, "at": ballot(2, 1, 2)},
        {"sequence": 3, "confirmed": 2, "at": ballot(3, 1)},
        {"sequence": 3, "confirmed": 2, "at": ballot(1, 1)},
    ],
    ids=["an earlier round", "another life", "a later reign", "an earlier reign"],
)
def test_only_that_very_reigns_confirmation_of_that_round_counts(
    bench: LearnerBench, told: dict[str, object]
) -> None:
    beat(bench, 2, heard=HeardFrom(1, 0))
    beat(bench, **told)  # type: ignore[arg-type]
    assert age(bench) is QueryProblem.STALE


def test_a_later_rounds_confirmation_counts_for_the_earlier_ones(bench: LearnerBench) -> None:
    beat(bench, 2, heard=HeardFrom(1, 0))
    beat(bench, 3, heard=HeardFrom(1, 7 * MS))
    bench.now_ns = 20 * MS
    beat(bench, 9, confirmed=6)
    assert age(bench) == 13


def test_a_heartbeat_that_comes_again_makes_nothing_older(bench: LearnerBench) -> None:
    beat(bench, 2, heard=HeardFrom(1, 0))
    beat(bench, 3, heard=HeardFrom(1, 7 * MS))
    bench.now_ns = 20 * MS
    for _ in range(3):
        beat(bench, 4, confirmed=3)
        assert age(bench) == 13
        beat(bench, 2, heard=HeardFrom(1, 0))


@pytest.mark.parametrize(("config_id", "expected"), [(0, None), (9, None), (10, 20), (11, 20)])
def test_a_quorum_of_an_older_configuration_confirms_nothing(
    config_id: int, expected: int | None
) -> None:
    bench = LearnerBench(configuration=LATER_CONFIGURATION)
    bench.told(*(chosen(i, MASTER) for i in range(1, 51)))
    beat(bench, 2, heard=HeardFrom(1, 0), config_id=10)
    bench.now_ns = 20 * MS
    beat(bench, 3, confirmed=2, config_id=config_id)
    assert age(bench) == (QueryProblem.STALE if expected is None else expected)
    beat(bench, 4, heard=HeardFrom(1, 20 * MS), config_id=config_id)
    beat(bench, 5, confirmed=4, config_id=10)
    assert age(bench) == (20 if expected is None else 0)


def test_what_another_life_of_the_learner_sent_says_nothing_of_this_ones_clock(
    bench: LearnerBench,
) -> None:
    for incarnation in (2, 0):
        beat(bench, 2, heard=HeardFrom(incarnation, 0))
        beat(bench, 3, confirmed=2)
    assert age(bench) is QueryProblem.STALE


def test_a_master_that_does_not_serve_yet_says_nothing_of_ages(bench: LearnerBench) -> None:
    beat(bench, 2, heard=None)
    beat(bench, 3, confirmed=2)
    assert age(bench) is QueryProblem.STALE


def test_the_state_is_that_fresh_only_once_what_was_chosen_is_applied(
    bench: LearnerBench,
) -> None:
    beat(bench, 2, through=49, heard=HeardFrom(1, 0))
    beat(bench, 3, through=51, heard=HeardFrom(1, 50 * MS))
    bench.now_ns = 60 * MS
    beat(bench, 4, confirmed=3)
    assert age(bench) == 60
    bench.told(chosen(51, MASTER))
    assert ask(bench, Consistency.FOLLOWER, max_staleness_ms=10) == 51
    assert ask(bench, Consistency.FOLLOWER, max_staleness_ms=9) is QueryProblem.STALE


def test_a_bound_and_an_instance_can_be_asked_for_together(bench: LearnerBench) -> None:
    beat(bench, 2, heard=HeardFrom(1, 0))
    beat(bench, 3, confirmed=2)
    assert ask(bench, Consistency.FOLLOWER, at_least=50, max_staleness_ms=0) == 50
    assert ask(bench, Consistency.FOLLOWER, at_least=51, max_staleness_ms=0) is QueryProblem.BEHIND


def test_what_is_remembered_of_rounds_is_bounded() -> None:
    reads = LearnerReads(1)

    def told(sequence: int, confirmed: int) -> None:
        heard = HeardFrom(1, sequence)
        heartbeat = Heartbeat(MASTER, sequence, True, sequence, 0, POINT, confirmed, 0, heard)
        reads.on_heartbeat(heartbeat, 0)

    for sequence in range(1, 3 * ROUNDS_MAX):
        told(sequence, 0)
    assert len(reads._unconfirmed) == ROUNDS_MAX
    for sequence in range(3 * ROUNDS_MAX, 6 * ROUNDS_MAX):
        told(sequence, sequence)
    assert len(reads._unapplied) <= ROUNDS_MAX
    assert reads.staleness_ns(10**6, 10**6) == 10**6 - (6 * ROUNDS_MAX - 1), "the newest stays"


def test_a_learner_that_is_far_behind_knows_its_age_all_the_same() -> None:
    # One heartbeat a time unit; one instance in each; applied at half that speed.
    reads = LearnerReads(1)
    lag, applied, ages = 20 * ROUNDS_MAX, 0, []
    for sequence in range(1, 3 * lag):
        heard = HeardFrom(1, sequence)
        heartbeat = Heartbeat(MASTER, sequence, True, sequence, 0, POINT, sequence - 1, 0, heard)
        applied = max(0, (sequence - lag) // 2)
        reads.on_heartbeat(heartbeat, applied)
        assert len(reads._unapplied) <= ROUNDS_MAX
        age = reads.staleness_ns(applied, sequence)
        if applied:
            assert age is not None, f"applied through {applied} at {sequence}"
            ages.append((age, sequence - applied))
    assert all(behind <= age <= behind + lag // 40 for age, behind in ages)


# Whatever is lost, repeated or late: the age is never too young.


@dataclass
class Master:
    """One reign as the follower's heartbeats see it."""

    ballot: Ballot
    chosen: int
    sequence: int = 0
    confirmed: int = 0
    confirmable: int | None = None
    heard: HeardFrom | None = None


@dataclass
class World:
    """Masters one after the other, one follower, and all messages ever sent between them."""

    now: int = 0
    chosen: int = 0
    acknowledged: list[tuple[int, int]] = field(default_factory=list)
    masters: list[Master] = field(default_factory=lambda: [Master(ballot(1, 1), 0)])
    statuses: list[HeardFrom] = field(default_factory=list)
    heartbeats: list[Heartbeat] = field(default_factory=list)
    life: int = 1
    born: int = 0
    applied: int = 0
    reads: LearnerReads = field(default_factory=lambda: LearnerReads(1))

    def step(self, kind: str, what: int) -> None:
        master = self.masters[what % len(self.masters)]
        newest = self.masters[-1]
        match kind:
            case "wait":
                self.now += what
            case "acknowledge":
                self.chosen += 1
                newest.chosen = self.chosen
                self.acknowledged.append((self.now, self.chosen))
            case "depose":
                newest.confirmable = newest.sequence
                self.masters.append(Master(ballot(newest.ballot.round + 1, 2), self.chosen))
            case "status":
                self.statuses.append(HeardFrom(self.life, self.now - self.born))
            case "hear" if self.statuses:
                status = self.statuses[what % len(self.statuses)]
                known = master.heard
                if known is None or (known.incarnation, known.sent_ns) < (
                    status.incarnation,
                    status.sent_ns,
                ):
                    master.heard = status
            case "beat":
                master.sequence += 1
                self.heartbeats.append(
                    Heartbeat(
                        master.ballot,
                        master.sequence,
                        True,
                        master.chosen,
                        0,
                        POINT,
                        master.confirmed,
                        0,
                        master.heard,
                    )
                )
            case "confirm":
                end = master.sequence if master.confirmable is None else master.confirmable
                master.confirmed = max(master.confirmed, min(end, master.confirmed + what))
            case "deliver" if self.heartbeats:
                self.reads.on_heartbeat(
                    self.heartbeats[-1 - what % len(self.heartbeats)], self.applied
                )
            case "apply":
                self.applied = min(self.chosen, self.applied + what)
            case "restart":
                self.life += 1
                self.born = self.now
                self.applied = self.applied * what // 20
                self.reads = LearnerReads(self.life)

    def check(self) -> bool:
        age_ns = self.reads.staleness_ns(self.applied, self.now - self.born)
        if age_ns is None:
            return False
        assert age_ns >= 0
        owed = [i for at, i in self.acknowledged if at < self.now - age_ns]
        assert max(owed, default=0) <= self.applied
        return True


KINDS = ["wait", "acknowledge", "depose", "status", "hear", "beat", "confirm", "deliver", "apply"]
steps = st.tuples(st.sampled_from([*KINDS * 3, "deliver", "beat", "restart"]), st.integers(0, 20))


@given(st.lists(steps, max_size=60))
def test_no_acknowledged_write_older_than_the_age_is_missing(
    sequence: list[tuple[str, int]],
) -> None:
    world = World()
    for kind, what in sequence:
        world.step(kind, what)
        world.check()


def test_and_in_peace_the_age_is_known_and_young() -> None:
    world = World()
    for _ in range(50):
        for kind, what in (
            ("acknowledge", 0),
            ("status", 0),
            ("wait", 1),
            ("hear", -1),
            ("beat", 0),
            ("wait", 1),
            ("deliver", 0),
            ("confirm", 20),
            ("apply", 20),
        ):
            world.step(kind, what if what >= 0 else len(world.statuses) - 1)
    world.step("beat", 0)
    world.step("deliver", 0)
    assert world.check()
    assert (world.reads.staleness_ns(world.applied, world.now) or 99) <= 5
