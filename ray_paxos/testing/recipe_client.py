"""Simulated clients that play recipes: commands, waits and reads, one step after the other.

What such a client does is a generator: it yields a step, and is resumed with what came of it.

```python
def play(client: RecipeClient) -> Play:
    outcome = yield from client.command("permits", encode_acquire("lock", "me", ttl_ms=500))
    answer = yield from client.wait("permits", encode_await("lock", "me"), outcome.instance_id)
    yield from client.pause(20)
```

Its ways are those of users' clients: commands by `core.requests`, waits by `core.client_waits`, and
linearizable reads by `core.query_batches`. A command is sent until its outcome is known, however
long that takes. All that is drawn comes from a stream of its own: where no recipes are played, the
run is the same as if there were none.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias

from ray_paxos.core.client_calls import ClientSettings
from ray_paxos.core.client_messages import (
    Consistency,
    QueryAnswers,
    QueryFailed,
    ReadIndexConfirmed,
)
from ray_paxos.core.client_waits import ClientWaits
from ray_paxos.core.messages import Address, Envelope, Message, RoleName
from ray_paxos.core.patience import Patience
from ray_paxos.core.pending import FOREVER_NS, Outcomes
from ray_paxos.core.query_batches import QueryBatches
from ray_paxos.core.query_calls import Ask, QuerySettings, ReadTerms
from ray_paxos.core.requests import ClientRequests
from ray_paxos.core.results import EntryResult
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.errors import PaxosError
from ray_paxos.testing.client import outcome_of
from ray_paxos.testing.clock import Scheduler
from ray_paxos.testing.network import Transport
from ray_paxos.testing.options import ClientOptions
from ray_paxos.testing.reference import Outcome
from ray_paxos.testing.session_calls import SessionCalls
from ray_paxos.testing.violation import Violation
from ray_paxos.testing.wait_lines import LinedNetwork, WaitingCalls

READ_NS = 5_000 * MILLISECOND_NS
"""After which a read is given up."""


@dataclass(frozen=True)
class Answer:
    """What a learner answered.

    Attributes:
        result: Of the machine.
        applied_through: The instance that it is as of.
    """

    result: bytes
    applied_through: int


@dataclass(frozen=True)
class _Command:
    machine: str
    command: bytes


@dataclass(frozen=True)
class _Wait:
    machine: str
    request: bytes
    at_least: int
    timeout_ms: int | None


@dataclass(frozen=True)
class _Read:
    machine: str
    request: bytes


@dataclass(frozen=True)
class _Pause:
    length_ns: int


Step: TypeAlias = _Command | _Wait | _Read | _Pause
Play: TypeAlias = Generator[Step, Any, None]


@dataclass(eq=False)
class OpenWait:
    """A wait that has no answer.

    Attributes:
        client: Whose.
        machine: Which machine is asked,
        request: and what.
        since_ns: When it could have been answered first, as far as was looked; None for not yet.
    """

    client: int
    machine: str
    request: bytes
    since_ns: int | None = None


class RecipeJudge(Protocol):
    """Who is told of all that these clients do, whatever they play."""

    def acknowledged(self, machine: str, command: bytes, outcome: Outcome) -> None:
        """A client was told what became of a command."""

    def waits(self, wait: OpenWait) -> None:
        """A client waits for something."""

    def waits_no_more(self, wait: OpenWait) -> None:
        """It has its answer, or has given up."""


@dataclass(eq=False)
class _Receiver:
    """Gets the one outcome of a step.

    Attributes:
        tell: Is given its first result: the entry and the place in it, or the error.
        deadline_ns: Until when.
    """

    tell: Callable[[EntryResult | PaxosError, int], None]
    deadline_ns: int = FOREVER_NS

    def cancelled(self) -> bool:
        return False

    def begin(self) -> bool:
        return True

    def deliver(self, start: int, entry: EntryResult, offset: int, count: int) -> None:
        self.tell(entry, offset)

    def fail(self, start: int, error: PaxosError, count: int) -> None:
        self.tell(error, 0)


class RecipeClient:
    """One client that plays one thing.

    Attributes:
        client_id: Its id.
        name: For holders, owners, consumers and parties; no other client has it.
        random: Its randomness.
        stopped: It should come to an end once set.
        is_done: It has.
    """

    def __init__(
        self,
        *,
        client_id: int,
        group: int,
        members: tuple[int, ...],
        genesis: bytes,
        has_lease: bool,
        options: ClientOptions,
        scheduler: Scheduler,
        transport: Transport,
        lines: LinedNetwork,
        random: random.Random,
        judge: RecipeJudge,
    ) -> None:
        """Play nothing yet."""
        self.client_id = client_id
        self.name = f"client-{client_id}"
        self.random = random
        self.stopped = False
        self.is_done = False
        self._address = Address(client_id, RoleName.CLIENT)
        self._group = group
        self._genesis = genesis
        self._scheduler = scheduler
        self._transport = transport
        self._judge = judge
        self._play: Play | None = None
        settings = ClientSettings(
            window_max=2,
            call_timeout_ns=options.timeout_ns,
            pause_ns=5 * MILLISECOND_NS,
            owed_ns=4 * options.timeout_ns,
            no_room_pause_ns=50 * MILLISECOND_NS,
        )
        first = random.randrange(len(members))
        patience = Patience(members)
        self._requests = ClientRequests(patience, label="recipes", first=first, settings=settings)
        self.calls = SessionCalls(
            self._requests,
            client_id=client_id,
            group=group,
            members=members,
            genesis=genesis,
            timeout_ns=options.timeout_ns,
            scheduler=scheduler,
            transport=transport,
            random=random,
        )
        names = {member: f"m{member}" for member in members}
        guess = self._requests.guess
        self.waits = WaitingCalls(
            ClientWaits(names, patience, lambda: guess.member_id, random),
            client_id=client_id,
            group=group,
            genesis=genesis,
            scheduler=scheduler,
            lines=lines,
        )
        self._batches = QueryBatches(
            names,
            patience,
            has_lease=has_lease,
            settings=QuerySettings(try_ns=options.timeout_ns, pause_max_ns=20 * MILLISECOND_NS),
            random=random,
        )
        self._asks: dict[int, Ask] = {}
        self._read_timer_ns: int | None = None

    @property
    def now_ns(self) -> int:
        """Its clock, which is the true one."""
        return self._scheduler.now_ns

    def start(self, play: Callable[[RecipeClient], Play]) -> None:
        """Begin to play."""
        self._play = play(self)
        self._go_on(None)

    # Steps.

    def command(self, machine: str, command: bytes) -> Generator[Step, Any, Outcome]:
        """Have a command applied; returns what came of it."""
        outcome = yield _Command(machine, command)
        assert isinstance(outcome, Outcome)
        return outcome

    def wait(
        self, machine: str, request: bytes, at_least: int, timeout_ms: int | None = None
    ) -> Generator[Step, Any, Answer | None]:
        """Wait for the answer to a query of any member.

        Args:
            machine: Which machine.
            request: For it.
            at_least: The instance that the answer has to hold.
            timeout_ms: How long; None for as long as it takes.

        Returns:
            The answer; None where the time was over.
        """
        answer = yield _Wait(machine, request, at_least, timeout_ms)
        assert answer is None or isinstance(answer, Answer)
        return answer

    def read(self, machine: str, request: bytes) -> Generator[Step, Any, Answer | None]:
        """A linearizable read; None where nobody answered for a while."""
        answer = yield _Read(machine, request)
        assert answer is None or isinstance(answer, Answer)
        return answer

    def pause(self, length_ms: float) -> Generator[Step, Any, None]:
        """Do nothing for so long."""
        yield _Pause(int(length_ms * MILLISECOND_NS))

    def rest(self, most_ms: int) -> Generator[Step, Any, None]:
        """Do nothing for up to so long."""
        yield _Pause(self.random.randrange(most_ms * MILLISECOND_NS))

    def _go_on(self, told: object) -> None:
        assert self._play is not None, "it plays"
        try:
            step = self._play.send(told)
        except StopIteration:
            self.is_done = True
            return
        match step:
            case _Command():
                receiver = _Receiver(partial(self._commanded, step))
                self._requests.session.enqueue(step.machine, (step.command,), receiver)
                self.calls.go_on()
            case _Wait():
                self._begin_wait(step)
            case _Read():
                told_read = _Receiver(self._answered, self.now_ns + READ_NS)
                terms = ReadTerms(step.machine, Consistency.LINEARIZABLE)
                self._batches.add_one(terms, step.request, told_read)
                self._go_on_reading()
            case _Pause(length_ns=length_ns):
                self._scheduler.after(1 + length_ns, partial(self._go_on, None))

    def _later(self, told: object) -> None:
        """Go on, but not from within what tells of it."""
        self._scheduler.after(1, partial(self._go_on, told))

    def _commanded(self, step: _Command, told: EntryResult | PaxosError, offset: int) -> None:
        outcome = outcome_of(told, offset) if isinstance(told, EntryResult) else None
        if outcome is None:
            # No session ends here, and each command has all the time there is.
            raise Violation("R7", f"{self.name} was told {told!r} for a result")
        self._judge.acknowledged(step.machine, step.command, outcome)
        self._later(outcome)

    def _begin_wait(self, step: _Wait) -> None:
        wait = OpenWait(self.client_id, step.machine, step.request)
        self._judge.waits(wait)
        deadline_ns = FOREVER_NS
        if step.timeout_ms is not None:
            deadline_ns = self.now_ns + step.timeout_ms * MILLISECOND_NS
        waiter = _Receiver(partial(self._waited, wait), deadline_ns)
        self.waits.add(step.machine, step.request, step.at_least, waiter)

    def _waited(self, wait: OpenWait, told: EntryResult | PaxosError, offset: int) -> None:
        self._judge.waits_no_more(wait)
        self._answered(told, offset)

    def _answered(self, told: EntryResult | PaxosError, offset: int) -> None:
        result = told.results[offset] if isinstance(told, EntryResult) else None
        if isinstance(told, EntryResult) and result is not None:
            self._later(Answer(result, told.instance_id))
        else:
            self._later(None)

    # Answers to reads.

    def receive(self, envelope: Envelope) -> None:
        """Take in the answer to a message of a read."""
        message = envelope.message
        if not isinstance(message, QueryAnswers | QueryFailed | ReadIndexConfirmed):
            return
        ask = self._asks.pop(message.request_id, None)
        if ask is None:
            return
        outcomes = Outcomes()
        asks = self._batches.on_answer(ask, message, self.now_ns, outcomes)
        outcomes.settle()
        self._make(asks)
        self._go_on_reading()

    def _go_on_reading(self) -> None:
        self._make(self._batches.next_asks(self.now_ns, self._requests.last_instance))
        due_ns = self._batches.due_ns()
        if due_ns is not None and (self._read_timer_ns is None or due_ns < self._read_timer_ns):
            self._read_timer_ns = max(due_ns, self.now_ns + 1)
            self._scheduler.at(self._read_timer_ns, partial(self._ring, self._read_timer_ns))

    def _ring(self, timer_ns: int) -> None:
        if self._read_timer_ns != timer_ns:
            return
        self._read_timer_ns = None
        outcomes = Outcomes()
        self._batches.on_deadline(self.now_ns, outcomes)
        outcomes.settle()
        self._go_on_reading()

    def _make(self, asks: list[Ask]) -> None:
        for ask in asks:
            self._asks[ask.number] = ask
            self._send(Address(ask.member_id, ask.role), ask.message)

    def _send(self, to: Address, message: Message) -> None:
        envelope = Envelope(self._genesis, self._group, self._address, 0, 0, 0, message)
        self._transport.send(self._address, to, envelope)
