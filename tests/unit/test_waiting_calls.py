"""Calls at a proposer that wait: for answers, or for another master; without Ray."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from ray_paxos.actors import proposer_shell
from ray_paxos.actors.proposer_shell import ProposerShell
from ray_paxos.actors.switchboard import Switchboard
from ray_paxos.actors.waiting_calls import WaitingCalls
from ray_paxos.core.client_messages import Submitted
from ray_paxos.core.driver import Observe
from ray_paxos.core.events import MasterChanged
from ray_paxos.core.messages import Address, Envelope, RoleName
from ray_paxos.core.wire import decode_envelopes, encode_envelopes
from tests.unit.core_helpers import GROUP, client, envelope, submit


class PlayedProposer(ProposerShell):
    """A shell whose role answers when the test says so, and calls that run in threads."""

    def __init__(self) -> None:
        super().__init__(b"", "m1", Switchboard())
        self._encoded_spec = b""
        self._genesis_hash = b""
        self._calls = WaitingCalls()
        self._changed = threading.Condition()
        self._watchers = 0
        self._is_ending = False
        self._opened: Any = SimpleNamespace(driver=None)
        self.record = (1, 5)
        self.received = 0
        self.threads = ThreadPoolExecutor(8)

    def _bring(self, envelopes: Any) -> None:
        self.received += len(envelopes)

    def _has_group(self, opened: Any, group: int) -> bool:  # type: ignore[override]
        return True

    def _proposer(self, opened: Any, group: int) -> Any:  # type: ignore[override]
        return SimpleNamespace(master_record=self.record)

    def call(self, request_id: int) -> Future[list[int]]:
        """One call of a client; the requests that it is answered."""

        def run() -> list[int]:
            answer = self.submit(encode_envelopes((envelope(client(), submit(request_id)),)))
            return [reply.message.request_id for reply in decode_envelopes(answer)]  # type: ignore[union-attr]

        return self.threads.submit(run)

    def wait_for_calls(self, count: int) -> None:
        """Until so many have been taken in."""
        deadline = time.monotonic() + 5
        while self.received < count:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def answer(self, request_id: int) -> None:
        sender = Address(1, RoleName.PROPOSER)
        submitted = Submitted(request_id, ())
        self._answer_client(client(), Envelope(b"", GROUP, sender, 1, 1, 0, submitted))


@pytest.fixture
def played() -> Iterator[PlayedProposer]:
    shell = PlayedProposer()
    yield shell
    shell.threads.shutdown()
    shell.background.close()


def test_two_calls_with_one_request_are_answered_together(played: PlayedProposer) -> None:
    calls = [played.call(7) for _ in range(2)]
    played.wait_for_calls(2)
    played.answer(7)
    assert [call.result(5) for call in calls] == [[7], [7]]
    assert len(played._calls) == 0


def test_a_call_that_gives_up_takes_the_answer_from_no_other(
    played: PlayedProposer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposer_shell, "REPLY_TIMEOUT_S", 0.2)
    first = played.call(7)
    played.wait_for_calls(1)
    monkeypatch.setattr(proposer_shell, "REPLY_TIMEOUT_S", 10.0)
    second = played.call(7)
    played.wait_for_calls(2)
    assert first.result(5) == []
    assert not second.done()
    played.answer(7)
    assert second.result(5) == [7]


def test_a_call_that_gave_up_is_forgotten(
    played: PlayedProposer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposer_shell, "REPLY_TIMEOUT_S", 0.01)
    assert played.call(7).result(5) == []
    assert len(played._calls) == 0
    # A late answer is for nobody, and not for the next call with that number.
    played.answer(7)
    monkeypatch.setattr(proposer_shell, "REPLY_TIMEOUT_S", 10.0)
    again = played.call(7)
    played.wait_for_calls(2)
    assert not again.done()
    played.answer(7)
    assert again.result(5) == [7]


def test_who_was_answered_takes_nothing_from_who_comes_later(played: PlayedProposer) -> None:
    key = (client(), 7)
    first = played._calls.join(key)
    played.answer(7)
    assert first.wait(0)
    later = played._calls.join(key)
    played._calls.leave(key, first)
    played.answer(7)
    assert later.wait(0)


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
