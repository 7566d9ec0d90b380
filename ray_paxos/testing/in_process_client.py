"""A client of an in-process cluster: what `ray_paxos.Client` is, in simulated time.

The rules are the real ones (`core.requests`, `core.query_batches`, `core.client_waits`), and so are
results, errors and futures. Each kind of call has an address of its own, since their numbers are
not the same. Nothing happens in the background: a future is settled while somebody waits for it,
or for anything else of its cluster. A timeout is simulated, and costs no real time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from ray_paxos.actors.outcomes import CommandFuture, ManyResults, Result
from ray_paxos.core.client_calls import Call, ClientSettings
from ray_paxos.core.client_errors import outcome_unknown
from ray_paxos.core.client_waits import ClientWaits
from ray_paxos.core.messages import Envelope
from ray_paxos.core.patience import Patience
from ray_paxos.core.pending import Outcomes, Receiver
from ray_paxos.core.query_batches import QueryBatches
from ray_paxos.core.query_calls import Ask, QuerySettings, ReadTerms
from ray_paxos.core.requests import ClientRequests
from ray_paxos.errors import (
    ClientClosedError,
    CommandError,
    CommandTooLargeError,
    ConfigurationError,
    OverloadedError,
    WithdrawnError,
)
from ray_paxos.testing.in_process_arguments import (
    checked_bytes,
    checked_sequence,
    length_ns,
    read_terms,
)
from ray_paxos.testing.in_process_calls import (
    Driven,
    DrivenCommand,
    DrivenMany,
    DrivenQueries,
    DrivenQuery,
    Line,
)
from ray_paxos.testing.in_process_world import InProcessWorld
from ray_paxos.testing.options import SECOND_NS
from ray_paxos.testing.trace import name_member

D = TypeVar("D", bound=Driven[Any])

SETTLE_NS = 2 * SECOND_NS
"""So long after its time at the latest a future is settled."""


class InProcessClient:
    """Submits commands to an in-process cluster and reads from it, as `ray_paxos.Client` does.

    Made by `InProcessCluster.client`. Arguments, results, errors and guarantees are those of
    `ray_paxos.Client`, but that all times are simulated, that it belongs to one thread, and that a
    machine has to be named where the cluster has several.
    """

    def __init__(self, world: InProcessWorld, label: str, machine: str) -> None:
        """Without a session yet.

        Args:
            world: Whose members.
            label: What a person calls the client.
            machine: Which one is meant where none is named; empty for none.
        """
        self._world = world
        self._machine = machine
        self._is_closed = False
        self._timer_ns: int | None = None
        ids, draw = world.member_ids, world.world.random
        names = {member_id: name_member(member_id) for member_id in ids}
        self._settings = ClientSettings()
        first = draw.randrange(len(ids))
        patience = Patience(ids)
        self._requests = ClientRequests(patience, label=label, first=first, settings=self._settings)
        self._batches = QueryBatches(
            names, patience, has_lease=True, settings=QuerySettings(), random=draw
        )
        self._waits = ClientWaits(names, patience, lambda: self._requests.guess.member_id, draw)
        self._commands = Line[Call](world, self._on_command_answer)
        self._reads = Line[Ask](world, self._on_read_answer)
        self._waiting = Line[Call](world, self._on_wait_answer)

    def __enter__(self) -> InProcessClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(timeout_s=5.0 if kind is None else 0.0)

    # Commands.

    def propose(self, command: bytes, machine: str = "", *, timeout_s: float = 30.0) -> Result:
        """As `ray_paxos.Client.propose`."""
        return self.propose_async(command, machine, timeout_s=timeout_s).result()

    def propose_async(
        self, command: bytes, machine: str = "", *, timeout_s: float = 30.0
    ) -> Future[Result]:
        """As `ray_paxos.Client.propose_async`; settled while somebody waits for something."""
        future = self._driven(DrivenCommand(self._deadline(timeout_s)))
        self._submit(machine, (command,), future, timeout_s)
        return future

    def propose_many(
        self, commands: Sequence[bytes], machine: str = "", *, timeout_s: float = 60.0
    ) -> ManyResults:
        """As `ray_paxos.Client.propose_many`."""
        results = self.propose_many_async(commands, machine, timeout_s=timeout_s).result()
        for _, error in sorted(results.errors.items()):
            if not isinstance(error, CommandError):
                raise error
        return results

    def propose_many_async(
        self, commands: Sequence[bytes], machine: str = "", *, timeout_s: float = 60.0
    ) -> Future[ManyResults]:
        """As `ray_paxos.Client.propose_many_async`."""
        taken = checked_sequence("commands", commands)
        future = self._driven(DrivenMany(len(taken), self._deadline(timeout_s), None))
        if taken:
            self._submit(machine, taken, future, timeout_s)
        else:
            future.set_result(ManyResults(0))
        return future

    def _submit(
        self,
        machine: str,
        commands: tuple[bytes, ...],
        future: DrivenCommand | DrivenMany,
        timeout_s: float,
    ) -> None:
        name = self._named(machine)
        for command in commands:
            checked_bytes("a command", command)
            if len(command) > self._settings.command_bytes_max:
                raise CommandTooLargeError(
                    f"a command of {len(command)} bytes; allowed: "
                    f"{self._settings.command_bytes_max}"
                )
        self._check_open()
        requests, byte_count = self._requests, sum(map(len, commands))
        has_room = partial(requests.has_room, len(commands), byte_count)
        if not self._world.until(has_room, future.deadline_ns):
            raise OverloadedError(f"no room for more commands within {timeout_s:g} s")
        requests.session.enqueue(name, commands, future)
        self._go_on()

    def outcome(self, number: int, *, timeout_s: float = 30.0) -> Result:
        """As `ray_paxos.Client.outcome`."""
        return self._ask(number, timeout_s, self._requests.ask)

    def abandon(self, number: int, *, timeout_s: float = 30.0) -> Result | None:
        """As `ray_paxos.Client.abandon`."""
        try:
            return self._ask(number, timeout_s, self._requests.abandon)
        except WithdrawnError:
            return None

    def _ask(
        self, number: int, timeout_s: float, ask: Callable[[int, Receiver, Outcomes], None]
    ) -> Result:
        if type(number) is not int:
            raise ConfigurationError(f"number: found {number!r}; allowed: a whole number")
        future, outcomes = CommandFuture(self._deadline(timeout_s)), Outcomes()
        ask(number, future, outcomes)
        outcomes.settle()
        self._go_on()
        try:
            self._world.until(future.done, future.deadline_ns)
        finally:
            self._requests.leave(number, future)
        if not future.done():
            raise outcome_unknown(number, f"no answer within {timeout_s:g} s")
        return future.result(0)

    # Reads.

    def query(
        self,
        request: bytes,
        machine: str = "",
        *,
        consistency: str = "linearizable",
        at_least: int | None = None,
        max_staleness_ms: int | None = None,
        timeout_s: float = 10.0,
    ) -> bytes:
        """As `ray_paxos.Client.query`."""
        return self.query_async(
            request,
            machine,
            consistency=consistency,
            at_least=at_least,
            max_staleness_ms=max_staleness_ms,
            timeout_s=timeout_s,
        ).result()

    def query_async(
        self,
        request: bytes,
        machine: str = "",
        *,
        consistency: str = "linearizable",
        at_least: int | None = None,
        max_staleness_ms: int | None = None,
        timeout_s: float = 10.0,
    ) -> Future[bytes]:
        """As `ray_paxos.Client.query_async`; settled while somebody waits for something."""
        terms = read_terms(self._named(machine), consistency, at_least, max_staleness_ms)
        future = self._driven(DrivenQuery(self._deadline(timeout_s)))
        self._read(terms, (checked_bytes("request", request),), future)
        return future

    def query_many(
        self,
        requests: Sequence[bytes],
        machine: str = "",
        *,
        consistency: str = "linearizable",
        at_least: int | None = None,
        max_staleness_ms: int | None = None,
        timeout_s: float = 30.0,
    ) -> list[bytes]:
        """As `ray_paxos.Client.query_many`."""
        terms = read_terms(self._named(machine), consistency, at_least, max_staleness_ms)
        taken = checked_sequence("requests", requests)
        if not taken:
            return []
        future = self._driven(DrivenQueries(len(taken), self._deadline(timeout_s)))
        self._read(terms, taken, future)
        return future.result()

    def _read(
        self, terms: ReadTerms, requests: tuple[bytes, ...], future: DrivenQuery | DrivenQueries
    ) -> None:
        self._check_open()
        if not self._batches.has_room(len(requests), sum(map(len, requests))):
            raise OverloadedError("no room for more reads: wait for some of them")
        self._world.note_query(terms.machine, requests)
        self._batches.add(terms, requests, future)
        self._go_on()

    def wait_for(
        self,
        request: bytes,
        machine: str = "",
        *,
        at_least: int | None = None,
        timeout_s: float = 60.0,
    ) -> Result:
        """As `ray_paxos.Client.wait_for`."""
        future = self.wait_for_async(request, machine, at_least=at_least, timeout_s=timeout_s)
        try:
            return future.result()
        finally:
            future.cancel()

    def wait_for_async(
        self,
        request: bytes,
        machine: str = "",
        *,
        at_least: int | None = None,
        timeout_s: float = 60.0,
    ) -> Future[Result]:
        """As `ray_paxos.Client.wait_for_async`; settled while somebody waits for something."""
        terms = read_terms(self._named(machine), "follower", at_least, None)
        checked_bytes("request", request)
        self._check_open()
        future = self._driven(DrivenCommand(self._deadline(timeout_s)))
        self._world.note_query(terms.machine, (request,))
        least = self._requests.last_instance if terms.at_least is None else terms.at_least
        self._waits.add(terms.machine, request, least, future)
        self._go_on()
        return future

    def close(self, *, timeout_s: float = 5.0) -> None:
        """As `ray_paxos.Client.close`."""
        if self._is_closed:
            return
        end_ns = self._deadline(timeout_s)
        session = self._requests.session
        self._world.until(lambda: not session.has_work, end_ns)
        self._is_closed = True
        call, outcomes = self._requests.last_call(self._world.now_ns), Outcomes()
        if call is not None and not session.has_work:
            self._commands.send(call, call.message)
        self._requests.give_up(outcomes)
        self._batches.give_up(ClientClosedError("the client was closed meanwhile"), outcomes)
        self._waits.end(outcomes)
        outcomes.settle()

    # Helpers.

    def _named(self, machine: str) -> str:
        if isinstance(machine, str) and (machine or self._machine):
            return machine or self._machine
        raise ConfigurationError(f"machine: found {machine!r}; allowed: the name of a machine")

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClientClosedError("the client is closed; nothing was sent")

    def _deadline(self, timeout_s: float) -> int:
        return self._world.now_ns + length_ns("timeout_s", timeout_s)

    def _driven(self, future: D) -> D:
        future.drive = self._drive
        return future

    def _drive(self, future: Future[Any], timeout: float | None) -> None:
        """Let time pass until a future is settled, or so many simulated seconds are over."""
        world = self._world
        if timeout is not None:
            world.until(future.done, world.now_ns + length_ns("timeout", timeout))
            return
        deadline_ns: int = getattr(future, "deadline_ns", world.now_ns)
        if world.until(future.done, deadline_ns):
            return
        outcomes = Outcomes()
        self._requests.on_overdue(max(deadline_ns, world.now_ns), outcomes)
        outcomes.settle()
        world.until(future.done, world.now_ns + SETTLE_NS)

    # Calls.

    def _go_on(self) -> None:
        """Send what is due, and wake up for what will be."""
        now_ns, requests = self._world.now_ns, self._requests
        while (call := requests.next_call(now_ns)) is not None:
            self._commands.send(call, call.message)
        self._send_asks(self._batches.next_asks(now_ns, requests.last_instance))
        while (call := self._waits.next_call(now_ns)) is not None:
            self._waiting.send(call, call.message)
        each = (requests.due_ns(now_ns), self._batches.due_ns(), self._waits.due_ns)
        due_ns = min((at for at in each if at is not None), default=None)
        if due_ns is not None and (self._timer_ns is None or due_ns < self._timer_ns):
            self._timer_ns = max(due_ns, now_ns + 1)
            ring = partial(self._ring, self._timer_ns)
            self._world.world.scheduler.at(self._timer_ns, ring)

    def _send_asks(self, asks: list[Ask]) -> None:
        for ask in asks:
            self._reads.send(ask, ask.message)

    def _ring(self, timer_ns: int) -> None:
        if self._timer_ns != timer_ns or self._is_closed:
            return
        self._timer_ns = None
        now_ns, outcomes = self._world.now_ns, Outcomes()
        self._requests.on_deadline(now_ns, outcomes)
        self._batches.on_deadline(now_ns, outcomes)
        self._waits.on_time(now_ns, outcomes)
        self._settle(outcomes)

    def _on_command_answer(self, call: Call, envelope: Envelope) -> None:
        now_ns, outcomes = self._world.now_ns, Outcomes()
        self._requests.on_answer(call, (envelope,), now_ns, outcomes)
        if self._requests.take_lack_of_members():
            self._requests.meet(self._world.member_ids, now_ns, outcomes)
        self._settle(outcomes)

    def _on_read_answer(self, ask: Ask, envelope: Envelope) -> None:
        outcomes = Outcomes()
        asks = self._batches.on_answer(ask, envelope.message, self._world.now_ns, outcomes)
        self._send_asks(asks)
        self._settle(outcomes)

    def _on_wait_answer(self, call: Call, envelope: Envelope) -> None:
        outcomes = Outcomes()
        self._waits.on_answer(call, envelope.message, self._world.now_ns, outcomes)
        self._settle(outcomes)

    def _settle(self, outcomes: Outcomes) -> None:
        outcomes.settle()
        if not self._is_closed:
            self._go_on()
