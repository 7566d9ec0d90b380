"""A client whose every step is said by a test: it never sends anything again by itself."""

from __future__ import annotations

from collections.abc import Callable

from ray_paxos.core.messages import (
    Address,
    Envelope,
    Message,
    OpenSession,
    RoleName,
    Submit,
    Submitted,
)
from ray_paxos.core.results import EntryResult
from ray_paxos.core.values import CommandBatch, SessionId
from ray_paxos.testing.client import Operation, outcome_of
from ray_paxos.testing.network import Transport
from ray_paxos.testing.workload import LOG_MACHINE
from ray_paxos.testing.world import World

Until = Callable[..., None]


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

    def submit(self, member: str, *lines: bytes, number: int = 0, lowest_open: int = 1) -> int:
        """Send lines as one batch; do not wait.

        Args:
            member: Whose proposer.
            lines: The commands.
            number: Of the first; 0 for the next new one.
            lowest_open: As sent along.

        Returns:
            The number of the first line.
        """
        assert self.session is not None, "open a session first"
        number = number or self._next_number
        self._next_number = max(self._next_number, number + len(lines))
        batch = CommandBatch(self.session, lowest_open, number, LOG_MACHINE, lines)
        self._send(member, Submit(self._new_request((batch,)), (batch,)))
        return number

    def call(self, member: str, *lines: bytes, number: int = 0) -> EntryResult:
        """Send lines as one batch, and wait for their results."""
        if self.session is None:
            self.open(member)
        number = self.submit(member, *lines, number=number)
        self._wait(lambda: number in self.results, f"an answer to {lines}")
        return self.results[number]

    def receive(self, envelope: Envelope) -> None:
        """Take an answer in, and have it checked."""
        message = envelope.message
        request_id = getattr(message, "request_id", 0)
        self.answers[request_id] = message
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

    def _send(self, member: str, message: Message) -> None:
        member_id = ord(member) - ord("A") + 1
        to = Address(member_id, RoleName.PROPOSER)
        genesis = self._world.genesis.hash()
        envelope = Envelope(genesis, self._group, self.address, 0, 0, 0, message)
        self._transport.send(self.address, to, envelope)
