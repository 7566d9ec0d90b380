"""Opening a role: tried again for what may pass, ended by what cannot, and never silent."""

from __future__ import annotations

import threading
from typing import cast

import pytest

from ray_paxos.actors.answers import RolePhase
from ray_paxos.actors.opening import Opening
from ray_paxos.errors import (
    DamageError,
    FolderHeldError,
    ForeignFolderError,
    NotActivatedError,
    PaxosError,
    StorageFullError,
    WireFormatError,
)
from ray_paxos.storage.opening import OpenedRole

OPENED = cast(OpenedRole, object())


class Opener:
    """Fails as it is told, then opens."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.tries = 0
        self.states: list[str] = []

    def __call__(self) -> OpenedRole:
        self.tries += 1
        if self.errors:
            raise self.errors.pop(0)
        return OPENED


@pytest.mark.parametrize(
    "error",
    [
        FolderHeldError("held"),
        StorageFullError("full"),
        NotActivatedError("staged"),
        PermissionError("read-only"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_may_pass_is_tried_again(error: Exception) -> None:
    opener = Opener(error, error)
    woken = threading.Event()
    opening = Opening(opener, woken.set)
    assert opening.wait(10)
    assert woken.wait(10)
    assert opener.tries == 3
    assert opening.state.phase is RolePhase.SERVING
    assert opening.take() is OPENED
    assert opening.take() is None


def test_while_it_waits_it_says_why() -> None:
    opening = Opening(Opener(*[FolderHeldError("held by another process")] * 1_000), lambda: None)
    assert not opening.wait(0.2)
    assert opening.state.phase is RolePhase.OPENING
    assert opening.state.error == "FolderHeldError"
    assert str(opening.state) == "opening: held by another process"
    assert opening.cancel() is None
    assert opening.wait(0)
    assert str(opening.state).startswith("stopped")


@pytest.mark.parametrize(
    "error",
    [DamageError("torn"), ForeignFolderError("theirs"), WireFormatError("format 9")],
    ids=lambda error: type(error).__name__,
)
def test_what_cannot_pass_stops_the_role(error: PaxosError) -> None:
    opener = Opener(error)
    opening = Opening(opener, lambda: None)
    assert opening.wait(10)
    assert opener.tries == 1
    assert opening.state.phase is RolePhase.STOPPED
    assert (opening.state.reason, opening.state.error) == (str(error), type(error).__name__)
    assert opening.take() is None


def test_a_bug_in_opening_is_told_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda hook: seen.append(hook.exc_type))
    opening = Opening(Opener(ZeroDivisionError()), lambda: None)
    assert opening.wait(10)
    assert opening.state.phase is RolePhase.STOPPED
    assert "opening ended early" in opening.state.reason
    opening.cancel()
    assert seen == [ZeroDivisionError]


def test_what_was_opened_and_not_taken_is_given_back_to_be_closed() -> None:
    opening = Opening(Opener(), lambda: None)
    assert opening.wait(10)
    assert opening.cancel() is OPENED
