"""What one client waits for: queries that learners hold until there is an answer; pure.

```
 add ─▶ asked ──Query, wait 60 s─▶ the master's learner ── answer ─▶ receiver
          ▲ └─ NOT_YET, or nothing in time: again, of whoever leads now ─┐
          └──────────────────────────────────────────────────────────────┘
```

Rules:

1. What is waited for is in the state of the group, or is not: so to ask again, of whichever member,
   misses nothing, and an answer of any member that has applied `at_least` counts.
2. The master's learner is asked, since it applies first; others hear of what is chosen up to 50 ms
   later where nothing else goes on.
3. A learner that is cut off from its group gives up what it holds within seconds, and with one that
   cannot be reached the line gives up. Beside that each is asked again after the time for which it
   is held, once a minute. That, and a call every ten seconds for all waits of a process together,
   is what a wait costs while nothing happens.
4. Where a member is named that nobody knows, or those that are known are asked in vain for a while,
   somebody looks for members: the group may have moved on to others.
5. A wait whose time is over is told what kept it from waiting. Where a learner holds it, it is told
   that nothing has happened in time, whatever was in the way before.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ray_paxos.core.client_calls import Call
from ray_paxos.core.client_messages import (
    Consistency,
    Query,
    QueryFailed,
    QueryProblem,
    QueryResult,
)
from ray_paxos.core.master_search import MasterSearch
from ray_paxos.core.messages import Message, RoleName
from ray_paxos.core.patience import Patience
from ray_paxos.core.pending import Outcomes, Receiver
from ray_paxos.core.read_problems import ReadProblem, following, late, more_telling, problem_of
from ray_paxos.core.results import EntryResult
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.errors import ClientClosedError, NotYetError, OverloadedError, PaxosError, QueryError
from ray_paxos.machines.times_to_live import TimesToLive

WAITS_MAX = 10_000
"""So many of one client."""
HOLD_MS = 60_000
"""For so long a learner holds a query before it is asked again."""
ANSWER_NS = 2_000 * MILLISECOND_NS
"""So much later an answer is given up."""
PAUSE_NS = 20 * MILLISECOND_NS
PAUSE_MAX_NS = 500 * MILLISECOND_NS
"""After what is no answer; doubled each time up to this."""
HELD_NS = 500 * MILLISECOND_NS
"""A learner that has not answered for so long holds what it was asked, as far as anybody knows."""


class Waiter(Receiver, Protocol):
    """Who gets the answer."""

    def cancelled(self) -> bool:
        """Whether nobody waits for it any more."""


@dataclass(slots=True, eq=False)
class _Wait:
    """One query that has no answer.

    Attributes:
        number: Its request_id, the same each time it is asked.
        machine: As of `Query`.
        request: As of `Query`.
        at_least: As of `Query`.
        receiver: Who waits.
        member_id: Who is to be asked, or was.
        call: The latest time it was asked; None while it is to be asked.
        pause_ns: Before it is asked again after what is no answer.
        problem: The most telling one so far.
        search: For whom to ask.
    """

    number: int
    machine: str
    request: bytes
    at_least: int
    receiver: Waiter
    member_id: int
    call: Call | None = None
    pause_ns: int = PAUSE_NS
    problem: ReadProblem | None = None
    search: MasterSearch = field(default_factory=MasterSearch)


class ClientWaits:
    """The waits of one client in one group.

    Invariants: each is in `_waits` and `_ends`; and either in `_to_ask`, or in `_due`, which says
    when it is asked again.
    """

    def __init__(
        self,
        names: Mapping[int, str],
        patience: Patience,
        guess: Callable[[], int],
        random: random.Random,
    ) -> None:
        """Wait for nothing.

        Args:
            names: Of the members, by id; may grow.
            patience: Of the client.
            guess: Tells which member this client takes for the master.
            random: Chooses whom to ask.
        """
        self._names = names
        self._guess = guess
        self._random = random
        self._patience = patience
        self._numbers = itertools.count(1)
        self._waits: dict[int, _Wait] = {}
        self._to_ask: dict[int, None] = {}
        self._due = TimesToLive[int]()
        self._ends = TimesToLive[int]()
        self._lacks_members = False

    def __len__(self) -> int:
        """How many there are."""
        return len(self._waits)

    def add(self, machine: str, request: bytes, at_least: int, receiver: Waiter) -> None:
        """Wait for the answer to a query.

        Args:
            machine: As of `Query`.
            request: As of `Query`.
            at_least: As of `Query`: such as the instance of the command that it is about.
            receiver: Gets the answer, or an error once its time is over.

        Raises:
            OverloadedError: Too many wait.
        """
        if len(self._waits) >= WAITS_MAX:
            raise OverloadedError(f"{WAITS_MAX:,} waits of this client have no answer yet")
        # Who is guessed may have been met by others.
        self.meet()
        number = next(self._numbers)
        self._waits[number] = _Wait(number, machine, request, at_least, receiver, self._guess())
        self._to_ask[number] = None
        self._ends.note(number, receiver.deadline_ns)

    def meet(self) -> None:
        """There may be further members."""
        if len(self._names) > len(self._patience.members):
            self._patience.meet(sorted(self._names))

    def take_lack_of_members(self) -> bool:
        """Whether somebody should look for further members, and call `meet`; true once.

        One that is unknown leads, or those that are known have been asked in vain for a while.
        """
        lacks, self._lacks_members = self._lacks_members, False
        return lacks

    # Out.

    def next_call(self, now_ns: int) -> Call | None:
        """The next query to send; None where there is none."""
        while self._to_ask:
            number = next(iter(self._to_ask))
            del self._to_ask[number]
            wait = self._waits[number]
            if wait.receiver.cancelled():
                self._forget(wait)
                continue
            left_ms = max((wait.receiver.deadline_ns - now_ns) // MILLISECOND_NS, 1)
            wait_ms = min(left_ms, HOLD_MS)
            query = Query(
                number,
                wait.machine,
                wait.request,
                wait.at_least,
                Consistency.STALE,
                timeout_ms=wait_ms,
                wait_ms=wait_ms,
            )
            patience_ns = wait_ms * MILLISECOND_NS + ANSWER_NS
            wait.call = Call(query, wait.member_id, 0, now_ns, patience_ns, RoleName.LEARNER)
            self._due.note(number, now_ns + patience_ns)
            return wait.call
        return None

    # In.

    def on_answer(self, call: Call, message: Message, now_ns: int, outcomes: Outcomes) -> None:
        """A learner has answered; also where somebody else was asked meanwhile."""
        wait = self._waits.get(call.message.request_id)
        self._patience.answered(call.member_id)
        if wait is None:
            return
        if isinstance(message, QueryResult):
            self._forget(wait)
            entry = EntryResult(message.applied_through, 0, (message.result,), {})
            if wait.receiver.begin():
                outcomes.tell(wait.receiver, entry)
            return
        if isinstance(message, QueryFailed) and message.problem is QueryProblem.REFUSED:
            self._fail(wait, QueryError(message.message), outcomes)
            return
        if call is not wait.call:
            return
        if isinstance(message, QueryFailed) and message.problem is QueryProblem.NOT_YET:
            # What it said before is over: there it could wait.
            wait.problem, wait.pause_ns = None, PAUSE_NS
            self._go_where_named(wait, message.master)
            self._note_master(message.master)
            self._ask_again(wait)
            return
        name = self._names.get(call.member_id, str(call.member_id))
        self._on_problem(wait, problem_of(name, message), now_ns)

    def on_lost(self, call: Call, what: str, now_ns: int) -> None:
        """No answer will come."""
        wait = self._waits.get(call.message.request_id)
        if wait is not None and wait.call is call:
            name = self._names.get(call.member_id, str(call.member_id))
            self._on_problem(wait, ReadProblem(f"member {name}: {what}"), now_ns)

    def on_time(self, now_ns: int, outcomes: Outcomes) -> None:
        """End what has no time left, and ask again what is due."""
        for number in self._ends.take(now_ns, len(self._waits)):
            wait = self._waits[number]
            self._forget(wait)
            if wait.receiver.begin():
                outcomes.fail([(wait.receiver, 0, 1)], _late(wait, now_ns))
        for number in self._due.take(now_ns, len(self._waits)):
            wait = self._waits[number]
            if wait.call is None:
                self._to_ask[number] = None
            else:
                self.on_lost(wait.call, "no answer in time", now_ns)

    @property
    def due_ns(self) -> int | None:
        """When `on_time` has something to do."""
        due = (self._due.first_ns, self._ends.first_ns)
        return min((each for each in due if each is not None), default=None)

    def end(self, outcomes: Outcomes) -> None:
        """Nobody waits for anything any more."""
        for wait in list(self._waits.values()):
            self._fail(wait, ClientClosedError("the client was closed while it waited"), outcomes)

    def _on_problem(self, wait: _Wait, problem: ReadProblem, now_ns: int) -> None:
        wait.problem = more_telling(wait.problem, problem)
        wait.member_id = following(
            wait.member_id, problem, self._patience, self._random, wait.search
        )
        self._note_master(problem.master)
        self._lacks_members |= wait.pause_ns >= PAUSE_MAX_NS
        wait.call = None
        self._due.note(wait.number, now_ns + wait.pause_ns)
        wait.pause_ns = min(2 * wait.pause_ns, PAUSE_MAX_NS)

    def _go_where_named(self, wait: _Wait, master: int) -> None:
        """Whoever has held a query is left for the master that it names."""
        patience, search = self._patience, wait.search
        if master == wait.member_id or master not in patience.members:
            search.over()
        elif search.follows(master, len(patience.members)):
            wait.member_id = master
        else:
            wait.member_id = patience.next_after(wait.member_id)

    def _note_master(self, member_id: int) -> None:
        """A member has named this one as the master; 0 for none."""
        self._lacks_members |= member_id != 0 and member_id not in self._patience.members

    def _ask_again(self, wait: _Wait) -> None:
        wait.call = None
        self._due.forget(wait.number)
        self._to_ask[wait.number] = None

    def _fail(self, wait: _Wait, error: PaxosError, outcomes: Outcomes) -> None:
        self._forget(wait)
        if wait.receiver.begin():
            outcomes.fail([(wait.receiver, 0, 1)], error)

    def _forget(self, wait: _Wait) -> None:
        del self._waits[wait.number]
        self._to_ask.pop(wait.number, None)
        self._due.forget(wait.number)
        self._ends.forget(wait.number)


def _late(wait: _Wait, now_ns: int) -> QueryError:
    """The error of a wait whose time is over; of what is past where somebody holds it since."""
    is_held = wait.call is not None and wait.call.sent_ns + HELD_NS <= now_ns
    if wait.problem is None or is_held:
        return NotYetError("", "what was waited for has not happened in time")
    return late(wait.problem, "in time")
