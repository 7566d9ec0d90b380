"""A group in this process, for recipes: real machines, and a time that moves by hand.

Log time, the clocks of leases and deadlines, and the renewing of leases all go by `advance`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, cast

import pytest

from ray_paxos.actors.outcomes import Result
from ray_paxos.client import Client
from ray_paxos.core.wanted import SpaceState, WantedSpace
from ray_paxos.errors import (
    CommandError,
    ConfigurationError,
    NotYetError,
    OutcomeUnknownError,
    PaxosError,
    QueryError,
)
from ray_paxos.group_clients import GroupClients
from ray_paxos.machines.barriers import BarriersMachine
from ray_paxos.machines.base import ApplyContext, StateMachine
from ray_paxos.machines.counters import CountersMachine
from ray_paxos.machines.ledgers import LedgersMachine
from ray_paxos.machines.permits import PermitsMachine
from ray_paxos.machines.queues import QueuesMachine
from ray_paxos.recipes import leases, recipe
from ray_paxos.recipes.leases import KeptLease
from ray_paxos.recipes.making import MakesRecipes

PATIENCE_S = 30.0
SECOND_NS = 1_000_000_000
BEGIN_NS = 5_000 * SECOND_NS
_KINDS = (PermitsMachine, CountersMachine, BarriersMachine, LedgersMachine, QueuesMachine)


class PlayedFuture(Future[Any]):
    """What the bench answers, in its time."""

    def __init__(self, bench: Bench, what: str, timeout_s: float) -> None:
        super().__init__()
        self.bench = bench
        self.what = what
        self.ends_ns = bench.now_ns + int(min(timeout_s, 1e9) * SECOND_NS)

    def result(self, timeout: float | None = None) -> Any:
        error = self.bench.interrupts.pop(self.what, None)
        if error is not None:
            raise error
        try:
            return super().result(PATIENCE_S)
        except FutureTimeoutError as error:
            # As a client tells it: a watch that is closed ends by it, after its test. Any other
            # error would break its thread off, and be told of whatever test runs then.
            raise QueryError(f"the bench gave no answer within {PATIENCE_S:g} s") from error

    def begin(self) -> bool:
        """It is sent: from now on it cannot be cancelled. False where it was."""
        return self.running() or self.set_running_or_notify_cancel()

    def settle(self, outcome: object) -> None:
        """Unless it is settled, or cancelled."""
        if not self.begin():
            return
        if isinstance(outcome, BaseException):
            self.set_exception(outcome)
        else:
            self.set_result(outcome)


class Waits:
    """One query that waits."""

    def __init__(self, future: PlayedFuture, machine: str, request: bytes) -> None:
        self.future = future
        self.machine = machine
        self.request = request
        self.error: NotYetError | None = None


class PlayedKeeper:
    """Renews leases when the bench's time has come."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.leases: list[KeptLease] = []

    def keep(self, lease: KeptLease) -> None:
        self.leases.append(lease)
        self.run_due()

    @property
    def due_ns(self) -> int | None:
        dues = [each.next_due_s() for each in list(self.leases)]
        return min((round(due_s * SECOND_NS) for due_s in dues if due_s is not None), default=None)

    def run_due(self) -> None:
        for lease in list(self.leases):
            due_s = lease.next_due_s()
            if due_s is None:
                self.leases.remove(lease)
            elif round(due_s * SECOND_NS) <= self.bench.now_ns:
                lease.go_on()


