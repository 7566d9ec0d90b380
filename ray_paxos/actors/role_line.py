"""The way of one process to one role of a member: requests of all its clients, in shared calls.

```
 clients of any groups        line                                    proposer, or learner
   request, request ──▶ waiting ── exchange ─▶ (next requests) ─────▶  mailbox of the line
   answer ◀── by client and number ◀────────── (whatever answers there are) ◀──┘
```

Commands go to proposers, queries that wait for something to learners. What is there to send goes in
one call, up to what a call carries, and a few calls may be on their way at once. The role keeps the
last of them until it has answers; as long as answers are owed one is always there. An answer is
told by its client and its request's number, whichever call brings it, and says how many copies of
the request it is for. A call that fails may have had any answer in it: all that is owed is then
lost, and its clients ask again. With a role that is gone all is lost that it owed; what its calls
come to later means nothing to the next one.

A call that takes too long is abandoned and remembered for a while. A member that owes too many gets
no more, so that a stopped process costs a bounded amount (R10).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias

from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError, RayError

from ray_paxos.actors.answers import state_of
from ray_paxos.actors.found_actor import NotConnectedError
from ray_paxos.actors.line_answers import decode_answers
from ray_paxos.actors.names import ROLE_NAMES
from ray_paxos.core.client_calls import Call
from ray_paxos.core.messages import Envelope, RoleName
from ray_paxos.core.pending import Outcomes
from ray_paxos.core.wire import join_envelopes
from ray_paxos.errors import WireFormatError

_logger = logging.getLogger(__name__)

Event: TypeAlias = Callable[[Outcomes], None]
"""What has happened, to be taken in by the thread of the clients."""
Key: TypeAlias = tuple[int, int]
"""Id of a client, number of its request."""

CALLS_MAX = 4
"""Calls on their way at once; the role lets all go but the last."""
CALL_TIMEOUT_S = 15.0
"""After which a call is abandoned; no role holds one for longer than ten."""
ABANDONED_MAX = 4
"""Abandoned calls after which the member gets no more of them,"""
FORGET_S = 60.0
"""until they are answered or are this old."""
OWED_S = 15.0
"""A command without an answer is given up after this; no proposer waits longer than ten."""
QUERY_OWED_S = 75.0
"""A query that waits, after this; no learner holds one for longer than sixty."""


NOT_MADE = (NotConnectedError, ActorDiedError)
"""Raised by a call that was certainly not made."""
TOO_MANY = "a member owes too many answers"


class Caller(Protocol):
    """Whose requests go by a line; called by the thread of the clients only."""

    client_id: int

    def on_answer(self, call: Call, envelope: Envelope, outcomes: Outcomes) -> None:
        """The role has answered."""

    def on_not_taken(self, call: Call, what: str) -> None:
        """The role has certainly not seen the request."""

    def on_lost(self, call: Call, what: str) -> None:
        """No answer will come, whatever became of the request."""


class RoleActors(Protocol):
    """How the members' roles are reached."""

    def known(self) -> Sequence[int]:
        """Ids of the members that are known by now; waits for nothing."""

    def find(self, member_id: int, role: RoleName) -> Any:
        """A member's role; waits for the GCS. Raises ValueError where there is none."""

    def look(self) -> Sequence[int]:
        """Ids of all members, after a look for further ones; waits for the GCS."""

    def call(self, proposer: Any, batch: bytes) -> Any:
        """Hand a lone client's request over; gives the reference of its answer."""

    def exchange(self, found: Any, role: RoleName, line: int, batch: bytes) -> Any:
        """Hand a line's requests over to a role; gives the reference of answers."""


@dataclass(slots=True, eq=False)
class _Exchange:
    """One call on its way; `carried` are the requests that it brings."""

    handle: Any
    carried: list[Key]
    deadline: float
    is_abandoned: bool = False


@dataclass(slots=True)
class _Owed:
    """The copies of one request that are not answered, in order, and when the last one left."""

    caller: Caller
    calls: list[Call]
    since: float


