"""A client's calls: whom it asks, what answers and silence mean, and when it gives up."""

from __future__ import annotations

import sys

import pytest

from ray_paxos.core.client_calls import Call, ClientSettings
from ray_paxos.core.client_messages import (
    OpenSession,
    Redirected,
    RefusalCode,
    Refused,
    Submit,
    Submitted,
)
from ray_paxos.core.master_guess import MasterGuess
from ray_paxos.core.messages import Address, Envelope, Message, RoleName
from ray_paxos.core.patience import SEARCH_NS, Patience
from ray_paxos.core.pending import Outcomes
from ray_paxos.core.requests import ClientRequests
from ray_paxos.core.results import EntryResult, Note, NoteCode
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.core.values import END_OF_SESSION, SESSION_IDLE_NS, SessionId
from ray_paxos.errors import (
    ClientClosedError,
    CommandTooLargeError,
    MachineStoppedError,
    NoMasterError,
    NotAppliedError,
    OutcomeUnknownError,
    OverloadedError,
    PaxosError,
    SessionExpiredError,
    SessionUnknownError,
)
from tests.unit.client_world import refusal, submit_of

MEMBERS = (10, 20, 30)
MS = MILLISECOND_NS


class Waiter:
    def __init__(self, deadline_ns: int = sys.maxsize) -> None:
        self.deadline_ns = deadline_ns
        self.is_cancelled = False
        self.result: EntryResult | None = None
        self.error: PaxosError | None = None

    def begin(self) -> bool:
        return not self.is_cancelled

    def deliver(self, start: int, entry: EntryResult, offset: int, count: int) -> None:
        self.result = entry

    def fail(self, start: int, error: PaxosError, count: int) -> None:
        self.error = error


class Client:
    """The requests of one client, with a clock set by hand."""

    def __init__(self, **settings: int) -> None:
        self.now_ns = 1_000_000 * MS
        # Whom somebody finds who looks for members, and how often somebody has.
        self.known: tuple[int, ...] = MEMBERS
        self.looked = 0
        self.settings = ClientSettings(**settings)
        self.requests = ClientRequests(
            Patience(MEMBERS), label="test", first=0, settings=self.settings
        )

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
        if self.requests.take_lack_of_members():
            self.looked += 1
            self.requests.meet(self.known, self.now_ns, outcomes)
        outcomes.settle()

    def open(self) -> None:
        """Open the session, as a command that is cancelled meanwhile has it opened."""
        waiter = self.submit()
        call = self.call()
        waiter.is_cancelled = True
        self.answer(call, opened(call))
        assert self.requests.next_call(self.now_ns) is None

    def time_passes(self, milliseconds: float) -> None:
        self.now_ns += int(milliseconds * MS)
        outcomes = Outcomes()
        self.requests.on_deadline(self.now_ns, outcomes)
        outcomes.settle()


def opened(call: Call, instance_id: int = 3) -> Submitted:
    return Submitted(call.message.request_id, (EntryResult(instance_id, 1, (None,), {}),))


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
    client.answer(opening, opened(opening))
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


def test_members_that_name_each_other_are_not_asked_without_a_pause() -> None:
    client = Client()
    client.open()
    client.submit()
    call, asked = client.requests.next_call(client.now_ns), 0
    while call is not None:
        asked += 1
        assert asked <= 4, "three members, and once more"
        other = 10 + call.member_id % 30
        client.answer(call, Redirected(call.message.request_id, other, 0))
        call = client.requests.next_call(client.now_ns)
    client.time_passes(100)
    assert client.requests.next_call(client.now_ns) is not None


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


def test_a_group_that_no_member_has_fails_whatever_waits() -> None:
    client = Client()
    waiter = client.submit(deadline_ns=client.now_ns + 10**12)
    for asked, _ in enumerate(MEMBERS):
        assert waiter.error is None
        call = client.call()
        assert call.member_id == MEMBERS[asked]
        client.answer(call, refusal(call, RefusalCode.UNKNOWN_GROUP, "no group 7", 0))
        client.time_passes(50)
    assert type(waiter.error) is NotAppliedError
    assert "no group 7" in str(waiter.error)
    assert not client.requests.session.has_work


