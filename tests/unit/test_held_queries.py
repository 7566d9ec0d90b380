"""Queries that a learner holds: who is due when, who is given up, and that nobody is forgotten."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.core import held_queries
from ray_paxos.core.client_messages import Query
from ray_paxos.core.held_queries import (
    TURN_PAUSE_NS,
    WAIT_MS_MAX,
    HeldQueries,
    HeldQuery,
    Topic,
)
from ray_paxos.core.messages import Address
from ray_paxos.machines.times_to_live import STALE_MIN
from tests.unit.core_helpers import MS, client

A: Topic = ("kv", "a")
B: Topic = ("kv", "b")


def query(request_id: int, *, at_least: int = 0, wait_ms: int = 100) -> Query:
    return Query(request_id, "kv", b"%d" % request_id, at_least, wait_ms=wait_ms)


class Held:
    """What is held, with a clock set by hand."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.held = HeldQueries()

    def hold(
        self,
        request_id: int,
        topic: Topic | None = A,
        *,
        of: int = 900,
        at_least: int = 0,
        wait_ms: int = 100,
    ) -> bool:
        asked = query(request_id, at_least=at_least, wait_ms=wait_ms)
        taken = self.held.hold(client(of), asked, topic, self.now_ns)
        check(self.held)
        return taken

    def due(self) -> list[int]:
        """The requests that are asked again, and have their answer."""
        taken = self.held.take_due(self.now_ns)
        for ticket, _ in taken:
            self.held.answered(ticket)
        check(self.held)
        return [each.query.request_id for _, each in taken]

    def over(self) -> list[int]:
        found = [each.query.request_id for each in self.held.take_over(self.now_ns)]
        check(self.held)
        return found


def check(held: HeldQueries) -> None:
    """The invariants of the class, and that nothing is kept of what is held no more."""
    tickets = set(held._held)
    assert set(held._ends.by_key) == tickets
    assert sorted(held._by_request.values()) == sorted(tickets)
    for (sender, request_id), ticket in held._by_request.items():
        each = held._held[ticket]
        assert (each.sender, each.query.request_id) == (sender, request_id)
    under: list[int] = []
    for topic, waiting in held._by_topic.items():
        assert waiting, "a topic that nobody waits for is forgotten"
        assert {held._held[ticket].topic for ticket in waiting} == {topic}
        under += waiting
    # Each in one place.
    assert sorted([*under, *held._behind, *held._due]) == sorted(tickets)
    assert len(held._ends._heap) <= 2 * len(tickets) + STALE_MIN


@pytest.fixture
def bench() -> Held:
    return Held()


def test_what_is_notified_is_due_once_in_the_order_of_asking(bench: Held) -> None:
    for request_id in (3, 1, 2):
        assert bench.hold(request_id)
    bench.hold(4, B)
    assert bench.due() == [], "nothing has happened"
    bench.held.notify({A})
    assert bench.due() == [3, 1, 2]
    bench.held.notify({A})
    assert bench.due() == []
    bench.held.notify({B})
    assert bench.due() == [4]
    assert len(bench.held) == 0


def test_a_topic_is_of_one_machine(bench: Held) -> None:
    bench.hold(1, ("kv", "a"))
    bench.hold(2, ("locks", "a"))
    bench.held.notify({("locks", "a"), ("other", "a")})
    assert bench.due() == [2]


def test_topics_are_taken_in_their_order_and_not_in_that_of_a_set(bench: Held) -> None:
    topics = [("kv", str(number)) for number in range(100, 160)]
    for request_id, topic in enumerate(reversed(topics)):
        bench.hold(request_id, topic)
    bench.held.notify(set(topics))
    assert bench.due() == list(range(len(topics) - 1, -1, -1))


def test_who_waits_for_an_instance_is_due_once_it_is_applied(bench: Held) -> None:
    bench.hold(1, None, at_least=7)
    bench.hold(2, None, at_least=5)
    bench.held.applied(4)
    assert bench.due() == []
    bench.held.applied(5)
    assert bench.due() == [2]
    bench.held.applied(9)
    assert bench.due() == [1]


