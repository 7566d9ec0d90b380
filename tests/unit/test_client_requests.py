"""A client's calls: whom it asks, what answers and silence mean, and when it gives up."""

from __future__ import annotations

import sys

import pytest

from ray_paxos.core.master_guess import MasterGuess
from ray_paxos.core.messages import (
    Address,
    Envelope,
    Message,
    OpenSession,
    Redirected,
    RefusalCode,
    Refused,
    RoleName,
    Submit,
    Submitted,
)
from ray_paxos.core.requests import Call, ClientRequests, ClientSettings, Outcomes
from ray_paxos.core.results import EntryResult, Note, NoteCode
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.errors import (
    ClientClosedError,
    CommandTooLargeError,
    NotAppliedError,
    OutcomeUnknownError,
    PaxosError,
    SessionExpiredError,
)

MEMBERS = (10, 20, 30)
MS = MILLISECOND_NS


class Waiter:
    def __init__(self, deadline_ns: int = sys.maxsize) -> None:
        self.deadline_ns = deadline_ns
        self.result: EntryResult | None = None
        self.error: PaxosError | None = None

    def begin(self) -> bool:
        return True

    def deliver(self, start: int, entry: EntryResult, offset: int, count: int) -> None:
        self.result = entry

    def fail(self, start: int, error: PaxosError, count: int) -> None:
        self.error = error


class Client:
    """The requests of one client, with a clock set by hand."""

    def __init__(self, **settings: int) -> None:
        self.now_ns = 1_000_000 * MS
        self.settings = ClientSettings(**settings)
        self.requests = ClientRequests(MEMBERS, label="test", first=0, settings=self.settings)

    def submit(self, command: bytes = b"x", deadline_ns: int = sys.maxsize) -> Waiter:
        waiter = Waiter(deadline_ns)
        self.requests.session.enqueue("kv", [command], waiter)
        return waiter

    def call(self) -> Call:
        call = self.requests.next_call(self.now_ns)
        assert call is not None
        return call

    def answer(self, call: Call, *messages: Message) -> None:
        envelopes = [
            Envelope(b"", 1, Address(call.member_id, RoleName.PROPOSER), 0, 1, 0, message)
            for message in messages
        ]
        outcomes = Outcomes()
        self.requests.on_answer(call, envelopes, self.now_ns, outcomes)
        outcomes.settle()

    def open(self) -> None:
        self.requests.want_session()
        call = self.call()
        opened = EntryResult(3, 1, (None,), {})
        self.answer(call, Submitted(call.message.request_id, (opened,)))

    def time_passes(self, milliseconds: float) -> None:
        self.now_ns += int(milliseconds * MS)
        outcomes = Outcomes()
        self.requests.on_deadline(self.now_ns, outcomes)
        outcomes.settle()


def applied(call: Call, instance_id: int = 9, note: Note | None = None) -> Submitted:
    assert isinstance(call.message, Submit)
    results = tuple(
        EntryResult(instance_id, 0, tuple(b.commands), {0: note} if note is not None else {})
        for b in call.message.batches
    )
    return Submitted(call.message.request_id, results)


def test_the_first_command_opens_the_session_and_then_goes() -> None:
    client = Client()
    assert client.requests.next_call(client.now_ns) is None
    waiter = client.submit()
    opening = client.call()
    assert isinstance(opening.message, OpenSession)
    assert client.requests.next_call(client.now_ns) is None, "one opening at a time"
    client.answer(opening, Submitted(opening.message.request_id, (EntryResult(3, 1, (None,), {}),)))
    call = client.call()
    assert isinstance(call.message, Submit)
    assert call.message.batches[0].session.instance_id == 3
    client.answer(call, applied(call))
    assert waiter.result is not None
    assert client.requests.last_instance == 9
    assert client.requests.is_idle


def test_a_redirect_is_followed_at_once() -> None:
    client = Client()
    client.open()
    waiter = client.submit()
    call = client.call()
    client.answer(call, Redirected(call.message.request_id, 30, 0))
    again = client.call()
    assert again.member_id == 30
    assert again.message.request_id == call.message.request_id
    client.answer(again, applied(again))
    assert waiter.result is not None


def test_without_a_master_it_waits_as_told_and_asks_the_next_member() -> None:
    client = Client()
    client.open()
    client.submit()
    call = client.call()
    client.time_passes(0)
    client.answer(call, Redirected(call.message.request_id, None, 200))
    assert client.requests.next_call(client.now_ns) is None
    assert client.requests.due_ns(client.now_ns) == client.now_ns + 200 * MS
    client.time_passes(200)
    assert client.call().member_id == 20


def test_one_redirect_of_several_starts_over_once() -> None:
    client = Client(request_bytes_max=1)
    client.open()
    for _ in range(3):
        client.submit()
    first, second, third = (client.call() for _ in range(3))
    client.answer(first, Redirected(first.message.request_id, 20, 0))
    again = [client.call() for _ in range(3)]
    assert [c.member_id for c in again] == [20, 20, 20]
    client.answer(second, Redirected(second.message.request_id, 30, 0))
    assert client.requests.guess.member_id == 20, "what the old master says later means nothing"
    assert client.requests.next_call(client.now_ns) is None
    client.answer(third, applied(third))
    client.answer(again[0], applied(again[0]))
    client.answer(again[1], applied(again[1]))
    assert client.requests.is_idle, "a result is welcome whenever it comes"