class Bench:
    """The group.

    Attributes:
        interrupts: What the next wait for a `propose`, `wait` or `query` raises, though it is done.
        is_answering: Whether commands, which are applied in any case, are answered.
        is_reached: Whether commands and waits come to the group.
        told: What the next waits are told, whatever is so: an answer and its instance.
        commands: Machines and commands that were applied.
        waited: The `at_least` of all waits.
        fails: What the next command of a machine raises, instead of being sent.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.machines: dict[str, StateMachine] = {kind.kind: kind() for kind in _KINDS}
        self.now_ns = BEGIN_NS
        self.instance = 0
        self.interrupts: dict[str, BaseException] = {}
        self.is_answering = self.is_reached = True
        self.told: list[tuple[bytes, int]] = []
        self.commands: list[tuple[str, bytes]] = []
        self.waited: list[int | None] = []
        self.fails: list[PaxosError] = []
        self.keeper = PlayedKeeper(self)
        self.clients = cast(GroupClients, PlayedClients(self))
        self._waits: list[Waits] = []
        self._unanswered: list[tuple[PlayedFuture, object]] = []
        self._unreached: list[tuple[PlayedFuture, str, bytes]] = []

    # What it stands for.

    def propose(self, command: bytes, machine: str, *, timeout_s: float) -> Result:
        result: Result = self.propose_async(command, machine, timeout_s=timeout_s).result()
        return result

    def propose_async(self, command: bytes, machine: str, *, timeout_s: float) -> PlayedFuture:
        future = PlayedFuture(self, "propose", timeout_s)
        with self.lock:
            if self.fails:
                raise self.fails.pop(0)
            if not self.is_reached:
                self._unreached.append((future, machine, command))
                return future
            settled = self._execute(future, machine, command)
        self._settle(settled)
        return future

    def query(self, request: bytes, machine: str, *, timeout_s: float) -> bytes:
        answer: bytes = self.query_async(request, machine, timeout_s=timeout_s).result()
        return answer

    def query_async(self, request: bytes, machine: str, *, timeout_s: float) -> PlayedFuture:
        future = PlayedFuture(self, "query", timeout_s)
        try:
            with self.lock:
                answer = self._query(request, machine)
        except QueryError as error:
            future.settle(error)
        else:
            future.settle(answer)
        return future

    def wait_for(
        self, request: bytes, machine: str, *, at_least: int | None, timeout_s: float
    ) -> Result:
        future = self.wait_for_async(request, machine, at_least=at_least, timeout_s=timeout_s)
        try:
            result: Result = future.result()
            return result
        finally:
            future.cancel()

    def wait_for_async(
        self, request: bytes, machine: str, *, at_least: int | None, timeout_s: float
    ) -> PlayedFuture:
        future = PlayedFuture(self, "wait", timeout_s)
        with self.lock:
            self.waited.append(at_least)
            if self.told:
                answer, instance = self.told.pop(0)
                assert (at_least or 0) <= instance
                settled: list[tuple[PlayedFuture, object]] = [(future, Result(answer, instance, 0))]
            else:
                wait = Waits(future, machine, request)
                self._waits.append(wait)
                settled = self._asked_again([wait])
                if timeout_s <= 0:
                    settled += self._overdue()
        self._settle(settled)
        return future

    # What tests do with it.

    @property
    def waiting(self) -> int:
        """How many wait."""
        with self.lock:
            self._waits = [each for each in self._waits if not each.future.done()]
            return len(self._waits)

    def advance(self, seconds: float) -> None:
        """Let time pass: from one thing that is due to the next."""
        target_ns = self.now_ns + round(seconds * SECOND_NS)
        while True:
            with self.lock:
                dues = [each.due_ns for each in self.machines.values()]
                dues += [each.future.ends_ns for each in self._waits if not each.future.done()]
                dues += [future.ends_ns for future, _ in self._unanswered]
                dues += [future.ends_ns for future, _, _ in self._unreached]
                dues.append(self.keeper.due_ns)
                later = [due_ns for due_ns in dues if due_ns is not None and due_ns > self.now_ns]
                self.now_ns = min(target_ns, *later) if later else target_ns
                settled = self._due() + self._overdue()
            self._settle(settled)
            self.keeper.run_due()
            if self.now_ns >= target_ns:
                return

    def stand_still(self, seconds: float) -> None:
        """Let time pass for the group, while this process does nothing."""
        leases_, self.keeper.leases = self.keeper.leases, []
        self.advance(seconds)
        self.keeper.leases += leases_

    def answer(self) -> None:
        """Answer what was not answered, and go on doing so."""
        with self.lock:
            self.is_answering = True
            settled, self._unanswered = self._unanswered, []
        self._settle(settled)

    def reach(self) -> None:
        """The group is reached again, by what was sent meanwhile."""
        with self.lock:
            self.is_reached = True
            unreached, self._unreached = self._unreached, []
            settled = []
            for future, machine, command in unreached:
                settled += self._execute(future, machine, command)
        self._settle(settled)

    def until(self, condition: Callable[[], object]) -> None:
        """Other threads come to that."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline_s, "it did not come to that"
            time.sleep(0.001)

    async def until_async(self, condition: Callable[[], object]) -> None:
        """Other tasks come to that."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline_s, "it did not come to that"
            await asyncio.sleep(0.001)

    # How it does it.

    def _execute(
        self, future: PlayedFuture, machine: str, command: bytes
    ) -> list[tuple[PlayedFuture, object]]:
        settled = self._due()
        if not future.done() and not future.begin():
            return settled
        self.instance += 1
        mounted = self.machines.get(machine)
        context = ApplyContext(self.instance, 0, self.now_ns)
        outcome: object
        self.commands.append((machine, command))
        if mounted is None:
            outcome = CommandError(f'the group has no machine "{machine}"')
        else:
            try:
                outcome = Result(mounted.apply(command, context), self.instance, 0)
            except CommandError as error:
                outcome = error
        if self.is_answering:
            settled.append((future, outcome))
        else:
            self._unanswered.append((future, outcome))
        return settled + self._told(context)

    def _due(self) -> list[tuple[PlayedFuture, object]]:
        settled = []
        for machine in self.machines.values():
            while (due_ns := machine.due_ns) is not None and due_ns <= self.now_ns:
                self.instance += 1
                context = ApplyContext(self.instance, 0, self.now_ns)
                machine.on_due(context)
                settled += self._told(context)
        return settled

    def _told(self, context: ApplyContext) -> list[tuple[PlayedFuture, object]]:
        return self._asked_again(
            [each for each in self._waits if each.error and each.error.topic in context.topics]
        )

    def _asked_again(self, waits: list[Waits]) -> list[tuple[PlayedFuture, object]]:
        settled: list[tuple[PlayedFuture, object]] = []
        for wait in waits:
            try:
                answer = self._query(wait.request, wait.machine)
            except NotYetError as error:
                wait.error = error
                continue
            except QueryError as error:
                settled.append((wait.future, error))
            else:
                settled.append((wait.future, Result(answer, self.instance, 0)))
            self._waits.remove(wait)
        return settled

    def _overdue(self) -> list[tuple[PlayedFuture, object]]:
        settled: list[tuple[PlayedFuture, object]] = []
        for wait in [each for each in self._waits if each.future.ends_ns <= self.now_ns]:
            self._waits.remove(wait)
            settled.append((wait.future, wait.error))
        for future, _ in list(self._unanswered):
            if future.ends_ns <= self.now_ns:
                self._unanswered = [each for each in self._unanswered if each[0] is not future]
                settled.append((future, OutcomeUnknownError("no answer", 1)))
        for future, _, _ in self._unreached:
            if future.ends_ns <= self.now_ns and not future.done():
                settled.append((future, OutcomeUnknownError("no answer", 1)))
        return settled

    def _query(self, request: bytes, machine: str) -> bytes:
        mounted = self.machines.get(machine)
        if mounted is None:
            raise QueryError(f"group 1 has no machine {machine!r}")
        return mounted.query(request)

    def _settle(self, settled: list[tuple[PlayedFuture, object]]) -> None:
        for future, outcome in settled:
            if not future.done():
                future.settle(outcome)


class PlayedClients:
    """Stands for `GroupClients`; all groups are one."""

    spec = b"the cluster"

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def at(self, group: int) -> Client:
        return cast(Client, self.bench)


class PlayedTime:
    """Stands for the module `time`, where leases read the clock."""

    CLOCK_BOOTTIME = 0

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def clock_gettime(self, clock: int) -> float:
        return self.bench.now_ns / SECOND_NS


class PlayedCluster(MakesRecipes):
    """Makes recipes that live on the bench."""

    def __init__(self, bench: Bench) -> None:
        self._clients = bench.clients
        self._open_space = lambda name: WantedSpace(name, (1, 2, 5), SpaceState.PRESENT)

    def _group(self, group: int | None) -> int:
        if group is None or not 0 <= group < 9:
            raise ConfigurationError(f"group: found {group}")
        return group


def set_up(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench by which all recipes of this process go."""
    bench = Bench()
    monkeypatch.setattr(leases, "time", PlayedTime(bench))
    monkeypatch.setattr(leases, "_keeper_of_this_process", lambda: bench.keeper)
    monkeypatch.setattr(recipe, "shared_clients", lambda spec: bench.clients)
    return bench


def in_thread(function: Callable[[], Any]) -> Future[Any]:
    """What a function that may wait comes to, in a thread of its own."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
