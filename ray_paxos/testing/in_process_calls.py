"""Calls of an in-process client, and the futures that time passes for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from ray_paxos.actors.outcomes import CommandFuture, ManyFuture, ManyResults, Result
from ray_paxos.actors.query_outcomes import QueriesFuture, QueryFuture
from ray_paxos.core.client_calls import Call
from ray_paxos.core.messages import Address, Envelope, Message
from ray_paxos.core.query_calls import Ask
from ray_paxos.testing.calls import call_address
from ray_paxos.testing.in_process_world import InProcessWorld

C = TypeVar("C", bound="Call | Ask")
T = TypeVar("T")

OPEN_CALLS_MAX = 10_000


class Driven(Future[T]):
    """A future for which time passes while somebody waits; a timeout is of simulated seconds.

    Attributes:
        drive: Lets time pass until a future is settled; set by the client.
    """

    drive: Callable[[Future[Any], float | None], None]

    def result(self, timeout: float | None = None) -> T:
        """As of the base class."""
        self.drive(self, timeout)
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """As of the base class."""
        self.drive(self, timeout)
        return super().exception(0)


class DrivenCommand(Driven[Result], CommandFuture):
    """Of one command, or of a read that waits."""


class DrivenMany(Driven[ManyResults], ManyFuture):
    """Of commands that were submitted together."""


class DrivenQuery(Driven[bytes], QueryFuture):
    """Of one read."""


class DrivenQueries(Driven["list[bytes]"], QueriesFuture):
    """Of reads that were asked together."""


class Line(Generic[C]):
    """Calls of one kind, under an address of their own, and their answers.

    Invariant: an answer is handed on once, and with its own call.
    """

    def __init__(self, world: InProcessWorld, on_answer: Callable[[C, Envelope], None]) -> None:
        """Make none yet.

        Args:
            world: Whose members are called.
            on_answer: Gets a call and its answer.
        """
        self._world = world
        self._on_answer = on_answer
        self._client_id = world.new_client_id()
        self._open: dict[int, C] = {}
        self._count = 0
        world.members.callers[self._client_id] = self._receive

    def send(self, call: C, message: Message) -> None:
        """Make a call; of one whose member died nothing more is heard."""
        self._count += 1
        self._open[self._count] = call
        if len(self._open) > OPEN_CALLS_MAX:
            # Its member died with it.
            del self._open[next(iter(self._open))]
        sender = call_address(self._client_id, self._count)
        to = Address(call.member_id, call.role)
        self._world.network.send(sender, to, self._world.envelope(sender, message))

    def _receive(self, number: int, envelope: Envelope) -> None:
        call = self._open.pop(number, None)
        if call is not None:
            self._on_answer(call, envelope)
