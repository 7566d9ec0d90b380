"""One client's waits: run by the thread of all clients, asked over the lines to learners.

`ClientWaits` decides what goes out and what is asked again. It is guarded by one lock, which is
held neither over a call nor while futures are settled. The thread is joined with the first wait,
and left with the client.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from ray_paxos.actors.command_thread import join_thread
from ray_paxos.actors.outcomes import CommandFuture
from ray_paxos.actors.role_line import RoleActors
from ray_paxos.core.client_calls import Call
from ray_paxos.core.client_waits import ClientWaits
from ray_paxos.core.messages import Address, Envelope, RoleName
from ray_paxos.core.pending import Outcomes
from ray_paxos.core.wire import encode_envelope
from ray_paxos.errors import ClientClosedError


class WaitSender:
    """Owns the waits of one client.

    Invariants: `_waits` is touched under `_lock` only.

    Attributes:
        client_id: The address that answers are for.
    """

    def __init__(
        self,
        *,
        genesis: bytes,
        group: int,
        waits: ClientWaits,
        client_id: int,
        actors: RoleActors,
        clock: Callable[[], int],
    ) -> None:
        """Ask learners of one group.

        Args:
            genesis: Hash of the cluster's genesis.
            group: Whose machines.
            waits: What to ask; owned from here on.
            client_id: Random; the address that answers are for.
            actors: How the members' roles are reached.
            clock: Nanoseconds; the thread's.
        """
        self.client_id = client_id
        self._genesis = genesis
        self._group = group
        self._address = Address(client_id, RoleName.CLIENT)
        self._waits = waits
        self._clock = clock
        self._lock = threading.Lock()
        self._is_closed = False
        # Of the thread of all clients.
        self._is_looking = False
        self._thread = join_thread(self, genesis, actors)

    def add(self, machine: str, request: bytes, at_least: int, future: CommandFuture) -> None:
        """Wait for the answer to a query.

        Raises:
            OverloadedError: Too many wait.
            ClientClosedError: The client is closed.
        """
        with self._lock:
            if self._is_closed:
                raise ClientClosedError("the client is closed; nothing is waited for")
            self._waits.add(machine, request, at_least, future)
        self._thread.wake(self)

    def close(self) -> None:
        """Wait for nothing any more: what waits fails."""
        with self._lock:
            self._is_closed = True
        self._thread.leave(self)

    def drop(self) -> None:
        """As `close`; takes no lock, so that it may be called by garbage collection."""
        self._thread.leave(self)

    # The thread of the clients.

    def next_request(self, now_ns: int) -> tuple[Call, bytes] | None:
        """What to send now, and its envelope; None where there is nothing."""
        with self._lock:
            call = self._waits.next_call(now_ns)
        if call is None:
            return None
        envelope = Envelope(self._genesis, self._group, self._address, 0, 0, 0, call.message)
        return call, encode_envelope(envelope)

    def on_time(self, now_ns: int, outcomes: Outcomes) -> None:
        """Look at the time; after each answer, too."""
        with self._lock:
            self._waits.on_time(now_ns, outcomes)
            lacks_members = self._waits.take_lack_of_members()
        if lacks_members and not self._is_looking:
            # One look at a time, however many wait.
            self._is_looking = True
            self._thread.look_for_members(self)

    def due_ns(self, now_ns: int) -> int | None:
        """When something is due; None for never."""
        with self._lock:
            return self._waits.due_ns

    def on_members(self, members: Sequence[int], outcomes: Outcomes) -> None:
        """There may be further members."""
        self._is_looking = False
        with self._lock:
            self._waits.meet()

    def on_answer(self, call: Call, envelope: Envelope, outcomes: Outcomes) -> None:
        """A learner has answered."""
        with self._lock:
            self._waits.on_answer(call, envelope.message, self._clock(), outcomes)
        self._thread.wake(self)

    def on_not_taken(self, call: Call, what: str) -> None:
        """A learner has certainly not seen the query."""
        self.on_lost(call, what)

    def on_lost(self, call: Call, what: str) -> None:
        """No answer will come."""
        with self._lock:
            self._waits.on_lost(call, what, self._clock())
        self._thread.wake(self)

    def end(self, outcomes: Outcomes) -> None:
        """Nothing is sent or taken in any more: fail what is left."""
        with self._lock:
            self._is_closed = True
            self._waits.end(outcomes)
