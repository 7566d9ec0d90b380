"""Reads that go together: what a batch holds, whom it asks, and what answers and silence mean."""

from __future__ import annotations

import random
import sys

import pytest

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.client_messages import (
    Consistency,
    QueryAnswers,
    QueryFailed,
    QueryMany,
    QueryProblem,
    ReadIndex,
    ReadIndexConfirmed,
    RefusalCode,
    Refused,
)
from ray_paxos.core.messages import Message, RoleName
from ray_paxos.core.patience import SEARCH_NS, Patience
from ray_paxos.core.pending import Outcomes
from ray_paxos.core.query_batches import QueryBatches
from ray_paxos.core.query_calls import Ask, QuerySettings, ReadTerms
from ray_paxos.core.read_problems import ReadProblem
from ray_paxos.core.results import EntryResult
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.errors import LeaseError, PaxosError, QueryError, StaleReadError

MS = MILLISECOND_NS
NAMES = {1: "m1", 2: "m2", 3: "m3"}
OWN, LATER = Ballot(6, 1, 1), Ballot(7, 3, 1)
FRESH = ReadTerms("kv", Consistency.LINEARIZABLE)
STALE = ReadTerms("kv", Consistency.STALE)
LEASE = ReadTerms("kv", Consistency.LEASE)


class Waiter:
    """Waits for the answers to one call's reads."""

    def __init__(self, deadline_ns: int = sys.maxsize) -> None:
        self.deadline_ns = deadline_ns
        self.is_cancelled = False
        self.answers: dict[int, bytes | None] = {}
        self.refusals: dict[int, str] = {}
        self.errors: dict[int, PaxosError] = {}

    def begin(self) -> bool:
        return not self.is_cancelled

    def deliver(self, start: int, entry: EntryResult, offset: int, count: int) -> None:
        for place in range(count):
            position = start + place
            assert position not in self.answers, "told twice"
            self.answers[position] = entry.results[offset + place]
            if note := entry.notes.get(offset + place):
                self.refusals[position] = note.message

    def fail(self, start: int, error: PaxosError, count: int) -> None:
        for position in range(start, start + count):
            assert position not in self.answers, "an error after an answer"
            self.errors[position] = error

    @property
    def error(self) -> PaxosError:
        (error,) = self.errors.values()
        return error


class Reads:
    """The reads of one client, with a clock set by hand; whoever asks first asks member 1."""

    def __init__(self, *, has_lease: bool = True, **settings: int) -> None:
        self.now_ns = 1_000_000 * MS
        self.own_instance = 0
        self.batches = QueryBatches(
            NAMES,
            Patience(sorted(NAMES)),
            has_lease=has_lease,
            settings=QuerySettings(**settings),
            random=random.Random(1),
        )
        for kind in self.batches._kinds.values():
            kind.member_id = 1

    def ask(
        self, *requests: bytes, terms: ReadTerms = FRESH, deadline_ns: int = sys.maxsize
    ) -> list[Waiter]:
        waiters = [Waiter(deadline_ns) for _ in requests]
        for request, waiter in zip(requests, waiters, strict=True):
            self.batches.add_one(terms, request, waiter)
        return waiters

    def send(self) -> list[Ask]:
        return self.batches.next_asks(self.now_ns, self.own_instance)

    def one(self) -> Ask:
        (ask,) = self.send()
        return ask

    def answer(self, ask: Ask, answer: Message | ReadProblem) -> list[Ask]:
        """Take an answer in; returns what follows at once."""
        outcomes = Outcomes()
        asks = self.batches.on_answer(ask, answer, self.now_ns, outcomes)
        outcomes.settle()
        return asks + self.send()

    def time_passes(self, milliseconds: int) -> list[Ask]:
        self.now_ns += milliseconds * MS
        outcomes = Outcomes()
        self.batches.on_deadline(self.now_ns, outcomes)
        outcomes.settle()
        return self.send()


