"""Simulated clients: sessions, numbered commands, re-sending, redirects, and a history.

A client keeps its open batches in the order of their numbers. Whatever goes wrong (no answer in
time, a redirect, a gap, a refusal), it sends all of them again, in order, under the same numbers,
until each command has its result; `lowest_open` is always the lowest number without one. Every
answer is checked at once: a command must have been applied exactly once, at the place and with the
result that the answer names.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from ray_paxos.core.client_messages import (
    Flush,
    OpenSession,
    QueryFailed,
    QueryResult,
    QuorumReadAnswer,
    ReadIndexConfirmed,
    Redirected,
    RefusalCode,
    Refused,
    Submit,
    Submitted,
)
from ray_paxos.core.messages import Address, Envelope, Message, RoleName
from ray_paxos.core.results import EntryResult, NoteCode
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.core.values import CommandBatch, SessionId
from ray_paxos.testing.clock import Scheduler
from ray_paxos.testing.network import Transport
from ray_paxos.testing.options import ClientOptions
from ray_paxos.testing.reads import ClientReads, ReadJudge
from ray_paxos.testing.reference import Outcome
from ray_paxos.testing.violation import Violation, expect
from ray_paxos.testing.workload import Workload

READ_SHARE = 0.3
"""Of the times at which a client thinks of something, so often it reads something, too."""


@dataclass
class Operation:
    """One command of a client, from call to answer.

    Attributes:
        client: The client's id.
        group: Whose log.
        session: The client's session.
        number: The command's number in it.
        machine: Which machine.
        command: The command itself.
        invoked_ns: Virtual time of the call.
        answered_ns: Virtual time of its answer; None while it is open.
        outcome: The answer.
        is_denied: The client was told that it is not applied, and never will be.
        history_id: In the history of its key; None where it is in none.
    """

    client: int
    group: int
    session: SessionId
    number: int
    machine: str
    command: bytes
    invoked_ns: int
    answered_ns: int | None = None
    outcome: Outcome | None = None
    is_denied: bool = False
    history_id: int | None = None


def outcome_of(result: EntryResult, offset: int) -> Outcome | None:
    """What an answer says of one command; None where it says that it was not applied."""
    returned, note = result.results[offset], result.notes.get(offset)
    if note is None:
        return Outcome(result.instance_id, result.index + offset, returned, False)
    if note.code not in (NoteCode.ERROR, NoteCode.KEPT, NoteCode.KEPT_ERROR):
        return None
    is_error = note.code is not NoteCode.KEPT
    return Outcome(note.instance_id, note.index, returned, is_error)


class Judge(ReadJudge, Protocol):
    """Who is told of all that clients do."""

    def called(self, operation: Operation) -> None:
        """A command is about to be sent for the first time."""

    def acknowledged(self, operation: Operation) -> None:
        """A command has its answer."""

    def session_opened(self, group: int, session: SessionId) -> None:
        """A client has its session."""


class SimulatedClient:
    """One client of one group.

    Invariants: `_open` is in the order of numbers, and holds exactly the batches with a command
    that has no answer yet; no more than `pipeline_max` of them.

    Attributes:
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
        judge: Judge,
    ) -> None:
        """Start without a session."""
        self.address = Address(client_id, RoleName.CLIENT)
        self.group = group
        self.history: list[Operation] = []
        self.stopped = False
        self.acknowledged = 0
        self._members = members
        self._genesis = genesis
        self._options = options
        self._scheduler = scheduler
        self._transport = transport
        self._random = random
        self._judge = judge
        self._workload = Workload(client_id, options, random)
        self._master = members[random.randrange(len(members))]
        self._session: SessionId | None = None
        self._next_number = 1
        self._open: list[CommandBatch] = []
        self._requests: dict[int, tuple[CommandBatch, ...]] = {}
        self._next_request = 1
        self._session_request = 0
        self._last_word_ns = 0
        self._resend_at_ns: int | None = None
        self._last_instance = 0
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
            next_request=self._new_request,
            send=self._send_to,
        )

    def start(self) -> None:
        """Open a session, and begin."""
        self._open_session()
        self._scheduler.after(self._options.timeout_ns, self._watch)

    @property
    def is_idle(self) -> bool:
        """Whether every command called has its answer."""
        return not self._open

    # Calling.

    def _open_session(self) -> None:
        self._session_request = self._new_request()
        self._send(self._master, OpenSession(self._session_request, "simulated"))

    def _think(self) -> None:
        """Call something new, and think of the next thing to call."""
        if self.stopped:
            return
        delay_ns = 1 + self._random.randrange(2 * self._options.think_ns)
        self._scheduler.after(delay_ns, self._think)
        if len(self._open) < self._options.pipeline_max and self._resend_at_ns is None:
            self._call()
        if self._random.random() < READ_SHARE:
            self._reads.call(self._last_instance)
        if self._random.random() < 0.02:
            self._send_to(self._some_learner(), Flush())

    def _call(self) -> None:
        assert self._session is not None
        machine, commands = self._workload.draw()
        batch = CommandBatch(
            self._session, self._lowest_open(), self._next_number, machine, commands
        )
        for offset, command in enumerate(commands):
            operation = Operation(
                self.address.member_id,
                self.group,
                self._session,
                self._next_number + offset,
                machine,
                command,
                self._scheduler.now_ns,
            )
            self.history.append(operation)
            self._judge.called(operation)
        self._next_number += len(commands)
        if not self._open:
            self._last_word_ns = self._scheduler.now_ns
        self._open.append(batch)
        self._submit((batch,))

    def _submit(self, batches: tuple[CommandBatch, ...]) -> None:
        request_id = self._new_request()
        self._requests[request_id] = batches
        self._send(self._master, Submit(request_id, batches))

    def _some_learner(self) -> Address:
        member_id = self._members[self._random.randrange(len(self._members))]
        return Address(member_id, RoleName.LEARNER)

    def _lowest_open(self) -> int:
        """The lowest number without an answer."""
        for batch in self._open:
            for number in range(batch.first_number, batch.first_number + len(batch.commands)):
                if self.history[number - 1].answered_ns is None:
                    return number
        return self._next_number

    # Sending again.

    def _watch(self) -> None:
        """Every so often: has anything been silent for too long?"""
        now_ns = self._scheduler.now_ns
        self._scheduler.after(self._options.timeout_ns // 2, self._watch)
        if now_ns - self._last_word_ns < self._options.timeout_ns:
            return
        if self._session is None or self._open:
            self._ask_another(None)
            self._send_all_again()

    def _ask_another(self, master: int | None) -> None:
        self._master = master or self._members[self._random.randrange(len(self._members))]

    def _send_again_in(self, delay_ns: int) -> None:
        if self._resend_at_ns is None:
            self._resend_at_ns = self._scheduler.now_ns + delay_ns
            self._scheduler.at(self._resend_at_ns, partial(self._resend_due, self._resend_at_ns))

    def _resend_due(self, at_ns: int) -> None:
        if self._resend_at_ns == at_ns:
            self._send_all_again()

    def _send_all_again(self) -> None:
        """All open batches, in the order of their numbers, under the numbers they have."""
        self._resend_at_ns = None
        self._last_word_ns = self._scheduler.now_ns
        if self._session is None:
            self._open_session()
            return
        lowest_open = self._lowest_open()
        again = tuple(
            CommandBatch(b.session, lowest_open, b.first_number, b.machine, b.commands)
            for b in self._open
        )
        if again and self._random.random() < 0.5:
            self._submit(again)
            return
        for batch in again:
            self._submit((batch,))

    # Answers.

    def receive(self, envelope: Envelope) -> None:
        """Take an answer in."""
        match envelope.message:
            case Submitted() as submitted:
                self._on_submitted(submitted)
            case Redirected(master=master, retry_after_ms=retry_after_ms):
                self._ask_another(master)
                self._send_again_in((1 + retry_after_ms) * MILLISECOND_NS)
            case Refused(code=RefusalCode.UNKNOWN_GROUP):
                # Of a read, by a member that has the group no more: the one for commands is another
                # member, or is found once it says nothing.
                pass
            case Refused(retry_after_ms=retry_after_ms):
                self._requests.pop(envelope.message.request_id, None)
                self._send_again_in((1 + retry_after_ms) * MILLISECOND_NS)
            case (
                QueryResult() | QueryFailed() | QuorumReadAnswer() | ReadIndexConfirmed() as answer
            ):
                self._reads.receive(envelope, answer)
            case _:
                pass

    def _on_submitted(self, submitted: Submitted) -> None:
        self._last_word_ns = self._scheduler.now_ns
        if submitted.request_id == self._session_request and self._session is None:
            (opened,) = submitted.results
            self._session = SessionId(opened.instance_id, opened.index)
            self._judge.session_opened(self.group, self._session)
            self._think()
            return
        batches = self._requests.pop(submitted.request_id, None)
        if batches is None:
            return
        expect(
            len(batches) == len(submitted.results),
            "R7",
            f"{len(submitted.results)} results for {len(batches)} batches",
        )
        for batch, result in zip(batches, submitted.results, strict=True):
            self._take(batch, result)
        self._open = [batch for batch in self._open if not self._is_answered(batch)]

    def _is_answered(self, batch: CommandBatch) -> bool:
        numbers = range(batch.first_number, batch.first_number + len(batch.commands))
        return all(self.history[number - 1].answered_ns is not None for number in numbers)

    def _take(self, batch: CommandBatch, result: EntryResult) -> None:
        expect(len(result.results) == len(batch.commands), "R7", "a result for every command")
        self._last_instance = max(self._last_instance, result.instance_id)
        for offset in range(len(result.results)):
            operation = self.history[batch.first_number + offset - 1]
            outcome = outcome_of(result, offset)
            if outcome is not None:
                self._answered(operation, outcome)
                continue
            code = result.notes[offset].code
            if code is NoteCode.GAP:
                self._send_again_in(MILLISECOND_NS)
            elif code is not NoteCode.CLOSED or operation.answered_ns is None:
                what = f"{code.name} for the open number {operation.number}"
                raise Violation("R7", f"{what} of session {batch.session}")

    def _answered(self, operation: Operation, outcome: Outcome) -> None:
        if operation.outcome is not None:
            expect(
                operation.outcome == outcome,
                "R7",
                f"number {operation.number} of session {operation.session} was answered with "
                f"{operation.outcome}, then with {outcome}",
            )
            return
        operation.answered_ns = self._scheduler.now_ns
        operation.outcome = outcome
        self.acknowledged += 1
        self._judge.acknowledged(operation)

    # Parts.

    def _new_request(self) -> int:
        self._next_request += 1
        return self._next_request

    def _send(self, member_id: int, message: Message) -> None:
        self._send_to(Address(member_id, RoleName.PROPOSER), message)

    def _send_to(self, to: Address, message: Message) -> None:
        envelope = Envelope(self._genesis, self.group, self.address, 0, 0, 0, message)
        self._transport.send(self.address, to, envelope)
