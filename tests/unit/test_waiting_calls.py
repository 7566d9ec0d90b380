"""Calls at a proposer's actor that wait: for answers, or for another master; without Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from ray_paxos.actors import proposer
from ray_paxos.actors.proposer import ProposerActor
from ray_paxos.actors.waiting_calls import WaitingCalls
from ray_paxos.core.client_messages import Submitted
from ray_paxos.core.messages import Address, Envelope, RoleName
from ray_paxos.core.wire import decode_envelopes, encode_envelopes
from tests.unit.core_helpers import GROUP, client, envelope, submit


class PlayedProposer(ProposerActor):
    """An actor whose role answers when the test says so."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls = WaitingCalls(self._loop)
        self._watchers = set()
        self._opened = SimpleNamespace(driver=None)  # type: ignore[assignment]
        self._stopped = None
        self.received = 0

    def _receive(self, driver: Any, envelopes: Any, caller: Any, replies: Any) -> None:
        self.received += len(envelopes)

    def _has_group(self, opened: Any, group: int) -> bool:  # type: ignore[override]
        return True

    def _proposer(self, opened: Any, group: int) -> Any:  # type: ignore[override]
        return SimpleNamespace(master_record=(1, 5))

    async def called(self, request_id: int) -> list[int]:
        """One call of a client; the requests that it is answered."""
        answer = await self.submit(encode_envelopes((envelope(client(), submit(request_id)),)))
        return [reply.message.request_id for reply in decode_envelopes(answer)]  # type: ignore[union-attr]

    def answer(self, request_id: int) -> None:
        sender = Address(1, RoleName.PROPOSER)
        submitted = Submitted(request_id, ())
        self._answer_client(client(), Envelope(b"", GROUP, sender, 1, 1, 0, submitted))


def play(test: Callable[[PlayedProposer], Awaitable[None]]) -> None:
    async def run() -> None:
        await test(PlayedProposer())

    asyncio.run(run())


async def a_moment() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_two_calls_with_one_request_are_answered_together() -> None:
    async def test(actor: PlayedProposer) -> None:
        calls = [asyncio.create_task(actor.called(7)) for _ in range(2)]
        await a_moment()
        assert actor.received == 2
        actor.answer(7)
        assert await asyncio.gather(*calls) == [[7], [7]]
        assert len(actor._calls) == 0

    play(test)


def test_a_call_that_gives_up_takes_the_answer_from_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(actor: PlayedProposer) -> None:
        monkeypatch.setattr(proposer, "REPLY_TIMEOUT_S", 0.01)
        first = asyncio.create_task(actor.called(7))
        await a_moment()
        monkeypatch.setattr(proposer, "REPLY_TIMEOUT_S", 10.0)
        second = asyncio.create_task(actor.called(7))
        assert await first == []
        assert not second.done()
        actor.answer(7)
        assert await asyncio.wait_for(second, 1.0) == [7]

    play(test)


def test_a_call_that_is_cancelled_is_forgotten() -> None:
    async def test(actor: PlayedProposer) -> None:
        call = asyncio.create_task(actor.called(7))
        await a_moment()
        assert len(actor._calls) == 1
        call.cancel()
        await a_moment()
        assert len(actor._calls) == 0
        # A late answer is for nobody, and not for the next call with that number.
        actor.answer(7)
        again = asyncio.create_task(actor.called(7))
        await a_moment()
        assert not again.done()
        actor.answer(7)
        assert await again == [7]

    play(test)


def test_who_was_answered_takes_nothing_from_who_comes_later() -> None:
    async def test(actor: PlayedProposer) -> None:
        key = (client(), 7)
        first = actor._calls.join(key)
        actor.answer(7)
        later = actor._calls.join(key)
        actor._calls.leave(key, first)
        actor.answer(7)
        assert later.done()

    play(test)


def test_a_watch_that_is_cancelled_is_forgotten() -> None:
    async def test(actor: PlayedProposer) -> None:
        assert await actor.watch_master(GROUP, 4, 10.0) == (1, 5)
        watch = asyncio.create_task(actor.watch_master(GROUP, 5, 10.0))
        await a_moment()
        assert len(actor._watchers) == 1
        watch.cancel()
        await a_moment()
        assert len(actor._watchers) == 0
        assert await actor.watch_master(GROUP, 5, 0.01) == (1, 5), "in time"
        assert len(actor._watchers) == 0

    play(test)