class RoleLine:
    """The line to one role of a member. Not for several threads: all is the clients' thread's.

    Invariants: a request is owed from when its call is made until it is answered, lost or given
    up; while any is owed a call is on its way, or one is made by the next `flush`, unless the
    member owes too many.

    Attributes:
        handle: The role, once it has been looked up; read by other threads, too.
    """

    def __init__(
        self,
        member_id: int,
        role: RoleName,
        number: int,
        *,
        actors: RoleActors,
        lookup: Executor,
        post: Callable[[Event], None],
        clock: Callable[[], float],
        call_bytes_max: int,
    ) -> None:
        """Have looked up nobody yet.

        Args:
            member_id: Whose.
            role: Which of its roles.
            number: Of the line, at random.
            actors: How it is reached.
            lookup: Where it is looked up, since that waits for the GCS.
            post: Has an event taken in by the thread of the clients.
            clock: Seconds, never falling.
            call_bytes_max: One call carries requests up to this many bytes (at least one).
        """
        self.handle: Any = None
        self._member_id = member_id
        self._role = role
        self._role_text = ROLE_NAMES[role]
        self._number = number
        self._actors = actors
        self._lookup = lookup
        self._post = post
        self._clock = clock
        self._call_bytes_max = call_bytes_max
        self._owed_s = QUERY_OWED_S if role is RoleName.LEARNER else OWED_S
        self._waiting: dict[Key, tuple[Caller, Call, bytes]] = {}
        self._owed: dict[Key, _Owed] = {}
        self._exchanges: set[_Exchange] = set()
        self._in_flight = 0
        self._is_looking = False

    # What goes out.

    def put(self, caller: Caller, call: Call, envelope: bytes) -> None:
        """Have a request leave with the next call, in the place of a copy that waits still."""
        if self._owes_too_many():
            caller.on_not_taken(call, TOO_MANY)
            return
        key = caller.client_id, call.message.request_id
        earlier = self._waiting.pop(key, None)
        self._waiting[key] = caller, call, envelope
        if earlier is not None:
            caller.on_not_taken(earlier[1], "sent again")

    def flush(self) -> None:
        """Make the calls that may be made."""
        while self._waiting or (self._owed and not self._in_flight):
            if self._in_flight >= CALLS_MAX or self._owes_too_many():
                return
            if self.handle is None:
                self.look_up()
                return
            if not self._exchange(*self._take()):
                return

    def _owes_too_many(self) -> bool:
        return len(self._exchanges) - self._in_flight >= ABANDONED_MAX

    def _take(self) -> tuple[list[Key], list[bytes]]:
        """The requests of the next call, which are owed from here on."""
        keys: list[Key] = []
        taken: list[bytes] = []
        room = self._call_bytes_max
        for key, (caller, call, envelope) in self._waiting.items():
            if taken and len(envelope) > room:
                break
            room -= len(envelope)
            self._owe(key, caller, call)
            keys.append(key)
            taken.append(envelope)
        for key in keys:
            del self._waiting[key]
        return keys, taken

    def _owe(self, key: Key, caller: Caller, call: Call) -> None:
        owed = self._owed.pop(key, None)
        if owed is None:
            owed = _Owed(caller, [], 0.0)
        owed.calls.append(call)
        owed.since = self._clock()
        self._owed[key] = owed

    def _exchange(self, carried: list[Key], taken: list[bytes]) -> bool:
        """Make a call; False where it cannot be made."""
        exchange = _Exchange(self.handle, carried, self._clock() + CALL_TIMEOUT_S)
        self._exchanges.add(exchange)
        self._in_flight += 1
        try:
            batch = join_envelopes(taken)
            reference = self._actors.exchange(self.handle, self._role, self._number, batch)
        except NOT_MADE as error:
            self._give_back(exchange, self._unreachable(error))
            self._on_failed(exchange, error)
            return False
        except RayError as error:
            self._on_failed(exchange, error)
            return False

        def post(done: Future[bytes]) -> None:
            self._post(partial(self._on_done, exchange, done))

        reference.future().add_done_callback(post)
        return True

    def look_up(self) -> None:
        """Have the role looked up, where it is not known and nobody is at it."""
        if self.handle is not None or self._is_looking:
            return
        self._is_looking = True

        def post(done: Future[Any]) -> None:
            self._post(partial(self._on_looked_up, done))

        found = self._lookup.submit(self._actors.find, self._member_id, self._role)
        found.add_done_callback(post)

    # What comes back.

    def _on_looked_up(self, done: Future[Any], outcomes: Outcomes) -> None:
        self._is_looking = False
        error = done.exception()
        if error is None:
            self.handle = done.result()
            return
        # ValueError: no actor of that name lives now.
        _logger.debug("member %d: %s: %s", self._member_id, type(error).__name__, error)
        what = f"a member's {self._role_text} cannot be found ({type(error).__name__})"
        self._refuse_waiting(what)
        self._lose_all(what)

    def _on_done(self, exchange: _Exchange, done: Future[bytes], outcomes: Outcomes) -> None:
        try:
            answer = done.result()
            state = state_of(answer)
            answers = decode_answers(answer) if state is None else ()
        except (RayError, WireFormatError) as error:
            self._on_failed(exchange, error)
            return
        self._end(exchange)
        if state is not None:
            if exchange.handle is self.handle:
                self._give_back(exchange, f"a member is {state}")
                self._lose_all(f"a member is {state}")
            return
        for client_id, copies, envelope in answers:
            key = client_id, getattr(envelope.message, "request_id", 0)
            self._on_answer(key, copies, envelope, outcomes)

    def _on_answer(self, key: Key, copies: int, envelope: Envelope, outcomes: Outcomes) -> None:
        """Tell the oldest copies, which are those that the answer is for."""
        owed = self._owed.get(key)
        if owed is None:
            return
        answered, owed.calls = owed.calls[:copies], owed.calls[copies:]
        if not owed.calls:
            del self._owed[key]
        for call in answered:
            owed.caller.on_answer(call, envelope, outcomes)

    def _on_failed(self, exchange: _Exchange, error: Exception) -> None:
        self._end(exchange)
        self.note_failure(error, exchange.handle)
        if exchange.handle is self.handle:
            self._lose_all(self._unreachable(error))

    def note_failure(self, error: Exception, handle: Any) -> None:
        """A call over a handle, of the line or a lone one, has failed: the role may be gone."""
        _logger.debug("member %d: %s: %s", self._member_id, type(error).__name__, error)
        is_gone = isinstance(error, RayActorError) and not isinstance(error, ActorUnavailableError)
        if is_gone and handle is self.handle:
            self.handle = None
            self._lose_all(self._unreachable(error))

    def _give_back(self, exchange: _Exchange, what: str) -> None:
        """What a call has brought, or would have, is not taken."""
        for key in exchange.carried:
            owed = self._owed.get(key)
            if owed is None:
                continue
            # Which copy is told matters to nobody: they are counted.
            call = owed.calls.pop()
            if not owed.calls:
                del self._owed[key]
            owed.caller.on_not_taken(call, what)

    def _lose_all(self, what: str) -> None:
        lost, self._owed = self._owed, {}
        for owed in lost.values():
            self._lose(owed, what)

    @staticmethod
    def _lose(owed: _Owed, what: str) -> None:
        for call in owed.calls:
            owed.caller.on_lost(call, what)

    def _refuse_waiting(self, what: str) -> None:
        waiting, self._waiting = self._waiting, {}
        for caller, call, _ in waiting.values():
            caller.on_not_taken(call, what)

    def _end(self, exchange: _Exchange) -> None:
        self._exchanges.discard(exchange)
        if not exchange.is_abandoned:
            self._in_flight -= 1

    def _unreachable(self, error: Exception) -> str:
        return unreachable(error, self._role)

    # Time and the end.

    @property
    def due(self) -> float:
        """When `on_time` wants to be called next, on the line's clock."""
        due = [exchange.deadline for exchange in self._exchanges]
        if self._owed:
            due.append(next(iter(self._owed.values())).since + self._owed_s)
        return min(due, default=math.inf)

    def on_time(self) -> None:
        """Abandon what takes too long, and forget what was abandoned long ago."""
        now = self._clock()
        for exchange in [each for each in self._exchanges if each.deadline <= now]:
            if exchange.is_abandoned:
                self._exchanges.discard(exchange)
            else:
                exchange.is_abandoned = True
                exchange.deadline = now + FORGET_S
                self._in_flight -= 1
                if self._role is RoleName.LEARNER and exchange.handle is self.handle:
                    # Others hold queries as well; commands are sent again sooner.
                    self._lose_all("a member does not answer")
        for key, owed in list(self._owed.items()):
            if owed.since + self._owed_s > now:
                break
            del self._owed[key]
            self._lose(owed, "a member gave up waiting for the group's answer")
        if self._owes_too_many():
            self._refuse_waiting(TOO_MANY)

    def forget(self, caller: Caller) -> None:
        """A client is gone: nothing of it is sent or waited for."""
        for key in [key for key, each in self._waiting.items() if each[0] is caller]:
            del self._waiting[key]
        for key in [key for key, owed in self._owed.items() if owed.caller is caller]:
            del self._owed[key]


def unreachable(error: Exception, role: RoleName) -> str:
    """What a failed call means, for a person."""
    return f"a member's {ROLE_NAMES[role]} cannot be reached ({type(error).__name__})"
