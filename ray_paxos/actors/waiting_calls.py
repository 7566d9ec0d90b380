"""Clients' calls at a proposer that wait for an answer.

A client that hears nothing sends a request again, so several calls may wait for one answer. Each
has its own patience: one that gives up takes nothing away from the others.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TypeAlias

from ray_paxos.core.messages import Address, Envelope

RequestKey: TypeAlias = tuple[Address, int]
"""Which client's request of which number."""


@dataclass(slots=True)
class _Waiting:
    answer: asyncio.Future[Envelope]
    calls: int = 0


class WaitingCalls:
    """The calls of one actor, by request; touched on its loop only.

    Invariants: a request is here exactly while a call waits for its answer.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start with none.

        Args:
            loop: The actor's.
        """
        self._loop = loop
        self._waiting: dict[RequestKey, _Waiting] = {}

    def __len__(self) -> int:
        """How many requests are waited for."""
        return len(self._waiting)

    def join(self, key: RequestKey) -> asyncio.Future[Envelope]:
        """A call waits for the answer to a request; it has to `leave` in the end."""
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = _Waiting(self._loop.create_future())
        waiting.calls += 1
        return waiting.answer

    def leave(self, key: RequestKey, answer: asyncio.Future[Envelope]) -> None:
        """A call that joined waits no longer, answered or not."""
        waiting = self._waiting.get(key)
        if waiting is None or waiting.answer is not answer:
            return
        waiting.calls -= 1
        if not waiting.calls:
            del self._waiting[key]

    def answer(self, key: RequestKey, envelope: Envelope) -> None:
        """Answer all calls that wait for a request."""
        waiting = self._waiting.pop(key, None)
        if waiting is not None and not waiting.answer.done():
            waiting.answer.set_result(envelope)