def query_of(ask: Ask) -> QueryMany:
    assert ask.role is RoleName.LEARNER
    assert isinstance(ask.message, QueryMany)
    return ask.message


def answered(
    ask: Ask, *, at: int = 50, count: int | None = None, learned: Ballot = OWN
) -> QueryAnswers:
    """Each request's own bytes, turned round."""
    requests = query_of(ask).requests[:count]
    return QueryAnswers(ask.number, at, tuple(each[::-1] for each in requests), {}, learned)


def failed(ask: Ask, problem: QueryProblem, master: int = 0, at: int = 0) -> QueryFailed:
    return QueryFailed(ask.number, at, "why", problem, master)


def results(waiters: list[Waiter]) -> list[bytes | None]:
    return [waiter.answers.get(0) for waiter in waiters]


# What goes together.


def test_a_lone_read_goes_at_once_and_what_comes_meanwhile_goes_together() -> None:
    reads = Reads(window_max=1)
    first = reads.ask(b"ab")
    alone = reads.one()
    assert query_of(alone).requests == (b"ab",)
    others = reads.ask(b"cd", b"ef", b"gh")
    assert reads.send() == []
    (together,) = reads.answer(alone, answered(alone))
    assert query_of(together).requests == (b"cd", b"ef", b"gh")
    assert reads.answer(together, answered(together)) == []
    assert results(first + others) == [b"ba", b"dc", b"fe", b"hg"]
    assert (reads.batches.held_reads, reads.batches.held_bytes) == (0, 0)
    assert reads.batches.due_ns() is None


def test_a_read_asked_after_a_round_was_sent_is_not_served_by_it() -> None:
    reads = Reads(window_max=1, has_lease=False)
    early = reads.ask(b"ab")
    index, query = reads.send()
    late = reads.ask(b"cd")
    assert reads.answer(index, ReadIndexConfirmed(index.number, 50, OWN)) == []
    (again,) = reads.answer(query, answered(query, at=49))
    assert query_of(again).requests == (b"ab",)
    next_index, next_query = reads.answer(again, answered(again, at=50))
    assert results(early + late) == [b"ba", None]
    assert isinstance(next_index.message, ReadIndex)
    assert query_of(next_query).requests == (b"cd",)


def test_the_window_is_shared_out() -> None:
    reads = Reads(window_max=4)
    reads.ask(*[b"x"] * 300)
    assert len(query_of(reads.one()).requests) == 300
    reads.ask(*[b"x"] * 99)
    assert reads.send() == [], "a quarter of all is worth a batch"
    reads.ask(b"x")
    assert len(query_of(reads.one()).requests) == 100


def test_only_equal_terms_go_together() -> None:
    reads = Reads()
    other_machine = ReadTerms("log", Consistency.LINEARIZABLE)
    bounded = ReadTerms("kv", Consistency.FOLLOWER, 0, 100)
    for terms in (FRESH, STALE, other_machine, bounded, FRESH, STALE):
        reads.ask(b"x", terms=terms)
    sent = {
        (m.machine, m.consistency, m.max_staleness_ms): len(m.requests)
        for m in map(query_of, reads.send())
    }
    assert sent == {
        ("kv", Consistency.LINEARIZABLE, None): 2,
        ("kv", Consistency.STALE, None): 2,
        ("kv", Consistency.FOLLOWER, 100): 1,
        ("log", Consistency.LINEARIZABLE, None): 1,
    }


def test_reads_of_own_writes_go_together_and_hold_what_is_acknowledged_by_then() -> None:
    reads = Reads()
    own = ReadTerms("kv", Consistency.FOLLOWER, None)
    reads.own_instance = 7
    reads.ask(b"x", terms=own)
    reads.own_instance = 9
    reads.ask(b"y", terms=own)
    query = query_of(reads.one())
    assert (query.requests, query.at_least) == ((b"x", b"y"), 9)


