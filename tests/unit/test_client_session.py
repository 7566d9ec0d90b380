"""A client's numbers, requests and re-sending, against a group that keeps the rules of sessions."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence

import pytest

from ray_paxos.core.client_messages import Submit
from ray_paxos.core.pending import Answered, Overdue
from ray_paxos.core.results import EntryResult, Note, NoteCode
from ray_paxos.core.session import ClientSession
from ray_paxos.core.values import END_OF_SESSION, WITHDRAWAL, CommandBatch, SessionId
from ray_paxos.errors import PaxosError

SESSION = SessionId(7, 0)
GAP = Note(NoteCode.GAP, "", 0, 0)


class Collector:
    """A receiver that writes down what it is told."""

    def __init__(self, deadline_ns: int = sys.maxsize) -> None:
        self.deadline_ns = deadline_ns
        self.is_cancelled = False
        self.begun = 0
        self.results: dict[int, bytes | None] = {}
        self.errors: dict[int, PaxosError] = {}

    def begin(self) -> bool:
        assert self.begun == 0, "a receiver is asked once"
        self.begun += 1
        return not self.is_cancelled

    def deliver(self, start: int, entry: EntryResult, offset: int, count: int) -> None:
        for place in range(count):
            assert start + place not in self.results, "told twice"
            self.results[start + place] = entry.results[offset + place]

    def fail(self, start: int, error: PaxosError, count: int) -> None:
        for place in range(count):
            self.errors[start + place] = error


def open_session(request_bytes_max: int = 1_000, window_max: int = 3) -> ClientSession:
    session = ClientSession(request_bytes_max=request_bytes_max, window_max=window_max)
    session.opened(SESSION)
    return session


def sent(session: ClientSession) -> Submit:
    submit = session.next_submit(0)
    assert submit is not None
    return submit


def entries(submit: Submit, instance_id: int = 1) -> list[EntryResult]:
    """All of a request's commands applied, each with itself for a result."""
    return [
        EntryResult(instance_id, 0, tuple(b"r" + c for c in batch.commands), {})
        for batch in submit.batches
    ]


def settle(session: ClientSession, submit: Submit, results: Sequence[EntryResult]) -> int:
    resolved = session.on_submitted(submit.request_id, results).resolved
    for each in resolved:
        each.batch.deliver(each.result)
    return len(resolved)


def test_nothing_is_sent_before_the_session_is_open() -> None:
    session = ClientSession(request_bytes_max=100, window_max=1)
    session.enqueue("kv", [b"a"], Collector())
    assert session.next_submit(0) is None
    session.opened(SESSION)
    assert sent(session).batches == (CommandBatch(SESSION, 1, 1, "kv", (b"a",)),)


def test_what_waits_shares_a_request_up_to_the_limit() -> None:
    session = open_session(request_bytes_max=40)
    receivers = [Collector() for _ in range(5)]
    for number, receiver in enumerate(receivers):
        session.enqueue("kv", [bytes([number]) * 8], receiver)
    first, second = sent(session), sent(session)
    assert [len(b.commands) for b in first.batches] == [3]
    assert [(b.first_number, len(b.commands)) for b in second.batches] == [(4, 2)]
    settle(session, first, entries(first))
    settle(session, second, entries(second))
    assert all(receiver.results for receiver in receivers)
    assert not session.has_work


def test_a_long_submission_is_cut_and_its_parts_come_together() -> None:
    session = open_session(request_bytes_max=100, window_max=99)
    commands = [bytes([n]) * 10 for n in range(50)]
    receiver = Collector()
    session.enqueue("kv", commands, receiver)
    submits = []
    while (submit := session.next_submit(0)) is not None:
        submits.append(submit)
    assert len(submits) > 5
    numbers = [
        b.first_number + n for s in submits for b in s.batches for n in range(len(b.commands))
    ]
    assert numbers == list(range(1, 51))
    for submit in reversed(submits):
        settle(session, submit, entries(submit))
    assert [receiver.results[n] for n in range(50)] == [b"r" + c for c in commands]
    assert session.held_commands == session.held_bytes == 0


