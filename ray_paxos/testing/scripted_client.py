"""A client whose every step is said by a test: it never sends anything again by itself."""

from __future__ import annotations

from collections.abc import Callable

from ray_paxos.core.client_messages import (
    Consistency,
    OpenSession,
    Query,
    QueryResult,
    QuorumRead,
    ReadIndex,
    ReadIndexConfirmed,
    Submit,
    Submitted,
    TransferMaster,
)
from ray_paxos.core.genesis import Configuration
from ray_paxos.core.membership_messages import ChangeMembership, MembershipChanged
from ray_paxos.core.messages import Address, Envelope, Message, RoleName
from ray_paxos.core.quorum_read import QuorumAnswers, Verdict
from ray_paxos.core.results import EntryResult
from ray_paxos.core.values import (
    WITHDRAWAL,
    CommandBatch,
    MembershipEntry,
    MembershipKind,
    SessionId,
)
from ray_paxos.machines.log import decode_page, encode_lines
from ray_paxos.testing.client import Operation, outcome_of
from ray_paxos.testing.network import Transport
from ray_paxos.testing.reads import Read
from ray_paxos.testing.workload import LOG_MACHINE
from ray_paxos.testing.world import World

Until = Callable[..., None]


def member_id_of(name: str) -> int:
    """Members A, B, C ... are 1, 2, 3 ..."""
    return ord(name) - ord("A") + 1


