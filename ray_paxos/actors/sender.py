"""Sends one client's commands to the master's proposer: the calls, the clock and the threads.

```
 user's threads                       sender's thread                    proposer of the master
  submit ──▶ requests (lock) ──wake──▶ next call ─────────────────────────▶
                                       ◀── event ◀── answer ──────────────
  future ◀───────────────── settle ───┘
```

`ClientRequests` decides what goes out and what is sent again. It is guarded by one lock, which is
held neither over a call nor while futures are settled. A lone command takes the short way: the
caller's own thread makes the call and takes the answer in, which saves two changes of thread
(0.15 to 0.3 ms of a call's 0.6).

Nothing here grows without bound (R10): commands are let in as far as there is room, and their
callers wait; events are one for each call that may be owed, and one that wakes the thread.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayActorError, RayError

from ray_paxos.actors.answers import state_of
from ray_paxos.actors.names import NAMESPACE
from ray_paxos.actors.outcomes import deliver
from ray_paxos.core.client_calls import Call, ClientSettings
from ray_paxos.core.messages import Address, Envelope, RoleName
from ray_paxos.core.pending import Outcomes, Receiver
from ray_paxos.core.requests import ClientRequests
from ray_paxos.core.wire import decode_envelopes, encode_envelopes
from ray_paxos.errors import (
    ClientClosedError,
    CommandTooLargeError,
    ConfigurationError,
    OverloadedError,
    WireFormatError,
)

_logger = logging.getLogger(__name__)

Event = Callable[[Outcomes], None]

WAIT_MAX_S = 1e6
"""As good as for ever, which locks do not take."""


class Proposers(Protocol):
    """How the sender reaches the members' proposers."""

    def find(self, member_id: int) -> Any:
        """The member's proposer; waits for the GCS. Raises ValueError where there is none."""

    def call(self, proposer: Any, batch: bytes) -> Any:
        """Hand a batch over; gives the reference of the answer."""


class ActorProposers:
    """The proposer actors of a cluster."""

    def __init__(self, names: dict[int, str]) -> None:
        """Know their names, by member."""
        self._names = names

    def find(self, member_id: int) -> Any:
        """Look the actor up."""
        return ray.get_actor(self._names[member_id], namespace=NAMESPACE)

    def call(self, proposer: Any, batch: bytes) -> Any:
        """Call the actor's `submit`."""
        return proposer.submit.remote(batch)