@pytest.mark.parametrize("how", ["error", "not serving", "silence"])
def test_a_call_without_an_answer_is_made_again_to_the_next_member(how: str) -> None:
    client = Client()
    client.open()
    waiter = client.submit()
    call = client.call()
    if how == "error":
        client.requests.on_lost(call, client.now_ns)
    elif how == "not serving":
        client.answer(call)
    else:
        client.time_passes(2_999)
        assert client.requests.next_call(client.now_ns) is None
        client.time_passes(1)
    assert client.requests.next_call(client.now_ns) is None, "a pause first"
    client.time_passes(50)
    again = client.call()
    assert again.member_id == 20
    client.answer(again, applied(again))
    assert waiter.result is not None


def test_a_member_that_owes_too_many_answers_gets_no_more() -> None:
    client = Client(owed_calls_max=2)
    client.open()
    client.submit()
    asked = []
    for _ in range(8):
        call = client.requests.next_call(client.now_ns)
        if call is not None:
            asked.append(call.member_id)
        client.time_passes(3_000)
        client.time_passes(600)
    assert asked == [10, 20, 30, 10, 20, 30]
    client.time_passes(60_000)
    assert client.requests.next_call(client.now_ns) is not None, "old debts are forgotten"


def test_overload_waits_and_repeats_under_the_same_number() -> None:
    client = Client()
    client.open()
    waiter = client.submit()
    call = client.call()
    refused = Refused(call.message.request_id, RefusalCode.OVERLOADED, "full", 100)
    client.answer(call, refused)
    assert client.requests.next_call(client.now_ns) is None
    client.time_passes(100)
    again = client.call()
    assert isinstance(again.message, Submit)
    assert again.message.batches[0].first_number == 1
    client.answer(again, applied(again))
    assert waiter.result is not None


def test_a_refusal_for_good_is_an_error_that_says_not_applied() -> None:
    client = Client()
    client.open()
    waiter, later = client.submit(), client.submit()
    call = client.call()
    client.answer(call, Refused(call.message.request_id, RefusalCode.TOO_LARGE, "9 bytes", 0))
    assert isinstance(waiter.error, CommandTooLargeError)
    assert "9 bytes" in str(waiter.error)
    assert isinstance(later.error, CommandTooLargeError)


def test_a_group_that_is_not_there_fails_whatever_waits() -> None:
    client = Client()
    waiter = client.submit()
    call = client.call()
    unknown = Refused(call.message.request_id, RefusalCode.UNKNOWN_GROUP, "no group 7", 0)
    client.answer(call, unknown)
    assert isinstance(waiter.error, NotAppliedError)
    assert "no group 7" in str(waiter.error)
    assert not client.requests.session.has_work


def test_an_evicted_session_fails_what_was_sent_and_opens_another() -> None:
    client = Client(request_bytes_max=1)
    client.open()
    first, second = client.submit(), client.submit()
    one, two = client.call(), client.call()
    waiting = client.submit()
    client.answer(one, applied(one, note=Note(NoteCode.NO_SESSION, "", 0, 0)))
    assert first.result is not None, "the note in it is the receiver's to read"
    assert isinstance(second.error, SessionExpiredError)
    assert waiting.error is None
    assert isinstance(client.call().message, OpenSession)
    client.answer(two, Redirected(two.message.request_id, 30, 0))
    assert client.requests.guess.member_id == 10


def test_a_command_whose_time_is_over_is_unknown_once_it_was_sent() -> None:
    client = Client(request_bytes_max=1, window_max=1)
    client.open()
    client.time_passes(0)
    limit_ns = client.now_ns + 500 * MS
    sent, unsent = client.submit(deadline_ns=limit_ns), client.submit(deadline_ns=limit_ns)
    call = client.call()
    client.time_passes(400)
    assert sent.error is None
    client.time_passes(300)
    assert isinstance(sent.error, OutcomeUnknownError)
    assert isinstance(unsent.error, NotAppliedError)
    client.answer(call, applied(call))
    assert sent.result is None, "it was told already"
    assert client.requests.is_idle


def test_a_closing_client_says_what_may_be_applied() -> None:
    client = Client(request_bytes_max=1, window_max=1)
    client.open()
    sent, unsent = client.submit(), client.submit()
    client.call()
    outcomes = Outcomes()
    client.requests.give_up(outcomes)
    outcomes.settle()
    assert isinstance(sent.error, OutcomeUnknownError)
    assert isinstance(unsent.error, ClientClosedError)


def test_room_is_bounded_but_never_closed_to_one_alone() -> None:
    client = Client(held_commands_max=2, held_bytes_max=100)
    assert client.requests.has_room(50, 5_000), "alone, whatever it takes"
    client.submit(b"x" * 60)
    assert client.requests.has_room(1, 40)
    assert not client.requests.has_room(1, 41)
    assert not client.requests.has_room(2, 1)


def test_an_idle_client_wants_no_call_and_no_time() -> None:
    client = Client()
    client.open()
    assert client.requests.next_call(client.now_ns) is None
    assert client.requests.due_ns(client.now_ns) is None


def test_a_call_that_was_not_made_is_made_at_once_to_the_same_member() -> None:
    client = Client()
    client.open()
    client.submit()
    call = client.call()
    client.requests.on_not_made(call, client.now_ns)
    assert client.call().member_id == call.member_id


def test_the_guess_follows_answers_redirects_and_failures() -> None:
    guess = MasterGuess((10, 20, 30), first=4)
    assert guess.member_id == 20
    guess.redirected(20, 30)
    assert (guess.member_id, guess.is_known) == (30, True)
    guess.redirected(20, 10)
    assert guess.member_id == 30, "a late redirect of a member that is not asked any more"
    guess.redirected(30, None)
    assert (guess.member_id, guess.is_known) == (10, False)
    guess.failed(30)
    assert guess.member_id == 10
    guess.failed(10)
    assert guess.member_id == 20
    guess.answered(30)
    assert guess.member_id == 30
    guess.redirected(30, 99)
    assert guess.member_id == 10, "a member that is not of this cluster is not believed"
