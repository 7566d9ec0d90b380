"""Mailboxes of a proposer's lines: who takes which answers, who waits, and what is kept."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from ray_paxos.actors import mailbox as mailbox_module
from ray_paxos.actors.line_answers import ClientAnswer
from ray_paxos.actors.mailbox import LINE_IDLE_S, LineMailboxes, Mailbox, RequestKey
from ray_paxos.core.client_messages import Submitted
from ray_paxos.core.messages import Envelope
from tests.unit.core_helpers import client, envelope, proposer_of


def key(number: int, client_id: int = 900) -> RequestKey:
    return client(client_id), number


def answer(number: int) -> Envelope:
    return envelope(proposer_of(1), Submitted(number, ()))


def taken(number: int, client_id: int = 900) -> ClientAnswer:
    """As it is taken out of a mailbox, for one copy."""
    return client_id, 1, answer(number)


class Played(Mailbox):
    """A mailbox, and threads that wait at it."""

    def __init__(self) -> None:
        super().__init__()
        self.threads = ThreadPoolExecutor(4)

    def wait_in_thread(self) -> Future[list[ClientAnswer]]:
        """One more call that waits; returns once it does."""
        waiting = set(self._waiting)
        call = self.threads.submit(self.take, 10.0)
        deadline = time.monotonic() + 5
        while set(self._waiting) <= waiting:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        return call


@pytest.fixture
def played() -> Iterator[Played]:
    mailbox = Played()
    yield mailbox
    mailbox.threads.shutdown()


def test_what_is_there_is_taken_at_once_and_only_once() -> None:
    mailbox = Mailbox()
    mailbox.put(key(7), answer(7))
    mailbox.put(key(8, client_id=901), answer(8))
    assert mailbox.take(10.0) == [taken(7), taken(8, client_id=901)]
    assert mailbox.take(0.0) == []


def test_who_waits_gets_what_was_put_in_before_it_was_opened(played: Played) -> None:
    call = played.wait_in_thread()
    played.put(key(7), answer(7))
    played.put(key(8), answer(8))
    assert len(played._waiting) == 1, "what is answered together leaves together"
    played.open()
    assert call.result(5) == [taken(7), taken(8)]


def test_opening_an_empty_mailbox_lets_nobody_go(played: Played) -> None:
    call = played.wait_in_thread()
    played.open()
    assert len(played._waiting) == 1
    played.put(key(7), answer(7))
    played.open()
    assert call.result(5) == [taken(7)]


def test_who_comes_to_wait_lets_the_one_go_that_has_waited_longest(played: Played) -> None:
    first = played.wait_in_thread()
    second = played.wait_in_thread()
    assert first.result(5) == []
    assert not second.done()
    third = played.wait_in_thread()
    assert second.result(5) == []
    played.put(key(7), answer(7))
    played.open()
    assert third.result(5) == [taken(7)]


def test_who_finds_something_waits_not_and_leaves_the_one_that_waits(played: Played) -> None:
    call = played.wait_in_thread()
    played.put(key(7), answer(7))
    assert played.take(10.0) == [taken(7)]
    assert not call.done()
    played.put(key(8), answer(8))
    played.open()
    assert call.result(5) == [taken(8)]


def test_who_has_waited_in_vain_is_in_nobodys_way(played: Played) -> None:
    assert played.take(0.01) == []
    assert not played._waiting
    call = played.wait_in_thread()
    played.put(key(7), answer(7))
    played.open()
    assert call.result(5) == [taken(7)]


def test_what_is_not_answered_in_time_is_told_once() -> None:
    mailbox = Mailbox()
    for number in (1, 2, 3):
        mailbox.expect(key(number), float(number))
    mailbox.put(key(2), answer(2))
    assert mailbox.overdue(0.5) == []
    assert mailbox.overdue(3.0) == [key(1), key(3)]
    assert mailbox.overdue(9.0) == []


def test_what_is_expected_again_has_its_time_anew() -> None:
    mailbox = Mailbox()
    mailbox.expect(key(1), 1.0)
    mailbox.expect(key(2), 2.0)
    mailbox.expect(key(1), 5.0)
    assert mailbox.overdue(2.0) == [key(2)], "what was first is behind it now"
    assert mailbox.overdue(5.0) == [key(1)]


def test_an_answer_to_several_copies_says_how_many() -> None:
    mailbox = Mailbox()
    mailbox.put(key(7), answer(7), 3)
    assert mailbox.take(0.0) == [(900, 3, answer(7))]


def test_each_line_has_its_mailbox() -> None:
    lines = LineMailboxes()
    mailbox, _ = lines.of(1, 0.0)
    other, _ = lines.of(2, 0.0)
    assert lines.of(1, 0.0) == (mailbox, [])
    assert other is not mailbox


def test_mailboxes_used_least_lately_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox_module, "LINES_MAX", 2)
    lines = LineMailboxes()
    first, second = (lines.of(line, 0.0)[0] for line in (1, 2))
    assert lines.of(1, 0.0) == (first, [])
    third, dropped = lines.of(3, 0.0)
    assert dropped == [second]
    assert third not in (first, second)
    assert lines.of(1, 0.0) == (first, [])
    assert lines.of(2, 0.0)[0] is not second


def test_a_line_that_makes_no_call_for_long_is_given_up_by_the_next_one_that_does() -> None:
    lines = LineMailboxes()
    first, second, third = (lines.of(line, float(line))[0] for line in (1, 2, 3))
    assert lines.of(2, 4.0) == (second, []), "in use again"
    assert lines.of(4, 1.0 + LINE_IDLE_S - 0.1)[1] == []
    assert lines.of(4, 3.0 + LINE_IDLE_S)[1] == [first, third]
    assert lines.of(1, 3.0 + LINE_IDLE_S)[0] is not first


def test_a_line_that_was_idle_for_long_goes_on_with_its_own_mailbox() -> None:
    lines = LineMailboxes()
    mailbox, _ = lines.of(1, 0.0)
    assert lines.of(1, 2 * LINE_IDLE_S) == (mailbox, [])
