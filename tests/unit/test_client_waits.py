"""What one client waits for: whom it asks, how often, and what each wait is told in the end."""

from __future__ import annotations

import sys
from itertools import pairwise

import pytest

from ray_paxos.core import client_waits
from ray_paxos.core.client_messages import (
    Consistency,
    Query,
    QueryFailed,
    QueryProblem,
    RefusalCode,
    Refused,
)
from ray_paxos.core.client_waits import (
    ANSWER_NS,
    HELD_NS,
    HOLD_MS,
    PAUSE_MAX_NS,
    PAUSE_NS,
)
from ray_paxos.core.held_queries import WAIT_MS_MAX
from ray_paxos.core.messages import Message
from ray_paxos.core.pending import Outcomes
from ray_paxos.errors import (
    ClientClosedError,
    LeaseError,
    NotYetError,
    OverloadedError,
    PaxosError,
    QueryError,
    StaleReadError,
)
from tests.unit.core_helpers import MS
from tests.unit.waits_bench import Client, Waiter, answered, failed, query_of


@pytest.fixture
def client() -> Client:
    return Client()


# Asking.


def test_the_masters_learner_is_asked_and_may_hold_the_query(client: Client) -> None:
    client.master = 2
    waiter = client.wait(at_least=9)
    call = client.one()
    assert (call.member_id, call.sent_ns) == (2, client.now_ns)
    assert call.patience_ns == HOLD_MS * MS + ANSWER_NS
    assert query_of(call) == Query(
        1, "kv", b"a", 9, Consistency.STALE, timeout_ms=HOLD_MS, wait_ms=HOLD_MS
    )
    assert HOLD_MS <= WAIT_MS_MAX, "or it would be answered sooner than it is asked for"
    assert client.send() == [], "it is asked once"
    assert client.answer(call, answered(call, at=77)) == []
    assert waiter.told == [(b"A", 77)]
    assert len(client.waits) == 0
    assert client.waits.due_ns is None


def test_many_are_asked_one_by_one_under_numbers_of_their_own(client: Client) -> None:
    waiters = [client.wait(b"%d" % number) for number in range(5)]
    calls = client.send()
    assert [query_of(call).request for call in calls] == [b"0", b"1", b"2", b"3", b"4"]
    assert len({call.message.request_id for call in calls}) == 5
    for call in reversed(calls):
        client.answer(call, answered(call))
    assert [waiter.told for waiter in waiters] == [[(b"%d" % n, 50)] for n in range(5)]


def test_there_is_room_for_so_many(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_waits, "WAITS_MAX", 2)
    client.wait()
    client.wait()
    with pytest.raises(OverloadedError, match="2 waits"):
        client.wait()
    calls = client.send()
    client.answer(calls[0], answered(calls[0]))
    client.wait()


def test_nobody_is_asked_to_hold_a_query_for_longer_than_anybody_waits(client: Client) -> None:
    client.wait(for_ms=800)
    call = client.one()
    assert (query_of(call).wait_ms, query_of(call).timeout_ms) == (800, 800)
    assert call.patience_ns == 800 * MS + ANSWER_NS


def test_of_no_time_there_is_still_some(client: Client) -> None:
    # 0 would be a query that does not wait, whose answer might be that there is none.
    client.wait(for_ms=0)
    assert query_of(client.one()).wait_ms == 1


# Asking again.


def test_after_a_wait_that_is_over_it_is_asked_again_at_once_by_the_same_number(
    client: Client,
) -> None:
    client.wait()
    call = client.one()
    client.now_ns += HOLD_MS * MS
    (again,) = client.answer(call, failed(call, QueryProblem.NOT_YET, master=1))
    assert (again.member_id, query_of(again)) == (1, query_of(call))
    assert again is not call


def test_a_wait_moves_to_the_master_that_is_named(client: Client) -> None:
    client.wait()
    call = client.one()
    (again,) = client.answer(call, failed(call, QueryProblem.NOT_YET, master=3))
    assert again.member_id == 3
    (again,) = client.answer(again, failed(again, QueryProblem.NOT_YET, master=0))
    assert again.member_id == 3, "it knows of no other"
    (again,) = client.answer(again, failed(again, QueryProblem.NOT_YET, master=9))
    assert again.member_id == 3, "whom nobody knows"