def test_one_command_over_the_limit_goes_alone() -> None:
    session = open_session(request_bytes_max=10)
    session.enqueue("kv", [b"x" * 50], Collector())
    session.enqueue("kv", [b"y"], Collector())
    assert [len(s.batches[0].commands[0]) for s in (sent(session), sent(session))] == [50, 1]


def test_another_machine_begins_another_batch() -> None:
    session = open_session()
    for machine in ("kv", "kv", "log", "kv"):
        session.enqueue(machine, [b"x"], Collector())
    batches = sent(session).batches
    assert [(b.machine, b.first_number, len(b.commands)) for b in batches] == [
        ("kv", 1, 2),
        ("log", 3, 1),
        ("kv", 4, 1),
    ]


def test_the_window_bounds_what_is_on_its_way() -> None:
    session = open_session(request_bytes_max=1, window_max=2)
    for _ in range(4):
        session.enqueue("kv", [b"x"], Collector())
    first = sent(session)
    sent(session)
    assert session.next_submit(0) is None
    settle(session, first, entries(first))
    assert sent(session).batches[0].first_number == 3
    assert session.next_submit(0) is None


def test_the_window_is_shared_out_between_many_commands() -> None:
    session = open_session(request_bytes_max=100_000, window_max=4)
    for _ in range(100):
        session.enqueue("kv", [b"x"], Collector())
    first = sent(session)
    assert len(first.batches[0].commands) == 100
    for number in range(60):
        assert session.may_send == (number >= 34)
        submit = session.next_submit(0) if number < 34 else None
        assert submit is None, "less than a fourth of all waits"
        session.enqueue("kv", [b"y"], Collector())
    assert len(sent(session).batches[0].commands) == 60
    settle(session, first, entries(first))
    session.enqueue("kv", [b"z"], Collector())
    assert session.next_submit(0) is None
    session.on_lost()
    assert len(sent(session).batches[0].commands) == 60, "what is sent again is not held back"
    session.on_lost()
    assert session.may_send


def test_lowest_open_follows_the_outcomes() -> None:
    session = open_session(request_bytes_max=1)
    for _ in range(4):
        session.enqueue("kv", [b"x"], Collector())
    first, second, third = (sent(session) for _ in range(3))
    assert [s.batches[0].lowest_open for s in (first, second, third)] == [1, 1, 1]
    settle(session, second, entries(second))
    assert session.lowest_open == 1
    settle(session, first, entries(first))
    assert session.lowest_open == 3
    assert sent(session).batches[0].lowest_open == 3


def test_a_lost_request_and_all_behind_it_are_sent_again_in_order() -> None:
    session = open_session(request_bytes_max=1)
    receivers = [Collector() for _ in range(3)]
    for receiver in receivers:
        session.enqueue("kv", [b"x"], receiver)
    first, second, third = (sent(session) for _ in range(3))
    settle(session, second, entries(second))
    session.on_lost()
    again = sent(session), sent(session)
    assert [s.batches[0].first_number for s in again] == [1, 3]
    assert [s.request_id for s in again] == [first.request_id, third.request_id]
    settle(session, first, entries(first))
    settle(session, third, entries(third))
    assert settle(session, third, entries(third)) == 0
    assert not session.has_work


def test_a_gap_is_sent_again_only_when_nothing_else_is_on_its_way() -> None:
    """Schedule 14: a number that overtook an earlier one goes again under itself."""
    session = open_session(request_bytes_max=1)
    for _ in range(3):
        session.enqueue("kv", [b"x"], Collector())
    first, second = sent(session), sent(session)
    gap = EntryResult(5, 0, (None,), {0: Note(NoteCode.GAP, "", 0, 0)})
    assert session.on_submitted(second.request_id, [gap]) == Answered()
    assert session.next_submit(0) is None
    settle(session, first, entries(first))
    again = sent(session)
    assert again.batches == (CommandBatch(SESSION, 2, 2, "kv", (b"x",)),)
    assert sent(session).batches[0].first_number == 3


