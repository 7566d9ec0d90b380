"""Outbound messages: one feed a peer, which turns whatever queues up into actor calls.

Rules:

1. A feed has at most `calls_max` calls on their way. What queues up meanwhile goes into the next
   one, so that the number of calls falls as load rises, and no message waits for company while
   the peer is idle.
2. Queues are bounded in bytes and in number; the oldest go first. The protocol sends again.
3. A call that takes longer than `timeout_s` is abandoned: its answer is still taken if it comes,
   but the feed goes on without it. A peer that answers nothing gets no more than
   `abandoned_max` such calls at a time, so that a stopped process costs a bounded amount.
4. A peer is found by its name. When a call says that the actor is dead, it is looked up again;
   until then, and after any other failure, the feed pauses for a moment that doubles each time.

Everything here runs on one event loop; answers are handed to the callback on that loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, Protocol

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError

from ray_paxos.actors.answers import RolePhase, state_of
from ray_paxos.actors.names import NAMESPACE
from ray_paxos.core.messages import Envelope
from ray_paxos.core.wire import decode_envelopes, join_envelopes
from ray_paxos.errors import WireFormatError

_logger = logging.getLogger(__name__)


INLINE_VARIABLE = "RAY_max_direct_call_object_size"
INLINE_DEFAULT = 100 * 1024
ENVELOPE_ROOM = 2_048


def inline_bytes_max(environment: Mapping[str, str]) -> int:
    """Up to which size an argument travels within a call, by this process's environment.

    Above it Ray takes the way through the object store, at a third of the rate.
    """
    configured = environment.get(INLINE_VARIABLE, "")
    return int(configured) if configured.isdigit() else INLINE_DEFAULT


@dataclass(frozen=True, slots=True)
class FeedLimits:
    """Bounds of one feed.

    Attributes:
        bytes_max: Queued at most.
        envelopes_max: Queued at most.
        call_bytes_max: One call carries envelopes up to this many bytes (at least one).
        calls_max: Calls on their way at most.
        timeout_s: After which a call is abandoned.
        abandoned_max: Abandoned calls without an answer at most; each counts
        forget_s: for this long after it was abandoned.
        pause_s: First pause after a failure; doubles up to `pause_max_s`.
        pause_max_s: The longest pause.
    """

    bytes_max: int = 64_000_000
    envelopes_max: int = 10_000
    call_bytes_max: int = 1_000_000
    calls_max: int = 1
    timeout_s: float = 2.0
    abandoned_max: int = 4
    forget_s: float = 60.0
    pause_s: float = 0.05
    pause_max_s: float = 1.0

    @classmethod
    def for_this_process(cls) -> FeedLimits:
        """The defaults, with calls that stay within Ray's inlining limit."""
        inline = inline_bytes_max(os.environ) - ENVELOPE_ROOM
        return cls(call_bytes_max=max(1, min(cls().call_bytes_max, inline)))


class FeedQueue:
    """Encoded envelopes that wait for a call; the oldest go when there are too many.

    Invariants: `byte_count` is the sum of what is held, and within the limits once `put` returns
    (a single envelope over the limit is held alone).
    """

    def __init__(self, limits: FeedLimits) -> None:
        """Start empty."""
        self._limits = limits
        self._waiting: deque[bytes] = deque()
        self.byte_count = 0
        self.dropped = 0

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def put(self, encoded: bytes) -> None:
        """Queue one envelope behind the others."""
        self._waiting.append(encoded)
        self.byte_count += len(encoded)
        while len(self._waiting) > 1 and (
            self.byte_count > self._limits.bytes_max
            or len(self._waiting) > self._limits.envelopes_max
        ):
            self.byte_count -= len(self._waiting.popleft())
            self.dropped += 1

    def take(self) -> list[bytes]:
        """The envelopes of the next call, in order; at least one where any waits."""
        taken: list[bytes] = []
        room = self._limits.call_bytes_max
        while self._waiting and (not taken or len(self._waiting[0]) <= room):
            encoded = self._waiting.popleft()
            self.byte_count -= len(encoded)
            room -= len(encoded)
            taken.append(encoded)
        return taken


class Peer(Protocol):
    """How a feed reaches a peer."""

    def call(self, batch: bytes) -> Future[bytes]:
        """Hand a batch over; the future has the answer, or Ray's error."""


class ActorPeer:
    """A role actor, by its handle."""

    def __init__(self, handle: Any) -> None:
        """Call `handle`."""
        self._handle = handle

    def call(self, batch: bytes) -> Future[bytes]:
        """Call the actor's `deliver`."""
        future: Future[bytes] = self._handle.deliver.remote(batch).future()
        return future


def find_actor(name: str) -> Peer:
    """Look an actor up; takes a call to the GCS.

    Raises:
        ValueError: No actor of that name lives.
    """
    return ActorPeer(ray.get_actor(name, namespace=NAMESPACE))


class _Call:
    """One call on its way."""

    __slots__ = ("deadline", "is_abandoned")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.is_abandoned = False