def test_who_says_nothing_in_time_is_not_waited_for(client: Client) -> None:
    waiter = client.wait()
    call = client.one()
    assert client.time_passes(call.patience_ns - 1) == []
    assert client.time_passes(1) == []
    assert client.waits.due_ns == client.now_ns + PAUSE_NS
    (again,) = client.time_passes(PAUSE_NS)
    assert again.member_id == 2
    assert again.message.request_id == call.message.request_id
    client.answer(again, answered(again))
    assert waiter.told == [(b"A", 50)]


def test_a_late_answer_of_whoever_was_asked_before_counts(client: Client) -> None:
    # What it says holds as of an instance since the wait began.
    waiter = client.wait()
    first = client.one()
    client.time_passes(first.patience_ns)
    (second,) = client.time_passes(PAUSE_NS)
    client.answer(first, answered(first, at=33))
    assert waiter.told == [(b"A", 33)]
    client.answer(second, answered(second))
    assert client.lose(second) == []
    assert waiter.told == [(b"A", 33)]


def test_a_late_refusal_counts_too(client: Client) -> None:
    waiter = client.wait()
    first = client.one()
    client.lose(first)
    client.time_passes(PAUSE_NS)
    client.answer(first, failed(first, QueryProblem.REFUSED))
    assert type(waiter.error) is QueryError


@pytest.mark.parametrize("problem", [QueryProblem.NOT_YET, QueryProblem.NO_GROUP])
def test_what_else_an_earlier_one_says_late_changes_nothing(
    client: Client, problem: QueryProblem
) -> None:
    client.wait()
    first = client.one()
    client.lose(first)
    (second,) = client.time_passes(PAUSE_NS)
    due_ns = client.waits.due_ns
    assert client.answer(first, failed(first, problem, master=3)) == []
    assert client.lose(first) == []
    assert client.waits.due_ns == due_ns
    (third,) = client.answer(second, failed(second, QueryProblem.NOT_YET))
    assert third.member_id == second.member_id