def test_what_was_refused_at_the_end_of_a_batch_is_sent_again_alone() -> None:
    """So that results which are too long together come one after the other, and are confirmed."""
    session = open_session()
    receivers = [Collector(), Collector()]
    session.enqueue("kv", [b"a", b"b"], receivers[0])
    session.enqueue("kv", [b"c"], receivers[1])
    submit = sent(session)
    half = EntryResult(5, 0, (b"ra", None, None), dict.fromkeys((1, 2), GAP))
    assert settle(session, submit, [half]) == 1
    assert receivers[0].results == {0: b"ra"}
    again = sent(session)
    assert again.batches == (CommandBatch(SESSION, 2, 2, "kv", (b"b", b"c")),)
    assert again.request_id != submit.request_id, "a request's id stands for its commands"
    assert settle(session, submit, entries(submit)) == 0
    settle(session, again, entries(again))
    assert [receiver.results for receiver in receivers] == [{0: b"ra", 1: b"rb"}, {0: b"rc"}]
    assert session.held_commands == session.held_bytes == 0


def test_a_number_refused_for_good_is_not_used_again() -> None:
    session = open_session(request_bytes_max=1)
    receivers = [Collector() for _ in range(3)]
    for receiver in receivers:
        session.enqueue("kv", [b"x"], receiver)
    first, second = sent(session), sent(session)
    session.on_untouched(second.request_id)
    refused = session.on_refused(second.request_id)
    assert [batch.first_number for batch in refused] == [2]
    settle(session, first, entries(first))
    third = sent(session)
    assert third.batches[0].first_number == 3
    assert third.batches[0].lowest_open == 3


def test_a_request_not_taken_goes_again_in_its_turn() -> None:
    session = open_session(request_bytes_max=1)
    for _ in range(2):
        session.enqueue("kv", [b"x"], Collector())
    first, second = sent(session), sent(session)
    session.on_not_taken(first.request_id)
    assert session.next_submit(0) is None
    session.on_not_taken(second.request_id)
    assert [sent(session).request_id for _ in range(2)] == [first.request_id, second.request_id]


def test_cancelled_commands_get_no_number() -> None:
    session = open_session()
    cancelled, kept = Collector(), Collector()
    cancelled.is_cancelled = True
    session.enqueue("kv", [b"a"], cancelled)
    session.enqueue("kv", [b"b"], kept)
    submit = sent(session)
    assert submit.batches == (CommandBatch(SESSION, 1, 1, "kv", (b"b",)),)
    assert session.held_commands == 1


def test_a_command_that_has_to_wait_for_the_next_request_is_asked_once() -> None:
    session = open_session(request_bytes_max=20)
    receivers = [Collector(), Collector()]
    for receiver in receivers:
        session.enqueue("kv", [b"x" * 12], receiver)
    assert len(sent(session).batches[0].commands) == 1
    assert len(sent(session).batches[0].commands) == 1
    assert [receiver.begun for receiver in receivers] == [1, 1]


def test_an_evicted_session_leaves_what_was_numbered_and_keeps_what_waits() -> None:
    session = open_session(request_bytes_max=1, window_max=1)
    for command in (b"a", b"b"):
        session.enqueue("kv", [command], Collector())
    first = sent(session)
    assert [(b.commands, may_have) for b, may_have in session.on_gone()] == [([b"a"], True)]
    assert session.next_submit(0) is None
    session.opened(SessionId(90, 1))
    # Numbers go on counting, so that they name the client's commands; the gap is closed at once.
    assert sent(session).batches == (CommandBatch(SessionId(90, 1), 2, 2, "kv", (b"b",)),)
    assert session.on_submitted(first.request_id, entries(first)) == Answered()


