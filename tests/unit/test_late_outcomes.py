"""Outcomes that came late: asked for by number, before or after they come; bounded (R10)."""

from __future__ import annotations

import pytest

from ray_paxos.core import late_outcomes
from ray_paxos.core.client_calls import Call
from ray_paxos.core.client_messages import Submitted
from ray_paxos.core.pending import Outcomes
from ray_paxos.core.requests import ClientRequests
from ray_paxos.core.results import EntryResult, Note, NoteCode
from ray_paxos.core.settings import MILLISECOND_NS as MS
from ray_paxos.core.values import WITHDRAWAL
from ray_paxos.errors import (
    ConfigurationError,
    OutcomeUnknownError,
    OverloadedError,
    SessionExpiredError,
)
from tests.unit.client_world import Told, submit_of
from tests.unit.test_client_requests import Client, applied


class Late:
    """A client whose commands, sent together, were all said to be unknown; numbers from 1."""

    def __init__(self, count: int = 3) -> None:
        self.client = Client()
        self.client.open()
        self.told = Told([b"%d" % n for n in range(1, count + 1)], self.client.now_ns + 100 * MS)
        self.requests.session.enqueue("kv", self.told.commands, self.told)
        self.call = self.client.call()
        self.client.time_passes(300)
        (error,) = set(self.told.errors.values())
        assert isinstance(error, OutcomeUnknownError)
        assert error.number == 1

    @property
    def requests(self) -> ClientRequests:
        return self.client.requests

    def ask(self, number: int, *, withdraw: bool = False) -> Told:
        told, outcomes = Told(), Outcomes()
        (self.requests.abandon if withdraw else self.requests.ask)(number, told, outcomes)
        outcomes.settle()
        return told

    def answer(self, call: Call | None = None, note: Note | None = None) -> None:
        call = call or self.call
        self.client.answer(call, applied(call, note=note))


def value(told: Told) -> bytes | None:
    ((entry, offset),) = told.results.values()
    return entry.results[offset]


def test_an_outcome_is_told_once_it_comes_and_whenever_it_is_asked_for() -> None:
    late = Late()
    early = [late.ask(2), late.ask(2), late.ask(3)]
    assert not any(told.is_settled for told in early)
    late.answer(note=Note(NoteCode.KEPT, "", 4, 7))
    assert [value(told) for told in early] == [b"2", b"2", b"3"]
    for _ in range(2):
        first, second = late.ask(1), late.ask(2)
        assert (value(first), value(second)) == (b"1", b"2")
        # The note of the entry's first command is that of number 1 alone.
        assert first.results[0][0].notes == {0: Note(NoteCode.KEPT, "", 4, 7)}
        (entry, offset) = second.results[0]
        assert (entry.instance_id, entry.index + offset, entry.notes) == (9, 1, {})
    assert late.told.results == {}, "who was told unknown hears no more"
    assert late.requests.is_idle


def test_only_numbers_that_were_said_to_be_unknown_can_be_asked_for() -> None:
    late = Late()
    open_one = late.client.submit()
    late.client.time_passes(3_000)
    late.client.time_passes(100)
    assert late.client.call()
    assert late.client.call()
    for number in (0, -1, 4, 5, 10**9):
        with pytest.raises(ConfigurationError, match=f"found {number};"):
            late.ask(number)
        with pytest.raises(ConfigurationError, match=f"found {number};"):
            late.ask(number, withdraw=True)
    assert open_one.error is None


def test_an_abandoned_number_is_withdrawn_and_the_log_says_what_became_of_it() -> None:
    late = Late()
    told = late.ask(2, withdraw=True)
    call = late.client.call()
    assert [(b.machine, b.first_number) for b in submit_of(call).batches] == [
        ("kv", 1),
        (WITHDRAWAL, 2),
        ("kv", 3),
    ]
    assert not told.is_settled
    again = late.ask(2, withdraw=True)
    late.client.answer(call, applied(call, note=Note(NoteCode.WITHDRAWN, "", 9, 0)))
    for each in (told, again, late.ask(2), late.ask(2, withdraw=True)):
        ((entry, offset),) = each.results.values()
        assert entry.notes[offset].code is NoteCode.WITHDRAWN
    assert late.requests.is_idle


def test_abandoning_what_is_known_tells_it() -> None:
    late = Late()
    late.answer()
    assert value(late.ask(2, withdraw=True)) == b"2"
    assert late.requests.is_idle


def test_who_stops_asking_is_not_told() -> None:
    late = Late()
    told = late.ask(2)
    late.requests.leave(2, told)
    late.requests.leave(2, told)
    late.answer()
    assert not told.is_settled


def test_an_expired_session_is_told_to_who_asks() -> None:
    late = Late()
    told = late.ask(2)
    gone = {at: Note(NoteCode.SESSION_EXPIRED, "", 0, 0) for at in range(3)}
    result = EntryResult(9, 0, (None,) * 3, gone)
    late.client.answer(late.call, Submitted(late.call.message.request_id, (result,)))
    for each in (told, late.ask(2), late.ask(3, withdraw=True)):
        assert isinstance(each.errors[0], SessionExpiredError)
        assert not each.errors[0].may_have_applied, "its only copy was refused"


def test_a_closed_client_is_told_to_who_asks() -> None:
    late = Late()
    told, outcomes = late.ask(2), Outcomes()
    late.requests.give_up(outcomes)
    outcomes.settle()
    for each, number in ((told, 2), (late.ask(3), 3)):
        error = each.errors[0]
        assert isinstance(error, OutcomeUnknownError)
        assert error.number == number
        assert "closed" in str(error)


def test_what_is_kept_is_bounded_and_the_oldest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late_outcomes, "OUTCOMES_MAX", 2)
    late = Late()
    late.answer()
    with pytest.raises(ConfigurationError, match="the last 2 are kept"):
        late.ask(1)
    assert [value(late.ask(number)) for number in (2, 3)] == [b"2", b"3"]


def test_their_bytes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late_outcomes, "OUTCOME_BYTES_MAX", late_outcomes.OVERHEAD_BYTES + 1)
    late = Late()
    late.answer()
    with pytest.raises(ConfigurationError):
        late.ask(2)
    assert value(late.ask(3)) == b"3"


def test_who_asks_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late_outcomes, "ASKING_MAX", 2)
    late = Late()
    told = late.ask(1)
    late.ask(2)
    with pytest.raises(OverloadedError) as caught:
        late.ask(3)
    assert caught.value.retry_after_s
    late.requests.leave(1, told)
    late.ask(3)