def test_an_evicted_session_fails_what_was_sent_and_opens_another() -> None:
    client = Client(request_bytes_max=1)
    client.open()
    first, second = client.submit(), client.submit()
    one, two = client.call(), client.call()
    waiting = client.submit()
    client.answer(one, applied(one, note=Note(NoteCode.SESSION_EXPIRED, "", 0, 0)))
    for waiter, may_have_applied in ((first, False), (second, True)):
        assert isinstance(waiter.error, SessionExpiredError)
        # The log has said of the first that its only copy was not applied.
        assert waiter.error.may_have_applied is may_have_applied
    assert waiting.error is None
    opening = client.call()
    assert isinstance(opening.message, OpenSession)
    client.answer(two, Redirected(two.message.request_id, 30, 0))
    assert client.requests.guess.member_id == 10
    # What was open is not sent again under the new session, by itself.
    client.answer(opening, opened(opening, 50))
    (batch,) = submit_of(client.call()).batches
    assert (batch.session, batch.first_number, batch.lowest_open) == (SessionId(50, 1), 3, 3)


def test_a_session_that_was_never_opened_is_another_error() -> None:
    client = Client()
    client.open()
    waiter = client.submit()
    call = client.call()
    client.answer(call, applied(call, note=Note(NoteCode.SESSION_UNKNOWN, "", 0, 0)))
    assert isinstance(waiter.error, SessionUnknownError)
    assert not waiter.error.may_have_applied
    client.submit()
    assert isinstance(client.call().message, OpenSession)


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
    assert sent.error.number == 1
    assert sent.error.may_have_applied
    assert isinstance(unsent.error, OverloadedError), "behind its own earlier commands"
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


# What is certain, and what is not.


def test_overload_until_the_time_is_over_is_certainly_not_applied() -> None:
    client = Client()
    client.open()
    waiter = client.submit(deadline_ns=client.now_ns + 350 * MS)
    for _ in range(3):
        call = client.call()
        client.answer(call, refusal(call, RefusalCode.OVERLOADED, "5 requests wait", 100))
        client.time_passes(125)
    assert isinstance(waiter.error, OverloadedError)
    assert not waiter.error.may_have_applied
    assert waiter.error.retry_after_s == pytest.approx(0.1)
    assert "5 requests wait" in str(waiter.error)
    client.submit()
    assert submit_of(client.call()).batches[0].first_number == 2, "1 is a gap for ever"


def test_overload_after_a_lost_call_is_not_certain() -> None:
    client = Client()
    client.open()
    waiter = client.submit(deadline_ns=client.now_ns + 100 * MS)
    client.requests.on_lost(client.call(), client.now_ns)
    client.time_passes(60)
    again = client.call()
    client.answer(again, refusal(again, RefusalCode.OVERLOADED))
    client.time_passes(300)
    assert isinstance(waiter.error, OutcomeUnknownError)
    assert submit_of(client.call()).batches[0].first_number == 1


def test_a_late_word_of_a_lost_call_makes_it_certain() -> None:
    client = Client()
    client.open()
    waiter = client.submit(deadline_ns=client.now_ns + 3_100 * MS)
    call = client.call()
    client.time_passes(3_000)
    client.answer(call, Redirected(call.message.request_id, None, 0, untouched=True))
    assert client.requests.next_call(client.now_ns) is None, "of an older epoch: no new one"
    client.time_passes(300)
    assert isinstance(waiter.error, NoMasterError)


@pytest.mark.parametrize("untouched", [True, False])
def test_a_redirect_says_whether_it_took_the_request(untouched: bool) -> None:
    client = Client()
    client.open()
    waiter = client.submit(deadline_ns=client.now_ns + 100 * MS)
    call = client.call()
    client.answer(call, Redirected(call.message.request_id, None, 200, untouched))
    client.time_passes(300)
    assert isinstance(waiter.error, NoMasterError if untouched else OutcomeUnknownError)
    assert waiter.error.may_have_applied is not untouched


def test_a_role_that_does_not_serve_has_taken_nothing() -> None:
    client = Client()
    client.open()
    waiter = client.submit(deadline_ns=client.now_ns + 100 * MS)
    client.requests.on_not_serving(client.call(), "a member is opening", client.now_ns)
    client.time_passes(300)
    assert isinstance(waiter.error, NoMasterError)
    assert waiter.error.retry_after_s
    assert "a member is opening" in str(waiter.error)


def test_too_late_to_be_proposed_is_certain() -> None:
    client = Client()
    client.open()
    waiter = client.submit(deadline_ns=client.now_ns + 800 * MS)
    call = client.call()
    assert submit_of(call).timeout_ms == 701
    client.time_passes(701)
    client.answer(call, refusal(call, RefusalCode.TOO_LATE, "its time was over", 0))
    assert isinstance(waiter.error, OverloadedError), "before its time is over here"
    assert not client.requests.session.has_work