def test_a_batch_is_bounded_in_number_and_in_bytes() -> None:
    reads = Reads(requests_max=3, request_bytes_max=100, window_max=10)
    reads.ask(*[b"x"] * 7)
    assert [len(query_of(ask).requests) for ask in reads.send()] == [3, 3, 1]
    reads = Reads(requests_max=30, request_bytes_max=100, window_max=10)
    reads.ask(b"x" * 50, b"y" * 50, b"z" * 500)
    assert [len(query_of(ask).requests[0]) for ask in reads.send()] == [50, 50, 500]


def test_reads_of_one_call_may_be_spread() -> None:
    reads = Reads(requests_max=2, window_max=1)
    waiter = Waiter()
    reads.batches.add(FRESH, (b"ab", b"cd", b"ef"), waiter)
    first = reads.one()
    (second,) = reads.answer(first, answered(first))
    reads.answer(second, answered(second))
    assert waiter.answers == {0: b"ba", 1: b"dc", 2: b"fe"}


def test_room_is_for_what_waits_and_what_is_on_its_way() -> None:
    reads = Reads(held_reads_max=3, held_bytes_max=100, window_max=1)
    assert reads.batches.has_room(9, 900), "alone anything may"
    reads.ask(b"x", b"x")
    ask = reads.one()
    assert reads.batches.has_room(1, 10)
    assert not reads.batches.has_room(2, 10)
    assert not reads.batches.has_room(1, 99)
    reads.answer(ask, answered(ask))
    assert reads.batches.has_room(3, 100)


def test_what_is_cancelled_is_not_sent() -> None:
    reads = Reads()
    first, _ = reads.ask(b"x", b"y")
    first.is_cancelled = True
    assert query_of(reads.one()).requests == (b"y",)
    assert reads.batches.held_reads == 1
    (only,) = reads.ask(b"z", terms=STALE)
    only.is_cancelled = True
    assert reads.send() == []
    assert reads.batches.held_reads == 1


# Answers.


def test_a_bad_request_fails_alone() -> None:
    reads = Reads()
    good, bad = reads.ask(b"ab", b"?")
    ask = reads.one()
    reads.answer(ask, QueryAnswers(ask.number, 50, (b"ba", None), {1: "no query"}, OWN))
    assert good.answers == {0: b"ba"}
    assert bad.refusals == {0: "no query"}


def test_what_did_not_fit_the_reply_is_asked_again_at_once() -> None:
    reads = Reads()
    waiters = reads.ask(b"ab", b"cd", b"ef")
    ask = reads.one()
    (again,) = reads.answer(ask, answered(ask, count=2))
    assert query_of(again).requests == (b"ef",)
    reads.answer(again, answered(again))
    assert results(waiters) == [b"ba", b"dc", b"fe"]
    assert reads.batches.held_reads == 0


@pytest.mark.parametrize("count", [0, 2])
def test_an_answer_to_something_else_is_none(count: int) -> None:
    reads = Reads()
    reads.ask(b"x")
    ask = reads.one()
    reads.answer(ask, QueryAnswers(ask.number, 50, (b"y",) * count, {}, OWN))
    assert reads.batches.held_reads == 1


def test_a_batch_that_is_refused_for_good_fails() -> None:
    reads = Reads()
    waiters = reads.ask(b"x", b"y")
    ask = reads.one()
    reads.answer(ask, failed(ask, QueryProblem.REFUSED))
    assert [str(waiter.error) for waiter in waiters] == ["why", "why"]


# Whom it asks.


def test_another_master_is_asked_at_once_and_remembered() -> None:
    reads = Reads()
    reads.ask(b"x")
    ask = reads.one()
    assert ask.member_id == 1
    (again,) = reads.answer(ask, failed(ask, QueryProblem.NO_LEASE, master=3))
    assert again.member_id == 3
    reads.answer(again, answered(again))
    reads.ask(b"y")
    assert reads.one().member_id == 3


