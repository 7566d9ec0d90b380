"""A client's side of its session: numbers, requests in flight, what is sent again; pure.

A command gets its number once, when it is first sent, and keeps it until its outcome is known
(R7). From that these rules follow:

1. Commands are sent in the order of their numbers. Several requests are on their way at once; if
   one is lost, everything after it that is not answered is sent again after it, in order, under
   the same numbers. What had been applied comes back as the kept result.
2. A request that was refused for a gap (it overtook an earlier one) is sent again once nothing
   else is on its way.
3. `lowest_open` is the lowest number without a known outcome. All results below it have come in,
   so the group need not keep them.
4. A number is never used for another command, in no session: the next session goes on counting.
5. Every copy of a request that leaves is counted, and uncounted when a proposer says that it put
   nothing of it into the log. While the count is 0, no copy can ever be applied: only then may a
   command whose time is over, or that is refused for good, be called certainly not applied. Its
   number stays a gap, which `lowest_open` passes as soon as everything before it is known. A copy
   that was lost is counted for ever, and so is one that was answered in a way that does not say.
6. Of any other number only the log can say what became of it: the client goes on sending the
   command, or in its place a withdrawal, until the answer comes.

```
 submitted ──▶ waiting ──▶ numbered, in a request ──▶ on its way ──▶ outcome known
              (may be      (stays until then)         ▲      │
               cancelled)                             └──────┘ lost, redirected, gap, overloaded
```
"""

from __future__ import annotations

from collections.abc import Sequence

from ray_paxos.core.client_messages import Submit
from ray_paxos.core.numbered import NumberedRequests, Request
from ray_paxos.core.pending import (
    FOREVER_NS,
    GONE,
    NOBODY,
    Answered,
    Overdue,
    Part,
    PendingBatch,
    Receiver,
    Resolved,
    trace_of,
)
from ray_paxos.core.results import EntryResult, NoteCode
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.core.traces import join_places
from ray_paxos.core.values import END_OF_SESSION, WITHDRAWAL, CommandBatch, SessionId
from ray_paxos.core.waiting import WaitingCommands

REFUSED = (NoteCode.GAP, NoteCode.OVERLOADED)
"""Notes of a command that this place of the log left untouched, to be sent again."""


NOTICE_MAX_NS = 1_000 * MILLISECOND_NS
"""So much before a command's time is over, at most, the group has to have begun with it."""