def test_an_answer_to_another_request_is_none() -> None:
    client = Client()
    client.open()
    waiter = client.submit(deadline_ns=client.now_ns + 100 * MS)
    call = client.call()
    client.answer(call, Refused(call.message.request_id + 1, RefusalCode.OVERLOADED, "", 0))
    client.time_passes(300)
    assert isinstance(waiter.error, OutcomeUnknownError)


# Members that cannot serve.


def stopped_everywhere(client: Client, rounds: int = 1) -> None:
    for _ in range(rounds * len(MEMBERS)):
        client.time_passes(1_000)
        call = client.call()
        client.answer(call, refusal(call, RefusalCode.APPLY_STOPPED, "machine 'kv' failed", 200))


def test_a_machine_that_failed_on_all_members_refuses_by_name() -> None:
    client = Client()
    client.open()
    waiters = [client.submit(deadline_ns=client.now_ns + 10**12) for _ in range(3)]
    stopped_everywhere(client)
    for waiter in waiters:
        assert isinstance(waiter.error, MachineStoppedError)
        assert "machine 'kv' failed" in str(waiter.error)
        assert waiter.error.retry_after_s
    # And goes on doing so at the first word, until it is mended.
    another = client.submit(deadline_ns=client.now_ns + 10**12)
    client.time_passes(1_000)
    call = client.call()
    client.answer(call, refusal(call, RefusalCode.APPLY_STOPPED, "machine 'kv' failed", 200))
    assert isinstance(another.error, MachineStoppedError)
    last = client.submit(deadline_ns=client.now_ns + 10**12)
    client.time_passes(1_000)
    call = client.call()
    client.answer(call, applied(call))
    assert last.result is not None


def test_what_may_be_in_the_log_of_a_stopped_group_is_unknown() -> None:
    client = Client()
    client.open()
    waiter = client.submit(deadline_ns=client.now_ns + 10**12)
    client.requests.on_lost(client.call(), client.now_ns)
    # The one that gave no answer is passed over in the first.
    stopped_everywhere(client, rounds=2)
    assert isinstance(waiter.error, OutcomeUnknownError)
    assert "machine 'kv' failed" in str(waiter.error)
    client.time_passes(1_000)
    call = client.call()
    assert submit_of(call).batches[0].first_number == 1, "it is asked for until it is mended"


def test_one_member_that_goes_on_is_enough() -> None:
    client = Client()
    client.open()
    waiter = client.submit(deadline_ns=client.now_ns + 10**12)
    for _ in range(2):
        call = client.call()
        client.answer(call, refusal(call, RefusalCode.APPLY_STOPPED, "broken", 200))
        client.time_passes(200)
    call = client.call()
    client.answer(call, Redirected(call.message.request_id, None, 0, untouched=True))
    client.time_passes(200)
    call = client.call()
    client.answer(call, applied(call))
    assert waiter.result is not None


def test_a_member_that_serves_again_counts_again() -> None:
    client = Client()
    client.open()
    waiter = client.submit(deadline_ns=client.now_ns + 10**12)
    for said in ("stopped", "stopped", "redirects", "redirects", "redirects", "stopped"):
        call = client.call()
        answer: Message = refusal(call, RefusalCode.APPLY_STOPPED, "broken", 200)
        if said == "redirects":
            answer = Redirected(call.message.request_id, None, 0, untouched=True)
        client.answer(call, answer)
        client.time_passes(200)
    assert waiter.error is None, "two of them have been mended meanwhile"


# Room in the log.


def test_a_full_table_of_sessions_is_overload() -> None:
    client = Client()
    waiter = client.submit(deadline_ns=client.now_ns + 1_500 * MS)
    full = {0: Note(NoteCode.OVERLOADED, "7 sessions are open", 3, 1)}
    for _ in range(2):
        call = client.call()
        assert isinstance(call.message, OpenSession)
        client.answer(call, Submitted(call.message.request_id, (EntryResult(3, 1, (None,), full),)))
        assert client.requests.next_call(client.now_ns) is None
        client.time_passes(1_000)
    assert isinstance(waiter.error, OverloadedError)
    assert waiter.error.retry_after_s == pytest.approx(1.0)
    assert "7 sessions are open" in str(waiter.error)
    later = client.submit()
    call = client.call()
    client.answer(call, opened(call))
    call = client.call()
    client.answer(call, applied(call))
    assert later.result is not None


