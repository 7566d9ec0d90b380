"""Calls at a proposer that wait: for answers, or for another master; without Ray."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from ray_paxos.actors import line_exchange, proposer_shell
from ray_paxos.actors import mailbox as mailbox_module
from ray_paxos.actors.answers import RolePhase, state_of
from ray_paxos.actors.line_answers import decode_answers
from ray_paxos.actors.mailbox import Mailbox
from ray_paxos.core.client_messages import RefusalCode, Refused, Submitted
from ray_paxos.core.driver import Action, Driver, Observe
from ray_paxos.core.events import MasterChanged
from ray_paxos.core.wire import decode_envelopes, encode_envelopes
from tests.unit.core_helpers import GROUP, client, envelope, submit
from tests.unit.played_proposer import PlayedProposer, answer_to

NOTHING = encode_envelopes(())


@pytest.fixture
def played() -> Iterator[PlayedProposer]:
    shell = PlayedProposer()
    yield shell
    shell.end()


def test_two_calls_with_one_request_are_answered_together(played: PlayedProposer) -> None:
    calls = [played.call(7) for _ in range(2)]
    played.wait_for_requests(2)
    played.answer(7)
    assert [call.result(5) for call in calls] == [[7], [7]]
    assert len(played.waiting_calls) == 0


def test_a_call_that_gives_up_takes_the_answer_from_no_other(
    played: PlayedProposer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_exchange, "REPLY_TIMEOUT_S", 0.2)
    first = played.call(7)
    played.wait_for_requests(1)
    monkeypatch.setattr(line_exchange, "REPLY_TIMEOUT_S", 10.0)
    second = played.call(7)
    played.wait_for_requests(2)
    assert first.result(5) == []
    assert not second.done()
    played.answer(7)
    assert second.result(5) == [7]


def test_a_call_that_gave_up_is_forgotten(
    played: PlayedProposer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_exchange, "REPLY_TIMEOUT_S", 0.01)
    assert played.call(7).result(5) == []
    assert len(played.waiting_calls) == 0
    # A late answer is for nobody, and not for the next call with that number.
    played.answer(7)
    monkeypatch.setattr(line_exchange, "REPLY_TIMEOUT_S", 10.0)
    again = played.call(7)
    played.wait_for_requests(2)
    assert not again.done()
    played.answer(7)
    assert again.result(5) == [7]


def test_who_was_answered_takes_nothing_from_who_comes_later(played: PlayedProposer) -> None:
    key = (client(), 7)
    first, later = Mailbox(), Mailbox()
    played.waiting_calls.join(key, first)
    played.answer(7)
    assert len(first.take(0)) == 1
    played.waiting_calls.join(key, later)
    played.waiting_calls.leave(key, first)
    played.answer(7)
    assert len(later.take(0)) == 1


def test_a_mailbox_that_waits_for_several_copies_gets_one_answer_for_all(
    played: PlayedProposer,
) -> None:
    mailbox, other = Mailbox(), Mailbox()
    for each in (mailbox, other, mailbox):
        played.waiting_calls.join((client(), 7), each)
    played.answer(7)
    assert [[copies for _, copies, _ in each.take(0)] for each in (mailbox, other)] == [[2], [1]]
    assert len(played.waiting_calls) == 0


def test_a_mailbox_that_leaves_takes_all_its_copies_along(played: PlayedProposer) -> None:
    mailbox, other = Mailbox(), Mailbox()
    for each in (mailbox, other, mailbox):
        played.waiting_calls.join((client(), 7), each)
    played.waiting_calls.leave((client(), 7), mailbox)
    played.answer(7)
    assert mailbox.take(0) == []
    assert len(other.take(0)) == 1


def test_a_call_with_a_request_twice_is_answered_once(played: PlayedProposer) -> None:
    call = played.call(7, 7)
    played.wait_for_requests(2)
    played.answer(7)
    assert call.result(5) == [7]
    assert len(played.waiting_calls) == 0


def test_an_answer_reaches_no_copy_that_is_handled_later(played: PlayedProposer) -> None:
    # Both copies are there as the turn begins. The first one is refused in it, the second is held.
    answers = [[answer_to(Refused(7, RefusalCode.TOO_LATE, "too late", 0))], []]
    played.driver.on_request = lambda _: answers.pop(0)
    batch = encode_envelopes([envelope(client(), submit(7))])
    with played._turn:
        alone = played.threads.submit(played.submit, batch)
        played.wait_for_inbox(1)
        of_line = played.threads.submit(played.exchange, 1, batch)
        played.wait_for_inbox(2)
    played.serve_inbox()
    (refusal,) = decode_envelopes(alone.result(5))
    assert isinstance(refusal.message, Refused)
    played.wait_for_line()
    assert played.lines.of(1, time.monotonic())[0]._answers == []
    played.answer(7)
    ((_, copies, reply),) = decode_answers(of_line.result(5))
    assert isinstance(reply.message, Submitted)
    assert copies == 1


def test_an_answer_to_a_copy_that_waits_for_its_turn_is_for_those_before_it_only(
    played: PlayedProposer,
) -> None:
    first = played.call_of_line(7)
    waits = played.wait_for_line()
    with played._turn:
        second = played.call_of_line(7)
        played.wait_for_inbox(1)
        played.wait_for_line(but_not=waits)
        assert first.result(5) == []
        played.answer(7)
    assert second.result(5) == [7], "to the first copy"
    third = played.call_of_line(7)
    played.wait_for_requests(3)
    played.wait_for_line()
    played.answer(7)
    assert third.result(5) == [7]


def test_copies_that_are_held_are_answered_together(played: PlayedProposer) -> None:
    batch = encode_envelopes([envelope(client(), submit(7))])
    calls = [played.threads.submit(played.exchange, 1, batch)]
    waits = played.wait_for_line()
    for _ in range(2):
        calls.append(played.threads.submit(played.exchange, 1, batch))
        waits = played.wait_for_line(but_not=waits)
        assert decode_answers(calls[-2].result(5)) == ()
    played.answer(7)
    ((_, copies, _),) = decode_answers(calls[-1].result(5))
    assert copies == 3


def test_a_lone_call_returns_when_all_of_it_is_answered(played: PlayedProposer) -> None:
    call = played.call(7, 8)
    played.wait_for_requests(2)
    (mailbox,) = played.waiting_calls._waiting[(client(), 8)]
    played.answer(7)
    played.answer(9)
    played.wait_until(lambda: not mailbox._answers)
    played.answer(8)
    assert call.result(5) == [7, 8]


# Calls of a line.


def test_an_answer_comes_with_whichever_call_of_the_line_returns(played: PlayedProposer) -> None:
    first = played.call_of_line(7)
    waits = played.wait_for_line()
    second = played.call_of_line(8)
    assert first.result(5) == [], "the next one waits in its place"
    played.wait_for_line(but_not=waits)
    played.answer(7)
    assert second.result(5) == [7], "which another call had brought"
    third = played.call_of_line()
    played.wait_for_line()
    played.answer(8)
    assert third.result(5) == [8]
    assert len(played.waiting_calls) == 0


def test_an_answer_waits_for_the_next_call_of_the_line(played: PlayedProposer) -> None:
    first = played.call_of_line(7, 8)
    played.wait_for_line()
    played.answer(7)
    assert first.result(5) == [7]
    played.answer(8)
    assert played.call_of_line().result(5) == [8]


def test_what_is_answered_in_one_turn_leaves_together(played: PlayedProposer) -> None:
    call = played.call_of_line(7, 8, 9)
    waits = played.wait_for_line()

    def go_on(driver: Driver, now_ns: int) -> list[Action]:
        assert played.wait_for_line() is waits, "the turn is not over"
        return [answer_to(Submitted(9, ()))]

    both = [answer_to(Submitted(number, ())) for number in (7, 8)]
    played.take_turn(lambda driver, now_ns: both, go_on)
    assert call.result(5) == [7, 8, 9]


def test_an_answer_says_whose_it_is(played: PlayedProposer) -> None:
    asked = [envelope(client(at), submit(7)) for at in (901, 902)]
    call = played.threads.submit(played.exchange, 1, encode_envelopes(asked))
    played.wait_for_line()
    played.answer(7, at=902)
    assert [at for at, _, _ in decode_answers(call.result(5))] == [902]
    played.answer(7, at=901)
    assert [at for at, _, _ in decode_answers(played.exchange(1, NOTHING))] == [901]


def test_a_line_gets_no_answers_of_others(played: PlayedProposer) -> None:
    own, other = played.call_of_line(7), played.call_of_line(8, line=2)
    lone = played.call(9)
    played.wait_for_requests(3)
    played.answer(8)
    assert other.result(5) == [8]
    played.answer(9)
    assert lone.result(5) == [9]
    assert not own.done()
    played.answer(7)
    assert own.result(5) == [7]


def test_one_request_by_two_lines_is_answered_to_both(played: PlayedProposer) -> None:
    calls = [played.call_of_line(7, line=line) for line in (1, 2)]
    played.wait_for_requests(2)
    played.answer(7)
    assert [call.result(5) for call in calls] == [[7], [7]]


def test_a_group_that_is_not_here_is_refused_at_once(played: PlayedProposer) -> None:
    waiting = played.call_of_line(7)
    played.wait_for_line()
    batch = encode_envelopes([envelope(client(901), submit(8), group=GROUP + 1)])
    ((_, _, to_line),) = decode_answers(played.exchange(1, batch))
    (alone,) = decode_envelopes(played.submit(batch))
    for reply in (to_line, alone):
        assert isinstance(reply.message, Refused)
        assert (reply.message.code, reply.message.request_id) == (RefusalCode.UNKNOWN_GROUP, 8)
    assert len(played.driver.received) == 1
    assert not waiting.done()
    played.answer(7)
    assert waiting.result(5) == [7]


def test_what_is_not_answered_in_time_is_forgotten_when_the_line_calls_next(
    played: PlayedProposer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_exchange, "REPLY_TIMEOUT_S", 0.02)
    assert played.call_of_line(7).result(5) == [], "nothing came in time"
    assert len(played.waiting_calls) == 1
    assert played.call_of_line().result(5) == []
    assert len(played.waiting_calls) == 0
    played.answer(7)
    assert played.call_of_line().result(5) == [], "a late answer is for nobody"


def test_requests_of_a_line_whose_mailbox_had_to_go_are_forgotten(
    played: PlayedProposer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox_module, "LINES_MAX", 1)
    monkeypatch.setattr(line_exchange, "REPLY_TIMEOUT_S", 0.02)
    assert played.call_of_line(7, line=1).result(5) == []
    assert played.call_of_line(8, line=2).result(5) == []
    assert list(played.waiting_calls._waiting) == [(client(), 8)]


def test_a_line_that_is_idle_for_long_is_forgotten_when_another_one_calls(
    played: PlayedProposer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox_module, "LINE_IDLE_S", 0.05)
    monkeypatch.setattr(line_exchange, "REPLY_TIMEOUT_S", 0.1)
    assert played.call_of_line(7, line=1).result(5) == []
    assert len(played.waiting_calls) == 1
    assert played.call_of_line(line=2).result(5) == []
    assert len(played.waiting_calls) == 0
    assert list(played.lines._mailboxes) == [2]


def test_what_is_sent_again_has_its_time_anew(
    played: PlayedProposer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_exchange, "REPLY_TIMEOUT_S", 0.02)
    assert played.call_of_line(7).result(5) == []
    monkeypatch.setattr(line_exchange, "REPLY_TIMEOUT_S", 10.0)
    again = played.call_of_line(7)
    played.wait_for_line()
    assert len(played.waiting_calls) == 1
    played.answer(7)
    assert again.result(5) == [7]


def test_a_role_that_does_not_serve_answers_a_line_with_its_state(played: PlayedProposer) -> None:
    played.stop("a disk is broken", "StorageError")
    batch = encode_envelopes([envelope(client(), submit(7))])
    state = state_of(played.exchange(1, batch))
    assert state is not None
    assert (state.phase, state.reason) == (RolePhase.STOPPED, "a disk is broken")
    assert not played.driver.received


# Watching masters.


def test_a_watch_ends_with_another_master_or_in_time(played: PlayedProposer) -> None:
    assert played.watch_master(GROUP, 4, 10.0) == (1, 5)
    assert played.watch_master(GROUP, 5, 0.01) == (1, 5), "in time"
    watch = played.threads.submit(played.watch_master, GROUP, 5, 10.0)
    time.sleep(0.05)
    assert not watch.done()
    played.record = (2, 9)
    played._execute([Observe(MasterChanged(GROUP, 2, 9))], [])
    assert watch.result(5) == (2, 9)
    assert played._watchers == 0


def test_more_watches_than_there_is_room_for_are_answered_at_once(
    played: PlayedProposer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposer_shell, "WATCHERS_MAX", 1)
    watch = played.threads.submit(played.watch_master, GROUP, 5, 10.0)
    deadline = time.monotonic() + 5
    while not played._watchers:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert played.watch_master(GROUP, 5, 10.0) == (1, 5)
    played._end()
    assert watch.result(5) == (1, 5), "a proposer that is closed holds no watch up"