def test_time_over_drops_what_never_left_and_goes_on_with_what_did() -> None:
    session = open_session(request_bytes_max=1, window_max=1)
    early, late = Collector(deadline_ns=100), Collector(deadline_ns=100)
    session.enqueue("kv", [b"a"], early)
    session.enqueue("kv", [b"b"], late)
    session.enqueue("kv", [b"c"], Collector())
    first = sent(session)
    assert session.on_time(99) == Overdue()
    overdue = session.on_time(100)
    assert overdue == Overdue([((early, 0, 1), 1)], [], [(late, 0, 1)])
    assert session.lowest_open == 1
    settle(session, first, entries(first))
    assert early.results == {}
    assert sent(session).batches[0].commands == (b"c",)
    assert session.held_commands == 1


class Group:
    """Applies requests as the host of the machines does: in order, each number once."""

    def __init__(self) -> None:
        self.next = 1
        self.applied: list[bytes] = []
        self.kept: dict[int, tuple[bytes, int]] = {}
        self.instance_id = 0

    def apply(self, submit: Submit) -> list[EntryResult]:
        self.instance_id += 1
        return [self._apply_batch(batch) for batch in submit.batches]

    def _apply_batch(self, batch: CommandBatch) -> EntryResult:
        self.kept = {n: kept for n, kept in self.kept.items() if n >= batch.lowest_open}
        self.next = max(self.next, batch.lowest_open)
        results: list[bytes | None] = []
        notes: dict[int, Note] = {}
        for offset, command in enumerate(batch.commands):
            number = batch.first_number + offset
            if number == self.next:
                self.applied.append(command)
                self.kept[number] = (b"r" + command, self.instance_id)
                self.next += 1
                results.append(b"r" + command)
                continue
            results.append(None)
            if number in self.kept:
                results[-1] = self.kept[number][0]
                notes[offset] = Note(NoteCode.KEPT, "", self.kept[number][1], 0)
            elif number > self.next:
                notes[offset] = Note(NoteCode.GAP, "", 0, 0)
            else:
                notes[offset] = Note(NoteCode.CLOSED, "", 0, 0)
        return EntryResult(self.instance_id, 0, tuple(results), notes)


@pytest.mark.parametrize("seed", range(60))
def test_under_loss_and_reordering_every_command_is_applied_once_in_order(seed: int) -> None:
    source = random.Random(seed)
    session = open_session(request_bytes_max=source.choice((1, 30, 200)), window_max=4)
    group = Group()
    commands = [b"%d" % n for n in range(120)]
    receivers: list[Collector] = []
    queue = list(commands)
    network: list[Submit] = []
    answers: list[tuple[int, list[EntryResult]]] = []
    for _ in range(20_000):
        if not queue and not session.has_work:
            break
        match source.randrange(6):
            case 0 if queue:
                count = min(source.randrange(1, 9), len(queue))
                receivers.append(Collector())
                session.enqueue("kv", queue[:count], receivers[-1])
                del queue[:count]
            case 1 | 2:
                submit = session.next_submit(0)
                if submit is not None:
                    network.append(submit)
            case 3 if network:
                submit = network.pop(source.randrange(len(network)))
                answers.append((submit.request_id, group.apply(submit)))
                if source.random() < 0.1:
                    network.append(submit)
            case 4 if answers:
                request_id, results = answers.pop(source.randrange(len(answers)))
                for each in session.on_submitted(request_id, results).resolved:
                    assert all(
                        note.code is not NoteCode.CLOSED for note in each.result.notes.values()
                    )
                    each.batch.deliver(each.result)
            case 5 if source.random() < 0.15:
                lost = source.choice((network, answers))
                if lost:
                    del lost[source.randrange(len(lost))]
                session.on_lost()
    assert group.applied == commands, f"seed {seed}"
    assert [r for c in receivers for _, r in sorted(c.results.items())] == [
        b"r" + command for command in commands
    ]


# Copies that may be in the log, and time that is over.