def test_one_that_has_no_answer_still_waits_on_with_the_time_it_had(bench: Held) -> None:
    bench.hold(1, None, at_least=5, wait_ms=100)
    bench.held.applied(5)
    bench.now_ns = 60 * MS
    ((ticket, each),) = bench.held.take_due(bench.now_ns)
    assert each.topic is None
    bench.held.hold_on(ticket, B)
    check(bench.held)
    bench.held.notify({A})
    assert bench.due() == []
    assert bench.held.deadline_ns == 100 * MS
    bench.held.notify({B})
    ((again, _),) = bench.held.take_due(bench.now_ns)
    assert again == ticket
    bench.held.hold_on(ticket, A)
    bench.now_ns = 100 * MS
    assert bench.over() == [1]


def test_a_replaced_state_makes_all_due(bench: Held) -> None:
    bench.hold(1, A)
    bench.hold(2, None, at_least=9)
    bench.hold(3, B)
    bench.held.notify({B})
    bench.held.notify_all()
    check(bench.held)
    assert bench.due() == [1, 2, 3]


def test_what_has_waited_long_enough_is_given_up(bench: Held) -> None:
    bench.hold(1, wait_ms=100)
    bench.hold(2, None, at_least=3, wait_ms=50)
    bench.hold(3, B, wait_ms=50)
    bench.held.notify({B})
    assert bench.held.deadline_ns == 0, "one is due"
    bench.now_ns = 50 * MS - 1
    assert bench.over() == []
    bench.now_ns += 1
    assert bench.over() == [2, 3], "also one that is due"
    assert bench.held.deadline_ns == 100 * MS
    bench.now_ns = 100 * MS
    assert bench.over() == [1]
    assert bench.held.deadline_ns is None
    assert len(bench.held) == 0


def test_none_is_held_for_longer_than_a_limit_whatever_was_asked_for(bench: Held) -> None:
    bench.hold(1, wait_ms=10**9)
    assert bench.held.deadline_ns == WAIT_MS_MAX * MS
    bench.now_ns = WAIT_MS_MAX * MS
    assert bench.over() == [1]


def test_who_asks_again_by_the_same_number_waits_in_the_place_of_the_earlier(bench: Held) -> None:
    bench.hold(1, A, wait_ms=100)
    bench.now_ns = 70 * MS
    bench.hold(1, B, wait_ms=100)
    assert len(bench.held) == 1
    bench.held.notify({A})
    assert bench.due() == []
    bench.now_ns = 100 * MS
    assert bench.over() == [], "its time counts anew"
    bench.held.notify({B})
    assert bench.due() == [1]


def test_equal_numbers_of_two_clients_are_two_queries(bench: Held) -> None:
    bench.hold(1, of=901)
    bench.hold(1, of=902)
    bench.held.notify({A})
    assert [each.sender for _, each in bench.held.take_due(0)] == [client(901), client(902)]


def test_one_that_is_due_may_be_asked_again_and_is_answered_once(bench: Held) -> None:
    bench.hold(1)
    bench.held.notify({A})
    bench.hold(1, B)
    assert bench.due() == []
    bench.held.notify({B})
    assert bench.due() == [1]


def test_there_is_room_for_so_many_and_always_for_one_that_is_there(
    bench: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_queries, "HELD_MAX", 2)
    assert bench.hold(1)
    assert bench.hold(2)
    assert not bench.hold(3)
    assert bench.hold(2, B), "in its own place"
    bench.held.notify({B})
    assert bench.due() == [2]
    assert bench.hold(3)


