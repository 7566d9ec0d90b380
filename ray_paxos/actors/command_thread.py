"""The thread of all clients of one cluster in this process: takes answers in, and sends.

```
 user's threads          this thread, in rounds                       roles
  submit ──wake──▶  answers, times ─▶ settle ─▶ next requests ─▶ lines ──▶
  callbacks ◀──────────────────────────┘                           ◀── answers
```

In each round it takes in all that has happened, settles what became known, and only then collects
what each client has to send: requests of many groups leave in the same calls. With a thread and
calls for each client, 1,000 commands in flight over 100 groups took 894/s, and over 20 groups
6,221/s, where one group took 56,591/s (separate roles, two cores).

What a future's callback does is done in this thread: whoever waits there holds up all clients of
the cluster in this process. So no client may wait there for a command (`check_may_wait`).

The thread ends with the last client. It is shared by those that have the same cluster, by its
genesis.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import queue
import secrets
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

from ray_paxos.actors.feeds import carried_bytes_max
from ray_paxos.actors.outcomes import deliver, run_callbacks_here
from ray_paxos.actors.role_line import (
    Caller,
    Event,
    RoleActors,
    RoleLine,
    unreachable,
)
from ray_paxos.core.client_calls import Call
from ray_paxos.core.messages import RoleName
from ray_paxos.core.pending import Outcomes
from ray_paxos.errors import ConfigurationError

_logger = logging.getLogger(__name__)

CALL_BYTES_MAX = 1_000_000
"""One call carries requests up to this many bytes, where Ray takes so much within a call."""
EVENTS_MAX = 1_000
"""So much is taken in before anything is settled and sent."""
NEVER_NS = 1 << 62


class Sender(Caller, Protocol):
    """One client; called by the thread only."""

    def next_request(self, now_ns: int) -> tuple[Call, bytes] | None:
        """What to send now, and its envelope; None where there is nothing, or it has to wait."""

    def on_time(self, now_ns: int, outcomes: Outcomes) -> None:
        """Look at the time; called in each round in which something happened to the client."""

    def due_ns(self, now_ns: int) -> int | None:
        """When something is due; None for never."""

    def on_members(self, members: Sequence[int], outcomes: Outcomes) -> None:
        """Somebody has looked for further members: these are known now."""

    def end(self, outcomes: Outcomes) -> None:
        """Nothing is sent or taken in any more: fail what is left."""


class CommandThread:
    """Runs the clients of one cluster; see the module's words.

    Invariants: all but the queue is the thread's own; `_clients`, those that have joined and not
    been removed, is guarded by the lock of all threads.
    """

    def __init__(self, genesis: bytes, actors: RoleActors) -> None:
        """Not started yet.

        Args:
            genesis: Hash of the cluster's genesis.
            actors: How the members are reached.
        """
        self._genesis = genesis
        self._actors = actors
        self._lookup = ThreadPoolExecutor(1, thread_name_prefix="ray_paxos-lookup")
        self._events: queue.SimpleQueue[Event | Sender] = queue.SimpleQueue()
        self._lines: dict[tuple[int, RoleName], RoleLine] = {}
        self._due_ns: dict[Sender, int] = {}
        self._touched: dict[Sender, None] = {}
        self._clients: set[Sender] = set()
        # What is known and not told yet, in the round that is under way.
        self._outcomes = Outcomes()
        self._to_tell: list[threading.Event] = []
        self._thread = threading.Thread(target=self._run, name="ray_paxos-client", daemon=True)

    # For all threads.

    def check_may_wait(self) -> None:
        """Refuse to wait in a callback of a future, which this thread runs.

        Raises:
            ConfigurationError: This is that thread: what it waited for could never come.
        """
        if self.is_current():
            raise ConfigurationError(
                "a callback of a future must not wait for another command or read: use "
                "propose_async, or go on in another thread"
            )

    def is_current(self) -> bool:
        """Whether the caller is this thread."""
        return threading.current_thread() is self._thread

    def wake(self, sender: Sender) -> None:
        """A client has something to send."""
        if self.is_current():
            self._touched[sender] = None
        else:
            self._events.put(sender)

    def post(self, event: Event) -> None:
        """Have an event taken in; takes no lock."""
        self._events.put(event)

    def leave(self, sender: Sender, is_told: threading.Event | None = None) -> None:
        """A client ends; takes no lock, so that it may be called by garbage collection.

        Args:
            sender: The client.
            is_told: Set once all its futures are settled.
        """
        self._events.put(lambda outcomes: self._remove(sender, is_told, outcomes))

    def proposer_of(self, member_id: int) -> Any:
        """The member's proposer, for a call of the caller's own; None where it is not known."""
        line = self._lines.get((member_id, RoleName.PROPOSER))
        return line.handle if line is not None else None

    def on_lone_failed(
        self, sender: Sender, call: Call, error: Exception, proposer: Any, *, was_made: bool = True
    ) -> None:
        """A caller's own call over a handle has failed, or could not even be made."""

        def event(outcomes: Outcomes) -> None:
            self._line_to(call.member_id, call.role).note_failure(error, proposer)
            tell = sender.on_lost if was_made else sender.on_not_taken
            tell(call, unreachable(error, call.role))

        self.post(event)

    def look_for_members(self, sender: Sender) -> None:
        """Have somebody look whether there are further members, and the client told of it."""

        def post(done: Future[Sequence[int]]) -> None:
            error = done.exception()
            if error is not None:
                # Ray does not say now; whoever finds nobody asks again.
                _logger.debug("looking for members: %s: %s", type(error).__name__, error)
            members = done.result() if error is None else ()
            self.post(lambda outcomes: self._on_members(sender, members, outcomes))

        self._lookup.submit(self._actors.look).add_done_callback(post)

    def join(self, sender: Sender) -> None:
        """One client more; with the lock of all threads, see `join_thread`."""
        self._clients.add(sender)
        self._events.put(lambda outcomes: self._add(sender))

    def start(self) -> None:
        """Begin, with the first client."""
        self._thread.start()

    # The thread.

    def _run(self) -> None:
        run_callbacks_here()
        # Also where a bug ends the loop, nobody waits for ever. The last one is called first.
        with contextlib.ExitStack() as end:
            end.callback(self._lookup.shutdown, wait=False)
            end.callback(self._tell_who_left)
            end.callback(self._outcomes.settle, deliver)
            end.callback(self._end_all)
            while self._take_round():
                pass

    def _tell_who_left(self) -> None:
        while self._to_tell:
            self._to_tell.pop().set()

    def _end_all(self) -> None:
        with _joining:
            if _threads.get(self._genesis) is self:
                del _threads[self._genesis]
            left, self._clients = self._clients, set()
        with contextlib.ExitStack() as end:
            for sender in left:
                end.callback(sender.end, self._outcomes)

    def _take_round(self) -> bool:
        """Wait for something to happen, take it in, and send; False where nobody is left."""
        outcomes = self._outcomes
        self._take_events(outcomes)
        now_ns = time.monotonic_ns()
        for line in self._lines.values():
            if line.due <= now_ns / 1e9:
                line.on_time()
        for sender, due_ns in self._due_ns.items():
            if due_ns <= now_ns:
                self._touched[sender] = None
        for sender in self._touched:
            sender.on_time(now_ns, outcomes)
        outcomes.settle(partial(deliver, between=self._send))
        self._tell_who_left()
        self._send()
        return bool(self._due_ns) or self._may_go_on()

    def _take_events(self, outcomes: Outcomes) -> None:
        patience_s = self._patience_s()
        for _ in range(EVENTS_MAX):
            try:
                event = self._events.get(timeout=patience_s)
            except queue.Empty:
                return
            patience_s = 0.0
            if callable(event):
                event(outcomes)
            else:
                self._touched[event] = None

    def _patience_s(self) -> float | None:
        if self._touched:
            # A call failed as it was made.
            return 0.0
        due_ns = min(self._due_ns.values(), default=NEVER_NS)
        due = min((line.due for line in self._lines.values()), default=math.inf)
        due_ns = min(due_ns, int(min(due, NEVER_NS / 1e9) * 1e9))
        if due_ns >= NEVER_NS:
            return None
        return max(due_ns - time.monotonic_ns(), 0) / 1e9

    def _send(self) -> None:
        """Give the lines what the clients have to send, and the roles what the lines have."""
        touched, self._touched = self._touched, {}
        for sender in touched:
            if sender not in self._due_ns:
                with _joining:
                    if sender in self._clients:
                        # Made in a callback, by this thread, and woken: it is known in a moment.
                        self._touched[sender] = None
                continue
            now_ns = time.monotonic_ns()
            while (request := sender.next_request(now_ns)) is not None:
                call, envelope = request
                self._line_to(call.member_id, call.role).put(sender, call, envelope)
            due_ns = sender.due_ns(now_ns)
            self._due_ns[sender] = NEVER_NS if due_ns is None else due_ns
        for line in self._lines.values():
            line.flush()

    def _line_to(self, member_id: int, role: RoleName) -> RoleLine:
        line = self._lines.get((member_id, role))
        if line is None:
            line = self._lines[member_id, role] = RoleLine(
                member_id,
                role,
                secrets.randbits(63),
                actors=self._actors,
                lookup=self._lookup,
                post=self.post,
                clock=time.monotonic,
                call_bytes_max=carried_bytes_max(CALL_BYTES_MAX),
            )
        return line

    def _on_members(self, sender: Sender, members: Sequence[int], outcomes: Outcomes) -> None:
        self._find_all()
        if sender in self._due_ns:
            sender.on_members(members, outcomes)

    def _add(self, sender: Sender) -> None:
        self._due_ns[sender] = NEVER_NS
        self._find_all()

    def _find_all(self) -> None:
        """Look up the proposers of all members, also of those that lead nothing yet.

        Who has to be looked up only once he leads cannot be called as long as the GCS is away.
        """
        for member_id in self._actors.known():
            self._line_to(member_id, RoleName.PROPOSER).look_up()

    def _remove(self, sender: Sender, is_told: threading.Event | None, outcomes: Outcomes) -> None:
        if is_told is not None:
            self._to_tell.append(is_told)
        if self._due_ns.pop(sender, None) is None:
            return
        with _joining:
            self._clients.discard(sender)
        for line in self._lines.values():
            line.forget(sender)
        sender.end(outcomes)

    def _may_go_on(self) -> bool:
        """Whether a client has joined meanwhile; if not, none does any more."""
        with _joining:
            if not self._clients:
                del _threads[self._genesis]
            return bool(self._clients)


_joining = threading.Lock()
_threads: dict[bytes, CommandThread] = {}


def join_thread(sender: Sender, genesis: bytes, actors: RoleActors) -> CommandThread:
    """Have a client run by the thread of its cluster, which is started where there is none.

    Args:
        sender: The client; may be called by the thread from here on.
        genesis: Hash of the cluster's genesis.
        actors: How the members' roles are reached.
    """
    with _joining:
        thread = _threads.get(genesis)
        is_new = thread is None
        if thread is None:
            thread = _threads[genesis] = CommandThread(genesis, actors)
        thread.join(sender)
        if is_new:
            try:
                thread.start()
            except RuntimeError:
                # No thread more can be started in this process.
                del _threads[genesis]
                raise
        return thread


def _forget_threads() -> None:
    """In a child process after a fork: the parent's threads do not run here."""
    global _joining
    _joining = threading.Lock()
    _threads.clear()


os.register_at_fork(after_in_child=_forget_threads)