def test_members_that_do_not_answer_are_asked_in_turn_and_with_pauses_that_grow(
    client: Client,
) -> None:
    client.wait(for_ms=600_000)
    call, asked, pauses = client.one(), [], []
    for _ in range(9):
        asked.append(call.member_id)
        assert client.lose(call) == []
        due_ns = client.waits.due_ns
        assert due_ns is not None
        pauses.append((due_ns - client.now_ns) // MS)
        assert client.time_passes(due_ns - client.now_ns - 1) == []
        (call,) = client.time_passes(1)
    assert set(asked) == {1, 2, 3}
    assert all(one != other for one, other in pairwise(asked))
    assert pauses == [20, 40, 80, 160, 320, 500, 500, 500, 500]
    assert PAUSE_MAX_NS == 500 * MS
    (call,) = client.answer(call, failed(call, QueryProblem.NOT_YET))
    client.lose(call)
    assert client.waits.due_ns == client.now_ns + PAUSE_NS, "it was at peace there"


def test_a_late_answer_shows_that_its_member_is_reached(client: Client) -> None:
    client.master = 3
    client.wait()
    client.lose(client.one())
    (first,) = client.time_passes(PAUSE_NS)
    client.lose(first)
    (second,) = client.time_passes(2 * PAUSE_NS)
    assert (first.member_id, second.member_id) == (1, 2)
    client.answer(first, failed(first, QueryProblem.NOT_YET))
    client.lose(second)
    (third,) = client.time_passes(4 * PAUSE_NS)
    assert third.member_id == 1, "and not the other one, which has said nothing"


def test_whoever_knows_another_master_than_itself_is_followed(client: Client) -> None:
    client.wait()
    call = client.one()
    assert client.answer(call, failed(call, QueryProblem.STOPPED, master=3)) == []
    (again,) = client.time_passes(PAUSE_NS)
    assert again.member_id == 3


@pytest.mark.parametrize("problem", [QueryProblem.STALE, QueryProblem.NOT_YET])
def test_members_that_were_left_behind_do_not_keep_a_wait_from_the_master(
    client: Client, problem: QueryProblem
) -> None:
    """1 was removed while it was away, and names 3, which has left since; neither knows of 2."""
    client.wait()
    call = client.one()
    asked = [call.member_id]
    while call.member_id != 2:
        answer = failed(call, problem, master=3)
        if call.member_id == 3:
            answer = failed(call, QueryProblem.NO_GROUP)
        (call,) = client.answer(call, answer) or client.time_passes(PAUSE_MAX_NS)
        asked.append(call.member_id)
        assert len(asked) < 50, "they lead from one to the other"
    assert asked[:4] == [1, 3, 1, 3], "whoever is named is asked first"


@pytest.mark.parametrize(
    "message",
    [
        QueryFailed(1, 0, "why", QueryProblem.NO_GROUP),
        QueryFailed(1, 0, "cut off from a master that it names", QueryProblem.STALE, 1),
        Refused(1, RefusalCode.UNKNOWN_GROUP, "why", 0),
    ],
)
def test_a_member_that_has_or_hears_nothing_of_the_group_is_left(
    client: Client, message: Message
) -> None:
    client.wait()
    client.answer(client.one(), message)
    (again,) = client.time_passes(PAUSE_NS)
    assert again.member_id == 2


def test_a_member_with_too_many_queries_is_asked_later(client: Client) -> None:
    client.wait()
    call = client.one()
    assert client.answer(call, failed(call, QueryProblem.OVERLOADED)) == []
    assert len(client.time_passes(PAUSE_NS)) == 1


def test_a_member_that_others_have_met_may_be_guessed_and_be_silent(client: Client) -> None:
    client.names[7] = "m7"
    client.master = 7
    client.wait()
    call = client.one()
    assert call.member_id == 7
    client.lose(call)
    (again,) = client.time_passes(PAUSE_NS)
    assert again.member_id == 1
    (again,) = client.answer(again, failed(again, QueryProblem.NOT_YET, master=7))
    assert again.member_id == 7


def test_members_that_are_met_later_are_asked(client: Client) -> None:
    client.wait()
    client.names[7] = "m7"
    client.waits.meet()
    call = client.one()
    (again,) = client.answer(call, failed(call, QueryProblem.NOT_YET, master=7))
    assert again.member_id == 7


def test_a_master_that_nobody_knows_has_members_looked_for(client: Client) -> None:
    client.wait()
    call = client.one()
    (call,) = client.answer(call, failed(call, QueryProblem.NOT_YET, master=3))
    assert not client.waits.take_lack_of_members()
    (call,) = client.answer(call, failed(call, QueryProblem.NOT_YET, master=9))
    assert client.waits.take_lack_of_members()
    assert not client.waits.take_lack_of_members(), "once"
    client.answer(call, failed(call, QueryProblem.STALE, master=9))
    assert client.waits.take_lack_of_members()


def test_where_nobody_can_be_asked_for_a_while_members_are_looked_for(client: Client) -> None:
    client.wait()
    call = client.one()
    for lacks in (False, False, False, False, False, True, True):
        client.lose(call)
        assert client.waits.take_lack_of_members() is lacks
        (call,) = client.time_passes(PAUSE_MAX_NS)
    client.names[7] = "m7"
    client.waits.meet()
    asked = set()
    for _ in range(8):
        asked.add(call.member_id)
        client.lose(call)
        (call,) = client.time_passes(PAUSE_MAX_NS)
    assert asked == {1, 2, 3, 7}


# Ends.


def test_what_the_machine_refuses_fails_at_once(client: Client) -> None:
    waiter = client.wait()
    call = client.one()
    assert client.answer(call, failed(call, QueryProblem.REFUSED)) == []
    assert type(waiter.error) is QueryError
    assert str(waiter.error) == "why"
    assert len(client.waits) == 0


def test_what_has_not_happened_in_time_is_told_as_that(client: Client) -> None:
    waiter = client.wait(for_ms=HOLD_MS + 1_000)
    call = client.one()
    client.now_ns += HOLD_MS * MS
    (again,) = client.answer(call, failed(call, QueryProblem.NOT_YET))
    assert query_of(again).wait_ms == 1_000
    assert client.waits.due_ns == client.now_ns + 1_000 * MS
    assert client.time_passes(1_000 * MS - 1) == []
    assert waiter.told == []
    assert client.time_passes(1) == []
    assert isinstance(waiter.error, NotYetError)
    assert "has not happened in time" in str(waiter.error)
    assert len(client.waits) == 0
    assert client.answer(again, answered(again)) == [], "nobody waits for it"


@pytest.mark.parametrize(
    ("problem", "kind"),
    [
        (QueryProblem.STOPPED, QueryError),
        (QueryProblem.NO_GROUP, QueryError),
        (QueryProblem.OVERLOADED, QueryError),
        (QueryProblem.NO_LEASE, LeaseError),
        (QueryProblem.BEHIND, StaleReadError),
        (QueryProblem.STALE, StaleReadError),
    ],
)
def test_what_kept_it_from_waiting_is_told(
    client: Client, problem: QueryProblem, kind: type[PaxosError]
) -> None:
    waiter = client.wait(for_ms=10)
    call = client.one()
    client.answer(call, failed(call, problem))
    client.time_passes(10 * MS)
    assert type(waiter.error) is kind
    assert "member m1: why" in str(waiter.error)


def test_a_member_that_could_not_be_called_is_told_by_name(client: Client) -> None:
    waiter = client.wait(for_ms=10)
    client.lose(client.one(), "a member's learner cannot be reached")
    client.time_passes(10 * MS)
    assert type(waiter.error) is QueryError
    assert "member m1: a member's learner cannot be reached" in str(waiter.error)


def test_what_was_in_the_way_before_it_could_wait_is_not_told(client: Client) -> None:
    waiter = client.wait(for_ms=2 * HOLD_MS)
    client.lose(client.one())
    (call,) = client.time_passes(PAUSE_NS)
    client.now_ns += HOLD_MS * MS
    client.answer(call, failed(call, QueryProblem.NOT_YET))
    client.time_passes(HOLD_MS * MS)
    assert isinstance(waiter.error, NotYetError)


@pytest.mark.parametrize(("held_ns", "kind"), [(HELD_NS - 1, QueryError), (HELD_NS, NotYetError)])
def test_nor_is_it_where_somebody_has_held_it_since(
    client: Client, held_ns: int, kind: type[PaxosError]
) -> None:
    waiter = client.wait(for_ms=2_000)
    client.lose(client.one())
    client.now_ns = waiter.deadline_ns - held_ns
    assert len(client.time_passes(0)) == 1
    client.time_passes(held_ns)
    assert type(waiter.error) is kind


def test_who_waits_no_more_is_not_asked_for(client: Client) -> None:
    waiters = [client.wait(b"%d" % number) for number in range(3)]
    waiters[1].is_cancelled = True
    calls = client.send()
    assert [query_of(call).request for call in calls] == [b"0", b"2"]
    assert len(client.waits) == 2
    waiters[0].is_cancelled = True
    assert client.answer(calls[0], failed(calls[0], QueryProblem.NOT_YET)) == []
    waiters[2].is_cancelled = True
    client.answer(calls[1], answered(calls[1]))
    assert len(client.waits) == 0
    assert client.waits.due_ns is None


@pytest.mark.parametrize("is_sent", [False, True])
def test_who_waits_no_more_is_forgotten_in_the_end(client: Client, is_sent: bool) -> None:
    waiter = client.wait(for_ms=10)
    if is_sent:
        client.one()
    waiter.is_cancelled = True
    client.time_passes(10 * MS)
    assert len(client.waits) == 0
    assert waiter.told == []


def test_closing_tells_everybody(client: Client) -> None:
    waiters = [client.wait() for _ in range(4)]
    first, second, *_ = client.send()
    client.lose(second)
    waiters.append(client.wait())
    waiters[2].is_cancelled = True
    outcomes = Outcomes()
    client.waits.end(outcomes)
    outcomes.settle()
    assert [bool(waiter.told) for waiter in waiters] == [True, True, False, True, True]
    assert isinstance(waiters[0].error, ClientClosedError)
    assert len(client.waits) == 0
    assert client.send() == []
    assert client.answer(first, answered(first)) == []


def test_a_wait_for_ever_ends_with_its_answer(client: Client) -> None:
    waiter = Waiter(sys.maxsize, lambda: client.now_ns)
    client.waits.add("kv", b"a", 0, waiter)
    call = client.one()
    for _ in range(50):
        client.now_ns += HOLD_MS * MS
        (call,) = client.answer(call, failed(call, QueryProblem.NOT_YET, master=2))
    assert client.waits.due_ns == client.now_ns + call.patience_ns
    client.answer(call, answered(call))
    assert waiter.told == [(b"A", 50)]