def test_many_are_asked_again_in_turns(bench: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_queries, "TURN_MAX", 3)
    for request_id in range(7):
        bench.hold(request_id)
    bench.held.notify({A})
    assert bench.held.deadline_ns == 0
    assert bench.due() == [0, 1, 2]
    assert bench.held.deadline_ns == TURN_PAUSE_NS
    assert bench.due() == []
    bench.now_ns = TURN_PAUSE_NS - 1
    assert bench.due() == [], "others come first"
    bench.now_ns += 1
    assert bench.due() == [3, 4, 5]
    bench.now_ns += TURN_PAUSE_NS
    assert bench.due() == [6]
    bench.hold(9)
    bench.held.notify({A})
    assert bench.due() == [9], "after a turn that was not full nobody waits"


def test_all_may_be_taken_at_once_wherever_they_wait(bench: Held) -> None:
    bench.hold(1, A)
    bench.hold(2, None, at_least=9)
    bench.hold(3, B)
    bench.hold(4, A)
    bench.held.notify({B})
    assert [each.query.request_id for each in bench.held.take_all()] == [1, 2, 3, 4]
    check(bench.held)
    assert len(bench.held) == 0
    assert bench.held.deadline_ns is None
    assert bench.held.take_all() == []


def test_a_ticket_that_is_over_is_not_held_on(bench: Held) -> None:
    bench.hold(1)
    bench.held.notify({A})
    ((ticket, _),) = bench.held.take_due(0)
    bench.held.answered(ticket)
    bench.held.hold_on(ticket, A)
    check(bench.held)
    assert len(bench.held) == 0


def test_many_that_come_and_go_leave_nothing_behind(bench: Held) -> None:
    for request_id in range(5 * STALE_MIN):
        bench.held.hold(client(), query(request_id % 3), ("kv", str(request_id)), bench.now_ns)
    check(bench.held)
    assert len(bench.held._by_topic) == 3
    bench.now_ns = 10**12
    assert len(bench.over()) == 3
    assert not bench.held._ends._heap


# Against the obvious implementation.


@dataclass
class Plain:
    """One that waits.

    Attributes:
        number: Rises with each asking.
        key: Whose request of which number.
        query: What it asked.
        topic: What for.
        ends_ns: Until when.
        due: When it became due, among all that did; 0 for not.
    """

    number: int
    key: tuple[Address, int]
    query: Query
    topic: Topic | None
    ends_ns: int
    due: int = 0


class PlainQueries:
    """One list, which is gone through each time."""

    def __init__(self, room: int, turn: int) -> None:
        self.room, self.turn = room, turn
        self.all: list[Plain] = []
        self.asked = 0
        self.not_before_ns = 0

    def hold(self, sender: Address, asked: Query, topic: Topic | None, now_ns: int) -> bool:
        key = (sender, asked.request_id)
        others = [each for each in self.all if each.key != key]
        if len(others) == len(self.all) >= self.room:
            return False
        self.asked += 1
        ends_ns = now_ns + asked.wait_ms * MS
        self.all = [*others, Plain(self.asked, key, asked, topic, ends_ns)]
        return True

    def make_due(self, found: list[Plain]) -> None:
        last = max((each.due for each in self.all), default=0)
        for place, each in enumerate(found, 1):
            each.due = last + place

    def notify(self, topics: set[Topic]) -> None:
        for topic in sorted(topics):
            # In the order in which they began to wait for it.
            self.make_due([e for e in self.all if not e.due and e.topic == topic])

    def applied(self, through: int) -> None:
        behind = [e for e in self.all if not e.due and e.topic is None]
        self.make_due([e for e in behind if e.query.at_least <= through])

    def notify_all(self) -> None:
        self.all.sort(key=lambda each: each.number)
        for place, each in enumerate(self.all, 1):
            each.due = place

    def take_due(self, now_ns: int) -> list[Plain]:
        if now_ns < self.not_before_ns:
            return []
        taken = sorted((e for e in self.all if e.due), key=lambda e: e.due)[: self.turn]
        if len(taken) == self.turn:
            self.not_before_ns = now_ns + TURN_PAUSE_NS
        return taken

    def wait_on(self, each: Plain, topic: Topic | None) -> None:
        each.topic, each.due = topic, 0
        # Behind those who have waited for the same meanwhile.
        self.all.remove(each)
        self.all.append(each)

    def take_over(self, now_ns: int) -> list[Plain]:
        over = [each for each in self.all if each.ends_ns <= now_ns]
        self.all = [each for each in self.all if each.ends_ns > now_ns]
        return sorted(over, key=lambda each: (each.ends_ns, each.number))