def test_results_kept_for_others_are_overload() -> None:
    client = Client()
    client.open()
    waiter = client.submit()
    call = client.call()
    client.answer(call, applied(call, note=Note(NoteCode.OVERLOADED, "too much is kept", 0, 0)))
    assert waiter.result is None
    assert client.requests.next_call(client.now_ns) is None, "a pause, not a flood of the log"
    client.time_passes(1_000)
    again = client.call()
    assert submit_of(again).batches[0].first_number == 1
    client.answer(again, applied(again))
    assert waiter.result is not None


# A session that was silent for long.


def test_a_session_that_may_be_evicted_soon_is_not_used_again() -> None:
    client = Client()
    client.open()
    half_ms = SESSION_IDLE_NS // 2 // MS
    client.submit()
    call = client.call()
    client.answer(call, applied(call))
    client.time_passes(half_ms)
    client.submit()
    assert isinstance(client.call().message, Submit), "used a short time ago"


def test_a_silent_client_opens_another_session_by_itself() -> None:
    client = Client()
    client.open()
    client.submit()
    call = client.call()
    client.answer(call, applied(call))
    client.time_passes(SESSION_IDLE_NS // 2 // MS + 1)
    assert client.requests.next_call(client.now_ns) is None, "not before it is needed"
    waiter = client.submit()
    opening = client.call()
    assert isinstance(opening.message, OpenSession)
    client.answer(opening, opened(opening, 80))
    call = client.call()
    (batch,) = submit_of(call).batches
    assert (batch.session, batch.first_number, batch.lowest_open) == (SessionId(80, 1), 2, 2)
    client.answer(call, applied(call))
    assert waiter.result is not None


def test_open_numbers_hold_on_to_their_session() -> None:
    client = Client()
    client.open()
    client.submit()
    call = client.call()
    client.requests.on_lost(call, client.now_ns)
    client.time_passes(SESSION_IDLE_NS // MS)
    assert isinstance(client.call().message, Submit)


def test_the_last_call_ends_the_session() -> None:
    client = Client()
    client.open()
    client.submit()
    assert client.requests.last_call(client.now_ns) is None
    call = client.call()
    client.answer(call, applied(call))
    last = client.requests.last_call(client.now_ns)
    assert last is not None
    assert submit_of(last).batches[0].lowest_open == END_OF_SESSION


def test_the_guess_follows_answers_redirects_and_failures() -> None:
    guess = MasterGuess(Patience((10, 20, 30)), first=4)
    assert guess.member_id == 20
    guess.redirected(20, 30)
    assert guess.member_id == 30
    guess.redirected(20, 10)
    assert guess.member_id == 30, "a late redirect of a member that is not asked any more"
    guess.redirected(30, None)
    assert guess.member_id == 10
    guess.failed(30)
    assert guess.member_id == 10
    guess.failed(10)
    assert guess.member_id == 20
    guess.answered(30)
    guess.patience.answered(30)
    assert guess.member_id == 30
    guess.redirected(30, 99)
    assert guess.member_id == 20, "nobody believes in a member that is not of this cluster"
    guess.redirected(20, None)
    assert guess.member_id == 30
    guess.redirected(30, None)
    assert guess.member_id == 10, "one that gave no answer is passed over once"


# Members that cannot be reached.


def test_of_members_that_nobody_reaches_each_costs_little_but_the_one_that_led() -> None:
    """Cut off from all but member 30, which leads by now."""
    client = Client(deadline_interval_ns=60_000 * MS)
    client.open()
    client.submit()
    begin_ns = client.now_ns
    asked = [client.call()]
    client.time_passes(client.settings.call_timeout_ns / MS)
    while (call := wait_for_call(client)).member_id != 30:
        asked.append(call)
        due_ns = client.requests.due_ns(client.now_ns)
        assert due_ns is not None
        assert due_ns <= call.sent_ns + SEARCH_NS
        client.time_passes(SEARCH_NS / MS)
    assert [each.member_id for each in asked] == [10, 20]
    spent_ns = client.now_ns - begin_ns - client.settings.call_timeout_ns
    assert spent_ns < SEARCH_NS + 10 * client.settings.pause_ns
    client.answer(call, applied(call))


def wait_for_call(client: Client) -> Call:
    while (call := client.requests.next_call(client.now_ns)) is None:
        client.time_passes(10)
    return call


def test_a_master_that_is_only_slow_is_given_its_time_again_once_it_has_answered() -> None:
    client = Client()
    client.open()
    waiter = client.submit()
    slow = client.call()
    assert slow.patience_ns == client.settings.call_timeout_ns
    client.time_passes(client.settings.call_timeout_ns / MS)
    other = wait_for_call(client)
    client.answer(other, Redirected(other.message.request_id, 10, 0, untouched=True))
    again = client.call()
    assert (again.member_id, again.patience_ns) == (10, 2 * SEARCH_NS)
    client.answer(again, Redirected(again.message.request_id, 20, 0, untouched=True))
    assert client.call().patience_ns == client.settings.call_timeout_ns, "20 has answered"
    client.answer(slow, applied(slow))
    assert waiter.result is not None
    client.submit()
    assert client.call().patience_ns == client.settings.call_timeout_ns


def test_a_master_that_nobody_knew_is_looked_for_and_asked() -> None:
    client = Client()
    client.submit()
    client.known = (*MEMBERS, 40)
    call = client.call()
    client.answer(call, Redirected(call.message.request_id, 40, 0))
    assert client.looked == 1
    assert client.call().member_id == 40


def test_where_no_known_member_has_the_group_another_one_may() -> None:
    client = Client()
    waiter = client.submit()
    client.known = (*MEMBERS, 40, 50)
    for _ in MEMBERS:
        call = client.call()
        refused = Refused(call.message.request_id, RefusalCode.UNKNOWN_GROUP, "not here", 0)
        client.answer(call, refused)
        client.now_ns += 1_000 * MS
    assert client.looked == 1
    assert waiter.error is None
    call = client.call()
    assert call.member_id == 40
    client.answer(call, opened(call))
    assert client.requests.session.session is not None


def test_where_nobody_else_is_found_it_fails_at_once() -> None:
    client = Client()
    waiter = client.submit()
    for _ in MEMBERS:
        assert waiter.error is None
        call = client.call()
        refused = Refused(call.message.request_id, RefusalCode.UNKNOWN_GROUP, "not here", 0)
        client.answer(call, refused)
        client.now_ns += 1_000 * MS
    assert isinstance(waiter.error, NotAppliedError)


def test_a_redirect_to_a_known_member_makes_nobody_look() -> None:
    client = Client()
    client.submit()
    call = client.call()
    client.answer(call, Redirected(call.message.request_id, 20, 0))
    assert client.looked == 0


def test_members_that_were_left_behind_do_not_keep_a_client_from_the_master() -> None:
    """10 was removed while it was away, and names 30, which has left since; neither knows of 20."""
    guess = MasterGuess(Patience((10, 20, 30)))
    asked = [guess.member_id]
    while guess.member_id != 20:
        guess.redirected(guess.member_id, 30 if guess.member_id == 10 else None)
        asked.append(guess.member_id)
        assert len(asked) < 50, "they lead from one to the other"
    assert asked[:4] == [10, 30, 10, 30], "whoever is named is asked first"
    guess.answered(20)
    guess.redirected(20, 30)
    assert guess.member_id == 30, "after an answer a search begins anew"


def test_a_dead_master_that_is_named_for_ever_is_left_too() -> None:
    guess = MasterGuess(Patience((10, 20, 30)))
    asked = [guess.member_id]
    while guess.member_id != 20:
        if guess.member_id == 30:
            guess.failed(30)
        else:
            guess.redirected(10, 30)
        asked.append(guess.member_id)
        assert len(asked) < 50, "they lead from one to the other"
    assert asked[:4] == [10, 30, 10, 30]


def test_members_that_only_name_each_other_have_others_looked_for() -> None:
    client = Client()
    client.submit(b"a")
    asked = []
    while client.looked < 2:
        call = client.requests.next_call(client.now_ns)
        if call is None:
            client.time_passes(10)
            continue
        asked.append(call.member_id)
        master = 40 - call.member_id if call.member_id != 20 else None
        client.answer(call, Redirected(call.message.request_id, master, 0))
        assert len(asked) < 50, "once in each turn"
    assert set(asked) == {*MEMBERS}


def test_in_a_time_without_a_master_nobody_is_looked_for() -> None:
    client = Client()
    client.submit(b"a")
    redirects, end_ns = 0, client.now_ns + 60_000 * MS
    while client.now_ns < end_ns:
        call = client.requests.next_call(client.now_ns)
        if call is None:
            client.time_passes(10)
            continue
        redirects += 1
        client.answer(call, Redirected(call.message.request_id, None, 0))
    assert redirects > 100
    assert client.looked == 0