def one_sent(
    command: bytes = b"x", deadline_ns: int = 100, **options: int
) -> tuple[ClientSession, Collector, Submit]:
    session = open_session(**options)
    receiver = Collector(deadline_ns)
    session.enqueue("kv", [command], receiver)
    return session, receiver, sent(session)


def test_a_copy_that_came_back_untouched_is_certainly_not_applied() -> None:
    session, receiver, submit = one_sent()
    session.on_untouched(submit.request_id)
    session.on_not_taken(submit.request_id)
    assert session.on_time(100) == Overdue([], [(receiver, 0, 1)], [])
    assert not session.has_work
    assert session.held_commands == session.held_bytes == 0
    # Its number is a gap, at once closed, and never used again.
    session.enqueue("kv", [b"y"], Collector())
    assert sent(session).batches == (CommandBatch(SESSION, 2, 2, "kv", (b"y",)),)


def test_schedule_14_a_refused_copy_says_nothing_of_one_that_was_lost() -> None:
    session, receiver, submit = one_sent()
    session.on_lost()
    again = sent(session)
    assert again.request_id == submit.request_id
    session.on_untouched(again.request_id)
    session.on_not_taken(again.request_id)
    assert session.on_time(100) == Overdue([((receiver, 0, 1), 1)], [], [])
    assert session.lowest_open == 1
    # The lost one comes back after all. It was told, so it stays open until the log has said.
    session.on_untouched(submit.request_id)
    assert session.on_time(100) == Overdue()
    assert sent(session).batches[0].commands == (b"x",)


def test_both_copies_came_back() -> None:
    session, receiver, submit = one_sent()
    session.on_lost()
    sent(session)
    session.on_untouched(submit.request_id)
    session.on_untouched(submit.request_id)
    assert session.on_time(100) == Overdue([], [(receiver, 0, 1)], [])


def test_what_was_refused_for_a_gap_is_not_in_the_log() -> None:
    session, receiver, submit = one_sent()
    session.on_submitted(submit.request_id, [EntryResult(5, 0, (None,), {0: GAP})])
    assert session.on_time(100) == Overdue([], [(receiver, 0, 1)], [])


def test_an_answer_that_makes_no_sense_settles_no_copy() -> None:
    for result in (
        EntryResult(5, 0, (), {}),
        EntryResult(5, 0, (None, b"rb"), {0: GAP}),
    ):
        session = open_session()
        receiver = Collector(100)
        session.enqueue("kv", [b"a", b"b"], receiver)
        submit = sent(session)
        assert session.on_submitted(submit.request_id, [result]) == Answered()
        assert session.on_time(100) == Overdue([((receiver, 0, 2), 1)], [], [])


def test_only_those_whose_time_is_over_are_taken_out_of_a_request() -> None:
    session = open_session()
    receivers = [Collector(deadline_ns) for deadline_ns in (500, 100, 500, 500, 100)]
    for number, receiver in enumerate(receivers, 1):
        session.enqueue("kv", [b"%d" % number] * 2, receiver)
    submit = sent(session)
    session.on_untouched(submit.request_id)
    session.on_not_taken(submit.request_id)
    overdue = session.on_time(100)
    assert overdue.untouched == [(receivers[1], 0, 2), (receivers[4], 0, 2)]
    again = sent(session)
    assert again.request_id != submit.request_id, "other commands: another request"
    assert [(b.first_number, b.commands) for b in again.batches] == [
        (1, (b"1", b"1")),
        (5, (b"3", b"3", b"4", b"4")),
    ]
    assert session.held_commands == 6
    assert session.held_bytes == 6
    settle(session, again, entries(again))
    assert [sorted(receiver.results) for receiver in receivers] == [[0, 1], [], [0, 1], [0, 1], []]
    assert session.lowest_open == 11
    assert not session.has_work