class CommandSender:
    """Owns one session and its calls.

    Invariants: `_requests` is touched under `_lock` only; calls are made by the sender's thread
    and by a caller on the short way, never under the lock.
    """

    def __init__(
        self,
        *,
        genesis: bytes,
        group: int,
        requests: ClientRequests,
        client_id: int,
        settings: ClientSettings,
        proposers: Proposers,
    ) -> None:
        """Send to one group.

        Args:
            genesis: Hash of the cluster's genesis.
            group: Whose log.
            requests: What to send; owned from here on.
            client_id: Random; the address that replies are for.
            settings: Bounds and times.
            proposers: How they are reached.
        """
        self._genesis = genesis
        self._group = group
        self._requests = requests
        self._session = requests.session
        self._command_bytes_max = settings.command_bytes_max
        self._address = Address(client_id, RoleName.CLIENT)
        self._settings = settings
        self._proposers = proposers
        self._handles: dict[int, Any] = {}
        self._checked_machine = ""
        self._lookup = ThreadPoolExecutor(1, thread_name_prefix="ray_paxos-lookup")
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        # Apart, since entering a lock is several times cheaper than entering its condition.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._is_awake = False
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="ray_paxos-client", daemon=True)
        self._thread.start()

    # The user's side.

    def check_may_wait(self) -> None:
        """Refuse to wait in a callback of a future, which the sender's own thread runs.

        Raises:
            ConfigurationError: This is that thread: what it waited for could never come.
        """
        if threading.current_thread() is self._thread:
            raise ConfigurationError(
                "a callback of a future must not wait for another command or read: use "
                "propose_async, or go on in another thread"
            )

    def submit(
        self, machine: str, commands: Sequence[bytes], receiver: Receiver, timeout_s: float
    ) -> None:
        """Queue commands; waits for room.

        Args:
            machine: Which state machine.
            commands: In order, at least one; not to be changed afterwards.
            receiver: Gets the outcome.
            timeout_s: How long to wait for room.

        Raises:
            ConfigurationError: One of them is not bytes, or the machine has no name.
            CommandTooLargeError: One of them is over the limit; none is queued.
            OverloadedError: There was no room in time; none is queued.
            ClientClosedError: The client is closed; none is queued.
        """
        byte_count = self._check(machine, commands)
        with self._lock:
            self._wait_for_room(len(commands), byte_count, timeout_s)
            self._session.enqueue(machine, commands, receiver)
            # With the window full, or too little for another request, the next answer wakes it.
            may_send = self._session.may_send
        if may_send:
            self._wake()

    def submit_one(
        self, machine: str, command: bytes, receiver: Receiver, timeout_s: float
    ) -> None:
        """As `submit`, of one command: what is done for each of very many.

        Raises:
            As `submit`.
        """
        # The attributes are read in place, and nothing is called that need not be.
        if (
            machine != self._checked_machine
            or type(command) is not bytes
            or len(command) > self._command_bytes_max
        ):
            self._check(machine, (command,))
        with self._lock:
            if self._is_closed or not self._requests.has_room(1, len(command)):
                self._wait_for_room(1, len(command), timeout_s)
            self._session.enqueue_one(machine, command, receiver)
            may_send = not self._is_awake and self._session.may_send
        if may_send:
            self._wake()

    def submit_alone(
        self, machine: str, command: bytes, receiver: Receiver, timeout_s: float
    ) -> None:
        """Queue one command and, where nothing else is going on, see it through in this thread.

        Raises:
            As `submit`.
        """
        commands = (command,)
        byte_count = self._check(machine, commands)
        call = None
        with self._lock:
            self._wait_for_room(1, byte_count, timeout_s)
            is_idle = self._requests.is_idle
            self._requests.session.enqueue(machine, commands, receiver)
            if is_idle:
                call = self._requests.next_call(time.monotonic_ns())
        reference = self._start(call) if call is not None else None
        if call is None or reference is None:
            self._wake()
            return
        patience_s = min(timeout_s, self._settings.call_timeout_ns / 1e9)
        is_answered = False
        try:
            answer = ray.get(reference, timeout=patience_s)
            is_answered = True
        except GetTimeoutError:
            return
        except RayError as error:
            self._post_failure(call, error)
            is_answered = True
            return
        finally:
            if not is_answered:
                # Also where the user interrupts: the sender's thread goes on with it.
                self._watch(call, reference)
                self._wake()
        outcomes = Outcomes()
        with self._lock:
            self._on_answer(call, answer, outcomes)
            is_idle = self._requests.is_idle
        outcomes.settle(deliver)
        if not is_idle:
            self._wake()

    def ask(self, number: int, receiver: Receiver, *, withdraw: bool) -> None:
        """Have a receiver told what became of a command whose outcome was said to be unknown.

        Args:
            number: The command's.
            receiver: Gets the outcome, now or later; `leave` ends that.
            withdraw: Whether the command is given up, where it was not applied yet.

        Raises:
            ConfigurationError: There is no such number.
            OverloadedError: Too many ask.
        """
        outcomes = Outcomes()
        with self._lock:
            if withdraw:
                self._requests.abandon(number, receiver, outcomes)
            else:
                self._requests.ask(number, receiver, outcomes)
        outcomes.settle(deliver)
        self._wake()

    def leave(self, number: int, receiver: Receiver) -> None:
        """A receiver that asked for a number waits no longer."""
        with self._lock:
            self._requests.leave(number, receiver)

    def part_with_overdue(self, now_ns: int) -> None:
        """Tell all receivers whose time is over, now rather than in a moment."""
        outcomes = Outcomes()
        with self._lock:
            self._requests.on_overdue(now_ns, outcomes)
        outcomes.settle(deliver)

    @property
    def last_instance(self) -> int:
        """The highest instance in which this client was acknowledged."""
        with self._lock:
            return self._requests.last_instance

    def close(self, timeout_s: float) -> None:
        """Refuse new commands, wait for what is on its way, and give up the rest.

        Args:
            timeout_s: How long to wait.
        """
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._changed.notify_all()
            if threading.current_thread() is not self._thread:
                patience_s = min(timeout_s, WAIT_MAX_S)
                self._changed.wait_for(lambda: not self._requests.session.has_work, patience_s)
            call = self._requests.last_call(time.monotonic_ns())
        if call is not None and call.member_id in self._handles:
            # Nobody waits for the answer: if this is lost, the group forgets the session later.
            with contextlib.suppress(RayError):
                self._call(self._handles[call.member_id], call)
        self._events.put(None)

    def drop(self) -> None:
        """End without waiting; takes no lock, so that it may be called by garbage collection."""
        self._events.put(None)

    def _check(self, machine: str, commands: Sequence[bytes]) -> int:
        """Refuse what could not be sent; gives the bytes of all commands."""
        if not machine or machine != self._checked_machine:
            check_name("machine", machine)
            self._checked_machine = machine
        limit = self._settings.command_bytes_max
        if len(commands) == 1 and type(commands[0]) is bytes and len(commands[0]) <= limit:
            return len(commands[0])
        if set(map(type, commands)) != {bytes}:
            position = next(p for p, c in enumerate(commands) if type(c) is not bytes)
            kind = type(commands[position]).__qualname__
            raise ConfigurationError(f"command {position}: found {kind}; allowed: bytes")
        longest = max(map(len, commands))
        if longest > limit:
            raise CommandTooLargeError(
                f"a command of {longest:,} bytes; at most {limit:,} are taken "
                "(proposer.command_bytes_max)"
            )
        return sum(map(len, commands))

    def _wait_for_room(self, count: int, byte_count: int, timeout_s: float) -> None:
        requests = self._requests

        def is_over() -> bool:
            return self._is_closed or requests.has_room(count, byte_count)

        if threading.current_thread() is self._thread:
            # A callback of a future: only its return makes room.
            timeout_s = 0.0
        if not is_over() and not self._changed.wait_for(is_over, min(timeout_s, WAIT_MAX_S)):
            session = requests.session
            raise OverloadedError(
                f"{session.held_commands:,} commands of {session.held_bytes:,} bytes wait for "
                f"their outcome; there was no room for {count:,} more within {timeout_s:g} s, and "
                "nothing of it was sent",
                retry_after_s=1.0,
            )
        if self._is_closed:
            raise ClientClosedError("the client is closed; the command was not sent")

    def _wake(self) -> None:
        # A race here costs one more turn of the thread and never loses a wake-up: the thread
        # clears the flag before it looks at the requests.
        if not self._is_awake:
            self._is_awake = True
            self._events.put(_nothing)

    # The sender's thread.

    def _run(self) -> None:
        try:
            while self._take_event():
                self._send_all()
        finally:
            # Also where a bug ended the loop: nobody waits for ever.
            outcomes = Outcomes()
            with self._lock:
                self._is_closed = True
                self._requests.give_up(outcomes)
                self._changed.notify_all()
            outcomes.settle(deliver)
            self._lookup.shutdown(wait=False)

    def _take_event(self) -> bool:
        """Wait for something to happen and take it in; False where it is the end."""
        try:
            event = self._events.get(timeout=self._patience_s())
        except queue.Empty:
            event = _nothing
        if event is None:
            return False
        self._is_awake = False
        outcomes = Outcomes()
        with self._lock:
            event(outcomes)
            self._requests.on_deadline(time.monotonic_ns(), outcomes)
            self._changed.notify_all()
        outcomes.settle(deliver)
        return True

    def _patience_s(self) -> float | None:
        now_ns = time.monotonic_ns()
        with self._lock:
            due_ns = self._requests.due_ns(now_ns)
        return max(due_ns - now_ns, 0) / 1e9 if due_ns is not None else None

    def _send_all(self) -> None:
        while True:
            with self._lock:
                call = self._requests.next_call(time.monotonic_ns())
            if call is None:
                return
            reference = self._start(call)
            if reference is None:
                return
            self._watch(call, reference)

    def _start(self, call: Call) -> Any:
        """Make the call; None where the proposer has to be looked up first, or is gone."""
        handle = self._handles.get(call.member_id)
        if handle is None:
            self._lookup.submit(self._look_up, call)
            return None
        try:
            return self._call(handle, call)
        except RayError as error:
            self._post_failure(call, error)
            return None

    def _call(self, handle: Any, call: Call) -> Any:
        envelope = Envelope(self._genesis, self._group, self._address, 0, 0, 0, call.message)
        return self._proposers.call(handle, encode_envelopes((envelope,)))

    def _look_up(self, call: Call) -> None:
        try:
            self._handles[call.member_id] = self._proposers.find(call.member_id)
        except (ValueError, RayError) as error:
            self._post_failure(call, error)
        else:
            self._events.put(lambda outcomes: self._requests.on_not_made(call, time.monotonic_ns()))

    def _watch(self, call: Call, reference: Any) -> None:
        def post(future: Future[bytes]) -> None:
            try:
                answer = future.result()
            except RayError as error:
                self._post_failure(call, error)
            else:
                self._events.put(lambda outcomes: self._on_answer(call, answer, outcomes))

        reference.future().add_done_callback(post)

    def _post_failure(self, call: Call, error: Exception) -> None:
        self._events.put(lambda outcomes: self._on_failure(call, error))

    # Events; with the lock held.

    def _on_answer(self, call: Call, answer: bytes, outcomes: Outcomes) -> None:
        now_ns = time.monotonic_ns()
        try:
            state = state_of(answer)
            envelopes = decode_envelopes(answer) if state is None else ()
        except WireFormatError as error:
            self._on_failure(call, error)
            return
        if state is not None:
            self._requests.on_not_serving(call, f"a member is {state}", now_ns)
        else:
            self._requests.on_answer(call, envelopes, now_ns, outcomes)
        self._changed.notify_all()

    def _on_failure(self, call: Call, error: Exception) -> None:
        _logger.debug("call to member %d: %s: %s", call.member_id, type(error).__name__, error)
        if isinstance(error, RayActorError) and not isinstance(error, ActorUnavailableError):
            self._handles.pop(call.member_id, None)
        what = f"a member's proposer cannot be reached ({type(error).__name__})"
        self._requests.on_lost(call, time.monotonic_ns(), what=what)


def check_name(what: str, name: object) -> None:
    """Refuse a name that cannot go over the wire, or is none.

    Raises:
        ConfigurationError: As it says.
    """
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"{what}: found {name!r}; allowed: a name")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(f"{what}: found {name!r}; allowed: UTF-8 text") from error


def _nothing(outcomes: Outcomes) -> None:
    """The event that only wakes the thread."""
