"""Sends one client's reads, many together: the calls, the clock and the thread.

```
 user's threads                     thread of the reads             proposer, learners
  submit ──▶ batches (lock) ──wake──▶ next asks ─────────────────────▶
                                      ◀── event ◀── answer ──────────
  future ◀─────────────── settle ─────┘
```

`QueryBatches` decides what goes out and what is asked again. It is guarded by one lock, which is
held neither over a call nor while futures are settled. Roles are looked up by another thread, since
that waits for the GCS.

Nothing here grows without bound (R10): reads are let in as far as there is room, and their callers
wait; events are one for each message that may be owed, and one that wakes the thread.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeAlias

from ray.exceptions import RayError

from ray_paxos.actors.query_outcomes import QueriesFuture, QueryFuture, deliver_answers
from ray_paxos.actors.read_calls import LOOK_UP_S, ReadCall, ReadCalls
from ray_paxos.actors.sender import WAIT_MAX_S
from ray_paxos.core.client_messages import QueryFailed
from ray_paxos.core.messages import Envelope, Message
from ray_paxos.core.pending import Outcomes
from ray_paxos.core.query_batches import QueryBatches
from ray_paxos.core.query_calls import Ask, ReadTerms
from ray_paxos.core.read_problems import ReadProblem, problem_of
from ray_paxos.errors import (
    ClientClosedError,
    ConfigurationError,
    OverloadedError,
    QueryError,
    WireFormatError,
)

Event: TypeAlias = tuple[Ask, Any]
"""A message, and what became of its call."""


class QuerySender:
    """Owns the reads of one client that go together.

    Invariants: `_batches` is touched under `_lock` only; calls are not made under it.
    """

    def __init__(
        self, calls: ReadCalls, batches: QueryBatches, own_instance: Callable[[], int]
    ) -> None:
        """Start the thread.

        Args:
            calls: Makes the calls.
            batches: What to send; owned from here on.
            own_instance: Tells the highest instance in which this client was acknowledged.
        """
        self._calls = calls
        self._batches = batches
        self._own_instance = own_instance
        self._lookup = ThreadPoolExecutor(1, thread_name_prefix="ray_paxos-read-lookup")
        self._events: queue.SimpleQueue[Event | str | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._is_awake = False
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="ray_paxos-reads", daemon=True)
        self._thread.start()

    # The user's side.

    def check_may_wait(self) -> None:
        """Refuse to wait in a callback of a read's future, which this thread runs.

        Raises:
            ConfigurationError: This is that thread: what it waited for could never come.
        """
        if threading.current_thread() is self._thread:
            raise ConfigurationError(
                "a callback of a read's future must not wait for other reads: use query_async, or "
                "go on in another thread"
            )

    def submit_one(
        self, terms: ReadTerms, request: bytes, future: QueryFuture, timeout_s: float
    ) -> None:
        """Have one read go out with the next batch; waits for room.

        Args:
            terms: What it asks for.
            request: For the machine.
            future: Gets the answer.
            timeout_s: How long to wait for room.

        Raises:
            OverloadedError: There was no room in time; nothing was sent.
            ClientClosedError: The client is closed.
        """
        with self._lock:
            if self._is_closed or not self._batches.has_room(1, len(request)):
                self._wait_for_room(1, len(request), timeout_s)
            may_send = self._batches.add_one(terms, request, future)
        # A race here costs one more turn of the thread and never loses a wake-up: the thread
        # clears the flag before it looks at the batches.
        if may_send and not self._is_awake:
            self._wake()

    def submit(
        self, terms: ReadTerms, requests: tuple[bytes, ...], future: QueriesFuture, timeout_s: float
    ) -> None:
        """As `submit_one`, of several reads, at least one.

        Raises:
            As `submit_one`.
        """
        with self._lock:
            self._wait_for_room(len(requests), sum(map(len, requests)), timeout_s)
            self._batches.add(terms, requests, future)
        if not self._is_awake:
            self._wake()

    def close(self) -> None:
        """Refuse new reads, and fail those without an answer."""
        with self._lock:
            self._is_closed = True
            self._changed.notify_all()
        self._events.put(None)

    def drop(self) -> None:
        """End without waiting; takes no lock, so that it may be called by garbage collection."""
        self._events.put(None)

    def _wait_for_room(self, count: int, byte_count: int, timeout_s: float) -> None:
        batches = self._batches

        def is_over() -> bool:
            return self._is_closed or batches.has_room(count, byte_count)

        if threading.current_thread() is self._thread:
            # A callback of a future: only its return makes room.
            timeout_s = 0.0
        if not is_over() and not self._changed.wait_for(is_over, min(timeout_s, WAIT_MAX_S)):
            raise OverloadedError(
                f"{batches.held_reads:,} reads of {batches.held_bytes:,} bytes wait for their "
                f"answers; there was no room for {count:,} more within {timeout_s:g} s",
                retry_after_s=1.0,
            )
        if self._is_closed:
            raise ClientClosedError("the client is closed; the read was not sent")

    def _wake(self) -> None:
        self._is_awake = True
        self._events.put("wake")

    # The thread of the reads.

    def _run(self) -> None:
        try:
            while self._take_event():
                pass
        finally:
            # Also where a bug ended the loop: nobody waits for ever.
            outcomes = Outcomes()
            with self._lock:
                self._is_closed = True
                error = QueryError("the client was closed before the answer came")
                self._batches.give_up(error, outcomes)
                self._changed.notify_all()
            outcomes.settle(deliver_answers)
            self._lookup.shutdown(wait=False)

    def _take_event(self) -> bool:
        """Wait for something to happen, take it in, and send what is due; False at the end."""
        try:
            event = self._events.get(timeout=self._patience_s())
        except queue.Empty:
            event = "timer"
        if event is None:
            return False
        self._is_awake = False
        ask, answer = event if isinstance(event, tuple) else (None, None)
        word = self._word(ask, answer) if ask is not None else None
        outcomes = Outcomes()
        with self._lock:
            # Not before: what a read has to see may have been acknowledged until it was let in.
            own_instance = self._own_instance()
            now_ns = time.monotonic_ns()
            asks: list[Ask] = []
            if ask is not None and word is not None:
                message = word.message if isinstance(word, Envelope) else word
                self._see_who_else(message)
                asks += self._batches.on_answer(ask, message, now_ns, outcomes)
            self._batches.on_deadline(now_ns, outcomes)
            asks += self._batches.next_asks(now_ns, own_instance)
            self._changed.notify_all()
        # First what others work on meanwhile.
        for each in asks:
            self._send(each)
        outcomes.settle(deliver_answers)
        return True

    def _patience_s(self) -> float | None:
        with self._lock:
            due_ns = self._batches.due_ns()
        return max(due_ns - time.monotonic_ns(), 0) / 1e9 if due_ns is not None else None

    def _word(self, ask: Ask, answer: Any) -> Envelope | ReadProblem:
        """What came of a call."""
        if isinstance(answer, ReadProblem):
            return answer
        if isinstance(answer, RayError):
            return self._calls.lost(ask.member_id, answer)
        if not isinstance(answer, bytes):
            name = self._calls.names[ask.member_id]
            return ReadProblem(f"member {name}: {type(answer).__name__}")
        try:
            return self._calls.read(ask.member_id, answer)
        except WireFormatError as error:
            return ReadProblem(f"member {self._calls.names[ask.member_id]}: {error}")

    def _see_who_else(self, message: Message | ReadProblem) -> None:
        """Where a member that is not known may do better, have somebody look for it."""
        problem = problem_of("", message) if isinstance(message, QueryFailed) else message
        if isinstance(problem, ReadProblem) and self._calls.lacks_members(problem):
            self._lookup.submit(self._calls.look_for_members, LOOK_UP_S)

    def _send(self, ask: Ask) -> None:
        if self._calls.knows(ask.role, ask.member_id):
            self._start(ask)
        else:
            self._lookup.submit(self._start, ask)

    def _start(self, ask: Ask) -> None:
        (started,) = self._calls.start(ask.role, ask.message, ask.member_id, within_s=LOOK_UP_S)
        if not isinstance(started, ReadCall):
            self._events.put((ask, started))
            return

        def post(future: Future[bytes]) -> None:
            error = future.exception()
            self._events.put((ask, error if error is not None else future.result()))

        started.reference.future().add_done_callback(post)