class ClientSession:
    """Numbers a client's commands and decides what goes out next.

    Invariants: requests are held in the order of their numbers; at most `window_max` of them are
    on their way; a request that is on its way has an uncertain copy.

    Attributes:
        session: Its id; None while there is none.
        is_traced: Whether requests name the traces of those who wait for their outcome.
    """

    def __init__(self, *, request_bytes_max: int, window_max: int) -> None:
        """Start without a session id and without commands.

        Args:
            request_bytes_max: A request holds commands up to this many bytes (at least one).
            window_max: Requests on their way at most.
        """
        assert request_bytes_max > 0 and window_max > 0
        self._window_max = window_max
        self._waiting = WaitingCommands(request_bytes_max)
        self._numbered = NumberedRequests()
        self._in_flight = 0
        self._rewinding = False
        self.session: SessionId | None = None
        self.is_traced = False

    # What the client wants.

    def enqueue(self, machine: str, commands: Sequence[bytes], receiver: Receiver) -> None:
        """Queue commands behind all earlier ones.

        Args:
            machine: Which state machine they are for.
            commands: In order, at least one; not changed by the caller afterwards.
            receiver: Gets their outcome.
        """
        self._waiting.add(machine, commands, receiver)

    def enqueue_one(self, machine: str, command: bytes, receiver: Receiver) -> None:
        """As `enqueue`, of one command."""
        self._waiting.add_one(machine, command, receiver)

    @property
    def held(self) -> tuple[int, int]:
        """How many commands are without a known outcome, and their bytes."""
        waiting, numbered = self._waiting, self._numbered
        return waiting.commands + numbered.commands, waiting.byte_count + numbered.byte_count

    @property
    def held_commands(self) -> int:
        """How many commands are without a known outcome."""
        return self._waiting.commands + self._numbered.commands

    @property
    def held_bytes(self) -> int:
        """Their bytes."""
        return self._waiting.byte_count + self._numbered.byte_count

    @property
    def has_work(self) -> bool:
        """Whether anything is without a known outcome."""
        return bool(self._waiting or self._numbered)

    @property
    def is_between(self) -> bool:
        """Whether the session is open, and nothing in its name is without a known outcome."""
        return self.session is not None and not self._numbered

    @property
    def in_flight(self) -> int:
        """How many requests are on their way."""
        return self._in_flight

    @property
    def may_send(self) -> bool:
        """Whether `next_submit` may have something to give; False only where it has not."""
        in_flight = self._in_flight
        return in_flight < self._window_max and (not in_flight or self._is_worth_a_request())

    @property
    def lowest_open(self) -> int:
        """The lowest number without a known outcome."""
        return self._numbered.lowest_open

    def next_request_id(self) -> int:
        """A number for a request that is no submission."""
        return self._numbered.next_request_id()

    def opened(self, session: SessionId) -> None:
        """The group has opened the session: sending may begin."""
        assert self.session is None and not self._numbered, "a session is opened once"
        self.session = session

    def retire(self) -> None:
        """Do without the session, of which nothing is open; what waits goes into the next."""
        assert self.is_between, "nothing is left open"
        self.session = None

    def end(self) -> Submit | None:
        """What tells the group to forget the session; None where it cannot be told, or not yet."""
        if self.session is None or self.has_work:
            return None
        batch = CommandBatch(
            self.session, END_OF_SESSION, self._numbered.next_number, WITHDRAWAL, (b"",)
        )
        self.session = None
        return Submit(self.next_request_id(), (batch,))

    # What goes out.

    def next_submit(self, now_ns: int) -> Submit | None:
        """The request to send now; None where there is nothing, or it has to wait."""
        if self.session is None or self._in_flight >= self._window_max:
            return None
        if self._rewinding:
            if self._in_flight:
                return None
            self._rewinding = False
        request = self._numbered.first_unsent()
        if request is None and self._is_worth_a_request():
            request = self._form_request()
        if request is None:
            return None
        request.is_sent = True
        request.uncertain += 1
        self._in_flight += 1
        lowest_open = self.lowest_open
        batches = tuple(
            CommandBatch(
                self.session, lowest_open, batch.first_number, batch.machine, tuple(batch.commands)
            )
            for batch in request.batches
        )
        trace = ""
        if self.is_traced:
            trace = join_places(trace_of(p[0]) for b in request.batches for p in b.receivers)
        timeout_ms = 0
        if request.deadline_ns < FOREVER_NS:
            left_ns = max(request.deadline_ns - now_ns, 0)
            # What was not proposed by then is to be told before the client has to guess.
            left_ns -= min(left_ns // 8, NOTICE_MAX_NS)
            timeout_ms = left_ns // MILLISECOND_NS + 1
        return Submit(request.request_id, batches, timeout_ms, trace)

    def _is_worth_a_request(self) -> bool:
        """Whether what waits is enough for a request of its own while others are on their way.

        With nothing on its way it always is. Otherwise the window is shared out: a request takes
        its part of all commands without an outcome, so that a thousand in flight do not become
        hundreds of small requests. An answer is on its way then, and asks again.
        """
        waiting = self._waiting.commands
        return (
            not self._in_flight or waiting * self._window_max >= waiting + self._numbered.commands
        )

    def _form_request(self) -> Request | None:
        """Number what waits, up to the limits of one request."""
        numbered = self._numbered
        batches, deadline_ns = self._waiting.number(numbered.next_number)
        return numbered.add(batches, deadline_ns) if batches else None

    # What came back.

    def on_submitted(self, request_id: int, results: Sequence[EntryResult]) -> Answered:
        """All batches of a request were answered.

        Args:
            request_id: Which request; one that is not known any more is ignored.
            results: One for each batch, in order.
        """
        answered = Answered()
        request = self._numbered.get(request_id)
        if request is None or len(results) != len(request.batches):
            return answered
        self._unsend(request)
        kept: list[PendingBatch] = []
        is_untouched = True
        for batch, result in zip(request.batches, results, strict=True):
            if len(result.results) != len(batch.commands):
                kept.append(batch)
                is_untouched = False
                continue
            if not result.notes:
                answered.resolved.append(Resolved(batch, result))
                continue
            refused = [at for at, note in result.notes.items() if note.code in REFUSED + GONE]
            # What is refused is the end of a batch; what comes before it has its outcome.
            known, left = batch.split(min(refused, default=len(batch.commands)))
            if known is not None:
                answered.resolved.append(Resolved(known, result))
            if left is not None:
                kept.append(left)
                is_untouched = is_untouched and len(refused) == len(left.commands)
                answered.note(result.notes[refused[0]])
        if kept:
            self._rewinding = True
            if is_untouched:
                request.uncertain -= 1
        if answered.resolved:
            self._replace(request, kept)
        return answered

    def on_lost(self) -> None:
        """A request got no answer: whatever is on its way is sent again, in order."""
        for request in self._numbered:
            self._unsend(request)

    def on_untouched(self, request_id: int) -> None:
        """A copy of a request came back: nothing of it was or will be proposed."""
        request = self._numbered.get(request_id)
        if request is not None:
            assert request.uncertain > 0, "a copy comes back once"
            request.uncertain -= 1

    def on_not_taken(self, request_id: int) -> None:
        """The group took nothing of a request, for now: it is sent again in its turn."""
        request = self._numbered.get(request_id)
        if request is not None and request.is_sent:
            self._unsend(request)
            self._rewinding = True

    def on_too_late(self, request_id: int) -> list[Part]:
        """The group did not get to a request in the time that it was given.

        Returns:
            Its parts, which are certainly not applied; none where another copy is uncertain, or
            the outcome has to be known: then it is sent again in its turn.
        """
        request = self._numbered.get(request_id)
        if request is None or request.uncertain or request.deadline_ns == FOREVER_NS:
            self.on_not_taken(request_id)
            return []
        self._replace(request, [])
        return [part for batch in request.batches for part in batch.receivers]

    def on_refused(self, request_id: int) -> list[PendingBatch]:
        """The group will never take this request.

        Returns:
            Its batches, where no copy of it is uncertain: their commands are certainly not
            applied, and requests behind it are refused for the gap until `lowest_open` passes it.
            None otherwise: its numbers are withdrawn instead, and the log will say what became
            of them.
        """
        request = self._numbered.get(request_id)
        if request is None:
            return []
        if request.uncertain:
            request.deadline_ns = FOREVER_NS
            self._replace(request, [batch.withdrawn() for batch in request.batches])
            self._rewinding = True
            return []
        self._replace(request, [])
        return request.batches

    def on_gone(self) -> list[tuple[PendingBatch, bool]]:
        """The group does not have the session any more.

        Returns:
            All numbered batches without an outcome, each with whether a copy may have been applied.
            What waits without a number goes out under the next session.
        """
        batches = [
            (batch, request.uncertain > 0)
            for request in self._numbered
            for batch in request.batches
        ]
        self._numbered.clear()
        self._in_flight = 0
        self._rewinding = False
        self.session = None
        return batches

    def on_time(self, now_ns: int) -> Overdue:
        """Part with receivers whose time is over.

        Numbers of which a copy is uncertain stay: they are sent again until their outcome is
        known, and hold `lowest_open` down meanwhile. Everything else is dropped.
        """
        overdue = Overdue()
        for request in list(self._numbered):
            if request.uncertain:
                told = [part for batch in request.batches for part in batch.tell_unknown(now_ns)]
                if told:
                    request.deadline_ns = FOREVER_NS
                    overdue.unknown += told
                continue
            left: list[PendingBatch] = []
            count = len(overdue.untouched)
            for batch in request.batches:
                pieces, parts = batch.without_overdue(now_ns)
                left += pieces
                overdue.untouched += parts
            if len(overdue.untouched) > count:
                self._replace(request, left)
        overdue.unsent = self._waiting.drop_overdue(now_ns)
        return overdue

    # Numbers whose receiver was told that their outcome is unknown.

    def is_unknown(self, number: int) -> bool:
        """Whether the number is open, and its receiver was told so."""
        found = self._numbered.find(number)
        return found is not None and any(
            part[0] is NOBODY and first <= number < first + part[2]
            for part, first in found[1].numbered_parts()
        )

    def withdraw(self, number: int) -> None:
        """Send a withdrawal of an open number from now on, in place of its command."""
        found = self._numbered.find(number)
        assert found is not None, "an open number"
        request, batch = found
        if batch.machine == WITHDRAWAL:
            return
        batches: list[PendingBatch] = []
        for each in request.batches:
            batches += each.with_one_withdrawn(number) if each is batch else [each]
        request.deadline_ns = FOREVER_NS
        self._replace(request, batches)

    def _unsend(self, request: Request) -> None:
        if request.is_sent:
            request.is_sent = False
            self._in_flight -= 1

    def _replace(self, request: Request, batches: list[PendingBatch]) -> None:
        self._unsend(request)
        self._numbered.replace(request, batches)