class ScriptedClient:
    """One client of one group, with lines for the log machine as commands.

    Attributes:
        address: Where answers go.
        session: Once it is open.
        answers: Whatever came back, by request.
        results: Of its batches, by first number.
        run_until: Lets time pass until something holds.
    """

    def __init__(self, world: World, client_id: int, group: int, transport: Transport) -> None:
        """Start without a session."""
        self.address = Address(client_id, RoleName.CLIENT)
        self.session: SessionId | None = None
        self.answers: dict[int, Message] = {}
        self.results: dict[int, EntryResult] = {}
        self.run_until: Until | None = None
        self._world = world
        self._group = group
        self._transport = transport
        self._requests: dict[int, tuple[CommandBatch, ...]] = {}
        self._reads: dict[int, Read] = {}
        self._envelopes: dict[int, Envelope] = {}
        self._next_request = 1
        self._next_number = 1

    def request_session(self, member: str) -> None:
        """Ask a member's proposer for a session; do not wait."""
        self._send(member, OpenSession(self._new_request(()), "scripted"))

    def open(self, member: str) -> SessionId:
        """Ask a member's proposer for a session, and wait for it."""
        self.request_session(member)
        self._wait(lambda: self.session is not None, "a session")
        assert self.session is not None
        return self.session

    def submit(
        self,
        member: str,
        *lines: bytes,
        number: int = 0,
        lowest_open: int = 1,
        timeout_ms: int = 0,
        machine: str = LOG_MACHINE,
    ) -> int:
        """Send lines as one batch; do not wait.

        Args:
            member: Whose proposer.
            lines: The commands.
            number: Of the first; 0 for the next new one.
            lowest_open: As sent along.
            timeout_ms: As sent along.
            machine: For whom they are: for another one than the log machine, commands of its own.

        Returns:
            The number of the first line.
        """
        assert self.session is not None, "open a session first"
        number = number or self._next_number
        self._next_number = max(self._next_number, number + len(lines))
        batch = CommandBatch(self.session, lowest_open, number, machine, lines)
        self._submit(member, batch, timeout_ms)
        return number

    def withdraw(self, member: str, number: int) -> int:
        """Withdraw a number; do not wait. Returns the request's number in `answers`."""
        assert self.session is not None, "open a session first"
        return self._submit(member, CommandBatch(self.session, 1, number, WITHDRAWAL, (b"",)), 0)

    def _submit(self, member: str, batch: CommandBatch, timeout_ms: int) -> int:
        request_id = self._new_request((batch,))
        self._send(member, Submit(request_id, (batch,), timeout_ms))
        return request_id

    def call(self, member: str, *lines: bytes, number: int = 0) -> EntryResult:
        """Send lines as one batch, and wait for their results."""
        if self.session is None:
            self.open(member)
        number = self.submit(member, *lines, number=number)
        self._wait(lambda: number in self.results, f"an answer to {lines}")
        return self.results[number]

    # Reads.

    def read(
        self,
        member: str,
        consistency: Consistency,
        *,
        at_least: int = 0,
        max_staleness_ms: int | None = None,
    ) -> int:
        """Ask a member's learner for all lines; do not wait. The answer is judged as it comes.

        Returns:
            The request's number in `answers`.
        """
        client, request = self.address.member_id, encode_lines()
        read = Read(client, self._group, LOG_MACHINE, request, consistency, at_least)
        read.max_staleness_ms = max_staleness_ms
        self._world.checker.read_called(read)
        return self._query(member, read, consistency, at_least)

    def _query(self, member: str, read: Read, consistency: Consistency, at_least: int) -> int:
        request_id = self._send_query(member, read, consistency, at_least)
        self._reads[request_id] = read
        return request_id

    def _send_query(self, member: str, read: Read, consistency: Consistency, at_least: int) -> int:
        request_id = self._new_request(())
        query = Query(
            request_id,
            read.machine,
            read.request,
            at_least,
            consistency,
            read.max_staleness_ms,
        )
        self._send(member, query, RoleName.LEARNER)
        return request_id

    def read_by_index(self, master: str, learner: str) -> list[bytes]:
        """Read all lines, linearizably: an index of the master, then the answer of a learner."""
        read = self._called_linearizable()
        index = self.answer(self.ask_index(master))
        assert isinstance(index, ReadIndexConfirmed), f"no index: {index}"
        while True:
            request_id = self._query(learner, read, Consistency.STALE, index.index)
            if isinstance(self.answer(request_id), QueryResult):
                return self.lines(request_id)

    def read_by_quorum(self, acceptors: str, learner: str) -> list[bytes] | Verdict:
        """Read all lines, linearizably: by acceptors, such as `A B`, and the answer of a learner.

        Returns:
            The lines, judged as they come, or why the answers do not count once all are in.
        """
        read = self._called_linearizable()
        asked = []
        for member in acceptors.split():
            asked.append(self._new_request(()))
            self._send(member, QuorumRead(asked[-1]), RoleName.ACCEPTOR)
        asked.append(self._send_query(learner, read, Consistency.STALE, 0))
        quorum = QuorumAnswers(member_id_of(learner))
        for request_id in asked:
            self.answer(request_id)
            quorum.take(self._envelopes[request_id])
        if quorum.verdict() is not Verdict.COUNTS:
            return quorum.verdict()
        assert quorum.answer is not None
        self._world.checker.read_answered(read, quorum.answer)
        return list(decode_page(quorum.answer.result).lines)

    def _called_linearizable(self) -> Read:
        consistency = Consistency.LINEARIZABLE
        client, request = self.address.member_id, encode_lines()
        read = Read(client, self._group, LOG_MACHINE, request, consistency)
        self._world.checker.read_called(read)
        return read

    def lines(self, request_id: int) -> list[bytes]:
        """Wait for the answer to a read, which must be one."""
        answer = self.answer(request_id)
        assert isinstance(answer, QueryResult), f"no answer to a read: {answer}"
        return list(decode_page(answer.result).lines)

    def ask_index(self, member: str) -> int:
        """Ask a member's proposer for a read index; do not wait. Returns the request's number."""
        request_id = self._new_request(())
        self._send(member, ReadIndex(request_id))
        return request_id

    def transfer(self, member: str, target: str = "", *, version: int = 0) -> int:
        """Ask a master to hand over; do not wait. Returns the request's number."""
        request_id, target_id = self._new_request(()), member_id_of(target) if target else 0
        self._send(member, TransferMaster(request_id, target_id, version))
        return request_id

    def order_change(self, master: str, kind: MembershipKind, member: str, expected: int) -> int:
        """Ask a master to change who has the group; do not wait. Returns the request's number.

        Args:
            master: Whose proposer.
            kind: What becomes of the member,
            member: and which it is.
            expected: The config_id of the configuration that is to be changed.
        """
        request_id = self._new_request(())
        member_id = member_id_of(member)
        name = self._world.joined_as(member_id) if kind is MembershipKind.ADD else ""
        entry = MembershipEntry(kind, member_id, expected, name)
        self._send(master, ChangeMembership(request_id, entry))
        return request_id

    def change(
        self, master: str, kind: MembershipKind, member: str, expected: int
    ) -> Configuration:
        """As `order_change`; wait for the configuration that comes of it."""
        answer = self.answer(self.order_change(master, kind, member, expected))
        assert isinstance(answer, MembershipChanged), f"no change: {answer}"
        return answer.configuration

    def answer(self, request_id: int) -> Message:
        """Wait for the answer to a request."""
        self._wait(lambda: request_id in self.answers, f"an answer to request {request_id}")
        return self.answers[request_id]

    def receive(self, envelope: Envelope) -> None:
        """Take an answer in, and have it checked."""
        message = envelope.message
        request_id = getattr(message, "request_id", 0)
        self.answers[request_id] = message
        self._envelopes[request_id] = envelope
        if isinstance(message, QueryResult) and request_id in self._reads:
            self._world.checker.read_answered(self._reads[request_id], message)
        if not isinstance(message, Submitted):
            return
        batches = self._requests[request_id]
        if not batches:
            opened = message.results[0]
            self.session = self.session or SessionId(opened.instance_id, opened.index)
            return
        for batch, result in zip(batches, message.results, strict=True):
            self.results[batch.first_number] = result
            self._have_checked(batch, result)

    def _have_checked(self, batch: CommandBatch, result: EntryResult) -> None:
        if batch.machine == WITHDRAWAL:
            # What comes of it is told of another command: the one that it withdraws.
            return
        for offset, command in enumerate(batch.commands):
            outcome = outcome_of(result, offset)
            if outcome is None:
                continue
            now_ns = self._world.now_ns
            operation = Operation(
                self.address.member_id,
                self._group,
                batch.session,
                batch.first_number + offset,
                batch.machine,
                command,
                now_ns,
                now_ns,
                outcome,
            )
            self._world.checker.acknowledged(operation)

    def _wait(self, holds: Callable[[], bool], what: str) -> None:
        assert self.run_until is not None
        self.run_until(holds, what=what)

    def _new_request(self, batches: tuple[CommandBatch, ...]) -> int:
        self._next_request += 1
        self._requests[self._next_request] = batches
        return self._next_request

    def _send(self, member: str, message: Message, role: RoleName = RoleName.PROPOSER) -> None:
        to = Address(member_id_of(member), role)
        genesis = self._world.genesis.hash()
        envelope = Envelope(genesis, self._group, self.address, 0, 0, 0, message)
        self._transport.send(self.address, to, envelope)