def test_members_that_were_left_behind_do_not_keep_a_batch_from_the_master() -> None:
    """1 was removed while it was away, and names 3, which has left since; neither knows of 2."""
    reads = Reads()
    reads.ask(b"x")
    ask = reads.one()
    asked = [ask.member_id]
    while ask.member_id != 2:
        answer = failed(ask, QueryProblem.NO_LEASE, master=3)
        if ask.member_id == 3:
            answer = failed(ask, QueryProblem.NO_GROUP)
        (ask,) = reads.answer(ask, answer) or reads.time_passes(100)
        asked.append(ask.member_id)
        assert len(asked) < 50, "they lead from one to the other"
    assert asked[:4] == [1, 3, 1, 3], "whoever is named is asked first"


def test_what_does_not_answer_is_asked_no_more_for_now() -> None:
    reads = Reads()
    reads.ask(b"x")
    ask = reads.one()
    assert reads.time_passes(1_999) == []
    assert reads.time_passes(1) == [], "after a pause"
    (again,) = reads.time_passes(5)
    assert again.member_id == 2
    assert reads.answer(ask, answered(ask)) == [], "a late answer counts no more"
    assert reads.batches.held_reads == 1


def test_pauses_grow_up_to_a_limit() -> None:
    reads = Reads(pause_ns=5 * MS, pause_max_ns=20 * MS)
    reads.ask(b"x", terms=STALE)
    ask = reads.one()
    for pause_ms in (5, 10, 20, 20):
        assert reads.answer(ask, ReadProblem("gone")) == []
        assert reads.time_passes(pause_ms - 1) == []
        (ask,) = reads.time_passes(1)


def test_a_member_that_owes_too_much_is_asked_nothing() -> None:
    reads = Reads(owed_calls_max=2, window_max=1, try_ns=10 * MS, pause_max_ns=5 * MS)
    reads.ask(b"x", terms=STALE)
    asked = [ask.member_id for ask in reads.send()]
    for _ in range(100):
        asked += [ask.member_id for ask in reads.time_passes(5)]
    assert sorted(asked) == [1, 1, 2, 2, 3, 3]
    assert reads.time_passes(60_000), "until it is long ago"


def test_where_every_member_has_stopped_nobody_waits() -> None:
    reads = Reads()
    (waiter,) = reads.ask(b"x")
    ask = reads.one()
    for _ in range(2):
        reads.answer(ask, failed(ask, QueryProblem.STOPPED))
        (ask,) = reads.time_passes(100)
    reads.answer(ask, failed(ask, QueryProblem.STOPPED))
    assert "every member has stopped" in str(waiter.error)
    assert reads.batches.held_reads == 0


@pytest.mark.parametrize(
    "answer", [ReadProblem("gone"), Refused(1, RefusalCode.UNKNOWN_GROUP, "?", 0)]
)
def test_without_an_index_the_answers_do_not_count(answer: Message | ReadProblem) -> None:
    reads = Reads(has_lease=False)
    waiters = reads.ask(b"ab")
    index, query = reads.send()
    reads.answer(query, answered(query))
    reads.answer(index, answer)
    assert results(waiters) == [None]
    index, query = reads.time_passes(5)
    assert (index.member_id, query.member_id) == (2, 2)


# By the master's index.


def by_index(reads: Reads) -> tuple[Ask, Ask]:
    index, query = reads.send()
    assert index.role is RoleName.PROPOSER
    assert isinstance(index.message, ReadIndex)
    assert query_of(query).consistency is Consistency.STALE
    assert index.member_id == query.member_id
    return index, query


@pytest.mark.parametrize("is_index_first", [True, False])
def test_answers_as_of_the_index_count_though_they_came_before(is_index_first: bool) -> None:
    reads = Reads(has_lease=False)
    waiters = reads.ask(b"ab", b"cd")
    index, query = by_index(reads)
    confirmed = ReadIndexConfirmed(index.number, 50, OWN)
    if is_index_first:
        assert reads.answer(index, confirmed) == []
        assert reads.answer(query, answered(query, at=50)) == []
    else:
        assert reads.answer(query, answered(query, at=50)) == []
        assert results(waiters) == [None, None], "not before the index is there"
        assert reads.answer(index, confirmed) == []
    assert results(waiters) == [b"ba", b"dc"]


