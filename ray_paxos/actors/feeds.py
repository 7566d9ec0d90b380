"""Outbound messages: one feed a peer, which turns whatever queues up into actor calls.

Rules:

1. A feed has at most `calls_max` calls on their way. What queues up meanwhile goes into the next
   one, so that the number of calls falls as load rises, and no message waits for company while
   the peer is idle.
2. Queues are bounded in bytes and in number; the oldest go first. The protocol sends again.
3. A call that takes longer than `timeout_s` is abandoned: its answer is still taken if it comes,
   but the feed goes on without it. A peer that answers nothing gets no more than
   `abandoned_max` such calls at a time, so that a stopped process costs a bounded amount.
4. What need not leave at once leaves with whatever leaves next, and where nothing does, after
   `patience_s`; *news*, which nobody waits for, makes a call of its own only every `news_s`. A
   call costs its two ends 0.5 ms of processor each and more, whatever it carries: with 100 commands
   a second, each by itself, two of seven calls of each told other learners what was chosen.
5. A peer is found by its name. When a call says that the actor is dead, it is looked up again;
   until then, and after any other failure, the feed pauses for a moment that doubles each time.

Any thread may put envelopes in, and makes the call itself where one may be made: a lone message
changes no thread on its way out. Answers come back on the background thread, which hands them to
the callback. A feed's own state is guarded by its lock, which is held over no call and no callback.
"""

from __future__ import annotations

import enum
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from ray.exceptions import ActorUnavailableError, RayActorError, RayError

from ray_paxos.actors.answers import RolePhase, state_of
from ray_paxos.actors.background import Background, Timer
from ray_paxos.actors.peers import Peer
from ray_paxos.errors import WireFormatError

Batch = TypeVar("Batch")
"""What an answer is decoded to."""

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


def carried_bytes_max(byte_count: int) -> int:
    """So many of these bytes a call of this process carries within it, beside its envelope."""
    return max(1, min(byte_count, inline_bytes_max(os.environ) - ENVELOPE_ROOM))


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
        patience_s: What goes soon waits so long for company, at most.
        news_s: From one call that only carries news to the next, at least.
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
    patience_s: float = 0.005
    news_s: float = 0.05
    pause_s: float = 0.05
    pause_max_s: float = 1.0

    @classmethod
    def for_this_process(cls) -> FeedLimits:
        """The defaults, with calls that stay within Ray's inlining limit."""
        return cls(call_bytes_max=carried_bytes_max(cls().call_bytes_max))


class Haste(enum.Enum):
    """How long an envelope may wait for company."""

    AT_ONCE = enum.auto()
    SOON = enum.auto()
    """For `patience_s`."""
    NEWS = enum.auto()
    """For `patience_s`, and until news is due again."""


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


class _Call:
    """One call on its way."""

    __slots__ = ("deadline", "is_abandoned", "started")

    def __init__(self, started: float, timeout_s: float) -> None:
        self.started = started
        self.deadline = started + timeout_s
        self.is_abandoned = False


@dataclass(frozen=True, slots=True)
class BatchForm(Generic[Batch]):
    """How batches of one kind of peers look.

    Attributes:
        join: Makes one call of encoded envelopes.
        decode: Reads an answer; raises WireFormatError.
    """

    join: Callable[[Sequence[bytes]], bytes]
    decode: Callable[[bytes], Batch]