def test_a_request_carries_the_time_that_is_left() -> None:
    session = open_session()
    for deadline_ns in (5_000_000, 7_000_000):
        session.enqueue("kv", [b"x"], Collector(deadline_ns))
    submit = session.next_submit(2_000_000)
    assert submit is not None
    assert submit.timeout_ms == 5, "as long as anybody wants it, and has to be told before"
    session.on_lost()
    again = session.next_submit(9_000_000)
    assert again is not None
    assert again.timeout_ms == 1, "0 would be for ever"
    session.on_time(9_000_000)
    session.on_lost()
    assert sent(session).timeout_ms == 0, "what was said to be unknown has to be resolved"


@pytest.mark.parametrize(("left_s", "asked_s"), [(0.8, 0.7), (8, 7), (60, 59), (0, 0)])
def test_the_group_is_given_less_time_than_there_is(left_s: float, asked_s: float) -> None:
    submit = one_sent(deadline_ns=int(left_s * 1e9))[2]
    assert submit.timeout_ms == int(asked_s * 1e3) + 1


def test_what_came_too_late_is_told_at_once_if_it_is_certain() -> None:
    session, receiver, submit = one_sent()
    session.on_untouched(submit.request_id)
    assert session.on_too_late(submit.request_id) == [(receiver, 0, 1)]
    assert not session.has_work
    session, receiver, submit = one_sent()
    session.on_lost()
    sent(session)
    session.on_untouched(submit.request_id)
    assert session.on_too_late(submit.request_id) == [], "the lost copy may be in the log"
    assert sent(session).request_id == submit.request_id


def test_without_a_deadline_there_is_none() -> None:
    assert one_sent(deadline_ns=sys.maxsize)[2].timeout_ms == 0


def test_refused_for_good_with_another_copy_about_is_left_to_the_log() -> None:
    session, receiver, submit = one_sent(b"long")
    session.on_lost()
    sent(session)
    session.on_untouched(submit.request_id)
    assert session.on_refused(submit.request_id) == []
    withdrawal = sent(session)
    assert withdrawal.batches == (CommandBatch(SESSION, 1, 1, WITHDRAWAL, (b"",)),)
    assert withdrawal.timeout_ms == 0
    assert session.held_bytes == 0
    settle(session, withdrawal, [EntryResult(9, 0, (b"r",), {0: Note(NoteCode.KEPT, "", 4, 0)})])
    assert receiver.results == {0: b"r"}


# Withdrawing.


def test_a_number_is_withdrawn_in_its_place() -> None:
    session = open_session()
    receiver = Collector(100)
    session.enqueue("kv", [b"a", b"bb", b"c"], receiver)
    session.enqueue("log", [b"d"], Collector())
    submit = sent(session)
    assert not session.is_unknown(2), "its receiver still waits"
    session.on_time(100)
    assert [session.is_unknown(number) for number in range(6)] == [False, *[True] * 3, False, False]
    session.withdraw(2)
    again = sent(session)
    assert again.request_id != submit.request_id
    assert again.batches == (
        CommandBatch(SESSION, 1, 1, "kv", (b"a",)),
        CommandBatch(SESSION, 1, 2, WITHDRAWAL, (b"",)),
        CommandBatch(SESSION, 1, 3, "kv", (b"c",)),
        CommandBatch(SESSION, 1, 4, "log", (b"d",)),
    )
    assert session.held_commands == 4
    assert session.held_bytes == 3
    session.withdraw(2)
    assert session.next_submit(0) is None, "twice changes nothing"
    # The old copy's answer is for a request that is none any more; the new one's says all.
    assert session.on_submitted(submit.request_id, entries(submit)) == Answered()
    settle(session, again, entries(again))
    assert not session.has_work


# The end of a session.


def test_a_session_is_ended_once_nothing_is_open() -> None:
    session, _, submit = one_sent()
    assert session.end() is None
    settle(session, submit, entries(submit))
    end = session.end()
    assert end is not None
    assert end.batches == (CommandBatch(SESSION, END_OF_SESSION, 2, WITHDRAWAL, (b"",)),)
    assert session.session is None
    assert session.end() is None