def test_older_answers_are_asked_for_again_at_the_index_once() -> None:
    reads = Reads(has_lease=False)
    waiters = reads.ask(b"ab")
    index, query = by_index(reads)
    reads.answer(query, answered(query, at=49))
    (again,) = reads.answer(index, ReadIndexConfirmed(index.number, 50, OWN))
    assert query_of(again).at_least == 50
    assert reads.answer(again, failed(again, QueryProblem.BEHIND, at=49)) == []
    assert results(waiters) == [None]
    assert len(reads.time_passes(5)) == 2, "from the beginning, after a pause"


def test_answers_that_show_a_later_reign_do_not_count() -> None:
    reads = Reads(has_lease=False)
    waiters = reads.ask(b"ab")
    index, query = by_index(reads)
    reads.answer(index, ReadIndexConfirmed(index.number, 50, OWN))
    reads.answer(query, answered(query, at=52, learned=LATER))
    assert results(waiters) == [None]
    index, query = reads.time_passes(5)
    reads.answer(index, ReadIndexConfirmed(index.number, 52, OWN))
    (again,) = reads.answer(query, answered(query, at=51))
    reads.answer(again, answered(again, at=52, learned=LATER))
    assert results(waiters) == [None]


def test_a_refusal_counts_only_where_the_state_is_fresh_enough() -> None:
    reads = Reads(has_lease=False)
    (waiter,) = reads.ask(b"ab")
    index, query = by_index(reads)
    early = QueryAnswers(query.number, 3, (None,), {0: "no machine"}, None)
    reads.answer(query, early)
    (again,) = reads.answer(index, ReadIndexConfirmed(index.number, 50, OWN))
    reads.answer(again, answered(again, at=50))
    assert waiter.answers == {0: b"ba"}


def test_a_master_without_its_lease_is_read_by_the_index() -> None:
    reads = Reads()
    waiters = reads.ask(b"ab")
    ask = reads.one()
    index, query = reads.answer(ask, failed(ask, QueryProblem.NO_LEASE, master=1))
    assert isinstance(index.message, ReadIndex)
    reads.answer(index, ReadIndexConfirmed(index.number, 5, OWN))
    reads.answer(query, answered(query))
    assert results(waiters) == [b"ba"]
    reads.ask(b"cd")
    assert query_of(reads.one()).consistency is Consistency.LINEARIZABLE, "the next one may"


def test_a_lease_read_never_goes_by_the_index() -> None:
    reads = Reads()
    reads.ask(b"x", terms=LEASE)
    ask = reads.one()
    (again,) = reads.answer(ask, failed(ask, QueryProblem.NO_LEASE, master=1))
    assert query_of(again).consistency is Consistency.LEASE


# Time.


def test_a_learner_is_told_how_long_anybody_waits() -> None:
    reads = Reads(try_ns=2_000 * MS)
    reads.ask(b"x", deadline_ns=reads.now_ns + 300 * MS)
    reads.ask(b"y", deadline_ns=reads.now_ns + 500 * MS)
    assert query_of(reads.one()).timeout_ms == 500
    reads.ask(b"x", terms=STALE)
    assert query_of(reads.one()).timeout_ms == 2_000


@pytest.mark.parametrize(
    ("problem", "kind"),
    [
        (QueryProblem.NO_LEASE, LeaseError),
        (QueryProblem.BEHIND, StaleReadError),
        (QueryProblem.STALE, StaleReadError),
        (QueryProblem.OVERLOADED, QueryError),
    ],
)
def test_each_read_is_told_in_time_what_kept_it(
    problem: QueryProblem, kind: type[Exception]
) -> None:
    reads = Reads()
    short, long = Waiter(reads.now_ns + 100 * MS), Waiter(reads.now_ns + 300 * MS)
    reads.batches.add_one(LEASE, b"ab", short)
    reads.batches.add_one(LEASE, b"cd", long)
    ask = reads.one()
    reads.answer(ask, failed(ask, problem))
    asks = reads.time_passes(99)
    assert not short.errors
    asks += reads.time_passes(60)
    assert type(short.error) is kind
    assert "no answer in time" in str(short.error)
    reads.answer(asks[0], answered(asks[0]))
    assert long.answers == {0: b"dc"}
    assert short.answers == {}


