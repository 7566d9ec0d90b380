"""Clients' calls at a proposer that wait for an answer.

A client that hears nothing sends a request again, so several calls may wait for one answer. Each
has its own patience: one that gives up takes nothing away from the others.
"""

from __future__ import annotations

import threading
from typing import TypeAlias

from ray_paxos.core.messages import Address, Envelope

RequestKey: TypeAlias = tuple[Address, int]
"""Which client's request of which number."""


class Answer:
    """What one or several threads wait for.

    A bare lock, since a `Future` or an `Event` costs several times as much, once a command.

    Attributes:
        envelope: The answer; None until there is one.
        calls: How many wait; guarded by the lock of `WaitingCalls`.
    """

    __slots__ = ("_gate", "calls", "envelope")

    def __init__(self) -> None:
        """Not answered yet."""
        self.envelope: Envelope | None = None
        self.calls = 0
        self._gate = threading.Lock()
        self._gate.acquire()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the answer; False where there was none in time."""
        if not self._gate.acquire(timeout=max(timeout_s, 0.0)):
            return False
        # The next one that waits goes through as well.
        self._gate.release()
        return True

    def set(self, envelope: Envelope) -> None:
        """Let all through that wait; once."""
        self.envelope = envelope
        self._gate.release()


class WaitingCalls:
    """The calls of one proposer, by request; used by all threads.

    Invariants: a request is here exactly while a call waits for its answer.
    """

    def __init__(self) -> None:
        """Start with none."""
        self._lock = threading.Lock()
        self._waiting: dict[RequestKey, Answer] = {}

    def __len__(self) -> int:
        """How many requests are waited for."""
        return len(self._waiting)

    def join(self, key: RequestKey) -> Answer:
        """A call waits for the answer to a request; it has to `leave` in the end."""
        with self._lock:
            waiting = self._waiting.get(key)
            if waiting is None:
                waiting = self._waiting[key] = Answer()
            waiting.calls += 1
            return waiting

    def leave(self, key: RequestKey, answer: Answer) -> None:
        """A call that joined waits no longer, answered or not."""
        with self._lock:
            waiting = self._waiting.get(key)
            if waiting is not answer:
                return
            waiting.calls -= 1
            if not waiting.calls:
                del self._waiting[key]

    def answer(self, key: RequestKey, envelope: Envelope) -> None:
        """Answer all calls that wait for a request."""
        with self._lock:
            waiting = self._waiting.pop(key, None)
        if waiting is not None:
            waiting.set(envelope)