class PeerFeed(Generic[Batch]):
    """The way to one peer; see the module's rules.

    Invariants: everything but what is given at the start is changed under `_lock` only.

    Attributes:
        answer_s: How long the last answer took.
    """

    def __init__(
        self,
        name: str,
        *,
        background: Background,
        lookup: Executor,
        form: BatchForm[Batch],
        on_answer: Callable[[Batch], None],
        limits: FeedLimits,
        find: Callable[[str], Peer],
    ) -> None:
        """Feed the actor of that name.

        Args:
            name: Of the actor, in the namespace of ray_paxos.
            background: Takes answers in, and keeps the time.
            lookup: Where names are looked up, since that waits for the GCS.
            form: Of calls and answers.
            on_answer: Takes what an answer carries, on the background thread.
            limits: Bounds.
            find: Turns the name into a peer; raises ValueError where nobody has it.
        """
        self._name = name
        self._background = background
        self._lookup = lookup
        self._form = form
        self._on_answer = on_answer
        self._limits = limits
        self._find = find
        self._lock = threading.Lock()
        self._queue = FeedQueue(limits)
        self._peer: Peer | None = None
        self._is_looking = False
        self._calls: set[_Call] = set()
        self._in_flight = 0
        self._pause_s = limits.pause_s
        self._paused_until = 0.0
        self._watch: Timer | None = None
        self._resume: Timer | None = None
        self._patience: Timer | None = None
        self._patient_until: float | None = None
        self._news_at = 0.0
        self._is_urgent = False
        self.answer_s = 0.0

    @property
    def is_ready(self) -> bool:
        """Whether what is put in now leaves at once, as far as one can see."""
        return self._peer is not None and not self._calls and self._paused_until <= time.monotonic()

    def put(self, encoded: Sequence[bytes], haste: Haste = Haste.AT_ONCE) -> None:
        """Queue envelopes; they leave at once, in one call, or with a later one.

        Args:
            encoded: The envelopes.
            haste: How long they may wait for others to leave with.
        """
        with self._lock:
            for envelope in encoded:
                self._queue.put(envelope)
            if haste is not Haste.AT_ONCE:
                if not self._is_urgent:
                    self._be_patient(haste)
                return
            self._is_urgent = True
        self._pump()

    def _be_patient(self, haste: Haste) -> None:
        """Have what waits leave in time; with the lock."""
        until = time.monotonic() + self._limits.patience_s
        if haste is Haste.NEWS:
            until = max(until, self._news_at)
        if self._patient_until is None or until < self._patient_until:
            self._patient_until = until
            self._watch_patience(until)

    def _watch_patience(self, until: float) -> None:
        # A timer costs a turn of the background thread: one that runs out too early is set again
        # then, and most have nothing left to do.
        if self._patience is not None:
            if self._patience.at <= until:
                return
            self._patience.cancel()
        delay_s = until - time.monotonic()
        self._patience = self._background.call_later(delay_s, self._on_patience)

    def take(self) -> list[bytes]:
        """What waits for a call that may be made now, to leave in another way; up to one call's."""
        with self._lock:
            if self._in_flight:
                # What was sent before it has not arrived: it must not be overtaken for no reason.
                return []
            return self._take()

    def close(self) -> None:
        """Stop; what is queued is dropped."""
        with self._lock:
            for timer in (self._watch, self._resume, self._patience):
                if timer is not None:
                    timer.cancel()
            self._limits = FeedLimits(calls_max=0)
            self._queue = FeedQueue(self._limits)

    def _pump(self) -> None:
        """Make the calls that may be made; in any thread."""
        while True:
            with self._lock:
                peer = self._next_peer()
                if peer is None:
                    return
                call = _Call(time.monotonic(), self._limits.timeout_s)
                taken = self._take()
                self._calls.add(call)
                self._in_flight += 1
                self._watch_for(call)
            self._send(peer, call, taken)

    def _take(self) -> list[bytes]:
        """The envelopes of the next call; with the lock."""
        taken = self._queue.take()
        if not len(self._queue):
            self._is_urgent = False
            self._patient_until = None
        return taken

    def _next_peer(self) -> Peer | None:
        """The peer, where a call may be made now."""
        limits = self._limits
        if not self._is_urgent or self._in_flight >= limits.calls_max:
            return None
        pause_s = self._paused_until - time.monotonic()
        if pause_s > 0:
            if self._resume is None:
                self._resume = self._background.call_later(pause_s, self._on_resume)
            return None
        if len(self._calls) - self._in_flight >= limits.abandoned_max:
            return None
        if self._peer is None and not self._is_looking:
            self._is_looking = True
            looked = self._lookup.submit(self._find, self._name)
            looked.add_done_callback(
                lambda done: self._background.post(partial(self._on_looked_up, done))
            )
        return self._peer

    def _send(self, peer: Peer, call: _Call, taken: Sequence[bytes]) -> None:
        try:
            future = peer.call(self._form.join(taken))
        except RayError as error:
            with self._lock:
                self._end(call)
                self._note_failure(error)
            return
        future.add_done_callback(
            lambda done: self._background.post(partial(self._on_done, call, done))
        )

    def _watch_for(self, call: _Call) -> None:
        """Have a call abandoned when it is due."""
        if self._watch is not None:
            if self._watch.at <= call.deadline:
                return
            self._watch.cancel()
        delay_s = call.deadline - time.monotonic()
        self._watch = self._background.call_later(delay_s, self._on_watch)

    def _end(self, call: _Call) -> None:
        self._calls.discard(call)
        if not call.is_abandoned:
            self._in_flight -= 1

    # The background thread.

    def _on_resume(self) -> None:
        with self._lock:
            self._resume = None
        self._pump()

    def _on_patience(self) -> None:
        with self._lock:
            self._patience = None
            until = self._patient_until
            if until is None:
                return
            now = time.monotonic()
            if until > now:
                self._watch_patience(until)
                return
            self._news_at = now + self._limits.news_s
            self._is_urgent = True
        self._pump()

    def _on_looked_up(self, looked: Future[Peer]) -> None:
        with self._lock:
            self._is_looking = False
            try:
                self._peer = looked.result()
            except (ValueError, RayError) as error:
                # ValueError: no actor of that name lives now.
                self._pause(str(error))
        self._pump()

    def _on_watch(self) -> None:
        """Abandon calls that are due, forget those abandoned long ago, and look again later."""
        with self._lock:
            self._watch = None
            now = time.monotonic()
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
                delay_s = max(min(due) - now, 0.001)
                self._watch = self._background.call_later(delay_s, self._on_watch)
        self._pump()

    def _on_done(self, call: _Call, done: Future[bytes]) -> None:
        batch: Batch | None = None
        with self._lock:
            self._end(call)
            self.answer_s = time.monotonic() - call.started
            try:
                answer = done.result()
                state = state_of(answer)
                if state is None:
                    batch = self._form.decode(answer)
                    self._pause_s = self._limits.pause_s
                elif state.phase is not RolePhase.SERVING:
                    self._pause(str(state))
            except RayError as error:
                self._note_failure(error)
            except WireFormatError as error:
                self._pause(str(error))
        if batch is not None:
            self._on_answer(batch)
        self._pump()

    def _note_failure(self, error: RayError) -> None:
        if isinstance(error, RayActorError) and not isinstance(error, ActorUnavailableError):
            self._peer = None
        self._pause(f"{type(error).__name__}: {error}")

    def _pause(self, reason: str) -> None:
        _logger.debug("%s: %s", self._name, reason)
        self._paused_until = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, self._limits.pause_max_s)
