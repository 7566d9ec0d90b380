"""What the host makes of membership entries: a configuration, and a result for who asked."""

from __future__ import annotations

import pytest

from ray_paxos.core.genesis import Configuration, Voter
from ray_paxos.core.results import EntryResult, Note, NoteCode
from ray_paxos.core.values import MembershipEntry, MembershipKind, SessionOpen
from tests.unit.group_log import GroupLog

FIRST = Configuration(0, (Voter(1, 1), Voter(2, 2), Voter(3, 3)), (Voter(4, 4),))
PROMOTED = Configuration(2, (*FIRST.voters, Voter(4, 5)), (), 5)
PROMOTE = MembershipEntry(MembershipKind.PROMOTE, 4, 0)


@pytest.fixture
def log() -> GroupLog:
    return GroupLog(configuration=FIRST)


def test_a_change_has_a_result_without_a_note(log: GroupLog) -> None:
    assert log.append(PROMOTE) == (EntryResult(2, 0, (None,), {}),)
    assert log.host.configuration == PROMOTED


def test_a_refused_change_is_noted_as_refused_and_changes_nothing(log: GroupLog) -> None:
    log.append(PROMOTE)
    (result,) = log.append(PROMOTE)
    why = "the configuration to be changed is 0, the group is at 2"
    assert result == EntryResult(3, 0, (None,), {0: Note(NoteCode.ERROR, why, 3, 0)})
    assert log.host.configuration == PROMOTED
    assert log.host.applied_through == 3, "it counts as applied"


@pytest.mark.parametrize("position", [0, 1])
def test_a_change_that_does_not_stand_alone_is_refused(log: GroupLog, position: int) -> None:
    entries = [SessionOpen("a client"), SessionOpen("another")]
    results = log.append(*entries[:position], PROMOTE, *entries[position:])
    note = results[position].notes[0]
    assert (note.code, note.index) == (NoteCode.ERROR, position)
    assert note.message == "a membership entry stands alone in its instance"
    assert log.host.configuration == FIRST
    others = [result for at, result in enumerate(results) if at != position]
    assert not any(result.notes for result in others), "what stands beside it counts"
    assert log.host.session_count == 2
