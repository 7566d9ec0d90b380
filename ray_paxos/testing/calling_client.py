"""Simulated clients of the real kind: `core.requests`, with deadlines, in the simulated cluster.

Unlike `client`, which sends everything again until it is answered, these do what users' clients do:
a share of their commands has a deadline, some of what is then unknown is asked for or withdrawn
later, and calls fail. Whatever they are told is judged as they are told it:

```
 a result                    it is in the log, at that place, with that result
 certainly not applied       it is not in the log, and never will be
 withdrawn                   the same
 unknown                     open; before the end it is asked for, and is one of the above
```
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Protocol

from ray_paxos.core.client_calls import ClientSettings
from ray_paxos.core.client_messages import (
    QueryAnswers,
    QueryFailed,
    QueryResult,
    QuorumReadAnswer,
    ReadIndexConfirmed,
)
from ray_paxos.core.messages import Address, Envelope, Message, RoleName
from ray_paxos.core.patience import Patience
from ray_paxos.core.pending import FOREVER_NS, Outcomes
from ray_paxos.core.requests import ClientRequests
from ray_paxos.core.results import EntryResult, NoteCode
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.core.values import SessionId
from ray_paxos.errors import OutcomeUnknownError, PaxosError
from ray_paxos.testing.batched_reads import BatchedReads, drawn_settings
from ray_paxos.testing.client import READ_SHARE, Judge, Operation, outcome_of
from ray_paxos.testing.clock import Scheduler
from ray_paxos.testing.network import Transport
from ray_paxos.testing.options import ClientOptions
from ray_paxos.testing.reads import ClientReads
from ray_paxos.testing.session_calls import SessionCalls
from ray_paxos.testing.violation import Violation, expect
from ray_paxos.testing.workload import Workload

NO_SESSION = SessionId(0, 0)
FIRST_READ = 1 << 40
"""Reads have numbers of their own."""
UNSETTLED_MAX = 64
"""Commands without a known outcome, of one client."""


class CallingJudge(Judge, Protocol):
    """Who is told of all that these clients do."""

    def acknowledged_at_its_place(self, operation: Operation) -> None:
        """A command has its answer, which names a place in the log; which number it has is open."""

    def denied(self, operation: Operation) -> None:
        """A client was told that its command is not applied, and never will be."""

    def unknown(self) -> None:
        """A client was told that the outcome of some commands is unknown."""

    def withdrawn(self) -> None:
        """A client was told that its withdrawal came before its command."""


@dataclass(eq=False)
class _Submission:
    """Commands of one call of the user, and what they were told.

    Attributes:
        client: Whose.
        operations: One for each command.
        deadline_ns: Until when.
    """

    client: CallingClient
    operations: list[Operation]
    deadline_ns: int = FOREVER_NS

    def begin(self) -> bool:
        return True

    def deliver(self, start: int, entry: EntryResult, offset: int, count: int) -> None:
        for place in range(count):
            self.client.told(self.operations[start + place], entry, offset + place)

    def fail(self, start: int, error: PaxosError, count: int) -> None:
        for place, operation in enumerate(self.operations[start : start + count]):
            if isinstance(error, OutcomeUnknownError) and error.number is not None:
                self.client.told_unknown(operation, error.number + place)
            else:
                self.client.told_error(operation, error)


class CallingClient:
    """One real client of one group.

    Attributes:
        address: Of its reads; its calls have addresses of their own.
        history: Every command ever called.
        stopped: Calls nothing new once set.
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
        random: random.Random,
        judge: CallingJudge,
    ) -> None:
        """Start without a session."""
        self.address = Address(client_id, RoleName.CLIENT)
        self.group = group
        self.history: list[Operation] = []
        self.stopped = False
        self._genesis = genesis
        self._options = options
        self._scheduler = scheduler
        self._transport = transport
        self._random = random
        self._judge = judge
        self._workload = Workload(client_id, options, random)
        settings = ClientSettings(
            request_bytes_max=random.choice((1, 100, 1_000)),
            window_max=options.pipeline_max,
            call_timeout_ns=options.timeout_ns,
            pause_ns=5 * MILLISECOND_NS,
            owed_calls_max=random.choice((4, 32)),
            owed_ns=4 * options.timeout_ns,
            no_room_pause_ns=50 * MILLISECOND_NS,
            deadline_interval_ns=20 * MILLISECOND_NS,
        )
        first = random.randrange(len(members))
        self._requests = ClientRequests(
            Patience(members), label="calling", first=first, settings=settings
        )
        self._calls = SessionCalls(
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
        self._unsettled = 0
        # Numbers of commands that are said to be unknown, and were not asked for yet.
        self._unknown: dict[int, Operation] = {}
        self._next_read = FIRST_READ
        self._reads = ClientReads(
            client_id=client_id,
            group=group,
            members=members,
            has_lease=has_lease,
            options=options,
            scheduler=scheduler,
            random=random,
            workload=self._workload,
            judge=judge,
            next_request=self._new_read,
            send=self._send,
        )

        self._batched = BatchedReads(
            client_id=client_id,
            group=group,
            members=members,
            has_lease=has_lease,
            settings=drawn_settings(options, random),
            scheduler=scheduler,
            random=random,
            judge=judge,
            own_instance=lambda: self._requests.last_instance,
            send=self._send,
        )

    def start(self) -> None:
        """Begin; the session is opened with the first command."""
        self._think()

    @property
    def is_idle(self) -> bool:
        """Whether the outcome of every command is known, in the end also of those given up."""
        if self.stopped:
            for number in list(self._unknown):
                self._ask(number, withdraw=False)
        return not self._unsettled and not self._requests.session.has_work

    # The user.

    def _think(self) -> None:
        if self.stopped:
            return
        draw = self._random
        self._scheduler.after(1 + draw.randrange(2 * self._options.think_ns), self._think)
        if self._unsettled < UNSETTLED_MAX:
            self._submit()
        if self._unknown and draw.random() < 0.2:
            numbers = list(self._unknown)
            self._ask(numbers[draw.randrange(len(numbers))], withdraw=draw.random() < 0.5)
        if draw.random() < READ_SHARE:
            self._reads.call(self._requests.last_instance)
        if draw.random() < READ_SHARE:
            self._batched.call_some(self._workload, 3 * self._options.timeout_ns)

    def _submit(self) -> None:
        now_ns = self._scheduler.now_ns
        machine, commands = self._workload.draw_unique()
        operations = [
            Operation(self.address.member_id, self.group, NO_SESSION, 0, machine, command, now_ns)
            for command in commands
        ]
        self._unsettled += len(operations)
        for operation in operations:
            self.history.append(operation)
            self._judge.called(operation)
        submission = _Submission(self, operations, self._draw_deadline(now_ns))
        self._requests.session.enqueue(machine, commands, submission)
        self._calls.go_on()

    def _draw_deadline(self, now_ns: int) -> int:
        """A third has none, a third a short one, in which often not much can be done."""
        kind, timeout_ns = self._random.randrange(3), self._options.timeout_ns
        if kind == 0:
            return FOREVER_NS
        return now_ns + 1 + self._random.randrange(timeout_ns // 3 if kind == 1 else 3 * timeout_ns)

    def _ask(self, number: int, *, withdraw: bool) -> None:
        """Ask what became of a number; have it withdrawn where nothing did yet."""
        operation = self._unknown.pop(number)
        outcomes = Outcomes()
        ask = self._requests.abandon if withdraw else self._requests.ask
        ask(number, _Submission(self, [operation]), outcomes)
        outcomes.settle()
        self._calls.go_on()

    # What it is told.

    def told(self, operation: Operation, entry: EntryResult, offset: int) -> None:
        """A command has its result."""
        note = entry.notes.get(offset)
        if note is not None and note.code is NoteCode.WITHDRAWN:
            self._judge.withdrawn()
            self._deny(operation)
            return
        outcome = outcome_of(entry, offset)
        if outcome is None:
            raise Violation("R7", f"a client was told {entry} for a result")
        self._settle(operation)
        operation.answered_ns = self._scheduler.now_ns
        operation.outcome = outcome
        self._judge.acknowledged_at_its_place(operation)

    def told_unknown(self, operation: Operation, number: int) -> None:
        """Its time is over; the number can be asked for."""
        self._judge.unknown()
        self._unknown[number] = operation

    def told_error(self, operation: Operation, error: PaxosError) -> None:
        """It has no result; here no session ever ends, so that is certain."""
        if error.may_have_applied:
            raise Violation("R7", f"a client was told {error!r}")
        self._deny(operation)

    def _deny(self, operation: Operation) -> None:
        self._settle(operation)
        operation.answered_ns = self._scheduler.now_ns
        operation.is_denied = True
        self._judge.denied(operation)

    def _settle(self, operation: Operation) -> None:
        expect(operation.answered_ns is None, "R7", f"told twice of {operation.command!r}")
        self._unsettled -= 1

    # Calls.

    def receive_answer(self, number: int, envelope: Envelope) -> None:
        """Take in the answer of one call."""
        self._calls.receive_answer(number, envelope)

    def receive(self, envelope: Envelope) -> None:
        """Take in the answer to a read."""
        answer = envelope.message
        if isinstance(answer, QueryAnswers | QueryFailed | ReadIndexConfirmed) and (
            self._batched.is_ours(answer)
        ):
            self._batched.receive(answer)
        elif isinstance(answer, QueryResult | QueryFailed | QuorumReadAnswer | ReadIndexConfirmed):
            self._reads.receive(envelope, answer)

    # Parts.

    def _new_read(self) -> int:
        self._next_read += 1
        return self._next_read

    def _send(self, to: Address, message: Message) -> None:
        envelope = Envelope(self._genesis, self.group, self.address, 0, 0, 0, message)
        self._transport.send(self.address, to, envelope)