def test_that_there_was_no_time_left_in_the_end_hides_nothing() -> None:
    reads = Reads()
    waiter = Waiter(reads.now_ns + 100 * MS)
    reads.batches.add_one(STALE, b"ab", waiter)
    ask = reads.one()
    reads.answer(ask, failed(ask, QueryProblem.BEHIND))
    asks: list[Ask] = []
    for _ in range(90):
        asks = asks or reads.time_passes(1)
    reads.answer(asks[0], failed(asks[0], QueryProblem.OVERLOADED))
    reads.time_passes(160)
    assert type(waiter.error) is StaleReadError


def test_reads_whose_turn_never_came_are_told() -> None:
    reads = Reads(window_max=1)
    reads.ask(b"x")
    reads.send()
    (waiter,) = reads.ask(b"y", deadline_ns=reads.now_ns + 100 * MS)
    reads.time_passes(160)
    assert "its turn did not come" in str(waiter.error)
    assert reads.batches.held_reads == 1


def test_a_batch_that_nobody_waits_for_is_not_asked_again() -> None:
    reads = Reads()
    reads.ask(b"x", deadline_ns=reads.now_ns + 100 * MS)
    ask = reads.one()
    reads.time_passes(200)
    assert reads.batches.held_reads == 0
    assert reads.answer(ask, answered(ask)) == []
    assert reads.time_passes(10_000) == []


def test_closing_tells_everybody() -> None:
    reads = Reads(window_max=1)
    waiters = reads.ask(b"x")
    reads.send()
    waiters += reads.ask(b"y")
    outcomes = Outcomes()
    error = QueryError("closed")
    reads.batches.give_up(error, outcomes)
    outcomes.settle()
    assert [waiter.error for waiter in waiters] == [error, error]
    assert reads.batches.held_reads == 0


# Members that give no answer.


def test_reads_without_the_time_for_a_second_try_do_not_go_on_asking_who_is_silent() -> None:
    """Each has less time than a try: the next one begins elsewhere, in every kind of its own."""
    reads, asked = Reads(), []
    for _ in range(3):
        (waiter,) = reads.ask(b"a", deadline_ns=reads.now_ns + 100 * MS)
        asked.append(reads.one().member_id)
        reads.time_passes(150)
        assert isinstance(waiter.error, QueryError)
    assert asked == [1, 2, 3]


def test_once_somebody_was_silent_others_are_given_little_time() -> None:
    reads = Reads()
    (waiter,) = reads.ask(b"a")
    assert reads.one().member_id == 1
    reads.time_passes(QuerySettings().try_ns // MS)
    (second,) = reads.time_passes(QuerySettings().pause_max_ns // MS)
    assert second.member_id == 2
    assert query_of(second).timeout_ms == SEARCH_NS // MS
    reads.time_passes(SEARCH_NS // MS)
    (third,) = reads.time_passes(QuerySettings().pause_max_ns // MS)
    assert third.member_id == 3
    reads.answer(third, answered(third))
    assert results([waiter]) == [b"a"]


def test_an_answer_that_comes_late_shows_that_its_member_is_reached() -> None:
    reads = Reads()
    reads.ask(b"a", deadline_ns=reads.now_ns + 100 * MS)
    late = reads.one()
    reads.time_passes(150)
    reads.answer(late, answered(late))
    reads.ask(b"b")
    assert query_of(reads.one()).timeout_ms == QuerySettings().try_ns // MS