class PeerFeed:
    """The way to one peer; see the module's rules. To be used on its event loop only."""

    def __init__(
        self,
        name: str,
        *,
        loop: asyncio.AbstractEventLoop,
        lookup: Executor,
        on_answer: Callable[[Sequence[Envelope]], None],
        limits: FeedLimits,
        find: Callable[[str], Peer] = find_actor,
    ) -> None:
        """Feed the actor of that name.

        Args:
            name: Of the actor, in the namespace of ray_paxos.
            loop: Runs everything here.
            lookup: Where names are looked up, since that waits for the GCS.
            on_answer: Takes the envelopes of an answer.
            limits: Bounds.
            find: Turns the name into a peer; raises ValueError where nobody has it.
        """
        self._name = name
        self._loop = loop
        self._lookup = lookup
        self._on_answer = on_answer
        self._limits = limits
        self._find = find
        self._queue = FeedQueue(limits)
        self._peer: Peer | None = None
        self._is_looking = False
        self._calls: set[_Call] = set()
        self._in_flight = 0
        self._pause_s = limits.pause_s
        self._paused_until = 0.0
        self._is_scheduled = False
        self._watch: asyncio.TimerHandle | None = None
        self._resume: asyncio.TimerHandle | None = None

    def put(self, encoded: bytes) -> None:
        """Queue an envelope; it leaves at the end of this turn of the loop, or later."""
        self._queue.put(encoded)
        if not self._is_scheduled and self._in_flight < self._limits.calls_max:
            # Not at once: what this turn of the loop still produces goes into the same call.
            self._is_scheduled = True
            self._loop.call_soon(self._pump)

    def close(self) -> None:
        """Stop; what is queued is dropped."""
        for timer in (self._watch, self._resume):
            if timer is not None:
                timer.cancel()
        self._limits = FeedLimits(calls_max=0)
        self._queue = FeedQueue(self._limits)

    def _pump(self) -> None:
        self._is_scheduled = False
        while len(self._queue) and self._in_flight < self._limits.calls_max:
            pause = self._paused_until - self._loop.time()
            if pause > 0:
                self._pump_later(pause)
                return
            if len(self._calls) - self._in_flight >= self._limits.abandoned_max:
                return
            if self._peer is None:
                self._look_up()
                return
            self._send(self._peer)

    def _pump_later(self, pause_s: float) -> None:
        if self._resume is None:
            self._resume = self._loop.call_later(pause_s, self._on_resume)

    def _on_resume(self) -> None:
        self._resume = None
        self._pump()

    def _look_up(self) -> None:
        if self._is_looking:
            return
        self._is_looking = True
        looked = self._loop.run_in_executor(self._lookup, self._find, self._name)
        looked.add_done_callback(self._on_looked_up)

    def _on_looked_up(self, looked: asyncio.Future[Peer]) -> None:
        self._is_looking = False
        try:
            self._peer = looked.result()
        except (ValueError, RayError) as error:
            # ValueError: no actor of that name lives now.
            self._pause(str(error))
        self._pump()

    def _send(self, peer: Peer) -> None:
        call = _Call(self._loop.time() + self._limits.timeout_s)
        batch = join_envelopes(self._queue.take())
        try:
            future = peer.call(batch)
        except RayError as error:
            self._on_failure(error)
            return
        self._calls.add(call)
        self._in_flight += 1
        future.add_done_callback(
            lambda done: self._loop.call_soon_threadsafe(self._on_done, call, done)
        )
        if self._watch is None or self._watch.when() > call.deadline:
            if self._watch is not None:
                self._watch.cancel()
            self._watch = self._loop.call_at(call.deadline, self._on_watch)

    def _on_watch(self) -> None:
        """Abandon calls that are due, forget those abandoned long ago, and look again later."""
        self._watch = None
        now = self._loop.time()
        due: list[float] = []
        for call in list(self._calls):
            if not call.is_abandoned and call.deadline <= now:
                call.is_abandoned = True
                call.deadline += self._limits.forget_s
                self._in_flight -= 1
            if call.deadline > now:
                due.append(call.deadline)
            else:
                self._calls.discard(call)
        if due:
            self._watch = self._loop.call_later(max(min(due) - now, 0.001), self._on_watch)
        self._pump()

    def _on_done(self, call: _Call, done: Future[bytes]) -> None:
        self._calls.discard(call)
        if not call.is_abandoned:
            self._in_flight -= 1
        try:
            answer = done.result()
            state = state_of(answer)
            envelopes = decode_envelopes(answer) if state is None else ()
        except RayError as error:
            self._on_failure(error)
        except WireFormatError as error:
            self._pause(str(error))
        else:
            if state is None:
                self._pause_s = self._limits.pause_s
                self._on_answer(envelopes)
            elif state.phase is not RolePhase.SERVING:
                self._pause(str(state))
        self._pump()

    def _on_failure(self, error: RayError) -> None:
        if isinstance(error, RayActorError) and not isinstance(error, ActorUnavailableError):
            self._peer = None
        self._pause(f"{type(error).__name__}: {error}")

    def _pause(self, reason: str) -> None:
        _logger.debug("%s: %s", self._name, reason)
        self._paused_until = self._loop.time() + self._pause_s
        self._pause_s = min(2 * self._pause_s, self._limits.pause_max_s)
