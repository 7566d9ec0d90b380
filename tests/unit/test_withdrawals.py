"""A number that its client gives up: the log says, once and for good, what became of it (R7)."""

from __future__ import annotations

import pytest

from ray_paxos.core.results import EntryResult, Note, NoteCode
from ray_paxos.core.values import WITHDRAWAL, CommandBatch, MachineMount, SessionId
from ray_paxos.machines.sessions import RESULT_OVERHEAD_BYTES, SessionTable
from tests.unit.group_log import GroupLog


@pytest.fixture
def log() -> GroupLog:
    return GroupLog()


@pytest.fixture
def session(log: GroupLog) -> SessionId:
    """Opened at instance 2."""
    return log.open_session()


def notes(result: EntryResult) -> list[NoteCode | None]:
    codes = {offset: note.code for offset, note in result.notes.items()}
    return [codes.get(offset) for offset in range(len(result.results))]


def test_what_was_not_applied_never_will_be(log: GroupLog, session: SessionId) -> None:
    assert log.withdraw(session, 1) == EntryResult(
        3, 0, (None,), {0: Note(NoteCode.WITHDRAWN, "", 3, 0)}
    )
    # The command's own copy was delayed.
    late = log.submit(session, 1, b"late")
    assert late.notes == {0: Note(NoteCode.WITHDRAWN, "", 3, 0)}
    assert log.applied == []
    assert notes(log.submit(session, 2, b"next")) == [None]


def test_what_was_applied_is_told_with_its_result(log: GroupLog, session: SessionId) -> None:
    log.submit(session, 1, b"ab", b"refuse me")
    first, second = log.withdraw(session, 1), log.withdraw(session, 2)
    assert first.results == (b"ba",)
    assert first.notes == {0: Note(NoteCode.KEPT, "", 3, 0)}
    assert second.notes == {0: Note(NoteCode.KEPT_ERROR, "refused: refuse me", 3, 1)}
    assert log.applied == [b"ab", b"refuse me"]


@pytest.mark.parametrize("is_applied", [True, False])
def test_the_answer_is_the_same_however_often_it_was_lost(
    log: GroupLog, session: SessionId, is_applied: bool
) -> None:
    """The first answer is lost; the next master, from a checkpoint, gives it again."""
    if is_applied:
        log.submit(session, 1, b"ab")
    first = log.withdraw(session, 1)
    table = log.host._sessions
    log.host._sessions = SessionTable.restore(table.state, list(table.export()))
    assert log.withdraw(session, 1).notes == first.notes
    # Only the client closes it, in the batch after the answer came.
    log.submit(session, 2, b"cd", lowest_open=2)
    assert notes(log.withdraw(session, 1)) == [NoteCode.CLOSED]


def test_a_withdrawal_waits_for_its_turn(log: GroupLog, session: SessionId) -> None:
    assert notes(log.withdraw(session, 2)) == [NoteCode.GAP]
    assert notes(log.submit(session, 1, b"a")) == [None]
    assert notes(log.submit(session, 2, b"b")) == [None]
    assert notes(log.withdraw(session, 2)) == [NoteCode.KEPT]


def test_several_are_withdrawn_as_far_as_they_can_be(log: GroupLog, session: SessionId) -> None:
    log.submit(session, 1, b"a", b"b")
    result = log.submit(session, 1, b"", b"", b"", b"", lowest_open=2, machine=WITHDRAWAL)
    assert notes(result) == [
        NoteCode.CLOSED,
        NoteCode.KEPT,
        NoteCode.WITHDRAWN,
        NoteCode.WITHDRAWN,
    ]
    assert result.notes[3] == Note(NoteCode.WITHDRAWN, "", 4, 3)
    assert list(result.notes) == sorted(result.notes)
    assert log.host._sessions.kept_bytes == 2 + 4 * RESULT_OVERHEAD_BYTES
    assert notes(log.submit(session, 4, b"d", b"e")) == [NoteCode.WITHDRAWN, None]
    assert log.applied == [b"a", b"b", b"e"]


def test_withdrawn_and_applied_numbers_of_one_batch(log: GroupLog, session: SessionId) -> None:
    results = log.append(
        CommandBatch(session, 1, 1, "recorder", (b"a",)),
        CommandBatch(session, 1, 2, WITHDRAWAL, (b"",)),
        CommandBatch(session, 1, 3, "recorder", (b"c",)),
    )
    assert [notes(result) for result in results] == [[None], [NoteCode.WITHDRAWN], [None]]
    again = log.submit(session, 1, b"a", b"b", b"c")
    assert notes(again) == [NoteCode.KEPT, NoteCode.WITHDRAWN, NoteCode.KEPT]
    assert log.applied == [b"a", b"c"]


def test_no_machine_has_the_name_that_stands_for_a_withdrawal(log: GroupLog) -> None:
    (result,) = log.append(MachineMount(WITHDRAWAL, "recorder", 1))
    assert result.notes[0].code is NoteCode.ERROR
    assert "needs a name" in result.notes[0].message