TOPICS = st.sampled_from([A, B, ("locks", "a"), ("locks", "b")])
WAITED_FOR = st.one_of(st.none(), TOPICS)
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("hold"),
            st.integers(901, 902),
            st.integers(1, 5),
            st.integers(1, 9),
            WAITED_FOR,
            st.integers(1, 12),
        ),
        st.tuples(st.just("notify"), st.sets(TOPICS, max_size=3)),
        st.tuples(st.just("applied"), st.integers(0, 9)),
        st.tuples(st.just("replaced")),
        st.tuples(st.just("give up")),
        # What each that is due comes to: its answer, or what it waits for then.
        st.tuples(st.just("ask"), st.lists(st.one_of(st.just("answer"), WAITED_FOR), min_size=1)),
        st.tuples(st.just("pass"), st.integers(0, 8)),
    ),
    max_size=60,
)


@settings(max_examples=400, deadline=None)
@given(STEPS)
def test_it_does_what_a_plain_list_does(steps: list[tuple[object, ...]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(held_queries, "HELD_MAX", 6)
        patch.setattr(held_queries, "TURN_MAX", 3)
        play(steps)


def play(steps: list[tuple[object, ...]]) -> None:
    held, plain, now_ns, asked, ended = HeldQueries(), PlainQueries(6, 3), 0, 0, 0
    for step in steps:
        before = len(plain.all)
        match step:
            case ("hold", int(of), int(request_id), int(at_least), topic, int(wait_ms)):
                message = query(request_id, at_least=at_least, wait_ms=wait_ms)
                is_held = plain.hold(client(of), message, topic, now_ns)  # type: ignore[arg-type]
                assert held.hold(client(of), message, topic, now_ns) is is_held  # type: ignore[arg-type]
                # The one in whose place it waits has no end of its own.
                asked += len(plain.all) - before
            case ("notify", set(topics)):
                held.notify(topics)
                plain.notify(topics)
            case ("applied", int(through)):
                held.applied(through)
                plain.applied(through)
            case ("replaced",):
                held.notify_all()
                plain.notify_all()
            case ("ask", list(answers)):
                taken, expected = held.take_due(now_ns), plain.take_due(now_ns)
                assert [asked_of(each) for _, each in taken] == [each.key for each in expected]
                for place, (ticket, _) in enumerate(taken):
                    answer = answers[place % len(answers)]
                    if answer == "answer":
                        held.answered(ticket)
                        plain.all.remove(expected[place])
                        ended += 1
                    else:
                        held.hold_on(ticket, answer)
                        plain.wait_on(expected[place], answer)
            case ("give up",):
                given_up = {asked_of(each) for each in held.take_all()}
                assert given_up == {each.key for each in plain.all}
                ended += len(plain.all)
                plain.all = []
            case ("pass", int(milliseconds)):
                now_ns += milliseconds * MS
                over, gone = held.take_over(now_ns), plain.take_over(now_ns)
                assert [asked_of(each) for each in over] == [each.key for each in gone]
                ended += len(gone)
        check(held)
        assert len(held) == len(plain.all) == asked - ended, "each ends once, and none is lost"
        assert held.deadline_ns == deadline_of(plain)


def asked_of(held: HeldQuery) -> tuple[Address, int]:
    return held.sender, held.query.request_id


def deadline_of(plain: PlainQueries) -> int | None:
    first = [each.ends_ns for each in plain.all]
    if any(each.due for each in plain.all):
        first.append(plain.not_before_ns)
    return min(first, default=None)
